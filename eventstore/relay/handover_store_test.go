//go:build unix

package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// cutsVariable sets how often all connections of a consumer are cut; 40 if not set, 5
// under the race detector.
const cutsVariable = "ROLLFORWARD_RELAY_CUTS"

const (
	longestCut = 800 * time.Millisecond
	mostCuts   = 300 // where what is waited for does not come
	haste      = 200 * time.Millisecond
)

// hasty is a store that has little patience. That of PostgreSQL has so much that a
// consumer hears of few connections that break.
type hasty struct{ storefor.Store }

func (s hasty) Version(ctx context.Context, stream string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, haste)
	defer cancel()
	return s.Store.Version(ctx, stream)
}

func (s hasty) Head(ctx context.Context) (eventstore.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, haste)
	defer cancel()
	return s.Store.Head(ctx)
}

func (s hasty) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	ctx, cancel := context.WithTimeout(ctx, haste)
	defer cancel()
	return s.Store.SaveCheckpoints(ctx, checkpoints...)
}

// cutting cuts the connections of a consumer that holds its lease, while events are
// recorded: so often, and on until it has failed in handlers and as a whole. With hide
// its handler hides that it failed, and the consumer itself has patience. It returns how it stands then, how
// often it was cut, how many connections that ended, and what is in the log. A lease
// would lapse after an hour only.
func cutting(t *testing.T, cuts int, seed uint64, hide bool) (now relay.Status, cut, ended int, f finding) {
	ctx := t.Context()
	place := storefor.Postgres.Place(t)
	schema, dsn, _ := strings.Cut(strings.TrimPrefix(string(place), "postgres:"), " ")
	store, err := place.Open(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	// What feeds and what looks has connections of its own, which are cut as well.
	aside, err := place.Open(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, aside.Close()) }()
	registry, err := handoverRegistry()
	require.NoError(t, err)
	door, err := command.Open(command.Config{Store: store, Registry: registry, Authorizer: command.AllowAll})
	require.NoError(t, err)

	var failed, count atomic.Int64
	var consumed storefor.Store = hasty{store}
	if hide {
		consumed = store // were the term to end before its checkpoint, what was hidden would come again
	}
	handlers, err := relay.New(relay.Config{
		Store: consumed, Registry: registry, Lease: time.Hour, SaveEvery: 10 * time.Millisecond,
		FirstPause: time.Millisecond, LastPause: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}, relay.Handler{Name: handoverName, Topic: relay.ByPrefix(inputPrefix), History: true, Attempts: -1, Timeout: haste, Cases: []relay.Case{
		relay.On(func(ctx context.Context, e given, env relay.Envelope) error {
			call := env.Call(command.As("handover"))
			call.Action = "effect.record"
			_, err := door.Do(ctx, call, func(tx *command.Tx) error {
				if err := tx.Authorize(call.Action, "", nil); err != nil {
					return err
				}
				return tx.RecordBlind(effectStream, done{e.Sequence, env.Stream, env.Fence()[0].Version})
			})
			// It is delivered again also where it is the whole term that ends.
			if errors.Is(err, eventstore.ErrNotApplied) && !errors.Is(ctx.Err(), context.Canceled) {
				failed.Add(1)
			}
			if hide {
				return nil
			}
			return err
		}),
	}})
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- handlers.Run(context.WithoutCancel(ctx)) }()

	feeding, stop := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() {
		random := rand.New(rand.NewPCG(seed, 0))
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for feeding.Err() == nil {
			<-tick.C
			_, err := eventstore.Update(context.WithoutCancel(ctx), aside, registry, func(tx *eventstore.Tx) error {
				return tx.RecordBlind(fmt.Sprint(inputPrefix, random.IntN(streams)), given{int(count.Load()) + 1})
			})
			if errors.Is(err, eventstore.ErrNotApplied) {
				continue
			}
			if err != nil {
				fed <- err
				return
			}
			count.Add(1)
		}
		fed <- nil
	}()

	admin, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close(context.WithoutCancel(ctx))) }()
	log := &pair{t: t, role: "keyed", store: aside}
	acknowledged := func() uint64 { return handlers.Status()[0].Acknowledged }
	random := rand.New(rand.NewPCG(seed, 1))
	for cut < cuts || cut < mostCuts && (failed.Load() < 5 || !hide && handlers.Status()[0].Token == 1) {
		before := acknowledged()
		require.Eventually(t, func() bool { return acknowledged() >= before+uint64(3+random.IntN(10)) }, patience, time.Millisecond, "after %d cuts: %+v", cut, handlers.Status())
		// Again and again for a while: the store opens others, and bears what ends between two of its calls.
		n := 0
		for end := time.Now().Add(time.Duration(random.Int64N(int64(longestCut)))); n == 0 || time.Now().Before(end); {
			require.NoError(t, admin.QueryRow(ctx, "SELECT $2 + count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1) AS ended", "rollforward "+schema, n).Scan(&n))
		}
		cut, ended = cut+1, ended+n
	}
	require.Less(t, cut, mostCuts, "the consumer bore all of it: nothing is shown")
	stop()
	require.NoError(t, <-fed)
	require.Eventually(t, func() bool {
		idle, err := log.idle()
		return err == nil && idle
	}, patience, 10*time.Millisecond, "%+v", handlers.Status())
	now = handlers.Status()[0]
	require.NoError(t, handlers.Close())
	require.NoError(t, <-ran)
	require.NoError(t, door.Close(ctx))
	f, err = log.find()
	require.NoError(t, err)
	return now, cut, ended, f
}

func TestAHolderWhoseConnectionsAreCutGoesOnWithoutItsLeaseHavingToLapseAtFullSize(t *testing.T) {
	t.Parallel()
	seed := uint64(number(t, seedVariable, 4, 4))
	cuts := number(t, cutsVariable, 15, 4)
	now, cut, ended, f := cutting(t, cuts, seed, false)
	t.Logf("cut %d times, %d connections, %d deliveries refused, last for %v; %+v; seed %d", cut, ended, now.Refused, now.LastError, f, seed)
	require.True(t, f.right(), "%+v", f)
	require.Greater(t, f.tokens, uint64(1), "it took its own lease again")
	require.Empty(t, now.Behind)
}

func TestAHandlerThatHidesFailuresLosesEffectsWhenConnectionsAreCut(t *testing.T) {
	t.Parallel()
	seed := uint64(number(t, seedVariable, 5, 5))
	_, cut, ended, f := cutting(t, 5, seed, true)
	t.Logf("cut %d times, %d connections; %+v; seed %d", cut, ended, f, seed)
	require.NotZero(t, f.lost)
	require.Zero(t, f.doubles)
}
