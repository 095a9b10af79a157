// Package sqlite is the embedded default event store: a log in one SQLite file,
// in pure Go. It keeps the whole contract of eventstore.Store, and checkpoints.
//
//	store, err := sqlite.Open("changes.db")
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//
//	records, err := store.Append(ctx, events, eventstore.At("change-CHG-000042", 7))
//
// What comes in is validated by package eventstore and bound to placeholders;
// what goes out is the same bytes. Errors are those of package eventstore, and
// ErrForeign and ErrDurability.
//
// # Durability
//
// An append that has returned is on disk: the file is in WAL mode with
// synchronous=FULL, on every connection, and Open reads that back and fails with
// ErrDurability where it cannot be had. WITH WithSynchronousNormal A POWER CUT OR
// A CRASH OF THE SYSTEM LOSES THE LATEST APPENDS, although they were
// acknowledged; a crash of the program alone does not.
//
// The log is the file AND the two beside it, named as it with -wal and -shm.
// COPYING, MOVING OR DELETING ONE WITHOUT THE OTHERS WHILE A STORE IS OPEN LOSES
// APPENDS OR DAMAGES THE LOG. Store.Backup copies a log that is in use, and
// Store.Check says whether one is sound.
//
// DO NOT PUT THE FILE ON A NETWORK FILE SYSTEM: its locks do not hold.
//
// # Many at once
//
// Appends that come while another one commits share the next commit: 64 writers
// cost little more syncs of the disk than one. An append alone waits for nobody.
// AppendWith commits tables of the caller's own, in the same file, with the events.
//
// # Several processes
//
// Any number of processes on one machine may open one file and append to it.
// Appends take turns; each waits for its turn as long as its context lives, and
// none fails because the file is locked. Wait notices what other processes
// append within 10 to 50 ms.
//
// # For people
//
// The view history shows the log in the sqlite3 shell (version 3.37 or later):
//
//	sqlite3 changes.db "SELECT recorded_at, stream, type, actor, reason FROM history"
//
// Triggers refuse to change or delete what is recorded, for the shell as well.
// They guard against accidents, not against tampering: INSERT OR REPLACE gets
// past them, and whoever has the file can drop them.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/wake"
)

// Store is an event store in an SQLite file. Make one with Open.
type Store struct {
	config
	path    string // absolute, so that a change of directory does not change the file
	writer  *pool  // the one connection that appends
	readers *pool  // those that read
	queue   queue
	bell    wake.Bell
	watch   watch
	memo    atomic.Pointer[memo] // that of the connection that appends
	bound   walBound             // belongs to who has that connection
	unsure  bool                 // likewise: the log beside the file may hold what is not on disk; see harden
	closing sync.Once
	done    chan struct{} // closed by Close
}

var (
	_ eventstore.Store       = (*Store)(nil)
	_ eventstore.Checkpoints = (*Store)(nil)
	_ eventstore.Restorer    = (*Store)(nil)
	_ eventstore.Recaller    = (*Store)(nil)
)

// Option changes how a Store is opened.
type Option func(*config)

type config struct {
	now      func() time.Time
	readOnly bool
	normal   bool
	check    bool
	hooks    hooks
}

// hooks are for tests. The zero hooks do nothing.
type hooks struct {
	begin      string                   // instead of BEGIN IMMEDIATE
	impatient  bool                     // do not wait for other connections
	pragmas    string                   // run on each connection after its settings
	unbounded  bool                     // the log beside the file may grow
	unreserved bool                     // the engine's memory is not held
	unchecked  bool                     // no file is small enough to be checked
	step       func(name string)        // called within a write, before what it names
	commit     func(func() error) error // called in place of the commit it is given
	harden     func()                   // called before the log beside the file is written once more
}

// WithClock sets the clock of RecordedAt; time.Now by default.
func WithClock(now func() time.Time) Option { return func(c *config) { c.now = now } }

// ReadOnly opens a file that exists and never changes it: appends fail with
// ErrReadOnly. Other processes may append meanwhile. SQLite reads a file in WAL
// mode through the files beside it, so the directory must be writable or they
// must exist.
func ReadOnly() Option { return func(c *config) { c.readOnly = true } }

// WithSynchronousNormal trades durability for speed: A POWER CUT OR A CRASH OF
// THE SYSTEM LOSES THE LATEST APPENDS, although they were acknowledged.
func WithSynchronousNormal() Option { return func(c *config) { c.normal = true } }

// CheckOnOpen makes Open check every page of the file, however large it is.
// Files up to 256 MiB are always checked. It takes about a second for 150 MiB.
func CheckOnOpen() Option { return func(c *config) { c.check = true } }

const (
	readers  = 4                // connections for reading; each is held for a page, never while a consumer thinks
	openWait = 30 * time.Second // Open has no context; nothing holds a sound file locked so long
)

// Open opens the log in the file at path, or makes a new one there. path is a
// plain path: neither a URI, whose parameters can weaken durability, nor
// ":memory:".
//
// It fails with ErrDurability, ErrForeign, eventstore.ErrNewerFormat,
// eventstore.ErrDamaged, eventstore.ErrReadOnly or eventstore.ErrInvalid, and
// with fs.ErrNotExist where the directory does not exist, or the file with
// ReadOnly. It never changes a file that it refuses.
func Open(path string, options ...Option) (*Store, error) {
	s := &Store{
		config:  config{now: time.Now},
		writer:  newPool(1),
		readers: newPool(readers),
		done:    make(chan struct{}),
		unsure:  true, // who wrote before may have been killed within a commit
	}
	for _, option := range options {
		option(&s.config)
	}
	if err := s.locate(path); err != nil {
		return nil, fmt.Errorf("sqlite: open %q: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWait)
	defer cancel()
	if err := reserveOpen(); err != nil {
		return nil, fmt.Errorf("sqlite: %w", s.explain("open", err))
	}
	c, err := s.begin(ctx)
	if errors.Is(s.explain("open", err), eventstore.ErrDamaged) {
		// SQLite says so too where a page could not be read, which passes.
		c, err = s.begin(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("open %s: another process has kept the file locked for %v: end it or try again", s.path, openWait)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: %w", s.explain("open", err)), reserveClose())
	}
	idle := s.writer
	if s.readOnly {
		idle = s.readers
	}
	idle.idle = append(idle.idle, c)
	return s, nil
}

// begin opens the first connection, and makes or checks the file.
func (s *Store) begin(ctx context.Context) (*conn, error) {
	c, err := s.connect(ctx, true)
	if err != nil {
		return nil, err
	}
	if err := s.patiently(ctx, func() error { return s.prove(c) }); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// locate sets the path, or says why there can be no log. It asks the directory
// only: on POSIX systems, closing a file that SQLite has open elsewhere in this
// process would drop SQLite's locks on it.
func (s *Store) locate(path string) error {
	switch {
	case path == "" || path == ":memory:":
		return fmt.Errorf("%w: nothing would be kept: give the path of a file, or use package memory", eventstore.ErrInvalid)
	case strings.HasPrefix(path, "file:"):
		return fmt.Errorf("%w: a URI can weaken durability: give the plain path of a file, and options instead of parameters", eventstore.ErrInvalid)
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("%w: a path has no NUL", eventstore.ErrInvalid)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	s.path = abs
	// The log first: while a store lives the file is never smaller than a page
	// when the log beside it is not empty.
	wal, err := size(abs + "-wal")
	if err != nil {
		return err
	}
	file, err := size(abs)
	if err != nil {
		return err
	}
	switch {
	case file <= 0 && wal > 0:
		return damaged("the file is missing or empty, but %s-wal beside it has appends: put the file back, or remove that one too to begin anew", abs)
	case file < 0 && s.readOnly:
		return fmt.Errorf("%w: ReadOnly makes no new file", fs.ErrNotExist)
	}
	if dir, err := os.Stat(filepath.Dir(abs)); err != nil {
		return err
	} else if !dir.IsDir() {
		return fmt.Errorf("%w: %s is not a directory", eventstore.ErrInvalid, filepath.Dir(abs))
	}
	return nil
}

// size returns how large a file is, -1 if there is none.
func size(path string) (int64, error) {
	found, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return -1, nil
	case err != nil:
		return 0, err
	case found.IsDir():
		return 0, fmt.Errorf("%w: %s is a directory: give the path of a file in it", eventstore.ErrInvalid, path)
	}
	return found.Size(), nil
}

// Close ends the store. It waits for the calls under way, which end at their
// next step, and cannot interrupt a commit. The last store of a file merges the
// log beside it into it.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.watch.end(func() { close(s.done) })
		for _, p := range []*pool{s.readers, s.writer} {
			for range cap(p.free) {
				<-p.free
				if c := p.taken(); c != nil {
					err = errors.Join(err, s.explain("close", engine(c.Close())))
				}
			}
		}
		err = errors.Join(err, reserveClose())
	})
	return err
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
