package sqlite

import (
	"github.com/rollforward/rollforward/eventstore"
)

// memo is what the connection that appends knows of the log: where it ends and
// where streams stand. It holds for as long as no other connection has committed,
// which SQLite tells by PRAGMA data_version; the connection's own commits do not
// change that, and are told by it.
type memo struct {
	version int64 // data_version under which the rest holds
	head    eventstore.Position
	headed  bool // head is known
	streams map[string]stream
}

// recall makes c remember from here on, and forget what another connection may
// have made untrue. Within a transaction it holds to its end, otherwise it says
// what is true at this moment.
func (c *conn) recall() error {
	version, _, err := c.number("PRAGMA data_version")
	if err != nil {
		return err
	}
	if c.memo == nil || c.memo.version != version {
		c.memo = &memo{version: version, streams: map[string]stream{}}
	}
	return nil
}

// forget is for commits that say nothing of what they changed.
func (c *conn) forget() { c.memo = nil }

// learn takes over what a transaction has committed.
func (c *conn) learn(t *transaction) {
	m := c.memo
	if m == nil {
		return
	}
	if len(m.streams)+len(t.streams) > maxNames {
		clear(m.streams)
	}
	for name, st := range t.streams {
		m.streams[name] = *st
	}
	m.head, m.headed = t.head, true
}

// version returns a stream's key and where it stands, zeros if it does not exist.
func (c *conn) version(name string) (st stream, err error) {
	if c.memo != nil {
		if st, ok := c.memo.streams[name]; ok {
			return st, nil
		}
	}
	key, ok, err := c.number(sqlStreamKey, name)
	if err != nil {
		return stream{}, err
	}
	if ok {
		version, _, err := c.number(sqlVersion, key)
		if err != nil {
			return stream{}, err
		}
		st = stream{key, uint64(version)}
	}
	if c.memo != nil && len(c.memo.streams) < maxNames {
		c.memo.streams[name] = st
	}
	return st, nil
}

// head returns the position of the last event, or 0.
func (c *conn) head() (eventstore.Position, error) {
	if c.memo != nil && c.memo.headed {
		return c.memo.head, nil
	}
	p, _, err := c.number(sqlHead)
	if err == nil && c.memo != nil {
		c.memo.head, c.memo.headed = eventstore.Position(p), true
	}
	return eventstore.Position(p), err
}
