package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

// How often the server is asked for what others appended, while somebody waits: each
// time costs a round trip. It hears of most appends at once; the poll is for what a
// process that died could not tell, and for a fence that ends without an append.
const (
	pollHeard  = 500 * time.Millisecond // where it listens
	pollFirst  = 10 * time.Millisecond  // where it does not, and for a second after something came
	pollLast   = 100 * time.Millisecond
	listenWait = 5 * time.Second      // until it tries to listen again
	tellAgain  = 5 * time.Millisecond // between two notices: each is a transaction of the server's
)

// watch is the one poll that all who wait share, and what tells other processes.
type watch struct {
	mu      sync.Mutex
	waiting int                 // how many wait
	seen    eventstore.Position // no later than the head that any of them has seen
	stop    context.CancelFunc  // ends the poll; nil while there is none
	ended   bool
	polls   sync.WaitGroup

	telling bool // a notice is under way
	told    bool // and whether there was an append since it was sent
}

// Wait returns when there is an event after the given position: of this process at
// once, of another that listens within a few milliseconds, otherwise within half a
// second, and so is what AppendTx recorded unless Tell says it; see eventstore.Store. It
// holds a connection of its own to listen on, one for all who wait, unless PollOnly was
// asked for.
func (s *Store) Wait(ctx context.Context, after eventstore.Position) error {
	for {
		rung := s.bell.Listen()
		head, err := s.Head(ctx)
		switch {
		case err != nil:
			return err
		case head > after:
			return nil
		case head < after:
			// A position may have been read from a stream, ahead of the log.
			if err := s.persist(ctx, "wait", func(ctx context.Context) error { return s.reached(ctx, after) }); err != nil {
				return err
			}
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
		ctx, cancel := context.WithCancel(context.Background())
		w.stop = cancel
		heard := make(chan struct{}, 1)
		w.polls.Go(func() { s.poll(ctx, heard) })
		if !s.pollOnly {
			w.polls.Go(func() { s.listen(ctx, heard) })
		}
	}
}

// leave ends waiting. The poll goes on for a while: who waited often does so again.
func (s *Store) leave() {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting--
}

// idle ends the poll if nobody waits.
func (w *watch) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting > 0 || w.stop == nil {
		return false
	}
	w.stop()
	w.stop = nil
	return true
}

func (w *watch) end() {
	w.mu.Lock()
	w.ended = true
	if w.stop != nil {
		w.stop()
	}
	w.mu.Unlock()
	w.polls.Wait()
}

// poll rings the bell when the head has moved, or cannot be read: those who wait then
// find out themselves.
func (s *Store) poll(ctx context.Context, heard <-chan struct{}) {
	interval, quiet := pollFirst, time.Now()
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-heard:
		case <-ctx.Done():
			return
		}
		head, err := s.Head(ctx)
		if ctx.Err() != nil {
			return
		}
		s.watch.mu.Lock()
		moved := err != nil || head != s.watch.seen
		s.watch.seen = head
		s.watch.mu.Unlock()
		switch {
		case moved:
			interval, quiet = pollFirst, time.Now()
			s.bell.Ring()
		case time.Since(quiet) < time.Second:
			interval = min(pollLast, interval*5/4)
		case s.watch.idle():
			return
		case s.pollOnly:
			interval = pollLast
		default:
			interval = pollHeard
		}
		timer.Reset(interval)
	}
}

// listen passes on what other processes tell.
func (s *Store) listen(ctx context.Context, heard chan<- struct{}) {
	for ctx.Err() == nil {
		_ = s.hear(ctx, heard) // the poll goes on meanwhile, and tells those who wait of errors
		timer := time.NewTimer(listenWait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (s *Store) hear(ctx context.Context, heard chan<- struct{}) error {
	// A connection of its own: the pool's are for calls.
	c, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), rollbackWait)
		defer cancel()
		_ = c.Close(ctx) // it is only listened on
	}()
	if _, err := c.Exec(ctx, "LISTEN "+s.channel()); err != nil {
		return err
	}
	for {
		if _, err := c.WaitForNotification(ctx); err != nil {
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
	}
}

// channel is on which appends are told. Stores in one database have one each.
func (s *Store) channel() string { return "rollforward_" + s.schema }

// Tell wakes those who wait, here and in other processes: for whoever has committed a
// transaction with AppendTx.
func (s *Store) Tell() { s.tell() }

// tell wakes those who wait here, and tells other processes that something was
// appended. A commit that carried the notice itself would have all such commits of the
// database wait for each other; so it follows the commit, one for many. Where that
// fails the others find out by their poll.
func (s *Store) tell() {
	s.bell.Ring()
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = true
	if w.telling || w.ended || s.pollOnly {
		return
	}
	w.telling = true
	w.polls.Go(func() {
		for {
			w.mu.Lock()
			if !w.told || w.ended {
				w.telling = false
				w.mu.Unlock()
				return
			}
			w.told = false
			w.mu.Unlock()
			ctx, cancel := context.WithTimeout(s.calls.ctx, rollbackWait)
			_, _ = s.pool.Exec(ctx, "NOTIFY "+s.channel()) // see above
			cancel()
			rest := time.NewTimer(tellAgain)
			select {
			case <-rest.C:
			case <-s.done:
				rest.Stop()
			}
		}
	})
}
