package follow

import "github.com/rollforward/rollforward/eventstore"

// Within runs read for a unit of work, on one cut of at least the log as it stood
// when that first asked for its head, and up to after, and returns its error. What the
// unit has pinned may be later; it runs again if that has moved.
//
// after is what the unit must see, such as what the same program recorded before: the
// end of the log that can be read may lag behind what is committed.
func (f *Follower) Within(tx *eventstore.Tx, after eventstore.Position, read func(v *View) error) error {
	head, err := tx.Head()
	if err != nil {
		return err
	}
	if err := f.WaitFor(tx.Context(), max(head, after)); err != nil {
		return err
	}
	return f.View(tx.Context(), read)
}
