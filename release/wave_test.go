package release_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/release"
)

func TestPercentDividesEveryTargetOnce(t *testing.T) {
	require.Equal(t, []release.Wave{{Name: "10 %", Targets: []string{"a"}}, {Name: "50 %", Targets: []string{"b"}}, {Name: "100 %", Targets: []string{"c"}}},
		release.Percent([]string{"a", "b", "c"}, 10, 50))
	require.Empty(t, release.Percent(nil, 10))
	rapid.Check(t, func(t *rapid.T) {
		targets := rapid.SliceOfDistinct(rapid.StringN(1, 5, 20), rapid.ID[string]).Draw(t, "targets")
		percent := rapid.SliceOf(rapid.IntRange(0, 120)).Draw(t, "percent")
		var all []string
		for _, w := range release.Percent(targets, percent...) {
			require.NotEmpty(t, w.Targets)
			all = append(all, w.Targets...)
		}
		require.Equal(t, targets, append([]string{}, all...))
	})
}

// Every report is an event, and idempotent (DOMAIN 3).
func TestReports(t *testing.T) {
	e := road()
	e[0].Limits = release.Limits{Failures: 1, Inconclusive: 1, ConsecutiveErrors: 2}
	h := open(t).estate(e)
	r := h.plan(sixteen())
	h.do(alice, r.ID, release.Deploy{Environment: "staging", Waves: []release.Wave{{Targets: []string{"a", "b", "c", "d"}}}})
	report := func(id, target string, o release.Outcome) release.Report {
		return release.Report{Deployment: 1, ID: id, Target: target, Outcome: o}
	}
	h.refused("unknown-deployment", pipeline, r.ID, release.Report{Deployment: 2, ID: "1", Target: "a", Outcome: release.Successful})
	h.refused("unknown-target", pipeline, r.ID, report("1", "z", release.Successful))
	h.refused("unknown-outcome", pipeline, r.ID, report("1", "a", "fine"))
	h.refused("id-required", pipeline, r.ID, report("", "a", release.Successful))
	wrong := report("1", "a", release.Successful)
	wrong.Digest = "sha256:" + strings.Repeat("cd", 32)
	h.refused("digest-mismatch", pipeline, r.ID, wrong)
	wrong.Digest, wrong.CI = digest, "shop"
	h.refused("unknown-component", pipeline, r.ID, wrong)
	right := report("1", "a", release.Successful)
	right.Digest, right.CI = digest, "db-01"
	once := h.do(pipeline, r.ID, right)
	require.Equal(t, once.Version, h.do(pipeline, r.ID, right).Version, "said twice is said once")
	require.Equal(t, once.Version, h.do(alice, r.ID, right).Version, "whoever says it")
	right.Outcome = release.Unsuccessful
	h.refused("report-reused", pipeline, r.ID, right)

	r = h.do(pipeline, r.ID, report("2", "b", release.Unsuccessful), report("3", "c", release.Inconclusive), report("4", "d", release.Errored), report("5", "d", release.Errored))
	require.Equal(t, release.Running, r.Deployments[0].State, "within the limits")
	require.Contains(t, h.refused("not-finished", alice, r.ID, release.Finish{Deployment: 1}).Error(), "d has not come through")
	again := h.do(pipeline, r.ID, report("6", "d", release.Errored))
	require.Equal(t, release.Failed, again.Deployments[0].State)
	require.Contains(t, again.Deployments[0].Why, "errors in a row: 3, and at most 2")
	h.refused("wrong-state", pipeline, r.ID, report("7", "d", release.Successful))
	require.Equal(t, again.Version, h.do(pipeline, r.ID, report("6", "d", release.Errored)).Version, "also when it has ended")

	// A target that is tried again counts by how it went last.
	h.do(alice, r.ID, release.Retry{Deployment: 1})
	second := func(id, target string, o release.Outcome) release.Report {
		return release.Report{Deployment: 2, ID: id, Target: target, Outcome: o}
	}
	r = h.do(pipeline, r.ID, second("1", "a", release.Unsuccessful), second("2", "a", release.Successful), second("3", "b", release.Unsuccessful),
		second("4", "c", release.Successful), second("5", "d", release.Errored), second("6", "d", release.Successful), release.Finish{Deployment: 2})
	require.Equal(t, release.Finished, r.Deployments[1].State)
	inForce, err := h.releases.Installed(t.Context(), "staging", "db-01")
	require.NoError(t, err)
	require.Equal(t, 3, inForce.Successes)
}

// A deployment on which nothing worked does not finish, whatever the limits are.
func TestADeploymentThatNoTargetTookDoesNotFinish(t *testing.T) {
	e := road()
	e[0].Limits.Failures = 5
	h := open(t).estate(e)
	r := h.plan(sixteen())
	h.do(alice, r.ID, release.Deploy{Environment: "staging"}, release.Report{Deployment: 1, ID: "1", Target: "staging", Outcome: release.Unsuccessful})
	h.refused("not-finished", alice, r.ID, release.Finish{Deployment: 1})
	h.refused("no-more-waves", alice, r.ID, release.NextWave{Deployment: 1})
}
