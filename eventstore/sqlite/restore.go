package sqlite

import (
	"context"

	"github.com/rollforward/rollforward/eventstore"
)

// Restore takes in a history recorded elsewhere, in one transaction; see
// eventstore.Restorer.
func (s *Store) Restore(ctx context.Context, after eventstore.Position, records []eventstore.Recorded) (eventstore.Position, error) {
	if err := eventstore.ValidateRestore(records); err != nil {
		return 0, err
	}
	var head eventstore.Position
	err := s.write(ctx, "restore into", func(c *conn) (bool, error) {
		var err error
		if head, err = c.head(); err != nil {
			return false, err
		}
		if head != after {
			return false, &eventstore.ConflictError{Want: uint64(after), Actual: uint64(head)}
		}
		t := c.transaction(ctx)
		first, last := eventstore.Position(0), eventstore.Position(0) // no record's Append is 0
		for _, r := range records {
			known, ok, err := c.known(r.ID)
			if err != nil {
				return false, err
			}
			if ok {
				return false, eventstore.NotApplied(&eventstore.DuplicateError{ID: r.ID, Stream: known.Stream, Reason: "it is in the log already"})
			}
			st, err := t.stream(r.Stream)
			if err != nil {
				return false, err
			}
			if st.version+1 != r.Version {
				return false, &eventstore.ConflictError{Stream: r.Stream, Want: r.Version - 1, Actual: st.version}
			}
			head++
			if r.Append != last {
				first, last = head, r.Append
			}
			r.Position, r.Append = head, first
			if err := t.add(&r); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return 0, outcome(err)
	}
	return head, nil
}
