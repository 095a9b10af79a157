package change_test

import (
	"testing"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// A gate of a phase holds whichever way leads there; a guard only on its way.
func TestAGateOfAPhaseHoldsOnEveryWayIntoIt(t *testing.T) {
	h := open(t, memory.New())
	m := change.Models()[0]
	m.Name = "gated"
	for i := range m.Phases {
		if m.Phases[i].Kind == change.KindScheduled {
			m.Phases[i].Gates = []string{"in-window"}
		}
	}
	if _, err := h.changes.Publish(t.Context(), carol, m); err != nil {
		t.Fatal(err)
	}
	r := change.Raise{Model: "gated", Content: change.Content{Title: "Restart"}}
	c := h.raise(r, change.Submit{})
	c = h.do(bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	if c.Phase != "authorize" {
		t.Fatalf("the automatic way passed by the gate, to %s", c.Phase)
	}
	h.refused("in-window", carol, c.ID, change.Advance{To: "scheduled"})
}
