package automation_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func (h *house) drift(alter ...func(*automation.DriftConfig)) automation.DriftConfig {
	c := automation.DriftConfig{Changes: h.Changes, CMDB: h.CMDB, Door: h.Door, WaitFor: h.WaitFor, Classes: []string{"database"}}
	for _, f := range alter {
		f(&c)
	}
	return c
}

// found returns the unauthorized changes.
func (h *house) found() []change.Change {
	h.t.Helper()
	all, err := h.Changes.List(context.Background(), change.Filter{Model: "unauthorized"})
	require.NoError(h.t, err)
	return all
}

// DOMAIN 4.6: an unattributed delta on a governed class raises an unauthorized change.
func TestWhatNoChangeExplainsRaisesAnUnauthorizedChange(t *testing.T) {
	h := estate(t)
	h.observe("scan", sees("db-01", "16"), sees("db-02", "17"))
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Len(t, h.found(), 1, "one change for an event")
	c := h.found()[0]
	require.Equal(t, "Drift on db-01 and 1 more", c.Title)
	require.Equal(t, []string{"db-01", "db-02"}, c.CIs)
	require.Empty(t, c.Deltas, "they are in the CMDB already")
	require.Equal(t, change.Origin{Kind: "drift", Reference: "scan"}, c.Origin)
	require.Equal(t, automation.Actor, c.Requester)
	require.Equal(t, "authorize", c.Phase, "somebody has to say that it was right, or not")
	require.Equal(t, `Source scan reported what no change explains, seen at 2026-03-02 09:00 UTC:
- it has set version of db-01 from "15" to "16": no change names it
- it has set version of db-02 from "15" to "17": no change names it
`, c.Description)

	require.Empty(t, h.again(automation.Drift(h.drift())))
	renamed := h.drift(func(c *automation.DriftConfig) { c.Name = "another" })
	require.Empty(t, h.again(automation.Drift(renamed)), "another consumer finds the change of the first")
	require.Len(t, h.found(), 1)
}

func TestWhatAChangeExplainsIsNoDriftAndWhatItDoesNotSaysWhy(t *testing.T) {
	type step = func(h *house, id string)
	wait := func(d time.Duration) step { return func(h *house, _ string) { h.clock.Advance(d) } }
	start := func(h *house, id string) { h.do(dave, id, change.Start{}) }
	complete := func(c change.Complete) step { return func(h *house, id string) { h.do(dave, id, c) } }
	nothing := change.Complete{Applied: []cmdb.Delta{}}
	for name, c := range map[string]struct {
		steps   []step
		version string // that is seen on db-01; default 16
		nearest string // none: it is explained
	}{
		"at work":                      {steps: []step{wait(time.Hour), start}},
		"at work beyond its window":    {steps: []step{wait(time.Hour), start, wait(5 * time.Hour)}},
		"at work before its window":    {steps: []step{start}},
		"in its window, not started":   {steps: []step{wait(90 * time.Minute)}},
		"at the window's start":        {steps: []step{wait(time.Hour)}},
		"quiet after the window":       {steps: []step{wait(2*time.Hour + 14*time.Minute)}},
		"quiet after the work":         {steps: []step{wait(time.Hour), start, complete(nothing), wait(14 * time.Minute)}},
		"set back while at work":       {steps: []step{wait(time.Hour), start, func(h *house, _ string) { h.observe("scan", sees("db-01", "16")) }}, version: "15"},
		"early":                        {steps: []step{wait(59 * time.Minute)}, nearest: "early for CHG-000001, which plans it from 2026-03-02 10:00 UTC"},
		"late for the window":          {steps: []step{wait(2*time.Hour + 15*time.Minute)}, nearest: "late for CHG-000001, which planned it until 2026-03-02 11:15 UTC"},
		"late for the work":            {steps: []step{wait(time.Hour), start, complete(nothing), wait(15 * time.Minute)}, nearest: "late for CHG-000001, which planned it until 2026-03-02 10:15 UTC"},
		"another value":                {steps: []step{wait(time.Hour), start}, version: "17", nearest: "CHG-000001 plans another value"},
		"not authorised any more":      {steps: []step{func(h *house, id string) { h.do(carol, id, change.Revert{Reason: "x"}) }, wait(90 * time.Minute)}, nearest: `CHG-000001 plans it and was not authorised, in phase "draft"`},
		"on hold":                      {steps: []step{func(h *house, id string) { h.do(carol, id, change.Hold{Reason: "x"}) }, wait(90 * time.Minute)}, nearest: `CHG-000001 plans it and was not authorised, in phase "scheduled"`},
		"cancelled":                    {steps: []step{func(h *house, id string) { h.do(alice, id, change.Cancel{Reason: "x"}) }, wait(90 * time.Minute)}, nearest: "CHG-000001 planned it and was cancelled"},
		"another attribute than plans": {steps: []step{func(h *house, id string) { h.do(alice, id, change.Cancel{Reason: "x"}) }, func(h *house, _ string) { h.approved(cmdb.Set("db-01", "criticality", "high", "low")) }, wait(90 * time.Minute)}, nearest: "CHG-000001 planned it and was cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			h := estate(t)
			id := h.approved().ID
			for _, s := range c.steps {
				s(h, id)
			}
			if c.version == "" {
				c.version = "16"
			}
			h.observe("scan", sees("db-01", c.version))
			require.Empty(t, h.drive(automation.Drift(h.drift())))
			if c.nearest == "" {
				require.Empty(t, h.found())
				return
			}
			require.Len(t, h.found(), 1)
			require.Contains(t, h.found()[0].Description, ": "+c.nearest+"\n")
		})
	}
}

func TestAChangeUnderWayThatDoesNotPlanItIsNamedAsTheNearest(t *testing.T) {
	h := estate(t)
	id := h.approved(cmdb.Set("db-01", "criticality", "high", "low")).ID
	h.do(dave, id, change.Start{})
	h.observe("scan", sees("db-01", "16"))
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Contains(t, h.found()[0].Description, "extra: CHG-000001 is under way and does not plan it")
}

func TestABackedOutChangeExplainsThatItWasSetBack(t *testing.T) {
	h := estate(t)
	id := h.approved().ID
	h.clock.Advance(time.Hour)
	h.do(dave, id, change.Start{})
	h.observe("scan", sees("db-01", "16"))
	h.do(dave, id, change.Complete{BackedOut: true})
	h.observe("scan", sees("db-01", "15"))
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Empty(t, h.found())

	h = estate(t)
	id = h.approved().ID
	h.clock.Advance(time.Hour)
	h.do(dave, id, change.Start{})
	h.do(dave, id, change.Complete{})
	h.observe("scan", sees("db-01", "15"))
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Len(t, h.found(), 1, "one that was not backed out does not")
}

// What counts is how changes stood when it was observed: a handler that comes to the
// event late, or another time, says the same.
func TestHowChangesStandWhenTheEventIsHandledDoesNotMatter(t *testing.T) {
	h := estate(t)
	id := h.approved().ID
	h.clock.Advance(time.Hour)
	h.do(dave, id, change.Start{})
	h.observe("scan", sees("db-01", "16"))
	h.do(dave, id, change.Complete{Applied: []cmdb.Delta{}})
	h.do(erin, id, change.Review{Outcome: change.Successful}, change.Note{Text: "x"})
	h.do(carol, id, change.Close{})
	h.clock.Advance(24 * time.Hour)
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Empty(t, h.found(), "it was at work then")

	h = estate(t)
	h.observe("scan", sees("db-01", "16"))
	h.clock.Advance(time.Minute)
	late := h.approved(cmdb.Set("db-01", "version", "16", "16.1"), cmdb.Set("db-01", "criticality", "high", "low"))
	h.do(dave, late.ID, change.Start{})
	cover := h.approved(cmdb.Set("db-02", "version", "15", "16"))
	require.NotEmpty(t, cover.ID)
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Len(t, h.found(), 1)
	require.Contains(t, h.found()[0].Description, "no change names it", "a change that was raised afterwards does not cover it")
}

func TestTheFirstImportOfAnEstateRaisesNothing(t *testing.T) {
	h := estate(t)
	var items []cmdb.ObservedItem
	for i := range 600 {
		item := sees(fmt.Sprintf("pg-%03d", i), "16")
		if i > 0 {
			item.Relations = []cmdb.ObservedRelation{{Relation: "depends on", To: fmt.Sprintf("pg-%03d", i-1)}}
		}
		items = append(items, item)
	}
	done := h.observe("scan", items...)
	require.Equal(t, 600, done.Added)
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Empty(t, h.found())

	// A minute later the source has looked again: that still belongs to it.
	h.clock.Advance(time.Minute)
	items[1].Attributes = map[string]string{"version": "16.1"}
	h.observe("scan", items...)
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Empty(t, h.found())

	// After an hour it does not.
	h.clock.Advance(time.Hour)
	items[1].Attributes = map[string]string{"version": "16.2"}
	items[2].Relations = nil
	h.observe("scan", items...)
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	var text strings.Builder
	for _, c := range h.found() {
		text.WriteString(c.Description)
	}
	require.Contains(t, text.String(), `set version of pg-001 from "16.1" to "16.2"`)
	require.Contains(t, text.String(), `recorded that pg-002 no longer depends on pg-001`)
}

func TestWhatIsAddedCountsWhereTheConfigSaysSo(t *testing.T) {
	h := estate(t)
	h.observe("scan", sees("db-03", "16"))
	added := h.drift(func(c *automation.DriftConfig) { c.Added = true })
	require.Empty(t, h.drive(automation.Drift(added)))
	require.Len(t, h.found(), 1)
	require.Equal(t, []string{"db-03"}, h.found()[0].CIs)

	h = estate(t)
	planned := h.approved(cmdb.Add("db-03", "database", cmdb.Attr("version", "15")))
	h.do(dave, planned.ID, change.Start{})
	h.observe("scan", sees("db-03", "16"))
	require.Empty(t, h.drive(automation.Drift(h.drift(func(c *automation.DriftConfig) { c.Added = true }))))
	require.Empty(t, h.found(), "a change adds it")
}

func TestOnlyWhatIsGovernedIsDrift(t *testing.T) {
	shop := cmdb.ObservedItem{Key: "shop", CI: "shop", Class: "service", Attributes: map[string]string{"criticality": "low"}}
	for name, c := range map[string]struct {
		alter func(*automation.DriftConfig)
		cis   []string
	}{
		"a class":        {func(*automation.DriftConfig) {}, []string{"db-01"}},
		"the root class": {func(c *automation.DriftConfig) { c.Classes = []string{cmdb.RootClass} }, []string{"db-01", "shop"}},
		"another class":  {func(c *automation.DriftConfig) { c.Classes = []string{"server"} }, nil},
		"by a function": {func(c *automation.DriftConfig) {
			c.Classes = nil
			c.Governs = func(ci cmdb.CI) bool { return ci.ID == "shop" }
		}, []string{"shop"}},
		"by either": {func(c *automation.DriftConfig) { c.Governs = func(ci cmdb.CI) bool { return ci.ID == "shop" } }, []string{"db-01", "shop"}},
		"with exceptions": {func(c *automation.DriftConfig) {
			c.Classes, c.Except = []string{cmdb.RootClass}, func(d cmdb.Delta) bool { return d.Attribute == "version" }
		}, []string{"shop"}},
		"by an attribute": {func(c *automation.DriftConfig) {
			c.Classes = nil
			c.Governs = func(ci cmdb.CI) bool { return ci.Attributes["criticality"] == "high" }
		}, []string{"db-01"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := estate(t)
			h.observe("scan", sees("db-01", "16"), shop)
			require.Empty(t, h.drive(automation.Drift(h.drift(c.alter))))
			var cis []string
			for _, c := range h.found() {
				cis = append(cis, c.CIs...)
			}
			require.Equal(t, c.cis, cis)
		})
	}
}

func TestAnEventOfManyDeltasIsOneChangeThatFits(t *testing.T) {
	h := estate(t)
	var add, seen []cmdb.Delta
	for i := range 450 {
		id := fmt.Sprintf("db-%s-%03d", strings.Repeat("x", 150), i)
		add = append(add, cmdb.Add(id, "database", cmdb.Attr("version", "15")))
		seen = append(seen, cmdb.Set(id, "version", "15", strings.Repeat("\"", 200)))
	}
	_, err := h.CMDB.Record(t.Context(), carol, add...)
	require.NoError(t, err)
	_, err = h.Door.Do(t.Context(), command.Call{Actor: carol, Action: cmdb.ActionImport}, func(tx *command.Tx) error {
		require.NoError(t, tx.Authorize(cmdb.ActionImport, "scan", nil))
		return tx.RecordBlind("source-scan", cmdb.Observed{Source: "scan", Deltas: seen})
	})
	require.NoError(t, err)
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Len(t, h.found(), 1)
	c := h.found()[0]
	require.Equal(t, 200, len(c.CIs))
	require.Contains(t, c.Description, "And 350 more")
	require.Contains(t, c.Description, "250 further CIs")
	require.LessOrEqual(t, len(c.Description), 32_768)
	t.Logf("450 deltas of long CIs: %d bytes of text", len(c.Description))
}

// A handler in one process sees what another process has recorded by the event's
// position.
func TestChangesOfAnotherProcessExplain(t *testing.T) {
	store := memory.New()
	first := open(t, store, staff())
	defer func() { require.NoError(t, first.Close()) }()
	first.furnish()
	second := open(t, store, staff())
	defer func() { require.NoError(t, second.Close()) }()
	c := first.approved()
	first.do(dave, c.ID, change.Start{})
	first.observe("scan", sees("db-01", "16"), sees("db-02", "16"))
	var asked eventstore.Position
	config := second.drift(func(c *automation.DriftConfig) {
		c.WaitFor = func(ctx context.Context, p eventstore.Position) error { asked = p; return second.WaitFor(ctx, p) }
	})
	require.Empty(t, second.drive(automation.Drift(config)))
	require.NotZero(t, asked)
	require.Equal(t, [][]string{{"db-02"}}, [][]string{second.found()[0].CIs})
}

func TestDriftThatCannotBeMeantIsRefusedWhenItIsBuilt(t *testing.T) {
	h := estate(t)
	for name, alter := range map[string]func(*automation.DriftConfig){
		"nothing is governed": func(c *automation.DriftConfig) { c.Classes = nil },
		"no service":          func(c *automation.DriftConfig) { c.Changes = nil },
		"no CMDB":             func(c *automation.DriftConfig) { c.CMDB = nil },
		"no door":             func(c *automation.DriftConfig) { c.Door = nil },
		"nothing to wait by":  func(c *automation.DriftConfig) { c.WaitFor = nil },
		"a negative time":     func(c *automation.DriftConfig) { c.NewFor = -1 },
	} {
		_, err := automation.Drift(h.drift(alter))
		require.Error(t, err, name)
	}
}

// A release that carries a change out has it at work: what is seen on the way is
// explained by the change.
func TestWhatAReleaseDeliversIsExplainedByItsChange(t *testing.T) {
	roles := staff()
	roles["rita"] = []command.Role{command.ReleaseManager}
	rita := command.As("rita")
	for _, running := range []bool{false, true} {
		h := open(t, memory.New(), roles).furnish()
		id := h.approved().ID
		h.do(rita, id, change.Carry{Release: "REL-000001", State: change.CarryBound})
		if running {
			h.do(rita, id, change.Carry{Release: "REL-000001", Deployment: 1, State: change.CarryRunning})
		}
		h.observe("scan", sees("db-01", "16"))
		require.Empty(t, h.drive(automation.Drift(h.drift())))
		if found := h.found(); running {
			require.Empty(t, found)
		} else {
			require.Contains(t, found[0].Description, "early for CHG-000001", "while it is only bound")
		}
		require.NoError(t, h.Close())
	}
}
