package sqlite

import (
	"context"
	"sync"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// How often the file is asked for what other processes appended, while somebody
// waits: each time costs a few us.
const (
	pollFirst = 10 * time.Millisecond
	pollLast  = 50 * time.Millisecond
)

// watch is the one poll that all who wait share.
type watch struct {
	mu      sync.Mutex
	waiting int                 // how many wait
	seen    eventstore.Position // no later than the head that any of them has seen
	stop    chan struct{}       // ends the poll; nil while there is none
	ended   bool
	polls   sync.WaitGroup
}

// Wait returns when there is an event after the given position, of this process
// at once, of another within 50 ms; see eventstore.Store.
func (s *Store) Wait(ctx context.Context, after eventstore.Position) error {
	for {
		rung := s.bell.Listen()
		head, err := s.Head(ctx)
		switch {
		case err != nil:
			return err
		case head < after:
			return eventstore.ErrRewound
		case head > after:
			return nil
		}
		s.join(head)
		select {
		case <-rung:
		case <-s.done:
		case <-ctx.Done():
		}
		s.leave()
	}
}

// join begins to wait at head, and starts the poll for the first who does.
func (s *Store) join(head eventstore.Position) {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting++; w.waiting == 1 || head < w.seen {
		w.seen = head
	}
	if w.stop == nil && !w.ended {
		stop := make(chan struct{})
		w.stop = stop
		w.polls.Go(func() { s.poll(stop) })
	}
}

// leave ends waiting, and the poll with the last who does.
func (s *Store) leave() {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting--; w.waiting == 0 && w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
}

// end calls closed, under which no poll starts any more, and waits for the one there is.
func (w *watch) end(closed func()) {
	w.mu.Lock()
	w.ended = true
	closed()
	w.mu.Unlock()
	w.polls.Wait()
}

// poll rings the bell when the head has moved, or cannot be read: those who
// wait then find out themselves.
func (s *Store) poll(stop chan struct{}) {
	interval := pollFirst
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-stop:
			return
		case <-s.done:
			return
		}
		head, err := s.Head(context.Background())
		s.watch.mu.Lock()
		moved := err != nil || head != s.watch.seen
		s.watch.seen = head
		s.watch.mu.Unlock()
		interval = min(pollLast, interval*5/4)
		if moved {
			interval = pollFirst
			s.bell.Ring()
		}
		timer.Reset(interval)
	}
}
