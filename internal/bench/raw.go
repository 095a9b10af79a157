package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
)

// settings are those of the store, so that a commit costs the raw loops the same
// sync of the same file. The store makes the files that the loops write, so that
// tables, indexes, triggers and page size are its own.
var settings = []string{
	"fullfsync = ON", "checkpoint_fullfsync = ON", "trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL", "journal_mode = WAL",
	"cache_size = -16384",
}

// raw is the driver alone on a file that no one else writes. It leaves the rows
// that the store leaves and does nothing that they do not need: it validates
// nothing, knows no context, remembers every name and version it has written, and
// asks the file for nothing. That another process has written the file, or that an
// ID is known, it would learn from the unique indexes.
type raw struct {
	conn *driver.Conn

	begin, commit, rollback                                  *driver.Stmt
	addStream, addType, addTag, addBlock, addEvent, addEvTag *driver.Stmt
	streamKey, stream, log, names                            *driver.Stmt

	head        int64
	streams     map[string]*rawStream
	types, tags map[string]int64
	blocks      map[int64]int64 // by type: the last one
	buf         []byte
}

type rawStream struct {
	key     int64
	version uint64
}

// errExpected is an expectation that does not hold: no measurement provokes one.
var errExpected = errors.New("raw: the stream stands at another version than expected")

// openRaw opens a file that a store has made and closed. To append to it, it must
// be empty.
func openRaw(path string) (*raw, error) {
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	r := &raw{conn: conn, streams: map[string]*rawStream{}, types: map[string]int64{}, tags: map[string]int64{}, blocks: map[int64]int64{}}
	if err := r.prepare(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return r, nil
}

func (r *raw) prepare() error {
	for _, setting := range settings {
		if err := sqlitex.ExecuteTransient(r.conn, "PRAGMA "+setting, nil); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		stmt **driver.Stmt
		sql  string
	}{
		{&r.begin, "BEGIN IMMEDIATE"}, {&r.commit, "COMMIT"}, {&r.rollback, "ROLLBACK"},
		{&r.addStream, "INSERT INTO streams (name) VALUES (?)"},
		{&r.addType, "INSERT INTO types (name) VALUES (?)"},
		{&r.addTag, "INSERT INTO tags (name) VALUES (?)"},
		{&r.addBlock, "INSERT INTO type_blocks (type, block) VALUES (?, ?)"},
		{&r.addEvTag, "INSERT INTO event_tags (tag, position) VALUES (?, ?)"},
		{&r.addEvent, "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
		{&r.streamKey, "SELECT key FROM streams WHERE name = ?"},
		{&r.stream, "SELECT version, type, data FROM events WHERE stream = ? ORDER BY version"},
		{&r.log, "SELECT * FROM events ORDER BY position"},
		{&r.names, "SELECT key, name FROM streams"},
	} {
		stmt, err := r.conn.Prepare(s.sql)
		if err != nil {
			return err
		}
		*s.stmt = stmt
	}
	return sqlitex.ExecuteTransient(r.conn, "SELECT key, name FROM types", &sqlitex.ExecOptions{ResultFunc: func(stmt *driver.Stmt) error {
		r.types[stmt.ColumnText(1)] = stmt.ColumnInt64(0)
		return nil
	}})
}

func (r *raw) Close() error { return r.conn.Close() }

func run(stmt *driver.Stmt) error {
	_, err := stmt.Step()
	if reset := stmt.Reset(); err == nil {
		err = reset
	}
	return err
}

// append is the limit of one writer: a transaction for each append, each row by one
// prepared statement. No program can commit an append to these tables, durably and
// before it goes on, with less than one sync of the log beside the file.
func (r *raw) append(events []eventstore.Event, expect eventstore.Expect) error {
	if err := run(r.begin); err != nil {
		return err
	}
	if err := r.insert(events, expect); err != nil {
		return errors.Join(err, run(r.rollback))
	}
	return run(r.commit)
}

func (r *raw) insert(events []eventstore.Event, expect eventstore.Expect) error {
	if st := r.streams[expect.Stream]; st == nil && expect.Version != 0 || st != nil && st.version != expect.Version {
		return errExpected
	}
	first, at := r.head+1, time.Now().UnixMicro()
	for i := range events {
		e := &events[i]
		st := r.streams[e.Stream]
		if st == nil {
			key, err := r.name(r.addStream, e.Stream)
			if err != nil {
				return err
			}
			st = &rawStream{key: key}
			r.streams[e.Stream] = st
		}
		typ, err := r.key(r.types, r.addType, e.Type)
		if err != nil {
			return err
		}
		r.head++
		st.version++
		s := r.addEvent
		s.BindInt64(1, r.head)
		s.BindInt64(2, first)
		s.BindBytes(3, e.ID[:])
		s.BindInt64(4, st.key)
		s.BindInt64(5, int64(st.version))
		s.BindInt64(6, typ)
		s.BindInt64(7, int64(e.Schema))
		s.BindInt64(8, at)
		s.BindNull(9)
		if len(e.Tags) > 0 {
			s.BindText(9, r.quote(e.Tags))
		}
		s.BindNull(10)
		if len(e.Meta) > 0 {
			s.BindText(10, string(e.Meta))
		}
		s.BindText(11, string(e.Data))
		if err := run(s); err != nil {
			return err
		}
		if block, ok := r.blocks[typ]; !ok || block != r.head>>8 {
			r.addBlock.BindInt64(1, typ)
			r.addBlock.BindInt64(2, r.head>>8)
			if err := run(r.addBlock); err != nil {
				return err
			}
			r.blocks[typ] = r.head >> 8
		}
		for _, tag := range e.Tags {
			key, err := r.key(r.tags, r.addTag, tag)
			if err != nil {
				return err
			}
			r.addEvTag.BindInt64(1, key)
			r.addEvTag.BindInt64(2, r.head)
			if err := run(r.addEvTag); err != nil {
				return err
			}
		}
	}
	return nil
}

// quote writes tags as the JSON array that the store writes; those of the
// measurements need no escapes.
func (r *raw) quote(tags []string) string {
	b := append(r.buf[:0], '[')
	for i, tag := range tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendQuote(b, tag)
	}
	r.buf = append(b, ']')
	return string(r.buf)
}

func (r *raw) name(add *driver.Stmt, name string) (int64, error) {
	add.BindText(1, name)
	err := run(add)
	return r.conn.LastInsertRowID(), err
}

func (r *raw) key(known map[string]int64, add *driver.Stmt, name string) (int64, error) {
	if key, ok := known[name]; ok {
		return key, nil
	}
	key, err := r.name(add, name)
	known[name] = key
	return key, err
}

// group is the limit of many writers: whoever finds nobody committing commits all
// that waits, in one transaction, and hands over to the first who came meanwhile. A
// sync costs the same however many appends it covers, and no commit can cover an
// append that has not come; an append that does not hold has written nothing when
// that shows, so that no savepoint is needed.
type group struct {
	all func([]*waiting) // commits them, and sets their errors

	mu     sync.Mutex
	led    bool
	queue  []*waiting
	last   int           // appends in the last commit
	commit time.Duration // running average of one
}

type waiting struct {
	events []eventstore.Event
	expect eventstore.Expect
	err    error
	lead   bool          // it is to lead, and not answered
	wake   chan struct{} // buffered: nobody waits to wake another
}

func (g *group) append(events []eventstore.Event, expect eventstore.Expect) error {
	w := &waiting{events: events, expect: expect, wake: make(chan struct{}, 1)}
	g.mu.Lock()
	if g.led {
		g.queue = append(g.queue, w)
		g.mu.Unlock()
		<-w.wake
		if !w.lead {
			return w.err
		}
		g.mu.Lock()
		w.lead = false
	} else {
		g.led = true
	}
	// The writers just answered are about to come back. Waiting for them a moment
	// makes the commit cover them; a lone writer waits for nobody.
	for began := time.Now(); len(g.queue)+1 < g.last && time.Since(began) < g.commit/8; {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	batch := g.queue
	g.queue = nil
	g.mu.Unlock()

	began := time.Now()
	g.all(append(batch, w))
	took := time.Since(began)
	for _, other := range batch {
		other.wake <- struct{}{}
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	g.last, g.commit = len(batch)+1, (7*g.commit+took)/8
	if len(g.queue) == 0 {
		g.led = false
		return w.err
	}
	next := g.queue[0]
	g.queue = g.queue[1:]
	next.lead = true
	next.wake <- struct{}{}
	return w.err
}

// all commits appends together. One that does not hold fails alone; an error of the
// engine fails all of them.
func (r *raw) all(appends []*waiting) {
	err := run(r.begin)
	if err == nil {
		for _, w := range appends {
			if w.err = r.insert(w.events, w.expect); w.err != nil && w.err != errExpected {
				err = errors.Join(w.err, run(r.rollback))
				break
			}
		}
	}
	if err == nil {
		err = run(r.commit)
	}
	if err != nil {
		for _, w := range appends {
			w.err = err
		}
	}
}

// load is the limit of a command's first step: the look-up of the stream's name, one
// range of one index with the rows behind it, of these the columns that state needs,
// and the decoding of each payload into its struct. State cannot be had with less.
func (r *raw) load(name string) (state, error) {
	var s state
	r.streamKey.BindText(1, name)
	row, err := r.streamKey.Step()
	if err != nil || !row {
		return s, errors.Join(err, r.streamKey.Reset(), fmt.Errorf("raw: stream %q: found %v", name, row))
	}
	key := r.streamKey.ColumnInt64(0)
	if err := r.streamKey.Reset(); err != nil {
		return s, err
	}
	moves, closes := r.types[typeMoved], r.types[typeClosed]
	r.stream.BindInt64(1, key)
	for {
		row, err := r.stream.Step()
		if err != nil || !row {
			return s, errors.Join(err, r.stream.Reset())
		}
		n := r.stream.ColumnLen(2)
		if cap(r.buf) < n {
			r.buf = make([]byte, 2*n)
		}
		r.stream.ColumnBytes(2, r.buf[:n])
		switch r.stream.ColumnInt64(1) {
		case moves:
			var m moved
			err = json.Unmarshal(r.buf[:n], &m)
			s = s.after(m)
		case closes:
			var c closed
			err = json.Unmarshal(r.buf[:n], &c)
			s.Closed = true
		}
		if err != nil {
			return s, errors.Join(err, r.stream.Reset())
		}
	}
}

// scan is the limit of reading the log: one statement over the table in its order,
// each row copied out as the record that the store yields, in one allocation, with
// names for keys; tags as they stand. Who reads events needs their bytes in memory of
// his own, and they have to be copied there.
func (r *raw) scan(f func(rawRecord)) (err error) {
	names := map[int64]string{}
	for {
		row, err := r.names.Step()
		if err != nil {
			return errors.Join(err, r.names.Reset())
		}
		if !row {
			break
		}
		names[r.names.ColumnInt64(0)] = r.names.ColumnText(1)
	}
	defer func() { err = errors.Join(err, r.names.Reset(), r.log.Reset()) }()
	for s := r.log; ; {
		row, err := s.Step()
		if err != nil || !row {
			return err
		}
		x := rawRecord{
			position: s.ColumnInt64(0), first: s.ColumnInt64(1), stream: names[s.ColumnInt64(3)], version: s.ColumnInt64(4),
			typ: s.ColumnInt64(5), schema: s.ColumnInt64(6), at: time.UnixMicro(s.ColumnInt64(7)),
		}
		s.ColumnBytes(2, x.id[:])
		tags, meta, data := s.ColumnLen(8), s.ColumnLen(9), s.ColumnLen(10)
		all := make([]byte, tags+meta+data)
		x.tags, x.meta, x.data = all[:tags], all[tags:tags+meta], all[tags+meta:]
		s.ColumnBytes(8, x.tags)
		s.ColumnBytes(9, x.meta)
		s.ColumnBytes(10, x.data)
		f(x)
	}
}

type rawRecord struct {
	position, first, version, typ, schema int64
	id                                    uuid.UUID
	stream                                string
	at                                    time.Time
	tags, meta, data                      []byte
}

// synced is the limit below any database: bytes added to a file, and a sync. What
// one append of the raw loop takes beyond it is the engine's own work.
func synced(path string, block []byte, n int) (time.Duration, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for range n {
		if _, err = f.Write(block); err == nil {
			err = f.Sync()
		}
		if err != nil {
			break
		}
	}
	return time.Since(began), errors.Join(err, f.Close())
}
