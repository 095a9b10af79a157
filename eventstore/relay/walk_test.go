package relay_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/race"
)

func drawPlan(t *rapid.T) plan {
	return plan{
		seed:   rapid.Uint64().Draw(t, "seed"),
		events: rapid.IntRange(1, 400).Draw(t, "events"), streams: rapid.IntRange(1, 40).Draw(t, "streams"),
		workers: rapid.IntRange(1, 8).Draw(t, "workers"), attempts: rapid.SampledFrom([]int{0, 1, 3}).Draw(t, "attempts"),
		refuse: rapid.IntRange(0, 30).Draw(t, "refuse"), hang: rapid.IntRange(0, 20).Draw(t, "hang"), poison: rapid.IntRange(0, 5).Draw(t, "poison"),
		decisions: rapid.IntRange(0, 40).Draw(t, "decisions"), crashes: rapid.IntRange(0, 8).Draw(t, "crashes"), hiccups: rapid.IntRange(0, 30).Draw(t, "hiccups"),
	}
}

// Whatever handlers answer, people decide and stores do: every event is acknowledged
// at least once or skipped by a decision; none comes before those of its stream that
// are earlier are done, with one worker none before any; none comes a second after it
// was skipped or parked; and no checkpoint passes one that is neither done nor
// remembered. ROLLFORWARD_RELAY_WALKS is how many walks are made.
func TestRandomConsumersLoseNothingAndKeepTheOrder(t *testing.T) {
	walks, delivered := 0, 0
	for more := envInt(t, "ROLLFORWARD_RELAY_WALKS", 1); more > 0; more -= 100 {
		rapid.Check(t, func(rt *rapid.T) {
			p := drawPlan(rt)
			w := walk(t, p)
			walks, delivered = walks+1, delivered+w.delivered
			if len(w.wrong) > 0 {
				rt.Fatalf("%+v: %q, %s", p, w.wrong, w.status)
			}
		})
	}
	t.Logf("%d walks, %d deliveries", walks, delivered)
	require.Positive(t, delivered)
}

// The control: what a consumer could do wrong is caught, each within some walks.
func TestRandomConsumersWithAFaultAreCaught(t *testing.T) {
	for _, fault := range []string{
		"a refusal is taken for an acknowledgement",
		"streams have no order",
		"an event is lost",
		"a wake-up is lost",
		"decisions are not heeded",
		"the checkpoint is where the log was read",
		"the checkpoint forgets who is behind",
	} {
		t.Run(fault, func(t *testing.T) {
			most := 40
			if race.Enabled {
				most = 20
			}
			for seed := range most {
				p := plan{
					seed: uint64(seed), events: 150, streams: 6, workers: 4, attempts: 3, refuse: 20, hang: 5, poison: 5,
					decisions: 20, crashes: 4, hiccups: 10, fault: fault,
				}
				if w := walk(t, p); len(w.wrong) > 0 {
					t.Logf("caught with seed %d: %s", seed, w.wrong[0])
					return
				}
			}
			t.Fatalf("not caught in %d walks", most)
		})
	}
}

func envInt(t testing.TB, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}
