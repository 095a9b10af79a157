package postgres

import (
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

// A page is what one statement brings before the consumer sees any of it. How many rows
// are asked for goes by how large the last ones were.
const (
	firstRows = 64
	mostRows  = 2048
	leastRows = 16
	pageBytes = 1 << 20 // of payloads and metadata; one more event may exceed it
)

type page struct {
	records []eventstore.Recorded
	rows    int // asked for
	bytes   int // of data and metadata
}

func (p *page) full() bool { return len(p.records) >= p.rows || p.bytes >= pageBytes }

// next returns how many rows the next page has.
func (p *page) next() int {
	n := len(p.records)
	if n == 0 {
		return p.rows
	}
	return max(leastRows, min(mostRows, p.rows*8, pageBytes/(p.bytes/n+1)))
}

// Read yields what q selects; see eventstore.Store. It reads by pages of about 1 MiB,
// each by a statement of its own whose connection is back before the consumer sees the
// first of them. From the fourth page on, the next one is read while the consumer has
// this one. See query.go for what a query costs.
func (s *Store) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		fail := func(err error) { yield(eventstore.Recorded{}, err) }
		if err := q.Validate(); err != nil {
			fail(err)
			return
		}
		p := &plan{s: s, q: q, after: q.After}
		if q.Lend {
			buffer := lent.Get().(*[lentBytes]byte)
			defer lent.Put(buffer)
			p.d.lent = buffer[:]
		}
		within, cancel := context.WithCancel(ctx)
		defer cancel()
		fetch := func(page *page) error {
			return s.persist(within, "read", func(ctx context.Context) error {
				page.records, page.bytes, p.d.used = page.records[:0], 0, 0 // this may run again
				return p.fill(ctx, page)
			})
		}
		var ahead chan error // of the page that is read while the consumer has another one
		defer func() {
			if ahead != nil {
				cancel()
				<-ahead
			}
		}()
		now, next := &page{rows: firstRows}, &page{}
		for read, pages := 0, 0; ahead != nil || !p.done; pages++ {
			var err error
			if ahead != nil {
				err = <-ahead
				ahead = nil
			} else {
				if q.Limit > 0 {
					now.rows = min(now.rows, q.Limit-read)
				}
				err = fetch(now)
			}
			if err != nil {
				fail(err)
				return
			}
			next.rows = now.next()
			if pages > 1 && !p.done && q.Limit == 0 && !q.Lend {
				ahead = make(chan error, 1)
				go func(ended chan<- error, page *page) { ended <- fetch(page) }(ahead, next)
			}
			for i := range now.records {
				if err := s.usable(ctx); err != nil {
					fail(err)
					return
				}
				if !yield(now.records[i], nil) {
					return
				}
			}
			if read += len(now.records); read == q.Limit && read > 0 {
				return
			}
			clear(now.records) // what they refer to is the consumer's to keep
			now, next = next, now
		}
	}
}

// usable returns why a call cannot go on, or nil.
func (s *Store) usable(ctx context.Context) error {
	select {
	case <-s.done:
		return eventstore.ErrClosed
	default:
		return ctx.Err()
	}
}

// Version returns where a stream stands; see eventstore.Store. It costs a round trip
// and a look-up in an index.
func (s *Store) Version(ctx context.Context, stream string) (version uint64, err error) {
	if err := (eventstore.Query{Streams: []string{stream}}).Validate(); err != nil {
		return 0, err
	}
	err = s.persist(ctx, "version", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, s.sql.version, stream).Scan(&version)
	})
	if err == nil {
		s.memo.keep(stream, version)
	}
	return version, err
}

// Head returns the position of the last event that can be read in the log, or 0.
// It costs a round trip.
func (s *Store) Head(ctx context.Context) (head eventstore.Position, err error) {
	err = s.persist(ctx, "head", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, s.sql.head).Scan(&head)
	})
	return head, err
}

// reached returns ErrRewound where the log has never come to a position.
func (s *Store) reached(ctx context.Context, position eventstore.Position) error {
	var last eventstore.Position
	if err := s.pool.QueryRow(ctx, s.sql.last).Scan(&last); err != nil {
		return err
	}
	if position > last {
		return eventstore.ErrRewound
	}
	return nil
}

// byID returns the records of those IDs that are in the log.
func (s *Store) byID(ctx context.Context, q querier, ids []uuid.UUID) (map[uuid.UUID]eventstore.Recorded, error) {
	rows, err := q.Query(ctx, s.sql.byID, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[uuid.UUID]eventstore.Recorded{}
	var d decoder
	for rows.Next() {
		var r eventstore.Recorded
		if err := d.record(rows.RawValues(), &r); err != nil {
			return nil, err
		}
		found[r.ID] = r
	}
	rows.Close()
	return found, rows.Err()
}

// take reads rows into the page until it is full, and reports whether it took all.
// passed is called behind each.
func (d *decoder) take(rows pgx.Rows, page *page, passed func(raw [][]byte, r *eventstore.Recorded)) (all bool, err error) {
	defer rows.Close()
	for rows.Next() {
		if page.full() {
			return false, nil
		}
		raw := rows.RawValues()
		var r eventstore.Recorded
		if err := d.record(raw, &r); err != nil {
			return false, err
		}
		page.records = append(page.records, r)
		page.bytes += len(r.Data) + len(r.Meta)
		passed(raw, &r)
	}
	rows.Close()
	return true, rows.Err()
}

// lent are the bytes that no read lends now.
var lent = sync.Pool{New: func() any { return new([lentBytes]byte) }}

// decoder makes records of rows, in the server's binary format. Names that come again
// are the same string.
type decoder struct {
	names map[string]string
	tags  map[string][]string
	room  []byte
	lent  []byte // for bytes that are overwritten with the next page; nil: they are the consumer's
	used  int    // of lent
}

// lentBytes is how much a read lends at a time.
const lentBytes = 16 << 10

const (
	maxNames = 4096 // remembered by a decoder
	share    = 4 << 10
	lastOf   = 11 // of the statement stream: where it stands
)

// epoch is the server's zero of time, in microseconds since 1970.
const epoch = 946684800 * 1_000_000

// record copies a row. Its bytes share an allocation with those of a few others, of 4 KiB.
func (d *decoder) record(raw [][]byte, r *eventstore.Recorded) error {
	if len(raw) < lastOf || len(raw[0]) != 8 || len(raw[1]) != 8 || len(raw[2]) != 16 || len(raw[4]) != 8 || len(raw[6]) != 4 || len(raw[7]) != 8 {
		return damaged("a row has other columns than a store makes")
	}
	r.Position, r.Append = eventstore.Position(number(raw[0])), eventstore.Position(number(raw[1]))
	r.ID = uuid.UUID(raw[2])
	r.Stream, r.Type = d.name(raw[3]), d.name(raw[5])
	r.Version = uint64(number(raw[4]))
	r.Schema = int(int32(binary.BigEndian.Uint32(raw[6])))
	r.RecordedAt = time.UnixMicro(number(raw[7]) + epoch).UTC()
	if len(raw[8]) > 0 {
		known, ok := d.tags[string(raw[8])]
		if !ok {
			if err := json.Unmarshal(raw[8], &known); err != nil {
				return damaged("tags of the event at position %d: %v", r.Position, err)
			}
			if d.tags == nil || len(d.tags) >= maxNames {
				d.tags = map[string][]string{}
			}
			d.tags[string(raw[8])] = known
		}
		r.Tags = slices.Clone(known) // the caller may change his own
	}
	meta, data := raw[9], raw[10]
	both := d.bytes(len(meta) + len(data))
	if len(meta) > 0 {
		r.Meta = both[:len(meta):len(meta)]
		copy(r.Meta, meta)
	}
	r.Data = both[len(meta):]
	copy(r.Data, data)
	return nil
}

func number(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

func (d *decoder) name(b []byte) string {
	if name, ok := d.names[string(b)]; ok {
		return name
	}
	if d.names == nil || len(d.names) >= maxNames {
		d.names = map[string]string{}
	}
	name := string(b)
	d.names[name] = name
	return name
}

// bytes returns n bytes that nobody else has, or that are lent.
func (d *decoder) bytes(n int) []byte {
	if n <= len(d.lent)-d.used {
		d.used += n
		return d.lent[d.used-n : d.used : d.used]
	}
	if n > share/4 {
		return make([]byte, n)
	}
	if n > len(d.room) {
		d.room = make([]byte, share)
	}
	b := d.room[:n:n]
	d.room = d.room[n:]
	return b
}
