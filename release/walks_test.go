package release_test

import (
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

const steps = 110

// stroller is the test of a walk that is no test of its own: what fails in it is
// told by panic to whoever made it.
type stroller struct {
	testing.TB
	all []func()
}

type fault string

func (s *stroller) Cleanup(f func()) { s.all = append(s.all, f) }

func (s *stroller) Errorf(format string, args ...any) { panic(fault(fmt.Sprintf(format, args...))) }

func (s *stroller) close() {
	for _, f := range slices.Backward(s.all) {
		f()
	}
}

// stroll makes a walk and returns what the oracle has to say, with a guard taken
// out if one is named.
func stroll(t testing.TB, kind storefor.Kind, seed uint64, without ...string) (o *oracle, err error) {
	defer func() {
		if v := recover(); v != nil {
			f, ok := v.(fault)
			if !ok {
				panic(v)
			}
			err = fmt.Errorf("seed %d: %s", seed, string(f))
		}
	}()
	s := &stroller{TB: t}
	defer s.close()
	w := walked(s, kind, seed, steps, without...)
	o = judged(w)
	if len(without) == 0 && len(o.broken) > 0 {
		if os.Getenv("ROLLFORWARD_WALK") != "" {
			for _, e := range w.log() {
				t.Logf("%s %s %s", e.Stream, e.Type, e.Data)
			}
		}
		return o, fmt.Errorf("seed %d: %s", seed, strings.Join(o.broken, "\n"))
	}
	if len(without) == 0 && seed%4 == 0 {
		w.sound()
	}
	return o, nil
}

// strolls makes walks on two walkers with seeds from 0 on until one of them stops
// it, and returns the seed of that, or n.
func strolls(n uint64, walk func(seed uint64) (stop bool)) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a walk leaves little behind
	var next, stopped atomic.Uint64
	stopped.Store(n)
	var walkers sync.WaitGroup
	for range 2 {
		walkers.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= stopped.Load() {
					return
				}
				if !walk(seed) {
					continue
				}
				for was := stopped.Load(); seed < was && !stopped.CompareAndSwap(was, seed); was = stopped.Load() {
				}
			}
		})
	}
	walkers.Wait()
	return stopped.Load()
}

// Whatever a crowd does to releases, changes and windows, what the package promises
// holds after every append. ROLLFORWARD_WALKS=50000 walks for longer,
// ROLLFORWARD_WALK=2133 makes the walk of one seed again.
func TestRandomWalksKeepWhatIsPromisedAtFullSize(t *testing.T) {
	kind := storefor.Asked(t, storefor.Memory)
	if s := os.Getenv("ROLLFORWARD_WALK"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		o, err := stroll(t, kind, seed)
		require.NoError(t, err)
		t.Logf("%v", o.counts)
		return
	}
	walks := 1_000
	if race.Enabled {
		walks = 20
	}
	if s := os.Getenv("ROLLFORWARD_WALKS"); s != "" {
		var err error
		walks, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	var seen oracle
	var first error
	var mu sync.Mutex
	begin := time.Now()
	strolls(uint64(walks), func(seed uint64) bool {
		o, err := stroll(t, kind, seed)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			first = err
			return true
		}
		seen.add(o)
		return false
	})
	require.NoError(t, first)
	n := seen.counts
	t.Logf("%d walks from seed 0 on %s in %v: %v", walks, kind, time.Since(begin).Round(time.Second), n)
	asked := n["deployment judged"] + n["deployment refused by a window"]
	t.Logf("deployments to production that somebody asked for: %d; met a window %d, of which refused by it %d, through by an override %d, by an acceptance %d",
		asked, n["deployment met a window"]+n["deployment refused by a window"], n["deployment refused by a window"], n["deployment by override"], n["deployment by acceptance"])
	if walks < 1_000 {
		return
	}
	// What is never met proves nothing. The shares are below half of what they are.
	for what, least := range map[string]int{
		"production started": walks / 2, "production finished": walks / 4, "rolled back": walks / 4, "wave judged": walks / 4, "resumption judged": walks / 100,
		"held": walks / 4, "lifted": walks / 4, "emergent": walks / 4, "change judged": walks / 4, "change met a window": walks / 25, "change by override": walks / 50,
		"deployment refused by a window": asked / 5, "deployment met a window": asked / 20, "deployment by override": asked / 40, "deployment by acceptance": walks / 500,
		"wave met a window": walks / 50, "wave by override": walks / 50, "resumption met a window": walks / 1_000,
	} {
		require.GreaterOrEqual(t, n[what], least, "too few walks come to what is to be judged: %s", what)
	}
}

// The same walks where the log is on a server record the same: what is decided depends
// on no store.
func TestRandomWalksRecordTheSameOnPostgreSQL(t *testing.T) {
	walks := uint64(6)
	if race.Enabled {
		walks = 2
	}
	begin := time.Now()
	events := 0
	for seed := range walks {
		there, here := recorded(t, storefor.Postgres, seed), recorded(t, storefor.Memory, seed)
		for i := range min(len(there), len(here)) {
			require.Equal(t, here[i], there[i], "seed %d, event %d", seed, i)
		}
		require.Len(t, there, len(here), "seed %d", seed)
		events += len(here)
	}
	t.Logf("%d walks from seed 0 on postgres and in memory in %v: the same %d events", walks, time.Since(begin).Round(time.Second), events)

	// The control: a guard that is gone is noticed here as well.
	var broken []string
	took := strolls(100, func(seed uint64) bool {
		o, err := stroll(t, storefor.Postgres, seed, "gates")
		if err != nil || o.broke("gate") {
			broken = append(broken, fmt.Sprint(o.broken, err))
			return true
		}
		return false
	})
	require.NotEmpty(t, broken)
	require.Contains(t, broken[0], "gate:")
	t.Logf("without gates, caught by walk %d", took)
}

// placed are the positions in events, and what is made of them.
var placed = regexp.MustCompile(`"(graph_)?position":\d+|"digest":"[0-9a-f]{64}"`)

// recorded makes a walk in which nothing is broken and returns the events that it
// records, without their places in the log.
func recorded(t testing.TB, kind storefor.Kind, seed uint64) (all []string) {
	s := &stroller{TB: t}
	defer s.close()
	w := walked(s, kind, seed, steps)
	require.Empty(t, judged(w).broken, "seed %d", seed)
	for _, e := range w.log() {
		all = append(all, fmt.Sprintf("%s %d %s %s", e.Stream, e.Version, e.Type, placed.ReplaceAll(e.Data, nil)))
	}
	return all
}

// guards are what is taken out, of the releases or of the almanac, and by which
// invariant it is to be noticed.
var guards = []struct{ name, breaks string }{
	{"change-authorized", "unauthorised"}, {"not-what-was-authorized", "other version"}, {"calendar", "closed"}, {"environment-busy", "two at once"},
	{"upstream-not-verified", "promotion"}, {"soak-not-over", "soak"}, {"too-few-successes", "successes"}, {"on-hold", "hold"}, {"gates", "gate"},
	{"digest-mismatch", "digest"}, {"limits", "limits"}, {"wave-not-done", "wave"}, {"not-finished", "unfinished"}, {"emergent-change", "emergent"},
	{"separation-of-duties", "duties"}, {"scope-changed", "scope"}, {"report-reused", "report"}, {"deployment-running", "edited"},
	{changeUnjudged, "closed"}, {beginUnjudged, "closed"}, {waveUnjudged, "closed"}, {resumeUnjudged, "closed"}, {onlyNow, "closed"},
	{onlyFirst, "closed"}, {nowhere, "closed"}, {forEver, "closed"}, {likePlanned, "closed"}, {oneForAll, "closed"},
}

// A guard that is taken out is noticed.
func TestWalksNoticeAGuardThatIsGoneAtFullSize(t *testing.T) {
	const most = 2_000
	among := guards
	if race.Enabled {
		among = among[2:3]
	}
	for _, guard := range among {
		var mu sync.Mutex
		said := map[uint64]string{}
		took := strolls(most, func(seed uint64) bool {
			o, err := stroll(t, storefor.Memory, seed, guard.name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				said[seed] = err.Error()
				t.Errorf("%-24s makes a walk fail before the oracle looks: %v", guard.name, err)
				return true
			}
			if !o.broke(guard.breaks) {
				return false
			}
			i := slices.IndexFunc(o.broken, func(s string) bool { return strings.HasPrefix(s, guard.breaks+":") })
			said[seed] = o.broken[i]
			return true
		})
		if said[took] == "" {
			t.Errorf("%-24s is not missed by any of %d walks", guard.name, most)
			continue
		}
		t.Logf("%-24s caught by walk %4d: %s", guard.name, took, said[took])
	}
}
