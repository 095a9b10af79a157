package schedule_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

var strict = schedule.Rules{Strict: true}

func (h *house) bookings(ci string) map[string]change.Window {
	h.t.Helper()
	all, err := h.schedule.Bookings(h.t.Context(), ci)
	require.NoError(h.t, err)
	return all
}

func TestWhatIsScheduledIsBookedUntilItsWorkEnds(t *testing.T) {
	// DOMAIN 2.2, strict booking.
	h := open(t, strict).estate()
	h.draft(on(window(10, 12), "db-01"))
	require.Empty(t, h.bookings("db-01"), "a draft books nothing")
	first := h.planned(on(window(10, 12), "db-01", "shop"))
	require.Equal(t, map[string]change.Window{first: *window(10, 12)}, h.bookings("db-01"))
	require.Equal(t, map[string]change.Window{first: *window(10, 12)}, h.bookings("shop"))

	second := h.draft(on(window(11, 13), "db-01"))
	why, err := h.changes.Why(t.Context(), alice, second, change.Submit{})
	require.NoError(t, err)
	require.Equal(t, []command.Refusal{{
		Kind: command.Refused, Rule: "booked", Field: "window", Reason: first + " has booked db-01 2026-03-02 10:00 to 12:00 UTC",
		Remedy: "choose another time, or let it be rescheduled",
	}}, why)
	_, err = h.changes.Do(t.Context(), alice, second, change.Submit{})
	require.True(t, command.By(err, "booked"), "%v", err)
	h.do(second, change.Edit{Set: change.Content{Window: window(12, 13)}}, change.Submit{}) // touching is free
	require.Len(t, h.bookings("db-01"), 2)

	_, err = h.changes.Do(t.Context(), alice, second, change.Edit{Set: change.Content{Window: window(11, 13)}})
	require.True(t, command.By(err, "booked"), "nor by an edit: %v", err)
	h.do(first, change.Edit{Set: change.Content{Window: window(9, 10), CIs: []string{"db-01"}}})
	require.Empty(t, h.bookings("shop"), "what it no longer declares is free")
	h.do(second, change.Edit{Set: change.Content{Window: window(10, 13)}})
	require.Equal(t, map[string]change.Window{first: *window(9, 10), second: *window(10, 13)}, h.bookings("db-01"))

	h.do(first, change.Start{})
	require.Len(t, h.bookings("db-01"), 2)
	h.do(first, change.Complete{})
	require.Equal(t, map[string]change.Window{second: *window(10, 13)}, h.bookings("db-01"))
	h.do(second, change.Revert{Reason: "not yet"})
	require.Empty(t, h.bookings("db-01"))
	h.do(second, change.Submit{})
	require.Len(t, h.bookings("db-01"), 1)
	h.do(second, change.Cancel{Reason: "never"})
	require.Empty(t, h.bookings("db-01"))
}

func TestWithoutStrictBookingNothingIsBooked(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	h.planned(on(window(10, 12), "db-01"))
	h.planned(on(window(10, 12), "db-01"))
	require.Empty(t, h.bookings("db-01"))
}

func TestTouchingBookingsWhereItIsConfigured(t *testing.T) {
	h := open(t, schedule.Rules{Strict: true, Touching: true}).estate()
	h.planned(on(window(10, 12), "db-01"))
	_, err := h.changes.Raise(t.Context(), alice, on(window(12, 13), "db-01"), change.Submit{})
	require.True(t, command.By(err, "booked"), "%v", err)
}

func TestTwoChangesInOneUnitOfWorkSeeEachOther(t *testing.T) {
	h := open(t, strict).estate()
	_, err := h.door.Do(t.Context(), command.Call{Actor: alice, Action: "change.raise"}, func(tx *command.Tx) error {
		if _, err := h.changes.RaiseIn(tx, on(window(10, 12), "db-01"), change.Submit{}); err != nil {
			return err
		}
		c, err := h.changes.Load(tx, "CHG-000001")
		if err != nil {
			return err
		}
		other := c
		other.ID, other.Window = "CHG-000002", window(11, 13)
		return h.schedule.Settle(tx, change.Change{}, other)
	})
	require.True(t, command.By(err, "booked"), "%v", err)
}

// What was booked long ago costs nothing: the fold keeps what is live, and where it
// is at the version of the stream nobody reads that.
func TestBookingsOfThePastCostNothing(t *testing.T) {
	h := open(t, strict).estate()
	for range 50 {
		h.do(h.planned(on(window(10, 12), "db-01")), change.Cancel{Reason: "no"})
	}
	counting := &counted{Store: h.store}
	_, err := eventstore.Update(t.Context(), counting, h.registry, func(tx *eventstore.Tx) error {
		head, err := counting.Head(t.Context())
		if err != nil {
			return err
		}
		if err := h.follow.WaitFor(t.Context(), head); err != nil {
			return err
		}
		c := change.Change{ID: "CHG-000999", Content: on(window(10, 12), "db-01").Content, Kind: change.KindScheduled}
		return h.schedule.Settle(&command.Tx{Tx: tx, Now: monday}, change.Change{}, c)
	})
	require.NoError(t, err)
	require.Zero(t, counting.read, "the stream of 100 events was read")
	head, err := h.store.Head(t.Context())
	require.NoError(t, err)
	require.NoError(t, h.follow.WaitFor(t.Context(), head))
	require.Len(t, h.bookings("db-01"), 1)
}

// counted counts the records that are read.
type counted struct {
	eventstore.Store
	read int
}

func (c *counted) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range c.Store.Read(ctx, q) {
			if c.read++; !yield(r, err) {
				return
			}
		}
	}
}

func TestNoTwoBookingsOverlap(t *testing.T) {
	kind := storefor.Asked(t, storefor.Memory)
	rapid.Check(t, func(r *rapid.T) {
		store, gone := kind.Fresh(t)
		defer func() { require.NoError(r, gone()) }()
		h, end, err := wire(t.Context(), store, strict, func() time.Time { return monday })
		require.NoError(r, err)
		defer func() { require.NoError(r, end()) }()
		h.t = t
		h.estate()
		var mine []string
		for n := range rapid.IntRange(1, 12).Draw(r, "commands") {
			label := fmt.Sprint(n)
			w := window(float64(rapid.IntRange(9, 30).Draw(r, label+"from")), 0)
			w.End = w.Start.Add(time.Duration(rapid.IntRange(1, 5).Draw(r, label+"hours")) * time.Hour)
			declared := some(r, []string{"db-01", "shop", "wiki"}, label)
			var err error
			if len(mine) == 0 || rapid.Bool().Draw(r, label+"new") {
				var c change.Change
				if c, err = h.changes.Raise(t.Context(), alice, on(w, declared...), change.Submit{}); err == nil {
					mine = append(mine, c.ID)
				}
			} else {
				id := rapid.SampledFrom(mine).Draw(r, label+"which")
				_, err = h.changes.Do(t.Context(), alice, id, rapid.SampledFrom([]change.Command{
					change.Edit{Set: change.Content{Window: w}}, change.Edit{Set: change.Content{CIs: declared}},
					change.Revert{Reason: "no"}, change.Submit{}, change.Cancel{Reason: "no"},
				}).Draw(r, label+"command"))
			}
			var refused *command.Error
			require.True(r, err == nil || errors.As(err, &refused), "%v", err)
			require.Empty(r, doubles(r, h.store))
			// Booked is what is scheduled, neither more nor less.
			for _, ci := range []string{"db-01", "shop", "wiki"} {
				want := map[string]change.Window{}
				open, err := h.changes.List(t.Context(), change.Filter{Open: true, CI: ci, Kind: change.KindScheduled})
				require.NoError(r, err)
				for _, c := range open {
					want[c.ID] = *c.Window
				}
				have := h.bookings(ci)
				if have == nil {
					have = map[string]change.Window{}
				}
				require.Equal(r, want, have)
			}
		}
	})
}

// doubles returns the pairs of scheduled changes that overlap on a CI, from the log
// alone.
func doubles(t require.TestingT, store eventstore.Store) []string {
	list := change.Projection(known).New()
	for r, err := range store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(t, err)
		require.NoError(t, list.Apply(r))
	}
	var found []string
	all := list.Find(change.Filter{Open: true, Kind: change.KindScheduled})
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.Window == nil || b.Window == nil || !meet(*a.Window, *b.Window, false) {
				continue
			}
			if slices.ContainsFunc(a.Declared(), func(ci string) bool { return slices.Contains(b.Declared(), ci) }) {
				found = append(found, a.ID+" "+b.ID)
			}
		}
	}
	return found
}

// With these a test binary is a process that books on a store and prints what came
// of it: "won CHG-000001" or "lost CHG-000001", with the winner's ID.
const (
	envPlace = "ROLLFORWARD_TEST_BOOK_ON"
	envCount = "ROLLFORWARD_TEST_BOOK_COUNT"
	envSeed  = "ROLLFORWARD_TEST_BOOK_SEED"
	envBlind = "ROLLFORWARD_TEST_BOOK_BLIND"
)

// booker does what a child is to do, and reports whether this is one.
func booker() bool {
	place := storefor.Place(os.Getenv(envPlace))
	if place == "" {
		return false
	}
	if err := bookOn(place); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

const rooms = 20 // CIs that are fought for

func bookOn(place storefor.Place) error {
	count, err := strconv.Atoi(os.Getenv(envCount))
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(os.Getenv(envSeed), 10, 64)
	if err != nil {
		return err
	}
	store, err := place.Open(context.Background())
	if err != nil {
		return err
	}
	defer store.Close()
	h, end, err := wire(context.Background(), store, strict, time.Now)
	if err != nil {
		return err
	}
	if os.Getenv(envBlind) != "" {
		h.schedule.Blind()
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	work := make(chan change.Raise, count)
	for range count {
		start := at(float64(24*365 + rnd.IntN(96)))
		work <- on(change.Between(start, start.Add(time.Duration(1+rnd.IntN(4))*time.Hour)), fmt.Sprintf("room-%02d", rnd.IntN(rooms)))
	}
	close(work)
	failed := make(chan error, 8)
	var mu sync.Mutex
	var people sync.WaitGroup
	for range 8 {
		people.Go(func() {
			for r := range work {
				c, err := h.changes.Raise(context.Background(), alice, r, change.Submit{})
				said := "won " + c.ID
				var refused *command.Error
				if errors.As(err, &refused) && refused.Refusals[0].Rule == "booked" {
					winner, _, _ := strings.Cut(refused.Refusals[0].Reason, " has booked ")
					said = "lost " + winner
				} else if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Println(said)
				mu.Unlock()
			}
		})
	}
	people.Wait()
	select {
	case err := <-failed:
		return errors.Join(err, end())
	default:
		return end()
	}
}

func TestFourProcessesNeverBookOneRoomTwiceAtFullSize(t *testing.T) {
	attempts := 2_000
	if race.Enabled {
		attempts = 200
	}
	neverTwice(t, storefor.Asked(t, storefor.SQLite), attempts)
}

func TestFourProcessesNeverBookOneRoomTwiceOnPostgreSQL(t *testing.T) {
	attempts := 400
	if race.Enabled {
		attempts = 100
	}
	neverTwice(t, storefor.Postgres, attempts)
}

func neverTwice(t *testing.T, kind storefor.Kind, attempts int) {
	begin := time.Now()
	won, lost, store := fight(t, kind, attempts, false)
	took := time.Since(begin).Round(time.Millisecond)
	require.Equal(t, attempts, len(won)+len(lost))
	require.Empty(t, doubles(t, store))
	t.Logf("%d attempts of 4 processes on %d CIs, on %s, in %v: %d won, %d lost, 0 double bookings", attempts, rooms, kind, took, len(won), len(lost))
	require.NotEmpty(t, lost)
	for _, id := range lost {
		require.True(t, slices.Contains(won, id), "a loser was told of %q, which did not win", id)
	}

	// The control: where nobody books, there are double bookings.
	_, _, store = fight(t, kind, 200, true)
	doubled := doubles(t, store)
	t.Logf("with the bookings left out: 200 attempts, %d double bookings", len(doubled))
	require.NotEmpty(t, doubled)
}

// fight lets four processes book, and returns the changes that won and, for each
// that lost, the one that it was told of.
func fight(t *testing.T, kind storefor.Kind, attempts int, blind bool) (won, lost []string, store storefor.Store) {
	place := kind.Place(t)
	store, err := place.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	h, end, err := wire(t.Context(), store, strict, time.Now)
	require.NoError(t, err)
	var deltas []cmdb.Delta
	for i := range rooms {
		deltas = append(deltas, cmdb.Add(fmt.Sprintf("room-%02d", i), "server"))
	}
	_, err = h.cmdb.Record(t.Context(), carol, deltas...)
	require.NoError(t, err)
	require.NoError(t, end())
	var mu sync.Mutex
	var children sync.WaitGroup
	for child := range 4 {
		children.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), envPlace+"="+string(place), fmt.Sprintf("%s=%d", envCount, attempts/4), fmt.Sprintf("%s=%d", envSeed, child))
			if blind {
				cmd.Env = append(cmd.Env, envBlind+"=1")
			}
			out, err := cmd.Output()
			if err != nil {
				if exit, ok := err.(*exec.ExitError); ok {
					err = fmt.Errorf("%w: %s", err, exit.Stderr)
				}
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
				if id, ok := strings.CutPrefix(lines.Text(), "won "); ok {
					won = append(won, id)
				} else if id, ok := strings.CutPrefix(lines.Text(), "lost "); ok {
					lost = append(lost, id)
				}
			}
		})
	}
	children.Wait()
	return won, lost, store
}
