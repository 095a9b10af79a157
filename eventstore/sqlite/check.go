package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

// maxFindings is how many findings Check returns at most, and structureFindings how
// many of them may be SQLite's own.
const (
	maxFindings       = 1_000
	structureFindings = 100
)

// ErrManyFindings says that Check gave up looking: so much is wrong.
var ErrManyFindings = fmt.Errorf("%d things are wrong with the file: what else is was not looked for", maxFindings)

// Check reads the whole file and returns what is wrong with it, up to 1,000
// findings. A file is sound when it returns none and no error. An error says that
// it could not look, or not at all of it; the findings up to then come with it.
//
// It asks SQLite for its integrity_check, and then looks for what SQLite cannot
// know: that the schema is a store's; that positions run from 1 to the head without
// a gap, each append's events together; that the versions of every stream run from
// 1 in the order of the log; that every stream, type and tag has a name and every
// name an event; that every field is one that Append accepts, with a sane time; that
// tags and types are found by queries exactly where events have them; and that each
// checkpoint names an event of the log.
//
// IT CANNOT SEE A CHANGE THAT LEAVES A FILE WHICH A STORE COULD HAVE WRITTEN: a valid
// payload in place of another, other metadata, IDs, times or schema versions; a stream
// or type renamed; events cut off the end, or out of the middle, with all that belongs
// to them made to fit; the whole file put back to an older copy. SQLite keeps no
// checksums of what it stores. Only proofs that are kept elsewhere show that.
//
// Appends may go on meanwhile. It costs a pass over every page by SQLite, and one
// over every event and index: 200,000 events in 100 MiB take about three seconds, one
// of them SQLite's, and it grows in proportion. It takes one of the connections for
// reading at a time. While SQLite checks the pages, and at the end for the latest
// events, the names and the checkpoints, it holds a read transaction, so that the log
// beside the file grows by what is appended meanwhile; for the rest it goes by pages,
// as Read does. In memory it holds a page, some names and the findings.
func (s *Store) Check(ctx context.Context) ([]Finding, error) {
	ctx, cancel := context.WithCancel(ctx)
	k := &check{s: s, ctx: ctx, streams: map[int64]string{}, types: map[int64]string{}, tagKeys: map[string]int64{}, block: -1, marked: map[int64]bool{}}
	var closing sync.WaitGroup
	closing.Go(func() {
		select {
		case <-s.done:
			cancel() // ends the statement under way
		case <-ctx.Done():
		}
	})
	err := k.run()
	cancel()
	closing.Wait()
	if err != nil && !errors.Is(err, ErrManyFindings) {
		err = fmt.Errorf("sqlite: check: %w", err)
	}
	return k.findings, err
}

// check is a Check under way.
type check struct {
	s        *Store
	ctx      context.Context
	findings []Finding

	// Names as this check has read them: what the connection remembers may be older.
	streams, types map[int64]string
	tagKeys        map[string]int64

	at        eventstore.Position // of the last event looked at
	append    eventstore.Position // in which it stands
	size      int                 // events of that append so far
	loose     bool                // what comes next need not fit at and append: something between could not be read
	block     int64               // of that event
	marked    map[int64]bool      // types that have been looked up in that block
	blocks    int64               // rows of type_blocks that events ask for and have
	tags      int64               // rows of event_tags, likewise
	uncounted bool                // events could not be read, so that these two say nothing

	last entry // of the index by stream, walked last
}

// run looks at everything, the most telling first.
func (k *check) run() error {
	if _, err := k.part(k.structure); err != nil {
		return err
	}
	whole := false
	if _, err := k.part(func(c *conn) (err error) { whole, err = k.schema(c); return err }); err != nil || !whole {
		return err // what is not there cannot be looked at
	}
	var head eventstore.Position
	if ok, err := k.part(func(c *conn) (err error) { head, err = lastPosition(c); return err }); err != nil || !ok {
		return err
	}
	for k.at < head {
		ok, err := k.part(func(c *conn) error { return k.page(c, head) })
		if err != nil {
			return err
		}
		if !ok { // one page that cannot be read hides up to a few dozen events
			k.at = eventstore.Position(block(k.at+1)+1)<<blockBits - 1
			k.loose, k.uncounted = true, true
		}
	}
	for more := true; more; {
		ok, err := k.part(func(c *conn) (err error) { more, err = k.walk(c); return err })
		if err != nil {
			return err
		}
		more = more && ok
	}
	_, err := k.part(k.settle)
	return err
}

// part runs f on a connection. What f finds damaged is a finding, ok is false then,
// and the check goes on elsewhere.
func (k *check) part(f func(c *conn) error) (ok bool, err error) {
	err = k.s.read(k.ctx, func(c *conn) error {
		// A check of pages takes long, and nothing is committed here.
		c.SetInterrupt(k.ctx.Done())
		defer c.SetInterrupt(nil)
		return f(c)
	})
	if err == nil {
		return true, nil
	}
	if ended := k.s.usable(k.ctx); ended != nil {
		return false, ended
	}
	if !errors.Is(err, eventstore.ErrDamaged) {
		return false, err
	}
	var said *fault
	if errors.As(err, &said) {
		err = said
	}
	return false, k.add(Finding{Kind: DamagedPages, Position: k.at, Detail: fmt.Sprintf("something cannot be read, behind the event at this position or of what belongs to it: %v", err)})
}

// add takes a finding down.
func (k *check) add(f Finding) error {
	if len(k.findings) == maxFindings {
		return ErrManyFindings
	}
	k.findings = append(k.findings, f)
	return nil
}

// structure asks SQLite. It finds pages, cells and indexes that do not fit one
// another, and values that break the constraints of their columns.
func (k *check) structure(c *conn) error {
	return c.each(fmt.Sprintf("PRAGMA integrity_check(%d)", structureFindings), func(stmt *driver.Stmt) error {
		if said := stmt.ColumnText(0); said != "ok" {
			return k.add(Finding{Kind: DamagedPages, Detail: "SQLite's integrity_check: " + said})
		}
		return nil
	})
}

// schema compares what the file declares with what a store makes. whole is false if
// there is not enough left to look at the rest.
func (k *check) schema(c *conn) (whole bool, err error) {
	for pragma, want := range map[string]int64{"application_id": application, "user_version": format} {
		if got, _, err := c.number("PRAGMA " + pragma); err != nil {
			return false, err
		} else if got != want {
			if err := k.add(Finding{Kind: ChangedSchema, Detail: fmt.Sprintf("%s is %d, a store's is %d", pragma, got, want)}); err != nil {
				return false, err
			}
		}
	}
	found, err := c.objects()
	if err != nil {
		return false, err
	}
	wanted, err := wantedObjects()
	if err != nil {
		return false, err
	}
	whole = true
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		detail := ""
		switch found[name] {
		case wanted[name]:
			continue
		case "":
			detail = "there is no " + name
		default:
			detail = name + " is another than a store makes"
		}
		whole = whole && !strings.HasPrefix(name, "table ")
		if err := k.add(Finding{Kind: ChangedSchema, Detail: detail}); err != nil {
			return false, err
		}
	}
	return whole, nil
}

func lastPosition(c *conn) (eventstore.Position, error) {
	p, _, err := c.number(sqlHead)
	return eventstore.Position(max(p, 0)), err
}
