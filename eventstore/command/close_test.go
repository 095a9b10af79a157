package command_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

func TestAClosedDoorLetsNobodyInAndEverybodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		d := open(t, func(c *command.Config) { c.RefusalsPerMinute = 1 })
		inside, leave := make(chan struct{}), make(chan struct{})
		answered := make(chan error)
		go func() {
			_, err := d.Do(ctx, call("ann", "x", 1, ""), func(tx *command.Tx) error {
				close(inside)
				<-leave
				return work("x", 1)(tx)
			})
			answered <- err
		}()
		<-inside
		require.Equal(t, 1, d.Status().Inside)

		soon, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		require.ErrorIs(t, d.Close(soon), context.DeadlineExceeded)

		_, err := d.give("bob", "x", 1, "")
		require.ErrorIs(t, err, eventstore.ErrClosed)
		require.EqualError(t, err, "the door is closed")
		_, err = d.Try(ctx, call("bob", "x", 1, ""), work("x", 1))
		require.ErrorIs(t, err, eventstore.ErrClosed)
		_, err = d.Delegations(ctx, "bob")
		require.ErrorIs(t, err, eventstore.ErrClosed)

		closed := make(chan error)
		go func() { closed <- d.Close(ctx) }()
		synctest.Wait()
		close(leave)
		require.NoError(t, <-answered, "who was inside is served")
		require.NoError(t, <-closed)
		require.NoError(t, d.Close(ctx), "closing again does nothing")
		require.Equal(t, command.Status{Commands: 1, Closed: true}, d.Status())

		_, err = d.memory.Head(ctx)
		require.NoError(t, err, "the store stays open")
	})
}

func TestWhoLeavesAClosedDoorLastRecordsWhatWasCounted(t *testing.T) {
	ctx := context.Background()
	d := open(t, func(c *command.Config) { c.RefusalsPerMinute = 1 })
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := d.Do(ctx, call("ann", "x", 11, ""), func(tx *command.Tx) error {
		_, err := d.give("ann", "x", 11, "") // listed
		require.True(t, command.By(err, "at-most-10"))
		require.ErrorIs(t, d.Close(ended), context.Canceled)
		return work("x", 11)(tx) // counted
	})
	require.True(t, command.By(err, "at-most-10"))
	require.NoError(t, d.Close(ctx))
	_, payloads := d.all("refusals-")
	require.Len(t, payloads, 2)
	require.Equal(t, command.RefusalsCounted{Actor: "ann", Rule: "at-most-10", From: noon, Until: noon, Count: 1}, payloads[1])
}
