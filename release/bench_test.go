package release_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/release"
)

// A release to production with its change, from the raise to the end, on the store
// in memory: nine commands in four appends.
func BenchmarkReleaseWithItsChange(b *testing.B) {
	h := open(b).estate(gated())
	b.ResetTimer()
	for i := range b.N {
		version := h.ci("db-01").Attributes["version"]
		c, err := h.changes.Raise(b.Context(), carol, change.Raise{Content: change.Content{
			Title: "Upgrade", Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", version, fmt.Sprint(100+i))}, Plans: change.Plans{Implementation: "i", Backout: "b"}}}, change.Submit{})
		require.NoError(b, err)
		c, err = h.changes.Do(b.Context(), bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
		require.NoError(b, err)
		content := sixteen()
		content.Components[0].To = fmt.Sprint(100 + i)
		_, err = h.releases.Plan(b.Context(), alice, release.Plan{Content: content, Process: "direct"},
			release.Bind{Change: c.ID}, release.Advance{}, release.Deploy{Environment: "production"},
			release.Report{Deployment: 1, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 1})
		require.NoError(b, err)
		_, err = h.changes.Do(b.Context(), dave, c.ID, change.Review{Outcome: change.Successful}, change.Close{})
		require.NoError(b, err)
	}
	b.ReportMetric(float64(h.recorded())/b.Elapsed().Seconds(), "events/s")
}
