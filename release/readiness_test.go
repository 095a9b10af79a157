package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/release"
)

// Readiness risk, DOMAIN 3; the vectors are computed by hand.
func TestReadinessRisk(t *testing.T) {
	days := func(n float64) time.Time { return noon.Add(time.Duration(n * 24 * float64(time.Hour))) }
	for what, test := range map[string]struct {
		in    release.Readiness
		score int
	}{
		"nothing": {release.Readiness{}, 0},
		"100 (0.3 x 0.6 + 0.4 x 0.2 + 0 + 0.2 x 0.5)": {release.Readiness{Tasks: 10, Closed: 4, Runs: 5, Failed: 1, Due: days(7)}, 36},
		"100 (0.5 x 0.6 + 0.4 x 0.2 + 0)":             {release.Readiness{Tasks: 10, Closed: 4, Runs: 5, Failed: 1}, 38},
		"100 (0.5 x 0.9 + 0 + 0.1 x 0.5)":             {release.Readiness{Tasks: 10, Closed: 1}, 50},
		"progress reaches a fifth":                    {release.Readiness{Tasks: 10, Closed: 2}, 40},
		"one task is no work, 0.1 progress":           {release.Readiness{Tasks: 1}, 10},
		"one closed task":                             {release.Readiness{Tasks: 1, Closed: 1}, 0},
		"two tasks are":                               {release.Readiness{Tasks: 2}, 60},
		"only a date that is past":                    {release.Readiness{Due: days(-3)}, 20},
		"a date that is now":                          {release.Readiness{Due: days(0)}, 20},
		"a date in 14 days":                           {release.Readiness{Due: days(14)}, 0},
		"a date far off takes nothing away":           {release.Readiness{Runs: 1, Failed: 1, Due: days(200)}, 40},
		"parts of days count: 0.2 x 0.75":             {release.Readiness{Due: days(3.5)}, 15},
		"the worst":                                   {release.Readiness{Tasks: 5, Runs: 2, Failed: 2, Due: days(-1)}, 100},
		"the worst without a date":                    {release.Readiness{Tasks: 5, Runs: 2, Failed: 2}, 100},
		"a third: 33.33":                              {release.Readiness{Tasks: 3, Closed: 1}, 33},
		"two thirds: 16.67":                           {release.Readiness{Tasks: 3, Closed: 2}, 17},
		"half up: 0.5":                                {release.Readiness{Runs: 80, Failed: 1}, 1},
		"half up: 14.5":                               {release.Readiness{Tasks: 100, Closed: 71}, 15},
		"under half: 100 x 0.4 x 1/81":                {release.Readiness{Runs: 81, Failed: 1}, 0},
		"a second before half: 20 x 1/40 - ":          {release.Readiness{Due: days(14).Add(-(14 * 24 * time.Hour / 40) + time.Second)}, 0},
		"a second after it":                           {release.Readiness{Due: days(14).Add(-14 * 24 * time.Hour / 40)}, 1},
	} {
		t.Run(what, func(t *testing.T) {
			risk, err := test.in.Risk(noon)
			require.NoError(t, err)
			require.Equal(t, test.score, risk.Score, risk.Why)
		})
	}
	risk, err := release.Readiness{Tasks: 3, Closed: 1, Runs: 2, Failed: 1, Due: days(7)}.Risk(noon)
	require.NoError(t, err)
	require.Equal(t, []string{
		"work: 1 of 3 tasks are closed, which is 2/3, with a weight of 30%",
		"policy: 1 of 2 runs failed, which is 1/2, with a weight of 40%",
		"progress: a fifth of the tasks is looked for, which is 0, with a weight of 10%",
		"time: 168h0m0s are left until 2026-12-01 12:00:00 UTC, which is 1/2, with a weight of 20%",
	}, risk.Why)
}

func TestReadinessOfWhatCannotBe(t *testing.T) {
	for rule, in := range map[string]release.Readiness{
		"negative-count": {Tasks: -1, Closed: -2},
		"more-than-all":  {Runs: 1, Failed: 2},
	} {
		_, err := in.Risk(noon)
		require.ErrorIs(t, err, command.ErrMalformed)
		require.True(t, command.By(err, rule), "%v", err)
	}
	_, err := release.Readiness{Tasks: 1, Closed: 2, Runs: 1, Failed: 2}.Risk(noon)
	var refused *command.Error
	require.ErrorAs(t, err, &refused)
	require.Len(t, refused.Refusals, 2, "all of it is said")
}

func TestReadinessRiskFallsWithWorkAndRisesWithTimeAndFailures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := release.Readiness{Tasks: rapid.IntRange(0, 30).Draw(t, "tasks"), Runs: rapid.IntRange(0, 30).Draw(t, "runs")}
		r.Closed, r.Failed = rapid.IntRange(0, r.Tasks).Draw(t, "closed"), rapid.IntRange(0, r.Runs).Draw(t, "failed")
		if rapid.Bool().Draw(t, "dated") {
			r.Due = noon.Add(time.Duration(rapid.IntRange(-30, 500).Draw(t, "hours")) * time.Hour)
		}
		score := func(r release.Readiness, now time.Time) int {
			risk, err := r.Risk(now)
			require.NoError(t, err)
			require.GreaterOrEqual(t, risk.Score, 0)
			require.LessOrEqual(t, risk.Score, 100)
			return risk.Score
		}
		before := score(r, noon)
		require.GreaterOrEqual(t, score(r, noon.Add(36*time.Hour)), before)
		if r.Closed < r.Tasks {
			more := r
			more.Closed++
			require.LessOrEqual(t, score(more, noon), before)
		}
		if r.Failed < r.Runs {
			more := r
			more.Failed++
			require.GreaterOrEqual(t, score(more, noon), before)
		}
	})
}

// Bundles, DOMAIN 3: draft = empty; ready = all draft or ready; completed = all
// completed or cancelled; in progress otherwise.
func TestBundle(t *testing.T) {
	for _, test := range []struct {
		members []release.MemberState
		state   release.BundleState
	}{
		{nil, release.BundleDraft},
		{[]release.MemberState{release.MemberDraft}, release.BundleReady},
		{[]release.MemberState{release.MemberDraft, release.MemberReady}, release.BundleReady},
		{[]release.MemberState{release.MemberReady, release.MemberProgress}, release.BundleProgress},
		{[]release.MemberState{release.MemberReady, release.MemberCompleted}, release.BundleProgress},
		{[]release.MemberState{release.MemberReady, release.MemberCancelled}, release.BundleProgress},
		{[]release.MemberState{release.MemberCompleted, release.MemberProgress}, release.BundleProgress},
		{[]release.MemberState{release.MemberCompleted, release.MemberCancelled}, release.BundleCompleted},
		{[]release.MemberState{release.MemberCancelled}, release.BundleCompleted},
		{[]release.MemberState{"lost", release.MemberCompleted}, release.BundleProgress},
		{[]release.MemberState{"lost"}, release.BundleProgress},
	} {
		require.Equal(t, test.state, release.Bundle(test.members), test.members)
	}
}
