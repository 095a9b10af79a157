package schedule_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
)

// asked returns the one conflict with a window that a deployment to db-01 and wiki
// has from ten to twelve.
func (h *house) asked() change.Conflict {
	h.t.Helper()
	found, err := h.schedule.ConflictsOf(h.t.Context(), change.Occasion{Point: change.ToDeploy, Release: "REL-1", Window: *window(10, 12), CIs: []string{"db-01", "wiki"}})
	require.NoError(h.t, err)
	require.Len(h.t, found.Conflicts, 1)
	return found.Conflicts[0]
}

func TestAnExceptionHoldsForWhatItsParentSaysNothingOf(t *testing.T) {
	// DOMAIN 2.1: a conflict and an opening are the same rule.
	h := open(t, schedule.Rules{}).estate()
	h.define(schedule.Window{ID: "W-1", Name: "maintenance", Kind: schedule.Allow, Scope: schedule.Scope{CIs: []string{"shop"}}, Start: "2026-03-02T00:00:00", End: "2026-03-03T00:00:00"})
	h.define(schedule.Window{ID: "W-2", Name: "of databases", Kind: schedule.Allow, Parent: "W-1", Scope: schedule.Scope{CIs: []string{"db-01"}}, Start: "2026-03-02T20:00:00", End: "2026-03-02T22:00:00"})
	opening, err := h.schedule.Open(t.Context(), "db-01", "normal", *window(10, 12))
	require.NoError(t, err)
	require.False(t, opening.Open)
	require.Equal(t, "outside-maintenance", h.asked().Rule)
	require.Equal(t, "W-2", h.asked().With)
	require.True(t, h.asked().Stands())
}

func TestAWindowHasTheStrongestEffectThatItHasOnACI(t *testing.T) {
	// DOMAIN 2.1. W-1 alone only warns, and allows db-01 and wiki; W-2 blocks, and allows wiki.
	h := open(t, schedule.Rules{}).estate()
	allow := func(id, start string, effect change.Effect, cis ...string) {
		h.define(schedule.Window{
			ID: id, Name: id, Kind: schedule.Allow, Scope: schedule.Scope{CIs: cis}, Start: start, Duration: change.Duration(time.Hour),
			Effects: schedule.Effects{Start: effect},
		})
	}
	allow("W-1", "2026-03-02T20:00:00", change.Warn, "db-01", "wiki")
	require.False(t, h.asked().Stands())
	allow("W-2", "2026-03-02T11:00:00", change.Block, "wiki")
	require.True(t, h.asked().Stands())

	// An override of W-2 is one for wiki, and not for db-01.
	h.override("W-2", schedule.Scope{Everything: true})
	require.Nil(t, h.asked().Resolved)
	h.override("W-1", schedule.Scope{CIs: []string{"db-01"}})
	require.NotNil(t, h.asked().Resolved)
}

func TestAConflictLastsFromTheFirstTimeToTheLast(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	deny := schedule.Window{ID: "W-1", Name: "freeze", Kind: schedule.Deny, Scope: schedule.Scope{Everything: true}, Start: "2026-03-02T10:15:00", Duration: change.Duration(15 * time.Minute)}
	h.define(deny)
	id := h.draft(on(window(10, 12), "db-01"))
	found, err := h.schedule.Conflicts(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, *window(10.25, 10.5), found.Conflicts[0].Overlap)
	_, err = h.schedule.Accept(t.Context(), carol, schedule.Accept{Conflict: found.Conflicts[0].ID, Change: id, Why: "we talked"})
	require.NoError(t, err)

	// Once more within it: whoever accepted the first time has not seen that.
	deny.Dates = []string{"2026-03-02T11:00:00"}
	h.define(deny)
	found, err = h.schedule.Conflicts(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, *window(10.25, 11.25), found.Conflicts[0].Overlap)
	require.Nil(t, found.Conflicts[0].Resolved)
}

func (h *house) override(window string, scope schedule.Scope) {
	h.t.Helper()
	_, err := h.schedule.Override(h.t.Context(), carol, schedule.Override{Window: window, Scope: scope, Why: "we talked", Until: at(24)})
	require.NoError(h.t, err)
}
