package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// mostRelayed is how many events are handed to handlers at most.
const mostRelayed = 200_000

// relayed measures handlers that do nothing against reading the same log: what a
// message costs, its way through Watermill and back included.
func (b *bench) relayed(name string, n int, store eventstore.Store) (rows []row, err error) {
	registry, err := newRegistry()
	if err != nil {
		return nil, err
	}
	read := func() error {
		events := 0
		for r, err := range store.Read(b.ctx, eventstore.Query{}) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(r.Stream, prefix) { // leases of handlers lie between
				events++
			}
		}
		if events != n {
			return fmt.Errorf("%d events were read of %d", events, n)
		}
		return nil
	}
	subscribe := func() error { return b.subscribe(store, n) }
	for _, way := range []struct {
		what       string
		ours, than side
	}{
		{"a subscriber, in the order of the log / read all", subscribe, read},
		{"the same / read all, each message handed over by hand", subscribe, func() error { return b.byHand(store, n) }},
		{"a typed handler, 8 workers, durable / read all", func() error { return b.handle(store, registry, n) }, read},
	} {
		took, err := pair(b.pairs, func() error { return nil }, way.ours, way.than)
		if err != nil {
			return nil, err
		}
		r := row{What: fmt.Sprintf("%s, %s", name, way.what), Unit: "events/s"}
		rows = append(rows, r.rates(n, took))
	}
	return rows, nil
}

// byHand reads the log and hands each event over as a message, to another goroutine
// that acknowledges it: the least that a subscriber which waits for each answer does.
func (b *bench) byHand(store eventstore.Store, n int) error {
	messages := make(chan *message.Message)
	var acknowledging sync.WaitGroup
	acknowledging.Go(func() {
		for m := range messages {
			m.Ack()
		}
	})
	defer acknowledging.Wait()
	defer close(messages)
	events := 0
	for r, err := range store.Read(b.ctx, eventstore.Query{Prefix: prefix}) {
		if err != nil {
			return err
		}
		m, err := relay.Message(r)
		if err != nil {
			return err
		}
		messages <- m
		<-m.Acked()
		events++
	}
	if events != n {
		return fmt.Errorf("%d events were handed over of %d", events, n)
	}
	return nil
}

// quiet has what a measurement does by design not logged.
var quiet = slog.New(slog.DiscardHandler)

// subscribe acknowledges n messages of a subscriber.
func (b *bench) subscribe(store eventstore.Store, n int) error {
	s, err := relay.NewSubscriber(relay.Config{Store: store, Topics: ours, Logger: quiet})
	if err != nil {
		return err
	}
	messages, err := s.Subscribe(b.ctx, "")
	if err != nil {
		return errors.Join(err, s.Close())
	}
	for range n {
		m, open := <-messages
		if !open {
			return errors.Join(errors.New("the subscription ended"), b.ctx.Err(), s.Close())
		}
		m.Ack()
	}
	return s.Close()
}

// ours selects the events of the measurement, and not those of handlers measured before.
func ours(string) (eventstore.Query, error) { return eventstore.Query{Prefix: prefix}, nil }

// prefix is how the names of all streams begin that are measured.
const prefix = "change-"

var handlerNumber atomic.Int64

// handle has a handler of a new name take n events.
func (b *bench) handle(store eventstore.Store, registry *eventstore.Registry, n int) error {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var left atomic.Int64
	left.Store(int64(n))
	took := func() {
		if left.Add(-1) == 0 {
			cancel()
		}
	}
	handlers, err := relay.New(relay.Config{Store: store, Registry: registry, Logger: quiet}, relay.Handler{
		Name: fmt.Sprintf("bench-%d", handlerNumber.Add(1)), History: true,
		Cases: []relay.Case{
			relay.On(func(context.Context, moved, relay.Envelope) error { took(); return nil }),
			relay.On(func(context.Context, closed, relay.Envelope) error { took(); return nil }),
		},
	})
	if err != nil {
		return err
	}
	if err := handlers.Run(ctx); err != nil {
		return err
	}
	if left.Load() > 0 {
		return fmt.Errorf("%d events were not handled: %w", left.Load(), b.ctx.Err())
	}
	return nil
}

// latency measures the way from an append to a handler of the same process, and to
// one of another store on the same log, in appends: one append at a time.
func (b *bench) latency(name string, n int, here, there eventstore.Store) (rows []row, err error) {
	w, err := newWork(50, 1)
	if err != nil {
		return nil, err
	}
	for _, by := range []struct {
		what  string
		store eventstore.Store
	}{{"the same process", here}, {"another store", there}} {
		took, alone, err := b.arrivals(here, by.store, w, n)
		if err != nil {
			return nil, err
		}
		unit := float64(percentile(alone, 50))
		for _, p := range []float64{50, 99} {
			times := float64(percentile(took, p)) / unit
			rows = append(rows, row{
				What:  fmt.Sprintf("%s, append to handler in %s, p%.0f (an append is %v)", name, by.what, p, time.Duration(unit).Round(time.Microsecond)),
				Pairs: len(took), Value: spread{times, times, times}, Of: " appends", Most: true,
			})
		}
	}
	return rows, nil
}

// arrivals returns how long n appends took, each from its begin until a handler had
// its event, and how long they took alone.
func (b *bench) arrivals(here, there eventstore.Store, w *work, n int) (took, alone []time.Duration, err error) {
	appends, err := w.next(n)
	if err != nil {
		return nil, nil, err
	}
	head, err := here.Head(b.ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := relay.NewSubscriber(relay.Config{Store: there, After: head, Topics: ours, Logger: quiet})
	if err != nil {
		return nil, nil, err
	}
	messages, err := s.Subscribe(b.ctx, "")
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	arrived := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		for m := range messages {
			arrived <- m.UUID
			m.Ack()
		}
	})
	defer func() {
		// What is on its way is taken, so that the subscriber can end.
		go func() {
			for range arrived {
			}
		}()
		err = errors.Join(err, s.Close())
		reading.Wait()
		close(arrived)
	}()
	for _, a := range appends {
		began := time.Now()
		if _, err := here.Append(b.ctx, a.events, a.expect); err != nil {
			return nil, nil, err
		}
		alone = append(alone, time.Since(began))
		select {
		case id := <-arrived:
			if id != a.events[0].ID.String() {
				return nil, nil, fmt.Errorf("event %s arrived, and not %s", id, a.events[0].ID)
			}
			took = append(took, time.Since(began))
		case <-b.ctx.Done():
			return nil, nil, b.ctx.Err()
		}
	}
	return took, alone, nil
}

// relay measures handlers on an SQLite file.
func (b *bench) relay() (_ []row, err error) {
	n := min(b.sizes.scan, mostRelayed)
	path := b.path()
	store, err := sqlite.Open(path)
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
	rows, err := b.relayed("SQLite", n, store)
	if err != nil {
		return nil, err
	}
	path = b.path()
	quick, err := sqlite.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, quick.Close()) }()
	other, err := sqlite.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	late, err := b.latency("SQLite", b.sizes.appends, quick, other)
	return append(rows, late...), err
}

// postgresRelay measures handlers on PostgreSQL.
func (b *bench) postgresRelay() ([]row, error) {
	return b.server(func(schema func() string) (_ []row, err error) {
		n := min(b.sizes.scan, mostRelayed)
		var stores []*postgres.Store
		defer func() {
			for _, store := range stores {
				err = errors.Join(err, store.Close())
			}
		}()
		first, second := schema(), schema()
		for _, schema := range []string{first, second, second} {
			store, err := postgres.Open(b.ctx, b.postgres, postgres.WithSchema(schema))
			if err != nil {
				return nil, err
			}
			stores = append(stores, store)
		}
		w, err := newWork(slots, 1)
		if err != nil {
			return nil, err
		}
		if err := fill(b.ctx, stores[0], w, n); err != nil {
			return nil, err
		}
		rows, err := b.relayed("PostgreSQL", n, stores[0])
		if err != nil {
			return nil, err
		}
		late, err := b.latency("PostgreSQL", b.sizes.appends, stores[1], stores[2])
		return append(rows, late...), err
	})
}
