package release_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/release"
)

// gated is production alone, behind these gates.
func gated(gates ...release.Gate) release.Environments {
	return release.Environments{{Name: "production", Production: true, Gates: gates}}
}

func cab(people ...string) release.Gate {
	s := &workflow.Stage{Name: "cab", Rule: workflow.Rule{Counting: workflow.All}}
	for _, p := range people {
		s.Candidates = append(s.Candidates, workflow.Candidate{Person: p})
	}
	return release.Gate{Name: "cab", Kind: release.GateApproval, Stage: s}
}

// ready is a release to production whose change is in force.
func (h *house) ready() release.Release {
	h.t.Helper()
	return h.plan(sixteen(), release.Bind{Change: h.authorised(cmdb.Set("db-01", "version", "15", "16")).ID})
}

// DOMAIN 1.3, 3: manual approval by the same stages as changes.
func TestAGateIsApprovedByPeople(t *testing.T) {
	h := open(t).estate(gated(cab("bob", "ben", "alice")))
	r := h.ready()
	h.refused("gate-not-run", alice, r.ID, release.Deploy{Environment: "production"})
	h.refused("separation-of-duties", alice, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	h.refused("not-a-candidate", carol, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	h.refused("scope-required", bob, r.ID, release.Approve{Environment: "production", Gate: "cab"})
	h.refused("scope-changed", bob, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: "release-1:00"})
	h.refused("unknown-gate", bob, r.ID, release.Approve{Environment: "production", Gate: "door", Scope: r.Scope})

	r = h.do(alice, r.ID, release.Ask{Environment: "production", Gate: "cab"})
	a, ok := r.Approval("production", "cab")
	require.True(t, ok)
	require.Equal(t, workflow.Requested, a.State)
	require.Equal(t, workflow.Excluded{Person: "alice", Why: "alice is planner of this release and cannot be approver as well"}, a.Excluded[0])
	before := r.Version
	require.Equal(t, before, h.do(alice, r.ID, release.Ask{Environment: "production", Gate: "cab"}).Version, "asked twice is asked once")
	h.do(bob, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	h.refused("already-voted", bob, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	require.Contains(t, h.refused("gate-not-run", alice, r.ID, release.Deploy{Environment: "production"}).Error(), "it waits for ben, bob")
	r = h.do(command.As("ben"), r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	h.refused("stage-not-open", bob, r.ID, release.Reject{Environment: "production", Gate: "cab", Reason: "late"})
	require.NoError(t, err(h.releases.Why(t.Context(), alice, r.ID, release.Deploy{Environment: "production"})))

	// What is material is edited: the approval is void, and what was approved is not
	// deployed.
	scope := r.Scope
	r = h.do(alice, r.ID, release.Edit{Set: release.Content{Notes: "read me"}})
	require.Equal(t, scope, r.Scope, "notes are not material")
	r = h.do(alice, r.ID, release.Edit{Set: release.Content{Kind: release.Major}})
	require.NotEqual(t, scope, r.Scope)
	h.refused("gate-not-run", alice, r.ID, release.Deploy{Environment: "production"})
	r = h.do(bob, r.ID, release.Reject{Environment: "production", Gate: "cab", Reason: "not major"})
	require.Contains(t, h.refused("gate-failed", alice, r.ID, release.Deploy{Environment: "production"}).Error(), "not major")
	h.refused("stage-not-open", command.As("ben"), r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	r = h.do(alice, r.ID, release.Ask{Environment: "production", Gate: "cab"})
	a, _ = r.Approval("production", "cab")
	require.Equal(t, 3, a.Round)
	h.do(bob, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	h.do(command.As("ben"), r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	r = h.do(alice, r.ID, release.Deploy{Environment: "production"})
	require.Equal(t, release.RollUpPassed, r.Deployments[0].RollUp)
	require.Equal(t, "ben", r.Deployments[0].Gates[0].By)
}

func err(refused []command.Refusal, err error) error {
	if err == nil {
		err = command.Refuse(refused...)
	}
	return err
}

func TestNobodyCanApproveWhatOnlyThePlannerCould(t *testing.T) {
	h := open(t).estate(gated(cab("alice")))
	r := h.ready()
	h.refused("no-candidates", alice, r.ID, release.Ask{Environment: "production", Gate: "cab"})
	h.refused("no-candidates", bob, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
}

// The owners of what is deployed approve, and a deadline that has passed is asked anew.
func TestOwnersAndDeadlines(t *testing.T) {
	g := release.Gate{Name: "owners", Kind: release.GateApproval, Stage: &workflow.Stage{
		Name: "owners", Candidates: []workflow.Candidate{{Owners: true}}, Rule: workflow.Rule{Counting: workflow.First}, Deadline: workflow.Duration(time.Hour),
	}}
	h := open(t).estate(gated(g))
	r := h.ready()
	r = h.do(alice, r.ID, release.Ask{Environment: "production", Gate: "owners"})
	a, _ := r.Approval("production", "owners")
	require.Equal(t, []workflow.Seat{{Name: "owners team-db", Voters: []string{"bob", "dave"}}}, a.Seats)
	h.clock.pass(time.Hour)
	r = h.do(dave, r.ID, release.Approve{Environment: "production", Gate: "owners", Scope: r.Scope})
	a, _ = r.Approval("production", "owners")
	require.Equal(t, 2, a.Round, "it was asked for again")
	require.Equal(t, workflow.Approved, a.State)
}

// DOMAIN 3: readiness checklist, evidence with CEL over it, policy hook, waivers, and
// how they roll up.
func TestChecklistEvidencePolicyAndWaiver(t *testing.T) {
	says := release.GateAnswer{State: release.GateFailed, Why: "not on a Friday"}
	policies := func(c *release.Config, d *command.Config) {
		d.Logger = slog.New(slog.DiscardHandler)
		c.Policies = map[string]release.GatePolicy{"weekday": func(context.Context, release.Release, release.Environment) (release.GateAnswer, error) {
			if says.Why == "panic" {
				panic("out of order")
			}
			return says, nil
		}}
	}
	h := open(t, policies).estate(gated(
		release.Gate{Name: "ready", Kind: release.GateChecklist, Items: []string{"backup taken", "people told"}},
		release.Gate{Name: "tests", Kind: release.GateEvidence, Evidence: "tests", When: `answers["failed"] == 0`},
		release.Gate{Name: "weekday", Kind: release.GatePolicyAsk, Policy: "weekday"},
	))
	r := h.ready()
	refused := h.refused("gate-not-run", alice, r.ID, release.Deploy{Environment: "production"})
	require.Len(t, refused.Refusals, 3, "every rule that stands in the way is named")
	h.refused("unknown-item", alice, r.ID, release.CheckItem{Environment: "production", Item: "moon is full"})
	h.do(alice, r.ID,
		release.CheckItem{Environment: "production", Item: "backup taken", Go: true}, release.CheckItem{Environment: "production", Item: "people told", Note: "not yet"},
		release.AddEvidence{Evidence: release.Evidence{Kind: "tests", Values: map[string]string{"failed": "2"}}})
	refused = h.refused("gate-failed", alice, r.ID, release.Deploy{Environment: "production"})
	require.Len(t, refused.Refusals, 3)
	r = h.do(alice, r.ID,
		release.CheckItem{Environment: "production", Item: "people told", Go: true},
		release.AddEvidence{Evidence: release.Evidence{Kind: "tests", Values: map[string]string{"failed": "0"}}})
	require.Equal(t, "alice", r.Evidence[1].By)
	h.refused("interval-invalid", bob, r.ID, release.Waive{Environment: "production", Gate: "weekday", Why: "urgent", Until: h.clock.now})
	h.refused("why-required", bob, r.ID, release.Waive{Environment: "production", Gate: "weekday", Until: h.clock.now.Add(time.Hour)})
	h.do(bob, r.ID, release.Waive{Environment: "production", Gate: "weekday", Why: "urgent", Until: h.clock.now.Add(time.Hour)})
	require.NoError(t, err(h.releases.Why(t.Context(), alice, r.ID, release.Deploy{Environment: "production"})))
	h.clock.pass(time.Hour)
	h.refused("gate-failed", alice, r.ID, release.Deploy{Environment: "production"})
	says.Why = "panic"
	require.ErrorIs(t, err(h.releases.Why(t.Context(), alice, r.ID, release.Deploy{Environment: "production"})), command.ErrUnavailable)
	says = release.GateAnswer{State: release.GateFailed, Why: "still not"}
	h.do(bob, r.ID, release.Waive{Environment: "production", Gate: "weekday", Why: "urgent", Until: h.clock.now.Add(time.Hour)})

	// An edit of what is rolled out voids all of it.
	r = h.do(alice, r.ID, release.Edit{Set: release.Content{Kind: release.Patch}})
	require.Empty(t, r.Checks)
	require.Empty(t, r.Waivers)
	refused = h.refused("gate-not-run", alice, r.ID, release.Deploy{Environment: "production"})
	require.Len(t, refused.Refusals, 3)
	h.do(alice, r.ID,
		release.CheckItem{Environment: "production", Item: "backup taken", Go: true}, release.CheckItem{Environment: "production", Item: "people told", Go: true},
		release.AddEvidence{Evidence: release.Evidence{Kind: "tests", Values: map[string]string{"failed": "0"}}})
	h.do(bob, r.ID, release.Waive{Environment: "production", Gate: "weekday", Why: "urgent", Until: h.clock.now.Add(time.Hour)})
	r = h.do(alice, r.ID, release.Deploy{Environment: "production"})
	require.Equal(t, release.RollUpException, r.Deployments[0].RollUp)
	h.refused("not-a-digest", alice, r.ID, release.AddEvidence{Evidence: release.Evidence{Kind: "tests", SHA256: "x"}})
}

// Rights are those of the roles, and of whom a person acts for.
func TestRightsAreAsked(t *testing.T) {
	h := open(t, staffed)
	_, failed := h.releases.DefineEnvironments(t.Context(), bob, gated(), "")
	require.ErrorIs(t, failed, command.ErrDenied)
	h.estate(gated(cab("bob")))
	r := h.ready()
	r = h.do(bob, r.ID, release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope})
	_, failed = h.releases.Do(t.Context(), bob, r.ID, release.Deploy{Environment: "production"})
	require.ErrorIs(t, failed, command.ErrDenied)
	_, failed = h.releases.Plan(t.Context(), bob, release.Plan{Content: sixteen()})
	require.ErrorIs(t, failed, command.ErrDenied)
	h.do(alice, r.ID, release.Deploy{Environment: "production"})
	r = h.do(pipeline, r.ID, release.Report{Deployment: 1, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 1})
	require.True(t, r.Delivered())

	// Whose deployment starts a change needs the right to that too.
	_, failed = h.releases.Do(t.Context(), carol, r.ID, release.Bind{Change: "CHG-000001"})
	require.ErrorIs(t, failed, command.ErrDenied)
}
