package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/release"
)

// DOMAIN 3: a release may go through the environments before production without its
// change, and cannot deploy to production without.
func TestProductionNeedsChangesInForce(t *testing.T) {
	h := open(t).estate(road())
	r := h.plan(sixteen())
	h.deployed(r.ID, "staging")
	h.refused("change-authorized", alice, r.ID, release.Deploy{Environment: "production"})

	c, err := h.changes.Raise(t.Context(), carol, change.Raise{Content: change.Content{
		Title: "Upgrade", Deltas: []cmdb.Delta{cmdb.Set("shop", "version", "1", "2")}, Plans: change.Plans{Implementation: "i", Backout: "b"}}}, change.Submit{})
	require.NoError(t, err)
	h.do(alice, r.ID, release.Bind{Change: c.ID})
	require.Contains(t, h.refused("change-authorized", alice, r.ID, release.Deploy{Environment: "production"}).Error(), "CHG-000001 is not authorised")
	h.approve(c)
	require.Contains(t, h.refused("change-authorized", alice, r.ID, release.Deploy{Environment: "production"}).Error(), "declares db-01")

	wrong := h.authorised(cmdb.Set("db-01", "version", "15", "17"))
	h.do(alice, r.ID, release.Bind{Change: wrong.ID})
	h.refused("not-what-was-authorized", alice, r.ID, release.Deploy{Environment: "production"})
	h.do(alice, r.ID, release.Unbind{Change: wrong.ID})
	require.Equal(t, change.CarryUnbound, h.change(wrong.ID).Releases[0].State)

	right := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	h.do(alice, r.ID, release.Bind{Change: right.ID})
	_, err = h.changes.Do(t.Context(), carol, right.ID, change.Hold{Reason: "wait for the night"})
	require.NoError(t, err)
	h.refused("change-authorized", alice, r.ID, release.Deploy{Environment: "production"})
	_, err = h.changes.Do(t.Context(), carol, right.ID, change.Resume{})
	require.NoError(t, err)
	r = h.do(alice, r.ID, release.Deploy{Environment: "production"})
	require.Equal(t, []string{c.ID, right.ID}, r.Deployments[1].Changes)
	h.refused("deployment-running", alice, r.ID, release.Unbind{Change: right.ID})
	h.refused("deployment-running", alice, r.ID, release.Bind{Change: wrong.ID})
	h.refused("deployment-running", alice, r.ID, release.Edit{Set: release.Content{Kind: release.Major}})
	h.refused("deployment-running", alice, r.ID, release.Cancel{Reason: "x"})
	h.refused("unknown-change", alice, r.ID, release.Bind{Change: "CHG-000099"})
	h.refused("not-bound", alice, r.ID, release.Unbind{Change: "CHG-000099"})
}

// A paused deployment lets its change be held, and goes on only when it is not.
func TestPausingAndResuming(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.deployed(r.ID, "staging")
	h.do(alice, r.ID, release.Deploy{Environment: "production"})
	h.do(alice, r.ID, release.Pause{Deployment: 2, Reason: "lunch"})
	require.Equal(t, change.CarryPaused, h.change(c.ID).Releases[0].State)
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "1", Target: "production", Outcome: release.Successful})
	h.refused("wrong-state", alice, r.ID, release.Finish{Deployment: 2})
	h.refused("wrong-state", alice, r.ID, release.Pause{Deployment: 2, Reason: "lunch"})
	_, err := h.changes.Do(t.Context(), carol, c.ID, change.Hold{Reason: "wait"})
	require.NoError(t, err)
	h.refused("change-authorized", alice, r.ID, release.Resume{Deployment: 2})
	_, err = h.changes.Do(t.Context(), carol, c.ID, change.Resume{})
	require.NoError(t, err)
	r = h.do(alice, r.ID, release.Resume{Deployment: 2}, release.Finish{Deployment: 2})
	require.Equal(t, release.Finished, r.Deployments[1].State)
	h.refused("wrong-state", alice, r.ID, release.Resume{Deployment: 2})
	h.refused("unknown-deployment", alice, r.ID, release.Resume{Deployment: 7})
}

// DOMAIN 3: a release that finds it must touch something else raises an emergent
// change, and the deployment waits for it.
func TestAnEmergentChangePausesTheDeployment(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.deployed(r.ID, "staging")
	h.do(alice, r.ID, release.Deploy{Environment: "production"})
	raise := change.Raise{Content: change.Content{Title: "The shop's driver too", Deltas: []cmdb.Delta{cmdb.Set("shop", "version", "1", "1.1")}, Plans: change.Plans{Implementation: "i", Backout: "b"}}}
	r = h.do(alice, r.ID, release.Emerge{Raise: raise, Submit: true})
	require.Equal(t, release.Paused, r.Deployments[1].State)
	require.Equal(t, []string{"CHG-000002"}, r.Deployments[1].Waits)
	require.True(t, r.Changes[1].Emergent)
	require.Equal(t, change.CarryPaused, h.change(c.ID).Releases[0].State)
	h.refused("emergent-change", alice, r.ID, release.Resume{Deployment: 2})
	h.approve(h.change("CHG-000002"))
	r = h.do(alice, r.ID, release.Resume{Deployment: 2})
	require.Equal(t, []string{"CHG-000001", "CHG-000002"}, r.Deployments[1].Changes)
	require.Empty(t, r.Deployments[1].Waits)
	require.Equal(t, "implement", h.change("CHG-000002").Phase)
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 2})
	require.Equal(t, "1.1", h.ci("shop").Attributes["version"])
	require.Equal(t, "review", h.change("CHG-000002").Phase)
	h.sound()

	// In an environment before production it waits too, and a broken raise is refused.
	other := h.plan(sixteen())
	h.do(alice, other.ID, release.Deploy{Environment: "staging"})
	h.refused("title-required", alice, other.ID, release.Emerge{})
	other = h.do(alice, other.ID, release.Emerge{Raise: raise2()})
	require.Equal(t, release.Paused, other.Deployments[0].State)
	h.refused("emergent-change", alice, other.ID, release.Resume{Deployment: 1})
	other = h.do(alice, other.ID, release.Unbind{Change: other.Changes[0].Change, Reason: "it was not needed"}, release.Resume{Deployment: 1})
	require.Equal(t, release.Running, other.Deployments[0].State)
}

func raise2() change.Raise { return change.Raise{Content: change.Content{Title: "More disk"}} }

// DOMAIN 3: one change can authorise several releases, one release can need several
// changes.
func TestTheLastReleaseOfAChangeCompletesIt(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"), cmdb.Set("shop", "version", "1", "2"), cmdb.Set("shop", "description", "", "new"))
	first := h.plan(sixteen(), release.Bind{Change: c.ID})
	second := h.plan(release.Content{Title: "Shop 2", Kind: release.Patch, Components: []release.Component{{Kind: release.Code, CI: "shop", To: "2"}}}, release.Bind{Change: c.ID})
	for _, id := range []string{first.ID, second.ID} {
		h.deployed(id, "staging")
	}
	h.deployed(first.ID, "production")
	open := h.change(c.ID)
	require.Equal(t, "implement", open.Phase)
	require.Equal(t, "1", h.ci("shop").Attributes["version"])
	require.Empty(t, h.ci("shop").Attributes["description"], "what else is planned comes with the last one")
	h.deployed(second.ID, "production")
	done := h.change(c.ID)
	require.Equal(t, "review", done.Phase)
	require.Equal(t, []string{"REL-000001/2", "REL-000002/2"}, done.Work.Delivered)
	require.Equal(t, "new", h.ci("shop").Attributes["description"])
	h.sound()
}

// Two production environments: the change stays open until the last one.
func TestAReleaseThatGoesToSeveralProductionEnvironments(t *testing.T) {
	h := open(t).estate(release.Environments{{Name: "eu", Production: true}, {Name: "us", Production: true, Upstream: []string{"eu"}}})
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"), cmdb.Set("shop", "description", "", "on 16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	ok := func(n int, target string) release.Report {
		return release.Report{Deployment: n, ID: "1", Target: target, Outcome: release.Successful}
	}
	h.do(alice, r.ID, release.Deploy{Environment: "eu"}, ok(1, "eu"), release.Finish{Deployment: 1, More: true})
	require.Equal(t, "implement", h.change(c.ID).Phase)
	require.Equal(t, change.CarryBound, h.change(c.ID).Releases[0].State)
	require.Equal(t, "16", h.ci("db-01").Attributes["version"])
	require.Empty(t, h.ci("shop").Attributes["description"])
	h.do(alice, r.ID, release.Deploy{Environment: "us"})
	h.refused("deployment-running", alice, r.ID, release.Rollback{Environment: "eu", Reason: "one at a time"})
	h.do(alice, r.ID, ok(2, "us"), release.Finish{Deployment: 2})
	require.Equal(t, "review", h.change(c.ID).Phase)
	require.Equal(t, "16", h.ci("db-01@us").Attributes["version"])
	require.Equal(t, "on 16", h.ci("shop").Attributes["description"])
	h.sound()
}

// Forward, back and forward again in one append: each sees what those before it did.
func TestSeveralDeploymentsInOneAppend(t *testing.T) {
	h := open(t).estate(road())
	r := h.plan(sixteen())
	ok := func(n int) release.Report {
		return release.Report{Deployment: n, ID: "1", Target: "staging", Outcome: release.Successful}
	}
	h.do(alice, r.ID,
		release.Deploy{Environment: "staging"}, ok(1), release.Finish{Deployment: 1},
		release.Rollback{Environment: "staging", Reason: "to see"}, ok(2), release.Finish{Deployment: 2}, release.Lift{Environment: "staging", Reason: "seen"},
		release.Deploy{Environment: "staging"}, ok(3), release.Finish{Deployment: 3})
	require.Equal(t, "16", h.ci("db-01@staging").Attributes["version"])
	h.sound()
}

// DOMAIN 2.1, 3: a deployment is judged at its own time; a conflict refuses by its
// own rule unless somebody took it upon himself, and what was said is recorded.
func TestTheCalendarJudgesProduction(t *testing.T) {
	h := open(t, dated).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.calendar.closed = change.Between(monday.Add(2*time.Hour), monday.Add(4*time.Hour))
	h.deployed(r.ID, "staging")
	require.Empty(t, h.calendar.asked, "only production is judged, and environments whose gates ask")
	h.refused("blackout", alice, r.ID, release.Deploy{Environment: "production", For: change.Of(3 * time.Hour)})
	r = h.do(alice, r.ID, release.Deploy{Environment: "production", For: change.Of(time.Hour)})
	require.Equal(t, change.TimingClear, r.Deployments[1].Timing.Answer)
	o := h.calendar.asked[len(h.calendar.asked)-1]
	require.Equal(t, change.Occasion{
		Point: change.ToDeploy, Release: r.ID, Model: "direct", Window: *change.Between(monday, monday.Add(time.Hour)), CIs: []string{"db-01"},
		Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")}, Environments: []string{"production"}, Apart: []string{c.ID},
	}, o)

	h.do(alice, r.ID, release.Pause{Deployment: 2, Reason: "lunch"})
	h.clock.pass(3 * time.Hour)
	h.refused("blackout", alice, r.ID, release.Resume{Deployment: 2})
	h.calendar.resolved = &change.Resolution{By: "carol", Why: "it has to be"}
	r = h.do(alice, r.ID, release.Resume{Deployment: 2})
	h.calendar.resolved = nil
	r = h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 2})
	require.Equal(t, release.Finished, r.Deployments[1].State, "what has happened is recorded, whenever it has")
	h.refused("blackout", alice, r.ID, release.Rollback{Environment: "production", Reason: "slow"})

	h.calendar.closed, h.calendar.err = nil, errOut
	err := h.refused("calendar-failed", alice, r.ID, release.Rollback{Environment: "production", Reason: "slow"})
	require.ErrorIs(t, err, command.ErrUnavailable)
	h.calendar.err, h.calendar.answer = nil, change.TimingNotRun
	h.refused("calendar-failed", alice, r.ID, release.Rollback{Environment: "production", Reason: "slow"})
}

func TestWithoutACalendarTimeIsNotJudged(t *testing.T) {
	e := road()
	h := open(t).estate(e)
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.deployed(r.ID, "staging")
	e[1].Gates = []release.Gate{{Name: "window", Kind: release.GateWindow}}
	version, err := h.releases.DefineEnvironments(t.Context(), alice, e, "")
	require.NoError(t, err)
	require.Equal(t, uint64(2), version)
	h.refused("window-open", alice, r.ID, release.Deploy{Environment: "production"})
	h.refused("not-waivable", bob, r.ID, release.Waive{Environment: "production", Gate: "window", Why: "w", Until: monday.Add(time.Hour)})
	_, err = h.releases.DefineEnvironments(t.Context(), alice, road(), "")
	require.NoError(t, err)
	r = h.deployed(r.ID, "production")
	require.Nil(t, r.Deployments[1].Timing)
	require.Equal(t, uint64(3), r.Deployments[1].Graph)
}

// DOMAIN 3: promotion needs verified upstream, a soak of continuous occupation, and
// successes.
func TestPromotionIsKept(t *testing.T) {
	e := release.Environments{
		{Name: "dev"},
		{Name: "staging", Upstream: []string{"dev"}, Soak: change.Duration(time.Hour), MinSuccesses: 2},
		{Name: "production", Production: true, Upstream: []string{"staging"}},
	}
	h := open(t).estate(e)
	r := h.plan(sixteen())
	h.refused("upstream-not-verified", alice, r.ID, release.Deploy{Environment: "staging"})
	h.do(alice, r.ID, release.Deploy{Environment: "dev", Waves: release.Percent([]string{"a", "b", "c"}, 50)})
	h.refused("upstream-not-verified", alice, r.ID, release.Deploy{Environment: "staging"})
	ok := func(id, target string) release.Report {
		return release.Report{Deployment: 1, ID: id, Target: target, Outcome: release.Successful}
	}
	h.do(pipeline, r.ID, ok("1", "a"), ok("2", "b"), release.NextWave{Deployment: 1}, ok("3", "c"), release.Finish{Deployment: 1})
	h.refused("soak-not-over", alice, r.ID, release.Deploy{Environment: "staging"})
	h.clock.pass(time.Hour)
	h.deployed(r.ID, "staging")

	// A deployment that touched a target and was given up has disturbed what was there.
	other := sixteen()
	other.Components[0].To = "17"
	second := h.plan(other)
	h.do(alice, second.ID, release.Deploy{Environment: "dev"}, release.Report{Deployment: 1, ID: "1", Target: "dev", Outcome: release.Errored})
	inForce, err := h.releases.Installed(t.Context(), "dev", "db-01")
	require.NoError(t, err)
	require.Equal(t, "16", inForce.Version)
	require.False(t, inForce.Verified)
	require.Equal(t, h.clock.now, inForce.Earlier[0].Until)

	// Another version has its own way to go.
	r = h.do(alice, r.ID, release.Edit{Set: release.Content{Components: []release.Component{{Kind: release.Code, CI: "db-01", To: "16.1"}}}})
	h.refused("upstream-not-verified", alice, r.ID, release.Deploy{Environment: "production"})
	h.deployed(r.ID, "dev")
	h.clock.pass(2 * time.Hour)
	h.refused("too-few-successes", alice, r.ID, release.Deploy{Environment: "staging"})
}

// Of one CI one deployment runs in one environment, whoever's it is.
func TestAnEnvironmentIsBusy(t *testing.T) {
	h := open(t).estate(road())
	first := h.plan(sixteen())
	other := sixteen()
	other.Components[0].To = "17"
	second := h.plan(other)
	h.do(alice, first.ID, release.Deploy{Environment: "staging"})
	require.Contains(t, h.refused("environment-busy", alice, second.ID, release.Deploy{Environment: "staging"}).Error(), first.ID)
	h.do(alice, first.ID, release.Fail{Deployment: 1, Reason: "the disk is full"})
	h.refused("wrong-state", alice, first.ID, release.Abort{Deployment: 1, Reason: "x"})
	h.do(alice, second.ID, release.Deploy{Environment: "staging"})
	h.refused("environment-busy", alice, first.ID, release.Retry{Deployment: 1})
	h.refused("wrong-state", alice, second.ID, release.Retry{Deployment: 1})
}

func TestWhatCannotBeDeployed(t *testing.T) {
	h := open(t).estate(road())
	r := h.plan(release.Content{Title: "Nothing", Kind: release.Patch})
	h.refused("nothing-to-deploy", alice, r.ID, release.Deploy{Environment: "staging"})
	h.refused("unknown-environment", alice, r.ID, release.Deploy{Environment: "moon"})
	h.refused("interval-invalid", alice, r.ID, release.Deploy{Environment: "staging", For: -1})
	for rule, c := range map[string]release.Component{
		"unknown-ci":        {Kind: release.Code, CI: "nobody-knows", To: "1"},
		"unknown-class":     {Kind: release.Code, CI: "here", Class: "castle", To: "1"},
		"unknown-attribute": {Kind: release.Code, CI: "here", Class: "site", To: "1"},
	} {
		h.do(alice, r.ID, release.Edit{Set: release.Content{Components: []release.Component{c}}})
		h.refused(rule, alice, r.ID, release.Deploy{Environment: "staging"})
	}
	r = h.do(alice, r.ID, release.Edit{Set: sixteen()})
	for rule, w := range map[string][]release.Wave{
		"empty-wave": {{}}, "target-twice": {{Targets: []string{"a"}}, {Targets: []string{"a"}}}, "targets-required": {{Targets: []string{""}}},
	} {
		h.refused(rule, alice, r.ID, release.Deploy{Environment: "staging", Waves: w})
	}
	h.refused("unknown-deployment", alice, r.ID, release.Retry{Deployment: 1})

	from := sixteen()
	from.Components[0].From = "14"
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	old := h.plan(from, release.Bind{Change: c.ID})
	h.deployed(old.ID, "staging")
	h.refused("not-the-version-before", alice, old.ID, release.Deploy{Environment: "production"})
}

// A new CI is declared by its change, and made by the deployment with what the change
// planned for it.
func TestADeploymentMakesNewCIs(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Add("cache", "middleware", cmdb.Attr("name", "cache of the shop"), cmdb.Attr("engine", "redis")), cmdb.Relate("shop", "depends on", "cache"))
	r := h.plan(release.Content{Title: "A cache", Kind: release.Major, Components: []release.Component{
		{Kind: release.Code, CI: "cache", Class: "middleware", To: "7"}, {Kind: release.Training, Title: "How to run it", To: "1"},
	}}, release.Bind{Change: c.ID})
	h.deployed(r.ID, "staging")
	require.Equal(t, "middleware", h.ci("cache@staging").Class)
	h.deployed(r.ID, "production")
	require.Equal(t, map[string]string{"name": "cache of the shop", "engine": "redis", "environment": "production", "version": "7"}, h.ci("cache").Attributes)
	impact, err := h.cmdb.Impact(t.Context(), "cache", cmdb.Down)
	require.NoError(t, err)
	require.Len(t, impact.Reached, 1)
	h.sound()
}

// All of a release in one append, with its change.
func TestAReleaseInOneAppend(t *testing.T) {
	h := open(t).estate(gated())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"), cmdb.Set("shop", "description", "", "on 16"))
	r, err := h.releases.Plan(t.Context(), alice, release.Plan{Content: sixteen(), Process: "direct"},
		release.Bind{Change: c.ID}, release.Advance{}, release.Deploy{Environment: "production"},
		release.Report{Deployment: 1, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 1}, release.Close{})
	require.NoError(t, err)
	require.False(t, r.Open())
	done := h.change(c.ID)
	require.Equal(t, "review", done.Phase)
	require.Equal(t, []string{"REL-000001/1"}, done.Work.Delivered)
	require.Equal(t, "16", h.ci("db-01").Attributes["version"])
	require.Equal(t, "on 16", h.ci("shop").Attributes["description"])
	h.sound()
}
