// Package follow keeps state in memory at the head of the log. One [Follower]
// reads the log and feeds every record to all declared folds, in order, once.
// In go a store and folds; out comes a [View]: all folds at one position.
//
//	var stock = follow.Projection[*Stock]{Name: "stock", New: NewStock}
//	var orders = follow.Projection[*Orders]{Name: "orders", New: NewOrders}
//
//	f, err := follow.Start(store, follow.Config{SnapshotEvery: 100_000}, stock, orders)
//	defer f.Close()
//
//	records, err := eventstore.Update(ctx, store, registry, receiveGoods)
//	for _, r := range records {
//		err = f.WaitFor(ctx, r.Position) // read your own writes
//	}
//	err = f.View(ctx, func(v *follow.View) error {
//		fmt.Println(stock.In(v).Level("bolts"), orders.In(v).Open())
//		return nil
//	})
//
// # Consistency
//
// A view is a cut of the log: every fold has taken every event up to one
// position and none after it, and an append is in it whole or not at all. Views
// begin when the folds have reached the head that the log had at Start.
//
// # Poison
//
// An event that a fold cannot take stops the follower: nothing later is applied
// to any fold, and View and WaitFor fail with a *[StoppedError], because what a
// stopped follower knows is not what the log says. Correct the fold and restart,
// or leave the event out with [Follower.Park]: the decision is recorded in the
// log, and every follower of this fold honours it from then on.
//
// # Snapshots
//
// A fold that is a [Snapshotter] is saved as the store's checkpoint "fold-NAME",
// where the store has the power (eventstore.Checkpoints), so that a restart
// reads the rest of the log only. Snapshots are a cache: one that is damaged or
// of another format is not used, deleting them costs time and nothing else, and
// [Follower.Verify] compares them with the log.
//
// Where the log no longer has the event at which a snapshot was taken, or that
// the follower took last, an older copy of the log was restored: the follower
// stops with eventstore.ErrRewound, since recorded history is missing.
package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/wake"
)

// Fold is state folded from the log.
type Fold interface {
	// Apply takes a record wholly, or returns an error and leaves the state as
	// it was. It is deterministic, does no I/O, and does not change the bytes of
	// the record, which other folds are given too. It is given every record of
	// the log and passes over those that do not concern it. The follower gives
	// each record once, in order; a fold that others drive as well is idempotent
	// by position itself.
	Apply(eventstore.Recorded) error
}

// Snapshotter is the optional power of a [Fold] to be saved.
type Snapshotter interface {
	Fold
	// Format is the version of the form of Snapshot. Raise it whenever Snapshot
	// or what Apply makes of an event changes: a snapshot of another format is
	// not used.
	Format() int
	// Snapshot returns the state, always the same bytes for the same state, at
	// most eventstore.MaxState. It runs while views read the fold.
	Snapshot() ([]byte, error)
	// Restore puts an empty fold into the state of a snapshot of this format.
	Restore([]byte) error
}

// Projection declares a fold: its name, by which its snapshots and the decisions
// on its events are kept, and how to make an empty one. New is called again
// whenever the fold starts anew, also from other goroutines.
type Projection[F Fold] struct {
	Name string
	New  func() F
}

// In returns the fold as it stands in v. It is to be read only, and not kept
// beyond the function that was given v. In panics if that function has ended or
// if v's follower was not started with this projection.
func (p Projection[F]) In(v *View) F {
	if v.ended.Load() {
		panic(fmt.Sprintf("follow: fold %q was asked for in a view that has ended: use it inside the function given to View", p.Name))
	}
	fold := v.follower.byName[p.Name]
	if fold == nil {
		panic(fmt.Sprintf("follow: this follower has no fold %q: give its projection to Start", p.Name))
	}
	state, ok := fold.state.(F)
	if !ok {
		panic(fmt.Sprintf("follow: fold %q is a %T here, not a %T: two projections have one name", p.Name, fold.state, *new(F)))
	}
	return state
}

func (p Projection[F]) declare() (name string, create func() Fold) {
	if p.New == nil {
		return p.Name, nil
	}
	return p.Name, func() Fold { return p.New() }
}

// Declared is a [Projection] of any fold.
type Declared interface {
	declare() (name string, create func() Fold)
}

// Config is how a follower works. The zero Config is ready.
type Config struct {
	// SnapshotEvery is the number of events after which snapshots are saved, later
	// where that takes long: it takes a twentieth of the time at most. Where it is
	// set they are saved by Close too. Default 0: not by themselves,
	// only by Follower.Snapshot.
	SnapshotEvery int

	// SnapshotPrefix begins the names of the checkpoints in which snapshots are kept.
	// Followers that are not to use each other's have one each. Default "fold-".
	SnapshotPrefix string

	// Logger is told why the follower stops (error), what it tries again and
	// which snapshots it does not use (warn). Default slog.Default().
	Logger *slog.Logger
}

// Follower keeps folds at the head of a log. Its methods may be called
// concurrently, but not from inside a fold, nor View, Snapshot, Verify and
// Close from inside a View.
type Follower struct {
	store       eventstore.Store
	checkpoints eventstore.Checkpoints // nil if the store keeps none
	registry    *eventstore.Registry
	log         *slog.Logger
	every       int
	prefix      string // of checkpoints
	folds       []*fold
	byName      map[string]*fold

	run    *run
	turn   chan struct{} // holds the token of who does the run's work: its goroutine, or whoever makes an offer while that waits
	gate   gate          // views inside, or the run inside, which alone changes folds
	saving chan struct{} // holds a token while snapshots are taken and saved, so that older ones never replace later ones
	nudge  chan struct{} // Park tells a stopped run to look
	offers offers
	cancel context.CancelFunc
	done   chan struct{} // closed when the run and what it started have ended
	close  func() error

	bell wake.Bell // rung whenever what follows has changed
	mu   sync.Mutex
	now  Status // what the run last published; mu is never held while a fold works
}

// fold is a declared fold and how far it has come. While views may be inside
// the gate nobody writes to it.
type fold struct {
	name     string
	stream   string // of the decisions on its events
	create   func() Fold
	state    Fold
	position eventstore.Position // of the last record it has taken or left out
	event    uuid.UUID           // that record's ID
	loaded   bool                // false: the state is to be made before anything is applied
	anew     bool                // it is to be made from the log's beginning, whatever snapshots there are
	parked   map[uuid.UUID]*decision
}

// Start makes the folds and begins to follow in the background; [Follower.Close]
// ends it. It does no I/O and fails only for folds that are declared wrongly:
// what goes wrong with the store is retried, or stops the follower visibly.
func Start(store eventstore.Store, config Config, folds ...Declared) (*Follower, error) {
	registry, err := eventstore.NewRegistry(Types()...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Follower{
		store:    store,
		registry: registry,
		log:      config.Logger,
		every:    max(config.SnapshotEvery, 0),
		prefix:   cmp.Or(config.SnapshotPrefix, snapshotPrefix),
		byName:   map[string]*fold{},
		saving:   make(chan struct{}, 1),
		nudge:    make(chan struct{}, 1),
		turn:     make(chan struct{}, 1),
		cancel:   cancel,
		done:     make(chan struct{}),
	}
	f.offers.nudge = make(chan struct{}, 1)
	f.offers.next = func(after eventstore.Position) eventstore.Position { return after + 1 }
	if spaced, ok := store.(Spaced); ok {
		f.offers.next = spaced.NextAppend
	}
	f.checkpoints, _ = store.(eventstore.Checkpoints)
	f.close = sync.OnceValue(f.end)
	if f.log == nil {
		f.log = slog.Default()
	}
	if err := f.declare(folds); err != nil {
		cancel()
		return nil, err
	}
	f.run = &run{Follower: f, aiming: true}
	f.turn <- struct{}{} // and it is kept when the run ends
	go f.run.work(ctx)
	return f, nil
}

func (f *Follower) declare(folds []Declared) error {
	if len(folds) == 0 {
		return errors.New("follow: no folds: give Start at least one projection")
	}
	for _, d := range folds {
		name, create := d.declare()
		stream, snapshot := parkedPrefix+name, f.prefix+name
		if name == "" {
			return errors.New("follow: a projection has no name: its snapshots and decisions are kept by it")
		}
		if err := (eventstore.Query{Streams: []string{stream, snapshot}}).Validate(); err != nil {
			return fmt.Errorf("follow: the name of projection %.300q does not do: %w", name, err)
		}
		if create == nil {
			return fmt.Errorf("follow: projection %q has no New", name)
		}
		if f.byName[name] != nil {
			return fmt.Errorf("follow: two projections are called %q: their snapshots would replace each other", name)
		}
		fold := &fold{name: name, stream: stream, create: create, state: create(), parked: map[uuid.UUID]*decision{}}
		f.folds = append(f.folds, fold)
		f.byName[name] = fold
		f.now.Folds = append(f.now.Folds, FoldStatus{Name: name})
	}
	return nil
}

// closeTimeout is how long Close tries to save snapshots.
const closeTimeout = 10 * time.Second

// Close ends the follower: new views are refused with an error that is
// eventstore.ErrClosed, those under way end first, and snapshots are saved where
// Config asks for them, unless the follower is stopped; for that it takes 10
// seconds at most. The error says why they could not be saved, by which nothing
// is lost. The store stays open. A second Close returns what the first did.
func (f *Follower) Close() error { return f.close() }

func (f *Follower) end() error {
	f.publish(func(now *Status) { now.Closed, now.Ready = true, false })
	f.cancel()
	<-f.done
	f.gate.lock() // the last view has left; those who come now are refused inside
	f.gate.unlock()
	if f.every == 0 || f.checkpoints == nil || f.Status().Stopped != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	select {
	case f.saving <- struct{}{}:
		defer func() { <-f.saving }()
	case <-ctx.Done():
		return fmt.Errorf("save snapshots: another save does not end: %w", ctx.Err())
	}
	return f.save(ctx, f.take(true))
}

// publish changes what Status, View and WaitFor go by, and wakes who waits for it.
func (f *Follower) publish(change func(now *Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.now)
	f.bell.Ring()
}
