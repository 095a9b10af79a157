package schedule_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/timing"
)

// busyWorld has n scheduled changes, one an hour on each of 100 CIs in turn, so
// that however many there are, a query of some hours meets as many of them; every
// tenth is on the CI "hub", so that this one has a long calendar.
func busyWorld(t testing.TB, n int) (*schedule.Schedule, *cmdb.Graph) {
	w := newWorld(t)
	for i := range 100 {
		w.put(fmt.Sprintf("ci-%02d", i), cmdb.Recorded{Deltas: []cmdb.Delta{cmdb.Add(fmt.Sprintf("ci-%02d", i), "server")}})
	}
	w.put("ci-hub", cmdb.Recorded{Deltas: []cmdb.Delta{cmdb.Add("hub", "server")}})
	for i := range 100 {
		if i%10 == 0 {
			w.put(fmt.Sprintf("ci-%02d", i), cmdb.Recorded{Deltas: []cmdb.Delta{cmdb.Relate(fmt.Sprintf("ci-%02d", i), "depends on", "hub")}})
		}
	}
	for i := range n {
		c := change.Content{Title: "work", Window: change.Between(at(float64(i)), at(float64(i)+0.75)), Implementers: []string{fmt.Sprintf("p%d", i%50)}, Group: "dba"}
		if c.CIs = []string{fmt.Sprintf("ci-%02d", i%100)}; i%10 == 9 {
			c.CIs = []string{"hub"}
		}
		id := fmt.Sprintf("CHG-%06d", i+1)
		for version, payload := range []any{
			change.Raised{Change: id, Model: "quick", Content: c, Phase: "draft", Kind: string(change.KindPlan), At: monday},
			change.Moved{To: "scheduled", Kind: string(change.KindScheduled), At: monday},
		} {
			event, err := known.Encode(uuid.New(), payload)
			require.NoError(t, err)
			event.Stream = "change-" + id
			require.NoError(t, w.fold.Apply(eventstore.Recorded{Event: event, Version: uint64(version + 1), Position: eventstore.Position(len(w.log) + 2*i + version + 1)}))
		}
	}
	return w.fold, w.graph
}

// ask looks for the conflicts of four hours on a busy CI, its people and its team,
// far from the end of the calendar; all of them without the index where scan is set.
func ask(t testing.TB, s *schedule.Schedule, g *cmdb.Graph, scan bool) int {
	o := change.Occasion{Point: change.Asked, CIs: []string{"hub", "ci-01"}, People: []string{"p1", "p2"}, Group: "dba", Window: *window(500, 520)}
	if scan {
		return len(s.Scan(o.Window))
	}
	found, err := s.Conflicts(o, g, schedule.Rules{})
	require.NoError(t, err)
	return len(found.Conflicts)
}

func room(t testing.TB, s *schedule.Schedule, g *cmdb.Graph) int {
	found, err := s.Slots(schedule.Need{For: 2 * time.Hour, CIs: []string{"hub"}, NotBefore: at(10), Step: time.Hour}, g, schedule.Rules{}, monday)
	require.NoError(t, err)
	require.Len(t, found.Slots, 100)
	return len(found.Slots)
}

func times(n int, f func()) func() {
	return func() {
		for range n {
			f()
		}
	}
}

func TestConflictsCostWhatOverlapsNotHowMuchIsPlannedAtFullSize(t *testing.T) {
	// DOMAIN 2.2; among 1,000 changes and among 100,000.
	most := 100_000
	if race.Enabled {
		most = 10_000
	}
	few, fewGraph := busyWorld(t, 1_000)
	many, manyGraph := busyWorld(t, most)
	require.Equal(t, ask(t, few, fewGraph, false), ask(t, many, manyGraph, false), "both meet the same")
	require.Positive(t, ask(t, few, fewGraph, false))

	a, b := timing.Until(func(a, b time.Duration) bool { return b < 3*a }, times(100, func() { ask(t, few, fewGraph, false) }), times(100, func() { ask(t, many, manyGraph, false) }))
	t.Logf("conflicts: %v among 1,000 changes, %v among %d, %.2f times", a/100, b/100, most, float64(b)/float64(a))
	require.Less(t, b, 3*a)

	a, b = timing.Until(func(a, b time.Duration) bool { return b < 3*a }, times(20, func() { room(t, few, fewGraph) }), times(20, func() { room(t, many, manyGraph) }))
	t.Logf("100 slots: %v among 1,000 changes, %v among %d, %.2f times", a/20, b/20, most, float64(b)/float64(a))
	require.Less(t, b, 3*a)

	// The control: looking at all of them is seen.
	a, b = timing.Until(func(a, b time.Duration) bool { return b >= 3*a }, func() { ask(t, few, fewGraph, true) }, func() { ask(t, many, manyGraph, true) })
	t.Logf("a look at all: %v among 1,000 changes, %v among %d, %.2f times", a, b, most, float64(b)/float64(a))
	require.GreaterOrEqual(t, b, 3*a)
}

func BenchmarkConflicts(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, g := busyWorld(b, n)
			b.ResetTimer()
			for b.Loop() {
				ask(b, s, g, false)
			}
		})
	}
}

func BenchmarkSlots(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, g := busyWorld(b, n)
			b.ResetTimer()
			for b.Loop() {
				room(b, s, g)
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	w := newWorld(b)
	for i := range 10_000 {
		w.raise(fmt.Sprintf("CHG-%06d", i+1), change.KindScheduled, change.Content{Title: "work", CIs: []string{"a"}, Window: window(float64(i), float64(i)+2)})
	}
	for b.Loop() {
		s := schedule.Projection(known).New()
		for _, r := range w.log {
			if err := s.Apply(r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(w.log)), "ns/event")
}
