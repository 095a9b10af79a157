package postgres

import "github.com/jackc/pgx/v5/pgxpool"

// Connecting changes how the connections of a store are made.
func Connecting(change func(*pgxpool.Config)) Option {
	return func(c *config) { c.hooks.configure = change }
}

// Tries has a call that fails for a reason that passes tried so often.
func Tries(n int) Option { return func(c *config) { c.hooks.patience = n } }

// Unsynced has appends acknowledged before they are on the server's disk: the store
// does not open a server on which that could happen, and every append sees to it again.
func Unsynced() Option {
	return func(c *config) {
		c.hooks.statements = func(s *statements) {
			s.insertOne += " RETURNING set_config('synchronous_commit', 'off', true)"
			s.insertMany += " RETURNING set_config('synchronous_commit', 'off', true)"
		}
	}
}

// Connections is the pool of a store.
func Connections(s *Store) *pgxpool.Pool { return s.pool }
