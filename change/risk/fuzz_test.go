package risk_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
)

// FuzzParse: whatever a text says, it is refused or it is a policy whose own text
// makes the same policy, and that judges without a panic.
func FuzzParse(f *testing.F) {
	for _, p := range []*risk.Policy{
		risk.LeadTime(time.Hour), risk.BlastRadius(), risk.Priority5x5(), risk.WeightedMean([]risk.Question{question("q1", "0.5", 1, 2)}),
		risk.Rules(risk.Low, risk.Rule{When: "cis.all(c, c != model)", Level: risk.High, Score: "-1.5"}),
		risk.Questionnaire("x", []risk.Question{question("q1", "2", 0, 5)}, risk.Threshold{Level: risk.Low, To: "4"}, risk.Threshold{Level: risk.High, Above: "4"}),
		risk.Max(risk.Mean(risk.Weighted{risk.BlastRadius(), "0.1"}), risk.LeadTime(time.Hour)),
	} {
		f.Add(p.Policy().Text)
	}
	f.Add(`{"format":"rollforward-risk-1","policy":{"id":"a","mean":{"parts":[{"weight":"0","engine":{"id":"b","go":{"version":"1"}}}]}}}`)
	f.Add(`{"format":"rollforward-risk-1","scale":["a","b"],"policy":{"id":"a","max":{"engines":[null]}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := risk.Parse(text)
		if err != nil {
			require.True(t, errors.Is(err, risk.ErrInvalid) || errors.Is(err, risk.ErrPolicyGone), "%v", err)
			return
		}
		again, err := risk.Parse(p.Policy().Text)
		require.NoError(t, err)
		require.Equal(t, p.Policy(), again.Policy())
		for _, f := range []change.Facts{{}, example()} {
			v, err := p.Assess(context.Background(), f)
			w, also := again.Assess(context.Background(), f)
			if err != nil {
				require.ErrorIs(t, err, risk.ErrCondition)
				require.EqualError(t, also, err.Error())
				continue
			}
			require.NoError(t, also)
			require.Equal(t, v, w)
		}
	})
}

// FuzzCompile: whatever a condition says, it is refused or it is judged the same
// twice, within its cost.
func FuzzCompile(f *testing.F) {
	for _, text := range append([]string{
		"", "true", "1.0 == 1.0", "{1: 2}", "cis.map(c, c + c)", strings.Repeat("(", 200), "a.b.c.d", "'\\xff' == model", "model.matches('(a*)*b')", "-9223372036854775808 / -1 > 0",
		"[[1]].exists(x, x.exists(y, y == impacted))", "type(1) == int", "compare('1e99999', '1e-99999') > 0", "has(history.x.y)", "\"\"\"a\nb\"\"\" == r'\\' || true", "🙂 == 1",
	}, conditions...) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := risk.CEL().Compile(text)
		if err != nil {
			var p *risk.PolicyError
			require.ErrorAs(t, err, &p)
			return
		}
		holds, err := c.Holds(facts())
		again, also := c.Holds(facts())
		require.Equal(t, holds, again)
		if err != nil {
			require.ErrorIs(t, err, risk.ErrCondition)
			require.ErrorIs(t, also, risk.ErrCondition)
			return
		}
		require.NoError(t, also)
	})
}
