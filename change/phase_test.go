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

// DOMAIN 1.1: canceled is final, allowed from every phase before review.
func TestAChangeIsCancelledFromEveryPhaseBeforeReview(t *testing.T) {
	h := open(t, memory.New(), everybody, judging(nil)).estate()
	steps := []struct {
		phase string
		step  func(c change.Change) change.Change
	}{
		{"draft", func(c change.Change) change.Change { return c }},
		{"assess", func(c change.Change) change.Change { return h.do(alice, c.ID, change.Submit{}) }},
		{"authorize", func(c change.Change) change.Change {
			return h.do(carol, c.ID, change.Assess{Level: "low", Why: "seen often"})
		}},
		{"scheduled", func(c change.Change) change.Change { return h.approve(bob, c.ID, "cab") }},
		{"implement", func(c change.Change) change.Change { return h.do(dave, c.ID, change.Start{}) }},
		{"review", func(c change.Change) change.Change { return h.do(dave, c.ID, change.Complete{Applied: noDeltas}) }},
		{"closed", func(c change.Change) change.Change {
			return h.do(erin, c.ID, change.Review{Outcome: change.Successful}, change.Close{})
		}},
	}
	for n := range steps {
		c := h.raise(upgrade())
		for _, s := range steps[:n+1] {
			c = s.step(c)
		}
		require.Equal(t, steps[n].phase, c.Phase)
		switch c.Phase {
		case "review":
			h.refused("wrong-phase", carol, c.ID, change.Cancel{Reason: "not needed"})
			continue
		case "closed":
			h.refused("change-ended", carol, c.ID, change.Cancel{Reason: "not needed"})
			continue
		}
		h.refused("reason-required", carol, c.ID, change.Cancel{})
		from := c.Phase
		c = h.do(carol, c.ID, change.Cancel{Reason: "not needed"})
		require.Equal(t, change.KindCanceled, c.Kind)
		require.Equal(t, h.clock.now, c.Ended)
		moved := last[change.Moved](h, c.ID)
		require.Equal(t, "not needed", moved.Reason)
		require.Equal(t, from, moved.From)
		require.True(t, moved.Ends)
		for _, cmd := range []change.Command{change.Submit{}, change.Start{}, change.Revert{Reason: "x"}, change.Cancel{Reason: "x"}, change.Advance{To: "draft"}} {
			h.refused("change-ended", carol, c.ID, cmd)
		}
	}
}

// noDeltas says that nothing was applied.
var noDeltas = upgrade().Content.Deltas[:0]

// DOMAIN 1.1: revert to draft cancels pending approvals and starts them anew.
func TestARevertStartsApprovalsAnew(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("first", change.Rule{Counting: change.First}, "bob"), stage("second", change.Rule{Counting: change.First}, "ben"))
	h.publish(m)
	c := h.raise(plain("asking"), change.Submit{})
	h.approve(bob, c.ID, "first")
	h.refused("reason-required", carol, c.ID, change.Revert{})
	c = h.do(carol, c.ID, change.Revert{Reason: "another plan"})
	require.Equal(t, "draft", c.Phase)
	require.Contains(t, h.types(c.ID, 0), "stage-decided")
	decided := last[change.StageDecided](h, c.ID)
	require.Equal(t, workflow.Cancelled, decided.State)
	require.Equal(t, "second", decided.Stage)
	h.refused("wrong-phase", carol, c.ID, change.Revert{Reason: "it is planned already"})

	c = h.do(alice, c.ID, change.Submit{})
	require.Equal(t, map[string]workflow.State{"first": workflow.Requested, "second": workflow.NotRequested}, states(c), "also what was approved")
	h.approve(bob, c.ID, "first")
	c = h.approve(ben, c.ID, "second")
	require.Equal(t, "scheduled", c.Phase)
	c = h.do(carol, c.ID, change.Revert{Reason: "the window is gone"})
	require.Nil(t, c.Authorized)
	require.Equal(t, "draft", c.Phase)
	h.do(alice, c.ID, change.Submit{})
	h.approve(bob, c.ID, "first")
	h.approve(ben, c.ID, "second")
	h.do(dave, c.ID, change.Start{})
	h.refused("wrong-phase", carol, c.ID, change.Revert{Reason: "too late"})
}

// DOMAIN 1.1: each phase has a free name and a kind; verbs bind to kinds, so that a
// user's "qa" means something to the engine.
func TestUserDefinedPhasesAreAdvancedThrough(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("cab", change.Rule{Counting: change.First}, "bob"))
	m.Name = "with qa"
	m.Phases = append(m.Phases,
		change.Phase{Name: "sketch", Kind: change.KindPlan, Edits: []string{"*"}},
		change.Phase{Name: "qa", Kind: change.KindImplement, Tasks: []change.TaskTemplate{{Title: "Smoke test", Kind: "testing", Group: "qa"}}},
		change.Phase{Name: "parked", Kind: change.KindScheduled},
		change.Phase{Name: "lessons", Kind: change.KindReview})
	m.Transitions = append(m.Transitions,
		change.Transition{From: "draft", To: "sketch"}, change.Transition{From: "sketch", To: "draft"},
		change.Transition{From: "implement", To: "qa"}, change.Transition{From: "qa", To: "implement"}, change.Transition{From: "qa", To: "review"},
		change.Transition{From: "scheduled", To: "parked"}, change.Transition{From: "parked", To: "scheduled"},
		change.Transition{From: "review", To: "lessons"}, change.Transition{From: "lessons", To: "closed"})
	h.publish(m)

	c := h.raise(plain("with qa"))
	c = h.do(alice, c.ID, change.Advance{})
	require.Equal(t, "sketch", c.Phase)
	h.refused("wrong-phase", alice, c.ID, change.Submit{})
	h.refused("wrong-phase", alice, c.ID, change.Advance{To: "authorize"})
	h.refused("wrong-phase", alice, c.ID, change.Advance{To: "nowhere"})
	c = h.do(alice, c.ID, change.Advance{To: "draft"}, change.Submit{})
	h.refused("wrong-phase", carol, c.ID, change.Advance{To: "implement"})
	c = h.approve(bob, c.ID, "cab")
	c = h.do(carol, c.ID, change.Advance{To: "parked"})
	require.NotNil(t, c.Authorized)
	h.refused("wrong-phase", dave, c.ID, change.Start{})
	h.do(carol, c.ID, change.Advance{To: "scheduled"})
	c = h.do(dave, c.ID, change.Start{})
	started := c.Started
	c = h.do(dave, c.ID, change.Advance{To: "qa"})
	require.Equal(t, change.KindImplement, c.Kind)
	require.Len(t, c.Tasks, 1)
	require.Equal(t, "qa", c.Tasks[0].Group)
	c = h.do(dave, c.ID, change.Advance{To: "implement"}, change.Advance{To: "qa"})
	require.Len(t, c.Tasks, 1, "a task that is still open is not opened twice")
	require.Equal(t, started, c.Started)
	c = h.do(dave, c.ID, change.MoveTask{ID: 1, To: "closed"}, change.Advance{To: "implement"}, change.Advance{To: "qa"})
	require.Len(t, c.Tasks, 2, "a second round is tested again")
	h.do(dave, c.ID, change.MoveTask{ID: 2, To: "closed"})
	c = h.do(dave, c.ID, change.Complete{})
	require.Equal(t, "review", c.Phase)
	c = h.do(erin, c.ID, change.Advance{To: "lessons"})
	h.refused("wrong-phase", dave, c.ID, change.Start{})
	require.False(t, h.do(carol, c.ID, change.Close{}).Open())
}

func TestATransitionIsOpenWhenItsFieldsAreFilledInAndItsConditionHolds(t *testing.T) {
	h := open(t, memory.New(), everybody, evaluating(words{}))
	m := asking(stage("cab", change.Rule{Counting: change.First}, "bob"))
	m.Transitions[0].Requires = []string{"window", "plan.backout", "cost"}
	m.Transitions[0].When = "backout"
	m.Transitions[2].Guards, m.Transitions[2].When = []string{"in-window"}, "category=db"
	h.publish(m)
	c := h.raise(change.Raise{Model: "asking", Content: change.Content{Title: "x"}})
	why, err := h.changes.Why(t.Context(), alice, c.ID, change.Submit{})
	require.NoError(t, err)
	var rules []string
	for _, r := range why {
		rules = append(rules, r.Rule)
	}
	require.Equal(t, []string{"field-required", "field-required", "field-required", "condition"}, rules, "all at once")
	h.refused("condition", alice, c.ID, change.Submit{})
	h.do(alice, c.ID, change.Edit{Set: change.Content{
		Window: plain("").Content.Window, Plans: change.Plans{Backout: "restore"}, Cost: decimal("0"),
	}})
	h.do(alice, c.ID, change.Submit{})
	h.approve(bob, c.ID, "cab")

	h.refused("condition", dave, c.ID, change.Start{})
	h.do(alice, c.ID, change.Edit{Set: change.Content{Category: "db"}})
	h.refused("in-window", dave, c.ID, change.Start{})
	h.clock.pass(48*time.Hour - time.Microsecond)
	h.refused("in-window", dave, c.ID, change.Start{})
	h.clock.pass(2*time.Hour + time.Microsecond) // the end is not in it
	h.refused("in-window", dave, c.ID, change.Start{})
	h.clock.pass(-time.Microsecond)
	h.do(dave, c.ID, change.Start{})
}

func TestAWindowIsNeededWhereTheModelAsksToBeInOne(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("cab", change.Rule{Counting: change.First}, "bob"))
	m.Transitions[2].Guards = []string{"in-window"}
	h.publish(m)
	c := h.raise(change.Raise{Model: "asking", Content: change.Content{Title: "x"}}, change.Submit{})
	h.approve(bob, c.ID, "cab")
	h.refused("in-window", dave, c.ID, change.Start{})
}

func TestNothingGoesOnBeforeTheRiskIsJudgedWhereTheModelAsksForIt(t *testing.T) {
	h := open(t, memory.New(), everybody, judging(nil)).estate()
	c := h.raise(upgrade(), change.Submit{})
	require.Equal(t, "assess", c.Phase)
	require.Nil(t, c.Risk)
	require.NotNil(t, c.Impact, "the impact is computed all the same")
	h.refused("authorized", dave, c.ID, change.Start{})
	c = h.do(carol, c.ID, change.Assess{Level: "moderate", Score: decimal("12.5"), Why: "done twice before"})
	require.Equal(t, "authorize", c.Phase)
	require.Equal(t, "moderate", c.Risk.Verdict.Level)
	require.Equal(t, "12.5", c.Risk.Verdict.Score.String())
	require.Equal(t, change.Policy{ID: "by hand", Version: "1"}, c.Risk.Policy)
	require.Equal(t, 1, c.Risk.Facts.Impacted, "it names what was known")
	h.approve(bob, c.ID, "cab")
	h.do(dave, c.ID, change.Start{})
	h.refused("wrong-phase", carol, c.ID, change.Assess{Level: "high", Why: "now I see"})
}

// An automatic way is taken by whatever command makes it open, also the last task.
func TestAClosedTaskCanOpenTheWayToApprovals(t *testing.T) {
	h := open(t, memory.New(), everybody, knowing(change.People{Groups: map[string][]string{"cab": {"bob"}}}))
	m := change.Model{
		Name: "prepared", Authority: change.AuthorityStages, Duties: change.StandardDuties(),
		Stages: []change.Stage{{Name: "vote", Rule: change.Rule{Counting: change.All}, Candidates: []change.Candidate{{Group: "cab"}}}},
		Phases: []change.Phase{
			{Name: "draft", Kind: change.KindPlan, Edits: []string{"*"}},
			{Name: "prepare", Kind: change.KindAssess, Tasks: []change.TaskTemplate{{Title: "Estimate", Kind: "planning"}}},
			{Name: "authorize", Kind: change.KindAuthorize, Stages: []string{"vote"}},
			{Name: "implement", Kind: change.KindImplement}, {Name: "review", Kind: change.KindReview},
			{Name: "closed", Kind: change.KindClosed}, {Name: "canceled", Kind: change.KindCanceled},
		},
		Transitions: []change.Transition{
			{From: "draft", To: "prepare"}, {From: "prepare", To: "authorize", Automatic: true, Guards: []string{"tasks-closed"}},
			{From: "authorize", To: "implement"}, {From: "implement", To: "review"}, {From: "review", To: "closed"},
		},
	}
	h.publish(m)
	c := h.raise(plain("prepared"), change.Submit{})
	require.Equal(t, "prepare", c.Phase)
	c = h.do(alice, c.ID, change.MoveTask{ID: 1, To: "closed"})
	require.Equal(t, "authorize", c.Phase)
	a, _ := c.Approval("vote")
	require.Equal(t, []workflow.Seat{seat("group cab", "bob")}, a.Seats)
	h.refused("stages-approved", dave, c.ID, change.Start{})
	h.approve(bob, c.ID, "vote")
	c = h.do(dave, c.ID, change.Start{})
	require.NotNil(t, c.Authorized, "the authorisation is given on the way")
}

// A way that may be open or not is neither taken nor passed over in silence.
func TestAnAutomaticWayThatCannotBeJudgedRefusesTheCommand(t *testing.T) {
	h := open(t, memory.New(), everybody, evaluating(words{}))
	m := asking(stage("cab", change.Rule{Counting: change.First}, "bob"))
	m.Transitions[1].When = "!unheard of"
	h.publish(m)
	c := h.raise(plain("asking"), change.Submit{})
	h.refused("condition-failed", bob, c.ID, approval(c, "cab"))
	_, err := h.changes.Do(t.Context(), bob, c.ID, approval(c, "cab"))
	require.ErrorIs(t, err, command.ErrUnavailable)
	h.do(carol, c.ID, change.Cancel{Reason: "the model is broken"})
}

func TestAPreconditionThatFailsIsNamed(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade(), change.Submit{})
	h.approve(bob, c.ID, "cab")
	second := h.raise(upgrade(), change.Submit{})
	h.approve(bob, second.ID, "cab")
	h.do(dave, c.ID, change.Start{})
	h.do(dave, second.ID, change.Start{})
	h.do(dave, c.ID, change.Complete{})
	h.refused("precondition-failed", dave, second.ID, change.Complete{})
	h.do(dave, second.ID, change.Complete{Applied: noDeltas})

	third := upgrade()
	c = h.raise(third)
	h.refused("precondition-failed", alice, c.ID, change.Submit{})
	third.Content.Order = []change.Order{{Rule: change.MustFollow, Change: second.ID}}
	c = h.raise(third, change.Submit{}) // what comes before may make it hold
	h.approve(bob, c.ID, "cab")
	h.refused("precondition-failed", dave, c.ID, change.Start{})
}
