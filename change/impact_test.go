package change_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// What is recorded of an impact is bounded, however far it reaches; all of it is
// counted.
func TestALongImpactIsCountedWholeAndListedInPart(t *testing.T) {
	h := open(t, memory.New())
	const chain = 300
	deltas := []cmdb.Delta{cmdb.Add("ci-000", "server")}
	for i := 1; i <= chain; i++ {
		level := "low"
		if i == chain {
			level = "critical"
		}
		name := fmt.Sprintf("ci-%03d", i)
		deltas = append(deltas, cmdb.Add(name, "server", cmdb.Attr("criticality", level)), cmdb.Relate(name, "depends on", fmt.Sprintf("ci-%03d", i-1)))
	}
	_, err := h.cmdb.Record(t.Context(), carol, deltas...)
	require.NoError(t, err)
	c := h.raise(change.Raise{Content: change.Content{Title: "Restart", CIs: []string{"ci-000"}}}, change.Submit{})
	require.Equal(t, chain, c.Impact.Count)
	require.Len(t, c.Impact.Top, 50)
	require.Len(t, c.Impact.Rest, 64)
	first := c.Impact.Top[0]
	require.Equal(t, "ci-300", first.ID, "the most important first, however far")
	require.Equal(t, 300, first.Depth)
	require.Len(t, first.Path, 20)
	require.Equal(t, chain-20, first.Cut)
	require.Equal(t, cmdb.Step{From: "ci-000", Relation: "used by", To: "ci-001"}, first.Path[0])
	require.Equal(t, cmdb.Step{From: "ci-299", Relation: "used by", To: "ci-300"}, first.Path[19])
	require.Equal(t, "ci-001", c.Impact.Top[1].ID)
	require.Zero(t, c.Impact.Top[1].Cut)
	require.Equal(t, chain, c.Risk.Facts.Impacted)
	require.Equal(t, []change.Counted{{Name: "critical", Count: 1}, {Name: "low", Count: chain - 1}, {Name: "unknown", Count: 1}}, c.Risk.Facts.Criticality)
}
