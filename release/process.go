package release

import (
	"fmt"
	"slices"

	"github.com/rollforward/rollforward/internal/workflow"
)

// Process is how a release goes through its life, as data: phases, each with a
// kind that says what it means to the engine, and the ways between them. A phase
// opens tasks, which are closed before it is left, and has gates: names of
// [Guards] that hold before it is entered. Approvals are asked for by the gates of
// environments, and not by phases.
type Process = workflow.Model

// Phase and Transition are parts of a process.
type (
	Phase      = workflow.Phase
	Transition = workflow.Transition
)

// The kinds of phase of a release, whatever its name.
const (
	KindPlan     workflow.Kind = "plan"
	KindBuild    workflow.Kind = "build"
	KindTest     workflow.Kind = "test"
	KindDeploy   workflow.Kind = "deploy" // the one in which production is deployed to
	KindReview   workflow.Kind = "review"
	KindClosed   workflow.Kind = "closed"
	KindCanceled workflow.Kind = "canceled"
)

// The guards that a process can name.
const (
	guardDelivered = "delivered"    // it is in production, and was not rolled back there
	guardVerified  = "verified"     // some environment has verified it
	guardChanges   = "changes-done" // no bound change waits for it
)

// Guards are the names of conditions that transitions and phases can ask for.
func Guards() []string { return []string{guardDelivered, guardVerified, guardChanges} }

var words = workflow.Vocabulary{
	Plan: []workflow.Kind{KindPlan}, Other: []workflow.Kind{KindBuild, KindTest, KindDeploy}, Review: []workflow.Kind{KindReview},
	Final: []workflow.Kind{KindClosed, KindCanceled}, Canceled: KindCanceled,
	Guards: Guards(), Fields: contentFields(), Material: material, Parts: []string{"planner", "approver", "deployer"},
}

// Processes returns the processes that the engine ships: waterfall, iterative, and
// direct for what needs no phases of its own. In each the planner approves nothing.
func Processes() []Process {
	phase := func(name string, kind workflow.Kind) Phase {
		p := Phase{Name: name, Kind: kind}
		switch kind {
		case KindPlan, KindBuild, KindTest, KindDeploy:
			p.Edits = []string{"*"}
		case KindReview:
			p.Edits = []string{"notes", "description", "tags"}
		}
		return p
	}
	end := []Phase{phase("closed", KindClosed), phase("canceled", KindCanceled)}
	apart := []workflow.Duty{{Part: "approver", Against: "planner"}}
	steps := []Phase{phase("plan", KindPlan), phase("build", KindBuild), phase("test", KindTest), phase("deploy", KindDeploy), phase("review", KindReview)}
	on := []Transition{
		{From: "plan", To: "build"}, {From: "build", To: "test"}, {From: "test", To: "deploy"},
		{From: "deploy", To: "review", Guards: []string{guardDelivered}}, {From: "review", To: "closed", Guards: []string{guardChanges}},
	}
	return []Process{
		{
			Name: "waterfall", Title: "One phase after the other", Authority: workflow.AuthorityStages, Duties: apart,
			Phases: append(slices.Clone(steps), end...), Transitions: on,
		},
		{
			Name: "iterative", Title: "Built and tested in turn until it is good", Authority: workflow.AuthorityStages, Duties: apart,
			Phases:      append(slices.Clone(steps), end...),
			Transitions: append(slices.Clone(on), Transition{From: "test", To: "build"}, Transition{From: "deploy", To: "build"}),
		},
		{
			Name: "direct", Title: "Built and tested elsewhere", Authority: workflow.AuthorityStages, Duties: apart,
			Phases: append([]Phase{phase("plan", KindPlan), phase("deploy", KindDeploy)}, end...),
			Transitions: []Transition{
				{From: "plan", To: "deploy"}, {From: "deploy", To: "closed", Guards: []string{guardDelivered, guardChanges}},
			},
		},
	}
}

// CheckProcess returns everything that is wrong with a process, or nil.
func CheckProcess(p Process) error {
	if err := p.Validate(words); err != nil {
		return err
	}
	var faults []workflow.Fault
	if len(p.Stages) > 0 {
		faults = append(faults, workflow.Fault{Rule: "stage-outside-gate", Where: "stages", Reason: "approvals are asked for by gates of environments: put the stages there"})
	}
	if !slices.ContainsFunc(p.Phases, func(one Phase) bool { return one.Kind == KindDeploy }) {
		faults = append(faults, workflow.Fault{Rule: "no-deploy-phase", Where: "phases", Reason: "nothing could be deployed to production: add a phase of kind deploy"})
	}
	for _, t := range p.Transitions {
		if t.Automatic || t.When != "" {
			faults = append(faults, workflow.Fault{Rule: "manual-only", Where: fmt.Sprintf("transition %q to %q", t.From, t.To),
				Reason: "people advance a release: make it manual, with guards and no expression"})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return &workflow.ModelError{Model: p.Name, Faults: faults}
}

// Mermaid returns the phases and ways of a process as the text of a Mermaid diagram.
func Mermaid(p Process) string { return p.Mermaid(words) }

// DOT returns the phases and ways of a process as the text of a Graphviz graph.
func DOT(p Process) string { return p.DOT(words) }
