package follow

import (
	"context"
	"sync"
)

// gate is a lock for many views and one writer. Other than with sync.RWMutex,
// waiting to enter ends with a context. Nobody starves: views that came while
// the writer was inside, or waited to be, enter before it can come again.
type gate struct {
	mu      sync.Mutex
	inside  int           // views
	written bool          // the writer is inside or waits for the views to leave
	waiting int           // views that wait for the writer to leave
	opened  chan struct{} // closed by the writer when it has counted those who wait as inside
	emptied chan struct{} // closed by the last view for the writer who waits
}

// enter lets a view in, or returns the error of ctx.
func (g *gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	if !g.written {
		g.inside++
		g.mu.Unlock()
		return nil
	}
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	opened := g.opened
	g.waiting++
	g.mu.Unlock()

	select {
	case <-opened:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	select {
	case <-opened: // let in meanwhile
		g.mu.Unlock()
		g.leave()
	default:
		g.waiting--
		g.mu.Unlock()
	}
	return ctx.Err()
}

// leave lets a view out.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.emptied != nil {
		close(g.emptied)
		g.emptied = nil
	}
}

// lock lets the one writer in when the views inside have left.
func (g *gate) lock() {
	g.mu.Lock()
	g.written = true
	if g.inside == 0 {
		g.mu.Unlock()
		return
	}
	emptied := make(chan struct{})
	g.emptied = emptied
	g.mu.Unlock()
	<-emptied
}

// tryLock lets the writer in if no view is inside, and reports whether it did.
func (g *gate) tryLock() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside > 0 {
		return false
	}
	g.written = true
	return true
}

func (g *gate) unlock() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.written = false
	g.inside += g.waiting
	g.waiting = 0
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}
