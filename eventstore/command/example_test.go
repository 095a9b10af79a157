package command_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// A book is lent to one reader at a time.
type (
	Lent struct {
		To string `json:"to"`
	}
	Lend struct{ To string }
)

var books = eventstore.Decider[Lent, Lend]{
	Decide: func(b Lent, c Lend) ([]any, error) {
		if b.To != "" {
			return nil, command.Refuse(command.Refusal{Rule: "book-is-out", Reason: b.To + " has it", Remedy: "wait until it is returned"})
		}
		return []any{Lent(c)}, nil
	},
	Evolve: func(b Lent, payload any) Lent {
		if e, ok := payload.(Lent); ok {
			return e
		}
		return b
	},
}

func Example() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	registry, err := eventstore.NewRegistry(append(command.Types(), eventstore.Type[Lent]("book.lent", 1))...)
	if err != nil {
		panic(err)
	}
	door, err := command.Open(command.Config{
		Store: store, Registry: registry,
		Authorizer: command.Policy{
			Table: command.Table{"librarian": {{Actions: []string{"book.*"}}}},
			Roles: command.Roles{"ann": {"librarian"}},
		},
		Clock: func() time.Time { return time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		panic(err)
	}
	defer door.Close(ctx)

	lend := func(actor, reader, key string) error {
		call := command.Call{Actor: command.As(actor), Action: "book.lend", Target: "book-42", Key: key, Content: Lend{To: reader}}
		done, err := door.Do(ctx, call, func(tx *command.Tx) error {
			if err := tx.Authorize("book.lend", "book-42", nil); err != nil {
				return err
			}
			_, err := books.Do(tx.Tx, "book-42", Lend{To: reader})
			return err
		})
		fmt.Println(done.Position, done.Repeated, err)
		return err
	}
	lend("ann", "cleo", "order-7")
	lend("ann", "cleo", "order-7") // the answer got lost, and is asked for again
	lend("ann", "dora", "order-8")
	err = lend("bob", "dora", "")
	fmt.Println(errors.Is(err, command.ErrDenied), command.By(err, "role-required"))

	for r, err := range store.Read(ctx, eventstore.Query{Types: []string{"command.refused"}}) {
		fmt.Println(r.Stream, r.Tags, err)
	}
	// Output:
	// 2 false <nil>
	// 2 true <nil>
	// 0 false book.lend book-42 is refused by book-is-out: cleo has it: wait until it is returned
	// 0 false book.lend book-42 is denied by role-required: bob has no role; book.lend takes one of [librarian]: ask somebody who is librarian
	// true true
	// refusals-2026-03 [actor:ann rule:book-is-out] <nil>
	// refusals-2026-03 [actor:bob rule:role-required] <nil>
}
