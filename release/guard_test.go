package release_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/release"
)

func (h *house) hold(id string) error {
	_, err := h.changes.Do(context.Background(), carol, id, change.Hold{Reason: "wait"})
	return err
}

// Each guard is what keeps its rule: with it the command is refused by that rule and
// none beside, without it the command is done. (What it does then is what the walks
// through random states have to notice.)
func TestEachGuardKeepsItsRule(t *testing.T) {
	ok := func(n int, id, target string) release.Report {
		return release.Report{Deployment: n, ID: id, Target: target, Outcome: release.Successful}
	}
	one := func(deltas ...cmdb.Delta) func(h *house) string {
		return func(h *house) string {
			h.estate(gated())
			return h.plan(sixteen(), release.Bind{Change: h.authorised(deltas...).ID}).ID
		}
	}
	onRoad := func(h *house) string { return h.estate(road()).plan(sixteen()).ID }
	production := []release.Command{release.Deploy{Environment: "production"}}
	staging := []release.Command{release.Deploy{Environment: "staging"}}
	for guard, c := range map[string]struct {
		before func(h *house) string // returns the release
		actor  command.Actor
		do     []release.Command
		then   func(r release.Release) []release.Command // what do cannot know
		rule   string                                    // default the guard
		option option
	}{
		"change-authorized":       {before: one(cmdb.Set("shop", "version", "1", "2")), do: production},
		"not-what-was-authorized": {before: one(cmdb.Set("db-01", "version", "15", "17")), do: production},
		"calendar": {before: func(h *house) string {
			h.calendar.closed = change.Between(monday, monday.Add(time.Hour))
			return one(cmdb.Set("db-01", "version", "15", "16"))(h)
		}, do: production, rule: "blackout", option: dated},
		"environment-busy": {before: func(h *house) string {
			id := onRoad(h)
			h.do(alice, h.plan(sixteen()).ID, staging...)
			return id
		}, do: staging},
		"upstream-not-verified": {before: func(h *house) string {
			return h.estate(release.Environments{{Name: "dev"}, {Name: "staging", Upstream: []string{"dev"}}, {Name: "production", Production: true}}).plan(sixteen()).ID
		}, do: staging},
		"soak-not-over": {before: func(h *house) string {
			h.estate(release.Environments{{Name: "dev"}, {Name: "staging", Upstream: []string{"dev"}, Soak: change.Duration(time.Hour)}, {Name: "production", Production: true}})
			id := h.plan(sixteen()).ID
			h.deployed(id, "dev")
			return id
		}, do: staging},
		"too-few-successes": {before: func(h *house) string {
			h.estate(release.Environments{{Name: "dev"}, {Name: "staging", Upstream: []string{"dev"}, MinSuccesses: 2}, {Name: "production", Production: true}})
			id := h.plan(sixteen()).ID
			h.deployed(id, "dev")
			return id
		}, do: staging},
		"on-hold": {before: func(h *house) string {
			id := onRoad(h)
			h.deployed(id, "staging")
			h.do(alice, id, release.Rollback{Environment: "staging", Reason: "r"}, ok(2, "1", "staging"), release.Finish{Deployment: 2})
			return id
		}, do: staging},
		"gates": {before: func(h *house) string { h.estate(gated(cab("bob"))); return h.ready().ID }, do: production, rule: "gate-not-run"},
		"scope-changed": {before: func(h *house) string { h.estate(gated(cab("bob"))); return h.ready().ID }, actor: bob,
			do: []release.Command{release.Approve{Environment: "production", Gate: "cab", Scope: "release-1:0"}}},
		"separation-of-duties": {before: func(h *house) string { h.estate(gated(cab("alice", "bob"))); return h.ready().ID }, actor: alice,
			then: func(r release.Release) []release.Command {
				return []release.Command{release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope}}
			}},
		"not-a-candidate": {before: func(h *house) string { h.estate(gated(cab("bob"))); return h.ready().ID }, actor: carol,
			then: func(r release.Release) []release.Command {
				return []release.Command{release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope}}
			}},
		"already-voted": {before: func(h *house) string {
			h.estate(gated(cab("bob", "ben")))
			r := h.ready()
			h.do(bob, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
			return r.ID
		}, actor: bob, then: func(r release.Release) []release.Command {
			return []release.Command{release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope}}
		}},
		"digest-mismatch": {before: func(h *house) string { id := onRoad(h); h.do(alice, id, staging...); return id },
			do: []release.Command{release.Report{Deployment: 1, ID: "1", Target: "staging", Outcome: release.Successful, Digest: "sha256:" + strings.Repeat("00", 32)}}},
		"report-reused": {before: func(h *house) string {
			id := onRoad(h)
			h.do(alice, id, append(staging, ok(1, "1", "staging"))...)
			return id
		},
			do: []release.Command{release.Report{Deployment: 1, ID: "1", Target: "staging", Outcome: release.Errored}}},
		"wave-not-done": {before: func(h *house) string {
			id := onRoad(h)
			h.do(alice, id, release.Deploy{Environment: "staging", Waves: release.Percent([]string{"a", "b"}, 50)})
			return id
		}, do: []release.Command{release.NextWave{Deployment: 1}}},
		"not-finished": {before: func(h *house) string { id := onRoad(h); h.do(alice, id, staging...); return id },
			do: []release.Command{release.Finish{Deployment: 1}}},
		"emergent-change": {before: func(h *house) string {
			id := onRoad(h)
			h.do(alice, id, staging...)
			h.do(alice, id, release.Emerge{Raise: raise2()})
			return id
		}, do: []release.Command{release.Resume{Deployment: 1}}},
		"deployment-running": {before: func(h *house) string { id := onRoad(h); h.do(alice, id, staging...); return id },
			do: []release.Command{release.Edit{Set: release.Content{Kind: release.Major}}}},
		"never-installed": {before: func(h *house) string { id := onRoad(h); h.deployed(id, "staging"); return id },
			do: []release.Command{release.Rollback{Environment: "staging", To: "9", Reason: "r"}}},
		"not-in-force": {before: func(h *house) string {
			id := onRoad(h)
			h.deployed(id, "staging")
			other := sixteen()
			other.Components[0].To = "17"
			h.deployed(h.plan(other).ID, "staging")
			return id
		}, do: []release.Command{release.Rollback{Environment: "staging", Reason: "r"}}},
		"tasks-closed": {before: func(h *house) string {
			h.estate(road())
			r, err := h.releases.Plan(h.t.Context(), alice, release.Plan{Content: sixteen(), Process: "tasked"})
			require.NoError(h.t, err)
			return r.ID
		}, do: []release.Command{release.Advance{}}, option: func(c *release.Config, _ *command.Config) {
			p := release.Processes()[2]
			p.Name, p.Phases = "tasked", append([]release.Phase{}, p.Phases...)
			p.Phases[0].Tasks = []workflow.TaskTemplate{{Title: "t", Kind: workflow.TaskPlanning}}
			c.Processes = []release.Process{p}
		}},
	} {
		t.Run(guard, func(t *testing.T) {
			var options []option
			if c.option != nil {
				options = append(options, c.option)
			}
			h := open(t, options...)
			id := c.before(h)
			r, err := h.releases.Get(t.Context(), id)
			require.NoError(t, err)
			commands := c.do
			if c.then != nil {
				commands = c.then(r)
			}
			actor := c.actor
			if actor.ID == "" {
				actor = alice
			}
			rule := c.rule
			if rule == "" {
				rule = guard
			}
			for _, r := range h.refused(rule, actor, id, commands...).Refusals {
				require.Equal(t, rule, r.Rule, "%s", r)
			}
			release.Without(h.releases, guard)
			before := h.recorded()
			_, err = h.releases.Do(t.Context(), actor, id, commands...)
			require.NoError(t, err)
			require.Greater(t, h.recorded(), before)
		})
	}
}

// The limits of an environment fail a deployment by themselves.
func TestWithoutItsGuardALimitDoesNotFailADeployment(t *testing.T) {
	h := open(t).estate(road())
	r := h.plan(sixteen())
	h.do(alice, r.ID, release.Deploy{Environment: "staging"})
	release.Without(h.releases, "limits")
	r = h.do(pipeline, r.ID, release.Report{Deployment: 1, ID: "1", Target: "staging", Outcome: release.Unsuccessful})
	require.Equal(t, release.Running, r.Deployments[0].State)
}
