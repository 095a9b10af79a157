package change_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// almanac is a calendar that says what it is told to.
type almanac struct {
	says    map[change.Point]change.Conflict
	fails   error
	asked   []change.Occasion
	settled []string // phases from and to
	refuses bool
}

func (a *almanac) Judge(_ *command.Tx, o change.Occasion) (change.Timing, error) {
	a.asked = append(a.asked, o)
	timing := change.Timing{Answer: change.TimingClear, Window: o.Window, Position: 7}
	if c, ok := a.says[o.Point]; ok {
		timing.Answer, timing.Count, timing.Conflicts = change.TimingConflict, 1, []change.Conflict{c}
	}
	return timing, a.fails
}

func (a *almanac) Settle(tx *command.Tx, before, after change.Change) error {
	a.settled = append(a.settled, before.Phase+" to "+after.Phase)
	if a.refuses && after.Kind == change.KindScheduled {
		return command.Refuse(command.Refusal{Rule: "booked", Reason: "CHG-000009 has it", Remedy: "take another time"})
	}
	return nil
}

func (a *almanac) option(c *change.Config, _ *command.Config) { c.Calendar = a }

func freeze(effect change.Effect) change.Conflict {
	return change.Conflict{ID: "c1", Rule: "blackout", Effect: effect, Severity: "high", With: "freeze", CI: "db-01", Why: "the year is being closed", Remedy: "plan it later"}
}

// DOMAIN 2.1: judged when planned, authorised and started, and recorded each time.
func TestTimeIsJudgedAtThreePointsAndRecorded(t *testing.T) {
	a := &almanac{says: map[change.Point]change.Conflict{change.ToAuthorize: freeze(change.Warn)}}
	h := open(t, memory.New(), a.option).estate()
	c := h.raise(upgrade(), change.Submit{})
	timed, ok := c.Timing(change.Planned)
	require.True(t, ok)
	require.Equal(t, change.Timed{Point: change.Planned, At: monday, Timing: change.Timing{Answer: change.TimingClear, Window: *upgrade().Content.Window, Position: 7}}, timed)
	require.Len(t, a.asked, 1, "a submission gives no other time")
	require.Equal(t, change.Occasion{
		Point: change.Planned, Change: c.ID, Model: "normal", Window: *c.Window, CIs: []string{"db-01"}, Deltas: c.Deltas, Apart: []string{c.ID},
	}, a.asked[0])
	_, ok = c.Timing(change.ToAuthorize)
	require.False(t, ok)

	c = h.approve(bob, c.ID, "cab")
	require.Equal(t, "scheduled", c.Phase, "a warning stands in nobody's way")
	timed, _ = c.Timing(change.ToAuthorize)
	require.Equal(t, []change.Conflict{freeze(change.Warn)}, timed.Timing.Conflicts)

	h.clock.now = c.Window.Start.Add(30 * time.Minute)
	c = h.do(dave, c.ID, change.Start{})
	timed, _ = c.Timing(change.ToStart)
	require.Equal(t, change.Window{Start: h.clock.now, End: c.Window.End}, timed.Timing.Window, "what is left of the window")
	require.Equal(t, []string{"raised", "timed", "moved", "assessed", "moved", "stage-planned", "stage-requested", "voted", "stage-decided", "timed", "authorized", "moved", "timed", "started", "moved"}, h.types(c.ID, 0))
	require.Equal(t, []string{" to draft", "draft to authorize", "authorize to scheduled", "scheduled to implement"}, a.settled)
	history, err := h.changes.History(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, "its window is judged to authorise it: conflict: blackout with freeze", history[9].Says)
}

func TestWhatBlocksATimeRefusesByItsRule(t *testing.T) {
	for point, to := range map[change.Point]func(h *house, id string, rule string){
		change.Planned: func(h *house, id, rule string) {
			h.refused(rule, carol, id, change.Edit{Set: change.Content{Window: change.Between(monday.Add(time.Hour), monday.Add(2*time.Hour))}})
			h.refusedRaise(rule, alice, upgrade())
		},
		change.ToAuthorize: func(h *house, id, rule string) {
			h.do(alice, id, change.Submit{})
			c, err := h.changes.Get(h.t.Context(), id)
			require.NoError(h.t, err)
			h.refused(rule, bob, id, change.Approve{Stage: "cab", Scope: c.Scope})
		},
		change.ToStart: func(h *house, id, rule string) {
			h.do(alice, id, change.Submit{})
			h.approve(bob, id, "cab")
			h.refused(rule, dave, id, change.Start{})
		},
	} {
		t.Run(string(point), func(t *testing.T) {
			a := &almanac{}
			h := open(t, memory.New(), a.option).estate()
			c := h.raise(upgrade())
			a.says = map[change.Point]change.Conflict{point: freeze(change.Block)}
			to(h, c.ID, "blackout")

			a.says = nil
			a.fails = errors.New("the calendar is torn")
			h.refusedRaise("calendar-failed", alice, upgrade())

			a.fails = nil
			overridden := freeze(change.Block)
			overridden.Resolved = &change.Resolution{By: "carol", Why: "the fire is bigger"}
			a.says = map[change.Point]change.Conflict{change.Planned: overridden, change.ToAuthorize: overridden, change.ToStart: overridden}
			c = h.raise(upgrade(), change.Submit{})
			h.approve(bob, c.ID, "cab")
			c = h.do(dave, c.ID, change.Start{})
			timed, _ := c.Timing(change.ToStart)
			require.Equal(t, "carol", timed.Timing.Conflicts[0].Resolved.By)
		})
	}
}

func TestATimeIsJudgedAnewWhereWhatItDependsOnIsEdited(t *testing.T) {
	a := &almanac{}
	h := open(t, memory.New(), a.option).estate()
	c := h.raise(upgrade())
	for edit, anew := range map[*change.Edit]bool{
		{Set: change.Content{Window: change.Between(monday.Add(9*time.Hour), monday.Add(10*time.Hour))}}: true,
		{Set: change.Content{CIs: []string{"shop"}}}:                                                     true,
		{Set: change.Content{Implementers: []string{"dave"}}}:                                            true,
		{Set: change.Content{Description: "more to it"}}:                                                 false,
	} {
		before := len(a.asked)
		h.do(alice, c.ID, *edit)
		require.Equal(t, anew, len(a.asked) > before, "%v", edit.Set)
	}
	before := len(a.asked)
	h.do(alice, c.ID, change.Edit{Clear: []string{"window"}})
	require.Len(t, a.asked, before, "there is no time to judge")
}

// A change without a window is judged at the moment when it starts.
func TestAStartOutsideOfAWindowIsJudgedWhereItHappens(t *testing.T) {
	a := &almanac{}
	h := open(t, memory.New(), a.option).estate()
	r := upgrade()
	r.Content.Window = nil
	m := asking(stage("cab", change.Rule{Counting: change.First}, "bob"))
	r.Model = h.publish(m)
	c := h.raise(r, change.Submit{})
	h.approve(bob, c.ID, "cab")
	require.Empty(t, a.asked)
	h.do(dave, c.ID, change.Start{})
	require.Equal(t, change.Window{Start: monday, End: monday.Add(time.Microsecond)}, a.asked[0].Window)

	r.Content.Window = upgrade().Content.Window
	c = h.raise(r, change.Submit{})
	h.approve(bob, c.ID, "cab")
	h.do(dave, c.ID, change.Start{})
	require.Equal(t, change.Window{Start: monday, End: monday.Add(2 * time.Hour)}, a.asked[len(a.asked)-1].Window, "as long as planned, from now")
}

// What the calendar settles is part of the append: where it refuses, nothing is.
func TestACalendarMaySettleOrRefuse(t *testing.T) {
	a := &almanac{refuses: true}
	h := open(t, memory.New(), a.option).estate()
	c := h.raise(upgrade(), change.Submit{})
	h.refused("booked", bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	h.untouched(func() {
		_, err := h.changes.Do(context.Background(), bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
		require.True(t, command.By(err, "booked"))
	})
	a.refuses = false
	require.Equal(t, "scheduled", h.approve(bob, c.ID, "cab").Phase)
}

// What has happened already is not asked whether it may.
func TestWhatHasHappenedHasNoTimeToJudge(t *testing.T) {
	a := &almanac{says: map[change.Point]change.Conflict{change.Planned: freeze(change.Block)}}
	h := open(t, memory.New(), a.option, everybody).estate()
	h.raise(change.Raise{Model: "registered", Content: change.Content{Title: "The vendor patched it", Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "15.1")},
		Window: change.Between(monday.Add(-time.Hour), monday)}})
	require.Empty(t, a.asked)
}

// Policies and conditions see how many conflicts were known when the window was
// planned, and whether anybody looked.
func TestPoliciesSeeWhatTheCalendarFound(t *testing.T) {
	a := &almanac{says: map[change.Point]change.Conflict{change.Planned: freeze(change.Warn)}}
	seen := &hooks{}
	h := open(t, memory.New(), a.option, judging(seen)).estate()
	c := h.raise(upgrade(), change.Submit{})
	require.Equal(t, 1, c.Risk.Facts.Conflicts)
	require.True(t, c.Risk.Facts.Timed)
	r := upgrade()
	r.Content.Window = nil
	c = h.raise(r)
	c = h.do(alice, c.ID, change.Submit{})
	require.False(t, c.Risk.Facts.Timed, "nobody has looked: that is not clear")
}

// A model may keep an authorisation when the window moves: the new time is judged
// as strictly as when it was given.
func TestAnAuthorisationThatIsKeptIsKeptForATimeThatIsFree(t *testing.T) {
	a := &almanac{}
	h := open(t, memory.New(), a.option).estate()
	m := asking(stage("cab", change.Rule{Counting: change.First}, "bob"))
	m.Material = []change.Materiality{{Field: "window", Immaterial: true}}
	r := upgrade()
	r.Model = h.publish(m)
	c := h.raise(r, change.Submit{})
	c = h.approve(bob, c.ID, "cab")
	a.says = map[change.Point]change.Conflict{change.ToAuthorize: freeze(change.Block)}
	later := change.Edit{Set: change.Content{Window: change.Between(monday.Add(72*time.Hour), monday.Add(74*time.Hour))}}
	h.refused("blackout", alice, c.ID, later)
	a.says = nil
	c = h.do(alice, c.ID, later)
	require.NotNil(t, c.Authorized)
	timed, _ := c.Timing(change.ToAuthorize)
	require.Equal(t, *c.Window, timed.Timing.Window)
}
