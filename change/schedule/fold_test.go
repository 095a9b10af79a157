package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
)

// crowded is a world with everything that the fold takes.
func crowded(r *rapid.T) *random {
	f := drawWorld(r)
	for n := range rapid.IntRange(0, 3).Draw(r, "more of windows") {
		id := fmt.Sprintf("w%d", n)
		f.put("window-"+id, schedule.WindowDefined{Window: schedule.Window{
			ID: id, Name: id, Kind: schedule.Deny, Scope: schedule.Scope{Everything: true}, Start: "2026-03-02T00:00:00", End: "2026-03-02T01:00:00",
		}})
		f.put("window-"+id, schedule.Overridden{Window: id, Change: "CHG-000001", Why: "x", Until: at(48)})
		if rapid.Bool().Draw(r, "retired") {
			f.put("window-"+id, schedule.WindowRetired{Window: id, Why: "over"})
		}
	}
	for _, ci := range f.cis(r, "booked") {
		f.put("booking-"+ci, schedule.Booked{CI: ci, Change: "CHG-000001", Window: *window(1, 2)}, schedule.Booked{CI: ci, Change: "CHG-000002", Window: *window(3, 4)})
		if rapid.Bool().Draw(r, "unbooked") {
			f.put("booking-"+ci, schedule.Unbooked{CI: ci, Change: "CHG-000001"})
		}
	}
	f.put("conflict-0123", schedule.ConflictAccepted{Conflict: change.Conflict{ID: "0123"}, Why: "x"})
	return f
}

func state(t require.TestingT, s *schedule.Schedule) string {
	b, err := s.Snapshot()
	require.NoError(t, err)
	return string(b)
}

func TestTheFoldIsTheSameInWhateverOrderEventsCome(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := crowded(r)
		want := state(r, f.fold)
		// Reordered within 50 places, and some of them twice.
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 0))
		type placed struct {
			eventstore.Recorded
			at int
		}
		var log []placed
		for i, e := range f.log {
			for range 1 + rnd.IntN(2) {
				log = append(log, placed{e, i + rnd.IntN(50)})
			}
		}
		slices.SortStableFunc(log, func(a, b placed) int { return a.at - b.at })
		other := schedule.Projection(known).New()
		for _, e := range log {
			require.NoError(r, other.Apply(e.Recorded))
		}
		require.Equal(r, want, state(r, other))
		require.NoError(r, other.Apply(f.log[len(f.log)-1]))
		require.Equal(r, want, state(r, other))
		agree(r, f, other)

		// From a snapshot in the middle.
		cut := rapid.IntRange(0, len(f.log)).Draw(r, "cut")
		first := schedule.Projection(known).New()
		for _, e := range f.log[:cut] {
			require.NoError(r, first.Apply(e))
		}
		b, err := first.Snapshot()
		require.NoError(r, err)
		second := schedule.Projection(known).New()
		require.NoError(r, second.Restore(b))
		for _, e := range f.log[max(0, cut-20):] { // some of it again
			require.NoError(r, second.Apply(e))
		}
		require.Equal(r, want, state(r, second))
		agree(r, f, second)
	})
}

// agree asks both the same, so that also what is no part of a snapshot is compared.
func agree(r *rapid.T, f *random, other *schedule.Schedule) {
	for _, id := range f.changes {
		a, ok := f.fold.Get(id)
		b, found := other.Get(id)
		require.Equal(r, ok, found)
		require.Equal(r, a, b)
	}
	o := change.Occasion{Point: change.Asked, Change: "CHG-000001", CIs: cis, People: people, Group: "dba", Window: *window(0, 40)}
	a, err := f.fold.Conflicts(o, f.graph, schedule.Rules{})
	require.NoError(r, err)
	b, err := other.Conflicts(o, f.graph, schedule.Rules{})
	require.NoError(r, err)
	require.Equal(r, a, b)
	x, err := f.fold.Forward(at(0), at(40), schedule.Filter{Tentative: true}, f.graph)
	require.NoError(r, err)
	y, err := other.Forward(at(0), at(40), schedule.Filter{Tentative: true}, f.graph)
	require.NoError(r, err)
	require.Equal(r, x, y)
}

func TestAnEventThatIsMissingIsNotSnapshotted(t *testing.T) {
	w := newWorld(t)
	w.raise("CHG-000001", change.KindScheduled, change.Content{Title: "x", Window: window(1, 2)})
	other := schedule.Projection(known).New()
	require.NoError(t, other.Apply(w.log[len(w.log)-1]))
	_, err := other.Snapshot()
	require.ErrorContains(t, err, "change-CHG-000001")
	_, ok := other.Get("CHG-000001")
	require.False(t, ok)
	require.NoError(t, other.Apply(w.log[len(w.log)-2]))
	require.Equal(t, state(t, w.fold), state(t, other))
}

func TestASnapshotThatIsNoneIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "{", "no versions": "{}", "a change without an ID": `{"versions":{},"open":[{}]}`, "no window": `{"versions":{},"windows":{"a":{}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, schedule.Projection(known).New().Restore([]byte(text)))
		})
	}
}

func TestAWindowThatCannotBeReadIsNotPassedOver(t *testing.T) {
	// A log of another program: what cannot be looked at is not clear.
	w := newWorld(t)
	w.put("window-odd", schedule.WindowDefined{Window: schedule.Window{ID: "odd", Name: "odd", Kind: schedule.Deny, Zone: "Mars", Start: "x", End: "y"}})
	o := change.Occasion{Point: change.Asked, CIs: []string{"a"}, Window: *window(1, 2)}
	_, err := w.fold.Conflicts(o, w.graph, schedule.Rules{})
	require.ErrorContains(t, err, `window "odd" cannot be read`)
	_, err = w.fold.Slots(schedule.Need{For: 1}, w.graph, schedule.Rules{}, monday)
	require.ErrorContains(t, err, `window "odd" cannot be read`)
	w.put("window-odd", schedule.WindowRetired{Window: "odd", Why: "it is odd"})
	_, err = w.fold.Conflicts(o, w.graph, schedule.Rules{})
	require.NoError(t, err)
}

func TestWhatHasEndedIsSmall(t *testing.T) {
	w := newWorld(t)
	text := strings.Repeat("long ", 1000)
	c := change.Content{Title: text, CIs: []string{"a", "b"}, Window: window(1, 2), Deltas: []cmdb.Delta{cmdb.Set("a", "owner", "", text)}}
	empty := len(state(t, w.fold))
	w.raise("CHG-000001", change.KindScheduled, c)
	require.Greater(t, len(state(t, w.fold)), 5000)
	w.move("CHG-000001", change.KindCanceled)
	require.Less(t, len(state(t, w.fold))-empty, 100)
	w.put("change-CHG-000001", change.Noted{Text: "it was too long"}, change.Linked{})
	require.Less(t, len(state(t, w.fold))-empty, 100)
}
