package command

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Hook runs a policy hook under the door's deadline and returns what it answers.
// A hook that panics, fails or outlives its deadline refuses the command: the
// error is an *[Error] of kind Unavailable, by "hook-panicked", "hook-failed" or
// "hook-too-slow"; an *Error of f passes as it is. Where ctx itself has ended,
// its error is returned. The answer is recorded by who asks, so that it is never
// asked again for the same decision.
//
// f runs in a goroutine of its own. If it heeds its ctx it ends with the
// deadline; if not it is left behind, so f touches nothing that its caller goes
// on to change.
func Hook[T any](ctx context.Context, d *Door, name string, f func(ctx context.Context) (T, error)) (T, error) {
	return underDeadline(ctx, d, name, "hook-failed", f)
}

type answer[T any] struct {
	value T
	err   error
}

// errEndedGoroutine is of a hook that called runtime.Goexit, as t.FailNow does.
var errEndedGoroutine = errors.New("it ended its goroutine without an answer")

func underDeadline[T any](ctx context.Context, d *Door, name, failed string, f func(ctx context.Context) (T, error)) (T, error) {
	var none T
	limited, cancel := context.WithTimeout(ctx, d.config.HookTimeout)
	defer cancel()
	answers := make(chan answer[T], 1)
	go func() {
		a := answer[T]{err: errEndedGoroutine}
		defer func() {
			if p := recover(); p != nil {
				a.err = d.panicked(name, p)
			}
			answers <- a
		}()
		a.value, a.err = f(limited)
	}()
	var a answer[T]
	select {
	case a = <-answers:
	case <-limited.Done():
		a.err = limited.Err()
	}
	var e *Error
	switch {
	case a.err == nil:
		return a.value, nil
	case errors.As(a.err, &e):
		return none, a.err
	case ctx.Err() != nil:
		return none, ctx.Err()
	case limited.Err() != nil:
		return none, Refuse(Refusal{
			Kind: Unavailable, Rule: "hook-too-slow",
			Reason: fmt.Sprintf("the hook %q did not answer within %s", name, d.config.HookTimeout),
			Remedy: "try again when it is faster",
		})
	}
	return none, Refuse(Refusal{
		Kind: Unavailable, Rule: failed, Reason: fmt.Sprintf("the hook %q failed: %v", name, a.err),
		Remedy: "try again when it works",
	})
}

// panicked is called in the deferred function of who recovered p, so that the
// stack is that of the panic.
func (d *Door) panicked(name string, p any) error {
	d.config.Logger.Error("a hook panicked", "hook", name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return Refuse(Refusal{
		Kind: Unavailable, Rule: "hook-panicked", Reason: fmt.Sprintf("the hook %q panicked: %v", name, p),
		Remedy: "have it mended; its stack is in the log of the program",
	})
}
