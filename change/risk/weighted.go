package risk

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
)

// WeightedMean is an engine, BMC's: questions are answered with 1 to N, and the
// score is sum(answer x weight) / sum(weight), of which any fraction rounds up to
// a level. Levels are the N levels of the scale that 1 to N mean; without them N
// is 5: low, low, moderate, high, critical. A question that is not answered with
// one of these numbers gives the scale's highest level and no score.
func WeightedMean(questions []Question, levels ...string) *Policy {
	if len(levels) == 0 {
		levels = fiveSteps()
	}
	e := &weightedMean{cloned(questions), slices.Clone(levels)}
	return build(node{ID: "weighted-mean", WeightedMean: e}, nil)
}

type weightedMean struct {
	Questions []Question `json:"questions"`
	Levels    []string   `json:"levels"`
}

func (e *weightedMean) build(b *builder, _ int) judge {
	b.levels(e.Levels)
	list := b.questions(e.Questions)
	for _, q := range e.Questions {
		for _, c := range q.Choices {
			if c.Value < 1 || c.Value > len(e.Levels) {
				b.refuse("value", "a choice of question %q counts for %d: levels go from 1 to %d", q.ID, c.Value, len(e.Levels))
			}
		}
	}
	scale, levels := b.scale, e.Levels
	weights := make([]*apd.Decimal, len(list))
	for i, q := range list {
		weights[i] = q.weight
	}
	return func(_ context.Context, s *subject) (change.Verdict, error) {
		values := make([]int64, len(list))
		var missing []string
		for i, q := range list {
			value, why := answer(s.Facts, q.ID, func(v int) bool { return v >= 1 && v <= len(levels) && q.takes(v) })
			if why != "" {
				missing = append(missing, why)
			}
			values[i] = int64(value)
		}
		if len(missing) > 0 {
			return scale.unknown("%s", some(missing)), nil
		}
		a, err := averaged(values, weights, len(levels))
		if err != nil {
			return change.Verdict{}, err
		}
		level := levels[a.up-1]
		return change.Verdict{Level: level, Score: a.score, Why: []string{fmt.Sprintf("the weighted mean of the answers is %s, which is level %d of %d: %s", a, a.up, len(levels), level)}}, nil
	}
}
