package relay

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Status is how a consumer stands in this process.
type Status struct {
	Consumer string // its name; empty where it is not durable
	Topic    string

	Holding bool   // it holds the lease, so that it is given the messages
	Standby bool   // another holds it
	Token   uint64 // of the lease that it holds or held last
	Stopped bool   // Err does not go away by trying again: mend the cause and restart
	Err     error  // why it does not go on; nil while it does

	Position     eventstore.Position // up to here all is done but what is behind
	Head         eventstore.Position // of the log when it was last looked at
	Lag          uint64              // Head - Position; as many events at most where positions have no gaps
	UnderWay     int                 // messages that wait for an answer
	Acknowledged uint64              // since it was started
	Refused      uint64
	LastError    error // of the last delivery that failed
	LastErrorAt  time.Time
	Behind       []Behind // what waits, by position
}

// Behind is an event that failed, is parked, or takes long while the log goes on, and
// whose stream waits for it. After a restart a stream is there once it was looked at.
type Behind struct {
	Event    uuid.UUID
	Stream   string
	Type     string
	Position eventstore.Position
	Attempts int       // since it was read or last decided on
	Since    time.Time // when it failed first
	Due      time.Time // when it is tried again
	Err      error     // of the last attempt
	Parked   bool      // it waits for a decision: Retry or Skip
}

// status returns how the consumer stands.
func (c *consumer) status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now
	now.Behind = slices.Collect(maps.Values(c.behindNow))
	if c.front != nil {
		now.Behind = append(now.Behind, *c.front)
	}
	slices.SortFunc(now.Behind, func(a, b Behind) int { return cmp.Compare(a.Position, b.Position) })
	if now.Head > now.Position {
		now.Lag = uint64(now.Head - now.Position)
	}
	return now
}

// publish changes what status returns.
func (c *consumer) publish(change func(now *Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.now)
}

// show publishes how the line stands; what its sidings wait for is told as it changes.
func (l *line) show() {
	var front *Behind
	if len(l.ready) > 0 && l.ready[0].attempts > 0 {
		b := waits(l.ready[0].record, l.ready[0].try, false)
		front = &b
	}
	l.publish(func(now *Status) {
		now.Position, now.UnderWay, l.front = l.position, len(l.flying), front
	})
}

func waits(r eventstore.Recorded, t try, parked bool) Behind {
	return Behind{
		Event: r.ID, Stream: r.Stream, Type: r.Type, Position: r.Position,
		Attempts: t.attempts, Since: t.since, Due: t.due, Err: t.failed, Parked: parked,
	}
}
