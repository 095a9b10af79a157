package risk

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
)

// Rule is a row of [Rules]: where When holds, the level, the score and the reason.
type Rule struct {
	When  string `json:"when"` // a CEL condition over change.Facts.Map: `lead_time < duration("24h")`
	Level string `json:"level"`
	Score string `json:"score,omitzero"` // an exact decimal; empty for none
	Why   string `json:"why,omitzero"`   // empty: the condition itself
}

// Rules is an engine: the first rule whose condition holds says the level, and
// otherwise is the level where none does. No rule after the first that holds is
// evaluated. See [CEL] for what a condition can say.
func Rules(otherwise string, list ...Rule) *Policy {
	return build(node{ID: "rules", Rules: &rules{slices.Clone(list), otherwise}}, nil)
}

type rules struct {
	Rules     []Rule `json:"rules"`
	Otherwise string `json:"otherwise"`
}

func (e *rules) build(b *builder, _ int) judge {
	b.count("rules", len(e.Rules), 200)
	b.level("otherwise", e.Otherwise)
	conditions := make([]*condition, len(e.Rules))
	verdicts := make([]change.Verdict, len(e.Rules))
	for i, r := range e.Rules {
		of := fmt.Sprintf("rule %d", i+1)
		b.level(of, r.Level)
		b.text("the reason of "+of, r.Why)
		conditions[i] = b.condition(of, r.When)
		verdicts[i] = change.Verdict{Level: r.Level, Score: b.score(of, r.Score), Why: []string{r.Why}}
		if r.Why == "" {
			verdicts[i].Why = []string{fmt.Sprintf("rule %d holds: %s", i+1, r.When)}
		}
	}
	otherwise := e.Otherwise
	return func(_ context.Context, s *subject) (change.Verdict, error) {
		for i, c := range conditions {
			holds, err := c.Holds(s.values())
			if err != nil {
				return change.Verdict{}, fmt.Errorf("rule %d: %w", i+1, err)
			}
			if holds {
				v := verdicts[i]
				v.Why = slices.Clone(v.Why)
				if v.Score != nil {
					v.Score = new(apd.Decimal).Set(v.Score)
				}
				return v, nil
			}
		}
		return change.Verdict{Level: otherwise, Why: []string{"no rule holds"}}, nil
	}
}

// score reads a score, nil for none.
func (b *builder) score(of, text string) *apd.Decimal {
	if text == "" {
		return nil
	}
	d, err := decimal(text, 12)
	if err != nil {
		b.refuse("score", "the score of %s: %v", of, err)
	}
	return d
}

// condition compiles a condition over facts.
func (b *builder) condition(of, text string) *condition {
	environment, err := factEnvironment()
	if err != nil {
		b.refuse("condition", "%s: %v", of, err)
		return nil
	}
	c, err := environment.compile(text)
	if err != nil {
		b.refuse("condition", "%s: %v", of, err)
	}
	return c
}
