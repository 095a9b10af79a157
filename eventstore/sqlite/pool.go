package sqlite

import (
	"context"
	"sync"

	"github.com/rollforward/rollforward/eventstore"
)

// pool is connections that are opened as they are needed and taken one at a time, the
// one that was used last first: its cache is warm, and those that are not needed stay
// closed.
type pool struct {
	free chan struct{} // a token for each connection that nobody has, open or not
	mu   sync.Mutex
	idle []*conn // those of them that are open
}

func newPool(n int) *pool {
	p := &pool{free: make(chan struct{}, n)}
	for range n {
		p.free <- struct{}{}
	}
	return p
}

// taken returns a connection for a token that was taken out of free, nil if none is open.
func (p *pool) taken() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return c
}

// put gives a connection back, or the token alone where c is nil.
func (p *pool) put(c *conn) {
	if c != nil {
		p.mu.Lock()
		p.idle = append(p.idle, c)
		p.mu.Unlock()
	}
	p.free <- struct{}{}
}

// acquire takes a connection out of p, opening it if need be. It waits until there is
// one, ctx ends or the store is closed.
func (s *Store) acquire(ctx context.Context, p *pool) (*conn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	select {
	case <-p.free:
	case <-s.done:
		return nil, eventstore.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := p.taken(), s.usable(ctx)
	if err == nil && c == nil {
		c, err = s.connect(ctx, false)
	}
	if err != nil {
		p.put(c)
		return nil, err
	}
	return c, nil
}

// release puts c back. One that has failed is closed instead, and the next user
// opens another.
func release(p *pool, c *conn, sound bool) {
	if !sound || c.hold() != nil {
		c.Close()
		c = nil
	}
	p.put(c)
}
