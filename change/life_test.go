package change_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
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
	h = open(t, store, everybody, evaluating(words{}), judging(&hooks{}), knowing(change.People{Groups: map[string][]string{"cab": {"bob", "ben"}}})).estate()
	h.eventful(t)
	h.refusedAfterwards(t)
	h.templates(t)
	h.raise(receipt(), change.Close{})
	return store
}

// eventful takes a change through most of what can happen to one.
func (h *house) eventful(t *testing.T) {
	m := tabled(false, change.Row{When: "risk=high", Stages: []string{"cab"}}, change.Row{When: "category=database", Stages: []string{"board"}})
	m.Stages[0] = change.Stage{
		Name: "peer", Candidates: []change.Candidate{{Group: "cab", EachMember: true}, {Person: "alice"}},
		Rule: change.Rule{Counting: change.Percent, N: 50}, Deadline: change.Duration(24 * time.Hour), Escalate: []change.Candidate{{Person: "zoe"}},
	}
	m.Phases[3].Tasks = []change.TaskTemplate{{Title: "Upgrade", Kind: "implementation", Group: "dba"}}
	h.publish(m)
	r := upgrade()
	r.Model, r.External, r.Unique, r.Requester = "tabled", "JIRA-7", true, "greta"
	r.Content.Category, r.Content.Group, r.Content.Cost, r.Content.Failure = "database", "dba", decimal("1200.50"), decimal("0.0")
	r.Content.Origin = change.Origin{Kind: "problem", Reference: "P-3"}
	r.Content.Implementers, r.Content.Outage = []string{"dave"}, &change.Outage{Expected: true, For: 1200}
	r.Content.Evidence = []change.Evidence{{Title: "Dry run", URL: "https://ci.example.com/1", SHA256: strings.Repeat("ab", 32)}}
	r.Content.Stakeholders = []change.Stakeholder{{Who: "shop-team", Told: []string{"started"}}}
	r.Content.Answers, r.Content.Tags = []change.Answer{{Question: "Tested?", Value: 2}}, []string{"q1"}
	c, err := h.changes.RaiseCall(t.Context(), command.Call{Actor: alice, Reason: "support ends", Key: "order-7"}, r,
		change.AddTask{Title: "Tell the desk", Kind: "communication", Assignee: "dave"})
	require.NoError(t, err)
	h.clock.pass(time.Minute)
	h.do(alice, c.ID, change.Submit{})
	h.clock.pass(25 * time.Hour)
	h.do(carol, c.ID, change.Expire{Stage: "peer"})
	h.delegate("ben", "erin", time.Hour)
	h.approve(erin.For("ben"), c.ID, "peer")
	h.do(carol, c.ID, change.Hold{Reason: "freeze"})
	h.clock.pass(time.Hour)
	h.do(carol, c.ID, change.Resume{Reason: "the freeze is over"})
	h.do(zoe, c.ID, change.Note{Text: "no test plan"})
	h.do(bob, c.ID, change.Reject{Stage: "peer", Reason: "no test plan"}, change.Note{Text: "see the runbook"})
	h.do(zoe, c.ID, change.Reject{Stage: "peer", Reason: "as bob says"})
	h.do(alice, c.ID, change.Edit{Set: change.Content{Plans: change.Plans{Test: "select 1"}}, Clear: []string{"tags"}, Reason: "as asked"}, change.Submit{})
	h.clock.pass(time.Minute)
	h.approve(bob, c.ID, "peer")
	h.approve(zoe, c.ID, "board")
	h.do(alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(monday.Add(24*time.Hour), monday.Add(53*time.Hour))}})
	h.do(carol, c.ID, change.Assess{Level: "high", Score: decimal("80"), Why: "the vendor warns"})
	h.approve(bob, c.ID, "peer")
	h.approve(zoe, c.ID, "board")
	h.approve(ben, c.ID, "cab")
	h.do(dave, c.ID, change.Start{}, change.EditTask{ID: 2, Assignee: "dave", Start: monday.Add(26 * time.Hour)}, change.MoveTask{ID: 2, To: "in progress"})
	h.clock.pass(time.Hour)
	h.do(dave, c.ID, change.MoveTask{ID: 2, To: "closed", Note: "done"}, change.MoveTask{ID: 1, To: "cancelled"}, change.Complete{Notes: "went well"})
	h.do(erin, c.ID, change.Review{Outcome: change.WithIssues, Notes: "slow", FollowUps: []change.FollowUp{{Title: "Mend the runbook", Kind: "documentation"}}})
	h.do(carol, c.ID, change.MoveTask{ID: 3, To: "closed"}, change.Close{})
	h.do(alice, c.ID, change.Link{Incident: change.Incident{ID: "INC-7", Relation: change.Caused, Priority: 2}})
}

// refusedAfterwards is an emergency that was carried out, refused and accepted.
func (h *house) refusedAfterwards(t *testing.T) {
	m := asking(due())
	m.Name, m.Authority = "afterwards", change.AuthorityRetrospective
	m.Retrospect = &change.Retrospective{AuthorizeWithin: change.Duration(time.Hour), ReviewWithin: change.Duration(48 * time.Hour)}
	m.Transitions = append(m.Transitions, change.Transition{From: "authorize", To: "implement"})
	h.publish(m)
	r := change.Raise{Model: "afterwards", Content: change.Content{Title: "Restart db-01", CIs: []string{"db-01"}}}
	c := h.raise(r, change.Submit{}, change.Start{})
	h.clock.pass(time.Hour)
	h.do(bob, c.ID, change.Reject{Stage: "vote", Reason: "it could wait"})
	h.do(alice, c.ID, change.Complete{BackedOut: true, Applied: noDeltas})
	h.do(erin, c.ID, change.Review{Outcome: change.Unsuccessful, Accept: "the shop was down"}, change.Close{})
}

// templates is a template from its proposal to its end, and a change under it.
func (h *house) templates(t *testing.T) {
	text := patch()
	text.Tasks = nil
	_, err := h.changes.ProposeTemplate(t.Context(), carol, "patch-db", text)
	require.NoError(t, err)
	_, err = h.changes.ApproveTemplate(t.Context(), bob, "patch-db", 1)
	require.NoError(t, err)
	_, err = h.changes.PublishTemplate(t.Context(), carol, "patch-db", 1)
	require.NoError(t, err)
	r := patching()
	r.Content.Deltas = []cmdb.Delta{cmdb.Set("db-01", "version", "16", "16.1")}
	c := h.raise(r, change.Submit{})
	h.do(carol, c.ID, change.Cancel{Reason: "not needed"})
	_, err = h.changes.RetireTemplate(t.Context(), carol, "patch-db", "replaced by the operator")
	require.NoError(t, err)
}

// standing is a change as golden states show it.
type standing struct{ change.Change }

func (s standing) MarshalJSON() ([]byte, error) {
	return json.Marshal(s.Change, json.Deterministic(true))
}

var folding = eventstore.Decider[standing, any]{Evolve: func(s standing, payload any) standing { return standing{change.Evolve(s.Change, payload)} }}

// histories are those that this room recorded at its ages, each as it was recorded
// then. They are never written anew: what was recorded stays readable, and folds
// into the same states.
var histories = []struct {
	file   string
	lives  func(*testing.T) eventstore.Store
	states []string
}{
	{"testdata/life.txtar", lives, []string{"CHG-000001@9", "CHG-000001@62", "CHG-000002@14"}},
	{"testdata/carried.txtar", carriedOut, []string{"CHG-000001@13", "CHG-000001@24"}},
}

// carriedOut is the life of a change whose time is judged, and which releases
// carry out.
func carriedOut(t *testing.T) eventstore.Store {
	var h *house
	store := memory.New(memory.WithClock(func() time.Time {
		if h == nil {
			return monday
		}
		return h.clock.now
	}))
	overridden := freeze(change.Block)
	overridden.Resolved = &change.Resolution{By: "carol", Why: "support ends", Until: monday.Add(100 * time.Hour)}
	overridden.Path = []cmdb.Step{{From: "db-01", Relation: "used by", To: "shop"}}
	a := &almanac{says: map[change.Point]change.Conflict{change.Planned: freeze(change.Warn), change.ToAuthorize: freeze(change.Record), change.ToStart: overridden}}
	h = open(t, store, everybody, a.option).estate()
	c := h.scheduled()
	h.do(dave, c.ID, carry("REL-000001", 0, change.CarryBound), carry("REL-000002", 0, change.CarryBound), carry("REL-000003", 0, change.CarryBound))
	h.clock.now = c.Window.Start
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryRunning))
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryPaused))
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryRunning), carry("REL-000002", 1, change.CarryRunning))
	h.clock.pass(time.Hour)
	h.do(dave, c.ID, carry("REL-000001", 1, change.CarryDelivered), carry("REL-000002", 1, change.CarryFailed))
	h.do(dave, c.ID, carry("REL-000002", 2, change.CarryBackedOut))
	h.do(dave, c.ID, carry("REL-000003", 0, change.CarryUnbound))
	return store
}

func TestWhatWasRecordedOnceIsReadForEver(t *testing.T) {
	for _, age := range histories {
		if _, err := os.Stat(age.file); errors.Is(err, fs.ErrNotExist) && os.Getenv("SPEC_UPDATE") == "1" {
			var events bytes.Buffer
			_, err := archive.Export(t.Context(), &events, age.lives(t), eventstore.Query{})
			require.NoError(t, err)
			file := txtar.Archive{Files: []txtar.File{{Name: "events.jsonl", Data: events.Bytes()}}}
			for _, state := range age.states {
				file.Files = append(file.Files, txtar.File{Name: "state/change-" + state + ".json"})
			}
			require.NoError(t, os.WriteFile(age.file, txtar.Format(&file), 0o644))
		}
		spec.CheckStates(spec.Replay(t, age.file, registry(t)), folding, "change-")
	}
	h := spec.Replay(t, histories[0].file, registry(t))
	list, graph := change.Projection(registry(t)).New(), cmdb.Projection(registry(t)).New()
	h.Feed(list)
	h.Feed(graph)
	ci, ok := graph.CI("db-01")
	require.True(t, ok)
	require.Equal(t, "15.2", ci.Attributes["version"])

	// The engine goes on from there.
	now := open(t, h.Store(), everybody, evaluating(words{}))
	now.clock.pass(48 * time.Hour)
	all, err := now.changes.List(t.Context(), change.Filter{Ended: true})
	require.NoError(t, err)
	require.Len(t, all, 4)
	require.Equal(t, "CHG-000005", now.raise(plain("normal"), change.Submit{}).ID)
}

func TestTheHistoriesOfAllAgesHaveEveryEvent(t *testing.T) {
	missing := map[string]bool{}
	for name := range payloads {
		missing[name] = true
	}
	for _, age := range histories {
		var then, now []string
		for r := range spec.Replay(t, age.file, registry(t)).Records() {
			delete(missing, r.Type)
			then = append(then, r.Stream+" "+r.Type)
		}
		for _, r := range log(t, age.lives(t)) {
			now = append(now, r.Stream+" "+r.Type)
		}
		require.Equal(t, then, now, "the same commands lead to the same events today")
	}
	require.Empty(t, missing)
}
