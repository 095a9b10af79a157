package workflow

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

// Ended reports whether nothing is left to do.
func (s TaskState) Ended() bool { return s == TaskClosed || s == TaskCancelled }

// CanMove reports whether a task may go from s to another state.
func (s TaskState) CanMove(to TaskState) bool { panic("stub") }
