package telemetry

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Command implements [command.Observer].
func (t *Telemetry) Command(ctx context.Context, call command.Call) (context.Context, func(command.Done, error)) {
	began := time.Now()
	name := call.Action
	if len(name) > maxAction {
		name = other
	}
	attributes := []attribute.KeyValue{action.String(name)}
	if call.Target != "" {
		attributes = append(attributes, target.String(call.Target))
	}
	if call.Correlation != "" {
		attributes = append(attributes, conversation.String(call.Correlation))
	}
	ctx, span := t.tracer.Start(ctx, "command "+name, trace.WithAttributes(attributes...))
	return ctx, func(done command.Done, err error) {
		what := commandOutcome(done, err)
		span.SetAttributes(outcome.String(what))
		var refused *command.Error
		if errors.As(err, &refused) {
			span.SetAttributes(rules.StringSlice(rulesOf(refused)))
			for _, r := range refused.Refusals {
				t.refusals.Add(ctx, 1, metric.WithAttributes(t.actionOf(call), kind.String(string(r.Kind))))
			}
		}
		if done.Position > 0 {
			span.SetAttributes(place.Int64(int64(done.Position)))
		}
		if err != nil && (refused == nil || errors.Is(err, command.ErrUnavailable)) {
			// A refusal is an answer; this is none.
			span.SetAttributes(errorType.String(what))
			span.SetStatus(codes.Error, what)
		}
		span.End()
		t.commands.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(t.actionOf(call), outcome.String(what)))
	}
}

// Append implements [command.Observer].
func (t *Telemetry) Append(ctx context.Context, call command.Call, events []eventstore.Event) (context.Context, func([]eventstore.Recorded, error)) {
	began := time.Now()
	ctx, span := t.tracer.Start(ctx, "append", trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		ours, operation.String("append"), operationType.String("send"), batchCount.Int(len(events))))
	return ctx, func(records []eventstore.Recorded, err error) {
		attributes := []attribute.KeyValue{ours, operation.String("append"), operationType.String("send")}
		switch what := typeOf(err); {
		case err == nil:
			t.events.Add(ctx, int64(len(records)), metric.WithAttributes(ours, operation.String("append")))
			if n := len(records); n > 0 {
				span.SetAttributes(place.Int64(int64(records[n-1].Position)))
			}
		default:
			attributes = append(attributes, errorType.String(what))
			span.SetAttributes(errorType.String(what))
			span.SetStatus(codes.Error, what)
			if errors.Is(err, eventstore.ErrConflict) {
				t.conflicts.Add(ctx, 1, metric.WithAttributes(t.actionOf(call)))
			}
		}
		span.End()
		t.appends.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(attributes...))
	}
}

// Traceparent implements [command.Observer]: it is the span in ctx, also where nothing
// is sampled or this process exports nothing. A tracestate is not kept.
func (t *Telemetry) Traceparent(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return ""
	}
	traceID, spanID := span.TraceID(), span.SpanID()
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, traceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, spanID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, []byte{byte(span.TraceFlags() & trace.FlagsSampled)})
	return string(b)
}

// remote returns the span of a traceparent, an invalid one for what is none.
func remote(traceparent string) trace.SpanContext {
	if traceparent == "" {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
	return trace.SpanContextFromContext(ctx)
}

func commandOutcome(done command.Done, err error) string {
	var refused *command.Error
	switch {
	case errors.As(err, &refused) && len(refused.Refusals) > 0:
		return string(refused.Refusals[0].Kind)
	case err != nil:
		return typeOf(err)
	case done.Repeated:
		return "repeated"
	case len(done.Records) == 0:
		return "nothing"
	}
	return "recorded"
}

// mostRules bounds the rules that a span names.
const mostRules = 16

func rulesOf(refused *command.Error) []string {
	var names []string
	for _, r := range refused.Refusals {
		if !slices.Contains(names, r.Rule) && len(names) < mostRules {
			names = append(names, r.Rule)
		}
	}
	return names
}

// errorTypes are tried in order: what says more comes first.
var errorTypes = []struct {
	err  error
	name string
}{
	{command.ErrMalformed, string(command.Malformed)},
	{command.ErrDenied, string(command.Denied)},
	{command.ErrUnavailable, string(command.Unavailable)},
	{command.ErrRefused, string(command.Refused)},
	{command.ErrAborted, "panic"},
	{relay.ErrLeaseLost, "lease_lost"},
	{eventstore.ErrConflict, "conflict"},
	{eventstore.ErrOutcomeUnknown, "outcome_unknown"},
	{eventstore.ErrClosed, "closed"},
	{eventstore.ErrRewound, "rewound"},
	{eventstore.ErrUnknownType, "undecodable"},
	{eventstore.ErrFutureSchema, "undecodable"},
	{eventstore.ErrMalformed, "undecodable"},
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "canceled"},
	{eventstore.ErrNotApplied, "not_applied"},
}

// typeOf returns a word for an error, of a small number of words; empty for none.
func typeOf(err error) string {
	if err == nil {
		return ""
	}
	var panicked *relay.PanicError
	if errors.As(err, &panicked) {
		return "panic"
	}
	for _, t := range errorTypes {
		if errors.Is(err, t.err) {
			return t.name
		}
	}
	return other
}
