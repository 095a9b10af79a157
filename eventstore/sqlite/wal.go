package sqlite

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	driver "zombiezen.com/go/sqlite"
)

// SQLite copies the log beside the file into it whenever a commit leaves more than
// 1,000 pages there, and then begins it anew, but only at a commit at which no reader
// is under way that began before the last one. Where somebody reads without a pause
// that hardly ever comes, and the log grows for as long: a consumer that is catching
// up is enough. So one that is too long is ended here, with a little patience for those
// who read: new ones do not need it, and a page is read within a millisecond or two.
const (
	walLook     = 4 << 20               // bytes that are written between two looks at how long it is
	walLimit    = 16 << 20              // bytes from which the log beside the file is to be ended
	walPatience = 50 * time.Millisecond // how long appends wait for those who read
	walPause    = time.Second           // at most, from one attempt in vain to the next: somebody reads for long
)

// walBound keeps the log beside the file short. It belongs to who has the connection
// that appends.
type walBound struct {
	wrote int           // bytes since it was last looked at, about
	tried time.Time     // in vain
	pause time.Duration // from then to the next attempt
}

// hold ends the log of that path if it is too long; c has no transaction, and has
// written about so many bytes. It looks at the size of the file once in 4 MiB: a look
// makes the system note the time of the next write for certain, and the next sync a
// quarter slower. Once in 16 MiB it copies what is left. Where somebody reads for long,
// appends wait a tenth of the time. Where it fails c must not be used again.
func (b *walBound) hold(c *conn, path string, wrote int) error {
	if b.wrote += wrote; b.wrote < walLook || time.Since(b.tried) < b.pause {
		return nil
	}
	length, err := size(path)
	if err != nil || length <= walLimit {
		b.wrote = 0
		return err
	}
	c.SetBusyTimeout(walPatience)
	defer c.SetBusyTimeout(0)
	inTheWay := true
	err = c.each("PRAGMA wal_checkpoint(TRUNCATE)", func(stmt *driver.Stmt) error {
		inTheWay = stmt.ColumnInt64(0) != 0
		return nil
	})
	b.tried, b.pause = time.Now(), min(walPause, max(2*b.pause, walPause/16))
	if !inTheWay {
		*b = walBound{}
	}
	return err
}

// harden puts what stands in the log beside the file on disk, for certain. A commit
// whose sync failed, or whose program was killed within it, can show in the log
// all the same once it is read anew: from the memory of the system, which takes it
// for written and never writes it again. Then events are found that a power cut
// would take away, and must not be acknowledged, nor others behind them. So all of it
// is written once more, as it stands, and synced. The caller has the write lock:
// nobody begins the log anew meanwhile. SQLite holds no locks on this file that
// closing it would drop.
func harden(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	block, at := make([]byte, 1<<20), int64(0)
	for {
		n, err := f.ReadAt(block, at)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			return f.Sync()
		}
		if _, err := f.WriteAt(block[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
}
