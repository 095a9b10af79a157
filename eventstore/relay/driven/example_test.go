package driven_test

import (
	"context"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay/driven"
)

// Pages is a fold of how many pages were read of each book.
type Pages map[string]int

func (p Pages) Apply(r eventstore.Recorded) error {
	p[r.Stream]++
	return nil
}

// A fold is declared as to a follower, and driven by messages.
func Example() {
	ctx := context.Background()
	store := memory.New() // of the process that records; elsewhere sqlite.Open or postgres.Open
	defer store.Close()

	pages := follow.Projection[Pages]{Name: "pages", New: func() Pages { return Pages{} }}
	folds, err := driven.Start(driven.Config{Store: store}, pages)
	if err != nil {
		log.Fatal(err)
	}
	defer folds.Close()

	var last eventstore.Position
	for _, book := range []string{"book-1", "book-2", "book-1"} {
		records, err := store.Append(ctx, []eventstore.Event{{ID: uuid.New(), Stream: book, Type: "page.read", Schema: 1, Data: []byte(`{}`)}})
		if err != nil {
			log.Fatal(err)
		}
		last = records[0].Position
	}
	if err := folds.WaitFor(ctx, last); err != nil {
		log.Fatal(err)
	}
	err = folds.View(ctx, func(v *follow.View) error {
		fmt.Println(pages.In(v)["book-1"], "pages at position", v.Position())
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(folds.Status().Taken, "messages")
	// Output:
	// 2 pages at position 3
	// 3 messages
}
