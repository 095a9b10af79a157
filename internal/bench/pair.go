package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"
)

// spread is the median of measurements, and the least and the most of them.
type spread struct{ Median, Min, Max float64 }

// spreadOf returns the spread of at least one measurement.
func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// percentile returns the shortest time that at least p of 100 do not exceed.
func percentile(times []time.Duration, p float64) time.Duration {
	t := slices.Sorted(slices.Values(times))
	return t[max(0, int(math.Ceil(p/100*float64(len(t))))-1)]
}

// side is one half of a pair: what is measured, or its limit.
type side func() error

// pair measures two sides in turn, n times each, and returns what they took. turn
// prepares the work of both before each time, unmeasured; each side begins with no
// garbage of the other. Every other time the limit goes first, so that being second
// is nobody's advantage.
func pair(n int, turn func() error, ours, limit side) (took [2][]time.Duration, err error) {
	for i := range n {
		if err := turn(); err != nil {
			return took, err
		}
		for k := range 2 {
			which := (i + k) % 2
			runtime.GC()
			began := time.Now()
			if err := [2]side{ours, limit}[which](); err != nil {
				return took, fmt.Errorf("%s: %w", [2]string{"store", "limit"}[which], err)
			}
			took[which] = append(took[which], time.Since(began))
		}
	}
	return took, nil
}

// rates fills in what a pair says, where each time was so many operations: median
// rates, and the ratio within each pair.
func (r row) rates(operations int, took [2][]time.Duration) row {
	var rate [2][]float64
	for which, times := range took {
		for _, t := range times {
			rate[which] = append(rate[which], float64(operations)/t.Seconds())
		}
	}
	ratios := make([]float64, len(rate[0]))
	for i := range ratios {
		ratios[i] = rate[0][i] / rate[1][i]
	}
	r.Ours, r.Limit, r.Pairs = spreadOf(rate[0]).Median, spreadOf(rate[1]).Median, len(ratios)
	r.Value = spreadOf(ratios)
	return r
}
