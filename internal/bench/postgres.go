package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore/postgres"
)

// The measurements of PostgreSQL are on the server that -postgres names, in schemas
// that are dropped afterwards.

// schema returns the name of a schema that is not there yet.
func (b *bench) schema() string {
	b.files++
	return fmt.Sprintf("bench_%x_%d", rand.Uint32(), b.files)
}

// server runs a measurement on the server, and drops the schemas it was given.
func (b *bench) server(f func(schema func() string) ([]row, error)) (rows []row, err error) {
	if b.postgres == "" {
		b.say("   no server: name one with -postgres, or begin with: go run ./internal/pgtest/withpg")
		return nil, nil
	}
	var made []string
	defer func() {
		c, failed := pgx.Connect(b.ctx, b.postgres)
		if failed != nil {
			err = errors.Join(err, failed)
			return
		}
		for _, schema := range made {
			_, failed := c.Exec(b.ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
			err = errors.Join(err, failed)
		}
		err = errors.Join(err, c.Close(b.ctx))
	}()
	return f(func() string {
		made = append(made, b.schema())
		return made[len(made)-1]
	})
}

// twoPostgres opens an empty store, and a raw loop on another empty schema.
func (b *bench) twoPostgres(schema func() string) (store *postgres.Store, limit *rawPostgres, done func() error, err error) {
	if store, err = postgres.Open(b.ctx, b.postgres, postgres.WithSchema(schema())); err != nil {
		return nil, nil, nil, err
	}
	other := schema()
	made, err := postgres.Open(b.ctx, b.postgres, postgres.WithSchema(other))
	if err == nil {
		err = made.Close()
	}
	if err == nil {
		limit, err = openRawPostgres(b.ctx, b.postgres, other)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, store.Close())
	}
	return store, limit, func() error { return errors.Join(store.Close(), limit.close()) }, nil
}

// appendsPostgres is appends on PostgreSQL.
func (b *bench) appendsPostgres(r row, slots, size, n int, way func(appender, []appended) error, limitOf func(*rawPostgres) appender) ([]row, error) {
	return b.server(func(schema func() string) (_ []row, err error) {
		store, raw, done, err := b.twoPostgres(schema)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, done()) }()
		limit := limitOf(raw)
		w, err := newWork(slots, size)
		if err != nil {
			return nil, err
		}
		return b.measured(r, w, n, size,
			func(appends []appended) error { return way(to(b.ctx, store), appends) },
			func(appends []appended) error { return way(limit, appends) })
	})
}

// measured measures n appends a side, after a quarter of that.
func (b *bench) measured(r row, w *work, n, size int, ours, limit func([]appended) error) ([]row, error) {
	appends, err := w.next(max(1, n/4))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(ours(appends), limit(appends)); err != nil {
		return nil, err
	}
	took, err := pair(b.pairs, func() (err error) {
		appends, err = w.next(n)
		return err
	}, func() error { return ours(appends) }, func() error { return limit(appends) })
	if err != nil {
		return nil, err
	}
	r.Unit = "events/s"
	return []row{r.rates(n*size, took)}, nil
}

func (b *bench) postgresAppend1() ([]row, error) {
	return b.appendsPostgres(row{What: "PostgreSQL, append: 1 writer, 1 event", Known: "2,560-4,800", Wanted: 0.85}, 50, 1, b.sizes.appends, inTurn,
		func(r *rawPostgres) appender { return r.append })
}

func (b *bench) postgresAppend10() ([]row, error) {
	return b.appendsPostgres(row{What: "PostgreSQL, append: 1 writer, 10 events", Known: "14,300-30,300", Wanted: 0.85}, 50, 10, b.sizes.appends/2, inTurn,
		func(r *rawPostgres) appender { return r.append })
}

func (b *bench) postgresAppend64() ([]row, error) {
	return b.appendsPostgres(row{What: "PostgreSQL, append: 64 writers, 1 event each", Known: "71,800"}, crowd, 1, b.crowd, atOnce,
		func(r *rawPostgres) appender { return (&group{all: r.all}).append })
}

// processes is how many stores append at once, each on connections of its own.
const processes = 16

// several opens stores on one schema, as so many processes would, and appends by them:
// the k-th has every many-th append.
func (b *bench) several(schema string, options ...postgres.Option) (_ func(appends []appended) error, done func() error, err error) {
	var stores []*postgres.Store
	done = func() (err error) {
		for _, store := range stores {
			err = errors.Join(err, store.Close())
		}
		return err
	}
	for range processes {
		store, err := postgres.Open(b.ctx, b.postgres, append(options, postgres.WithSchema(schema), postgres.PollOnly())...)
		if err != nil {
			return nil, nil, errors.Join(err, done())
		}
		stores = append(stores, store)
	}
	return func(appends []appended) error {
		errs := make([]error, processes)
		var writers sync.WaitGroup
		for k := range errs {
			writers.Go(func() {
				for i := k; i < len(appends) && errs[k] == nil; i += processes {
					errs[k] = to(b.ctx, stores[k])(appends[i].events, appends[i].expect)
				}
			})
		}
		writers.Wait()
		return errors.Join(errs...)
	}, done, nil
}

// fence measures what the fence costs 16 processes that append at once: against none
// at all, and against serialized appends.
func (b *bench) fence() ([]row, error) {
	return b.server(func(schema func() string) ([]row, error) {
		bare := schema()
		first, err := b.against(row{What: "PostgreSQL, 16 processes: fence / no protection", Wanted: 0.85}, schema(), bare, b.unfence)
		if err != nil {
			return nil, err
		}
		second, err := b.against(row{What: "PostgreSQL, 16 processes: fence / serialized appends", Wanted: 2}, schema(), schema(), nil, postgres.WithSerializedAppends())
		return append(first, second...), err
	})
}

// against measures 16 processes on a store against as many on another one, which is
// changed first.
func (b *bench) against(r row, schema, other string, change func(schema string) error, options ...postgres.Option) (_ []row, err error) {
	ours, done, err := b.several(schema)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	limit, closed, err := b.several(other, options...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closed()) }()
	if change != nil {
		if err := change(other); err != nil {
			return nil, err
		}
	}
	w, err := newWork(processes*4, 1)
	if err != nil {
		return nil, err
	}
	return b.measured(r, w, b.crowd/4, 1, ours, limit)
}

// unfence takes the fence out of a schema: readers then miss what commits late.
func (b *bench) unfence(schema string) error {
	c, err := pgx.Connect(b.ctx, b.postgres)
	if err != nil {
		return err
	}
	_, err = c.Exec(b.ctx, "CREATE OR REPLACE FUNCTION "+schema+".fence() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';"+
		" DROP TRIGGER events_are_fenced ON "+schema+".events")
	return errors.Join(err, c.Close(b.ctx))
}

// postgresReads measures reading the whole log, and loading streams of 20 events.
func (b *bench) postgresReads() ([]row, error) {
	return b.server(func(schema func() string) (_ []row, err error) {
		name, n := schema(), b.sizes.scan/5
		n -= n % (slots * perStream)
		store, err := postgres.Open(b.ctx, b.postgres, postgres.WithSchema(name))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		w, err := newWork(slots, 1)
		if err != nil {
			return nil, err
		}
		if err := fill(b.ctx, store, w, n); err != nil {
			return nil, err
		}
		limit, err := openRawPostgres(b.ctx, b.postgres, name)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, limit.close()) }()
		if _, err := limit.conn.Exec(b.ctx, "VACUUM ANALYZE "+name+".events"); err != nil {
			return nil, err
		}
		scan := row{What: fmt.Sprintf("PostgreSQL, read all of %s events, undecoded", grouped(float64(n))), Unit: "events/s", Known: "1,100,000-1,400,000", Wanted: 0.80}
		scans, err := b.scansOf(scan, n, store, limit.scan)
		if err != nil {
			return nil, err
		}
		registry, err := newRegistry()
		if err != nil {
			return nil, err
		}
		load := row{What: "PostgreSQL, load: a stream of 20 events into state", Unit: "events/s", Known: "102,000-107,000"}
		loads, err := b.loadsOf(load, n, func(name string) (state, error) { return loadTyped(b.ctx, store, registry, name) }, limit.load)
		return append(scans, loads...), err
	})
}
