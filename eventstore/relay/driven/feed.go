package driven

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Handle takes the event of a message, for a router of yours:
//
//	router.AddConsumerHandler("folds", topic, subscriber, folds.Handle)
//
// It returns when the event is held, and waits while there is no room. A message
// that is no event, or of another log, is refused: what it stands for is missing
// until it comes, or is read from the log.
func (f *Folds) Handle(m *message.Message) error { return f.handle(m, false) }

func (f *Folds) handle(m *message.Message, ordered bool) error {
	r, err := relay.Recorded(m)
	if err == nil {
		if err = f.await(m.Context(), r.Position); err != nil {
			if errors.Is(err, errCrowded) {
				f.line.trouble(err)
			}
			return err
		}
		err = f.line.take(r, ordered)
	}
	if err != nil {
		f.line.mu.Lock()
		f.line.refuse(err)
		f.line.mu.Unlock()
		f.config.Logger.Warn("a message is refused", "message", m.UUID, "error", err)
	}
	return err
}

// await returns when there is room for a record.
func (f *Folds) await(ctx context.Context, at eventstore.Position) error {
	select {
	case <-f.line.begins:
	case <-ctx.Done():
		return ctx.Err()
	case <-f.ended:
		return errEnded
	}
	for {
		changed, err := f.line.room(at, f.config.Late < 0)
		if changed == nil || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-f.ended:
			return errEnded
		}
	}
}

var errEnded = fmt.Errorf("driven folds are closed: %w", eventstore.ErrClosed)

// subscribe takes messages until ctx ends.
func (f *Folds) subscribe(ctx context.Context) {
	select {
	case <-f.line.begins:
	case <-ctx.Done():
		return
	}
	from, ordered := f.config.Subscriber, false
	if from == nil {
		own, err := relay.NewSubscriber(relay.Config{Store: f.config.Store, After: f.line.start, LastPause: time.Second, Grace: -1, Logger: f.config.Logger})
		if err != nil {
			f.line.fail(err)
			return
		}
		f.own.Store(own)
		defer own.Close() // which never fails
		from, ordered = own, len(f.config.Decorators) == 0 && len(f.config.Topics) == 1 && f.config.Topics[0] == relay.All
	}
	for _, decorate := range f.config.Decorators {
		decorated, err := decorate(from)
		if err != nil {
			f.line.fail(fmt.Errorf("decorate the subscriber: %w", err))
			return
		}
		from = decorated
	}
	var listening sync.WaitGroup
	for _, topic := range f.config.Topics {
		listening.Go(func() { f.listen(ctx, from, topic, ordered) })
	}
	listening.Wait() // until ctx ends: nobody subscribes to what is being closed
	if f.config.Subscriber == nil {
		if err := from.Close(); err != nil {
			f.config.Logger.Warn("the subscriber does not close", "error", err)
		}
	}
}

const (
	firstPause = 100 * time.Millisecond // before what failed is tried again; doubled each time
	lastPause  = 5 * time.Second
)

// listen takes the messages of a topic, and subscribes again where that ends.
func (f *Folds) listen(ctx context.Context, from message.Subscriber, topic string, ordered bool) {
	for failures := 0; ctx.Err() == nil; failures++ {
		messages, err := from.Subscribe(ctx, topic)
		if err == nil {
			if f.drain(ctx, messages, ordered) > 0 {
				failures = 0
			}
			err = errors.New("the subscription has ended")
		}
		if ctx.Err() != nil {
			return
		}
		err = fmt.Errorf("topic %q: %w", topic, err)
		f.line.trouble(err)
		f.config.Logger.Warn("messages do not come, and are subscribed to again", "error", err)
		pause(ctx, min(lastPause, firstPause<<min(failures, 10)))
	}
}

// drain takes messages until there are no more, or ctx ends, and returns how many.
func (f *Folds) drain(ctx context.Context, messages <-chan *message.Message, ordered bool) (n int) {
	for {
		select {
		case <-ctx.Done():
			return n
		case m, more := <-messages:
			if !more {
				return n
			}
			n++
			if err := f.handle(m, ordered); err != nil {
				relay.Failed(m, err)
				m.Nack()
			} else {
				m.Ack()
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
