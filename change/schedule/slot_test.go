package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
)

func (h *house) slots(n schedule.Need) schedule.Slots {
	h.t.Helper()
	found, err := h.schedule.Slots(h.t.Context(), n)
	require.NoError(h.t, err)
	return found
}

// texts writes windows as hours since monday 0:00.
func texts(windows []change.Window) string {
	var all []string
	for _, w := range windows {
		all = append(all, fmt.Sprintf("%g-%g", w.Start.Sub(at(0)).Hours(), w.End.Sub(at(0)).Hours()))
	}
	return strings.Join(all, " ")
}

func TestSlots(t *testing.T) {
	// DOMAIN 2.3. It is Monday, 9:00.
	hour := time.Hour
	day := schedule.Need{For: hour, CIs: []string{"db-01"}, Within: 9 * hour}
	taken := func(h *house) {
		h.planned(on(window(10, 12), "db-01"))
		h.planned(on(window(11, 13.5), "db-01"))
		h.planned(on(window(14, 15), "shop"))
	}
	for name, c := range map[string]struct {
		given func(h *house)
		need  func(n *schedule.Need)
		want  string
	}{
		"nothing planned": {func(*house) {}, func(n *schedule.Need) { n.Most = 3 }, "9-10 10-11 11-12"},
		"around what is":  {taken, func(*schedule.Need) {}, "9-10 15-16 16-17 17-18"},
		"shorter":         {taken, func(n *schedule.Need) { n.For = hour / 2 }, "9-9.5 9.5-10 13.5-14 15-15.5 15.5-16 16-16.5 16.5-17 17-17.5 17.5-18"},
		"not before":      {taken, func(n *schedule.Need) { n.NotBefore = at(9.25); n.Most = 2 }, "15-16 16-17"},
		"in steps":        {taken, func(n *schedule.Need) { n.NotBefore, n.Step, n.Most = at(15.1), hour/2, 3 }, "15.5-16.5 16-17 16.5-17.5"},
		"of another CI":   {taken, func(n *schedule.Need) { n.CIs, n.Most = []string{"wiki"}, 2 }, "9-10 10-11"},
		"of one it needs": {taken, func(n *schedule.Need) { n.CIs, n.Most = []string{"host-1"}, 2 }, "9-10 13.5-14.5"},
		"of somebody":     {taken, func(n *schedule.Need) { n.CIs, n.People = nil, []string{"dave"}; n.Most = 1 }, "9-10"},
		"of somebody busy": {func(h *house) {
			r := on(window(9, 11), "wiki")
			r.Content.Implementers = []string{"dave"}
			h.planned(r)
		}, func(n *schedule.Need) { n.People = []string{"dave"}; n.Most = 1 }, "11-12"},
		"its own time":     {taken, func(n *schedule.Need) { n.Change, n.CIs, n.For, n.Most = "CHG-000001", nil, 0, 1 }, "9-11"},
		"a freeze":         {func(h *house) { h.define(yearEnd) }, func(n *schedule.Need) { n.For, n.Within = 10*hour, 60*hour }, "9-19 48-58 58-68"},
		"maintenance":      {func(h *house) { h.define(nights) }, func(n *schedule.Need) { n.For, n.Within = 3*hour, 60*hour }, "22-25 46-49"},
		"maintenance near": {func(h *house) { h.define(nights) }, func(n *schedule.Need) { n.CIs, n.For, n.Within = []string{"shop"}, 3*hour, 60*hour }, "22-25 46-49"},
		"in working hours": {func(*house) {}, func(n *schedule.Need) { n.For, n.Within, n.Hours = 5*hour, 48*hour, &schedule.Hours{} }, "9-14 33-38"},
		"in hours of a zone": {func(*house) {}, func(n *schedule.Need) {
			n.For, n.Within, n.Hours = 8*hour, 48*hour, &schedule.Hours{Zone: "America/New_York"}
		}, "14-22 38-46"},
		"in hours at night": {func(*house) {}, func(n *schedule.Need) {
			n.For, n.Within = 8*hour, 7*24*hour
			n.Hours = &schedule.Hours{Days: []time.Weekday{time.Friday}, From: schedule.Clock(22 * hour), To: schedule.Clock(6 * hour)}
		}, "118-126"},
		"a team with room": {func(h *house) {
			h.capacity("dba", 2)
			r := on(window(9, 11), "wiki")
			r.Content.Group = "dba"
			h.planned(r)
		}, func(n *schedule.Need) { n.Group, n.Most = "dba", 1 }, "9-10"},
		"a team without": {func(h *house) {
			h.capacity("dba", 1)
			r := on(window(9, 11), "wiki")
			r.Content.Group = "dba"
			h.planned(r)
		}, func(n *schedule.Need) { n.Group, n.Most = "dba", 1 }, "11-12"},
		"after another": {func(h *house) { h.planned(on(window(9, 11), "wiki")) }, func(n *schedule.Need) {
			n.Order, n.Most = []change.Order{{Rule: change.MustFollow, Change: "CHG-000001"}}, 1
		}, "11-12"},
		"not before another": {func(h *house) { h.planned(on(window(12, 13), "wiki")) }, func(n *schedule.Need) {
			n.Order, n.Most = []change.Order{{Rule: change.MustFollow, Change: "CHG-000001"}}, 1
		}, "13-14"},
		"never after": {func(h *house) { h.planned(on(nil, "wiki")) }, func(n *schedule.Need) { n.Order = []change.Order{{Rule: change.MustFollow, Change: "CHG-000001"}} }, ""},
		"of a pool":   {func(h *house) { h.planned(on(window(9, 11), "web-2")) }, func(n *schedule.Need) { n.CIs, n.Most = []string{"web-1"}, 1 }, "11-12"},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, schedule.Rules{}).estate()
			c.given(h)
			n := day
			c.need(&n)
			require.Equal(t, c.want, texts(h.slots(n).Slots))
		})
	}
}

func TestAHundredSlotsWithinNinetyDaysByDefault(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	found := h.slots(schedule.Need{For: time.Hour, CIs: []string{"db-01"}})
	require.Len(t, found.Slots, 100)
	found = h.slots(schedule.Need{For: 24 * time.Hour, CIs: []string{"db-01"}})
	require.Len(t, found.Slots, 90)
	require.Equal(t, monday.AddDate(0, 0, 90), found.Until)
}

func TestWhyEarlierTimesDidNotFit(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	h.planned(on(window(9.5, 12), "db-01"))
	h.define(yearEnd)
	found := h.slots(schedule.Need{For: 14 * time.Hour, CIs: []string{"db-01"}, Most: 1, Reasons: true})
	require.Equal(t, "48-62", texts(found.Slots))
	var why []string
	for _, p := range found.Passed {
		why = append(why, fmt.Sprintf("%s %v: %s", texts([]change.Window{p.Window}), p.Free, p.Why))
	}
	require.Equal(t, []string{
		"9-9.5 true: free for 30m0s, which is too short: ci-already-scheduled: db-01, CHG-000001, 2026-03-02 09:30 to 12:00 UTC",
		"9.5-12 false: ci-already-scheduled: db-01, CHG-000001, 2026-03-02 09:30 to 12:00 UTC",
		`12-24 true: free for 12h0m0s, which is too short: freeze "Year-end freeze" denies it from 2026-03-03T00:00:00Z on: the books are closed`,
		`24-48 false: freeze "Year-end freeze" denies it from 2026-03-03T00:00:00Z on: the books are closed`,
	}, why)
	found = h.slots(schedule.Need{For: 14 * time.Hour, CIs: []string{"db-01"}, NotBefore: at(48), Within: time.Hour, Reasons: true})
	require.Empty(t, found.Slots)
	require.Len(t, found.Passed, 1)
	require.Equal(t, "free for 1h0m0s, which is too short: then the time is over in which was looked", found.Passed[0].Why)
}

func TestSlotsOfWhatCannotBeMeant(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	for name, n := range map[string]schedule.Need{
		"no time":        {CIs: []string{"db-01"}},
		"no such CI":     {For: time.Hour, CIs: []string{"db-99"}},
		"no such change": {For: time.Hour, Change: "CHG-000099"},
		"too many":       {For: time.Hour, Most: 1_000_000},
		"too far":        {For: time.Hour, Within: 1 << 62},
		"no such zone":   {For: time.Hour, Hours: &schedule.Hours{Zone: "Mars"}},
		"no such hour":   {For: time.Hour, Hours: &schedule.Hours{From: schedule.Clock(25 * time.Hour)}},
		"a small step":   {For: time.Hour, Step: 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.schedule.Slots(t.Context(), n)
			require.Error(t, err)
		})
	}
}

// minute is a time so many minutes after monday 0:00.
func minute(n int) time.Time { return at(0).Add(time.Duration(n) * time.Minute) }

// The oracle tries every quarter of an hour and asks whether it is clear.
func TestSlotsAreWhereNothingConflicts(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rules := schedule.Rules{Touching: rapid.Bool().Draw(r, "touching"), Depth: rapid.IntRange(-1, 2).Draw(r, "depth")}
		if rules.Depth == 0 {
			rules.Depth = 1
		}
		f := drawWorld(r)
		n := schedule.Need{
			For: time.Duration(rapid.IntRange(1, 12).Draw(r, "quarters")) * 15 * time.Minute, CIs: f.cis(r, "need"), People: f.people(r, "need"),
			Group: f.group(r, "need"), Within: 36 * time.Hour, Step: 15 * time.Minute, Most: 1000, NotBefore: at(0),
		}
		if rapid.Bool().Draw(r, "one that is planned") && len(f.changes) > 0 {
			n.Change = rapid.SampledFrom(f.changes).Draw(r, "change")
			if e, ok := f.fold.Get(n.Change); ok {
				n.CIs, n.People, n.Group, n.Order = e.CIs, e.People, e.Group, e.Order
			} else {
				n.Change = ""
			}
		}
		found, err := f.fold.Slots(n, f.graph, rules, at(0))
		require.NoError(r, err)
		for q := 0; minute(15*q).Add(n.For).Compare(at(36)) <= 0; q++ {
			w := change.Window{Start: minute(15 * q), End: minute(15 * q).Add(n.For)}
			o := change.Occasion{Point: change.Asked, Change: n.Change, CIs: n.CIs, People: n.People, Group: n.Group, Order: n.Order, Window: w}
			all, err := f.fold.Conflicts(o, f.graph, rules)
			require.NoError(r, err)
			all.Conflicts = slices.DeleteFunc(all.Conflicts, func(c change.Conflict) bool { return c.Rule == schedule.OrderCircular })
			require.Equal(r, len(all.Conflicts) == 0, slices.Contains(found.Slots, w), "%s: %v", texts([]change.Window{w}), all.Conflicts)
		}
	})
}
