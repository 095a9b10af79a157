package change_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// DOMAIN 1.2: kinds of task, and states pending, open, in progress, closed, cancelled.
func TestATaskGoesThroughItsStates(t *testing.T) {
	h := open(t, memory.New(), everybody)
	kinds := []workflow.TaskKind{"planning", "testing", "review", "communication", "documentation", "training", "policy"}
	c := h.raise(plain("normal"))
	for i, kind := range kinds {
		c = h.do(alice, c.ID, change.AddTask{Title: "do it", Kind: kind, Assignee: "dan", Group: "ops", Start: monday, End: monday.Add(time.Hour)})
		require.Equal(t, change.Task{
			ID: i + 1, Title: "do it", Kind: kind, State: workflow.TaskOpen, Assignee: "dan", Group: "ops", Start: monday, End: monday.Add(time.Hour), Phase: "draft",
		}, c.Tasks[i])
	}
	for _, to := range []workflow.TaskState{"pending", "open", "in progress", "open", "in progress", "closed"} {
		c = h.do(alice, c.ID, change.MoveTask{ID: 1, To: to, Note: "so far"})
		require.Equal(t, to, c.Tasks[0].State)
	}
	for _, to := range []workflow.TaskState{"pending", "open", "in progress", "cancelled", "closed", "", "magic"} {
		h.refused("task-state", alice, c.ID, change.MoveTask{ID: 1, To: to})
	}
	h.refused("task-state", alice, c.ID, change.EditTask{ID: 1, Title: "another"})
	h.do(alice, c.ID, change.MoveTask{ID: 2, To: "cancelled"})
	h.refused("task-state", alice, c.ID, change.MoveTask{ID: 2, To: "open"})

	c = h.do(alice, c.ID, change.AddTask{Title: "wait", Kind: "testing", Pending: true})
	require.Equal(t, workflow.TaskPending, c.Tasks[7].State)
	h.refused("task-state", alice, c.ID, change.MoveTask{ID: 8, To: "in progress"})
	c = h.do(alice, c.ID, change.EditTask{ID: 8, Title: "wait for it", Assignee: "zoe", Start: monday.Add(time.Hour)})
	require.Equal(t, "wait for it", c.Tasks[7].Title)
	require.Equal(t, "zoe", c.Tasks[7].Assignee)
	version := c.Version
	c = h.do(alice, c.ID, change.EditTask{ID: 8, Title: "wait for it"})
	require.Equal(t, version, c.Version, "an edit of nothing records nothing")
	task, ok := c.Task(8)
	require.True(t, ok)
	require.Equal(t, c.Tasks[7], task)
	for _, id := range []int{0, -1, 9} {
		_, ok = c.Task(id)
		require.False(t, ok)
		h.refused("unknown-task", alice, c.ID, change.MoveTask{ID: id, To: "open"})
		h.refused("unknown-task", alice, c.ID, change.EditTask{ID: id, Title: "x"})
	}
}

// DOMAIN 1.2: an implementation task's dates lie inside the change's window.
func TestAnImplementationTaskLiesInTheWindow(t *testing.T) {
	h := open(t, memory.New(), everybody)
	c := h.raise(plain("normal"))
	start, end := c.Window.Start, c.Window.End
	work := change.AddTask{Title: "rotate", Kind: "implementation", Start: start, End: end}
	c = h.do(alice, c.ID, work)
	early, late := work, work
	early.Start, late.End = start.Add(-time.Second), end.Add(time.Second)
	h.refused("task-outside-window", alice, c.ID, early)
	h.refused("task-outside-window", alice, c.ID, late)
	h.refused("task-outside-window", alice, c.ID, change.EditTask{ID: 1, End: end.Add(time.Hour)})
	h.refused("task-outside-window", alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(start.Add(time.Minute), end)}})
	h.refused("interval-invalid", alice, c.ID, change.AddTask{Title: "x", Kind: "implementation", Start: end, End: start})

	other := early
	other.Kind = "planning"
	h.do(alice, c.ID, other) // only the implementation is bound to the window
	h.do(alice, c.ID, change.MoveTask{ID: 1, To: "cancelled"})
	h.do(alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(start.Add(time.Minute), end)}})
	h.do(alice, c.ID, change.Edit{Clear: []string{"window"}})
	h.do(alice, c.ID, early) // without a window there is none to lie in
	h.refused("task-outside-window", alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(start, end)}})
}

func TestWorkOnAnImplementationTaskWaitsForTheStartAndIsActing(t *testing.T) {
	h := open(t, memory.New(), everybody)
	c := h.raise(plain("normal"), change.AddTask{Title: "rotate", Kind: "implementation"}, change.AddTask{Title: "restart", Kind: "implementation"}, change.Submit{})
	for _, to := range []workflow.TaskState{"in progress", "closed"} {
		h.refused("not-started", dave, c.ID, change.MoveTask{ID: 1, To: to})
	}
	h.approve(bob, c.ID, "cab")
	h.refused("not-started", dave, c.ID, change.MoveTask{ID: 1, To: "in progress"})
	h.do(dave, c.ID, change.Start{})
	h.refused("separation-of-duties", bob, c.ID, change.MoveTask{ID: 1, To: "in progress"})
	c = h.do(ben, c.ID, change.MoveTask{ID: 1, To: "in progress"})
	require.Equal(t, []string{"ben", "dave"}, c.Acted)
	h.do(dave, c.ID, change.Complete{})
	c = h.do(ben, c.ID, change.MoveTask{ID: 1, To: "closed"}, change.MoveTask{ID: 2, To: "cancelled"})
	h.refused("separation-of-duties", ben, c.ID, change.Review{Outcome: change.Successful})
	h.do(bob, c.ID, change.Review{Outcome: change.Successful})
}

// DOMAIN 1.2: a change cannot close while tasks are open.
func TestAChangeDoesNotCloseWhileTasksAreOpen(t *testing.T) {
	h := open(t, memory.New(), everybody)
	add := func(state workflow.TaskState) change.AddTask {
		return change.AddTask{Title: string(state), Kind: "testing", Pending: state == "pending"}
	}
	c := h.raise(plain("normal"), add("pending"), add("open"), add("in progress"), add("closed"), add("cancelled"),
		change.MoveTask{ID: 3, To: "in progress"}, change.MoveTask{ID: 4, To: "closed"}, change.MoveTask{ID: 5, To: "cancelled"}, change.Submit{})
	h.approve(bob, c.ID, "cab")
	h.do(dave, c.ID, change.Start{})
	h.do(dave, c.ID, change.Complete{})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	why, err := h.changes.Why(t.Context(), carol, c.ID, change.Close{})
	require.NoError(t, err)
	require.Len(t, why, 3)
	for i, state := range []string{"pending", "open", "in progress"} {
		require.Equal(t, "tasks-open", why[i].Rule)
		require.Contains(t, why[i].Reason, state)
	}
	for id := 1; id <= 3; id++ {
		h.refused("tasks-open", carol, c.ID, change.Close{})
		h.do(carol, c.ID, change.MoveTask{ID: id, To: "cancelled"})
	}
	require.False(t, h.do(carol, c.ID, change.Close{}).Open())
	h.refused("change-ended", carol, c.ID, change.AddTask{Title: "x", Kind: "testing"})
	h.refused("change-ended", carol, c.ID, change.MoveTask{ID: 1, To: "open"})
	h.refused("change-ended", carol, c.ID, change.EditTask{ID: 1, Title: "x"})
}

// DOMAIN 1.2: the review can require follow-ups, which are tasks of their own.
func TestFollowUpsOfAReviewAreTasks(t *testing.T) {
	h := open(t, memory.New(), everybody)
	c := h.raise(plain("normal"), change.Submit{})
	h.approve(bob, c.ID, "cab")
	h.do(dave, c.ID, change.Start{})
	h.do(dave, c.ID, change.Complete{})
	c = h.do(erin, c.ID, change.Review{Outcome: change.WithIssues, Notes: "ten minutes late", FollowUps: []change.FollowUp{
		{Title: "Mend the runbook", Kind: "documentation", Assignee: "dave"}, {Title: "Show the desk", Kind: "training", Group: "desk"}, {Title: "Longer windows", Kind: "policy"},
	}})
	require.Len(t, c.Tasks, 3)
	require.Equal(t, change.Task{ID: 1, Title: "Mend the runbook", Kind: "documentation", State: workflow.TaskOpen, Assignee: "dave", Phase: "review", FollowUp: true}, c.Tasks[0])
	require.Equal(t, change.WithIssues, c.Reviewed.Outcome)
	h.refused("tasks-open", carol, c.ID, change.Close{})
	for id := range c.Tasks {
		h.do(dave, c.ID, change.MoveTask{ID: id + 1, To: "closed"})
	}
	require.False(t, h.do(carol, c.ID, change.Close{}).Open())
}

func TestAPhaseOpensItsTasks(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("cab", change.Rule{Counting: change.First}, "bob"))
	m.Phases[0].Tasks = []change.TaskTemplate{{Title: "Estimate", Kind: "planning"}}
	m.Phases[3].Tasks = []change.TaskTemplate{{Title: "Do it", Kind: "implementation", Group: "ops"}, {Title: "Test it", Kind: "testing"}}
	h.publish(m)
	c := h.raise(plain("asking"))
	require.Equal(t, []change.Task{{ID: 1, Title: "Estimate", Kind: "planning", State: workflow.TaskOpen, Phase: "draft"}}, c.Tasks)
	c = h.do(alice, c.ID, change.Submit{})
	c = h.do(bob, c.ID, reject("cab"))
	require.Len(t, c.Tasks, 1, "the one that is open is not opened twice")
	c = h.do(alice, c.ID, change.MoveTask{ID: 1, To: "closed"}, change.Submit{})
	c = h.do(bob, c.ID, reject("cab"))
	require.Len(t, c.Tasks, 2, "what is planned anew is estimated anew")
	h.do(alice, c.ID, change.Submit{})
	h.approve(bob, c.ID, "cab")
	c = h.do(dave, c.ID, change.Start{})
	require.Equal(t, "ops", c.Tasks[2].Group)
	require.Equal(t, "implement", c.Tasks[3].Phase)
}

func TestAChangeHasAtMost500Tasks(t *testing.T) {
	h := open(t, memory.New(), everybody)
	var many []change.Command
	for range 500 {
		many = append(many, change.AddTask{Title: strings.Repeat("x", 10), Kind: "testing"})
	}
	c := h.raise(plain("normal"), many...)
	h.refused("too-many-tasks", alice, c.ID, change.AddTask{Title: "one more", Kind: "testing"})
}

func TestATaskIsOfOneOfTheKindsThatAreListed(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade())
	for i, kind := range change.TaskKinds() {
		c = h.do(alice, c.ID, change.AddTask{Title: "x", Kind: kind})
		require.Equal(t, kind, c.Tasks[i].Kind)
	}
	h.refused("unknown-task-kind", alice, c.ID, change.AddTask{Title: "x", Kind: "magic"})
}
