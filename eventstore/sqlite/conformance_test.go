package sqlite_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/eventstore/storetest"
)

// suite opens each store on a file of its own in a folder that dir makes, and
// remembers which.
func suite(dir func(t testing.TB) string) storetest.Suite {
	var paths sync.Map
	open := func(t testing.TB, path string) eventstore.Store {
		store, err := sqlite.Open(path)
		require.NoError(t, err)
		paths.Store(store, path)
		return store
	}
	return storetest.Suite{
		Open: func(t testing.TB) eventstore.Store { return open(t, filepath.Join(dir(t), "events.db")) },
		Reopen: func(t testing.TB, store eventstore.Store) eventstore.Store {
			require.NoError(t, store.Close())
			path, _ := paths.Load(store)
			return open(t, path.(string))
		},
	}
}

func TestConformance(t *testing.T) { suite(testing.TB.TempDir).Run(t) }

func TestAgreesWithTheModelAtFullSize(t *testing.T) {
	t.Parallel()
	histories := fewer(2000, 40) // a store takes 30 times as long to open there
	// What a store answers does not hang on the disk, and thousands of files are
	// made faster in memory, where the system has a folder for it. One at a time.
	parent := quickDir(t)
	suite(func(t testing.TB) string {
		dir := filepath.Join(parent, "history")
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.Mkdir(dir, 0o700))
		return dir
	}).Model(t, histories)
}
