package change_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// due is a stage of bob and ben that is due within a day.
func due(escalate ...change.Candidate) change.Stage {
	s := stage("vote", change.Rule{Counting: change.All}, "bob", "ben")
	s.Deadline, s.Escalate = change.Duration(24*time.Hour), escalate
	return s
}

// DOMAIN 1.3: expired counts as refused unless the model escalates.
func TestAStageThatExpiresIsRefused(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(due()))
	c := h.raise(plain("asking"), change.Submit{})
	a, _ := c.Approval("vote")
	require.Equal(t, monday, a.Asked)
	require.Equal(t, monday.Add(24*time.Hour), a.Deadline)
	h.approve(bob, c.ID, "vote")

	h.clock.pass(24*time.Hour - time.Microsecond)
	h.refused("deadline-not-passed", carol, c.ID, change.Expire{Stage: "vote"})
	h.clock.pass(time.Microsecond)
	h.refused("deadline-passed", ben, c.ID, approval(c, "vote"))
	h.refused("deadline-passed", ben, c.ID, reject("vote"))
	c = h.do(carol, c.ID, change.Expire{Stage: "vote"})
	require.Equal(t, "draft", c.Phase)
	require.Equal(t, workflow.Expired, last[change.StageDecided](h, c.ID).State)
	h.refused("stage-not-open", carol, c.ID, change.Expire{Stage: "vote"})

	c = h.do(alice, c.ID, change.Submit{})
	a, _ = c.Approval("vote")
	require.Equal(t, monday.Add(48*time.Hour), a.Deadline, "the next round has its own deadline")
}

func TestAStageThatEscalatesAsksOthersOnceMore(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(due(change.Candidate{Person: "zoe"}, change.Candidate{Person: "bob"}, change.Candidate{Person: "alice"})))
	c := h.raise(plain("asking"), change.Submit{})
	h.approve(bob, c.ID, "vote")
	h.clock.pass(25 * time.Hour)
	c = h.do(carol, c.ID, change.Expire{Stage: "vote"})
	require.Equal(t, "authorize", c.Phase)
	a, _ := c.Approval("vote")
	require.True(t, a.Escalated)
	require.Equal(t, workflow.Requested, a.State)
	require.Equal(t, []workflow.Seat{seat("person ben", "ben"), seat("person bob", "bob"), seat("person zoe", "zoe")}, a.Seats,
		"zoe comes on top; bob is there, and alice asked for the change")
	require.Equal(t, monday.Add(49*time.Hour), a.Deadline)
	require.Len(t, a.Votes, 1, "who has voted has voted")

	h.approve(zoe, c.ID, "vote")
	h.clock.pass(24 * time.Hour)
	c = h.do(carol, c.ID, change.Expire{Stage: "vote"})
	require.Equal(t, "draft", c.Phase, "it escalates once")
}

func TestAnEscalationToNobodyNewIsARefusal(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(due(change.Candidate{Person: "bob"}, change.Candidate{Person: "alice"})))
	c := h.raise(plain("asking"), change.Submit{})
	h.clock.pass(24 * time.Hour)
	require.Equal(t, "draft", h.do(carol, c.ID, change.Expire{Stage: "vote"}).Phase)
}

func TestAStageWithoutADeadlineDoesNotExpire(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.First}, "bob")))
	c := h.raise(plain("asking"), change.Submit{})
	h.clock.pass(10_000 * time.Hour)
	h.refused("deadline-not-passed", carol, c.ID, change.Expire{Stage: "vote"})
	h.refused("unknown-stage", carol, c.ID, change.Expire{Stage: "other"})
	require.Equal(t, "scheduled", h.approve(bob, c.ID, "vote").Phase)
}

func TestAnEmergencyThatExpiresAfterItsStartIsUnauthorised(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(due())
	m.Name, m.Authority = "first", change.AuthorityRetrospective
	m.Retrospect = &change.Retrospective{AuthorizeWithin: change.Duration(time.Hour), ReviewWithin: change.Duration(time.Hour)}
	m.Transitions = append(m.Transitions, change.Transition{From: "authorize", To: "implement"})
	h.publish(m)
	c := h.raise(plain("first"), change.Submit{}, change.Start{})
	h.clock.pass(24 * time.Hour)
	c = h.do(carol, c.ID, change.Expire{Stage: "vote"})
	require.Equal(t, "implement", c.Phase)
	require.Contains(t, c.Unauthorized.Why, "deadline")
}
