package command

import (
	"context"
	"fmt"
	"sync"
)

// Number pins a stream that only counts, such as the one whose version is the number
// of the last change that was raised, and returns its version: the next number is one
// more. It is Check for streams that many units of work write to at once. One that
// has a number and is about to append it goes first; as soon as its append is under
// way the next one draws, on the version at which the stream will stand then, so that
// both can share a commit. Where that append fails, those behind it meet a conflict
// and run again. Numbers have no gaps: one that is not recorded is drawn anew.
//
// The turn is held until the append begins or the unit of work ends: draw late. Of
// one unit of work one stream is drawn from so, further ones as Check pins them; what
// is only tried takes no turn.
func (tx *Tx) Number(stream string) (uint64, error) {
	w := tx.work
	if !w.tried && w.turn == nil {
		r := w.door.registers.of(stream)
		if err := r.take(tx.Context(), w.attempts > 1); err != nil {
			return 0, fmt.Errorf("wait for a number of stream %q: %w", stream, err)
		}
		w.turn = r
	}
	return tx.Check(stream)
}

// registers are the streams that a door has drawn from, by name.
type registers struct {
	mu    sync.Mutex
	drawn map[string]*register
}

func (all *registers) of(stream string) *register {
	all.mu.Lock()
	defer all.mu.Unlock()
	r := all.drawn[stream]
	if r == nil {
		if all.drawn == nil {
			all.drawn = map[string]*register{}
		}
		r = &register{stream: stream, turn: make(chan struct{}, 1)}
		all.drawn[stream] = r
	}
	return r
}

// register is a stream that only counts, as one door draws from it.
type register struct {
	stream string
	turn   chan struct{} // holds a token while a unit of work has a number that it has not begun to append

	mu       sync.Mutex
	underWay int           // appends with numbers of it
	landed   chan struct{} // closed when none of them is under way any more
	next     uint64        // where the stream stands when all of them have gone through
	broken   bool          // one of them has not
}

// take waits for the turn; then, where somebody else was faster or an append before it
// has failed, until none is under way: where the stream stands is then to be looked up.
func (r *register) take(ctx context.Context, again bool) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	landed, wait := r.landed, r.underWay > 0 && (again || r.broken)
	r.mu.Unlock()
	if !wait {
		return nil
	}
	select {
	case <-landed:
		return nil
	case <-ctx.Done():
		r.pass()
		return ctx.Err()
	}
}

// pass ends the turn.
func (r *register) pass() { <-r.turn }

// begin says that an append is under way, behind which the stream stands at next.
func (r *register) begin(next uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.underWay == 0 {
		r.landed, r.broken = make(chan struct{}), false
	}
	r.underWay++
	r.next = next
}

// end says how the append ended. One of unknown outcome may be sent again: it counts
// as one that failed, so that nobody builds on it.
func (r *register) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = r.broken || err != nil
	if r.underWay--; r.underWay == 0 {
		close(r.landed)
	}
}

// expected returns where the stream will stand; ok is false if that is to be looked up.
func (r *register) expected() (version uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next, r.underWay > 0 && !r.broken
}
