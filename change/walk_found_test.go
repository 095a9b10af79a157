package change_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// What walks found is held here by name, beside the seeds that found it.

// An emergency that came into the work by itself was not flagged as started first, and
// what was applied had no implementer; work that ended by itself told the CMDB nothing.
func TestNoModelLetsTheWorkBeginOrEndByItself(t *testing.T) {
	for name, way := range map[string]struct {
		model    int
		from, to string
	}{
		"an emergency that begins":     {2, "authorize", "implement"},
		"what is scheduled begins":     {0, "scheduled", "implement"},
		"the work ends":                {0, "implement", "review"},
		"the work of a template ends":  {1, "implement", "review"},
		"the work of an emergency end": {2, "implement", "review"},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, memory.New())
			m := change.Models()[way.model]
			m.Name = "by itself"
			for i, t := range m.Transitions {
				if t.From == way.from && t.To == way.to {
					m.Transitions[i].Automatic = true
				}
			}
			h.untouched(func() {
				_, err := h.changes.Publish(t.Context(), carol, m)
				require.ErrorIs(t, err, command.ErrMalformed)
				require.True(t, command.By(err, "work-by-itself"), "%v", err)
			})
		})
	}
}

// A plan that went on to authorisation by itself had not been judged: a decision table
// saw no risk, and the stage for a high one was skipped.
func TestNoModelSubmitsAPlanByItself(t *testing.T) {
	h := open(t, memory.New(), judging(steady("high")), evaluating(words{})).estate()
	m := asking(stage("lead", change.Rule{Counting: change.First}, "bob"), stage("board", change.Rule{Counting: change.First}, "ben"))
	m.Stages[1].Skip, m.Phases[1].Stages = true, []string{"lead"}
	m.Phases[1].Table = &change.Table{Rows: []change.Row{{When: "risk=high", Stages: []string{"board"}}}}
	m.Transitions[0].Automatic = true
	h.untouched(func() {
		_, err := h.changes.Publish(t.Context(), carol, m)
		require.ErrorIs(t, err, command.ErrMalformed)
		require.True(t, command.By(err, "submit-by-itself"), "%v", err)
	})

	m.Transitions[0].Automatic = false
	h.publish(m)
	r := upgrade()
	r.Model = m.Name
	c := h.raise(r, change.Submit{})
	h.approve(bob, c.ID, "lead")
	h.refused("authorized", dave, c.ID, change.Start{})
}

// Within the work, one phase may follow on another by itself.
func TestAPhaseOfTheWorkMayFollowOnAnotherByItself(t *testing.T) {
	h := open(t, memory.New())
	m := change.Models()[0]
	m.Name = "two steps"
	m.Phases = append(m.Phases, change.Phase{Name: "second step", Kind: change.KindImplement})
	for i := range m.Transitions {
		if m.Transitions[i].From == "implement" {
			m.Transitions[i].From = "second step"
		}
	}
	m.Transitions = append(m.Transitions, change.Transition{From: "implement", To: "second step", Automatic: true, Guards: []string{"tasks-closed"}})
	h.publish(m)
	c := h.raise(change.Raise{Model: m.Name, Content: change.Content{Title: "Restart"}}, change.Submit{})
	h.approve(bob, c.ID, "cab")
	c = h.do(dave, c.ID, change.Start{})
	require.Equal(t, "second step", c.Phase)
	require.Equal(t, "dave", c.Started.By)
}

// Who had approved what was then refused was asked again after an edit, as if there
// were still something to decide.
func TestWhatWasRefusedIsNotAskedAboutAfterAnEdit(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := change.Models()[3]
	m.Name = "found"
	m.Stages = []change.Stage{
		stage("owners", change.Rule{Counting: change.First}, "bob"),
		stage("security", change.Rule{Counting: change.First}, "ben"),
	}
	m.Phases[0].Stages, m.Phases[0].Edits = []string{"owners", "security"}, []string{"*"}
	m.Transitions[0].Automatic = false
	h.publish(m)
	c := h.raise(change.Raise{Model: m.Name, Content: change.Content{Title: "A rule was opened"}})
	c = h.approve(bob, c.ID, "owners")
	c = h.do(ben, c.ID, change.Reject{Stage: "security", Reason: "nobody needs it"})
	require.NotNil(t, c.Unauthorized)

	before := c.Version
	c = h.do(carol, c.ID, change.Edit{Set: change.Content{Plans: change.Plans{Backout: "close it"}}})
	c = h.do(carol, c.ID, change.Assess{Level: "high", Why: "it faces the internet"})
	require.NotContains(t, h.types(c.ID, before), "stage-requested")
	require.Equal(t, "security", c.Unauthorized.Stage)

	h.do(carol, c.ID, change.Advance{})
	h.do(erin, c.ID, change.Review{Outcome: change.WithIssues, Accept: "it stays until Friday"})
	require.False(t, h.do(carol, c.ID, change.Close{}).Open())
}
