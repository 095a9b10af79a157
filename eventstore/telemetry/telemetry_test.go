package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/telemetry"
)

// patience is how long a test waits for what happens in the background.
const patience = time.Minute

// glass is what one process exports.
type glass struct {
	*telemetry.Telemetry
	t      testing.TB
	spans  *tracetest.SpanRecorder
	reader *metric.ManualReader
}

func look(t testing.TB, configs ...func(*telemetry.Config)) *glass {
	g := &glass{t: t, spans: tracetest.NewSpanRecorder(), reader: metric.NewManualReader()}
	traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(g.spans))
	meters := metric.NewMeterProvider(metric.WithReader(g.reader))
	config := telemetry.Config{TracerProvider: traces, MeterProvider: meters}
	for _, c := range configs {
		c(&config)
	}
	var err error
	g.Telemetry, err = telemetry.New(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, traces.Shutdown(context.Background()))
		require.NoError(t, meters.Shutdown(context.Background()))
	})
	return g
}

// span returns the one ended span of a name that was not there before.
func (g *glass) span(name string) sdktrace.ReadOnlySpan {
	g.t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, s := range g.spans.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	require.Len(g.t, found, 1, "spans %q", name)
	return found[0]
}

// values returns a metric's number, or the count of a histogram, by the values of the
// attributes that are asked for.
func (g *glass) values(name string, by ...attribute.Key) map[string]int64 {
	g.t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(g.t, g.reader.Collect(context.Background(), &all))
	got := map[string]int64{}
	add := func(set attribute.Set, n int64) {
		key := ""
		for i, k := range by {
			if i > 0 {
				key += " "
			}
			v, _ := set.Value(k)
			key += v.String()
		}
		got[key] += n
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch points := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range points.DataPoints {
					add(p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range points.DataPoints {
					add(p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				require.Equal(g.t, "s", m.Unit)
				for _, p := range points.DataPoints {
					add(p.Attributes, int64(p.Count))
				}
			default:
				require.Fail(g.t, "another kind of metric", "%s is a %T", name, m.Data)
			}
		}
	}
	return got
}

func valueOf(s sdktrace.ReadOnlySpan, key attribute.Key) string {
	for _, a := range s.Attributes() {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// The domain of these tests: points are given to accounts, at most 1,000 to each.

type Given struct {
	Points int    `json:"points"`
	Note   string `json:"note,omitzero"`
}

var accounts = eventstore.Decider[int, Given]{
	Decide: func(sum int, g Given) ([]any, error) {
		if sum+g.Points > 1000 {
			return nil, command.Refuse(command.Refusal{Rule: "at-most-1000", Reason: "it has " + fmt.Sprint(sum), Remedy: "give fewer"})
		}
		return []any{g}, nil
	},
	Evolve: func(sum int, payload any) int { return sum + payload.(Given).Points },
}

var registry = func() *eventstore.Registry {
	r, err := eventstore.NewRegistry(append(append(command.Types(), relay.Types()...), eventstore.Type[Given]("points.given", 1))...)
	if err != nil {
		panic(err)
	}
	return r
}()

func openDoor(t testing.TB, store eventstore.Store, observer command.Observer) *command.Door {
	authorizer := command.Policy{Table: command.Table{"teller": {{Actions: []string{"points.*"}}}}, Roles: command.Roles{"ann": {"teller"}}}
	door, err := command.Open(command.Config{Store: store, Registry: registry, Authorizer: authorizer, Observer: observer})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, door.Close(context.Background())) })
	return door
}

func give(ctx context.Context, door *command.Door, call command.Call, g Given) (command.Done, error) {
	call.Action = "points.give"
	if call.Actor.ID == "" {
		call.Actor = command.As("ann")
	}
	return door.Do(ctx, call, func(tx *command.Tx) error {
		if err := tx.Authorize(call.Action, call.Target, nil); err != nil {
			return err
		}
		_, err := accounts.Do(tx.Tx, "account-"+call.Target, g)
		return err
	})
}

func TestACommandIsASpanWithItsAppendBelow(t *testing.T) {
	g, store := look(t), memory.New()
	door := openDoor(t, store, g)
	done, err := give(t.Context(), door, command.Call{Target: "a", Correlation: "undertaking-1"}, Given{Points: 1})
	require.NoError(t, err)
	whole, part := g.span("command points.give"), g.span("append")
	require.Equal(t, whole.SpanContext().SpanID(), part.Parent().SpanID())
	require.Equal(t, trace.SpanKindProducer, part.SpanKind())
	require.Equal(t, "a", valueOf(whole, "rollforward.target"))
	require.Equal(t, "recorded", valueOf(whole, "rollforward.outcome"))
	require.Equal(t, "undertaking-1", valueOf(whole, "messaging.message.conversation_id"))
	require.Equal(t, "1", valueOf(part, "messaging.batch.message_count"))
	meta, err := eventstore.DecodeMetadata(done.Records[0].Meta)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("00-%s-%s-01", whole.SpanContext().TraceID(), whole.SpanContext().SpanID()), meta.Traceparent)
}

func TestACommandContinuesTheTraceOfItsCaller(t *testing.T) {
	for name, observer := range map[string]*glass{
		"sampled": look(t),
		"not sampled": look(t, func(c *telemetry.Config) {
			c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
		}),
		"no exporter": look(t, func(c *telemetry.Config) { c.TracerProvider = nil }),
	} {
		t.Run(name, func(t *testing.T) {
			caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
			done, err := give(trace.ContextWithSpanContext(t.Context(), caller), openDoor(t, memory.New(), observer), command.Call{Target: "a"}, Given{Points: 1})
			require.NoError(t, err)
			meta, err := eventstore.DecodeMetadata(done.Records[0].Meta)
			require.NoError(t, err)
			require.Len(t, meta.Traceparent, 55)
			require.Equal(t, caller.TraceID().String(), meta.Traceparent[3:35])
			require.Equal(t, map[string]string{"sampled": "01", "not sampled": "00", "no exporter": "01"}[name], meta.Traceparent[53:])
		})
	}
	// Without any span there is no traceparent.
	none := look(t, func(c *telemetry.Config) { c.TracerProvider = nil })
	done, err := give(t.Context(), openDoor(t, memory.New(), none), command.Call{Target: "a"}, Given{Points: 1})
	require.NoError(t, err)
	meta, err := eventstore.DecodeMetadata(done.Records[0].Meta)
	require.NoError(t, err)
	require.Empty(t, meta.Traceparent)
}

func TestMetricsAreTrueUnderConflictsAndRefusals(t *testing.T) {
	g, store := look(t), memory.New()
	door := openDoor(t, store, g)
	ctx := context.Background()
	const people, each = 8, 25
	var crowd sync.WaitGroup
	for p := range people {
		crowd.Go(func() {
			for n := range each {
				key := ""
				if n%5 == 0 {
					key = fmt.Sprintf("k-%d-%d", p, n)
				}
				call := command.Call{Target: "a", Key: key}
				if _, err := give(ctx, door, call, Given{Points: 1}); err != nil {
					t.Error(err)
				}
				if key != "" { // again
					if _, err := give(ctx, door, call, Given{Points: 1}); err != nil {
						t.Error(err)
					}
				}
				if _, err := give(ctx, door, command.Call{Target: "a"}, Given{Points: 1001}); !errors.Is(err, command.ErrRefused) {
					t.Error(err)
				}
				if _, err := give(ctx, door, command.Call{Target: "a", Actor: command.As("ben")}, Given{Points: 1}); !errors.Is(err, command.ErrDenied) {
					t.Error(err)
				}
				if _, err := give(ctx, door, command.Call{Target: "a\x00"}, Given{Points: 1}); !errors.Is(err, command.ErrMalformed) {
					t.Error(err)
				}
			}
		})
	}
	crowd.Wait()
	const all = people * each
	require.Equal(t, map[string]int64{
		"points.give recorded": all, "points.give repeated": all / 5, "points.give refused": all, "points.give denied": all, "points.give malformed": all,
	}, g.values("rollforward.command.duration", "rollforward.action", "rollforward.outcome"))
	require.Equal(t, map[string]int64{"refused": all, "denied": all, "malformed": all}, g.values("rollforward.refusals", "rollforward.kind"))
	now := door.Status()
	require.EqualValues(t, now.Commands, 4*all+all/5)
	require.Equal(t, []uint64{all, all, all}, []uint64{now.Refused, now.Denied, now.Malformed})
	require.EqualValues(t, all+all/5, g.values("messaging.client.sent.messages")[""], "an event each, and one more for a key")

	appends := g.values("messaging.client.operation.duration", "error.type")
	conflicts := g.values("rollforward.conflicts", "rollforward.action")["points.give"]
	require.EqualValues(t, all, appends[""], "appends that went well")
	require.Equal(t, conflicts, appends["conflict"])
	ended := 0
	for _, s := range g.spans.Ended() {
		if s.Name() == "append" {
			ended++
		}
	}
	require.EqualValues(t, all+conflicts, ended, "each try is a span")
	t.Logf("%d commands, %d conflicts", now.Commands, conflicts)
}

// racing is a store in which somebody else is faster each of the first times.
type racing struct {
	*memory.Store
	times int
}

func (r *racing) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if r.times > 0 {
		r.times--
		if _, err := eventstore.Update(ctx, r.Store, registry, func(tx *eventstore.Tx) error { return tx.RecordBlind("account-a", Given{Points: 1}) }); err != nil {
			return nil, err
		}
	}
	return r.Store.Append(ctx, events, expect...)
}

func TestEveryConflictIsCountedOnce(t *testing.T) {
	g, store := look(t), &racing{Store: memory.New(), times: 3}
	_, err := give(t.Context(), openDoor(t, store, g), command.Call{Target: "a"}, Given{Points: 1})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"points.give": 3}, g.values("rollforward.conflicts", "rollforward.action"))
	require.Equal(t, map[string]int64{"": 1, "conflict": 3}, g.values("messaging.client.operation.duration", "error.type"))
	require.Equal(t, map[string]int64{"recorded": 1}, g.values("rollforward.command.duration", "rollforward.outcome"))
}

func TestOutcomesAreNamedByWhatWentWrong(t *testing.T) {
	g, store := look(t), memory.New()
	door := openDoor(t, store, g)
	do := func(ctx context.Context, f func(tx *command.Tx) error) {
		_, _ = door.Do(ctx, command.Call{Actor: command.As("ann"), Action: "points.give"}, f)
	}
	do(t.Context(), func(tx *command.Tx) error { return tx.Authorize("points.give", "", nil) })
	do(t.Context(), func(*command.Tx) error { return errors.New("something") })
	do(t.Context(), func(*command.Tx) error { return fmt.Errorf("late: %w", context.DeadlineExceeded) })
	do(t.Context(), func(*command.Tx) error { return context.Canceled })
	do(t.Context(), func(*command.Tx) error { return eventstore.OutcomeUnknown(errors.New("cut")) })
	do(t.Context(), func(*command.Tx) error { return eventstore.NotApplied(errors.New("cut")) })
	do(t.Context(), func(*command.Tx) error {
		return command.Refuse(command.Refusal{Kind: command.Unavailable, Rule: "hook"})
	})
	require.Panics(t, func() { do(t.Context(), func(*command.Tx) error { panic("broken") }) })
	require.NoError(t, door.Close(t.Context()))
	do(t.Context(), func(*command.Tx) error { return nil })
	require.Equal(t, map[string]int64{
		"nothing": 1, "_OTHER": 1, "timeout": 1, "canceled": 1, "outcome_unknown": 1, "not_applied": 1, "unavailable": 1, "panic": 1, "closed": 1,
	}, g.values("rollforward.command.duration", "rollforward.outcome"))
}

func TestActionsThatAreMadeUpDoNotGrowTheMetrics(t *testing.T) {
	g, store := look(t), memory.New()
	door := openDoor(t, store, g)
	for n := range 2000 {
		_, err := door.Do(t.Context(), command.Call{Actor: command.As("ann"), Action: fmt.Sprintf("made-up.%d", n)}, func(tx *command.Tx) error {
			return tx.Authorize("points.give", "", nil)
		})
		require.NoError(t, err)
	}
	_, err := door.Do(t.Context(), command.Call{Actor: command.As("ann"), Action: string(make([]byte, 100_000))}, func(*command.Tx) error { return nil })
	require.ErrorIs(t, err, command.ErrMalformed)
	got := g.values("rollforward.command.duration", "rollforward.action")
	require.Len(t, got, 501)
	require.EqualValues(t, 1501, got["_OTHER"])
	require.Len(t, g.spans.Ended(), 2001)
	for _, s := range g.spans.Ended() {
		require.Less(t, len(s.Name()), 200)
	}
}
