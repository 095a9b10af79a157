package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

// SaveCheckpoints keeps checkpoints, in one transaction; see eventstore.Checkpoints.
func (s *Store) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	for _, c := range checkpoints {
		if err := c.Validate(); err != nil {
			return err
		}
	}
	return s.persist(ctx, "save checkpoints", func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			for _, c := range checkpoints {
				if _, err := tx.Exec(ctx, s.sql.save, c.Name, int64(c.Position), c.Event, c.Format, c.State); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Checkpoint returns the checkpoint of that name; see eventstore.Checkpoints.
func (s *Store) Checkpoint(ctx context.Context, name string) (eventstore.Checkpoint, error) {
	if err := (eventstore.Checkpoint{Name: name}).Validate(); err != nil {
		return eventstore.Checkpoint{}, err
	}
	var c eventstore.Checkpoint
	err := s.persist(ctx, "read checkpoint", func(ctx context.Context) error {
		c = eventstore.Checkpoint{Name: name}
		err := s.pool.QueryRow(ctx, s.sql.load, name).Scan(&c.Position, &c.Event, &c.Format, &c.State)
		if noRow(err) {
			c, err = eventstore.Checkpoint{}, nil
		}
		return err
	})
	return c, err
}

// DeleteCheckpoint forgets the checkpoint of that name; see eventstore.Checkpoints.
func (s *Store) DeleteCheckpoint(ctx context.Context, name string) error {
	if err := (eventstore.Checkpoint{Name: name}).Validate(); err != nil {
		return err
	}
	return s.persist(ctx, "delete checkpoint", func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, s.sql.forget, name)
		return err
	})
}
