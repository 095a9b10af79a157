package sqlite

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

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
}

// full reports whether the read has to end.
func (p *page) full() bool {
	return len(p.records) >= p.rows || p.bytes >= pageBytes || p.looked >= pageLooked
}

func (p *page) add(r eventstore.Recorded) {
	p.records = append(p.records, r)
	p.bytes += len(r.Data) + len(r.Meta)
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
		var p *plan
		if len(q.Streams) == 1 && q.After == 0 {
			// A stream that a command begins is not there yet: that costs a look-up. Of one
			// that is, the version is the end, and nothing else need be asked.
			var st stream
			if err := s.point(ctx, func(c *conn) (err error) {
				st, err = c.version(q.Streams[0])
				return err
			}); err != nil {
				fail(err)
				return
			} else if st.version == 0 {
				return
			}
			if q.Prefix == "" && len(q.Types) == 0 && len(q.Tags) == 0 {
				p = &plan{upper: 1 << 62, last: int64(st.version), lists: []*list{{query: sqlListStream, key: st.key, started: true}}}
			}
		}
		var buffer []eventstore.Recorded // of the page before, whose records the consumer has copies of
		if p != nil {
			buffer = make([]eventstore.Recorded, 0, min(p.last, pageRows))
		}
		for read := 0; p == nil || !p.done; {
			page := page{rows: pageRows, records: buffer[:0]}
			if q.Limit > 0 {
				page.rows = min(page.rows, q.Limit-read)
			}
			err := s.read(ctx, func(c *conn) error {
				if p == nil { // this may run again: half a plan is none
					made, err := newPlan(c, q)
					if err != nil {
						return err
					}
					p = made
				}
				return p.fill(c, &page)
			})
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
			buffer = page.records
		}
	}
}

// Version returns where a stream stands; see eventstore.Store. It costs two
// look-ups in indexes.
func (s *Store) Version(ctx context.Context, stream string) (version uint64, err error) {
	if err := (eventstore.Query{Streams: []string{stream}}).Validate(); err != nil {
		return 0, err
	}
	err = s.point(ctx, func(c *conn) error {
		st, err := c.version(stream)
		version = st.version
		return err
	})
	return version, err
}

// Head returns the position of the last event, or 0.
func (s *Store) Head(ctx context.Context) (head eventstore.Position, err error) {
	err = s.point(ctx, func(c *conn) error {
		head, err = c.head()
		return err
	})
	return head, err
}

// columns are those that record reads, in its order.
const columns = "position, append, id, stream, version, type, schema, recorded_at, tags, meta, data"

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

// record copies the row at which stmt stands. The bytes share one allocation.
func (c *conn) record(stmt *driver.Stmt) (r eventstore.Recorded, err error) {
	if r.ID, err = id(stmt, 2); err != nil {
		return r, err
	}
	if r.Stream, err = c.name(c.streams, sqlNameOf, stmt.ColumnInt64(colStream)); err != nil {
		return r, err
	}
	if r.Type, err = c.name(c.types, sqlTypeOf, stmt.ColumnInt64(colType)); err != nil {
		return r, err
	}
	if r.Tags, err = tags(stmt); err != nil {
		return r, err
	}
	r.Position = eventstore.Position(stmt.ColumnInt64(0))
	r.Append = eventstore.Position(stmt.ColumnInt64(1))
	r.Version = uint64(stmt.ColumnInt64(4))
	r.Schema = stmt.ColumnInt(6)
	r.RecordedAt = time.UnixMicro(stmt.ColumnInt64(7)).UTC()
	meta, data := stmt.ColumnLen(9), stmt.ColumnLen(10)
	both := make([]byte, meta+data)
	if meta > 0 {
		r.Meta = both[:meta:meta]
		stmt.ColumnBytes(9, r.Meta)
	}
	r.Data = both[meta:]
	stmt.ColumnBytes(10, r.Data)
	return r, nil
}

// tags returns the tags of the row at which stmt stands.
func tags(stmt *driver.Stmt) ([]string, error) {
	if stmt.ColumnIsNull(colTags) {
		return nil, nil
	}
	text := stmt.ColumnText(colTags)
	if simple := strings.TrimPrefix(text, `["`); len(simple) < len(text) && strings.HasSuffix(simple, `"]`) && strings.IndexByte(text, '\\') < 0 {
		// Nearly always: nothing is escaped, so that a quote ends a tag.
		tags := strings.Split(simple[:len(simple)-2], `","`)
		if 2*len(tags) == strings.Count(text, `"`) && utf8.ValidString(text) {
			return tags, nil
		}
	}
	var tags []string
	if err := json.Unmarshal([]byte(text), &tags); err != nil {
		return nil, damaged("tags of the event at position %d: %v", stmt.ColumnInt64(0), err)
	}
	return tags, nil
}

// hasAll reports whether the row at which stmt stands has all the tags wanted.
func hasAll(stmt *driver.Stmt, wanted []string) (bool, error) {
	found, err := tags(stmt)
	for _, tag := range wanted {
		if !slices.Contains(found, tag) {
			return false, err
		}
	}
	return true, err
}
