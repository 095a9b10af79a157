package driven

import (
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Status is how driven folds stand.
type Status struct {
	follow.Status // Position is up to where all folds have taken all; Head is the log's

	Taken   uint64              // messages that brought an event, since Start
	Again   uint64              // that brought one which was known
	Refused uint64              // that were no events of this log
	Read    uint64              // events that were read from the log since no message brought them
	Waiting int                 // events that wait for one before them
	Missing eventstore.Position // the event they wait for; 0 if there is none, or it is not known

	LastError   error // why a message was refused last, or messages or the log did not come
	LastErrorAt time.Time
}

// Status returns how the folds stand. It waits for nothing.
func (f *Folds) Status() Status {
	s := Status{Status: f.follower.Status()}
	l := &f.line
	l.mu.Lock()
	s.Taken, s.Again, s.Refused, s.Read = l.counts.taken, l.counts.again, l.counts.refused, l.counts.read
	s.Waiting, s.Missing, s.LastError, s.LastErrorAt = len(l.ahead), l.next, l.counts.lastError, l.counts.lastErrorAt
	s.Head = max(s.Head, l.head)
	l.mu.Unlock()
	if s.Lag = 0; s.Head > s.Position {
		s.Lag = uint64(s.Head - s.Position)
	}
	if own := f.own.Load(); own != nil {
		for _, consumer := range own.Status() {
			if consumer.Err != nil {
				s.LastError = consumer.Err
			}
		}
	}
	return s
}
