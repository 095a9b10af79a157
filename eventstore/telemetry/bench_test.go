package telemetry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/telemetry"
)

// BenchmarkCommand: one command on a new stream of a memory store, with telemetry to
// providers that do nothing, and to the SDK's, whose spans nobody exports. Limit: the
// same at a door without an observer. On a store that writes to a disk the difference
// is not to be seen.
func BenchmarkCommand(b *testing.B) {
	for name, config := range map[string]telemetry.Config{
		"noop": {TracerProvider: nooptrace.NewTracerProvider(), MeterProvider: noopmetric.NewMeterProvider()},
		"sdk":  {TracerProvider: sdktrace.NewTracerProvider(), MeterProvider: metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))},
	} {
		b.Run(name, func(b *testing.B) {
			watch, err := telemetry.New(config)
			if err != nil {
				b.Fatal(err)
			}
			without, with := openDoor(b, memory.New(), nil), openDoor(b, memory.New(), watch)
			n := 0
			once := func(door *command.Door) time.Duration {
				began := time.Now()
				if _, err := give(context.Background(), door, command.Call{Target: fmt.Sprint(n)}, Given{Points: 1}); err != nil {
					b.Fatal(err)
				}
				return time.Since(began)
			}
			var limit, ours time.Duration
			for b.Loop() {
				n++
				limit += once(without)
				ours += once(with)
			}
			b.ReportMetric(float64(limit)/float64(ours), "x-limit")
			b.ReportMetric(float64(ours.Nanoseconds()-limit.Nanoseconds())/float64(b.N), "more-ns/op")
		})
	}
}
