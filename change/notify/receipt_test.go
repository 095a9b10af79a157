package notify_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/notify"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

func TestAReceiptSaysWhoWasToldWhatAndWhen(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(all("zoe"), all("shop")))
	h.clock.Advance(time.Minute)
	require.NoError(t, h.feed(h.handler(p)))
	receipts := h.of(c.ID)
	require.Len(t, receipts, 2)
	for i, r := range receipts {
		l := p.letters()[slices.IndexFunc(p.letters(), func(l letter) bool { return l.Who == r.Who })]
		require.True(t, r.Delivered())
		require.NotZero(t, r.Position)
		require.Equal(t, notify.Receipt{
			Notice: l.Key, Change: c.ID, Version: l.Version, Event: r.Event, Word: "authorized", Who: r.Who, Channel: "post", At: monday.Add(time.Minute), Position: r.Position,
		}, receipts[i])
		require.Equal(t, l.Event, r.Event.String())
		require.Equal(t, l.Who+"@example.org", l.where)
	}

	// It is recorded as what follows from the event, by the handler.
	for r, err := range h.store.Read(t.Context(), eventstore.Query{Streams: []string{"notice-" + c.ID}}) {
		require.NoError(t, err)
		meta, err := eventstore.DecodeMetadata(r.Meta)
		require.NoError(t, err)
		require.Equal(t, notify.Actor, meta.Actor)
		require.Equal(t, "notify.record", meta.Command)
		require.Equal(t, receipts[0].Event, meta.Causation)
		require.NotEmpty(t, meta.Correlation)
	}
}

func TestSomebodysNoticesAreFoundOverAllChanges(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	h.scheduled(upgradeOf("lone", all("zoe"), all("shop")))
	h.scheduled(upgradeOf("lone", all("zoe")))
	h.scheduled(upgradeOf("lone", all("shop")))
	require.NoError(t, h.feed(h.handler(p)))
	found, err := notify.To(t.Context(), h.store, h.registry, "zoe")
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, []string{"CHG-000001", "CHG-000002"}, []string{found[0].Change, found[1].Change})
	found, err = notify.To(t.Context(), h.store, h.registry, "nobody")
	require.NoError(t, err)
	require.Empty(t, found)
	require.Empty(t, h.of("CHG-000009"))

	unknown, err := eventstore.NewRegistry(command.Types()...)
	require.NoError(t, err)
	_, err = notify.Of(t.Context(), h.store, unknown, "CHG-000001")
	require.ErrorIs(t, err, eventstore.ErrUnknownType, "what cannot be read is not nothing")
}

// The directory knows where people are; the log does not.
func TestNeitherAddressesNorTextsAreInTheLogOrInErrors(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(all("u-1"), all("u-2"), all("u-3")))
	p.says = func(where string, m notify.Message) error {
		switch m.Who {
		case "u-2":
			return errors.New("451 <" + where + "> is busy")
		case "u-3":
			return &notify.UndeliverableError{Why: notify.Refused, Code: 550, Err: errors.New("<" + where + "> is unknown")}
		}
		return nil
	}
	secret := func(c *notify.Config) {
		c.Addresses = func(_ context.Context, who string) ([]notify.Address, error) {
			return []notify.Address{{"post", "zoe.quimby." + who + "@example.org"}}, nil
		}
	}
	err := h.feed(h.handler(p, secret))
	require.ErrorContains(t, err, "1 of 3 notices of CHG-000001 are not sent yet, by channel: post 1")
	require.NotContains(t, err.Error(), "quimby")
	require.Len(t, h.of(c.ID), 2)
	searched := 0
	for r, err := range h.store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		for _, b := range [][]byte{r.Data, r.Meta, []byte(r.Stream), []byte(strings.Join(r.Tags, " "))} {
			require.False(t, bytes.Contains(b, []byte("quimby")), "%s %s", r.Type, b)
			require.False(t, bytes.Contains(b, []byte("is authorized:")), "%s %s", r.Type, b)
			searched += len(b)
		}
	}
	require.Greater(t, searched, 1_000)
}

func TestWhatFailsForATimeIsSentAgainUnderTheSameKeyAndHoldsUpNobody(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(all("u-1"), all("u-2"), all("u-3"), all("u-4"), all("u-5"), all("u-6")))
	keys := map[string][]string{}
	var mu sync.Mutex
	p.says = func(_ string, m notify.Message) error {
		mu.Lock()
		defer mu.Unlock()
		keys[m.Who] = append(keys[m.Who], m.Key)
		switch {
		case m.Who == "u-1" && len(keys[m.Who]) < 3:
			return errors.New("try again")
		case m.Who == "u-2" && len(keys[m.Who]) < 2:
			panic("a fault of the program")
		}
		return nil
	}
	handler := h.handler(p)
	require.ErrorContains(t, h.feed(handler), "2 of 6 notices")
	require.Len(t, h.of(c.ID), 4, "the others were sent")
	require.ErrorContains(t, h.feed(handler), "1 of 2 notices")
	require.NoError(t, h.feed(handler))
	require.NoError(t, h.feed(handler))
	require.Len(t, h.of(c.ID), 6)
	require.Len(t, p.letters(), 6)
	require.Len(t, keys["u-1"], 3)
	require.Len(t, keys["u-2"], 2)
	for who, of := range keys {
		require.Len(t, slices.Compact(of), 1, who)
	}
}

func TestWhatWillNeverBeDeliveredIsRecordedAndNotTriedAgain(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(all("u-1"), all("u-2")))
	p.says = func(_ string, m notify.Message) error {
		if m.Who == "u-1" {
			return &notify.UndeliverableError{Why: notify.Refused, Code: 550, Err: errors.New("no such user")}
		}
		return nil
	}
	for range 2 {
		require.NoError(t, h.feed(h.handler(p)))
	}
	require.Equal(t, 2, p.tried)
	receipts := h.of(c.ID)
	i := slices.IndexFunc(receipts, func(r notify.Receipt) bool { return r.Who == "u-1" })
	require.Equal(t, notify.Refused, receipts[i].Why)
	require.Equal(t, 550, receipts[i].Code)
	require.False(t, receipts[i].Delivered())
}

func TestADirectoryThatIsDownIsAskedAgain(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(all("u-1"), all("u-2"), all("u-3")))
	down := func(c *notify.Config) {
		c.Addresses = func(ctx context.Context, who string) ([]notify.Address, error) {
			switch who {
			case "u-1":
				return nil, errors.New("ldap: u-1@secret is away")
			case "u-2":
				panic("nil")
			}
			return everybody(ctx, who)
		}
	}
	err := h.feed(h.handler(p, down))
	require.EqualError(t, err, "2 of 3 notices of CHG-000001 are not sent yet, by channel: without an address 2")
	require.Len(t, h.of(c.ID), 1)
	require.NoError(t, h.feed(h.handler(p)))
	require.Len(t, h.of(c.ID), 3)
	require.Len(t, p.letters(), 3)
}

// Without the right to record nothing is sent: it would be sent again with every
// attempt.
func TestNothingIsSentThatMayNotBeRecorded(t *testing.T) {
	without := command.Roles{"alice": {command.Requester}, "bob": {command.Approver}, "carol": {command.ChangeManager, command.ConfigManager}}
	h, p := inMemory(t, func(c *rollforward.Config) { c.Authorizer = without }).estate(), &post{}
	c := h.scheduled(upgrade(all("u-1")))
	err := h.feed(h.handler(p))
	require.ErrorIs(t, err, command.ErrDenied)
	require.ErrorContains(t, err, notify.Actor)
	require.Zero(t, p.tried)
	require.Empty(t, h.of(c.ID))

	// Somebody else who may is as good.
	as := func(c *notify.Config) { c.Actor = command.As("robot") }
	h = inMemory(t, func(c *rollforward.Config) {
		c.Authorizer = command.Policy{Table: command.ReadyTable(), Roles: command.Roles{
			"alice": {command.Requester}, "bob": {command.Approver}, "carol": {command.ChangeManager, command.ConfigManager}, "robot": {command.Automation},
		}}
	}).estate()
	h.scheduled(upgrade(all("u-1")))
	require.NoError(t, h.feed(h.handler(p, as)))
	require.Len(t, p.letters(), 1)
}

func TestASenderThatDoesNotAnswerIsGivenItsTime(t *testing.T) {
	h := inMemory(t).estate()
	c := h.scheduled(upgrade(all("u-1"), all("u-2")))
	p := &post{}
	hangs := sender(func(ctx context.Context, where string, m notify.Message) error {
		if m.Who == "u-1" {
			<-ctx.Done()
			return ctx.Err()
		}
		return p.Send(ctx, where, m)
	})
	require.ErrorContains(t, h.feed(h.handler(hangs, func(c *notify.Config) { c.Timeout = 50 * time.Millisecond })), "1 of 2")
	require.Len(t, h.of(c.ID), 1)
}

// The program ends while a notice is sent: its receipt is still recorded, for it would
// be sent again otherwise.
func TestAReceiptIsRecordedAlsoWhenTheTimeIsOver(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(all("u-1")))
	f, err := h.handler(p).Func(h.registry)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	p.says = func(string, notify.Message) error { cancel(); return nil }
	p.deaf = true
	for r, err := range h.store.Read(t.Context(), eventstore.Query{Types: []string{"change.authorized"}}) {
		require.NoError(t, err)
		m, err := relay.Message(r)
		require.NoError(t, err)
		m.SetContext(ctx)
		require.NoError(t, f(m))
	}
	require.Error(t, ctx.Err())
	require.Len(t, h.of(c.ID), 1)
	require.True(t, h.of(c.ID)[0].Delivered())
}

type sender func(ctx context.Context, where string, m notify.Message) error

func (s sender) Send(ctx context.Context, where string, m notify.Message) error {
	return s(ctx, where, m)
}

// What waits for longer than Patience is given up, so that what comes after it in the
// change is told.
func TestANoticeIsGivenUpAfterALongTime(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	p.says = func(_ string, m notify.Message) error {
		if m.Word == "authorized" {
			return errors.New("try again")
		}
		return nil
	}
	c := h.scheduled(upgrade(change.Stakeholder{Who: "zoe", Told: []string{"authorized", "held"}}))
	h.do(carol, c.ID, change.Hold{Reason: "wait"})
	stop := h.run(h.handler(p, func(c *notify.Config) { c.Patience = time.Hour }))
	tries := func() int { p.mu.Lock(); defer p.mu.Unlock(); return p.tried }
	h.eventually(func() bool { return tries() > 5 })
	require.Empty(t, h.of(c.ID), "it is patient for an hour")
	h.clock.Advance(time.Hour)
	h.eventually(func() bool { return len(h.of(c.ID)) == 2 })
	stop()
	receipts := h.of(c.ID)
	require.Equal(t, notify.GaveUp, receipts[0].Why)
	require.Equal(t, "authorized", receipts[0].Word)
	require.Equal(t, "held", receipts[1].Word)
	require.True(t, receipts[1].Delivered())
}

// Two processes that both believe to be the one that sends: what they send comes
// twice, under one key, and has one receipt.
func TestTwoHandlersAtOnceLeaveOneReceiptOfEachNotice(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.whole(upgrade(all("u-1"), all("u-2"), all("u-3")))
	var both sync.WaitGroup
	for range 2 {
		handler := h.handler(p)
		both.Go(func() {
			if err := h.feed(handler); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	keys := map[string]bool{}
	for _, l := range p.letters() {
		keys[l.Key] = true
	}
	receipts := h.of(c.ID)
	require.Len(t, receipts, len(keys))
	for _, r := range receipts {
		require.True(t, keys[r.Notice])
		delete(keys, r.Notice)
	}
	require.Empty(t, keys)
	t.Logf("%d letters for %d notices", len(p.letters()), len(receipts))
}

// Who has lost the lease without knowing it records nothing: the receipt is that of who
// holds it.
func TestAReceiptIsFencedByTheLease(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	var taken eventstore.Position
	p.says = func(string, notify.Message) error { // another process takes over between sending and recording
		p.mu.Lock()
		defer p.mu.Unlock()
		if taken != 0 {
			return nil
		}
		records, err := eventstore.Update(context.Background(), h.store, h.registry, func(tx *eventstore.Tx) error {
			return tx.RecordBlind("lease-"+notify.Name, relay.Taken{Consumer: notify.Name, Holder: "another"})
		})
		if err == nil {
			taken = records[0].Position
		}
		return err
	}
	c := h.scheduled(upgrade(all("u-1")))
	stop := h.run(h.handler(p), func(c *relay.Config) { c.Lease = 200 * time.Millisecond })
	h.eventually(func() bool { return len(h.of(c.ID)) == 1 })
	stop()
	require.NotZero(t, taken)
	var again eventstore.Position // when the lease was taken back, after the other was silent
	for r, err := range h.store.Read(t.Context(), eventstore.Query{Streams: []string{"lease-" + notify.Name}, After: taken}) {
		require.NoError(t, err)
		again = r.Position
	}
	require.Greater(t, again, taken)
	require.Greater(t, h.of(c.ID)[0].Position, again, "not under the lease that was lost")
	require.Len(t, p.letters(), 1, "and this process has not sent it twice")
}

// By the relay, with restarts in between, on every kind of store.
func TestAllIsToldOverRestarts(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite, storefor.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			h, p := open(t, kind.New(t)).estate(), &post{}
			failing := map[string]bool{}
			p.says = func(_ string, m notify.Message) error {
				p.mu.Lock()
				defer p.mu.Unlock()
				if !failing[m.Key] {
					failing[m.Key] = true
					return errors.New("the first time it fails")
				}
				return nil
			}
			stop := h.run(h.handler(p))
			c := h.scheduled(upgrade(all("u-1"), all("u-2")))
			h.eventually(func() bool { return len(h.of(c.ID)) > 0 })
			stop()
			h.do(carol, c.ID, change.Hold{Reason: "wait"}, change.Resume{})
			stop = h.run(h.handler(p))
			h.do(carol, c.ID, change.Cancel{Reason: "no"})
			h.eventually(func() bool { return len(h.of(c.ID)) == 8 })
			stop()
			require.Equal(t, []string{
				"u-1 authorized", "u-2 authorized", "u-1 held", "u-2 held", "u-1 resumed", "u-2 resumed", "u-1 canceled", "u-2 canceled",
			}, slices.Compact(p.said()))
			require.NoError(t, h.feed(h.handler(p)))
			require.Len(t, h.of(c.ID), 8)
		})
	}
}
