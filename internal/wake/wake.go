// Package wake tells any number of waiting goroutines that something happened.
package wake

import "sync"

// Bell wakes everybody who listens. The zero Bell is ready.
type Bell struct {
	mu sync.Mutex
	ch chan struct{}
}

// Listen returns a channel that the next Ring closes. To miss nothing, listen
// first and look at the state afterwards.
func (b *Bell) Listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// Ring wakes all who listen. It costs a lock where nobody does.
func (b *Bell) Ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
