package main

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/release"
)

// fold is what every fold of the engine is.
type fold interface {
	Apply(eventstore.Recorded) error
	Snapshot() ([]byte, error)
	Restore([]byte) error
}

var foldNames = []string{"cmdb", "changes", "releases", "schedule"}

// emptyFolds returns the four folds of an engine, empty.
func emptyFolds(t *testing.T) []fold {
	types := slices.Concat(command.Types(), cmdb.Types(), change.Types(), schedule.Types(), release.Types(), follow.Types())
	registry, err := eventstore.NewRegistry(types...)
	require.NoError(t, err)
	return []fold{cmdb.NewGraph(registry), change.Projection(registry).New(), release.Projection(registry).New(), schedule.Projection(registry).New()}
}

func apply(t *testing.T, f fold, log ...eventstore.Recorded) {
	for _, r := range log {
		require.NoError(t, f.Apply(r))
	}
}

func saved(t *testing.T, f fold) []byte {
	b, err := f.Snapshot()
	require.NoError(t, err)
	return b
}

// foldsAgree holds the folds of an engine against its log: folded once more, folded
// on from a snapshot in the middle, and fed with duplicates and reordered within 50.
func foldsAgree(t *testing.T, eng *rollforward.Engine, log []eventstore.Recorded) {
	var live [][]byte
	require.NoError(t, eng.View(t.Context(), func(v rollforward.View) error {
		for _, f := range []fold{v.CMDB, v.Changes, v.Releases, v.Schedule} {
			live = append(live, saved(t, f))
		}
		return nil
	}))
	again, resumed, mixed := emptyFolds(t), emptyFolds(t), emptyFolds(t)
	disorder := shuffled(rand.New(rand.NewPCG(1, 2)), log, 50)
	require.NotEqual(t, len(log), len(disorder))
	for i, name := range foldNames {
		half := len(log) / 2
		apply(t, again[i], log[:half]...)
		middle := saved(t, again[i])
		require.NoError(t, resumed[i].Restore(middle), name)
		require.False(t, bytes.Equal(live[i], middle), "%s: the control: half of the log gives another state", name)
		apply(t, again[i], log[half:]...)
		apply(t, resumed[i], log[half:]...)
		apply(t, mixed[i], disorder...)
		for how, f := range map[string]fold{"folded once more": again[i], "folded from a snapshot": resumed[i], "duplicated and reordered": mixed[i]} {
			require.True(t, bytes.Equal(live[i], saved(t, f)), "%s, %s", name, how)
		}
	}
}

// shuffled delivers records as a broker may: each up to window places from where it
// stands, and some of them again.
func shuffled(random *rand.Rand, log []eventstore.Recorded, window int) []eventstore.Recorded {
	type delivery struct {
		at int
		r  eventstore.Recorded
	}
	var all []delivery
	for i, r := range log {
		for again := true; again; again = random.IntN(4) == 0 {
			all = append(all, delivery{i + random.IntN(window), r})
		}
	}
	slices.SortStableFunc(all, func(a, b delivery) int { return a.at - b.at })
	out := make([]eventstore.Recorded, len(all))
	for i, d := range all {
		out[i] = d.r
	}
	return out
}

func TestTheFoldsOfTheSmallHistoryAgreeWithItsLog(t *testing.T) {
	h, err := readHistory(small(t), 0)
	require.NoError(t, err)
	a, store, c := newAgenda(h), memory.New(), &clock{}
	c.follow(a.events[0].at)
	eng, err := openEngine(t.Context(), store, h, c.Now)
	require.NoError(t, err)
	defer func() { require.NoError(t, eng.Close()) }()
	_, _, err = replayed(t.Context(), newReplay(eng, h, c, atOnce), store, a, nil)
	require.NoError(t, err)
	foldsAgree(t, eng, logOf(t, store))
	found, err := eng.Verify(t.Context())
	require.NoError(t, err)
	for _, verdict := range found.Folds {
		require.Equal(t, follow.Same, verdict.Result, "%s: %s", verdict.Fold, verdict.Why)
	}
}
