package follow

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/rollforward/rollforward/eventstore"
)

// View is a consistent cut of all folds. It lasts as long as the function it
// was given to; reach a fold by [Projection.In].
type View struct {
	follower *Follower
	position eventstore.Position
	ended    atomic.Bool
}

// Position returns the position up to which every fold of v has taken the log.
func (v *View) Position() eventstore.Position { return v.position }

// View runs read on one consistent cut and returns its error. Until the folds
// have reached the head that the log had at Start it waits, as long as ctx
// lasts; while the follower is stopped it fails with a *StoppedError, and after
// Close with eventstore.ErrClosed.
//
// Views run side by side. The follower waits for those under way, and views
// that come while it waits stand behind it: a slow view delays both, so copy
// out what takes long to work on. A View inside a View can wait forever.
func (f *Follower) View(ctx context.Context, read func(v *View) error) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	defer f.gate.leave()
	v := &View{follower: f, position: f.folds[0].position}
	defer v.ended.Store(true)
	return read(v)
}

// enter lets the caller into the gate when all folds stand at one cut.
func (f *Follower) enter(ctx context.Context) error {
	for {
		if err := f.gate.enter(ctx); err != nil {
			return fmt.Errorf("wait for the folds: %w", err)
		}
		// Inside the gate: the run cannot change this before the caller leaves.
		changed, err := f.await(0)
		if changed == nil && err == nil {
			return nil
		}
		f.gate.leave()
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return f.late(ctx)
		}
	}
}

// WaitFor returns nil when the folds have taken the event at position, so that a
// View begun afterwards shows it: at once if they have, later if the log has not
// come to it yet. WaitFor(ctx, 0) waits until views are ready. It fails as View
// does when ctx ends, while the follower is stopped, and after Close.
func (f *Follower) WaitFor(ctx context.Context, position eventstore.Position) error {
	for asked := false; ; asked = true {
		changed, err := f.await(position)
		if changed == nil || err != nil {
			return err
		}
		if !asked {
			f.offers.want(position)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return f.late(ctx)
		}
	}
}

// await returns nil and nil if there is a cut at or after position, an error if
// there will be none, and otherwise a channel that is closed when to ask again.
func (f *Follower) await(position eventstore.Position) (<-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.now.Closed:
		return nil, closedError{}
	case f.now.Stopped != nil:
		return nil, f.now.Stopped
	case f.now.Ready && f.now.Position >= position:
		return nil, nil
	}
	return f.bell.Listen(), nil
}

// late says how far the folds had come when ctx ended.
func (f *Follower) late(ctx context.Context) error {
	now := f.Status()
	if now.Retrying != nil {
		return fmt.Errorf("wait for the folds, at position %d of %d, reads fail: %w (%w)", now.Position, now.Head, ctx.Err(), now.Retrying)
	}
	return fmt.Errorf("wait for the folds, at position %d of %d: %w", now.Position, now.Head, ctx.Err())
}
