package sqlite

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

// A page is what one short read copies out before the consumer sees any of it.
const (
	pageRows   = 256
	pageBytes  = 1 << 20 // of payloads and metadata; one more event may exceed it
	pageLooked = 4096    // rows looked at and left out
)

type page struct {
	records []eventstore.Recorded
	rows    int // at most
	bytes   int // of data and metadata
	looked  int
	lent    []byte // for bytes that are overwritten with the next page; nil: they are the consumer's
	used    int    // of lent
}

// full reports whether the read has to end.
func (p *page) full() bool {
	return len(p.records) >= p.rows || p.bytes >= pageBytes || p.looked >= pageLooked
}

// Read yields what q selects; see eventstore.Store. It reads by pages of at most
// 256 events and about 1 MiB, each on a connection of its own that is back before
// the consumer sees the first of them. See query.go for what a query costs.
func (s *Store) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		fail := func(err error) { yield(eventstore.Recorded{}, err) }
		if err := q.Validate(); err != nil {
			fail(err)
			return
		}
		// The consumer has copies of the records of a page when the next one is read.
		buffer := pages.Get().(*lentPage)
		used := 0
		defer func() {
			clear(buffer.records[:used]) // what they refer to is not to be kept
			pages.Put(buffer)
		}()
		var p *plan
		for read := 0; p == nil || !p.done; {
			page := page{rows: pageRows, records: buffer.records[:0]}
			if q.Lend {
				page.lent = buffer.bytes[:]
			}
			if q.Limit > 0 {
				page.rows = min(page.rows, q.Limit-read)
			}
			var err error
			if p == nil && len(q.Streams) == 1 && q.After == 0 {
				err = s.point(ctx, false, func(c *conn) (err error) {
					page.records, page.bytes, page.looked, page.used = buffer.records[:0], 0, 0, 0 // this may run again, too
					p, err = c.begins(q, &page)
					return err
				})
			}
			if err == nil && len(page.records) == 0 && (p == nil || !p.done) {
				err = s.read(ctx, func(c *conn) error {
					if p == nil { // half a plan is none
						made, err := newPlan(c, q)
						if err != nil {
							return err
						}
						p = made
					}
					return p.fill(c, &page)
				})
			}
			used = max(used, len(page.records))
			if err != nil {
				fail(err)
				return
			}
			for i := range page.records {
				if err := s.usable(ctx); err != nil {
					fail(err)
					return
				}
				if !yield(page.records[i], nil) {
					return
				}
			}
			if read += len(page.records); read == q.Limit && read > 0 {
				return
			}
		}
	}
}

// lentPage is what a page is made in.
type lentPage struct {
	records [pageRows]eventstore.Recorded
	bytes   [16 << 10]byte
}

// pages are those that nobody reads.
var pages = sync.Pool{New: func() any { return new(lentPage) }}

// pointRows is how many events of a stream are read where they are looked up.
const pointRows = 64

// begins reads one stream from its beginning, and plans the rest. It is nil where that
// is no matter of one statement. A stream of few events, and one that is not there yet,
// costs nothing more.
func (c *conn) begins(q eventstore.Query, page *page) (*plan, error) {
	if q.Prefix != "" || len(q.Types) > 0 || len(q.Tags) > 0 {
		return nil, nil
	}
	l := &list{query: sqlListStream, started: true}
	p := &plan{upper: 1 << 62, lists: []*list{l}, lean: q.PayloadsOnly}
	rows := page.rows
	page.rows = min(rows, pointRows)
	begin := c.beginsWhole
	if p.lean {
		begin = c.beginsLean
	}
	err := begin(p, q.Streams[0], page)
	page.rows = rows
	c.touched += page.looked
	if err != nil || l.key == 0 {
		return p, err
	}
	if p.last = l.at; !p.done {
		// It ends where the stream stands now, before anybody has seen any of it.
		if p.last, _, err = c.number(sqlVersion, l.key); err != nil {
			return nil, err
		}
		p.done = l.at == p.last
	}
	if c.memo != nil {
		// What was seen now is right for as long as the memo is: nobody else has committed.
		c.memo.keep(q.Streams[0], stream{l.key, uint64(p.last)})
	}
	return p, nil
}

func (c *conn) beginsWhole(p *plan, name string, page *page) error {
	stmt, err := c.prepare(sqlStream, name)
	if err != nil {
		return err
	}
	l := p.lists[0]
	return p.run(c, stmt, page, func(eventstore.Position) {
		l.key, l.at = stmt.ColumnInt64(colStream), stmt.ColumnInt64(colVersion)
	})
}

// beginsLean makes records of what a fold needs.
func (c *conn) beginsLean(p *plan, name string, page *page) error {
	stmt, err := c.prepare(sqlStreamPayloads, name)
	if err != nil {
		return err
	}
	defer stmt.Reset()
	l := p.lists[0]
	for !page.full() {
		row, err := step(stmt)
		if err != nil {
			return err
		}
		if !row {
			p.done = true
			return nil
		}
		page.looked++
		n := len(page.records)
		page.records = append(page.records, eventstore.Recorded{})
		r := &page.records[n]
		r.Stream, r.Position = name, eventstore.Position(stmt.ColumnInt64(0))
		if r.ID, err = id(stmt, 1); err != nil {
			return err
		}
		if r.Type, err = c.typeName(stmt.ColumnInt64(4)); err != nil {
			return err
		}
		l.key, l.at = stmt.ColumnInt64(2), stmt.ColumnInt64(3)
		r.Version, r.Schema = uint64(l.at), stmt.ColumnInt(5)
		size := stmt.ColumnLen(6)
		r.Data = c.bytes(size, page)
		stmt.ColumnBytes(6, r.Data)
		page.bytes += size
	}
	return nil
}

// Version returns where a stream stands; see eventstore.Store. It costs two
// look-ups in indexes.
func (s *Store) Version(ctx context.Context, stream string) (version uint64, err error) {
	if err := (eventstore.Query{Streams: []string{stream}}).Validate(); err != nil {
		return 0, err
	}
	err = s.point(ctx, true, func(c *conn) error {
		st, err := c.version(stream)
		version = st.version
		return err
	})
	return version, err
}

// Head returns the position of the last event, or 0.
func (s *Store) Head(ctx context.Context) (head eventstore.Position, err error) {
	err = s.point(ctx, true, func(c *conn) error {
		head, err = c.head()
		return err
	})
	return head, err
}

// columns are those that record reads, in its order.
const columns = "position, append, id, stream, version, type, schema, recorded_at, tags, meta, data"

// payloadColumns are those that matter where only payloads do.
const payloadColumns = "position, append, id, stream, version, type, schema, recorded_at, NULL, NULL, data"

const (
	colPosition = 0
	colStream   = 3
	colVersion  = 4
	colType     = 5
	colTags     = 8
)

const (
	sqlNameOf = "SELECT name FROM streams WHERE key = ?"
	sqlNames  = "SELECT key, name FROM streams WHERE key >= ? ORDER BY key LIMIT 256"
	sqlTypeOf = "SELECT name FROM types WHERE key = ?"
)

// record copies the row at which stmt stands, of a stream by its key and at a position,
// into r. Its bytes are lent by the page, or share an allocation with those of a few
// others, of 4 KiB.
func (c *conn) record(stmt *driver.Stmt, stream int64, at eventstore.Position, r *eventstore.Recorded, page *page) (err error) {
	if r.ID, err = id(stmt, 2); err != nil {
		return err
	}
	if r.Stream, err = c.name(c.streams, sqlNameOf, stream); err != nil {
		return err
	}
	if r.Type, err = c.typeName(stmt.ColumnInt64(colType)); err != nil {
		return err
	}
	if r.Tags, err = c.tags(stmt); err != nil {
		return err
	}
	r.Position, r.Append = at, eventstore.Position(stmt.ColumnInt64(1))
	r.Version = uint64(stmt.ColumnInt64(4))
	r.Schema = stmt.ColumnInt(6)
	r.RecordedAt = time.UnixMicro(stmt.ColumnInt64(7)).UTC()
	meta, data := stmt.ColumnLen(9), stmt.ColumnLen(10)
	both := c.bytes(meta+data, page)
	if meta > 0 {
		r.Meta = both[:meta:meta]
		stmt.ColumnBytes(9, r.Meta)
	}
	r.Data = both[meta:]
	stmt.ColumnBytes(10, r.Data)
	return nil
}

// bytes returns n bytes that the page lends, while it has any, or that nobody else has.
func (c *conn) bytes(n int, page *page) []byte {
	if n <= len(page.lent)-page.used {
		page.used += n
		return page.lent[page.used-n : page.used : page.used]
	}
	const share = 4 << 10
	if n > share/4 {
		return make([]byte, n)
	}
	if n > len(c.room) {
		c.room = make([]byte, share)
	}
	b := c.room[:n:n]
	c.room = c.room[n:]
	return b
}

// tags returns the tags of the row at which stmt stands. They are the same few over
// and over, so that those seen last are known by how they are written.
func (c *conn) tags(stmt *driver.Stmt) ([]string, error) {
	n := stmt.ColumnLen(colTags)
	if n == 0 {
		return nil, nil
	}
	c.buf = slices.Grow(c.buf[:0], n)[:n]
	stmt.ColumnBytes(colTags, c.buf)
	if known, ok := c.tagLists[string(c.buf)]; ok {
		return slices.Clone(known), nil // the caller may change his own
	}
	var tags []string
	if err := json.Unmarshal(c.buf, &tags); err != nil {
		return nil, damaged("tags of the event at position %d: %v", stmt.ColumnInt64(0), err)
	}
	if len(c.tagLists) >= maxTagLists {
		clear(c.tagLists)
	}
	c.tagLists[string(c.buf)] = tags
	return slices.Clone(tags), nil
}

// hasAll reports whether the row at which stmt stands has all the tags wanted.
func (c *conn) hasAll(stmt *driver.Stmt, wanted []string) (bool, error) {
	found, err := c.tags(stmt)
	for _, tag := range wanted {
		if !slices.Contains(found, tag) {
			return false, err
		}
	}
	return true, err
}
