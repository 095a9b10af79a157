package notify_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/notify"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

// From the event to the mailbox: an engine, the relay, and a server that fails every
// second connection at some step, before or after it has taken the mail. The handler is
// started anew in between. ROLLFORWARD_NOTIFY_SEED makes the faults of a seed again.
func TestEveryNoticeComesToItsMailboxThroughAServerThatFailsAtFullSize(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("ROLLFORWARD_NOTIFY_SEED"); given != "" {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err)
	}
	random := rand.New(rand.NewPCG(seed, 0)) // used by the loop that accepts, one connection after the other
	var faults atomic.Int64
	s := serve(t, func(s *server) {
		s.keeps = true
		s.chaos = func() map[string]fault {
			if random.IntN(2) == 0 {
				return nil
			}
			faults.Add(1)
			step := steps[random.IntN(len(steps))]
			if random.IntN(2) == 0 && step != "TLS" {
				return map[string]fault{step: {reply: 451}}
			}
			return map[string]fault{step: {drop: true}}
		}
		s.offers = "PLAIN"
	})
	mails := mailer(t, s, func(c *notify.MailConfig) { c.Username, c.Password = user, password })
	h := open(t, storefor.Asked(t, storefor.SQLite).New(t)).estate()
	config := func(c *notify.Config) { c.Senders = map[string]notify.Sender{"post": mails} }

	people := 6
	if race.Enabled {
		people = 2
	}
	var told []change.Stakeholder
	for i := range people {
		told = append(told, change.Stakeholder{Who: fmt.Sprintf("u-%d", i), Told: []string{"authorized", "held", "resumed", "canceled"}})
	}
	var ids []string
	for range 3 {
		stop := h.run(h.handler(mails, config))
		c := h.scheduled(upgradeOf("lone", told...))
		ids = append(ids, c.ID)
		h.do(carol, c.ID, change.Hold{Reason: "wait"})
		h.eventually(func() bool { return len(h.of(c.ID)) > 0 })
		stop() // in the middle of it
		h.do(carol, c.ID, change.Resume{})
		h.do(carol, c.ID, change.Cancel{Reason: "no"})
	}
	stop := h.run(h.handler(mails, config))
	for _, id := range ids {
		h.eventually(func() bool { return len(h.of(id)) >= 4*people }, id)
	}
	stop()

	came := map[string]map[string]int{} // by recipient and subject, how often under which Message-ID
	for _, r := range s.got() {
		m, _ := read(t, r)
		what := r.to + " " + m.Header.Get("Subject")
		if came[what] == nil {
			came[what] = map[string]int{}
		}
		came[what][m.Header.Get("Message-Id")]++
	}
	for what, as := range came {
		require.Len(t, as, 1, what)
	}
	require.Len(t, came, 3*4*people)
	for _, id := range ids {
		receipts := map[string]int{}
		for _, r := range h.of(id) {
			require.True(t, r.Delivered())
			receipts[r.Who+" "+r.Word]++
		}
		require.Equal(t, []int{1}, slices.Compact(slices.Sorted(maps.Values(receipts))))
		require.Len(t, receipts, 4*people)
	}
	t.Logf("seed %d: %d notices in %d mails, %d connections failed", seed, len(came), len(s.got()), faults.Load())
	require.NotZero(t, faults.Load())
}

// One handler for mails, chats and webhooks, of which one never works.
func TestAChannelThatIsDownHoldsUpOnlyItsOwn(t *testing.T) {
	s, r := serve(t), receive(t)
	h := inMemory(t).estate()
	s.fail("RCPT", fault{reply: 451})
	hooks := webhook(t, r)
	both := func(c *notify.Config) {
		c.Senders = map[string]notify.Sender{"mail": mailer(t, s), "hook": hooks}
		c.Addresses = func(_ context.Context, who string) ([]notify.Address, error) {
			return []notify.Address{{Channel: "mail", Where: who + "@example.org"}, {Channel: "hook", Where: r.URL + "/" + who}}, nil
		}
	}
	c := h.scheduled(upgrade(all("u-1"), all("u-2")))
	handler := h.handler(hooks, both)
	require.EqualError(t, h.feed(handler), "2 of 4 notices of CHG-000001 are not sent yet, by channel: mail 2")
	require.Equal(t, 2, r.asked())
	require.Len(t, h.of(c.ID), 2)
	s.mend()
	require.NoError(t, h.feed(handler))
	require.Equal(t, 2, r.asked(), "what has a receipt is not sent again")
	require.Len(t, s.got(), 2)
	require.Len(t, h.of(c.ID), 4)
}
