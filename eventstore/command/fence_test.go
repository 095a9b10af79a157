package command_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// move appends one event to a stream, as who takes a lease does.
func (d *desk) move(stream string) {
	e := eventstore.Event{ID: uuid.New(), Stream: stream, Type: "lease.taken", Schema: 1, Data: []byte("{}")}
	_, err := d.memory.Append(context.Background(), []eventstore.Event{e})
	require.NoError(d.t, err)
}

func (d *desk) head() eventstore.Position {
	head, err := d.memory.Head(context.Background())
	require.NoError(d.t, err)
	return head
}

// fenced is call with a lease at a version.
func fenced(points int, key string, version uint64) command.Call {
	c := call("ann", "x", points, key)
	c.Fence = []eventstore.Expect{eventstore.At("lease-tell", version)}
	return c
}

func requireConflict(t *testing.T, err error, want, actual uint64) {
	t.Helper()
	var conflict *eventstore.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, eventstore.ConflictError{Stream: "lease-tell", Want: want, Actual: actual}, *conflict)
}

func TestACommandUnderAFenceIsDoneWhileItHolds(t *testing.T) {
	d := open(t, nil)
	d.move("lease-tell")
	for _, key := range []string{"", "k"} {
		done, err := d.Do(context.Background(), fenced(2, key, 1), work("x", 2))
		require.NoError(t, err)
		require.NotEmpty(t, done.Records)
		require.Contains(t, done.Streams, eventstore.At("account-x", done.Streams[len(done.Streams)-1].Version))
	}
}

func TestAFenceThatIsNotMetRecordsNothingAndIsNotTriedAgain(t *testing.T) {
	for name, f := range map[string]func(tx *command.Tx) error{
		"of a command that records":       work("x", 2),
		"of one with nothing to do":       work("x", 0),
		"of one that does not even look":  func(*command.Tx) error { return nil },
		"of one that records blind":       func(tx *command.Tx) error { return tx.Authorize("points.give", "x", nil) },
		"of one that is in its way":       func(tx *command.Tx) error { _, err := tx.Check("lease-tell"); return err },
		"of one that expects it likewise": func(tx *command.Tx) error { return tx.Expect("lease-tell", 1) },
	} {
		for _, key := range []string{"", "k"} {
			t.Run(name+" "+key, func(t *testing.T) {
				d := open(t, nil)
				d.move("lease-tell")
				d.move("lease-tell") // somebody else has taken over
				head, calls := d.head(), 0
				_, err := d.Do(context.Background(), fenced(2, key, 1), func(tx *command.Tx) error { calls++; return f(tx) })
				requireConflict(t, err, 1, 2)
				require.Equal(t, 1, calls)
				require.Equal(t, head, d.head())
				require.Zero(t, d.Last())
			})
		}
	}
}

func TestAFenceThatFallsWhileTheCommandIsDecidedHoldsItUp(t *testing.T) {
	for _, key := range []string{"", "k"} {
		d := open(t, nil)
		d.move("lease-tell")
		calls := 0
		_, err := d.Do(context.Background(), fenced(2, key, 1), func(tx *command.Tx) error {
			calls++
			err := work("x", 2)(tx)
			d.move("lease-tell")
			return err
		})
		requireConflict(t, err, 1, 2)
		require.Equal(t, 1, calls)
		require.Equal(t, eventstore.Position(2), d.head())
	}
}

// The control: without the fence the same command is recorded.
func TestWithoutAFenceWhoHasLostTheLeaseStillRecords(t *testing.T) {
	d := open(t, nil)
	d.move("lease-tell")
	c := fenced(2, "k", 1)
	c.Fence = nil
	_, err := d.Do(context.Background(), c, func(tx *command.Tx) error {
		defer d.move("lease-tell")
		return work("x", 2)(tx)
	})
	require.NoError(t, err)
	records, _ := d.all("account-")
	require.Len(t, records, 1)
}

func TestAConflictElsewhereIsTriedAgainUnderAFence(t *testing.T) {
	d := open(t, nil)
	d.move("lease-tell")
	calls := 0
	_, err := d.Do(context.Background(), fenced(2, "k", 1), func(tx *command.Tx) error {
		err := work("x", 2)(tx)
		if calls++; calls == 1 {
			_, other := d.give("bob", "x", 1, "")
			require.NoError(t, other)
		}
		return err
	})
	require.NoError(t, err)
	require.Equal(t, 2, calls)
}

func TestAnAnsweredKeyIsAnsweredWhateverTheFence(t *testing.T) {
	d := open(t, nil)
	d.move("lease-tell")
	first, err := d.Do(context.Background(), fenced(2, "k", 1), work("x", 2))
	require.NoError(t, err)
	d.move("lease-tell")
	head := d.head()
	for name, version := range map[string]uint64{"lost": 1, "of the successor": 2, "of nobody": 7} {
		again, err := d.Do(context.Background(), fenced(2, "k", version), work("x", 2))
		require.NoError(t, err, name)
		require.True(t, again.Repeated, name)
		require.Equal(t, first.Position, again.Position, name)
	}
	require.Equal(t, head, d.head())
}

// The successor has done the command while the stale holder decided on it.
func TestAKeyThatIsAnsweredMeanwhileIsAnsweredAlsoToWhoHasLostTheLease(t *testing.T) {
	d := open(t, nil)
	d.move("lease-tell")
	other := d.reopen()
	done, err := d.Do(context.Background(), fenced(2, "k", 1), func(tx *command.Tx) error {
		err := work("x", 2)(tx)
		d.move("lease-tell")
		_, otherErr := other.Do(context.Background(), fenced(2, "k", 2), work("x", 2))
		require.NoError(t, otherErr)
		return err
	})
	if err == nil {
		require.True(t, done.Repeated)
	} else {
		requireConflict(t, err, 1, 2)
	}
	records, _ := d.all("account-")
	require.Len(t, records, 1)
}

func TestTryIsHeldToTheFence(t *testing.T) {
	d := open(t, nil)
	d.move("lease-tell")
	why, err := d.Try(context.Background(), fenced(2, "", 1), work("x", 2))
	require.NoError(t, err)
	require.Empty(t, why)
	for _, points := range []int{2, 0} {
		_, err = d.Try(context.Background(), fenced(points, "", 7), work("x", points))
		requireConflict(t, err, 7, 1)
	}
	require.Equal(t, eventstore.Position(1), d.head())
}

func TestARefusalUnderAFenceIsRecorded(t *testing.T) {
	d := open(t, nil)
	d.move("lease-tell")
	_, err := d.Do(context.Background(), fenced(11, "k", 1), work("x", 11))
	require.Equal(t, []string{"at-most-10"}, rules(t, err))
	require.Len(t, d.refusals(), 1)
}

func TestAFenceOutsideTheLimitsIsRefusedBeforeAnyIO(t *testing.T) {
	d := open(t, nil)
	for name, fence := range map[string][]eventstore.Expect{
		"without a stream": {eventstore.At("", 1)},
		"a long name":      {eventstore.At(strings.Repeat("x", 300), 1)},
		"twice otherwise":  {eventstore.At("lease-tell", 1), eventstore.At("lease-tell", 2)},
	} {
		c := call("ann", "x", 2, "k")
		c.Fence = fence
		_, err := d.Do(context.Background(), c, work("x", 2))
		var wrong *eventstore.InputError
		require.ErrorAs(t, err, &wrong, name)
		require.Zero(t, d.head(), name)
	}
}
