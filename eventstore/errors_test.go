package eventstore_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

func TestAnErrorSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	id := uuid.MustParse("0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
	for _, c := range []struct {
		err  error
		says string
	}{
		{&eventstore.ConflictError{Stream: "book-42", Want: 3, Actual: 5}, `conflict: stream "book-42" stands at version 5, not 3: read it again and decide anew`},
		{&eventstore.ConflictError{Want: 3, Actual: 5}, `conflict: the log's head is 5, not 3: another writer was faster`},
		{&eventstore.DuplicateError{ID: id, Stream: "book-42", Reason: "its bytes differ"}, `duplicate event ID ` + id.String() + `, recorded in stream "book-42": its bytes differ: give new events new IDs`},
		{&eventstore.InputError{Field: "events[3].data", Rule: "bytes", Size: 9, Limit: 8}, `events[3].data is too large: 9 of at most 8 bytes`},
		{&eventstore.InputError{Field: "events[3].stream", Rule: "it is not empty"}, `events[3].stream is invalid: it is not empty`},
		{&eventstore.DecodeError{ID: id, Stream: "book-42", Type: "book.lent", Schema: 2, Cause: errors.New("why")}, `decode event ` + id.String() + ` of stream "book-42" (book.lent, schema 2): why`},
		{eventstore.NotApplied(errors.New("why")), `append: not applied: why`},
		{eventstore.OutcomeUnknown(errors.New("why")), `append: outcome unknown: why`},
	} {
		require.EqualError(t, c.err, c.says)
	}
}

func TestAResendThatIsNoneNamesTheEventThatIsKnown(t *testing.T) {
	first, second, fresh := sound(), sound(), sound()
	first.Stream, second.Stream, fresh.Stream = "first", "second", "fresh"
	known := func(id uuid.UUID) (eventstore.Recorded, bool, error) {
		switch id {
		case first.ID:
			return eventstore.Recorded{Event: first, Append: 1}, true, nil
		case second.ID:
			return eventstore.Recorded{Event: second, Append: 2}, true, nil
		}
		return eventstore.Recorded{}, false, nil
	}
	moved := first
	moved.Stream = "moved"
	for _, c := range []struct {
		name   string
		events []eventstore.Event
		want   eventstore.DuplicateError
	}{
		{"known, then new", []eventstore.Event{first, fresh}, eventstore.DuplicateError{ID: first.ID, Stream: "first", Reason: "other events of this append are new"}},
		{"new, then known", []eventstore.Event{fresh, first}, eventstore.DuplicateError{ID: first.ID, Stream: "first", Reason: "other events of this append are new"}},
		{"other bytes", []eventstore.Event{moved}, eventstore.DuplicateError{ID: first.ID, Stream: "first", Reason: "its bytes differ"}},
		{"two appends", []eventstore.Event{first, second}, eventstore.DuplicateError{ID: second.ID, Stream: "second", Reason: "it belongs to another append than the events before it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			records, err := eventstore.Resend(c.events, known)
			require.Nil(t, records)
			require.ErrorIs(t, err, eventstore.ErrNotApplied)
			var duplicate *eventstore.DuplicateError
			require.ErrorAs(t, err, &duplicate)
			require.Equal(t, c.want, *duplicate)
		})
	}
}

func TestALookupThatFailsIsNotANewID(t *testing.T) {
	broken := errors.New("disk gone")
	records, err := eventstore.Resend([]eventstore.Event{sound()}, func(uuid.UUID) (eventstore.Recorded, bool, error) {
		return eventstore.Recorded{}, false, broken
	})
	require.Nil(t, records)
	require.Equal(t, broken, err)
}
