package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

const (
	sqlCheckEvents  = "SELECT " + columns + " FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
	sqlCheckStreams = "SELECT stream, version, position FROM events WHERE (stream, version) > (?, ?) ORDER BY stream, version LIMIT ?"
	sqlHasBlock     = "SELECT 1 FROM type_blocks WHERE type = ? AND block = ?"
	sqlHasTag       = "SELECT 1 FROM event_tags WHERE tag = ? AND position = ?"
	sqlIDAt         = "SELECT id FROM events WHERE position = ?"
)

// walkRows is how many entries of an index a part of the check reads.
const walkRows = 4096

// entry is one of the index by stream.
type entry struct {
	stream, version int64
	position        eventstore.Position
}

// page looks at the next events up to head: as many as Read has in a page.
func (k *check) page(c *conn, head eventstore.Position) error {
	rows, size := 0, 0
	stmt, err := c.prepare(sqlCheckEvents, int64(k.at), int64(head), int64(pageRows))
	if err != nil {
		return err
	}
	defer stmt.Reset()
	for ; size < pageBytes; rows++ {
		row, err := step(stmt)
		if err != nil {
			return err
		}
		if !row {
			if rows < pageRows {
				k.at = head
			}
			return nil
		}
		if err := k.event(c, stmt); err != nil {
			return err
		}
		size += stmt.ColumnLen(9) + stmt.ColumnLen(10)
	}
	return nil
}

// row is an event that is looked at.
type row struct {
	*check
	eventstore.Event
	at eventstore.Position
}

func (r *row) found(kind Kind, format string, args ...any) error {
	return r.add(Finding{Kind: kind, Position: r.at, Stream: r.Stream, Detail: fmt.Sprintf(format, args...)})
}

// event looks at the row at which stmt stands.
func (k *check) event(c *conn, stmt *driver.Stmt) error {
	r := &row{check: k, at: eventstore.Position(stmt.ColumnInt64(colPosition))}
	var err error
	if r.Stream, err = r.name(c, k.streams, sqlNameOf, "stream", stmt.ColumnInt64(colStream)); err != nil {
		return err
	}
	if r.Type, err = r.name(c, k.types, sqlTypeOf, "type", stmt.ColumnInt64(colType)); err != nil {
		return err
	}
	if err := r.position(eventstore.Position(stmt.ColumnInt64(1))); err != nil {
		return err
	}
	if err := r.fields(c, stmt); err != nil {
		return err
	}
	if err := r.indexes(c, stmt.ColumnInt64(colType)); err != nil {
		return err
	}
	k.at = r.at
	return nil
}

// position checks where an event stands, and in which append, of which it names
// the first event.
func (r *row) position(first eventstore.Position) error {
	k := r.check
	if r.at != k.at+1 && !k.loose {
		if err := r.found(MissingPositions, "%d events are missing before it, from position %d on", r.at-k.at-1, k.at+1); err != nil {
			return err
		}
	}
	joins := first == k.append && k.append != 0
	if !joins {
		k.size = 0
	}
	switch k.size++; {
	case first == r.at, joins,
		first > k.at && first < r.at, // it began in a gap
		k.loose && first > 0 && first < r.at:
		k.loose = false
	default:
		k.loose = true
		if err := r.found(BrokenAppend, "it names the append that begins at position %d, and the event before it the one at %d", int64(first), k.append); err != nil {
			return err
		}
	}
	k.append = first
	if k.size == eventstore.MaxEvents+1 {
		return r.found(BrokenAppend, "its append, which begins at position %d, has more than %d events", first, eventstore.MaxEvents)
	}
	return nil
}

// fields checks that Append would take the event.
func (r *row) fields(c *conn, stmt *driver.Stmt) (err error) {
	r.Schema, r.Meta, r.Data = stmt.ColumnInt(6), bytes(stmt, 9), bytes(stmt, 10)
	if r.ID, err = id(stmt, 2); err != nil {
		r.ID = uuid.Max
		if err := r.found(ImpossibleContent, "its ID is %d bytes long, an ID is %d", stmt.ColumnLen(2), len(r.ID)); err != nil {
			return err
		}
	}
	if r.Tags, err = c.tags(stmt); err != nil || !stmt.ColumnIsNull(colTags) && len(r.Tags) == 0 {
		r.uncounted = true
		if err := r.found(ImpossibleContent, "its tags are not a list of them: %.100q", stmt.ColumnText(colTags)); err != nil {
			return err
		}
	}
	e := r.Event
	if e.Stream == "" { // said already
		e.Stream = "?"
	}
	if e.Type == "" {
		e.Type = "?"
	}
	var wrong *eventstore.InputError
	switch err := eventstore.Validate([]eventstore.Event{e}, nil); {
	case errors.As(err, &wrong):
		r.uncounted = r.uncounted || strings.Contains(wrong.Field, "tags")
		wrong.Field = strings.TrimPrefix(wrong.Field, "events[0].")
		if err := r.found(ImpossibleContent, "%v", wrong); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	recorded := time.UnixMicro(stmt.ColumnInt64(7)).UTC()
	if year := recorded.Year(); year < 1 || year > 9999 || recorded.After(r.s.now().Add(24*time.Hour)) {
		return r.found(ImpossibleTime, "it was recorded at %v", recorded.Format(time.RFC3339Nano))
	}
	return nil
}

// indexes checks that queries find the event by its type and by each of its tags.
func (r *row) indexes(c *conn, typ int64) error {
	k := r.check
	if b := block(r.at); b != k.block {
		k.block = b
		clear(k.marked)
	}
	if !k.marked[typ] {
		k.marked[typ] = true
		if _, ok, err := c.number(sqlHasBlock, typ, k.block); err != nil {
			return err
		} else if ok {
			k.blocks++
		} else if err := r.found(WrongIndex, "it has the type %q, and a query for that does not find it", r.Type); err != nil {
			return err
		}
	}
	for _, tag := range r.Tags {
		key, ok := k.tagKeys[tag]
		if !ok {
			var err error
			if key, ok, err = c.number(sqlTagKey, tag); err != nil {
				return err
			}
			if len(k.tagKeys) >= maxNames {
				clear(k.tagKeys)
			}
			if ok {
				k.tagKeys[tag] = key
			}
		}
		if ok {
			var err error
			if _, ok, err = c.number(sqlHasTag, key, int64(r.at)); err != nil {
				return err
			}
		}
		if ok {
			k.tags++
		} else if err := r.found(WrongIndex, "it has the tag %q, and a query for that does not find it", tag); err != nil {
			return err
		}
	}
	return nil
}

// name returns the name under a key, or "" and takes down that there is none.
func (r *row) name(c *conn, names map[int64]string, query, of string, key int64) (string, error) {
	name, err := c.name(names, query, key)
	if errors.Is(err, eventstore.ErrDamaged) {
		return "", r.found(LostName, "its %s has the key %d, and that no name", of, key)
	}
	return name, err
}

// walk goes on along the index by stream.
func (k *check) walk(c *conn) (more bool, err error) {
	rows := 0
	err = c.each(sqlCheckStreams, func(stmt *driver.Stmt) error {
		rows++
		e := entry{stmt.ColumnInt64(0), stmt.ColumnInt64(1), eventstore.Position(stmt.ColumnInt64(2))}
		last := k.last
		if e.stream != last.stream {
			last = entry{stream: e.stream}
		}
		k.last = e
		detail := ""
		switch {
		case e.version != last.version+1:
			detail = fmt.Sprintf("it has version %d, and the one before it in the stream %d", e.version, last.version)
		case e.position <= last.position:
			detail = fmt.Sprintf("it has version %d, and version %d stands behind it, at position %d", e.version, last.version, last.position)
		default:
			return nil
		}
		name, err := c.text(sqlNameOf, e.stream)
		if err != nil {
			return err
		}
		return k.add(Finding{Kind: BrokenVersions, Position: e.position, Stream: name, Detail: detail})
	}, k.last.stream, k.last.version, int64(walkRows))
	return rows == walkRows, err
}

// settle looks at what came meanwhile and at all that only one view of the whole
// file can tell.
func (k *check) settle(c *conn) (err error) {
	if err := c.view(); err != nil {
		return err
	}
	defer func() {
		if !c.rollback() {
			err = errors.Join(err, engine(errors.New("a read transaction cannot be ended")))
		}
	}()
	head, err := lastPosition(c)
	if err != nil {
		return err
	}
	for k.at < head {
		if err := k.page(c, head); err != nil {
			return err
		}
	}
	for _, f := range []func(*conn) error{k.below, k.surplusBlocks, k.surplusTags, k.unused, func(c *conn) error { return k.checkpoints(c, head) }} {
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// below finds events where no read looks.
func (k *check) below(c *conn) error {
	return c.each("SELECT position FROM events WHERE position < 1", func(stmt *driver.Stmt) error {
		return k.add(Finding{Kind: MissingPositions, Detail: fmt.Sprintf("an event stands at position %d, positions count from 1", stmt.ColumnInt64(0))})
	})
}

// surplusBlocks finds what type_blocks has beyond what events ask for.
func (k *check) surplusBlocks(c *conn) error {
	rows, _, err := c.number("SELECT count(*) FROM type_blocks")
	if err != nil || rows == k.blocks && !k.uncounted {
		return err
	}
	return c.each(`SELECT b.type, b.block FROM type_blocks b WHERE NOT EXISTS (
		SELECT 1 FROM events e WHERE e.position >= b.block << 8 AND e.position < b.block + 1 << 8 AND e.type = b.type)`, func(stmt *driver.Stmt) error {
		first := stmt.ColumnInt64(1) << blockBits
		return k.add(Finding{Kind: WrongIndex, Position: eventstore.Position(max(first, 0)), Detail: fmt.Sprintf(
			"no event at positions %d to %d has the type with key %d, and an entry says so: they were changed or cut off", first, first+1<<blockBits-1, stmt.ColumnInt64(0))})
	})
}

// surplusTags finds what event_tags has beyond what events ask for.
func (k *check) surplusTags(c *conn) error {
	rows, _, err := c.number("SELECT count(*) FROM event_tags")
	if err != nil || rows == k.tags && !k.uncounted {
		return err
	}
	return c.each(`SELECT t.position, t.tag, n.name, e.position, e.tags FROM event_tags t
		LEFT JOIN tags n ON n.key = t.tag LEFT JOIN events e ON e.position = t.position`, func(stmt *driver.Stmt) error {
		f := Finding{Kind: WrongIndex, Position: eventstore.Position(max(stmt.ColumnInt64(0), 0))}
		name := stmt.ColumnText(2)
		var has []string
		switch {
		case stmt.ColumnIsNull(3):
			f.Detail = fmt.Sprintf("an entry says that it has the tag %q, and there is no event: it was cut off or changed", name)
		case stmt.ColumnIsNull(2):
			f.Kind, f.Detail = LostName, fmt.Sprintf("it has a tag with the key %d, and that no name", stmt.ColumnInt64(1))
		case stmt.ColumnLen(4) > 0 && json.Unmarshal(bytes(stmt, 4), &has) != nil, slices.Contains(has, name):
			return nil // or said already
		default:
			f.Detail = fmt.Sprintf("a query for the tag %q finds it, and it does not have that", name)
		}
		return k.add(f)
	})
}

// unused finds names without an event. An append adds both or neither.
func (k *check) unused(c *conn) error {
	for of, query := range map[string]string{
		"stream": "SELECT key, name FROM streams n WHERE NOT EXISTS (SELECT 1 FROM events WHERE stream = n.key)",
		"type":   "SELECT key, name FROM types n WHERE NOT EXISTS (SELECT 1 FROM type_blocks WHERE type = n.key)",
		"tag":    "SELECT key, name FROM tags n WHERE NOT EXISTS (SELECT 1 FROM event_tags WHERE tag = n.key)",
	} {
		err := c.each(query, func(stmt *driver.Stmt) error {
			return k.add(Finding{Kind: LostName, Detail: fmt.Sprintf("no event has the %s %q: those that had it were changed or cut off", of, stmt.ColumnText(1))})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkpoints checks that each names an event of the log.
func (k *check) checkpoints(c *conn, head eventstore.Position) error {
	return c.each("SELECT name, position, event, format, length(state) FROM checkpoints", func(stmt *driver.Stmt) error {
		name, at := stmt.ColumnText(0), stmt.ColumnInt64(1)
		finding := func(format string, args ...any) error {
			return k.add(Finding{Kind: WrongCheckpoint, Position: eventstore.Position(max(at, 0)), Detail: fmt.Sprintf("checkpoint %q "+format, append([]any{name}, args...)...)})
		}
		event, err := id(stmt, 2)
		invalid := eventstore.Checkpoint{Name: name}.Validate()
		switch {
		case err != nil:
			return finding("names an event by %d bytes", stmt.ColumnLen(2))
		case invalid != nil:
			return finding("is none that a store saves: %v", invalid)
		case stmt.ColumnInt64(4) > eventstore.MaxState:
			return finding("has a state of %d bytes", stmt.ColumnInt64(4))
		case at < 0 || eventstore.Position(at) > head:
			return finding("is beyond the end of the log, position %d: the log is an older copy, or its end was cut off", head)
		case at == 0 || event == uuid.Nil:
			return nil
		}
		found := uuid.Nil
		err = c.each(sqlIDAt, func(stmt *driver.Stmt) (err error) { found, err = id(stmt, 0); return err }, at)
		if errors.Is(err, eventstore.ErrDamaged) {
			err = nil // said already
		}
		if err == nil && found != event {
			err = finding("names event %v there, and the log has %v: the log is another one", event, found)
		}
		return err
	})
}
