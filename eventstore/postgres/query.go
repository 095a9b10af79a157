package postgres

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

// A query is planned once, at the field on which the fewest rows are looked at, and
// paged from there; the other fields are checked row by row, on the server. Rows looked
// at, after After:
//
//	the whole log     all of them, in the order of the table
//	streams           their events, merged, from the index on (stream, version)
//	types             their events, from an index
//	tags              the events of the rarest tag, from an index
//	prefix            as streams if at most 1,000 have it, else the whole log
//
// The whole log and the load of one stream cost a round trip a page, the rest two, and
// planning where there is a choice one or two more. Nothing is sorted but a page.

// kind says what a list is of.
type kind int

const (
	ofStream kind = iota
	ofType
	ofTag
)

const (
	fewStreams = 1000 // a prefix with more streams is read by the whole log
	indexed    = 3    // what a row found by an index costs, in rows of the whole log
)

// plan is a query under way. Between pages it holds nothing of the server's.
type plan struct {
	s       *Store
	q       eventstore.Query
	d       decoder
	planned bool
	done    bool
	upper   eventstore.Position // before it the read ends; 0 until it is known
	after   eventstore.Position // how far the log has been read
	lists   []*list             // merged; nil stands for the whole log
	last    int64               // version up to which the one stream is read
	at      int64               // and has been
}

// fill adds a page, and may be called again after it failed.
func (p *plan) fill(ctx context.Context, page *page) error {
	q := p.q
	filtered := q.Prefix != "" || len(q.Types) > 0 || len(q.Tags) > 0
	switch {
	case len(q.Streams) == 1 && q.After == 0 && !filtered:
		return p.fillStream(ctx, page)
	case len(q.Streams) == 0 && !filtered:
		return p.fillLog(ctx, page)
	}
	if !p.planned {
		fresh := plan{s: p.s, q: q, d: p.d, after: q.After}
		if err := fresh.make(ctx); err != nil {
			return err
		}
		fresh.planned = true
		*p = fresh
	}
	if p.done {
		return nil
	}
	return p.fillLists(ctx, page)
}

// fillStream reads one stream from its beginning to where it stood first.
func (p *plan) fillStream(ctx context.Context, page *page) error {
	query := p.s.sql.stream
	if p.q.PayloadsOnly {
		query = p.s.sql.streamLean
	}
	rows, err := p.s.pool.Query(ctx, query, p.q.Streams[0], p.at, page.rows)
	if err != nil {
		return err
	}
	at, last := p.at, p.last
	all, err := p.d.take(rows, page, func(raw [][]byte, r *eventstore.Recorded) {
		if last == 0 && len(raw) > lastOf && len(raw[lastOf]) == 8 {
			last = number(raw[lastOf])
		}
		at = int64(r.Version)
	})
	if err != nil {
		return err
	}
	for len(page.records) > 0 && page.records[len(page.records)-1].Version > uint64(last) {
		page.records = page.records[:len(page.records)-1]
	}
	p.at, p.last = at, last
	if last > 0 {
		p.s.memo.keep(p.q.Streams[0], uint64(last))
	}
	p.done = at >= last || all && len(page.records) < page.rows
	return nil
}

// fillLog reads the whole log. The first page comes with what says how far it may go.
func (p *plan) fillLog(ctx context.Context, page *page) error {
	query := p.s.sql.page
	if p.q.PayloadsOnly {
		query = p.s.sql.pageLean
	}
	upper := p.upper
	batch := &pgx.Batch{}
	if upper == 0 {
		batch.Queue(p.s.sql.bound)
		upper = maxPosition
	}
	batch.Queue(query, int64(min(p.after, maxPosition)), int64(upper), page.rows)
	c, err := p.s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	results := c.SendBatch(ctx, batch)
	defer results.Close()
	if p.upper == 0 {
		if err := results.QueryRow().Scan(&upper); err != nil {
			return err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	after := p.after
	all, err := p.d.take(rows, page, func(_ [][]byte, r *eventstore.Recorded) { after = r.Position })
	if err != nil {
		return err
	}
	asked := page.rows
	ended := all && len(page.records) < asked
	for len(page.records) > 0 && page.records[len(page.records)-1].Position >= upper {
		page.records = page.records[:len(page.records)-1]
		ended = true
	}
	if err := results.Close(); err != nil {
		return err
	}
	if len(page.records) == 0 && p.after > 0 && p.upper == 0 {
		c.Release()
		if err := p.s.reached(ctx, p.after); err != nil {
			return err
		}
	}
	p.after, p.upper, p.done = after, upper, ended
	return nil
}

// make chooses what a query is read by.
func (p *plan) make(ctx context.Context) error {
	if p.after > 0 {
		if err := p.s.reached(ctx, p.after); err != nil {
			return err
		}
	}
	if len(p.q.Streams) > 0 { // complete at once, whatever the log waits for
		p.upper = maxPosition
		names := slices.Compact(slices.Sorted(slices.Values(p.q.Streams)))
		if p.q.Prefix != "" {
			names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, p.q.Prefix) })
		}
		lists, err := p.streams(ctx, names)
		p.lists, p.done = lists, len(lists) == 0
		return err
	}
	if err := p.s.pool.QueryRow(ctx, p.s.sql.bound).Scan(&p.upper); err != nil {
		return err
	}
	best, err := p.whole(ctx)
	if err != nil {
		return err
	}
	choose := func(way []*list) error {
		cost, err := p.cost(ctx, way)
		if err == nil && cost < best {
			best, p.lists = cost, way
		}
		p.done = p.done || len(way) == 0
		return err
	}
	for _, tag := range p.q.Tags {
		if err := choose(p.named(ofTag, []string{tag})); err != nil {
			return err
		}
	}
	if len(p.q.Types) > 0 {
		if err := choose(p.named(ofType, p.q.Types)); err != nil {
			return err
		}
	}
	if p.q.Prefix == "" {
		return nil
	}
	rows, err := p.s.pool.Query(ctx, p.s.sql.prefixed, p.q.Prefix, p.q.Prefix+behindAll, fewStreams+1)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) > fewStreams {
		return err
	}
	way, err := p.streams(ctx, names)
	if err != nil {
		return err
	}
	return choose(way)
}

// behindAll is behind every name, also one that begins with the last character there is.
var behindAll = strings.Repeat(string(rune(utf8.MaxRune)), eventstore.MaxStream/4+1)

// whole estimates how many events there are between after and upper, from the first few.
func (p *plan) whole(ctx context.Context) (float64, error) {
	const few = 256
	rows, err := p.s.pool.Query(ctx, p.s.sql.positions, int64(p.after), int64(p.upper), few)
	if err != nil {
		return 0, err
	}
	positions, err := pgx.CollectRows(rows, pgx.RowTo[eventstore.Position])
	return p.spread(positions, few), err
}

// spread estimates how many positions there are between after and upper, if these were
// found first of at most so many, as if the others were spread like them.
func (p *plan) spread(found []eventstore.Position, most int) float64 {
	n := len(found)
	if n < most {
		return float64(n)
	}
	return float64(n) * float64(p.upper-p.after) / float64(found[n-1]-p.after)
}

// list is the rising positions of the events of one stream, type or tag, read a batch
// ahead.
type list struct {
	kind      kind
	name      string
	low, high int64 // behind and up to which it goes on: versions of a stream, else positions
	ended     bool
	positions []eventstore.Position
}

// named returns lists of types or tags, each once.
func (p *plan) named(kind kind, names []string) []*list {
	var lists []*list
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		lists = append(lists, &list{kind: kind, name: name, low: int64(p.after), high: int64(p.upper)})
	}
	return lists
}

// streams returns lists of those streams that have events between after and upper.
func (p *plan) streams(ctx context.Context, names []string) ([]*list, error) {
	if len(names) == 0 {
		return nil, nil
	}
	rows, err := p.s.pool.Query(ctx, p.s.sql.maxima, names, int64(p.after), int64(p.upper-1))
	if err != nil {
		return nil, err
	}
	var lists []*list
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Low, High int64 }])
	for i, between := range all {
		if between.High > between.Low {
			lists = append(lists, &list{kind: ofStream, name: names[i], low: between.Low, high: between.High})
		}
	}
	return lists, err
}

// batch is how many positions each of lists reads at a time.
func batch(lists []*list) int { return max(8, min(256, 1024/len(lists))) }

// cost estimates how many rows of the whole log a way is worth, from the first positions
// of its lists, as if the others were spread like them.
func (p *plan) cost(ctx context.Context, way []*list) (cost float64, err error) {
	if len(way) == 0 {
		return 0, nil
	}
	n := batch(way)
	if way[0].kind != ofStream {
		if err := p.refill(ctx, way, n); err != nil {
			return 0, err
		}
	}
	for _, l := range way {
		rows := float64(l.high - l.low)
		if l.kind != ofStream {
			rows = p.spread(l.positions, n)
		}
		cost += 1 + rows*indexed
	}
	return cost, nil
}

// refill reads a batch of n positions for each list that has none left.
func (p *plan) refill(ctx context.Context, lists []*list, n int) error {
	var empty []*list
	for _, l := range lists {
		if len(l.positions) == 0 && !l.ended {
			empty = append(empty, l)
		}
	}
	if len(empty) == 0 {
		return nil
	}
	order, names, low, high := make([]int32, len(empty)), make([]string, len(empty)), make([]int64, len(empty)), make([]int64, len(empty))
	for i, l := range empty {
		order[i], names[i], low[i], high[i] = int32(i), l.name, l.low, l.high
	}
	rows, err := p.s.pool.Query(ctx, p.s.sql.lists[empty[0].kind], order, names, low, high, n)
	if err != nil {
		return err
	}
	found := make([][]eventstore.Position, len(empty))
	var i int32
	var position, at int64
	if _, err := pgx.ForEachRow(rows, []any{&i, &position, &at}, func() error {
		found[i], low[i] = append(found[i], eventstore.Position(position)), at
		return nil
	}); err != nil {
		return err
	}
	for i, l := range empty {
		l.positions, l.low, l.ended = found[i], low[i], len(found[i]) < n
	}
	return nil
}

// fillLists reads the rows at the lowest positions of the lists, which have none in
// common, or at those of the whole log.
func (p *plan) fillLists(ctx context.Context, page *page) error {
	candidates, ended, err := p.candidates(ctx, page.rows)
	if err != nil {
		return err
	}
	if len(candidates) == 0 {
		p.done = true
		return nil
	}
	query := p.s.sql.at
	if p.q.PayloadsOnly {
		query = p.s.sql.atLean
	}
	rows, err := p.s.pool.Query(ctx, query, candidates, orNull(p.q.Types), p.q.Prefix, orNull(p.q.Tags))
	if err != nil {
		return err
	}
	var last eventstore.Position
	all, err := p.d.take(rows, page, func(_ [][]byte, r *eventstore.Recorded) { last = r.Position })
	if err != nil {
		return err
	}
	if all {
		last = eventstore.Position(candidates[len(candidates)-1])
	}
	p.after, p.done = last, all && ended
	for _, l := range p.lists {
		i, _ := slices.BinarySearch(l.positions, last+1)
		l.positions = l.positions[i:]
	}
	return nil
}

// candidates returns up to n positions to look at, and whether there are no more.
func (p *plan) candidates(ctx context.Context, n int) (positions []int64, ended bool, err error) {
	if p.lists == nil {
		n = max(n, 256)
		rows, err := p.s.pool.Query(ctx, p.s.sql.positions, int64(p.after), int64(p.upper), n)
		if err != nil {
			return nil, false, err
		}
		positions, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return positions, len(positions) < n, err
	}
	if err := p.refill(ctx, p.lists, batch(p.lists)); err != nil {
		return nil, false, err
	}
	// What comes next of a list that goes on is not known, so it ends there.
	bound, ended := maxPosition, true
	for _, l := range p.lists {
		if !l.ended {
			bound, ended = min(bound, l.positions[len(l.positions)-1]), false
		}
	}
	for _, l := range p.lists {
		for _, position := range l.positions {
			if position > bound {
				break
			}
			positions = append(positions, int64(position))
		}
	}
	slices.Sort(positions)
	if len(positions) > n {
		positions, ended = positions[:n], false
	}
	return positions, ended, nil
}

// orNull returns values as a parameter, NULL where there are none.
func orNull(values []string) []string {
	if len(values) == 0 {
		return nil
	}
	return values
}
