package postgres

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore"
)

// querier is a connection within a transaction, or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// transaction is what is known within one of the streams it has locked.
type transaction struct {
	s        *Store
	versions map[string]uint64
	busy     map[string]bool // streams that somebody else has locked
	numbers  []int64         // drawn: one for each append
	head     eventstore.Position
	at       time.Time
	rows     []eventstore.Recorded // to be inserted
	ids      map[uuid.UUID]bool    // of those
}

// reserve locks the streams that the appends touch, learns where they stand, and
// draws a number for each of them under the fence. begin begins a transaction with it.
func (s *Store) reserve(ctx context.Context, q querier, begin bool, appends []*appending, patient bool) (*transaction, error) {
	t := &transaction{s: s, versions: map[string]uint64{}, ids: map[uuid.UUID]bool{}}
	var names []string
	for _, a := range appends {
		for _, e := range a.events {
			if _, ok := t.versions[e.Stream]; !ok {
				t.versions[e.Stream] = 0
				names = append(names, e.Stream)
			}
		}
		for _, x := range a.expect {
			if _, ok := t.versions[x.Stream]; !ok {
				t.versions[x.Stream] = 0
				names = append(names, x.Stream)
			}
		}
	}
	batch := &pgx.Batch{}
	if begin {
		batch.Queue(sqlBegin)
	}
	if s.serialized {
		batch.Queue(s.sql.reserve, names)
	} else {
		batch.Queue(s.sql.reserve, names, len(appends), patient)
	}
	s.at("reserve")
	results := q.SendBatch(ctx, batch)
	defer results.Close()
	if begin {
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	var busy []string
	var versions []int64
	var err error
	if s.serialized {
		err = results.QueryRow().Scan(&versions, &t.head, &t.at)
	} else {
		err = results.QueryRow().Scan(&busy, &versions, &t.numbers, &t.at)
	}
	if err != nil {
		return nil, err
	}
	if err := results.Close(); err != nil {
		return nil, err
	}
	if len(versions) != len(names) || !s.serialized && len(t.numbers) != len(appends) {
		return nil, damaged("the function reserve answers with %d versions for %d streams", len(versions), len(names))
	}
	for i, name := range names {
		t.versions[name] = uint64(versions[i])
	}
	for _, name := range busy {
		if t.busy == nil {
			t.busy = map[string]bool{}
		}
		t.busy[name] = true
	}
	t.at = t.at.UTC()
	return t, nil
}

// judge says of each append whether it is done before it inserts, or refused: by its
// IDs, then by its expectations. Those that pass have their rows in the transaction.
//
// IDs are hardly ever known, so they are looked up only where an expectation fails,
// and where the log turned out to have one: at most twice, however many appends.
func (s *Store) judge(ctx context.Context, q querier, t *transaction, appends []*appending) error {
	var careful, suspect []*appending
	for _, a := range appends {
		a.done, a.refused = false, nil
		if a.careful {
			careful = append(careful, a)
		}
	}
	if err := s.known(ctx, q, careful); err != nil {
		return err
	}
	for _, a := range appends {
		if a.done || a.refused != nil {
			continue
		}
		if a.refused = t.apart(a); a.refused != nil {
			continue
		}
		if a.refused = t.conflict(a); a.refused == nil {
			t.add(a)
		} else if !a.careful {
			suspect = append(suspect, a)
		}
	}
	return s.known(ctx, q, suspect)
}

// known looks up the IDs of appends. Those that are in the log by an earlier append are
// done and have its records, or are refused.
func (s *Store) known(ctx context.Context, q querier, appends []*appending) error {
	if len(appends) == 0 {
		return nil
	}
	var ids []uuid.UUID
	for _, a := range appends {
		for _, e := range a.events {
			ids = append(ids, e.ID)
		}
	}
	found, err := s.byID(ctx, q, ids)
	if err != nil {
		return err
	}
	for _, a := range appends {
		records, err := eventstore.Resend(a.events, func(id uuid.UUID) (eventstore.Recorded, bool, error) {
			r, ok := found[id]
			return r, ok, nil
		})
		switch {
		case err != nil:
			a.refused = err
		case records != nil:
			a.done, a.refused, a.records = true, nil, records
		}
	}
	return nil
}

// apart reports whether an append cannot be judged here: somebody else has one of its
// streams, or another append of this transaction one of its IDs.
func (t *transaction) apart(a *appending) error {
	for _, e := range a.events {
		if t.busy[e.Stream] || t.ids[e.ID] {
			return errApart
		}
	}
	for _, x := range a.expect {
		if t.busy[x.Stream] {
			return errApart
		}
	}
	return nil
}

// conflict returns which expectation does not hold, or nil.
func (t *transaction) conflict(a *appending) error {
	for _, x := range a.expect {
		if at := t.versions[x.Stream]; at != x.Version {
			return &eventstore.ConflictError{Stream: x.Stream, Want: x.Version, Actual: at}
		}
	}
	return nil
}

// add gives the events of an append their places.
func (t *transaction) add(a *appending) {
	first := t.head + 1
	if !t.s.serialized {
		first, t.numbers = firstOf(t.numbers[0]), t.numbers[1:]
	}
	at := a.at
	if at.IsZero() {
		at = t.at
	}
	a.records = make([]eventstore.Recorded, len(a.events))
	for i, e := range a.events {
		t.versions[e.Stream]++
		a.records[i] = eventstore.Recorded{
			Event: e, Version: t.versions[e.Stream], Position: first + eventstore.Position(i), Append: first, RecordedAt: at,
		}
	}
	t.head = first + eventstore.Position(len(a.events)) - 1
	t.rows = append(t.rows, a.records...)
	for _, e := range a.events {
		t.ids[e.ID] = true
	}
}

// queueRows queues the insertion of the rows. It copies their bytes.
func (s *Store) queueRows(batch *pgx.Batch, t *transaction) {
	n := len(t.rows)
	var tagged []string
	var tags []int64
	for _, r := range t.rows {
		for _, tag := range r.Tags {
			tagged, tags = append(tagged, tag), append(tags, int64(r.Position))
		}
	}
	if n == 1 {
		r := &t.rows[0]
		batch.Queue(s.sql.insertOne, int64(r.Position), int64(r.Append), r.ID, r.Stream, int64(r.Version), r.Type, int32(r.Schema), r.RecordedAt,
			tagList(r.Tags), text(r.Meta), string(r.Data))
	} else {
		positions, appends, versions := make([]int64, n), make([]int64, n), make([]int64, n)
		ids, schemas, times := make([]uuid.UUID, n), make([]int32, n), make([]time.Time, n)
		streams, types, datas := make([]string, n), make([]string, n), make([]string, n)
		lists, metas := make([]*string, n), make([]*string, n)
		for i := range t.rows {
			r := &t.rows[i]
			positions[i], appends[i], versions[i] = int64(r.Position), int64(r.Append), int64(r.Version)
			ids[i], schemas[i], times[i] = r.ID, int32(r.Schema), r.RecordedAt
			streams[i], types[i], datas[i] = r.Stream, r.Type, string(r.Data)
			lists[i], metas[i] = tagList(r.Tags), text(r.Meta)
		}
		batch.Queue(s.sql.insertMany, positions, appends, ids, streams, versions, types, schemas, times, lists, metas, datas)
	}
	if len(tags) > 0 {
		batch.Queue(s.sql.insertTags, tagged, tags)
	}
	if s.serialized {
		batch.Queue(s.sql.setCounter, int64(t.head))
	}
}

// text returns b as a value for a column, NULL where it is empty.
func text(b []byte) *string {
	if len(b) == 0 {
		return nil
	}
	s := string(b)
	return &s
}

// tagList writes tags as a JSON array, NULL where there are none.
func tagList(tags []string) *string {
	if len(tags) == 0 {
		return nil
	}
	b, err := json.Marshal(tags)
	if err != nil {
		panic(err) // a list of valid UTF-8 has a form
	}
	list := string(b)
	return &list
}
