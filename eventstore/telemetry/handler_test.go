package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/telemetry"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestOneTraceFromACommandOverItsAppendToAHandlerElsewhereAndTheCommandItIssues(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite} {
		t.Run(string(kind), func(t *testing.T) {
			store := kind.New(t)
			here, there := look(t), look(t)
			engine := func(g *glass) *rollforward.Engine {
				e, err := rollforward.Open(t.Context(), store, rollforward.Config{
					Authorizer: command.Roles{"alice": {command.Requester}, "robot": {command.Implementer}}, Observer: g,
				})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, e.Close()) })
				return e
			}
			a, b := engine(here), engine(there)
			told := make(chan error, 1)
			require.NoError(t, b.Handle(relay.Handler{Name: "note-it", Cases: []relay.Case{
				relay.On(func(ctx context.Context, e change.Raised, env relay.Envelope) error {
					_, err := b.Changes.DoCall(ctx, env.Call(command.As("robot")), e.Change, change.Note{Text: "seen"})
					select {
					case told <- err:
					default:
					}
					return err
				}),
			}}))
			c, err := a.Changes.Raise(t.Context(), command.As("alice"), change.Raise{Content: change.Content{Title: "Upgrade"}})
			require.NoError(t, err)
			select {
			case err := <-told:
				require.NoError(t, err)
			case <-time.After(patience):
				require.Fail(t, "the handler was not called")
			}
			require.NoError(t, b.Close())

			first, handled := here.span("command change.raise"), there.span("process change.raised")
			second := there.span("command change.note")
			require.Equal(t, first.SpanContext().SpanID(), handled.Parent().SpanID())
			require.True(t, handled.Parent().IsRemote())
			require.Equal(t, trace.SpanKindConsumer, handled.SpanKind())
			require.Len(t, handled.Links(), 1)
			require.Equal(t, first.SpanContext().SpanID(), handled.Links()[0].SpanContext.SpanID())
			require.Equal(t, handled.SpanContext().SpanID(), second.Parent().SpanID())
			require.Equal(t, "note-it", valueOf(handled, "messaging.consumer.group.name"))
			require.Equal(t, "1", valueOf(handled, "rollforward.attempt"))

			// In the log: the events of both commands are of one trace, and of its two commands.
			parents := map[string]string{}
			for r, err := range store.Read(t.Context(), eventstore.Query{Streams: []string{"change-" + c.ID}}) {
				require.NoError(t, err)
				meta, err := eventstore.DecodeMetadata(r.Meta)
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(meta.Traceparent, "00-"+first.SpanContext().TraceID().String()), r.Type)
				parents[r.Type] = meta.Traceparent[36:52]
			}
			require.Equal(t, first.SpanContext().SpanID().String(), parents["change.raised"])
			require.Equal(t, second.SpanContext().SpanID().String(), parents["change.noted"])
		})
	}
}

func TestTheCallOfAHandlerMayBeATraceOfItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		traceparent string
		newTraces   bool
		ambient     bool
		links       int
		continued   bool
	}{
		"continued":                       {traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", links: 1, continued: true},
		"a later version":                 {traceparent: "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", links: 1, continued: true},
		"of its own":                      {traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", newTraces: true, links: 1},
		"within another":                  {traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ambient: true, links: 1},
		"an event without a trace":        {},
		"an event with something else":    {traceparent: "whatever"},
		"an event with a trace of zeroes": {traceparent: "00-00000000000000000000000000000000-0000000000000000-01"},
	} {
		t.Run(name, func(t *testing.T) {
			g := look(t, func(config *telemetry.Config) { config.NewTraces = c.newTraces })
			ctx := t.Context()
			if c.ambient {
				ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{9}, SpanID: trace.SpanID{9}, TraceFlags: trace.FlagsSampled}))
			}
			env := relay.Envelope{Handler: "h", Metadata: eventstore.Metadata{Traceparent: c.traceparent}}
			env.Type = "points.given"
			_, ended := g.Delivery(ctx, env)
			ended(nil)
			s := g.span("process points.given")
			require.Len(t, s.Links(), c.links)
			require.Equal(t, c.continued, s.SpanContext().TraceID().String() == "0af7651916cd43dd8448eb211c80319c")
			require.Equal(t, c.ambient, s.Parent().TraceID() == trace.TraceID{9})
		})
	}
}

func TestDeliveriesAreCountedByHandlerAndOutcome(t *testing.T) {
	g, store := look(t), memory.New()
	var calls atomic.Int32
	done := make(chan struct{})
	handlers, err := relay.New(relay.Config{Store: store, Registry: registry, FirstPause: time.Millisecond, Observer: g},
		relay.Handler{Name: "third-time", Cases: []relay.Case{
			relay.On(func(context.Context, Given, relay.Envelope) error {
				switch calls.Add(1) {
				case 1:
					return errors.New("not yet")
				case 2:
					panic("not yet")
				}
				close(done)
				return nil
			}),
		}},
		relay.Handler{Name: "at-once", Topic: relay.ByType("points.given"), Cases: []relay.Case{relay.Any(func(context.Context, relay.Envelope) error { return nil })}})
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- handlers.Run(context.Background()) }()
	<-handlers.Running()
	_, err = give(t.Context(), openDoor(t, store, g), command.Call{Target: "a"}, Given{Points: 1})
	require.NoError(t, err)
	<-done
	require.Eventually(t, func() bool {
		for _, s := range handlers.Status() {
			if s.Acknowledged != 1 {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
	require.NoError(t, handlers.Close())
	require.NoError(t, <-ran)
	require.Equal(t, map[string]int64{
		"third-time refused _OTHER": 1, "third-time refused panic": 1, "third-time acknowledged ": 1, "at-once acknowledged ": 1,
	}, g.values("messaging.process.duration", "messaging.consumer.group.name", "rollforward.outcome", "error.type"))
}

func TestGaugesShowHowFoldsAndHandlersStand(t *testing.T) {
	g := look(t)
	folds, handlers := follow.Status{Ready: true, Lag: 7}, []relay.Status{
		{Consumer: "here", Holding: true, Lag: 3, Behind: []relay.Behind{{Parked: true}, {Parked: true}, {}}},
		{Consumer: "elsewhere", Standby: true, Lag: 99},
	}
	stop, err := g.Watch(func() (follow.Status, []relay.Status) { return folds, handlers })
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"": 7}, g.values("rollforward.folds.lag"))
	require.Equal(t, map[string]int64{"": 1}, g.values("rollforward.folds.ready"))
	require.Equal(t, map[string]int64{"here": 3}, g.values("rollforward.handler.lag", "messaging.consumer.group.name"), "who stands by does not know")
	require.Equal(t, map[string]int64{"here true": 2, "here false": 1}, g.values("rollforward.handler.behind", "messaging.consumer.group.name", "rollforward.parked"))
	require.Equal(t, map[string]int64{"here": 1, "elsewhere": 0}, g.values("rollforward.handler.holding", "messaging.consumer.group.name"))
	folds.Ready = false
	require.Equal(t, map[string]int64{"": 0}, g.values("rollforward.folds.ready"))
	require.NoError(t, stop())
	require.Empty(t, g.values("rollforward.folds.lag"), "nothing is watched any more")
}

func TestGaugesShowAnEngineWhileItIsAtWork(t *testing.T) {
	g, other := look(t), look(t)
	store := memory.New()
	finish, begun := make(chan struct{}), make(chan struct{}, 100)
	h := relay.Handler{Name: "tell", Cases: []relay.Case{relay.On(func(ctx context.Context, _ change.Raised, _ relay.Envelope) error {
		begun <- struct{}{}
		select {
		case <-finish:
		case <-ctx.Done():
		}
		return ctx.Err()
	})}}
	engine := func(g *glass) *rollforward.Engine {
		e, err := rollforward.Open(t.Context(), store, rollforward.Config{Authorizer: command.AllowAll, Observer: g})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		require.NoError(t, e.Handle(h))
		require.Eventually(t, func() bool { now := e.Status().Handlers[0]; return now.Holding || now.Standby }, patience, time.Millisecond)
		stop, err := g.Watch(func() (follow.Status, []relay.Status) {
			now := e.Status()
			return now.Folds, now.Handlers
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, stop()) })
		return e
	}
	e := engine(g)
	engine(other)
	for range 3 {
		_, err := e.Changes.Raise(t.Context(), command.As("alice"), change.Raise{Content: change.Content{Title: "one"}})
		require.NoError(t, err)
		<-begun
	}
	lag := func(g *glass) map[string]int64 {
		return g.values("rollforward.handler.lag", "messaging.consumer.group.name")
	}
	require.Eventually(t, func() bool { return lag(g)["tell"] > 0 }, patience, time.Millisecond)
	require.Empty(t, lag(other), "the other one stands by")
	require.Equal(t, map[string]int64{"tell": 1}, g.values("rollforward.handler.holding", "messaging.consumer.group.name"))
	require.Equal(t, map[string]int64{"tell": 0}, other.values("rollforward.handler.holding", "messaging.consumer.group.name"))
	require.Equal(t, map[string]int64{"": 1}, other.values("rollforward.folds.ready"))
	close(finish)
	require.Eventually(t, func() bool { return lag(g)["tell"] == 0 }, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		return g.values("rollforward.folds.lag")[""] == 0 && other.values("rollforward.folds.lag")[""] == 0
	}, patience, time.Millisecond)
}

func TestHandlersBehindABrokerAreObservedByMiddleware(t *testing.T) {
	g, store := look(t), memory.New()
	done, err := give(t.Context(), openDoor(t, store, g), command.Call{Target: "a", Correlation: "undertaking-1"}, Given{Points: 1})
	require.NoError(t, err)
	broker := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, watermill.NopLogger{})
	m, err := relay.Message(done.Records[0])
	require.NoError(t, err)
	require.NoError(t, broker.Publish("points", m))

	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	router.AddMiddleware(g.Middleware)
	called := make(chan context.Context, 1)
	h, err := relay.Handler{Name: "behind", Cases: []relay.Case{relay.On(func(ctx context.Context, _ Given, _ relay.Envelope) error {
		called <- ctx
		return nil
	})}}.Func(registry)
	require.NoError(t, err)
	router.AddConsumerHandler("behind", "points", broker, h)
	ran := make(chan error, 1)
	go func() { ran <- router.Run(context.Background()) }()
	ctx := <-called
	require.NoError(t, router.Close())
	require.NoError(t, <-ran)
	require.NoError(t, broker.Close())

	s := g.span("process points.given")
	require.Equal(t, g.span("command points.give").SpanContext().SpanID(), s.Parent().SpanID())
	require.Equal(t, s.SpanContext().SpanID(), trace.SpanContextFromContext(ctx).SpanID())
	require.Equal(t, "undertaking-1", valueOf(s, "messaging.message.conversation_id"))
	require.Equal(t, map[string]int64{"behind acknowledged": 1}, g.values("messaging.process.duration", "messaging.consumer.group.name", "rollforward.outcome"))

	// What a handler of a router returns, or that it panics, is its outcome.
	fails := g.Middleware(func(*message.Message) ([]*message.Message, error) { return nil, eventstore.ErrClosed })
	_, err = fails(message.NewMessage("1", nil))
	require.ErrorIs(t, err, eventstore.ErrClosed)
	require.PanicsWithValue(t, "broken", func() {
		_, _ = g.Middleware(func(*message.Message) ([]*message.Message, error) { panic("broken") })(message.NewMessage("2", nil))
	})
	require.Equal(t, map[string]int64{"": 1, "closed": 1, "panic": 1}, g.values("messaging.process.duration", "error.type"))
}

func TestWhatIsSecretIsNotShown(t *testing.T) {
	g, store := look(t), memory.New()
	door := openDoor(t, store, g)
	const secret = "hunter2"
	call := command.Call{Target: "visible", Reason: "because " + secret, Key: "key-" + secret, Content: secret}
	done, err := give(t.Context(), door, call, Given{Points: 1, Note: secret})
	require.NoError(t, err)
	_, err = give(t.Context(), door, command.Call{Target: "visible", Actor: command.As("person-" + secret)}, Given{Points: 1})
	require.ErrorIs(t, err, command.ErrDenied)
	_, err = door.Do(t.Context(), command.Call{Actor: command.As("ann"), Action: "points.give"}, func(*command.Tx) error { return errors.New("password " + secret) })
	require.Error(t, err)
	meta, err := eventstore.DecodeMetadata(done.Records[0].Meta)
	require.NoError(t, err)
	_, ended := g.Delivery(t.Context(), relay.Envelope{Recorded: done.Records[0], Metadata: meta, Handler: "h"})
	ended(errors.New("https://host/?token=" + secret))

	var shown strings.Builder
	for _, s := range g.spans.Ended() {
		fmt.Fprintln(&shown, s.Name(), s.Attributes(), s.Status(), s.Events(), s.Links())
	}
	var metrics metricdata.ResourceMetrics
	require.NoError(t, g.reader.Collect(t.Context(), &metrics))
	fmt.Fprintf(&shown, "%+v", metrics)
	require.Contains(t, shown.String(), "visible", "the control: what is written here would be seen")
	require.NotContains(t, shown.String(), secret)
}
