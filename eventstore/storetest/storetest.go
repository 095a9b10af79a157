// Package storetest proves an event store: it holds the contract of
// eventstore.Store as clauses, each a sentence and a test of that sentence, and
// a model check that compares a store with the simplest one there can be.
//
//	func TestConformance(t *testing.T) {
//		storetest.Suite{
//			Open: func(t testing.TB) eventstore.Store { return memory.New() },
//		}.Run(t)
//	}
//
// What no suite can test it does not claim: that data survives a power cut, that
// a disk keeps what it acknowledged, that a clock is right. Stores have harnesses
// of their own for these.
package storetest

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

// Suite says how to get at a store and what it cannot do.
type Suite struct {
	// Open returns a fresh, empty store. The suite closes it; what else there is
	// to clean up Open registers with t.Cleanup.
	Open func(t testing.TB) eventstore.Store
	// Reopen closes a store that Open returned, if it is not closed yet, and
	// opens the same history again; nil for a store whose history ends with it.
	Reopen func(t testing.TB, store eventstore.Store) eventstore.Store
	// Features says what the store cannot do; the zero value is everything.
	Features Features
	// Patience is how long a call may take that should come at once; 10 s if 0.
	Patience time.Duration
}

// Features says what a store cannot do. A store that says nothing must do all.
type Features struct {
	NoCheckpoints bool // it is no eventstore.Checkpoints
	NoRestore     bool // it is no eventstore.Restorer
	OneStream     bool // an append concerns one stream only
}

// clause is one sentence of the contract.
type clause struct {
	group string
	says  string
	needs need
	alone bool // it looks at the whole process, so nothing else may run beside it
	run   func(t testing.TB, s Suite)
}

// need is what a clause asks of a store beyond the Store interface.
type need int

const (
	nothing need = iota
	checkpoints
	restoring
	streams // several in one append
	reopening
)

// missing returns why the clause does not apply to a store, or "".
func (c clause) missing(s Suite) string {
	switch {
	case c.needs == checkpoints && s.Features.NoCheckpoints:
		return "the store keeps no checkpoints"
	case c.needs == restoring && s.Features.NoRestore:
		return "the store restores no history"
	case c.needs == streams && s.Features.OneStream:
		return "an append of the store concerns one stream only"
	case c.needs == reopening && s.Reopen == nil:
		return "the store's history ends with it"
	}
	return ""
}

// clauses returns the whole contract in reading order.
func clauses() []clause {
	var all []clause
	for _, group := range []struct {
		name    string
		clauses []clause
	}{
		{"append", appendClauses}, {"expect", expectClauses}, {"identity", identityClauses}, {"read", readClauses},
		{"log", logClauses}, {"wait", waitClauses}, {"limits", limitClauses}, {"close", closeClauses}, {"reopen", reopenClauses},
		{"checkpoints", checkpointClauses}, {"restore", restoreClauses},
	} {
		for _, c := range group.clauses {
			c.group = group.name
			all = append(all, c)
		}
	}
	return all
}

// Run tests every clause of the contract as a subtest named group/sentence. A
// clause that does not apply to the store's Features is skipped with the reason.
func (s Suite) Run(t *testing.T) {
	for _, c := range clauses() {
		t.Run(c.group+"/"+c.says, func(t *testing.T) {
			if why := c.missing(s); why != "" {
				t.Skip(why)
			}
			c.run(t, s)
		})
	}
}

// open returns a fresh store that is closed at the end of the clause.
func (s Suite) open(t testing.TB) eventstore.Store {
	store := s.Open(t)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func (s Suite) patience() time.Duration {
	if s.Patience > 0 {
		return s.Patience
	}
	return 10 * time.Second
}

// context ends when a call that should come at once has taken too long.
func (s Suite) context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), s.patience())
	t.Cleanup(cancel)
	return ctx
}

// within fails if f takes longer than it may; f must not end the test.
func (s Suite) within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(s.patience())
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		buf := make([]byte, 1<<16)
		t.Logf("%s", buf[:runtime.Stack(buf, true)])
		require.FailNow(t, what+" did not come to an end")
	}
}

// event returns a new event of stream.
func event(stream string) eventstore.Event {
	return eventstore.Event{
		ID: uuid.Must(uuid.NewV7()), Stream: stream, Type: "thing.happened", Schema: 1,
		Data: []byte(`{"n":1}`), Meta: []byte(`{"actor":"ann"}`),
	}
}

func events(streams ...string) []eventstore.Event {
	es := make([]eventstore.Event, len(streams))
	for i, stream := range streams {
		es[i] = event(stream)
	}
	return es
}

// add appends and requires that it succeeds.
func (s Suite) add(t testing.TB, store eventstore.Store, es []eventstore.Event, expect ...eventstore.Expect) []eventstore.Recorded {
	t.Helper()
	records, err := store.Append(s.context(t), es, expect...)
	require.NoError(t, err)
	require.Len(t, records, len(es), "records returned by an append of %d events", len(es))
	return records
}

// read collects what q selects and requires that it succeeds.
func (s Suite) read(t testing.TB, store eventstore.Store, q eventstore.Query) []eventstore.Recorded {
	t.Helper()
	records, err := collect(s.context(t), store, q)
	require.NoError(t, err)
	return records
}

func collect(ctx context.Context, store eventstore.Store, q eventstore.Query) ([]eventstore.Recorded, error) {
	var records []eventstore.Recorded
	for r, err := range store.Read(ctx, q) {
		if err != nil {
			return records, err
		}
		records = append(records, r)
	}
	return records, nil
}

// same requires that two lists of records are equal in every byte.
func same(t testing.TB, want, got []eventstore.Recorded, what string) {
	t.Helper()
	require.Equal(t, len(want), len(got), "%s: number of records", what)
	for i := range want {
		if diff := difference(want[i], got[i]); diff != "" {
			require.FailNowf(t, what, "record %d of %d, event %s: %s", i+1, len(want), want[i].ID, diff)
		}
	}
}

// difference names the first field in which two records differ, or "".
func difference(want, got eventstore.Recorded) string {
	switch {
	case want.ID != got.ID:
		return "ID " + got.ID.String()
	case !want.Equal(got.Event):
		return "its bytes differ"
	case want.Version != got.Version:
		return "version"
	case want.Position != got.Position:
		return "position"
	case want.Append != got.Append:
		return "append"
	case !want.RecordedAt.Equal(got.RecordedAt):
		return "recorded at " + got.RecordedAt.String() + " instead of " + want.RecordedAt.String()
	}
	return ""
}

// outcome returns which of the three outcomes of a failed append err is, and
// requires that it is one only.
func outcome(t testing.TB, err error) error {
	t.Helper()
	require.Error(t, err)
	var is []error
	for _, o := range []error{eventstore.ErrConflict, eventstore.ErrNotApplied, eventstore.ErrOutcomeUnknown} {
		if errors.Is(err, o) {
			is = append(is, o)
		}
	}
	require.Lenf(t, is, 1, "an error is exactly one of conflict, not applied and outcome unknown: %v", err)
	return is[0]
}

// conflict requires that err is the conflict of stream, in type and figures.
func conflict(t testing.TB, err error, stream string, want, actual uint64) {
	t.Helper()
	require.ErrorIs(t, outcome(t, err), eventstore.ErrConflict)
	var c *eventstore.ConflictError
	require.ErrorAs(t, err, &c)
	require.Equal(t, eventstore.ConflictError{Stream: stream, Want: want, Actual: actual}, *c)
}

// refused requires that err says nothing was applied, because of cause.
func refused(t testing.TB, err, cause error) {
	t.Helper()
	require.ErrorIs(t, outcome(t, err), eventstore.ErrNotApplied)
	require.ErrorIs(t, err, cause)
}
