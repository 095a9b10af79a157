// Package storefor gives tests of what stands above the store a fresh store of the kind
// that the test is for, or of the one that ROLLFORWARD_TEST_STORE names: memory, sqlite
// or postgres.
package storefor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// Variable names the kind of store on which tests run that run on any.
const Variable = "ROLLFORWARD_TEST_STORE"

// Kind is a kind of store.
type Kind string

const (
	Memory   Kind = "memory"
	SQLite   Kind = "sqlite"
	Postgres Kind = "postgres"
)

// Asked returns the kind that Variable names, or otherwise if it is not set.
func Asked(t testing.TB, otherwise Kind) Kind {
	t.Helper()
	switch kind := Kind(os.Getenv(Variable)); kind {
	case "":
		return otherwise
	case Memory, SQLite, Postgres:
		return kind
	default:
		require.FailNow(t, "no such kind of store", "%s is %s, %s or %s, not %q", Variable, Memory, SQLite, Postgres, kind)
		return ""
	}
}

// Store is what all kinds can do.
type Store interface {
	eventstore.Store
	eventstore.Checkpoints
}

// New returns an empty store that ends with the test.
func (k Kind) New(t testing.TB) Store {
	t.Helper()
	store, end := k.Fresh(t)
	t.Cleanup(func() { require.NoError(t, end()) })
	return store
}

// Fresh returns an empty store, and what closes and removes it.
func (k Kind) Fresh(t testing.TB) (store Store, end func() error) {
	t.Helper()
	if k == Memory {
		m := memory.New()
		return m, m.Close
	}
	place, remove := k.place(t)
	store, err := place.Open(context.Background()) // it may outlive the test's context by its cleanup
	require.NoError(t, err)
	return store, func() error { return errors.Join(store.Close(), remove()) }
}

// Place is where a store is, so that other processes find it: SQLite or Postgres.
type Place string

// Place returns a place where no store is yet. It ends with the test.
func (k Kind) Place(t testing.TB) Place {
	t.Helper()
	place, remove := k.place(t)
	t.Cleanup(func() { require.NoError(t, remove()) })
	return place
}

func (k Kind) place(t testing.TB) (place Place, remove func() error) {
	t.Helper()
	switch k {
	case SQLite:
		folder, err := os.MkdirTemp("", "rollforward")
		require.NoError(t, err)
		return Place("sqlite:" + filepath.Join(folder, "changes.db")), func() error { return os.RemoveAll(folder) }
	case Postgres:
		return postgresPlace(t)
	}
	require.FailNow(t, "no other process finds a store in memory")
	return "", nil
}

// Open opens the store of a place, or makes it.
func (p Place) Open(ctx context.Context) (Store, error) {
	kind, where, _ := strings.Cut(string(p), ":")
	switch Kind(kind) {
	case SQLite:
		return sqlite.Open(where)
	case Postgres:
		return openPostgres(ctx, where)
	}
	return nil, fmt.Errorf("%q is no place of a store", p)
}
