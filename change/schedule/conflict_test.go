package schedule_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
)

func TestTheFourAnswers(t *testing.T) {
	// DOMAIN 2.2: not run, not applicable (no CI), clear, conflict.
	h := open(t, schedule.Rules{}).estate()
	answer := func(id string) change.TimingAnswer {
		found, err := h.schedule.Conflicts(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, found.Timing.Count, len(found.Conflicts))
		return found.Timing.Answer
	}
	require.Equal(t, change.TimingNotApplicable, answer(h.draft(on(window(10, 12)))), "no CI")
	require.Equal(t, change.TimingNotApplicable, answer(h.draft(on(nil, "db-01"))), "no window")
	clear := h.planned(on(window(10, 12), "db-01"))
	require.Equal(t, change.TimingClear, answer(clear))
	h.planned(on(window(11, 13), "db-01"))
	require.Equal(t, change.TimingConflict, answer(clear))
	stale, err := h.schedule.Stale(t.Context(), h.draft(on(nil, "db-01")))
	require.NoError(t, err)
	require.Equal(t, change.TimingNotRun, stale.Recorded.Timing.Answer)
	_, err = h.schedule.Conflicts(t.Context(), "CHG-000099")
	require.ErrorIs(t, err, schedule.ErrUnknownChange)
}

func TestConflictsWithOtherChanges(t *testing.T) {
	// DOMAIN 2.2, each rule. The change at hand is on db-01, from 10 to 12.
	mine := on(window(10, 12), "db-01")
	mine.Content.Implementers, mine.Content.Group = []string{"dave"}, "dba"
	for name, c := range map[string]struct {
		other func(h *house)
		want  []string
	}{
		"the same CI":            {func(h *house) { h.planned(on(window(11, 13), "db-01")) }, []string{"ci-already-scheduled CHG-000001"}},
		"what it needs":          {func(h *house) { h.planned(on(window(11, 13), "host-1")) }, []string{"parent-already-scheduled CHG-000001"}},
		"what needs it":          {func(h *house) { h.planned(on(window(11, 13), "shop")) }, []string{"child-already-scheduled CHG-000001"}},
		"something else":         {func(h *house) { h.planned(on(window(11, 13), "wiki")) }, []string{}},
		"touching":               {func(h *house) { h.planned(on(window(12, 13), "db-01")); h.planned(on(window(9, 10), "db-01")) }, []string{}},
		"inside of it":           {func(h *house) { h.planned(on(window(10.5, 11), "db-01")) }, []string{"ci-already-scheduled CHG-000001"}},
		"around it":              {func(h *house) { h.planned(on(window(1, 23), "db-01")) }, []string{"ci-already-scheduled CHG-000001"}},
		"a draft":                {func(h *house) { h.draft(on(window(11, 13), "db-01")) }, []string{}},
		"one that was cancelled": {func(h *house) { h.do(h.planned(on(window(11, 13), "db-01")), change.Cancel{Reason: "no"}) }, []string{}},
		"one that moved away": {func(h *house) {
			h.do(h.planned(on(window(11, 13), "db-01")), change.Edit{Set: change.Content{Window: window(20, 21)}})
		}, []string{}},
		"one that moved here": {func(h *house) {
			h.do(h.planned(on(window(20, 21), "db-01")), change.Edit{Set: change.Content{Window: window(11, 13)}})
		}, []string{"ci-already-scheduled CHG-000001"}},
		"one that was taken back": {func(h *house) { h.do(h.planned(on(window(11, 13), "db-01")), change.Revert{Reason: "no"}) }, []string{}},
		"one on hold":             {func(h *house) { h.do(h.planned(on(window(11, 13), "db-01")), change.Hold{Reason: "ice"}) }, []string{"ci-already-scheduled CHG-000001"}},
		"the same person": {func(h *house) {
			r := on(window(11, 13), "wiki")
			r.Content.Implementers = []string{"dave", "eve"}
			h.planned(r)
		}, []string{"assignee-busy CHG-000001"}},
		"the same team, no limit": {func(h *house) { r := on(window(11, 13), "wiki"); r.Content.Group = "dba"; h.planned(r) }, []string{}},
		"the same team, over its own": {func(h *house) {
			h.capacity("dba", 1)
			r := on(window(11, 13), "wiki")
			r.Content.Group = "dba"
			h.planned(r)
		}, []string{"team-over-capacity dba"}},
		"the same team, within it": {func(h *house) {
			h.capacity("dba", 2)
			r := on(window(11, 13), "wiki")
			r.Content.Group = "dba"
			h.planned(r)
		}, []string{}},
		"a delta of the same": {func(h *house) {
			r := on(window(11, 13))
			r.Content.Deltas = []cmdb.Delta{cmdb.Set("db-01", "owner", "", "me")}
			h.planned(r)
		}, []string{"ci-already-scheduled CHG-000001"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, schedule.Rules{}).estate()
			c.other(h)
			require.Equal(t, c.want, h.met(h.planned(mine)))
		})
	}
}

func (h *house) capacity(team string, most int) {
	h.t.Helper()
	_, err := h.schedule.Do(h.t.Context(), carol, schedule.DeclareCapacity{Team: team, Most: most})
	require.NoError(h.t, err)
}

func TestAConflictSaysWhatItIs(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	first := h.planned(on(window(11, 13), "shop"))
	mine := h.planned(on(window(10, 12), "db-01"))
	found, err := h.schedule.Conflicts(t.Context(), mine)
	require.NoError(t, err)
	require.Len(t, found.Conflicts, 1)
	c := found.Conflicts[0]
	require.Regexp(t, "^[0-9a-f]{24}$", c.ID)
	c.ID = ""
	require.Equal(t, change.Conflict{
		Rule: "child-already-scheduled", Effect: change.Warn, Severity: "high", Change: mine, With: first, CI: "db-01", Related: "shop",
		Path: []cmdb.Step{{From: "db-01", Relation: "used by", To: "shop"}}, Overlap: *window(11, 12),
		Why:    "CHG-000001 is to work on shop 2026-03-02 11:00 to 13:00 UTC",
		Remedy: "choose another time, agree on one with its owner, or have the conflict accepted",
	}, c, "the shop is critical, which is one step graver")
	require.NotZero(t, found.Timing.Position)

	// The same thing found again is the same conflict, also after it moved.
	h.do(first, change.Edit{Set: change.Content{Window: window(11, 14)}})
	again, err := h.schedule.Conflicts(t.Context(), mine)
	require.NoError(t, err)
	require.Equal(t, found.Conflicts[0].ID, again.Conflicts[0].ID)
	other, err := h.schedule.Conflicts(t.Context(), first)
	require.NoError(t, err)
	require.Equal(t, []string{"parent-already-scheduled " + mine}, rules(other.Conflicts), "the other one sees it from the other side")
}

func TestWhoIsNearIsConfigured(t *testing.T) {
	other := func(h *house) string {
		h.planned(on(window(11, 13), "host-1"))
		return h.planned(on(window(10, 12), "shop"))
	}
	for name, c := range map[string]struct {
		rules schedule.Rules
		want  []string
	}{
		"by default one step":    {schedule.Rules{}, []string{}},
		"two steps":              {schedule.Rules{Depth: 2}, []string{"parent-already-scheduled CHG-000001"}},
		"not by other relations": {schedule.Rules{Depth: 2, Related: []string{"depends on"}}, []string{}},
		"by either name":         {schedule.Rules{Depth: 2, Related: []string{"used by", "hosts"}}, []string{"parent-already-scheduled CHG-000001"}},
		"none":                   {schedule.Rules{Depth: -1}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, c.rules).estate()
			require.Equal(t, c.want, h.met(other(h)))
		})
	}
	t.Run("what was not looked at is said", func(t *testing.T) {
		h := open(t, schedule.Rules{MostRelated: 1}).estate()
		h.record(cmdb.Relate("wiki", "depends on", "db-01"))
		h.planned(on(window(11, 13), "wiki"))
		require.Equal(t, []string{"too-many-related db-01"}, h.met(h.planned(on(window(10, 12), "db-01"))))
	})
	t.Run("a relation that there is not is an error", func(t *testing.T) {
		h := open(t, schedule.Rules{Related: []string{"is fond of"}}).estate()
		_, err := h.changes.Raise(t.Context(), alice, on(window(10, 12), "db-01"))
		require.ErrorContains(t, err, "calendar-failed")
	})
}

func TestTouchingConflictsWhereItIsConfigured(t *testing.T) {
	h := open(t, schedule.Rules{Touching: true}).estate()
	h.planned(on(window(12, 13), "db-01"))
	h.planned(on(window(8, 10), "db-01"))
	h.planned(on(change.Between(at(12).Add(time.Microsecond), at(13)), "db-01"))
	require.Equal(t, []string{"ci-already-scheduled CHG-000001", "ci-already-scheduled CHG-000002"}, h.met(h.planned(on(window(10, 12), "db-01"))))
}

func TestPlannedChangesCountWhereItIsConfigured(t *testing.T) {
	h := open(t, schedule.Rules{Tentative: true}).estate()
	h.draft(on(window(11, 13), "db-01"))
	require.Equal(t, []string{"ci-already-scheduled CHG-000001"}, h.met(h.draft(on(window(10, 12), "db-01"))))
}

func TestOrder(t *testing.T) {
	after := func(rule, id string, w *change.Window, cis ...string) change.Raise {
		r := on(w, cis...)
		r.Content.Order = []change.Order{{Rule: rule, Change: id}}
		return r
	}
	for name, c := range map[string]struct {
		first  *change.Window
		rule   string
		second *change.Window
		want   bool
	}{
		"follows":              {window(10, 12), change.MustFollow, window(12, 13), false},
		"begins too early":     {window(10, 12), change.MustFollow, window(11, 13), true},
		"comes before":         {window(10, 12), change.MustFollow, window(8, 9), true},
		"the first has none":   {nil, change.MustFollow, window(8, 9), true},
		"apart":                {window(10, 12), change.MustNotOverlap, window(12, 13), false},
		"overlaps":             {window(10, 12), change.MustNotOverlap, window(11, 13), true},
		"the other has no one": {nil, change.MustNotOverlap, window(11, 13), false},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, schedule.Rules{}).estate()
			first := h.planned(on(c.first, "wiki"))
			second := h.planned(after(c.rule, first, c.second, "shop"))
			want := []string{}
			if c.want {
				want = append(want, "order-violated "+first)
			}
			require.Equal(t, want, h.met(second))
			if c.first != nil && c.want {
				require.Equal(t, []string{"order-violated " + second}, h.met(first), "the other one sees it too")
			}
		})
	}
	t.Run("what ended without being carried out cannot be followed", func(t *testing.T) {
		h := open(t, schedule.Rules{}).estate()
		first := h.planned(on(window(10, 12), "wiki"))
		h.do(first, change.Cancel{Reason: "no"})
		require.Equal(t, []string{"order-violated " + first}, h.met(h.planned(after(change.MustFollow, first, window(20, 21), "shop"))))
	})
	t.Run("it does not start before the other is carried out", func(t *testing.T) {
		h := open(t, schedule.Rules{}).estate()
		first := h.planned(on(window(9, 10), "wiki"))
		second := h.planned(after(change.MustFollow, first, window(10, 12), "shop"))
		require.Empty(t, h.met(second))
		h.clock.now = at(10.5)
		why, err := h.changes.Why(t.Context(), alice, second, change.Start{})
		require.NoError(t, err)
		require.Len(t, why, 1)
		require.Equal(t, "order-violated", why[0].Rule)
		h.do(first, change.Start{}, change.Complete{})
		h.do(second, change.Start{})
	})
	t.Run("a circle is refused", func(t *testing.T) {
		h := open(t, schedule.Rules{}).estate()
		first := h.planned(on(window(10, 12), "wiki"))
		second := h.planned(after(change.MustFollow, first, window(12, 13), "shop"))
		third := h.planned(after(change.MustFollow, second, window(14, 15), "db-01"))
		_, err := h.changes.Do(t.Context(), alice, first, change.Edit{Set: change.Content{Order: []change.Order{{Rule: change.MustFollow, Change: third}}}})
		require.ErrorContains(t, err, "order-circular")
		require.ErrorContains(t, err, "CHG-000001, CHG-000003, CHG-000002, CHG-000001")
	})
}

func TestDeltasThatDoNotCommute(t *testing.T) {
	// DOMAIN 2.2: two deltas that do not commute, or one invalidating the other's precondition.
	sets := func(w *change.Window, before, after string) change.Raise {
		r := on(w)
		r.Content.Deltas = []cmdb.Delta{cmdb.Set("db-01", "owner", before, after)}
		return r
	}
	for name, c := range map[string]struct {
		first, second change.Raise
		want          []string
	}{
		"at the same time":          {sets(window(11, 13), "", "a"), sets(window(10, 12), "", "b"), []string{"ci-already-scheduled CHG-000001", "delta-clash CHG-000001"}},
		"one upon the other":        {sets(window(8, 9), "", "a"), sets(window(10, 12), "a", "b"), []string{}},
		"the first takes it away":   {sets(window(8, 9), "", "a"), sets(window(10, 12), "", "b"), []string{"delta-clash CHG-000001"}},
		"the second, seen by first": {sets(window(13, 14), "", "a"), sets(window(10, 12), "", "b"), []string{"delta-clash CHG-000001"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, schedule.Rules{}).estate()
			h.draftOf(c.first)
			require.Equal(t, c.want, h.metBy(c.second))
		})
	}
	t.Run("a CI that goes", func(t *testing.T) {
		h := open(t, schedule.Rules{}).estate()
		gone := on(window(11, 13))
		gone.Content.Deltas = []cmdb.Delta{cmdb.Retire("db-01")}
		h.planned(gone)
		require.Equal(t, []string{"ci-already-scheduled CHG-000001", "delta-clash CHG-000001"}, h.metBy(sets(window(10, 12), "", "b")))
	})
}

// draftOf plans a change, whatever the CMDB says of its deltas now.
func (h *house) draftOf(r change.Raise) { h.t.Helper(); h.planned(r) }

// metBy returns what a change that is not raised would meet.
func (h *house) metBy(r change.Raise) []string {
	h.t.Helper()
	found, err := h.schedule.ConflictsOf(h.t.Context(), change.Occasion{
		Window: *r.Content.Window, CIs: r.Content.Declared(), Deltas: r.Content.Deltas, Model: r.Model,
	})
	require.NoError(h.t, err)
	return rules(found.Conflicts)
}

func TestRedundancyIsLostByMoreThanOneAtOnce(t *testing.T) {
	// DOMAIN 2.2 and 4.2: web has three members and needs two.
	h := open(t, schedule.Rules{}).estate()
	mine := h.planned(on(window(10, 12), "web-1"))
	require.Empty(t, h.met(mine), "it can lose one")
	later := h.planned(on(window(12, 14), "web-2"))
	require.Empty(t, h.met(mine), "one after the other")
	h.do(later, change.Edit{Set: change.Content{Window: window(11, 14)}})
	require.Equal(t, []string{"redundancy-lost " + later}, h.met(mine))
	require.Equal(t, []string{"redundancy-lost " + mine}, h.met(later))
	h.do(later, change.Edit{Set: change.Content{Outage: &change.Outage{}}})
	require.Empty(t, h.met(mine), "nothing goes down by it")
	pool := h.planned(on(window(11, 12), "web"))
	require.Equal(t, []string{"child-already-scheduled " + pool}, h.met(mine), "a pool is in the way of its members")
	require.ElementsMatch(t, []string{"parent-already-scheduled " + mine, "parent-already-scheduled " + later}, h.met(pool))
}
