package workflowtest_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

func vocabulary() workflow.Vocabulary {
	return workflow.Vocabulary{
		Plan: []workflow.Kind{"plan"}, Authorize: []workflow.Kind{"assess", "authorize"}, Other: []workflow.Kind{"scheduled"},
		Implement: []workflow.Kind{"implement"}, Review: []workflow.Kind{"review"}, Final: []workflow.Kind{"closed", "canceled"}, Canceled: "canceled",
		Guards: []string{"assessed", "authorized", "tasks-closed", "reviewed", "not-held"},
		Fields: []string{
			"title", "description", "justification", "category", "owner", "group", "implementers", "cis", "deltas", "plan.implementation", "plan.backout",
			"plan.test", "plan.communication", "window", "outage", "order", "cost", "benefit", "urgency", "stakeholders", "evidence", "tags",
		},
		Material: []string{"cis", "deltas", "window", "outage", "plan.implementation", "plan.backout", "plan.test", "plan.communication"},
		Parts:    []string{"requester", "approver", "implementer", "reviewer"},
		Expression: func(text string) error {
			if slices.Contains(expressions, text) {
				return nil
			}
			return errors.New("not in the list")
		},
	}
}

var expressions = []string{`risk == "high"`, `lead_time < 24`, `"db-01" in cis`}

func TestEveryDrawnModelIsSound(t *testing.T) {
	for _, given := range [][]string{nil, expressions, append(slices.Clone(expressions), "no such thing")} {
		models := workflowtest.Models(vocabulary(), given...)
		for seed := range 1_000 {
			m := models.Example(seed)
			require.NoError(t, m.Validate(vocabulary()), "seed %d\n%s", seed, m)
		}
	}
}

func TestEveryDrawnModelIsSoundWhateverThePropertyDraws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := workflowtest.Models(vocabulary(), expressions...).Draw(t, "model")
		require.NoError(t, m.Validate(vocabulary()))
	})
}

func TestModelsAreDrawnUnderPoorerVocabularies(t *testing.T) {
	full := vocabulary()
	for name, poor := range map[string]func(v *workflow.Vocabulary){
		"no authorize":  func(v *workflow.Vocabulary) { v.Authorize = nil },
		"no implement":  func(v *workflow.Vocabulary) { v.Implement = nil },
		"no review":     func(v *workflow.Vocabulary) { v.Review = nil },
		"no other":      func(v *workflow.Vocabulary) { v.Other = nil },
		"no canceled":   func(v *workflow.Vocabulary) { v.Canceled, v.Final = "", []workflow.Kind{"closed"} },
		"no guards":     func(v *workflow.Vocabulary) { v.Guards = nil },
		"no fields":     func(v *workflow.Vocabulary) { v.Fields, v.Material = nil, nil },
		"no parts":      func(v *workflow.Vocabulary) { v.Parts = nil },
		"no expression": func(v *workflow.Vocabulary) { v.Expression = nil },
	} {
		t.Run(name, func(t *testing.T) {
			v := full
			poor(&v)
			models := workflowtest.Models(v, expressions...)
			for seed := range 100 {
				m := models.Example(seed)
				require.NoError(t, m.Validate(v), "seed %d\n%s", seed, m)
			}
		})
	}
}

// The generator is of use only if what models can say does come up.
func TestDrawnModelsVary(t *testing.T) {
	seen := map[string]int{}
	models := workflowtest.Models(vocabulary(), expressions...)
	for seed := range 1_000 {
		m := models.Example(seed)
		seen["authority "+string(m.Authority)]++
		kinds := map[workflow.Kind]int{}
		for _, p := range m.Phases {
			kinds[p.Kind]++
			seen["together"] += btoi(p.Together)
			seen["tasks"] += len(p.Tasks)
			seen["edits"] += btoi(len(p.Edits) > 1)
			if p.Table != nil {
				seen["table"]++
				seen["table of all rows"] += btoi(p.Table.All)
				seen["row with condition"] += btoi(p.Table.Rows[0].When != "")
			}
		}
		for kind, n := range kinds {
			seen["kind "+string(kind)]++
			seen[fmt.Sprintf("%d of %s", n, kind)]++
		}
		for _, s := range m.Stages {
			seen["rule "+string(s.Rule.Counting)]++
			seen["required"] += btoi(len(s.Required) > 0)
			seen["deadline"] += btoi(s.Deadline > 0)
			seen["escalation"] += btoi(len(s.Escalate) > 0)
			seen["skip"] += btoi(s.Skip)
			for _, c := range s.Candidates {
				seen["owners"] += btoi(c.Owners)
				seen["each member"] += btoi(c.EachMember)
				seen["group"] += btoi(c.Group != "" && !c.EachMember)
				seen["person"] += btoi(c.Person != "")
			}
		}
		for _, t := range m.Transitions {
			seen["automatic"] += btoi(t.Automatic)
			seen["guards"] += len(t.Guards)
			seen["requires"] += len(t.Requires)
			seen["when"] += btoi(t.When != "")
			seen["in place"] += btoi(t.From == t.To)
		}
		for _, said := range m.Material {
			seen["immaterial"] += btoi(said.Immaterial)
			seen["voids some"] += btoi(len(said.Voids) > 0)
			seen["voids all"] += btoi(!said.Immaterial && len(said.Voids) == 0)
		}
		seen[fmt.Sprintf("%d duties", len(m.Duties))]++
		seen["names "+m.Phases[0].Name]++
	}
	for _, what := range []string{
		"authority stages", "authority template", "authority retrospective", "authority elsewhere",
		"kind plan", "kind assess", "kind authorize", "kind scheduled", "kind implement", "kind review", "kind closed", "kind canceled",
		"3 of plan", "3 of implement", "2 of review", "2 of closed", "together", "tasks", "edits", "table", "table of all rows", "row with condition",
		"rule first", "rule all", "rule percent", "rule at least", "required", "deadline", "escalation", "skip", "owners", "each member", "group", "person",
		"automatic", "guards", "requires", "when", "in place", "immaterial", "voids some", "voids all", "0 duties", "1 duties", "3 duties",
	} {
		require.Greater(t, seen[what], 20, "%s: %v", what, seen)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
