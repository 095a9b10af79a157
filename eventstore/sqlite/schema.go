package sqlite

import (
	_ "embed"
	"fmt"
	"sync"

	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

const (
	application = 0x52467764 // application_id of a store's file: "RFwd"
	format      = 1          // user_version: raised when the schema changes
)

// checkLimit is the size up to which Open checks every page of a file, bytes.
const checkLimit = 256 << 20

//go:embed schema.sql
var schema string

// identify reports whether the file is empty, and refuses one that is not a
// store's or is newer than this code. It changes nothing.
func (s *Store) identify(c *conn) (fresh bool, err error) {
	// One view of the file: another process may be making the schema.
	if err := c.exec("SAVEPOINT identify"); err != nil {
		return false, err
	}
	owner, _, err := c.number("PRAGMA application_id")
	var version, objects int64
	if err == nil {
		version, _, err = c.number("PRAGMA user_version")
	}
	if err == nil {
		objects, _, err = c.number("SELECT count(*) FROM sqlite_schema")
	}
	if ended := c.exec("RELEASE identify"); err == nil {
		err = ended
	}
	if err != nil {
		return false, err
	}
	switch {
	case owner == 0 && version == 0 && objects == 0:
		return true, nil
	case owner != application:
		return false, fmt.Errorf("%w: %s has application_id %#x, a store's has %#x: give the path of a store or of a new file", ErrForeign, s.path, owner, application)
	case version > format:
		return false, fmt.Errorf("%w: %s has format %d, this program knows up to %d: upgrade it", eventstore.ErrNewerFormat, s.path, version, format)
	case version != format:
		return false, damaged("%s has format %d, formats count from 1", s.path, version)
	}
	return false, nil
}

// prove makes the schema in an empty file, and otherwise checks that the file
// is what a store writes and, for writing, that it can be written.
func (s *Store) prove(c *conn) error {
	if !s.readOnly {
		if err := s.create(c); err != nil {
			return err
		}
	}
	found, err := c.objects()
	if err != nil {
		return err
	}
	wanted, err := wantedObjects()
	if err != nil {
		return err
	}
	for name, sql := range wanted {
		if found[name] == "" {
			return damaged("%s has no %s", s.path, name)
		}
		if found[name] != sql {
			return damaged("%s has another %s than a store makes", s.path, name)
		}
	}
	pages, _, err := c.number("PRAGMA page_count")
	if err != nil {
		return err
	}
	bytes, _, err := c.number("PRAGMA page_size")
	if err != nil {
		return err
	}
	if !s.check && (s.hooks.unchecked || pages*bytes > checkLimit) {
		return nil
	}
	verdict, err := c.text("PRAGMA quick_check(1)")
	if err != nil {
		return err
	}
	if verdict != "ok" {
		return damaged("%s: %s", s.path, verdict)
	}
	return nil
}

// create makes the schema, in one transaction, if no other process was faster.
// Where there is one it writes what stands there already and takes it back: a
// file without write permission opens all the same, and says so only then.
func (s *Store) create(c *conn) error {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	fresh, err := s.identify(c)
	if err == nil && fresh {
		err = c.script(schema + fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", application, format))
	}
	if err == nil && !fresh {
		err = c.script(fmt.Sprintf("PRAGMA user_version = %d; ROLLBACK", format))
	} else if err == nil {
		err = c.exec("COMMIT")
	}
	if err != nil {
		c.rollback()
	}
	return err
}

// objects returns the SQL of what the file holds, by kind and name.
func (c *conn) objects() (map[string]string, error) {
	found := map[string]string{}
	err := c.each("SELECT type || ' ' || name, sql FROM sqlite_schema WHERE sql IS NOT NULL", func(stmt *driver.Stmt) error {
		found[stmt.ColumnText(0)] = stmt.ColumnText(1)
		return nil
	})
	return found, err
}

// wantedObjects returns what a store's file holds; others may have added to it.
var wantedObjects = sync.OnceValues(func() (map[string]string, error) {
	dc, err := driver.OpenConn(":memory:", driver.OpenReadWrite|driver.OpenMemory)
	if err != nil {
		return nil, engine(err)
	}
	defer dc.Close()
	c := &conn{Conn: dc}
	if err := c.script(schema); err != nil {
		return nil, err
	}
	return c.objects()
})
