package change_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// many is an estate with changes in every state.
func many(t testing.TB) *house {
	h := open(t, memory.New()).estate()
	dba, net := upgrade(), plain("")
	dba.Content.Group, dba.Content.Category = "dba", "database"
	net.Content.Group, net.Content.CIs = "net", []string{"shop"}
	h.closed(dba, change.Successful, 1, 3)                                                        // 1
	h.raise(dba, change.Submit{})                                                                 // 2
	c := h.raise(net, change.Submit{})                                                            // 3
	h.approve(bob, c.ID, "cab")                                                                   //
	c = h.raise(net)                                                                              // 4
	h.do(carol, c.ID, change.Cancel{Reason: "no"})                                                //
	h.raise(outbreak(), change.Submit{})                                                          // 5
	h.raise(receipt())                                                                            // 6
	c, err := h.changes.Raise(context.Background(), carol, plain(""), change.Hold{Reason: "ice"}) // 7
	require.NoError(t, err)
	h.do(carol, c.ID, change.Resume{}, change.Edit{Set: change.Content{CIs: []string{"db-01"}}}, change.Hold{Reason: "ice"})
	return h
}

func TestListSelectsChanges(t *testing.T) {
	h := many(t)
	for name, c := range map[string]struct {
		filter change.Filter
		ids    string // the last digits of what is found
	}{
		"all":                          {change.Filter{}, "1234567"},
		"open":                         {change.Filter{Open: true}, "23567"},
		"ended":                        {change.Filter{Ended: true}, "14"},
		"open and ended":               {change.Filter{Open: true, Ended: true}, ""},
		"by model":                     {change.Filter{Model: "emergency"}, "5"},
		"by phase":                     {change.Filter{Phase: "authorize"}, "25"},
		"by kind":                      {change.Filter{Kind: change.KindReview}, "6"},
		"by CI, of deltas":             {change.Filter{CI: "db-01"}, "12567"},
		"by CI, open":                  {change.Filter{CI: "db-01", Open: true}, "2567"},
		"by CI, named":                 {change.Filter{CI: "shop"}, "34"},
		"by a CI that nobody declares": {change.Filter{CI: "db-02"}, ""},
		"by requester":                 {change.Filter{Requester: "carol"}, "7"},
		"by group":                     {change.Filter{Group: "dba"}, "12"},
		"by category":                  {change.Filter{Category: "database", Open: true}, "2"},
		"by who is waited for":         {change.Filter{Waiting: "ben"}, "25"},
		"by who is not":                {change.Filter{Waiting: "alice"}, ""},
		"by several":                   {change.Filter{Open: true, Waiting: "bob", Model: "normal", CI: "db-01"}, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := h.changes.List(t.Context(), c.filter)
			require.NoError(t, err)
			ids := ""
			for _, one := range found {
				ids += one.ID[len(one.ID)-1:]
				got, err := h.changes.Get(t.Context(), one.ID)
				require.NoError(t, err)
				require.Equal(t, asJSON(t, got), asJSON(t, one), "it is the change as Get returns it")
			}
			require.Equal(t, c.ids, ids, "by ID")
		})
	}
}

// asJSON is a change without the position up to which it was read: what a command
// returns has that of its append.
func asJSON(t testing.TB, c change.Change) string {
	c.Position = 0
	b, err := json.Marshal(c, json.Deterministic(true), jsontext.WithIndent("  "))
	require.NoError(t, err)
	return string(b)
}

func TestAVotedSeatIsNotWaitedFor(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.All}, "bob", "ben")))
	c := h.raise(plain("asking"), change.Submit{})
	waits := func(who string) int {
		found, err := h.changes.List(t.Context(), change.Filter{Waiting: who})
		require.NoError(t, err)
		return len(found)
	}
	require.Equal(t, []int{1, 1}, []int{waits("bob"), waits("ben")})
	h.approve(bob, c.ID, "vote")
	require.Equal(t, []int{0, 1}, []int{waits("bob"), waits("ben")})
	h.do(carol, c.ID, change.Hold{Reason: "ice"})
	require.Equal(t, 0, waits("ben"))
}

func TestWhatIsHandedOutStaysAsItWas(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.All}, "bob", "ben")))
	c := h.raise(plain("asking"), change.AddTask{Title: "x", Kind: "testing"}, change.Submit{})
	listed, err := h.changes.List(t.Context(), change.Filter{})
	require.NoError(t, err)
	before, of := asJSON(t, listed[0]), asJSON(t, c)
	h.do(alice, c.ID, change.MoveTask{ID: 1, To: "in progress"})
	h.approve(bob, c.ID, "vote")
	h.do(alice, c.ID, change.Link{Incident: change.Incident{ID: "INC-1", Relation: change.Fixes}})
	h.do(carol, c.ID, change.Hold{Reason: "ice"})
	h.do(carol, c.ID, change.Resume{}, change.Revert{Reason: "no"})
	require.Equal(t, before, asJSON(t, listed[0]))
	require.Equal(t, of, asJSON(t, c))
}

// log returns all events of a store.
func log(t testing.TB, store eventstore.Store) []eventstore.Recorded {
	var all []eventstore.Recorded
	for r, err := range store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

// snapshot folds events and returns the bytes of the list.
func snapshot(t testing.TB, events []eventstore.Recorded) []byte {
	list := change.Projection(registry(t)).New()
	for _, r := range events {
		require.NoError(t, list.Apply(r))
	}
	state, err := list.Snapshot()
	require.NoError(t, err)
	return state
}

// DESIGN 4: duplicated and reordered delivery ends in the same state.
func TestTheListIsTheSameInWhateverOrderEventsReachItAndHoweverOften(t *testing.T) {
	events := log(t, many(t).store)
	want := snapshot(t, events)
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		mixed := append(append([]eventstore.Recorded(nil), events...), events[:r.IntN(len(events))]...)
		r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		require.Equal(t, string(want), string(snapshot(t, mixed)), "seed %d", seed)
	}
}

func TestAListWithAGapHasNoSnapshot(t *testing.T) {
	events := log(t, many(t).store)
	list := change.Projection(registry(t)).New()
	for _, r := range events {
		if r.Stream != "change-CHG-000001" || r.Version != 2 {
			require.NoError(t, list.Apply(r))
		}
	}
	_, err := list.Snapshot()
	require.ErrorContains(t, err, "CHG-000001")
}

func TestARestoredListGoesOnAsIfItHadFoldedEverything(t *testing.T) {
	events := log(t, many(t).store)
	want := snapshot(t, events)
	for cut := range len(events) {
		list := change.Projection(registry(t)).New()
		require.NoError(t, list.Restore(snapshot(t, events[:cut])))
		for _, r := range events[cut:] {
			require.NoError(t, list.Apply(r))
		}
		state, err := list.Snapshot()
		require.NoError(t, err)
		require.Equal(t, string(want), string(state), "cut after %d events", cut)
	}
	list := change.Projection(registry(t)).New()
	require.Error(t, list.Restore([]byte("[{}]")))
	require.Error(t, list.Restore([]byte("no JSON")))
}

func TestAnEngineThatIsOpenedAgainAnswersTheSame(t *testing.T) {
	h := many(t)
	again := open(t, h.store)
	for _, f := range []change.Filter{{}, {Open: true}, {CI: "db-01"}, {Waiting: "bob"}} {
		want, err := h.changes.List(t.Context(), f)
		require.NoError(t, err)
		got, err := again.changes.List(t.Context(), f)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, asJSON(t, want[i]), asJSON(t, got[i]))
		}
	}
	v, err := again.follow.Verify(t.Context())
	require.NoError(t, err)
	for _, f := range v.Folds {
		require.Equal(t, follow.Same, f.Result, f.Why)
	}
}

// An answer says what the change was at each of its versions, and Get what it is.
func TestAChangeIsReadAtEveryVersion(t *testing.T) {
	h := open(t, memory.New()).estate()
	var seen []change.Change
	c := h.raise(upgrade())
	seen = append(seen, c)
	for _, step := range []struct {
		by  command.Actor
		cmd change.Command
	}{{alice, change.Submit{}}, {alice, change.Edit{Set: change.Content{Title: "Upgrade db-01"}}}, {bob, change.Reject{Stage: "cab", Reason: "no"}}, {alice, change.Note{Text: "x"}}} {
		seen = append(seen, h.do(step.by, c.ID, step.cmd))
	}
	for _, want := range seen {
		got, err := h.changes.At(t.Context(), c.ID, want.Version)
		require.NoError(t, err)
		require.Equal(t, asJSON(t, want), asJSON(t, got))
	}
	last := seen[len(seen)-1]
	got, err := h.changes.Get(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, asJSON(t, last), asJSON(t, got))

	_, err = h.changes.At(t.Context(), c.ID, last.Version+1)
	require.ErrorIs(t, err, change.ErrUnknown)
	for _, id := range []string{"", "CHG-000002", "nothing"} {
		_, err = h.changes.Get(t.Context(), id)
		require.ErrorIs(t, err, change.ErrUnknown)
		_, err = h.changes.History(t.Context(), id)
		require.ErrorIs(t, err, change.ErrUnknown)
		_, err = h.changes.Since(t.Context(), id, "bob")
		require.ErrorIs(t, err, change.ErrUnknown)
		_, err = h.changes.Next(t.Context(), bob, id)
		require.ErrorIs(t, err, change.ErrUnknown)
	}
}
