package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
)

// The examples need a server, so they are compiled and not run.

func Example() {
	ctx := context.Background()
	store, err := postgres.Open(ctx, "postgres://app@db/changes")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	raised := eventstore.Event{
		ID: uuid.Must(uuid.NewV7()), Stream: "change-CHG-000042", Type: "change.raised", Schema: 1,
		Tags: []string{"ci:db-01"}, Data: []byte(`{"title":"Upgrade db-01 to 16"}`),
	}
	_, err = store.Append(ctx, []eventstore.Event{raised}, eventstore.At("change-CHG-000042", 0))
	switch {
	case errors.Is(err, eventstore.ErrConflict):
		log.Print("somebody was faster: read the stream again and decide anew")
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		log.Print("send the same event again: it is recorded once")
	case err != nil:
		log.Fatal(err)
	}
	for r, err := range store.Read(ctx, eventstore.Query{Tags: []string{"ci:db-01"}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s: %s\n", r.Stream, r.Type, r.Data)
	}
}

// A table of your own is committed with the events or not at all.
func ExampleStore_AppendWith() {
	ctx := context.Background()
	store, err := postgres.Open(ctx, "postgres://app@db/changes")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	raised := eventstore.Event{
		ID: uuid.Must(uuid.NewV7()), Stream: "change-CHG-000042", Type: "change.raised", Schema: 1, Data: []byte(`{}`),
	}
	_, err = store.AppendWith(ctx, []eventstore.Event{raised}, func(ctx context.Context, tx pgx.Tx, records []eventstore.Recorded) error {
		_, err := tx.Exec(ctx, "INSERT INTO tickets (change, position) VALUES ($1, $2)", "CHG-000042", int64(records[0].Position))
		return err
	}, eventstore.At("change-CHG-000042", 0))
	if err != nil {
		log.Fatal(err)
	}
}

// A transaction that you began and that you end.
func ExampleStore_AppendTx() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://app@db/changes")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	store, err := postgres.Open(ctx, "postgres://app@db/changes")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	closed := eventstore.Event{
		ID: uuid.Must(uuid.NewV7()), Stream: "change-CHG-000042", Type: "change.closed", Schema: 1, Data: []byte(`{}`),
	}
	err = pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE tickets SET open = false WHERE change = $1", "CHG-000042"); err != nil {
			return err
		}
		_, err := store.AppendTx(ctx, tx, []eventstore.Event{closed}, eventstore.At("change-CHG-000042", 7))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Who reads the log waits for transactions that have appended and not ended.
func ExampleStore_Fences() {
	ctx := context.Background()
	store, err := postgres.Open(ctx, "postgres://app@db/changes")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	fences, err := store.Fences(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range fences {
		if f.Age > time.Minute {
			log.Printf("%s (process %d, %s) holds back all readers since %s", f.Client, f.PID, f.State, f.Age)
		}
	}
}
