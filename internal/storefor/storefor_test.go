package storefor_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storefor.Tests{M: m}) }

func record(t *testing.T, store eventstore.Store) {
	e := eventstore.Event{ID: uuid.New(), Stream: "book-1", Type: "book.added", Schema: 1, Data: []byte(`{}`), Meta: []byte(`{}`)}
	_, err := store.Append(t.Context(), []eventstore.Event{e}, eventstore.At("book-1", 0))
	require.NoError(t, err)
}

func TestEveryKindGivesStoresThatAreEmptyAndApart(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite, storefor.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			for range 2 {
				record(t, kind.New(t)) // at version 0
			}
		})
	}
}

func TestAPlaceIsFoundAgain(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.SQLite, storefor.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			place := kind.Place(t)
			store, err := place.Open(t.Context())
			require.NoError(t, err)
			record(t, store)
			require.NoError(t, store.Close())

			store, err = place.Open(t.Context())
			require.NoError(t, err)
			head, err := store.Head(t.Context())
			require.NoError(t, err)
			require.NotZero(t, head)
			require.NoError(t, store.Close())
		})
	}
}

func TestTheKindThatIsAskedForIsTaken(t *testing.T) {
	t.Setenv(storefor.Variable, "")
	require.Equal(t, storefor.SQLite, storefor.Asked(t, storefor.SQLite))
	t.Setenv(storefor.Variable, "postgres")
	require.Equal(t, storefor.Postgres, storefor.Asked(t, storefor.SQLite))

	t.Setenv(storefor.Variable, "oracle")
	said := &failing{TB: t}
	require.Panics(t, func() { storefor.Asked(said, storefor.SQLite) })
	require.True(t, said.failed)
}

// failing is a test that fails by panic.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Errorf(string, ...any) { f.failed = true }
func (f *failing) FailNow()              { panic("failed") }
