//go:build unix

package sqlite_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// A connection that reads drops its cache after every commit, and the memory must not
// go back to the system and come from it again each time: that shows in how often the
// system has to supply a page of memory.
func TestACacheThatIsDroppedDoesNotGiveItsMemoryBackAtFullSize(t *testing.T) {
	path, _ := filled(t, 2_000)
	supplied := func(options ...sqlite.Option) int {
		store := open(t, path, options...)
		round := func() {
			_, err := store.Append(ctx, []eventstore.Event{event("s-0")})
			require.NoError(t, err)
			n := 0
			for _, err := range store.Read(ctx, eventstore.Query{Limit: 1_500}) {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, 1_500, n)
		}
		for range 10 {
			round()
		}
		before, rounds := faults(t), fewer(50, 5)
		for range rounds {
			round()
		}
		per := int(faults(t)-before) / rounds
		require.NoError(t, store.Close())
		return per
	}
	without, with := supplied(sqlite.WithoutReserve()), supplied()
	t.Logf("pages of memory the system supplies a round: %d, without a reserve %d", with, without)
	require.Less(t, with, without/2)
	require.Zero(t, sqlite.Reserved(), "the last store gives back what is held")
}

// faults returns how many pages of memory the system has supplied to this process.
func faults(t *testing.T) int64 {
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return int64(used.Minflt)
}
