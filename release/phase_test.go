package release_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/release"
)

// DOMAIN 3: the process model is data.
func TestTheShippedProcessesAreSound(t *testing.T) {
	for _, p := range release.Processes() {
		require.NoError(t, release.CheckProcess(p), p.Name)
		require.Contains(t, release.Mermaid(p), "deploy")
		require.Contains(t, release.DOT(p), "deploy")
	}
}

func TestAProcessThatIsNotSoundIsRefused(t *testing.T) {
	base := func() release.Process { return release.Processes()[2] }
	for rule, spoil := range map[string]func(p *release.Process){
		"stage-outside-gate": func(p *release.Process) {
			p.Stages = []workflow.Stage{{Name: "s", Candidates: []workflow.Candidate{{Person: "bob"}}, Rule: workflow.Rule{Counting: workflow.First}}}
			p.Phases[0].Stages = []string{"s"}
		},
		"manual-only":     func(p *release.Process) { p.Transitions[0].Automatic = true },
		"unknown-guard":   func(p *release.Process) { p.Transitions[0].Guards = []string{"moon"} },
		"unknown-kind":    func(p *release.Process) { p.Phases[0].Kind = "dream" },
		"no-deploy-phase": func(p *release.Process) { p.Phases[1].Kind = release.KindTest },
	} {
		p := base()
		spoil(&p)
		err := release.CheckProcess(p)
		require.ErrorContains(t, err, rule)
		require.ErrorIs(t, err, workflow.ErrUnsound)
	}
}

// A process of one's own, with tasks and a restart (DOMAIN 3: restart from a phase
// resets it and all later ones).
func TestTasksAndRestart(t *testing.T) {
	own := release.Processes()[0]
	own.Name, own.Phases = "own", append([]release.Phase{}, own.Phases...)
	for i := range own.Phases {
		if own.Phases[i].Kind == release.KindBuild {
			own.Phases[i].Tasks = []workflow.TaskTemplate{{Title: "tag it", Kind: workflow.TaskImplementation}}
		}
	}
	h := open(t, func(c *release.Config, _ *command.Config) { c.Processes = []release.Process{own} }).estate(road())
	_, err := h.releases.Plan(t.Context(), alice, release.Plan{Content: sixteen(), Process: "none"})
	require.True(t, command.By(err, "unknown-process"), "%v", err)
	r, err := h.releases.Plan(t.Context(), alice, release.Plan{Content: sixteen(), Process: "own"}, release.Advance{})
	require.NoError(t, err)
	require.Equal(t, "REL-000001", r.ID, "a refused plan burns no number")
	h.refused("tasks-closed", alice, r.ID, release.Advance{})
	h.refused("task-move", alice, r.ID, release.MoveTask{ID: 1, To: "done"})
	h.refused("unknown-task", alice, r.ID, release.MoveTask{ID: 2, To: workflow.TaskClosed})
	h.refused("wrong-phase", alice, r.ID, release.Restart{Phase: "test", Reason: "x"})
	h.refused("unknown-phase", alice, r.ID, release.Restart{Phase: "moon", Reason: "x"})
	r = h.do(alice, r.ID, release.MoveTask{ID: 1, To: workflow.TaskClosed}, release.Advance{},
		release.AddEvidence{Evidence: release.Evidence{Kind: "tests"}})
	require.Equal(t, []string{"plan", "build", "test"}, r.Path)
	r = h.do(alice, r.ID, release.Restart{Phase: "build", Reason: "the tag was wrong"})
	require.Equal(t, "build", r.Phase)
	require.Equal(t, []string{"plan", "build"}, r.Path)
	require.Empty(t, r.Evidence)
	require.Len(t, r.Tasks, 2)
	require.Equal(t, workflow.TaskOpen, r.Tasks[1].State)
	r = h.do(alice, r.ID, release.Restart{Phase: "plan", Reason: "from the start"})
	require.Equal(t, workflow.TaskCancelled, r.Tasks[1].State)
}

func TestAReleaseIsClosedWhenItsChangesAreDone(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.deployed(r.ID, "staging")
	h.refused("delivered", alice, r.ID, release.Close{})
	h.refused("wrong-phase", alice, r.ID, release.Advance{To: "plan"})
	h.deployed(r.ID, "production")
	late := h.authorised(cmdb.Set("db-01", "port", "", "5432"))
	h.do(alice, r.ID, release.Bind{Change: late.ID})
	h.refused("changes-done", alice, r.ID, release.Close{})
	r = h.do(alice, r.ID, release.Unbind{Change: late.ID}, release.Close{})
	require.False(t, r.Open())
	require.Equal(t, release.MemberCompleted, r.Member())
}

func TestCancellingTakesChangesOff(t *testing.T) {
	h := open(t).estate(road())
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID})
	h.refused("reason-required", alice, r.ID, release.Cancel{})
	r = h.do(alice, r.ID, release.Cancel{Reason: "not wanted"})
	require.Equal(t, "canceled", r.Phase)
	require.Equal(t, change.CarryUnbound, h.change(c.ID).Releases[0].State)
	for _, cmd := range []release.Command{
		release.Edit{Set: release.Content{Notes: "x"}}, release.Bind{Change: c.ID}, release.Deploy{Environment: "staging"}, release.Advance{},
		release.AddEvidence{Evidence: release.Evidence{Kind: "tests"}}, release.Emerge{Raise: raise2()}, release.Restart{Phase: "plan", Reason: "x"},
	} {
		h.refused("release-ended", alice, r.ID, cmd)
	}
	h.do(alice, r.ID, release.Note{Text: "it was not wanted"})
}

func TestWhatCannotBePlanned(t *testing.T) {
	h := open(t).estate(road())
	for rule, spoil := range map[string]func(c *release.Content){
		"title-required":    func(c *release.Content) { c.Title = " " },
		"unknown-kind":      func(c *release.Content) { c.Kind = "huge" },
		"unknown-component": func(c *release.Content) { c.Components[0].Kind = "soup" },
		"ci-required":       func(c *release.Content) { c.Components[0].CI = "" },
		"not-an-id":         func(c *release.Content) { c.Components[0].CI = "db-01@staging" },
		"to-required":       func(c *release.Content) { c.Components[0].To = "" },
		"not-a-digest":      func(c *release.Content) { c.Components[0].Digest = "sha256:AB" },
		"component-twice":   func(c *release.Content) { c.Components = append(c.Components, c.Components[0]) },
		"too-many":          func(c *release.Content) { c.Components = make([]release.Component, 201) },
		"unknown-origin":    func(c *release.Content) { c.Origin.Kind = "moon" },
		"not-text":          func(c *release.Content) { c.Notes = "a\x00b" },
		"too-long":          func(c *release.Content) { c.Description = strings.Repeat("x", 40_000) },
	} {
		c := sixteen()
		spoil(&c)
		why, err := h.releases.WhyPlan(t.Context(), alice, release.Plan{Content: c})
		require.NoError(t, err)
		_, err = h.releases.Plan(t.Context(), alice, release.Plan{Content: c})
		require.True(t, command.By(err, rule), "%s: %v", rule, err)
		require.ErrorIs(t, err, command.ErrMalformed)
		require.NotEmpty(t, why)
	}
	r := h.plan(sixteen())
	h.refused("unknown-field", alice, r.ID, release.Edit{Clear: []string{"color"}})
	h.refused("title-required", alice, r.ID, release.Edit{Clear: []string{"title"}})
	h.refused("command-required", alice, r.ID)
	h.refused("command-required", alice, r.ID, nil)
	h.refused("plan-first", alice, r.ID, release.Plan{})
	h.refused("unknown-release", alice, "REL-9", release.Advance{})
	h.refused("unknown-release", alice, "", release.Advance{})
	h.refused("text-required", alice, r.ID, release.Note{})
	require.Equal(t, r.Version, h.do(alice, r.ID, release.Edit{Set: release.Content{Title: "Database 16"}}).Version, "nothing is different")
}
