// Package postgres is the event store for several processes: a log in a PostgreSQL
// database, whose readers miss nothing and whose writers do not wait for each other.
// It keeps the whole contract of eventstore.Store, and checkpoints.
//
//	store, err := postgres.Open(ctx, "postgres://app@db/changes")
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//
//	records, err := store.Append(ctx, events, eventstore.At("change-CHG-000042", 7))
//
// What comes in is validated by package eventstore and bound to placeholders;
// what goes out is the same bytes. Errors are those of package eventstore, and
// ErrForeign, ErrDurability, ErrIsolation and ErrUnsupported.
//
// # Order without a queue
//
// Positions are drawn from a sequence before transactions commit, and transactions do
// not commit in the order in which they drew. Whoever reads "what is later than the
// last I saw" therefore misses what commits late. Here an append takes a fence before
// it draws: a shared advisory lock on the number drawn last, held to its end. Who reads
// the log looks at the sequence, then at the fences, and reads up to the lowest of
// them. Writers of different streams never wait for each other, and a transaction that
// is left open holds back those who read the log, never those who write or who read a
// stream. Store.Fences shows who holds it back and for how long.
//
// WithSerializedAppends is the plain way: one row that every append locks.
// Its positions are dense, it needs no advisory locks, and its writers take turns.
//
// # Positions
//
// Number n of the sequence holds the positions n*1000 to n*1000+999, so the 1310th
// append stands at 1310000, 1310001 and so on. Numbers of appends that failed are never used.
//
// # Durability
//
// An append that has returned is committed with synchronous_commit=on or stronger;
// Open fails with ErrDurability on a server with fsync=off. Where the connection breaks
// within a commit the store sends the events again, under the same IDs, to find out.
//
// # Many at once
//
// Appends of one process that come while another one commits share the next commit.
// AppendWith and AppendTx commit tables of the caller's own with an append.
//
// # Several stores
//
// A store is a schema of the database, "rollforward" if WithSchema does not say
// otherwise; stores in one database do not disturb each other.
//
// # For people
//
// The view history shows the log in psql:
//
//	SELECT recorded_at, stream, type, actor, reason FROM rollforward.history
//
// Triggers refuse to change or delete what is recorded. They guard against accidents,
// not against tampering: the owner of the tables can drop them.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/wake"
)

// Store is an event store in a PostgreSQL database. Make one with Open.
type Store struct {
	config
	pool    *pgxpool.Pool
	sql     statements
	queue   queue
	bell    wake.Bell
	watch   watch
	memo    memo
	closing sync.Once
	done    chan struct{} // closed by Close
	calls   calls
}

var (
	_ eventstore.Store       = (*Store)(nil)
	_ eventstore.Checkpoints = (*Store)(nil)
	_ eventstore.Restorer    = (*Store)(nil)
	_ eventstore.Recaller    = (*Store)(nil)
)

// Option changes how a Store is opened.
type Option func(*config)

type config struct {
	schema     string
	serialized bool
	pollOnly   bool
	now        func() time.Time // nil: the server's clock
	hooks      hooks
}

// hooks are for tests. The zero hooks do nothing.
type hooks struct {
	statements func(*statements)     // changes what is sent
	step       func(name string)     // called before what it names
	patience   int                   // tries of a call; 0: tries
	configure  func(*pgxpool.Config) // changes how connections are made
	apart      bool                  // each append commits by itself
	migrations []string              // in place of those there are
	unlocked   bool                  // who migrates does not wait for another who does
}

// WithSchema puts the store in another schema than "rollforward": lower-case letters,
// digits and underscores, at most 48 of them, a letter first. It is made if need be.
func WithSchema(name string) Option { return func(c *config) { c.schema = name } }

// WithSerializedAppends draws positions from a row that each append locks to its end:
// they are dense, and nothing but plain SQL is needed, but writers take turns, also
// those of other processes and of other streams. A store is made so or with the fence
// and stays so; Open refuses to change it.
func WithSerializedAppends() Option { return func(c *config) { c.serialized = true } }

// PollOnly makes Wait look for new events from time to time and not listen for them:
// for connections through a pooler that shares them among transactions.
func PollOnly() Option { return func(c *config) { c.pollOnly = true } }

// WithClock sets the clock of RecordedAt; that of the server by default, so that all
// processes have one.
func WithClock(now func() time.Time) Option { return func(c *config) { c.now = now } }

// connections is how many a store opens at most where the connection string does not
// say it with pool_max_conns. A page of a read holds one, never a consumer that thinks.
const connections = 16

var identifier = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// Open connects to the database and opens the log in it, or makes a new one. The
// connection string is a URL or "host=db user=app dbname=changes", with the standard
// PG... variables as defaults and pgxpool's pool_... parameters.
//
// It fails with ErrForeign, ErrDurability, ErrUnsupported, eventstore.ErrNewerFormat,
// eventstore.ErrDamaged, eventstore.ErrReadOnly or eventstore.ErrInvalid, and with the
// error of the connection, in which passwords do not stand.
func Open(ctx context.Context, connString string, options ...Option) (*Store, error) {
	s := &Store{config: config{schema: "rollforward"}, done: make(chan struct{})}
	for _, option := range options {
		option(&s.config)
	}
	if !identifier.MatchString(s.schema) || strings.HasPrefix(s.schema, "pg_") {
		return nil, fmt.Errorf("postgres: open: %w: schema %q: use lower-case letters, digits and underscores, at most 48, a letter first, and no pg_",
			eventstore.ErrInvalid, s.schema)
	}
	pc, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w: %w", eventstore.ErrInvalid, unreadable(err))
	}
	if !strings.Contains(connString, "pool_max_conns") {
		pc.MaxConns = connections
	}
	pc.ConnConfig.RuntimeParams["application_name"] = "rollforward " + s.schema
	pc.AfterConnect = settle
	if s.hooks.configure != nil {
		s.hooks.configure(pc)
	}
	s.sql = newStatements(s.quoted(), s.serialized)
	if s.hooks.statements != nil {
		s.hooks.statements(&s.sql)
	}
	s.queue.patient = make(chan struct{}, mostWaiting)
	s.calls.init()
	if s.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, fmt.Errorf("postgres: open: %w", explain("open", err))
	}
	if err := s.prove(ctx); err != nil {
		s.pool.Close()
		return nil, fmt.Errorf("postgres: %w", explain("open", err))
	}
	return s, nil
}

// unreadable says what is wrong with a connection string and shows nothing of it: where
// it cannot be read nobody knows which part is the password.
func unreadable(err error) error {
	var bad *pgconn.ParseConfigError
	if !errors.As(err, &bad) {
		return errors.New("the connection string cannot be read")
	}
	said := (&pgconn.ParseConfigError{}).Error() // what stands around the reason
	bad.ConnString = ""
	reason := strings.TrimPrefix(bad.Error(), strings.TrimSuffix(said, " "))
	if cause := errors.Unwrap(bad); cause != nil {
		reason = strings.TrimSuffix(reason, " ("+cause.Error()+")")
	}
	return fmt.Errorf("the connection string cannot be read: %s", strings.TrimSpace(reason))
}

// settle makes a connection what the statements need, whatever the database, the role
// or the connection string say, and fails where it cannot.
func settle(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config('default_transaction_isolation', 'read committed', false),
		set_config('default_transaction_read_only', 'off', false),
		set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false),
		set_config('plan_cache_mode', 'force_generic_plan', false),
		set_config('client_encoding', 'UTF8', false),
		set_config('jit', 'off', false),
		set_config('idle_in_transaction_session_timeout', CASE current_setting('idle_in_transaction_session_timeout') WHEN '0' THEN '60s' ELSE current_setting('idle_in_transaction_session_timeout') END, false)`)
	return err
}

// Close ends the store. Calls under way end at their next step; a commit that was sent
// is waited for.
func (s *Store) Close() error {
	s.closing.Do(func() {
		close(s.done)
		s.calls.end()
		s.watch.end()
		s.pool.Close()
	})
	return nil
}

// calls are those under way, which a Close ends and waits for.
type calls struct {
	mu     sync.Mutex
	ended  bool
	under  sync.WaitGroup
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (c *calls) init() { c.ctx, c.cancel = context.WithCancelCause(context.Background()) }

func (c *calls) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.cancel(eventstore.ErrClosed)
	c.under.Wait()
}

// call begins a call: its context ends with ctx and with the store. Whoever begins one
// calls leave at its end.
func (s *Store) call(ctx context.Context) (bound context.Context, leave func(), err error) {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	if s.calls.ended {
		return nil, nil, eventstore.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	bound, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.calls.ctx, func() { cancel(eventstore.ErrClosed) })
	s.calls.under.Add(1)
	return bound, func() {
		stop()
		cancel(nil)
		s.calls.under.Done()
	}, nil
}

// ended returns why a call cannot go on, or nil: the cause of its context.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, eventstore.ErrClosed) || errors.Is(cause, ctx.Err()) {
		return cause
	}
	return ctx.Err()
}

// at tells a test where a call stands.
func (s *Store) at(step string) {
	if s.hooks.step != nil {
		s.hooks.step(step)
	}
}
