package notify_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/notify"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/fixture"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storefor.Tests{M: m}) }

// monday is when everything begins.
var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

var (
	alice = command.As("alice")
	bob   = command.As("bob")
	carol = command.As("carol")
	dave  = command.As("dave")
	erin  = command.As("erin")

	roles = command.Roles{
		"alice": {command.Requester}, "bob": {command.Approver}, "carol": {command.ChangeManager, command.ConfigManager},
		"dave": {command.Implementer}, "erin": {command.Reviewer}, notify.Actor: {command.Automation},
	}
)

// house is an engine, and a directory of those who are told.
type house struct {
	t        testing.TB
	store    eventstore.Store
	engine   *rollforward.Engine
	registry *eventstore.Registry
	clock    *fixture.Clock
}

func open(t testing.TB, store eventstore.Store, configs ...func(*rollforward.Config)) *house {
	h := &house{t: t, store: store, clock: fixture.At(monday)}
	config := rollforward.Config{Authorizer: roles, Types: notify.Types(), Clock: h.clock.Now, Logger: quiet}
	for _, c := range configs {
		c(&config)
	}
	var err error
	h.engine, err = rollforward.Open(context.Background(), store, config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.engine.Close()) })
	h.registry, err = eventstore.NewRegistry(slices.Concat(command.Types(), cmdb.Types(), change.Types(), notify.Types(), relay.Types())...)
	require.NoError(t, err)
	return h
}

// inMemory is an engine on a store of its own whose clock is that of the house.
func inMemory(t testing.TB, configs ...func(*rollforward.Config)) *house {
	var h *house
	store := memory.New(memory.WithClock(func() time.Time {
		if h == nil {
			return monday
		}
		return h.clock.Now()
	}))
	h = open(t, store, configs...)
	return h
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func (h *house) estate() *house {
	_, err := h.engine.CMDB.Record(context.Background(), carol,
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15"), cmdb.Attr("owner", "team-db")),
		cmdb.Add("shop", "service", cmdb.Attr("owner", "team-shop"), cmdb.Attr("criticality", "critical")), cmdb.Relate("shop", "depends on", "db-01"),
		cmdb.Add("lone", "service", cmdb.Attr("owner", "team-lone")))
	require.NoError(h.t, err)
	return h
}

func upgrade(stakeholders ...change.Stakeholder) change.Raise {
	return change.Raise{Content: change.Content{
		Title: "Upgrade db-01 to 16", Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")},
		Window: change.Between(monday.Add(time.Hour), monday.Add(3*time.Hour)), Stakeholders: stakeholders,
	}}
}

func (h *house) raise(r change.Raise, then ...change.Command) change.Change {
	h.t.Helper()
	c, err := h.engine.Changes.Raise(context.Background(), alice, r, then...)
	require.NoError(h.t, err)
	return c
}

func (h *house) do(actor command.Actor, id string, commands ...change.Command) change.Change {
	h.t.Helper()
	c, err := h.engine.Changes.Do(context.Background(), actor, id, commands...)
	require.NoError(h.t, err)
	return c
}

// scheduled is a change that is authorised.
func (h *house) scheduled(r change.Raise) change.Change {
	h.t.Helper()
	c := h.raise(r, change.Submit{})
	c = h.do(carol, c.ID, change.Assess{Level: "low", Why: "done twice before"})
	return h.do(bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
}

// whole is a change through its whole life, a hold included.
func (h *house) whole(r change.Raise) change.Change {
	h.t.Helper()
	c := h.scheduled(r)
	h.do(carol, c.ID, change.Hold{Reason: "the vendor has called"})
	h.do(carol, c.ID, change.Resume{})
	h.clock.Advance(time.Hour)
	h.do(dave, c.ID, change.Start{})
	h.clock.Advance(time.Hour)
	h.do(dave, c.ID, change.Complete{Notes: "went well"})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	return h.do(carol, c.ID, change.Close{})
}

// post is a Sender that keeps what it is given.
type post struct {
	mu    sync.Mutex
	sent  []letter
	says  func(where string, m notify.Message) error // nil takes everything
	tried int
	deaf  bool // it does not look at the context
}

type letter struct {
	where string
	notify.Message
}

func (p *post) Send(ctx context.Context, where string, m notify.Message) error {
	p.mu.Lock()
	p.tried++
	says := p.says
	p.mu.Unlock()
	if says != nil {
		if err := says(where, m); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, letter{where, m})
	if p.deaf {
		return nil
	}
	return ctx.Err()
}

func (p *post) letters() []letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent)
}

// said returns what was sent as "who word", in order of events, and within one of people.
func (p *post) said() []string {
	all := p.letters()
	slices.SortStableFunc(all, func(a, b letter) int {
		if a.Version != b.Version {
			return int(a.Version) - int(b.Version)
		}
		if a.Who < b.Who {
			return -1
		}
		return 1
	})
	said := make([]string, len(all))
	for i, l := range all {
		said[i] = l.Who + " " + l.Word
	}
	return said
}

// everybody is reached by "post", at an address of his own.
func everybody(_ context.Context, who string) ([]notify.Address, error) {
	return []notify.Address{{Channel: "post", Where: who + "@example.org"}}, nil
}

func (h *house) config(sender notify.Sender, configs ...func(*notify.Config)) notify.Config {
	c := notify.Config{
		Changes: h.engine.Changes, Door: h.engine.Door, Addresses: everybody, Senders: map[string]notify.Sender{"post": sender}, Logger: quiet,
		BaseURL: "https://changes.example.org/changes/",
	}
	for _, f := range configs {
		f(&c)
	}
	return c
}

// handler is the handler as it is after a restart: with nothing that it remembers.
func (h *house) handler(sender notify.Sender, configs ...func(*notify.Config)) relay.Handler {
	h.t.Helper()
	handler, err := notify.Stakeholders(h.config(sender, configs...))
	require.NoError(h.t, err)
	return handler
}

// feed gives a handler the whole log, one event after the other, and returns what it
// said of each that it did not take.
func (h *house) feed(handler relay.Handler) error {
	h.t.Helper()
	f, err := handler.Func(h.registry)
	require.NoError(h.t, err)
	return h.feedTo(f)
}

func (h *house) feedTo(f message.NoPublishHandlerFunc) error {
	h.t.Helper()
	var failed []error
	for r, err := range h.store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(h.t, err)
		m, err := relay.Message(r)
		require.NoError(h.t, err)
		failed = append(failed, f(m))
	}
	return errors.Join(failed...)
}

// run runs a handler by the relay, until the function that it returns is called. It
// is told of all that is in the log.
func (h *house) run(handler relay.Handler, configs ...func(*relay.Config)) (stop func()) {
	h.t.Helper()
	handler.History = true
	config := relay.Config{Store: h.store, Registry: h.registry, FirstPause: time.Millisecond, LastPause: 5 * time.Millisecond, Logger: quiet}
	for _, f := range configs {
		f(&config)
	}
	handlers, err := relay.New(config, handler)
	require.NoError(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- handlers.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(h.t, <-ended)
	})
	h.t.Cleanup(stop)
	return stop
}

func (h *house) of(id string) []notify.Receipt {
	h.t.Helper()
	all, err := notify.Of(context.Background(), h.store, h.registry, id)
	require.NoError(h.t, err)
	return all
}

// eventually waits on a machine that may be very slow.
func (h *house) eventually(what func() bool, says ...any) {
	h.t.Helper()
	require.Eventually(h.t, what, time.Minute, 2*time.Millisecond, says...)
}
