package memory_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Suite{Open: func(testing.TB) eventstore.Store { return memory.New() }}.Run(t)
}

func TestAgreesWithTheModel(t *testing.T) {
	storetest.Suite{Open: func(testing.TB) eventstore.Store { return memory.New() }}.Model(t, 2000)
}

func record(stream string, version uint64) eventstore.Recorded {
	return eventstore.Recorded{
		Event: eventstore.Event{
			ID: uuid.New(), Stream: stream, Type: "noted", Schema: 1, Tags: []string{"red"}, Data: []byte(`{"n":1}`), Meta: []byte(`{"actor":"ann"}`),
		},
		Version: version, Append: 1, RecordedAt: time.Unix(0, 0).UTC(),
	}
}

func TestNobodyElseHoldsTheBytesOfHistory(t *testing.T) {
	s := memory.New()
	want, given := record("a", 1), []eventstore.Recorded{record("a", 1)}
	want.ID = given[0].ID
	spoil := func(r eventstore.Recorded) {
		_ = append(r.Data, "000000"...) // nor may growing one field reach into another
		_ = append(r.Meta, "000000"...)
		require.True(t, want.Equal(r.Event), "%s %s", r.Data, r.Meta)
		r.Data[5], r.Meta[3], r.Tags[0] = '9', 'x', "spoilt"
	}
	_, err := s.Restore(t.Context(), 0, given)
	require.NoError(t, err)
	spoil(given[0])
	for range 2 {
		for r, err := range s.Read(t.Context(), eventstore.Query{}) {
			require.NoError(t, err)
			spoil(r)
		}
		resent, err := s.Append(t.Context(), []eventstore.Event{want.Event})
		require.NoError(t, err)
		spoil(resent[0])
	}
}

func TestARestoreWakesThoseWhoWaitAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		woken := make(chan error, 1)
		go func() { woken <- s.Wait(t.Context(), 0) }()
		synctest.Wait()
		_, err := s.Restore(t.Context(), 0, []eventstore.Recorded{record("a", 1)})
		require.NoError(t, err)
		require.NoError(t, <-woken)
	})
}

func TestARestoreSaysWhichStreamHasTheEventAlready(t *testing.T) {
	s := memory.New()
	known := record("a", 1)
	_, err := s.Restore(t.Context(), 0, []eventstore.Recorded{known})
	require.NoError(t, err)
	known.Stream = "b"
	_, err = s.Restore(t.Context(), 1, []eventstore.Recorded{known})
	var duplicate *eventstore.DuplicateError
	require.ErrorAs(t, err, &duplicate)
	require.Equal(t, "a", duplicate.Stream)
}

func TestAReadUnderWayEndsWithItsContextOrItsStore(t *testing.T) {
	for what, c := range map[string]struct {
		end  func(*memory.Store, context.CancelFunc)
		want error
	}{
		"context": {func(_ *memory.Store, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"store":   {func(s *memory.Store, _ context.CancelFunc) { s.Close() }, eventstore.ErrClosed},
	} {
		s := memory.New()
		_, err := s.Restore(t.Context(), 0, []eventstore.Recorded{record("a", 1), record("a", 2), record("a", 3)})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var errs []error
		for r, err := range s.Read(ctx, eventstore.Query{}) {
			if errs = append(errs, err); err != nil {
				require.Zero(t, r)
			}
			c.end(s, cancel)
		}
		require.True(t, slices.Equal([]error{nil, c.want}, errs), "%s: %v", what, errs)
	}
}
