package postgres_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
	"github.com/rollforward/rollforward/internal/race"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

var schemas atomic.Int64

// fresh returns a schema name that no other test has.
func fresh() string { return fmt.Sprintf("s%d_%d", os.Getpid(), schemas.Add(1)) }

// open opens a store that is closed at the end of the test.
func open(t testing.TB, dsn string, options ...postgres.Option) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(t.Context(), dsn, options...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// forms are the two forms of a store.
var forms = []struct {
	name    string
	options []postgres.Option
}{{"fence", nil}, {"serialized", []postgres.Option{postgres.WithSerializedAppends()}}}

// both runs a test of each form.
func both(t *testing.T, test func(t *testing.T, options ...postgres.Option)) {
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) { test(t, form.options...) })
	}
}

func schemaOf(store eventstore.Store) string {
	return strings.TrimPrefix(postgres.Channel(store.(*postgres.Store)), "rollforward_")
}

// sizeOf is how much a harness does: full, less under the race detector, or what a
// variable says.
func sizeOf(t testing.TB, variable string, full, underRace int) int {
	t.Helper()
	if set := os.Getenv(variable); set != "" {
		n, err := strconv.Atoi(set)
		require.NoError(t, err, variable)
		require.Positive(t, n, variable)
		return n
	}
	if race.Enabled {
		return underRace
	}
	return full
}
