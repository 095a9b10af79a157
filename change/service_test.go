package change_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func TestAServiceNeedsWhatItStandsOn(t *testing.T) {
	_, err := change.New(change.Config{})
	require.ErrorContains(t, err, "Door")
	h := open(t, memory.New())
	_, err = change.New(change.Config{Door: h.door, Store: h.store, Registry: registry(t), Follower: h.follow})
	require.ErrorContains(t, err, "CMDB")
}

// DESIGN 1: unknown is not clear: every query that could not look returns an error,
// not an empty list.
func TestWhatCannotBeLookedUpIsAnError(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.Submit{})
	require.NoError(t, h.store.Close())
	ctx := t.Context()
	for name, ask := range map[string]func() (int, error){
		"get":      func() (int, error) { got, err := h.changes.Get(ctx, c.ID); return len(got.ID), err },
		"at":       func() (int, error) { got, err := h.changes.At(ctx, c.ID, 1); return len(got.ID), err },
		"history":  func() (int, error) { got, err := h.changes.History(ctx, c.ID); return len(got), err },
		"since":    func() (int, error) { got, err := h.changes.Since(ctx, c.ID, "bob"); return len(got), err },
		"next":     func() (int, error) { got, err := h.changes.Next(ctx, bob, c.ID); return len(got), err },
		"why":      func() (int, error) { got, err := h.changes.Why(ctx, bob, c.ID, change.Start{}); return len(got), err },
		"whyraise": func() (int, error) { got, err := h.changes.WhyRaise(ctx, alice, upgrade()); return len(got), err },
		"template": func() (int, error) { got, err := h.changes.Template(ctx, "x"); return len(got), err },
		"policy":   func() (int, error) { got, err := h.changes.PolicyText(ctx, "x", "1"); return len(got), err },
		"model":    func() (int, error) { got, _, err := h.changes.Model(ctx, "emergency", 0); return len(got.Phases), err },
		"version":  func() (int, error) { got, _, err := h.changes.Model(ctx, "emergency", 1); return len(got.Phases), err },
		"do": func() (int, error) {
			got, err := h.changes.Do(ctx, alice, c.ID, change.Note{Text: "x"})
			return len(got.ID), err
		},
		"raise": func() (int, error) { got, err := h.changes.Raise(ctx, alice, upgrade()); return len(got.ID), err },
		"publish": func() (int, error) {
			got, err := h.changes.Publish(ctx, carol, change.Models()[0])
			return int(got), err
		},
	} {
		got, err := ask()
		require.ErrorIs(t, err, eventstore.ErrClosed, name)
		require.Zero(t, got, name)
	}
}

func TestADoorThatIsClosedLetsNobodyIn(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade())
	require.NoError(t, h.door.Close(t.Context()))
	_, err := h.changes.Do(t.Context(), alice, c.ID, change.Submit{})
	require.ErrorIs(t, err, eventstore.ErrClosed)
	_, err = h.changes.Why(t.Context(), alice, c.ID, change.Submit{})
	require.ErrorIs(t, err, eventstore.ErrClosed, "that is not a yes")
	got, err := h.changes.Get(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, "draft", got.Phase)
}

// Conditions speak of facts by names that are always there.
func TestEveryFactHasItsNameAlsoWhereItIsNotKnown(t *testing.T) {
	names := []string{
		"answers", "backout", "benefit", "category", "change", "cis", "classes", "conflicts", "cost", "criticality", "degraded", "deltas", "environments",
		"group", "history", "impacted", "impacted_cis", "lead_time", "model", "origin", "outage", "planned", "template", "tested", "timed", "urgency",
	}
	sorted := func(facts map[string]any) []string {
		var all []string
		for name := range facts {
			all = append(all, name)
		}
		slices.Sort(all)
		return all
	}
	none := change.Facts{}.Map()
	require.Equal(t, names, sorted(none))
	require.Equal(t, "", none["cost"], "an amount that nobody has given is no 0")
	require.Equal(t, time.Duration(0), none["lead_time"])
	require.Equal(t, map[string]any{"critical": int64(0), "high": int64(0), "moderate": int64(0), "low": int64(0), "unknown": int64(0)}, none["criticality"])

	facts := change.Facts{
		Planned: true, LeadTime: change.Of(-time.Hour), Outage: 1 << 62, Cost: decimal("0.00"), Answers: []change.Answer{{Question: "q", Value: 3}},
		CIs: []change.FactCI{{ID: "b", Environment: "production"}}, Top: []change.FactCI{{ID: "a", Environment: "test"}, {ID: "c", Environment: "production"}},
		Criticality: []change.Counted{{Name: "high", Count: 2}}, Classes: []change.Counted{{Name: "database", Count: 1}}, Degraded: []string{"pool"},
		History: []change.History{{Of: "group:dba", Successful: 3, IncidentsMajor: 1}},
	}.Map()
	require.Equal(t, names, sorted(facts))
	require.Equal(t, -time.Hour, facts["lead_time"])
	require.Positive(t, facts["outage"], "longer than a duration can be is the longest")
	require.Equal(t, "0.00", facts["cost"])
	require.Equal(t, map[string]any{"q": int64(3)}, facts["answers"])
	require.Equal(t, []any{"production", "test"}, facts["environments"])
	require.Equal(t, []any{"a", "c"}, facts["impacted_cis"])
	require.Equal(t, []any{"pool"}, facts["degraded"])
	require.Equal(t, int64(2), facts["criticality"].(map[string]any)["high"])
	require.Equal(t, int64(0), facts["criticality"].(map[string]any)["low"])
	require.Equal(t, int64(1), facts["history"].(map[string]any)["group:dba"].(map[string]any)["incidents_p1"])
}
