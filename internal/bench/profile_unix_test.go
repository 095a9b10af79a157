//go:build unix

package main

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cpu returns what this process has used so far: on a busy machine that says more of
// a library than the clock does.
func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkSides runs one side of each pair of appends alone, to be profiled:
//
//	go test -run '^$' -bench Sides/append1/store -cpuprofile cpu.out ./internal/bench
func BenchmarkSides(b *testing.B) {
	for _, c := range []struct {
		name        string
		slots, size int
		way         func(appender, []appended) error
		limit       func(*raw) appender
	}{
		{"append1", 50, 1, inTurn, alone}, {"append10", 50, 10, inTurn, alone}, {"append64", crowd, 1, atOnce, grouped64},
	} {
		for k, side := range []string{"store", "limit"} {
			b.Run(c.name+"/"+side, func(b *testing.B) {
				bench := &bench{ctx: context.Background(), dir: b.TempDir()}
				store, limit, done, err := bench.two()
				require.NoError(b, err)
				w, err := newWork(c.slots, c.size)
				require.NoError(b, err)
				b.ReportAllocs()
				var used time.Duration
				for b.Loop() {
					b.StopTimer()
					appends, err := w.next(crowd * 10)
					require.NoError(b, err)
					began := cpu(b)
					b.StartTimer()
					require.NoError(b, c.way([]appender{to(bench.ctx, store), c.limit(limit)}[k], appends))
					used += cpu(b) - began
				}
				b.ReportMetric(float64(w.n*c.size)/b.Elapsed().Seconds(), "events/s")
				b.ReportMetric(used.Seconds()*1e6/float64(w.n*c.size), "cpu-us/event")
				require.NoError(b, done())
			})
		}
	}
}

// BenchmarkReads likewise, of reading.
func BenchmarkReads(b *testing.B) {
	const n = 20_000
	bench := &bench{ctx: context.Background(), dir: b.TempDir()}
	store, limit, done, err := bench.filled(n)
	require.NoError(b, err)
	registry, err := newRegistry()
	require.NoError(b, err)
	for _, c := range []struct {
		name   string
		events int
		run    func(i int) error
	}{
		{"scan/store", n, func(int) error {
			_, _, err := readAll(bench.ctx, store, n, false)
			return err
		}},
		{"scan/limit", n, func(int) error { return limit.scan(func(rawRecord) {}) }},
		{"load/store", perStream, func(i int) error {
			_, err := loadTyped(bench.ctx, store, registry, streamName(i*7%(n/perStream)))
			return err
		}},
		{"load/limit", perStream, func(i int) error {
			_, err := limit.load(streamName(i * 7 % (n / perStream)))
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i, began := 0, cpu(b)
			for ; b.Loop(); i++ {
				require.NoError(b, c.run(i))
			}
			b.ReportMetric((cpu(b)-began).Seconds()*1e6/float64(i*c.events), "cpu-us/event")
			b.ReportMetric(float64(i*c.events)/b.Elapsed().Seconds(), "events/s")
		})
	}
	require.NoError(b, done())
}
