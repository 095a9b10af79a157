package eventstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// A payload of some 300 bytes, as changes have.
type moved struct {
	Change   string            `json:"change"`
	From, To string            `json:",omitzero"`
	By       string            `json:"by"`
	At       time.Time         `json:"at"`
	Reason   string            `json:"reason"`
	Fields   map[string]string `json:"fields"`
	Count    int               `json:"count"`
}

var sample = moved{
	Change: "CHG-000042", From: "assess", To: "authorize", By: "u-7f3a", At: time.Date(2026, 3, 1, 9, 0, 0, 123456000, time.UTC),
	Reason: "risk is moderate: two critical services depend on db-01, and the window is 30 h away", Count: 7,
	Fields: map[string]string{"window": "2026-03-07T01:00:00Z/PT1H", "group": "dba", "category": "database"},
}

var moves = eventstore.Decider[int, any]{
	Decide: func(int, any) ([]any, error) { return []any{sample}, nil },
	Evolve: func(n int, payload any) int {
		if m, ok := payload.(moved); ok {
			n += m.Count
		}
		return n
	},
}

// compare runs ours and the limit in turns and reports how near ours comes: 1 is
// the limit itself, 0.5 takes twice its time.
func compare(b *testing.B, limit, ours func()) {
	var atLimit, atOurs time.Duration
	for b.Loop() {
		begin := time.Now()
		limit()
		middle := time.Now()
		ours()
		atLimit, atOurs = atLimit+middle.Sub(begin), atOurs+time.Since(middle)
	}
	b.ReportMetric(float64(atLimit)/float64(atOurs), "x-limit")
	b.ReportMetric(float64(atOurs.Nanoseconds())/float64(b.N), "ours-ns/op")
}

// BenchmarkLoad: a stream of 20 events into state. Limit: decoding its payloads.
func BenchmarkLoad(b *testing.B) {
	ctx, store := context.Background(), memory.New()
	r := registry(b, eventstore.Type[moved]("change.moved", 1))
	var payloads [][]byte
	for range 20 {
		records, err := eventstore.Update(ctx, store, r, func(tx *eventstore.Tx) error {
			tx.Meta.Actor = "ann"
			_, err := moves.Do(tx, "change-CHG-000042", nil)
			return err
		})
		require.NoError(b, err)
		payloads = append(payloads, records[0].Data)
	}
	b.ReportAllocs()
	compare(b, func() {
		for _, p := range payloads {
			var m moved
			if err := json.Unmarshal(p, &m); err != nil {
				b.Fatal(err)
			}
		}
	}, func() {
		_, err := eventstore.Update(ctx, store, r, func(tx *eventstore.Tx) error {
			_, err := moves.Load(tx, "change-CHG-000042")
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkUpdate: one command on a new stream. Limit: a bare append of the same event.
func BenchmarkUpdate(b *testing.B) {
	ctx, bare, store := context.Background(), memory.New(), memory.New()
	r := registry(b, eventstore.Type[moved]("change.moved", 1))
	n := 0
	compare(b, func() {
		e, err := r.Encode(uuid.Must(uuid.NewV7()), sample)
		if err != nil {
			b.Fatal(err)
		}
		e.Stream, e.Meta = fmt.Sprintf("change-%d", n), []byte(`{"actor":"ann"}`)
		if _, err := bare.Append(ctx, []eventstore.Event{e}, eventstore.At(e.Stream, 0)); err != nil {
			b.Fatal(err)
		}
	}, func() {
		_, err := eventstore.Update(ctx, store, r, func(tx *eventstore.Tx) error {
			tx.Meta.Actor = "ann"
			_, err := moves.Do(tx, fmt.Sprintf("change-%d", n), nil)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		n++
	})
}

// BenchmarkValidate: what every append pays before any I/O. Limit: decoding the payload once.
func BenchmarkValidate(b *testing.B) {
	r := registry(b, eventstore.Type[moved]("change.moved", 1))
	e, err := r.Encode(uuid.Must(uuid.NewV7()), sample)
	require.NoError(b, err)
	e.Stream = "change-CHG-000042"
	es := []eventstore.Event{e}
	compare(b, func() {
		var m moved
		if err := json.Unmarshal(e.Data, &m); err != nil {
			b.Fatal(err)
		}
	}, func() {
		if err := eventstore.Validate(es, nil); err != nil {
			b.Fatal(err)
		}
	})
}
