package release_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/release"
)

// busy is a house in which most of what can happen has happened.
func busy(t testing.TB) *house {
	e := road()
	e[0].Gates = []release.Gate{cab("bob", "ben"), {Name: "ready", Kind: release.GateChecklist, Items: []string{"told"}}}
	h := open(t).estate(e)
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	r := h.plan(sixteen(), release.Bind{Change: c.ID}, release.AddEvidence{Evidence: release.Evidence{Kind: "tests", Values: map[string]string{"failed": "0"}}})
	h.do(bob, r.ID, release.Approve{Environment: "staging", Gate: "cab", Scope: r.Scope}, release.Note{Text: "well"})
	h.do(alice, r.ID, release.CheckItem{Environment: "staging", Item: "told", Go: true},
		release.Waive{Environment: "staging", Gate: "cab", Why: "ben is away", Until: monday.AddDate(0, 0, 1)})
	h.deployed(r.ID, "staging")
	h.do(alice, r.ID, release.Deploy{Environment: "production"}, release.Pause{Deployment: 2, Reason: "lunch"})
	h.do(alice, r.ID, release.Emerge{Raise: raise2(), Submit: true})
	h.approve(h.change("CHG-000002"))
	h.do(alice, r.ID, release.Resume{Deployment: 2})
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "1", Target: "production", Outcome: release.Unsuccessful})
	h.do(alice, r.ID, release.Rollback{Environment: "production", Reason: "broken"})
	other := sixteen()
	other.Components[0].CI, other.Bundle = "shop", "spring"
	second := h.plan(other)
	h.do(alice, second.ID, release.Edit{Set: release.Content{Kind: release.Major, Tags: []string{"b", "a"}}, Reason: "larger"}, release.Restart{Phase: "plan", Reason: "again"})
	third := h.plan(sixteen())
	h.do(alice, third.ID, release.Cancel{Reason: "twice"})
	return h
}

func (h *house) log() []eventstore.Recorded {
	h.t.Helper()
	var all []eventstore.Recorded
	for r, err := range h.store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(h.t, err)
		all = append(all, r)
	}
	return all
}

func TestReleasesAreListed(t *testing.T) {
	h := busy(t)
	for what, f := range map[string]struct {
		filter release.Filter
		want   []string
	}{
		"all":         {release.Filter{}, []string{"REL-000001", "REL-000002", "REL-000003"}},
		"open":        {release.Filter{Open: true}, []string{"REL-000001", "REL-000002"}},
		"ended":       {release.Filter{Ended: true}, []string{"REL-000003"}},
		"CI":          {release.Filter{CI: "db-01"}, []string{"REL-000001", "REL-000003"}},
		"open CI":     {release.Filter{CI: "db-01", Open: true}, []string{"REL-000001"}},
		"change":      {release.Filter{Change: "CHG-000001"}, []string{"REL-000001"}},
		"bundle":      {release.Filter{Bundle: "spring"}, []string{"REL-000002"}},
		"held":        {release.Filter{Held: true}, []string{"REL-000001"}},
		"deploying":   {release.Filter{Deploying: true}, []string{"REL-000001"}},
		"environment": {release.Filter{Environment: "staging", Deploying: true}, nil},
		"been":        {release.Filter{Environment: "staging"}, []string{"REL-000001"}},
		"kind":        {release.Filter{Kind: release.Major}, []string{"REL-000002"}},
		"phase":       {release.Filter{Phase: "canceled"}, []string{"REL-000003"}},
		"process":     {release.Filter{Process: "waterfall"}, nil},
		"planner":     {release.Filter{Planner: "bob"}, nil},
		"nothing":     {release.Filter{CI: "moon"}, nil},
	} {
		found, err := h.releases.List(t.Context(), f.filter)
		require.NoError(t, err)
		var ids []string
		for _, r := range found {
			ids = append(ids, r.ID)
		}
		require.Equal(t, f.want, ids, what)
	}
	state, members, err := h.releases.Bundle(t.Context(), "spring")
	require.NoError(t, err)
	require.Equal(t, release.BundleReady, state)
	require.Len(t, members, 1)
	for _, id := range []string{"REL-000001", "REL-000002", "REL-000003"} {
		listed, err := h.releases.List(t.Context(), release.Filter{})
		require.NoError(t, err)
		got, err := h.releases.Get(t.Context(), id)
		require.NoError(t, err)
		i := slices.IndexFunc(listed, func(r release.Release) bool { return r.ID == id })
		require.Equal(t, got, listed[i], "a read of the stream and the fold agree")
	}
	_, err = h.releases.Get(t.Context(), "REL-000009")
	require.ErrorIs(t, err, release.ErrUnknown)
	_, err = h.releases.At(t.Context(), "REL-000001", 999)
	require.ErrorIs(t, err, release.ErrUnknown)
	first, err := h.releases.At(t.Context(), "REL-000001", 1)
	require.NoError(t, err)
	require.Equal(t, "plan", first.Phase)
	h.sound()
}

// The fold is the same whatever the order in which events come and however often.
func TestTheListDoesNotMindOrderNorRepetition(t *testing.T) {
	h := busy(t)
	log := h.log()
	fold := func(events []eventstore.Recorded) string {
		l := release.Projection(h.registry).New()
		for _, e := range events {
			require.NoError(t, l.Apply(e))
		}
		state, err := l.Snapshot()
		require.NoError(t, err)
		restored := release.Projection(h.registry).New()
		require.NoError(t, restored.Restore(state))
		again, err := restored.Snapshot()
		require.NoError(t, err)
		require.Equal(t, string(state), string(again))
		return string(state)
	}
	want := fold(log)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		mixed := append(slices.Clone(log), log[:len(log)/2]...)
		random.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		got := fold(mixed)
		// Positions tell up to where a release was read, which is that of its last event.
		require.Equal(t, want, got)
	}
	l := release.Projection(h.registry).New()
	for _, e := range log[len(log)/2:] {
		require.NoError(t, l.Apply(e))
	}
	_, err := l.Snapshot()
	require.ErrorContains(t, err, "wait for others", "what is not whole is not saved")
	require.Error(t, l.Restore([]byte(`[{}]`)))
}

// What was handed out stays as it was.
func TestAReleaseThatWasHandedOutDoesNotChange(t *testing.T) {
	h := busy(t)
	var r release.Release
	var before []string
	var all []release.Release
	for _, e := range h.log() {
		if e.Stream != "release-REL-000001" {
			continue
		}
		payload, err := h.registry.Decode(e.Event)
		require.NoError(t, err)
		r = release.Evolve(r, payload)
		all, before = append(all, r), append(before, fmt.Sprintf("%+v", r))
	}
	for i := range all {
		require.Equal(t, before[i], fmt.Sprintf("%+v", all[i]), "version %d", i+1)
	}
	require.Greater(t, len(all), 15)
}

// Every event is a sentence, and one line whatever people wrote.
func TestHistoryReadsAsSentences(t *testing.T) {
	h := busy(t)
	h.do(alice, "REL-000002", release.Note{Text: "one\nFORGED\ttwo"})
	for _, id := range []string{"REL-000001", "REL-000002", "REL-000003"} {
		history, err := h.releases.History(t.Context(), id)
		require.NoError(t, err)
		for _, e := range history {
			require.NotContains(t, e.String(), "\n")
			require.NotContains(t, e.Says, "records release.", "an event without words: %s", e.Type)
			t.Log(e)
		}
	}
}
