package rollforward

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// ErrName says that a handler has a name that is taken, by another handler or by a
// fold: progress and decisions are kept by names.
var ErrName = errors.New("the name is taken")

// handling is one call of Handle.
type handling struct {
	*relay.Handlers
	names  []string
	cancel context.CancelFunc // of what Run is given
	ended  chan error         // has what Run returned, once
}

// Handle runs handlers on the log until Close, beside those of earlier calls. They
// are given what is recorded from its return on; see relay.Handler for where one goes
// on that ran before, here or in another process, and for the lease by which only one
// of several processes is given the events.
//
// A handler is called when the folds of this engine have taken its event, so that
// queries within it see at least that event, whoever recorded it. While the folds are
// stopped no handler is called, and no event is parked for that.
//
// Its error is ErrName for a name that is taken, eventstore.ErrClosed after Close,
// relay.ErrNoCheckpoints where the store keeps none, or says what is wrong with a
// handler; then none of these runs. It costs a look at the head of the log.
func (e *Engine) Handle(handlers ...relay.Handler) error {
	ctx, cancel := context.WithCancel(context.Background())
	if err := e.admit(cancel); err != nil {
		cancel()
		return fmt.Errorf("rollforward: handle: %w", err)
	}
	defer e.starting.Unlock()
	h := &handling{cancel: cancel, ended: make(chan error, 1)}
	err := e.start(ctx, h, handlers)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.giveUp = nil
	switch {
	case err != nil:
		cancel()
		return fmt.Errorf("rollforward: handle: %w", err)
	case len(handlers) == 0:
		cancel()
	default:
		e.handling = append(e.handling, h)
	}
	return nil
}

// admit lets one Handle at a time go on, with starting locked, and has Close end it by
// giveUp.
func (e *Engine) admit(giveUp context.CancelFunc) error {
	if e.isClosing() {
		return closedError{} // at once, and not when Close has ended
	}
	e.starting.Lock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		e.starting.Unlock()
		return closedError{}
	}
	e.giveUp = giveUp
	return nil
}

func (e *Engine) isClosing() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closing
}

// start returns when h runs, or why it does not.
func (e *Engine) start(ctx context.Context, h *handling, handlers []relay.Handler) error {
	if len(handlers) == 0 {
		return nil
	}
	for _, handler := range handlers {
		h.names = append(h.names, handler.Name)
		switch {
		case e.isFold(handler.Name):
			return fmt.Errorf("%q is a fold: %w", handler.Name, ErrName)
		case e.handles(handler.Name):
			return fmt.Errorf("a handler %q runs already: %w", handler.Name, ErrName)
		}
	}
	config := relay.Config{
		Store: e.store, Registry: e.registry, Lease: e.config.Lease, Grace: e.config.Grace, Logger: e.config.Logger, Observer: e.config.Observer,
		Before: func(ctx context.Context, env relay.Envelope) error { return e.follower.WaitFor(ctx, env.Position) },
	}
	var err error
	if h.Handlers, err = relay.New(config, handlers...); err != nil {
		return err
	}
	go func() { h.ended <- h.Run(ctx) }()
	select {
	case <-h.Running():
		return nil
	case err := <-h.ended:
		if ctx.Err() != nil {
			return closedError{}
		}
		return err
	}
}

// handles reports whether this engine runs a handler of that name.
func (e *Engine) handles(name string) bool {
	return slices.ContainsFunc(e.running(), func(h *handling) bool { return slices.Contains(h.names, name) })
}

// isFold reports whether one of the engine's folds has the name.
func (e *Engine) isFold(name string) bool {
	return slices.ContainsFunc(e.follower.Status().Folds, func(f follow.FoldStatus) bool { return f.Name == name })
}

// running returns what Handle runs.
func (e *Engine) running() []*handling {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.handling)
}

// stopHandlers ends them all at once, and lets no further ones begin.
func (e *Engine) stopHandlers() error {
	e.mu.Lock()
	e.closing = true
	if e.giveUp != nil {
		e.giveUp() // a Handle that waits for the store
	}
	e.mu.Unlock()
	e.starting.Lock()
	defer e.starting.Unlock()
	all := e.running()
	errs := make([]error, len(all))
	var closing sync.WaitGroup
	for i, h := range all {
		closing.Go(func() {
			if errs[i] = h.Close(); errs[i] == nil {
				errs[i] = <-h.ended
			}
			h.cancel()
		})
	}
	closing.Wait()
	return errors.Join(errs...)
}

// closedError is eventstore.ErrClosed of an engine, not of its store.
type closedError struct{}

func (closedError) Error() string        { return "the engine is closed" }
func (closedError) Is(target error) bool { return target == eventstore.ErrClosed }
