package follow_test

import (
	"context"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// replaced is a store behind whose back another log can take the place of the
// one before, as when a server fails over to a copy that is behind.
type replaced struct {
	eventstore.Store
	now    atomic.Pointer[memory.Store]
	waited atomic.Uint64 // the position after which the log of then is waited on
}

func (s *replaced) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return s.now.Load().Read(ctx, q)
}

func (s *replaced) Head(ctx context.Context) (eventstore.Position, error) {
	return s.now.Load().Head(ctx)
}

// Wait returns when the log waited on has grown, whichever is there by then.
func (s *replaced) Wait(ctx context.Context, after eventstore.Position) error {
	log := s.now.Load()
	s.waited.Store(uint64(after))
	return log.Wait(ctx, after)
}

func TestALogThatIsReplacedByAnOlderCopyWhileItIsFollowedStopsTheFollower(t *testing.T) {
	for name, c := range map[string]struct {
		kept, more int
		lost       bool
	}{
		"the copy is behind":                      {kept: 30, more: 0, lost: true},
		"the copy has gone on elsewhere":          {kept: 30, more: 25, lost: true},
		"the copy differs in the last event":      {kept: 39, more: 1, lost: true},
		"control: it is the same and has gone on": {kept: 40, more: 5},
	} {
		t.Run(name, func(t *testing.T) {
			lived := memory.New()
			many(t, lived, 40, 1)
			var records []eventstore.Recorded
			for r, err := range lived.Read(t.Context(), eventstore.Query{}) {
				require.NoError(t, err)
				records = append(records, r)
			}
			copied := memory.New()
			_, err := copied.Restore(t.Context(), 0, records[:c.kept])
			require.NoError(t, err)
			many(t, copied, c.more, 1)

			store := &replaced{Store: lived}
			store.now.Store(lived)
			f := start(t, store, follow.Config{}, stock)
			require.NoError(t, f.WaitFor(t.Context(), 40))
			require.Eventually(t, func() bool { return store.waited.Load() == 40 }, time.Minute, time.Millisecond)
			store.now.Store(copied)
			many(t, lived, 1, 1) // ends the Wait on the log of before

			if !c.lost {
				require.NoError(t, f.WaitFor(t.Context(), 45))
				require.Equal(t, plain(t, copied, "stock"), state(t, f, copied, stock))
				return
			}
			err = f.WaitFor(t.Context(), 100)
			require.ErrorIs(t, err, eventstore.ErrRewound)
			var stopped *follow.StoppedError
			require.ErrorAs(t, err, &stopped)
		})
	}
}
