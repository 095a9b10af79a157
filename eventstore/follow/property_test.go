package follow_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

// Whatever happens to a follower, its folds end as plain folds of the log
// without the events that were parked for them.
func TestAnyHistoryOfAFollowerEndsInTheStateOfAPlainFold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(r *rapid.T) { anyHistory(r, memory.New()) })
	}) // its pauses take no time
}

// Elsewhere the pauses are what they are. ROLLFORWARD_TEST_STORE=sqlite takes another
// store.
func TestAnyHistoryOfAFollowerEndsInTheStateOfAPlainFoldOnPostgreSQL(t *testing.T) {
	kind := storefor.Asked(t, storefor.Postgres)
	checks := flag.Lookup("rapid.checks")
	asked := checks.Value.String()
	if asked == checks.DefValue {
		few := "12"
		if race.Enabled {
			few = "4"
		}
		require.NoError(t, checks.Value.Set(few))
		defer func() { require.NoError(t, checks.Value.Set(asked)) }()
	}
	rapid.Check(t, func(r *rapid.T) {
		store, end := kind.Fresh(t)
		defer func() { require.NoError(r, end()) }()
		anyHistory(r, store)
	})
}

func anyHistory(t *rapid.T, store storefor.Store) {
	names := []string{"stock", "ledger"}
	without := map[string][]uuid.UUID{}
	config := follow.Config{SnapshotEvery: rapid.IntRange(0, 12).Draw(t, "every")}
	f := start(t, store, config, stock, ledger, shelf)
	other := start(t, store, follow.Config{}, ledger, stock) // elsewhere, never restarted
	defer func() { _, _ = f.Close(), other.Close() }()

	// settle brings both to the head, parking what stops the first.
	settle := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for {
			head, err := store.Head(ctx)
			require.NoError(t, err)
			if err = f.WaitFor(ctx, head); err == nil {
				break
			}
			var poison *follow.PoisonError
			require.ErrorAs(t, err, &poison)
			require.NoError(t, f.Park(ctx, poison.Fold, poison.Event, why))
			require.NotContains(t, without[poison.Fold], poison.Event)
			without[poison.Fold] = append(without[poison.Fold], poison.Event)
		}
		for _, follower := range []*follow.Follower{f, other} {
			head, err := store.Head(ctx)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return follower.WaitFor(ctx, head) == nil }, 10*time.Second, time.Millisecond)
			require.Equal(t, plain(t, store, "stock", without["stock"]...), state(t, follower, store, stock))
			require.Equal(t, plain(t, store, "ledger", without["ledger"]...), state(t, follower, store, ledger))
		}
		_, err := f.Verify(ctx)
		require.NoError(t, err)
	}
	t.Repeat(map[string]func(*rapid.T){
		"append": func(t *rapid.T) {
			var payloads []any
			for range rapid.IntRange(1, 5).Draw(t, "events") {
				payloads = append(payloads, Moved{fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "item")), rapid.IntRange(-3, 3).Draw(t, "by")})
			}
			if rapid.IntRange(0, 3).Draw(t, "cursed") == 0 {
				at := rapid.IntRange(0, len(payloads)).Draw(t, "at")
				payloads = slices.Insert(payloads, at, any(Cursed{rapid.SampledFrom(names).Draw(t, "fold"), rapid.Bool().Draw(t, "panic")}))
			}
			appendMoves(t, store, payloads...)
		},
		"restart": func(t *rapid.T) {
			require.NoError(t, f.Close())
			if rapid.Bool().Draw(t, "lose a snapshot") {
				require.NoError(t, store.DeleteCheckpoint(context.Background(), "fold-"+rapid.SampledFrom(names).Draw(t, "of")))
			}
			config.SnapshotEvery = rapid.IntRange(0, 12).Draw(t, "every")
			f = start(t, store, config, stock, ledger, shelf)
		},
		"snapshot": func(t *rapid.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := f.Snapshot(ctx); err != nil {
				var stopped *follow.StoppedError
				require.ErrorAs(t, err, &stopped)
			}
		},
		"an old snapshot comes back": func(t *rapid.T) {
			c, err := store.Checkpoint(context.Background(), "fold-stock")
			require.NoError(t, err)
			if c.Name == "" {
				return
			}
			settle()
			require.NoError(t, store.SaveCheckpoints(context.Background(), c))
		},
		"settle": func(*rapid.T) { settle() },
	})
	settle()
	require.Len(t, decisions(t, store), len(without["stock"])+len(without["ledger"]))
}
