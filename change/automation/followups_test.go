package automation_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/eventstore/command"
)

func (h *house) followUps(alter ...func(*automation.FollowUpsConfig)) automation.FollowUpsConfig {
	c := automation.FollowUpsConfig{Changes: h.Changes, Door: h.Door}
	for _, f := range alter {
		f(&c)
	}
	return c
}

// implemented is a change that has come to its review.
func (h *house) implemented(complete change.Complete) change.Change {
	c := h.approved()
	h.clock.Advance(time.Hour)
	h.do(dave, c.ID, change.Start{})
	h.clock.Advance(time.Minute)
	return h.do(dave, c.ID, complete)
}

func tasks(c change.Change) (titles []string) {
	for _, t := range c.Tasks {
		titles = append(titles, t.Title)
	}
	return titles
}

func TestAReviewHasTheTasksFollowThatTheStandardRulesSay(t *testing.T) {
	cause, plan := "Find the cause", "Update the plan"
	for name, c := range map[string]struct {
		complete change.Complete
		review   change.Review
		want     []string
	}{
		"successful":                 {change.Complete{}, change.Review{Outcome: change.Successful}, nil},
		"with issues":                {change.Complete{}, change.Review{Outcome: change.WithIssues}, []string{"Record what was learnt"}},
		"unsuccessful":               {change.Complete{}, change.Review{Outcome: change.Unsuccessful}, []string{cause, plan}},
		"backed out":                 {change.Complete{BackedOut: true}, change.Review{Outcome: change.Successful}, []string{cause, plan}},
		"unsuccessful, backed out":   {change.Complete{BackedOut: true}, change.Review{Outcome: change.Unsuccessful}, []string{cause, plan}},
		"backed out, with issues":    {change.Complete{BackedOut: true}, change.Review{Outcome: change.WithIssues}, []string{cause, plan, "Record what was learnt"}},
		"the review asked for it":    {change.Complete{}, change.Review{Outcome: change.Unsuccessful, FollowUps: []change.FollowUp{{Title: " find the Cause", Kind: "review"}}}, []string{" find the Cause", plan}},
		"it asked for another kind":  {change.Complete{}, change.Review{Outcome: change.WithIssues, FollowUps: []change.FollowUp{{Title: "Record what was learnt", Kind: "training"}}}, []string{"Record what was learnt", "Record what was learnt"}},
		"it asked for all there was": {change.Complete{}, change.Review{Outcome: change.WithIssues, FollowUps: []change.FollowUp{{Title: "Record what was learnt", Kind: "documentation"}}}, []string{"Record what was learnt"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := estate(t)
			id := h.implemented(c.complete).ID
			h.do(erin, id, c.review)
			require.Empty(t, h.drive(automation.FollowUps(h.followUps())))
			got := h.get(id)
			require.Equal(t, c.want, tasks(got))
			for i := len(c.review.FollowUps); i < len(got.Tasks); i++ {
				require.Equal(t, "dba", got.Tasks[i].Group)
				require.True(t, !got.Tasks[i].FollowUp && got.Tasks[i].State == "open")
			}
			version := got.Version
			require.Empty(t, h.again(automation.FollowUps(h.followUps())))
			require.Equal(t, version, h.get(id).Version, "an event that comes again opens nothing")
			require.Zero(t, h.count("command.refused"))
		})
	}
}

func TestAnEmergencyHasItsDocumentationCompleted(t *testing.T) {
	h := estate(t)
	c, err := h.Changes.Raise(t.Context(), alice, change.Raise{Model: "emergency", Content: change.Content{
		Title: "Restart", Plans: change.Plans{Implementation: "restart"}, CIs: []string{"db-01"}, Window: change.Between(monday, monday.Add(time.Hour)),
	}}, change.Submit{})
	require.NoError(t, err)
	h.do(bob, c.ID, change.Approve{Stage: "emergency board", Scope: c.Scope})
	h.do(dave, c.ID, change.Start{})
	h.do(dave, c.ID, change.Complete{})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	require.Empty(t, h.drive(automation.FollowUps(h.followUps())))
	require.Equal(t, []string{"Complete the documentation"}, tasks(h.get(c.ID)))
}

func TestASecondReviewOpensOnlyWhatIsNotThere(t *testing.T) {
	h := estate(t)
	id := h.implemented(change.Complete{}).ID
	h.do(erin, id, change.Review{Outcome: change.Unsuccessful})
	require.Empty(t, h.drive(automation.FollowUps(h.followUps())))
	h.do(alice, id, change.MoveTask{ID: 1, To: "closed"})
	h.do(erin, id, change.Review{Outcome: change.Unsuccessful}, change.Review{Outcome: change.WithIssues})
	require.Empty(t, h.drive(automation.FollowUps(h.followUps())))
	require.Equal(t, []string{"Find the cause", "Update the plan", "Record what was learnt"}, tasks(h.get(id)), "a task that was done is not opened again")
}

func TestWhatWasDoneUnderOtherRulesIsDone(t *testing.T) {
	h := estate(t)
	id := h.implemented(change.Complete{}).ID
	h.do(erin, id, change.Review{Outcome: change.WithIssues})
	require.Empty(t, h.drive(automation.FollowUps(h.followUps())))
	other := func(c *automation.FollowUpsConfig) {
		c.Rules = []automation.Rule{{Tasks: []change.FollowUp{{Title: "Train somebody", Kind: "training"}}}}
	}
	require.Empty(t, h.again(automation.FollowUps(h.followUps(other))), "the event came before, and had its tasks")
	require.Equal(t, []string{"Record what was learnt"}, tasks(h.get(id)))
}

func TestTasksOfAChangeThatHasClosedAreDroppedOrMakeAFreshChange(t *testing.T) {
	for name, c := range map[string]struct {
		fresh *automation.Fresh
		model string
		cis   []string
	}{
		"dropped":    {nil, "", nil},
		"a normal":   {&automation.Fresh{Model: "normal"}, "normal", []string{"db-01"}},
		"a standard": {&automation.Fresh{Template: "patch-db"}, "standard", nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := estate(t)
			was := h.implemented(change.Complete{})
			was = h.do(erin, was.ID, change.Review{Outcome: change.Unsuccessful}, change.Close{})
			require.False(t, was.Open())
			config := h.followUps(func(f *automation.FollowUpsConfig) { f.Fresh = c.fresh })
			for range 2 {
				require.Empty(t, h.again(automation.FollowUps(config)))
			}
			require.Empty(t, h.get(was.ID).Tasks)
			if c.fresh == nil {
				require.Len(t, h.all(), 1)
				return
			}
			require.Len(t, h.all(), 2)
			fresh := h.get("CHG-000002")
			require.Equal(t, c.model, fresh.Model)
			require.Equal(t, "alice", fresh.Requester)
			require.Equal(t, automation.Actor, fresh.RaisedBy)
			require.Equal(t, "draft", fresh.Phase)
			require.Equal(t, "Follow-up of CHG-000001: Upgrade", fresh.Title)
			require.Equal(t, c.cis, fresh.CIs)
			require.Equal(t, []string{"Find the cause", "Update the plan"}, tasks(fresh))
		})
	}
}

func TestTasksThatAreRefusedAreAnErrorAndARefusalThatIsRecordedOnce(t *testing.T) {
	h := estate(t)
	id := h.implemented(change.Complete{}).ID
	h.do(erin, id, change.Review{Outcome: change.Unsuccessful})
	h.do(carol, id, change.Hold{Reason: "an inquiry"})
	for range 3 {
		failed := h.again(automation.FollowUps(h.followUps()))
		require.Len(t, failed, 1)
		require.True(t, command.By(failed[0], "on-hold"), "%v", failed)
	}
	require.Equal(t, 1, h.count("command.refused"))
	h.do(carol, id, change.Resume{})
	require.Empty(t, h.again(automation.FollowUps(h.followUps())))
	require.Len(t, h.get(id).Tasks, 2, "the key of what was refused is not used up")
}

func TestFollowUpsThatCannotBeMeantAreRefusedWhenTheyAreBuilt(t *testing.T) {
	h := estate(t)
	for name, alter := range map[string]func(*automation.FollowUpsConfig){
		"no service":        func(c *automation.FollowUpsConfig) { c.Changes = nil },
		"no door":           func(c *automation.FollowUpsConfig) { c.Door = nil },
		"a rule of nothing": func(c *automation.FollowUpsConfig) { c.Rules = []automation.Rule{{}} },
		"no title": func(c *automation.FollowUpsConfig) {
			c.Rules = []automation.Rule{{Tasks: []change.FollowUp{{Kind: "review"}}}}
		},
		"no kind": func(c *automation.FollowUpsConfig) {
			c.Rules = []automation.Rule{{Tasks: []change.FollowUp{{Title: "x"}}}}
		},
		"a kind that is none": func(c *automation.FollowUpsConfig) {
			c.Rules = []automation.Rule{{Tasks: []change.FollowUp{{Title: "x", Kind: "magic"}}}}
		},
		"implementation": func(c *automation.FollowUpsConfig) {
			c.Rules = []automation.Rule{{Tasks: []change.FollowUp{{Title: "x", Kind: "implementation"}}}}
		},
		"fresh as nothing": func(c *automation.FollowUpsConfig) { c.Fresh = &automation.Fresh{} },
	} {
		_, err := automation.FollowUps(h.followUps(alter))
		require.Error(t, err, name)
	}
	_, err := automation.FollowUps(h.followUps())
	require.NoError(t, err)
}
