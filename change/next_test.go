package change_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// offered returns what Next offers an actor: what he can do now, and the rest with
// the first rule in the way.
func (h *house) offered(actor command.Actor, id string) (now []string, later map[string]string) {
	h.t.Helper()
	steps, err := h.changes.Next(h.t.Context(), actor, id)
	require.NoError(h.t, err)
	later = map[string]string{}
	for _, s := range steps {
		require.NotEmpty(h.t, s.Action)
		if len(s.Refused) == 0 {
			require.Empty(h.t, later, "what can be done now comes first")
			now = append(now, s.Says)
		} else {
			later[s.Says] = s.Refused[0].Rule
		}
	}
	return now, later
}

// who returns whom Next names for a step.
func (h *house) who(id, says string) []string {
	h.t.Helper()
	steps, err := h.changes.Next(h.t.Context(), alice, id)
	require.NoError(h.t, err)
	for _, s := range steps {
		if s.Says == says {
			return s.Who
		}
	}
	h.t.Fatalf("nothing says %q", says)
	return nil
}

func TestNextSaysWhatCanBeDoneByWhom(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.AddTask{Title: "Tell the desk", Kind: "communication"})
	now, later := h.offered(alice, c.ID)
	require.Equal(t, []string{"submit it", "close task 1, Tell the desk", "cancel it"}, now)
	require.Equal(t, map[string]string{"advance it": "role-required"}, later)
	require.Equal(t, []string{"alice", "carol"}, h.who(c.ID, "submit it"))
	now, later = h.offered(bob, c.ID)
	require.Empty(t, now)
	require.Equal(t, "role-required", later["submit it"])

	h.do(alice, c.ID, change.Submit{})
	now, _ = h.offered(bob, c.ID)
	require.Equal(t, []string{"approve stage cab"}, now)
	require.Equal(t, []string{"ben", "bob"}, h.who(c.ID, "approve stage cab"), "who has the right, and a seat that has not voted")
	_, later = h.offered(dave, c.ID)
	require.Equal(t, "role-required", later["approve stage cab"])
	require.Equal(t, "authorized", later["start the work"])
	now, _ = h.offered(carol, c.ID)
	require.Equal(t, []string{"take it back to planning", "close task 1, Tell the desk", "cancel it"}, now)

	h.approve(bob, c.ID, "cab")
	now, _ = h.offered(dave, c.ID)
	require.Equal(t, []string{"start the work", "close task 1, Tell the desk"}, now)
	require.Equal(t, []string{"alice", "carol", "dave"}, h.who(c.ID, "start the work"))

	h.do(dave, c.ID, change.Start{})
	now, _ = h.offered(dave, c.ID)
	require.Equal(t, []string{"complete the work", "close task 1, Tell the desk"}, now)
	h.do(dave, c.ID, change.Complete{})
	now, later = h.offered(erin, c.ID)
	require.Equal(t, []string{"review how it went"}, now)
	require.Equal(t, "reviewed", later["close it"])
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	_, later = h.offered(erin, c.ID)
	require.Equal(t, "tasks-open", later["close it"])
	h.do(dave, c.ID, change.MoveTask{ID: 1, To: "closed"})
	now, _ = h.offered(erin, c.ID)
	require.Equal(t, []string{"review how it went", "close it"}, now)
	h.do(erin, c.ID, change.Close{})
	now, later = h.offered(erin, c.ID)
	require.Empty(t, now)
	require.Empty(t, later, "what has ended goes on with nothing")
}

func TestNextOfAChangeOnHoldIsToResumeOrToCancel(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.Submit{})
	h.do(carol, c.ID, change.Hold{Reason: "freeze"})
	now, later := h.offered(carol, c.ID)
	require.Equal(t, []string{"resume it", "cancel it"}, now)
	require.Empty(t, later)
}

func TestNextOffersToEndAStageWhoseDeadlineHasPassed(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(due()))
	c := h.raise(plain("asking"), change.Submit{})
	_, later := h.offered(carol, c.ID)
	require.Equal(t, "deadline-not-passed", later["end stage vote, whose deadline has passed"])
	h.approve(bob, c.ID, "vote")
	require.Equal(t, []string{"ben"}, h.who(c.ID, "approve stage vote"), "bob has voted")
	h.clock.pass(24 * time.Hour)
	now, later := h.offered(carol, c.ID)
	require.Contains(t, now, "end stage vote, whose deadline has passed")
	require.Equal(t, "deadline-passed", later["approve stage vote"])
}

// fork opens an engine on a copy of the log.
func (h *house) fork(options ...option) *house {
	h.t.Helper()
	store := memory.New()
	records := log(h.t, h.store)
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].Append == records[0].Append {
			n++
		}
		_, err := store.Restore(h.t.Context(), records[0].Position-1, records[:n])
		require.NoError(h.t, err)
		records = records[n:]
	}
	other := open(h.t, store, options...)
	other.clock.now = h.clock.now
	return other
}

// Whatever Next offers as possible is possible, for everybody in every state that is
// reached by doing what it offers, and who it is offered to is among those it names.
func TestWhatNextOffersGoes(t *testing.T) {
	people := []command.Actor{alice, bob, carol, dave, erin}
	for _, r := range []change.Raise{upgrade(), outbreak(), found(), receipt()} {
		t.Run(r.Model, func(t *testing.T) {
			seen := map[string]bool{}
			var walk func(h *house, c change.Change)
			walk = func(h *house, c change.Change) {
				h.t = t
				state := fmt.Sprint(c.Phase, states(c), c.Authorized != nil, c.Reviewed != nil, c.Started != nil)
				if seen[state] {
					return
				}
				seen[state] = true
				for _, actor := range people {
					steps, err := h.changes.Next(t.Context(), actor, c.ID)
					require.NoError(t, err)
					for _, s := range steps {
						if len(s.Refused) > 0 {
							continue
						}
						require.Contains(t, s.Who, actor.ID, s.Says)
						other := h.fork()
						after, err := other.changes.Do(t.Context(), actor, c.ID, s.Command)
						require.NoError(t, err, "%s: %s", actor.ID, s.Says)
						walk(other, after)
					}
				}
			}
			h := open(t, memory.New()).estate()
			walk(h, h.raise(r))
			require.True(t, len(seen) > 1)
		})
	}
}

// Why says what Do would, without doing it.
func TestWhyIsEmptyWhereDoSucceedsAndRecordsNothing(t *testing.T) {
	h := open(t, memory.New()).estate()
	h.untouched(func() {
		why, err := h.changes.WhyRaise(t.Context(), alice, upgrade(), change.Submit{})
		require.NoError(t, err)
		require.Empty(t, why)
	})
	c := h.raise(upgrade(), change.Submit{})
	before := len(log(t, h.store))
	for actor, commands := range map[command.Actor][]change.Command{
		bob:   {change.Approve{Stage: "cab", Scope: c.Scope}},
		carol: {change.Hold{Reason: "x"}, change.Resume{}, change.Revert{Reason: "x"}, change.Cancel{Reason: "x"}},
		alice: {change.Edit{Set: change.Content{Window: change.Between(monday, monday.Add(time.Hour))}}},
		dave:  {change.AddTask{Title: "x", Kind: "testing"}, change.MoveTask{ID: 1, To: "closed"}},
	} {
		why, err := h.changes.Why(t.Context(), actor, c.ID, commands...)
		require.NoError(t, err)
		require.Empty(t, why)
	}
	why, err := h.changes.Why(t.Context(), dave, c.ID, change.Start{})
	require.NoError(t, err)
	require.Len(t, why, 1)
	require.Contains(t, why[0].Remedy, "ben, bob", "it says who is waited for")
	require.Len(t, log(t, h.store), before, "no refusal is recorded of what was only asked")
}
