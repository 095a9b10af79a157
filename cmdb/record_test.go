package cmdb_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// events returns what is recorded in a stream.
func (h *house) events(t testing.TB, stream string) []eventstore.Recorded {
	var all []eventstore.Recorded
	for r, err := range h.store.Read(t.Context(), eventstore.Query{Streams: []string{stream}}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

func (h *house) head(t testing.TB) eventstore.Position {
	head, err := h.store.Head(t.Context())
	require.NoError(t, err)
	return head
}

// mustRecord records deltas, each call in an append of its own.
func (h *house) mustRecord(t testing.TB, deltas ...cmdb.Delta) {
	_, err := h.Record(t.Context(), ann, deltas...)
	require.NoError(t, err)
}

func TestNeighbouringDeltasOfOneCIStandInOneEvent(t *testing.T) {
	h := start(t)
	done, err := h.RecordCall(t.Context(), command.Call{Actor: ann, Reason: "new shop"},
		cmdb.Add("db-01", "database"), cmdb.Set("db-01", "version", "", "15"),
		cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db-01"),
		cmdb.Set("db-01", "version", "15", "16"))
	require.NoError(t, err)
	require.Len(t, done.Records, 3, "db-01, shop, db-01")
	require.Len(t, h.events(t, "ci-db-01"), 2)
	shop := h.events(t, "ci-shop")
	require.Len(t, shop, 1)
	require.Equal(t, []string{"cmdb", "ci:shop", "ci:db-01"}, shop[0].Tags)
	require.Equal(t, "cmdb.recorded", shop[0].Type)
	meta, err := eventstore.DecodeMetadata(shop[0].Meta)
	require.NoError(t, err)
	require.Equal(t, "cmdb.record", meta.Command)
	require.Equal(t, "new shop", meta.Reason)
}

func TestEveryCIOfAnEventIsFoundByItsTag(t *testing.T) {
	h := start(t)
	deltas := []cmdb.Delta{cmdb.Add("hub", "network")}
	for i := range 150 {
		deltas = append(deltas, cmdb.Add(fmt.Sprint("s", i), "server"))
	}
	for i := range 150 {
		deltas = append(deltas, cmdb.Relate("hub", "contains", fmt.Sprint("s", i)))
	}
	h.mustRecord(t, deltas...)
	for i := range 150 {
		n := 0
		for _, err := range h.store.Read(t.Context(), eventstore.Query{Tags: []string{fmt.Sprint("ci:s", i)}}) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 2, n, "its add and its relation")
	}
	impact, err := h.Impact(t.Context(), "hub", cmdb.Down)
	require.NoError(t, err)
	require.Len(t, impact.Reached, 150)
}

func TestARefusedRecordRecordsNothingAndSaysWhy(t *testing.T) {
	h := start(t)
	h.mustRecord(t, cmdb.Add("db-01", "database", cmdb.Attr("version", "15")))
	for name, c := range map[string]struct {
		deltas []cmdb.Delta
		kind   error
		rule   string
		field  string
	}{
		"nothing at all":        {nil, command.ErrMalformed, "delta-malformed", "deltas"},
		"what cannot be meant":  {[]cmdb.Delta{cmdb.Retire("db-01"), {Op: "paint", CI: "db-01"}}, command.ErrMalformed, "delta-malformed", "deltas[1]"},
		"a CI that is not text": {[]cmdb.Delta{cmdb.Retire("a\x00b")}, command.ErrMalformed, "delta-malformed", "deltas[0]"},
		"too many":              {make([]cmdb.Delta, 1001), command.ErrMalformed, "too-many-deltas", "deltas[1000]"},
		"another value":         {[]cmdb.Delta{cmdb.Add("x", "server"), cmdb.Set("db-01", "version", "14", "16")}, command.ErrRefused, "precondition-failed", "deltas[1]"},
		"an unknown CI":         {[]cmdb.Delta{cmdb.Retire("db-09")}, command.ErrRefused, "unknown-ci", "deltas[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(h.events(t, "ci-db-01")) + len(h.events(t, "ci-x"))
			_, err := h.Record(t.Context(), ann, c.deltas...)
			require.ErrorIs(t, err, c.kind)
			require.True(t, command.By(err, c.rule), "%v", err)
			var refused *command.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.field, refused.Refusals[0].Field)
			require.NotEmpty(t, refused.Refusals[0].Remedy)
			require.Equal(t, before, len(h.events(t, "ci-db-01"))+len(h.events(t, "ci-x")))

			why, err := h.WhyRecord(t.Context(), command.Call{Actor: ann}, c.deltas...)
			require.NoError(t, err)
			require.Equal(t, refused.Refusals, why)
		})
	}
	why, err := h.WhyRecord(t.Context(), command.Call{Actor: ann}, cmdb.Set("db-01", "version", "15", "16"))
	require.NoError(t, err)
	require.Empty(t, why)
	require.Len(t, h.events(t, "ci-db-01"), 1, "what is only asked records nothing")
}

func TestMoreStreamsThanAnAppendCanHoldAreRefused(t *testing.T) {
	h := start(t)
	var deltas []cmdb.Delta
	for i := range 600 {
		deltas = append(deltas, cmdb.Relate(fmt.Sprint("a", i), "depends on", fmt.Sprint("b", i)))
	}
	_, err := h.Record(t.Context(), ann, deltas...)
	require.True(t, command.By(err, "too-many-deltas"), "%v", err)
	require.ErrorIs(t, err, command.ErrMalformed)
}

// clerks judges by class and CI.
type clerks struct{ t testing.TB }

func (c clerks) Authorize(_ context.Context, r command.Request) error {
	switch r.Action {
	case cmdb.ActionRecord:
		require.Equal(c.t, []string{r.Object}, r.Attributes["ci"])
		for _, class := range r.Attributes["class"] {
			if class == "server" && r.Actor.ID == "ann" {
				return nil
			}
		}
		return errors.New("ann may record servers only")
	case cmdb.ActionDefine, cmdb.ActionImport:
		if r.Actor.ID == "root" {
			return nil
		}
	}
	return command.Refuse(command.Refusal{Kind: command.Denied, Rule: "not-root", Reason: "only root may", Remedy: "ask root"})
}

func TestOnlyWhoMayRecordsDefinesAndImports(t *testing.T) {
	store := memory.New()
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	h := open(t, store, clerks{t})
	root := command.As("root")
	_, err := h.DefineClasses(t.Context(), root, cmdb.StandardClasses()...)
	require.NoError(t, err)

	_, err = h.Record(t.Context(), ann, cmdb.Add("vm-1", "virtual-machine"))
	require.NoError(t, err, "a virtual machine is a server")
	_, err = h.Record(t.Context(), ann, cmdb.Set("vm-1", "os", "", "linux"))
	require.NoError(t, err, "of a CI that is there its class is asked about")
	_, err = h.Record(t.Context(), ann, cmdb.Add("vm-2", "virtual-machine"), cmdb.Add("db-01", "database"))
	require.Error(t, err, "every CI is asked about")
	_, err = h.Record(t.Context(), ann, cmdb.Retire("nowhere"))
	require.Error(t, err)
	require.False(t, command.By(err, "unknown-ci"), "who may not learns nothing")
	_, err = h.Get(t.Context(), "vm-2")
	require.ErrorIs(t, err, cmdb.ErrUnknownCI)

	for name, err := range map[string]error{
		"class":    second(h.DefineClasses(t.Context(), ann, cmdb.Class{Name: "printer", Parent: "item"})),
		"relation": second(h.DefineRelations(t.Context(), ann, cmdb.RelationType{Name: "loves", Inverse: "loved by", Impact: cmdb.None})),
		"import":   second(h.Import(t.Context(), ann, "netbox", cmdb.Observation{}, cmdb.ImportOptions{})),
	} {
		require.ErrorIs(t, err, command.ErrDenied, name)
		require.True(t, command.By(err, "not-root"), name)
	}
}

func second[T any](_ T, err error) error { return err }

func TestACommandWithAKeyIsDoneOnce(t *testing.T) {
	h := start(t)
	call := command.Call{Actor: ann, Key: "ticket-7"}
	first, err := h.RecordCall(t.Context(), call, cmdb.Add("db-01", "database"))
	require.NoError(t, err)
	again, err := h.RecordCall(t.Context(), call, cmdb.Add("db-01", "database"))
	require.NoError(t, err, "though db-01 is there now")
	require.True(t, again.Repeated)
	require.Equal(t, first.Position, again.Position)
	require.Len(t, h.events(t, "ci-db-01"), 1)
}

// Of people who set the same attribute of one CI at once exactly one is right
// about the value before.
func TestOfTwoWhoRecordTheSameCIAtOnceOneWins(t *testing.T) {
	h := start(t)
	h.mustRecord(t, cmdb.Add("db-01", "database", cmdb.Attr("version", "0")))
	const people, rounds = 4, 12
	for round := range rounds {
		var wg sync.WaitGroup
		errs := make([]error, people)
		for i := range people {
			wg.Go(func() {
				_, errs[i] = h.Record(t.Context(), command.As(fmt.Sprint("u-", i)), cmdb.Set("db-01", "version", fmt.Sprint(round), fmt.Sprint(round+1)))
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			require.True(t, command.By(err, "precondition-failed"), "%v", err)
		}
		require.Equal(t, 1, won)
	}
	found, err := h.Discrepancies(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
	ci, err := h.Get(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(rounds), ci.Attributes["version"])
}

// A relation and the retirement of its other end cannot both be right.
func TestARelationIsNotRecordedToACIThatIsRetiredAtTheSameInstant(t *testing.T) {
	h := start(t)
	for i := range 15 {
		db, app := fmt.Sprint("db-", i), fmt.Sprint("app-", i)
		h.mustRecord(t, cmdb.Add(db, "database"), cmdb.Add(app, "application"))
		var wg sync.WaitGroup
		var related, retired error
		wg.Go(func() { _, related = h.Record(t.Context(), ann, cmdb.Relate(app, "depends on", db)) })
		wg.Go(func() { _, retired = h.Record(t.Context(), ann, cmdb.Retire(db)) })
		wg.Wait()
		require.NoError(t, retired)
		if related != nil {
			require.True(t, command.By(related, "ci-retired"), "%v", related)
		}
	}
	found, err := h.Discrepancies(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
}

// Two CIs are different streams; what serialises them is the stream of the value.
func TestAUniqueValueIsGivenOnceAlsoAtTheSameInstant(t *testing.T) {
	h := start(t)
	_, err := h.DefineClasses(t.Context(), ann, cmdb.Class{Name: "phone", Parent: "item", Attributes: []cmdb.AttributeSchema{{Name: "number", Type: cmdb.TypeString, Unique: true}}})
	require.NoError(t, err)
	for round := range 10 {
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = h.Record(t.Context(), ann, cmdb.Add(fmt.Sprintf("phone-%d-%d", round, i), "phone", cmdb.Attr("number", fmt.Sprint("555-", round))))
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			require.True(t, command.By(err, "attribute-unique"), "%v", err)
		}
		require.Equal(t, 1, won)
	}
	phones, err := h.List(t.Context(), cmdb.Filter{Class: "phone"})
	require.NoError(t, err)
	require.Len(t, phones, 10)
	// A value that its holder left can be given again.
	free := phones[0]
	h.mustRecord(t, cmdb.Retire(free.ID))
	h.mustRecord(t, cmdb.Add("phone-x", "phone"), cmdb.Set("phone-x", "number", "", free.Attributes["number"]))
}

func TestARecordIsJudgedOnTheClassesThatHoldWhenItIsRecorded(t *testing.T) {
	h := start(t)
	for i := range 10 {
		class := fmt.Sprint("thing-", i)
		var wg sync.WaitGroup
		var defined, recorded error
		wg.Go(func() {
			_, defined = h.DefineClasses(t.Context(), ann, cmdb.Class{Name: class, Parent: "item"})
		})
		wg.Go(func() { _, recorded = h.Record(t.Context(), ann, cmdb.Add(class, class)) })
		wg.Wait()
		require.NoError(t, defined)
		if recorded != nil {
			require.True(t, command.By(recorded, "unknown-class"), "%v", recorded)
		}
	}
}

// watched is a store that tells of what is asked of it, before it answers, under
// a context that has a listener: so it does not tell of what a follower asks.
type watched struct {
	*memory.Store
}

type listener struct{}

func listen(ctx context.Context, asks func(what string)) context.Context {
	return context.WithValue(ctx, listener{}, asks)
}

func told(ctx context.Context, what string) {
	if asks, ok := ctx.Value(listener{}).(func(string)); ok {
		asks(what)
	}
}

func (w *watched) Version(ctx context.Context, stream string) (uint64, error) {
	told(ctx, "version of "+stream)
	return w.Store.Version(ctx, stream)
}

func (w *watched) Head(ctx context.Context) (eventstore.Position, error) {
	told(ctx, "head")
	return w.Store.Head(ctx)
}

func (w *watched) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	told(ctx, "read of "+strings.Join(q.Streams, ","))
	return w.Store.Read(ctx, q)
}

func (w *watched) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	told(ctx, "append")
	return w.Store.Append(ctx, events, expect...)
}

// Whenever somebody else is faster, at every single step of a Record: what he
// recorded is what the Record is judged on.
func TestNobodyOvertakesARecordAtAnyOfItsSteps(t *testing.T) {
	unique := cmdb.Class{Name: "phone", Parent: "item", Attributes: []cmdb.AttributeSchema{{Name: "number", Type: cmdb.TypeString, Unique: true}}}
	for name, c := range map[string]struct {
		given, theirs, ours []cmdb.Delta
		rule                string
	}{
		"the same attribute": {
			[]cmdb.Delta{cmdb.Add("db-01", "database")},
			[]cmdb.Delta{cmdb.Set("db-01", "version", "", "15")}, []cmdb.Delta{cmdb.Set("db-01", "version", "", "16")}, "precondition-failed",
		},
		"a relation to what is retired": {
			[]cmdb.Delta{cmdb.Add("db-01", "database"), cmdb.Add("app", "application")},
			[]cmdb.Delta{cmdb.Retire("db-01")}, []cmdb.Delta{cmdb.Relate("app", "depends on", "db-01")}, "ci-retired",
		},
		"the same unique value": {
			nil, []cmdb.Delta{cmdb.Add("phone-1", "phone", cmdb.Attr("number", "555"))}, []cmdb.Delta{cmdb.Add("phone-2", "phone", cmdb.Attr("number", "555"))}, "attribute-unique",
		},
	} {
		t.Run(name, func(t *testing.T) {
			overtaken := 0
			for step := 0; ; step++ {
				inner := memory.New()
				t.Cleanup(func() { require.NoError(t, inner.Close()) })
				store := &watched{Store: inner}
				h, other := open(t, store, command.AllowAll), open(t, inner, command.AllowAll)
				h.ship(t)
				_, err := h.DefineClasses(t.Context(), ann, unique)
				require.NoError(t, err)
				if c.given != nil {
					h.mustRecord(t, c.given...)
				}
				asked := 0
				ctx := listen(t.Context(), func(string) {
					if asked++; asked == step+1 {
						other.mustRecord(t, c.theirs...)
						overtaken++
					}
				})
				_, err = h.Record(ctx, ann, c.ours...)
				if asked <= step {
					require.NoError(t, err, "nobody was faster")
					break
				}
				require.True(t, command.By(err, c.rule), "overtaken at step %d: %v", step, err)
			}
			require.Greater(t, overtaken, 3)
		})
	}
}

func TestARecordReadsNoStreamWhereTheGraphShowsAll(t *testing.T) {
	inner := memory.New()
	t.Cleanup(func() { require.NoError(t, inner.Close()) })
	store := &watched{Store: inner}
	h := open(t, store, command.AllowAll)
	h.ship(t)
	h.mustRecord(t, cmdb.Add("db-01", "database"), cmdb.Add("shop", "service"))
	h.mustImport(t, cmdb.ImportOptions{}, seen("1", nil))
	require.NoError(t, h.follower.Snapshot(t.Context()))
	restored := open(t, store, command.AllowAll)
	require.NoError(t, restored.follower.WaitFor(t.Context(), h.head(t)))
	require.NotZero(t, restored.follower.Status().Folds[0].Snapshot)
	for i, h := range []*house{restored, h} {
		var asked, read []string
		ctx := listen(t.Context(), func(what string) {
			asked = append(asked, what)
			if strings.HasPrefix(what, "read of ") {
				read = append(read, what)
			}
		})
		version := []string{"", "1", "2"}
		_, err := h.Record(ctx, ann, cmdb.Set("db-01", "version", version[i], version[i+1]), cmdb.Relate("shop", []string{"depends on", "runs on"}[i], "db-01"))
		require.NoError(t, err)
		_, err = h.Import(ctx, ann, "netbox", cmdb.Observation{Items: []cmdb.ObservedItem{seen("1", map[string]string{"version": fmt.Sprint(i)})}}, cmdb.ImportOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, asked)
		require.Empty(t, read)
	}
}

// lagging is a store whose log can be read later than its streams, as a store of
// several writers may be.
type lagging struct {
	eventstore.Store
	mu     sync.Mutex
	behind eventstore.Position // events from here on are not readable in the log
	bell   chan struct{}
}

func (l *lagging) hold(from eventstore.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind = from
	close(l.bell)
	l.bell = make(chan struct{})
}

func (l *lagging) frontier() (eventstore.Position, chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.behind, l.bell
}

func (l *lagging) Head(ctx context.Context) (eventstore.Position, error) {
	head, err := l.Store.Head(ctx)
	if behind, _ := l.frontier(); behind > 0 && head >= behind {
		head = behind - 1
	}
	return head, err
}

func (l *lagging) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		behind, _ := l.frontier()
		for r, err := range l.Store.Read(ctx, q) {
			if err == nil && len(q.Streams) == 0 && behind > 0 && r.Position >= behind {
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (l *lagging) Wait(ctx context.Context, after eventstore.Position) error {
	for {
		behind, bell := l.frontier()
		if behind == 0 || after+1 < behind {
			return l.Store.Wait(ctx, after)
		}
		select {
		case <-bell:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestARecordIsNotDecidedOnALogThatLagsBehind(t *testing.T) {
	inner := memory.New()
	t.Cleanup(func() { require.NoError(t, inner.Close()) })
	store := &lagging{Store: inner, bell: make(chan struct{})}
	h := open(t, store, command.AllowAll)
	h.ship(t)
	h.mustRecord(t, cmdb.Add("db-01", "database", cmdb.Attr("version", "15")))
	head := h.head(t)

	// Somebody in another process sets it to 16, and the log does not show it yet.
	store.hold(head + 1)
	other := open(t, inner, command.AllowAll)
	other.mustRecord(t, cmdb.Set("db-01", "version", "15", "16"))
	require.Equal(t, head, h.head(t))

	result := make(chan error, 1)
	go func() {
		_, err := h.Record(t.Context(), ann, cmdb.Set("db-01", "version", "15", "17"))
		result <- err
	}()
	select {
	case err := <-result:
		t.Fatalf("decided on a value that is no longer there: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	store.hold(0)
	require.True(t, command.By(<-result, "precondition-failed"))
}

func TestARecordGoesOnWhereAnEventOfItsCIIsParked(t *testing.T) {
	h := start(t)
	h.mustRecord(t, cmdb.Add("db-01", "database", cmdb.Attr("version", "15")))
	// An event that no program can read, in the CI's own stream.
	e := h.events(t, "ci-db-01")[0].Event
	e.ID[0] ^= 0xff
	e.Data = []byte(`{"deltas":7}`)
	_, err := h.store.Append(t.Context(), []eventstore.Event{e})
	require.NoError(t, err)
	var stopped *follow.StoppedError
	require.ErrorAs(t, h.follower.WaitFor(t.Context(), h.head(t)), &stopped)
	_, err = h.Record(t.Context(), ann, cmdb.Set("db-01", "version", "15", "16"))
	require.ErrorAs(t, err, &stopped, "what a stopped follower knows is not what the log says")

	require.NoError(t, h.follower.Park(t.Context(), "cmdb", e.ID, eventstore.Metadata{Actor: "ann", Reason: "a mistake"}))
	h.mustRecord(t, cmdb.Set("db-01", "version", "15", "16"))
}

func TestTheFoldIsWhatTheLogGives(t *testing.T) {
	h := start(t)
	h.mustRecord(t, cmdb.Add("db-01", "database"), cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db-01"))
	h.mustRecord(t, cmdb.Retire("shop"))
	_, err := h.Import(t.Context(), ann, "nmap", cmdb.Observation{Items: []cmdb.ObservedItem{{Key: "1", CI: "db-01", Class: "database", Attributes: map[string]string{"port": "5432"}}}}, cmdb.ImportOptions{})
	require.NoError(t, err)
	found, err := h.follower.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, follow.Same, found.Folds[0].Result)
}

func TestAReopenedServiceShowsTheSame(t *testing.T) {
	store := memory.New()
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	h := open(t, store, command.AllowAll)
	h.ship(t)
	h.mustRecord(t, cmdb.Add("db-01", "database", cmdb.Attr("version", "15")), cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db-01"))
	require.NoError(t, h.follower.Snapshot(t.Context()))
	h.mustRecord(t, cmdb.Set("db-01", "version", "15", "16"))

	again := open(t, store, command.AllowAll)
	require.NoError(t, again.follower.WaitFor(t.Context(), h.door.Last()))
	ci, err := again.Get(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, "16", ci.Attributes["version"])
	impact, err := again.Impact(t.Context(), "db-01", cmdb.Down)
	require.NoError(t, err)
	require.Len(t, impact.Reached, 1)
	status := again.follower.Status()
	require.NotZero(t, status.Folds[0].Snapshot, "it began at the snapshot")
	_, err = again.follower.Verify(t.Context())
	require.NoError(t, err)
}

func TestAServiceNeedsAllItStandsOn(t *testing.T) {
	h := start(t)
	whole := cmdb.Config{Door: h.door, Store: h.store, Registry: h.registry, Follower: h.follower, Graph: h.graph}
	for name, spoil := range map[string]func(*cmdb.Config){
		"door":     func(c *cmdb.Config) { c.Door = nil },
		"store":    func(c *cmdb.Config) { c.Store = nil },
		"registry": func(c *cmdb.Config) { c.Registry = nil },
		"follower": func(c *cmdb.Config) { c.Follower = nil },
		"graph":    func(c *cmdb.Config) { c.Graph.New = nil },
		"types": func(c *cmdb.Config) {
			registry, err := eventstore.NewRegistry(command.Types()...)
			require.NoError(t, err)
			c.Registry = registry
		},
	} {
		config := whole
		spoil(&config)
		_, err := cmdb.New(config)
		require.Error(t, err, name)
	}
}

func TestShippingDoesNothingWhereClassesAreDefined(t *testing.T) {
	h := start(t)
	before := len(h.events(t, "classes"))
	require.Equal(t, len(cmdb.StandardClasses())+len(cmdb.StandardRelations()), before)
	h.ship(t)
	require.Len(t, h.events(t, "classes"), before)
}

func TestQueriesOfWhatIsNotThereAreErrors(t *testing.T) {
	h := start(t)
	for name, err := range map[string]error{
		"get":           second(h.Get(t.Context(), "nowhere")),
		"history":       second(h.History(t.Context(), "nowhere")),
		"impact":        second(h.Impact(t.Context(), "nowhere", cmdb.Down)),
		"neighbourhood": second(h.Neighbourhood(t.Context(), "nowhere", 1)),
	} {
		require.ErrorIs(t, err, cmdb.ErrUnknownCI, name)
		require.ErrorContains(t, err, "nowhere")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, h.follower.Close())
	for name, err := range map[string]error{
		"get":           second(h.Get(ctx, "db-01")),
		"list":          second(h.List(ctx, cmdb.Filter{})),
		"history":       second(h.History(ctx, "db-01")),
		"impact":        second(h.Impact(ctx, "db-01", cmdb.Down)),
		"discrepancies": second(h.Discrepancies(ctx)),
		"neighbourhood": second(h.Neighbourhood(ctx, "db-01", 1)),
	} {
		require.Error(t, err, "%s: unknown is not clear", name)
	}
}

func TestAListSelectsByClassAndAttributes(t *testing.T) {
	h := start(t)
	h.mustRecord(t,
		cmdb.Add("vm-2", "virtual-machine", cmdb.Attr("os", "linux"), cmdb.Attr("environment", "test")),
		cmdb.Add("vm-1", "virtual-machine", cmdb.Attr("os", "linux")),
		cmdb.Add("host-1", "physical-server", cmdb.Attr("os", "linux"), cmdb.Attr("environment", "test")),
		cmdb.Add("db-01", "database"), cmdb.Add("old", "virtual-machine"), cmdb.Retire("old"))
	for want, f := range map[string]cmdb.Filter{
		"db-01 host-1 vm-1 vm-2":     {},
		"db-01 host-1 old vm-1 vm-2": {Retired: true},
		"host-1 vm-1 vm-2":           {Class: "server"},
		"vm-1 vm-2":                  {Class: "virtual-machine"},
		"host-1 vm-2":                {Class: "item", Attributes: map[string]string{"os": "linux", "environment": "test"}},
		"vm-1":                       {Class: "server", Attributes: map[string]string{"environment": ""}},
		"db-01 host-1":               {Limit: 2},
		"vm-1 ":                      {After: "host-1", Limit: 1},
		"":                           {Class: "spaceship"},
	} {
		cis, err := h.List(t.Context(), f)
		require.NoError(t, err)
		var ids []string
		for _, ci := range cis {
			ids = append(ids, ci.ID)
		}
		require.Equal(t, strings.TrimSpace(want), strings.Join(ids, " "))
	}
}
