package workflow

import "slices"

// TaskKind is what a task is for.
type TaskKind string

// The kinds of task.
const (
	TaskPlanning       TaskKind = "planning"
	TaskImplementation TaskKind = "implementation"
	TaskTesting        TaskKind = "testing"
	TaskReview         TaskKind = "review"
	TaskCommunication  TaskKind = "communication"
	TaskDocumentation  TaskKind = "documentation"
	TaskTraining       TaskKind = "training"
	TaskPolicy         TaskKind = "policy" // a follow-up: update of a policy
)

// TaskKinds returns all kinds of task.
func TaskKinds() []TaskKind {
	return []TaskKind{
		TaskPlanning, TaskImplementation, TaskTesting, TaskReview,
		TaskCommunication, TaskDocumentation, TaskTraining, TaskPolicy,
	}
}

// TaskState is how a task stands.
type TaskState string

// The states of a task.
const (
	TaskPending    TaskState = "pending" // waits for its turn
	TaskOpen       TaskState = "open"
	TaskInProgress TaskState = "in progress"
	TaskClosed     TaskState = "closed"
	TaskCancelled  TaskState = "cancelled"
)

// taskMoves are all moves of a task. What has ended stays as it is: work that
// turns out not to be done is a new task.
var taskMoves = [...]struct{ from, to TaskState }{
	{TaskPending, TaskOpen},
	{TaskPending, TaskCancelled},
	{TaskOpen, TaskInProgress},
	{TaskOpen, TaskClosed},
	{TaskOpen, TaskCancelled},
	{TaskOpen, TaskPending},
	{TaskInProgress, TaskOpen},
	{TaskInProgress, TaskClosed},
	{TaskInProgress, TaskCancelled},
}

// Ended reports whether nothing is left to do.
func (s TaskState) Ended() bool { return s == TaskClosed || s == TaskCancelled }

// CanMove reports whether a task may go from s to another state.
func (s TaskState) CanMove(to TaskState) bool {
	return slices.Contains(taskMoves[:], struct{ from, to TaskState }{s, to})
}
