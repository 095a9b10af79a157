package storetest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// probe is a testing.TB that records a failure instead of failing the test.
type probe struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	first    string
	cleanups []func()
	over     bool
}

func (p *probe) fail(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.failed {
		p.failed, p.first = true, message
	}
}

func (p *probe) Errorf(format string, args ...any) { p.fail(fmt.Sprintf(format, args...)) }
func (p *probe) Error(args ...any)                 { p.fail(fmt.Sprint(args...)) }
func (p *probe) Fail()                             { p.fail("") }
func (p *probe) FailNow()                          { p.fail(""); runtime.Goexit() }
func (p *probe) Helper()                           {}
func (p *probe) Logf(string, ...any)               {}
func (p *probe) Log(...any)                        {}

func (p *probe) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over { // a goroutine that a failed clause left behind
		go f()
		return
	}
	p.cleanups = append(p.cleanups, f)
}

// cleanUp ends the clause: it stops what the clause left running.
func (p *probe) cleanUp() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
}

func (p *probe) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// try runs one clause against a store and returns whether it held, and why not.
func try(t testing.TB, c clause, s Suite) (bool, string) {
	p := &probe{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				p.fail(fmt.Sprint("panic: ", r))
			}
		}()
		c.run(p, s)
	}()
	select {
	case <-done:
		p.cleanUp()
	case <-time.After(20 * time.Second): // the mutant hangs the clause: that is a failure too
		p.fail("the clause hangs")
		p.cleanUp()
		<-done
	}
	return !p.Failed(), p.first
}

// suite returns the suite of the good store with a fault planted, nil for none.
func suite(plant func(m *mutant)) Suite {
	return Suite{
		Patience: 2 * time.Second,
		Open: func(t testing.TB) eventstore.Store {
			m := &mutant{Store: memory.New(), stop: make(chan struct{})}
			if plant != nil {
				plant(m)
			}
			t.Cleanup(func() { close(m.stop); _ = m.Store.Close() })
			return m
		},
		Reopen: func(t testing.TB, store eventstore.Store) eventstore.Store {
			m := store.(*mutant)
			again := &mutant{stop: make(chan struct{})}
			if m.reopen != nil {
				again.Store = m.reopen().(*memory.Store)
			} else {
				again.Store = copyOf(m.all(), m.Store)
			}
			_ = m.Close()
			return again
		},
	}
}

// TestEveryMutantIsCaughtAtFullSize shows that the suite can fail: each planted fault is
// caught by a clause, the good store by none, and the matrix is printed. Under
// the race detector it is every eighth mutant, until a clause has caught it.
func TestEveryMutantIsCaughtAtFullSize(t *testing.T) {
	all := clauses()
	for _, c := range all {
		good := suite(nil)
		held, why := try(t, c, good)
		require.True(t, held, "the good store fails %q: %s", c.says, why)
	}

	mutants := mutants
	if race.Enabled {
		mutants = slices.Clone(mutants)
		for i := range mutants {
			mutants[i/8] = mutants[i&^7]
		}
		mutants = mutants[:len(mutants)/8]
	}
	caught := make([][]bool, len(mutants))
	attempt := func(i int, alone bool) {
		for j, c := range all {
			if c.alone != alone || race.Enabled && slices.Contains(caught[i], true) {
				continue
			}
			held, _ := try(t, c, suite(mutants[i].plant))
			caught[i][j] = !held
		}
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range 6 * runtime.GOMAXPROCS(0) { // most of the time they wait for what never comes
		wg.Go(func() {
			for i := range next {
				attempt(i, false)
			}
		})
	}
	for i := range mutants {
		caught[i] = make([]bool, len(all))
		next <- i
	}
	close(next)
	wg.Wait()
	for i := range mutants {
		attempt(i, true)
	}

	for i, m := range mutants {
		require.Contains(t, caught[i], true, "no clause catches the mutant that %s", m.name)
	}
	if race.Enabled {
		return
	}
	for j, c := range all {
		idle := true
		for i := range mutants {
			idle = idle && !caught[i][j]
		}
		if idle {
			t.Errorf("no mutant is caught by the clause %q: plant one, or the clause may not be able to fail", c.says)
		}
	}
	printMatrix(t, all, caught)
}

// printMatrix prints clause x mutant to the file named by STORETEST_MATRIX, or to the log.
func printMatrix(t *testing.T, all []clause, caught [][]bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d mutants, %d clauses, every mutant caught\n\nclauses:\n", len(mutants), len(all))
	for j, c := range all {
		fmt.Fprintf(&b, "%3d  %s: %s\n", j+1, c.group, c.says)
	}
	b.WriteString("\nmutant: caught by clauses\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i, m := range mutants {
		var by []int
		for j := range all {
			if caught[i][j] {
				by = append(by, j+1)
			}
		}
		sort.Ints(by)
		fmt.Fprintf(w, "%s\t%s\n", m.name, strings.Trim(fmt.Sprint(by), "[]"))
	}
	require.NoError(t, w.Flush())
	if file := os.Getenv("STORETEST_MATRIX"); file != "" {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	t.Log("\n" + b.String())
}
