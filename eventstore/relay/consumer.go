package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/rollforward/rollforward/eventstore"
)

// consumer is one subscription: it takes the lease, reads the log, hands messages
// out, and keeps what was acknowledged. One goroutine does all of that; each
// message under way has one of its own that waits for its answer.
type consumer struct {
	config   Config
	id       string // of the durable consumer; empty where there is none
	topic    string
	query    eventstore.Query
	keep     eventstore.Checkpoints // nil where id is empty
	from     eventstore.Position    // where it begins if nobody has held the lease yet
	mine     uint64                 // token of the lease that this subscription took last
	registry *eventstore.Registry
	left     *hold // of a consumer that is not durable, once it has begun
	out      chan *message.Message

	closing chan struct{} // closed when no further message is to be handed out
	done    chan struct{} // closed when the goroutine has ended

	mu        sync.Mutex
	now       Status
	behindNow map[string]Behind // by stream
	front     *Behind           // of the main line, where one worker waits for it
}

// run is the consumer's goroutine.
func (c *consumer) run(ctx context.Context) {
	defer close(c.done)
	defer close(c.out)
	for failures := 0; ctx.Err() == nil && !c.isClosing(); {
		began := time.Now()
		err := c.term(ctx)
		if ctx.Err() != nil || c.isClosing() {
			break
		}
		c.publish(func(now *Status) { now.Holding, now.Standby, now.Err = false, c.id != "", err })
		switch {
		case errors.Is(err, ErrLeaseLost):
			c.config.Logger.Info("consumer lost its lease", "consumer", c.id, "error", err)
			failures = 0
			continue
		case final(err):
			c.config.Logger.Error("consumer stopped", "consumer", c.id, "topic", c.topic, "error", err)
			c.publish(func(now *Status) { now.Stopped = true })
			select {
			case <-ctx.Done():
			case <-c.closing:
			}
			return
		}
		if failures++; time.Since(began) > c.config.LastPause {
			failures = 1
		}
		if failures == 1 {
			c.config.Logger.Warn("consumer cannot go on and tries again", "consumer", c.id, "topic", c.topic, "error", err)
		}
		_ = c.rest(ctx, c.backoff(failures)) // why it ended is asked next
	}
}

// final reports whether an error does not go away by trying again.
func final(err error) bool {
	for _, end := range []error{eventstore.ErrRewound, eventstore.ErrDamaged, eventstore.ErrNewerFormat, eventstore.ErrClosed, eventstore.ErrUnknownType, eventstore.ErrFutureSchema} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

func (c *consumer) isClosing() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// rest waits, or returns why the consumer ends.
func (c *consumer) rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.closing:
		return errSubscriberClosed
	}
}

// backoff is the pause after so many failures: doubled with each, a fifth at random.
func (c *consumer) backoff(failures int) time.Duration {
	d := c.config.FirstPause << min(failures-1, 30)
	if d <= 0 || d > c.config.LastPause {
		d = c.config.LastPause
	}
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}

// term holds the lease until it is lost, the consumer is closed, or something
// fails, and returns why.
func (c *consumer) term(ctx context.Context) error {
	holding, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.endAfterClosing(holding, cancel)
	h, err := c.acquire(holding)
	if err != nil {
		return err
	}
	l := newLine(holding, c, h)
	c.publish(func(now *Status) { now.Holding, now.Standby, now.Err, now.Token = c.id != "", false, nil, h.token })
	err = l.work()
	if err == nil {
		l.drain()
	}
	cancel()
	l.end()
	if (ctx.Err() != nil || c.isClosing()) && !errors.Is(err, ErrLeaseLost) {
		release, stop := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer stop()
		if err := c.save(release, h, true); err != nil {
			c.config.Logger.Warn("consumer did not let go of its lease: another waits for it to lapse", "consumer", c.id, "error", err)
		}
	}
	return err
}

// endAfterClosing ends a term the time of Config.Grace after the consumer is closed,
// whatever it does then.
func (c *consumer) endAfterClosing(ctx context.Context, cancel context.CancelFunc) {
	select {
	case <-ctx.Done():
		return
	case <-c.closing:
	}
	timer := time.NewTimer(c.config.Grace)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		cancel()
	}
}

// releaseTimeout is how long a consumer that closes tries to save where it is.
const releaseTimeout = 5 * time.Second
