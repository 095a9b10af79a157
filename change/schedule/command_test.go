package schedule_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
)

var (
	everything = schedule.Scope{Everything: true}
	// yearEnd closes everything on the Tuesday.
	yearEnd = schedule.Window{
		ID: "freeze", Name: "Year-end freeze", Kind: schedule.Deny, Scope: everything, Reason: "the books are closed",
		Start: "2026-03-03T00:00:00", End: "2026-03-04T00:00:00",
	}
	// nights are when databases are worked on: from 22:00 to 02:00.
	nights = schedule.Window{
		ID: "nights", Name: "Nights", Kind: schedule.Allow, Scope: schedule.Scope{Classes: []string{"database"}},
		Start: "2026-01-01T22:00:00", End: "2026-01-02T02:00:00", Rule: "FREQ=DAILY",
	}
)

// refused runs a command that a rule is to refuse, and requires that Why says the same.
func (h *house) refused(rule string, c schedule.Command) {
	h.t.Helper()
	why, err := h.schedule.Why(h.t.Context(), carol, c)
	require.NoError(h.t, err)
	_, err = h.schedule.Do(h.t.Context(), carol, c)
	require.True(h.t, command.By(err, rule), "%v", err)
	var refused *command.Error
	require.ErrorAs(h.t, err, &refused)
	require.Equal(h.t, refused.Refusals, why)
}

func TestAWindowIsDefinedChangedAndRetired(t *testing.T) {
	h := open(t, schedule.Rules{})
	h.define(yearEnd)
	first, err := h.schedule.Window(t.Context(), "freeze")
	require.NoError(t, err)
	require.Equal(t, yearEnd, first.Window)
	require.Equal(t, "carol", first.By)
	require.EqualValues(t, 1, first.Version)
	done, err := h.schedule.DefineWindow(t.Context(), carol, yearEnd)
	require.NoError(t, err)
	require.Empty(t, done.Records, "the same words record nothing")

	other := yearEnd
	other.Scope = schedule.Scope{Classes: []string{"database"}}
	h.define(other)
	_, err = h.schedule.RetireWindow(t.Context(), carol, "freeze", "it is over")
	require.NoError(t, err)
	done, err = h.schedule.RetireWindow(t.Context(), carol, "freeze", "again")
	require.NoError(t, err)
	require.Empty(t, done.Records)
	all, err := h.schedule.Windows(t.Context(), false)
	require.NoError(t, err)
	require.Empty(t, all)
	all, err = h.schedule.Windows(t.Context(), true)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.EqualValues(t, 3, all[0].Version)
	h.refused("window-retired", schedule.Override{Window: "freeze", Change: "CHG-000001", Why: "x", Until: at(100)})
	h.define(yearEnd)

	history, err := h.schedule.History(t.Context(), "freeze")
	require.NoError(t, err)
	var says []string
	for _, e := range history {
		says = append(says, e.Actor+" "+e.Says)
	}
	require.Equal(t, []string{
		`carol defines it: "Year-end freeze", denies everything, from 2026-03-03T00:00:00 to 2026-03-04T00:00:00`,
		`carol defines it: "Year-end freeze", denies classes database, from 2026-03-03T00:00:00 to 2026-03-04T00:00:00`,
		`carol retires it: it is over`,
		`carol defines it: "Year-end freeze", denies everything, from 2026-03-03T00:00:00 to 2026-03-04T00:00:00`,
	}, says)
	_, err = h.schedule.History(t.Context(), "nothing")
	require.ErrorIs(t, err, schedule.ErrUnknownWindow)
	_, err = h.schedule.Window(t.Context(), "nothing")
	require.ErrorIs(t, err, schedule.ErrUnknownWindow)
}

func TestWhatCannotBeMeantIsRefusedByName(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	h.define(yearEnd)
	broken := yearEnd
	broken.Zone = "Mars/Olympus"
	for rule, c := range map[string]schedule.Command{
		"unknown-zone":     schedule.DefineWindow{Window: broken},
		"unknown-id":       schedule.DefineWindow{Window: schedule.Window{}},
		"unknown-window":   schedule.RetireWindow{Window: "thaw", Why: "x"},
		"reason-required":  schedule.RetireWindow{Window: "freeze"},
		"until-required":   schedule.Override{Window: "freeze", Change: "CHG-000001", Why: "x"},
		"until-past":       schedule.Override{Window: "freeze", Change: "CHG-000001", Why: "x", Until: at(1)},
		"scope-required":   schedule.Override{Window: "freeze", Why: "x", Until: at(100)},
		"scope-or-change":  schedule.Override{Window: "freeze", Change: "CHG-000001", Scope: everything, Why: "x", Until: at(100)},
		"unknown-change":   schedule.Override{Window: "freeze", Change: strings.Repeat("x", 300), Why: "x", Until: at(100)},
		"unknown-conflict": schedule.Accept{Conflict: "0123", Change: "CHG-000001", Why: "x"},
		"too-long":         schedule.RetireWindow{Window: "freeze", Why: strings.Repeat("x", 5000)},
		"negative":         schedule.DeclareCapacity{Team: "dba", Most: -1},
		"command-required": nil,
	} {
		t.Run(rule, func(t *testing.T) { h.t = t; h.refused(rule, c) })
	}
}

func TestAFreezeWarnsWhenPlannedAndBlocksWhenAuthorised(t *testing.T) {
	// DOMAIN 2.1: enforcement points, each block, warn or record.
	h := open(t, schedule.Rules{}).estate()
	h.define(yearEnd)
	c, err := h.changes.Raise(t.Context(), alice, on(window(25, 26), "db-01"))
	require.NoError(t, err, "planned, it warns")
	timed, ok := c.Timing(change.Planned)
	require.True(t, ok)
	require.Equal(t, change.TimingConflict, timed.Timing.Answer)
	require.Equal(t, []string{"blackout freeze"}, rules(timed.Timing.Conflicts))
	require.Equal(t, change.Warn, timed.Timing.Conflicts[0].Effect)
	require.Equal(t, `"Year-end freeze, the books are closed" closes db-01 2026-03-03 01:00 to 02:00 UTC`, timed.Timing.Conflicts[0].Why)
	require.Equal(t, at(48), timed.Timing.Next)
	require.NotZero(t, timed.Timing.Position)

	why, err := h.changes.Why(t.Context(), alice, c.ID, change.Submit{})
	require.NoError(t, err)
	require.Len(t, why, 1)
	require.Equal(t, "blackout", why[0].Rule)
	require.Contains(t, why[0].Remedy, "have window freeze overridden")

	// An override leaves the window in force, and the conflict listed.
	_, err = h.schedule.Override(t.Context(), carol, schedule.Override{Window: "freeze", Change: c.ID, Why: "the bank said so", Until: at(25.5)})
	require.NoError(t, err)
	_, err = h.changes.Do(t.Context(), alice, c.ID, change.Submit{})
	require.True(t, command.By(err, "blackout"), "it ends after what was overridden: %v", err)
	_, err = h.schedule.Override(t.Context(), carol, schedule.Override{Window: "freeze", Change: c.ID, Why: "the bank said so", Until: at(26)})
	require.NoError(t, err)
	c = h.do(c.ID, change.Submit{})
	require.Equal(t, change.KindScheduled, c.Kind)
	timed, _ = c.Timing(change.ToAuthorize)
	require.Equal(t, change.TimingConflict, timed.Timing.Answer)
	require.Equal(t, &change.Resolution{By: "carol", Why: "the bank said so", Until: at(26)}, timed.Timing.Conflicts[0].Resolved)
	w, err := h.schedule.Window(t.Context(), "freeze")
	require.NoError(t, err)
	require.Nil(t, w.Retired)
	require.Len(t, w.Overrides, 2)
	h.clock.now = at(25)
	h.do(c.ID, change.Start{})

	h.clock.now = monday
	_, err = h.changes.Raise(t.Context(), alice, on(window(25, 26), "wiki"), change.Submit{})
	require.True(t, command.By(err, "blackout"), "another change is not meant: %v", err)
	_, err = h.schedule.Override(t.Context(), carol, schedule.Override{Window: "freeze", Scope: schedule.Scope{CIs: []string{"wiki"}}, Why: "it is only the wiki", Until: at(48)})
	require.NoError(t, err)
	h.planned(on(window(25, 26), "wiki"))
	_, err = h.changes.Raise(t.Context(), alice, on(window(25, 26), "wiki", "shop"), change.Submit{})
	require.True(t, command.By(err, "blackout"), "not all of it is meant: %v", err)
}

func TestMaintenanceWindows(t *testing.T) {
	// DOMAIN 2.1 and 2.2: outside-maintenance, window-too-short, for what is near too.
	h := open(t, schedule.Rules{}).estate()
	h.define(nights)
	require.Empty(t, h.met(h.planned(on(window(23, 25), "db-01"))))
	require.Equal(t, []string{"outside-maintenance nights"}, h.met(h.draft(on(window(12, 13), "db-01"))))
	require.Equal(t, []string{"window-too-short nights"}, h.met(h.draft(on(window(22+48, 27+48), "db-01"))), "nights are four hours long")
	require.Equal(t, []string{"child-outside-maintenance nights"}, h.met(h.draft(on(window(12, 13), "host-1"))), "the database on it")
	require.Equal(t, []string{"parent-outside-maintenance nights"}, h.met(h.draft(on(window(12, 13), "shop"))), "the database it needs")
	h.planned(on(window(12, 13), "shop")) // these warn
	found, err := h.schedule.Conflicts(t.Context(), h.draft(on(window(12, 13), "db-01")))
	require.NoError(t, err)
	require.Equal(t, at(22), found.Timing.Next)

	opening, err := h.schedule.Open(t.Context(), "db-01", "", *window(12, 13))
	require.NoError(t, err)
	require.False(t, opening.Open)
	require.Equal(t, at(22), opening.Next)
	opening, err = h.schedule.Open(t.Context(), "shop", "", *window(12, 13))
	require.NoError(t, err)
	require.True(t, opening.Open)
	opening, err = h.schedule.OpenTo(t.Context(), schedule.Subject{Classes: []string{"database"}}, *window(23, 24))
	require.NoError(t, err)
	require.True(t, opening.Open)
	_, err = h.schedule.Open(t.Context(), "db-99", "", *window(12, 13))
	require.ErrorIs(t, err, cmdb.ErrUnknownCI)
}

func TestAWindowIsSaidOnceHoweverManyItIsAbout(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	h.define(yearEnd)
	id := h.draft(on(window(25, 26), "db-01", "host-1", "shop", "web-1"))
	found, err := h.schedule.Conflicts(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, []string{"blackout freeze"}, rules(found.Conflicts), "and what is near is not said again")
	require.Contains(t, found.Conflicts[0].Why, "db-01 and 3 more")
	require.Equal(t, []string{"blackout freeze"}, h.met(h.draft(on(window(25, 26)))), "everything is also what has no CI")
	near := yearEnd
	near.ID, near.Scope = "shop-freeze", schedule.Scope{CIs: []string{"shop"}}
	h.define(near)
	require.Equal(t, []string{"blackout freeze", "child-blackout shop-freeze"}, h.met(h.draft(on(window(25, 26), "db-01"))))
}

func TestWhatAWindowIsAboutCanComeFromTheDeploymentOrTheDeltas(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	production := yearEnd
	production.Scope = schedule.Scope{Environments: []string{"production"}, Classes: []string{"service"}}
	h.define(production)
	ask := func(o change.Occasion) []string {
		o.Window = *window(25, 26)
		found, err := h.schedule.ConflictsOf(t.Context(), o)
		require.NoError(t, err)
		return rules(found.Conflicts)
	}
	require.Empty(t, ask(change.Occasion{CIs: []string{"shop"}}))
	require.Equal(t, []string{"blackout freeze"}, ask(change.Occasion{CIs: []string{"shop"}, Environments: []string{"test", "production"}}))
	require.Empty(t, ask(change.Occasion{CIs: []string{"host-1"}, Environments: []string{"production"}}))
	require.Equal(t, []string{"blackout freeze"}, ask(change.Occasion{CIs: []string{"shop@production"}, Deltas: []cmdb.Delta{
		cmdb.Add("shop@production", "service", cmdb.Attr("environment", "production")),
	}}))
}

func TestAnAcceptedConflictIsListedAndBlocksNothing(t *testing.T) {
	h := open(t, schedule.Rules{Effects: map[string]schedule.Effects{
		schedule.AlreadyScheduled: {Authorize: change.Block},
	}}).estate()
	first := h.planned(on(window(10, 12), "db-01"))
	second := h.draft(on(window(11, 13), "db-01"))
	_, err := h.changes.Do(t.Context(), alice, second, change.Submit{})
	require.True(t, command.By(err, "ci-already-scheduled"), "%v", err)
	found, err := h.schedule.Conflicts(t.Context(), second)
	require.NoError(t, err)
	require.True(t, found.Conflicts[0].Stands())
	h.refused("until-too-soon", schedule.Accept{Conflict: found.Conflicts[0].ID, Change: second, Why: "we talked", Until: at(11.5)})
	_, err = h.schedule.Accept(t.Context(), carol, schedule.Accept{Conflict: found.Conflicts[0].ID, Change: second, Why: "we talked", Until: at(24)})
	require.NoError(t, err)
	h.do(second, change.Submit{})
	found, err = h.schedule.Conflicts(t.Context(), second)
	require.NoError(t, err)
	require.Equal(t, &change.Resolution{By: "carol", Why: "we talked", Until: at(24)}, found.Conflicts[0].Resolved)
	require.False(t, found.Conflicts[0].Stands())

	// It holds for what he saw, not for more of it, and for the one who has it, not
	// for the other.
	_, err = h.changes.Do(t.Context(), alice, first, change.Edit{Set: change.Content{Window: window(11.5, 12)}})
	require.True(t, command.By(err, "ci-already-scheduled"), "%v", err)
	found, err = h.schedule.Conflicts(t.Context(), first)
	require.NoError(t, err)
	require.Nil(t, found.Conflicts[0].Resolved)
	_, err = h.schedule.Accept(t.Context(), carol, schedule.Accept{Conflict: found.Conflicts[0].ID, Change: first, Why: "so it is", Until: at(24)})
	require.NoError(t, err)
	h.do(first, change.Edit{Set: change.Content{Window: window(11.5, 12)}})
	found, err = h.schedule.Conflicts(t.Context(), second)
	require.NoError(t, err)
	require.NotNil(t, found.Conflicts[0].Resolved, "less of it is covered")
	_, err = h.changes.Do(t.Context(), alice, first, change.Edit{Set: change.Content{Window: window(10, 12.5)}})
	require.True(t, command.By(err, "ci-already-scheduled"), "%v", err)
}

func TestADeploymentIsCoveredByWhatItsChangesAre(t *testing.T) {
	h := open(t, schedule.Rules{Effects: map[string]schedule.Effects{schedule.AlreadyScheduled: {Start: change.Block}}}).estate()
	h.define(yearEnd)
	first, second := h.draft(on(window(25, 27), "db-01")), h.draft(on(window(25, 27), "wiki"))
	o := change.Occasion{Point: change.ToDeploy, Release: "REL-000001", Window: *window(25, 26), CIs: []string{"db-01", "wiki"}, Apart: []string{first, second}}
	stands := func() []string {
		found, err := h.schedule.ConflictsOf(t.Context(), o)
		require.NoError(t, err)
		var all []string
		for _, c := range found.Conflicts {
			if c.Stands() {
				all = append(all, c.Rule+" "+c.With)
			}
		}
		return all
	}
	override := func(of string) {
		_, err := h.schedule.Override(t.Context(), carol, schedule.Override{Window: "freeze", Change: of, Why: "x", Until: at(26)})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"blackout freeze"}, stands())
	override(first)
	require.Equal(t, []string{"blackout freeze"}, stands(), "not for the second")
	override(second)
	require.Empty(t, stands())
	o.Apart = nil
	require.Equal(t, []string{"blackout freeze"}, stands(), "it carries out none of them")
	override("REL-000001")
	require.Empty(t, stands())

	o.Apart = []string{first, second}
	override("CHG-000003")
	other := h.planned(on(window(25, 26), "db-01"))
	require.Equal(t, []string{"ci-already-scheduled " + other}, stands())
	found, err := h.schedule.Conflicts(t.Context(), first)
	require.NoError(t, err)
	at := slices.IndexFunc(found.Conflicts, func(c change.Conflict) bool { return c.Rule == schedule.AlreadyScheduled })
	_, err = h.schedule.Accept(t.Context(), carol, schedule.Accept{Conflict: found.Conflicts[at].ID, Change: first, Why: "we talked"})
	require.NoError(t, err)
	require.Empty(t, stands(), "who accepted it for the change accepted it")
}

func TestWhoMayIsAsked(t *testing.T) {
	h := open(t, schedule.Rules{})
	h.define(yearEnd)
	for _, c := range []schedule.Command{
		schedule.DefineWindow{Window: yearEnd}, schedule.RetireWindow{Window: "freeze", Why: "x"},
		schedule.Override{Window: "freeze", Change: "CHG-000001", Why: "x", Until: at(100)},
		schedule.DeclareCapacity{Team: "dba", Most: 1}, schedule.Accept{Conflict: "0123", Change: "CHG-000001", Why: "x"},
	} {
		door, err := command.Open(command.Config{Store: h.store, Registry: h.registry, Authorizer: command.Roles{"dave": {command.Implementer}}})
		require.NoError(t, err)
		s, err := schedule.New(schedule.Config{Door: door, Store: h.store, Registry: h.registry, Follower: h.follow, CMDB: h.graph, Schedule: h.fold})
		require.NoError(t, err)
		_, err = s.Do(t.Context(), command.As("dave"), c)
		require.ErrorIs(t, err, command.ErrDenied, "%T", c)
		require.NoError(t, door.Close(t.Context()))
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	h := open(t, schedule.Rules{})
	whole := schedule.Config{Door: h.door, Store: h.store, Registry: h.registry, Follower: h.follow, CMDB: h.graph, Schedule: h.fold}
	_, err := schedule.New(whole)
	require.NoError(t, err)
	whole.Rules.Effects = map[string]schedule.Effects{"blackuot": {}}
	_, err = schedule.New(whole)
	require.ErrorContains(t, err, "blackuot")
	whole.Rules = schedule.Rules{Horizon: -time.Hour}
	_, err = schedule.New(whole)
	require.ErrorContains(t, err, "not negative")
	_, err = schedule.New(schedule.Config{})
	require.ErrorContains(t, err, "required")
}
