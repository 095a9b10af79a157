package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// The control of F01: a process that acknowledges before it commits is caught.
func TestTheHarnessSeesWhatIsAcknowledgedBeforeItIsCommitted(t *testing.T) {
	k := newKills(rand.Uint64() >> 1)
	path := quickPath(t)
	for len(k.problems) == 0 && k.rounds < 200 {
		acknowledged, unheard := k.kill("append, told too early", path, 1)
		store, err := sqlite.Open(path)
		require.NoError(t, err)
		k.check(store, acknowledged, unheard)
		require.NoError(t, store.Close())
	}
	t.Logf("%v: %v", k, k.problems)
	require.NotEmpty(t, k.problems, "the harness cannot tell good from bad")
	require.Contains(t, strings.Join(k.problems, "\n"), "of an acknowledged append of")
}

// The controls of the check that F01, F02 and F39 share.
func TestTheHarnessSeesWhatIsTornForeignOrNotAsAcknowledged(t *testing.T) {
	pair := func() []eventstore.Event { return []eventstore.Event{event("a"), event("b", "x")} }
	for name, c := range map[string]struct {
		do   func(t *testing.T, store *sqlite.Store) (acknowledged, unheard []sending)
		sees string // a problem; none where empty
	}{
		"sound": {func(t *testing.T, store *sqlite.Store) (acknowledged, unheard []sending) {
			made := sending{events: pair()}
			records, err := store.Append(ctx, made.events)
			require.NoError(t, err)
			made.records = records
			kept := sending{events: pair(), expect: eventstore.At("a", 1)}
			_, err = store.Append(ctx, kept.events)
			require.NoError(t, err)
			return []sending{made}, []sending{kept, {events: pair()}}
		}, ""},
		"torn": {func(t *testing.T, store *sqlite.Store) (acknowledged, unheard []sending) {
			made := sending{events: pair()}
			_, err := store.Append(ctx, made.events[:1])
			require.NoError(t, err)
			return nil, []sending{made}
		}, "of an append of 2 events in flight 1 are there"},
		"in two appends": {func(t *testing.T, store *sqlite.Store) (acknowledged, unheard []sending) {
			made := sending{events: pair()}
			for i := range made.events {
				_, err := store.Append(ctx, made.events[i:i+1])
				require.NoError(t, err)
			}
			return nil, []sending{made}
		}, "of an append of 2 events in flight 1 are there"},
		"foreign": {func(t *testing.T, store *sqlite.Store) (acknowledged, unheard []sending) {
			_, err := store.Append(ctx, pair())
			require.NoError(t, err)
			return nil, nil
		}, "2 events are there and 0 were appended"},
		"in other bytes": {func(t *testing.T, store *sqlite.Store) (acknowledged, unheard []sending) {
			made := sending{events: pair()}
			_, err := store.Append(ctx, made.events)
			require.NoError(t, err)
			made.events[1].Data = []byte("1")
			return []sending{made}, nil
		}, "of an acknowledged append of 2 events 1 are there"},
		"at another place": {func(t *testing.T, store *sqlite.Store) (acknowledged, unheard []sending) {
			made := sending{events: pair()}
			records, err := store.Append(ctx, made.events)
			require.NoError(t, err)
			records[1].Version++
			made.records = records
			return []sending{made}, nil
		}, "is there as"},
		"under an expectation that cannot be met again": {func(t *testing.T, store *sqlite.Store) (acknowledged, unheard []sending) {
			return nil, []sending{{events: pair(), expect: eventstore.At("a", 1)}}
		}, "resend: conflict"},
	} {
		t.Run(name, func(t *testing.T) {
			path := quickPath(t)
			store := open(t, path)
			k := newKills(0)
			acknowledged, unheard := c.do(t, store)
			k.check(store, acknowledged, unheard)
			if c.sees != "" {
				require.Contains(t, fmt.Sprint(k.problems), c.sees)
				return
			}
			require.Empty(t, k.problems)
			require.Len(t, k.log, 6)
			told := sending{events: pair(), told: true}
			k.check(store, nil, []sending{told})
			require.Empty(t, k.problems)
			require.NoError(t, k.whole(path))
			mustRaw(t, path, "DELETE FROM told")
			require.ErrorContains(t, k.whole(path), "the table told has 0 rows, 1 appends went with one")
		})
	}
}
