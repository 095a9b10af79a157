package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/release"
)

// DOMAIN 3: verification limits; rollback sets a hold; nothing promotes past it until
// a person lifts it.
func TestAFailedVerificationIsRolledBackAndHeld(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.deployed(r.ID, "staging")
	h.do(alice, r.ID, release.Deploy{Environment: "production", Waves: []release.Wave{{Targets: []string{"a", "b"}}}})
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "1", Target: "a", Outcome: release.Successful})
	r = h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "2", Target: "b", Outcome: release.Unsuccessful, Detail: "it does not answer"})
	require.Equal(t, release.Failed, r.Deployments[1].State, "no failure is allowed")
	require.Contains(t, r.Deployments[1].Why, "failed: 1")
	require.Equal(t, change.CarryFailed, h.change(c.ID).Releases[0].State)
	require.Equal(t, "15", h.ci("db-01").Attributes["version"])
	inForce, err := h.releases.Installed(t.Context(), "production", "db-01")
	require.NoError(t, err)
	require.Nil(t, inForce.Busy)

	r = h.do(alice, r.ID, release.Rollback{Environment: "production", Reason: "it does not answer"})
	require.Equal(t, 2, r.Deployments[2].RollsBack)
	require.Equal(t, "15", r.Deployments[2].Items[0].After)
	require.Equal(t, "production", r.Holds[0].Environment)
	require.Equal(t, change.CarryRunning, h.change(c.ID).Releases[0].State)
	h.refused("environment-busy", alice, r.ID, release.Deploy{Environment: "production"})
	h.refused("deployment-running", alice, r.ID, release.Lift{Environment: "production", Reason: "quick"})
	h.do(pipeline, r.ID, release.Report{Deployment: 3, ID: "1", Target: "a", Outcome: release.Successful}, release.Report{Deployment: 3, ID: "2", Target: "b", Outcome: release.Successful})
	h.do(alice, r.ID, release.Finish{Deployment: 3})
	done := h.change(c.ID)
	require.True(t, done.Work.BackedOut)
	require.Equal(t, "review", done.Phase)
	require.Equal(t, "15", h.ci("db-01").Attributes["version"])

	next := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	h.do(alice, r.ID, release.Unbind{Change: c.ID}, release.Bind{Change: next.ID})
	h.refused("on-hold", alice, r.ID, release.Deploy{Environment: "production"})
	h.refused("already-rolled-back", alice, r.ID, release.Rollback{Environment: "production", Reason: "again"})
	r = h.do(alice, r.ID, release.Lift{Environment: "production", Reason: "the cable was out"})
	require.Empty(t, r.Holds)
	h.refused("not-on-hold", alice, r.ID, release.Lift{Environment: "production", Reason: "the cable was out"})
	r = h.deployed(r.ID, "production")
	require.True(t, r.Delivered())
	require.Equal(t, "16", h.ci("db-01").Attributes["version"])
	require.Equal(t, "review", h.change(next.ID).Phase)
	h.sound()
}

// A version that was rolled back is held for every release that brings it; another
// version goes on.
func TestAHeldVersionIsHeldForOtherReleasesToo(t *testing.T) {
	h := open(t).estate(road())
	bad := h.plan(sixteen())
	h.deployed(bad.ID, "staging")
	h.do(alice, bad.ID, release.Rollback{Environment: "staging", Reason: "it loses rows"})
	h.do(pipeline, bad.ID, release.Report{Deployment: 2, ID: "1", Target: "staging", Outcome: release.Successful}, release.Finish{Deployment: 2})
	inForce, err := h.releases.Installed(t.Context(), "staging", "db-01")
	require.NoError(t, err)
	require.Empty(t, inForce.Version, "there was none before")
	require.True(t, h.ci("db-01@staging").Retired, "the deployment had added it")

	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	other := h.plan(sixteen(), release.Bind{Change: c.ID})
	refused := h.refused("on-hold", alice, other.ID, release.Deploy{Environment: "production"})
	require.Contains(t, refused.Error(), bad.ID)
	h.refused("on-hold", alice, other.ID, release.Deploy{Environment: "staging"})
	better := sixteen()
	better.Components[0].To = "16.1"
	h.deployed(h.plan(better).ID, "staging")

	h.do(alice, bad.ID, release.Cancel{Reason: "it loses rows"})
	h.refused("on-hold", alice, other.ID, release.Deploy{Environment: "staging"})
	h.do(alice, bad.ID, release.Lift{Environment: "staging", Reason: "it was the disk"})
	h.deployed(other.ID, "staging")
	h.deployed(other.ID, "production")
	h.sound()
}

// A rollback aborts what is under way, goes to a version that has been there, and
// undoes only what is in force.
func TestWhereARollbackGoes(t *testing.T) {
	h := open(t).estate(road())
	versions := []string{"16", "17", "18"}
	var ids []string
	for _, v := range versions {
		content := sixteen()
		content.Components[0].To = v
		r := h.plan(content)
		ids = append(ids, r.ID)
		h.deployed(r.ID, "staging")
		h.clock.pass(time.Hour)
	}
	h.refused("not-in-force", alice, ids[1], release.Rollback{Environment: "staging", Reason: "no"})
	h.refused("never-installed", alice, ids[2], release.Rollback{Environment: "staging", To: "3", Reason: "no"})
	h.refused("same-version", alice, ids[2], release.Rollback{Environment: "staging", To: "18", Reason: "no"})
	h.refused("reason-required", alice, ids[2], release.Rollback{Environment: "staging"})
	h.refused("unknown-deployment", alice, ids[2], release.Rollback{Environment: "production", Reason: "no"})
	h.refused("unknown-deployment", alice, ids[2], release.Rollback{Environment: "staging", Deployment: 9, Reason: "no"})
	h.refused("unknown-environment", alice, ids[2], release.Rollback{Environment: "moon", Reason: "no"})
	r := h.do(alice, ids[2], release.Rollback{Environment: "staging", To: "16", Reason: "17 is no better"})
	require.Equal(t, "16", r.Deployments[1].Items[0].After)
	h.refused("environment-busy", alice, ids[0], release.Deploy{Environment: "staging"})

	r = h.do(alice, ids[2], release.Abort{Deployment: 2, Reason: "wrong one"})
	require.Equal(t, release.Aborted, r.Deployments[1].State)
	h.do(alice, ids[2], release.Lift{Environment: "staging", Reason: "not rolled back after all"})
	r = h.do(alice, ids[2], release.Retry{Deployment: 2})
	require.Len(t, r.Holds, 1, "a rollback that is tried again holds again")
	require.Equal(t, 1, r.Deployments[2].RollsBack)
	require.Equal(t, 2, r.Deployments[2].Retries)
	require.Equal(t, "16", r.Deployments[2].Items[0].After)
	r = h.do(pipeline, ids[2], release.Report{Deployment: 3, ID: "1", Target: "staging", Outcome: release.Successful}, release.Finish{Deployment: 3})
	inForce, err := h.releases.Installed(t.Context(), "staging", "db-01")
	require.NoError(t, err)
	require.Equal(t, "16", inForce.Version)
	require.Len(t, inForce.Withheld, 1)
	require.Equal(t, "18", inForce.Withheld[0].Version)
	require.Equal(t, "16", h.ci("db-01@staging").Attributes["version"])

	// What is under way when it is rolled back is aborted with it.
	content := sixteen()
	content.Components[0].To = "19"
	last := h.plan(content)
	h.do(alice, last.ID, release.Deploy{Environment: "staging"})
	last = h.do(alice, last.ID, release.Rollback{Environment: "staging", Reason: "stop"})
	require.Equal(t, release.Aborted, last.Deployments[0].State)
	require.Equal(t, release.Running, last.Deployments[1].State)
	h.sound()
	require.NotEmpty(t, r.ID)
}

// A production rollback after the change is complete: the change learns of it while
// it is open, and has to be in force.
func TestARollbackOfWhatWasDelivered(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.deployed(r.ID, "staging")
	r = h.deployed(r.ID, "production")
	require.Equal(t, "review", h.change(c.ID).Phase)
	h.do(alice, r.ID, release.Rollback{Environment: "production", Reason: "slow"})
	r = h.do(pipeline, r.ID, release.Report{Deployment: 3, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 3})
	require.False(t, r.Delivered())
	require.Equal(t, change.CarryBackedOut, h.change(c.ID).Releases[0].State)
	require.Equal(t, "15", h.ci("db-01").Attributes["version"])
	h.sound()
}

func TestAChangeThatIsClosedCoversNoRollback(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.deployed(r.ID, "staging")
	h.deployed(r.ID, "production")
	_, err := h.changes.Do(t.Context(), dave, c.ID, change.Review{Outcome: change.Successful}, change.Close{})
	require.NoError(t, err)
	h.refused("change-authorized", alice, r.ID, release.Rollback{Environment: "production", Reason: "slow"})
	back := h.authorised(cmdb.Set("db-01", "version", "16", "15"))
	h.do(alice, r.ID, release.Bind{Change: back.ID})
	h.do(alice, r.ID, release.Rollback{Environment: "production", Reason: "slow"})
	require.Equal(t, "implement", h.change(back.ID).Phase)
	h.do(pipeline, r.ID, release.Report{Deployment: 3, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 3})
	done := h.change(back.ID)
	require.Equal(t, "review", done.Phase)
	require.False(t, done.Work.BackedOut, "its work was the rollback")
	h.sound()
}
