package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

// rawPostgres is pgx alone on one connection and a schema that a store has made and
// left empty. It sends the statements that the store sends, in as many round trips,
// and knows the rest: it validates nothing, looks nothing up, tells nobody and tries
// nothing again. It is the limit of what a client of this server can do.
type rawPostgres struct {
	ctx    context.Context
	conn   *pgx.Conn
	schema string
	head   int64 // of all, which counts for itself
	stands map[string]uint64
}

func openRawPostgres(ctx context.Context, dsn, schema string) (*rawPostgres, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false)")
	return &rawPostgres{ctx: ctx, conn: conn, schema: schema, stands: map[string]uint64{}}, err
}

func (r *rawPostgres) close() error { return r.conn.Close(r.ctx) }

const rawColumns = "position, append, id, stream, version, type, schema, recorded_at, tags, meta, data"

// append is one append, as the store sends it: what it locks and learns, then what it
// inserts and the commit.
func (r *rawPostgres) append(events []eventstore.Event, expect eventstore.Expect) error {
	batch := &pgx.Batch{}
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	batch.Queue("SELECT busy, versions, numbers, at FROM "+r.schema+".reserve($1, $2, $3)", []string{expect.Stream}, 1, false)
	results := r.conn.SendBatch(r.ctx, batch)
	_, err := results.Exec()
	var busy []string
	var versions, numbers []int64
	var at time.Time
	if err == nil {
		err = results.QueryRow().Scan(&busy, &versions, &numbers, &at)
	}
	if err := errors.Join(err, results.Close()); err != nil {
		return err
	}
	if uint64(versions[0]) != expect.Version {
		return errExpected
	}
	batch = &pgx.Batch{}
	if err := r.queue(batch, []*waiting{{events: events, expect: expect}}, func() int64 { return numbers[0] * eventstore.MaxEvents }, at); err != nil {
		return err
	}
	batch.Queue("COMMIT")
	return r.conn.SendBatch(r.ctx, batch).Close()
}

// queue queues the rows of appends, whose first positions first returns.
func (r *rawPostgres) queue(batch *pgx.Batch, appends []*waiting, first func() int64, at time.Time) error {
	var positions, firsts, versions, tagged []int64
	var ids []uuid.UUID
	var schemas []int32
	var times []time.Time
	var streams, types, lists, metas, datas, tags []string
	for _, a := range appends {
		begin := first()
		for i, e := range a.events {
			list, err := json.Marshal(e.Tags)
			if err != nil {
				return err
			}
			position := begin + int64(i)
			positions, firsts, versions = append(positions, position), append(firsts, begin), append(versions, int64(a.expect.Version)+int64(i)+1)
			ids, schemas, times = append(ids, e.ID), append(schemas, int32(e.Schema)), append(times, at)
			streams, types, datas = append(streams, e.Stream), append(types, e.Type), append(datas, string(e.Data))
			lists, metas = append(lists, string(list)), append(metas, string(e.Meta))
			for _, tag := range e.Tags {
				tags, tagged = append(tags, tag), append(tagged, position)
			}
		}
	}
	if len(positions) == 1 {
		batch.Queue("INSERT INTO "+r.schema+".events ("+rawColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
			positions[0], firsts[0], ids[0], streams[0], versions[0], types[0], schemas[0], times[0], lists[0], metas[0], datas[0])
	} else {
		batch.Queue("INSERT INTO "+r.schema+".events ("+rawColumns+") SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::bigint[],"+
			" $6::text[], $7::integer[], $8::timestamptz[], $9::text[], $10::text[], $11::text[])",
			positions, firsts, ids, streams, versions, types, schemas, times, lists, metas, datas)
	}
	batch.Queue("INSERT INTO "+r.schema+".event_tags (tag, position) SELECT * FROM unnest($1::text[], $2::bigint[])", tags, tagged)
	return nil
}

// all commits appends together, in one round trip: nobody else writes, so that nothing
// has to be locked or looked up. It is the best that one connection does.
func (r *rawPostgres) all(appends []*waiting) {
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	for _, a := range appends {
		if r.stands[a.expect.Stream] != a.expect.Version {
			a.err = errExpected
		}
		r.stands[a.expect.Stream] += uint64(len(a.events))
	}
	err := r.queue(batch, appends, func() int64 { r.head += eventstore.MaxEvents; return r.head }, time.Now())
	batch.Queue("COMMIT")
	if err == nil {
		err = r.conn.SendBatch(r.ctx, batch).Close()
	}
	for _, a := range appends {
		a.err = errors.Join(a.err, err)
	}
}

// scan reads the log by one statement and copies what a record has.
func (r *rawPostgres) scan(f func(rawRecord)) error {
	rows, err := r.conn.Query(r.ctx, "SELECT "+rawColumns+" FROM "+r.schema+".events ORDER BY position")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		f(rawRow(rows.RawValues()))
	}
	return rows.Err()
}

func rawRow(raw [][]byte) rawRecord {
	n := func(b []byte) (n int64) {
		for _, c := range b {
			n = n<<8 | int64(c)
		}
		return n
	}
	x := rawRecord{
		position: n(raw[0]), first: n(raw[1]), id: uuid.UUID(raw[2]), stream: string(raw[3]), version: n(raw[4]), schema: n(raw[6]),
		at: time.UnixMicro(n(raw[7]) + 946684800*1_000_000),
	}
	all := append(append(append(make([]byte, 0, len(raw[8])+len(raw[9])+len(raw[10])), raw[8]...), raw[9]...), raw[10]...)
	x.tags, x.meta, x.data = all[:len(raw[8])], all[len(raw[8]):len(raw[8])+len(raw[9])], all[len(raw[8])+len(raw[9]):]
	return x
}

// load reads a stream and folds it, decoding as the store's user does.
func (r *rawPostgres) load(stream string) (s state, err error) {
	rows, err := r.conn.Query(r.ctx, "SELECT type, data FROM "+r.schema+".events WHERE stream = $1 ORDER BY version", stream)
	if err != nil {
		return s, err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		switch string(raw[0]) {
		case typeMoved:
			var m moved
			if err := json.Unmarshal(raw[1], &m); err != nil {
				return s, err
			}
			s = s.after(m)
		case typeClosed:
			var m closed
			if err := json.Unmarshal(raw[1], &m); err != nil {
				return s, err
			}
			s.Closed = true
		default:
			return s, fmt.Errorf("a type %q", raw[0])
		}
	}
	return s, rows.Err()
}
