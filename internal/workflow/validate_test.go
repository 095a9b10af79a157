package workflow_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/timing"
	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

func TestSoundModelsHaveNoFaults(t *testing.T) {
	standard := normal()
	standard.Name, standard.Authority, standard.Stages, standard.Material = "standard", workflow.AuthorityTemplate, nil, nil
	standard.Phases = slices.Delete(standard.Phases, 1, 3)
	standard.Transitions = append([]workflow.Transition{{From: "draft", To: "scheduled"}}, standard.Transitions[3:]...)
	standard.Phases[3].Edits = nil

	// A change that drift detection found, DOMAIN 1.1: no plan, no work of ours.
	unauthorized := emergency()
	unauthorized.Name = "unauthorized"
	unauthorized.Phases = slices.Delete(slices.Delete(unauthorized.Phases, 2, 3), 0, 1)
	unauthorized.Transitions = []workflow.Transition{{From: "authorize", To: "review"}, {From: "review", To: "closed"}}

	found := unauthorized // and never to be given up, since it has happened
	found.Phases = found.Phases[:3]

	registered := workflow.Model{
		Name: "registered", Authority: workflow.AuthorityElsewhere,
		Phases:      []workflow.Phase{{Name: "recorded", Kind: "review"}, {Name: "closed", Kind: "closed"}},
		Transitions: []workflow.Transition{{From: "recorded", To: "closed"}},
	}

	authorizedLate := emergency() // implemented first, then authorised
	authorizedLate.Transitions = []workflow.Transition{
		{From: "draft", To: "implement"}, {From: "implement", To: "authorize"}, {From: "authorize", To: "review"}, {From: "review", To: "closed"},
	}

	canceledOnly := normal() // a phase that is meant to end in cancel says so by a transition
	canceledOnly.Phases = append(canceledOnly.Phases, workflow.Phase{Name: "parked", Kind: "plan"})
	canceledOnly.Transitions = append(canceledOnly.Transitions, workflow.Transition{From: "draft", To: "parked"}, workflow.Transition{From: "parked", To: "canceled"})

	aside := normal() // its only way on is back through the first phase
	aside.Phases = append(aside.Phases, workflow.Phase{Name: "aside", Kind: "plan"})
	aside.Transitions = append(aside.Transitions, workflow.Transition{From: "draft", To: "aside"}, workflow.Transition{From: "aside", To: "draft"})

	people := normal() // as many people as are named, and one of a group
	people.Stages[2].Candidates = []workflow.Candidate{{Person: "bob"}, {Person: "carol"}}
	people.Stages[2].Rule = workflow.Rule{Counting: workflow.AtLeast, N: 3}
	people.Stages[1].Rule = workflow.Rule{Counting: workflow.AtLeast, N: 1}

	unasked := workflow.Model{ // nobody is asked, so nobody can reject, and there is no need to return
		Name: "unasked", Authority: workflow.AuthorityTemplate,
		Phases: []workflow.Phase{
			{Name: "look", Kind: "assess"}, {Name: "do", Kind: "implement"}, {Name: "closed", Kind: "closed"}, {Name: "canceled", Kind: "canceled"},
		},
		Transitions: []workflow.Transition{{From: "look", To: "do"}, {From: "do", To: "closed"}},
	}

	for _, m := range []workflow.Model{normal(), emergency(), standard, unauthorized, found, registered, authorizedLate, canceledOnly, aside, people, unasked} {
		require.NoError(t, m.Validate(vocabulary()), m.Name)
	}
}

// faults breaks a sound model in one way and says which rules must say so, and
// nothing else, and where.
var faults = []struct {
	rule   string
	of     func() workflow.Model
	what   string
	damage func(m *workflow.Model)
	want   []string // "rule at where"
}{
	{"name-required", normal, "no name", func(m *workflow.Model) { m.Name = "" }, []string{`name-required at model`}},
	{"name-required", normal, "a capital", func(m *workflow.Model) { m.Name = "Normal" }, []string{`name-required at model`}},
	{"name-required", normal, "a quote", func(m *workflow.Model) { m.Name = `a"b` }, []string{`name-required at model`}},
	{"name-required", normal, "an umlaut", func(m *workflow.Model) { m.Name = "prüfung" }, []string{`name-required at model`}},
	{"name-required", normal, "a space around", func(m *workflow.Model) { m.Name = "normal " }, []string{`name-required at model`}},
	{"name-required", normal, "65 bytes", func(m *workflow.Model) { m.Name = strings.Repeat("n", 65) }, []string{`name-required at model`}},
	{"name-required", normal, "a stage without name", func(m *workflow.Model) {
		m.Stages[0].Name = ""
		m.Phases[1].Stages = []string{""}
	}, []string{`name-required at stage ""`}},
	{"name-required", normal, "a phase without name", func(m *workflow.Model) {
		m.Phases[7].Name = ""
	}, []string{`name-required at phase ""`}},
	{"bad-text", normal, "a title with a control character", func(m *workflow.Model) { m.Title = "a\x1b[2J" }, []string{`bad-text at model`}},
	{"bad-text", normal, "a description that is no UTF-8", func(m *workflow.Model) { m.Description = "\xff" }, []string{`bad-text at model`}},
	{"bad-text", normal, "a stage's title that is too long", func(m *workflow.Model) { m.Stages[2].Title = strings.Repeat("x", 4097) }, []string{`bad-text at stage "cab"`}},
	{"bad-text", normal, "a task's title", func(m *workflow.Model) { m.Phases[4].Tasks[0].Title = "Tell\x00them" }, []string{`bad-text at phase "implement"`}},
	{"bad-text", normal, "a task's group", func(m *workflow.Model) { m.Phases[4].Tasks[0].Group = " desk" }, []string{`bad-text at phase "implement"`}},

	{"no-phases", normal, "no phases", func(m *workflow.Model) {
		*m = workflow.Model{Name: "empty", Authority: workflow.AuthorityStages}
	}, []string{`no-phases at model`}},
	{"phase-twice", normal, "two drafts", func(m *workflow.Model) {
		m.Phases = append(m.Phases, workflow.Phase{Name: "draft", Kind: "plan"})
	}, []string{`phase-twice at phase "draft"`}},
	{"unknown-kind", normal, "a kind nobody knows", func(m *workflow.Model) {
		m.Phases[3].Kind = "waiting"
	}, []string{`unknown-kind at phase "scheduled"`}},
	{"unknown-phase", normal, "a transition to nowhere", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "draft", To: "nowhere"})
	}, []string{`unknown-phase at transition "draft" to "nowhere"`}},
	{"unknown-phase", normal, "a transition from nowhere", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "nowhere", To: "draft"})
	}, []string{`unknown-phase at transition "nowhere" to "draft"`}},
	{"transition-twice", normal, "one transition twice", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, m.Transitions[0])
	}, []string{`transition-twice at transition "draft" to "assess"`}},
	{"initial-phase-final", normal, "closed from the start", func(m *workflow.Model) {
		*m = workflow.Model{Name: "over", Authority: workflow.AuthorityElsewhere, Phases: []workflow.Phase{{Name: "closed", Kind: "closed"}}}
	}, []string{`initial-phase-final at phase "closed"`}},
	{"unreachable-phase", normal, "an island", func(m *workflow.Model) {
		m.Phases = append(m.Phases, workflow.Phase{Name: "island", Kind: "scheduled"})
		m.Transitions = append(m.Transitions, workflow.Transition{From: "island", To: "implement"})
	}, []string{`unreachable-phase at phase "island"`}},
	{"unreachable-phase", normal, "an island that nowhere leads to", func(m *workflow.Model) {
		m.Phases = append(m.Phases, workflow.Phase{Name: "island", Kind: "scheduled"})
		m.Transitions = append(m.Transitions, workflow.Transition{From: "island", To: "implement"}, workflow.Transition{From: "nowhere", To: "island"})
	}, []string{`unknown-phase at transition "nowhere" to "island"`, `unreachable-phase at phase "island"`}},
	{"dead-end", normal, "triage that leads nowhere", func(m *workflow.Model) {
		m.Phases = append(m.Phases, workflow.Phase{Name: "triage", Kind: "plan"})
		m.Transitions = append(m.Transitions, workflow.Transition{From: "draft", To: "triage"})
	}, []string{`dead-end at phase "triage"`}},
	{"dead-end", normal, "an authorize phase that can only be returned from", func(m *workflow.Model) {
		m.Phases = append(m.Phases, workflow.Phase{Name: "veto", Kind: "authorize"})
		m.Transitions = append(m.Transitions, workflow.Transition{From: "draft", To: "veto"})
	}, []string{`dead-end at phase "veto"`}},
	{"dead-end", normal, "two phases that only lead to each other", func(m *workflow.Model) {
		m.Phases = append(m.Phases, workflow.Phase{Name: "ping", Kind: "review"}, workflow.Phase{Name: "pong", Kind: "review"})
		m.Transitions = append(m.Transitions, workflow.Transition{From: "review", To: "ping"}, workflow.Transition{From: "ping", To: "pong"}, workflow.Transition{From: "pong", To: "ping"})
	}, []string{`dead-end at phase "ping"`, `dead-end at phase "pong"`}},
	{"final-with-exit", normal, "closed, and on", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "closed", To: "review"})
	}, []string{`final-with-exit at phase "closed"`}},
	{"final-with-work", normal, "a stage when it is over", func(m *workflow.Model) {
		m.Phases[6].Stages = []string{"cab"}
	}, []string{`final-with-work at phase "closed"`}},
	{"final-with-work", normal, "tasks when it is over", func(m *workflow.Model) {
		m.Phases[7].Tasks = []workflow.TaskTemplate{{Title: "Tidy up", Kind: workflow.TaskReview}}
	}, []string{`final-with-work at phase "canceled"`}},
	{"automatic-loop", normal, "a circle of three", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "scheduled", To: "assess", Automatic: true, When: "false"})
	}, []string{`automatic-loop at phase "assess"`}},
	{"automatic-loop", normal, "a phase that leads to itself", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "scheduled", To: "scheduled", Automatic: true, Guards: []string{"not-held"}})
	}, []string{`automatic-loop at phase "scheduled"`}},
	{"no-cancel", normal, "no canceled phase", func(m *workflow.Model) { m.Phases = m.Phases[:7] }, []string{`no-cancel at model`}},
	{"no-cancel", normal, "no canceled phase, and no plan", func(m *workflow.Model) {
		*m = workflow.Model{
			Name: "at once", Authority: workflow.AuthorityTemplate,
			Phases:      []workflow.Phase{{Name: "do", Kind: "implement"}, {Name: "closed", Kind: "closed"}},
			Transitions: []workflow.Transition{{From: "do", To: "closed"}},
		}
	}, []string{`no-cancel at model`}},
	{"no-cancel", normal, "two canceled phases", func(m *workflow.Model) {
		m.Phases = append(m.Phases, workflow.Phase{Name: "withdrawn", Kind: "canceled"})
		m.Transitions = append(m.Transitions, workflow.Transition{From: "draft", To: "withdrawn"})
	}, []string{`no-cancel at phase "canceled"`, `no-cancel at phase "withdrawn"`}},
	{"cancel-after-review", normal, "canceled from review", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "review", To: "canceled"})
	}, []string{`cancel-after-review at transition "review" to "canceled"`}},

	{"unknown-guard", normal, "a guard nobody knows", func(m *workflow.Model) {
		m.Transitions[3].Guards = []string{"full-moon"}
	}, []string{`unknown-guard at transition "scheduled" to "implement"`}},
	{"unknown-field", normal, "a required field", func(m *workflow.Model) {
		m.Transitions[3].Requires = []string{"colour"}
	}, []string{`unknown-field at transition "scheduled" to "implement"`}},
	{"unknown-field", normal, "an edited field", func(m *workflow.Model) {
		m.Phases[1].Edits = []string{"colour"}
	}, []string{`unknown-field at phase "assess"`}},
	{"unknown-field", normal, "a material field", func(m *workflow.Model) {
		m.Material = append(m.Material, workflow.Materiality{Field: "colour"})
	}, []string{`unknown-field at materiality of "colour"`}},
	{"unknown-field", normal, "all fields required", func(m *workflow.Model) {
		m.Transitions[3].Requires = []string{"*"} // only edits know it
	}, []string{`unknown-field at transition "scheduled" to "implement"`}},
	{"bad-expression", normal, "on a transition", func(m *workflow.Model) {
		m.Transitions[3].When = "? what"
	}, []string{`bad-expression at transition "scheduled" to "implement"`}},
	{"bad-expression", normal, "in a table", func(m *workflow.Model) {
		m.Phases[2].Table.Rows[0].When = "? what"
	}, []string{`bad-expression at row 1 of phase "authorize"`}},

	{"stage-twice", normal, "two boards", func(m *workflow.Model) {
		m.Stages = append(m.Stages, m.Stages[2])
	}, []string{`stage-twice at stage "cab"`}},
	{"unknown-stage", normal, "in a phase", func(m *workflow.Model) {
		m.Phases[2].Stages = append(m.Phases[2].Stages, "legal")
	}, []string{`unknown-stage at phase "authorize"`}},
	{"unknown-stage", normal, "in a row", func(m *workflow.Model) {
		m.Phases[2].Table.Rows[0].Stages = []string{"legal"}
	}, []string{`unknown-stage at row 1 of phase "authorize"`}},
	{"unknown-stage", normal, "in what is voided", func(m *workflow.Model) {
		m.Material[1].Voids = []string{"legal"}
	}, []string{`unknown-stage at materiality of "window"`}},
	{"unused-stage", normal, "a stage nobody names", func(m *workflow.Model) {
		m.Stages = append(m.Stages, workflow.Stage{Name: "legal", Candidates: []workflow.Candidate{{Role: "lawyer"}}, Rule: workflow.Rule{Counting: workflow.First}})
	}, []string{`unused-stage at stage "legal"`}},
	{"stage-without-candidates", normal, "nobody", func(m *workflow.Model) {
		m.Stages[0].Candidates = nil
	}, []string{`stage-without-candidates at stage "technical"`}},
	{"stage-without-candidates", normal, "nobody, of whom one must approve", func(m *workflow.Model) {
		m.Stages[0].Candidates, m.Stages[0].Rule = nil, workflow.Rule{Counting: workflow.AtLeast, N: 1}
	}, []string{`stage-without-candidates at stage "technical"`}},
	{"bad-candidate", normal, "nobody", func(m *workflow.Model) {
		m.Stages[0].Candidates[0] = workflow.Candidate{}
	}, []string{`bad-candidate at stage "technical"`}},
	{"bad-candidate", normal, "two at once", func(m *workflow.Model) {
		m.Stages[0].Candidates[0] = workflow.Candidate{Group: "dba", Owners: true}
	}, []string{`bad-candidate at stage "technical"`}},
	{"bad-candidate", normal, "each member of a person", func(m *workflow.Model) {
		m.Stages[0].Candidates[0] = workflow.Candidate{Person: "bob", EachMember: true}
	}, []string{`bad-candidate at stage "technical"`}},
	{"bad-candidate", normal, "each member of the owners", func(m *workflow.Model) {
		m.Stages[0].Candidates[0].EachMember = true
	}, []string{`bad-candidate at stage "technical"`}},
	{"bad-candidate", normal, "a name with a line break", func(m *workflow.Model) {
		m.Stages[0].Candidates[0] = workflow.Candidate{Person: "bob\nalice"}
	}, []string{`bad-candidate at stage "technical"`}},
	{"bad-candidate", normal, "in the escalation", func(m *workflow.Model) {
		m.Stages[2].Escalate[0] = workflow.Candidate{}
	}, []string{`bad-candidate at stage "cab"`}},
	{"bad-candidate", normal, "a required nobody", func(m *workflow.Model) {
		m.Stages[2].Required = []string{""}
	}, []string{`bad-candidate at stage "cab"`}},
	{"bad-rule", normal, "no rule", func(m *workflow.Model) {
		m.Stages[0].Rule = workflow.Rule{}
	}, []string{`bad-rule at stage "technical"`}},
	{"bad-rule", normal, "all of a number", func(m *workflow.Model) {
		m.Stages[0].Rule.N = 2
	}, []string{`bad-rule at stage "technical"`}},
	{"bad-rule", normal, "first of a number", func(m *workflow.Model) {
		m.Stages[1].Rule.N = -1
	}, []string{`bad-rule at stage "security"`}},
	{"bad-rule", normal, "at least nobody", func(m *workflow.Model) {
		m.Stages[0].Rule = workflow.Rule{Counting: workflow.AtLeast}
	}, []string{`bad-rule at stage "technical"`}},
	{"bad-rule", normal, "more people than are named", func(m *workflow.Model) {
		m.Stages[2].Candidates = []workflow.Candidate{{Person: "bob"}, {Person: "carol"}, {Person: "bob"}}
		m.Stages[2].Rule = workflow.Rule{Counting: workflow.AtLeast, N: 4} // carol, bob, and dora when it escalates
	}, []string{`bad-rule at stage "cab"`}},
	{"negative-duration", normal, "a deadline before the start", func(m *workflow.Model) {
		m.Stages[2].Deadline = workflow.Duration(-time.Second)
	}, []string{`negative-duration at stage "cab"`}},
	{"negative-duration", emergency, "to be reviewed before the end", func(m *workflow.Model) {
		m.Retrospect.ReviewWithin = -1
	}, []string{`negative-duration at authority`}},
	{"negative-duration", emergency, "to be authorised before the start", func(m *workflow.Model) {
		m.Retrospect.AuthorizeWithin = -1
	}, []string{`negative-duration at authority`}},
	{"escalation-without-deadline", normal, "no deadline", func(m *workflow.Model) {
		m.Stages[2].Deadline = 0
	}, []string{`escalation-without-deadline at stage "cab"`}},

	{"table-without-rows", normal, "no rows", func(m *workflow.Model) {
		m.Phases[1].Table = &workflow.Table{}
	}, []string{`table-without-rows at phase "assess"`}},
	{"row-without-stages", normal, "no stages", func(m *workflow.Model) {
		m.Phases[2].Table.Rows[0].Stages = nil
	}, []string{`row-without-stages at row 1 of phase "authorize"`}},
	{"unreachable-row", normal, "the default first", func(m *workflow.Model) {
		slices.Reverse(m.Phases[2].Table.Rows)
	}, []string{`unreachable-row at row 2 of phase "authorize"`}},
	{"task-without-title", normal, "no title", func(m *workflow.Model) {
		m.Phases[4].Tasks[0].Title = " "
	}, []string{`task-without-title at phase "implement"`}},
	{"unknown-task-kind", normal, "no kind", func(m *workflow.Model) {
		m.Phases[4].Tasks[0].Kind = ""
	}, []string{`unknown-task-kind at phase "implement"`}},
	{"material-twice", normal, "window twice", func(m *workflow.Model) {
		m.Material = append(m.Material, workflow.Materiality{Field: "window", Immaterial: true})
	}, []string{`material-twice at materiality of "window"`}},
	{"bad-materiality", normal, "immaterial but", func(m *workflow.Model) {
		m.Material[0].Voids = []string{"cab"}
	}, []string{`bad-materiality at materiality of "outage"`}},
	{"material-edit-late", normal, "all while it is implemented", func(m *workflow.Model) {
		m.Phases[4].Edits = []string{"*"}
	}, []string{`material-edit-late at phase "implement"`}},
	{"material-edit-late", normal, "CIs at review", func(m *workflow.Model) {
		m.Phases[5].Edits = []string{"tags", "cis"}
	}, []string{`material-edit-late at phase "review"`}},
	{"material-edit-late", normal, "the window when it is over", func(m *workflow.Model) {
		m.Phases[6].Edits = []string{"window"}
	}, []string{`material-edit-late at phase "closed"`}},
	{"material-edit-late", normal, "what this model made material", func(m *workflow.Model) {
		m.Phases[5].Edits = []string{"implementers"}
	}, []string{`material-edit-late at phase "review"`}},

	{"unknown-part", normal, "a part nobody plays", func(m *workflow.Model) {
		m.Duties[1].Against = "bystander"
	}, []string{`unknown-part at duty 2`}},
	{"duty-with-itself", normal, "kept apart from oneself", func(m *workflow.Model) {
		m.Duties[2].Against = "reviewer"
	}, []string{`duty-with-itself at duty 3`}},

	{"unknown-authority", normal, "none", func(m *workflow.Model) { m.Authority = "" }, []string{`unknown-authority at authority`}},
	{"retrospective-unused", normal, "deadlines for nothing", func(m *workflow.Model) {
		m.Retrospect = &workflow.Retrospective{AuthorizeWithin: hours(1), ReviewWithin: hours(1)}
	}, []string{`retrospective-unused at authority`}},
	{"implement-without-authority", normal, "a short cut", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "draft", To: "scheduled"})
	}, []string{`implement-without-authority at phase "implement"`}},
	{"implement-without-authority", normal, "a short cut past a phase that always asks into one that may not", func(m *workflow.Model) {
		m.Phases[1].Stages = nil
		m.Phases[2].Stages = []string{"security", "technical"}
		m.Stages[0].Skip = true
		m.Phases[2].Table.Rows[1].When = "true"
	}, []string{`implement-without-authority at phase "implement"`}},
	{"implement-without-authority", normal, "only stages that may be skipped", func(m *workflow.Model) {
		m.Phases[1].Stages, m.Phases[2].Table = nil, nil
		m.Phases[2].Stages = []string{"technical", "security", "cab"}
		for i := range m.Stages {
			m.Stages[i].Skip = true
		}
	}, []string{`implement-without-authority at phase "implement"`}},
	{"implement-without-authority", normal, "implemented at once", func(m *workflow.Model) {
		m.Phases = append([]workflow.Phase{{Name: "now", Kind: "implement"}}, m.Phases...)
		m.Transitions = append(m.Transitions, workflow.Transition{From: "now", To: "draft"})
	}, []string{`implement-without-authority at phase "now"`}},
	{"implement-without-authority", normal, "approved, then returned to be planned, then implemented", func(m *workflow.Model) {
		m.Phases = append(slices.Clone(m.Phases[1:]), m.Phases[0])
		m.Transitions[0] = workflow.Transition{From: "draft", To: "implement"}
	}, []string{`implement-without-authority at phase "implement"`}},
	{"implement-without-authority", normal, "authorised elsewhere", func(m *workflow.Model) {
		m.Authority = workflow.AuthorityElsewhere
	}, []string{`implement-without-authority at phase "implement"`}},
	{"implement-without-authority", emergency, "nobody is asked", func(m *workflow.Model) {
		m.Phases[1].Stages, m.Stages = nil, nil
	}, []string{`implement-without-authority at authority`}},
	{"implement-without-authority", emergency, "a stage that may be skipped", func(m *workflow.Model) {
		m.Stages[0].Skip = true
	}, []string{`implement-without-authority at authority`}},
	{"implement-without-authority", emergency, "no deadlines", func(m *workflow.Model) {
		m.Retrospect = nil
	}, []string{`implement-without-authority at authority`}},
	{"implement-without-authority", emergency, "no deadline of the review", func(m *workflow.Model) {
		m.Retrospect.ReviewWithin = 0
	}, []string{`implement-without-authority at authority`}},
	{"implement-without-authority", emergency, "no deadline of the authorisation", func(m *workflow.Model) {
		m.Retrospect.AuthorizeWithin = 0
	}, []string{`implement-without-authority at authority`}},
	{"implement-without-authority", emergency, "a way past the authorisation", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "draft", To: "implement"})
	}, []string{`implement-without-authority at phase "closed"`}},
	{"implement-without-authority", emergency, "returned to be planned, and on past the authorisation", func(m *workflow.Model) {
		m.Phases[0], m.Phases[1] = m.Phases[1], m.Phases[0]
		m.Transitions[0] = workflow.Transition{From: "draft", To: "implement"}
	}, []string{`implement-without-authority at phase "closed"`}},
	{"implement-without-authority", emergency, "closed at once", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "draft", To: "closed"})
	}, []string{`implement-without-authority at phase "closed"`}},
	{"no-review-before-close", emergency, "implemented first, and closed", func(m *workflow.Model) {
		m.Phases = append([]workflow.Phase{{Name: "now", Kind: "implement"}}, m.Phases...)
		m.Transitions = append(m.Transitions, workflow.Transition{From: "now", To: "authorize"}, workflow.Transition{From: "authorize", To: "now"}, workflow.Transition{From: "now", To: "closed"}, workflow.Transition{From: "now", To: "draft"})
	}, []string{`implement-without-authority at phase "closed"`, `no-review-before-close at phase "closed"`}},
	{"no-review-before-close", emergency, "a way past the review", func(m *workflow.Model) {
		m.Transitions = append(m.Transitions, workflow.Transition{From: "implement", To: "closed"})
	}, []string{`no-review-before-close at phase "closed"`}},
	{"return-impossible", normal, "nowhere to plan", func(m *workflow.Model) {
		m.Phases, m.Transitions = m.Phases[1:], m.Transitions[1:]
	}, []string{`return-impossible at phase "assess"`}},
	{"return-impossible", normal, "nowhere to plan, where only a table asks", func(m *workflow.Model) {
		m.Phases, m.Transitions = m.Phases[2:], m.Transitions[2:]
		m.Phases[0].Stages, m.Stages = nil, m.Stages[1:]
	}, []string{`return-impossible at phase "authorize"`}},
	{"return-impossible", normal, "nowhere to plan, by template", func(m *workflow.Model) {
		m.Phases, m.Transitions, m.Authority = m.Phases[1:], m.Transitions[1:], workflow.AuthorityTemplate
	}, []string{`return-impossible at phase "assess"`}},
}

func TestEveryFaultIsFoundAndNothingElse(t *testing.T) {
	for _, test := range faults {
		t.Run(test.rule+"/"+test.what, func(t *testing.T) {
			m := test.of()
			require.NoError(t, m.Validate(vocabulary()))
			test.damage(&m)
			err := m.Validate(vocabulary())
			require.ErrorIs(t, err, workflow.ErrUnsound)
			var unsound *workflow.ModelError
			require.ErrorAs(t, err, &unsound)
			require.Equal(t, m.Name, unsound.Model)
			var got []string
			for _, f := range unsound.Faults {
				got = append(got, f.Rule+" at "+f.Where)
				require.Contains(t, err.Error(), f.String())
				require.Contains(t, f.Reason, ":", "it says what to do")
			}
			require.Equal(t, test.want, got, "%v", err)
			require.Contains(t, strings.Join(test.want, "\n"), test.rule)
		})
	}
}

// The list of rules in the comment is the one that is held, and each has a model
// that breaks it.
func TestTheRulesInTheCommentAreThoseThatAreHeld(t *testing.T) {
	source := func(name string) string {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		return string(text)
	}
	held := map[string]bool{}
	for _, name := range []string{"validate.go", "validate_stage.go", "validate_path.go"} {
		for _, found := range regexp.MustCompile(`(?:fault\(|const rule = )"([a-z-]+)"`).FindAllStringSubmatch(source(name), -1) {
			held[found[1]] = true
		}
	}
	_, list, ok := strings.Cut(source("validate.go"), "by the name that a fault carries:\n")
	require.True(t, ok)
	list, _, ok = strings.Cut(list, "\nfunc ")
	require.True(t, ok)
	tested := map[string]bool{}
	for _, test := range faults {
		tested[test.rule] = true
	}
	said := map[string]bool{}
	for _, line := range strings.Split(list, "\n") {
		line, isRule := strings.CutPrefix(line, "//\t")
		if !isRule {
			continue
		}
		names, _, _ := strings.Cut(line, "  ")
		if words := strings.Fields(names); !strings.Contains(names, ",") {
			names = words[0]
		}
		for _, name := range strings.Split(names, ", ") {
			said[name] = true
		}
	}
	require.Greater(t, len(held), 35)
	require.Equal(t, held, said)
	require.Equal(t, held, tested)
}

func TestAllFaultsAreListedAtOnceInOneText(t *testing.T) {
	m := emergency()
	m.Phases[1].Stages = []string{"board", "legal"}
	m.Transitions[3].Guards = []string{"full-moon"}
	m.Authority = "a wish"
	err := m.Validate(vocabulary())
	require.EqualError(t, err, `model "emergency" is unsound, 4 faults: `+
		`unknown-stage at phase "authorize": it names the stage "legal", which the model does not have: add it, or name another; `+
		`unknown-guard at transition "review" to "closed": "full-moon" is no guard: use one of "assessed", "authorized", "tasks-closed", "reviewed", "not-held"; `+
		`unknown-authority at authority: "a wish" is no authority: use one of "stages", "template", "retrospective", "elsewhere"; `+
		`retrospective-unused at authority: deadlines of what is authorised afterwards are set, and the authority is "a wish": leave them out`)
}

func TestTheReasonShowsTheWayThatIsNotAuthorised(t *testing.T) {
	m := normal()
	m.Transitions = append(m.Transitions, workflow.Transition{From: "draft", To: "scheduled"})
	require.ErrorContains(t, m.Validate(vocabulary()), "the way draft, scheduled, implement passes no phase")
}

func TestATableThatAlwaysAsksIsAuthority(t *testing.T) {
	for what, test := range map[string]struct {
		table workflow.Table
		sound bool
	}{
		"a last row without condition":                {workflow.Table{Rows: []workflow.Row{{When: "a", Stages: []string{"security"}}, {Stages: []string{"cab"}}}}, true},
		"only rows with conditions":                   {workflow.Table{Rows: []workflow.Row{{When: "a", Stages: []string{"security"}}, {When: "!a", Stages: []string{"cab"}}}}, false},
		"all rows, one of them without condition":     {workflow.Table{All: true, Rows: []workflow.Row{{Stages: []string{"security"}}, {When: "a", Stages: []string{"cab"}}}}, true},
		"all rows, each with a condition":             {workflow.Table{All: true, Rows: []workflow.Row{{When: "a", Stages: []string{"security"}}, {When: "b", Stages: []string{"cab"}}}}, false},
		"the stage is skipped unless the row says so": {workflow.Table{Rows: []workflow.Row{{When: "a", Stages: []string{"cab"}}, {Stages: []string{"security"}}}}, true},
	} {
		t.Run(what, func(t *testing.T) {
			m := normal()
			m.Stages, m.Phases[1].Stages = m.Stages[1:], nil
			m.Phases[2].Stages, m.Phases[2].Table = nil, &test.table
			if err := m.Validate(vocabulary()); test.sound {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "implement-without-authority")
			}
		})
	}
}

func TestARowThatNamesNoStageIsNoAuthority(t *testing.T) {
	for _, test := range []struct {
		all  bool
		want []string
	}{
		{false, []string{"row-without-stages", "implement-without-authority"}},
		{true, []string{"row-without-stages"}}, // the row that always matches counts beside it
	} {
		m := normal()
		m.Stages, m.Phases[1].Stages = m.Stages[2:], nil
		m.Phases[2].Stages = nil
		m.Phases[2].Table = &workflow.Table{All: test.all, Rows: []workflow.Row{{When: "a"}, {Stages: []string{"cab"}}}}
		var unsound *workflow.ModelError
		require.ErrorAs(t, m.Validate(vocabulary()), &unsound)
		var got []string
		for _, f := range unsound.Faults {
			got = append(got, f.Rule)
		}
		require.Equal(t, test.want, got)
	}
}

func TestTheCanceledKindIsFinalAlsoWhereTheVocabularyDoesNotSaySo(t *testing.T) {
	v := vocabulary()
	v.Final = []workflow.Kind{"closed"}
	require.NoError(t, normal().Validate(v))
	m := normal()
	m.Phases[3].Kind = "waiting"
	require.ErrorContains(t, m.Validate(v), `use one of "plan", "assess", "authorize", "scheduled", "implement", "review", "closed", "canceled"`)
	v = vocabulary()
	require.ErrorContains(t, m.Validate(v), `"review", "closed", "canceled"`)
	v.Canceled = ""
	m.Phases[3].Kind = ""
	require.ErrorContains(t, m.Validate(v), `unknown-kind at phase "scheduled": "" is no kind`)
}

// Circles are found whole and each once: the groups of phases of which each leads
// to every other, here by brute force.
func TestEveryCircleOfAutomaticTransitionsIsNamed(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		m := workflow.Model{Name: "m", Authority: workflow.AuthorityElsewhere}
		n := rapid.IntRange(1, 7).Draw(t, "phases")
		for i := range n {
			m.Phases = append(m.Phases, workflow.Phase{Name: string(rune('a' + i)), Kind: "plan"})
		}
		leads := make([][]bool, n)
		for i := range n {
			leads[i] = rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 3), func(k int) bool { return k == 3 }), n, n).Draw(t, "leads")
			for j, is := range leads[i] {
				if is {
					m.Transitions = append(m.Transitions, workflow.Transition{From: m.Phases[i].Name, To: m.Phases[j].Name, Automatic: true})
				}
			}
		}
		for k := range n { // Warshall
			for i := range n {
				for j := range n {
					leads[i][j] = leads[i][j] || leads[i][k] && leads[k][j]
				}
			}
		}
		var want []string
		named := map[int]bool{}
		for i := range n {
			if !leads[i][i] || named[i] {
				continue
			}
			var names []string
			for j := range n {
				if leads[i][j] && leads[j][i] {
					names = append(names, m.Phases[j].Name)
					named[j] = true
				}
			}
			want = append(want, "in a circle over "+strings.Join(names, ", ")+":")
		}
		var unsound *workflow.ModelError
		require.ErrorAs(t, m.Validate(vocabulary()), &unsound)
		var got []string
		for _, f := range unsound.Faults {
			if f.Rule == "automatic-loop" {
				got = append(got, regexp.MustCompile("in a circle over [^:]*:").FindString(f.Reason))
			}
		}
		require.Equal(t, want, got)
		if len(want) > 1 {
			found++
		}
	})
	require.Positive(t, found, "no model with two circles was drawn")
}

func TestAVocabularyWithoutExpressionsRefusesEveryExpression(t *testing.T) {
	v := vocabulary()
	v.Expression = nil
	var unsound *workflow.ModelError
	require.ErrorAs(t, normal().Validate(v), &unsound)
	require.Len(t, unsound.Faults, 2)
	for _, f := range unsound.Faults {
		require.Equal(t, "bad-expression", f.Rule)
	}
	require.NoError(t, emergency().Validate(v))
}

func TestWhereNothingCanBeCanceledNoPhaseIsNeededForIt(t *testing.T) {
	v := vocabulary()
	v.Canceled, v.Final = "", []workflow.Kind{"closed"}
	m := normal()
	m.Phases = m.Phases[:7]
	require.NoError(t, m.Validate(v))
}

func TestTextsOfEverySizeWithinTheLimitAreTaken(t *testing.T) {
	m := normal()
	m.Description = strings.Repeat("ö", workflow.MaxText/2-1) + "\n\t"
	m.Stages[0].Title = strings.Repeat("x", workflow.MaxText)
	require.NoError(t, m.Validate(vocabulary()))
	m.Description += "x"
	require.ErrorContains(t, m.Validate(vocabulary()), "bad-text at model")
}

func TestNamesOfEverySizeWithinTheLimitAreTaken(t *testing.T) {
	for _, name := range []string{"a", "7", "night_shift-2 b", strings.Repeat("n", 64), "-", "_"} {
		m := normal()
		m.Name = name
		require.NoError(t, m.Validate(vocabulary()), name)
	}
}

// The rules on ways are held by brute force here, a step at a time and without the
// code that validates: on drawn models, and on such that were damaged.
func TestTheRulesOnWaysAreThoseOfABruteForceWalk(t *testing.T) {
	v := vocabulary()
	rapid.Check(t, func(t *rapid.T) {
		m := workflowtest.Models(v, "a", "b").Draw(t, "model")
		// Half of them are damaged, and then may be refused.
		if rapid.Bool().Draw(t, "damage") {
			switch rapid.IntRange(0, 3).Draw(t, "how") {
			case 0:
				i := rapid.IntRange(0, len(m.Transitions)-1).Draw(t, "removed")
				m.Transitions = slices.Delete(m.Transitions, i, i+1)
			case 1:
				one := func(label string) string { return rapid.SampledFrom(m.Phases).Draw(t, label).Name }
				m.Transitions = append(m.Transitions, workflow.Transition{From: one("from"), To: one("to"), Automatic: rapid.Bool().Draw(t, "automatic")})
			case 2:
				i := rapid.IntRange(0, len(m.Phases)-1).Draw(t, "phase")
				m.Phases[i].Stages, m.Phases[i].Table = nil, nil
			case 3:
				m.Authority = rapid.SampledFrom([]workflow.Authority{workflow.AuthorityStages, workflow.AuthorityRetrospective}).Draw(t, "authority")
				m.Retrospect = &workflow.Retrospective{AuthorizeWithin: 1, ReviewWithin: 1}
			}
		}
		got := map[string]bool{}
		var unsound *workflow.ModelError
		if err := m.Validate(v); errors.As(err, &unsound) {
			for _, f := range unsound.Faults {
				got[f.Rule] = true
			}
		}
		for rule, broken := range promises(m, v) {
			require.Equal(t, broken, got[rule], "%s: %v\n%s", rule, unsound, m)
		}
	})
}

// promises says of the rules on ways whether m breaks them, by walking a step at a
// time from every phase until nothing new is found.
func promises(m workflow.Model, v workflow.Vocabulary) map[string]bool {
	kind := map[string]workflow.Kind{}
	for _, p := range m.Phases {
		kind[p.Name] = p.Kind
	}
	in := func(name string, kinds []workflow.Kind) bool { return slices.Contains(kinds, kind[name]) }
	reach := func(from string, ways []workflow.Transition, through func(string) bool) map[string]bool {
		found := map[string]bool{from: true}
		for again := true; again; {
			again = false
			for _, w := range ways {
				if found[w.From] && !found[w.To] && through(w.From) {
					found[w.To], again = true, true
				}
			}
		}
		return found
	}
	anything := func(string) bool { return true }
	both := append(slices.Clone(m.Transitions), m.Implicit(v)...)
	first := m.Phases[0].Name
	known := reach(first, both, anything)
	var automatic []workflow.Transition
	for _, w := range m.Transitions {
		if w.Automatic {
			automatic = append(automatic, w)
		}
	}
	asks := func(name string) bool { // every assignment of true and false to the conditions
		p, _ := m.Phase(name)
		if !in(name, v.Authorize) {
			return false
		}
		for facts := range 4 {
			asked, _, _, err := p.Applies(m, func(text string) (bool, error) {
				return facts&map[string]int{"a": 1, "b": 2}[text] != 0, nil
			})
			if err != nil || len(asked) == 0 {
				return false
			}
		}
		return true
	}

	broken := map[string]bool{
		"unreachable-phase": false, "dead-end": false, "final-with-exit": false, "automatic-loop": false,
		"implement-without-authority": false, "no-review-before-close": false, "return-impossible": false,
	}
	fault := func(rule string, is bool) { broken[rule] = broken[rule] || is }
	somePlan, someAsk, someStages := false, false, false
	for _, p := range m.Phases {
		somePlan = somePlan || in(p.Name, v.Plan)
		someAsk = someAsk || known[p.Name] && asks(p.Name)
		someStages = someStages || in(p.Name, v.Authorize) && (len(p.Stages) > 0 || p.Table != nil)
		fault("unreachable-phase", !known[p.Name])
		ends := false
		for name := range reach(p.Name, m.Transitions, anything) {
			ends = ends || in(name, v.Final)
		}
		fault("dead-end", !ends)
		fault("final-with-exit", in(p.Name, v.Final) && len(m.From(p.Name)) > 0)
		for _, w := range automatic {
			fault("automatic-loop", w.From == p.Name && reach(w.To, automatic, anything)[p.Name])
		}
		switch m.Authority {
		case workflow.AuthorityStages:
			if p.Name == first || known[p.Name] && in(p.Name, v.Plan) {
				for name := range reach(p.Name, m.Transitions, func(name string) bool { return !asks(name) }) {
					fault("implement-without-authority", in(name, v.Implement))
				}
			}
		case workflow.AuthorityRetrospective:
			if in(p.Name, v.Implement) {
				for name := range reach(p.Name, m.Transitions, func(name string) bool { return !in(name, v.Review) }) {
					fault("no-review-before-close", in(name, v.Final) && kind[name] != v.Canceled)
				}
			}
			if p.Name == first || known[p.Name] && in(p.Name, v.Plan) {
				for name := range reach(p.Name, m.Transitions, func(name string) bool { return !asks(name) }) {
					fault("implement-without-authority", in(name, v.Final) && kind[name] != v.Canceled)
				}
			}
		case workflow.AuthorityElsewhere:
			fault("implement-without-authority", in(p.Name, v.Implement))
		}
	}
	fault("implement-without-authority", m.Authority == workflow.AuthorityRetrospective && !someAsk)
	fault("return-impossible", someStages && !somePlan && (m.Authority == workflow.AuthorityStages || m.Authority == workflow.AuthorityTemplate))
	return broken
}

func TestALargeModelIsValidatedInTimeLinearInItsSize(t *testing.T) {
	large := func(n int) workflow.Model {
		m := normal()
		for i := range n {
			name, before := fmt.Sprintf("step %d", i), fmt.Sprintf("step %d", i-1)
			if i == 0 {
				before = "draft"
			}
			m.Phases = append(m.Phases, workflow.Phase{Name: name, Kind: "authorize", Stages: []string{"s" + name}})
			m.Stages = append(m.Stages, workflow.Stage{Name: "s" + name, Candidates: []workflow.Candidate{{Person: "bob"}}, Rule: workflow.Rule{Counting: workflow.All}})
			m.Transitions = append(m.Transitions, workflow.Transition{From: before, To: name, Automatic: true}, workflow.Transition{From: name, To: "closed"})
		}
		return m
	}
	validate := func(n int) func() {
		m := large(n)
		return func() { require.NoError(t, m.Validate(vocabulary())) }
	}
	small, big := timing.Until(func(small, big time.Duration) bool { return big < 120*small }, validate(1_000), validate(20_000))
	require.Less(t, big, 120*small, "20 times the size took %v, after %v", big, small) // quadratic is 400 times
}
