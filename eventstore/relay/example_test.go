package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

var quiet = slog.New(slog.DiscardHandler)

func exampleLog(ctx context.Context) (eventstore.Store, *eventstore.Registry) {
	store := memory.New()
	registry, err := eventstore.NewRegistry(append(append(relay.Types(), command.Types()...),
		eventstore.Type[Opened]("door.opened", 1), eventstore.Type[Told]("door.told", 1))...)
	if err != nil {
		panic(err)
	}
	for i, data := range []string{`{"by":"ann"}`, `{"by":"bob"}`} {
		_, err := store.Append(ctx, []eventstore.Event{{
			ID: uuid.NewSHA1(uuid.NameSpaceURL, []byte(data)), Stream: fmt.Sprintf("door-%d", i+1), Type: "door.opened", Schema: 1, Data: []byte(data),
		}})
		if err != nil {
			panic(err)
		}
	}
	return store, registry
}

// A handler whose effect is a command: however often an event comes, it is done once.
func ExampleOn() {
	ctx, stop := context.WithCancel(context.Background())
	store, registry := exampleLog(ctx)
	defer store.Close()
	door, err := command.Open(command.Config{Store: store, Registry: registry, Authorizer: command.AllowAll})
	if err != nil {
		panic(err)
	}
	tell := relay.Handler{Name: "tell-owners", History: true, Workers: 1, Cases: []relay.Case{
		relay.On(func(ctx context.Context, e Opened, env relay.Envelope) error {
			call := env.Call(command.As("tell-owners"))
			call.Action, call.Target, call.Content = "door.tell", env.Stream, e
			done, err := door.Do(ctx, call, func(tx *command.Tx) error {
				if err := tx.Authorize("door.tell", env.Stream, nil); err != nil {
					return err
				}
				return tx.RecordBlind("told-"+env.Stream, Told{Who: "the owner of " + env.Stream})
			})
			if err != nil {
				return err
			}
			fmt.Println(env.Stream, "was opened by", e.By, "- recorded", len(done.Records), "events")
			if env.Stream == "door-2" {
				stop()
			}
			return nil
		}),
	}}
	handlers, err := relay.New(relay.Config{Store: store, Registry: registry, Logger: quiet}, tell)
	if err != nil {
		panic(err)
	}
	fmt.Println(handlers.Run(ctx), door.Close(context.Background()))
	// Output:
	// door-1 was opened by ann - recorded 2 events
	// door-2 was opened by bob - recorded 2 events
	// <nil> <nil>
}

// Events that no typed case takes, of a topic, without their payload being decoded.
func ExampleAny() {
	ctx, stop := context.WithCancel(context.Background())
	store, registry := exampleLog(ctx)
	defer store.Close()
	audit := relay.Handler{Name: "audit", Topic: relay.ByPrefix("door-"), History: true, Workers: 1, Cases: []relay.Case{
		relay.Any(func(_ context.Context, env relay.Envelope) error {
			fmt.Println(env.Position, env.Stream, env.Type, string(env.Data))
			if env.Position == 2 {
				stop()
			}
			return nil
		}),
	}}
	handlers, err := relay.New(relay.Config{Store: store, Registry: registry, Logger: quiet}, audit)
	if err != nil {
		panic(err)
	}
	fmt.Println(handlers.Run(ctx))
	// Output:
	// 1 door-1 door.opened {"by":"ann"}
	// 2 door-2 door.opened {"by":"bob"}
	// <nil>
}

// The log as a Watermill subscriber: what was acknowledged under a name does not come
// again.
func ExampleNewSubscriber() {
	ctx := context.Background()
	store, _ := exampleLog(ctx)
	defer store.Close()
	for range 2 {
		subscriber, err := relay.NewSubscriber(relay.Config{Store: store, Name: "mirror", Logger: quiet})
		if err != nil {
			panic(err)
		}
		messages, err := subscriber.Subscribe(ctx, relay.ByPrefix("door-"))
		if err != nil {
			panic(err)
		}
		m := <-messages
		r, err := relay.Recorded(m)
		if err != nil {
			panic(err)
		}
		fmt.Println(r.Position, r.Stream, r.Type)
		m.Ack()
		if err := subscriber.Close(); err != nil {
			panic(err)
		}
	}
	// Output:
	// 1 door-1 door.opened
	// 2 door-2 door.opened
}

// An event that fails for good is parked, and its stream waits; a person has it tried
// again.
func ExampleRetry() {
	ctx, stop := context.WithCancel(context.Background())
	store, registry := exampleLog(ctx)
	defer store.Close()
	addressed := false
	failed := make(chan uuid.UUID, 1)
	mail := relay.Handler{Name: "mail", History: true, Workers: 1, Cases: []relay.Case{
		relay.On(func(_ context.Context, e Opened, env relay.Envelope) error {
			if e.By == "ann" && !addressed {
				addressed = true
				failed <- env.ID
				return relay.Permanent(errors.New("ann has no address"))
			}
			fmt.Println("wrote to", e.By)
			if e.By == "ann" {
				stop()
			}
			return nil
		}),
	}}
	handlers, err := relay.New(relay.Config{Store: store, Registry: registry, Logger: quiet}, mail)
	if err != nil {
		panic(err)
	}
	go func() {
		event := <-failed
		for { // until it is parked
			_, err := eventstore.Update(ctx, store, registry, func(tx *eventstore.Tx) error {
				tx.Meta = eventstore.Metadata{Actor: "cleo", Reason: "the address is there now"}
				return relay.Retry(tx, "mail", event)
			})
			if !errors.Is(err, relay.ErrNotParked) {
				return
			}
			if store.Wait(ctx, 3) != nil { // the lease is the third event
				return
			}
		}
	}()
	fmt.Println(handlers.Run(ctx))
	// Unordered output:
	// wrote to bob
	// wrote to ann
	// <nil>
}

// A topic selects from the log.
func ExampleTopic() {
	for _, topic := range []string{relay.All, relay.ByType("door.told", "door.opened"), relay.ByPrefix("door-"), relay.ByTag("ci:db-01"), "doors"} {
		q, err := relay.Topic(topic)
		fmt.Println(topic, q.Types, q.Prefix, q.Tags, err)
	}
	// Output:
	// all []  [] <nil>
	// type:door.opened,door.told [door.opened door.told]  [] <nil>
	// prefix:door- [] door- [] <nil>
	// tag:ci:db-01 []  [ci:db-01] <nil>
	// doors []  [] topic "doors": want "all", "type:NAME,NAME", "prefix:STREAM" or "tag:TAG"
}
