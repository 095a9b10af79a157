package schedule_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
)

// Many changes on one CI, short ones and some that are very long, come, move and go.
func TestTheIndexFindsWhatALookAtAllFinds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(r)
		var ids []string
		draw := func(label string) *change.Window {
			start := rapid.IntRange(0, 500).Draw(r, label)
			length := rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(1, 500)).Draw(r, label+" length")
			return change.Between(minute(15*start), minute(15*(start+length)))
		}
		for n := range rapid.IntRange(1, 80).Draw(r, "steps") {
			step := fmt.Sprint(n)
			switch what := rapid.IntRange(0, 9).Draw(r, step); {
			case what < 7 || len(ids) == 0:
				id := fmt.Sprintf("CHG-%06d", n+1)
				w.raise(id, change.KindScheduled, change.Content{Title: "x", CIs: []string{"a"}, Window: draw(step)})
				ids = append(ids, id)
			case what < 9:
				w.put("change-"+rapid.SampledFrom(ids).Draw(r, step+" which"), change.Edited{Set: change.Content{Window: draw(step)}})
			default:
				at := rapid.IntRange(0, len(ids)-1).Draw(r, step+" which")
				w.move(ids[at], change.KindCanceled)
				ids = slices.Delete(ids, at, at+1)
			}
		}
		for n := range 5 {
			asked := *draw(fmt.Sprint("asked ", n))
			want := w.fold.Scan(asked)
			slices.Sort(want)
			found, err := w.fold.Conflicts(change.Occasion{Point: change.Planned, CIs: []string{"a"}, Window: asked}, w.graph, schedule.Rules{})
			require.NoError(r, err)
			var have []string
			for _, c := range found.Conflicts {
				have = append(have, c.With)
			}
			slices.Sort(have)
			require.Equal(r, want, have)
			forward, err := w.fold.Forward(asked.Start, asked.End, schedule.Filter{}, w.graph)
			require.NoError(r, err)
			require.Len(r, forward, len(want))
			require.True(r, slices.IsSortedFunc(forward, func(a, b schedule.Scheduled) int { return a.Window.Start.Compare(b.Window.Start) }))
		}
	})
}

// A change that is at the end of a calendar of years is found as soon as one at its
// beginning, also where one change lasts all the time.
func TestALongCalendarIsNoDetour(t *testing.T) {
	w := newWorld(t)
	w.raise("CHG-000000", change.KindScheduled, change.Content{Title: "x", CIs: []string{"a"}, Window: change.Between(at(0), at(24*3650))})
	for n := range 500 {
		w.raise(fmt.Sprintf("CHG-%06d", n+1), change.KindScheduled, change.Content{Title: "x", CIs: []string{"a"}, Window: window(float64(n), float64(n)+0.5)})
	}
	for _, hour := range []float64{0, 250, 499} {
		found, err := w.fold.Conflicts(change.Occasion{Point: change.Planned, CIs: []string{"a"}, Window: change.Window{Start: at(hour), End: at(hour).Add(time.Minute)}}, w.graph, schedule.Rules{})
		require.NoError(t, err)
		require.Equal(t, []string{"ci-already-scheduled CHG-000000", fmt.Sprintf("ci-already-scheduled CHG-%06d", int(hour)+1)}, rules(found.Conflicts))
	}
}
