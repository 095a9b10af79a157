package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// batch is how many appends' worth of events fill puts in one.
const batch = 500

// fill appends n events, of streams of 20 that are written in turn.
func fill(ctx context.Context, store eventstore.Store, w *work, n int) error {
	for n > 0 {
		appends, err := w.next(min(n, batch))
		if err != nil {
			return err
		}
		var events []eventstore.Event
		for _, a := range appends {
			events = append(events, a.events...)
		}
		if _, err := store.Append(ctx, events); err != nil {
			return err
		}
		n -= len(appends)
	}
	return nil
}

// slots is how many streams of a file that is read are written in turn.
const slots = 100

// filled makes a file of n events and opens it by a store and by a raw loop.
func (b *bench) filled(n int) (store *sqlite.Store, limit *raw, done func() error, err error) {
	path := b.path()
	if store, err = sqlite.Open(path); err != nil {
		return nil, nil, nil, err
	}
	w, err := newWork(slots, 1)
	if err == nil {
		err = fill(b.ctx, store, w, n)
	}
	if err == nil {
		limit, err = openRaw(path)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, store.Close())
	}
	return store, limit, func() error { return errors.Join(limit.Close(), store.Close()) }, nil
}

// loadTyped loads a stream into state as a command does.
func loadTyped(ctx context.Context, store eventstore.Store, registry *eventstore.Registry, stream string) (s state, err error) {
	_, err = eventstore.Update(ctx, store, registry, func(tx *eventstore.Tx) (err error) {
		s, err = decider.Load(tx, stream)
		return err
	})
	return s, err
}

// load measures streams of 20 events, drawn at random, loaded into typed state.
func (b *bench) load() (_ []row, err error) {
	n := max(slots*perStream, b.sizes.scan/10)
	n -= n % (slots * perStream) // all streams are complete
	store, limit, done, err := b.filled(n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	registry, err := newRegistry()
	if err != nil {
		return nil, err
	}
	r := row{What: "load: a stream of 20 events into state", Unit: "events/s", Known: "250,000", Wanted: 0.85}
	return b.loadsOf(r, n, func(name string) (state, error) { return loadTyped(b.ctx, store, registry, name) }, limit.load)
}

// loadsOf measures loads of streams drawn at random among n events, all complete.
func (b *bench) loadsOf(r row, n int, ours, limit func(name string) (state, error)) ([]row, error) {
	draw := rand.New(rand.NewPCG(1, 2))
	names := make([]string, b.loads)
	each := func(load func(string) (state, error)) side {
		return func() error {
			for _, name := range names {
				s, err := load(name)
				if err != nil {
					return err
				}
				if s.Moves != perStream-1 || !s.Closed {
					return fmt.Errorf("%s has %d moves", name, s.Moves)
				}
			}
			return nil
		}
	}
	took, err := pair(b.pairs, func() error {
		for i := range names {
			names[i] = streamName(draw.IntN(n / perStream))
		}
		return nil
	}, each(ours), each(limit))
	if err != nil {
		return nil, err
	}
	return []row{r.rates(b.loads*perStream, took)}, nil
}

// readAll reads the log and returns how many events there are, and by how much the
// live heap was at most above where it began, looked at ten times on the way.
func readAll(ctx context.Context, store eventstore.Store, n int, heap bool) (events int, grown float64, err error) {
	begin := live()
	for r, err := range store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return events, grown, err
		}
		if len(r.Data) != payload {
			return events, grown, fmt.Errorf("position %d has %d bytes", r.Position, len(r.Data))
		}
		if events++; heap && events%max(1, n/10) == 0 {
			grown = max(grown, live()-begin)
		}
	}
	return events, grown, nil
}

// live returns the size of the heap without its garbage, MiB.
func live() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// scan measures reading the whole log, undecoded, and how the heap grows meanwhile.
func (b *bench) scan() (_ []row, err error) {
	n := b.sizes.scan
	store, limit, done, err := b.filled(n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	scan := row{What: fmt.Sprintf("read all of %s events, undecoded", grouped(float64(n))), Unit: "events/s", Known: "1,700,000-2,200,000", Wanted: 0.80}
	scans, err := b.scansOf(scan, n, store, limit.scan)
	if err != nil {
		return nil, err
	}
	_, grown, err := readAll(b.ctx, store, n, true)
	if err != nil {
		return nil, err
	}
	heap := row{What: "   by how much the live heap grows meanwhile", Pairs: 1, Value: spread{grown, grown, grown}, Of: " MiB", Wanted: 4, Most: true}
	return append(scans, heap), nil
}

// scansOf measures reading all of n events.
func (b *bench) scansOf(r row, n int, store eventstore.Store, limit func(func(rawRecord)) error) ([]row, error) {
	whole := func(events int) error {
		if events != n {
			return fmt.Errorf("%d events were read of %d", events, n)
		}
		return nil
	}
	took, err := pair(b.pairs, func() error { return nil }, func() error {
		events, _, err := readAll(b.ctx, store, n, false)
		return errors.Join(err, whole(events))
	}, func() error {
		events := 0
		err := limit(func(r rawRecord) {
			if len(r.data) == payload && r.stream != "" {
				events++
			}
		})
		return errors.Join(err, whole(events))
	})
	if err != nil {
		return nil, err
	}
	return []row{r.rates(n, took)}, nil
}
