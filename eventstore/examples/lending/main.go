// Command lending shows the kernel alone, on a library that lends books: events
// in a file, decisions that nobody can overtake, a view of the whole log, and a
// history that can be carried elsewhere. The domain is package library.
//
//	go run ./eventstore/examples/lending
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/examples/lending/library"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func main() {
	dir, err := os.MkdirTemp("", "lending")
	if err == nil {
		err = run(context.Background(), os.Stdout, filepath.Join(dir, "library.db"))
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, file string) error {
	registry, err := library.Registry()
	if err != nil {
		return err
	}
	store, err := sqlite.Open(file)
	if err != nil {
		return err
	}
	defer store.Close()

	// A unit of work: read, decide, append, all again if somebody was faster.
	monday := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	do := func(actor, book string, command any) error {
		_, err := eventstore.Update(ctx, store, registry, func(tx *eventstore.Tx) error {
			tx.Meta = eventstore.Metadata{Actor: actor, OccurredAt: monday}
			_, err := library.Books.Do(tx, book, command)
			return err
		})
		return err
	}
	for book, title := range map[string]string{"book-1": "Emma", "book-2": "Persuasion", "book-3": "Middlemarch"} {
		if err := do("clerk", book, library.Add{Title: title}); err != nil {
			return err
		}
	}
	if err := do("clerk", "book-1", library.Lend{To: "ann", On: monday, Days: 7}); err != nil {
		return err
	}
	fmt.Fprintln(out, "bob asks for Emma:", do("clerk", "book-1", library.Lend{To: "bob", On: monday, Days: 7}))

	// Eight clerks lend the same book at the same moment.
	var lent, refused atomic.Int32
	var clerks sync.WaitGroup
	for i := range 8 {
		clerks.Go(func() {
			switch err := do(fmt.Sprint("clerk-", i), "book-2", library.Lend{To: "eve", On: monday, Days: 7}); {
			case err == nil:
				lent.Add(1)
			case errors.Is(err, library.ErrOut):
				refused.Add(1)
			}
		})
	}
	clerks.Wait()
	fmt.Fprintf(out, "eight clerks lend Persuasion at once: %d did, %d were refused\n", lent.Load(), refused.Load())

	// Two books change hands in one append: both or neither.
	if _, err := eventstore.Update(ctx, store, registry, func(tx *eventstore.Tx) error {
		tx.Meta.Actor = "clerk"
		if _, err := library.Books.Do(tx, "book-1", library.Return{On: monday.AddDate(0, 0, 8)}); err != nil {
			return err
		}
		_, err := library.Books.Do(tx, "book-3", library.Lend{To: "ann", On: monday.AddDate(0, 0, 8), Days: 7})
		return err
	}); err != nil {
		return err
	}

	// A view of the whole log, at one position.
	fmt.Fprintln(out, "in the file:")
	if err := show(ctx, out, store, registry); err != nil {
		return err
	}

	// The history, carried to another store, gives the same view.
	var history bytes.Buffer
	exported, err := archive.Export(ctx, &history, store, eventstore.Query{})
	if err != nil {
		return err
	}
	other := memory.New()
	defer other.Close()
	if _, err := archive.Import(ctx, other, &history); err != nil {
		return err
	}
	fmt.Fprintf(out, "in memory, after an export of %d events and an import:\n", exported.Events)
	if err := show(ctx, out, other, registry); err != nil {
		return err
	}

	// What ann has ever borrowed, by tag.
	for r, err := range store.Read(ctx, eventstore.Query{Tags: []string{"reader:ann"}}) {
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "ann, %s version %d: %s\n", r.Stream, r.Version, r.Data)
	}
	return nil
}

// show folds the log and prints who has what.
func show(ctx context.Context, out io.Writer, store eventstore.Store, registry *eventstore.Registry) error {
	loans := follow.Projection[*library.Loans]{Name: "loans", New: func() *library.Loans { return library.NewLoans(registry) }}
	follower, err := follow.Start(store, follow.Config{}, loans)
	if err != nil {
		return err
	}
	defer follower.Close()
	return follower.View(ctx, func(v *follow.View) error {
		for _, reader := range []string{"ann", "bob", "eve"} {
			fmt.Fprintf(out, "  %s has %v\n", reader, loans.In(v).Of(reader))
		}
		return nil
	})
}
