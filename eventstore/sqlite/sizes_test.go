package sqlite_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/race"
)

// fewer is n, or what is enough under the race detector.
func fewer(n, underRace int) int {
	if race.Enabled {
		return underRace
	}
	return n
}

// sizeOf is how much a harness does: full, less under the race detector, or what a
// variable says.
func sizeOf(t testing.TB, variable string, full, underRace int) int {
	t.Helper()
	if set := os.Getenv(variable); set != "" {
		n, err := strconv.Atoi(set)
		require.NoError(t, err, variable)
		return n
	}
	return fewer(full, underRace)
}

// quickDir is a folder in memory, where the system has one, for files of which
// nothing needs to be on a disk: what a killed process has written is there all the
// same, and much more happens in a millisecond.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "rollforward")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func quickPath(t testing.TB) string { return filepath.Join(quickDir(t), "log.db") }
