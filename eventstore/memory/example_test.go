package memory_test

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func ExampleNew() {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	store := memory.New(memory.WithClock(func() time.Time { return noon }))
	defer store.Close()
	records, err := store.Append(context.Background(), []eventstore.Event{{
		ID: uuid.New(), Stream: "book-42", Type: "book.lent", Schema: 1, Data: []byte(`{"to":"ann"}`),
	}})
	fmt.Println(records[0].Version, records[0].RecordedAt, err)
	// Output: 1 2026-03-01 12:00:00 +0000 UTC <nil>
}
