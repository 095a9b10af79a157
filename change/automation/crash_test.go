package automation_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/change/notify"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// The harness lets a process that runs a ready handler die at every point: before and
// after every call of the store that changes something, before and after a handler
// returns, before and after something is sent. Another process goes on with the same
// store, and what the log then says, and what was sent, has to be what it is without a
// death.

var errDead = errors.New("the process is dead")

// process is one life. It dies at a point, after which nothing goes through to the
// store any more.
type process struct {
	mu     sync.Mutex
	points []string // that it has come to
	last   int      // at which it dies, from 1; 0 is none
	dead   bool
	kill   func() // how a real process dies; nil is in the mind only
}

// point says that the process has come to a point.
func (p *process) point(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errDead
	}
	p.points = append(p.points, name)
	if len(p.points) != p.last {
		return nil
	}
	if p.kill != nil {
		p.kill()
	}
	p.dead = true
	return errDead
}

func (p *process) alive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errDead
	}
	return nil
}

// mortalStore is a store as a process sees it.
type mortalStore struct {
	storefor.Store
	*process
}

func (s mortalStore) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if err := s.point("before the append of " + events[0].Type); err != nil {
		return nil, eventstore.NotApplied(err)
	}
	records, err := s.Store.Append(ctx, events, expect...)
	if dead := s.point("after the append of " + events[0].Type); dead != nil {
		return nil, eventstore.OutcomeUnknown(dead)
	}
	return records, err
}

func (s mortalStore) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	if err := s.point("before a checkpoint is saved"); err != nil {
		return err
	}
	err := s.Store.SaveCheckpoints(ctx, checkpoints...)
	if dead := s.point("after a checkpoint is saved"); dead != nil {
		return dead
	}
	return err
}

func (s mortalStore) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	if err := s.alive(); err != nil {
		return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, err) }
	}
	return s.Store.Read(ctx, q)
}

func (s mortalStore) Version(ctx context.Context, stream string) (uint64, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	return s.Store.Version(ctx, stream)
}

func (s mortalStore) Head(ctx context.Context) (eventstore.Position, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	return s.Store.Head(ctx)
}

// sent is what left the processes, by key.
type sent struct {
	mu   sync.Mutex
	keys map[string]bool
	told func(key string) // of each; may be nil
}

func (s *sent) add(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told != nil {
		s.told(key)
	}
	if s.keys == nil {
		s.keys = map[string]bool{}
	}
	s.keys[key] = true
}

func (s *sent) all() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.keys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// act is what a handler is tried on.
type act struct {
	name    string
	prepare func(h *house) // records what the handler is to act on
	handler func(t testing.TB, e *rollforward.Engine, p *process, s *sent) relay.Handler
	appends []string                // types of the first events of appends that it comes to
	loose   bool                    // it does several things at once: the way to a point may be another
	same    func(a, b outcome) bool // default all that the log says and all that was sent
}

// script is the log that an act begins with, append by append: the same events each
// time, so that what follows from them is the same.
func (a act) script(t testing.TB) (log [][]eventstore.Event) {
	store := memory.New()
	h := open(t, store, crashRoles())
	a.prepare(h.furnish())
	var last eventstore.Position
	for r, err := range store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(t, err)
		if r.Append != last || len(log) == 0 {
			log = append(log, nil)
		}
		last = r.Append
		log[len(log)-1] = append(log[len(log)-1], r.Event)
	}
	require.NoError(t, h.Close())
	require.NoError(t, store.Close())
	return log
}

func write(t testing.TB, store eventstore.Store, log [][]eventstore.Event) {
	for _, events := range log {
		_, err := store.Append(context.Background(), events)
		require.NoError(t, err)
	}
}

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// pace is how fast a handler is run.
type pace struct {
	lease, poll, rest time.Duration // rest is waited for when all is done
}

// live runs one life of an act on a store, until the process is dead or all is done.
func (a act) live(t testing.TB, store storefor.Store, p *process, s *sent, pace pace) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen := mortalStore{store, &process{}} // opening is not what is tried
	engine, err := rollforward.Open(ctx, seen, rollforward.Config{
		Authorizer: crashRoles(), Clock: func() time.Time { return monday.Add(24 * time.Hour) }, Types: slices.Concat(automation.Types(), notify.Types()),
		SnapshotEvery: -1, Logger: silent,
	})
	require.NoError(t, err)
	*seen.process = process{last: p.last, kill: p.kill}
	defer func() { p.points, p.dead = seen.points, seen.dead }()
	handler := a.handler(t, engine, seen.process, s)
	handler.History = true
	handlers, err := relay.New(relay.Config{
		Store: seen, Registry: crashRegistry(t), Workers: 1, FirstPause: pace.poll, LastPause: 4 * pace.poll, Lease: pace.lease, SaveEvery: pace.poll,
		Grace: -1, Logger: silent,
	}, handler)
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 10 * time.Second}, watermill.NopLogger{})
	require.NoError(t, err)
	router.AddMiddleware(func(h message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			r, err := relay.Recorded(m)
			if err != nil {
				return nil, err
			}
			if err := seen.point("before the handler is given " + r.Type); err != nil {
				return nil, err
			}
			produced, err := h(m)
			if dead := seen.point("before the handler returns from " + r.Type); dead != nil {
				return nil, dead
			}
			return produced, err
		}
	})
	handlers.AddTo(router)
	ran := make(chan error, 1)
	go func() { ran <- router.Run(ctx) }()
	deadline := time.Now().Add(2 * time.Minute)
	for seen.alive() == nil && !a.done(t, store, handlers.Status()[0]) {
		require.True(t, time.Now().Before(deadline), "it does not come to an end: %+v", handlers.Status())
		time.Sleep(pace.poll)
	}
	if seen.alive() == nil {
		time.Sleep(pace.rest)
	}
	whole := seen.alive() == nil
	err = handlers.Close()
	cancel()
	<-ran
	require.NoError(t, errors.Join(err, router.Close()))
	if err := engine.Close(); whole && seen.alive() == nil {
		require.NoError(t, err)
	}
}

// done reports whether a handler has nothing left to do.
func (a act) done(t testing.TB, store eventstore.Store, s relay.Status) bool {
	head, err := store.Head(context.Background())
	require.NoError(t, err)
	return s.Holding && s.Position >= head && s.UnderWay == 0 && len(s.Behind) == 0
}

// position is where an event says up to where it looked: leases move it.
var position = regexp.MustCompile(`"position":\d+`)

// story is what the log says, beyond its script and without leases: by stream, in the
// order of each unless the act does several things at once.
func (a act) story(t testing.TB, store eventstore.Store, script [][]eventstore.Event) []string {
	began := 0
	for _, events := range script {
		began += len(events)
	}
	var all []string
	for r, err := range store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(t, err)
		if began--; began >= 0 || strings.HasPrefix(r.Stream, "lease-") {
			continue
		}
		if a.loose {
			r.Version = 0
		}
		all = append(all, position.ReplaceAllString(fmt.Sprintf("%s %06d %s %v %s %s", r.Stream, r.Version, r.Type, r.Tags, r.Data, r.Meta), `"position":0`))
	}
	slices.Sort(all)
	return all
}

// outcome is what came of an act.
type outcome struct {
	Log, Sent []string
}

// inMind runs lives of an act on a new store in memory, in time that is not real: the
// first dies at a point, the second goes on.
func (a act) inMind(t *testing.T, script [][]eventstore.Event, last int) (came outcome, points []string, died bool) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		write(t, store, script)
		came, points, died = a.lives(t, store, script, last, pace{time.Second, 10 * time.Millisecond, 400 * time.Millisecond})
		require.NoError(t, store.Close())
	})
	return came, points, died
}

func (a act) lives(t testing.TB, store storefor.Store, script [][]eventstore.Event, last int, pace pace) (came outcome, points []string, died bool) {
	first, s := &process{last: last}, &sent{}
	a.live(t, store, first, s, pace)
	if first.dead {
		a.live(t, store, &process{}, s, pace)
	}
	return outcome{a.story(t, store, script), s.all()}, first.points, first.dead
}

// trial lets a process die at every point, or every stride-th, and returns at how many
// points it did, and after which of these deaths something is different.
func (a act) trial(t *testing.T, stride int) (deaths int, different []string, without outcome, points []string) {
	if a.same == nil {
		a.same = equal
	}
	script := a.script(t)
	without, points, died := a.inMind(t, script, 0)
	require.False(t, died)
	for last := 1; last <= len(points); last += stride {
		came, before, died := a.inMind(t, script, last)
		if !died {
			// How often a checkpoint is saved at the end hangs on what is done at the same time.
			require.True(t, a.loose && last > len(points)-4, "point %d of %d is not reached: %q, %q", last, len(points), points, before)
			continue
		}
		require.Len(t, before, last)
		if !a.loose {
			require.Equal(t, points[:last], before, "the way to a point is always the same")
		}
		deaths++
		if !a.same(came, without) {
			different = append(different, before[last-1])
		}
	}
	return deaths, different, without, points
}

func equal(a, b outcome) bool { return slices.Equal(a.Log, b.Log) && slices.Equal(a.Sent, b.Sent) }

// shape is how many events of which type each change has: what is left of a log to
// compare where keys are never the same.
func shape(o outcome) map[string]int {
	counts := map[string]int{}
	for _, line := range o.Log {
		f := strings.Fields(line)
		if strings.HasPrefix(f[0], "change-") {
			counts[f[0]+" "+f[2]]++
		}
	}
	return counts
}
