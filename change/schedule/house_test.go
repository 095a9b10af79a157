package schedule_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestMain(m *testing.M) {
	if booker() {
		os.Exit(0)
	}
	goleak.VerifyTestMain(storefor.Tests{M: m})
}

// monday is when everything begins.
var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// at is a time so many hours after monday 0:00.
func at(hours float64) time.Time {
	return monday.Add(-9 * time.Hour).Add(time.Duration(hours * float64(time.Hour)))
}

func window(from, to float64) *change.Window { return change.Between(at(from), at(to)) }

// clock is a clock that is moved by hand.
type clock struct{ now time.Time }

// house is an engine in parts, as package rollforward wires it.
type house struct {
	t        testing.TB
	clock    *clock
	store    eventstore.Store
	registry *eventstore.Registry
	door     *command.Door
	follow   *follow.Follower
	graph    follow.Projection[*cmdb.Graph]
	fold     follow.Projection[*schedule.Schedule]
	cmdb     *cmdb.Service
	changes  *change.Service
	schedule *schedule.Service
}

var (
	alice = command.As("alice")
	carol = command.As("carol")
)

func types() []eventstore.EventType {
	all := append(command.Types(), cmdb.Types()...)
	all = append(all, change.Types()...)
	all = append(all, schedule.Types()...)
	return append(all, follow.Types()...)
}

func registry() *eventstore.Registry {
	r, err := eventstore.NewRegistry(types()...)
	if err != nil {
		panic(err)
	}
	return r
}

// wire puts an engine together on a store; end takes it apart.
func wire(ctx context.Context, store eventstore.Store, rules schedule.Rules, now func() time.Time) (h *house, end func() error, err error) {
	h = &house{store: store, registry: registry()}
	h.graph, h.fold = cmdb.Projection(h.registry), schedule.Projection(h.registry)
	list := change.Projection(h.registry)
	doors := command.Config{Store: store, Registry: h.registry, Authorizer: command.AllowAll, Clock: now, RefusalsPerMinute: 1}
	if h.door, err = command.Open(doors); err != nil {
		return nil, nil, err
	}
	if h.follow, err = follow.Start(store, follow.Config{}, h.graph, list, h.fold); err != nil {
		return nil, nil, err
	}
	end = func() error {
		if err := h.door.Close(context.Background()); err != nil {
			return err
		}
		return h.follow.Close()
	}
	h.cmdb, err = cmdb.New(cmdb.Config{Door: h.door, Store: store, Registry: h.registry, Follower: h.follow, Graph: h.graph})
	if err != nil {
		return nil, end, err
	}
	h.schedule, err = schedule.New(schedule.Config{
		Door: h.door, Store: store, Registry: h.registry, Follower: h.follow, CMDB: h.graph, Schedule: h.fold, Rules: rules,
	})
	if err != nil {
		return nil, end, err
	}
	h.changes, err = change.New(change.Config{
		Door: h.door, Store: store, Registry: h.registry, Follower: h.follow, CMDB: h.graph, List: list, Calendar: h.schedule,
		Expressions: never{},
	})
	if err != nil {
		return nil, end, err
	}
	_, err = h.door.Do(ctx, command.Call{Actor: command.As("house"), Action: "open"}, func(tx *command.Tx) error {
		if err := tx.Authorize("open", "", nil); err != nil {
			return err
		}
		if err := cmdb.Ship(tx); err != nil {
			return err
		}
		if err := h.changes.Ship(tx); err != nil {
			return err
		}
		v, err := tx.Check("model-quick")
		if err != nil || v > 0 {
			return err
		}
		return tx.Record("model-quick", change.Published{Model: quick, By: "house"})
	})
	return h, end, err
}

// never are expressions that never hold.
type never struct{}

func (never) Compile(string) (change.Condition, error) { return never{}, nil }
func (never) Holds(map[string]any) (bool, error)       { return false, nil }

// quick is a model that asks nobody: what is submitted is scheduled.
var quick = change.Model{
	Name: "quick", Authority: change.AuthorityStages, Duties: change.StandardDuties(),
	Stages: []change.Stage{{Name: "cab", Skip: true, Rule: change.Rule{Counting: change.All}, Candidates: []change.Candidate{{Person: "bob"}}}},
	Phases: []change.Phase{
		{Name: "draft", Kind: change.KindPlan, Edits: []string{"*"}},
		{Name: "authorize", Kind: change.KindAuthorize, Edits: []string{"*"}, Table: &change.Table{Rows: []change.Row{{When: "never", Stages: []string{"cab"}}}}},
		{Name: "scheduled", Kind: change.KindScheduled, Edits: []string{"*"}},
		{Name: "implement", Kind: change.KindImplement, Edits: []string{"description"}},
		{Name: "review", Kind: change.KindReview, Edits: []string{"description"}},
		{Name: "closed", Kind: change.KindClosed},
		{Name: "canceled", Kind: change.KindCanceled},
	},
	Transitions: []change.Transition{
		{From: "draft", To: "authorize"}, {From: "authorize", To: "scheduled", Automatic: true},
		{From: "scheduled", To: "implement"}, {From: "implement", To: "review"},
		{From: "review", To: "closed", Guards: []string{"reviewed"}},
	},
}

func open(t testing.TB, rules schedule.Rules) *house {
	clock := &clock{monday}
	h, end, err := wire(context.Background(), memory.New(), rules, func() time.Time { return clock.now })
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, end()) })
	h.t, h.clock = t, clock
	return h
}

// estate records a shop that needs a database on a host, and a pool of three.
func (h *house) estate() *house {
	h.record(
		cmdb.Add("host-1", "server"), cmdb.Add("db-01", "database", cmdb.Attr("environment", "production"), cmdb.Attr("tags", "gold")),
		cmdb.Add("shop", "service", cmdb.Attr("criticality", "critical")), cmdb.Add("wiki", "service"),
		cmdb.Relate("db-01", "runs on", "host-1"), cmdb.Relate("shop", "depends on", "db-01"),
		cmdb.Add("web", "service", cmdb.Attr("min_up", "2")),
		cmdb.Add("web-1", "server"), cmdb.Add("web-2", "server"), cmdb.Add("web-3", "server"),
		cmdb.Relate("web-1", "member of", "web"), cmdb.Relate("web-2", "member of", "web"), cmdb.Relate("web-3", "member of", "web"),
	)
	return h
}

func (h *house) record(deltas ...cmdb.Delta) {
	h.t.Helper()
	_, err := h.cmdb.Record(h.t.Context(), carol, deltas...)
	require.NoError(h.t, err)
}

func (h *house) define(w schedule.Window) {
	h.t.Helper()
	if w.Name == "" {
		w.Name = w.ID
	}
	_, err := h.schedule.DefineWindow(h.t.Context(), carol, w)
	require.NoError(h.t, err)
}

// on is a change on CIs in a window, under the quick model.
func on(w *change.Window, cis ...string) change.Raise {
	return change.Raise{Model: "quick", Content: change.Content{
		Title: "work", CIs: cis, Window: w, Plans: change.Plans{Implementation: "do it"},
	}}
}

// draft raises a change.
func (h *house) draft(r change.Raise) string {
	h.t.Helper()
	c, err := h.changes.Raise(h.t.Context(), alice, r)
	require.NoError(h.t, err)
	return c.ID
}

// planned raises a change and has it scheduled.
func (h *house) planned(r change.Raise) string {
	h.t.Helper()
	c, err := h.changes.Raise(h.t.Context(), alice, r, change.Submit{})
	require.NoError(h.t, err)
	require.Equal(h.t, change.KindScheduled, c.Kind)
	return c.ID
}

func (h *house) do(id string, commands ...change.Command) change.Change {
	h.t.Helper()
	c, err := h.changes.Do(h.t.Context(), alice, id, commands...)
	require.NoError(h.t, err)
	return c
}

// met returns the conflicts of a change, "rule with".
func (h *house) met(id string) []string {
	h.t.Helper()
	found, err := h.schedule.Conflicts(h.t.Context(), id)
	require.NoError(h.t, err)
	return rules(found.Conflicts)
}

func rules(conflicts []change.Conflict) []string {
	all := []string{}
	for _, c := range conflicts {
		all = append(all, c.Rule+" "+c.With)
	}
	return all
}
