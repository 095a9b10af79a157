//go:build unix

package relay_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

// How often the holder of a lease is stopped past it, and how often it is killed, in
// each store. Default 100 and 20; 12, of commands 5, and 4 under the race detector.
const (
	handoversVariable = "ROLLFORWARD_HANDOVERS"
	killsVariable     = "ROLLFORWARD_RELAY_KILLS"
	seedVariable      = "ROLLFORWARD_HANDOVER_SEED"
)

// number returns a variable, or otherwise, or under the race detector raced.
func number(t *testing.T, variable string, otherwise, raced int) int {
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, variable)
		return n
	}
	if race.Enabled {
		return raced
	}
	return otherwise
}

var shared = []storefor.Kind{storefor.SQLite, storefor.Postgres}

func TestStoppedHoldersAreTakenOverWithoutDoubleOrLostEffectsAtFullSize(t *testing.T) {
	for _, kind := range shared {
		for _, role := range []string{"fenced", "keyed"} {
			t.Run(string(kind)+", "+role, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, kind, role, uint64(number(t, seedVariable, 29, 29)))
				for i := range number(t, handoversVariable, 25, 4) {
					require.NoError(t, p.handOver(allMoments[i%len(allMoments)]), "hand-over %d, %v", i, p)
				}
				for more := 0; p.refused+p.overtaken == 0 && more < 50; more++ {
					require.NoError(t, p.handOver(atDecide), "%v", p)
				}
				require.NotZero(t, p.refused+p.overtaken, "the harness brought no stale holder to an effect: %v", p)
				f := p.finish()
				t.Logf("%v; %+v", p, f)
				require.True(t, f.right(), "%+v", f)
				require.GreaterOrEqual(t, int(f.tokens), p.handovers)
			})
		}
	}
}

func TestWithoutTheFenceTheHarnessOfHandOversSeesDoubles(t *testing.T) {
	for _, kind := range shared {
		for _, role := range []string{"without fence", "without key"} {
			t.Run(string(kind)+", "+role, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, kind, role, uint64(number(t, seedVariable, 30, 30)))
				rounds, f := 0, finding{}
				for ; rounds < 60 && (f.doubles == 0 || f.late == 0); rounds++ {
					require.NoError(t, p.handOver(atDecide), "%v", p)
					var err error
					f, err = p.find()
					require.NoError(t, err)
				}
				f = p.finish()
				t.Logf("%v; %+v", p, f)
				require.NotZero(t, f.doubles, "%d rounds: %v", rounds, p)
				require.NotZero(t, f.late)
				require.Zero(t, f.lost)
			})
		}
	}
}

func TestEveryEffectStandsOnceWhenHoldersAreKilledAtFullSize(t *testing.T) {
	for _, kind := range shared {
		for _, role := range []string{"fenced", "keyed"} {
			t.Run(string(kind)+", "+role, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, kind, role, uint64(number(t, seedVariable, 1, 1)))
				for i := range number(t, killsVariable, 10, 3) {
					require.NoError(t, p.kill(killMoments[i%len(killMoments)]), "kill %d, %v", i, p)
				}
				f := p.finish()
				t.Logf("%v; %+v", p, f)
				require.True(t, f.right(), "%+v", f)
				require.Greater(t, int(f.tokens), p.killed)
			})
		}
	}
}

func TestAcknowledgementsBeforeTheEffectLoseSomeWhenHoldersAreKilled(t *testing.T) {
	for _, kind := range shared {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, kind, "told too early", uint64(number(t, seedVariable, 2, 2)))
			for p.reached < 3 && p.killed < 30 {
				require.NoError(t, p.kill(atSaved), "%v", p)
			}
			f := p.finish()
			t.Logf("%v; %+v", p, f)
			require.NotZero(t, f.lost, "%v", p)
			require.Zero(t, f.doubles)
		})
	}
}
