package storetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
)

// Model compares a store with the simplest one there can be on so many random
// histories: appends with wrong and right expectations, resends whole, in part,
// changed and mixed, and reads at random positions must give the same answers.
// It costs about 30 calls of the store a history, and a store for each.
func (s Suite) Model(t *testing.T, histories int) {
	checks := flag.Lookup("rapid.checks").Value
	before := checks.String()
	require.NoError(t, checks.Set(strconv.Itoa(histories)))
	defer func() { _ = checks.Set(before) }()

	calls, conflicts, duplicates := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		store := s.Open(t)
		defer func() { _ = store.Close() }()
		c := comparison{t: rt, ctx: context.Background(), store: store, one: s.Features.OneStream}
		rt.Repeat(map[string]func(*rapid.T){
			"append":  c.append,
			"resend":  c.resend,
			"read":    c.read,
			"version": c.version,
			"":        c.head,
		})
		calls, conflicts, duplicates = calls+c.calls, conflicts+c.conflicts, duplicates+c.duplicates
	})
	t.Logf("%d histories, %d calls, %d conflicts and %d duplicates agreed upon", histories, calls, conflicts, duplicates)
	require.NotZero(t, conflicts, "no history had a conflict: the check is weaker than it says")
	require.NotZero(t, duplicates, "no history had a duplicate: the check is weaker than it says")
}

// model is an event store as plain as the contract allows: one list, searched
// from its beginning. Its positions are 1, 2, 3; those of the store compared
// with it may have gaps.
type model struct {
	log []eventstore.Recorded
}

func (m *model) version(stream string) (version uint64) {
	for _, r := range m.log {
		if r.Stream == stream {
			version++
		}
	}
	return version
}

func (m *model) known(id uuid.UUID) (eventstore.Recorded, bool) {
	for _, r := range m.log {
		if r.ID == id {
			return r, true
		}
	}
	return eventstore.Recorded{}, false
}

// append answers as the contract says: records, or a conflict, or a duplicate.
func (m *model) append(es []eventstore.Event, expect []eventstore.Expect) ([]eventstore.Recorded, error) {
	var original []eventstore.Recorded
	for _, e := range es {
		if r, ok := m.known(e.ID); ok {
			if !r.Equal(e) || len(original) > 0 && original[0].Append != r.Append {
				return nil, eventstore.ErrDuplicate
			}
			original = append(original, r)
		}
	}
	if len(original) == len(es) {
		return original, nil
	}
	if len(original) > 0 {
		return nil, eventstore.ErrDuplicate
	}
	for _, x := range expect {
		if m.version(x.Stream) != x.Version {
			return nil, eventstore.ErrConflict
		}
	}
	first := eventstore.Position(len(m.log) + 1)
	for _, e := range es {
		m.log = append(m.log, eventstore.Recorded{
			Event: e, Version: m.version(e.Stream) + 1, Position: eventstore.Position(len(m.log) + 1), Append: first,
		})
	}
	return slices.Clone(m.log[first-1:]), nil
}

// comparison drives a store and the model side by side.
type comparison struct {
	t     *rapid.T
	ctx   context.Context
	store eventstore.Store
	one   bool // an append concerns one stream only
	model model
	sent  [][]eventstore.Event
	at    []eventstore.Position // the store's position of the model's event i+1

	calls, conflicts, duplicates int
}

var (
	someStreams = rapid.SampledFrom([]string{"a", "a-1", "a-2", "b", "B"})
	someTypes   = rapid.SampledFrom([]string{"made", "moved", "gone"})
	someTags    = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), 0, 3, rapid.ID[string])
)

func (c *comparison) append(t *rapid.T) {
	n := rapid.IntRange(1, 4).Draw(t, "events")
	es := make([]eventstore.Event, n)
	for i := range es {
		es[i] = event(someStreams.Draw(t, "stream"))
		if c.one {
			es[i].Stream = es[0].Stream
		}
		es[i].Type, es[i].Tags = someTypes.Draw(t, "type"), someTags.Draw(t, "tags")
		es[i].Data = []byte(strconv.Itoa(len(c.model.log) + i))
	}
	var expect []eventstore.Expect
	expected := rapid.SliceOfNDistinct(someStreams, 0, 3, rapid.ID[string]).Draw(t, "expected")
	if c.one && len(expected) > 0 {
		expected = []string{es[0].Stream}
	}
	for _, stream := range expected {
		version := c.model.version(stream)
		if rapid.IntRange(0, 4).Draw(t, "wrong") == 0 {
			version = uint64(rapid.IntRange(0, 20).Draw(t, "version"))
		}
		expect = append(expect, eventstore.At(stream, version))
	}
	if c.send(t, es, expect) == nil {
		c.sent = append(c.sent, es)
	}
}

func (c *comparison) resend(t *rapid.T) {
	if len(c.sent) == 0 {
		t.Skip("nothing has been sent yet")
	}
	es := slices.Clone(rapid.SampledFrom(c.sent).Draw(t, "append"))
	switch rapid.SampledFrom([]string{"whole", "part", "turned", "changed", "mixed", "joined"}).Draw(t, "how") {
	case "part":
		es = es[rapid.IntRange(0, len(es)-1).Draw(t, "from"):]
	case "turned":
		slices.Reverse(es)
	case "changed":
		i := rapid.IntRange(0, len(es)-1).Draw(t, "which")
		es[i].Meta = []byte(`{"actor":"eve"}`)
	case "mixed":
		es = slices.Insert(es, rapid.IntRange(0, len(es)).Draw(t, "where"), event(es[0].Stream))
	case "joined":
		for _, e := range rapid.SampledFrom(c.sent).Draw(t, "other") {
			known := slices.ContainsFunc(es, func(o eventstore.Event) bool { return o.ID == e.ID })
			if !known && (!c.one || e.Stream == es[0].Stream) {
				es = append(es, e)
			}
		}
	}
	_ = c.send(t, es, []eventstore.Expect{eventstore.At(es[0].Stream, 1_000_000)}) // which no resend looks at
}

// send appends to both and compares the answers.
func (c *comparison) send(t *rapid.T, es []eventstore.Event, expect []eventstore.Expect) error {
	c.calls++
	before := len(c.model.log)
	want, wantErr := c.model.append(es, expect)
	got, err := c.store.Append(c.ctx, es, expect...)
	switch {
	case wantErr != nil:
		require.ErrorIs(t, err, wantErr)
		var conflict *eventstore.ConflictError
		if errors.As(err, &conflict) {
			c.conflicts++
			require.Contains(t, expect, eventstore.At(conflict.Stream, conflict.Want))
			require.Equal(t, c.model.version(conflict.Stream), conflict.Actual)
			require.NotEqual(t, conflict.Want, conflict.Actual)
		} else {
			c.duplicates++
		}
		return err
	default:
		require.NoError(t, err)
	}
	for _, r := range got[:len(c.model.log)-before] {
		c.at = append(c.at, r.Position)
	}
	c.compare(t, want, got)
	return nil
}

func (c *comparison) read(t *rapid.T) {
	c.calls++
	after := rapid.IntRange(0, len(c.model.log)).Draw(t, "after")
	q := eventstore.Query{
		Streams: rapid.SliceOfN(someStreams, 0, 3).Draw(t, "streams"),
		Prefix:  rapid.SampledFrom([]string{"", "a", "a-", "b"}).Draw(t, "prefix"),
		Types:   rapid.SliceOfN(someTypes, 0, 2).Draw(t, "types"),
		Tags:    someTags.Draw(t, "tags"),
		After:   eventstore.Position(after),
		Limit:   rapid.IntRange(0, 5).Draw(t, "limit"),
	}
	want := matching(c.model.log, q)
	if after > 0 {
		q.After = c.at[after-1]
	}
	got, err := collect(c.ctx, c.store, q)
	require.NoError(t, err)
	c.compare(t, want, got)
}

// compare requires that what the store gave is what the model gave, under the store's positions.
func (c *comparison) compare(t *rapid.T, want, got []eventstore.Recorded) {
	require.Len(t, got, len(want))
	for i := range want {
		w := want[i]
		w.Position, w.Append, w.RecordedAt = c.at[w.Position-1], c.at[w.Append-1], got[i].RecordedAt
		require.Empty(t, difference(w, got[i]), fmt.Sprintf("record %d of %d", i+1, len(want)))
	}
}

func (c *comparison) version(t *rapid.T) {
	c.calls++
	stream := someStreams.Draw(t, "stream")
	version, err := c.store.Version(c.ctx, stream)
	require.NoError(t, err)
	require.Equal(t, c.model.version(stream), version)
}

func (c *comparison) head(t *rapid.T) {
	c.calls++
	head, err := c.store.Head(c.ctx)
	require.NoError(t, err)
	if len(c.at) == 0 {
		require.Zero(t, head)
		return
	}
	require.Equal(t, c.at[len(c.at)-1], head)
}
