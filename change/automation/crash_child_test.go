package automation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/storefor"
)

// With childVariable a test binary is a process that runs the act of that name on the
// store at placeVariable, and kills itself at the point that pointVariable says.
const (
	childVariable = "ROLLFORWARD_TEST_ACT"
	placeVariable = "ROLLFORWARD_TEST_ACT_ON"
	pointVariable = "ROLLFORWARD_TEST_ACT_DIES"
)

// deathsVariable is at how many points of each handler processes die on SQLite and on
// PostgreSQL: a number, or "all". Default 1, in a process that is killed and in one that
// is not.
const deathsVariable = "ROLLFORWARD_TEST_DEATHS"

// realTime is the pace of lives in real time.
var realTime = pace{lease: 300 * time.Millisecond, poll: 10 * time.Millisecond}

func named(name string) act {
	all := acts()
	return all[slices.IndexFunc(all, func(a act) bool { return a.name == name })]
}

// child is a process of its own.
func child() {
	t := &failing{}
	last, err := strconv.Atoi(os.Getenv(pointVariable))
	require.NoError(t, err)
	store, err := storefor.Place(os.Getenv(placeVariable)).Open(context.Background())
	require.NoError(t, err)
	s := &sent{told: func(key string) { fmt.Printf("sent %q\n", key) }}
	named(os.Getenv(childVariable)).live(t, store, &process{last: last, kill: func() {
		fmt.Println("dies")
		self, err := os.FindProcess(os.Getpid())
		require.NoError(t, err)
		require.NoError(t, self.Kill())
		select {} // until it is
	}}, s, realTime)
	require.NoError(t, store.Close())
	fmt.Println("done")
}

// failing is a testing.TB for a process that is no test: it ends with what failed.
type failing struct{ testing.TB }

func (failing) Helper()                      {}
func (failing) Errorf(f string, args ...any) { fmt.Fprintf(os.Stderr, f+"\n", args...) }
func (failing) FailNow()                     { os.Exit(3) }
func (failing) Cleanup(func())               {}
func (failing) Logf(f string, args ...any)   { fmt.Fprintf(os.Stderr, f+"\n", args...) }

// spawn runs a child, takes in what it sent, and reports whether it died at its point.
func spawn(t *testing.T, a act, place storefor.Place, last int, s *sent) (died bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+a.name, placeVariable+"="+string(place), pointVariable+"="+strconv.Itoa(last))
	out, err := cmd.CombinedOutput()
	died = strings.Contains(string(out), "dies\n")
	for line := range strings.Lines(string(out)) {
		if quoted, ok := strings.CutPrefix(strings.TrimSpace(line), "sent "); ok {
			key, err := strconv.Unquote(quoted)
			require.NoError(t, err)
			s.add(key)
		}
	}
	require.True(t, died || err == nil && strings.HasSuffix(string(out), "done\n"), "%v: %s", err, out)
	return died
}

// samples are the points at which processes die: of so many, at random.
func samples(t *testing.T, seed uint64, points int) []int {
	n := 1
	switch text := os.Getenv(deathsVariable); text {
	case "":
	case "all":
		n = points
	default:
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	all := rand.New(rand.NewPCG(seed, 1)).Perm(points)
	for i := range all {
		all[i]++
	}
	return all[:min(n, points)]
}

// The same on stores that others have, in real time: with lives in this process, and
// with processes that are killed.
func TestAHandlerThatIsKilledOnAFileOrAServerDoesEverythingOnce(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.SQLite, storefor.Postgres} {
		for _, a := range acts() {
			t.Run(string(kind)+" "+a.name, func(t *testing.T) {
				t.Parallel()
				script := a.script(t)
				without, all, _ := a.inMind(t, script, 0)
				points := 0 // of its way to the end; leases go on for as long as it takes
				for i, p := range all {
					if strings.Contains(p, "handler") || strings.Contains(p, "append") || strings.Contains(p, "notice") {
						points = i + 1
					}
				}
				seed := rand.Uint64()
				died, killed := 0, 0
				for _, last := range samples(t, seed, points) {
					store, end := kind.Fresh(t)
					write(t, store, script)
					came, _, dead := a.lives(t, store, script, last, realTime)
					require.NoError(t, end())
					require.Equal(t, without, came, "seed %d, point %d", seed, last)
					if dead {
						died++
					}
				}
				for _, last := range samples(t, seed+1, points) {
					place := kind.Place(t)
					store, err := place.Open(t.Context())
					require.NoError(t, err)
					write(t, store, script)
					came := &sent{}
					if spawn(t, a, place, last, came) {
						killed++
						require.False(t, spawn(t, a, place, 0, came))
					}
					require.Equal(t, without, outcome{a.story(t, store, script), came.all()}, "seed %d, point %d", seed, last)
					require.NoError(t, store.Close())
				}
				t.Logf("seed %d: of %d points, %d lives ended in the mind and %d processes were killed", seed, points, died, killed)
				require.NotZero(t, died)
				require.NotZero(t, killed)
			})
		}
	}
}
