package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Destination is where a [Forwarder] hands the log on to. Publisher is required.
type Destination struct {
	// Publisher is given one message at a time, of as many streams at once as there are
	// Config.Workers. Its nil says that the message is there. It stays open.
	Publisher message.Publisher

	// To is the topic that an event is published to, the same each time that it is
	// asked. Default TopicName of the event's type. An empty topic is an error: what is
	// not to be forwarded is for the topic of the log to leave out.
	To func(r eventstore.Recorded) string

	// Timeout is after how long a publish counts as failed. Default 30 s.
	Timeout time.Duration
}

// Forwarder hands the log on to a message.Publisher, as the durable consumer
// Config.Name:
//
//	forwarder, err := relay.NewForwarder(relay.Config{Store: store, Name: "to-nats"}, relay.All, relay.Destination{Publisher: nats})
//	err = forwarder.Run(ctx)
//
// Every event is published at least once; of a stream, none before the one before
// it was. An event comes again where the publisher has published and says that it
// has not, and after a crash, from where the checkpoint was on. The message is what
// Config.Message makes of it, by default [Message]; its UUID is the event's ID, by
// which a receiver, or the broker, knows it again.
//
// An event whose publish fails holds up its stream and no other. One that the broker
// never takes, such as one that is too large for it, is parked after Config.Attempts;
// an outage of the broker holds up all, and parks none.
//
// A publisher need not heed a context, so that a publish may outlive
// Destination.Timeout. The message has a context that ends then, for publishers that
// do. Of a stream no second publish begins while one that is late goes on: the stream
// is tried again, and that fails, and may park its event, until the late one has
// ended. Where that ended well its event is not published again. One that never ends
// holds its stream, and a goroutine, until the process ends; other streams go on.
type Forwarder struct {
	config Config
	topic  string
	to     Destination
	source *Subscriber

	mu        sync.Mutex
	started   bool
	publishes map[string]*publish // by stream: under way, or late and then well
}

// publish is one call of the publisher.
type publish struct {
	event uuid.UUID
	began time.Time
	late  bool // it was given up
	ended bool
}

// NewForwarder returns a forwarder of what a topic of the log selects, see [Topic],
// that is not running yet. Name is required in config, for ever the same; After and
// Registry are not used. It does no I/O.
func NewForwarder(config Config, topic string, to Destination) (*Forwarder, error) {
	config, err := config.withDefaults(8, 10)
	switch {
	case err != nil:
		return nil, err
	case config.Name == "":
		return nil, errors.New("relay: a forwarder has a Name, by which its progress is kept")
	case to.Publisher == nil:
		return nil, fmt.Errorf("relay: forwarder %q: a Publisher is required", config.Name)
	case to.Timeout < 0:
		return nil, fmt.Errorf("relay: forwarder %q: Timeout is not negative; 0 is its default", config.Name)
	}
	if _, err := config.Topics(topic); err != nil {
		return nil, fmt.Errorf("relay: forwarder %q: %w", config.Name, err)
	}
	if to.To == nil {
		to.To = func(r eventstore.Recorded) string { return TopicName(r.Type) }
	}
	set(&to.Timeout, 30*time.Second)
	source, err := newSubscriber(config, true)
	if err != nil {
		return nil, err
	}
	return &Forwarder{config: config, topic: topic, to: to, source: source, publishes: map[string]*publish{}}, nil
}

// Run forwards until ctx ends, or Close is called, and waits for what is under way
// for the time of Config.Grace. A forwarder runs once. Why it does not go on, where
// it does not, is in its Status.
func (f *Forwarder) Run(ctx context.Context) error {
	f.mu.Lock()
	again := f.started
	f.started = true
	f.mu.Unlock()
	if again {
		return fmt.Errorf("relay: forwarder %q runs once", f.config.Name)
	}
	messages, err := f.source.Subscribe(context.WithoutCancel(ctx), f.topic) // it ends by Close, which saves
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.Close() }) // which never fails
	defer stop()
	for m := range messages {
		go f.forward(m) // as many as there are workers, and those that are late
	}
	return f.Close()
}

// Close ends the forwarder and waits for it; see Subscriber.Close. A publish that
// does not end within Config.Grace is left to itself.
func (f *Forwarder) Close() error { return f.source.Close() }

// Status returns how the forwarder stands; one that does not run has a name and a
// topic only.
func (f *Forwarder) Status() Status { return f.source.standing(f.topic) }

// forward publishes a message and answers it.
func (f *Forwarder) forward(m *message.Message) {
	r, err := Recorded(m)
	if err != nil {
		f.refuse(m, err) // our own source brings events only
		return
	}
	p := &publish{event: r.ID, began: time.Now()}
	published, err := f.begin(r.Stream, p)
	switch {
	case err != nil:
		f.refuse(m, err)
		return
	case published:
		m.Ack()
		return
	}
	timer := time.AfterFunc(f.to.Timeout, func() {
		if f.giveUp(p) {
			f.refuse(m, fmt.Errorf("publish: the publisher has not answered within %s: %w", f.to.Timeout, context.DeadlineExceeded))
		}
	})
	err = f.publish(m, r)
	timer.Stop()
	switch late := f.end(r.Stream, p, err); {
	case late:
		f.config.Logger.LogAttrs(m.Context(), slog.LevelInfo, "a publish that had been given up has ended", slog.String("consumer", f.config.Name),
			slog.Any("event", r.ID), slog.String("stream", r.Stream), slog.Duration("after", time.Since(p.began)), slog.Any("error", err))
	case err != nil:
		f.refuse(m, err)
	default:
		m.Ack()
	}
}

func (f *Forwarder) refuse(m *message.Message, why error) {
	Failed(m, why)
	m.Nack()
}

// begin enters a publish, unless an earlier one of the stream is still under way. It
// reports whether an earlier one, given up and then well, has published the event.
func (f *Forwarder) begin(stream string, p *publish) (published bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch earlier := f.publishes[stream]; {
	case earlier == nil:
	case !earlier.ended:
		return false, fmt.Errorf("publish: the publisher has not answered yet, since %s, for event %s of the same stream: %w",
			earlier.began.UTC().Format(time.RFC3339), earlier.event, context.DeadlineExceeded)
	case earlier.event == p.event:
		delete(f.publishes, stream)
		return true, nil
	}
	f.publishes[stream] = p
	return false, nil
}

// giveUp reports whether a publish that was not given up before has not ended.
func (f *Forwarder) giveUp(p *publish) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.ended {
		return false
	}
	p.late = true
	return true
}

// mostLate bounds what is remembered of streams whose publish was given up and then
// ended well: what is forgotten is published twice.
const mostLate = 2 * mostBehind

// end takes a publish off, and reports whether it had been given up.
func (f *Forwarder) end(stream string, p *publish, err error) (late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.ended = true
	if !p.late || err != nil || len(f.publishes) > mostLate {
		delete(f.publishes, stream)
	}
	return p.late
}

// publish calls the publisher with a message of its own: it may alter it, and must
// not answer ours.
func (f *Forwarder) publish(m *message.Message, r eventstore.Recorded) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("publish: %w", &PanicError{value, debug.Stack()})
		}
	}()
	topic := f.to.To(r)
	if topic == "" {
		return fmt.Errorf("publish: To gives no topic for event type %q", r.Type)
	}
	out := m.Copy()
	// A broker within the process may hand the context on: it is not of our delivery.
	ctx, cancel := context.WithTimeout(context.WithValue(m.Context(), deliveryKey{}, nil), f.to.Timeout)
	defer cancel()
	out.SetContext(ctx)
	if err := f.to.Publisher.Publish(topic, out); err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	return nil
}
