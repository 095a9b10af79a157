package change_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// outbreak is an emergency on db-01.
func outbreak() change.Raise {
	r := upgrade()
	r.Model = "emergency"
	r.Content.Window = nil
	return r
}

// DOMAIN 1.1: an emergency may start before it is authorised, and then cannot close
// without a retrospective authorisation and a review, both with deadlines.
func TestAnEmergencyStartsFirstAndIsAuthorisedAfterwards(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(outbreak(), change.Submit{})
	require.Equal(t, "authorize", c.Phase)

	c = h.do(dave, c.ID, change.Start{})
	require.Equal(t, "implement", c.Phase)
	require.Nil(t, c.Authorized)
	require.True(t, c.Started.First, "it is flagged")
	require.Equal(t, monday.Add(48*time.Hour), c.Started.AuthorizeBy, "the deadline of the authorisation is recorded")
	a, ok := c.Approval("emergency board")
	require.True(t, ok)
	require.Equal(t, workflow.Requested, a.State, "the board is still asked")

	h.clock.pass(2 * time.Hour)
	c = h.do(dave, c.ID, change.Complete{})
	require.Equal(t, monday.Add(2*time.Hour+7*24*time.Hour), c.Work.ReviewBy, "so is that of the review")
	h.refused("reviewed", carol, c.ID, change.Close{})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	h.refused("retrospective", carol, c.ID, change.Close{})

	c = h.approve(bob, c.ID, "emergency board")
	require.True(t, c.Authorized.Retrospective)
	require.Equal(t, "stages emergency board", c.Authorized.By)
	require.Equal(t, c.Scope, c.Authorized.Scope)
	c = h.do(carol, c.ID, change.Close{})
	require.False(t, c.Open())
	require.Nil(t, c.Unauthorized)
	require.Equal(t, []string{
		"raised",
		"moved", "assessed", "stage-planned", "stage-requested",
		"started", "moved",
		"implemented", "moved",
		"reviewed",
		"voted", "stage-decided", "authorized",
		"moved",
	}, h.types(c.ID, 0))
}

func TestAnEmergencyThatIsApprovedInTimeIsAsAnyOther(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(outbreak(), change.Submit{})
	c = h.approve(bob, c.ID, "emergency board")
	require.Equal(t, "scheduled", c.Phase)
	require.False(t, c.Authorized.Retrospective)
	c = h.do(dave, c.ID, change.Start{})
	require.False(t, c.Started.First)
	require.Zero(t, c.Started.AuthorizeBy)
	h.do(dave, c.ID, change.Complete{})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	require.False(t, h.do(carol, c.ID, change.Close{}).Open())
}

// DOMAIN 1.1: rejected after start it keeps its phase, is marked unauthorised, and
// needs a back-out or a named acceptance at review.
func TestAnEmergencyRejectedAfterItsStart(t *testing.T) {
	rejected := func(t *testing.T) (*house, change.Change) {
		h := open(t, memory.New()).estate()
		c := h.raise(outbreak(), change.Submit{})
		h.do(dave, c.ID, change.Start{})
		h.clock.pass(time.Hour)
		c = h.do(bob, c.ID, change.Reject{Stage: "emergency board", Reason: "not an emergency"})
		require.Equal(t, "implement", c.Phase, "it keeps its phase")
		require.Nil(t, c.Authorized)
		require.Equal(t, "emergency board", c.Unauthorized.Stage)
		require.Contains(t, c.Unauthorized.Why, "not an emergency")
		require.Equal(t, monday.Add(time.Hour), c.Unauthorized.At)
		h.refused("stage-not-open", ben, c.ID, change.Approve{Stage: "emergency board", Scope: c.Scope})
		return h, c
	}
	t.Run("cannot close as if nothing had been", func(t *testing.T) {
		h, c := rejected(t)
		h.do(dave, c.ID, change.Complete{})
		h.do(erin, c.ID, change.Review{Outcome: change.Successful})
		h.refused("unauthorized", carol, c.ID, change.Close{})
	})
	t.Run("closes backed out", func(t *testing.T) {
		h, c := rejected(t)
		c = h.do(dave, c.ID, change.Complete{BackedOut: true})
		require.Empty(t, c.Work.Applied)
		h.refused("reviewed", carol, c.ID, change.Close{})
		h.do(erin, c.ID, change.Review{Outcome: change.Unsuccessful})
		require.False(t, h.do(carol, c.ID, change.Close{}).Open())
		ci, err := h.cmdb.Get(t.Context(), "db-01")
		require.NoError(t, err)
		require.Equal(t, "15", ci.Attributes["version"])
	})
	t.Run("closes when a reviewer accepts it by name", func(t *testing.T) {
		h, c := rejected(t)
		h.do(dave, c.ID, change.Complete{})
		c = h.do(erin, c.ID, change.Review{Outcome: change.WithIssues, Accept: "the shop was down"})
		require.Equal(t, "erin", c.Reviewed.By)
		require.Equal(t, "the shop was down", c.Reviewed.Accepted)
		require.False(t, h.do(carol, c.ID, change.Close{}).Open())
	})
	t.Run("does not close when a later review takes the acceptance back", func(t *testing.T) {
		h, c := rejected(t)
		h.do(dave, c.ID, change.Complete{})
		h.do(erin, c.ID, change.Review{Outcome: change.WithIssues, Accept: "the shop was down"})
		h.do(erin, c.ID, change.Review{Outcome: change.Unsuccessful})
		h.refused("unauthorized", carol, c.ID, change.Close{})
	})
}

func TestAnEmergencyRejectedBeforeItsStartReturnsToPlanning(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(outbreak(), change.Submit{})
	c = h.do(bob, c.ID, change.Reject{Stage: "emergency board", Reason: "can wait"})
	require.Equal(t, "draft", c.Phase)
	require.Nil(t, c.Unauthorized)
	h.refused("authorized", dave, c.ID, change.Start{})
}

// What was begun without authority is not made undone by a cancellation.
func TestAnEmergencyThatStartedFirstCannotBeCancelledBeforeItIsAuthorised(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(outbreak(), change.Submit{})
	h.do(dave, c.ID, change.Start{})
	h.refused("wrong-phase", carol, c.ID, change.Cancel{Reason: "not needed"})
	c = h.approve(bob, c.ID, "emergency board")
	c = h.do(carol, c.ID, change.Cancel{Reason: "not needed"})
	require.Equal(t, "canceled", c.Phase)
}

func TestNobodyReviewsOrAcceptsWhatHeCarriedOut(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(outbreak(), change.Submit{})
	h.do(dave, c.ID, change.Start{})
	h.do(bob, c.ID, change.Reject{Stage: "emergency board", Reason: "no"})
	h.do(ben, c.ID, change.Complete{}) // who ends it carries it out as well
	for _, who := range []string{"dave", "ben"} {
		h.refused("separation-of-duties", person(who), c.ID, change.Review{Outcome: change.Successful, Accept: "fine"})
	}
	h.do(bob, c.ID, change.Review{Outcome: change.Successful, Accept: "fine"})
}

// found is a change that was found to have happened.
func found() change.Raise {
	return change.Raise{Model: "unauthorized", Content: change.Content{Title: "db-01 was restarted at night", CIs: []string{"db-01"}}}
}

// DOMAIN 1.1: unauthorized goes authorize, review, closed.
func TestAnUnauthorisedChangeThatIsApprovedGoesToReview(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(found())
	require.Equal(t, "authorize", c.Phase)
	require.NotNil(t, c.Risk, "it is judged when it is raised")
	require.Equal(t, 1, c.Impact.Count)
	c = h.approve(bob, c.ID, "owners")
	require.Equal(t, "review", c.Phase)
	require.True(t, c.Authorized.Retrospective)
	h.refused("nothing-to-accept", erin, c.ID, change.Review{Outcome: change.Successful, Accept: "fine"})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	require.False(t, h.do(carol, c.ID, change.Close{}).Open())
}

func TestAnUnauthorisedChangeThatIsRejectedNeedsAnAcceptance(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(found())
	c = h.do(bob, c.ID, change.Reject{Stage: "owners", Reason: "against the freeze"})
	require.Equal(t, "review", c.Phase, "it has happened: there is nothing to plan anew")
	require.Contains(t, c.Unauthorized.Why, "against the freeze")
	h.do(erin, c.ID, change.Review{Outcome: change.WithIssues})
	h.refused("unauthorized", carol, c.ID, change.Close{})
	h.do(erin, c.ID, change.Review{Outcome: change.WithIssues, Accept: "it stays, the team was told"})
	require.False(t, h.do(carol, c.ID, change.Close{}).Open())
}

func TestAnUnauthorisedChangeIsNeitherStartedNorRevertedNorCancelled(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(found())
	h.refused("wrong-phase", carol, c.ID, change.Revert{Reason: "plan it"})
	h.refused("wrong-phase", carol, c.ID, change.Cancel{Reason: "not needed"})
	h.refused("wrong-phase", carol, c.ID, change.Complete{})
	h.refused("wrong-phase", carol, c.ID, change.Submit{})
}

// A refusal ends the asking: what is carried out and refused is not asked about
// again in a later phase.
func TestWhatWasRefusedAfterwardsIsNotAskedAboutFurther(t *testing.T) {
	m := change.Model{
		Name: "found", Authority: change.AuthorityRetrospective, Duties: change.StandardDuties(),
		Retrospect: &change.Retrospective{AuthorizeWithin: change.Duration(time.Hour), ReviewWithin: change.Duration(time.Hour)},
		Stages:     []change.Stage{stage("first", change.Rule{Counting: change.All}, "bob"), stage("second", change.Rule{Counting: change.All}, "ben")},
		Phases: []change.Phase{
			{Name: "one", Kind: change.KindAuthorize, Stages: []string{"first"}}, {Name: "two", Kind: change.KindAuthorize, Stages: []string{"second"}},
			{Name: "review", Kind: change.KindReview}, {Name: "closed", Kind: change.KindClosed}, {Name: "canceled", Kind: change.KindCanceled},
		},
		Transitions: []change.Transition{
			{From: "one", To: "two", Automatic: true}, {From: "two", To: "review", Automatic: true}, {From: "review", To: "closed"},
		},
	}
	h := open(t, memory.New(), everybody)
	h.publish(m)
	c := h.raise(change.Raise{Model: "found", Content: change.Content{Title: "a cable was moved"}})
	c = h.do(bob, c.ID, change.Reject{Stage: "first", Reason: "no"})
	require.Equal(t, "review", c.Phase)
	_, asked := c.Approval("second")
	require.False(t, asked)
}
