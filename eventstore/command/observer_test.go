package command_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
)

// witness is an observer that writes down what it is told. The context of a command
// has its number, and that of an append the number behind it.
type witness struct {
	mu       sync.Mutex
	commands int
	told     []string
}

type numbered struct{}

func (w *witness) tell(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, fmt.Sprintf(format, args...))
}

func (w *witness) Command(ctx context.Context, call command.Call) (context.Context, func(command.Done, error)) {
	w.mu.Lock()
	w.commands++
	n := fmt.Sprint("command ", w.commands)
	w.mu.Unlock()
	w.tell("%s: %s", n, call.Action)
	return context.WithValue(ctx, numbered{}, n), func(done command.Done, err error) {
		w.tell("%s ends: %d events, repeated %t, error %t", n, len(done.Records), done.Repeated, err != nil)
	}
}

func (w *witness) Append(ctx context.Context, call command.Call, events []eventstore.Event) (context.Context, func([]eventstore.Recorded, error)) {
	n, _ := ctx.Value(numbered{}).(string)
	n += ", append"
	w.tell("%s: %d events", n, len(events))
	return context.WithValue(ctx, numbered{}, n), func(records []eventstore.Recorded, err error) {
		w.tell("%s ends: %d events, conflict %t", n, len(records), errors.Is(err, eventstore.ErrConflict))
	}
}

func (w *witness) Traceparent(ctx context.Context) string {
	n, _ := ctx.Value(numbered{}).(string)
	return n
}

// seeing is a store that knows in which context it is called.
type seeing struct {
	eventstore.Store
	before func(ctx context.Context)
}

func (s *seeing) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	s.before(ctx)
	return s.Store.Append(ctx, events, expect...)
}

func TestAnObserverIsToldOfACommandAndItsAppend(t *testing.T) {
	w := &witness{}
	var contexts []string
	store := &seeing{Store: memory.New(), before: func(ctx context.Context) {
		n, _ := ctx.Value(numbered{}).(string)
		contexts = append(contexts, n)
	}}
	d := open(t, func(c *command.Config) { c.Store, c.Observer = store, w })
	done, err := d.give("ann", "a", 3, "k-1")
	require.NoError(t, err)
	again, err := d.give("ann", "a", 3, "k-1")
	require.NoError(t, err)
	require.True(t, again.Repeated)
	_, err = d.Try(t.Context(), call("ann", "a", 1, ""), work("a", 1))
	require.NoError(t, err)
	require.Equal(t, []string{
		"command 1: points.give", "command 1, append: 2 events", "command 1, append ends: 2 events, conflict false",
		"command 1 ends: 2 events, repeated false, error false",
		"command 2: points.give", "command 2 ends: 0 events, repeated true, error false",
	}, w.told, "and nothing of what is only tried")
	require.Equal(t, []string{"command 1, append"}, contexts)
	for _, r := range done.Records {
		meta, err := eventstore.DecodeMetadata(r.Meta)
		require.NoError(t, err)
		require.Equal(t, "command 1", meta.Traceparent, "also of the answer of the key")
	}
}

func TestAnObserverIsToldOfEachAppendThatMeetsAConflict(t *testing.T) {
	w := &witness{}
	inner := memory.New()
	raced := false
	store := &seeing{Store: inner, before: func(context.Context) {
		if raced {
			return
		}
		raced = true
		_, err := eventstore.Update(t.Context(), inner, registry, func(tx *eventstore.Tx) error { return tx.RecordBlind("account-a", Given{1}) })
		require.NoError(t, err)
	}}
	d := open(t, func(c *command.Config) { c.Store, c.Observer = store, w })
	_, err := d.give("ann", "a", 3, "")
	require.NoError(t, err)
	require.Equal(t, []string{
		"command 1: points.give",
		"command 1, append: 1 events", "command 1, append ends: 0 events, conflict true",
		"command 1, append: 1 events", "command 1, append ends: 1 events, conflict false",
		"command 1 ends: 1 events, repeated false, error false",
	}, w.told)
}

func TestAnObserverIsToldOfWhatIsRefusedPanicsOrComesTooLate(t *testing.T) {
	w := &witness{}
	d := open(t, func(c *command.Config) { c.Observer = w })
	_, err := d.give("ann", "a", 11, "")
	require.ErrorContains(t, err, "at-most-10")
	_, err = d.Do(t.Context(), command.Call{}, work("a", 1))
	require.Error(t, err)
	require.PanicsWithValue(t, "broken", func() {
		_, _ = d.Do(t.Context(), call("ann", "a", 1, ""), func(*command.Tx) error { panic("broken") })
	})
	require.NoError(t, d.Close(t.Context()))
	_, err = d.give("ann", "a", 1, "")
	require.ErrorIs(t, err, eventstore.ErrClosed)
	var ends []string
	for _, line := range w.told {
		if len(line) > len("command 1 ends") && line[10:14] == "ends" {
			ends = append(ends, line)
		}
	}
	require.Equal(t, []string{
		"command 1 ends: 0 events, repeated false, error true", "command 2 ends: 0 events, repeated false, error true",
		"command 3 ends: 0 events, repeated false, error true", "command 4 ends: 0 events, repeated false, error true",
	}, ends)
	refused, _ := d.all("refusals-")
	require.NotEmpty(t, refused)
	for _, r := range refused {
		meta, err := eventstore.DecodeMetadata(r.Meta)
		require.NoError(t, err)
		require.Equal(t, "command 1", meta.Traceparent, "a refusal belongs to its command")
	}
}

func TestADoorWithoutAnObserverAllocatesNothingForIt(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	allocations := func(observer command.Observer) float64 {
		d := open(t, func(c *command.Config) { c.Observer = observer })
		n := 0
		return testing.AllocsPerRun(2000, func() {
			n++
			account := fmt.Sprintf("%08d", n)
			if _, err := d.Do(t.Context(), call("ann", account, 3, ""), work(account, 3)); err != nil {
				t.Fatal(err)
			}
		})
	}
	bare := func() float64 {
		store, n := memory.New(), 0
		return testing.AllocsPerRun(2000, func() {
			n++
			_, err := eventstore.Update(t.Context(), store, registry, func(tx *eventstore.Tx) error {
				tx.Meta = eventstore.Metadata{Actor: "ann", Command: "points.give", OccurredAt: noon}
				_, err := accounts.Do(tx, fmt.Sprintf("account-%08d", n), 3)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}()
	without, with := allocations(nil), allocations(&witness{})
	t.Logf("allocations of a bare Update %v, of a command without observer %v, with one %v", bare, without, with)
	require.LessOrEqual(t, without, bare+6, "six are the work of the door, as before there were observers")
	require.Greater(t, with, without, "the control: this one writes down what it is told")
}
