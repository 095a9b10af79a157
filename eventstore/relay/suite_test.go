package relay_test

import (
	"encoding/base64"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

// carried is the payload of an event that carries any message, so that the suite can
// publish what it wants: an event has JSON, an ID that is taken once, and no free
// metadata.
type carried struct {
	UUID     string            `json:"uuid"`
	Payload  string            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

// publisher appends messages as events of the stream family of a topic.
type publisher struct {
	store eventstore.Store
}

func streamOf(topic, message string) string { return topic + "-" + message }

func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		data, err := json.Marshal(carried{m.UUID, base64.StdEncoding.EncodeToString(m.Payload), m.Metadata})
		if err != nil {
			return err
		}
		_, err = p.store.Append(m.Context(), []eventstore.Event{{
			ID: uuid.NewSHA1(uuid.NameSpaceURL, []byte(topic+" "+m.UUID)), Stream: streamOf(topic, string(m.Payload)),
			Type: "test.carried", Schema: 1, Tags: []string{"topic:" + topic}, Data: data,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) Close() error { return nil }

// unwrap makes the message that was published again.
func unwrap(r eventstore.Recorded) (*message.Message, error) {
	var c carried
	if err := json.Unmarshal(r.Data, &c); err != nil {
		return nil, err
	}
	payload, err := base64.StdEncoding.DecodeString(c.Payload)
	if err != nil {
		return nil, err
	}
	m := message.NewMessage(c.UUID, payload)
	m.Metadata = c.Metadata
	return m, nil
}

func byTopic(topic string) (eventstore.Query, error) {
	return eventstore.Query{Tags: []string{"topic:" + topic}}, nil
}

// suiteConfig is what the suite needs: it refuses a message a hundred times, closes
// with messages in hand, and has its subscribers take turns.
func suiteConfig(store eventstore.Store, name string) relay.Config {
	return relay.Config{
		Store: store, Name: name, Topics: byTopic, Message: unwrap,
		FirstPause: time.Millisecond, LastPause: 10 * time.Millisecond, Lease: 5 * time.Second, Grace: 100 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// runSuite runs the suite on all ways to consume. Some of its tests leave subscribers
// open, and some have closed them already.
func runSuite(t *testing.T, store eventstore.Store) {
	build := func(t *testing.T, name string, workers int) (message.Publisher, message.Subscriber) {
		config := suiteConfig(store, name)
		config.Workers = workers
		s, err := relay.NewSubscriber(config)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return &publisher{store: store}, s
	}
	t.Run("a durable consumer", func(t *testing.T) {
		tests.TestPubSub(t, tests.Features{ForceShort: os.Getenv("ROLLFORWARD_SUITE") != "full", ConsumerGroups: true, GuaranteedOrder: true, Persistent: true},
			func(t *testing.T) (message.Publisher, message.Subscriber) { return build(t, "suite", 1) },
			func(t *testing.T, group string) (message.Publisher, message.Subscriber) { return build(t, group, 1) })
	})
	t.Run("a durable consumer with several workers", func(t *testing.T) {
		tests.TestPubSub(t, tests.Features{ForceShort: os.Getenv("ROLLFORWARD_SUITE") != "full", ConsumerGroups: true, Persistent: true},
			func(t *testing.T) (message.Publisher, message.Subscriber) { return build(t, "workers", 8) },
			func(t *testing.T, group string) (message.Publisher, message.Subscriber) { return build(t, group, 8) })
	})
	t.Run("subscribers without a name", func(t *testing.T) {
		tests.TestPubSub(t, tests.Features{ForceShort: os.Getenv("ROLLFORWARD_SUITE") != "full", GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true, Persistent: true, NewSubscriberReceivesOldMessages: true},
			func(t *testing.T) (message.Publisher, message.Subscriber) { return build(t, "", 1) }, nil)
	})
}

// TestWatermillsUniversalSuite runs the suite in its short form, and in full where
// ROLLFORWARD_SUITE is "full", which takes minutes.
func TestWatermillsUniversalSuite(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite, storefor.Postgres} {
		t.Run(string(kind), func(t *testing.T) { runSuite(t, kind.New(t)) })
	}
}
