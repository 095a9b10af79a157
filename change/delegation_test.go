package change_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// delegate lets to act for person until a time.
func (h *house) delegate(person, to string, until time.Duration, actions ...string) {
	h.t.Helper()
	_, err := h.door.Delegate(h.t.Context(), command.As(person), command.Delegation{Person: person, To: to, Until: h.clock.now.Add(until), Actions: actions})
	require.NoError(h.t, err)
}

// DOMAIN 1.3: a delegate votes the seat, once.
func TestADelegateVotesTheSeatOnce(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.All}, "bob", "ben")))
	c := h.raise(plain("asking"), change.Submit{})
	h.refused("no-delegation", zoe.For("bob"), c.ID, approval(c, "vote"))
	h.delegate("bob", "zoe", time.Hour)
	c = h.approve(zoe.For("bob"), c.ID, "vote")
	a, _ := c.Approval("vote")
	require.Equal(t, workflow.Vote{Seats: []string{"person bob"}, By: "zoe", For: "bob", Approve: true, Scope: c.Scope, At: monday}, a.Votes[0])
	h.refused("already-voted", bob, c.ID, approval(c, "vote"))
	h.refused("already-voted", zoe.For("bob"), c.ID, reject("vote"))
	h.refused("not-a-candidate", zoe, c.ID, approval(c, "vote"))
	require.Equal(t, "scheduled", h.approve(ben, c.ID, "vote").Phase)
}

func TestADelegateWhoHasASeatHasTwo(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.All}, "bob", "ben")))
	h.delegate("bob", "ben", time.Hour)
	c := h.raise(plain("asking"), change.Submit{})
	c = h.approve(ben, c.ID, "vote")
	require.Equal(t, "authorize", c.Phase, "his own seat is not bob's")
	require.Equal(t, "scheduled", h.approve(ben.For("bob"), c.ID, "vote").Phase)
}

// DOMAIN 1.3: at least N distinct people, however many seats one votes.
func TestOnePersonIsOnePersonHoweverManySeatsHeVotes(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.AtLeast, N: 2}, "bob", "ben", "zoe")))
	h.delegate("bob", "ben", time.Hour)
	c := h.raise(plain("asking"), change.Submit{})
	h.approve(ben, c.ID, "vote")
	c = h.approve(ben.For("bob"), c.ID, "vote")
	require.Equal(t, "authorize", c.Phase)
	require.Equal(t, "scheduled", h.approve(zoe, c.ID, "vote").Phase)
}

func TestTheApprovalOfARequiredApproverMayComeFromHisDelegate(t *testing.T) {
	h := open(t, memory.New(), everybody)
	s := stage("vote", change.Rule{Counting: change.First}, "bob")
	s.Required = []string{"chief"}
	h.publish(asking(s))
	h.delegate("chief", "zoe", time.Hour)
	c := h.raise(plain("asking"), change.Submit{})
	require.Equal(t, "authorize", h.approve(bob, c.ID, "vote").Phase)
	require.Equal(t, "scheduled", h.approve(zoe.For("chief"), c.ID, "vote").Phase)
}

// DOMAIN 1.3: separation of duties holds through delegation too, both ways: for who
// acts, and for the person he acts for.
func TestSeparationOfDutiesHoldsThroughDelegation(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.First}, "bob", "ben")))
	h.delegate("bob", "alice", time.Hour, "change.*")
	h.delegate("alice", "zoe", time.Hour, "change.*")
	h.delegate("dave", "ben", time.Hour, "change.*")
	h.delegate("erin", "dave", time.Hour, "change.*")
	h.delegate("dave", "erin", time.Hour, "change.*")

	c := h.raise(plain("asking"), change.Submit{})
	h.refused("separation-of-duties", alice.For("bob"), c.ID, approval(c, "vote"))
	h.refused("separation-of-duties", zoe.For("alice"), c.ID, approval(c, "vote"))

	r := plain("asking")
	c, err := h.changes.Raise(t.Context(), zoe.For("alice"), r, change.Submit{})
	require.NoError(t, err)
	require.Equal(t, "alice", c.Requester)
	require.Equal(t, "zoe", c.RaisedBy)
	h.refused("separation-of-duties", alice.For("bob"), c.ID, approval(c, "vote"))
	h.delegate("bob", "zoe", time.Hour)
	h.refused("separation-of-duties", zoe.For("bob"), c.ID, approval(c, "vote"))

	c = h.approve(bob, c.ID, "vote")
	h.refused("separation-of-duties", alice.For("bob"), c.ID, change.Start{})
	c = h.do(ben.For("dave"), c.ID, change.Start{})
	require.Equal(t, []string{"ben", "dave"}, c.Acted, "both have acted")
	h.do(alice, c.ID, change.Complete{})
	h.refused("separation-of-duties", dave.For("erin"), c.ID, change.Review{Outcome: change.Successful})
	h.refused("separation-of-duties", erin.For("dave"), c.ID, change.Review{Outcome: change.Successful})
	h.refused("separation-of-duties", ben, c.ID, change.Review{Outcome: change.Successful})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
}

func TestWhoApprovedForAnotherDoesNotCarryOut(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.First}, "bob")))
	h.delegate("bob", "zoe", time.Hour)
	c := h.raise(plain("asking"), change.Submit{})
	h.approve(zoe.For("bob"), c.ID, "vote")
	h.refused("separation-of-duties", zoe, c.ID, change.Start{})
	h.refused("separation-of-duties", bob, c.ID, change.Start{})
	h.do(dave, c.ID, change.Start{})
}

func TestADelegationThatHasEndedIsNone(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.All}, "bob", "ben")))
	h.delegate("bob", "zoe", time.Hour)
	h.delegate("ben", "zoe", 2*time.Hour)
	c := h.raise(plain("asking"), change.Submit{})
	h.clock.pass(time.Hour)
	h.refused("no-delegation", zoe.For("bob"), c.ID, approval(c, "vote"))
	_, err := h.door.EndDelegation(t.Context(), ben, "ben", "zoe", "back from holiday")
	require.NoError(t, err)
	h.refused("no-delegation", zoe.For("ben"), c.ID, approval(c, "vote"))
	h.refused("no-delegation", zoe.For("ben"), c.ID, change.Start{}) // what is not delegated
}

func TestWhatADelegateDoesNamesBoth(t *testing.T) {
	h := open(t, memory.New()).estate()
	h.delegate("bob", "erin", time.Hour)
	c := h.raise(upgrade(), change.Submit{})
	c = h.do(erin.For("bob"), c.ID, change.Approve{Stage: "cab", Scope: c.Scope, Comment: "as bob would"})
	history, err := h.changes.History(t.Context(), c.ID)
	require.NoError(t, err)
	for _, e := range history {
		if e.Type == "change.voted" {
			require.Equal(t, "2026-03-02 09:00:00  erin for bob approves stage cab: as bob would", e.String())
			require.Equal(t, "erin", e.Actor)
			require.Equal(t, "bob", e.For)
		}
	}
}
