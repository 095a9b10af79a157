package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

//go:embed schema.sql
var schema string

// migrations make a schema of format n of one of format n-1, from nothing on. Each is
// applied in a transaction with the note that it is.
var migrations = []string{schema}

func (c *config) migrations() []string {
	if c.hooks.migrations != nil {
		return c.hooks.migrations
	}
	return migrations
}

// quoted is the name of the schema as it stands in SQL, where some names mean something.
func (c *config) quoted() string { return `"` + c.schema + `"` }

// prove makes the schema where there is none, brings it to the latest format, and
// refuses a server or a schema that cannot hold a store. It changes nothing it refuses.
func (s *Store) prove(ctx context.Context) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release(c)
	if err := s.proveServer(ctx, c.Conn()); err != nil {
		return err
	}
	for done := false; !done; {
		if done, err = s.migrate(ctx, c.Conn()); err != nil {
			return err
		}
	}
	return s.proveParts(ctx, c.Conn())
}

var parts = regexp.MustCompile(`(?m)^CREATE (?:TABLE|SEQUENCE|INDEX|VIEW|FUNCTION|TRIGGER) (?:rollforward\.)?(\w+)`)

// proveParts refuses a schema of which something was dropped, or a trigger switched off.
func (s *Store) proveParts(ctx context.Context, c *pgx.Conn) error {
	var names []string
	for _, found := range parts.FindAllStringSubmatch(strings.Join(s.migrations(), "\n"), -1) {
		names = append(names, found[1])
	}
	rows, err := c.Query(ctx, `SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace($1)
		UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = to_regnamespace($1)
		UNION ALL SELECT t.tgname::text FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
			WHERE c.relnamespace = to_regnamespace($1) AND t.tgenabled IN ('O', 'A')`, s.quoted())
	if err != nil {
		return err
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(there, name) })
	if len(names) > 0 {
		return damaged("the schema %s lacks %s, or it is switched off", s.schema, strings.Join(names, ", "))
	}
	return nil
}

// proveServer refuses what is not a PostgreSQL that the store can trust.
func (s *Store) proveServer(ctx context.Context, c *pgx.Conn) error {
	var version, encoding, fsync string
	var standby bool
	if err := c.QueryRow(ctx, "SELECT version(), current_setting('server_encoding'), current_setting('fsync'), pg_is_in_recovery()").
		Scan(&version, &encoding, &fsync, &standby); err != nil {
		return err
	}
	switch {
	case standby:
		return fmt.Errorf("%w: the server is a standby, which knows nothing of fences: connect to the primary", eventstore.ErrReadOnly)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the database has the encoding %s: make one with UTF8", ErrUnsupported, encoding)
	case fsync != "on":
		return fmt.Errorf("%w: the server has fsync=%s, so that a power cut loses appends or the database: switch it on", ErrDurability, fsync)
	case s.serialized:
		return nil
	}
	// What only speaks the protocol often has the functions, and no locks behind them.
	const key = 7274733012
	var seen int
	err := pgx.BeginTxFunc(ctx, c, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1::bigint)", int64(key)); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted"+
			" AND objsubid = 1 AND classid::bigint << 32 | objid::bigint = $1 AND mode = 'ShareLock'", int64(key)).Scan(&seen)
	})
	if err != nil && code(err) == "" {
		return err
	}
	if err != nil || seen != 1 || !strings.HasPrefix(version, "PostgreSQL ") || strings.Contains(version, "-YB-") {
		return errors.Join(fmt.Errorf("%w: %s shows no advisory locks as PostgreSQL does, which the fence needs: use WithSerializedAppends", ErrUnsupported, version), err)
	}
	return nil
}

// migrate does one step to the latest format, and reports whether that is reached. Who
// comes at the same time waits, and finds it done.
func (s *Store) migrate(ctx context.Context, c *pgx.Conn) (done bool, err error) {
	err = pgx.BeginTxFunc(ctx, c, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		format, err := s.format(ctx, tx)
		if err != nil {
			return err
		}
		if done = format == len(s.migrations()); done {
			return nil
		}
		// Where it is to be done it is looked at again under a lock.
		if !s.hooks.unlocked {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('rollforward migrates ' || $1, 0))", s.schema); err != nil {
				return err
			}
		}
		if format, err = s.format(ctx, tx); err != nil {
			return err
		}
		if done = format == len(s.migrations()); done {
			return nil
		}
		if format == 0 {
			// Who may not make schemas may have been given one, which IF NOT EXISTS refuses too.
			var there bool
			if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", s.schema).Scan(&there); err != nil {
				return err
			}
			if !there {
				if _, err := tx.Exec(ctx, "CREATE SCHEMA "+s.quoted()); err != nil {
					return err
				}
			}
		}
		s.at("migrate")
		// Many statements at once go by the simple protocol, which has no parameters.
		if err := script(ctx, tx.Conn(), strings.ReplaceAll(s.migrations()[format], "rollforward.", s.quoted()+".")); err != nil {
			return err
		}
		if format++; format == 1 {
			_, err = tx.Exec(ctx, "INSERT INTO "+s.quoted()+".store (format, serialized) VALUES ($1, $2)", format, s.serialized)
		} else {
			_, err = tx.Exec(ctx, "UPDATE "+s.quoted()+".store SET format = $1", format)
		}
		return err
	})
	return done, err
}

// script runs statements that have no parameters.
func script(ctx context.Context, c *pgx.Conn, statements string) error {
	results := c.PgConn().Exec(ctx, statements)
	_, err := results.ReadAll()
	return err
}

// format returns the format of the schema, 0 where there is none, and refuses one that
// is not a store's of this form, or is newer than this code.
func (s *Store) format(ctx context.Context, tx pgx.Tx) (format int, err error) {
	var tables, ours int
	if err := tx.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE c.relname = 'store') FROM pg_class AS c"+
		" JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')", s.schema).Scan(&tables, &ours); err != nil {
		return 0, err
	}
	switch {
	case tables == 0:
		return 0, nil
	case ours == 0:
		return 0, fmt.Errorf("%w: the schema %s has tables, and none of a store: give another name WithSchema", ErrForeign, s.schema)
	}
	var serialized bool
	err = tx.QueryRow(ctx, "SELECT format, serialized FROM "+s.quoted()+".store").Scan(&format, &serialized)
	switch {
	case code(err) == "42703", errors.As(err, new(pgx.ScanArgError)):
		return 0, fmt.Errorf("%w: the schema %s has a table \"store\" of another kind: give another name WithSchema", ErrForeign, s.schema)
	case noRow(err):
		return 0, damaged("the schema %s does not say which format it has", s.schema)
	case err != nil:
		return 0, err
	case format > len(s.migrations()):
		return 0, fmt.Errorf("%w: the schema %s has format %d, this program knows up to %d: upgrade it", eventstore.ErrNewerFormat, s.schema, format, len(s.migrations()))
	case format < 1:
		return 0, damaged("the schema %s has format %d, formats count from 1", s.schema, format)
	case serialized != s.serialized:
		return 0, fmt.Errorf("%w: the store %s was made %s serialized appends: open it so", ErrForeign, s.schema, map[bool]string{true: "with", false: "without"}[serialized])
	}
	return format, nil
}
