package change_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

// closers collects what is to be done at the end of a walk, which is no test of its
// own: what fails in it is what the walk found wrong.
type closers struct {
	testing.TB
	all []func()
}

func (c *closers) Cleanup(f func()) { c.all = append(c.all, f) }

func (c *closers) Errorf(format string, args ...any) {
	panic(violation{"error", fmt.Sprintf(format, args...)})
}

func (c *closers) close() {
	for _, f := range slices.Backward(c.all) {
		f()
	}
}

// stroll makes a walk by a seed on a store, without some guards, and returns what it found wrong,
// nil if nothing. To some invariants it is deaf: their breach is not reported.
func stroll(t testing.TB, kind storefor.Kind, seed uint64, without, deaf []string) (reached map[change.Kind]int, err error) {
	w := &walk{
		random: rand.New(rand.NewPCG(seed, 7)), deaf: deaf, oracles: map[string]*oracle{}, unique: map[string]bool{},
		events: map[string][]any{}, handed: map[string]handed{}, reached: map[change.Kind]int{},
	}
	defer func() {
		reached = w.reached
		switch v := recover().(type) {
		case nil:
		case violation:
			if slices.Contains(deaf, v.invariant) {
				break // the walk goes no further
			}
			err = fmt.Errorf("seed %d: %w\n%s", seed, v, strings.Join(w.trace, "\n"))
		default:
			err = fmt.Errorf("seed %d: %w\n%s", seed, violation{"panic", fmt.Sprintf("%v\n%s", v, debug.Stack())}, strings.Join(w.trace, "\n"))
		}
	}()
	scope := &closers{TB: t}
	defer scope.close()
	w.house = open(scope, kind.New(scope), everybody, evaluating(words{}), judging(facing{}), knowing(directory))
	w.registry = registry(scope)
	change.Without(w.changes, without...)
	w.estate()
	w.prepare()
	for range 15 + w.random.IntN(30) {
		w.step()
	}
	if w.chance(1, 3) {
		w.goOn()
	}
	w.finish()
	w.whole()
	return w.reached, nil
}

// walks returns how many walks are asked for: ROLLFORWARD_WALKS, or else few under
// the race detector.
func walks(t testing.TB, few, many int) int {
	if text := os.Getenv("ROLLFORWARD_WALKS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, "ROLLFORWARD_WALKS")
		return n
	}
	if race.Enabled {
		return few
	}
	return many
}

// strolls makes walks with seeds from 1 on until one finds something, and returns
// how many it took, and what kinds of phase they came to.
func strolls(t testing.TB, kind storefor.Kind, n int, without, deaf []string) (took uint64, reached map[change.Kind]int, found error) {
	var next atomic.Uint64
	var mu sync.Mutex
	reached = map[change.Kind]int{}
	var walkers sync.WaitGroup
	for range 2 {
		walkers.Go(func() {
			for {
				seed := next.Add(1)
				mu.Lock()
				done := found != nil || seed > uint64(n)
				mu.Unlock()
				if done {
					return
				}
				kinds, err := stroll(t, kind, seed, without, deaf)
				mu.Lock()
				for kind := range kinds {
					reached[kind]++
				}
				if err != nil && (found == nil || seed < took) {
					took, found = seed, err
				}
				mu.Unlock()
			}
		})
	}
	walkers.Wait()
	return took, reached, found
}

// Random people send random commands to changes of random sound models. More of them:
// ROLLFORWARD_WALKS=5000. The walk of one seed again:
// ROLLFORWARD_WALK=2428 go test -run RandomWalks ./change
func TestRandomWalksBreakNoRuleAtFullSize(t *testing.T) {
	kind := storefor.Asked(t, storefor.Memory)
	if text := os.Getenv("ROLLFORWARD_WALK"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		_, err = stroll(t, kind, seed, nil, nil)
		require.NoError(t, err)
		return
	}
	n := walks(t, 150, 1_000)
	begin := time.Now()
	_, reached, found := strolls(t, kind, n, nil, nil)
	require.NoError(t, found)
	var shares []string
	for _, kind := range []change.Kind{change.KindImplement, change.KindReview, change.KindClosed, change.KindCanceled} {
		shares = append(shares, fmt.Sprintf("%s %d %%", kind, 100*reached[kind]/n))
	}
	t.Logf("%d walks from seed 1 on %s in %v; came to %s", n, kind, time.Since(begin).Round(time.Second), strings.Join(shares, ", "))
	for _, kind := range []change.Kind{change.KindImplement, change.KindReview, change.KindClosed, change.KindCanceled} {
		require.Greater(t, reached[kind], n/10, "too few walks come to %s to prove anything", kind)
	}
}

// The same walks where the log is on a server.
func TestRandomWalksBreakNoRuleOnPostgreSQL(t *testing.T) {
	n := 20
	if race.Enabled {
		n = 4
	}
	begin := time.Now()
	_, reached, found := strolls(t, storefor.Postgres, n, nil, nil)
	require.NoError(t, found)
	t.Logf("%d walks from seed 1 on postgres in %v; came to %v", n, time.Since(begin).Round(time.Second), reached)
	require.NotZero(t, reached[change.KindClosed]+reached[change.KindCanceled], "too few come to an end to prove anything")

	// The control: a guard that is gone is noticed here as well.
	took, _, found := strolls(t, storefor.Postgres, 300, []string{"stages-approved"}, nil)
	var v violation
	require.ErrorAs(t, found, &v)
	require.Contains(t, []string{"stages approved", "authorisation"}, v.invariant)
	t.Logf("without stages-approved, caught by walk %d: %s", took, v)
}

// Each guard is taken out, and an invariant that says what it is there for notices
// it: not that Why and Do differ, which they cannot.
func TestEveryGuardThatIsTakenOutIsCaughtAtFullSize(t *testing.T) {
	guards := []struct {
		name string
		by   []string // invariants
	}{
		{"stages-approved", []string{"stages approved", "authorisation"}},
		{"separation-of-duties", []string{"separation of duties"}},
		{"scope-changed", []string{"scope"}},
		{"not-a-candidate", []string{"candidate"}},
		{"already-voted", []string{"votes once"}},
		{"deadline-passed", []string{"deadline"}},
		{"deadline-not-passed", []string{"deadline"}},
		{"voiding", []string{"voiding"}},
		{"on-hold", []string{"on hold"}},
		{"not-editable", []string{"not editable"}},
		{"unknown-ci", []string{"unknown CI"}},
		{"precondition-failed", []string{"precondition"}},
		{"interval-invalid", []string{"interval"}},
		{"outside-template", []string{"outside template"}},
		{"template-separation", []string{"template separation", "authorisation"}},
		{"field-required", []string{"ways"}},
		{"assessed", []string{"ways"}},
		{"in-window", []string{"ways"}},
		{"not-started", []string{"not started"}},
		{"task-outside-window", []string{"task outside window"}},
		{"tasks-open", []string{"tasks open", "ways"}},
		{"reviewed", []string{"reviewed", "ways"}},
		{"retrospective", []string{"retrospective"}},
	}
	if race.Enabled {
		guards = guards[:3]
	}
	for _, guard := range guards {
		took, _, found := strolls(t, storefor.Memory, 3_000, []string{guard.name}, nil)
		var v violation
		if !errors.As(found, &v) {
			t.Errorf("%-22s is not missed by any of 3000 walks", guard.name)
			continue
		}
		t.Logf("%-22s caught by walk %4d: %s", guard.name, took, v)
		if !slices.Contains(guard.by, v.invariant) {
			t.Errorf("%-22s is caught by %q, which is not about it: %v", guard.name, v.invariant, found)
		}
	}
}

// "authorized" is a second lock, and alone out of place it is missed by nobody: whoever
// comes to it unapproved must first have got past "stages-approved". So that one is
// taken out first, and the walks listen for nothing but work without authorisation.
func TestWorkWithoutAuthorisationHasASecondLockAtFullSize(t *testing.T) {
	n := 500
	if race.Enabled {
		n = 60
	}
	deaf := []string{"stages approved", "ways", "way out"}
	_, _, found := strolls(t, storefor.Memory, n, []string{"stages-approved"}, deaf)
	require.NoError(t, found, "the second lock does not hold alone")
	took, _, found := strolls(t, storefor.Memory, n, []string{"stages-approved", "authorized"}, deaf)
	var v violation
	require.ErrorAs(t, found, &v, "both locks are out, and none of %d walks began work without authorisation", n)
	require.Equal(t, "authorisation", v.invariant)
	t.Logf("%-22s caught by walk %4d, beside stages-approved: %s", "authorized", took, v)
}
