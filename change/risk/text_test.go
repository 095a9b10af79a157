package risk_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
)

// The text of a policy lasts as long as the receipts that were judged by it. If
// this test fails, old receipts can no longer be judged again: make it another
// format instead.
func TestTheTextOfAPolicyIsForEver(t *testing.T) {
	p := risk.Max(
		risk.LeadTime(24*time.Hour),
		risk.BlastRadius(risk.Limit{"critical", 1, risk.High}),
		risk.Rules(risk.Low, risk.Rule{When: "!backout", Level: risk.High, Score: "2", Why: "no way back"}),
		risk.Questionnaire("Risk?", []risk.Question{{ID: "q1", Text: "Why?", Weight: "0.5", Choices: []risk.Choice{{"no", 0}, {"yes", 4}}}},
			risk.Threshold{Level: risk.Low, Below: "1"}, risk.Threshold{Level: risk.High, From: "1"}),
		risk.Mean(
			risk.Weighted{risk.WeightedMean([]risk.Question{{ID: "q2"}}), "2"},
			risk.Weighted{Engine: risk.Matrix(risk.Axis{"impact", "q3", []risk.Step{{Name: "any"}}}, risk.Axis{Name: "size", Steps: []risk.Step{{"any", "true"}}}, [][]int{{5}})},
		),
	).Named("house")
	require.NoError(t, p.Err())
	const text = `{"format":"rollforward-risk-1","scale":["low","moderate","high","critical"],"policy":{"id":"house","max":{"engines":[` +
		`{"id":"lead-time","lead_time":{"rungs":[{"under":"24h0m0s","level":"high"}]}},` +
		`{"id":"blast-radius","blast_radius":{"limits":[{"of":"critical","from":1,"level":"high"}]}},` +
		`{"id":"rules","rules":{"rules":[{"when":"!backout","level":"high","score":"2","why":"no way back"}],"otherwise":"low"}},` +
		`{"id":"questionnaire","questionnaire":{"title":"Risk?","questions":[{"id":"q1","text":"Why?","weight":"0.5","choices":[{"text":"no","value":0},{"text":"yes","value":4}]}],` +
		`"thresholds":[{"level":"low","below":"1"},{"level":"high","from":"1"}]}},` +
		`{"id":"mean","mean":{"parts":[{"weight":"2","engine":{"id":"weighted-mean","weighted_mean":{"questions":[{"id":"q2"}],"levels":["low","low","moderate","high","critical"]}}},` +
		`{"engine":{"id":"matrix","matrix":{"rows":{"name":"impact","question":"q3","steps":[{"name":"any"}]},"columns":{"name":"size","steps":[{"name":"any","when":"true"}]},` +
		`"cells":[[5]],"levels":["low","low","moderate","high","critical"]}}}]}}]}}}`
	require.Equal(t, text, p.Policy().Text)
	sum := sha256.Sum256([]byte(text))
	require.Equal(t, change.Policy{ID: "house", Version: hex.EncodeToString(sum[:]), Text: text}, p.Policy())

	again, err := risk.Parse(text)
	require.NoError(t, err)
	require.Equal(t, p.Policy(), again.Policy())
}

func TestAPolicyWrittenByHandIsTheSamePolicy(t *testing.T) {
	p, err := risk.Parse(`
		{ "policy": { "lead_time": { "rungs": [ {"level": "high", "under": "1440m"} ] }, "id": "lead-time" },
		  "format": "rollforward-risk-1" }`)
	require.NoError(t, err)
	require.Equal(t, risk.LeadTime(24*time.Hour).Policy(), p.Policy(), "order, space and what is left to defaults do not matter")
}

func TestATextThatIsNoPolicyIsRefused(t *testing.T) {
	const head = `{"format":"rollforward-risk-1","policy":`
	lead := `{"id":"a","lead_time":{"rungs":[{"under":"1h","level":"high"}]}}`
	nested := lead
	for range 9 {
		nested = `{"id":"a","max":{"engines":[` + nested + `]}}`
	}
	for name, c := range map[string]struct{ text, says string }{
		"nothing":            {"", "malformed"},
		"no JSON":            {"policy", "malformed"},
		"null":               {"null", "unknown-format"},
		"a list":             {"[]", "malformed"},
		"no format":          {`{"policy":` + lead + `}`, "unknown-format"},
		"a future format":    {`{"format":"rollforward-risk-2","policy":` + lead + `}`, `this program knows "rollforward-risk-1"`},
		"an unknown member":  {head + lead + `,"colour":"red"}`, "malformed"},
		"an unknown engine":  {head + `{"id":"a","oracle":{}}}`, "malformed"},
		"no engine":          {head + `{"id":"a"}}`, "0 kinds of engine"},
		"two engines":        {head + `{"id":"a","lead_time":{"rungs":[{"under":"1h","level":"high"}]},"max":{"engines":[` + lead + `]}}}`, "2 kinds of engine"},
		"a member twice":     {head + `{"id":"a","id":"b"}}`, "malformed"},
		"more after it":      {head + lead + `}{}`, "malformed"},
		"no duration":        {head + strings.Replace(lead, "1h", "soon", 1) + `}`, "no duration"},
		"an unordered rung":  {head + `{"id":"a","lead_time":{"rungs":[{"under":"2h","level":"high"},{"under":"1h","level":"low"}]}}}`, "order"},
		"an empty scale":     {`{"format":"rollforward-risk-1","scale":[],"policy":` + lead + `}`, "scale"},
		"an engine too deep": {head + nested + `}`, "too-deep"},
		"JSON too deep":      {strings.Repeat("[", 101), "too-deep"},
		"too large":          {strings.Repeat(" ", 256<<10) + "{}", "too-large"},
		"no UTF-8":           {head + strings.Replace(lead, "a", "\xff", 1) + `}`, "malformed"},
		"a floating point":   {head + `{"id":"a","blast_radius":{"limits":[{"of":"impacted","from":1.5,"level":"high"}]}}}`, "malformed"},
	} {
		p, err := risk.Parse(c.text)
		require.Nil(t, p, name)
		require.ErrorIs(t, err, risk.ErrInvalid, name)
		require.ErrorContains(t, err, c.says, name)
	}
	_, err := risk.Parse(head + `{"id":"a","max":{"engines":[` + lead + `,{"id":"b","go":{"version":"1"}}]}}}`)
	require.ErrorIs(t, err, risk.ErrPolicyGone)
}

func receipt(t *testing.T, p change.RiskPolicy, f change.Facts) change.Receipt {
	t.Helper()
	v, err := p.Assess(context.Background(), f)
	require.NoError(t, err)
	digest, err := f.Digest()
	require.NoError(t, err)
	policy := p.Policy()
	policy.Text = ""
	return change.Receipt{Policy: policy, Facts: f, Digest: digest, Verdict: v, At: time.Unix(1, 0).UTC()}
}

// logged returns v as it comes back from the log.
func logged[T any](t *testing.T, v T) (back T) {
	t.Helper()
	data, err := json.Marshal(v, json.Deterministic(true))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &back))
	return back
}

func TestAReceiptIsJudgedAgainToTheSameVerdict(t *testing.T) {
	p := risk.Max(risk.LeadTime(time.Hour), risk.Priority5x5(), risk.BlastRadius())
	r := logged(t, receipt(t, p, change.Facts{Answers: []change.Answer{{Question: "category", Value: 5}, {Question: "impact", Value: 3}}}))
	v, err := risk.Again(context.Background(), r, p.Policy().Text)
	require.NoError(t, err)
	require.True(t, risk.Same(r.Verdict, v))
	require.Equal(t, r.Verdict, v)
}

func TestAReceiptThatDoesNotStandOnItsFactsIsRefused(t *testing.T) {
	p := risk.LeadTime(time.Hour)
	good := logged(t, receipt(t, p, change.Facts{Impacted: 3}))
	changed, digest, version, hand := good, good, good, good
	changed.Facts.Impacted = 2
	digest.Digest = strings.Repeat("0", 64)
	version.Policy.Version = digest.Digest
	hand.By = "alice"
	hook := risk.Func("hook", "7", func(context.Context, change.Facts) (change.Verdict, error) {
		return change.Verdict{Level: risk.Low, Why: []string{"x"}}, nil
	})
	for name, c := range map[string]struct {
		r    change.Receipt
		text string
		want error
		says string
	}{
		"other facts":        {changed, p.Policy().Text, risk.ErrReceipt, "its facts"},
		"another digest":     {digest, p.Policy().Text, risk.ErrReceipt, "its facts"},
		"another version":    {version, p.Policy().Text, risk.ErrReceipt, "the text is of version " + p.Policy().Version},
		"another policy":     {good, risk.LeadTime(2 * time.Hour).Policy().Text, risk.ErrReceipt, `policy "lead-time"`},
		"one more space":     {good, p.Policy().Text + " ", risk.ErrReceipt, `policy "lead-time"`},
		"judged by hand":     {hand, p.Policy().Text, risk.ErrReceipt, `"alice" assessed by hand`},
		"no text":            {good, "", risk.ErrPolicyGone, "policy not available"},
		"a hook":             {receipt(t, hook, change.Facts{}), "", risk.ErrPolicyGone, `policy "hook", version "7"`},
		"a hook within":      {receipt(t, risk.Max(p, hook), change.Facts{}), "", risk.ErrPolicyGone, `policy "max"`},
		"a receipt of none":  {change.Receipt{}, "", risk.ErrReceipt, "its facts"},
		"a hook, with text ": {receipt(t, hook, change.Facts{}), p.Policy().Text, risk.ErrReceipt, `policy "hook"`},
	} {
		_, err := risk.Again(context.Background(), c.r, c.text)
		require.ErrorIs(t, err, c.want, name)
		require.ErrorContains(t, err, c.says, name)
	}
	v, err := risk.Again(context.Background(), good, p.Policy().Text)
	require.NoError(t, err)
	require.True(t, risk.Same(good.Verdict, v))
}

func TestSameComparesAllThatAVerdictSays(t *testing.T) {
	p := risk.Mean(risk.Weighted{Engine: risk.Priority5x5(), Weight: "2"}, risk.Weighted{Engine: risk.LeadTime(time.Hour)})
	f := change.Facts{Answers: []change.Answer{{Question: "category", Value: 2}, {Question: "impact", Value: 2}}}
	base := judged(t, p, f)
	require.True(t, risk.Same(base, judged(t, p, f)))
	for name, alter := range map[string]func(*change.Verdict){
		"level":           func(v *change.Verdict) { v.Level = "x" },
		"score":           func(v *change.Verdict) { v.Score = nil },
		"failure":         func(v *change.Verdict) { v.Failure = v.Score },
		"why":             func(v *change.Verdict) { v.Why = v.Why[1:] },
		"combination":     func(v *change.Verdict) { v.By = "max" },
		"engines":         func(v *change.Verdict) { v.Engines = v.Engines[1:] },
		"engine's level":  func(v *change.Verdict) { v.Engines[0].Level = "x" },
		"engine's score":  func(v *change.Verdict) { v.Engines[0].Score = nil },
		"engine's weight": func(v *change.Verdict) { v.Engines[0].Weight = nil },
		"engine's why":    func(v *change.Verdict) { v.Engines[0].Why[0] += "!" },
	} {
		v := judged(t, p, f)
		alter(&v)
		require.False(t, risk.Same(base, v), name)
		require.False(t, risk.Same(v, base), name)
	}
}
