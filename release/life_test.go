package release_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/spec"
	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/release"
)

// lives is a log in which every event of this room is recorded.
func lives(t *testing.T) eventstore.Store {
	var h *house
	store := memory.New(memory.WithClock(func() time.Time {
		if h == nil {
			return monday
		}
		return h.clock.now
	}))
	own := release.Processes()[1]
	own.Name, own.Phases = "own", append([]release.Phase{}, own.Phases...)
	own.Phases[1].Tasks = []workflow.TaskTemplate{{Title: "Tag it", Kind: workflow.TaskImplementation, Group: "dba"}}
	h = openOn(t, store, dated, func(c *release.Config, _ *command.Config) { c.Processes = []release.Process{own} })
	e := release.Environments{
		{Name: "staging", Limits: release.Limits{Failures: 1}, Gates: []release.Gate{cab("bob", "ben"), {Name: "ready", Kind: release.GateChecklist, Items: []string{"told"}}}},
		{Name: "production", Title: "Where it counts", Production: true, Upstream: []string{"staging"}, Soak: change.Duration(time.Hour), MinSuccesses: 1,
			Gates: []release.Gate{{Name: "tests", Kind: release.GateEvidence, Evidence: "tests", When: `answers["failed"] == 0`}}},
	}
	h.estate(e)
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	content := sixteen()
	content.Origin, content.Due, content.Bundle, content.Tags = change.Origin{Kind: "problem", Reference: "P-3"}, monday.Add(72*time.Hour), "spring", []string{"q1"}
	content.Components = append(content.Components, release.Component{Kind: release.Training, Title: "How to run it", To: "1", Location: "https://example.com/16", Order: 2})
	r, err := h.releases.PlanCall(t.Context(), command.Call{Actor: alice, Reason: "support ends", Key: "plan-7"},
		release.Plan{Content: content, Process: "own", Planner: "greta"}, release.Bind{Change: c.ID}, release.Advance{})
	require.NoError(t, err)
	h.do(alice, r.ID, release.MoveTask{ID: 1, To: workflow.TaskClosed, Note: "v16"}, release.Advance{To: "test"}, release.Restart{Phase: "build", Reason: "the tag was wrong"})
	r = h.do(alice, r.ID, release.MoveTask{ID: 2, To: workflow.TaskClosed}, release.Advance{To: "test"},
		release.AddEvidence{Evidence: release.Evidence{Kind: "tests", Title: "Run 8", URL: "https://ci.example.com/8", Values: map[string]string{"failed": "0"}}})
	h.do(bob, r.ID, release.Reject{Environment: "staging", Gate: "cab", Reason: "nobody was told"})
	h.do(alice, r.ID, release.CheckItem{Environment: "staging", Item: "told", Note: "not yet"}, release.CheckItem{Environment: "staging", Item: "told", Go: true})
	r = h.do(alice, r.ID, release.Edit{Set: release.Content{Kind: release.Major, Notes: "Read *this*"}, Clear: []string{"tags"}, Reason: "as asked"})
	h.do(bob, r.ID, release.Approve{Environment: "staging", Gate: "cab", Scope: r.Scope})
	h.do(command.As("ben"), r.ID, release.Approve{Environment: "staging", Gate: "cab", Scope: r.Scope, Comment: "go"})
	h.do(bob, r.ID, release.Waive{Environment: "staging", Gate: "ready", Why: "told by hand", Until: monday.Add(24 * time.Hour)})
	h.do(alice, r.ID, release.Deploy{Environment: "staging", Waves: release.Percent([]string{"a", "b"}, 50)})
	h.do(pipeline, r.ID, release.Report{Deployment: 1, ID: "1", Target: "a", Outcome: release.Successful, Digest: digest, Detail: "in 7 s"})
	h.do(alice, r.ID, release.NextWave{Deployment: 1})
	h.do(pipeline, r.ID, release.Report{Deployment: 1, ID: "2", Target: "b", Outcome: release.Inconclusive})
	h.clock.pass(time.Minute)
	h.do(alice, r.ID, release.Retry{Deployment: 1})
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "1", Target: "a", Outcome: release.Successful})
	h.do(alice, r.ID, release.NextWave{Deployment: 2})
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "2", Target: "b", Outcome: release.Unsuccessful})
	h.do(alice, r.ID, release.Finish{Deployment: 2, Notes: "b is old"}, release.Advance{To: "deploy"},
		release.AddEvidence{Evidence: release.Evidence{Kind: "tests", Values: map[string]string{"failed": "0"}}})
	h.clock.pass(2 * time.Hour)
	h.calendar.closed = change.Between(h.clock.now, h.clock.now.Add(time.Hour))
	h.calendar.resolved = &change.Resolution{By: "carol", Why: "support ends"}
	h.do(alice, r.ID, release.Deploy{Environment: "production", For: change.Of(time.Hour)})
	h.do(alice, r.ID, release.Emerge{Raise: change.Raise{Content: change.Content{Title: "The driver too", CIs: []string{"shop"}, Plans: change.Plans{Implementation: "i", Backout: "b"}}}, Submit: true})
	h.approve(h.change("CHG-000002"))
	h.do(alice, r.ID, release.Resume{Deployment: 3, Reason: "approved"})
	h.do(pipeline, r.ID, release.Report{Deployment: 3, ID: "1", Target: "production", Outcome: release.Unsuccessful})
	h.do(alice, r.ID, release.Rollback{Environment: "production", Reason: "it does not answer"})
	h.do(pipeline, r.ID, release.Report{Deployment: 4, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 4})
	h.do(alice, r.ID, release.Lift{Environment: "production", Reason: "the cable was out"}, release.Unbind{Change: c.ID, Reason: "backed out"}, release.Note{Text: "see the runbook"})
	again := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	h.do(alice, r.ID, release.Bind{Change: again.ID}, release.Deploy{Environment: "production"})
	h.do(pipeline, r.ID, release.Report{Deployment: 5, ID: "1", Target: "production", Outcome: release.Successful}, release.Finish{Deployment: 5})
	h.do(alice, r.ID, release.Advance{}, release.Close{})
	h.sound()
	return store
}

// standing is a release as golden states show it.
type standing struct{ release.Release }

func (s standing) MarshalJSON() ([]byte, error) {
	return json.Marshal(s.Release, json.Deterministic(true))
}

var folding = eventstore.Decider[standing, any]{Evolve: func(s standing, payload any) standing { return standing{release.Evolve(s.Release, payload)} }}

const life = "testdata/life.txtar"

// The history was recorded once and is never written anew: what was recorded stays
// readable, and folds into the same states.
func TestWhatWasRecordedOnceIsReadForEver(t *testing.T) {
	store := lives(t) // in any case: the life can still be lived
	if _, err := os.Stat(life); errors.Is(err, fs.ErrNotExist) && os.Getenv("SPEC_UPDATE") == "1" {
		var events bytes.Buffer
		_, err := archive.Export(t.Context(), &events, store, eventstore.Query{})
		require.NoError(t, err)
		file := txtar.Archive{Files: []txtar.File{{Name: "events.jsonl", Data: events.Bytes()}}}
		for _, state := range []string{"REL-000001@12", "REL-000001@30", "REL-000001@50"} {
			file.Files = append(file.Files, txtar.File{Name: "state/release-" + state + ".json"})
		}
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(life, txtar.Format(&file), 0o644))
	}
	registry := open(t).registry
	h := spec.Replay(t, life, registry)
	spec.CheckStates(h, folding, "release-")
	seen := map[string]bool{}
	list := release.Projection(registry).New()
	for e := range h.Records() {
		seen[e.Type] = true
		require.NoError(t, list.Apply(e))
	}
	for _, typ := range registryTypes() {
		require.True(t, seen[typ], "the history has no %s", typ)
	}
	r, ok := list.Get("REL-000001")
	require.True(t, ok)
	require.Equal(t, "closed", r.Phase)
}

func registryTypes() []string {
	var all []string
	for name := range payloads {
		all = append(all, name)
	}
	return all
}
