// Package driven keeps folds by the messages of a Watermill subscriber, in a
// process other than that which records. In go the log, messages and the folds of
// package follow; out come what a follower gives: views of one position, waiting
// for a position, snapshots, and a comparison with the log.
//
//	changes := change.Projection(registry)
//	folds, err := driven.Start(driven.Config{Store: store}, changes, schedule.Projection(registry))
//	defer folds.Close()
//	err = folds.View(ctx, func(v *follow.View) error {
//		c, ok := changes.In(v).Get("CHG-000042")
//		...
//	})
//
// The messages are those of relay.Message: by default of a relay.Subscriber of its
// own, which has no name and no lease, since every process keeps its own state; or
// of a broker's subscriber ([Config].Subscriber); or those that a router of yours
// hands to [Folds.Handle].
//
// # Any order, any number of times
//
// Messages may come again, in any order, and not at all. They are put in the order
// of the log before a fold is given any: what came already is acknowledged and
// dropped, what came too early waits for what is before it, and whether there is
// anything before it the log says. So the folds need not bear duplicates or
// disorder, a view has every event up to its position and none beyond, and an
// append wholly or not at all, as in the process that recorded it.
//
// A message is acknowledged when it is held, before the folds have taken it. That
// loses nothing: the state is in memory, and who starts again goes on from a
// snapshot, or from the beginning, and not from where a broker believes him to be.
// What a broker does not bring then, because it was acknowledged before a crash,
// or recorded before the subscription, is read from the log; so is what is missing
// for longer than Config.Late. [Status] counts how much that was.
//
// # Poison, and logs that were replaced
//
// Both are as in package follow. An event that a fold cannot take stops all of them
// until it is decided, here or elsewhere, that the fold leaves it out; what comes
// meanwhile is held up to a bound, and then not acknowledged. Where the log no longer
// has an event that was seen in it, the folds stop with eventstore.ErrRewound: that is
// looked at whenever something was delivered. Between two looks, a millisecond or
// more apart, a log can be replaced unseen; [Folds.Verify] finds what came of it.
//
// # Without the log
//
// A program that sees the messages and not the log cannot know whether it has all,
// and cannot verify. It may still give each message's event (relay.Recorded) to the
// Apply of a fold that bears duplicates and disorder by itself, under a lock. The
// lists of change and release, the schedule and the graph of the CMDB do, and end
// in the same state.
package driven

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Config is how folds are driven. Store is required.
type Config struct {
	// Store is the log that the messages are of. Snapshots are kept in it where it is
	// eventstore.Checkpoints, as "driven-fold-NAME": processes that are driven share
	// them, and followers do not use them.
	Store eventstore.Store

	// Subscriber is whose messages drive the folds, together all of the log, such as
	// those of a broker. It stays the caller's. Default: a relay.Subscriber of its own
	// that begins where the snapshots end.
	Subscriber message.Subscriber

	// Topics are what is subscribed to. Default relay.All.
	Topics []string

	// Decorators are put around the subscriber, the first innermost.
	Decorators []message.SubscriberDecorator

	// Handled has nothing subscribed to: the messages come by Folds.Handle.
	Handled bool

	// Late is how long the state may stand still, while the log has more, before what
	// is missing is read from the log. Default 1 s; below 0 it is waited for without
	// end. What was recorded before the folds began, and a subscriber of one's own does
	// not bring, is read in any case.
	Late time.Duration

	// SnapshotEvery is as in follow.Config: after so many events, and by Close. Default
	// 0, only by Folds.Snapshot.
	SnapshotEvery int

	// Logger is told what package follow tells, and which messages are refused (warn).
	// Default slog.Default().
	Logger *slog.Logger
}

// snapshotPrefix keeps what came by messages apart from what a follower read: a
// broker that alters events is to harm nobody else.
const snapshotPrefix = "driven-fold-"

// Folds are folds driven by messages. Their methods may be called concurrently, but
// not from inside a fold, nor View, Snapshot, Verify and Close from inside a View.
type Folds struct {
	config   Config
	line     line
	follower *follow.Follower
	own      atomic.Pointer[relay.Subscriber] // nil where another's messages are taken

	cancel  context.CancelFunc
	ended   <-chan struct{}
	working sync.WaitGroup
	close   func() error
}

// Start begins to keep the folds in the background; [Folds.Close] ends it. It does
// no I/O and fails only for what is configured or declared wrongly.
func Start(config Config, folds ...follow.Declared) (*Folds, error) {
	switch {
	case config.Store == nil:
		return nil, errors.New("driven: a Store is required: the log that the messages are of")
	case config.Handled && (config.Subscriber != nil || config.Topics != nil || config.Decorators != nil):
		return nil, errors.New("driven: with Handled nothing is subscribed to: leave Subscriber, Topics and Decorators out")
	}
	if config.Topics == nil {
		config.Topics = []string{relay.All}
	}
	if config.Late == 0 {
		config.Late = time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Folds{config: config, cancel: cancel, ended: ctx.Done()}
	f.line.ahead = map[eventstore.Position]eventstore.Recorded{}
	f.line.begins = make(chan struct{})
	f.line.most, f.line.mostAhead = mostKept, mostAhead
	f.close = sync.OnceValue(f.end)
	follower, err := follow.Start(delivered(config.Store, &f.line), follow.Config{
		SnapshotEvery: config.SnapshotEvery, SnapshotPrefix: snapshotPrefix, Logger: config.Logger,
	}, folds...)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("driven: %w", err)
	}
	f.follower = follower
	f.line.stands.Store(follower)
	f.working.Go(func() { f.watch(ctx) })
	f.working.Go(func() { f.look(ctx) })
	if !config.Handled {
		f.working.Go(func() { f.subscribe(ctx) })
	}
	return f, nil
}

// View runs read on all folds at one position, as follow.Follower.View does: it
// waits until they have reached the head that the log had at Start, and fails with a
// *follow.StoppedError while they are stopped.
func (f *Folds) View(ctx context.Context, read func(v *follow.View) error) error {
	return f.follower.View(ctx, read)
}

// WaitFor returns when the folds have taken all up to the event at position; see
// follow.Follower.WaitFor.
func (f *Folds) WaitFor(ctx context.Context, position eventstore.Position) error {
	return f.follower.WaitFor(ctx, position)
}

// Snapshot saves every fold that is a follow.Snapshotter now; see
// follow.Follower.Snapshot.
func (f *Folds) Snapshot(ctx context.Context) error { return f.follower.Snapshot(ctx) }

// Park decides that a fold leaves out an event at which the folds are stopped; see
// follow.Follower.Park. A decision made anywhere else is honoured as well.
func (f *Folds) Park(ctx context.Context, fold string, event uuid.UUID, meta eventstore.Metadata) error {
	return f.follower.Park(ctx, fold, event, meta)
}

// Verify waits until the folds have taken all that the log has now, and compares
// them byte for byte with what the log gives when it is folded anew; see
// follow.Follower.Verify. That the messages were those of the log it finds too. The
// error is a *follow.DifferenceError if any differs; any other says that it could
// not be found out, such as that of ctx where messages do not come.
func (f *Folds) Verify(ctx context.Context) (follow.Verification, error) {
	head, err := f.config.Store.Head(ctx)
	if err == nil {
		err = f.WaitFor(ctx, head)
	}
	if err != nil {
		return follow.Verification{}, fmt.Errorf("verify: %w", err)
	}
	return f.follower.Verify(ctx)
}

// Close ends the subscription and then the folds, of which snapshots are saved where
// Config asks for them; see follow.Follower.Close. A second Close returns what the
// first did.
func (f *Folds) Close() error { return f.close() }

func (f *Folds) end() error {
	f.cancel()
	f.working.Wait()
	return f.follower.Close()
}
