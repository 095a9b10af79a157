package sqlite_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	store, err := sqlite.Open(filepath.Join(dir, "changes.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	events := []eventstore.Event{{
		ID: uuid.Must(uuid.NewV7()), Stream: "change-CHG-000042", Type: "change.raised", Schema: 1,
		Data: []byte(`{"title":"upgrade db-01"}`),
	}}
	if _, err := store.Append(ctx, events, eventstore.At("change-CHG-000042", 0)); err != nil {
		log.Fatal(err)
	}
	for r, err := range store.Read(ctx, eventstore.Query{Prefix: "change-"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Position, r.Stream, r.Version, r.Type, string(r.Data))
	}
	// Output: 1 change-CHG-000042 1 change.raised {"title":"upgrade db-01"}
}
