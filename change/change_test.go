package change_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storefor.Tests{M: m}) }

// monday is when everything begins.
var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// clock is a clock that is moved by hand.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

// house is an engine in parts, as package rollforward wires it.
type house struct {
	t       testing.TB
	store   eventstore.Store
	clock   *clock
	door    *command.Door
	follow  *follow.Follower
	cmdb    *cmdb.Service
	changes *change.Service
}

type option func(*change.Config, *command.Config)

var staff = command.Roles{
	"alice": {command.Requester, command.Implementer},
	"bob":   {command.Approver},
	"ben":   {command.Approver},
	"carol": {command.ChangeManager, command.ConfigManager},
	"dave":  {command.Implementer},
	"erin":  {command.Reviewer},
}

var (
	alice = command.As("alice")
	bob   = command.As("bob")
	ben   = command.As("ben")
	carol = command.As("carol")
	dave  = command.As("dave")
	erin  = command.As("erin")
)

func open(t testing.TB, store eventstore.Store, options ...option) *house {
	h := &house{t: t, store: store, clock: &clock{monday}}
	registry, err := eventstore.NewRegistry(append(append(append(command.Types(), cmdb.Types()...), change.Types()...), follow.Types()...)...)
	require.NoError(t, err)
	doors := command.Config{Store: store, Registry: registry, Authorizer: staff, Clock: func() time.Time { return h.clock.now }, RefusalsPerMinute: 1000}
	config := change.Config{
		Store: store, Registry: registry, CMDB: cmdb.Projection(registry), List: change.Projection(registry),
		Directory: change.People{
			Groups: map[string][]string{"cab": {"ben", "bob"}, "team-db": {"dave", "ben"}},
			Roles:  map[string][]string{"approver": {"ben", "bob"}},
		},
		Risk: steady("low"),
	}
	for _, o := range options {
		o(&config, &doors)
	}
	h.door, err = command.Open(doors)
	require.NoError(t, err)
	h.follow, err = follow.Start(store, follow.Config{}, config.CMDB, config.List)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, h.door.Close(context.Background()))
		require.NoError(t, h.follow.Close())
	})
	config.Door, config.Follower = h.door, h.follow
	h.cmdb, err = cmdb.New(cmdb.Config{Door: h.door, Store: store, Registry: registry, Follower: h.follow, Graph: config.CMDB})
	require.NoError(t, err)
	h.changes, err = change.New(config)
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

// estate records a database that a shop hangs on.
func (h *house) estate() *house {
	_, err := h.cmdb.Record(h.t.Context(), carol,
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15"), cmdb.Attr("criticality", "high"), cmdb.Attr("owner", "team-db")),
		cmdb.Add("shop", "service", cmdb.Attr("criticality", "critical")),
		cmdb.Relate("shop", "depends on", "db-01"))
	require.NoError(h.t, err)
	return h
}

func (h *house) do(actor command.Actor, id string, commands ...change.Command) change.Change {
	h.t.Helper()
	c, err := h.changes.Do(h.t.Context(), actor, id, commands...)
	require.NoError(h.t, err)
	return c
}

func (h *house) raise(r change.Raise, then ...change.Command) change.Change {
	h.t.Helper()
	c, err := h.changes.Raise(h.t.Context(), alice, r, then...)
	require.NoError(h.t, err)
	return c
}

// refused runs commands that are to be refused by a rule, and requires that Why
// says the same.
func (h *house) refused(rule string, actor command.Actor, id string, commands ...change.Command) {
	h.t.Helper()
	why, err := h.changes.Why(h.t.Context(), actor, id, commands...)
	require.NoError(h.t, err)
	_, err = h.changes.Do(h.t.Context(), actor, id, commands...)
	require.Error(h.t, err)
	require.True(h.t, command.By(err, rule), "%v", err)
	var refused *command.Error
	require.ErrorAs(h.t, err, &refused)
	require.Equal(h.t, refused.Refusals, why)
	for _, r := range refused.Refusals {
		require.NotEmpty(h.t, r.Reason)
		require.NotEmpty(h.t, r.Remedy)
	}
}

// upgrade is the change that most tests are about.
func upgrade() change.Raise {
	return change.Raise{Content: change.Content{
		Title:  "Upgrade db-01 to 16",
		Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")},
		Plans:  change.Plans{Implementation: "pg_upgrade", Backout: "restore"},
		Window: change.Between(monday.Add(48*time.Hour), monday.Add(50*time.Hour)),
	}}
}

// steady is a risk policy that always says the same.
type steady string

func (s steady) Policy() change.Policy { return change.Policy{ID: "steady", Version: "1"} }

func (s steady) Assess(context.Context, change.Facts) (change.Verdict, error) {
	return change.Verdict{Level: string(s), Why: []string{"it always is"}}, nil
}

func TestANormalChangeGoesThroughItsWholeLife(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.Submit{})
	require.Equal(t, "CHG-000001", c.ID)
	require.Equal(t, "authorize", c.Phase)
	require.Equal(t, "low", c.Risk.Verdict.Level)
	require.Equal(t, 1, c.Impact.Count)
	require.Equal(t, "shop", c.Impact.Top[0].ID)
	require.Equal(t, []cmdb.Step{{From: "db-01", Relation: "used by", To: "shop"}}, c.Impact.Top[0].Path)

	h.refused("authorized", dave, c.ID, change.Start{})
	c = h.do(bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	require.Equal(t, "scheduled", c.Phase)
	require.Equal(t, c.Scope, c.Authorized.Scope)
	require.Equal(t, "stages cab", c.Authorized.By)

	c = h.do(dave, c.ID, change.Start{})
	require.Equal(t, "implement", c.Phase)
	h.clock.pass(time.Hour)
	c = h.do(dave, c.ID, change.Complete{})
	require.Equal(t, "review", c.Phase)
	ci, err := h.cmdb.Get(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, "16", ci.Attributes["version"])

	h.refused("reviewed", carol, c.ID, change.Close{})
	c = h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	c = h.do(carol, c.ID, change.Close{})
	require.Equal(t, "closed", c.Phase)
	require.False(t, c.Open())
	h.refused("change-ended", carol, c.ID, change.Cancel{Reason: "late"})

	history, err := h.changes.History(t.Context(), c.ID)
	require.NoError(t, err)
	for _, e := range history {
		t.Log(e)
	}
	v, err := h.follow.Verify(t.Context())
	require.NoError(t, err)
	for _, f := range v.Folds {
		require.Equal(t, follow.Same, f.Result, f.Why)
	}
}
