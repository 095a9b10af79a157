package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

// A backup copies pages, under one read transaction. VACUUM INTO would make every
// row and index anew: beside four appenders it took twice as long for 59 MiB, and the
// slowest append waited four times as long (100 to 200 ms instead of 20 to 55). It
// also gives new keys to the rows of tables that people added without an INTEGER
// PRIMARY KEY.
const (
	backupStep = 64      // pages copied between two looks at the context: 256 KiB, well under 1 ms
	backupSync = 8 << 20 // bytes after which the copy is synced, so that appenders never wait for the sync of all of it
)

// Backup copies the log, with its checkpoints and whatever people added to the
// file, to a new file at path, while appends go on. The copy is a store of its
// own, with every append acknowledged before the call, none in part, and those
// that came up to the moment the copying began. It is on disk when Backup returns
// nil.
//
// There must be no file at path, nor one left beside it by another database
// (path-wal, -shm, -journal): otherwise it fails with fs.ErrExist. Where it fails or
// ctx ends nothing is at path. A program that is killed can leave a file
// path.*.partial behind, which may be deleted.
//
// It costs a read and a write of every page, and takes one of the connections for
// reading while it lasts; the log beside the file grows by what is appended
// meanwhile, and is used anew afterwards. Pages are copied as they are: run Check
// on the copy to know that it is sound.
func (s *Store) Backup(ctx context.Context, path string) error {
	if err := s.backup(ctx, path); err != nil {
		return fmt.Errorf("sqlite: back up to %q: %w", path, s.explain("back up", err))
	}
	return nil
}

func (s *Store) backup(ctx context.Context, path string) (err error) {
	if path == "" || path == ":memory:" || strings.HasPrefix(path, "file:") || strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("%w: give the plain path of a new file", eventstore.ErrInvalid)
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	// A file that SQLite would take for part of the copy is as bad as one in its place.
	for _, beside := range []string{"", "-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(path + beside); err == nil {
			return fmt.Errorf("%w: %s: give the path of a new file", fs.ErrExist, path+beside)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	source, err := os.Stat(s.path) // its mode: the copy is for the same eyes
	if err != nil {
		return err
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	partial, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.partial")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(partial.Name()))
		}
	}()
	err = s.copyTo(ctx, partial)
	if err == nil {
		err = partial.Chmod(source.Mode().Perm())
	}
	if err == nil {
		err = partial.Sync()
	}
	// Not before SQLite has closed its own: see locate.
	if closed := partial.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return publish(partial.Name(), path, os.Link)
}

// copyTo copies the pages of one moment into an empty file.
func (s *Store) copyTo(ctx context.Context, to *os.File) (err error) {
	c, err := s.acquire(ctx, s.readers)
	if err != nil {
		return err
	}
	sound := false
	defer func() { release(s.readers, c, sound) }()

	dc, err := driver.OpenConn(to.Name(), driver.OpenReadWrite)
	if err != nil {
		return engine(err)
	}
	defer func() { err = errors.Join(err, engine(dc.Close())) }()
	dc.SetBusyTimeout(0)
	// Nobody else knows the file, and nothing of it is used unless all of it is there.
	if err := (&conn{Conn: dc}).script("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF"); err != nil {
		return err
	}
	if err := s.patiently(ctx, c.view); err != nil {
		return err
	}
	defer func() { sound = c.rollback() && code(err) == driver.ResultOK }()
	b, err := driver.NewBackup(dc, "", c.Conn, "")
	if err != nil {
		return engine(err)
	}
	defer b.Close() // always nil, and says so
	for more, unsynced := true, 0; more; {
		if err := s.usable(ctx); err != nil {
			return err
		}
		if more, err = b.Step(backupStep); err != nil {
			return engine(err)
		}
		if unsynced += backupStep; unsynced*4096 >= backupSync {
			if err := to.Sync(); err != nil {
				return err
			}
			unsynced = 0
		}
	}
	return nil
}

// view begins a read transaction that sees the file as it is now, and goes on to
// see it so until rollback.
func (c *conn) view() error {
	err := c.script("BEGIN")
	if err == nil {
		_, _, err = c.number("SELECT count(*) FROM sqlite_schema")
	}
	if err != nil {
		c.rollback()
	}
	return err
}

// publish gives the finished file at partial its name, unless another has it by
// now, and syncs the directory. Where it fails nothing is at path.
func publish(partial, path string, link func(from, to string) error) error {
	err := link(partial, path)
	switch {
	case err == nil:
		err = os.Remove(partial)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %s came to be meanwhile: give the path of a new file", fs.ErrExist, path)
	default:
		// A file system without links (FAT, some network mounts). Rename would replace
		// what is there, so it is asked once more; that leaves a gap of microseconds.
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s came to be meanwhile: give the path of a new file", fs.ErrExist, path)
		}
		if err = os.Rename(partial, path); err != nil {
			return err
		}
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		err = errors.Join(err, remove(path))
	}
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // where a directory cannot be synced, and need not be
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// remove removes a file if there is one.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
