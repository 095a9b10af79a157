package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/rollforward/rollforward/eventstore"
)

// Handler is what one durable consumer does. Its name is for ever: where the
// consumer is, the keys of its effects and the decisions on its events are kept
// under it. Which events it takes may change; it takes new ones from where it is.
type Handler struct {
	Name  string // at most 64 bytes: "tell-owners"
	Cases []Case // by event type

	// Topic is what it is given; see Topic. Default the types of its cases. An event
	// that no case takes is acknowledged.
	Topic string

	// History has it start at the beginning of the log when it is started for the
	// first time. Default: it starts with what is recorded from then on, so that a new
	// handler does not write to people about what is long past.
	History bool

	// Timeout is when the context of a call ends. Default 1 min.
	Timeout time.Duration

	Workers, Attempts int // default those of Config
}

// Case is what a handler does with events of one type; make one with [On] or [Any].
type Case struct {
	typeName func(r *eventstore.Registry) (string, error) // nil: every event
	call     func(ctx context.Context, payload any, env Envelope) error
}

// On has events with payload E handled by f. An error of f has the event delivered
// again later; [Permanent] has it parked at once.
func On[E any](f func(ctx context.Context, e E, env Envelope) error) Case {
	return Case{
		typeName: func(r *eventstore.Registry) (string, error) { var zero E; return r.TypeName(zero) },
		call: func(ctx context.Context, payload any, env Envelope) error {
			e, ok := payload.(E)
			if !ok {
				return fmt.Errorf("event %s has a payload of type %T: %w", env.ID, payload, eventstore.ErrMalformed)
			}
			return f(ctx, e, env)
		},
	}
}

// Any has events of the handler's Topic that no other case takes handled by f,
// without their payload being decoded.
func Any(f func(ctx context.Context, env Envelope) error) Case {
	return Case{call: func(ctx context.Context, _ any, env Envelope) error { return f(ctx, env) }}
}

// prepared is a handler whose cases are found by event type.
type prepared struct {
	Handler
	registry *eventstore.Registry
	byType   map[string]Case
	other    *Case
	before   func(ctx context.Context, env Envelope) error // nil: nothing
	observer Observer                                      // nil: nobody
	calls    atomic.Int64                                  // under way
}

func (h Handler) prepare(r *eventstore.Registry) (*prepared, error) {
	if h.Name == "" || len(h.Name) > maxName {
		return nil, fmt.Errorf("relay: a handler has a name of at most %d bytes, by which its progress is kept: %.80q", maxName, h.Name)
	}
	if r == nil {
		return nil, fmt.Errorf("relay: handler %q: a Registry is required", h.Name)
	}
	p := &prepared{Handler: h, registry: r, byType: map[string]Case{}}
	var types []string
	for _, c := range h.Cases {
		switch {
		case c.call == nil:
			return nil, fmt.Errorf("relay: handler %q has an empty case: make cases with On or Any", h.Name)
		case c.typeName == nil && p.other != nil:
			return nil, fmt.Errorf("relay: handler %q has two cases for any event", h.Name)
		case c.typeName == nil:
			p.other = &c
			continue
		}
		name, err := c.typeName(r)
		if err != nil {
			return nil, fmt.Errorf("relay: handler %q: %w", h.Name, err)
		}
		if slices.Contains(types, name) {
			return nil, fmt.Errorf("relay: handler %q has two cases for %q", h.Name, name)
		}
		types = append(types, name)
		p.byType[name] = c
	}
	switch {
	case len(h.Cases) == 0:
		return nil, fmt.Errorf("relay: handler %q has no cases", h.Name)
	case p.Topic == "" && p.other != nil:
		return nil, fmt.Errorf("relay: handler %q takes any event: say of which Topic, such as relay.All", h.Name)
	case p.Topic == "":
		p.Topic = ByType(types...)
	}
	if p.Timeout == 0 {
		p.Timeout = time.Minute
	}
	return p, nil
}

// Func returns the handler as a function for messages of any subscriber, such as one
// of a broker to which a [Forwarder] writes. Keys of effects are the same; there is
// no lease, and so no fence.
func (h Handler) Func(r *eventstore.Registry) (message.NoPublishHandlerFunc, error) {
	p, err := h.prepare(r)
	if err != nil {
		return nil, err
	}
	return p.handle, nil
}

// PanicError says that a handler panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// handle calls the case of a message's event.
func (p *prepared) handle(m *message.Message) (err error) {
	p.calls.Add(1)
	defer p.calls.Add(-1)
	defer func() {
		if err != nil {
			Failed(m, err)
		}
	}()
	r, err := Recorded(m)
	if err != nil {
		return err
	}
	env := Envelope{Recorded: r, Handler: p.Name, Attempt: 1}
	d, ours := m.Context().Value(deliveryKey{}).(*delivery)
	if ours {
		env.Attempt, env.fence = d.attempt, d.fence
	}
	if ours && d.decoded {
		env.Metadata = d.meta
	} else if env.Metadata, err = eventstore.DecodeMetadata(r.Meta); err != nil {
		return err
	}
	c, found := p.byType[r.Type]
	switch {
	case found:
	case p.other != nil:
		c = *p.other
	default:
		return nil
	}
	ctx := m.Context()
	if p.observer != nil {
		var ended func(error)
		ctx, ended = p.observer.Delivery(ctx, env)
		defer func() { ended(err) }()
	}
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{value, debug.Stack()}
		}
	}()
	var payload any
	if found {
		if payload, err = p.registry.Decode(r.Event); err != nil {
			return err
		}
	}
	if err := p.ready(ctx, env); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	return c.call(ctx, payload, env)
}

// Handlers are handlers on one log.
type Handlers struct {
	config  Config
	all     []*prepared
	sources []*Subscriber // of each
	running chan struct{} // closed when Run has subscribed them
	ended   chan struct{} // closed when the router of Run has ended

	mu     sync.Mutex
	router *message.Router // of Run
}

// New returns handlers that are not running yet. Name, After and Message of config
// are not used. It does no I/O.
func New(config Config, handlers ...Handler) (*Handlers, error) {
	config.Name = ""
	config, err := config.withDefaults(8, 10)
	if err != nil {
		return nil, err
	}
	config.Message = nil
	h := &Handlers{config: config, running: make(chan struct{}), ended: make(chan struct{})}
	for _, handler := range handlers {
		p, err := handler.prepare(config.Registry)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(h.all, func(other *prepared) bool { return other.Name == p.Name }) {
			return nil, fmt.Errorf("relay: two handlers are called %q: each would take what is the other's for done", p.Name)
		}
		if _, err := config.Topics(p.Topic); err != nil {
			return nil, fmt.Errorf("relay: handler %q: %w", p.Name, err)
		}
		c := config
		c.Name, c.FromNow = p.Name, !p.History
		if p.Workers != 0 {
			c.Workers = p.Workers
		}
		if p.Attempts != 0 {
			c.Attempts = p.Attempts
		}
		if c, err = c.withDefaults(8, 10); err != nil {
			return nil, fmt.Errorf("handler %q: %w", p.Name, err)
		}
		p.before, p.observer = config.Before, config.Observer
		source, err := newSubscriber(c, true)
		if err != nil {
			return nil, err
		}
		h.all, h.sources = append(h.all, p), append(h.sources, source)
	}
	return h, nil
}

// AddTo adds each handler to a router of yours, under its name, to run with your
// middleware. The router closes them.
func (h *Handlers) AddTo(router *message.Router) {
	for i, p := range h.all {
		router.AddConsumerHandler(p.Name, p.Topic, h.sources[i], p.handle)
	}
}

// Run runs the handlers on a router of their own until ctx ends, or Close is called.
// What is at work then is given the time of Config.Grace.
func (h *Handlers) Run(ctx context.Context) error {
	if err := h.begin(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	if h.router != nil {
		h.mu.Unlock()
		return errors.New("relay: handlers run once")
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: h.patience()}, watermill.NewSlogLoggerWithLevelMapping(h.config.Logger, quiet))
	if err != nil {
		h.mu.Unlock()
		return fmt.Errorf("relay: %w", err)
	}
	h.router = router
	h.mu.Unlock()
	for i, p := range h.all {
		router.AddConsumerHandler(p.Name, p.Topic, subscribing{h.sources[i]}, p.handle)
	}
	go func() {
		select {
		case <-router.Running():
			close(h.running)
		case <-h.ended:
		}
	}()
	// Were the router's context to end, those of the messages would at once.
	stop := context.AfterFunc(ctx, func() { _ = h.Close() }) // what it says is said below
	err = router.Run(context.WithoutCancel(ctx))
	stop()
	close(h.ended)
	if err != nil {
		return fmt.Errorf("relay: %w", errors.Join(err, h.Close()))
	}
	return h.Close()
}

// begin looks where new handlers begin, before the router runs: one whose Subscribe
// fails never ends.
func (h *Handlers) begin(ctx context.Context) error {
	if len(h.all) == 0 {
		return nil
	}
	head, err := h.config.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("relay: look where handlers begin: %w", err)
	}
	for _, source := range h.sources {
		source.begins = &head
	}
	return nil
}

// subscribing is a source for the router of Run: one that is closed before it begins
// has no messages.
type subscribing struct{ *Subscriber }

func (s subscribing) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	messages, err := s.Subscriber.Subscribe(ctx, topic)
	if errors.Is(err, errSubscriberClosed) {
		none := make(chan *message.Message)
		close(none)
		return none, nil
	}
	return messages, err
}

// Running returns a channel that is closed when Run has subscribed all handlers: what
// is recorded from then on they are given. It stays open where Run fails before.
func (h *Handlers) Running() <-chan struct{} { return h.running }

// quiet is for Watermill's router: what it says, such as that a handler returned an
// error, and that it stops because all handlers have, consumers say themselves where
// it matters.
var quiet = map[slog.Level]slog.Level{slog.LevelError: slog.LevelDebug, slog.LevelInfo: slog.LevelDebug}

// Close ends the handlers and waits for them; see Subscriber.Close. Where Run runs
// them it waits as long as Config.Grace again, and 5 seconds, for those that do not end
// with their context, and fails with ErrAtWork where some still do not.
func (h *Handlers) Close() error {
	var closing sync.WaitGroup
	for _, source := range h.sources {
		closing.Go(func() { _ = source.Close() }) // which never fails
	}
	closing.Wait()
	h.mu.Lock()
	router := h.router
	h.mu.Unlock()
	if router == nil {
		return nil
	}
	// One that is closed while it begins waits in vain for those it has not begun with.
	select {
	case <-h.running:
	case <-h.ended:
	}
	deadline := time.Now().Add(h.patience())
	err := router.Close()
	// Whoever closed the router first was told if it took too long; and it may be done
	// before a call that began last.
	late := h.atWork()
	for ; len(late) > 0 && time.Now().Before(deadline); late = h.atWork() {
		time.Sleep(time.Millisecond)
	}
	if len(late) > 0 {
		return fmt.Errorf("relay: close handlers: %w: %s", ErrAtWork, strings.Join(late, ", "))
	}
	return err
}

// patience is how long Close waits for handlers that do not end with their context.
func (h *Handlers) patience() time.Duration { return max(h.config.Grace, 0) + releaseTimeout }

// atWork returns the names of handlers that are being called.
func (h *Handlers) atWork() []string {
	var names []string
	for _, p := range h.all {
		if p.calls.Load() > 0 {
			names = append(names, p.Name)
		}
	}
	return names
}

// Status returns how the handlers stand, in the order of New; those that do not run
// have a name and a topic only.
func (h *Handlers) Status() []Status {
	all := make([]Status, len(h.all))
	for i, p := range h.all {
		all[i] = h.sources[i].standing(p.Topic)
	}
	return all
}
