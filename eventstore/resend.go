package eventstore

import "github.com/google/uuid"

// Resend is for stores: it judges the IDs of an append before its expectations
// are. known returns the record of an ID, if there is one. Resend returns the
// original records if events were recorded by one earlier append in the same
// bytes, nil if every ID is new, and otherwise a *DuplicateError, as ErrNotApplied.
func Resend(events []Event, known func(uuid.UUID) (Recorded, bool, error)) ([]Recorded, error) {
	var records []Recorded
	for i, e := range events {
		r, ok, err := known(e.ID)
		switch {
		case err != nil:
			return nil, err
		case ok && len(records) < i:
			return nil, NotApplied(&DuplicateError{e.ID, r.Stream, "other events of this append are new"})
		case !ok && len(records) > 0:
			return nil, NotApplied(&DuplicateError{records[0].ID, records[0].Stream, "other events of this append are new"})
		case !ok:
			continue
		case !r.Equal(e):
			return nil, NotApplied(&DuplicateError{e.ID, r.Stream, "its bytes differ"})
		case len(records) > 0 && r.Append != records[0].Append:
			return nil, NotApplied(&DuplicateError{e.ID, r.Stream, "it belongs to another append than the events before it"})
		}
		records = append(records, r)
	}
	return records, nil
}
