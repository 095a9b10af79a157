package sqlite

import (
	"context"
	"fmt"
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
// Appends that come while another one commits share the next commit; see queue.go.
func (s *Store) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := eventstore.Validate(events, expect); err != nil {
		return nil, err
	}
	a := &appending{s: s, events: events, expect: expect}
	if err := s.together(ctx, a); err != nil {
		return nil, outcome(err)
	}
	return a.records, nil
}

// AppendWith records events and runs also in the same transaction, behind them: what
// it does to tables of the caller's own in the file is committed with the events or
// not at all. It is told what is recorded. An error of also is returned, as one that
// is eventstore.ErrNotApplied, and nothing is recorded.
//
// also may run again, where another process was in the way, and does not run where
// the events are known from an earlier append. It neither begins nor ends a
// transaction, and leaves the tables of the store alone. Statements that it prepares
// on c are kept for the next time. While it runs nobody else appends.
func (s *Store) AppendWith(ctx context.Context, events []eventstore.Event, also func(c *driver.Conn, records []eventstore.Recorded) error, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := eventstore.Validate(events, expect); err != nil {
		return nil, err
	}
	a := &appending{s: s, events: events, expect: expect, also: also}
	if err := a.alone(ctx); err != nil {
		return nil, outcome(err)
	}
	return a.records, nil
}

// appending is one append under way.
type appending struct {
	s       *Store
	events  []eventstore.Event
	expect  []eventstore.Expect
	also    func(c *driver.Conn, records []eventstore.Recorded) error // nil: nothing
	records []eventstore.Recorded
	careful bool // its IDs are looked up first
}

// alone appends in a transaction of its own.
//
// IDs come before expectations. They are hardly ever known, so they are looked up
// only where an expectation fails, and where the log turns out to have one.
func (a *appending) alone(ctx context.Context) error {
	attempt := func(c *conn) (bool, error) {
		t := c.transaction(ctx)
		err := a.add(t)
		if t.rows > 0 {
			c.appended = t
		}
		return t.rows > 0, err
	}
	err := a.s.write(ctx, "append to", attempt)
	if code(err) == driver.ResultConstraint && !a.careful {
		a.careful = true
		err = a.s.write(ctx, "append to", attempt)
	}
	return err
}

// add looks up and inserts within a transaction. What is refused is refused before it
// inserts.
func (a *appending) add(t *transaction) error {
	s, c := a.s, t.c
	known := func() (done bool, err error) {
		a.records, err = eventstore.Resend(a.events, c.known)
		return a.records != nil || err != nil, err
	}
	s.at("ids")
	if a.careful {
		if done, err := known(); done {
			return err
		}
	}
	s.at("expectations")
	for _, x := range a.expect {
		st, err := t.stream(x.Stream)
		if err != nil {
			return err
		}
		if st.version == x.Version {
			continue
		}
		if done, err := known(); done {
			return err
		}
		return &eventstore.ConflictError{Stream: x.Stream, Want: x.Version, Actual: st.version}
	}
	at := s.now().UTC().Truncate(time.Microsecond)
	head, err := t.end()
	if err != nil {
		return err
	}
	a.records = make([]eventstore.Recorded, len(a.events))
	for i, e := range a.events {
		st, err := t.stream(e.Stream)
		if err != nil {
			return err
		}
		a.records[i] = eventstore.Recorded{
			Event: e, Version: st.version + 1, Position: head + 1 + eventstore.Position(i), Append: head + 1, RecordedAt: at,
		}
		if err := t.add(&a.records[i]); err != nil {
			return err
		}
	}
	t.head = head + eventstore.Position(len(a.events))
	if a.also != nil {
		return a.extend(t)
	}
	return nil
}

// extend runs what is to be committed with the events, and sees that it left the
// transaction and the log as they were.
func (a *appending) extend(t *transaction) error {
	if err := t.c.exec("SAVEPOINT also"); err != nil {
		return err
	}
	if err := a.also(t.c.Conn, a.records); err != nil {
		return err
	}
	if err := t.c.exec("RELEASE also"); err != nil {
		err = fmt.Errorf("what was to be committed with the events ended their transaction: leave that to the store: %w", err)
		if t.c.AutocommitEnabled() {
			return uncertain{err} // perhaps by a commit
		}
		return err
	}
	if head, _, err := t.c.number(sqlHead); err != nil {
		return err
	} else if eventstore.Position(head) != t.head {
		return fmt.Errorf("%w: what was to be committed with the events changed the log: append by the store alone", eventstore.ErrInvalid)
	}
	return nil
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
	if err == nil && s.unsure {
		if s.hooks.harden != nil {
			s.hooks.harden()
		}
		err = harden(s.path + "-wal")
		s.unsure = err != nil
	}
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
		wrote := walLook // a checkpoint of any size
		if c.appended != nil {
			c.learn(c.appended)
			wrote = c.appended.pages()
		} else {
			c.forget()
		}
		s.at("committed")
		return s.hooks.unbounded || s.bound.hold(c, s.path+"-wal", wrote) == nil, nil
	case driver.ResultFull, driver.ResultReadOnly, driver.ResultBusy:
		// Said before the record of the commit is complete.
		return c.rollback(), err
	default:
		// A sync that failed may have written all the same, and what the
		// system then holds in its cache is anybody's guess.
		s.unsure = true
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
	if c.AutocommitEnabled() {
		c.forget() // it ended by itself, and who knows how
	} else {
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
	room    []stream            // for the next ones
	rows    int                 // events inserted, or begun to be
	bytes   int                 // of their data and metadata
	head    eventstore.Position // of the log after them
}

type stream struct {
	key     int64 // 0 where the stream has no event yet
	version uint64
}

// transaction returns one that begins. There is one at a time, and its memory is
// used again.
func (c *conn) transaction(ctx context.Context) *transaction {
	t := &c.writing
	if t.streams == nil || len(t.streams) > mostTogether {
		t.streams = map[string]*stream{}
	}
	clear(t.streams)
	*t = transaction{s: c.store, c: c, ctx: ctx, streams: t.streams, room: t.room}
	return t
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
	if len(t.room) == 0 {
		t.room = make([]stream, 64)
	}
	kept := &t.room[0]
	t.room = t.room[1:]
	*kept = st
	t.streams[name] = kept
	return kept, nil
}

// pages returns about how many bytes the transaction has added to the log beside the
// file: pages of tables and indexes, of which an event changes a few of its own.
func (t *transaction) pages() int { return 10*4096 + t.rows*2*4096 + t.bytes }

// end returns the position of the last event within the transaction.
func (t *transaction) end() (eventstore.Position, error) {
	if t.rows > 0 {
		return t.head, nil
	}
	return t.c.head()
}

// add inserts r, the next event of its stream and of the log.
func (t *transaction) add(r *eventstore.Recorded) error {
	t.s.at("event")
	if err := t.s.usable(t.ctx); err != nil {
		return err
	}
	t.rows++ // or part of it, if it fails
	t.bytes += len(r.Data) + len(r.Meta)
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
		tags, err := t.c.list(r.Tags)
		if err != nil {
			return err
		}
		stmt.BindText(9, tags)
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
		if err != nil {
			return err
		}
		stmt, err := t.c.prepare(sqlAddEventTag)
		if err != nil {
			return err
		}
		stmt.BindInt64(1, key)
		stmt.BindInt64(2, int64(r.Position))
		if _, err := step(stmt); err != nil {
			return err
		}
	}
	st.version = r.Version
	return nil
}

// list writes tags as a JSON array: by hand where nothing needs to be escaped, which is
// nearly always.
func (c *conn) list(tags []string) (string, error) {
	b := append(c.buf[:0], '[')
	for i, tag := range tags {
		for j := range len(tag) {
			if tag[j] < ' ' || tag[j] == '"' || tag[j] == '\\' {
				b, err := json.Marshal(tags)
				return string(b), err
			}
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), tag...), '"')
	}
	c.buf = append(b, ']')
	return string(c.buf), nil
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
		return c.record(stmt, stmt.ColumnInt64(colStream), eventstore.Position(stmt.ColumnInt64(colPosition)), &r, &page{})
	}, id[:])
	return r, ok, err
}
