package postgres_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

const (
	// historiesVariable sets how many histories are made in each form of the store.
	historiesVariable = "ROLLFORWARD_PG_HISTORIES"
	// historySeedVariable sets the seed of the first; the next have the next ones. It
	// makes the same clients again, not the same race.
	historySeedVariable = "ROLLFORWARD_PG_HISTORY_SEED"
)

const (
	historyStores   = 3 // on one schema, as processes have them
	historyClients  = 7
	historyReaders  = 2 // of the log
	historyMostAsks = 10
	historyPatience = time.Minute      // of a call that nobody cancels
	checkPatience   = 30 * time.Second // for the search of one history
	neverReturns    = int64(1) << 62
)

// historySeed is drawn, or what its variable says.
func historySeed(t testing.TB) uint64 {
	drawn := rand.IntN(1 << 31)
	return uint64(sizeOf(t, historySeedVariable, drawn, drawn))
}

// spoken is what the clients of a history call of a store, so that a test can put a
// fault between.
type spoken interface {
	Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error)
	AppendTx(ctx context.Context, tx pgx.Tx, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error)
	AppendWith(ctx context.Context, events []eventstore.Event, also func(context.Context, pgx.Tx, []eventstore.Recorded) error, expect ...eventstore.Expect) ([]eventstore.Recorded, error)
	Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error]
	Version(ctx context.Context, stream string) (uint64, error)
}

// ground is what histories are made on, one after another, each with streams of its own.
type ground struct {
	stores     []*postgres.Store
	pool       *pgxpool.Pool // of the clients' own transactions, and of who kills connections
	schema     string
	serialized bool
	doomed     sync.Map // of contexts that are to be cancelled: what cancels them
}

func newGround(t *testing.T, options ...postgres.Option) *ground {
	g := &ground{schema: fresh(), serialized: len(options) > 0}
	dsn := pgtest.Database(t)
	var err error
	g.pool, err = pgxpool.New(t.Context(), dsn+" pool_max_conns=10")
	require.NoError(t, err)
	t.Cleanup(g.pool.Close)
	pause := func(step string) {
		if rand.IntN(16) == 0 {
			time.Sleep(rand.N(2 * time.Millisecond))
		}
		if step == "commit" && rand.IntN(2) == 0 {
			g.doomed.Range(func(_, cancel any) bool {
				cancel.(context.CancelFunc)()
				return true
			})
		}
	}
	for range historyStores {
		g.stores = append(g.stores, open(t, dsn+" pool_max_conns=6", append(options, postgres.WithSchema(g.schema), postgres.WithStep(pause))...))
	}
	return g
}

// sending is an append as a client sent it, for the first time or again.
type sending struct {
	events  []eventstore.Event
	expect  []eventstore.Expect
	in      asked
	unknown []*asking // calls whose outcome nobody knows
	settled bool      // its outcome is known
}

// asking is one call of a client, which is an operation of the history unless it
// failed and so neither changed anything nor saw it.
type asking struct {
	porcupine.Operation
	out     replied
	dropped bool
}

// history is many clients at one time.
type history struct {
	*ground
	seed    uint64
	prefix  string // of its streams
	kills   bool
	clients []spoken // what each store is called through
	began   time.Time
	base    eventstore.Position // where the log stood

	late       sync.WaitGroup // of what planted faults do later
	remembered sync.Map       // by planted faults

	mu       sync.Mutex
	numbers  int // given to events
	asks     []*asking
	sendings []*sending
	reads    []logRead
	problems []string

	killed, notApplied, retreats int
	final                        []logEntry
	streams                      standing
}

func (h *history) problem(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problems = append(h.problems, fmt.Sprintf(format, args...))
}

// wrapping puts something between a history and one of its stores; nil puts nothing.
type wrapping func(h *history, store *postgres.Store) spoken

// makeHistory lets clients loose on the stores until each has asked what it wanted.
func makeHistory(t *testing.T, g *ground, seed uint64, kills bool, wrap wrapping) *history {
	h := &history{ground: g, seed: seed, prefix: fmt.Sprintf("h%x-%d-", seed, schemas.Add(1)), kills: kills, began: time.Now()}
	for _, store := range g.stores {
		if wrap == nil {
			h.clients = append(h.clients, store)
		} else {
			h.clients = append(h.clients, wrap(h, store))
		}
	}
	var err error
	h.base, err = g.stores[0].Head(t.Context())
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 2*historyPatience)
	defer cancel()
	var clients, others sync.WaitGroup
	for i := range historyClients {
		c := h.client(i)
		clients.Go(func() { c.run(ctx) })
	}
	over := make(chan struct{})
	for i := range historyReaders {
		others.Go(func() { h.follow(ctx, i, over) })
	}
	if kills {
		others.Go(func() { h.kill(ctx, over) })
	}
	clients.Wait()
	close(over)
	others.Wait()
	h.late.Wait()
	h.finish(ctx)
	return h
}

// event makes one with a number that is new.
func (h *history) event(stream int) (eventstore.Event, byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.numbers++
	if h.numbers > 255 {
		h.problems = append(h.problems, "more events than numbers: make histories smaller")
	}
	return eventstore.Event{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, h.prefix, h.numbers)), Stream: h.prefix + nameOf(stream), Type: "noted", Schema: 1,
		Tags: []string{h.prefix}, Data: strconv.AppendInt(nil, int64(h.numbers), 10),
	}, byte(h.numbers)
}

// numberOf says which event a record is of, 0 if it is none of this history's.
func (h *history) numberOf(r eventstore.Recorded) numbered {
	n, err := strconv.ParseUint(string(r.Data), 10, 8)
	stream, ours := strings.CutPrefix(r.Stream, h.prefix)
	if err != nil || !ours || len(stream) != 1 || stream[0] < 'a' || stream[0] > 'c' {
		h.problem("nobody appended %+v", r)
		return numbered{}
	}
	return numbered{byte(n), int(stream[0] - 'a')}
}

// ask begins an operation.
func (h *history) ask(client int, in asked) *asking {
	a := &asking{Operation: porcupine.Operation{ClientId: client, Input: in}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asks = append(h.asks, a)
	a.Call = time.Since(h.began).Nanoseconds()
	return a
}

func (a *asking) answer(h *history, out replied) {
	a.Return, a.out = time.Since(h.began).Nanoseconds(), out
	if out.unknown {
		a.Return = neverReturns
	}
}

// follow reads the log again and again: behind what it has seen, or all that is new
// since the history began. With serialized appends, where nothing holds the log back,
// the latter is a read of all streams.
func (h *history) follow(ctx context.Context, reader int, over <-chan struct{}) {
	random := rand.New(rand.NewPCG(h.seed, uint64(1000+reader)))
	store := h.clients[reader%len(h.clients)]
	seen, whole := h.base, 0
	for range 12 {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(random.IntN(8000)) * time.Microsecond):
		}
		q := eventstore.Query{After: seen}
		again := random.IntN(2) == 0
		if again {
			q.After = h.base
		}
		switch random.IntN(3) {
		case 0:
			q.Prefix = h.prefix
		case 1:
			q.Tags = []string{h.prefix}
		}
		if !again && random.IntN(3) == 0 {
			q.Limit = 1 + random.IntN(4)
		}
		var a *asking
		if again && h.serialized {
			a = h.ask(historyClients+reader, asked{kind: toRead, streams: []int{0, 1, 2}})
		}
		read, err := h.readLog(ctx, store, q)
		if err != nil {
			h.problem("reader %d: %v", reader, err)
			return
		}
		if a != nil {
			var out replied
			for _, e := range read.events {
				out.seen[e.stream] += string([]byte{e.number})
			}
			a.answer(h, out)
		}
		read.reader = reader
		h.mu.Lock()
		h.reads = append(h.reads, read)
		if again && len(read.events) < whole {
			h.retreats++ // allowed: a fence may be taken with a number that was read a while ago
		}
		h.mu.Unlock()
		if again {
			whole = len(read.events)
		}
		if n := len(read.events); n > 0 {
			seen = max(seen, read.events[n-1].position)
		}
	}
}

// readLog reads the log, of which it takes what is of this history.
func (h *history) readLog(ctx context.Context, store spoken, q eventstore.Query) (logRead, error) {
	read := logRead{after: q.After, cut: q.Limit > 0}
	for r, err := range store.Read(ctx, q) {
		if err != nil {
			return read, err
		}
		if strings.HasPrefix(r.Stream, h.prefix) {
			read.events = append(read.events, logEntry{h.numberOf(r), r.Version, r.Position, r.Append})
		}
	}
	return read, nil
}

// kill ends connections of the stores, one at a time, and not so many that the stores
// would give up.
func (h *history) kill(ctx context.Context, over <-chan struct{}) {
	random := rand.New(rand.NewPCG(h.seed, 2000))
	for range 5 {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(2000+random.IntN(25000)) * time.Microsecond):
		}
		tag, err := h.pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM
			(SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY random() LIMIT 1) AS one`, "rollforward "+h.schema)
		if err != nil {
			h.problem("kill: %v", err)
			return
		}
		h.mu.Lock()
		h.killed += int(tag.RowsAffected())
		h.mu.Unlock()
	}
}

// finish finds out what became of appends by sending them again, and reads what there
// is when nothing happens any more.
func (h *history) finish(ctx context.Context) {
	last := h.client(historyClients + historyReaders)
	for _, s := range slices.Clone(h.sendings) {
		if s.settled || len(s.unknown) == 0 {
			continue
		}
		a := h.ask(last.id, s.in)
		records, err := h.clients[0].Append(ctx, s.events, s.expect...)
		last.ended(a, s, records, err, false)
	}
	a := h.ask(last.id, asked{kind: toRead, streams: []int{0, 1, 2}})
	for stream := range 3 {
		for r, err := range h.clients[1].Read(ctx, eventstore.Query{Streams: []string{h.prefix + nameOf(stream)}}) {
			if err != nil {
				h.problem("the last read: %v", err)
				break
			}
			h.streams[stream] += string([]byte{h.numberOf(r).number})
		}
	}
	a.answer(h, replied{seen: h.streams})
	// The log may wait for a connection that is broken and that the server still has.
	total := len(h.streams[0]) + len(h.streams[1]) + len(h.streams[2])
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		read, err := h.readLog(ctx, h.clients[2], eventstore.Query{After: h.base})
		if err != nil {
			h.problem("the last read of the log: %v", err)
			return
		}
		if h.final = read.events; len(h.final) >= total || time.Since(begin) > 5*time.Second {
			return
		}
	}
}

// operations is what the model judges, in the order of the calls.
func (h *history) operations() (operations []porcupine.Operation) {
	for _, a := range h.asks {
		if !a.dropped {
			a.Output = a.out
			operations = append(operations, a.Operation)
		}
	}
	slices.SortFunc(operations, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return operations
}

// appends is what was asked to be appended, applied or not.
func (h *history) appends() (appends [][]numbered) {
	for _, s := range h.sendings {
		appends = append(appends, s.in.events)
	}
	return appends
}

// historyFigures is what judging several came to.
type historyFigures struct {
	made, operations, appends, conflicts, unknown, notApplied int
	reads, retreats, kills                                    int
	longest                                                   time.Duration // of a search
}

func (f *historyFigures) String() string {
	return fmt.Sprintf("%d histories of %d operations in all: %d appends done, %d conflicts, %d of unknown outcome, and %d not applied that are none; "+
		"%d reads of the log, %d of which saw less than the same reader before; %d connections killed; the longest search took %v",
		f.made, f.operations, f.appends, f.conflicts, f.unknown, f.notApplied, f.reads, f.retreats, f.kills, f.longest.Round(time.Millisecond))
}

// add counts a history and returns whether it is linear.
func (f *historyFigures) add(h *history) porcupine.CheckResult {
	operations := h.operations()
	begin := time.Now()
	result := porcupine.CheckOperationsTimeout(linear, operations, checkPatience)
	f.longest = max(f.longest, time.Since(begin))
	f.made++
	f.operations += len(operations)
	for _, o := range operations {
		switch out := o.Output.(replied); {
		case o.Input.(asked).kind != toAppend:
		case out.unknown:
			f.unknown++
		case out.conflict:
			f.conflicts++
		default:
			f.appends++
		}
	}
	f.notApplied, f.reads, f.retreats, f.kills = f.notApplied+h.notApplied, f.reads+len(h.reads), f.retreats+h.retreats, f.kills+h.killed
	return result
}

// draw writes what can be looked at in a browser, and returns its path, and the
// operations as text.
func (h *history) draw(t *testing.T) (path, text string) {
	operations := h.operations()
	_, info := porcupine.CheckOperationsVerbose(linear, operations, checkPatience)
	path = filepath.Join(t.ArtifactDir(), fmt.Sprintf("history-%d.html", h.seed))
	require.NoError(t, porcupine.VisualizePath(linear, info, path))
	var b strings.Builder
	for _, o := range operations {
		fmt.Fprintf(&b, "%10d %10d  client %d: %s\n", o.Call/1000, min(o.Return, neverReturns/2)/1000, o.ClientId, describe(o.Input.(asked), o.Output.(replied)))
	}
	return path, b.String()
}

func TestHistoriesOfManyClientsAreLinearAtFullSize(t *testing.T) {
	n := sizeOf(t, historiesVariable, 20, 10)
	seed := historySeed(t)
	both(t, func(t *testing.T, options ...postgres.Option) {
		g := newGround(t, options...)
		var figures historyFigures
		for i := range n {
			h := makeHistory(t, g, seed+uint64(i), (seed+uint64(i))%4 == 3, nil)
			if result := figures.add(h); result != porcupine.Ok {
				path, text := h.draw(t)
				require.Fail(t, string(result), "the history of seed %d is not linear, or took too long; drawn in %s, which go test -artifacts keeps:\n%s", h.seed, path, text)
			}
			require.Empty(t, h.problems, "seed %d", h.seed)
			require.Empty(t, checkLog(h.reads, h.final, h.streams, h.appends()), "the log, seed %d", h.seed)
		}
		t.Logf("%v; seed %d", &figures, seed)
		if n < 10 { // for one seed again
			return
		}
		require.Positive(t, figures.appends)
		require.Positive(t, figures.conflicts)
		require.Positive(t, figures.unknown)
		require.Positive(t, figures.reads)
		require.Positive(t, figures.kills)
	})
}

// endsBehind is a tracer that ends a context when the first batch of statements is
// answered.
type endsBehind struct{ end context.CancelFunc }

func (endsBehind) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (endsBehind) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (endsBehind) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (endsBehind) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (e endsBehind) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)   { e.end() }

// A history of many clients had this: who is told of a conflict takes it that his first
// attempt was not applied, and sends new events.
func TestAResendWhoseContextEndsBeforeItsIDsAreLookedUpIsNoConflict(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) {
		dsn, schema := pgtest.Database(t), fresh()
		options = append(options, postgres.WithSchema(schema))
		events := []eventstore.Event{{ID: uuid.New(), Stream: "a", Type: "noted", Schema: 1, Data: []byte("1")}}
		_, err := open(t, dsn, options...).Append(t.Context(), events, eventstore.At("a", 0))
		require.NoError(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		store := open(t, dsn, append(options, postgres.Connecting(func(pc *pgxpool.Config) { pc.ConnConfig.Tracer = endsBehind{cancel} }))...)
		_, err = store.AppendWith(ctx, events, func(context.Context, pgx.Tx, []eventstore.Recorded) error { return nil }, eventstore.At("a", 0))
		require.ErrorIs(t, err, eventstore.ErrNotApplied)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, eventstore.ErrConflict)
	})
}
