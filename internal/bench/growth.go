package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// times appends one after the other and returns what each took.
func times(append appender, appends []appended) ([]time.Duration, error) {
	took := make([]time.Duration, len(appends))
	for i, a := range appends {
		began := time.Now()
		if err := append(a.events, a.expect); err != nil {
			return nil, err
		}
		took[i] = time.Since(began)
	}
	return took, nil
}

// manyStreams measures appends to streams drawn at random among very many, against
// appends to a store that began empty. Each stream begins with one event.
func (b *bench) manyStreams() (_ []row, err error) {
	n := b.streams
	large, err := sqlite.Open(b.path())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, large.Close()) }()
	empty, err := sqlite.Open(b.path())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, empty.Close()) }()
	w, err := newWork(n, 1)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := fill(b.ctx, large, w, n); err != nil {
		return nil, err
	}
	b.say("   %s streams were made in %v", grouped(float64(n)), time.Since(began).Round(time.Second))

	draw := rand.New(rand.NewPCG(3, 4))
	versions := map[*sqlite.Store]map[int]int{large: {}, empty: {}}
	make := func(store *sqlite.Store, among, first, n int) ([]appended, error) {
		appends := make([]appended, n)
		for i := range appends {
			stream := draw.IntN(among)
			version, ok := versions[store][stream]
			if !ok {
				version = first
			}
			versions[store][stream] = version + 1
			w.n++
			e, err := w.event(streamName(stream), version%perStream)
			if err != nil {
				return nil, err
			}
			appends[i] = appended{events: []eventstore.Event{e}, expect: eventstore.At(e.Stream, uint64(version))}
		}
		return appends, nil
	}
	var ratios, ours, theirs []float64
	for pair := range b.pairs + 1 {
		atLarge, err := make(large, n, 1, b.sizes.appends)
		if err != nil {
			return nil, err
		}
		atEmpty, err := make(empty, 100, 0, b.sizes.appends)
		if err != nil {
			return nil, err
		}
		runtime.GC()
		// One there, one here: what disturbs the disk meets both.
		var took [2][]time.Duration
		for i := range atLarge {
			for k, side := range []struct {
				store *sqlite.Store
				a     appended
			}{{large, atLarge[i]}, {empty, atEmpty[i]}} {
				one, err := times(to(b.ctx, side.store), []appended{side.a})
				if err != nil {
					return nil, err
				}
				took[k] = append(took[k], one...)
			}
		}
		if pair == 0 {
			continue // what is begun once is not measured
		}
		p99 := [2]float64{percentile(took[0], 99).Seconds() * 1e3, percentile(took[1], 99).Seconds() * 1e3}
		ours, theirs, ratios = append(ours, p99[0]), append(theirs, p99[1]), append(ratios, p99[0]/p99[1])
	}
	return []row{{
		What: fmt.Sprintf("append p99: at %s streams / at empty", grouped(float64(n))), Unit: "ms", Ours: spreadOf(ours).Median, Limit: spreadOf(theirs).Median,
		Pairs: len(ratios), Value: spreadOf(ratios), Wanted: 2, Most: true,
	}}, nil
}

// memory measures what the store in memory holds beside payloads and metadata.
func (b *bench) memory() ([]row, error) {
	n := b.held
	w, err := newWork(slots, 1)
	if err != nil {
		return nil, err
	}
	store := memory.New()
	begin := live()
	if err := fill(b.ctx, store, w, n); err != nil {
		return nil, err
	}
	held := (live() - begin) * (1 << 20)
	bytes := 0
	for r, err := range store.Read(b.ctx, eventstore.Query{}) {
		if err != nil {
			return nil, err
		}
		bytes += len(r.Data) + len(r.Meta)
	}
	each := (held - float64(bytes)) / float64(n)
	return []row{{
		What:  fmt.Sprintf("memory: an event beyond %d bytes of data and metadata", bytes/n),
		Pairs: 1, Value: spread{each, each, each}, Of: " B", Wanted: 300, Most: true,
	}}, store.Close()
}

// tenMillion measures a very large file against one of a hundredth of its size: its
// appends by 100 events, loads and reading all of it. The small one has events enough
// for each tag to have pages of its own in the index of tags, which an append writes.
func (b *bench) tenMillion() (_ []row, err error) {
	sizes := [2]int{b.large, max(b.large/100, min(b.large/4, 100_000))}
	var stores [2]*sqlite.Store
	var works [2]*work
	var paths [2]string
	var warmed [2]*os.File
	defer func() { // behind the stores: to close a file takes away the engine's locks on it
		for _, f := range warmed {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
	}()
	for i, n := range sizes {
		paths[i] = b.path()
		if stores[i], err = sqlite.Open(paths[i]); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, stores[i].Close()) }()
		if works[i], err = newWork(slots, 1); err != nil {
			return nil, err
		}
		began := time.Now()
		for left := n; left > 0; left -= 1_000_000 {
			if err := fill(b.ctx, stores[i], works[i], min(left, 1_000_000)); err != nil {
				return nil, err
			}
			b.say("   %s events of %s, %v", grouped(float64(n-max(0, left-1_000_000))), grouped(float64(n)), time.Since(began).Round(time.Second))
		}
	}
	appends, err := b.growsAppends(stores, works)
	if err != nil {
		return nil, err
	}
	scans, err := b.growsScans(stores)
	if err != nil {
		return nil, err
	}
	// From a file that the system has not in its memory each event of a stream is a read
	// of the disk: that compares memory with disks, whatever the store does.
	for i, path := range paths {
		if warmed[i], err = warm(path); err != nil {
			return nil, err
		}
	}
	loads, err := b.growsLoads(stores, sizes)
	if err != nil {
		return nil, err
	}
	rows := []row{appends, loads, scans}
	for i := range rows {
		rows[i].What += fmt.Sprintf(": %s events / %s", grouped(float64(sizes[0])), grouped(float64(sizes[1])))
		rows[i].Unit, rows[i].Wanted = "events/s", 0.5
	}
	return rows, nil
}

// warm reads a file, so that the system has it in its memory, and returns it open.
func warm(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, f)
	return f, err
}

func (b *bench) growsAppends(stores [2]*sqlite.Store, works [2]*work) (row, error) {
	const events = 100
	n := b.sizes.appends / 4
	var batches [2][][]eventstore.Event
	run := func(i int) side {
		return func() error {
			for _, events := range batches[i] {
				if _, err := stores[i].Append(b.ctx, events); err != nil {
					return err
				}
			}
			return nil
		}
	}
	took, err := pair(b.pairs, func() error {
		for i := range batches {
			batches[i] = nil
			for range n {
				appends, err := works[i].next(events)
				if err != nil {
					return err
				}
				var batch []eventstore.Event
				for _, a := range appends {
					batch = append(batch, a.events...)
				}
				batches[i] = append(batches[i], batch)
			}
		}
		return nil
	}, run(0), run(1))
	if err != nil {
		return row{}, err
	}
	return row{What: "append by 100"}.rates(n*events, took), nil
}

func (b *bench) growsLoads(stores [2]*sqlite.Store, sizes [2]int) (row, error) {
	registry, err := newRegistry()
	if err != nil {
		return row{}, err
	}
	draw := rand.New(rand.NewPCG(5, 6))
	run := func(i int) side {
		return func() error {
			for range b.loads {
				// Streams are complete but for those of the last slots.
				stream := streamName(draw.IntN(max(1, sizes[i]/perStream-slots)))
				s, err := loadTyped(b.ctx, stores[i], registry, stream)
				if err != nil {
					return err
				}
				if s.Moves != perStream-1 || !s.Closed {
					return fmt.Errorf("%s has %d moves", stream, s.Moves)
				}
			}
			return nil
		}
	}
	took, err := pair(b.pairs, func() error { return nil }, run(0), run(1))
	if err != nil {
		return row{}, err
	}
	return row{What: "load"}.rates(b.loads*perStream, took), nil
}

// growsScans compares events a second. The large file takes a minute, so three pairs
// are enough; the small one is read until that says something.
func (b *bench) growsScans(stores [2]*sqlite.Store) (row, error) {
	r := row{What: "read all"}
	var ratios, ours, theirs []float64
	rate := func(store *sqlite.Store, least int) (float64, error) {
		runtime.GC()
		began, events := time.Now(), 0
		for events < least {
			n, _, err := readAll(b.ctx, store, 0, false)
			if err != nil {
				return 0, err
			}
			events += n
		}
		return float64(events) / time.Since(began).Seconds(), nil
	}
	for range min(b.pairs, 3) {
		large, err := rate(stores[0], 1)
		if err != nil {
			return r, err
		}
		small, err := rate(stores[1], min(b.large, 1_000_000))
		if err != nil {
			return r, err
		}
		ours, theirs, ratios = append(ours, large), append(theirs, small), append(ratios, large/small)
	}
	r.Ours, r.Limit, r.Pairs, r.Value = spreadOf(ours).Median, spreadOf(theirs).Median, len(ratios), spreadOf(ratios)
	return r, nil
}
