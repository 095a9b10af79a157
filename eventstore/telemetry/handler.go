package telemetry

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollforward/rollforward/eventstore/relay"
)

// Delivery implements [relay.Observer].
func (t *Telemetry) Delivery(ctx context.Context, env relay.Envelope) (context.Context, func(error)) {
	attributes := []attribute.KeyValue{
		consumer.String(env.Handler), destination.String(env.Type), messageID.String(env.ID.String()),
		stream.String(env.Stream), place.Int64(int64(env.Position)), attempt.Int(env.Attempt),
	}
	if env.Metadata.Correlation != "" {
		attributes = append(attributes, conversation.String(env.Metadata.Correlation))
	}
	return t.process(ctx, env.Handler, env.Type, env.Metadata.Traceparent, attributes)
}

// Middleware has the handlers of a Watermill router observed, for messages of any
// subscriber, such as one of a broker behind a [relay.Forwarder]; the trace is that in
// the message's metadata. Handlers that have a Telemetry as their observer already, in
// relay.Config or rollforward.Config, do not need it, and are counted twice with it.
func (t *Telemetry) Middleware(h message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) (out []*message.Message, err error) {
		name, what := message.HandlerNameFromCtx(m.Context()), m.Metadata.Get(relay.KeyType)
		if what == "" {
			what = message.SubscribeTopicFromCtx(m.Context())
		}
		attributes := []attribute.KeyValue{consumer.String(name), destination.String(what), messageID.String(m.UUID)}
		if s := m.Metadata.Get(relay.KeyStream); s != "" {
			attributes = append(attributes, stream.String(s))
		}
		if c := m.Metadata.Get(relay.KeyCorrelation); c != "" {
			attributes = append(attributes, conversation.String(c))
		}
		ctx, ended := t.process(m.Context(), name, what, m.Metadata.Get(relay.KeyTraceparent), attributes)
		before := m.Context()
		m.SetContext(ctx)
		err = errPanicked
		defer func() {
			ended(err)
			m.SetContext(before)
		}()
		return h(m)
	}
}

// errPanicked is what a handler is taken to have returned that did not.
var errPanicked error = &relay.PanicError{Value: "the handler did not return"}

// process begins the span of a call of a handler with an event. The trace of the event
// is continued where there is none in ctx already.
func (t *Telemetry) process(ctx context.Context, handler, event, traceparent string, attributes []attribute.KeyValue) (context.Context, func(error)) {
	began := time.Now()
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(ours, operation.String("process"), operationType.String("process")), trace.WithAttributes(attributes...),
	}
	if cause := remote(traceparent); cause.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: cause}))
		if !t.newTraces && !trace.SpanContextFromContext(ctx).IsValid() {
			ctx = trace.ContextWithRemoteSpanContext(ctx, cause)
		}
	}
	ctx, span := t.tracer.Start(ctx, "process "+event, options...)
	return ctx, func(err error) {
		measured := []attribute.KeyValue{ours, operation.String("process"), consumer.String(handler)}
		if err == nil {
			measured = append(measured, outcome.String("acknowledged"))
		} else {
			what := typeOf(err)
			span.SetAttributes(errorType.String(what))
			span.SetStatus(codes.Error, what)
			measured = append(measured, outcome.String("refused"), errorType.String(what))
		}
		span.End()
		t.handled.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(measured...))
	}
}
