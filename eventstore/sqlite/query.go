package sqlite

import (
	"strings"

	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

// A query is planned once, at the field on which the fewest rows are looked at,
// and paged from there; the other fields are checked row by row, before a
// payload is copied. Rows looked at, after After:
//
//	the whole log     all of them, in the order of the table
//	streams           their events, merged, from the index on (stream, version)
//	types             the blocks of 256 positions that have these types
//	tags              the events of the rarest tag, from an index
//	prefix            as streams if at most 1,000 have it, else the whole log
//
// Planning looks up each name, and where there is a choice a few entries of an
// index for each. Nothing is sorted, and a read holds no more than a page and
// some 8 KiB of positions.
const (
	sqlScan             = "SELECT " + columns + " FROM events WHERE position > ? AND position <= ? ORDER BY position"
	sqlByStream         = "SELECT " + columns + " FROM events WHERE stream = ? AND version > ? ORDER BY version"
	sqlByStreamPayloads = "SELECT " + payloadColumns + " FROM events WHERE stream = ? AND version > ? ORDER BY version"
	fromStream          = " FROM events WHERE stream = (SELECT key FROM streams WHERE name = ?) ORDER BY version"
	sqlStream           = "SELECT " + columns + fromStream
	sqlStreamPayloads   = "SELECT position, id, stream, version, type, schema, data" + fromStream
	sqlAt               = "SELECT " + columns + " FROM events WHERE position = ?"
	sqlPrefix           = "SELECT key FROM streams WHERE name >= ? AND name < ? LIMIT ?"
)

const (
	fewStreams = 1000 // a prefix with more streams is read by the whole log
	indexed    = 2    // what a row found by an index costs, in rows of the whole log
)

// plan is a query under way. Between pages it holds no connection.
type plan struct {
	upper eventstore.Position // the head when the read began
	after eventstore.Position // how far the whole log has been read
	lists []*list             // merged; nil stands for the whole log
	done  bool
	lean  bool  // of the one stream, payloads only
	last  int64 // version up to which the one stream is read; 0: up to upper

	// What a row is still checked for; nil and empty let everything pass.
	streams, types map[int64]bool
	prefix         string
	tags           []string
}

// newPlan resolves the names of q to keys and chooses. A name that is not there
// yet comes with an event behind the head, so it need not be looked for again.
func newPlan(c *conn, q eventstore.Query) (*plan, error) {
	head, err := c.head()
	if err != nil {
		return nil, err
	}
	if q.After > head {
		return nil, eventstore.ErrRewound
	}
	p := &plan{upper: head, after: q.After, prefix: q.Prefix, tags: q.Tags, done: q.After == head}
	if len(q.Streams) > 0 {
		p.streams, err = c.keys(sqlStreamKey, q.Streams)
	} else if q.Prefix != "" {
		if p.streams, err = c.prefixed(q.Prefix); p.streams != nil {
			p.prefix = ""
		}
	}
	if err != nil {
		return nil, err
	}
	if len(q.Types) > 0 {
		if p.types, err = c.keys(sqlTypeKey, q.Types); err != nil {
			return nil, err
		}
	}
	var ways [][]*list
	if p.streams != nil {
		ways = append(ways, lists(sqlListStream, p.streams))
	}
	if p.types != nil {
		ways = append(ways, lists(sqlListType, p.types))
	}
	for _, tag := range q.Tags {
		key, err := c.keys(sqlTagKey, []string{tag})
		if err != nil {
			return nil, err
		}
		ways = append(ways, lists(sqlListTag, key))
	}
	for _, way := range ways {
		if len(way) == 0 {
			p.done = true // a field that nothing recorded so far can match
		}
	}
	if p.done {
		return p, nil
	}
	return p, p.choose(c, ways)
}

// choose takes the way on which the fewest rows are looked at.
func (p *plan) choose(c *conn, ways [][]*list) error {
	if len(ways) == 1 && len(ways[0]) == 1 && ways[0][0].query == sqlListStream {
		p.lists = ways[0] // the load of an aggregate: nothing beats it
	} else {
		best := float64(p.upper - p.after)
		for _, way := range ways {
			cost := float64(len(way))
			for _, l := range way {
				rows, err := l.count(c, p.after, p.upper, batch(way))
				if err != nil {
					return err
				}
				cost += rows * indexed
			}
			if cost < best {
				best, p.lists = cost, way
			}
		}
	}
	for _, l := range p.lists {
		if err := l.start(c, p.after); err != nil {
			return err
		}
	}
	return nil
}

// fill goes on until the page is full or the plan is done. After an error it
// can be called again with the same page.
func (p *plan) fill(c *conn, page *page) error {
	if p.done || page.full() {
		return nil
	}
	looked, copied := page.looked, page.bytes
	defer func() {
		if looked = page.looked - looked; p.lists == nil {
			c.touched += (looked*200 + page.bytes - copied) / 4096
		} else {
			c.touched += looked
		}
	}()
	switch {
	case p.lists == nil:
		stmt, err := c.prepare(sqlScan, int64(p.after), int64(p.upper))
		if err != nil {
			return err
		}
		return p.run(c, stmt, page, func(at eventstore.Position) { p.after = at })
	case len(p.lists) == 1 && p.lists[0].query == sqlListStream:
		l := p.lists[0]
		query := sqlByStream
		if p.lean {
			query = sqlByStreamPayloads
		}
		stmt, err := c.prepare(query, l.key, l.at)
		if err != nil {
			return err
		}
		return p.run(c, stmt, page, func(eventstore.Position) { l.at = stmt.ColumnInt64(colVersion) })
	default:
		return p.merge(c, page)
	}
}

// run takes the rows of stmt in their order, and calls passed behind each.
func (p *plan) run(c *conn, stmt *driver.Stmt, page *page, passed func(at eventstore.Position)) error {
	defer stmt.Reset()
	for !page.full() {
		row, err := step(stmt)
		if err != nil {
			return err
		}
		if !row {
			p.done = true
			return nil
		}
		at := eventstore.Position(stmt.ColumnInt64(colPosition))
		if at > p.upper {
			p.done = true
			return nil
		}
		if err := p.take(c, stmt, at, page); err != nil {
			return err
		}
		passed(at)
		if p.last > 0 && p.lists[0].at == p.last {
			p.done = true
			return nil
		}
	}
	return nil
}

// merge takes the rows at the positions in the lists, the lowest first. The
// lists have no position in common. It costs a comparison for each list a row.
func (p *plan) merge(c *conn, page *page) error {
	for !page.full() {
		var next *list
		for _, l := range p.lists {
			if err := l.fill(c, p.upper, batch(p.lists)); err != nil {
				return err
			}
			if len(l.positions) > 0 && (next == nil || l.positions[0] < next.positions[0]) {
				next = l
			}
		}
		if next == nil {
			p.done = true
			return nil
		}
		if err := p.takeAt(c, next.positions[0], page); err != nil {
			return err
		}
		next.positions = next.positions[1:]
	}
	return nil
}

// takeAt takes the row at a position that an index gave.
func (p *plan) takeAt(c *conn, at eventstore.Position, page *page) error {
	stmt, err := c.prepare(sqlAt, int64(at))
	if err != nil {
		return err
	}
	defer stmt.Reset()
	row, err := step(stmt)
	if err != nil {
		return err
	}
	if !row {
		return damaged("an index names position %d, where there is no event", at)
	}
	return p.take(c, stmt, at, page)
}

// take copies the row at which stmt stands, of the event at that position, into the
// page, if the query selects it.
func (p *plan) take(c *conn, stmt *driver.Stmt, at eventstore.Position, page *page) error {
	page.looked++
	stream := stmt.ColumnInt64(colStream)
	if p.streams != nil && !p.streams[stream] || p.types != nil && !p.types[stmt.ColumnInt64(colType)] {
		return nil
	}
	if p.prefix != "" {
		name, err := c.name(c.streams, sqlNameOf, stream)
		if err != nil || !strings.HasPrefix(name, p.prefix) {
			return err
		}
	}
	if len(p.tags) > 0 {
		if has, err := c.hasAll(stmt, p.tags); err != nil || !has {
			return err
		}
	}
	if p.lists == nil {
		if err := c.ahead(stream); err != nil {
			return err
		}
	}
	// In its place, which nobody sees before it is complete: a record is 200 bytes.
	n := len(page.records)
	page.records = append(page.records, eventstore.Recorded{})
	r := &page.records[n]
	if err := c.record(stmt, stream, at, r, page); err != nil {
		page.records = page.records[:n]
		return err
	}
	page.bytes += len(r.Data) + len(r.Meta)
	return nil
}

// keys returns the keys of those names that there are; never nil.
func (c *conn) keys(query string, names []string) (map[int64]bool, error) {
	keys := make(map[int64]bool, len(names))
	for _, name := range names {
		key, ok, err := c.number(query, name)
		if err != nil {
			return nil, err
		}
		if ok {
			keys[key] = true
		}
	}
	return keys, nil
}

// prefixed returns the keys of the streams whose name begins with prefix, nil if
// they are more than few. Names compare byte by byte, and the last byte of
// valid UTF-8 can always be raised by one.
func (c *conn) prefixed(prefix string) (map[int64]bool, error) {
	next := []byte(prefix)
	next[len(next)-1]++
	keys := map[int64]bool{}
	err := c.each(sqlPrefix, func(stmt *driver.Stmt) error {
		keys[stmt.ColumnInt64(0)] = true
		return nil
	}, prefix, string(next), int64(fewStreams+1))
	if err != nil || len(keys) > fewStreams {
		return nil, err
	}
	return keys, nil
}
