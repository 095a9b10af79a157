package change_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// compare runs ours and the limit in turns and reports how much longer ours takes.
func compare(b *testing.B, limit, ours func(n int)) {
	var atLimit, atOurs time.Duration
	n := 0
	for b.Loop() {
		begin := time.Now()
		limit(n)
		middle := time.Now()
		ours(n)
		atLimit, atOurs = atLimit+middle.Sub(begin), atOurs+time.Since(middle)
		n++
	}
	b.ReportMetric(float64(atOurs)/float64(atLimit), "times-limit")
	b.ReportMetric(float64(atOurs.Nanoseconds())/float64(b.N), "ours-ns/op")
}

// life takes a change through its whole life and returns it.
func life(t testing.TB, h *house) change.Change {
	ctx := context.Background()
	must := func(c change.Change, err error) change.Change {
		require.NoError(t, err)
		return c
	}
	c := must(h.changes.Raise(ctx, alice, change.Raise{Content: change.Content{
		Title: "Restart db-01", CIs: []string{"db-01"}, Plans: change.Plans{Implementation: "systemctl restart", Backout: "none"},
		Window: change.Between(monday.Add(48*time.Hour), monday.Add(50*time.Hour)),
	}}, change.Submit{}))
	c = must(h.changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope}))
	c = must(h.changes.Do(ctx, dave, c.ID, change.Start{}))
	c = must(h.changes.Do(ctx, dave, c.ID, change.Complete{}))
	c = must(h.changes.Do(ctx, erin, c.ID, change.Review{Outcome: change.Successful}))
	return must(h.changes.Do(ctx, carol, c.ID, change.Close{}))
}

// BenchmarkDo: a change through its whole life, six commands. Limit: bare units of
// work that load the change, decide nothing and record the same events.
func BenchmarkDo(b *testing.B) {
	bare := newBare(b)
	h := open(b, memory.New()).estate()
	compare(b, func(n int) { bare.replay(b, n) }, func(int) { life(b, h) })
}

// bare records the events of a life without the door.
type bare struct {
	store    eventstore.Store
	registry *eventstore.Registry
	appends  [][]recordedPayload
}

type recordedPayload struct {
	stream  string
	payload any
}

func newBare(t testing.TB) *bare {
	h := open(t, memory.New()).estate()
	c := life(t, h)
	registry, err := eventstore.NewRegistry(change.Types()...)
	require.NoError(t, err)
	n := &bare{store: memory.New(), registry: registry}
	last := eventstore.Position(0)
	for r, err := range h.store.Read(context.Background(), eventstore.Query{}) {
		require.NoError(t, err)
		if r.Stream != "change-"+c.ID && r.Stream != "register-CHG" {
			continue
		}
		payload, err := registry.Decode(r.Event)
		require.NoError(t, err)
		if r.Append != last {
			n.appends, last = append(n.appends, nil), r.Append
		}
		n.appends[len(n.appends)-1] = append(n.appends[len(n.appends)-1], recordedPayload{r.Stream, payload})
	}
	require.Len(t, n.appends, 6)
	return n
}

func (n *bare) replay(t testing.TB, i int) {
	decider := eventstore.Decider[change.Change, any]{Evolve: change.Fold}
	stream := fmt.Sprintf("change-CHG-%06d", i)
	for _, events := range n.appends {
		_, err := eventstore.Update(context.Background(), n.store, n.registry, func(tx *eventstore.Tx) error {
			tx.Meta = eventstore.Metadata{Actor: "alice", Command: "change.do", OccurredAt: monday}
			if _, err := decider.Load(tx, stream); err != nil {
				return err
			}
			for _, e := range events {
				to := stream
				if !strings.HasPrefix(e.stream, "change-") {
					to = e.stream
					if _, err := tx.Check(to); err != nil {
						return err
					}
				}
				if err := tx.Record(to, e.payload); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkRaiseAtOnce: 64 changes raised on a file, by 16 who come at once. Limit: by one
// after the other. Those who draw a number while another's append is under way share
// the next commit with it.
func BenchmarkRaiseAtOnce(b *testing.B) {
	raise := func(h *house, by int) {
		var raising sync.WaitGroup
		for range by {
			raising.Go(func() {
				for range 64 / by {
					if _, err := h.changes.Raise(context.Background(), alice, change.Raise{Content: change.Content{Title: "Restart db-01", CIs: []string{"db-01"}}}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		raising.Wait()
	}
	limit, ours := onFile(b), onFile(b)
	compare(b, func(int) { raise(limit, 1) }, func(int) { raise(ours, 16) })
}

func onFile(b *testing.B) *house {
	store, err := sqlite.Open(filepath.Join(b.TempDir(), "changes.db"))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	return open(b, store).estate()
}

// BenchmarkLoad: a change of 200 events into its state. Limit: decoding their payloads.
func BenchmarkLoad(b *testing.B) {
	h := open(b, memory.New()).estate()
	c := longLife(b, h, 200)
	registry, err := eventstore.NewRegistry(change.Types()...)
	require.NoError(b, err)
	var events []eventstore.Event
	for r, err := range h.store.Read(context.Background(), eventstore.Query{Streams: []string{"change-" + c.ID}}) {
		require.NoError(b, err)
		events = append(events, r.Event)
	}
	require.Len(b, events, 200)
	compare(b, func(int) {
		for _, e := range events {
			if _, err := registry.Decode(e); err != nil {
				b.Fatal(err)
			}
		}
	}, func(int) {
		if _, err := h.changes.Get(context.Background(), c.ID); err != nil {
			b.Fatal(err)
		}
	})
}

// longLife makes a change of n events: planned, edited, discussed and worked on.
func longLife(t testing.TB, h *house, n int) change.Change {
	ctx := context.Background()
	c, err := h.changes.Raise(ctx, alice, upgrade())
	require.NoError(t, err)
	for i := 0; int(c.Version) < n; i++ {
		var cmd change.Command
		switch i % 4 {
		case 0:
			cmd = change.Edit{Set: change.Content{Window: change.Between(monday.Add(48*time.Hour), monday.Add(time.Duration(50+i)*time.Hour))}}
		case 1:
			cmd = change.Note{Text: fmt.Sprintf("talked to team %d about the window", i)}
		case 2:
			cmd = change.AddTask{Title: fmt.Sprintf("tell team %d", i), Kind: "communication", Assignee: "alice"}
		case 3:
			cmd = change.MoveTask{ID: len(c.Tasks), To: "closed", Note: "done"}
		}
		c, err = h.changes.Do(ctx, alice, c.ID, cmd)
		require.NoError(t, err)
	}
	return c
}
