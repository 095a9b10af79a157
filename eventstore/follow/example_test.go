package follow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// Received is recorded when goods come in.
type Received struct {
	Item  string
	Count int
}

// Levels knows how many of each item there are.
type Levels struct{ counts map[string]int }

func NewLevels() *Levels { return &Levels{map[string]int{}} }

func (l *Levels) Apply(r eventstore.Recorded) error {
	if r.Type != "goods.received" {
		return nil
	}
	payload, err := goods.Decode(r.Event)
	if err != nil {
		return err
	}
	received := payload.(Received)
	l.counts[received.Item] += received.Count
	return nil
}

func (l *Levels) Of(item string) int { return l.counts[item] }

// Levels is a follow.Snapshotter, so that a restart is cheap.
func (l *Levels) Format() int                { return 1 }
func (l *Levels) Snapshot() ([]byte, error)  { return json.Marshal(l.counts) }
func (l *Levels) Restore(state []byte) error { return json.Unmarshal(state, &l.counts) }

var goods, _ = eventstore.NewRegistry(eventstore.Type[Received]("goods.received", 1))

var levels = follow.Projection[*Levels]{Name: "levels", New: NewLevels}

func Example() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()

	f, err := follow.Start(store, follow.Config{SnapshotEvery: 100_000}, levels)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	records, err := eventstore.Update(ctx, store, goods, func(tx *eventstore.Tx) error {
		return tx.RecordBlind("dock-1", Received{"bolts", 40}, Received{"nuts", 20}, Received{"bolts", 2})
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := f.WaitFor(ctx, records[len(records)-1].Position); err != nil {
		log.Fatal(err)
	}
	err = f.View(ctx, func(v *follow.View) error {
		fmt.Println(levels.In(v).Of("bolts"), "bolts at position", v.Position())
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: 42 bolts at position 3
}

// An event that a fold cannot take stops the follower until somebody decides
// that it is left out.
func ExampleFollower_Park() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	_, err := store.Append(ctx, []eventstore.Event{{
		ID: uuid.New(), Stream: "dock-1", Type: "goods.received", Schema: 1, Data: []byte(`{"Item":"bolts","Count":"many"}`),
	}})
	if err != nil {
		log.Fatal(err)
	}
	f, err := follow.Start(store, follow.Config{Logger: slog.New(slog.DiscardHandler)}, levels)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	err = f.WaitFor(ctx, 1)
	if poison, ok := errors.AsType[*follow.PoisonError](err); ok {
		fmt.Printf("stopped by position %d of fold %s\n", poison.Position, poison.Fold)
		err = f.Park(ctx, poison.Fold, poison.Event, eventstore.Metadata{Actor: "ann", Reason: "the count was a joke"})
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("goes on:", f.Status().Stopped == nil, "parked:", len(f.Status().Folds[0].Parked))
	// Output:
	// stopped by position 1 of fold levels
	// goes on: true parked: 1
}
