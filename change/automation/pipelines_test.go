package automation_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
)

func (h *house) pipelines(alter ...func(*automation.PipelinesConfig)) automation.PipelinesConfig {
	c := automation.PipelinesConfig{Changes: h.Changes, CMDB: h.CMDB, Door: h.Door, WaitFor: h.WaitFor}
	for _, f := range alter {
		f(&c)
	}
	return c
}

func carries(c *automation.PipelinesConfig) { c.Carries = true }

var digest = strings.Repeat("0123456789abcdef", 4)

func deployment(state automation.State) automation.Reported {
	return automation.Reported{
		Pipeline: "deploy", Run: "4711", State: state, URL: "https://ci.example.com/runs/4711", Repository: "https://git.example.com/db", Ref: "v16",
		Commit: "8b25fd9", Artifact: "https://files.example.com/db-16.tar", SHA256: digest, Version: "16", Environment: "production",
		CI: "db-01", Template: "patch-db",
	}
}

func (h *house) report(r automation.Reported) command.Done {
	h.t.Helper()
	done, err := automation.Report(context.Background(), h.Door, command.Call{Actor: command.As("ci")}, r)
	require.NoError(h.t, err)
	return done
}

func TestARunOfAPipelineRaisesAStandardChange(t *testing.T) {
	h := estate(t)
	h.report(deployment(automation.Queued))
	for range 2 {
		require.Empty(t, h.again(automation.Pipelines(h.pipelines())))
	}
	require.Len(t, h.all(), 1)
	c := h.get("CHG-000001")
	require.Equal(t, "standard", c.Model)
	require.Equal(t, "patch-db", c.Template)
	require.Equal(t, "scheduled", c.Phase, "its template authorises it")
	require.Equal(t, "deploy#4711", c.External)
	require.Equal(t, "Patch a database", c.Title)
	require.Equal(t, []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")}, c.Deltas)
	require.Equal(t, change.Between(monday, monday.Add(time.Hour)), c.Window)
	require.Equal(t, []change.Evidence{
		{Title: "Run 4711 of deploy", URL: "https://ci.example.com/runs/4711"},
		{Title: "Artifact", URL: "https://files.example.com/db-16.tar", SHA256: digest},
	}, c.Evidence)
	require.Equal(t, "Run 4711 of pipeline deploy.\nRepository: https://git.example.com/db\nRef: v16\nCommit: 8b25fd9\nVersion: 16\nEnvironment: production\nCI: db-01", c.Description)
	require.Equal(t, automation.Actor, c.Requester)
}

func TestARunCarriesItsChangeAsFarAsItGoes(t *testing.T) {
	all := []automation.State{automation.Queued, automation.Running, automation.Succeeded}
	for name, c := range map[string]struct {
		states []automation.State
		phase  string
		people func(h *house)
	}{
		"all states":             {states: all, phase: "review"},
		"running":                {states: all[:2], phase: "implement"},
		"first heard of running": {states: all[1:2], phase: "implement"},
		"first heard of at last": {states: all[2:], phase: "review"},
		"failed":                 {states: []automation.State{automation.Running, automation.Failed}, phase: "implement"},
		"failed at once":         {states: []automation.State{automation.Failed}, phase: "scheduled"},
		"people went ahead":      {states: all, phase: "review", people: func(h *house) { h.do(dave, "CHG-000001", change.Start{}); h.do(dave, "CHG-000001", change.Complete{}) }},
		"people cancelled":       {states: all, phase: "canceled", people: func(h *house) { h.do(carol, "CHG-000001", change.Cancel{Reason: "x"}) }},
	} {
		t.Run(name, func(t *testing.T) {
			h := estate(t)
			for i, state := range c.states {
				h.report(deployment(state))
				require.Empty(t, h.drive(automation.Pipelines(h.pipelines(carries))))
				if i == 0 && c.people != nil {
					c.people(h)
				}
				h.clock.Advance(time.Minute)
			}
			require.Empty(t, h.again(automation.Pipelines(h.pipelines(carries))))
			require.Len(t, h.all(), 1)
			require.Equal(t, c.phase, h.get("CHG-000001").Phase)
			require.Zero(t, h.count("command.refused"))
			require.Equal(t, strings.HasPrefix(name, "failed"), h.count("change.noted") == 1)
			ci, err := h.CMDB.Get(t.Context(), "db-01")
			require.NoError(t, err)
			require.Equal(t, map[bool]string{true: "16", false: "15"}[c.phase == "review"], ci.Attributes["version"])
		})
	}
}

func TestAReportThatNamesNoTemplateRaisesNothing(t *testing.T) {
	h := estate(t)
	r := deployment(automation.Queued)
	r.Template = ""
	h.report(r)
	require.Empty(t, h.drive(automation.Pipelines(h.pipelines())))
	require.Empty(t, h.all())
	choose := func(c *automation.PipelinesConfig) {
		c.Choose = func(r automation.Reported) (string, string) { return "patch-db", "db-02" }
	}
	require.Empty(t, h.again(automation.Pipelines(h.pipelines(choose))))
	require.Equal(t, []string{"db-02"}, h.get("CHG-000001").Declared(), "unless the config chooses one")
}

func TestAVersionThatIsThereAlreadyIsNoDelta(t *testing.T) {
	h := estate(t)
	r := deployment(automation.Succeeded)
	r.Version = "15"
	h.report(r)
	require.Empty(t, h.drive(automation.Pipelines(h.pipelines(carries))))
	c := h.get("CHG-000001")
	require.Equal(t, "review", c.Phase)
	require.Empty(t, c.Deltas)
	require.Equal(t, []string{"db-01"}, c.CIs)
}

// A scanner may be faster than the report that the run has succeeded.
func TestAVersionThatWasSeenWhileTheRunWasUnderWayIsNotAppliedAgain(t *testing.T) {
	h := estate(t)
	h.report(deployment(automation.Running))
	require.Empty(t, h.drive(automation.Pipelines(h.pipelines(carries))))
	h.observe("scan", sees("db-01", "16"))
	h.report(deployment(automation.Succeeded))
	require.Empty(t, h.drive(automation.Pipelines(h.pipelines(carries))))
	c := h.get("CHG-000001")
	require.Equal(t, "review", c.Phase)
	require.Empty(t, c.Work.Applied)
	require.Empty(t, h.drive(automation.Drift(h.drift())))
	require.Empty(t, h.again(automation.Drift(h.drift())))
	require.Empty(t, h.found(), "the change explains what was seen")
	require.Zero(t, h.count("command.refused"))
}

func TestARunWhoseReferenceAnotherChangeHasIsLeftToThat(t *testing.T) {
	h := estate(t)
	_, err := h.Changes.Raise(t.Context(), alice, change.Raise{Content: change.Content{Title: "By hand"}, External: "deploy#4711", Unique: true})
	require.NoError(t, err)
	h.report(deployment(automation.Queued))
	h.report(deployment(automation.Running))
	require.Empty(t, h.drive(automation.Pipelines(h.pipelines(carries))))
	require.Len(t, h.all(), 1)
	require.Equal(t, "draft", h.get("CHG-000001").Phase)
}

func TestARunWhoseChangeIsRefusedIsAnErrorUntilTheCauseIsMended(t *testing.T) {
	h := estate(t)
	for run, alter := range map[string]func(r *automation.Reported){
		"a": func(r *automation.Reported) { r.CI = "nowhere" },
		"b": func(r *automation.Reported) { r.Template = "unpublished" },
		"c": func(r *automation.Reported) { r.CI = "shop" },
	} {
		r := deployment(automation.Queued)
		r.Run = run
		alter(&r)
		h.report(r)
	}
	failed := h.drive(automation.Pipelines(h.pipelines()))
	require.Len(t, failed, 3)
	for _, err := range failed {
		var refused *command.Error
		require.True(t, errors.As(err, &refused), "%v", err)
	}
	require.Empty(t, h.all(), "and no number is burnt")
}

func TestAStateOfARunIsRecordedOnce(t *testing.T) {
	h := estate(t)
	first := deployment(automation.Running)
	first.At = monday
	require.NotZero(t, h.report(first).Position)
	first.At = monday.Add(time.Minute)
	require.Zero(t, h.report(first).Position, "again")
	require.Zero(t, h.report(deployment(automation.Queued)).Position, "what comes too late")
	require.Equal(t, 1, h.count("pipeline.reported"))

	refused := func(rule string, r automation.Reported) {
		t.Helper()
		_, err := automation.Report(t.Context(), h.Door, command.Call{Actor: command.As("ci")}, r)
		require.ErrorIs(t, err, command.ErrRefused)
		require.True(t, command.By(err, rule), "%v", err)
	}
	first.Version = "17"
	refused("run-differs", first)
	h.report(deployment(automation.Succeeded))
	refused("run-ended", deployment(automation.Failed))
	other := deployment(automation.Failed)
	other.Run = "4712"
	h.report(other)
	require.Equal(t, 3, h.count("pipeline.reported"))

	_, err := automation.Report(t.Context(), h.Door, command.Call{Actor: alice}, deployment(automation.Failed))
	require.ErrorIs(t, err, command.ErrDenied)
}

func TestReportsThatCannotBeMeantAreRefusedByName(t *testing.T) {
	h := estate(t)
	for rule, alter := range map[string]func(r *automation.Reported){
		"pipeline-required":    func(r *automation.Reported) { r.Pipeline = "" },
		"run-required":         func(r *automation.Reported) { r.Run = "" },
		"not-text":             func(r *automation.Reported) { r.Pipeline = "a#b" },
		"not-text ":            func(r *automation.Reported) { r.Run = strings.Repeat("x", 101) },
		"not-text  ":           func(r *automation.Reported) { r.Ref = "a\nb" },
		"not-text   ":          func(r *automation.Reported) { r.Commit = "\xff" },
		"not-text    ":         func(r *automation.Reported) { r.Version = " 16" },
		"unknown-state":        func(r *automation.Reported) { r.State = "done" },
		"unknown-ci":           func(r *automation.Reported) { r.CI = " db-01" },
		"not-a-url":            func(r *automation.Reported) { r.URL = "javascript:alert(1)" },
		"not-a-url ":           func(r *automation.Reported) { r.Artifact = "db.tar" },
		"not-a-digest":         func(r *automation.Reported) { r.SHA256 = "abc" },
		"artifact-required":    func(r *automation.Reported) { r.Artifact = "" },
		"not-a-time":           func(r *automation.Reported) { r.At = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) },
		"pipeline-required   ": func(r *automation.Reported) { *r = automation.Reported{} },
	} {
		r := deployment(automation.Queued)
		alter(&r)
		_, err := automation.Report(t.Context(), h.Door, command.Call{Actor: command.As("ci")}, r)
		require.ErrorIs(t, err, command.ErrMalformed, rule)
		require.True(t, command.By(err, strings.TrimSpace(rule)), "%v", err)
	}
	require.Zero(t, h.count("pipeline.reported"))
	require.Zero(t, h.count("command.refused"))
}

func TestPipelinesThatCannotBeMeantAreRefusedWhenTheyAreBuilt(t *testing.T) {
	h := estate(t)
	for name, alter := range map[string]func(*automation.PipelinesConfig){
		"no service":        func(c *automation.PipelinesConfig) { c.Changes = nil },
		"no CMDB":           func(c *automation.PipelinesConfig) { c.CMDB = nil },
		"no door":           func(c *automation.PipelinesConfig) { c.Door = nil },
		"a negative window": func(c *automation.PipelinesConfig) { c.Window = -1 },
	} {
		_, err := automation.Pipelines(h.pipelines(alter))
		require.Error(t, err, name)
	}
}
