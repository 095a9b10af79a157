package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/release"
)

// DOMAIN 3: starting a production deployment starts the change's implementation,
// finishing it finishes it, atomically; CIs get their versions from its events.
func TestAReleaseGoesThroughItsWholeLife(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"), cmdb.Set("shop", "description", "", "on 16"))
	r, err := h.releases.Plan(t.Context(), alice, release.Plan{Content: sixteen()}, release.Bind{Change: c.ID})
	require.NoError(t, err)
	require.Equal(t, "REL-000001", r.ID)
	require.Equal(t, "plan", r.Phase)
	require.Equal(t, change.CarryBound, h.change(c.ID).Releases[0].State)

	h.refused("wrong-phase", alice, r.ID, release.Deploy{Environment: "staging"})
	r = h.do(alice, r.ID, release.Advance{}, release.Advance{})
	require.Equal(t, "test", r.Phase)
	h.refused("wrong-phase", alice, r.ID, release.Deploy{Environment: "production"})
	r = h.deployed(r.ID, "staging")
	require.Equal(t, release.Finished, r.Deployments[0].State)
	require.Equal(t, "scheduled", h.change(c.ID).Phase, "only production carries changes out")
	require.Equal(t, map[string]string{"name": "orders", "environment": "staging", "version": "16"}, h.ci("db-01@staging").Attributes)
	require.Equal(t, "15", h.ci("db-01").Attributes["version"])

	r = h.do(alice, r.ID, release.Advance{}, release.Deploy{Environment: "production", Waves: []release.Wave{{Targets: []string{"node-1"}}, {Targets: []string{"node-2", "node-3"}}}})
	began := h.change(c.ID)
	require.Equal(t, "implement", began.Phase)
	require.Equal(t, change.CarryRunning, began.Releases[0].State)
	_, err = h.changes.Do(t.Context(), carol, c.ID, change.Hold{Reason: "wait"})
	require.ErrorContains(t, err, "deployment-running")

	h.refused("wave-not-begun", pipeline, r.ID, release.Report{Deployment: 2, ID: "2", Target: "node-2", Outcome: release.Successful})
	h.refused("wave-not-done", alice, r.ID, release.NextWave{Deployment: 2})
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "1", Target: "node-1", Outcome: release.Successful, Digest: digest})
	h.refused("not-finished", alice, r.ID, release.Finish{Deployment: 2})
	h.do(alice, r.ID, release.NextWave{Deployment: 2})
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "2", Target: "node-2", Outcome: release.Successful})
	h.refused("not-finished", alice, r.ID, release.Finish{Deployment: 2})
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "3", Target: "node-3", Outcome: release.Successful})
	h.clock.pass(time.Hour)
	r = h.do(alice, r.ID, release.Finish{Deployment: 2})
	require.True(t, r.Delivered())

	done := h.change(c.ID)
	require.Equal(t, "review", done.Phase)
	require.Equal(t, []string{"REL-000001/2"}, done.Work.Delivered)
	require.Empty(t, done.Work.Applied, "the deltas are the deployment's")
	require.Equal(t, "16", h.ci("db-01").Attributes["version"])
	require.Equal(t, "on 16", h.ci("shop").Attributes["description"], "what else the change planned comes with it")
	inForce, err := h.releases.Installed(t.Context(), "production", "db-01")
	require.NoError(t, err)
	require.Equal(t, "16", inForce.Version)
	require.True(t, inForce.Verified)
	require.Equal(t, 3, inForce.Successes)
	require.Equal(t, h.clock.now, inForce.Since)

	r = h.do(alice, r.ID, release.Advance{}, release.Close{})
	require.Equal(t, "closed", r.Phase)
	require.False(t, r.Open())
	h.refused("release-ended", alice, r.ID, release.Cancel{Reason: "late"})
	h.sound()

	history, err := h.releases.History(t.Context(), r.ID)
	require.NoError(t, err)
	require.Len(t, history, int(r.Version))
	for _, e := range history {
		t.Log(e)
	}
	notes, err := h.releases.Notes(t.Context(), r.ID)
	require.NoError(t, err)
	require.Equal(t, 3, notes.Deployments[1].Successful)
	require.Contains(t, notes.Markdown(), "CHG-000001")
}
