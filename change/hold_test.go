package change_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// DOMAIN 1.1: on hold approvals pending become "no longer required" and come back on
// release; their deadlines move by the time it lasted.
func TestAHoldLetsApprovalsRestAndGivesThemBack(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(due(), stage("later", change.Rule{Counting: change.First}, "zoe"))
	h.publish(m)
	c := h.raise(plain("asking"), change.Submit{})
	h.approve(bob, c.ID, "vote")
	h.clock.pass(23 * time.Hour)

	c = h.do(carol, c.ID, change.Hold{Reason: "the vendor looks at it"})
	require.Equal(t, &change.Held{By: "carol", Reason: "the vendor looks at it", At: h.clock.now}, c.Held)
	require.Equal(t, "authorize", c.Phase, "a hold is orthogonal to the phase")
	require.Equal(t, map[string]workflow.State{"vote": workflow.OnHold, "later": workflow.NotRequested}, states(c))
	h.refused("on-hold", ben, c.ID, approval(c, "vote"))
	h.clock.pass(100 * time.Hour)
	h.refused("on-hold", carol, c.ID, change.Expire{Stage: "vote"})

	c = h.do(carol, c.ID, change.Resume{Reason: "nothing found"})
	require.Nil(t, c.Held)
	a, _ := c.Approval("vote")
	require.Equal(t, workflow.Requested, a.State)
	require.Equal(t, monday.Add(124*time.Hour), a.Deadline, "an hour is left, as before")
	require.Len(t, a.Votes, 1, "what was voted stands")
	require.Equal(t, 1, a.Round)
	c = h.approve(ben, c.ID, "vote")
	require.Equal(t, workflow.Requested, states(c)["later"])
	require.Equal(t, "scheduled", h.approve(zoe, c.ID, "later").Phase)
}

// DOMAIN 1.1: the only transition out while on hold is cancel.
func TestOnHoldOnlyCancelLeadsOut(t *testing.T) {
	stop := func(h *house, c change.Change) {
		h.t.Helper()
		h.do(carol, c.ID, change.Hold{Reason: "freeze"})
		for _, cmd := range []change.Command{
			change.Submit{}, change.Advance{}, change.Start{}, change.Complete{}, change.Review{Outcome: change.Successful}, change.Close{},
			change.Revert{Reason: "x"}, change.Edit{Set: change.Content{Description: "x"}}, change.Assess{Level: "low", Why: "x"},
			change.Approve{Stage: "cab", Scope: c.Scope}, change.Reject{Stage: "cab", Reason: "x"}, change.Expire{Stage: "cab"},
			change.AddTask{Title: "x", Kind: "testing"}, change.EditTask{ID: 1, Title: "x"}, change.MoveTask{ID: 1, To: "closed"},
			change.Hold{Reason: "twice"},
		} {
			h.refused("on-hold", bob, c.ID, cmd)
		}
		h.do(bob, c.ID, change.Note{Text: "remarks are taken"}, change.Link{Incident: change.Incident{ID: "INC-1", Relation: change.Fixes}})
	}
	h := open(t, memory.New(), everybody).estate()
	task := change.AddTask{Title: "Back up", Kind: "testing"}
	for _, commands := range [][]change.Command{{task}, {task, change.Submit{}}} {
		c := h.raise(upgrade(), commands...)
		stop(h, c)
		c = h.do(carol, c.ID, change.Cancel{Reason: "not needed"})
		require.Equal(t, "canceled", c.Phase)
		require.False(t, c.Open())
		for _, state := range states(c) {
			require.Equal(t, workflow.Cancelled, state)
		}
	}
	c := h.raise(upgrade(), task, change.Submit{})
	c = h.approve(bob, c.ID, "cab")
	stop(h, c)
	h.do(carol, c.ID, change.Resume{})
	h.refused("not-on-hold", carol, c.ID, change.Resume{})
	h.do(dave, c.ID, change.Start{})
	stop(h, c)
	h.do(carol, c.ID, change.Resume{})
	c = h.do(dave, c.ID, change.Complete{})
	stop(h, c)
	h.refused("wrong-phase", carol, c.ID, change.Cancel{Reason: "after the fact"})
	h.do(carol, c.ID, change.Resume{})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful}, change.MoveTask{ID: 1, To: "closed"}, change.Close{})
	h.refused("change-ended", carol, c.ID, change.Hold{Reason: "x"})
	h.refused("change-ended", carol, c.ID, change.Resume{})
}

// DOMAIN 1.1: tasks held by hand stay held.
func TestATaskThatWaitsByHandWaitsAfterAHold(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade(), change.AddTask{Title: "Back up", Kind: "testing", Pending: true}, change.AddTask{Title: "Tell", Kind: "communication"})
	h.do(carol, c.ID, change.Hold{Reason: "freeze"})
	c = h.do(carol, c.ID, change.Resume{})
	require.Equal(t, workflow.TaskPending, c.Tasks[0].State)
	require.Equal(t, workflow.TaskOpen, c.Tasks[1].State)
}

func TestAHoldNeedsAReason(t *testing.T) {
	h := open(t, memory.New(), everybody)
	c := h.raise(plain("normal"))
	h.refused("reason-required", carol, c.ID, change.Hold{Reason: "  "})
}

// A stage that was approved is not asked for again when a hold ends, and one that an
// edit voids afterwards is.
func TestAHoldKeepsAnAuthorisation(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade(), change.Submit{})
	c = h.approve(bob, c.ID, "cab")
	h.do(carol, c.ID, change.Hold{Reason: "freeze"})
	resumed := h.do(carol, c.ID, change.Resume{})
	require.Equal(t, c.Authorized, resumed.Authorized)
	require.Equal(t, workflow.Approved, states(resumed)["cab"])
}
