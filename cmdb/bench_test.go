package cmdb_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/timing"
)

// reach is how many CIs an impact reaches in the graphs below, whatever their size.
const reach = 1_000

// shapes are graphs of which one impact reaches a part of reach CIs: each says on
// which CIs the i-th of a part depends, the 0th being where impact starts.
var shapes = map[string]func(random *rand.Rand, i int) []int{
	"chain": func(_ *rand.Rand, i int) []int { return []int{i - 1} },
	"star":  func(_ *rand.Rand, i int) []int { return []int{0} },
	"random": func(random *rand.Rand, i int) []int {
		return []int{random.IntN(i), random.IntN(i)}
	},
}

func shapeNames() []string { return []string{"chain", "star", "random"} }

// sizes are the numbers of CIs to measure with.
func sizes(large bool) []int {
	if large || os.Getenv("ROLLFORWARD_LARGE") != "" {
		return []int{10_000, 100_000, 1_000_000}
	}
	return []int{10_000, 100_000}
}

// grow folds a graph of size CIs, in parts of reach+1, with every so many deltas
// in an event. Between the parts CIs are connected by relations without impact.
func grow(t testing.TB, shape string, size, every int) *cmdb.Graph {
	w := standard(t)
	g := w.fold()
	position := len(w.records)
	random := rand.New(rand.NewPCG(1, uint64(size)))
	var deltas []cmdb.Delta
	flush := func() {
		if len(deltas) == 0 {
			return
		}
		position++
		e, err := w.registry.Encode(uuid.UUID{1, byte(position), byte(position >> 8), byte(position >> 16)}, cmdb.Recorded{Deltas: deltas})
		require.NoError(t, err)
		e.Stream = "ci-" + deltas[0].CI
		e.Meta = []byte(`{"actor":"u-7f3a"}`)
		require.NoError(t, g.Apply(eventstore.Recorded{Event: e, Version: 1, Position: eventstore.Position(position), RecordedAt: monday}))
		deltas = deltas[:0]
	}
	for n := range size {
		part, i := n/(reach+1), n%(reach+1)
		id := func(i int) string { return fmt.Sprintf("ci-%05d-%04d", part, i) }
		deltas = append(deltas, cmdb.Add(id(i), "server", cmdb.Attr("name", id(i)), cmdb.Attr("environment", "production"), cmdb.Attr("os", "linux")))
		if i > 0 {
			on := shapes[shape](random, i)
			slices.Sort(on)
			for _, on := range slices.Compact(on) {
				deltas = append(deltas, cmdb.Relate(id(i), "depends on", id(on)))
			}
		} else if part > 0 {
			deltas = append(deltas, cmdb.Relate(id(0), "documents", fmt.Sprintf("ci-%05d-0000", part-1)))
		}
		if len(deltas) >= every {
			flush()
		}
	}
	flush()
	require.Empty(t, g.Discrepancies())
	return g
}

func impactOf(t testing.TB, g *cmdb.Graph) {
	impact, err := g.Impact([]string{"ci-00003-0000"}, cmdb.Down)
	if err != nil || len(impact.Reached) != reach {
		t.Fatalf("reached %d: %v", len(impact.Reached), err)
	}
}

// go test -bench Impact ./cmdb; x-smallest is the cost against that in the smallest
// graph, which stays near 1 as long as the cost does not grow with the graph.
func BenchmarkImpact(b *testing.B) {
	for _, shape := range shapeNames() {
		smallest := 0.0
		for _, size := range sizes(!testing.Short()) {
			graph := sync.OnceValue(func() *cmdb.Graph { return grow(b, shape, size, 100) })
			b.Run(fmt.Sprintf("%s/%d", shape, size), func(b *testing.B) {
				g := graph()
				runtime.GC()
				b.ReportAllocs()
				for b.Loop() {
					impactOf(b, g)
				}
				each := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / reach
				if size == sizes(false)[0] {
					smallest = each
				}
				b.ReportMetric(each, "ns/reached")
				if smallest > 0 {
					b.ReportMetric(each/smallest, "x-smallest")
				}
			})
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, size := range sizes(false) {
		graph := sync.OnceValue(func() *cmdb.Graph { return grow(b, "random", size, 100) })
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			g := graph()
			deltas := []cmdb.Delta{cmdb.Set("ci-00003-0001", "os", "linux", "bsd"), cmdb.Relate("ci-00003-0001", "runs on", "ci-00004-0001")}
			b.ReportAllocs()
			for b.Loop() {
				if g.Check(deltas) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

// What a restart costs: the log folded anew, and a snapshot.
func BenchmarkFold(b *testing.B) {
	const size = 20_000
	w := standard(b)
	for n := range size {
		id := fmt.Sprint("ci-", n)
		w.deltas(cmdb.Add(id, "server", cmdb.Attr("name", id), cmdb.Attr("os", "linux")))
	}
	b.Run("log", func(b *testing.B) {
		for b.Loop() {
			w.fold()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/event")
	})
	saved := snapshot(b, w.fold())
	b.Run("restore", func(b *testing.B) {
		for b.Loop() {
			if err := cmdb.NewGraph(w.registry).Restore(saved); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/event")
		b.ReportMetric(float64(len(saved))/size, "B/event")
	})
	g := w.fold()
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			snapshot(b, g)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/event")
	})
}

// The cost of an impact grows with what it reaches and not with the graph.
func TestTheCostOfImpactDoesNotGrowWithTheGraphAtFullSize(t *testing.T) {
	if race.Enabled {
		t.Skip("times say nothing under the race detector")
	}
	// Ten or a hundred times the graph may cost this much more, for memory that
	// is further away; a scan would cost ten or a hundred times as much.
	const limit = 4
	all := []int{5_000, 50_000}
	if os.Getenv("ROLLFORWARD_LARGE") != "" {
		all = sizes(true)
	}
	for _, shape := range shapeNames() {
		smallest := grow(t, shape, all[0], 100)
		for _, size := range all[1:] {
			g := grow(t, shape, size, 100)
			runtime.GC()
			few, many := timing.Until(func(few, many time.Duration) bool { return many < limit*few },
				func() { impactOf(t, smallest) }, func() { impactOf(t, g) })
			t.Logf("%s of %d CIs: %d ns for each of %d reached, %d ns in one of %d", shape, size, many.Nanoseconds()/reach, reach, few.Nanoseconds()/reach, all[0])
			require.Less(t, many, limit*few, "%s of %d CIs", shape, size)
			few, many = timing.Until(func(few, many time.Duration) bool { return many > limit*few },
				func() { smallest.Len() }, func() { g.Len() })
			require.Greater(t, many, limit*few, "the control: what looks at every CI grows with the graph")
		}
	}
}

// A relation is made and ended at once, however many its CI has.
func TestAHubGainsAndLosesRelationsAtOnceAtFullSize(t *testing.T) {
	if race.Enabled {
		t.Skip("times say nothing under the race detector")
	}
	hub := func(degree int) func() {
		w := standard(t)
		deltas := []cmdb.Delta{cmdb.Add("hub", "network"), cmdb.Add("x", "server")}
		g := w.deltas(deltas...).fold()
		position := len(w.records)
		apply := func(deltas ...cmdb.Delta) {
			position++
			e, err := w.registry.Encode(uuid.Must(uuid.NewV7()), cmdb.Recorded{Deltas: deltas})
			require.NoError(t, err)
			e.Stream = "ci-hub"
			require.NoError(t, g.Apply(eventstore.Recorded{Event: e, Position: eventstore.Position(position)}))
		}
		for i := 0; i < degree; i += 100 {
			deltas = deltas[:0]
			for k := i; k < i+100; k++ {
				id := fmt.Sprint("s", k)
				deltas = append(deltas, cmdb.Add(id, "server"), cmdb.Relate("hub", "contains", id))
			}
			apply(deltas...)
		}
		deltas = deltas[:0]
		for range 200 {
			deltas = append(deltas, cmdb.Relate("hub", "contains", "x"), cmdb.Unrelate("hub", "contains", "x"))
		}
		return func() {
			apply(deltas...)
			require.Empty(t, g.Discrepancies())
		}
	}
	few, many := timing.Until(func(few, many time.Duration) bool { return many < 4*few }, hub(1_000), hub(50_000))
	t.Logf("200 relations made and ended: %v at a CI of 1,000, %v at one of 50,000", few, many)
	require.Less(t, many, 4*few)
}

func TestTheMemoryOfACIIsBoundedAtFullSize(t *testing.T) {
	size := 30_000
	if race.Enabled {
		size = 2_000
	}
	for _, every := range []int{1, 100} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		g := grow(t, "random", size, every)
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := (int(after.HeapAlloc) - int(before.HeapAlloc)) / size
		t.Logf("%d bytes for a CI with three attributes and two relations, with its history, %d deltas an event", each, every)
		require.Less(t, each, 2_500)
		runtime.KeepAlive(g)
	}
}

// go test -bench Import ./cmdb: a source of many items, of which none has changed.
func BenchmarkImport(b *testing.B) {
	const size = 5_000
	h := start(b)
	items := fleet(size)
	h.mustImport(b, cmdb.ImportOptions{Batch: 500}, items...)
	for b.Loop() {
		if done := h.mustImport(b, cmdb.ImportOptions{Batch: 500}, items...); done.Unchanged != len(items) {
			b.Fatal(done)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/item")
}
