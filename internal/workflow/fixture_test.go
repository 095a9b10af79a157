package workflow_test

import (
	"errors"
	"strings"
	"time"

	"github.com/rollforward/rollforward/internal/workflow"
)

// vocabulary is that of changes.
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
			if strings.HasPrefix(text, "?") {
				return errors.New("it begins with a question mark")
			}
			return nil
		},
	}
}

func hours(n int) workflow.Duration { return workflow.Duration(time.Duration(n) * time.Hour) }

// normal is a sound model that uses most of what a model can say. Each call
// returns one of its own.
func normal() workflow.Model {
	return workflow.Model{
		Name: "normal", Title: "Normal change", Authority: workflow.AuthorityStages,
		Phases: []workflow.Phase{
			{Name: "draft", Kind: "plan", Edits: []string{"*"}},
			{Name: "assess", Kind: "assess", Stages: []string{"technical"}, Edits: []string{"category", "tags"}},
			{
				Name: "authorize", Kind: "authorize", Stages: []string{"security", "cab"}, Together: true,
				Table: &workflow.Table{Rows: []workflow.Row{
					{When: `risk == "high"`, Stages: []string{"security", "cab"}},
					{Stages: []string{"cab"}},
				}},
			},
			{Name: "scheduled", Kind: "scheduled", Edits: []string{"tags", "window"}},
			{Name: "implement", Kind: "implement", Tasks: []workflow.TaskTemplate{{Title: "Tell the users", Kind: workflow.TaskCommunication, Group: "desk"}}},
			{Name: "review", Kind: "review", Edits: []string{"evidence", "tags", "outage"}},
			{Name: "closed", Kind: "closed"},
			{Name: "canceled", Kind: "canceled"},
		},
		Transitions: []workflow.Transition{
			{From: "draft", To: "assess", Requires: []string{"title", "window"}},
			{From: "assess", To: "authorize", Automatic: true, Guards: []string{"assessed"}},
			{From: "authorize", To: "scheduled", Automatic: true, Guards: []string{"authorized", "not-held"}},
			{From: "scheduled", To: "implement"},
			{From: "implement", To: "review", Guards: []string{"tasks-closed"}},
			{From: "review", To: "implement", When: `outcome == "unsuccessful"`},
			{From: "review", To: "closed", Guards: []string{"reviewed"}},
		},
		Stages: []workflow.Stage{
			{Name: "technical", Candidates: []workflow.Candidate{{Owners: true}}, Rule: workflow.Rule{Counting: workflow.All}},
			{Name: "security", Candidates: []workflow.Candidate{{Group: "security"}}, Rule: workflow.Rule{Counting: workflow.First}, Skip: true},
			{
				Name: "cab", Title: "Change advisory board",
				Candidates: []workflow.Candidate{{Group: "cab", EachMember: true}, {Role: "change manager"}, {Person: "carol"}},
				Rule:       workflow.Rule{Counting: workflow.Percent, N: 50}, Required: []string{"carol"},
				Deadline: hours(72), Escalate: []workflow.Candidate{{Person: "dora"}},
			},
		},
		Material: []workflow.Materiality{
			{Field: "outage", Immaterial: true},
			{Field: "window", Voids: []string{"cab"}},
			{Field: "implementers"},
		},
		Duties: []workflow.Duty{
			{Part: "approver", Against: "requester"}, {Part: "approver", Against: "implementer"}, {Part: "reviewer", Against: "implementer"},
		},
	}
}

// emergency is a sound model that is authorised afterwards.
func emergency() workflow.Model {
	return workflow.Model{
		Name: "emergency", Authority: workflow.AuthorityRetrospective,
		Retrospect: &workflow.Retrospective{AuthorizeWithin: hours(24), ReviewWithin: hours(72)},
		Phases: []workflow.Phase{
			{Name: "draft", Kind: "plan", Edits: []string{"*"}},
			{Name: "authorize", Kind: "authorize", Stages: []string{"board"}},
			{Name: "implement", Kind: "implement"},
			{Name: "review", Kind: "review"},
			{Name: "closed", Kind: "closed"},
			{Name: "canceled", Kind: "canceled"},
		},
		Transitions: []workflow.Transition{
			{From: "draft", To: "authorize"},
			{From: "authorize", To: "implement"},
			{From: "implement", To: "review"},
			{From: "review", To: "closed"},
		},
		Stages: []workflow.Stage{{Name: "board", Candidates: []workflow.Candidate{{Group: "board"}}, Rule: workflow.Rule{Counting: workflow.AtLeast, N: 2}}},
	}
}
