package rollforward_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestMain(m *testing.M) {
	if writer() || crowded() || driving() {
		return // this process is a child of a test
	}
	goleak.VerifyTestMain(storefor.Tests{M: m})
}

var (
	alice = command.As("alice")
	bob   = command.As("bob")
	carol = command.As("carol")
	dave  = command.As("dave")
	erin  = command.As("erin")

	roles = command.Roles{
		"alice": {command.Requester},
		"bob":   {command.Approver},
		"carol": {command.ChangeManager, command.ConfigManager},
		"dave":  {command.Implementer},
		"erin":  {command.Reviewer},
	}
)

func open(t testing.TB, store eventstore.Store, configs ...func(*rollforward.Config)) *rollforward.Engine {
	config := rollforward.Config{Authorizer: roles}
	for _, c := range configs {
		c(&config)
	}
	e, err := rollforward.Open(context.Background(), store, config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "changes.db") }

func openFile(t testing.TB, path string) eventstore.Store {
	store, err := sqlite.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func estate(t testing.TB, e *rollforward.Engine) {
	_, err := e.CMDB.Record(context.Background(), carol,
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15"), cmdb.Attr("criticality", "high")),
		cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db-01"))
	require.NoError(t, err)
}

func upgrade() change.Raise {
	return change.Raise{Content: change.Content{
		Title:  "Upgrade db-01 to 16",
		Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")},
	}}
}

// assessed submits a change and judges its risk by hand.
func assessed(t testing.TB, e *rollforward.Engine) change.Change {
	c, err := e.Changes.Raise(context.Background(), alice, upgrade(), change.Submit{})
	require.NoError(t, err)
	c, err = e.Changes.Do(context.Background(), carol, c.ID, change.Assess{Level: "low", Why: "done twice before"})
	require.NoError(t, err)
	require.Equal(t, "authorize", c.Phase)
	return c
}

func TestOpenWithoutAnAuthorizerNamesTheChoices(t *testing.T) {
	_, err := rollforward.Open(t.Context(), memory.New(), rollforward.Config{})
	require.ErrorContains(t, err, "command.Roles")
	require.ErrorContains(t, err, "command.AllowAll")
	_, err = rollforward.Open(t.Context(), nil, rollforward.Config{Authorizer: command.AllowAll})
	require.ErrorContains(t, err, "store")
}

func TestARiskPolicyThatWasRefusedWhenBuiltIsRefusedByOpen(t *testing.T) {
	gap := risk.Questionnaire("gaps", []risk.Question{{ID: "q", Text: "?", Choices: []risk.Choice{{Text: "no", Value: 0}, {Text: "yes", Value: 9}}}},
		risk.Threshold{Level: risk.Low, To: "3"}, risk.Threshold{Level: risk.High, From: "7"})
	require.Error(t, gap.Err())
	_, err := rollforward.Open(t.Context(), memory.New(), rollforward.Config{Authorizer: roles, Risk: gap})
	require.ErrorIs(t, err, risk.ErrInvalid)
}

func TestAReopenedLogGivesTheSameState(t *testing.T) {
	path := file(t)
	store := openFile(t, path)
	e := open(t, store)
	estate(t, e)
	c := assessed(t, e)
	c, err := e.Changes.Do(t.Context(), bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	require.NoError(t, err)
	c, err = e.Changes.Do(t.Context(), dave, c.ID, change.Start{}, change.Complete{})
	require.NoError(t, err)
	db, err := e.CMDB.Get(t.Context(), "db-01")
	require.NoError(t, err)
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.NoError(t, store.Close())

	again := open(t, openFile(t, path))
	got, err := again.Changes.Get(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, c, got)
	listed, err := again.Changes.List(t.Context(), change.Filter{CI: "db-01"})
	require.NoError(t, err)
	require.Equal(t, []change.Change{got}, listed)
	same, err := again.CMDB.Get(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, db, same)
	require.Equal(t, "16", same.Attributes["version"])
	require.Equal(t, head, again.Status().Folds.Head, "opening again records nothing")
	v, err := again.Verify(t.Context())
	require.NoError(t, err)
	for _, fold := range v.Folds {
		require.Equal(t, follow.Same, fold.Result, fold.Why)
	}
}

func TestCloseRefusesWhatComesLaterAndWaitsForWhatIsUnderWay(t *testing.T) {
	e := open(t, memory.New())
	estate(t, e)
	begun, finish := make(chan struct{}), make(chan struct{})
	raised := make(chan error, 1)
	go func() {
		_, err := e.Door.Do(context.Background(), command.Call{Actor: carol, Action: "change.note"}, func(tx *command.Tx) error {
			close(begun)
			<-finish
			return nil
		})
		raised <- err
	}()
	<-begun
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	require.Eventually(t, func() bool {
		_, err := e.Changes.Raise(context.Background(), alice, upgrade())
		return errors.Is(err, eventstore.ErrClosed)
	}, 5*time.Second, time.Millisecond)
	select {
	case <-closed:
		t.Fatal("Close did not wait for a command under way")
	default:
	}
	close(finish)
	require.NoError(t, <-raised)
	require.NoError(t, <-closed)
	require.NoError(t, e.Close(), "a second Close is the first")
}

// What an engine brings along is in the log once, also where several open it at
// the same moment.
func TestSeveralEnginesOpenOneLog(t *testing.T) {
	store := openFile(t, file(t))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			e, err := rollforward.Open(context.Background(), store, rollforward.Config{Authorizer: roles})
			if err == nil {
				err = e.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, m := range change.Models() {
		version, err := store.Version(t.Context(), "model-"+m.Name)
		require.NoError(t, err)
		require.EqualValues(t, 1, version, m.Name)
	}
}

// Eight people edit and approve the same change at once. Nobody's approval may
// cover a scope that he did not name.
func TestNobodysApprovalCoversAScopeHeDidNotName(t *testing.T) {
	store := memory.New()
	eight := command.Roles{"carol": {command.ChangeManager, command.ConfigManager}, "alice": {command.Requester}}
	members := []string{}
	for i := range 8 {
		name := fmt.Sprintf("p%d", i)
		members = append(members, name)
		eight[name] = []command.Role{command.Approver, command.Requester}
	}
	e := open(t, store, func(c *rollforward.Config) {
		c.Authorizer = eight
		c.Directory = change.People{Groups: map[string][]string{"eight": members}}
		c.RefusalsPerMinute = 1
	})
	estate(t, e)
	m := change.Models()[0]
	m.Name = "together"
	m.Stages[0].Candidates = []change.Candidate{{Group: "eight", EachMember: true}}
	m.Stages[0].Rule = change.Rule{Counting: change.AtLeast, N: 3}
	_, err := e.Changes.Publish(t.Context(), carol, m)
	require.NoError(t, err)
	raise := upgrade()
	raise.Model = "together"
	c, err := e.Changes.Raise(t.Context(), alice, raise, change.Submit{})
	require.NoError(t, err)
	_, err = e.Changes.Do(t.Context(), carol, c.ID, change.Assess{Level: "low", Why: "small"})
	require.NoError(t, err)

	rounds := 40
	if race.Enabled {
		rounds = 12
	}
	var votes, edits, stale atomic.Int32
	var people sync.WaitGroup
	for i, name := range members {
		people.Go(func() {
			actor := command.As(name)
			for n := range rounds {
				seen, err := e.Changes.Get(context.Background(), c.ID)
				if err != nil {
					t.Error(err)
					return
				}
				var cmd change.Command = change.Approve{Stage: "cab", Scope: seen.Scope}
				if (n+i)%3 == 0 {
					at := time.Date(2030, 1, 1+n, i, 0, 0, 0, time.UTC)
					cmd = change.Edit{Set: change.Content{Window: change.Between(at, at.Add(time.Hour))}}
				}
				_, err = e.Changes.Do(context.Background(), actor, c.ID, cmd)
				var refused *command.Error
				switch _, edit := cmd.(change.Edit); {
				case err == nil && edit:
					edits.Add(1)
				case err == nil:
					votes.Add(1)
				case command.By(err, "scope-changed"):
					stale.Add(1)
				case !errors.As(err, &refused):
					t.Error(err)
				}
			}
		})
	}
	people.Wait()
	t.Logf("%d edits, %d votes, %d votes for a scope that was no longer so", edits.Load(), votes.Load(), stale.Load())
	require.NotZero(t, edits.Load())
	require.NotZero(t, votes.Load())

	// By the events alone: every vote that counts names the scope in force.
	registry, err := eventstore.NewRegistry(change.Types()...)
	require.NoError(t, err)
	scope, approvals := "", map[string]string{}
	for r, err := range store.Read(t.Context(), eventstore.Query{Streams: []string{"change-" + c.ID}}) {
		require.NoError(t, err)
		payload, err := registry.Decode(r.Event)
		require.NoError(t, err)
		switch p := payload.(type) {
		case change.Raised:
			scope = p.Scope
		case change.Edited:
			scope = p.Scope
			clear(approvals)
		case change.Voted:
			require.Equal(t, scope, p.Vote.Scope)
			approvals[p.Vote.By] = p.Vote.Scope
		case change.StageDecided:
			require.GreaterOrEqual(t, len(approvals), 3)
		case change.Authorized:
			require.Equal(t, scope, p.Scope)
			require.GreaterOrEqual(t, len(approvals), 3)
			for who, named := range approvals {
				require.Equal(t, scope, named, who)
			}
		}
	}
}

func TestManyRaiseAtOnceAndNumbersHaveNoGapAtFullSize(t *testing.T) {
	many := 1000
	if race.Enabled {
		many = 200
	}
	for name, store := range map[string]eventstore.Store{"memory": memory.New(), "sqlite": openFile(t, file(t))} {
		t.Run(name, func(t *testing.T) {
			e := open(t, store)
			var mu sync.Mutex
			ids := map[string]bool{}
			var left atomic.Int32
			left.Store(int32(many))
			var people sync.WaitGroup
			for range 64 {
				people.Go(func() {
					for left.Add(-1) >= 0 {
						c, err := e.Changes.Raise(context.Background(), alice, change.Raise{Content: change.Content{Title: "one of many"}})
						if err != nil {
							t.Error(err)
							return
						}
						// A refused raise burns no number.
						if _, err := e.Changes.Raise(context.Background(), alice, change.Raise{}); !command.By(err, "title-required") {
							t.Error(err)
						}
						mu.Lock()
						ids[c.ID] = true
						mu.Unlock()
					}
				})
			}
			people.Wait()
			require.Len(t, ids, many)
			for n := 1; n <= many; n++ {
				require.True(t, ids[fmt.Sprintf("CHG-%06d", n)], n)
			}
			version, err := store.Version(t.Context(), "register-CHG")
			require.NoError(t, err)
			require.EqualValues(t, many, version)
		})
	}
}

func TestAKeyGivesOneEffectAndTheSameAnswerAlsoAfterARestart(t *testing.T) {
	path := file(t)
	store := openFile(t, path)
	e := open(t, store)
	estate(t, e)
	call := command.Call{Actor: alice, Key: "order-7"}
	first, err := e.Changes.RaiseCall(t.Context(), call, upgrade(), change.Submit{})
	require.NoError(t, err)
	approve := command.Call{Actor: bob, Key: "mail-12"}
	_, err = e.Changes.Do(t.Context(), carol, first.ID, change.Assess{Level: "low", Why: "small"})
	require.NoError(t, err)
	approved, err := e.Changes.DoCall(t.Context(), approve, first.ID, change.Approve{Stage: "cab", Scope: first.Scope})
	require.NoError(t, err)
	_, err = e.Changes.Do(t.Context(), dave, first.ID, change.Start{})
	require.NoError(t, err)

	same := func(e *rollforward.Engine) {
		before, err := store.Head(t.Context())
		require.NoError(t, err)
		got, err := e.Changes.RaiseCall(t.Context(), call, upgrade(), change.Submit{})
		require.NoError(t, err)
		require.Equal(t, first, got)
		got, err = e.Changes.DoCall(t.Context(), approve, first.ID, change.Approve{Stage: "cab", Scope: first.Scope})
		require.NoError(t, err)
		require.Equal(t, approved, got)
		after, err := store.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, before, after)
		_, err = e.Changes.DoCall(t.Context(), approve, first.ID, change.Reject{Stage: "cab", Reason: "no"})
		require.True(t, command.By(err, "key-reused"), "%v", err)
	}
	same(e)
	require.NoError(t, e.Close())
	require.NoError(t, store.Close())
	store = openFile(t, path)
	same(open(t, store))
}

func TestAFloodOfDenialsLeavesFewEventsAndDisturbsNobodyAtFullSize(t *testing.T) {
	flood := 100_000
	if race.Enabled {
		flood = 1_000
	}
	store := openFile(t, file(t))
	e := open(t, store)
	estate(t, e)
	c, err := e.Changes.Raise(t.Context(), alice, upgrade())
	require.NoError(t, err)
	alone := notes(t, e, c.ID, 20)

	done := make(chan struct{})
	go func() {
		defer close(done)
		for range flood {
			if _, err := e.Changes.Do(context.Background(), erin, c.ID, change.Start{}); !errors.Is(err, command.ErrDenied) {
				t.Error(err)
				return
			}
		}
	}()
	beside := notes(t, e, c.ID, 20)
	<-done
	require.NoError(t, e.Close())

	events := 0
	for _, err := range store.Read(t.Context(), eventstore.Query{Prefix: "refusals-"}) {
		require.NoError(t, err)
		events++
	}
	require.NotZero(t, events)
	require.Less(t, events, 200)
	t.Logf("%d denials left %d events; a note took %v alone and %v beside them", flood, events, alone, beside)
}

// notes writes notes on a change, none of which may fail, and returns the time of one.
func notes(t *testing.T, e *rollforward.Engine, id string, n int) time.Duration {
	begin := time.Now()
	for i := range n {
		_, err := e.Changes.Do(t.Context(), alice, id, change.Note{Text: fmt.Sprint("note ", i)})
		require.NoError(t, err)
	}
	return time.Since(begin) / time.Duration(n)
}
