package follow

import "github.com/rollforward/rollforward/eventstore"

// Within runs read for a unit of work, on one cut of at least the log as it stood
// when that first asked for its head, and returns its error. What the unit has
// pinned may be later; it runs again if that has moved.
func (f *Follower) Within(tx *eventstore.Tx, read func(v *View) error) error {
	head, err := tx.Head()
	if err != nil {
		return err
	}
	if err := f.WaitFor(tx.Context(), head); err != nil {
		return err
	}
	return f.View(tx.Context(), read)
}
