package telemetry_test

import (
	"context"
	"fmt"
	"log"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/telemetry"
)

// A program gives the providers that it exports by; here one that keeps spans.
func ExampleNew() {
	ctx := context.Background()
	spans := tracetest.NewSpanRecorder()
	traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	defer traces.Shutdown(ctx)
	watch, err := telemetry.New(telemetry.Config{TracerProvider: traces})
	if err != nil {
		log.Fatal(err)
	}
	store := memory.New()
	defer store.Close()
	engine, err := rollforward.Open(ctx, store, rollforward.Config{Authorizer: command.AllowAll, Observer: watch})
	if err != nil {
		log.Fatal(err)
	}
	stop, err := watch.Watch(func() (follow.Status, []relay.Status) {
		now := engine.Status()
		return now.Folds, now.Handlers
	})
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	handled := make(chan bool)
	if err := engine.Handle(relay.Handler{Name: "note-it", Cases: []relay.Case{
		relay.On(func(ctx context.Context, e change.Raised, env relay.Envelope) error {
			defer close(handled)
			_, err := engine.Changes.DoCall(ctx, env.Call(command.As("robot")), e.Change, change.Note{Text: "seen"})
			return err
		}),
	}}); err != nil {
		log.Fatal(err)
	}
	if _, err := engine.Changes.Raise(ctx, command.As("alice"), change.Raise{Content: change.Content{Title: "Upgrade db-01"}}); err != nil {
		log.Fatal(err)
	}
	<-handled
	if err := engine.Close(); err != nil {
		log.Fatal(err)
	}

	names := map[string]string{}
	for _, s := range spans.Ended() {
		names[s.SpanContext().SpanID().String()] = s.Name()
	}
	for _, s := range spans.Ended() {
		if s.Name() == "process change.raised" || s.Name() == "command change.note" {
			fmt.Println(s.Name(), "after", names[s.Parent().SpanID().String()])
		}
	}
	// Output:
	// command change.note after process change.raised
	// process change.raised after command change.raise
}
