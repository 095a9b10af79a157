package rollforward_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

var olga = command.As("olga")

// withOperator gives the people of these tests somebody who keeps the engine running.
func withOperator(c *rollforward.Config) {
	people := command.Roles{"olga": {command.Operator}}
	for name, has := range roles {
		people[name] = has
	}
	c.Authorizer = people
}

// eventually waits for something of an engine's one handler.
func eventually(t testing.TB, e *rollforward.Engine, is func(h relay.Status) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return is(e.Status().Handlers[0]) }, patience, 2*time.Millisecond)
}

func TestAnOperatorDecidesOnWhatAHandlerCannotTakeWhereverItRuns(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite} {
		t.Run(string(kind), func(t *testing.T) {
			store := kind.New(t)
			runs, decides := open(t, store, withOperator), open(t, store, withOperator)
			broken := errors.New("cannot")
			var mended atomic.Bool
			got := make(chan eventstore.Recorded, 10)
			require.NoError(t, runs.Handle(relay.Handler{Name: "tell", Cases: []relay.Case{
				relay.On(func(_ context.Context, e change.Noted, env relay.Envelope) error {
					if e.Text == "bad" && !mended.Load() {
						return relay.Permanent(broken)
					}
					got <- env.Recorded
					return nil
				}),
			}}))
			c := raise(t, runs, "one")
			note := func(text string) uuid.UUID {
				_, err := runs.Changes.Do(t.Context(), alice, c.ID, change.Note{Text: text})
				require.NoError(t, err)
				var last uuid.UUID
				for r, err := range store.Read(t.Context(), eventstore.Query{Types: []string{"change.noted"}}) {
					require.NoError(t, err)
					last = r.ID
				}
				return last
			}
			ctx := t.Context()

			// It parks by itself, and somebody who may has it tried again.
			first := note("bad")
			eventually(t, runs, func(h relay.Status) bool { return len(h.Behind) == 1 && h.Behind[0].Parked })
			require.ErrorIs(t, decides.Retry(ctx, alice, "tell", first, "mended"), command.ErrDenied)
			require.ErrorIs(t, decides.Retry(ctx, olga, "tell", first, ""), command.ErrMalformed)
			require.ErrorIs(t, decides.Retry(ctx, olga, "tall", first, "mended"), rollforward.ErrNoName)
			require.ErrorIs(t, decides.Retry(ctx, olga, "tell", uuid.New(), "mended"), relay.ErrNotParked)
			require.ErrorIs(t, decides.Skip(ctx, olga, "tell", uuid.New(), "never"), rollforward.ErrNoEvent)
			require.ErrorIs(t, decides.Park(ctx, olga, "tell", uuid.New(), "never"), rollforward.ErrNoEvent)
			mended.Store(true)
			require.NoError(t, decides.Retry(ctx, olga, "tell", first, "the receiver is mended"))
			require.Equal(t, first, within(t, got).ID)

			// It is left out.
			mended.Store(false)
			second := note("bad")
			eventually(t, runs, func(h relay.Status) bool { return len(h.Behind) == 1 && h.Behind[0].Parked })
			third := note("good")
			require.ErrorIs(t, decides.Skip(ctx, carol, "tell", second, "no"), command.ErrDenied, "a change manager is no operator")
			require.NoError(t, decides.Skip(ctx, olga, "tell", second, "nobody needs it"))
			require.Equal(t, third, within(t, got).ID, "its stream goes on")

			// Parked before it comes: by an event of another stream that the log has, while nothing runs.
			require.NoError(t, runs.Close())
			_, err := decides.Changes.Do(ctx, alice, c.ID, change.Note{Text: "held back"})
			require.NoError(t, err)
			var fourth uuid.UUID
			for r, err := range store.Read(ctx, eventstore.Query{Types: []string{"change.noted"}}) {
				require.NoError(t, err)
				fourth = r.ID
			}
			require.NoError(t, decides.Park(ctx, olga, "tell", fourth, "not before Monday"))
			require.NoError(t, decides.Park(ctx, olga, "tell", fourth, "not before Monday"), "what is decided already is no error")
			require.NoError(t, decides.Handle(relay.Handler{Name: "tell", Cases: []relay.Case{
				relay.On(func(_ context.Context, _ change.Noted, env relay.Envelope) error { got <- env.Recorded; return nil }),
			}}))
			eventually(t, decides, func(h relay.Status) bool { return len(h.Behind) == 1 && h.Behind[0].Parked })
			require.Empty(t, got)
			require.NoError(t, decides.Retry(ctx, olga, "tell", fourth, "it is Monday"))
			require.Equal(t, fourth, within(t, got).ID)

			// All of it is recorded with who and why.
			var decisions []string
			for r, err := range store.Read(ctx, eventstore.Query{Streams: []string{"relay-tell"}}) {
				require.NoError(t, err)
				meta, err := eventstore.DecodeMetadata(r.Meta)
				require.NoError(t, err)
				decisions = append(decisions, r.Type+" by "+meta.Actor+" ("+meta.Command+"): "+meta.Reason)
			}
			require.Equal(t, []string{
				"relay.parked by consumer:tell (): cannot",
				"relay.retried by olga (handler.retry): the receiver is mended",
				"relay.parked by consumer:tell (): cannot",
				"relay.skipped by olga (handler.skip): nobody needs it",
				"relay.parked by olga (handler.park): not before Monday",
				"relay.retried by olga (handler.retry): it is Monday",
			}, decisions)
		})
	}
}

func TestAFoldsEventIsParkedAtTheDoor(t *testing.T) {
	store := storefor.Memory.New(t)
	e := open(t, store, withOperator)
	event := poison(t, store)
	require.Eventually(t, func() bool { return e.Status().Folds.Stopped != nil }, patience, 2*time.Millisecond)
	var p *follow.PoisonError
	require.ErrorAs(t, e.Status().Folds.Stopped, &p)
	ctx := t.Context()
	require.ErrorIs(t, e.Park(ctx, alice, p.Fold, event, "because"), command.ErrDenied)
	require.ErrorIs(t, e.Park(ctx, olga, p.Fold, event, ""), command.ErrMalformed)
	require.ErrorIs(t, e.Park(ctx, olga, p.Fold, uuid.New(), "because"), follow.ErrNotStopped)
	require.ErrorIs(t, e.Retry(ctx, olga, p.Fold, event, "because"), rollforward.ErrFold)
	require.ErrorIs(t, e.Skip(ctx, olga, p.Fold, event, "because"), rollforward.ErrFold)
	require.NoError(t, e.Park(ctx, olga, p.Fold, event, "written by a broken tool"))
	parkWherever(t, event, e)
	for r, err := range store.Read(ctx, eventstore.Query{Streams: []string{"parked-" + p.Fold}}) {
		require.NoError(t, err)
		meta, err := eventstore.DecodeMetadata(r.Meta)
		require.NoError(t, err)
		require.Equal(t, []string{"olga", "written by a broken tool", "follow.park", event.String()}, []string{meta.Actor, meta.Reason, meta.Command, meta.Causation.String()})
	}
	refused := 0
	for r, err := range store.Read(ctx, eventstore.Query{Types: []string{"command.refused"}}) {
		require.NoError(t, err)
		require.Contains(t, string(r.Data), "follow.park")
		refused++
	}
	require.Equal(t, 1, refused, "a denial is recorded as any other")
}
