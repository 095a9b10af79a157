package risk_test

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
)

var scale = risk.DefaultScale()

func drawLevel(t *rapid.T) string { return rapid.SampledFrom(scale).Draw(t, "level") }

func drawFacts(t *rapid.T) change.Facts {
	n := func(most int, label string) int { return rapid.IntRange(0, most).Draw(t, label) }
	yes := func(label string) bool { return rapid.Bool().Draw(t, label) }
	f := change.Facts{
		Change: "CHG-000001", Model: "normal", Impacted: n(600, "impacted"), Planned: yes("planned"), Backout: yes("backout"), Tested: yes("tested"),
		LeadTime: change.Seconds(rapid.Int64Range(-10_000, 400_000).Draw(t, "lead time")), Outage: change.Seconds(n(7200, "outage")),
	}
	for i := range n(3, "declared") {
		f.CIs = append(f.CIs, change.FactCI{ID: fmt.Sprintf("db-%02d", i), Class: "database", Environment: "production"})
	}
	for _, level := range []string{"critical", "high", "moderate", "low", "unknown"} {
		if yes(level) {
			f.Criticality = append(f.Criticality, change.Counted{Name: level, Count: 1 + n(12, "of "+level)})
		}
	}
	if yes("classes") {
		f.Classes = []change.Counted{{Name: "database", Count: 1 + n(3, "databases")}, {Name: "server", Count: 2}}
	}
	for range n(2, "degraded") {
		f.Degraded = append(f.Degraded, "pool-"+strconv.Itoa(len(f.Degraded)))
	}
	for i := range 4 {
		if n(9, "answered") > 0 {
			f.Answers = append(f.Answers, change.Answer{Question: fmt.Sprintf("q%d", i+1), Value: rapid.IntRange(0, 5).Draw(t, "answer")})
		}
	}
	if yes("cost") {
		f.Cost = apd.New(int64(n(1_000_000, "cost")), -2)
	}
	return f
}

func drawWeight(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "1", "2", "0.5", "60", "100", "0.000001", "999999.999999", "3.10"}).Draw(t, "weight")
}

func drawQuestions(t *rapid.T, choices ...int) []risk.Question {
	var list []risk.Question
	for i := range rapid.IntRange(1, 4).Draw(t, "questions") {
		list = append(list, question(fmt.Sprintf("q%d", i+1), drawWeight(t), choices...))
	}
	return list
}

// drawEngine draws an engine that is not refused.
func drawEngine(t *rapid.T, depth int) *risk.Policy {
	most := 7
	if depth == 0 {
		most = 5
	}
	switch rapid.IntRange(0, most).Draw(t, "engine") {
	case 0:
		return risk.Ladder(risk.Rung{time.Duration(rapid.IntRange(1, 100).Draw(t, "hours")) * time.Hour, drawLevel(t)}, risk.Rung{200 * time.Hour, drawLevel(t)})
	case 1:
		if rapid.Bool().Draw(t, "default") {
			return risk.BlastRadius()
		}
		return risk.BlastRadius(risk.Limit{"class:database", rapid.IntRange(1, 4).Draw(t, "from"), drawLevel(t)}, risk.Limit{"impacted", rapid.IntRange(1, 600).Draw(t, "from"), drawLevel(t)})
	case 2:
		var list []risk.Rule
		for range rapid.IntRange(1, 4).Draw(t, "rules") {
			list = append(list, risk.Rule{When: rapid.SampledFrom(conditions).Draw(t, "when"), Level: drawLevel(t), Score: rapid.SampledFrom([]string{"", "1.50", "-3", "1000", "0"}).Draw(t, "score")})
		}
		return risk.Rules(drawLevel(t), list...)
	case 3:
		edge := strconv.Itoa(rapid.IntRange(-5, 400).Draw(t, "edge"))
		return risk.Questionnaire("", drawQuestions(t, 0, 1, 2, 3, 4, 5), risk.Threshold{Level: drawLevel(t), To: edge}, risk.Threshold{Level: drawLevel(t), Above: edge})
	case 4:
		return risk.WeightedMean(drawQuestions(t))
	case 5:
		a := risk.Axis{Name: "a", Question: "q1", Steps: []risk.Step{{Name: "x"}, {Name: "y"}, {Name: "z"}}}
		b := risk.Axis{Name: "b", Steps: []risk.Step{{"s", rapid.SampledFrom(conditions).Draw(t, "when")}, {"t", rapid.SampledFrom(conditions).Draw(t, "when")}}}
		var cells [][]int
		for range 3 {
			cells = append(cells, []int{rapid.IntRange(1, 5).Draw(t, "cell"), rapid.IntRange(1, 5).Draw(t, "cell")})
		}
		return risk.Matrix(a, b, cells)
	case 6:
		var parts []risk.Weighted
		for i := range rapid.IntRange(1, 3).Draw(t, "parts") {
			parts = append(parts, risk.Weighted{drawEngine(t, depth-1).Named(fmt.Sprint(i)), drawWeight(t)})
		}
		return risk.Mean(parts...)
	default:
		var engines []change.RiskPolicy
		for i := range rapid.IntRange(1, 3).Draw(t, "engines") {
			engines = append(engines, drawEngine(t, depth-1).Named(fmt.Sprint(i)))
		}
		return risk.Max(engines...)
	}
}

var conditions = []string{
	"true", "false", "planned", "!backout || tested", `lead_time < duration("24h")`, "impacted > 100", "criticality.critical > 0", `"database" in classes`,
	`cis.exists(ci, ci == "db-01")`, `cost != "" && compare(cost, "5000.00") > 0`, `classes.map(c, c)[0] == "database"`, `answers["q1"] > 2`, "size(answers) > 2",
}

// A policy made again of its text says exactly the same, also what it cannot say.
func TestAPolicyMadeOfItsTextIsTheSamePolicy(t *testing.T) {
	verdicts, failures := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawEngine(t, 2)
		require.NoError(t, p.Err())
		again, err := risk.Parse(p.Policy().Text)
		require.NoError(t, err)
		require.Equal(t, p.Policy(), again.Policy())
		for range 10 {
			f := drawFacts(t)
			v, err := p.Assess(context.Background(), f)
			w, also := again.Assess(context.Background(), f)
			if err != nil {
				failures++
				require.EqualError(t, also, err.Error())
				continue
			}
			verdicts++
			require.NoError(t, also)
			require.Equal(t, v, w)
			require.NotEmpty(t, v.Why)
			require.Contains(t, scale, v.Level)
		}
	})
	require.Positive(t, verdicts)
	t.Logf("%d verdicts, %d that could not be judged", verdicts, failures)
	require.Positive(t, failures, "nothing was drawn that cannot be judged")
}

func TestEveryReceiptIsJudgedAgainToTheSameVerdict(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, f := drawEngine(rt, 2), drawFacts(rt)
		if _, err := p.Assess(context.Background(), f); err != nil {
			rt.Skip("it cannot be judged")
		}
		r := logged(t, receipt(t, p, f))
		v, err := risk.Again(context.Background(), r, p.Policy().Text)
		require.NoError(rt, err)
		require.True(rt, risk.Same(r.Verdict, v))
	})
}

// A questionnaire is accepted if and only if every score from the lowest to the
// highest, in steps of the weights' last digit, lies in exactly one threshold. The
// oracle goes through all of them, in tenths.
func TestThresholdsAreAcceptedIfAndOnlyIfTheyHaveNoGapAndNoOverlap(t *testing.T) {
	type bounds struct{ from, above, to, below *int } // in tenths
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		tenths := rapid.Bool().Draw(t, "tenths")
		step, low, high := 10, 0, 0
		var questions []risk.Question
		if tenths {
			step = 1
			questions = append(questions, question("q0", "0.1", 0))
		}
		for i := range rapid.IntRange(1, 3).Draw(t, "questions") {
			weight := rapid.IntRange(1, 3).Draw(t, "weight")
			values := rapid.SliceOfNDistinct(rapid.IntRange(-3, 6), 1, 4, rapid.ID).Draw(t, "values")
			questions = append(questions, question(fmt.Sprintf("q%d", i+1), strconv.Itoa(weight), values...))
			low, high = low+10*weight*slices.Min(values), high+10*weight*slices.Max(values)
		}

		// Cuts of the whole range, then moved a little, so that about half are sound.
		text := func(n int) string {
			return apd.New(int64(n), -1).Text('f')
		}
		cuts := rapid.SliceOfNDistinct(rapid.IntRange(low/step-2, high/step+2), 0, 3, rapid.ID).Draw(t, "cuts")
		slices.Sort(cuts)
		var thresholds []risk.Threshold
		var oracle []bounds
		for i := range len(cuts) + 1 {
			th, o := risk.Threshold{Level: risk.Low}, bounds{}
			if i > 0 {
				n := cuts[i-1] * step
				switch rapid.IntRange(0, 5).Draw(t, "lower") {
				case 0: // the same scores said otherwise
					n += step
					th.From, o.from = text(n), &n
				case 1: // may be a gap
					n += rapid.IntRange(-1, 2).Draw(t, "off") * step
					th.Above, o.above = text(n), &n
				default:
					th.Above, o.above = text(n), &n
				}
			} else if rapid.IntRange(0, 4).Draw(t, "begins") == 0 {
				n := low + rapid.IntRange(-1, 1).Draw(t, "off")*step
				th.From, o.from = text(n), &n
			}
			if i < len(cuts) {
				n := cuts[i] * step
				switch rapid.IntRange(0, 5).Draw(t, "upper") {
				case 0:
					n += step
					th.Below, o.below = text(n), &n
				case 1:
					n += rapid.IntRange(-1, 1).Draw(t, "off") * step
					th.To, o.to = text(n), &n
				default:
					th.To, o.to = text(n), &n
				}
			} else if rapid.IntRange(0, 4).Draw(t, "ends") == 0 {
				n := high + rapid.IntRange(-1, 1).Draw(t, "off")*step
				th.To, o.to = text(n), &n
			}
			thresholds, oracle = append(thresholds, th), append(oracle, o)
		}
		order := rapid.Permutation([]int{0, 1, 2, 3}[:len(thresholds)]).Draw(t, "order")
		shuffled := make([]risk.Threshold, len(thresholds))
		for i, j := range order {
			shuffled[i] = thresholds[j]
		}

		sound := true
		used := make([]bool, len(oracle))
		for n := low - 100*step; n <= high+100*step; n += step {
			in := 0
			for i, o := range oracle {
				if (o.from == nil || n >= *o.from) && (o.above == nil || n > *o.above) && (o.to == nil || n <= *o.to) && (o.below == nil || n < *o.below) {
					in++
					used[i] = true
				}
			}
			if in > 1 || in == 0 && n >= low && n <= high {
				sound = false
			}
		}
		sound = sound && !slices.Contains(used, false) // a threshold without any score is refused too

		err := risk.Questionnaire("", questions, shuffled...).Err()
		if sound {
			accepted++
			require.NoError(t, err, "%v from %d to %d", thresholds, low, high)
		} else {
			refused++
			require.ErrorIs(t, err, risk.ErrInvalid, "%v from %d to %d", thresholds, low, high)
		}
	})
	require.Greater(t, accepted, 10, "of %d", accepted+refused)
	require.Greater(t, refused, 10, "of %d", accepted+refused)
}

// fixed is an engine that always says the same.
func fixed(id string, rank int) *risk.Policy {
	return risk.Rules(scale[rank], risk.Rule{When: "false", Level: scale[rank]}).Named(id)
}

func rank(v change.Verdict) int { return slices.Index(scale, v.Level) }

func TestMaxIsTheHighestAndMeanRoundsUpAndBothAreMonotone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ranks := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 5).Draw(rt, "levels")
		top := rapid.IntRange(0, len(ranks)-1).Draw(rt, "raised")
		raised := slices.Clone(ranks)
		raised[top] = min(3, raised[top]+1)
		weights := make([]string, len(ranks))
		for i := range weights {
			weights[i] = drawWeight(rt)
		}
		both := func(ranks []int) (highest, mean int) {
			var engines []change.RiskPolicy
			var parts []risk.Weighted
			for i, r := range ranks {
				engines = append(engines, fixed(fmt.Sprint(i), r))
				parts = append(parts, risk.Weighted{fixed(fmt.Sprint(i), r), weights[i]})
			}
			m, w := judged(t, risk.Max(engines...), change.Facts{}), judged(t, risk.Mean(parts...), change.Facts{})
			require.Len(rt, m.Engines, len(ranks))
			require.Len(rt, w.Engines, len(ranks))
			return rank(m), rank(w)
		}
		highest, mean := both(ranks)
		require.Equal(rt, slices.Max(ranks), highest)

		// The mean by fractions of whole numbers.
		top1, bottom := new(big.Rat), new(big.Rat)
		for i, r := range ranks {
			w, ok := new(big.Rat).SetString(weights[i])
			if weights[i] == "" {
				w, ok = big.NewRat(1, 1), true
			}
			require.True(rt, ok)
			top1.Add(top1, new(big.Rat).Mul(w, big.NewRat(int64(r+1), 1)))
			bottom.Add(bottom, w)
		}
		q := top1.Quo(top1, bottom)
		up := new(big.Int).Div(new(big.Int).Sub(new(big.Int).Add(q.Num(), q.Denom()), big.NewInt(1)), q.Denom())
		require.Equal(rt, up.Int64(), int64(mean+1), "%v weighed %v", ranks, weights)

		higher, heavier := both(raised)
		require.GreaterOrEqual(rt, higher, highest)
		require.GreaterOrEqual(rt, heavier, mean)
		if len(ranks) > 1 {
			fewer, _ := both(ranks[1:])
			require.LessOrEqual(rt, fewer, highest, "one engine more never lowers the highest")
		}
	})
}

// The score of a questionnaire is exact, and so is its place among the thresholds.
func TestTheScoreOfAQuestionnaireIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		questions := drawQuestions(rt, 0, 1, 2, 3, 4, 5)
		var f change.Facts
		sum := new(big.Rat)
		for _, q := range questions {
			value := rapid.IntRange(0, 5).Draw(rt, "answer")
			f.Answers = append(f.Answers, change.Answer{Question: q.ID, Value: value})
			w, ok := new(big.Rat).SetString(q.Weight)
			if q.Weight == "" {
				w, ok = big.NewRat(1, 1), true
			}
			require.True(rt, ok)
			sum.Add(sum, w.Mul(w, big.NewRat(int64(value), 1)))
		}
		v := judged(t, risk.Questionnaire("", questions, risk.Threshold{Level: risk.Low, To: "7.5"}, risk.Threshold{Level: risk.High, Above: "7.5"}), f)
		score, ok := new(big.Rat).SetString(v.Score.Text('f'))
		require.True(rt, ok)
		require.Zero(rt, score.Cmp(sum))
		require.Equal(rt, sum.Cmp(big.NewRat(15, 2)) > 0, v.Level == risk.High)
	})
}
