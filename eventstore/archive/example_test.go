package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// books returns a store in which a book was added and then lent.
func books() eventstore.Store {
	nine := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	store := memory.New(memory.WithClock(func() time.Time { return nine }))
	_, err := store.Append(context.Background(), []eventstore.Event{{
		ID:     uuid.MustParse("0195a1b2-0000-7000-8000-000000000001"),
		Stream: "book-42", Type: "book.added", Schema: 1, Data: []byte(`{"title":"Emma"}`),
	}, {
		ID:     uuid.MustParse("0195a1b2-0000-7000-8000-000000000002"),
		Stream: "book-42", Type: "book.lent", Schema: 1, Data: []byte(`{"to":"ann"}`),
		Tags: []string{"reader:ann"}, Meta: []byte(`{"actor":"librarian-1"}`),
	}})
	if err != nil {
		panic(err)
	}
	return store
}

func ExampleExport() {
	summary, err := archive.Export(context.Background(), os.Stdout, books(), eventstore.Query{})
	fmt.Println(summary.Events, err)
	// Output:
	// {"format":"rollforward.archive","version":1}
	// {"id":"0195a1b2-0000-7000-8000-000000000001","stream":"book-42","version":1,"type":"book.added","schema":1,"recorded_at":"2026-03-01T09:00:00.000000Z","data":{"title":"Emma"}}
	// {"id":"0195a1b2-0000-7000-8000-000000000002","stream":"book-42","version":2,"type":"book.lent","schema":1,"tags":["reader:ann"],"append":"0195a1b2-0000-7000-8000-000000000001","recorded_at":"2026-03-01T09:00:00.000000Z","meta":{"actor":"librarian-1"},"data":{"to":"ann"}}
	// {"end":{"events":2,"sha256":"a47812ad994dcb7ee7032b353ab67449cf1bc33410cc327fd8965365350d0baa"}}
	// 2 <nil>
}

// A history moves to another store, and a second run changes nothing.
func ExampleImport() {
	ctx := context.Background()
	var file bytes.Buffer
	if _, err := archive.Export(ctx, &file, books(), eventstore.Query{}); err != nil {
		panic(err)
	}
	other := memory.New()
	for range 2 {
		summary, err := archive.Import(ctx, other, bytes.NewReader(file.Bytes()))
		fmt.Printf("%d events, %d added, %v\n", summary.Events, summary.Added, err)
	}
	// Output:
	// 2 events, 2 added, <nil>
	// 2 events, 0 added, <nil>
}

// A history is looked through without a store.
func ExampleRead() {
	var file bytes.Buffer
	if _, err := archive.Export(context.Background(), &file, books(), eventstore.Query{}); err != nil {
		panic(err)
	}
	for r, err := range archive.Read(&file) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(r.RecordedAt.Format(time.DateOnly), r.Stream, r.Version, r.Type, string(r.Data))
	}
	// Output:
	// 2026-03-01 book-42 1 book.added {"title":"Emma"}
	// 2026-03-01 book-42 2 book.lent {"to":"ann"}
}
