package sqlite

import (
	"context"
	"maps"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

// The statements of a write. Each costs O(log n).
const (
	sqlHead        = "SELECT max(position) FROM events"
	sqlStreamKey   = "SELECT key FROM streams WHERE name = ?"
	sqlTypeKey     = "SELECT key FROM types WHERE name = ?"
	sqlTagKey      = "SELECT key FROM tags WHERE name = ?"
	sqlVersion     = "SELECT max(version) FROM events WHERE stream = ?"
	sqlByID        = "SELECT " + columns + " FROM events WHERE id = ?"
	sqlAddStream   = "INSERT INTO streams (name) VALUES (?)"
	sqlAddType     = "INSERT INTO types (name) VALUES (?)"
	sqlAddTag      = "INSERT INTO tags (name) VALUES (?)"
	sqlAddBlock    = "INSERT OR IGNORE INTO type_blocks (type, block) VALUES (?, ?)"
	sqlAddEventTag = "INSERT INTO event_tags (tag, position) VALUES (?, ?)"
	sqlAddEvent    = "INSERT INTO events (" + columns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

// Append records events; see eventstore.Store. It costs one transaction, whose
// commit syncs the log beside the file once, however many events there are; a few
// look-ups in indexes an event; and none that grows with the history but as O(log n).
func (s *Store) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := eventstore.Validate(events, expect); err != nil {
		return nil, err
	}
	var records []eventstore.Recorded
	// IDs come before expectations. They are hardly ever known, so they are looked up
	// only where an expectation fails, and where the log turns out to have one.
	careful := false
	attempt := func(c *conn) (bool, error) {
		known := func() (done bool, err error) {
			records, err = eventstore.Resend(events, c.known)
			return records != nil || err != nil, err
		}
		s.at("ids")
		if careful {
			if done, err := known(); done {
				return false, err
			}
		}
		t := &transaction{s: s, c: c, ctx: ctx, streams: map[string]*stream{}}
		s.at("expectations")
		for _, x := range expect {
			st, err := t.stream(x.Stream)
			if err != nil {
				return false, err
			}
			if st.version == x.Version {
				continue
			}
			if done, err := known(); done {
				return false, err
			}
			return false, &eventstore.ConflictError{Stream: x.Stream, Want: x.Version, Actual: st.version}
		}
		at := s.now().UTC().Truncate(time.Microsecond)
		head, err := c.head()
		if err != nil {
			return false, err
		}
		records = make([]eventstore.Recorded, len(events))
		for i, e := range events {
			st, err := t.stream(e.Stream)
			if err != nil {
				return false, err
			}
			records[i] = eventstore.Recorded{
				Event: e, Version: st.version + 1, Position: head + 1 + eventstore.Position(i), Append: head + 1, RecordedAt: at,
			}
			if err := t.add(records[i]); err != nil {
				return false, err
			}
		}
		t.head = head + eventstore.Position(len(events))
		c.appended = t
		return true, nil
	}
	err := s.write(ctx, "append to", attempt)
	if code(err) == driver.ResultConstraint {
		careful = true
		err = s.write(ctx, "append to", attempt)
	}
	if err != nil {
		return nil, outcome(err)
	}
	return records, nil
}

// write runs f in a transaction and commits if f says so. Appenders of this
// process wait in a queue, those of other processes by trying again; f runs
// again when another was in the way.
//
// ctx ends it up to the commit, and nothing is recorded then. From there on it
// is not asked any more.
func (s *Store) write(ctx context.Context, doing string, f func(c *conn) (bool, error)) error {
	if s.readOnly {
		if err := s.usable(ctx); err != nil {
			return err
		}
		return eventstore.ErrReadOnly
	}
	c, err := s.acquire(ctx, s.writer)
	if err != nil {
		return s.explain(doing, err)
	}
	sound := false // until told, should the clock panic
	defer func() { release(s.writer, c, sound) }()
	try := func() (err error) {
		sound, err = s.transact(ctx, c, f)
		return err
	}
	if s.hooks.impatient {
		err = try()
	} else {
		err = s.patiently(ctx, try)
	}
	if err == nil {
		s.bell.Ring()
	}
	return s.explain(doing, err)
}

// transact tries f once. sound is false if the connection must not be used again.
func (s *Store) transact(ctx context.Context, c *conn, f func(c *conn) (bool, error)) (sound bool, err error) {
	begin := "BEGIN IMMEDIATE"
	if s.hooks.begin != "" {
		begin = s.hooks.begin
	}
	clear(c.newTypes)
	clear(c.newTags)
	clear(c.newBlocks)
	c.appended = nil
	s.at("begin")
	if err := s.usable(ctx); err != nil {
		return true, err
	}
	if err := c.exec(begin); err != nil {
		return c.rollback(), err
	}
	commit, err := false, c.recall()
	if err == nil {
		commit, err = f(c)
	}
	if err == nil && commit {
		s.at("commit")
		err = ctx.Err()
	}
	if err != nil || !commit {
		return c.rollback(), err
	}
	done := func() error { return c.exec("COMMIT") }
	if s.hooks.commit != nil {
		err = engine(s.hooks.commit(done))
	} else {
		err = done()
	}
	switch code(err) {
	case driver.ResultOK:
		keep(c.typeKeys, c.newTypes)
		keep(c.tagKeys, c.newTags)
		keep(c.blocks, c.newBlocks)
		if c.appended != nil {
			c.learn(c.appended)
		} else {
			c.forget()
		}
		s.at("committed")
		return true, nil
	case driver.ResultFull, driver.ResultReadOnly, driver.ResultBusy:
		// Said before the record of the commit is complete.
		return c.rollback(), err
	default:
		// A sync that failed may have written all the same, and what the
		// system then holds in its cache is anybody's guess.
		c.rollback()
		return false, uncertain{err}
	}
}

// keep adds what is committed, within a bound.
func keep[K comparable](keys, added map[K]int64) {
	if len(keys)+len(added) > maxNames {
		clear(keys)
	}
	maps.Copy(keys, added)
}

// at tells a test where a write stands.
func (s *Store) at(step string) {
	if s.hooks.step != nil {
		s.hooks.step(step)
	}
}

// rollback ends a transaction that may be open. It reports whether none is.
func (c *conn) rollback() bool {
	if !c.AutocommitEnabled() {
		c.exec("ROLLBACK")
	}
	return c.AutocommitEnabled()
}

// transaction is what a write knows of the streams it touches.
type transaction struct {
	s       *Store
	c       *conn
	ctx     context.Context
	streams map[string]*stream
	head    eventstore.Position // of the log after it
}

type stream struct {
	key     int64 // 0 where the stream has no event yet
	version uint64
}

// stream returns where a stream stands within the transaction.
func (t *transaction) stream(name string) (*stream, error) {
	if st := t.streams[name]; st != nil {
		return st, nil
	}
	st, err := t.c.version(name)
	if err != nil {
		return nil, err
	}
	t.streams[name] = &st
	return &st, nil
}

// add inserts r, the next event of its stream and of the log.
func (t *transaction) add(r eventstore.Recorded) error {
	t.s.at("event")
	if err := t.s.usable(t.ctx); err != nil {
		return err
	}
	st, err := t.stream(r.Stream)
	if err != nil {
		return err
	}
	if st.key == 0 {
		if st.key, err = t.c.insert(sqlAddStream, r.Stream); err != nil {
			return err
		}
	}
	typ, err := t.c.key(t.c.typeKeys, t.c.newTypes, sqlTypeKey, sqlAddType, r.Type)
	if err != nil {
		return err
	}
	stmt, err := t.c.prepare(sqlAddEvent)
	if err != nil {
		return err
	}
	stmt.BindInt64(1, int64(r.Position))
	stmt.BindInt64(2, int64(r.Append))
	stmt.BindBytes(3, r.ID[:])
	stmt.BindInt64(4, st.key)
	stmt.BindInt64(5, int64(r.Version))
	stmt.BindInt64(6, typ)
	stmt.BindInt64(7, int64(r.Schema))
	stmt.BindInt64(8, r.RecordedAt.UnixMicro())
	if len(r.Tags) > 0 {
		tags, err := json.Marshal(r.Tags)
		if err != nil {
			return err
		}
		stmt.BindText(9, string(tags))
	}
	if len(r.Meta) > 0 {
		stmt.BindText(10, string(r.Meta))
	}
	stmt.BindText(11, string(r.Data))
	if _, err := step(stmt); err != nil {
		return err
	}
	if err := t.c.mark(typ, block(r.Position)); err != nil {
		return err
	}
	for _, tag := range r.Tags {
		key, err := t.c.key(t.c.tagKeys, t.c.newTags, sqlTagKey, sqlAddTag, tag)
		if err == nil {
			err = t.c.exec(sqlAddEventTag, key, int64(r.Position))
		}
		if err != nil {
			return err
		}
	}
	st.version = r.Version
	return nil
}

// insert adds a name and returns its key.
func (c *conn) insert(query, name string) (int64, error) {
	err := c.exec(query, name)
	return c.LastInsertRowID(), err
}

// key returns the key of a name, a new one if need be. committed and added are what
// is known of the keys of its kind.
func (c *conn) key(committed, added map[string]int64, find, add, name string) (int64, error) {
	if key, ok := committed[name]; ok {
		return key, nil
	}
	if key, ok := added[name]; ok {
		return key, nil
	}
	key, ok, err := c.number(find, name)
	if err == nil && !ok {
		key, err = c.insert(add, name)
	}
	if err == nil {
		added[name] = key
	}
	return key, err
}

// mark notes that a block of positions has an event of a type. They come in rising
// order, so that the last one of each type is all there is to remember.
func (c *conn) mark(typ, at int64) error {
	for _, marked := range []map[int64]int64{c.newBlocks, c.blocks} {
		if last, ok := marked[typ]; ok && last == at {
			return nil
		}
	}
	c.newBlocks[typ] = at
	return c.exec(sqlAddBlock, typ, at)
}

// known returns the record of an ID, if there is one.
func (c *conn) known(id uuid.UUID) (r eventstore.Recorded, ok bool, err error) {
	err = c.each(sqlByID, func(stmt *driver.Stmt) error {
		ok = true
		r, err = c.record(stmt)
		return err
	}, id[:])
	return r, ok, err
}
