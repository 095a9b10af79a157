package release_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/release"
)

func TestAServiceSaysWhatItLacks(t *testing.T) {
	_, err := release.New(release.Config{})
	require.ErrorContains(t, err, "required")
}

// A command with a key is done once, also a deployment that starts a change.
func TestACommandWithAKeyIsDoneOnce(t *testing.T) {
	h := open(t).estate(gated())
	call := command.Call{Actor: alice, Key: "p-1"}
	plan := release.Plan{Content: sixteen(), Process: "direct"}
	first, err := h.releases.PlanCall(t.Context(), call, plan, release.Advance{})
	require.NoError(t, err)
	second, err := h.releases.PlanCall(t.Context(), call, plan, release.Advance{})
	require.NoError(t, err)
	require.Equal(t, first, second)
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	h.do(alice, first.ID, release.Bind{Change: c.ID})
	call.Key = "d-1"
	one, err := h.releases.DoCall(t.Context(), call, first.ID, release.Deploy{Environment: "production"})
	require.NoError(t, err)
	n := h.recorded()
	two, err := h.releases.DoCall(t.Context(), call, first.ID, release.Deploy{Environment: "production"})
	require.NoError(t, err)
	require.Equal(t, one.Deployments, two.Deployments)
	require.Equal(t, n, h.recorded())
	_, err = h.releases.DoCall(t.Context(), call, first.ID, release.Abort{Deployment: 1, Reason: "x"})
	require.True(t, command.By(err, "key-reused"), "%v", err)
	same, err := h.releases.DoCall(t.Context(), command.Call{Actor: pipeline, Key: "r-1"}, first.ID, release.Bind{Change: c.ID})
	require.NoError(t, err)
	again, err := h.releases.DoCall(t.Context(), command.Call{Actor: pipeline, Key: "r-1"}, first.ID, release.Bind{Change: c.ID})
	require.NoError(t, err)
	require.Equal(t, same.Version, again.Version, "a key whose command had nothing to record")
}

func TestACommandCanBeHeldToWhatWasSeen(t *testing.T) {
	h := open(t).estate(road())
	r := h.plan(sixteen())
	h.do(alice, r.ID, release.Note{Text: "meanwhile"})
	_, err := h.releases.Do(t.Context(), alice, r.ID, release.At(r.Version), release.Deploy{Environment: "staging"})
	require.ErrorIs(t, err, eventstore.ErrConflict)
	h.do(alice, r.ID, release.At(r.Version+1), release.Deploy{Environment: "staging"})
}

// Of many who deploy one CI to one environment at the same instant one does, and the
// others are told which; numbers have no gaps.
func TestOfManyDeploymentsAtOnceOneBegins(t *testing.T) {
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "releases.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	const crowd = 8
	h := openOn(t, store).estate(road())
	ids := make([]string, crowd)
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			c := sixteen()
			c.Components[0].To = fmt.Sprint(16 + i)
			r, err := h.releases.Plan(context.Background(), alice, release.Plan{Content: c, Process: "direct"}, release.Advance{})
			if err == nil {
				ids[i] = r.ID
			}
		})
	}
	wg.Wait()
	var want []string
	for i := range crowd {
		want = append(want, fmt.Sprintf("REL-%06d", i+1))
	}
	require.ElementsMatch(t, want, ids)
	failures := make([]error, crowd)
	for i := range crowd {
		wg.Go(func() {
			_, failures[i] = h.releases.Do(context.Background(), alice, ids[i], release.Deploy{Environment: "staging"})
		})
	}
	wg.Wait()
	won := slices.Index(failures, nil)
	require.GreaterOrEqual(t, won, 0)
	for i, err := range failures {
		if i != won {
			require.True(t, command.By(err, "environment-busy"), "%v", err)
			require.ErrorContains(t, err, ids[won])
		}
	}
}

// The guard of a release is a change's too: a hold that comes while a deployment
// begins is either before it, and refuses it, or after, and is refused.
func TestAHoldAndADeploymentAtOnce(t *testing.T) {
	for range 10 {
		h := open(t).estate(gated())
		r := h.ready()
		var wg sync.WaitGroup
		var deploy, hold error
		wg.Go(func() {
			_, deploy = h.releases.Do(context.Background(), alice, r.ID, release.Deploy{Environment: "production"})
		})
		wg.Go(func() { hold = h.hold("CHG-000001") })
		wg.Wait()
		require.True(t, (deploy == nil) != (hold == nil), "deploy: %v, hold: %v", deploy, hold)
	}
}
