package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/race"
)

// settled holds an append to what it was told, resends it where that was an error, and returns
// the log with it and whether it was recorded the first time.
func settled(t testing.TB, store *sqlite.Store, log []eventstore.Recorded, a sending, records []eventstore.Recorded, told error) ([]eventstore.Recorded, bool) {
	t.Helper()
	var err error
	log, recorded, err := settle(store, log, []sending{a}, [][]eventstore.Recorded{records}, []error{told})
	require.NoError(t, err)
	return log, recorded[0]
}

// settle does so for appends made at once, in any order.
func settle(store *sqlite.Store, log []eventstore.Recorded, made []sending, records [][]eventstore.Recorded, told []error) ([]eventstore.Recorded, []bool, error) {
	k := newKills(0)
	k.log = log
	for _, r := range log {
		k.versions[r.Stream] = r.Version
	}
	var acknowledged, unheard []sending
	for i, a := range made {
		if a.records = records[i]; told[i] == nil {
			acknowledged = append(acknowledged, a)
			continue
		}
		if a.records != nil {
			k.problem("records with %v", told[i])
		}
		if errors.Is(told[i], eventstore.ErrNotApplied) == errors.Is(told[i], eventstore.ErrOutcomeUnknown) || errors.Is(told[i], eventstore.ErrConflict) {
			k.problem("not one outcome, or a conflict that is none: %v", told[i])
		}
		unheard = append(unheard, a)
	}
	found := k.check(store, acknowledged, unheard)
	recorded := make([]bool, len(made))
	for i, err := range told {
		if err == nil {
			recorded[i] = true
			continue
		}
		if len(found) > 0 {
			recorded[i], found = found[0], found[1:]
		}
		if recorded[i] && errors.Is(err, eventstore.ErrNotApplied) {
			k.problem("it is recorded, and was told: %v", err)
		}
	}
	if len(k.problems) > 0 {
		return k.log, recorded, fmt.Errorf("%q", k.problems)
	}
	return k.log, recorded, nil
}

// F39, in company: the context of one of several appends made at once ends at each point of
// all that is done for them, whoever does it.
func TestAContextThatEndsAtAnyPointOfManyAppendsEndsItsOwnOnly(t *testing.T) {
	const together, each = 4, 2
	var points, cancelAt atomic.Int64
	var cancel atomic.Pointer[context.CancelFunc]
	store := open(t, quickPath(t), pointOptions(func(point string) {
		if point == "begin" {
			time.Sleep(200 * time.Microsecond) // so that the others come meanwhile, and share the next commit
		}
		if points.Add(1) == cancelAt.Load() {
			(*cancel.Load())()
			time.Sleep(time.Millisecond) // so that whoever waits notices before this goes on
		}
	})...)
	var log []eventstore.Recorded
	applied, notApplied, unknown, recordedAfterAll := 0, 0, 0, 0
	rounds := 0
	for n := int64(1); ; n++ {
		rounds++
		var mu sync.Mutex
		var made []sending
		var told []error
		var records [][]eventstore.Recorded
		victim, stop := context.WithCancel(ctx)
		points.Store(0)
		cancelAt.Store(n)
		cancel.Store(&stop)
		var running sync.WaitGroup
		for w := range together {
			running.Go(func() {
				c := ctx
				if w == int(n)%together {
					c = victim
				}
				for range each {
					a := sending{events: []eventstore.Event{event(fmt.Sprint("own-", w)), event("blind", "x")}}
					got, err := store.Append(c, a.events)
					mu.Lock()
					made, told, records = append(made, a), append(told, err), append(records, got)
					mu.Unlock()
					if err != nil && c != victim {
						t.Errorf("point %d: the context of another ended: %v", n, err)
					}
				}
			})
		}
		running.Wait()
		ended := victim.Err() != nil
		stop()
		cancelAt.Store(0)
		var recorded []bool
		var err error
		log, recorded, err = settle(store, log, made, records, told)
		require.NoError(t, err, "point %d", n)
		for i, err := range told {
			switch {
			case err == nil:
				applied++
			case errors.Is(err, eventstore.ErrNotApplied):
				require.ErrorIs(t, err, context.Canceled)
				notApplied++
			default:
				require.ErrorIs(t, err, context.Canceled)
				unknown++
				if recorded[i] {
					recordedAfterAll++
				}
			}
		}
		if !ended {
			break
		}
		if race.Enabled {
			n += 4
		}
	}
	t.Logf("%d rounds of %d appends: %d applied, %d not applied, %d unknown, of which %d were recorded", rounds, together*each, applied, notApplied, unknown, recordedAfterAll)
	require.NotZero(t, notApplied)
	require.Greater(t, rounds, 5)
}
