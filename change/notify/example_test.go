package notify_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/notify"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// printer is a channel that prints, and says when it has.
type printer chan struct{}

func (p printer) Send(_ context.Context, where string, m notify.Message) error {
	fmt.Printf("to %s: %s\n", where, m.Subject)
	p <- struct{}{}
	return nil
}

func ExampleStakeholders() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	store := memory.New()
	defer store.Close()
	engine, err := rollforward.Open(ctx, store, rollforward.Config{
		Authorizer: command.Roles{"alice": {command.Requester}, notify.Actor: {command.Automation}},
		Types:      notify.Types(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	printed := make(printer, 10)
	tell, err := notify.Stakeholders(notify.Config{
		Changes: engine.Changes, Door: engine.Door, Senders: map[string]notify.Sender{"chat": printed},
		Addresses: func(_ context.Context, who string) ([]notify.Address, error) {
			return []notify.Address{{Channel: "chat", Where: "#" + who}}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	tell.History = true // the log is new: nothing in it is long past
	registry, err := eventstore.NewRegistry(slices.Concat(command.Types(), change.Types(), cmdb.Types(), notify.Types())...)
	if err != nil {
		log.Fatal(err)
	}
	handlers, err := relay.New(relay.Config{Store: store, Registry: registry}, tell)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- handlers.Run(ctx) }()

	c, err := engine.Changes.Raise(ctx, command.As("alice"), change.Raise{Content: change.Content{
		Title:        "Upgrade db-01 to 16",
		Stakeholders: []change.Stakeholder{{Who: "shop-team", Told: []string{notify.Started, notify.Canceled}}},
	}}, change.Cancel{Reason: "the vendor has withdrawn it"})
	if err != nil {
		log.Fatal(err)
	}
	<-printed
	stop()
	if err := <-ended; err != nil { // what is under way ends first
		log.Fatal(err)
	}

	receipts, err := notify.Of(context.Background(), store, registry, c.ID)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range receipts {
		fmt.Println(r.Who, "was told by", r.Channel, "that", r.Change, "is", r.Word+":", r.Delivered())
	}
	// Output:
	// to #shop-team: CHG-000001 is canceled: Upgrade db-01 to 16
	// shop-team was told by chat that CHG-000001 is canceled: true
}

func ExampleVerify() {
	const secret notify.Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // from a vault
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			return
		}
		id, err := notify.Verify(r.Header, body, time.Now(), notify.Tolerance, secret)
		if err != nil {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		fmt.Println("received", id)
	}))
	defer receiver.Close()

	hook, err := notify.NewWebhook(notify.WebhookConfig{
		Secrets:  func(context.Context, string) ([]notify.Secret, error) { return []notify.Secret{secret}, nil },
		Insecure: true, // the receiver of this example has no certificate
	})
	if err != nil {
		log.Fatal(err)
	}
	defer hook.Close()
	fmt.Println(hook.Send(context.Background(), receiver.URL, notify.Message{Key: "notify-stakeholders/1", Word: notify.Closed}))
	fmt.Println(secret)
	// Output:
	// received notify-stakeholders/1
	// <nil>
	// [secret]
}
