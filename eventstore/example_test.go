package eventstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// A seat at a theatre is sold once.
type (
	Sold struct {
		To string `json:"to"`
	}
	Freed struct{}

	Seat struct{ Holder string }
	Sell struct{ To string }
)

var errTaken = errors.New("the seat is taken: choose another")

var seats = eventstore.Decider[Seat, Sell]{
	Decide: func(s Seat, c Sell) ([]any, error) {
		if s.Holder != "" {
			return nil, errTaken
		}
		return []any{Sold{To: c.To}}, nil
	},
	Evolve: func(s Seat, payload any) Seat {
		switch e := payload.(type) {
		case Sold:
			s.Holder = e.To
		case Freed:
			s.Holder = ""
		}
		return s
	},
}

func Example() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	registry, err := eventstore.NewRegistry(
		eventstore.Type[Sold]("seat.sold", 1),
		eventstore.Type[Freed]("seat.freed", 1),
	)
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"ann", "bob"} {
		_, err := eventstore.Update(ctx, store, registry, func(tx *eventstore.Tx) error {
			tx.Meta.Actor = name
			_, err := seats.Do(tx, "seat-12C", Sell{To: name})
			return err
		})
		fmt.Println(name, err)
	}
	for r, err := range store.Read(ctx, eventstore.Query{Prefix: "seat-"}) {
		fmt.Println(r.Stream, r.Version, r.Type, string(r.Data), err)
	}
	// Output:
	// ann <nil>
	// bob the seat is taken: choose another
	// seat-12C 1 seat.sold {"to":"ann"} <nil>
}

// A number that must have no gaps is the version of a stream of its own,
// written in the same append as what it numbers.
func ExampleTx_Check() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	registry, err := eventstore.NewRegistry(eventstore.Type[Sold]("seat.sold", 1))
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"ann", "bob"} {
		_, err := eventstore.Update(ctx, store, registry, func(tx *eventstore.Tx) error {
			last, err := tx.Check("tickets")
			if err != nil {
				return err
			}
			fmt.Println("ticket", last+1, "for", name)
			return tx.Record("tickets", Sold{To: name})
		})
		if err != nil {
			panic(err)
		}
	}
	// Output:
	// ticket 1 for ann
	// ticket 2 for bob
}

// Appending by hand: the condition is the version at which a stream stands, and
// sending the same events again is safe.
func ExampleStore() {
	ctx := context.Background()
	var store eventstore.Store = memory.New()
	defer store.Close()
	sold := []eventstore.Event{{
		ID: uuid.Must(uuid.NewV7()), Stream: "seat-12C", Type: "seat.sold", Schema: 1, Data: []byte(`{"to":"ann"}`),
	}}
	for range 2 {
		records, err := store.Append(ctx, sold, eventstore.At("seat-12C", 0))
		fmt.Println("version", records[0].Version, err)
	}
	again := sold[0]
	again.ID = uuid.Must(uuid.NewV7())
	_, err := store.Append(ctx, []eventstore.Event{again}, eventstore.At("seat-12C", 0))
	fmt.Println(err)
	// Output:
	// version 1 <nil>
	// version 1 <nil>
	// conflict: stream "seat-12C" stands at version 1, not 0: read it again and decide anew
}

// What a payload was yesterday is read as what it is today.
func ExampleUpcast() {
	type SoldV1 struct {
		First string `json:"first"`
		Last  string `json:"last"`
	}
	registry, err := eventstore.NewRegistry(
		eventstore.Type[Sold]("seat.sold", 2, eventstore.Upcast(1, func(old SoldV1) (Sold, error) {
			return Sold{To: old.First + " " + old.Last}, nil
		})),
	)
	if err != nil {
		panic(err)
	}
	payload, err := registry.Decode(eventstore.Event{Type: "seat.sold", Schema: 1, Data: []byte(`{"first":"Ann","last":"Smith"}`)})
	fmt.Printf("%+v %v\n", payload, err)
	// Output: {To:Ann Smith} <nil>
}
