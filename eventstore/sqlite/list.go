package sqlite

import (
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

// blockBits says how many positions are a block: two to the power of it.
const blockBits = 8

func block(p eventstore.Position) int64 { return int64(p >> blockBits) }

// A list's entries: the position, and what to go on after. Each is read at
// O(log n) and then in its order: of a stream or a tag from an index alone, of a
// type from the blocks of the table that have it.
const (
	sqlListStream = "SELECT position, version FROM events WHERE stream = ? AND version > ? ORDER BY version LIMIT ?"
	sqlListType   = "SELECT e.position, e.position FROM type_blocks b CROSS JOIN events e" +
		" ON e.position >= b.block << 8 AND e.position < b.block + 1 << 8" +
		" WHERE b.type = ?1 AND b.block >= ?2 >> 8 AND e.type = ?1 AND e.position > ?2 ORDER BY b.block, e.position LIMIT ?3"
	sqlListTag    = "SELECT position, position FROM event_tags WHERE tag = ? AND position > ? ORDER BY position LIMIT ?"
	sqlBlocks     = "SELECT count(*) FROM type_blocks WHERE type = ? AND block BETWEEN ? AND ?"
	sqlPositionOf = "SELECT position FROM events WHERE stream = ? AND version = ?"
)

// list is the rising positions of the events of one stream, type or tag, read a
// batch ahead.
type list struct {
	query     string
	key       int64
	at        int64 // the version, or position, behind which it goes on
	started   bool
	ended     bool
	positions []eventstore.Position
}

func lists(query string, keys map[int64]bool) []*list {
	lists := make([]*list, 0, len(keys))
	for key := range keys {
		lists = append(lists, &list{query: query, key: key})
	}
	return lists
}

// batch is how many positions each of lists reads at a time.
func batch(lists []*list) int { return max(8, min(256, 1024/len(lists))) }

// start puts the list behind position after, by a binary search where it goes
// by version.
func (l *list) start(c *conn, after eventstore.Position) error {
	if l.started {
		return nil
	}
	at := int64(after)
	if l.query == sqlListStream {
		last, _, err := c.number(sqlVersion, l.key)
		if err != nil {
			return err
		}
		at = 0
		for after > 0 && at < last { // the event of version at is not after; those behind last are
			middle := at + (last-at+1)/2
			p, _, err := c.number(sqlPositionOf, l.key, middle)
			if err != nil {
				return err
			}
			if eventstore.Position(p) <= after {
				at = middle
			} else {
				last = middle - 1
			}
		}
	}
	l.at, l.started = at, true
	return nil
}

// fill reads a batch of n positions up to upper, if there is none left.
func (l *list) fill(c *conn, upper eventstore.Position, n int) error {
	if len(l.positions) > 0 || l.ended {
		return nil
	}
	read := make([]eventstore.Position, 0, n)
	at, ended := l.at, false
	err := c.each(l.query, func(stmt *driver.Stmt) error {
		if p := eventstore.Position(stmt.ColumnInt64(0)); p > upper {
			ended = true
		} else {
			read, at = append(read, p), stmt.ColumnInt64(1)
		}
		return nil
	}, l.key, l.at, int64(n))
	if err != nil {
		return err
	}
	l.positions, l.at, l.ended = read, at, ended || len(read) < n
	return nil
}

// count returns how many events the list has between after and upper: of a
// stream from its version, of a tag from where the first n of them stand, both on
// the assumption that they are spread evenly; of a type what it costs to go through
// its blocks, which is half a row for each position in them.
func (l *list) count(c *conn, after, upper eventstore.Position, n int) (float64, error) {
	if l.query == sqlListStream {
		version, _, err := c.number(sqlVersion, l.key)
		return float64(version) * float64(upper-after) / float64(upper), err
	}
	if l.query == sqlListType {
		blocks, _, err := c.number(sqlBlocks, l.key, block(after), block(upper))
		return float64(blocks<<blockBits) / indexed, err
	}
	if err := l.start(c, after); err != nil {
		return 0, err
	}
	if err := l.fill(c, upper, n); err != nil || l.ended {
		return float64(len(l.positions)), err
	}
	last := l.positions[len(l.positions)-1]
	return float64(len(l.positions)) * float64(upper-after) / float64(last-after), nil
}
