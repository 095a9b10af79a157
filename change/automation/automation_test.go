package automation_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/fixture"
	"github.com/rollforward/rollforward/internal/storefor"
	"github.com/rollforward/rollforward/release"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child() // this process is a child of a test
		return
	}
	goleak.VerifyTestMain(storefor.Tests{M: m})
}

var (
	alice = command.As("alice")
	bob   = command.As("bob")
	carol = command.As("carol")
	dave  = command.As("dave")
	erin  = command.As("erin")
	robot = command.As(automation.Actor)
)

// staff is who has which rights; the handlers have those that their role gives.
func staff() command.Roles {
	return command.Roles{
		"alice": {command.Requester, command.Implementer}, "bob": {command.Approver}, "carol": {command.ChangeManager, command.ConfigManager},
		"dave": {command.Implementer}, "erin": {command.Reviewer}, automation.Actor: {command.Automation}, "ci": {command.Automation},
	}
}

// monday is when everything begins.
var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func registry(t testing.TB) *eventstore.Registry {
	r, err := eventstore.NewRegistry(slices.Concat(command.Types(), cmdb.Types(), change.Types(), schedule.Types(), release.Types(),
		follow.Types(), relay.Types(), automation.Types())...)
	require.NoError(t, err)
	return r
}

// house is an engine with an estate.
type house struct {
	*rollforward.Engine
	t     testing.TB
	store eventstore.Store
	clock *fixture.Clock
	read  eventstore.Position // up to here handlers were driven
}

func open(t testing.TB, store eventstore.Store, roles command.Roles) *house {
	h := &house{t: t, store: store, clock: fixture.At(monday)}
	var err error
	h.Engine, err = rollforward.Open(context.Background(), store, rollforward.Config{Authorizer: roles, Clock: h.clock.Now, Types: automation.Types()})
	require.NoError(t, err)
	return h
}

// estate is an open house with databases that a shop hangs on, and a template.
func estate(t testing.TB) *house {
	h := open(t, memory.New(), staff())
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h.furnish()
}

func (h *house) furnish() *house {
	ctx := context.Background()
	_, err := h.CMDB.Record(ctx, carol,
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15"), cmdb.Attr("criticality", "high")),
		cmdb.Add("db-02", "database", cmdb.Attr("version", "15")),
		cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db-01"))
	require.NoError(h.t, err)
	_, err = h.Changes.ProposeTemplate(ctx, carol, "patch-db", change.Template{
		Title: "Patch a database", Plans: change.Plans{Implementation: "apt upgrade", Backout: "apt install the version before"},
		Classes: []string{"database"}, Attributes: []string{"version"}, Longest: change.Duration(2 * time.Hour),
	})
	require.NoError(h.t, err)
	_, err = h.Changes.ApproveTemplate(ctx, bob, "patch-db", 1)
	require.NoError(h.t, err)
	_, err = h.Changes.PublishTemplate(ctx, carol, "patch-db", 1)
	require.NoError(h.t, err)
	return h
}

func (h *house) do(actor command.Actor, id string, commands ...change.Command) change.Change {
	h.t.Helper()
	c, err := h.Changes.Do(context.Background(), actor, id, commands...)
	require.NoError(h.t, err)
	return c
}

func (h *house) get(id string) change.Change {
	h.t.Helper()
	c, err := h.Changes.Get(context.Background(), id)
	require.NoError(h.t, err)
	return c
}

// approved is a normal change on db-01 to version 16, in an hour, authorised.
func (h *house) approved(deltas ...cmdb.Delta) change.Change {
	h.t.Helper()
	if deltas == nil {
		deltas = []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")}
	}
	from := h.clock.Now().Add(time.Hour)
	c, err := h.Changes.Raise(context.Background(), alice, change.Raise{Content: change.Content{
		Title: "Upgrade", Group: "dba", Deltas: deltas, Plans: change.Plans{Implementation: "pg_upgrade", Backout: "restore"},
		Window: change.Between(from, from.Add(time.Hour)),
	}}, change.Submit{})
	require.NoError(h.t, err)
	c = h.do(carol, c.ID, change.Assess{Level: "low", Why: "done before"})
	return h.do(bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
}

// observe imports what a source sees of a database.
func (h *house) observe(source string, items ...cmdb.ObservedItem) cmdb.Imported {
	h.t.Helper()
	done, err := h.CMDB.Import(context.Background(), carol, source, cmdb.Observation{Items: items}, cmdb.ImportOptions{})
	require.NoError(h.t, err)
	return done
}

func sees(ci, version string) cmdb.ObservedItem {
	return cmdb.ObservedItem{Key: ci, CI: ci, Class: "database", Attributes: map[string]string{"version": version}}
}

// drive gives a handler the events of the log that it has not had, and returns the
// errors.
func (h *house) drive(handler relay.Handler, err error) (failed []error) {
	h.t.Helper()
	require.NoError(h.t, err)
	f, err := handler.Func(registry(h.t))
	require.NoError(h.t, err)
	var records []eventstore.Recorded
	for r, err := range h.store.Read(context.Background(), eventstore.Query{After: h.read}) {
		require.NoError(h.t, err)
		records = append(records, r)
	}
	for _, r := range records {
		h.read = r.Position
		m, err := relay.Message(r)
		require.NoError(h.t, err)
		if err := f(m); err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// again gives it all of them anew.
func (h *house) again(handler relay.Handler, err error) []error {
	h.read = 0
	return h.drive(handler, err)
}

// all returns the changes that there are.
func (h *house) all() []change.Change {
	h.t.Helper()
	all, err := h.Changes.List(context.Background(), change.Filter{})
	require.NoError(h.t, err)
	return all
}

// count is how many events of a type there are.
func (h *house) count(eventType string) (n int) {
	for r, err := range h.store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(h.t, err)
		if strings.HasPrefix(r.Type, eventType) {
			n++
		}
	}
	return n
}
