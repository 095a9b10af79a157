package notify_test

import (
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/notify"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

var errDead = errors.New("the process is dead")

// mortal is a process that dies after a number of steps: from then on nothing that it
// does has an effect.
type mortal struct {
	mu    sync.Mutex
	armed bool
	steps int // taken since it was armed
	last  int // 0 is none
}

// step reports whether the process takes one more step.
func (p *mortal) step() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed {
		return true
	}
	if p.last > 0 && p.steps >= p.last {
		return false
	}
	p.steps++
	return true
}

func (p *mortal) arm(last int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed, p.last, p.steps = true, last, 0
}

func (p *mortal) disarm() { p.mu.Lock(); p.armed = false; p.mu.Unlock() }

// mortalStore is a store as a mortal process sees it.
type mortalStore struct {
	eventstore.Store
	*mortal
}

func (s mortalStore) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if !s.step() {
		return nil, eventstore.NotApplied(errDead)
	}
	records, err := s.Store.Append(ctx, events, expect...)
	if !s.step() {
		return nil, eventstore.OutcomeUnknown(errDead) // it died before it heard of it
	}
	return records, err
}

func (s mortalStore) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	if !s.step() {
		return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, errDead) }
	}
	return s.Store.Read(ctx, q)
}

// mortalPost hands over to a post office that outlives it.
type mortalPost struct {
	*post
	*mortal
	hasty bool // it says that a letter is sent which it sends with the next one

	kept []letter
}

func (p *mortalPost) Send(ctx context.Context, where string, m notify.Message) error {
	if !p.step() {
		return errDead
	}
	if p.hasty {
		p.post.mu.Lock()
		defer p.post.mu.Unlock()
		p.post.sent = append(p.post.sent, p.kept...)
		p.kept = []letter{{where, m}}
		return nil
	}
	err := p.post.Send(ctx, where, m)
	if !p.step() {
		return errDead // it died before it heard of it
	}
	return err
}

// crashes lets a process die after each of its steps, and another go on, and returns
// how many deaths there were and how many notices were lost, or came under two keys, or
// have not just one receipt. Time is not real: a process that dies waits for its store.
func crashes(t *testing.T, stride int, hasty bool) (deaths, lost, twice int) {
	died := true
	for last := 1; died; last += stride {
		synctest.Test(t, func(t *testing.T) {
			var l, w int
			died, l, w = crash(t, last, hasty)
			lost, twice = lost+l, twice+w
		})
		if died {
			deaths++
		}
	}
	return deaths, lost, twice
}

func crash(t *testing.T, last int, hasty bool) (died bool, lost, twice int) {
	store, process := memory.New(), &mortal{}
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	h := open(t, mortalStore{store, process}).estate()
	c := h.scheduled(upgrade(all("u-1"), all("u-2"), all("u-3")))
	h.do(carol, c.ID, change.Hold{Reason: "wait"})
	letters := &post{}
	process.arm(last)
	err := h.feed1(&mortalPost{post: letters, mortal: process, hasty: hasty}, store)
	if died = process.steps >= last; !died {
		require.NoError(t, err)
	}
	process.disarm()

	next := open(t, store)
	require.NoError(t, next.feed(next.handler(letters)))
	require.NoError(t, next.feed(next.handler(letters)))
	came := map[string]map[string]bool{} // by who and word, under which keys
	for _, l := range letters.letters() {
		what := l.Who + " " + l.Word
		if came[what] == nil {
			came[what] = map[string]bool{}
		}
		came[what][l.Key] = true
	}
	receipts := map[string]int{}
	for _, r := range next.of(c.ID) {
		receipts[r.Who+" "+r.Word]++
	}
	for _, who := range []string{"u-1", "u-2", "u-3"} {
		for _, word := range []string{"authorized", "held"} {
			if what := who + " " + word; len(came[what]) != 1 || receipts[what] != 1 {
				lost++
			}
		}
	}
	return died, lost, max(0, len(letters.letters())-6)
}

// feed1 gives a new handler the log as the store has it, read past the process that may
// die.
func (h *house) feed1(sender notify.Sender, log eventstore.Store) error {
	f, err := h.handler(sender).Func(h.registry)
	require.NoError(h.t, err)
	return (&house{t: h.t, store: log, registry: h.registry}).feedTo(f)
}

func TestNoDeathBetweenTwoStepsLosesANoticeAtFullSize(t *testing.T) {
	stride := 1
	if race.Enabled {
		stride = 3
	}
	deaths, lost, twice := crashes(t, stride, false)
	t.Logf("%d deaths: %d notices lost, %d sent twice", deaths, lost, twice)
	require.Greater(t, deaths, 8)
	require.Zero(t, lost)
	require.NotZero(t, twice, "some died between sending and recording")
}

// The control: a sender that says sent before it is.
func TestTheHarnessOfDeathsCatchesASenderThatSpeaksTooSoon(t *testing.T) {
	_, lost, _ := crashes(t, 3, true)
	require.NotZero(t, lost)
}

// A store that fails for a while is no death: what this process has sent it does not
// send again.
func TestWhatCouldNotBeRecordedIsNotSentAgainByTheSameProcess(t *testing.T) {
	store, process := storefor.Memory.New(t), &mortal{}
	h := open(t, mortalStore{store, process}).estate()
	c := h.scheduled(upgrade(all("u-1")))
	p := &post{says: func(string, notify.Message) error { process.arm(1); process.step(); return nil }} // no step from here on
	f, err := h.handler(p).Func(h.registry)
	require.NoError(t, err)
	log := &house{t: t, store: store, registry: h.registry}
	require.ErrorIs(t, log.feedTo(f), errDead)
	require.Empty(t, log.of(c.ID))
	process.disarm()
	require.NoError(t, log.feedTo(f))
	require.Len(t, log.of(c.ID), 1)
	require.Len(t, p.letters(), 1)
	require.True(t, log.of(c.ID)[0].Delivered())
}
