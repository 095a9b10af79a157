package driven

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/internal/wake"
)

// line puts what was delivered in the order of the log.
//
// Of positions it knows that one directly behind another has nothing before it; what
// else there is between two that were delivered the log has to say, and whether an
// append goes on behind its last event that was delivered.
type line struct {
	bell   wake.Bell     // rung when anything below has changed
	begins chan struct{} // closed when it is known where the folds begin
	stands atomic.Pointer[follow.Follower]

	mu      sync.Mutex
	begun   bool
	start   eventstore.Position // where the folds began, and where the log ended then
	history eventstore.Position

	kept   []eventstore.Recorded // in order: what is delivered behind base, up to top
	bytes  int                   // of kept
	base   eventstore.Position
	floor  eventstore.Position // up to here the appends are whole: what the folds may take
	top    eventstore.Position // up to here nothing is missing
	last   eventstore.Recorded // the record there; none at the start
	next   eventstore.Position // where the log goes on behind top; 0 if that is not known
	ahead  map[eventstore.Position]eventstore.Recorded
	early  int                 // bytes of ahead
	head   eventstore.Position // of the log, when it was last looked at
	moved  time.Time           // when top last did, or was first behind the head
	failed error               // why no more is delivered

	most, mostAhead limit // of kept, and of ahead

	counts counts
}

type counts struct {
	taken, again, refused, read uint64
	lastError                   error
	lastErrorAt                 time.Time
}

// limit is what is held in memory at most.
type limit struct{ events, bytes int }

// An append is kept wholly: 1,000 events of 4 MiB at most.
var (
	mostKept  = limit{2_048, 16 << 20}
	mostAhead = limit{10_000, 64 << 20}
)

// full reports whether the folds have to take some first.
func (l *line) full() bool { return len(l.kept) >= l.most.events || l.bytes >= l.most.bytes }

// crowded reports whether what comes too early has to wait where it is.
func (l *line) crowded() bool {
	return len(l.ahead) >= l.mostAhead.events || l.early >= l.mostAhead.bytes
}

// begin says where the folds are: they have taken all up to there.
func (l *line) begin(at eventstore.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun {
		return
	}
	l.begun, l.start, l.history, l.base, l.floor, l.top, l.moved = true, at, l.head, at, at, at, time.Now()
	close(l.begins)
	l.bell.Ring()
}

// room reports whether there is some for the record at a position, or returns what
// tells when to ask again. Where nothing but messages can bring what others wait for,
// the error is errCrowded instead.
func (l *line) room(at eventstore.Position, onlyMessages bool) (changed <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch wanted := at <= l.top+1 || at == l.next; {
	case l.failed != nil:
		return nil, l.failed
	case at > 0 && at <= l.top:
		return nil, nil // it is known
	case l.full():
		return l.bell.Listen(), nil
	case wanted || !l.crowded():
		return nil, nil
	case onlyMessages:
		return nil, errCrowded
	}
	return l.bell.Listen(), nil
}

var errCrowded = errors.New("too many events wait for one before them: it has to come first")

// take takes a record that was delivered. Where ordered, nothing of the log is
// between it and the one that was delivered before.
func (l *line) take(r eventstore.Recorded, ordered bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, here := l.ahead[r.Position]
	if r.Position == l.last.Position {
		known, here = l.last, true
	}
	switch {
	case here && known.ID != r.ID:
		return fmt.Errorf("event %s is said to be at position %d, where event %s is: it is of another log, or this one was rewound", r.ID, r.Position, known.ID)
	case here || r.Position <= l.top:
		l.counts.again++
		return nil
	}
	l.counts.taken++
	if ordered {
		l.push(r)
	} else {
		l.ahead[r.Position] = r
		l.early += r.Size()
	}
	l.join()
	l.bell.Ring()
	return nil
}

// push puts the record that follows on top.
func (l *line) push(r eventstore.Recorded) {
	if r.Append != l.last.Append {
		l.floor = l.top
	}
	l.kept = append(l.kept, r)
	l.bytes += r.Size()
	l.top, l.last, l.next, l.moved = r.Position, r, 0, time.Now()
}

// join puts what waited for the record on top behind it.
func (l *line) join() {
	for len(l.ahead) > 0 {
		r, here := l.ahead[l.top+1]
		if !here && l.next > 0 {
			r, here = l.ahead[l.next]
		}
		if !here {
			return
		}
		l.leave(r)
		l.push(r)
	}
}

// leave takes a record off those that wait.
func (l *line) leave(r eventstore.Recorded) {
	delete(l.ahead, r.Position)
	l.early -= r.Size()
}

// meet takes in what the log has behind all that is in order. It returns false where
// that was not delivered, unless it is to be taken from the log.
func (l *line) meet(r eventstore.Recorded, takeIt bool) (goOn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Position <= l.top {
		return true // it came meanwhile
	}
	waiting, here := l.ahead[r.Position]
	if here {
		l.leave(waiting)
	}
	if !here || waiting.ID != r.ID {
		if here {
			l.refuse(fmt.Errorf("event %s was delivered for position %d, where the log has event %s: it is of another log", waiting.ID, r.Position, r.ID))
		}
		if !takeIt {
			if l.next = r.Position; r.Append != l.last.Append {
				l.floor = l.top
			}
			l.bell.Ring()
			return false
		}
		waiting = r
		l.counts.read++
	}
	l.push(waiting)
	l.join()
	l.bell.Ring()
	return true
}

// whole takes in that the log had nothing behind a position.
func (l *line) whole(at eventstore.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.top == at && l.floor < at {
		l.floor = at
		l.bell.Ring()
	}
}

// open returns what was delivered behind base, up to floor, after the folds have
// taken all up to a position, which is forgotten.
func (l *line) open(taken eventstore.Position) (base eventstore.Position, kept []eventstore.Recorded, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return 0, nil, l.failed
	}
	l.forget(taken)
	kept = l.kept
	for len(kept) > 0 && kept[len(kept)-1].Position > l.floor {
		kept = kept[:len(kept)-1]
	}
	return l.base, slices.Clip(kept), nil
}

// forget drops what the folds have taken.
func (l *line) forget(taken eventstore.Position) {
	n := 0
	for n < len(l.kept) && l.kept[n].Position <= taken {
		l.bytes -= l.kept[n].Size()
		n++
	}
	if n > 0 {
		l.base = l.kept[n-1].Position
		l.kept = slices.Clone(l.kept[n:]) // readers may still be at the others
		l.bell.Ring()
	}
}

// beyond reports whether something may be taken after a position, or returns what
// tells when to ask again. What the folds had taken before is forgotten, up to the
// last, which a follower reads once more.
func (l *line) beyond(after, taken eventstore.Position) (changed <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if taken > 0 {
		l.forget(taken - 1)
	}
	if l.failed != nil || l.floor > after {
		return nil, l.failed
	}
	return l.bell.Listen(), nil
}

// saw takes in where the log ends.
func (l *line) saw(head eventstore.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if head <= l.head {
		return
	}
	if l.head <= l.top {
		l.moved = time.Now()
	}
	l.head = head
	l.bell.Ring()
}

// fail ends what is delivered.
func (l *line) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
		l.bell.Ring()
	}
}

// trouble keeps what went wrong, for people.
func (l *line) trouble(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.lastError, l.counts.lastErrorAt = err, time.Now()
}

// refuse counts a message that is not taken.
func (l *line) refuse(err error) {
	l.counts.refused++
	l.counts.lastError, l.counts.lastErrorAt = err, time.Now()
}

// at returns what is on top, where the folds began without the event.
func (l *line) at() place {
	l.mu.Lock()
	defer l.mu.Unlock()
	return place{l.top, l.last.ID}
}
