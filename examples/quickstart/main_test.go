package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/pgtest"
	"github.com/rollforward/rollforward/internal/storefor"
	"github.com/rollforward/rollforward/release"
)

var update = flag.Bool("update", false, "write testdata/quickstart.txt anew")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(storefor.Tests{M: m})
}

// played plays the story on a file and returns what it printed.
func played(t *testing.T) (name, printed string) {
	name = filepath.Join(t.TempDir(), "changes.db")
	var out bytes.Buffer
	require.NoError(t, play(context.Background(), &out, file(name)))
	return name, out.String()
}

func TestTheQuickstartTellsTheWholeStory(t *testing.T) {
	_, printed := played(t)
	golden := filepath.Join("testdata", "quickstart.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(printed), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), printed, "if it is to be so: go test ./examples/quickstart -update")
	require.NotContains(t, printed, "\x1b", "colour is for terminals")
}

// The log on another store tells the same.
func TestTheStoryIsTheSameOnEveryStore(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "quickstart.txt"))
	require.NoError(t, err)
	for store, noun := range map[string]string{
		"sqlite:" + filepath.Join(t.TempDir(), "changes.db"): "file",
		"postgres:" + pgtest.Database(t):                     "database",
		"memory":                                             "engine",
	} {
		t.Run(noun, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, run(t.Context(), []string{"-store", store}, &out, io.Discard))
			require.Equal(t, strings.Replace(string(golden), "The file, closed", "The "+noun+", closed", 1), out.String())
			if store == "memory" {
				return
			}
			err := run(t.Context(), []string{"-store", store}, &out, io.Discard)
			require.ErrorContains(t, err, "the "+noun+" has 3 changes and")
			require.ErrorContains(t, err, "choose an empty one")
		})
	}
}

func TestAStoreThatIsNoneIsRefused(t *testing.T) {
	for _, store := range []string{"postgres", "postgres:", "sqlite:", "memory:x", "mysql://app:secret@db/log"} {
		err := run(t.Context(), []string{"-store", store}, io.Discard, io.Discard)
		require.ErrorContains(t, err, "-store is memory, sqlite:FILE or postgres:DSN", store)
		require.NotContains(t, err.Error(), "secret")
	}
	require.ErrorContains(t, run(t.Context(), []string{"memory"}, io.Discard, io.Discard), "no arguments")
}

func TestATerminalGetsColour(t *testing.T) {
	var out bytes.Buffer
	p := &page{out: &out, colour: true}
	p.yes("it is %d", 1)
	require.Equal(t, "  \x1b[32myes\x1b[0m it is 1\n", out.String())
	require.False(t, newPage(&out).colour)
}

// The CMDB is the same graph when the events of the story reach it several times
// and out of order, within a window of 50.
func TestTheGraphOfTheStoryIsTheSameInAnyOrder(t *testing.T) {
	name, _ := played(t)
	store, err := sqlite.Open(name)
	require.NoError(t, err)
	defer store.Close()
	registry, err := eventstore.NewRegistry(slices.Concat(command.Types(), cmdb.Types(), change.Types(), schedule.Types(), release.Types(), follow.Types())...)
	require.NoError(t, err)
	var log []eventstore.Recorded
	inOrder := cmdb.NewGraph(registry)
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		require.NoError(t, inOrder.Apply(r))
		log = append(log, r)
	}
	want, err := inOrder.Snapshot()
	require.NoError(t, err)
	db, ok := inOrder.CI("db-01")
	require.True(t, ok)
	require.Equal(t, "16", db.Attributes["version"])
	for seed := range uint64(200) {
		graph := cmdb.NewGraph(registry)
		for _, r := range disturbed(log, rand.New(rand.NewPCG(seed, 1))) {
			require.NoError(t, graph.Apply(r))
		}
		got, err := graph.Snapshot()
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "seed %d", seed)
	}
}

// disturbed returns log with each record 1 to 5 times, shuffled within a window of 50.
func disturbed(log []eventstore.Recorded, random *rand.Rand) []eventstore.Recorded {
	var all []eventstore.Recorded
	for _, r := range log {
		for range 1 + random.IntN(5) {
			all = append(all, r)
		}
	}
	const window = 50
	for begin := 0; begin < len(all); begin += window / 2 {
		part := all[begin:min(begin+window, len(all))]
		random.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return all
}
