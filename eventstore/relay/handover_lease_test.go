package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

const (
	candidateLease  = 15 * time.Second
	candidateStream = "lease-candidate/prefix:input-"
	candidateSaves  = "relay-candidate/prefix:input-"
	candidatePoll   = candidateLease / 10 // how often a lease is looked at, at least
)

// faint is a store as one process has it, which can fall silent or be slow.
type faint struct {
	storefor.Store
	silent atomic.Bool  // checkpoints are not saved, and nobody is told
	late   atomic.Int64 // how long the next answer to a look at a checkpoint is under way
	stop   atomic.Int64 // how long the next look at the head takes, and who asks stands still
}

func (s *faint) Head(ctx context.Context) (eventstore.Position, error) {
	if stop := s.stop.Swap(0); stop > 0 {
		time.Sleep(time.Duration(stop))
	}
	return s.Store.Head(ctx)
}

func (s *faint) SaveCheckpoints(ctx context.Context, checkpoints ...eventstore.Checkpoint) error {
	if s.silent.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.SaveCheckpoints(ctx, checkpoints...)
}

func (s *faint) Checkpoint(ctx context.Context, name string) (eventstore.Checkpoint, error) {
	c, err := s.Store.Checkpoint(ctx, name)
	if late := s.late.Swap(0); late > 0 {
		time.Sleep(time.Duration(late))
	}
	return c, err
}

// election is several subscribers of one name on one store, and what was delivered to
// them.
type election struct {
	t     *testing.T
	store storefor.Store

	mu        sync.Mutex
	all       []*candidate
	byToken   map[uint64]*candidate
	delivered []string // data of the events, in order
	wrong     []string
}

// candidate is one of them.
type candidate struct {
	*relay.Subscriber
	*election
	store   *faint
	handle  func(m *message.Message) // beside the counting
	pumping sync.WaitGroup
}

func newElection(t *testing.T, store storefor.Store) *election {
	return &election{t: t, store: store, byToken: map[uint64]*candidate{}}
}

// enter adds a subscriber, which ends with the test.
func (e *election) enter(change func(c *relay.Config), handle func(m *message.Message)) *candidate {
	x := &candidate{election: e, store: &faint{Store: e.store}, handle: handle}
	config := relay.Config{
		Store: x.store, Name: "candidate", Lease: candidateLease, FirstPause: time.Millisecond, Holder: fmt.Sprint("candidate ", len(e.all)),
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&config)
	}
	s, err := relay.NewSubscriber(config)
	require.NoError(e.t, err)
	x.Subscriber = s
	messages, err := s.Subscribe(context.Background(), relay.ByPrefix(inputPrefix))
	require.NoError(e.t, err)
	x.pumping.Go(func() {
		for m := range messages {
			x.deliver(m)
		}
	})
	e.t.Cleanup(x.leave)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, x)
	return x
}

func (x *candidate) leave() {
	_ = x.Close() // which never fails
	x.pumping.Wait()
}

// deliver takes in one message, and holds it against all others.
func (x *candidate) deliver(m *message.Message) {
	if x.handle != nil {
		x.handle(m)
	}
	data, err := strconv.Unquote(string(m.Payload))
	token := x.token()
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.wrong = append(x.wrong, err.Error())
	}
	if other := x.byToken[token]; other != nil && other != x {
		x.wrong = append(x.wrong, fmt.Sprintf("two hold token %d", token))
	}
	x.byToken[token] = x
	x.delivered = append(x.delivered, data)
	m.Ack()
}

func (x *candidate) token() uint64 {
	if all := x.Status(); len(all) > 0 {
		return all[0].Token
	}
	return 0
}

// holder returns the one that says that it holds the lease at the version where it
// stands; nil if none does.
func (e *election) holder() *candidate {
	version := e.version()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.all {
		if all := x.Status(); len(all) > 0 && all[0].Holding && all[0].Token == version {
			return x
		}
	}
	return nil
}

func (e *election) version() uint64 {
	version, err := e.store.Version(context.Background(), candidateStream)
	require.NoError(e.t, err)
	return version
}

// give appends an event.
func (e *election) give(data string) {
	_, err := e.store.Append(context.Background(), []eventstore.Event{{
		ID: uuid.New(), Stream: inputPrefix + "1", Type: "handover.given", Schema: 1, Data: []byte(strconv.Quote(data)),
	}})
	require.NoError(e.t, err)
}

func (e *election) got() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Empty(e.t, e.wrong)
	return append([]string(nil), e.delivered...)
}

// inBubble runs f on a store in memory, in time that passes only while all wait.
func inBubble(t *testing.T, f func(t *testing.T, e *election)) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		f(t, newElection(t, store))
	})
}

// pass lets time go by, and what was due in it.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestAHolderThatIsAliveKeepsItsLeaseOverManyLeaseTimes(t *testing.T) {
	for name, handle := range map[string]func(m *message.Message){
		"whose handler hangs": func(m *message.Message) { <-m.Context().Done() },
		"that refuses":        func(m *message.Message) { m.Nack() },
		"that is idle":        nil,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *election) {
				holder := e.enter(nil, handle)
				synctest.Wait()
				for range 3 {
					e.enter(nil, nil)
				}
				e.give("1")
				pass(400 * candidateLease)
				require.EqualValues(t, 1, e.version())
				require.Same(t, holder, e.holder())

				// The control: one of which nothing is heard is taken over, and not before.
				holder.store.silent.Store(true)
				pass(candidateLease * 2 / 3)
				require.EqualValues(t, 1, e.version())
				pass(candidateLease/3 + 2*candidatePoll)
				require.EqualValues(t, 2, e.version())
				require.NotSame(t, holder, e.holder())
				require.Equal(t, []string{"1"}, e.got()[:1])
			})
		})
	}
}

func TestAContenderWhoseLooksTakeLongerThanALeaseTakesNothingFromWhoIsAlive(t *testing.T) {
	for _, late := range []time.Duration{candidateLease / 2, candidateLease, 3 * candidateLease} {
		t.Run(late.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *election) {
				holder := e.enter(nil, nil)
				synctest.Wait()
				contender := e.enter(nil, nil)
				random := rand.New(rand.NewPCG(1, uint64(late)))
				for range 100 {
					pass(time.Duration(random.Int64N(int64(candidateLease))))
					contender.store.late.Store(int64(late))
				}
				pass(4 * candidateLease)
				require.EqualValues(t, 1, e.version())
				require.Same(t, holder, e.holder())
			})
		})
	}
}

func TestAHolderThatStoodStillHandsNothingOutBeforeItHasLookedAtItsLease(t *testing.T) {
	for _, stood := range []time.Duration{candidateLease * 3 / 2, 3 * candidateLease, 100 * candidateLease} {
		t.Run(stood.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *election) {
				holder := e.enter(nil, nil)
				pass(time.Second)
				contender := e.enter(nil, nil)
				pass(time.Second)
				holder.store.stop.Store(int64(stood))
				e.give("1")
				pass(stood + candidateLease)
				require.EqualValues(t, 2, e.version())
				require.Same(t, contender, e.holder())
				require.Equal(t, []string{"1"}, e.got())
				require.Zero(t, holder.Status()[0].Acknowledged)
				require.True(t, holder.Status()[0].Standby)
			})
		})
	}
}

func TestALeaseThatIsLetGoIsTakenAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, e *election) {
		const contenders = 20
		for range contenders {
			e.enter(func(c *relay.Config) { c.Lease = 24 * time.Hour }, nil)
		}
		var want []string
		for i := 1; i <= contenders; i++ {
			pass(time.Second) // a look at it
			require.EqualValues(t, i, e.version(), "taken once")
			data := fmt.Sprint(i)
			e.give(data)
			want = append(want, data)
			synctest.Wait()
			require.Equal(t, want, e.got())
			holder := e.holder()
			require.NotNil(t, holder)
			standby := 0
			for _, x := range e.all {
				if all := x.Status(); len(all) > 0 && all[0].Standby {
					require.False(t, all[0].Holding)
					standby++
				}
			}
			require.Equal(t, contenders-i, standby)
			holder.leave()
		}
		pass(time.Hour)
		require.EqualValues(t, contenders, e.version())
	})
}

func TestAHolderThatClosesKeepsItsLeaseUntilItsHandlerHasEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, e *election) {
		e.give("1")
		holder := e.enter(func(c *relay.Config) { c.Grace = 10 * candidateLease }, func(*message.Message) { time.Sleep(5 * candidateLease) })
		synctest.Wait()
		e.enter(nil, nil)
		closed := make(chan struct{})
		go func() {
			holder.leave()
			close(closed)
		}()
		pass(4 * candidateLease)
		require.EqualValues(t, 1, e.version())
		<-closed
		pass(candidatePoll)
		require.EqualValues(t, 2, e.version())
		require.Equal(t, []string{"1"}, e.got())
	})
}

func TestTwoConsumersOfOneNameInOneProcessTakeTurns(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite, storefor.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			e := newElection(t, kind.New(t))
			soon := func(c *relay.Config) { c.Lease = time.Minute; c.SaveEvery = time.Millisecond }
			first := e.enter(soon, nil)
			wait := func(so func() bool) { require.Eventually(t, so, time.Minute, 5*time.Millisecond) }
			wait(func() bool { return e.holder() == first })
			second := e.enter(soon, nil)
			var want []string
			for i := range 20 {
				want = append(want, fmt.Sprint(i))
				e.give(want[i])
			}
			wait(func() bool { return len(e.got()) == 20 && second.Status()[0].Standby })
			require.Zero(t, second.Status()[0].Acknowledged)
			first.leave()
			wait(func() bool { return e.holder() == second })
			for i := 20; i < 40; i++ {
				want = append(want, fmt.Sprint(i))
				e.give(want[i])
			}
			wait(func() bool { return len(e.got()) >= 40 })
			second.leave()
			require.Equal(t, want, e.got())
			require.EqualValues(t, 2, e.version())
		})
	}
}

func TestTwentyContendersNeverHoldOneTokenTogether(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite, storefor.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			e := newElection(t, kind.New(t))
			const contenders, silenced = 20, 3
			for range contenders {
				e.enter(func(c *relay.Config) {
					c.Lease, c.SaveEvery, c.Grace = 300*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
				}, nil)
			}
			given := 0
			wait := func(what string, so func() bool) {
				t.Helper()
				require.Eventually(t, so, time.Minute, 5*time.Millisecond, what)
			}
			for range silenced {
				wait("somebody holds the lease", func() bool { return e.holder() != nil })
				version := e.version()
				holder := e.holder()
				if holder == nil {
					continue // taken over just now: the machine is slow
				}
				holder.store.silent.Store(true)
				for range 5 {
					given++
					e.give(fmt.Sprint(given))
				}
				wait("another takes over", func() bool { return e.version() > version && e.holder() != nil })
				holder.store.silent.Store(false)
			}
			want := map[string]bool{}
			for i := range given {
				want[fmt.Sprint(i+1)] = true
			}
			wait("all is delivered", func() bool {
				missing := len(want)
				seen := map[string]bool{}
				for _, data := range e.got() {
					if want[data] && !seen[data] {
						seen[data] = true
						missing--
					}
				}
				return missing == 0
			})
			t.Logf("%d contenders, %d leases, %d events, %d deliveries", contenders, e.version(), given, len(e.got()))
		})
	}
}

// inject is what a process elsewhere shows of itself.
func (e *election) inject(position eventstore.Position, token, beat uint64, released bool) {
	state := fmt.Sprintf(`{"token":%d,"beat":%d,"released":%t,"holder":"elsewhere"}`, token, beat, released)
	require.NoError(e.t, e.store.SaveCheckpoints(context.Background(), eventstore.Checkpoint{
		Name: candidateSaves, Position: position, Format: 1, State: []byte(state),
	}))
}

// taken is a process elsewhere that takes the lease.
func (e *election) taken() uint64 {
	registry, err := eventstore.NewRegistry(relay.Types()...)
	require.NoError(e.t, err)
	records, err := eventstore.Update(context.Background(), e.store, registry, func(tx *eventstore.Tx) error {
		if _, err := tx.Check(candidateStream); err != nil {
			return err
		}
		return tx.Record(candidateStream, relay.Taken{Consumer: "candidate/prefix:input-", Holder: "elsewhere"})
	})
	require.NoError(e.t, err)
	return records[0].Version
}

func TestNoClocksAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random, clock := rand.New(rand.NewPCG(2, 0)), rand.New(rand.NewPCG(2, 1))
		var mu sync.Mutex
		store := memory.New(memory.WithClock(func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Unix(clock.Int64N(4e9), 0) // of any year from 1970 to 2096
		}))
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		e := newElection(t, store)
		token := e.taken()
		e.inject(0, token, 1, false)
		e.enter(nil, nil)
		for beat := range uint64(200) {
			pass(time.Duration(random.Int64N(int64(candidateLease - 2*candidatePoll))))
			e.inject(0, token, beat+2, false)
		}
		synctest.Wait()
		require.EqualValues(t, 1, e.version(), "a holder that shows that it is alive, at whatever times, keeps its lease")

		// The last word of an earlier holder, however often it comes, says nothing of this one.
		token = e.taken()
		for beat := range uint64(10) {
			e.inject(0, token-1, beat+1_000, beat%2 == 0)
			pass(candidateLease / 5)
			if beat < 4 {
				require.EqualValues(t, 2, e.version(), "beat %d", beat)
			}
		}
		require.EqualValues(t, 3, e.version(), "who showed nothing of himself is taken over")
		require.NotNil(t, e.holder())
	})
}

func TestACheckpointThatIsDeletedWhileItIsHeldCostsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, e *election) {
		e.enter(nil, nil)
		synctest.Wait()
		holder := e.holder()
		e.enter(nil, nil)
		var want []string
		random := rand.New(rand.NewPCG(3, 0))
		for i := range 30 {
			want = append(want, fmt.Sprint(i))
			e.give(want[i])
			pass(time.Duration(random.Int64N(int64(candidateLease))))
			require.NoError(t, e.store.DeleteCheckpoint(t.Context(), candidateSaves))
		}
		pass(10 * candidateLease)
		require.EqualValues(t, 1, e.version())
		require.Same(t, holder, e.holder())
		holder.leave()
		pass(candidatePoll)
		require.EqualValues(t, 2, e.version())
		require.Equal(t, want, e.got())
	})
}

func TestWithoutACheckpointTheNextHolderBeginsWhereTheConsumerBegan(t *testing.T) {
	for name, fromNow := range map[string]bool{"at the beginning": false, "at what was there when it was first started": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *election) {
				e.give("before")
				set := func(c *relay.Config) { c.FromNow = fromNow }
				holder := e.enter(set, nil)
				synctest.Wait()
				e.give("since")
				pass(time.Second)
				holder.store.silent.Store(true)
				require.NoError(t, e.store.DeleteCheckpoint(t.Context(), candidateSaves))
				e.enter(set, nil)
				pass(candidateLease + 2*candidatePoll)
				require.EqualValues(t, 2, e.version())
				require.NotSame(t, holder, e.holder())
				if fromNow {
					require.Equal(t, []string{"since", "since"}, e.got())
				} else {
					require.Equal(t, []string{"before", "since", "before", "since"}, e.got())
				}
			})
		})
	}
}

func TestALeaseFromAnImportGoesOnWhereItsConsumerBegan(t *testing.T) {
	for name, at := range map[string]struct {
		fromNow bool
		others  int  // events before all that do not come along, so that positions are others
		left    bool // nor does the last of what was there when it was first started
	}{
		"at the beginning": {others: 10},
		"at what was there when it was first started":             {fromNow: true},
		"at what was there, few of which did not come along":      {fromNow: true, others: 1},
		"at what was there, many of which did not come along":     {fromNow: true, others: 10},
		"at what was there, the last of which did not come along": {fromNow: true, others: 10, left: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *election) {
				set := func(c *relay.Config) { c.FromNow = at.fromNow }
				other := eventstore.Event{Stream: "other", Type: "other", Schema: 1, Data: []byte(`{}`)}
				for range at.others {
					other.ID = uuid.New()
					_, err := e.store.Append(t.Context(), []eventstore.Event{other})
					require.NoError(t, err)
				}
				e.give("before 1")
				e.give("before 2")
				if at.left {
					other.ID = uuid.New()
					_, err := e.store.Append(t.Context(), []eventstore.Event{other})
					require.NoError(t, err)
				}
				first := e.enter(func(c *relay.Config) {
					set(c)
					c.Store.(*faint).late.Store(int64(time.Second)) // so that something is recorded before it has the lease
				}, nil)
				synctest.Wait()
				require.Zero(t, e.version())
				e.give("meanwhile")
				pass(2 * time.Second)
				require.EqualValues(t, 1, e.version())
				e.give("since")
				pass(time.Second)
				first.leave()
				var file bytes.Buffer
				_, err := archive.Export(t.Context(), &file, e.store, eventstore.Query{Streams: []string{inputPrefix + "1", candidateStream}})
				require.NoError(t, err)

				imported := memory.New()
				t.Cleanup(func() { require.NoError(t, imported.Close()) })
				_, err = archive.Import(t.Context(), imported, &file)
				require.NoError(t, err)
				there := newElection(t, imported)
				there.enter(set, nil)
				pass(candidateLease + 2*candidatePoll) // nothing says that its holder is not alive
				there.give("there")
				pass(time.Second)
				require.EqualValues(t, 2, there.version())
				want := []string{"before 1", "before 2", "meanwhile", "since", "there"}
				switch {
				case at.left:
					want = want[3:] // where it began is not known any more, but that it had begun when it took its lease
				case at.fromNow:
					want = want[2:]
				}
				require.Equal(t, want, there.got())
			})
		})
	}
}
