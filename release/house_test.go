package release_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/storefor"
	"github.com/rollforward/rollforward/release"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storefor.Tests{M: m}) }

// monday is when everything begins.
var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// clock is a clock that is moved by hand.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

// house is an engine in parts, as package rollforward wires it.
type house struct {
	t        testing.TB
	store    eventstore.Store
	registry *eventstore.Registry
	clock    *clock
	door     *command.Door
	follow   *follow.Follower
	cmdb     *cmdb.Service
	changes  *change.Service
	releases *release.Service
	calendar *diary            // where the calendar is one
	almanac  *almanac          // where it is the real one, for releases
	schedule *schedule.Service // under both
}

type option func(*release.Config, *command.Config)

// Alice plans and deploys, bob approves, carol runs changes and the CMDB, dave
// carries out, the pipeline reports.
var (
	alice    = command.As("alice")
	bob      = command.As("bob")
	carol    = command.As("carol")
	dave     = command.As("dave")
	pipeline = command.As("pipeline")
)

// staffed gives everybody only the rights of their roles.
func staffed(_ *release.Config, d *command.Config) {
	d.Authorizer = command.Roles{
		"alice": {command.ReleaseManager}, "bob": {command.Approver}, "carol": {command.ChangeManager, command.ConfigManager},
		"pipeline": {command.ReleaseManager},
	}
}

// diary is a calendar of one closed time.
type diary struct {
	closed   *change.Window
	resolved *change.Resolution
	answer   change.TimingAnswer
	err      error
	asked    []change.Occasion
}

func (d *diary) Judge(_ *command.Tx, o change.Occasion) (change.Timing, error) {
	d.asked = append(d.asked, o)
	if d.err != nil {
		return change.Timing{}, d.err
	}
	t := change.Timing{Answer: change.TimingClear, Window: o.Window, Position: 1}
	if d.answer != "" {
		t.Answer = d.answer
	}
	if d.closed != nil && o.Window.Start.Before(d.closed.End) && d.closed.Start.Before(o.Window.End) {
		t.Answer, t.Count = change.TimingConflict, 1
		t.Conflicts = []change.Conflict{{
			ID: "c-1", Rule: "blackout", Effect: change.Block, Severity: "high", With: "freeze", Why: "the freeze lasts until " + d.closed.End.String(),
			Remedy: "wait, or have it overridden", Resolved: d.resolved,
		}}
	}
	return t, nil
}

func (d *diary) Settle(*command.Tx, change.Change, change.Change) error { return nil }

// dated gives the releases a calendar.
func dated(c *release.Config, _ *command.Config) { c.Calendar = &diary{} }

func open(t testing.TB, options ...option) *house { return openOn(t, memory.New(), options...) }

func openOn(t testing.TB, store eventstore.Store, options ...option) *house {
	h := &house{t: t, store: store, clock: &clock{monday}}
	types := append(append(append(append(command.Types(), cmdb.Types()...), change.Types()...), follow.Types()...), release.Types()...)
	types = append(types, schedule.Types()...)
	var err error
	h.registry, err = eventstore.NewRegistry(types...)
	require.NoError(t, err)
	doors := command.Config{Store: store, Registry: h.registry, Authorizer: command.AllowAll, Clock: func() time.Time { return h.clock.now }, RefusalsPerMinute: 1000}
	people := change.People{Groups: map[string][]string{"cab": {"bob", "ben"}, "team-db": {"dave", "bob"}}, Roles: map[string][]string{"approver": {"bob", "ben"}}}
	config := release.Config{
		Store: store, Registry: h.registry, CMDB: cmdb.Projection(h.registry), List: release.Projection(h.registry),
		Directory: people, Expressions: risk.CEL(),
	}
	for _, o := range options {
		o(&config, &doors)
	}
	list, times := change.Projection(h.registry), schedule.Projection(h.registry)
	var ofChanges change.Calendar
	switch c := config.Calendar.(type) {
	case *diary:
		h.calendar = c
	case *almanac:
		h.almanac, ofChanges = c, c
	}
	h.door, err = command.Open(doors)
	require.NoError(t, err)
	h.follow, err = follow.Start(store, follow.Config{}, config.CMDB, list, config.List, times)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, h.door.Close(context.Background()))
		require.NoError(t, h.follow.Close())
	})
	config.Door, config.Follower = h.door, h.follow
	h.cmdb, err = cmdb.New(cmdb.Config{Door: h.door, Store: store, Registry: h.registry, Follower: h.follow, Graph: config.CMDB})
	require.NoError(t, err)
	if h.almanac != nil {
		h.schedule, err = schedule.New(schedule.Config{Door: h.door, Store: store, Registry: h.registry, Follower: h.follow, CMDB: config.CMDB, Schedule: times})
		require.NoError(t, err)
		h.almanac.Service = h.schedule
	}
	h.changes, err = change.New(change.Config{
		Door: h.door, Store: store, Registry: h.registry, Follower: h.follow, CMDB: config.CMDB, List: list, Directory: people, Risk: steady("low"),
		Calendar: ofChanges,
	})
	require.NoError(t, err)
	config.Changes = h.changes
	h.releases, err = release.New(config)
	require.NoError(t, err)
	doors.Authorizer = command.AllowAll
	own, err := command.Open(doors)
	require.NoError(t, err)
	_, err = own.Do(t.Context(), command.Call{Actor: command.As("house"), Action: "open"}, func(tx *command.Tx) error {
		if err := tx.Authorize("open", "", nil); err != nil {
			return err
		}
		if err := cmdb.Ship(tx); err != nil {
			return err
		}
		return h.changes.Ship(tx)
	})
	require.NoError(t, err)
	require.NoError(t, own.Close(t.Context()))
	return h
}

// steady is a risk policy that always says the same.
type steady string

func (s steady) Policy() change.Policy { return change.Policy{ID: "steady", Version: "1"} }

func (s steady) Assess(context.Context, change.Facts) (change.Verdict, error) {
	return change.Verdict{Level: string(s), Why: []string{"it always is"}}, nil
}

// road is staging before production, without gates.
func road() release.Environments {
	return release.Environments{
		{Name: "staging"},
		{Name: "production", Production: true, Upstream: []string{"staging"}},
	}
}

// estate records a database that a shop hangs on, and the environments.
func (h *house) estate(e release.Environments) *house {
	h.t.Helper()
	_, err := h.cmdb.Record(h.t.Context(), carol,
		cmdb.Add("db-01", "database", cmdb.Attr("name", "orders"), cmdb.Attr("version", "15"), cmdb.Attr("owner", "team-db")),
		cmdb.Add("shop", "application", cmdb.Attr("version", "1")),
		cmdb.Relate("shop", "depends on", "db-01"))
	require.NoError(h.t, err)
	_, err = h.releases.DefineEnvironments(h.t.Context(), alice, e, "")
	require.NoError(h.t, err)
	return h
}

var digest = "sha256:" + strings.Repeat("ab", 32)

// sixteen is the content that most tests are about.
func sixteen() release.Content {
	return release.Content{
		Title: "Database 16", Kind: release.Minor,
		Components: []release.Component{{Kind: release.Code, CI: "db-01", To: "16", Digest: digest}},
	}
}

// plan plans a release that goes straight to the phase of deployments.
func (h *house) plan(c release.Content, then ...release.Command) release.Release {
	h.t.Helper()
	r, err := h.releases.Plan(h.t.Context(), alice, release.Plan{Content: c, Process: "direct"}, append(then, release.Advance{})...)
	require.NoError(h.t, err)
	return r
}

func (h *house) do(actor command.Actor, id string, commands ...release.Command) release.Release {
	h.t.Helper()
	r, err := h.releases.Do(h.t.Context(), actor, id, commands...)
	require.NoError(h.t, err)
	return r
}

// refused runs commands that are to be refused by a rule, and requires that Why says
// the same and that nothing was recorded.
func (h *house) refused(rule string, actor command.Actor, id string, commands ...release.Command) *command.Error {
	h.t.Helper()
	why, err := h.releases.Why(h.t.Context(), actor, id, commands...)
	require.NoError(h.t, err)
	before := h.recorded()
	_, err = h.releases.Do(h.t.Context(), actor, id, commands...)
	require.Error(h.t, err)
	require.True(h.t, command.By(err, rule), "%v", err)
	require.Equal(h.t, before, h.recorded(), "a refused command has recorded something")
	var refused *command.Error
	require.ErrorAs(h.t, err, &refused)
	require.Equal(h.t, refused.Refusals, why)
	for _, r := range refused.Refusals {
		require.NotEmpty(h.t, r.Reason)
		require.NotEmpty(h.t, r.Remedy)
	}
	return refused
}

// recorded returns how many events there are beside refusals.
func (h *house) recorded() (n int) {
	h.t.Helper()
	for r, err := range h.store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(h.t, err)
		if !strings.HasPrefix(r.Stream, "refusals-") {
			n++
		}
	}
	return n
}

// authorised raises a change with these deltas and has it approved.
func (h *house) authorised(deltas ...cmdb.Delta) change.Change {
	h.t.Helper()
	c, err := h.changes.Raise(h.t.Context(), carol, change.Raise{Content: change.Content{
		Title: "Upgrade", Deltas: deltas, Plans: change.Plans{Implementation: "deploy", Backout: "roll back"},
	}}, change.Submit{})
	require.NoError(h.t, err)
	return h.approve(c)
}

func (h *house) approve(c change.Change) change.Change {
	h.t.Helper()
	c, err := h.changes.Do(h.t.Context(), bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	require.NoError(h.t, err)
	require.NotNil(h.t, c.Authorized)
	return c
}

func (h *house) change(id string) change.Change {
	h.t.Helper()
	c, err := h.changes.Get(h.t.Context(), id)
	require.NoError(h.t, err)
	return c
}

func (h *house) ci(id string) cmdb.CI {
	h.t.Helper()
	ci, err := h.cmdb.Get(h.t.Context(), id)
	require.NoError(h.t, err)
	return ci
}

// deployed deploys to an environment, all well.
func (h *house) deployed(id, environment string) release.Release {
	h.t.Helper()
	r := h.do(alice, id, release.Deploy{Environment: environment})
	n := len(r.Deployments)
	return h.do(pipeline, id, release.Report{Deployment: n, ID: "ok", Target: environment, Outcome: release.Successful}, release.Finish{Deployment: n})
}

// sound requires that the folds are what the log says, and that the CMDB has found
// nothing that did not fit.
func (h *house) sound() {
	h.t.Helper()
	v, err := h.follow.Verify(h.t.Context())
	require.NoError(h.t, err)
	for _, f := range v.Folds {
		require.Equal(h.t, follow.Same, f.Result, f.Why)
	}
	all, err := h.cmdb.Discrepancies(h.t.Context())
	require.NoError(h.t, err)
	require.Empty(h.t, all)
}

var errOut = errors.New("out of order")
