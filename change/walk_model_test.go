package change_test

import (
	"fmt"
	"slices"
	"sync"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

// conditions are the expressions that models of walks speak in.
var conditions = []string{"planned", "backout", "risk=high", "risk=low", "category=network"}

// drawn are the models that walks go through: random ones that are sound, by their
// seeds, and every shipped one but standard, which has walks of its own.
var drawn = sync.OnceValue(func() []change.Model {
	all := slices.DeleteFunc(change.Models(), func(m change.Model) bool { return m.Name == "standard" })
	generator := workflowtest.Models(change.Vocabulary(words{}), conditions...)
	for seed := 1; len(all) < 400; seed++ {
		m := generator.Example(seed)
		m.Name = fmt.Sprintf("drawn %d", seed)
		if change.CheckModel(m, words{}) != nil {
			m = eased(m)
		}
		if change.CheckModel(m, words{}) == nil {
			all = append(all, m)
		}
	}
	return all
})

// eased returns a model without the conditions on the last ways by which the end
// may be out of reach, and in which no plan goes on and no work begins or ends by itself.
func eased(m change.Model) change.Model {
	kinds := map[string]change.Kind{}
	for _, p := range m.Phases {
		kinds[p.Name] = p.Kind
	}
	m.Transitions = slices.Clone(m.Transitions)
	for i := range m.Transitions {
		t := &m.Transitions[i]
		if (kinds[t.From] == change.KindImplement) != (kinds[t.To] == change.KindImplement) || kinds[t.From] == change.KindPlan {
			t.Automatic = false
		}
		if k := kinds[t.From]; k == change.KindImplement || k == change.KindReview {
			t.Requires, t.When = nil, ""
			t.Guards = slices.DeleteFunc(slices.Clone(t.Guards), func(g string) bool {
				return g != "tasks-closed" && (g != "reviewed" || k == change.KindImplement)
			})
		}
	}
	return m
}
