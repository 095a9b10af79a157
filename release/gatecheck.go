package release

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Compile compiles the conditions of all gates, by their texts, and returns what
// is wrong with those that are none.
func (e Environments) Compile(expressions change.Expressions) (map[string]change.Condition, []command.Refusal) {
	compiled := map[string]change.Condition{}
	var f faults
	for i, one := range e {
		for k, g := range one.Gates {
			if g.Kind != GateEvidence || g.When == "" {
				continue
			}
			at := fmt.Sprintf("environments[%d].gates[%d].when", i, k)
			if expressions == nil {
				f.add(at, "no-expressions", "there is nothing to evaluate it", "configure Expressions, or leave it out")
				continue
			}
			condition, err := expressions.Compile(g.When)
			if err != nil {
				f.add(at, "bad-condition", "%v", "correct the condition", err)
				continue
			}
			compiled[g.When] = condition
		}
	}
	return compiled, f
}

func checkGates(f *faults, at string, gates []Gate) {
	if len(gates) > maxGates {
		f.add(at+".gates", "too-many", "there are %d gates", "use at most %d", len(gates), maxGates)
		return
	}
	seen := map[string]bool{}
	for k, g := range gates {
		here := fmt.Sprintf("%s.gates[%d]", at, k)
		f.name(here+".name", g.Name, "gate")
		if seen[g.Name] && g.Name != "" {
			f.add(here+".name", "gate-twice", "two gates are called %q", "rename one", g.Name)
		}
		seen[g.Name] = true
		g.check(f, here)
	}
}

// check refuses a gate that lacks what its kind asks for, or has what it does not.
func (g Gate) check(f *faults, at string) {
	if !slices.Contains(GateKinds(), g.Kind) {
		f.add(at+".kind", "unknown-kind", "%q is no kind of gate", "use one of %v", g.Kind, GateKinds())
		return
	}
	has := map[string]bool{"items": len(g.Items) > 0, "evidence": g.Evidence != "", "when": g.When != "", "stage": g.Stage != nil, "policy": g.Policy != ""}
	needs := map[GateKind]string{GateChecklist: "items", GateEvidence: "evidence", GateApproval: "stage", GatePolicyAsk: "policy"}[g.Kind]
	for _, field := range slices.Sorted(maps.Keys(has)) {
		switch {
		case field == needs && !has[field]:
			f.add(at+"."+field, "bad-gate", "a gate of kind %s needs %s", "give it", g.Kind, field)
		case field != needs && has[field] && (field != "when" || g.Kind != GateEvidence):
			f.add(at+"."+field, "bad-gate", "a gate of kind %s has no use for %s", "leave it out", g.Kind, field)
		}
	}
	f.text(at+".evidence", g.Evidence)
	f.text(at+".policy", g.Policy)
	if len(g.Items) > maxItems {
		f.add(at+".items", "too-many", "there are %d items", "use at most %d", len(g.Items), maxItems)
		return
	}
	items := map[string]bool{}
	for n, item := range g.Items {
		field := fmt.Sprintf("%s.items[%d]", at, n)
		f.text(field, item)
		if strings.TrimSpace(item) == "" {
			f.add(field, "bad-gate", "the item is empty", "say what is to be checked")
		}
		if items[item] {
			f.add(field, "bad-gate", "the item %q is there twice", "leave one out", item)
		}
		items[item] = true
	}
	if g.Stage != nil && g.Kind == GateApproval {
		checkStage(f, at+".stage", *g.Stage)
	}
}

// checkStage says of a stage what would be said of it in the model of a change:
// it is put into a small one.
func checkStage(f *faults, at string, s workflow.Stage) {
	m := workflow.Model{
		Name: "gate", Authority: workflow.AuthorityStages, Stages: []workflow.Stage{s},
		Phases:      []workflow.Phase{{Name: "plan", Kind: "plan"}, {Name: "gate", Kind: "authorize", Stages: []string{s.Name}}, {Name: "closed", Kind: "closed"}, {Name: "canceled", Kind: "canceled"}},
		Transitions: []workflow.Transition{{From: "plan", To: "gate"}, {From: "gate", To: "closed", Guards: []string{"approved"}}},
	}
	err := m.Validate(workflow.Vocabulary{
		Plan: []workflow.Kind{"plan"}, Authorize: []workflow.Kind{"authorize"}, Final: []workflow.Kind{"closed", "canceled"}, Canceled: "canceled",
		Guards: []string{"approved"},
	})
	if err == nil {
		return
	}
	broken, ok := err.(*workflow.ModelError)
	if !ok {
		f.add(at, "bad-gate", "the stage could not be checked: %v", "correct it", err)
		return
	}
	for _, fault := range broken.Faults {
		f.add(at, fault.Rule, "%s", "correct the stage", fault.Reason)
	}
}
