package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
)

// bare commits what a log has behind a position once more, by the driver alone:
// the same bytes in as many transactions, each on the disk before the next begins,
// into one table that holds each ID once and each version of a stream once, as a
// log must, in a file beside the log that is removed afterwards. It returns how many appends there were and how long they took, the
// reading of the log not counted.
func bare(ctx context.Context, store eventstore.Store, after eventstore.Position, file string) (appends int, took time.Duration, err error) {
	if _, err := os.Stat(file); err == nil {
		return 0, 0, fmt.Errorf("%s is there already: remove it, or move it away", file)
	}
	defer func() {
		for _, name := range []string{file, file + "-wal", file + "-shm"} {
			if gone := os.Remove(name); gone != nil && !errors.Is(gone, os.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}()
	w, err := newBareWriter(file)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, w.conn.Close()) }()
	var group []eventstore.Recorded
	flush := func() error {
		if len(group) == 0 {
			return nil
		}
		began := time.Now()
		err := w.write(group)
		took += time.Since(began)
		appends++
		group = group[:0]
		return err
	}
	for r, err := range store.Read(ctx, eventstore.Query{After: after}) {
		if err != nil {
			return appends, took, err
		}
		if len(group) > 0 && group[0].Append != r.Append {
			if err := flush(); err != nil {
				return appends, took, err
			}
		}
		group = append(group, r)
	}
	return appends, took, flush()
}

// bareWriter is a connection of the driver with its three statements.
type bareWriter struct {
	conn                  *driver.Conn
	begin, insert, commit *driver.Stmt
}

func newBareWriter(file string) (*bareWriter, error) {
	conn, err := driver.OpenConn(file, driver.OpenReadWrite|driver.OpenCreate)
	if err != nil {
		return nil, err
	}
	w := &bareWriter{conn: conn}
	if err := w.prepare(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return w, nil
}

func (w *bareWriter) prepare() error {
	for _, pragma := range []string{"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON"} {
		if err := sqlitex.ExecuteTransient(w.conn, pragma, nil); err != nil {
			return err
		}
	}
	const table = `CREATE TABLE bare (position INTEGER PRIMARY KEY, append INTEGER, id BLOB, stream TEXT, version INTEGER, type TEXT, schema INTEGER,
		tags TEXT, recorded_at INTEGER, data TEXT, meta TEXT, UNIQUE (id), UNIQUE (stream, version))`
	if err := sqlitex.ExecuteTransient(w.conn, table, nil); err != nil {
		return err
	}
	for _, s := range []struct {
		stmt **driver.Stmt
		text string
	}{{&w.begin, "BEGIN IMMEDIATE"}, {&w.insert, "INSERT INTO bare VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"}, {&w.commit, "COMMIT"}} {
		var err error
		if *s.stmt, err = w.conn.Prepare(s.text); err != nil {
			return err
		}
	}
	return nil
}

func (w *bareWriter) write(events []eventstore.Recorded) error {
	if err := run(w.begin); err != nil {
		return err
	}
	for _, e := range events {
		w.insert.BindInt64(1, int64(e.Position))
		w.insert.BindInt64(2, int64(e.Append))
		w.insert.BindBytes(3, e.ID[:])
		w.insert.BindText(4, e.Stream)
		w.insert.BindInt64(5, int64(e.Version))
		w.insert.BindText(6, e.Type)
		w.insert.BindInt64(7, int64(e.Schema))
		w.insert.BindText(8, strings.Join(e.Tags, "\n"))
		w.insert.BindInt64(9, e.RecordedAt.UnixMicro())
		w.insert.BindText(10, string(e.Data))
		w.insert.BindText(11, string(e.Meta))
		if err := run(w.insert); err != nil {
			return err
		}
	}
	return run(w.commit)
}

func run(s *driver.Stmt) error {
	if _, err := s.Step(); err != nil {
		return err
	}
	return s.Reset()
}
