package workflow_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/workflow"
)

func TestATaskMovesOnlyAlongItsTable(t *testing.T) {
	states := []workflow.TaskState{workflow.TaskPending, workflow.TaskOpen, workflow.TaskInProgress, workflow.TaskClosed, workflow.TaskCancelled}
	moves := map[workflow.TaskState]string{ // to pending, open, in progress, closed, cancelled
		workflow.TaskPending:    "-o--c",
		workflow.TaskOpen:       "p-icc",
		workflow.TaskInProgress: "-o-cc",
		workflow.TaskClosed:     "-----",
		workflow.TaskCancelled:  "-----",
		"lost":                  "-----",
	}
	for from, may := range moves {
		for i, to := range states {
			require.Equal(t, may[i] != '-', from.CanMove(to), "%s to %s", from, to)
		}
		require.False(t, from.CanMove("lost"))
		require.Equal(t, may == "-----" && from != "lost", from.Ended())
	}
}

func TestTheKindsOfTaskAreListed(t *testing.T) {
	kinds := workflow.TaskKinds()
	require.Len(t, kinds, 8)
	for _, kind := range []string{"planning", "implementation", "testing", "review", "communication", "documentation", "training", "policy"} { // DOMAIN 1.2
		require.Contains(t, kinds, workflow.TaskKind(kind))
	}
	kinds[0] = "mine"
	require.Equal(t, workflow.TaskPlanning, workflow.TaskKinds()[0], "a caller's list is its own")
}
