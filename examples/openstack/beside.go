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
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// beside makes the appends of a replay once more as it goes on, each on the disk
// before the next begins: by the driver alone, into one table that holds each ID once
// and each version of a stream once, as a log must; and by the store alone, without an
// engine. So all three meet the same machine at the same time, and their times can be
// compared. Its files lie beside the log, and are gone when it is closed.
type beside struct {
	log   eventstore.Store
	after eventstore.Position // what has been made once more
	files []string

	driver   *bareWriter
	store    *sqlite.Store
	versions map[string]uint64 // in the store

	appends           int
	byDriver, byStore time.Duration
}

func newBeside(log eventstore.Store, after eventstore.Position, file string) (b *beside, err error) {
	b = &beside{log: log, after: after, versions: map[string]uint64{}}
	for _, name := range []string{file + ".driver", file + ".store"} {
		if _, err := os.Stat(name); err == nil {
			return nil, errors.Join(fmt.Errorf("%s is there already: remove it, or move it away", name), b.close())
		}
		b.files = append(b.files, name)
	}
	if b.driver, err = newBareWriter(b.files[0]); err == nil {
		b.store, err = sqlite.Open(b.files[1])
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *beside) close() (err error) {
	if b.driver != nil {
		err = b.driver.conn.Close()
	}
	if b.store != nil {
		err = errors.Join(err, b.store.Close())
	}
	for _, file := range b.files {
		for _, name := range []string{file, file + "-wal", file + "-shm"} {
			if gone := os.Remove(name); gone != nil && !errors.Is(gone, os.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}
	return err
}

// follow makes what the log has come to. The reading of the log is not counted.
func (b *beside) follow(ctx context.Context) error {
	var group []eventstore.Recorded
	for r, err := range b.log.Read(ctx, eventstore.Query{After: b.after}) {
		if err != nil {
			return err
		}
		if len(group) > 0 && group[0].Append != r.Append {
			if err := b.append(ctx, group); err != nil {
				return err
			}
			group = group[:0]
		}
		group = append(group, r)
		b.after = r.Position
	}
	if len(group) == 0 {
		return nil
	}
	return b.append(ctx, group)
}

func (b *beside) append(ctx context.Context, group []eventstore.Recorded) error {
	b.appends++
	began := time.Now()
	if err := b.driver.write(group); err != nil {
		return err
	}
	b.byDriver += time.Since(began)

	var events []eventstore.Event
	var expect []eventstore.Expect
	added := map[string]uint64{}
	for _, r := range group {
		if events = append(events, r.Event); added[r.Stream] == 0 {
			expect = append(expect, eventstore.At(r.Stream, b.versions[r.Stream]))
		}
		added[r.Stream]++
	}
	for stream, n := range added {
		b.versions[stream] += n
	}
	began = time.Now()
	_, err := b.store.Append(ctx, events, expect...)
	b.byStore += time.Since(began)
	return err
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
