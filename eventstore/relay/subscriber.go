package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/rollforward/rollforward/eventstore"
)

// Subscriber is the log as a message.Subscriber. Each topic that a named one
// subscribes to is a durable consumer of its own, "NAME/TOPIC". Its methods may be
// called concurrently.
type Subscriber struct {
	config Config
	whole  bool                 // the name alone is that of the consumer, whatever the topic
	begins *eventstore.Position // where a new consumer begins, if that is known; set before Subscribe

	mu        sync.Mutex
	closed    bool
	consumers []*consumer
}

var _ message.Subscriber = (*Subscriber)(nil)

// NewSubscriber returns a subscriber. It does no I/O.
func NewSubscriber(config Config) (*Subscriber, error) {
	config, err := config.withDefaults(1, 0)
	if err != nil {
		return nil, err
	}
	return newSubscriber(config, false)
}

func newSubscriber(config Config, whole bool) (*Subscriber, error) {
	if _, can := config.Store.(eventstore.Checkpoints); !can && config.Name != "" {
		return nil, fmt.Errorf("relay: consumer %q: %w", config.Name, ErrNoCheckpoints)
	}
	return &Subscriber{config: config, whole: whole}, nil
}

// Subscribe begins to deliver what a topic selects; see Topic. The messages come as
// soon as this subscription holds the lease. It ends with ctx, and with Close.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	query, err := s.config.Topics(topic)
	if err != nil {
		return nil, fmt.Errorf("relay: subscribe: %w", err)
	}
	c := &consumer{
		config: s.config, topic: topic, query: query, registry: registry(),
		out: make(chan *message.Message), closing: make(chan struct{}), done: make(chan struct{}),
	}
	if s.config.Name != "" {
		c.id = s.config.Name
		if !s.whole {
			c.id += "/" + topic
		}
		c.keep = s.config.Store.(eventstore.Checkpoints)
		if err := (eventstore.Query{Streams: []string{leaseStream(c.id)}}).Validate(); err != nil {
			return nil, fmt.Errorf("relay: subscribe: name and topic together are too long for the name of a consumer: %w", err)
		}
		switch {
		case !s.config.FromNow:
		case s.begins != nil:
			c.from = *s.begins
		default:
			if c.from, err = s.config.Store.Head(ctx); err != nil {
				return nil, fmt.Errorf("relay: subscribe: look where consumer %q begins: %w", c.id, err)
			}
		}
	}
	c.now = Status{Consumer: c.id, Topic: topic}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errSubscriberClosed
	}
	s.consumers = append(s.consumers, c)
	go func() {
		c.run(ctx)
		s.forget(c)
	}()
	return c.out, nil
}

var errSubscriberClosed = errors.New("relay: the subscriber is closed")

func (s *Subscriber) forget(c *consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumers = slices.DeleteFunc(s.consumers, func(other *consumer) bool { return other == c })
}

// Close ends all subscriptions: no further message is handed out, those that were
// received are waited for (Config.Grace), what was acknowledged is saved, and leases
// are let go. The store stays open. A second Close does nothing.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	consumers := slices.Clone(s.consumers)
	s.mu.Unlock()
	for _, c := range consumers {
		if first {
			close(c.closing)
		}
	}
	for _, c := range consumers {
		<-c.done
	}
	return nil
}

// Status returns how the subscriptions stand that have not ended.
func (s *Subscriber) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Status
	for _, c := range s.consumers {
		all = append(all, c.status())
	}
	return all
}

// standing is the status of a subscriber that subscribes once: of one that does not
// run it has the name and the topic only.
func (s *Subscriber) standing(topic string) Status {
	if running := s.Status(); len(running) > 0 {
		return running[0]
	}
	return Status{Consumer: s.config.Name, Topic: topic}
}
