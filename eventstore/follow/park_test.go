package follow_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

var why = eventstore.Metadata{Actor: "ann", Reason: "recorded by mistake"}

// poisoned waits until f is stopped at an event.
func poisoned(t require.TestingT, f *follow.Follower) *follow.PoisonError {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var poison *follow.PoisonError
	require.ErrorAs(t, f.WaitFor(ctx, 1<<62), &poison)
	return poison
}

func decisions(t require.TestingT, store eventstore.Store) (records []eventstore.Recorded) {
	for r, err := range store.Read(context.Background(), eventstore.Query{Types: []string{"follow.parked"}}) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

func TestAnEventThatAFoldCannotTakeStopsTheFollowerVisibly(t *testing.T) {
	var log logged
	store := memory.New()
	many(t, store, 3, 1)
	cursed := appendMoves(t, store, Moved{"bolts", 1}, Cursed{Fold: "ledger"}, Moved{"bolts", 1})[1]
	many(t, store, 3, 1)

	var most sync.Map // fold: last position given to Apply
	watch := func(p follow.Projection[Saved]) follow.Projection[Saved] {
		return follow.Projection[Saved]{Name: p.Name, New: func() Saved {
			s := p.New()
			s.before = func(r eventstore.Recorded) { most.Store(p.Name, r.Position) }
			return s
		}}
	}
	f := start(t, store, follow.Config{SnapshotEvery: 1000, Logger: log.logger()}, watch(stock), watch(ledger), watch(saved("third")))
	poison := poisoned(t, f)
	require.Equal(t, "ledger", poison.Fold)
	require.Equal(t, cursed.ID, poison.Event)
	require.Equal(t, cursed.Position, poison.Position)
	require.Equal(t, "curses", poison.Stream)
	require.Equal(t, "stock.cursed", poison.Type)
	require.EqualError(t, poison.Cause, "the event is cursed")
	require.Nil(t, poison.Stack)

	var stopped *follow.StoppedError
	require.ErrorAs(t, f.View(t.Context(), nil), &stopped)
	require.ErrorIs(t, stopped, poison)
	require.ErrorContains(t, stopped, `fold "ledger" cannot take event `+cursed.ID.String())
	require.Error(t, f.WaitFor(t.Context(), 1), "what a stopped follower has is not shown either")
	require.ErrorAs(t, f.Snapshot(t.Context()), &stopped)
	now := f.Status()
	require.ErrorIs(t, now.Stopped, poison)
	require.False(t, now.Ready)
	require.Equal(t, []follow.FoldStatus{{Name: "stock", Position: 5}, {Name: "ledger", Position: 4}, {Name: "third", Position: 4}}, now.Folds)
	require.Contains(t, log.String(), "level=ERROR")

	for name, want := range map[string]eventstore.Position{"stock": 5, "ledger": 5, "third": 4} {
		last, _ := most.Load(name)
		require.Equal(t, want, last, "nothing later was applied to %s", name)
	}
	require.NoError(t, f.Close())
	require.Zero(t, checkpoint(t, store, "fold-stock"), "what is no cut is not saved")
}

func TestNoViewIsLetInBetweenThePoisonAndTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memory.New()}
		f := start(t, store, follow.Config{}, stock)
		require.NoError(t, f.WaitFor(t.Context(), 0))
		reads := 0
		store.set(func(s *faulty) {
			s.fail = func(record int) error {
				if record == -1 {
					if reads++; reads == 2 { // of the decisions, before the follower stops
						time.Sleep(time.Hour)
					}
				}
				return nil
			}
		})
		appendMoves(t, store, Moved{"bolts", 1}, Cursed{Fold: "stock"}, Moved{"bolts", -1})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, f.View(ctx, func(*follow.View) error { return nil }), context.DeadlineExceeded)
		time.Sleep(time.Hour)
		poisoned(t, f)
		require.NoError(t, f.Close())
	})
}

func TestAfterParkingTheFollowerGoesOnWithoutThatEventForThatFold(t *testing.T) {
	store := memory.New()
	many(t, store, 3, 1)
	cursed := appendMoves(t, store, Moved{"bolts", 1}, Cursed{Fold: "ledger"}, Moved{"bolts", 1})[1]
	many(t, store, 3, 1)
	f := start(t, store, follow.Config{}, stock, ledger)
	poison := poisoned(t, f)
	require.NoError(t, f.Park(t.Context(), poison.Fold, poison.Event, why))
	require.NoError(t, f.View(t.Context(), func(*follow.View) error { return nil }), "it has gone on when Park returns")

	require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock), "others take the event, once")
	require.Equal(t, plain(t, store, "ledger", cursed.ID), state(t, f, store, ledger))
	now := f.Status()
	require.Empty(t, now.Folds[0].Parked)
	require.Equal(t, []follow.Parked{{
		Fold: "ledger", Event: cursed.ID, Position: cursed.Position, Stream: "curses", Type: "stock.cursed", Error: "the event is cursed",
	}}, now.Folds[1].Parked)

	records := decisions(t, store)
	require.Len(t, records, 1)
	require.Equal(t, "parked-ledger", records[0].Stream)
	require.Equal(t, uuid.Version(5), records[0].ID.Version())
	require.Equal(t, `{"fold":"ledger","event":"`+cursed.ID.String()+
		`","position":5,"stream":"curses","type":"stock.cursed","error":"the event is cursed"}`, string(records[0].Data))
	meta, err := eventstore.DecodeMetadata(records[0].Meta)
	require.NoError(t, err)
	require.Equal(t, eventstore.Metadata{Actor: why.Actor, Reason: why.Reason, Causation: cursed.ID}, meta)

	require.NoError(t, f.Close())
	again := start(t, store, follow.Config{}, stock, ledger)
	require.Equal(t, plain(t, store, "ledger", cursed.ID), state(t, again, store, ledger), "a restart remembers")
	require.Equal(t, now.Folds[1].Parked, again.Status().Folds[1].Parked)
}

func TestAFoldThatPanickedStartsAgain(t *testing.T) {
	for name, snapshot := range map[string]bool{"from its snapshot": true, "from the beginning": false} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			many(t, store, 3, 1)
			f := start(t, store, follow.Config{}, stock, ledger)
			if snapshot {
				require.NoError(t, f.WaitFor(t.Context(), 3))
				require.NoError(t, f.Snapshot(t.Context()))
			}
			cursed := appendMoves(t, store, Moved{"bolts", 1}, Cursed{Fold: "stock", Panic: true})[1]
			many(t, store, 3, 1)
			poison := poisoned(t, f)
			require.ErrorContains(t, poison.Cause, "panic: runtime error: invalid memory address")
			require.Contains(t, string(poison.Stack), "(*Book).Apply")
			require.NoError(t, f.Park(t.Context(), poison.Fold, poison.Event, why))
			require.Equal(t, plain(t, store, "stock", cursed.ID), state(t, f, store, stock), "the half that it had taken is gone")
			require.Equal(t, plain(t, store, "ledger"), state(t, f, store, ledger))
		})
	}
}

func TestAFoldThatEndsItsGoroutineStopsTheFollower(t *testing.T) {
	store := memory.New()
	many(t, store, 1, 1)
	f := start(t, store, follow.Config{}, follow.Projection[*Book]{Name: "quitter", New: func() *Book {
		b := NewBook("quitter")
		b.before = func(eventstore.Recorded) { (&testing.T{}).SkipNow() }
		return b
	}})
	require.ErrorContains(t, f.WaitFor(t.Context(), 1), "ended the follower's goroutine")
}

func TestAFollowerElsewhereNoticesTheDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		cursed := appendMoves(t, store, Cursed{Fold: "stock"})[0]
		here, there := start(t, store, follow.Config{}, stock), start(t, store, follow.Config{}, stock)
		synctest.Wait()
		poison := poisoned(t, here)
		require.Equal(t, cursed.ID, poisoned(t, there).Event)

		many(t, store, 5, 1) // wakes the stopped, in vain
		time.Sleep(time.Second)
		require.Error(t, there.Status().Stopped)
		require.Equal(t, uint64(6), there.Status().Lag, "a stopped follower knows how far it is behind")

		begin := time.Now()
		require.NoError(t, here.Park(t.Context(), poison.Fold, poison.Event, why))
		require.Zero(t, time.Since(begin), "who parks does not wait for the next look")
		time.Sleep(time.Second)
		require.NoError(t, there.Status().Stopped)
		require.Equal(t, plain(t, store, "stock", cursed.ID), state(t, there, store, stock))
		require.NoError(t, here.Close())
		require.NoError(t, there.Close())
	})
}

func TestAFollowerThatHadTakenTheEventFoldsAnew(t *testing.T) {
	for name, snapshot := range map[string]bool{"live": false, "with a snapshot": true} {
		t.Run(name, func(t *testing.T) {
			var log logged
			store := memory.New()
			many(t, store, 3, 1)
			tolerant := follow.Projection[Saved]{Name: "stock", New: func() Saved {
				s := stock.New()
				s.tolerant = true
				return s
			}}
			cursed := appendMoves(t, store, Cursed{Fold: "stock"})[0]
			newer := start(t, store, follow.Config{Logger: log.logger()}, ledger, tolerant)
			require.Contains(t, state(t, newer, store, tolerant), `"cursed":1`)
			if snapshot {
				require.NoError(t, newer.Snapshot(t.Context()))
				require.NoError(t, newer.Close())
			}
			// No snapshots for this one, or it would start behind the event.
			older := start(t, struct{ eventstore.Store }{store}, follow.Config{}, stock)
			poison := poisoned(t, older)
			require.NoError(t, older.Park(t.Context(), poison.Fold, poison.Event, why))
			if snapshot {
				newer = start(t, store, follow.Config{Logger: log.logger()}, ledger, tolerant)
			}
			head, err := store.Head(t.Context())
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				return newer.WaitFor(t.Context(), head) == nil && newer.View(t.Context(), func(v *follow.View) error {
					if tolerant.In(v).Levels["cursed"] != 0 {
						return errors.New("still there")
					}
					return nil
				}) == nil
			}, 5*time.Second, time.Millisecond)
			require.Equal(t, plain(t, store, "stock", cursed.ID), state(t, newer, store, tolerant))
			require.Equal(t, plain(t, store, "ledger"), state(t, newer, store, ledger), "the other fold is not given anything twice")
			require.Contains(t, log.String(), "starts anew")
			_, err = newer.Verify(t.Context())
			require.NoError(t, err)
		})
	}
}

func TestViewsDoNotGoBackWhileAFoldStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		slow := false
		tolerant := follow.Projection[Saved]{Name: "stock", New: func() Saved {
			s := stock.New()
			s.tolerant = true
			s.before = func(r eventstore.Recorded) {
				if slow {
					time.Sleep(time.Second)
				}
			}
			return s
		}}
		f := start(t, struct{ eventstore.Store }{store}, follow.Config{SnapshotEvery: 10}, tolerant)
		require.NoError(t, f.WaitFor(t.Context(), 0)) // the head at Start is no help here
		cursed := appendMoves(t, store, Cursed{Fold: "stock"})[0]
		many(t, store, 100, 1)
		require.Contains(t, state(t, f, store, tolerant), `"cursed":1`)
		synctest.Wait()
		slow = true
		older := start(t, store, follow.Config{}, stock)
		poison := poisoned(t, older)
		require.NoError(t, older.Park(t.Context(), poison.Fold, poison.Event, why))
		for range 2 {
			time.Sleep(5 * time.Second) // within the fold's new start
			require.NoError(t, f.View(t.Context(), func(v *follow.View) error {
				require.GreaterOrEqual(t, v.Position(), eventstore.Position(101))
				return nil
			}))
		}
		require.Equal(t, plain(t, store, "stock", cursed.ID), state(t, f, store, tolerant))
		require.NoError(t, older.Close())
		require.NoError(t, f.Close())
	})
}

func TestADecisionOnAnEventThatNeverWasEndsInTheSameState(t *testing.T) {
	store := memory.New()
	many(t, store, 3, 1)
	e := event(t, "parked-stock", follow.Parked{Fold: "stock", Event: uuid.New()})
	_, err := store.Append(t.Context(), []eventstore.Event{e})
	require.NoError(t, err)
	many(t, store, 3, 1)
	for range 2 {
		f := start(t, store, follow.Config{SnapshotEvery: 1}, stock)
		require.Equal(t, plain(t, store, "stock"), state(t, f, store, stock))
		require.NoError(t, f.Close())
	}
}

func TestADecisionThatThisProgramCannotReadStopsTheFollower(t *testing.T) {
	for name, live := range map[string]bool{"at start": false, "on the way": true} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			record := func() {
				e := event(t, "parked-stock", follow.Parked{Fold: "stock", Event: uuid.New()})
				e.Schema = 2
				_, err := store.Append(t.Context(), []eventstore.Event{e})
				require.NoError(t, err)
			}
			if !live {
				record()
			}
			f := start(t, store, follow.Config{}, stock)
			if live {
				require.NoError(t, f.WaitFor(t.Context(), 0))
				record()
			}
			require.ErrorIs(t, f.WaitFor(t.Context(), 1), eventstore.ErrFutureSchema)
		})
	}
}

func TestParkRefusesWhatIsNoDecision(t *testing.T) {
	store := memory.New()
	f := start(t, store, follow.Config{}, stock)
	require.NoError(t, f.WaitFor(t.Context(), 0))
	require.ErrorIs(t, f.Park(t.Context(), "stock", uuid.New(), why), follow.ErrNotStopped, "the follower follows")

	cursed := appendMoves(t, store, Cursed{Fold: "stock"})[0]
	poison := poisoned(t, f)
	require.ErrorIs(t, f.Park(t.Context(), "stock", uuid.New(), why), follow.ErrNotStopped, "another event")
	require.ErrorIs(t, f.Park(t.Context(), "ledger", cursed.ID, why), follow.ErrNotStopped, "another fold")
	require.ErrorContains(t, f.Park(t.Context(), "stock", cursed.ID, eventstore.Metadata{Actor: "ann"}), "actor and reason")
	require.ErrorContains(t, f.Park(t.Context(), "stock", cursed.ID, eventstore.Metadata{Reason: "so"}), "actor and reason")
	require.Empty(t, decisions(t, store))
	require.ErrorIs(t, f.Status().Stopped, poison)
}

func TestParkingTwiceIsOneDecision(t *testing.T) {
	store := memory.New()
	cursed := appendMoves(t, store, Cursed{Fold: "stock"}, Cursed{Fold: "ledger"})
	followers := []*follow.Follower{
		start(t, store, follow.Config{}, stock, ledger), start(t, store, follow.Config{}, stock, ledger),
	}
	for _, want := range cursed {
		var poisons []*follow.PoisonError // of both, before a decision lets either go on
		for _, f := range followers {
			poisons = append(poisons, poisoned(t, f))
			require.Equal(t, want.ID, poisons[len(poisons)-1].Event)
		}
		var parking sync.WaitGroup
		for i, f := range followers {
			poison := poisons[i]
			for range 3 {
				parking.Go(func() {
					meta := why
					meta.Actor = []string{"ann", "ben"}[i]
					err := f.Park(t.Context(), poison.Fold, poison.Event, meta)
					// Where the decision was met before the call it may not be known here yet.
					if !errors.Is(err, follow.ErrNotStopped) && err != nil {
						t.Error(err)
					}
				})
			}
		}
		parking.Wait()
	}
	for _, f := range followers {
		require.NoError(t, f.WaitFor(t.Context(), 2))
		require.NoError(t, f.Park(t.Context(), "stock", cursed[0].ID, why), "later too")
	}
	require.Len(t, decisions(t, store), 2)
	require.True(t, slices.ContainsFunc(decisions(t, store), func(r eventstore.Recorded) bool { return r.Stream == "parked-ledger" }))
}

func TestParkSaysThatNothingWasRecorded(t *testing.T) {
	store := memory.New()
	appendMoves(t, store, Cursed{Fold: "stock"})
	f := start(t, store, follow.Config{}, stock)
	poison := poisoned(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Park(ctx, poison.Fold, poison.Event, why), eventstore.ErrNotApplied)
	require.Empty(t, decisions(t, store))
	require.NoError(t, f.Park(t.Context(), poison.Fold, poison.Event, why))
	malformed := event(t, "item-bolts", Moved{"bolts", 1})
	malformed.Data = []byte(`[]`)
	_, err := store.Append(t.Context(), []eventstore.Event{malformed})
	require.NoError(t, err)
	require.ErrorIs(t, f.WaitFor(t.Context(), 3), eventstore.ErrMalformed, "what the fold said is not lost")
}

func TestViewsAfterParkingWaitForTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memory.New()}
		appendMoves(t, store, Cursed{Fold: "stock"})
		f := start(t, store, follow.Config{SnapshotEvery: 10}, stock)
		poison := poisoned(t, f)
		many(t, store, 100, 1)
		// Slow reads, so that views have the time to come too early.
		store.set(func(s *faulty) { s.fail = func(int) error { time.Sleep(time.Second); return nil } })
		require.NoError(t, f.Park(t.Context(), poison.Fold, poison.Event, why))
		require.NoError(t, f.View(t.Context(), func(v *follow.View) error {
			require.GreaterOrEqual(t, v.Position(), eventstore.Position(101))
			return nil
		}))
		require.NoError(t, f.Close())
	})
}
