package main

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/rollforward/rollforward/release"
)

var update = flag.Bool("update", false, "write testdata/quickstart.txt anew")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

// played plays the story on a file and returns what it printed.
func played(t *testing.T) (file, printed string) {
	file = filepath.Join(t.TempDir(), "changes.db")
	var out bytes.Buffer
	require.NoError(t, play(context.Background(), &out, file))
	return file, out.String()
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
	file, _ := played(t)
	store, err := sqlite.Open(file)
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
