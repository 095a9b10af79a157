package change_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// DOMAIN 1.2: related incidents, fixed and caused; a later incident can be attributed
// to a closed change.
func TestIncidentsAreLinkedAlsoToAChangeThatIsClosed(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.Link{Incident: change.Incident{ID: "INC-1", Relation: change.Fixes}}, change.Submit{})
	require.Equal(t, []change.Incident{{ID: "INC-1", Relation: "fixes"}}, c.Incidents)
	caused := change.Link{Incident: change.Incident{ID: "INC-2", Relation: change.Caused, Priority: 1}}
	h.refused("not-implemented", alice, c.ID, caused)
	h.approve(bob, c.ID, "cab")
	h.refused("not-implemented", alice, c.ID, caused)
	h.do(dave, c.ID, change.Start{})
	h.do(dave, c.ID, change.Link{Incident: change.Incident{ID: "INC-3", Relation: change.Caused}}) // the work itself can
	h.do(dave, c.ID, change.Complete{})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	h.do(carol, c.ID, change.Close{})
	c = h.do(alice, c.ID, caused)
	require.Equal(t, "closed", c.Phase)
	version := c.Version
	c = h.do(alice, c.ID, caused)
	require.Equal(t, version, c.Version, "said twice is said once")
	caused.Incident.Priority = 2
	c = h.do(alice, c.ID, caused)
	require.Equal(t, []change.Incident{{ID: "INC-1", Relation: "fixes"}, {ID: "INC-3", Relation: "caused"}, {ID: "INC-2", Relation: "caused", Priority: 2}}, c.Incidents,
		"what is known later takes the place of what was")
}

// What was found to have happened, or was carried out elsewhere, can have caused
// incidents too.
func TestIncidentsAreLinkedToWhatHappenedElsewhere(t *testing.T) {
	h := open(t, memory.New()).estate()
	for _, r := range []change.Raise{found(), receipt()} {
		c := h.raise(r)
		c = h.do(alice, c.ID, change.Link{Incident: change.Incident{ID: "INC-2", Relation: change.Caused}})
		require.Len(t, c.Incidents, 1)
	}
}

// closed takes a change through its life, with an outcome and the priorities of
// the incidents it caused.
func (h *house) closed(r change.Raise, outcome change.Outcome, incidents ...int) change.Change {
	h.t.Helper()
	c := h.raise(r, change.Submit{})
	h.approve(bob, c.ID, "cab")
	h.do(dave, c.ID, change.Start{})
	h.do(dave, c.ID, change.Complete{Applied: noDeltas})
	h.do(erin, c.ID, change.Review{Outcome: outcome})
	h.do(carol, c.ID, change.Close{})
	for i, priority := range incidents {
		h.do(alice, c.ID, change.Link{Incident: change.Incident{ID: "INC-" + string(rune('a'+i)), Relation: change.Caused, Priority: priority}})
	}
	return c
}

// The outcomes of closed changes, and the incidents they caused, are facts about the
// next one of the same group, model and CI.
func TestOutcomesAndIncidentsAreFactsOfTheNextChange(t *testing.T) {
	h := open(t, memory.New()).estate()
	r := upgrade()
	r.Content.Group = "dba"
	h.closed(r, change.Successful)
	h.closed(r, change.Successful, 1, 2, 2, 3, 0)
	h.closed(r, change.WithIssues)
	h.closed(r, change.Unsuccessful, 4)
	open := h.raise(r, change.Submit{}) // not closed: it has no outcome
	canceled := h.raise(r, change.Submit{})
	h.do(carol, canceled.ID, change.Cancel{Reason: "not needed"})
	other := upgrade()
	other.Content.CIs, other.Content.Deltas = []string{"shop"}, nil
	h.closed(other, change.Unsuccessful)

	c := h.raise(r, change.Submit{})
	counts := func(of string, unsuccessful int) change.History {
		return change.History{Of: of, Successful: 2, WithIssues: 1, Unsuccessful: unsuccessful, IncidentsMajor: 1, IncidentsHigh: 2, IncidentsOther: 3}
	}
	require.Equal(t, []change.History{counts("group:dba", 1), counts("model:normal", 2), counts("ci:db-01", 1)}, c.Risk.Facts.History)

	h.do(bob, open.ID, change.Approve{Stage: "cab", Scope: open.Scope})
	require.Len(t, c.Risk.Facts.History, 3, "a receipt is not altered by what comes later")
}
