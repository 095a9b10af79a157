package risk_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
)

func TestLeadTimeUnderTheLeastIsHigh(t *testing.T) {
	p := risk.LeadTime(24 * time.Hour)
	for name, c := range map[string]struct {
		facts change.Facts
		level string
		why   string
	}{
		"a second under":  {change.Facts{Planned: true, LeadTime: 24*3600 - 1}, risk.High, "it starts in 23h59m59s: under 24h of lead time is high"},
		"exactly":         {change.Facts{Planned: true, LeadTime: 24 * 3600}, risk.Low, "it starts in 24h: 24h or more of lead time is low"},
		"now":             {change.Facts{Planned: true}, risk.High, "it starts in 0s: under 24h of lead time is high"},
		"already":         {change.Facts{Planned: true, LeadTime: -3600}, risk.High, "its window began before now: under 24h of lead time is high"},
		"without window":  {change.Facts{LeadTime: 1_000_000}, risk.High, "it has no window, so it may start at any moment: under 24h of lead time is high"},
		"in the far year": {change.Facts{Planned: true, LeadTime: 300_000_000_000}, risk.Low, "it starts in 2365200h: 24h or more of lead time is low"},
	} {
		v := judged(t, p, c.facts)
		require.Equal(t, c.level, v.Level, name)
		require.Equal(t, []string{c.why}, v.Why, name)
		require.Nil(t, v.Score, name)
	}
}

func TestALadderMayBeGivenInAnyOrder(t *testing.T) {
	hour := time.Hour
	up := risk.Ladder(risk.Rung{hour, risk.Critical}, risk.Rung{24 * hour, risk.High}, risk.Rung{72 * hour, risk.Moderate})
	down := risk.Ladder(risk.Rung{72 * hour, risk.Moderate}, risk.Rung{24 * hour, risk.High}, risk.Rung{hour, risk.Critical})
	require.Equal(t, up.Policy(), down.Policy())
	for lead, level := range map[change.Seconds]string{0: risk.Critical, 3599: risk.Critical, 3600: risk.High, 86_399: risk.High, 86_400: risk.Moderate, 259_199: risk.Moderate, 259_200: risk.Low} {
		require.Equal(t, level, judged(t, up, change.Facts{Planned: true, LeadTime: lead}).Level, "%d s", lead)
	}
}

func TestBlastRadiusCountsWhatIsReached(t *testing.T) {
	ci := []change.FactCI{{ID: "db-01"}}
	count := func(name string, n int) []change.Counted { return []change.Counted{{Name: name, Count: n}} }
	for name, c := range map[string]struct {
		facts change.Facts
		level string
		why   []string
	}{
		"nothing reached":   {change.Facts{CIs: ci, Criticality: count("low", 1)}, risk.Low, []string{"0 CIs are impacted, and no limit is reached"}},
		"one impacted":      {change.Facts{CIs: ci, Impacted: 1}, risk.Low, []string{"1 CI is impacted, and no limit is reached"}},
		"no CI declared":    {change.Facts{}, risk.Moderate, []string{"no CI is declared, so what it reaches is not known: that is moderate"}},
		"9 impacted":        {change.Facts{CIs: ci, Impacted: 9}, risk.Low, []string{"9 CIs are impacted, and no limit is reached"}},
		"10 impacted":       {change.Facts{CIs: ci, Impacted: 10}, risk.Moderate, []string{"10 CIs are impacted: 10 or more is moderate"}},
		"50 impacted":       {change.Facts{CIs: ci, Impacted: 50}, risk.High, []string{"50 CIs are impacted: 50 or more is high"}},
		"500 impacted":      {change.Facts{CIs: ci, Impacted: 500}, risk.Critical, []string{"500 CIs are impacted: 500 or more is critical"}},
		"one critical":      {change.Facts{CIs: ci, Criticality: count("critical", 1)}, risk.High, []string{"1 critical CI: 1 or more is high"}},
		"5 critical":        {change.Facts{CIs: ci, Criticality: count("critical", 5)}, risk.Critical, []string{"5 critical CIs: 5 or more is critical"}},
		"one high":          {change.Facts{CIs: ci, Criticality: count("high", 1)}, risk.Moderate, []string{"1 CI of high criticality: 1 or more is moderate"}},
		"10 high":           {change.Facts{CIs: ci, Criticality: count("high", 10)}, risk.High, []string{"10 CIs of high criticality: 10 or more is high"}},
		"one unknown":       {change.Facts{CIs: ci, Criticality: count("unknown", 1)}, risk.Moderate, []string{"1 CI of unknown criticality: 1 or more is moderate"}},
		"a pool is thinned": {change.Facts{CIs: ci, Degraded: []string{"web"}}, risk.Moderate, []string{"1 pool loses redundancy (web): 1 or more is moderate"}},
		"the worst comes first": {
			change.Facts{CIs: ci, Impacted: 12, Criticality: []change.Counted{{Name: "critical", Count: 1}, {Name: "unknown", Count: 2}}, Degraded: []string{"a", "b"}}, risk.High, []string{
				"1 critical CI: 1 or more is high", "2 CIs of unknown criticality: 1 or more is moderate",
				"12 CIs are impacted: 10 or more is moderate", "2 pools lose redundancy (a, b): 1 or more is moderate",
			},
		},
	} {
		v := judged(t, risk.BlastRadius(), c.facts)
		require.Equal(t, c.level, v.Level, name)
		require.Equal(t, c.why, v.Why, name)
	}
}

func TestLimitsOfBlastRadiusMayBeTheUsers(t *testing.T) {
	p := risk.BlastRadius(risk.Limit{"class:database", 2, risk.High}, risk.Limit{"impacted", 1, risk.Moderate})
	two := []change.Counted{{Name: "database", Count: 2}, {Name: "server", Count: 9}}
	v := judged(t, p, change.Facts{CIs: []change.FactCI{{ID: "x"}}, Classes: two})
	require.Equal(t, risk.High, v.Level)
	require.Equal(t, []string{"CIs of class database: 2: 2 or more is high"}, v.Why)
	require.Equal(t, risk.Low, judged(t, p, change.Facts{CIs: []change.FactCI{{ID: "x"}}, Classes: two[1:]}).Level)

	v = judged(t, p, change.Facts{Impacted: 1})
	require.Equal(t, risk.Critical, v.Level, "nobody said what an undeclared change is: the highest level")
	require.Equal(t, []string{"no CI is declared, so what it reaches is not known, so it counts as critical", "1 CI is impacted: 1 or more is moderate"}, v.Why)
}

// What an engine cannot tell is never the lowest level.
func TestWhatIsNotAnsweredCountsAsTheHighestLevel(t *testing.T) {
	questionnaire := risk.Questionnaire("", []risk.Question{question("q1", "", 0, 1), question("q2", "", 0, 1)}, risk.Threshold{Level: risk.Low})
	weighted := risk.WeightedMean([]risk.Question{question("q1", ""), question("q2", "", 1, 3)})
	matrix := risk.Matrix(risk.Axis{"impact", "q1", []risk.Step{{Name: "a"}, {Name: "b"}}}, risk.Axis{"likelihood", "q2", []risk.Step{{Name: "a"}}}, [][]int{{1}, {2}})
	for name, c := range map[string]struct {
		p     *risk.Policy
		facts change.Facts
		why   string
	}{
		"questionnaire, none":   {questionnaire, change.Facts{}, `question "q1" is not answered, question "q2" is not answered, so it counts as critical`},
		"questionnaire, one":    {questionnaire, answers(1), `question "q2" is not answered, so it counts as critical`},
		"questionnaire, other":  {questionnaire, answers(1, 2), `question "q2" is answered with 2, which is none of its choices, so it counts as critical`},
		"weighted, none":        {weighted, change.Facts{}, `question "q1" is not answered, question "q2" is not answered, so it counts as critical`},
		"weighted, too high":    {weighted, answers(6, 1), `question "q1" is answered with 6, which is none of its choices, so it counts as critical`},
		"weighted, too low":     {weighted, answers(0, 1), `question "q1" is answered with 0, which is none of its choices, so it counts as critical`},
		"weighted, no choice":   {weighted, answers(1, 2), `question "q2" is answered with 2, which is none of its choices, so it counts as critical`},
		"matrix, no row":        {matrix, change.Facts{Answers: []change.Answer{{Question: "q2", Value: 1}}}, `question "q1" is not answered, so it counts as critical`},
		"matrix, beyond":        {matrix, answers(2, 2), `question "q2" is answered with 2, which is none of its choices, so it counts as critical`},
		"matrix, below":         {matrix, answers(0, 1), `question "q1" is answered with 0, which is none of its choices, so it counts as critical`},
		"answered in two ways":  {questionnaire, change.Facts{Answers: []change.Answer{{Question: "q1", Value: 0}, {Question: "q1", Value: 1}, {Question: "q2", Value: 0}}}, `question "q1" is answered twice, with 0 and with 1, so it counts as critical`},
		"many are not answered": {risk.Priority5x5(), change.Facts{}, `question "impact" is not answered, question "category" is not answered, so it counts as critical`},
	} {
		v := judged(t, c.p, c.facts)
		require.Equal(t, risk.Critical, v.Level, name)
		require.Nil(t, v.Score, name)
		require.Equal(t, []string{c.why}, v.Why, name)
	}
	require.Equal(t, risk.Low, judged(t, questionnaire, answers(1, 1)).Level, "answered, it is what the threshold says")
}

func TestAMatrixMayChooseByConditions(t *testing.T) {
	p := risk.Matrix(
		risk.Axis{Name: "impact", Steps: []risk.Step{{"small", "impacted < 10"}, {"large", "impacted < 100"}}},
		risk.Axis{Name: "likelihood", Steps: []risk.Step{{"tested", "tested"}, {"untested", "true"}}},
		[][]int{{1, 3}, {4, 5}},
	)
	for name, c := range map[string]struct {
		facts change.Facts
		level string
	}{
		"small and tested":   {change.Facts{Impacted: 9, Tested: true}, risk.Low},
		"small and untested": {change.Facts{Impacted: 9}, risk.Moderate},
		"large and tested":   {change.Facts{Impacted: 10, Tested: true}, risk.High},
		"large and untested": {change.Facts{Impacted: 99}, risk.Critical},
	} {
		require.Equal(t, c.level, judged(t, p, c.facts).Level, name)
	}
	v := judged(t, p, change.Facts{Impacted: 100, Tested: true})
	require.Equal(t, risk.Critical, v.Level)
	require.Equal(t, []string{"no step of impact holds, so it counts as critical"}, v.Why)

	p = risk.Matrix(risk.Axis{Name: "a", Steps: []risk.Step{{"x", `answers["none"] > 1`}}}, risk.Axis{Name: "b", Steps: []risk.Step{{"y", "true"}}}, [][]int{{1}})
	require.NoError(t, p.Err())
	_, err := p.Assess(context.Background(), change.Facts{})
	require.ErrorIs(t, err, risk.ErrCondition)
	require.ErrorContains(t, err, "a, step 1")
}

// The first engine with the highest level decides, so that ties are no matter of chance.
func TestTiesOfMaxGoToTheFirst(t *testing.T) {
	says := func(id, score string) *risk.Policy {
		return risk.Rules(risk.Low, risk.Rule{When: "true", Level: risk.High, Score: score, Why: id}).Named(id)
	}
	require.Equal(t, "1", judged(t, risk.Max(says("a", "1"), says("b", "2")), change.Facts{}).Score.String())
	require.Equal(t, "2", judged(t, risk.Max(says("b", "2"), says("a", "1")), change.Facts{}).Score.String())
}

func TestTheMeanWeighsLevelsAndRoundsUp(t *testing.T) {
	at := func(id, level string) *risk.Policy {
		return risk.Rules(level, risk.Rule{When: "false", Level: level}).Named(id)
	}
	v := judged(t, risk.Mean(risk.Weighted{at("a", risk.Low), "3"}, risk.Weighted{at("b", risk.Critical), "0.5"}), change.Facts{})
	require.Equal(t, risk.Moderate, v.Level, "(1 x 3 + 4 x 0.5) / 3.5 = 1.43")
	require.Equal(t, "mean", v.By)
	require.Equal(t, "3", v.Engines[0].Weight.String())
	require.Equal(t, "0.5", v.Engines[1].Weight.String())
	require.Equal(t, []string{
		"the weighted mean of 2 engines is 5/3.5, about 1.4286, which is level 2 of 4: moderate",
		"a: no rule holds", "b: no rule holds",
	}, v.Why)
	require.Equal(t, risk.Low, judged(t, risk.Mean(risk.Weighted{Engine: at("a", risk.Low)}, risk.Weighted{Engine: at("b", risk.Low)}), change.Facts{}).Level)
	require.Equal(t, risk.Critical, judged(t, risk.Mean(risk.Weighted{at("a", risk.High), "999999"}, risk.Weighted{at("b", risk.Critical), "0.000001"}), change.Facts{}).Level)
}

func TestACombinationInACombinationKeepsWhatEveryEngineSaid(t *testing.T) {
	inner := risk.Mean(risk.Weighted{Engine: risk.LeadTime(time.Hour)}, risk.Weighted{Engine: risk.BlastRadius()})
	v := judged(t, risk.Max(inner, risk.LeadTime(2*time.Hour)), change.Facts{})
	require.Equal(t, []string{"mean", "mean/lead-time", "mean/blast-radius", "lead-time"}, names(v))
	require.Equal(t, []string{risk.High, risk.High, risk.Moderate, risk.High}, levels(v))
	require.NotNil(t, v.Engines[1].Weight)
	require.Nil(t, v.Engines[3].Weight)
}

// DOMAIN 1.4: users add engines in Go; they have no text, and neither has what
// contains them.
func TestAnEngineInGoStandsInACombination(t *testing.T) {
	half := apd.New(5, -1)
	hook := risk.Func("oracle", "3", func(_ context.Context, f change.Facts) (change.Verdict, error) {
		return change.Verdict{Level: risk.High, Failure: half, Why: []string{fmt.Sprintf("%d impacted", f.Impacted)}}, nil
	})
	require.NoError(t, hook.Err())
	require.Equal(t, change.Policy{ID: "oracle", Version: "3"}, hook.Policy())

	p := risk.Max(risk.BlastRadius(), hook)
	require.Empty(t, p.Policy().Text)
	require.NotEmpty(t, p.Policy().Version)
	v := judged(t, p, change.Facts{CIs: []change.FactCI{{ID: "x"}}, Impacted: 2})
	require.Equal(t, risk.High, v.Level)
	require.Equal(t, []string{"oracle: 2 impacted"}, v.Why)
	require.Equal(t, "0.5", v.Failure.String())
	require.NotSame(t, half, v.Failure)

	other := risk.Max(risk.BlastRadius(), risk.Func("oracle", "4", func(context.Context, change.Facts) (change.Verdict, error) { return change.Verdict{}, nil }))
	require.NotEqual(t, p.Policy().Version, other.Policy().Version, "another version of the hook is another version of the combination")

	v = judged(t, risk.Max(foreign{}, risk.BlastRadius()), change.Facts{})
	require.Equal(t, []string{"foreign", "blast-radius"}, names(v), "any change.RiskPolicy may stand in it")
}

type foreign struct{}

func (foreign) Policy() change.Policy {
	return change.Policy{ID: "foreign", Version: "1", Text: "in a language of its own"}
}

func (foreign) Assess(context.Context, change.Facts) (change.Verdict, error) {
	return change.Verdict{Level: risk.Critical, Why: []string{"it always is"}}, nil
}

func TestAHookThatGivesNoVerdictIsAnError(t *testing.T) {
	lost := errors.New("lost")
	why := []string{"because"}
	for name, c := range map[string]struct {
		v    change.Verdict
		err  error
		want error
		says string
	}{
		"an error":             {change.Verdict{Level: risk.Low, Why: why}, lost, lost, "lost"},
		"no level":             {change.Verdict{Why: why}, nil, risk.ErrVerdict, "not on the scale"},
		"another scale":        {change.Verdict{Level: "amber", Why: why}, nil, risk.ErrVerdict, "not on the scale"},
		"no reason":            {change.Verdict{Level: risk.Low}, nil, risk.ErrVerdict, "does not say why"},
		"an infinite score":    {change.Verdict{Level: risk.Low, Why: why, Score: &apd.Decimal{Form: apd.Infinite}}, nil, risk.ErrVerdict, "score"},
		"a failure above 1":    {change.Verdict{Level: risk.Low, Why: why, Failure: apd.New(101, -2)}, nil, risk.ErrVerdict, "probability"},
		"a negative failure":   {change.Verdict{Level: risk.Low, Why: why, Failure: apd.New(-1, -2)}, nil, risk.ErrVerdict, "probability"},
		"a failure that is no": {change.Verdict{Level: risk.Low, Why: why, Failure: &apd.Decimal{Form: apd.NaN}}, nil, risk.ErrVerdict, "probability"},
	} {
		hook := risk.Func("hook", "1", func(context.Context, change.Facts) (change.Verdict, error) { return c.v, c.err })
		for _, p := range []*risk.Policy{hook, risk.Max(risk.BlastRadius(), hook), risk.Mean(risk.Weighted{Engine: hook})} {
			_, err := p.Assess(context.Background(), change.Facts{})
			require.ErrorIs(t, err, c.want, name)
			require.ErrorContains(t, err, c.says, name)
		}
	}
}

func TestAnEndedContextIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancelling := risk.Func("cancelling", "1", func(context.Context, change.Facts) (change.Verdict, error) {
		cancel()
		return change.Verdict{Level: risk.Low, Why: []string{"x"}}, nil
	})
	_, err := risk.Max(cancelling, risk.BlastRadius()).Assess(ctx, change.Facts{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = risk.BlastRadius().Assess(ctx, change.Facts{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestARuleThatCannotBeJudgedIsAnErrorAndNeverFalse(t *testing.T) {
	p := risk.Rules(risk.Low, risk.Rule{When: "tested", Level: risk.Low}, risk.Rule{When: `answers["q1"] > 3`, Level: risk.High})
	_, err := p.Assess(context.Background(), change.Facts{})
	require.ErrorIs(t, err, risk.ErrCondition)
	require.ErrorContains(t, err, `rule 2`)
	require.ErrorContains(t, err, "no such key")
	require.Equal(t, risk.Low, judged(t, p, change.Facts{Tested: true}).Level, "a rule after the first that holds is not evaluated")
	require.Equal(t, risk.High, judged(t, p, answers(4)).Level)
}
