package sqlite

import (
	"sync"

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

	mu      sync.Mutex // the connection's user alone writes to streams; Recall reads them beside it
	streams map[string]stream
}

// find returns where a stream stands, if that is known.
func (m *memo) find(name string) (st stream, ok bool) {
	if m == nil {
		return stream{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	st, ok = m.streams[name]
	return st, ok
}

// keep remembers a stream; a full memo forgets the others.
func (m *memo) keep(name string, st stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.streams) >= maxNames {
		clear(m.streams)
	}
	m.streams[name] = st
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
		c.store.memo.Store(c.memo)
	}
	return nil
}

// Recall returns where a stream stood when this process last looked, without a look
// at the file; see eventstore.Recaller.
func (s *Store) Recall(stream string) (version uint64, ok bool) {
	st, ok := s.memo.Load().find(stream)
	return st.version, ok
}

// forget is for commits that say nothing of what they changed.
func (c *conn) forget() {
	if c.memo != nil {
		c.store.memo.CompareAndSwap(c.memo, nil)
		c.memo = nil
	}
}

// learn takes over what a transaction has committed.
func (c *conn) learn(t *transaction) {
	m := c.memo
	if m == nil {
		return
	}
	for name, st := range t.streams {
		m.keep(name, *st)
	}
	m.head, m.headed = t.head, true
}

// version returns a stream's key and where it stands, zeros if it does not exist.
func (c *conn) version(name string) (st stream, err error) {
	if st, ok := c.memo.find(name); ok {
		return st, nil
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
	if c.memo != nil {
		c.memo.keep(name, st)
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
