package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

const crowd = 64 // writers, each on a stream of its own

// appender is what a store and a raw loop have in common.
type appender func(events []eventstore.Event, expect eventstore.Expect) error

func to(ctx context.Context, store eventstore.Store) appender {
	return func(events []eventstore.Event, expect eventstore.Expect) error {
		_, err := store.Append(ctx, events, expect)
		return err
	}
}

// inTurn appends one after the other.
func inTurn(append appender, appends []appended) error {
	for _, a := range appends {
		if err := append(a.events, a.expect); err != nil {
			return err
		}
	}
	return nil
}

// atOnce appends by many writers: the n-th has every many-th append.
func atOnce(append appender, appends []appended) error {
	errs := make([]error, crowd)
	var writers sync.WaitGroup
	for k := range errs {
		writers.Go(func() {
			for i := k; i < len(appends) && errs[k] == nil; i += crowd {
				errs[k] = append(appends[i].events, appends[i].expect)
			}
		})
	}
	writers.Wait()
	return errors.Join(errs...)
}

// two opens an empty store, and a raw loop on another empty file of the same make.
func (b *bench) two() (store *sqlite.Store, limit *raw, done func() error, err error) {
	if store, err = sqlite.Open(b.path()); err != nil {
		return nil, nil, nil, err
	}
	path := b.path()
	if err = made(path); err == nil {
		limit, err = openRaw(path)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, store.Close())
	}
	return store, limit, func() error { return errors.Join(store.Close(), limit.Close()) }, nil
}

// made makes an empty file as a store does.
func made(path string) error {
	store, err := sqlite.Open(path)
	if err != nil {
		return err
	}
	return store.Close()
}

// appends measures n appends of so many events a side.
func (b *bench) appends(r row, slots, size, n int, way func(appender, []appended) error, limitOf func(*raw) appender) (_ []row, err error) {
	store, limit, done, err := b.two()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	w, err := newWork(slots, size)
	if err != nil {
		return nil, err
	}
	ours, theirs := to(b.ctx, store), limitOf(limit)
	// What is begun once is not measured: prepared statements, a log file that grows.
	return b.measured(r, w, n, size,
		func(appends []appended) error { return way(ours, appends) }, func(appends []appended) error { return way(theirs, appends) })
}

func alone(r *raw) appender { return r.append }

func grouped64(r *raw) appender { return (&group{all: r.all}).append }

func (b *bench) append1() ([]row, error) {
	return b.appends(row{What: "append: 1 writer, 1 event", Known: "5,600-6,300", Wanted: 0.90}, 50, 1, b.sizes.appends, inTurn, alone)
}

func (b *bench) append10() ([]row, error) {
	return b.appends(row{What: "append: 1 writer, 10 events", Known: "35,000-46,000", Wanted: 0.85}, 50, 10, b.sizes.appends/2, inTurn, alone)
}

func (b *bench) append64() ([]row, error) {
	return b.appends(row{What: "append: 64 writers, 1 event each", Known: "59,000", Wanted: 0.85}, crowd, 1, b.crowd, atOnce, grouped64)
}

// sync measures the disk: the least that an append can take.
func (b *bench) sync() ([]row, error) {
	w, err := newWork(1, 1)
	if err != nil {
		return nil, err
	}
	appends, err := w.next(1)
	if err != nil {
		return nil, err
	}
	e := appends[0].events[0]
	path := b.path()
	var rates []float64
	for range b.pairs {
		took, err := synced(path, append(e.Data, e.Meta...), b.sizes.appends)
		if err != nil {
			return nil, err
		}
		rates = append(rates, float64(b.sizes.appends)/took.Seconds())
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("a file alone: %d bytes and a sync", len(e.Data)+len(e.Meta))
	return []row{{What: what, Unit: "events/s", Known: "6,600-7,200", Limit: spreadOf(rates).Median}}, nil
}
