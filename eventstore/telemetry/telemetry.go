// Package telemetry shows what goes on at the door and in handlers as OpenTelemetry
// traces and metrics. In go the providers of a program; out comes a [Telemetry], the
// observer of doors, handlers and engines:
//
//	watch, err := telemetry.New(telemetry.Config{}) // the global providers
//	engine, err := rollforward.Open(ctx, store, rollforward.Config{Authorizer: people, Observer: watch})
//	stop, err := watch.Watch(func() (follow.Status, []relay.Status) {
//		now := engine.Status()
//		return now.Folds, now.Handlers
//	})
//	defer stop()
//
// # Traces
//
// A command is a span, "command change.raise", and each try of its append one below it,
// "append". The events get the command's span as their Metadata.Traceparent, and so do
// refusals. Where a handler is called, here or in another process, that is a span
// "process change.raised", which is linked to the one in the event and continues its
// trace, unless Config.NewTraces is set; commands in it continue that. Handlers behind
// a broker have it by [Telemetry.Middleware].
//
// # Metrics
//
// Where OpenTelemetry's semantic conventions for messaging have a name it is that;
// messaging.system is "rollforward". Times are in seconds.
//
//	rollforward.command.duration        commands, by rollforward.action and rollforward.outcome
//	rollforward.refusals                refusals, by rollforward.action and rollforward.kind
//	rollforward.conflicts               appends that met a conflict, by rollforward.action
//	messaging.client.operation.duration appends, by error.type
//	messaging.client.sent.messages      events that were appended
//	messaging.process.duration          calls of handlers, by messaging.consumer.group.name, rollforward.outcome and error.type
//	rollforward.folds.lag               positions between the folds and the head of the log
//	rollforward.folds.ready             1 while views are answered
//	rollforward.handler.lag             by messaging.consumer.group.name, of a process that holds its lease
//	rollforward.handler.behind          events that failed and whose streams wait, by rollforward.parked
//	rollforward.handler.holding         1 where this process holds the handler's lease
//
// An outcome of a command is "recorded", "nothing" where it was permitted and there was
// nothing to record, "repeated" where its key was answered, the kind of the first
// refusal, such as "denied", or else an error type: conflict, not_applied,
// outcome_unknown, closed, canceled, timeout, panic, or _OTHER.
//
// # What is not shown
//
// Payloads, reasons, keys, who acted, and the texts of errors: a trace has the names of
// actions, targets, streams and event types, IDs of events, rules of refusals, and
// error types. The rest is in the log under the traceparent, for who may read it.
package telemetry

import (
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Config is where telemetry goes.
type Config struct {
	TracerProvider trace.TracerProvider // default otel.GetTracerProvider()
	MeterProvider  metric.MeterProvider // default otel.GetMeterProvider()

	// NewTraces has the call of a handler begin a trace of its own, which is linked to
	// that of its event and does not continue it: for handlers that go through history,
	// whose traces are long gone.
	NewTraces bool
}

// Telemetry is an observer of doors and of handlers. Its methods may be called
// concurrently.
type Telemetry struct {
	newTraces bool
	tracer    trace.Tracer
	meter     metric.Meter

	commands  metric.Float64Histogram
	refusals  metric.Int64Counter
	conflicts metric.Int64Counter
	appends   metric.Float64Histogram
	events    metric.Int64Counter
	handled   metric.Float64Histogram

	mu      sync.Mutex
	actions map[string]bool // that have a name of their own in metrics
}

var (
	_ command.Observer          = (*Telemetry)(nil)
	_ relay.Observer            = (*Telemetry)(nil)
	_ message.HandlerMiddleware = (*Telemetry)(nil).Middleware
)

// scope is the name of the instrumentation.
const scope = "github.com/rollforward/rollforward/eventstore/telemetry"

// Attributes: those of the semantic conventions, and our own.
const (
	system        = attribute.Key("messaging.system")
	operation     = attribute.Key("messaging.operation.name")
	operationType = attribute.Key("messaging.operation.type")
	consumer      = attribute.Key("messaging.consumer.group.name")
	destination   = attribute.Key("messaging.destination.name")
	messageID     = attribute.Key("messaging.message.id")
	conversation  = attribute.Key("messaging.message.conversation_id")
	batchCount    = attribute.Key("messaging.batch.message_count")
	errorType     = attribute.Key("error.type")

	action  = attribute.Key("rollforward.action")
	target  = attribute.Key("rollforward.target")
	outcome = attribute.Key("rollforward.outcome")
	kind    = attribute.Key("rollforward.kind")
	rules   = attribute.Key("rollforward.rules")
	stream  = attribute.Key("rollforward.stream")
	attempt = attribute.Key("rollforward.attempt")
	place   = attribute.Key("rollforward.position")
	parked  = attribute.Key("rollforward.parked")
)

var ours = system.String("rollforward")

// buckets are those that the semantic conventions ask for, in seconds, and shorter
// ones: an append in memory takes some microseconds.
var buckets = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// New returns telemetry to these providers. It fails where the meter refuses an
// instrument.
func New(config Config) (*Telemetry, error) {
	if config.TracerProvider == nil {
		config.TracerProvider = otel.GetTracerProvider()
	}
	if config.MeterProvider == nil {
		config.MeterProvider = otel.GetMeterProvider()
	}
	t := &Telemetry{
		newTraces: config.NewTraces, tracer: config.TracerProvider.Tracer(scope), meter: config.MeterProvider.Meter(scope),
		actions: map[string]bool{},
	}
	for _, h := range []struct {
		into       *metric.Float64Histogram
		name, what string
	}{
		{&t.commands, "rollforward.command.duration", "Duration of commands at the door."},
		{&t.appends, "messaging.client.operation.duration", "Duration of appends to the log."},
		{&t.handled, "messaging.process.duration", "Duration of calls of handlers."},
	} {
		var err error
		if *h.into, err = t.meter.Float64Histogram(h.name, metric.WithUnit("s"), metric.WithDescription(h.what), metric.WithExplicitBucketBoundaries(buckets...)); err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
	}
	for _, c := range []struct {
		into             *metric.Int64Counter
		name, unit, what string
	}{
		{&t.refusals, "rollforward.refusals", "{refusal}", "Refusals of commands, one for each rule in the way."},
		{&t.conflicts, "rollforward.conflicts", "{append}", "Appends that met a conflict."},
		{&t.events, "messaging.client.sent.messages", "{message}", "Events that were appended to the log."},
	} {
		var err error
		if *c.into, err = t.meter.Int64Counter(c.name, metric.WithUnit(c.unit), metric.WithDescription(c.what)); err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
	}
	return t, nil
}

// mostActions is how many actions have a name of their own in metrics: they are given
// by who calls the door, who may make them up.
const mostActions = 500

// other stands for what has no name of its own.
const other = "_OTHER"

// actionOf returns the action as an attribute of metrics.
func (t *Telemetry) actionOf(call command.Call) attribute.KeyValue {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.actions[call.Action]:
	case len(t.actions) < mostActions && len(call.Action) <= maxAction:
		t.actions[call.Action] = true
	default:
		return action.String(other)
	}
	return action.String(call.Action)
}

// maxAction is how long an action is in metrics and in the names of spans, in bytes:
// a door refuses longer ones.
const maxAction = 128
