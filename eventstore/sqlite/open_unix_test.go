//go:build unix

package sqlite_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func TestAFileThatMayNotBeWrittenIsRefusedForWritingAndReadOnDemand(t *testing.T) {
	if os.Geteuid() == 0 { // whom no mode keeps from writing
		asNobody(t)
		return
	}
	path, records := filled(t, 5)
	require.NoError(t, os.Chmod(path, 0o400))
	_, err := sqlite.Open(path)
	require.ErrorIs(t, err, eventstore.ErrReadOnly)
	require.Equal(t, records, all(t, open(t, path, sqlite.ReadOnly()), eventstore.Query{}))
}

// asNobody runs the test once more as the user nobody, in a copy of the test
// binary that this user may reach.
func asNobody(t *testing.T) {
	const nobody = 65534
	dir, err := os.MkdirTemp("", "nobody")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777))
	self, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer self.Close()
	binary := filepath.Join(dir, "test")
	file, err := os.OpenFile(binary, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(file, self)
	require.NoError(t, err)
	require.NoError(t, file.Close())

	cmd := exec.Command(binary, "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
}
