package sqlite_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/eventstore/storetest"
	"github.com/rollforward/rollforward/internal/race"
)

// suite opens each store on a file of its own, and remembers which.
func suite() storetest.Suite {
	var paths sync.Map
	open := func(t testing.TB, path string) eventstore.Store {
		store, err := sqlite.Open(path)
		require.NoError(t, err)
		paths.Store(store, path)
		return store
	}
	return storetest.Suite{
		Open: func(t testing.TB) eventstore.Store { return open(t, filepath.Join(t.TempDir(), "events.db")) },
		Reopen: func(t testing.TB, store eventstore.Store) eventstore.Store {
			require.NoError(t, store.Close())
			path, _ := paths.Load(store)
			return open(t, path.(string))
		},
	}
}

func TestConformance(t *testing.T) { suite().Run(t) }

func TestAgreesWithTheModelAtFullSize(t *testing.T) {
	histories := 2000
	if race.Enabled { // a store takes 30 times as long to open
		histories = 100
	}
	suite().Model(t, histories)
}
