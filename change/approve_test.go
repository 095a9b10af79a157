package change_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// voting publishes a model with one stage of so many people p1, p2, ..., under a
// rule, and returns a change that asks them.
func voting(t testing.TB, rule change.Rule, people int, alter ...func(*change.Stage)) (*house, change.Change) {
	h := open(t, memory.New(), everybody)
	s := stage("vote", rule)
	for n := range people {
		s.Candidates = append(s.Candidates, change.Candidate{Person: voter(n + 1).ID})
	}
	for _, f := range alter {
		f(&s)
	}
	h.publish(asking(s))
	return h, h.raise(plain("asking"), change.Submit{})
}

// voter is the n-th person who is asked.
func voter(n int) command.Actor { return person(fmt.Sprintf("p%d", n)) }

// DOMAIN 1.3: first answer decides; all; percent N, where N <= 0 is "first" and N >=
// 100 is "all", rounded half up: 2.49 -> 2, 2.5 -> 3; at least N distinct people.
func TestHowManyApprovalsEachRuleNeeds(t *testing.T) {
	for _, c := range []struct {
		rule   change.Rule
		people int
		needs  int
	}{
		{change.Rule{Counting: change.First}, 1, 1},
		{change.Rule{Counting: change.First}, 5, 1},
		{change.Rule{Counting: change.All}, 1, 1},
		{change.Rule{Counting: change.All}, 5, 5},
		{change.Rule{Counting: change.Percent, N: -1}, 5, 1},
		{change.Rule{Counting: change.Percent, N: 0}, 5, 1},
		{change.Rule{Counting: change.Percent, N: 1}, 5, 1},    // 0.05, at least one
		{change.Rule{Counting: change.Percent, N: 83}, 3, 2},   // 2.49
		{change.Rule{Counting: change.Percent, N: 50}, 5, 3},   // 2.5
		{change.Rule{Counting: change.Percent, N: 49}, 5, 2},   // 2.45
		{change.Rule{Counting: change.Percent, N: 99}, 5, 5},   // 4.95
		{change.Rule{Counting: change.Percent, N: 100}, 5, 5},  //
		{change.Rule{Counting: change.Percent, N: 1000}, 5, 5}, //
		{change.Rule{Counting: change.AtLeast, N: 1}, 5, 1},
		{change.Rule{Counting: change.AtLeast, N: 3}, 5, 3},
	} {
		t.Run(fmt.Sprintf("%s %d of %d", c.rule.Counting, c.rule.N, c.people), func(t *testing.T) {
			h, change := voting(t, c.rule, c.people)
			for n := 1; n < c.needs; n++ {
				change = h.approve(voter(n), change.ID, "vote")
				require.Equal(t, "authorize", change.Phase, "%d approvals are not enough", n)
			}
			change = h.approve(voter(c.needs), change.ID, "vote")
			require.Equal(t, "scheduled", change.Phase)
			a, _ := change.Approval("vote")
			require.Equal(t, workflow.Approved, a.State)
			require.NotEmpty(t, a.Why)
			require.Equal(t, "stages vote", change.Authorized.By)
		})
	}
}

// DOMAIN 1.3, early refusal: as soon as accepted and waiting seats are fewer than
// needed, the stage is refused. One rejection rejects under first and all.
func TestHowManyRejectionsEachRuleBears(t *testing.T) {
	for _, c := range []struct {
		rule   change.Rule
		people int
		bears  int
	}{
		{change.Rule{Counting: change.First}, 5, 0},
		{change.Rule{Counting: change.All}, 5, 0},
		{change.Rule{Counting: change.Percent, N: 0}, 5, 0},
		{change.Rule{Counting: change.Percent, N: 50}, 5, 2},
		{change.Rule{Counting: change.Percent, N: 20}, 5, 4},
		{change.Rule{Counting: change.Percent, N: 100}, 5, 0},
		{change.Rule{Counting: change.AtLeast, N: 2}, 5, 3},
	} {
		t.Run(fmt.Sprintf("%s %d of %d", c.rule.Counting, c.rule.N, c.people), func(t *testing.T) {
			h, change := voting(t, c.rule, c.people)
			for n := 1; n <= c.bears; n++ {
				change = h.do(voter(n), change.ID, reject("vote"))
				require.Equal(t, "authorize", change.Phase, "%d rejections are borne", n)
			}
			change = h.do(voter(c.bears+1), change.ID, reject("vote"))
			require.Equal(t, "draft", change.Phase)
			require.Nil(t, change.Authorized)
			h.refused("stage-not-open", voter(c.people), change.ID, approval(change, "vote"))
		})
	}
}

func reject(stage string) change.Reject { return change.Reject{Stage: stage, Reason: "no"} }

func approval(c change.Change, stage string) change.Approve {
	return change.Approve{Stage: stage, Scope: c.Scope}
}

// DOMAIN 1.3: a required approver's approval is needed on top of the quorum.
func TestARequiredApproverIsNeededOnTopOfTheQuorum(t *testing.T) {
	required := func(s *change.Stage) { s.Required = []string{"chief"} }
	t.Run("and has a seat of his own", func(t *testing.T) {
		h, c := voting(t, change.Rule{Counting: change.AtLeast, N: 2}, 3, required)
		h.approve(voter(1), c.ID, "vote")
		c = h.approve(voter(2), c.ID, "vote")
		require.Equal(t, "authorize", c.Phase)
		a, _ := c.Approval("vote")
		require.Equal(t, []string{"chief"}, a.Tally().Missing)
		require.Equal(t, "scheduled", h.approve(person("chief"), c.ID, "vote").Phase)
	})
	t.Run("and counts for the quorum", func(t *testing.T) {
		h, c := voting(t, change.Rule{Counting: change.AtLeast, N: 2}, 3, required)
		c = h.approve(person("chief"), c.ID, "vote")
		require.Equal(t, "authorize", c.Phase)
		require.Equal(t, "scheduled", h.approve(voter(3), c.ID, "vote").Phase)
	})
	t.Run("under first too", func(t *testing.T) {
		h, c := voting(t, change.Rule{Counting: change.First}, 2, required)
		c = h.approve(voter(1), c.ID, "vote")
		require.Equal(t, "authorize", c.Phase)
		require.Equal(t, "scheduled", h.approve(person("chief"), c.ID, "vote").Phase)
	})
	t.Run("and his rejection decides", func(t *testing.T) {
		h, c := voting(t, change.Rule{Counting: change.Percent, N: 10}, 5, required)
		require.Equal(t, "draft", h.do(person("chief"), c.ID, reject("vote")).Phase)
	})
	t.Run("and where he may not vote nobody is asked", func(t *testing.T) {
		h := open(t, memory.New(), everybody)
		s := stage("vote", change.Rule{Counting: change.AtLeast, N: 1}, "p1")
		s.Required = []string{"alice"}
		h.publish(asking(s))
		c := h.raise(plain("asking"))
		h.refused("no-candidates", alice, c.ID, change.Submit{})
	})
}

func TestAVoteCountsOnceAndOnlyFromACandidate(t *testing.T) {
	h, c := voting(t, change.Rule{Counting: change.All}, 3)
	c = h.approve(voter(1), c.ID, "vote")
	h.refused("already-voted", voter(1), c.ID, approval(c, "vote"))
	h.refused("already-voted", voter(1), c.ID, reject("vote"))
	h.refused("not-a-candidate", voter(4), c.ID, approval(c, "vote"))
	h.refused("not-a-candidate", voter(4), c.ID, reject("vote"))
	h.refused("unknown-stage", voter(2), c.ID, approval(c, "other"))
	h.refused("scope-required", voter(2), c.ID, change.Approve{Stage: "vote"})
	h.refused("reason-required", voter(2), c.ID, change.Reject{Stage: "vote"})
	a, _ := c.Approval("vote")
	require.Len(t, a.Votes, 1)
	require.Equal(t, workflow.Vote{Seats: []string{"person p1"}, By: "p1", Approve: true, Scope: c.Scope, At: monday}, a.Votes[0])
}

// DOMAIN 1.3: approver is not the requester, approver is not an implementer; the
// requester may implement.
func TestWhoAsksOrCarriesOutDoesNotApprove(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.AtLeast, N: 1}, "alice", "dave", "bob", "zoe")))
	r := plain("asking")
	r.Requester, r.Content.Implementers = "zoe", []string{"dave"}
	c := h.raise(r, change.Submit{})
	a, _ := c.Approval("vote")
	require.Equal(t, []workflow.Seat{{Name: "person bob", Voters: []string{"bob"}}}, a.Seats)
	var left []string
	for _, x := range a.Excluded {
		if x.Person != "" {
			left = append(left, x.Person)
			require.NotEmpty(t, x.Why)
		}
	}
	require.Equal(t, []string{"alice", "dave", "zoe"}, left, "who is left out is recorded: who raised it, who carries it out, whose it is")
	for _, who := range left {
		h.refused("separation-of-duties", person(who), c.ID, approval(c, "vote"))
		h.refused("separation-of-duties", person(who), c.ID, reject("vote"))
	}
	h.approve(bob, c.ID, "vote")
	h.refused("separation-of-duties", bob, c.ID, change.Start{})
	h.refused("separation-of-duties", bob, c.ID, change.Edit{Set: change.Content{Implementers: []string{"bob", "dave"}}})
	h.do(alice, c.ID, change.Start{})
	h.refused("separation-of-duties", bob, c.ID, change.Complete{})
	h.do(dave, c.ID, change.Complete{})
	h.refused("separation-of-duties", alice, c.ID, change.Review{Outcome: change.Successful})
	h.do(bob, c.ID, change.Review{Outcome: change.Successful})
}

// DOMAIN 1.3: separation of duties is model data.
func TestAModelMayKeepOtherPartsApart(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("vote", change.Rule{Counting: change.First}, "alice"))
	m.Duties = []change.Duty{{Part: "implementer", Against: "requester"}}
	h.publish(m)
	c := h.raise(plain("asking"), change.Submit{})
	c = h.approve(alice, c.ID, "vote")
	h.refused("separation-of-duties", alice, c.ID, change.Start{})
	h.refused("separation-of-duties", bob, c.ID, change.Edit{Set: change.Content{Implementers: []string{"alice"}}})
	h.do(bob, c.ID, change.Start{})
	h.do(bob, c.ID, change.Complete{})
	h.do(bob, c.ID, change.Review{Outcome: change.Successful})
	r := plain("asking")
	r.Content.Implementers = []string{"alice"}
	h.refusedRaise("separation-of-duties", alice, r)
}

// A command after which a stage could not be approved by anybody any more is refused.
func TestTheLastApproverDoesNotBecomeAnImplementer(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("vote", change.Rule{Counting: change.AtLeast, N: 2}, "bob", "ben", "zoe"))
	m.Authority, m.Name = change.AuthorityRetrospective, "first"
	m.Retrospect = &change.Retrospective{AuthorizeWithin: 1, ReviewWithin: 1}
	m.Transitions = append(m.Transitions, change.Transition{From: "authorize", To: "implement"})
	h.publish(m)
	c := h.raise(plain("first"), change.Submit{})
	c = h.do(zoe, c.ID, change.Start{})
	h.refused("approval-impossible", bob, c.ID, change.Complete{})
	h.approve(ben, c.ID, "vote")
	h.refused("approval-impossible", bob, c.ID, change.Complete{})
	h.approve(bob, c.ID, "vote")
	h.do(zoe, c.ID, change.Complete{})

	c = h.raise(plain("first"), change.Submit{})
	h.do(alice, c.ID, change.Edit{Set: change.Content{Implementers: []string{"bob"}}})
	h.refused("approval-impossible", alice, c.ID, change.Edit{Set: change.Content{Implementers: []string{"bob", "ben"}}})
}

var zoe = command.As("zoe")

// Several stages of a phase run in the order of the model, or together.
func TestStagesRunInOrderOrTogether(t *testing.T) {
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("together %t", together), func(t *testing.T) {
			h := open(t, memory.New(), everybody)
			m := asking(stage("technical", change.Rule{Counting: change.First}, "bob"), stage("business", change.Rule{Counting: change.First}, "ben"))
			m.Phases[1].Together = together
			h.publish(m)
			c := h.raise(plain("asking"), change.Submit{})
			second, ok := c.Approval("business")
			require.True(t, ok, "what is to come is known")
			if !together {
				require.Equal(t, workflow.NotRequested, second.State)
				h.refused("stage-not-open", ben, c.ID, approval(c, "business"))
				c = h.approve(bob, c.ID, "technical")
				require.Equal(t, "authorize", c.Phase)
				second, _ = c.Approval("business")
				require.Equal(t, workflow.Requested, second.State)
				require.Equal(t, "scheduled", h.approve(ben, c.ID, "business").Phase)
				return
			}
			require.Equal(t, workflow.Requested, second.State)
			c = h.approve(ben, c.ID, "business")
			require.Equal(t, "authorize", c.Phase)
			c = h.approve(bob, c.ID, "technical")
			require.Equal(t, "scheduled", c.Phase)
			require.Equal(t, "stages technical, business", c.Authorized.By)
		})
	}
}

func TestTheRejectionOfOneStageEndsTheOthers(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("technical", change.Rule{Counting: change.First}, "bob"), stage("business", change.Rule{Counting: change.First}, "ben"))
	m.Phases[1].Together = true
	h.publish(m)
	c := h.raise(plain("asking"), change.Submit{})
	h.approve(ben, c.ID, "business")
	c = h.do(bob, c.ID, change.Reject{Stage: "technical", Reason: "no rollback"})
	require.Equal(t, "draft", c.Phase)
	moved := last[change.Moved](h, c.ID)
	require.Equal(t, "reject", moved.Verb)
	require.Contains(t, moved.Reason, "no rollback", "the reason goes with it")

	c = h.do(alice, c.ID, change.Submit{})
	for _, stage := range []string{"technical", "business"} {
		a, _ := c.Approval(stage)
		require.Equal(t, 2, a.Round, "all are asked anew")
		require.Equal(t, workflow.Requested, a.State)
		require.Empty(t, a.Votes)
	}
}
