//go:build unix

package relay_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// The test binary runs itself again as processes that share a durable consumer and are
// stopped and killed, in the role that this variable names; see roles. The rest tells
// them where the store is, and how long a lease is.
const (
	handoverVariable = "ROLLFORWARD_HANDOVER_ROLE"
	placeVariable    = "ROLLFORWARD_HANDOVER_PLACE"
	leaseVariable    = "ROLLFORWARD_HANDOVER_LEASE"
)

// Where a process can be held; the parent arms one point at a time.
const (
	atHandle = "handle" // before a handler looks at anything
	atDecide = "decide" // between its decision and the append
	atAppend = "append" // between its effect and the acknowledgement
	atSave   = "save"   // between the look at the lease and the checkpoint
	atSaved  = "saved"  // behind the checkpoint
	atTaken  = "taken"  // between taking the lease and its first checkpoint
)

const (
	inputPrefix   = "input-"
	effectStream  = "effects"
	handoverName  = "handover"
	handoverLease = "lease-" + handoverName
)

// given is what the consumer is to act on, and done its effect, once for each.
type given struct {
	Sequence int `json:"sequence"` // over all streams, from 1
}

type done struct {
	Sequence int    `json:"sequence"`
	Stream   string `json:"stream"` // of the event that was given
	Token    uint64 `json:"token"`  // under which the handler acted
}

func handoverRegistry() (*eventstore.Registry, error) {
	types := append(relay.Types(), command.Types()...)
	return eventstore.NewRegistry(append(types, eventstore.Type[given]("handover.given", 1), eventstore.Type[done]("handover.done", 1))...)
}

// roles are the handlers. Those that say "fenced" and "keyed" are right; each of the
// others leaves out one thing that the harness is to miss.
var roles = map[string]func(p *proceeding) relay.Handler{
	"fenced":         func(p *proceeding) relay.Handler { return p.following(true) },
	"without fence":  func(p *proceeding) relay.Handler { return p.following(false) },
	"keyed":          func(p *proceeding) relay.Handler { return p.commanding(true) },
	"without key":    func(p *proceeding) relay.Handler { return p.commanding(false) },
	"told too early": func(p *proceeding) relay.Handler { return p.promising() },
}

func init() {
	if role := os.Getenv(handoverVariable); role != "" {
		if err := proceed(role); err != nil {
			say("failure %v", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// say tells the parent; a line is one write to the pipe.
func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// brake holds whoever reaches the point that is armed, once, and from then on whoever
// reaches any other, so that nobody is long within a commit when the process is stopped.
type brake struct {
	mu    sync.Mutex
	point string
	held  chan struct{}
}

func (b *brake) arm(point string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.point = point
}

func (b *brake) reach(point string) {
	b.mu.Lock()
	held := b.held
	first := b.point == point
	if first {
		held = make(chan struct{})
		b.point, b.held = "", held
	}
	b.mu.Unlock()
	if first {
		say("at %s", point)
	}
	if held != nil {
		<-held
	}
}

func (b *brake) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.point = ""; b.held != nil {
		close(b.held)
		b.held = nil
	}
}

// braked is a store with points around what a consumer writes to it.
type braked struct {
	storefor.Store
	*brake
	saved func(ctx context.Context) error
}

func (s *braked) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	records, err := s.Store.Append(ctx, events, expect...)
	if err == nil && events[0].Stream == handoverLease {
		s.reach(atTaken)
	}
	return records, err
}

func (s *braked) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	s.reach(atSave)
	if err := s.Store.SaveCheckpoints(ctx, checkpoints...); err != nil {
		return err
	}
	s.reach(atSaved)
	return s.saved(ctx)
}

// proceeding is one process.
type proceeding struct {
	brake
	store    storefor.Store
	registry *eventstore.Registry
	door     *command.Door

	mu      sync.Mutex
	token   uint64                            // under which the last event was delivered
	last    int                               // where following: the sequence of the last effect
	pending []func(ctx context.Context) error // where promising: effects of what was acknowledged
}

// proceed is the whole of a process. It ends when it is told so, and with its parent.
func proceed(role string) error {
	ctx := context.Background()
	lease, err := time.ParseDuration(os.Getenv(leaseVariable))
	if err != nil {
		return err
	}
	p := &proceeding{}
	if p.store, err = storefor.Place(os.Getenv(placeVariable)).Open(ctx); err != nil {
		return err
	}
	if p.registry, err = handoverRegistry(); err != nil {
		return err
	}
	if p.door, err = command.Open(command.Config{Store: p.store, Registry: p.registry, Authorizer: command.AllowAll}); err != nil {
		return err
	}
	handler := roles[role]
	if handler == nil {
		return fmt.Errorf("no role %q", role)
	}
	handlers, err := relay.New(relay.Config{
		Store: &braked{p.store, &p.brake, p.keepPromises}, Registry: p.registry,
		Lease: lease, SaveEvery: lease / 10, FirstPause: time.Millisecond, LastPause: 100 * time.Millisecond, Grace: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, handler(p))
	if err != nil {
		return err
	}
	ended := false
	go func() {
		orders := bufio.NewScanner(os.Stdin)
		for orders.Scan() {
			switch order := orders.Text(); order {
			case "go":
				p.release()
			case "end":
				ended = true
				p.release()
				if err := handlers.Close(); err != nil {
					say("failure close: %v", err)
				}
			default:
				p.arm(order)
			}
		}
		if !ended {
			os.Exit(3) // however it ended, the parent is gone
		}
	}()
	if err := handlers.Run(ctx); err != nil {
		return err
	}
	if err := errors.Join(p.door.Close(ctx), p.store.Close()); err != nil {
		return err
	}
	say("ended")
	return nil
}

func (p *proceeding) handler(workers int, f func(ctx context.Context, e given, env relay.Envelope) error) relay.Handler {
	return relay.Handler{Name: handoverName, Topic: relay.ByPrefix(inputPrefix), History: true, Workers: workers, Attempts: -1, Cases: []relay.Case{
		relay.On(func(ctx context.Context, e given, env relay.Envelope) error {
			if e.Sequence%2 == 0 {
				ctx = context.WithoutCancel(ctx) // it does not hear that the lease is lost: only the fence stops it
			}
			p.reach(atHandle)
			err := f(ctx, e, env)
			var conflict *eventstore.ConflictError
			if errors.As(err, &conflict) && conflict.Stream == handoverLease {
				say("refused %d", e.Sequence)
			}
			return err
		}),
	}}
}

// notice says under which token events are delivered, and reports whether it is
// another than before.
func (p *proceeding) notice(env relay.Envelope) (token uint64, other bool) {
	token = env.Fence()[0].Version
	p.mu.Lock()
	defer p.mu.Unlock()
	if other = token != p.token; other {
		p.token = token
		say("token %d", token)
	}
	return token, other
}

// following records effects that nothing dedupes: under random IDs, blindly. At each
// take-over it looks for the last effect in the log and goes on behind it.
func (p *proceeding) following(fenced bool) relay.Handler {
	known := false
	var turn sync.Mutex // one whose context has ended may still be at work when the next comes
	return p.handler(1, func(ctx context.Context, e given, env relay.Envelope) error {
		turn.Lock()
		defer turn.Unlock()
		token, other := p.notice(env)
		if other || !known {
			last, err := p.lastEffect(ctx)
			if err != nil {
				return err
			}
			p.last, known = last, true
		}
		switch {
		case e.Sequence <= p.last:
			return nil
		case e.Sequence > p.last+1:
			say("failure event %d was delivered behind effect %d", e.Sequence, p.last)
		}
		known = false // until the effect is known to be there
		_, err := eventstore.Update(ctx, p.store, p.registry, func(tx *eventstore.Tx) error {
			if fenced {
				for _, x := range env.Fence() {
					if err := tx.Expect(x.Stream, x.Version); err != nil {
						return err
					}
				}
			}
			defer p.reach(atDecide)
			return tx.RecordBlind(effectStream, done{e.Sequence, env.Stream, token})
		})
		if err != nil {
			return err
		}
		p.last, known = e.Sequence, true
		p.reach(atAppend)
		return nil
	})
}

func (p *proceeding) lastEffect(ctx context.Context) (last int, err error) {
	for r, err := range p.store.Read(ctx, eventstore.Query{Streams: []string{effectStream}}) {
		if err != nil {
			return 0, err
		}
		payload, err := p.registry.Decode(r.Event)
		if err != nil {
			return 0, err
		}
		last = max(last, payload.(done).Sequence)
	}
	return last, nil
}

// commanding records effects by commands at a door, several at once.
func (p *proceeding) commanding(keyed bool) relay.Handler {
	return p.handler(3, func(ctx context.Context, e given, env relay.Envelope) error {
		token, _ := p.notice(env)
		if err := p.command(ctx, e, env, token, keyed); err != nil {
			return err
		}
		p.reach(atAppend)
		return nil
	})
}

func (p *proceeding) command(ctx context.Context, e given, env relay.Envelope, token uint64, keyed bool) error {
	call := env.Call(command.As("handover"))
	call.Action = "effect.record"
	if !keyed {
		call.Key, call.Fence = "", nil
	}
	decided := false
	answer, err := p.door.Do(ctx, call, func(tx *command.Tx) error {
		if err := tx.Authorize(call.Action, "", nil); err != nil {
			return err
		}
		decided = true
		defer p.reach(atDecide)
		return tx.RecordBlind(effectStream, done{e.Sequence, env.Stream, token})
	})
	if decided && answer.Repeated {
		say("overtaken")
	}
	return err
}

// promising acknowledges first and acts when that is saved.
func (p *proceeding) promising() relay.Handler {
	return p.handler(8, func(_ context.Context, e given, env relay.Envelope) error {
		token, _ := p.notice(env)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pending = append(p.pending, func(ctx context.Context) error { return p.command(ctx, e, env, token, true) })
		return nil
	})
}

func (p *proceeding) keepPromises(ctx context.Context) error {
	p.mu.Lock()
	pending := p.pending
	p.pending = nil
	p.mu.Unlock()
	for _, act := range pending {
		if err := act(ctx); err != nil && !errors.Is(err, eventstore.ErrConflict) { // who has the lease has them again
			return err
		}
	}
	return nil
}
