package risk_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
)

// answers returns facts with answers to the questions q1, q2 and so on.
func answers(values ...int) change.Facts {
	var f change.Facts
	for i, v := range values {
		f.Answers = append(f.Answers, change.Answer{Question: fmt.Sprintf("q%d", i+1), Value: v})
	}
	return f
}

func question(id, weight string, values ...int) risk.Question {
	q := risk.Question{ID: id, Weight: weight}
	for _, v := range values {
		q.Choices = append(q.Choices, risk.Choice{Value: v})
	}
	return q
}

func upTo(n int) []int {
	values := make([]int, n+1)
	for i := range values {
		values[i] = i
	}
	return values
}

func judged(t *testing.T, p *risk.Policy, f change.Facts) change.Verdict {
	t.Helper()
	require.NoError(t, p.Err())
	v, err := p.Assess(context.Background(), f)
	require.NoError(t, err)
	require.NotEmpty(t, v.Why)
	return v
}

// DOMAIN 1.4, engine 2: 0-25 low, 26-50 moderate, 51 and more high.
func TestAQuestionnairesRangesGiveTheLevelsOfTheVector(t *testing.T) {
	p := risk.Questionnaire("Is it risky?", []risk.Question{question("q1", "", upTo(60)...)},
		risk.Threshold{Level: risk.Low, From: "0", To: "25"}, risk.Threshold{Level: risk.Moderate, From: "26", To: "50"}, risk.Threshold{Level: risk.High, From: "51"})
	for score, level := range map[int]string{0: risk.Low, 25: risk.Low, 26: risk.Moderate, 50: risk.Moderate, 51: risk.High, 60: risk.High} {
		v := judged(t, p, answers(score))
		require.Equal(t, level, v.Level, "score %d", score)
		require.Equal(t, fmt.Sprint(score), v.Score.String())
	}
}

// DOMAIN 1.4, engine 2: answers 7, threshold "moderate above 6" -> moderate.
func TestAnswersOf7WithModerateAbove6AreModerate(t *testing.T) {
	p := risk.Questionnaire("", []risk.Question{question("q1", "", upTo(5)...), question("q2", "", upTo(5)...)},
		risk.Threshold{Level: risk.Low, To: "6"}, risk.Threshold{Level: risk.Moderate, Above: "6"})
	v := judged(t, p, answers(3, 4))
	require.Equal(t, risk.Moderate, v.Level)
	require.Equal(t, "7", v.Score.String())
	require.Equal(t, []string{"the score is 7: above 6 is moderate"}, v.Why)
	require.Equal(t, risk.Low, judged(t, p, answers(3, 3)).Level)
}

// DOMAIN 1.4, engine 3: answers 5,5,1,5, weights 60,100,100,60 -> 1200/320 = 3.75 -> level 4.
func TestTheWeightedMeanOfTheVectorIsLevel4(t *testing.T) {
	questions := []risk.Question{question("q1", "60"), question("q2", "100"), question("q3", "100"), question("q4", "60")}
	scale := risk.Scale{"level 1", "level 2", "level 3", "level 4", "level 5"}
	v := judged(t, risk.WeightedMean(questions, scale...).On(scale), answers(5, 5, 1, 5))
	require.Equal(t, "level 4", v.Level)
	require.Equal(t, "3.75", v.Score.String())
	require.Contains(t, v.Why[0], "1200/320 = 3.75, which is level 4 of 5")

	v = judged(t, risk.WeightedMean(questions), answers(5, 5, 1, 5))
	require.Equal(t, risk.High, v.Level, "on the default scale the fourth of five is high")
}

// DOMAIN 1.4, engine 3: any fraction rounds up.
func TestAnyFractionOfAWeightedMeanRoundsUp(t *testing.T) {
	scale := risk.Scale{"one", "two", "three"}
	for _, c := range []struct {
		weights     []string
		values      []int
		level, mean string
	}{
		{[]string{"1", "1"}, []int{1, 1}, "one", "1"},
		{[]string{"1", "1"}, []int{2, 2}, "two", "2"},
		{[]string{"999999", "0.000001"}, []int{1, 2}, "two", "1.000000000001000000999999999999"},
		{[]string{"999999", "0.000001"}, []int{2, 1}, "two", ""},
		{[]string{"1", "1", "1"}, []int{1, 1, 2}, "two", "1." + strings.Repeat("3", 32) + "4"},
		{[]string{"0.1", "0.2"}, []int{3, 3}, "three", "3"},
	} {
		var questions []risk.Question
		for i, w := range c.weights {
			questions = append(questions, question(fmt.Sprintf("q%d", i+1), w))
		}
		v := judged(t, risk.WeightedMean(questions, scale...).On(scale), answers(c.values...))
		require.Equal(t, c.level, v.Level, "%v", c)
		if c.mean != "" {
			require.Equal(t, c.mean, v.Score.String(), "%v", c)
		}
	}
}

// DOMAIN 1.4, engine 4: Znuny's matrix, rows impact very low to very high, columns
// category likewise.
func TestZnunysMatrixIsThatOfTheVector(t *testing.T) {
	rows := strings.Split("1 1 2 2 3 / 1 2 2 3 4 / 2 2 3 4 4 / 2 3 4 4 5 / 3 4 4 5 5", " / ")
	levels := []string{risk.Low, risk.Low, risk.Moderate, risk.High, risk.Critical}
	for i, row := range rows {
		for j, cell := range strings.Fields(row) {
			v := judged(t, risk.Priority5x5(), change.Facts{Answers: []change.Answer{{Question: "category", Value: j + 1}, {Question: "impact", Value: i + 1}}})
			require.Equal(t, cell, v.Score.String(), "impact %d, category %d", i+1, j+1)
			require.Equal(t, levels[cell[0]-'1'], v.Level)
		}
	}
}

// DOMAIN 1.4, engine 1: ordered, first match wins, "lead time under 24h", "a
// critical service is affected".
func TestTheFirstRuleThatHoldsWins(t *testing.T) {
	p := risk.Rules(risk.Low,
		risk.Rule{When: `planned && lead_time < duration("24h")`, Level: risk.High, Score: "8.50", Why: "the lead time is under 24h"},
		risk.Rule{When: `criticality.critical > 0`, Level: risk.Critical, Why: "a critical service is affected"},
		risk.Rule{When: `"database" in classes`, Level: risk.Moderate},
	)
	soon := change.Facts{Planned: true, LeadTime: 86_399}
	later := change.Facts{Planned: true, LeadTime: 86_400}
	critical := []change.Counted{{Name: "critical", Count: 1}}
	for name, c := range map[string]struct {
		facts      change.Facts
		level, why string
	}{
		"one second too soon":       {soon, risk.High, "the lead time is under 24h"},
		"soon and critical":         {change.Facts{Planned: true, LeadTime: 1, Criticality: critical}, risk.High, "the lead time is under 24h"},
		"critical":                  {change.Facts{Planned: true, LeadTime: 86_400, Criticality: critical}, risk.Critical, "a critical service is affected"},
		"a rule without its reason": {change.Facts{Classes: []change.Counted{{Name: "database", Count: 2}}}, risk.Moderate, `rule 3 holds: "database" in classes`},
		"none":                      {later, risk.Low, "no rule holds"},
	} {
		v := judged(t, p, c.facts)
		require.Equal(t, c.level, v.Level, name)
		require.Equal(t, []string{c.why}, v.Why, name)
	}
	v := judged(t, p, soon)
	require.Equal(t, "8.5", v.Score.String())
	v.Score.SetInt64(99)
	v.Why[0] = "nothing"
	require.Equal(t, "8.5", judged(t, p, soon).Score.String(), "a verdict belongs to who asked for it")
	require.Equal(t, "the lead time is under 24h", judged(t, p, soon).Why[0])
}

// DOMAIN 1.4: all engines' verdicts are kept, and how they were combined.
func TestAllEnginesVerdictsAreKept(t *testing.T) {
	p := risk.Max(risk.LeadTime(24*3600*1e9), risk.BlastRadius(), risk.Priority5x5())
	v := judged(t, p, change.Facts{
		Planned: true, LeadTime: 100 * 3600, CIs: []change.FactCI{{ID: "db-01"}}, Impacted: 3, Criticality: []change.Counted{{Name: "high", Count: 2}, {Name: "low", Count: 2}},
		Answers: []change.Answer{{Question: "category", Value: 3}, {Question: "impact", Value: 3}},
	})
	require.Equal(t, risk.Moderate, v.Level)
	require.Equal(t, "max", v.By)
	require.Nil(t, v.Score, "the first engine with the level has none")
	require.Equal(t, []string{"lead-time", "blast-radius", "matrix"}, names(v))
	require.Equal(t, []string{risk.Low, risk.Moderate, risk.Moderate}, levels(v))
	require.Equal(t, "3", v.Engines[2].Score.String())
	require.Equal(t, []string{
		"blast-radius: 2 CIs of high criticality: 1 or more is moderate",
		"matrix: impact is normal and category is normal: level 3 of 5, moderate",
	}, v.Why)
}

func names(v change.Verdict) (all []string) {
	for _, e := range v.Engines {
		all = append(all, e.Engine)
	}
	return all
}

func levels(v change.Verdict) (all []string) {
	for _, e := range v.Engines {
		all = append(all, e.Level)
	}
	return all
}

func TestTheScaleMayBeTheUsers(t *testing.T) {
	lights := risk.Scale{"green", "amber", "red"}
	p := risk.Max(
		risk.Ladder(risk.Rung{Under: 24 * 3600 * 1e9, Level: "red"}, risk.Rung{Under: 72 * 3600 * 1e9, Level: "amber"}),
		risk.Rules("green", risk.Rule{When: "!backout", Level: "amber"}),
	).On(lights)
	require.Equal(t, "red", judged(t, p, change.Facts{}).Level)
	require.Equal(t, "amber", judged(t, p, change.Facts{Planned: true, LeadTime: 72*3600 - 1, Backout: true}).Level)
	require.Equal(t, "amber", judged(t, p, change.Facts{Planned: true, LeadTime: 72 * 3600}).Level)
	require.Equal(t, "green", judged(t, p, change.Facts{Planned: true, LeadTime: 72 * 3600, Backout: true}).Level)

	lights[2] = "black"
	require.Equal(t, "red", judged(t, p, change.Facts{}).Level, "a policy keeps a copy of its scale")
	require.True(t, slices.Contains(strings.Split(p.Policy().Text, `"`), "red"))
}
