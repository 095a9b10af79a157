package change_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// begun is an upgrade whose work has begun at monday plus an hour.
func begun(t *testing.T) (*house, change.Change) {
	h := open(t, memory.New()).estate()
	r := upgrade()
	r.Content.Deltas = append(r.Content.Deltas, cmdb.Set("db-01", "engine", "", "postgresql"))
	c := h.raise(r, change.Submit{})
	h.approve(bob, c.ID, "cab")
	h.clock.pass(time.Hour)
	return h, h.do(dave, c.ID, change.Start{})
}

func (h *house) attribute(name string) string {
	h.t.Helper()
	ci, err := h.cmdb.Get(h.t.Context(), "db-01")
	require.NoError(h.t, err)
	return ci.Attributes[name]
}

// What was planned counts as applied unless the completion says otherwise; the CMDB
// is told what was applied (DOMAIN 4.1).
func TestTheCMDBIsToldWhatWasApplied(t *testing.T) {
	for name, c := range map[string]struct {
		complete        change.Complete
		version, engine string
	}{
		"what was planned":             {change.Complete{}, "16", "postgresql"},
		"a part of it":                 {change.Complete{Applied: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")}}, "16", ""},
		"something else":               {change.Complete{Applied: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "15.9")}}, "15.9", ""},
		"nothing":                      {change.Complete{Applied: []cmdb.Delta{}}, "15", ""},
		"backed out":                   {change.Complete{BackedOut: true}, "15", ""},
		"backed out but for one delta": {change.Complete{BackedOut: true, Applied: []cmdb.Delta{cmdb.Set("db-01", "engine", "", "pg")}}, "15", "pg"},
	} {
		t.Run(name, func(t *testing.T) {
			h, at := begun(t)
			require.Equal(t, "15", h.attribute("version"), "what has begun is not done")
			done := h.do(dave, at.ID, c.complete)
			require.Equal(t, "review", done.Phase)
			require.Equal(t, c.complete.BackedOut, done.Work.BackedOut)
			require.Equal(t, c.version, h.attribute("version"))
			require.Equal(t, c.engine, h.attribute("engine"))
			history, err := h.cmdb.History(t.Context(), "db-01")
			require.NoError(t, err)
			if last := history[len(history)-1]; c.version != "15" || c.engine != "" {
				require.Equal(t, at.ID, last.Cause, "it is put down to the change")
			}
		})
	}
}

func TestWhatWasAppliedHasToFitTheCMDB(t *testing.T) {
	h, c := begun(t)
	h.refused("precondition-failed", dave, c.ID, change.Complete{Applied: []cmdb.Delta{cmdb.Set("db-01", "version", "14", "16")}})
	h.refused("unknown-attribute", dave, c.ID, change.Complete{Applied: []cmdb.Delta{cmdb.Set("db-01", "colour", "", "red")}})
	h.refused("unknown-ci", dave, c.ID, change.Complete{Applied: []cmdb.Delta{cmdb.Set("db-99", "version", "", "1")}})
	h.refused("delta-malformed", dave, c.ID, change.Complete{Applied: []cmdb.Delta{{}}})
	h.do(dave, c.ID, change.Complete{})
}

// DOMAIN 1.2: actual start and end.
func TestTheActualTimesAreThoseThatAreGiven(t *testing.T) {
	h, c := begun(t)
	h.clock.pass(2 * time.Hour)
	require.Equal(t, monday.Add(time.Hour), c.Started.At)
	require.Equal(t, "dave", c.Started.By)
	zone := time.FixedZone("", 3600)
	done := h.do(dave, c.ID, change.Complete{Start: monday.Add(30 * time.Minute).In(zone), End: monday.Add(90 * time.Minute).In(zone)})
	require.Equal(t, monday.Add(30*time.Minute), done.Work.Start)
	require.Equal(t, monday.Add(90*time.Minute), done.Work.End)

	h, c = begun(t)
	h.clock.pass(2 * time.Hour)
	done = h.do(dave, c.ID, change.Complete{})
	require.Equal(t, monday.Add(time.Hour), done.Work.Start, "since it was started")
	require.Equal(t, monday.Add(3*time.Hour), done.Work.End, "until now")
	require.Zero(t, done.Work.ReviewBy, "a review of what was authorised has no deadline")
}

// DOMAIN 1.2: outcome at review; the last review before the close counts.
func TestTheLastReviewCounts(t *testing.T) {
	h, c := begun(t)
	h.refused("wrong-phase", erin, c.ID, change.Review{Outcome: change.Successful})
	h.do(dave, c.ID, change.Complete{})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	c = h.do(erin, c.ID, change.Review{Outcome: change.Unsuccessful, Notes: "it came back"})
	require.Equal(t, change.Unsuccessful, c.Reviewed.Outcome)
	require.Equal(t, monday.Add(time.Hour), c.Reviewed.At)
	c = h.do(carol, c.ID, change.Close{})
	h.refused("change-ended", erin, c.ID, change.Review{Outcome: change.Successful})
	require.Equal(t, change.Unsuccessful, c.Reviewed.Outcome)
}
