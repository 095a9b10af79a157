package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
	"github.com/rollforward/rollforward/internal/race"
)

// node is a step of a plan as the server tells it.
type node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Recheck  float64 `json:"Rows Removed by Index Recheck"`
	Hit      float64 `json:"Shared Hit Blocks"`
	Read     float64 `json:"Shared Read Blocks"`
	Plans    []node  `json:"Plans"`
}

// ran is a statement that was run, also within a function.
type ran struct {
	Text string `json:"Query Text"`
	Plan node   `json:"Plan"`
}

// each calls f for the node and those below it.
func (n node) each(f func(node)) {
	f(n)
	for _, below := range n.Plans {
		below.each(f)
	}
}

// plans are those that the server tells of the statements of a store, as they are run:
// those of its own connections, prepared and generic, and those within its functions.
type plans struct {
	mu    sync.Mutex
	runs  []ran
	wrong []error // what was told and cannot be read
}

// option has the connections of a store tell their plans.
func (p *plans) option(t testing.TB) postgres.Option {
	return postgres.Connecting(func(c *pgxpool.Config) {
		c.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			_, told, ok := strings.Cut(n.Message, "plan:\n")
			if !ok {
				return
			}
			var r ran
			err := json.Unmarshal([]byte(told), &r)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.runs = append(p.runs, r)
			if err != nil {
				p.wrong = append(p.wrong, err)
			}
		}
		settle := c.AfterConnect
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if err := settle(ctx, conn); err != nil {
				return err
			}
			_, err := conn.Exec(ctx, `LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; SET auto_explain.log_buffers = on; SET auto_explain.log_timing = off;
				SET auto_explain.log_nested_statements = on; SET auto_explain.log_format = json; SET auto_explain.log_level = notice`)
			if err != nil && os.Getenv(pgtest.Variable) != "" {
				t.Skipf("the server that was named tells no plans: %v", err)
			}
			return err
		}
	})
}

// of returns the plans of what do runs.
func (p *plans) of(t testing.TB, do func()) []ran {
	t.Helper()
	p.mu.Lock()
	p.runs = nil
	p.mu.Unlock()
	do()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.wrong)
	return slices.Clone(p.runs)
}

// costly are what no plan of a store may have: a look at all rows of a table that grows,
// and a sort of more rows than a page.
func costly(runs []ran) (found []string) {
	for _, r := range runs {
		r.Plan.each(func(n node) {
			grows := n.Relation == "events" || n.Relation == "event_tags"
			switch {
			case grows && strings.HasSuffix(n.Type, "Seq Scan"), strings.Contains(n.Type, "Sort") && n.Rows > 2048:
			case grows && n.Rows+n.Removed > 5000: // an index that is read from end to end
			default:
				return
			}
			found = append(found, fmt.Sprintf("%s %s %s of %v rows, %v removed: %s", n.Type, n.Relation, n.Index, n.Rows, n.Removed, r.Text))
		})
	}
	return found
}

// grow fills a log with n events, ten an append: streams, types and tags of which there
// are more in a longer log, and some that each event has.
func grow(t testing.TB, store *postgres.Store, from, n int) {
	t.Helper()
	const together = 10
	appends := make(chan []eventstore.Event)
	var writers sync.WaitGroup
	failures := make([]error, 32)
	for w := range failures {
		writers.Go(func() {
			for events := range appends {
				if _, err := store.Append(t.Context(), events); err != nil {
					failures[w] = err
				}
			}
		})
	}
	for i := from; i < from+n; {
		var events []eventstore.Event
		for range min(together, from+n-i) {
			e := thing(fmt.Sprint("s-", i/together), fmt.Sprint("tag-", i/20), fmt.Sprint("even-", i%2))
			e.Type = fmt.Sprint("type-", i%10)
			events = append(events, e)
			i++
		}
		appends <- events
	}
	close(appends)
	writers.Wait()
	require.NoError(t, errors.Join(failures...))
}

// plannedEvents is how many events a log has whose plans are looked at.
func plannedEvents() int {
	if race.Enabled {
		return 1_000
	}
	return 20_000
}

// rare appends one of the events that are looked for.
func rare(t testing.TB, store *postgres.Store, i int) eventstore.Recorded {
	t.Helper()
	e := thing("fixed", "rare", "even-1")
	e.Type = "rare"
	p := thing(fmt.Sprint("prefix-", i%5))
	records, err := store.Append(t.Context(), []eventstore.Event{e, p})
	require.NoError(t, err)
	return records[0]
}

// everything calls all there is of a store, and returns what it ran.
func everything(t testing.TB, p *plans, store *postgres.Store, known eventstore.Recorded) []ran {
	t.Helper()
	return p.of(t, func() {
		ctx := t.Context()
		head, err := store.Head(ctx)
		require.NoError(t, err)
		version, err := store.Version(ctx, "fixed")
		require.NoError(t, err)
		_, err = store.Append(ctx, things("s-1", 1, "x"))
		require.NoError(t, err)
		_, err = store.Append(ctx, things("s-2", 3, "x"))
		require.NoError(t, err)
		_, err = store.Append(ctx, things("s-1", 1), eventstore.At("fixed", version+1))
		require.ErrorIs(t, err, eventstore.ErrConflict) // after its ID was looked up
		_, err = store.AppendWith(ctx, things("s-3", 1, "x"), func(context.Context, pgx.Tx, []eventstore.Recorded) error { return nil })
		require.NoError(t, err)
		_, err = store.Fences(ctx)
		require.NoError(t, err)
		cp := eventstore.Checkpoint{Name: "c", Position: head, Event: uuid.New()}
		require.NoError(t, store.SaveCheckpoints(ctx, cp))
		_, err = store.Checkpoint(ctx, "c")
		require.NoError(t, err)
		require.NoError(t, store.DeleteCheckpoint(ctx, "c"))
		for _, lean := range []bool{false, true} {
			for _, q := range []eventstore.Query{
				{Limit: 100}, {After: head / 2, Limit: 1000}, {After: head, Limit: 10}, {Streams: []string{"fixed"}}, {Streams: []string{"fixed"}, After: known.Position}, {Streams: []string{"fixed", "s-1", "s-2", "none"}},
				{Types: []string{"rare"}}, {Types: []string{"type-1", "type-2"}, Limit: 100}, {Tags: []string{"rare"}}, {Tags: []string{"rare", "even-1"}}, {Tags: []string{"even-1"}, Types: []string{"type-1"}, Limit: 100},
				{Prefix: "prefix-"}, {Prefix: "s-", Limit: 100}, {Prefix: "s-", Types: []string{"rare"}}, {Prefix: "none"}, {Tags: []string{"none"}}, {Types: []string{"none"}},
			} {
				q.PayloadsOnly = lean
				readAll(t, store, q)
			}
		}
		_, err = store.Restore(ctx, known.Position, []eventstore.Recorded{{Event: thing("r"), Version: 1, Position: 1, Append: 1, RecordedAt: known.RecordedAt}})
		require.ErrorIs(t, err, eventstore.ErrConflict)
		later, err := store.Head(ctx)
		require.NoError(t, err)
		_, err = store.Restore(ctx, later, []eventstore.Recorded{{Event: thing("r-" + uuid.NewString()), Version: 1, Position: 1, Append: 1, RecordedAt: known.RecordedAt}})
		require.NoError(t, err)
	})
}

// planned opens a store with plans that are told, whose statistics nobody keeps.
func planned(t testing.TB, options ...postgres.Option) (*plans, *postgres.Store, string) {
	t.Helper()
	p := &plans{}
	dsn := pgtest.Database(t)
	require.NoError(t, open(t, dsn, options...).Close())
	for _, table := range []string{"events", "event_tags"} {
		execute(t, dsn, "ALTER TABLE rollforward."+table+" SET (autovacuum_enabled = off)")
	}
	return p, open(t, dsn+" pool_max_conns=2", append(options, p.option(t))...), dsn
}

// Plans are made once a connection and kept; so those are looked at that were made when
// the log was empty, those of a new connection, and those with statistics.
func TestNoStatementLooksAtTheWholeLogAtFullSize(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		p, store, dsn := planned(t, options...)
		known := rare(t, store, 0)
		everything(t, p, store, known) // every plan is made, of hardly any rows
		grow(t, store, 0, plannedEvents())
		for i := range 49 {
			rare(t, store, i+1)
		}
		check := func(when string, store *postgres.Store) {
			t.Helper()
			runs := everything(t, p, store, known)
			require.Empty(t, costly(runs), when)
			seen := map[string]bool{}
			for _, r := range runs {
				seen[r.Text] = true
			}
			for name, text := range postgres.Texts(store) {
				if strings.HasPrefix(text, "LOCK") || name == map[bool]string{true: "fences", false: "setCounter"}[len(options) > 0] {
					continue // has no plan; is of the other form
				}
				require.True(t, seen[text], "%s: %s was not run, so that its plan is not known: %s", when, name, text)
			}
			t.Logf("%s: %d plans, none looks at the whole log", when, len(runs))
		}
		check("planned when the log was empty", store)
		again := open(t, dsn+" pool_max_conns=2", append(slices.Clone(options), p.option(t))...)
		check("planned without statistics", again)
		execute(t, dsn, "ANALYZE rollforward.events", "ANALYZE rollforward.event_tags")
		check("planned with statistics", again)
	})
}

// The control: a statement that no index serves is found, by its looks and by its cost.
func TestAStatementThatLooksAtTheWholeLogIsFound(t *testing.T) {
	p, store, _ := planned(t, postgres.WithByID(func(query string) string {
		return strings.Replace(query, "e.id = u.id", "e.id::text = u.id::text", 1)
	}))
	known := rare(t, store, 0)
	grow(t, store, 0, 2000)
	found := costly(everything(t, p, store, known))
	require.NotEmpty(t, found, "the harness cannot tell good from bad")
	require.Contains(t, found[0], "Seq Scan events")
}

// looked is what reading costs: rows that are looked at, and blocks.
type looked struct{ rows, blocks float64 }

func lookedAt(runs []ran) (l looked) {
	for _, r := range runs {
		l.blocks += r.Plan.Hit + r.Plan.Read
		r.Plan.each(func(n node) {
			if n.Relation == "events" || n.Relation == "event_tags" {
				l.rows += (n.Rows + n.Removed + n.Recheck) * max(n.Loops, 1)
			}
		})
	}
	return l
}

// What is looked for is found by looking at as much in a log that is ten times as long.
func TestWhatAReadLooksAtDoesNotGrowWithTheLogAtFullSize(t *testing.T) {
	if race.Enabled {
		t.Skip("the figures are of a log that is too long for the race detector")
	}
	both(t, func(t *testing.T, options ...postgres.Option) {
		queries := map[string]eventstore.Query{
			"a stream": {Streams: []string{"fixed"}}, "a stream's end": {Streams: []string{"fixed"}, After: 1}, "a tag": {Tags: []string{"rare"}}, "a rare tag of two": {Tags: []string{"even-1", "rare"}},
			"a type": {Types: []string{"rare"}}, "a prefix": {Prefix: "prefix-"}, "the beginning": {Limit: 50},
		}
		cost := func(n int) map[string]looked {
			p, store, dsn := planned(t, options...)
			for i := range 50 { // evenly among the others
				grow(t, store, i*n/50, n/50)
				rare(t, store, i)
			}
			execute(t, dsn, "VACUUM ANALYZE rollforward.events", "VACUUM ANALYZE rollforward.event_tags")
			costs := map[string]looked{}
			for name, q := range queries {
				costs[name] = lookedAt(p.of(t, func() { require.Len(t, readAll(t, store, q), 50, name) }))
			}
			costs["the head"] = lookedAt(p.of(t, func() {
				_, err := store.Head(t.Context())
				require.NoError(t, err)
			}))
			costs["a version"] = lookedAt(p.of(t, func() {
				_, err := store.Version(t.Context(), "fixed")
				require.NoError(t, err)
			}))
			costs["an append"] = lookedAt(p.of(t, func() { rare(t, store, 50) }))
			costs["all"] = lookedAt(p.of(t, func() { readAll(t, store, eventstore.Query{}) }))
			return costs
		}
		n := plannedEvents()
		short, long := cost(n/10), cost(n)
		for name, s := range short {
			l := long[name]
			t.Logf("%s: %v rows in %v blocks, of ten times the log %v in %v", name, s.rows, s.blocks, l.rows, l.blocks)
			if name == "all" { // the control
				require.Greater(t, l.rows, 5*s.rows, "the harness cannot tell good from bad")
				require.Greater(t, l.blocks, 2*s.blocks, "the harness cannot tell good from bad")
				continue
			}
			require.Positive(t, s.blocks, name)
			require.LessOrEqual(t, l.rows, 3*s.rows, name)
			require.LessOrEqual(t, l.blocks, 3*max(s.blocks, s.rows), name) // a row may lie anywhere
		}
	})
}
