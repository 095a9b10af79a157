package change_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func carry(release string, deployment int, state change.CarryState) change.Carry {
	return change.Carry{Release: release, Deployment: deployment, State: state}
}

// scheduled raises a change that may be carried out.
func (h *house) scheduled() change.Change {
	h.t.Helper()
	c := h.raise(upgrade(), change.Submit{})
	return h.approve(bob, c.ID, "cab")
}

// DOMAIN 3: starting a production deployment starts the change, finishing it
// finishes it; the deltas are in the deployment's event.
func TestAReleaseCarriesAChangeOut(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.scheduled()
	h.do(dave, c.ID, carry("REL-000001", 0, change.CarryBound))
	h.refused("wrong-carry", dave, c.ID, carry("REL-000001", 1, change.CarryDelivered))
	c = h.do(dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	require.Equal(t, change.KindImplement, c.Kind)
	require.Equal(t, "dave", c.Started.By)
	h.refused("release-pending", dave, c.ID, change.Complete{})
	h.refused("deployment-running", carol, c.ID, change.Hold{Reason: "x"})
	h.refused("deployment-running", carol, c.ID, change.Cancel{Reason: "x"})

	before := c.Version
	c = h.do(dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	require.Equal(t, before, c.Version, "said twice is said once")

	h.clock.pass(time.Hour)
	c = h.do(dave, c.ID, carry("REL-000001", 1, change.CarryDelivered))
	require.Equal(t, change.KindReview, c.Kind)
	require.Equal(t, []string{"REL-000001/1"}, c.Work.Delivered)
	require.Empty(t, c.Work.Applied)
	require.False(t, c.Work.BackedOut)
	require.Equal(t, monday.Add(time.Hour), c.Work.End)
	ci, err := h.cmdb.Get(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, "15", ci.Attributes["version"], "the deployment's event says it, not the change's")

	// What was delivered may be taken back, as long as the change is not closed.
	h.refused("wrong-phase", dave, c.ID, carry("REL-000002", 0, change.CarryBound))
	h.do(dave, c.ID, carry("REL-000001", 2, change.CarryRunning))
	h.refused("deployment-running", carol, c.ID, change.Hold{Reason: "x"})
	h.do(erin, c.ID, change.Review{Outcome: change.Unsuccessful})
	h.refused("deployment-running", carol, c.ID, change.Close{})
	h.do(dave, c.ID, carry("REL-000001", 2, change.CarryPaused))
	h.do(carol, c.ID, change.Hold{Reason: "x"})
	h.refused("on-hold", dave, c.ID, carry("REL-000001", 2, change.CarryRunning))
	h.do(carol, c.ID, change.Resume{})
	h.do(dave, c.ID, carry("REL-000001", 2, change.CarryRunning))
	c = h.do(dave, c.ID, carry("REL-000001", 2, change.CarryBackedOut))
	require.Equal(t, change.KindReview, c.Kind, "what is rolled back later is seen by the review")
	require.False(t, c.Work.BackedOut, "when the work ended it was in place")
	require.Equal(t, change.CarryBackedOut, c.Releases[0].State)
}

// One change for several releases: it has ended when the last of them has.
func TestAChangeEndsWithTheLastReleaseThatCarriesIt(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.scheduled()
	h.do(dave, c.ID, carry("REL-000001", 0, change.CarryBound), carry("REL-000002", 0, change.CarryBound), carry("REL-000003", 0, change.CarryBound))
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	c = h.do(dave, c.ID, carry("REL-000002", 1, change.CarryRunning))
	require.Len(t, h.recorded(c.ID, 0), int(c.Version))
	c = h.do(dave, c.ID, carry("REL-000001", 1, change.CarryDelivered))
	require.Equal(t, change.KindImplement, c.Kind)
	c = h.do(dave, c.ID, carry("REL-000002", 1, change.CarryFailed))
	c = h.do(dave, c.ID, carry("REL-000002", 2, change.CarryBackedOut))
	require.Equal(t, change.KindImplement, c.Kind, "the third has not begun")
	c = h.do(dave, c.ID, carry("REL-000003", 0, change.CarryUnbound))
	require.Equal(t, change.KindReview, c.Kind)
	require.Equal(t, []string{"REL-000001/1", "REL-000002/2"}, c.Work.Delivered)
	require.False(t, c.Work.BackedOut, "a part of it stays")
}

func TestWhatIsBackedOutByEveryReleaseIsBackedOut(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.scheduled()
	h.do(dave, c.ID, carry("REL-000001", 0, change.CarryBound))
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryPaused))
	h.do(carol, c.ID, change.Hold{Reason: "the vendor looks at it"})
	h.refused("on-hold", dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	h.do(carol, c.ID, change.Resume{})
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	c = h.do(dave, c.ID, carry("REL-000001", 2, change.CarryBackedOut))
	require.True(t, c.Work.BackedOut)
	require.Equal(t, change.KindReview, c.Kind)
	h.refused("wrong-phase", dave, c.ID, carry("REL-000002", 0, change.CarryBound))
}

// The work begins under the same rules as by hand.
func TestAReleaseStartsNothingThatIsNotAuthorised(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade(), change.Submit{})
	h.do(dave, c.ID, carry("REL-000001", 0, change.CarryBound))
	h.refused("authorized", dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	h.approve(bob, c.ID, "cab")
	h.refused("separation-of-duties", bob, c.ID, carry("REL-000001", 1, change.CarryRunning))
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	h.refused("separation-of-duties", bob, c.ID, carry("REL-000001", 1, change.CarryPaused), carry("REL-000001", 1, change.CarryRunning))
	h.refused("unknown-state", dave, c.ID, carry("REL-000001", 1, "soon"))
	h.refused("unknown-deployment", dave, c.ID, carry("REL-000001", 0, change.CarryPaused))
	h.refused("unknown-deployment", dave, c.ID, carry("REL-000001", -1, change.CarryBound))
	h.refused("release-required", dave, c.ID, carry("", 1, change.CarryBound))

	registered := h.raise(change.Raise{Model: "registered", Content: change.Content{Title: "The vendor patched it"}})
	h.refused("wrong-phase", dave, registered.ID, carry("REL-000001", 0, change.CarryBound))
}

// Commands of changes run in another room's unit of work, all or none.
func TestCommandsRunWithinAnotherRoomsUnitOfWork(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	first, second := h.scheduled(), h.raise(upgrade())
	call := command.Call{Actor: dave, Action: "release.deploy"}
	run := func(tx *command.Tx) error {
		if err := tx.Authorize("release.deploy", "", nil); err != nil {
			return err
		}
		c, err := h.changes.Load(tx, first.ID)
		require.NoError(t, err)
		require.Equal(t, first.Phase, c.Phase)
		if _, err := h.changes.In(tx, first.ID, change.Start{}); err != nil {
			return err
		}
		emergent, err := h.changes.RaiseIn(tx, change.Raise{Content: change.Content{Title: "The index too", CIs: []string{"db-01"}}}, change.Submit{})
		if err != nil {
			return err
		}
		require.Equal(t, "CHG-000003", emergent.ID)
		_, err = h.changes.In(tx, second.ID, change.Start{})
		return err
	}
	h.untouched(func() {
		_, err := h.door.Do(t.Context(), call, run)
		require.True(t, command.By(err, "authorized"), "%v", err)
	})
	h.do(alice, second.ID, change.Submit{})
	h.approve(bob, second.ID, "cab")
	done, err := h.door.Do(t.Context(), call, run)
	require.NoError(t, err)
	require.NoError(t, h.follow.WaitFor(t.Context(), done.Position))
	for _, id := range []string{first.ID, second.ID} {
		c, err := h.changes.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, change.KindImplement, c.Kind)
	}
	_, err = h.changes.Get(t.Context(), "CHG-000003")
	require.NoError(t, err)
}

func TestAReleaseThatStandsInAChangeIsListedAndTagged(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.scheduled()
	h.do(dave, c.ID, carry("REL-000007", 0, change.CarryBound))
	c = h.do(dave, c.ID, carry("REL-000007", 3, change.CarryRunning))
	require.Equal(t, []change.Carried{{Release: "REL-000007", Deployment: 3, State: change.CarryRunning, By: "dave", At: monday}}, c.Releases)
	history, err := h.changes.History(t.Context(), c.ID)
	require.NoError(t, err)
	var says []string
	for _, e := range history[len(history)-4:] {
		says = append(says, e.Says)
	}
	require.Equal(t, []string{"binds it to REL-000007", "starts the work", "it goes from scheduled to implement", "deploys it with REL-000007"}, says)
}
