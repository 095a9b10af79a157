package command_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore/command"
)

func TestAHookThatAnswersIsTaken(t *testing.T) {
	d := open(t, nil)
	score, err := command.Hook(context.Background(), d.Door, "risk", func(ctx context.Context) (int, error) {
		_, limited := ctx.Deadline()
		require.True(t, limited)
		return 7, nil
	})
	require.NoError(t, err)
	require.Equal(t, 7, score)
}

func TestAHookThatDoesNotAnswerRefusesTheCommand(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		f     func(ctx context.Context, release <-chan struct{}) (int, error)
		rule  string
		says  string
		after time.Duration
	}{
		"it fails":   {func(context.Context, <-chan struct{}) (int, error) { return 7, boom }, "hook-failed", `the hook "risk" failed: boom`, 0},
		"it panics":  {func(context.Context, <-chan struct{}) (int, error) { panic(boom) }, "hook-panicked", `the hook "risk" panicked: boom`, 0},
		"it is nil":  {nil, "hook-panicked", `the hook "risk" panicked`, 0},
		"it gave up": {func(context.Context, <-chan struct{}) (int, error) { runtime.Goexit(); return 7, nil }, "hook-failed", "ended its goroutine", 0},
		"it is too slow and knows": {func(ctx context.Context, _ <-chan struct{}) (int, error) {
			<-ctx.Done()
			return 7, fmt.Errorf("asking: %w", ctx.Err())
		}, "hook-too-slow", `the hook "risk" did not answer within 5s`, 5 * time.Second},
		"it is too slow and does not care": {func(ctx context.Context, release <-chan struct{}) (int, error) {
			<-release
			return 7, nil
		}, "hook-too-slow", `the hook "risk" did not answer within 5s`, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := open(t, nil)
				release := make(chan struct{})
				defer close(release)
				var f func(ctx context.Context) (int, error)
				if c.f != nil {
					f = func(ctx context.Context) (int, error) { return c.f(ctx, release) }
				}
				begin := time.Now()
				_, err := d.Do(context.Background(), call("ann", "x", 1, ""), func(tx *command.Tx) error {
					score, err := command.Hook(tx.Context(), d.Door, "risk", f)
					require.Zero(t, score)
					return err
				})
				require.Equal(t, c.after, time.Since(begin))
				require.ErrorIs(t, err, command.ErrUnavailable)
				require.Equal(t, []string{c.rule}, rules(t, err))
				require.ErrorContains(t, err, c.says)
				require.Equal(t, command.Unavailable, d.refusals()[0].Kind)
				require.Equal(t, uint64(1), d.Status().Unavailable)
			})
		})
	}
}

func TestARefusalOfAHookPassesAsItIs(t *testing.T) {
	d := open(t, nil)
	mine := command.Refuse(command.Refusal{Kind: command.Refused, Rule: "too-risky"})
	_, err := command.Hook(context.Background(), d.Door, "risk", func(context.Context) (int, error) { return 0, mine })
	require.Equal(t, mine, err)
}

func TestWhenTheCallerLeavesAHookIsNoRefusal(t *testing.T) {
	for name, heeds := range map[string]bool{"which heeds it": true, "which does not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := open(t, nil)
				release := make(chan struct{})
				defer close(release)
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, err := command.Hook(ctx, d.Door, "risk", func(ctx context.Context) (int, error) {
					if heeds {
						<-ctx.Done()
						return 0, ctx.Err()
					}
					<-release
					return 0, nil
				})
				require.Equal(t, context.DeadlineExceeded, err)
			})
		})
	}
}

// The caller's end and the hook's answer are there at once, and either may be seen first.
func TestAHookThatFailsAsTheCallerLeavesIsNoRefusal(t *testing.T) {
	d := open(t, nil)
	for range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		_, err := command.Hook(ctx, d.Door, "risk", func(context.Context) (int, error) {
			cancel()
			return 0, errors.New("boom")
		})
		require.Equal(t, context.Canceled, err)
	}
}

func TestAnAuthorizerHasTheDeadlineOfHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		d := open(t, func(c *command.Config) {
			c.HookTimeout = time.Minute
			c.Authorizer = authorizerFunc(func(context.Context, command.Request) error { <-release; return nil })
		})
		begin := time.Now()
		_, err := d.give("ann", "x", 1, "")
		require.Equal(t, time.Minute, time.Since(begin))
		require.Equal(t, []string{"hook-too-slow"}, rules(t, err))
		require.ErrorContains(t, err, `the hook "authorizer" did not answer within 1m0s`)
		records, _ := d.all("account-")
		require.Empty(t, records)
	})
}
