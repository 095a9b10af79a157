package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Restore takes in a history recorded elsewhere, in one transaction; see
// eventstore.Restorer. It waits for all appends under way to end, and keeps all others
// waiting until it has committed.
func (s *Store) Restore(ctx context.Context, after eventstore.Position, records []eventstore.Recorded) (eventstore.Position, error) {
	if err := eventstore.ValidateRestore(records); err != nil {
		return 0, err
	}
	bound, leave, err := s.call(ctx)
	if err != nil {
		return 0, outcome(err)
	}
	defer leave()
	for failures := 1; ; failures++ {
		head, err := s.restore(bound, ctx, after, records)
		if err == nil {
			return head, nil
		}
		over := ended(bound)
		var unknown uncertain
		if errors.As(err, &unknown) || over != nil || !passing(err) || !s.again(bound, failures) {
			if over != nil && code(err) == "" && !errors.As(err, &unknown) {
				err = over
			}
			return 0, outcome(err)
		}
	}
}

func (s *Store) restore(bound, ctx context.Context, after eventstore.Position, records []eventstore.Recorded) (eventstore.Position, error) {
	c, err := s.pool.Acquire(bound)
	if err != nil {
		return 0, err
	}
	defer release(c)
	for _, query := range []string{sqlBegin, s.sql.lock} {
		if _, err := c.Exec(bound, query); err != nil {
			return 0, err
		}
	}
	var head eventstore.Position
	if err := row(bound, c.Conn(), s.sql.last, &head); err != nil {
		return 0, err
	}
	if head != after {
		return 0, &eventstore.ConflictError{Want: uint64(after), Actual: uint64(head)}
	}
	// Each append as it was, with a number of its own.
	var appends []*appending
	ids := make([]uuid.UUID, len(records))
	for i, r := range records {
		ids[i] = r.ID
		if i == 0 || r.Append != records[i-1].Append {
			appends = append(appends, &appending{})
		}
		a := appends[len(appends)-1]
		a.events = append(a.events, r.Event)
	}
	t, err := s.reserve(bound, c.Conn(), false, appends, true)
	if err != nil {
		return 0, err
	}
	known, err := s.byID(bound, c.Conn(), ids)
	if err != nil {
		return 0, err
	}
	for _, a := range appends {
		t.add(a)
	}
	for i, r := range records {
		if k, ok := known[r.ID]; ok {
			return 0, eventstore.NotApplied(&eventstore.DuplicateError{ID: r.ID, Stream: k.Stream, Reason: "it is in the log already"})
		}
		if next := t.rows[i].Version; next != r.Version {
			return 0, &eventstore.ConflictError{Stream: r.Stream, Want: r.Version - 1, Actual: next - 1}
		}
		t.rows[i].RecordedAt = r.RecordedAt
	}
	return t.head, s.commit(ctx, c.Conn(), t, func() {})
}
