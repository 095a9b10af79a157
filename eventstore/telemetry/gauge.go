package telemetry

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"

	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Watch has gauges show how folds and handlers stand, until stop is called. status is
// called whenever metrics are collected; those of an engine and of [relay.Handlers]
// wait for nothing. One Telemetry watches one engine: several need one each, with
// providers of their own.
func (t *Telemetry) Watch(status func() (follow.Status, []relay.Status)) (stop func() error, err error) {
	gauges := make([]metric.Int64ObservableGauge, 5)
	observables := make([]metric.Observable, len(gauges))
	for i, g := range []struct{ name, unit, what string }{
		{"rollforward.folds.lag", "{position}", "Positions between the folds and the head of the log."},
		{"rollforward.folds.ready", "1", "1 while views are answered."},
		{"rollforward.handler.lag", "{position}", "Positions between a handler and the head of the log, where this process holds its lease."},
		{"rollforward.handler.behind", "{event}", "Events that failed and whose streams wait."},
		{"rollforward.handler.holding", "1", "1 where this process holds the handler's lease."},
	} {
		if gauges[i], err = t.meter.Int64ObservableGauge(g.name, metric.WithUnit(g.unit), metric.WithDescription(g.what)); err != nil {
			return nil, fmt.Errorf("telemetry: watch: %w", err)
		}
		observables[i] = gauges[i]
	}
	registration, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		folds, handlers := status()
		o.ObserveInt64(gauges[0], int64(folds.Lag))
		o.ObserveInt64(gauges[1], one(folds.Ready))
		for _, h := range handlers {
			name := metric.WithAttributes(ours, consumer.String(h.Consumer))
			o.ObserveInt64(gauges[4], one(h.Holding), name)
			if !h.Holding {
				continue // who holds it knows
			}
			o.ObserveInt64(gauges[2], int64(h.Lag), name)
			var waits, decided int64
			for _, b := range h.Behind {
				if b.Parked {
					decided++
				} else {
					waits++
				}
			}
			o.ObserveInt64(gauges[3], waits, name, metric.WithAttributes(parked.Bool(false)))
			o.ObserveInt64(gauges[3], decided, name, metric.WithAttributes(parked.Bool(true)))
		}
		return nil
	}, observables...)
	if err != nil {
		return nil, fmt.Errorf("telemetry: watch: %w", err)
	}
	return registration.Unregister, nil
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
