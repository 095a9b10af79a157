package sqlite

import (
	"context"

	driver "zombiezen.com/go/sqlite"

	"github.com/rollforward/rollforward/eventstore"
)

const (
	sqlSaveCheckpoint = `INSERT INTO checkpoints (name, position, event, format, state) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, event = excluded.event, format = excluded.format, state = excluded.state`
	sqlCheckpoint       = "SELECT position, event, format, state FROM checkpoints WHERE name = ?"
	sqlDeleteCheckpoint = "DELETE FROM checkpoints WHERE name = ?"
)

// SaveCheckpoints keeps checkpoints, in one transaction; see eventstore.Checkpoints.
func (s *Store) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	for _, c := range checkpoints {
		if err := c.Validate(); err != nil {
			return err
		}
	}
	return s.write(ctx, "save checkpoints in", func(c *conn) (bool, error) {
		for _, p := range checkpoints {
			var state any
			if len(p.State) > 0 {
				state = p.State
			}
			if err := c.exec(sqlSaveCheckpoint, p.Name, int64(p.Position), p.Event[:], int64(p.Format), state); err != nil {
				return false, err
			}
		}
		return len(checkpoints) > 0, nil
	})
}

// Checkpoint returns the checkpoint of that name, or a zero one.
func (s *Store) Checkpoint(ctx context.Context, name string) (p eventstore.Checkpoint, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.each(sqlCheckpoint, func(stmt *driver.Stmt) error {
			event, err := id(stmt, 1)
			p = eventstore.Checkpoint{
				Name: name, Position: eventstore.Position(stmt.ColumnInt64(0)), Event: event,
				Format: stmt.ColumnInt(2), State: bytes(stmt, 3),
			}
			return err
		}, name)
	})
	if err != nil {
		return eventstore.Checkpoint{}, err
	}
	return p, nil
}

// DeleteCheckpoint forgets the checkpoint of that name.
func (s *Store) DeleteCheckpoint(ctx context.Context, name string) error {
	return s.write(ctx, "delete a checkpoint in", func(c *conn) (bool, error) {
		return true, c.exec(sqlDeleteCheckpoint, name)
	})
}
