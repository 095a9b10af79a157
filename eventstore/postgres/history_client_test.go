package postgres_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

// historian is a client, one of those who ask, one thing at a time.
type historian struct {
	*history
	id     int
	random *rand.Rand
	known  [3]uint64 // where it believes the streams to stand
	own    []*sending
}

func (h *history) client(id int) *historian {
	return &historian{history: h, id: id, random: rand.New(rand.NewPCG(h.seed, uint64(id)))}
}

func (c *historian) chance(percent int) bool { return c.random.IntN(100) < percent }

func (c *historian) store() spoken { return c.clients[c.random.IntN(len(c.clients))] }

func (c *historian) run(ctx context.Context) {
	for range 6 + c.random.IntN(historyMostAsks-5) {
		if c.chance(30) {
			time.Sleep(time.Duration(c.random.IntN(3000)) * time.Microsecond)
		}
		switch n := c.random.IntN(100); {
		case n < 15:
			c.append(ctx, c.compose(1+c.random.IntN(3), 2, 0))
		case n < 40:
			c.look(ctx)
			c.append(ctx, c.compose(1+c.random.IntN(3), 2, 80))
		case n < 60:
			c.look(ctx)
			c.transact(ctx, c.compose(1+c.random.IntN(2), 2, 60))
		case n < 65:
			c.appendWith(ctx, c.compose(1, 1, 40))
		case n < 70 && len(c.own) > 0:
			c.append(ctx, c.own[c.random.IntN(len(c.own))])
		case n < 85:
			c.read(ctx, c.random.Perm(3)[:1])
		case n < 90:
			c.read(ctx, c.random.Perm(3)[:2+c.random.IntN(2)])
		default:
			c.version(ctx, c.random.IntN(3))
		}
	}
}

// during is the context of a call: one in six is cancelled, within a time, or earlier
// when some append is at its commit.
func (c *historian) during(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	if !c.chance(16) {
		return context.WithTimeout(ctx, historyPatience)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := time.AfterFunc(time.Duration(c.random.Int64N(int64(most))), cancel)
	id := new(byte)
	c.doomed.Store(id, cancel)
	return ctx, func() {
		c.doomed.Delete(id)
		stop.Stop()
		cancel()
	}
}

// compose makes a new append of n events to at most so many streams. With so many
// percent it expects each stream it writes, and one that it does not, where it
// believes them to be.
func (c *historian) compose(n, most, percent int) *sending {
	order := c.random.Perm(3)
	written := order[:1+c.random.IntN(min(n, most))]
	s := &sending{in: asked{kind: toAppend}}
	for i := range n {
		stream := written[i%len(written)]
		e, number := c.event(stream)
		s.events = append(s.events, e)
		s.in.events = append(s.in.events, numbered{number, stream})
	}
	expected := slices.Clone(written)
	if c.chance(50) {
		expected = append(expected, order[2])
	}
	for _, stream := range expected {
		if c.chance(percent) {
			s.in.expect = append(s.in.expect, pinned{stream, c.known[stream]})
			s.expect = append(s.expect, eventstore.At(c.prefix+nameOf(stream), c.known[stream]))
		}
	}
	return s
}

// append sends an append, and again if nobody knows what became of it, or not.
func (c *historian) append(ctx context.Context, s *sending) {
	bound, cancel := c.during(ctx, 40*time.Millisecond)
	defer cancel()
	a := c.ask(c.id, s.in)
	records, err := c.store().Append(bound, s.events, s.expect...)
	c.ended(a, s, records, err, bound.Err() != nil)
	if a.out.unknown && c.chance(50) {
		c.append(ctx, s)
	}
}

var errRefused = errors.New("refused")

func (c *historian) appendWith(ctx context.Context, s *sending) {
	bound, cancel := c.during(ctx, 40*time.Millisecond)
	defer cancel()
	refuse := c.chance(30)
	a := c.ask(c.id, s.in)
	records, err := c.store().AppendWith(bound, s.events, func(ctx context.Context, tx pgx.Tx, _ []eventstore.Recorded) error {
		if _, err := tx.Exec(ctx, "SELECT pg_sleep(0.001)"); err != nil {
			return err
		}
		if refuse {
			return errRefused
		}
		return nil
	}, s.expect...)
	c.ended(a, s, records, err, bound.Err() != nil || errors.Is(err, errRefused))
}

// transact appends in a transaction of the client's own, which it leaves open a moment.
func (c *historian) transact(ctx context.Context, s *sending) {
	tx, err := c.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		c.problem("begin: %v", err)
		return
	}
	defer tx.Rollback(context.Background()) // says so where it has ended
	bound, cancel := c.during(ctx, 40*time.Millisecond)
	defer cancel()
	store := c.store()
	if c.chance(30) { // what a savepoint takes back nobody sees
		e, _ := c.event(c.random.IntN(3))
		savepoint, err := tx.Begin(bound)
		if err == nil {
			if _, err = store.AppendTx(bound, savepoint, []eventstore.Event{e}); err == nil {
				err = savepoint.Rollback(bound)
			}
		}
		if err != nil {
			if bound.Err() == nil {
				c.problem("an append in a savepoint: %v", err)
			}
			return
		}
	}
	a := c.ask(c.id, s.in)
	records, err := store.AppendTx(bound, tx, s.events, s.expect...)
	if err != nil {
		c.ended(a, s, nil, err, bound.Err() != nil)
		return
	}
	time.Sleep(time.Duration(c.random.IntN(8000)) * time.Microsecond)
	if c.chance(25) {
		if err := tx.Rollback(ctx); err != nil {
			c.problem("rollback: %v", err)
		}
		c.ended(a, s, nil, eventstore.NotApplied(errRefused), true)
		return
	}
	ending, cancel := c.during(ctx, time.Millisecond)
	defer cancel()
	if err = tx.Commit(ending); err != nil {
		records, err = nil, eventstore.OutcomeUnknown(err)
	}
	c.ended(a, s, records, err, ending.Err() != nil)
}

// ended takes down how an append ended. An error is surprising unless it is a conflict
// or was asked for.
func (c *historian) ended(a *asking, s *sending, records []eventstore.Recorded, err error, wanted bool) {
	var conflict *eventstore.ConflictError
	out := replied{}
	switch {
	case err == nil:
		for i, r := range records {
			if n := c.numberOf(r); n != s.in.events[i] {
				c.problem("an append of %v has the record %v", s.in.events[i], n)
			}
			out.versions = append(out.versions, r.Version)
			c.known[s.in.events[i].stream] = r.Version
		}
		if len(records) != len(s.events) {
			c.problem("an append of %d events has %d records", len(s.events), len(records))
			out.versions = make([]uint64, len(s.events))
		}
	case errors.As(err, &conflict):
		name := strings.TrimPrefix(conflict.Stream, c.prefix)
		if name != "a" && name != "b" && name != "c" {
			c.problem("a conflict with a stream that nobody asked for: %v", err)
			name = "a"
		}
		out = replied{conflict: true, stream: int(name[0] - 'a'), want: conflict.Want, actual: conflict.Actual}
		c.known[out.stream] = conflict.Actual
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		out.unknown = true
	case errors.Is(err, eventstore.ErrNotApplied):
		a.dropped = true
	default:
		a.dropped = true
		c.problem("an append fails with what is none of the three: %v", err)
	}
	if err != nil && conflict == nil && (!wanted || errors.Is(err, eventstore.ErrDuplicate)) {
		c.problem("client %d, %s: an append fails though nobody cancelled it: %v", c.id, describe(s.in, out), err)
	}
	a.answer(c.history, out)

	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case a.dropped:
		c.notApplied++
	case out.unknown:
		s.unknown = append(s.unknown, a)
	case out.conflict:
		// By the contract none of the earlier sendings was applied, or will be.
		for _, earlier := range s.unknown {
			earlier.dropped = true
		}
		s.settled = true
	default:
		s.settled = true
		c.own = append(c.own, s)
	}
	c.sendings = append(c.sendings, s)
}

func (c *historian) read(ctx context.Context, streams []int) {
	bound, cancel := c.during(ctx, 40*time.Millisecond)
	defer cancel()
	q := eventstore.Query{PayloadsOnly: c.chance(30)}
	for _, stream := range streams {
		q.Streams = append(q.Streams, c.prefix+nameOf(stream))
	}
	a := c.ask(c.id, asked{kind: toRead, streams: streams})
	var out replied
	for r, err := range c.store().Read(bound, q) {
		if err != nil {
			a.dropped = true
			if bound.Err() == nil {
				c.problem("a read fails though nobody cancelled it: %v", err)
			}
			break
		}
		n := c.numberOf(r)
		out.seen[n.stream] += string([]byte{n.number})
		if !a.dropped && r.Version != out.seen.version(n.stream) {
			c.problem("a read has version %d of %s as its event %d", r.Version, nameOf(n.stream), out.seen.version(n.stream))
		}
	}
	a.answer(c.history, out)
	for _, stream := range streams {
		if !a.dropped {
			c.known[stream] = out.seen.version(stream)
		}
	}
}

// look finds out where all streams stand, or goes on with what the client believes.
func (c *historian) look(ctx context.Context) {
	if c.chance(60) {
		c.read(ctx, []int{0, 1, 2})
	}
}

func (c *historian) version(ctx context.Context, stream int) {
	bound, cancel := c.during(ctx, 40*time.Millisecond)
	defer cancel()
	a := c.ask(c.id, asked{kind: toReadVersion, streams: []int{stream}})
	v, err := c.store().Version(bound, c.prefix+nameOf(stream))
	a.dropped = err != nil
	if err != nil && bound.Err() == nil {
		c.problem("a version fails though nobody cancelled it: %v", err)
	}
	a.answer(c.history, replied{versions: []uint64{v}})
	if err == nil {
		c.known[stream] = v
	}
}
