package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

// conn is a connection and the names it has read. Prepared statements live as
// long as it does, keyed by their text.
//
// No connection ever has an interrupt set: every statement is short, waiting
// happens outside of them, and so nothing can cut a commit in two.
type conn struct {
	*driver.Conn
	streams   map[int64]string // by key; names never change
	types     []string         // likewise
	typeKeys  map[string]int64 // committed ones only
	newTypes  map[string]int64 // of the transaction under way
	tagKeys   map[string]int64 // likewise
	newTags   map[string]int64
	tagLists  map[string][]string // by how they are written
	blocks    map[int64]int64     // by type: the last one that is committed; likewise
	newBlocks map[int64]int64
	store     *Store
	touched   int          // pages that were asked for, about, since it looked for memory to be held
	memo      *memo        // of the connection that appends; nil: it remembers nothing
	writing   transaction  // the one under way
	appended  *transaction // of the append under way, once it is complete
	buf       []byte       // for a moment
	room      []byte       // for what is read
}

// maxNames bounds each of a connection's maps; a full one is forgotten.
const (
	maxNames    = 1 << 14
	maxTagLists = 1 << 12
)

// connect opens one more connection to the file and sets it up. Only the first
// one of a store may create the file: a later one that finds none, or another,
// must not put an empty log in its place.
func (s *Store) connect(ctx context.Context, first bool) (*conn, error) {
	flags := driver.OpenReadWrite
	if s.readOnly {
		flags = driver.OpenReadOnly
	} else if first {
		flags |= driver.OpenCreate
	}
	dc, err := driver.OpenConn(s.path, flags)
	if err != nil {
		return nil, engine(err)
	}
	dc.SetBusyTimeout(0) // waiting is done by patiently, which obeys a context
	c := &conn{
		Conn: dc, store: s, streams: map[int64]string{},
		typeKeys: map[string]int64{}, newTypes: map[string]int64{}, tagKeys: map[string]int64{}, newTags: map[string]int64{},
		blocks: map[int64]int64{}, newBlocks: map[int64]int64{}, tagLists: map[string][]string{},
	}
	if err := s.patiently(ctx, func() error { return s.configure(c, first) }); err != nil {
		dc.Close()
		return nil, err
	}
	return c, nil
}

// settings hold for every connection. FULL syncs the write-ahead log at each
// commit; fullfsync makes a sync reach the platter where the system
// distinguishes the two (macOS). The cache is 16 MiB a connection at most, taken as
// pages are read: with SQLite's 2 MiB the pages that an append touches are given back
// and fetched again all the time, which took half of the time of shared commits.
const settings = `
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;
PRAGMA cache_size = -16384;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON`

// configure sets c up and reads back what durability hangs on. It changes
// nothing in a file that is not a store's.
func (s *Store) configure(c *conn, first bool) error {
	fresh, err := s.identify(c)
	if err != nil {
		return err
	}
	if fresh && !first {
		return damaged("%s was emptied or replaced while it was open", s.path)
	}
	if err := c.script(settings); err != nil {
		return err
	}
	if s.readOnly {
		if fresh {
			return fmt.Errorf("%w: %s is empty: open it for writing once", ErrForeign, s.path)
		}
		return nil
	}
	level, name := int64(2), "FULL"
	if s.normal {
		level, name = 1, "NORMAL"
	}
	if err := c.script("PRAGMA synchronous = " + name + "; PRAGMA journal_mode = WAL;" + s.hooks.pragmas); err != nil {
		return err
	}
	mode, err := c.text("PRAGMA journal_mode")
	if err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("%w: %s has journal mode %q and cannot be set to wal: put it on a local file system", ErrDurability, s.path, mode)
	}
	got, _, err := c.number("PRAGMA synchronous")
	if err != nil {
		return err
	}
	if got < level {
		return fmt.Errorf("%w: %s has synchronous level %d and cannot be set to %s", ErrDurability, s.path, got, name)
	}
	return nil
}

// read runs f on a connection for reading. f may run again after an error of
// the engine, and goes on where it was.
func (s *Store) read(ctx context.Context, f func(*conn) error) error {
	c, err := s.acquire(ctx, s.readers)
	if err == nil {
		err = s.patiently(ctx, func() error { return f(c) })
		release(s.readers, c, code(err) == driver.ResultOK)
	}
	return s.explain("read", err)
}

// point is read for a few look-ups in indexes. Where nobody is writing it takes the
// writer's connection, whose cache its own commits leave warm: those of the
// readers begin anew after every commit. It asks first whether what that one remembers
// still holds, if f is to go by it.
func (s *Store) point(ctx context.Context, memo bool, f func(*conn) error) error {
	select {
	case <-s.writer.free:
		c := s.writer.taken()
		if c == nil {
			s.writer.put(nil)
			break
		}
		sound := false // until told, should f panic
		err := s.usable(ctx)
		func() {
			defer func() { release(s.writer, c, sound) }()
			if err == nil && memo {
				err = c.recall()
			}
			if err == nil {
				err = f(c)
			}
			sound = code(err) == driver.ResultOK || busy(err)
		}()
		if !busy(err) {
			return s.explain("read", err)
		}
	default:
	}
	return s.read(ctx, f)
}

// patiently runs f again for as long as another connection is in its way, ctx
// lives and the store is open.
func (s *Store) patiently(ctx context.Context, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if !busy(err) {
			return err
		}
		if err := s.pause(ctx, try); err != nil {
			return err
		}
	}
}

// pause waits a little, never the same time for two writers: a commit takes a
// fraction of a millisecond, so that a long pause would leave the file idle.
func (s *Store) pause(ctx context.Context, try int) error {
	most := 100 * time.Microsecond << min(try, 4)
	if try > 1000 { // a second or two: a long transaction, or a stopped process
		most = 20 * time.Millisecond
	}
	timer := time.NewTimer(most/4 + rand.N(most))
	defer timer.Stop()
	select {
	case <-timer.C:
		return s.usable(ctx)
	case <-s.done:
		return eventstore.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// prepare returns the statement of that text with args bound: int64, string,
// []byte or nil. Reset it to end the read it is in.
func (c *conn) prepare(query string, args ...any) (*driver.Stmt, error) {
	c.touched += 2
	stmt, err := c.Prepare(query)
	if err != nil {
		return nil, engine(err)
	}
	for i, arg := range args {
		switch v := arg.(type) {
		case int64:
			stmt.BindInt64(i+1, v)
		case string:
			stmt.BindText(i+1, v)
		case []byte:
			stmt.BindBytes(i+1, v)
		case nil:
			stmt.BindNull(i + 1)
		default:
			return nil, fmt.Errorf("cannot bind a %T", arg)
		}
	}
	return stmt, nil
}

// step moves stmt to its next row, false behind the last.
func step(stmt *driver.Stmt) (bool, error) {
	row, err := stmt.Step()
	if err != nil {
		return false, engine(err)
	}
	return row, nil
}

// exec runs a statement to its end.
func (c *conn) exec(query string, args ...any) error {
	return c.each(query, func(*driver.Stmt) error { return nil }, args...)
}

// each runs a statement and calls f for each row.
func (c *conn) each(query string, f func(*driver.Stmt) error, args ...any) error {
	stmt, err := c.prepare(query, args...)
	if err != nil {
		return err
	}
	defer stmt.Reset()
	for {
		row, err := step(stmt)
		if err != nil || !row {
			return err
		}
		if err := f(stmt); err != nil {
			return err
		}
	}
}

// number returns the first column of the first row, false if there is none or
// it is NULL.
func (c *conn) number(query string, args ...any) (n int64, ok bool, err error) {
	err = c.each(query, func(stmt *driver.Stmt) error {
		n, ok = stmt.ColumnInt64(0), !stmt.ColumnIsNull(0)
		return nil
	}, args...)
	return n, ok, err
}

// text returns the first column of the last row.
func (c *conn) text(query string, args ...any) (s string, err error) {
	err = c.each(query, func(stmt *driver.Stmt) error { s = stmt.ColumnText(0); return nil }, args...)
	return s, err
}

// script runs statements that stand in one text, once.
func (c *conn) script(text string) error {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		stmt, rest, err := c.PrepareTransient(text)
		if err != nil {
			return engine(err)
		}
		text = text[len(text)-rest:]
		for row := true; row && err == nil; {
			row, err = step(stmt)
		}
		stmt.Finalize()
		if err != nil {
			return err
		}
	}
	return nil
}

// ahead has the name of a stream at hand, and those of the streams begun after it:
// who reads the log in its order comes to them next.
func (c *conn) ahead(key int64) error {
	if _, ok := c.streams[key]; ok {
		return nil
	}
	if len(c.streams) >= maxNames {
		clear(c.streams)
	}
	return c.each(sqlNames, func(stmt *driver.Stmt) error {
		c.streams[stmt.ColumnInt64(0)] = stmt.ColumnText(1)
		return nil
	}, key)
}

// name returns the name that stands under key, from names or by query.
func (c *conn) name(names map[int64]string, query string, key int64) (string, error) {
	if name, ok := names[key]; ok {
		return name, nil
	}
	name, err := c.nameOf(query, key)
	if err != nil {
		return "", err
	}
	if len(names) >= maxNames {
		clear(names)
	}
	names[key] = name
	return name, nil
}

// typeName returns the name of an event type. There are few of them, and one is looked
// up for each event that is read.
func (c *conn) typeName(key int64) (string, error) {
	if uint64(key) < uint64(len(c.types)) && c.types[key] != "" {
		return c.types[key], nil
	}
	name, err := c.nameOf(sqlTypeOf, key)
	if err != nil || key < 0 || key >= maxNames {
		return name, err
	}
	for int64(len(c.types)) <= key {
		c.types = append(c.types, "")
	}
	c.types[key] = name
	return name, nil
}

// nameOf returns the name that stands under key, by query.
func (c *conn) nameOf(query string, key int64) (string, error) {
	name, err := c.text(query, key)
	if err == nil && name == "" {
		err = damaged("a name is missing under key %d", key)
	}
	return name, err
}

// bytes returns a copy of a column, nil if it is NULL or empty.
func bytes(stmt *driver.Stmt, col int) []byte {
	n := stmt.ColumnLen(col)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	stmt.ColumnBytes(col, b)
	return b
}

// id returns a column as an event's ID.
func id(stmt *driver.Stmt, col int) (uuid.UUID, error) {
	var b [len(uuid.UUID{}) + 1]byte // one that is too long shows
	if n := stmt.ColumnBytes(col, b[:]); n != len(uuid.UUID{}) {
		return uuid.UUID{}, damaged("an event ID is %d bytes long", stmt.ColumnLen(col))
	}
	return uuid.UUID(b[:16]), nil
}
