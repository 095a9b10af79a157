package change

import (
	"slices"
	"time"

	"github.com/rollforward/rollforward/internal/workflow"
)

// Task is a piece of work within a change.
type Task struct {
	ID       int                `json:"id"` // from 1 within the change
	Title    string             `json:"title"`
	Kind     workflow.TaskKind  `json:"kind"`
	State    workflow.TaskState `json:"state"`
	Assignee string             `json:"assignee,omitzero"`
	Group    string             `json:"group,omitzero"`
	Start    time.Time          `json:"start,omitzero"` // planned
	End      time.Time          `json:"end,omitzero"`
	Phase    string             `json:"phase"`              // in which it came to be
	FollowUp bool               `json:"follow_up,omitzero"` // asked for by a review
}

// TaskKinds returns the kinds of task: "planning", "implementation" and so on.
func TaskKinds() []workflow.TaskKind { return workflow.TaskKinds() }

// newTask records a task that comes to be now.
func (d *decision) newTask(t Task) {
	t.ID, t.Phase = len(d.Tasks)+1, d.Phase
	if t.State == "" {
		t.State = workflow.TaskOpen
	}
	d.record(TaskAdded{t})
}

// checkTask refuses what no task can be.
func (d *decision) checkTask(t Task) {
	d.text("title", t.Title, maxTitle, true)
	d.id("assignee", t.Assignee)
	d.id("group", t.Group)
	if !slices.Contains(workflow.TaskKinds(), t.Kind) {
		d.malformed("kind", "unknown-task-kind", "there is no kind of task %q", "choose one of %v", t.Kind, workflow.TaskKinds())
	}
	if !t.Start.IsZero() && !t.End.IsZero() && t.End.Before(t.Start) {
		d.malformed("end", "interval-invalid", "the task ends at %s, before it starts at %s", "give an end after the start", stamp(t.End), stamp(t.Start))
	}
	if !t.Start.IsZero() {
		d.recordable("start", t.Start)
	}
	if !t.End.IsZero() {
		d.recordable("end", t.End)
	}
	d.inWindow(t, d.Window)
}

// inWindow refuses an implementation task outside the change's window (DOMAIN 1.2).
func (d *decision) inWindow(t Task, w *Window) {
	if w == nil || t.Kind != workflow.TaskImplementation || t.State.Ended() || !d.on("task-outside-window") {
		return
	}
	for _, at := range []time.Time{t.Start, t.End} {
		if !at.IsZero() && (at.Before(w.Start) || at.After(w.End)) {
			d.refuse("task-outside-window", "task %q is planned for %s, outside the window from %s to %s", "move the task or the window",
				t.Title, stamp(at), stamp(w.Start), stamp(w.End))
			return
		}
	}
}

func (d *decision) addTask(c AddTask) {
	t := Task{Title: c.Title, Kind: c.Kind, Assignee: c.Assignee, Group: c.Group, Start: c.Start.UTC(), End: c.End.UTC()}
	if c.Pending {
		t.State = workflow.TaskPending
	}
	d.checkTask(t)
	d.notHeld()
	d.stillOpen()
	if len(d.Tasks) >= maxTasks {
		d.refuse("too-many-tasks", "the change has %d tasks", "close the change and raise another for the rest", len(d.Tasks))
	}
	if d.clear() {
		d.newTask(t)
	}
}

func (d *decision) editTask(c EditTask) {
	t, ok := d.knownTask(c.ID)
	if !ok {
		return
	}
	before := t
	for _, f := range []struct {
		to   *string
		from string
	}{{&t.Title, c.Title}, {&t.Assignee, c.Assignee}, {&t.Group, c.Group}} {
		if f.from != "" {
			*f.to = f.from
		}
	}
	if !c.Start.IsZero() {
		t.Start = c.Start.UTC()
	}
	if !c.End.IsZero() {
		t.End = c.End.UTC()
	}
	d.checkTask(t)
	d.notHeld()
	d.stillOpen()
	d.taskNotEnded(t)
	if d.clear() && t != before {
		d.record(TaskChanged{Task: t, By: d.actor.ID, For: d.behalf()})
	}
}

func (d *decision) moveTask(c MoveTask) {
	t, ok := d.knownTask(c.ID)
	if !ok {
		return
	}
	d.text("note", c.Note, maxText, false)
	d.notHeld()
	d.stillOpen()
	if !t.State.CanMove(c.To) {
		d.refuse("task-state", "task %d is %s and cannot become %q", "see its state first", t.ID, t.State, c.To)
	}
	// Who works on an implementation task carries the change out.
	acts := t.Kind == workflow.TaskImplementation && (c.To == workflow.TaskInProgress || c.To == workflow.TaskClosed)
	if acts {
		if d.Kind != KindImplement && d.Kind != KindReview && d.on("not-started") {
			d.refuse("not-started", "the work has not started, so task %d of the implementation cannot be worked on", "start the change first", t.ID)
		}
		d.apart("implementer", d.people()...)
	}
	if !d.clear() {
		return
	}
	t.State = c.To
	d.record(TaskChanged{Task: t, By: d.actor.ID, For: d.behalf(), Note: c.Note, Acts: acts})
	d.stillVotable()
	d.auto()
}

func (d *decision) knownTask(id int) (Task, bool) {
	t, ok := d.Task(id)
	if !ok {
		d.malformed("id", "unknown-task", "the change has no task %d", "choose one of its %d tasks", id, len(d.Tasks))
	}
	return t, ok
}

func (d *decision) taskNotEnded(t Task) {
	if t.State.Ended() {
		d.refuse("task-state", "task %d is %s", "add another task", t.ID, t.State)
	}
}
