package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// How much the harnesses of faults do; what they do if it is not set stands where they
// ask for it.
const (
	cutsVariable    = "ROLLFORWARD_PG_CUTS"    // COMMITs or their replies cut, of each form
	killsVariable   = "ROLLFORWARD_PG_KILLS"   // backends terminated under load, of each form
	crashesVariable = "ROLLFORWARD_PG_CRASHES" // servers stopped as by a crash, of each form
	closesVariable  = "ROLLFORWARD_PG_CLOSES"  // stores closed under load, of each form
	strideVariable  = "ROLLFORWARD_PG_STRIDE"  // how far steps stand apart at which a call is disturbed; 1: each
)

// sent is one append that a caller wanted made once, and what it was told of it. What
// it is about stands in the data of its events, so that it is known under other IDs too.
type sent struct {
	mark     string
	events   []eventstore.Event
	expect   []eventstore.Expect
	with     bool                  // with a row of the table told
	answered bool                  // it succeeded
	records  []eventstore.Recorded // if so
	refused  bool                  // it was not applied, and had never been in doubt
	doubts   int                   // times that it was told that the outcome is unknown
}

// account is what many callers were told of their appends, and what is found of them.
type account struct {
	mu       sync.Mutex
	sent     []*sent
	doubts   int // outcomes unknown
	problems []string
}

func (a *account) problem(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

func (a *account) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	answered, refused, open, doubtful, events := 0, 0, 0, 0, 0
	for _, s := range a.sent {
		switch {
		case s.answered:
			answered, events = answered+1, events+len(s.events)
		case s.refused:
			refused++
		default:
			open++
		}
		if s.doubts > 0 {
			doubtful++
		}
	}
	return fmt.Sprintf("%d appends with %d events succeeded, %d were not applied, %d are open; %d were in doubt, %d times in all; %d problems",
		answered, events, refused, open, doubtful, a.doubts, len(a.problems))
}

// caller appends one append after the other, each to a stream of its own under its
// version, and most of them to streams that others append to.
type caller struct {
	*account
	name    string
	version uint64 // of its own stream
	made    int
	random  *rand.Rand
	with    bool // by AppendWith
	renames bool // sends again under new IDs: the control
	hurried bool // some of its calls have little time
	lenient bool // it goes on if an append is not applied
	told    string
}

func (a *account) caller(seed uint64, i int, schema string) *caller {
	return &caller{account: a, name: fmt.Sprint("own-", i), random: rand.New(rand.NewPCG(seed, uint64(i)+100)), told: schema + ".told"}
}

// tellTable makes the table of what AppendWith committed.
func tellTable(t testing.TB, dsn, schema string) {
	t.Helper()
	onServer(t, dsn, func(c *pgx.Conn) error {
		_, err := c.Exec(t.Context(), "CREATE TABLE "+schema+".told (mark text NOT NULL)")
		return err
	})
}

// onServer does something on a connection of its own.
func onServer(t testing.TB, dsn string, do func(c *pgx.Conn) error) {
	t.Helper()
	c, err := pgx.Connect(context.Background(), dsn)
	require.NoError(t, err)
	require.NoError(t, errors.Join(do(c), c.Close(context.Background())))
}

// next is the append that comes next: one to four events.
func (c *caller) next() *sent {
	c.made++
	s := &sent{mark: fmt.Sprint(c.name, "/", c.made), with: c.with, expect: []eventstore.Expect{eventstore.At(c.name, c.version)}}
	streams := []string{c.name, "shared", fmt.Sprint("some-", c.random.IntN(5)), c.name}
	for i, stream := range streams[:1+c.random.IntN(len(streams))] {
		s.events = append(s.events, eventstore.Event{
			ID: newID(), Stream: stream, Type: "t", Schema: 1, Tags: []string{"by:" + c.name}, Data: fmt.Appendf(nil, `{"mark": "%s", "i": %d}`, s.mark, i),
		})
	}
	return s
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// make makes the next append, again while its outcome is unknown, and reports whether
// the caller can go on.
func (c *caller) make(ctx context.Context, store *postgres.Store) bool {
	s := c.next()
	c.mu.Lock()
	c.sent = append(c.sent, s)
	c.mu.Unlock()
	for try := 1; ; try++ {
		limited, cancel := ctx, context.CancelFunc(func() {})
		if c.hurried && c.random.IntN(3) == 0 {
			limited, cancel = context.WithTimeout(ctx, time.Duration(5+c.random.IntN(200))*time.Millisecond)
		}
		records, err := s.to(limited, store, c.told)
		cancel()
		if err == nil {
			c.mu.Lock()
			s.answered, s.records = true, records
			c.mu.Unlock()
			for _, e := range s.events {
				if e.Stream == c.name {
					c.version++
				}
			}
			return true
		}
		if records != nil {
			c.problem("%s: records with the error %v", s.mark, err)
		}
		if outcomes(err) != 1 || errors.Is(err, eventstore.ErrConflict) {
			c.problem("%s: not one outcome, or a conflict that is none: %v", s.mark, err)
			return false
		}
		c.mu.Lock()
		if errors.Is(err, eventstore.ErrOutcomeUnknown) {
			s.doubts++
			c.doubts++
		} else if s.doubts == 0 {
			s.refused = true
		}
		c.mu.Unlock()
		switch {
		case errors.Is(err, eventstore.ErrClosed), ctx.Err() != nil:
			return false
		case s.refused && !c.lenient && !errors.Is(err, context.DeadlineExceeded):
			c.problem("%s: %v", s.mark, err)
			return false
		case s.refused:
			return true
		case try == 50:
			c.problem("%s: sent %d times, and in the end %v", s.mark, try, err)
			return false
		case c.renames:
			// Who forgets what it has sent finds the version that it left behind, and decides anew.
			for i := range s.events {
				s.events[i].ID = newID()
			}
			version, err := store.Version(ctx, c.name)
			if err != nil {
				c.problem("%s: %v", s.mark, err)
				return false
			}
			c.version, s.expect[0].Version = version, version
		}
	}
}

// to makes an append, with a row of a table if it has one.
func (s *sent) to(ctx context.Context, store *postgres.Store, table string) ([]eventstore.Recorded, error) {
	if !s.with {
		return store.Append(ctx, s.events, s.expect...)
	}
	return store.AppendWith(ctx, s.events, func(ctx context.Context, tx pgx.Tx, _ []eventstore.Recorded) error {
		_, err := tx.Exec(ctx, "INSERT INTO "+table+" VALUES ($1)", s.mark)
		return err
	}, s.expect...)
}

// outcomes returns how many of the three an error of an append is.
func outcomes(err error) (n int) {
	for _, one := range []error{eventstore.ErrConflict, eventstore.ErrNotApplied, eventstore.ErrOutcomeUnknown} {
		if errors.Is(err, one) {
			n++
		}
	}
	return n
}

// equal reports whether records are the same in all that a store says of them.
func equal(a, b eventstore.Recorded) bool {
	return a.Equal(b.Event) && a.Version == b.Version && a.Position == b.Position && a.Append == b.Append && a.RecordedAt.Equal(b.RecordedAt)
}

// audit holds the log, and the table told, to what callers were told: I1 to I4. dsn is
// one that reaches the server without detours.
func (a *account) audit(t testing.TB, dsn, schema string, options ...postgres.Option) (log []eventstore.Recorded) {
	t.Helper()
	store, err := postgres.Open(t.Context(), dsn, slices.Concat(options, []postgres.Option{postgres.WithSchema(schema)})...)
	require.NoError(t, err)
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		log = append(log, r)
	}
	require.NoError(t, store.Close())
	var rows []string
	onServer(t, dsn, func(c *pgx.Conn) error {
		found, err := c.Query(t.Context(), "SELECT mark FROM "+schema+".told")
		if err == nil {
			rows, err = pgx.CollectRows(found, pgx.RowTo[string])
		}
		return err
	})
	a.hold(log, rows)
	return log
}

// hold is audit of a log that was read and a table.
func (a *account) hold(log []eventstore.Recorded, told []string) {
	versions, last := map[string]uint64{}, eventstore.Position(0)
	copies := map[string][]eventstore.Recorded{} // by what they are about
	for _, r := range log {
		if r.Position <= last {
			a.problem("position %d behind %d", r.Position, last)
		}
		last = r.Position
		if versions[r.Stream]++; r.Version != versions[r.Stream] {
			a.problem("stream %q has version %d in place %d", r.Stream, r.Version, versions[r.Stream])
		}
		copies[string(r.Data)] = append(copies[string(r.Data)], r)
	}
	rows := map[string]int{}
	for _, mark := range told {
		rows[mark]++
	}
	found := 0
	for _, s := range a.sent {
		var there []eventstore.Recorded
		for i, e := range s.events {
			all := copies[string(e.Data)]
			found += len(all)
			if len(all) > 1 {
				a.problem("%s: event %d is there %d times", s.mark, i, len(all))
			}
			if len(all) > 0 {
				there = append(there, all[0])
			}
		}
		for i, r := range there {
			if !r.Equal(s.events[i]) || r.Append != there[0].Append {
				a.problem("%s: event %d has other bytes, or is of another append", s.mark, i)
			}
		}
		switch {
		case len(there) > 0 && len(there) < len(s.events):
			a.problem("%s: of %d events %d are there", s.mark, len(s.events), len(there))
		case s.answered && len(there) == 0:
			a.problem("%s: it was acknowledged, and is not there", s.mark)
		case s.answered && !slices.EqualFunc(there, s.records, equal):
			a.problem("%s: what was acknowledged is there otherwise", s.mark)
		case s.refused && len(there) > 0:
			a.problem("%s: it was told that it is not applied, and is there", s.mark)
		case !s.answered && !s.refused && s.doubts == 0 && len(there) > 0:
			a.problem("%s: nothing was told of it, and it is there", s.mark)
		}
		wanted := 0
		if s.with && len(there) > 0 {
			wanted = 1
		}
		if rows[s.mark] != wanted {
			a.problem("%s: %d rows go with it, not %d", s.mark, rows[s.mark], wanted)
		}
		delete(rows, s.mark)
	}
	if found != len(log) {
		a.problem("%d events are there, and %d are known", len(log), found)
	}
	if len(rows) > 0 {
		a.problem("rows of appends that nobody made: %v", rows)
	}
}

// The ways in which appends come to the server.
var ways = []struct {
	name    string
	callers int
	with    bool
}{
	{"single appends", 1, false},
	{"shared commits", 16, false},
	{"AppendWith", 4, true},
}

// cutting appends in a way, through a proxy that makes n cuts, until all are made.
func cutting(t testing.TB, dsn string, seed uint64, n, callers int, change func(*caller), from []place, form []postgres.Option, more ...postgres.Option) (*account, cuts) {
	t.Helper()
	schema := fresh()
	p, through := proxied(t, dsn, seed)
	store, err := postgres.Open(t.Context(), through, slices.Concat(form, more, []postgres.Option{postgres.WithSchema(schema)})...)
	require.NoError(t, err)
	tellTable(t, dsn, schema)
	a := &account{}
	p.arm(n, from...)
	var running sync.WaitGroup
	begin := time.Now()
	for i := range callers {
		c := a.caller(seed, i, schema)
		change(c)
		running.Go(func() {
			for c.make(t.Context(), store) && (!p.spent() || c.made < 10) {
				if time.Since(begin) > time.Duration(n)*time.Second+time.Minute {
					c.problem("the cuts are not made")
					return
				}
			}
		})
	}
	running.Wait()
	require.NoError(t, store.Close())
	p.close(t)
	a.audit(t, dsn, schema, form...)
	return a, p.told()
}

func everyPlace() []place {
	var all []place
	for p := range places {
		all = append(all, p)
	}
	return all
}

// F14: wherever a COMMIT or its reply is cut, each append ends as one copy of its events or as none,
// and as what its caller was told: by the store's own resend, or, where it has
// but one try or little time, by the caller's.
func TestACommitOrItsReplyThatIsCutIsFoundOut(t *testing.T) {
	n := max(1, sizeOf(t, cutsVariable, 36, 18)/len(ways)/2)
	both(t, func(t *testing.T, form ...postgres.Option) {
		dsn := pgtest.Database(t)
		total, committed, doubts := 0, 0, 0
		for _, way := range ways {
			for _, resends := range []string{"store", "caller"} {
				seed := rand.Uint64() >> 1
				var more []postgres.Option
				if resends == "caller" {
					more = append(more, postgres.Tries(1))
					if way.callers == 1 { // the second try of an append that was in a queue is one by itself
						more = append(more, postgres.WithoutCompany())
					}
				}
				a, figures := cutting(t, dsn, seed, n, way.callers, func(c *caller) {
					c.with, c.hurried = way.with, resends == "caller"
				}, everyPlace(), form, more...)
				made, yes := figures.all()
				total, committed = total+made, committed+yes
				t.Logf("%s, sent again by the %s: %v; %v; seed %d", way.name, resends, figures, a, seed)
				require.Empty(t, a.problems, "%s, sent again by the %s, seed %d", way.name, resends, seed)
				require.Equal(t, n, made)
				if resends == "store" {
					require.Zero(t, a.doubts, "the store found out by itself; seed %d", seed)
				}
				doubts += a.doubts
				if way.callers > 4 && resends == "store" {
					require.Less(t, figures.commits, len(a.sent)+made, "commits are shared; seed %d", seed)
				}
			}
		}
		t.Logf("in all: %d cuts, of which the server told the proxy that %d were committed, and nothing of %d; %d outcomes unknown", total, committed, total-committed, doubts)
		require.NotZero(t, doubts)
		require.NotZero(t, committed)
		require.NotZero(t, total-committed)
	})
}

// The control of F14: who sends again under new IDs has it twice, and the harness sees it.
func TestTheHarnessSeesDoublesOfAppendsSentAgainUnderNewIDs(t *testing.T) {
	dsn := pgtest.Database(t)
	for _, way := range ways {
		n, more := 4, []postgres.Option{postgres.Tries(1)}
		if way.callers > 1 && !way.with {
			n = 24 // a shared commit is in doubt where the second try is cut too
		} else {
			more = append(more, postgres.WithoutCompany())
		}
		// One that expects a version is told a conflict instead, so it takes a few.
		doubles := false
		for range 10 {
			a, figures := cutting(t, dsn, 1, n, way.callers, func(c *caller) {
				c.with, c.renames = way.with, true
			}, []place{afterCommit, beforeReply}, nil, more...)
			t.Logf("%s: %v; %v", way.name, figures, a)
			if doubles = strings.Contains(fmt.Sprint(a.problems), "is there 2 times"); doubles {
				break
			}
		}
		require.True(t, doubles, way.name)
	}
}

// The other controls: each thing that may be wrong with a log is one that the harness sees.
func TestTheHarnessSeesWhatIsWrongWithALog(t *testing.T) {
	made := func() (*account, []eventstore.Recorded) {
		a := &account{}
		var log []eventstore.Recorded
		for i := range 3 {
			mark := fmt.Sprint("m", i)
			s := &sent{mark: mark, answered: true}
			for j := range 2 {
				s.events = append(s.events, eventstore.Event{ID: newID(), Stream: "s", Type: "t", Schema: 1, Data: fmt.Appendf(nil, "[%d,%d]", i, j)})
				log = append(log, eventstore.Recorded{
					Event: s.events[j], Version: uint64(2*i + j + 1), Position: eventstore.Position(2*i + j + 1), Append: eventstore.Position(2*i + 1),
				})
			}
			s.records = slices.Clone(log[2*i:])
			a.sent = append(a.sent, s)
		}
		return a, log
	}
	a, log := made()
	a.hold(log, nil)
	require.Empty(t, a.problems)
	for sees, spoil := range map[string]func(a *account, log []eventstore.Recorded) (rest []eventstore.Recorded, told []string){
		"was acknowledged, and is not there": func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) { return log[:4], nil },
		"of 2 events 1 are there":            func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) { return log[:5], nil },
		"is there 2 times": func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			return append(log, log[5]), nil
		},
		"in place": func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			log[5].Version++
			return log, nil
		},
		"position 5 behind 5": func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			log[5].Position--
			return log, nil
		},
		"is of another append": func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			log[5].Append++
			return log, nil
		},
		"is there otherwise": func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			log[5].RecordedAt = log[5].RecordedAt.Add(time.Microsecond)
			return log, nil
		},
		"is not applied, and is there": func(a *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			a.sent[2].answered, a.sent[2].refused = false, true
			return log, nil
		},
		"6 events are there, and 4 are known": func(a *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			a.sent = a.sent[:2]
			return log, nil
		},
		"1 rows go with it, not 0": func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			return log, []string{"m1"}
		},
		"0 rows go with it, not 1": func(a *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			a.sent[1].with = true
			return log, nil
		},
		"appends that nobody made": func(_ *account, log []eventstore.Recorded) ([]eventstore.Recorded, []string) {
			return log, []string{"x"}
		},
	} {
		a, log := made()
		rest, told := spoil(a, log)
		a.hold(rest, told)
		require.Contains(t, fmt.Sprint(a.problems), sees)
	}
}
