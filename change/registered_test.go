package change_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// receipt is a change that a pipeline gated and carried out an hour ago.
func receipt() change.Raise {
	return change.Raise{
		Model: "registered",
		Content: change.Content{
			Title:    "Pipeline 4711 deployed db-01",
			Deltas:   []cmdb.Delta{cmdb.Set("db-01", "version", "15", "15.2")},
			Evidence: []change.Evidence{{URL: "https://ci.example.com/4711"}},
		},
		Happened: change.Between(monday.Add(-time.Hour), monday.Add(-30*time.Minute)),
	}
}

// DOMAIN 1.1: registered goes recorded, closed: a receipt, recorded, not gated.
func TestARegisteredChangeTellsTheCMDBAtOnce(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(receipt())
	require.Equal(t, "recorded", c.Phase)
	require.Equal(t, receipt().Happened.Start, c.Work.Start)
	require.Equal(t, receipt().Happened.End, c.Work.End)
	require.Equal(t, receipt().Content.Deltas, c.Work.Applied)
	require.Nil(t, c.Authorized, "it claims no authority of its own")
	require.Empty(t, c.Approvals)
	ci, err := h.cmdb.Get(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, "15.2", ci.Attributes["version"])
	require.Equal(t, []string{"raised", "implemented"}, h.types(c.ID, 0))

	h.refused("wrong-phase", carol, c.ID, change.Start{})
	h.refused("wrong-phase", carol, c.ID, change.Cancel{Reason: "it has happened"})
	require.False(t, h.do(carol, c.ID, change.Close{}).Open(), "no review is asked for")
}

func TestARegisteredChangeIsRaisedAndClosedInOneAppend(t *testing.T) {
	h := open(t, memory.New()).estate()
	c, err := h.changes.Raise(t.Context(), carol, receipt(), change.Close{})
	require.NoError(t, err)
	require.False(t, c.Open())
	require.EqualValues(t, 3, c.Version)
}

func TestARegisteredChangeHappenedNowUnlessItSaysWhen(t *testing.T) {
	h := open(t, memory.New()).estate()
	r := receipt()
	r.Happened = nil
	c := h.raise(r)
	require.Equal(t, monday, c.Work.Start)
	require.Equal(t, monday, c.Work.End)
}

// DOMAIN 4.1: a fold never refuses; what does not fit any more is a discrepancy.
func TestARegisteredChangeIsNotAskedForPreconditions(t *testing.T) {
	h := open(t, memory.New()).estate()
	r := receipt()
	r.Content.Deltas = []cmdb.Delta{cmdb.Set("db-01", "version", "14", "15.2"), cmdb.Set("db-09", "version", "", "1")}
	h.raise(r)
	found, err := h.cmdb.Discrepancies(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 2)
	r.Content.Deltas = []cmdb.Delta{cmdb.Set("db-01", "colour", "", "red")}
	h.refusedRaise("unknown-attribute", alice, r)
}

func TestWhenItHappenedIsForReceiptsAndHasToMakeSense(t *testing.T) {
	h := open(t, memory.New()).estate()
	r := upgrade()
	r.Happened = change.Between(monday, monday)
	h.refusedRaise("not-a-receipt", alice, r)
	for name, happened := range map[string]*change.Window{
		"no start":           {End: monday},
		"no end":             {Start: monday},
		"end before start":   change.Between(monday, monday.Add(-time.Second)),
		"in the future":      change.Between(monday, monday.Add(time.Second)),
		"before the year 1":  change.Between(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), monday),
		"beyond year 9999":   change.Between(monday, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)),
		"beyond both limits": change.Between(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)),
	} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			r := receipt()
			r.Happened = happened
			rule := "interval-invalid"
			if name == "in the future" {
				rule = "in-the-future"
			}
			h.refusedRaise(rule, alice, r)
		})
	}
}
