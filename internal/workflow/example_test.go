package workflow_test

import (
	"errors"
	"fmt"

	"github.com/rollforward/rollforward/internal/workflow"
)

// A model that was written in a hurry: what is wrong with it, and what to do.
func Example() {
	v := workflow.Vocabulary{
		Plan: []workflow.Kind{"plan"}, Authorize: []workflow.Kind{"authorize"}, Implement: []workflow.Kind{"implement"},
		Final: []workflow.Kind{"closed", "canceled"}, Canceled: "canceled",
	}
	m := workflow.Model{
		Name: "quick", Authority: workflow.AuthorityStages,
		Phases: []workflow.Phase{
			{Name: "draft", Kind: "plan"},
			{Name: "board", Kind: "authorize", Stages: []string{"cab"}},
			{Name: "do", Kind: "implement"},
			{Name: "done", Kind: "closed"},
			{Name: "canceled", Kind: "canceled"},
		},
		Transitions: []workflow.Transition{{From: "draft", To: "board"}, {From: "draft", To: "do"}, {From: "do", To: "done"}},
		Stages:      []workflow.Stage{{Name: "cab", Candidates: []workflow.Candidate{{Group: "cab"}}, Rule: workflow.Rule{Counting: workflow.First}}},
	}
	var unsound *workflow.ModelError
	if err := m.Validate(v); errors.As(err, &unsound) {
		for _, f := range unsound.Faults {
			fmt.Println(f.Rule, "at", f.Where)
		}
	}

	m.Transitions = []workflow.Transition{{From: "draft", To: "board"}, {From: "board", To: "do", Automatic: true}, {From: "do", To: "done"}}
	fmt.Println(m.Validate(v))
	fmt.Print(m.Mermaid(v))
	// Output:
	// dead-end at phase "board"
	// implement-without-authority at phase "do"
	// <nil>
	// stateDiagram-v2
	//     state "draft" as p0
	//     p0 : plan
	//     state "board" as p1
	//     p1 : authorize, asks cab
	//     state "do" as p2
	//     p2 : implement
	//     state "done" as p3
	//     p3 : closed
	//     state "canceled" as p4
	//     p4 : canceled
	//     [*] --> p0
	//     p0 --> p1
	//     p1 --> p2 : auto
	//     p2 --> p3
	//     p0 --> p4 : (cancel)
	//     p1 --> p0 : (return)
	//     p1 --> p4 : (cancel)
	//     p2 --> p4 : (cancel)
	//     p3 --> [*]
	//     p4 --> [*]
}

// Three of five seats are needed; two can still answer when the third rejects.
func ExampleCount() {
	seats := []workflow.Seat{{Name: "person ann"}, {Name: "person bob"}, {Name: "person cid"}, {Name: "person dan"}, {Name: "group ops"}}
	half := workflow.Rule{Counting: workflow.Percent, N: 50}
	vote := func(seat, by string, approve bool) workflow.Vote {
		return workflow.Vote{Seats: []string{seat}, By: by, Approve: approve}
	}
	votes := []workflow.Vote{vote("person ann", "ann", true), vote("group ops", "olga", false), vote("person dan", "dan", false)}
	tally := workflow.Count(half, nil, seats, votes)
	fmt.Println(tally.State, "-", tally.Why)

	tally = workflow.Count(half, nil, seats, append(votes, vote("person bob", "bob", false)))
	fmt.Println(tally.State, "-", tally.Why)
	// Output:
	// requested - 1 of 5 seats approved, 3 are needed, 2 can still
	// rejected - 1 of 5 seats approved and 1 can still, 3 were needed
}
