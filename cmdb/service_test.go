package cmdb_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a store with everything on it.
type house struct {
	*cmdb.Service
	store    eventstore.Store
	registry *eventstore.Registry
	door     *command.Door
	follower *follow.Follower
	graph    follow.Projection[*cmdb.Graph]
}

var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func open(t testing.TB, store eventstore.Store, authorizer command.Authorizer) *house {
	registry, err := eventstore.NewRegistry(append(cmdb.Types(), command.Types()...)...)
	require.NoError(t, err)
	door, err := command.Open(command.Config{Store: store, Registry: registry, Authorizer: authorizer, Clock: func() time.Time { return monday }})
	require.NoError(t, err)
	graph := cmdb.Projection(registry)
	follower, err := follow.Start(store, follow.Config{}, graph)
	require.NoError(t, err)
	service, err := cmdb.New(cmdb.Config{Door: door, Store: store, Registry: registry, Follower: follower, Graph: graph})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, door.Close(context.Background()))
		require.NoError(t, follower.Close())
	})
	return &house{service, store, registry, door, follower, graph}
}

// start opens a house on a new store, with the standard classes.
func start(t testing.TB) *house {
	store := memory.New()
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	h := open(t, store, command.AllowAll)
	h.ship(t)
	return h
}

func (h *house) ship(t testing.TB) {
	_, err := h.door.Do(t.Context(), command.Call{Actor: ann, Action: cmdb.ActionDefine}, func(tx *command.Tx) error {
		if err := tx.Authorize(cmdb.ActionDefine, "", nil); err != nil {
			return err
		}
		return cmdb.Ship(tx)
	})
	require.NoError(t, err)
}

var ann = command.As("ann")

func TestWhatIsRecordedIsSeenAtOnce(t *testing.T) {
	h := start(t)
	_, err := h.Record(t.Context(), ann,
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15")),
		cmdb.Add("shop", "service", cmdb.Attr("criticality", "high")),
		cmdb.Relate("shop", "depends on", "db-01"))
	require.NoError(t, err)
	ci, err := h.Get(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, cmdb.CI{ID: "db-01", Class: "database", Attributes: map[string]string{"version": "15"}}, ci)
	impact, err := h.Impact(t.Context(), "db-01", cmdb.Down)
	require.NoError(t, err)
	require.Len(t, impact.Reached, 1)
	require.Equal(t, []cmdb.Step{{From: "db-01", Relation: "used by", To: "shop"}}, impact.Reached[0].Path)
}
