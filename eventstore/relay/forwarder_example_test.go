package relay_test

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// The log is handed on to a broker, here one within the process.
func ExampleForwarder() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store := memory.New()
	defer store.Close()
	for _, title := range []string{"Upgrade db-01", "Move app-02"} {
		_, err := store.Append(ctx, []eventstore.Event{{
			ID: uuid.New(), Stream: "change-CHG-000001", Type: "change.noted", Schema: 1, Data: []byte(`{"title":"` + title + `"}`),
		}})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	broker := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	defer broker.Close()
	messages, err := broker.Subscribe(ctx, relay.TopicName("change.noted"))
	if err != nil {
		fmt.Println(err)
		return
	}
	forwarder, err := relay.NewForwarder(relay.Config{Store: store, Name: "to-broker"}, relay.ByPrefix("change-"), relay.Destination{Publisher: broker})
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- forwarder.Run(ctx) }()
	for range 2 {
		m := <-messages
		r, err := relay.Recorded(m)
		fmt.Println(r.Stream, r.Version, string(r.Data), m.UUID == r.ID.String(), err)
		m.Ack()
	}
	cancel()
	fmt.Println(<-done)
	// Output:
	// change-CHG-000001 1 {"title":"Upgrade db-01"} true <nil>
	// change-CHG-000001 2 {"title":"Move app-02"} true <nil>
	// <nil>
}

func ExampleTopicName() {
	fmt.Println(relay.TopicName("change.stage-decided"))
	fmt.Println(relay.TopicName("log", "change.raised"))
	// Output:
	// change_stage-decided
	// log.change_raised
}
