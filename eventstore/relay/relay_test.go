package relay_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// plainStore keeps no checkpoints.
type plainStore struct{ eventstore.Store }

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	store := memory.New()
	for want, config := range map[string]relay.Config{
		"a Store is required":                  {},
		"at most 64 bytes":                     {Store: store, Name: strings.Repeat("x", 65)},
		"does not do":                          {Store: store, Name: "a\x00b"},
		"not negative":                         {Store: store, Workers: -1},
		"times are not negative":               {Store: store, LastPause: -time.Second},
		relay.ErrNoCheckpoints.Error():         {Store: plainStore{store}, Name: "durable"},
		"Workers and times are not negative; ": {Store: store, Lease: -1},
	} {
		_, err := relay.NewSubscriber(config)
		require.ErrorContains(t, err, want)
	}
	s, err := relay.NewSubscriber(relay.Config{Store: plainStore{store}})
	require.NoError(t, err, "without a name it needs none")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
}

func TestATopicThatSelectsNothingIsRefused(t *testing.T) {
	s, err := relay.NewSubscriber(relay.Config{Store: memory.New(), Name: "durable"})
	require.NoError(t, err)
	for topic, want := range map[string]string{
		"": "want", "type:": "want", "all:x": "there are no topics", "stream:x": "there are no topics", "prefix:" + strings.Repeat("x", 300): "too large",
		"tag:" + strings.Repeat("x", 240): "too long for the name of a consumer", "type:a,,b": "invalid",
	} {
		_, err := s.Subscribe(context.Background(), topic)
		require.ErrorContains(t, err, want, topic)
	}
	require.NoError(t, s.Close())
}

func TestATopicSelectsByTypePrefixAndTag(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		for _, e := range []eventstore.Event{
			{Stream: "a-1", Type: "a.one"}, {Stream: "a-2", Type: "a.two", Tags: []string{"ci:db-01"}}, {Stream: "b-1", Type: "a.one", Tags: []string{"ci:db-02", "ci:db-01"}},
		} {
			e.ID, e.Schema, e.Data = uuid.New(), 1, []byte("{}")
			_, err := store.Append(t.Context(), []eventstore.Event{e})
			require.NoError(t, err)
		}
		for topic, want := range map[string][]string{
			relay.All: {"a-1/1", "a-2/1", "b-1/1"}, relay.ByType("a.one"): {"a-1/1", "b-1/1"}, relay.ByType("a.two", "a.one"): {"a-1/1", "a-2/1", "b-1/1"},
			relay.ByPrefix("a-"): {"a-1/1", "a-2/1"}, relay.ByTag("ci:db-01"): {"a-2/1", "b-1/1"},
		} {
			require.Equal(t, want, consumeTopic(t, store, relay.Config{}, topic, ack).take(), topic)
		}
	})
}

// Each topic that a named subscriber subscribes to is a consumer of its own.
func TestTopicsOfOneSubscriberAreConsumersOfTheirOwn(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 1)
		record(t, store, "t-1", 1)
		require.Equal(t, []string{"s-1/1"}, consumeTopic(t, store, relay.Config{Name: "durable"}, "prefix:s-", ack).take())
		require.Equal(t, []string{"t-1/1"}, consumeTopic(t, store, relay.Config{Name: "durable"}, "prefix:t-", ack).take())
		var streams []string
		for r, err := range store.Read(t.Context(), eventstore.Query{Prefix: "lease-"}) {
			require.NoError(t, err)
			streams = append(streams, r.Stream)
		}
		require.Equal(t, []string{"lease-durable/prefix:s-", "lease-durable/prefix:t-"}, streams)
	})
}
