package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func TestAnImportIsTheSameHistory(t *testing.T) {
	s := library(t)
	file := export(t, s)
	other := memory.New()
	for _, added := range []int{6, 0} { // the second time nothing is new
		summary, err := archive.Import(t.Context(), other, bytes.NewReader(file))
		require.NoError(t, err)
		require.Equal(t, 6, summary.Events)
		require.Equal(t, added, summary.Added)
		require.Len(t, summary.SHA256, 64)
		same(t, log(t, s), log(t, other))
		require.Equal(t, string(file), string(export(t, other)))
	}
}

func TestAResendAfterAnImportReturnsTheOriginalRecords(t *testing.T) {
	s := library(t)
	other := memory.New()
	_, err := archive.Import(t.Context(), other, bytes.NewReader(export(t, s)))
	require.NoError(t, err)
	want := log(t, s)
	appends := map[eventstore.Position][]eventstore.Event{}
	for _, r := range want {
		appends[r.Append] = append(appends[r.Append], r.Event)
	}
	require.Len(t, appends, 4)
	for _, events := range appends {
		got, err := other.Append(t.Context(), events)
		require.NoError(t, err)
		original, err := s.Append(t.Context(), events)
		require.NoError(t, err)
		same(t, original, got)
	}
	require.Len(t, log(t, other), len(want), "nothing was added")

	_, err = other.Append(t.Context(), appends[2][:2])
	require.NoError(t, err, "the beginning of an append is known as well")
	_, err = other.Append(t.Context(), []eventstore.Event{appends[1][0], appends[2][0]})
	require.ErrorIs(t, err, eventstore.ErrDuplicate, "two appends are not one")
}

func TestAnInterruptedImportGoesOn(t *testing.T) {
	s := memory.New(memory.WithClock(clock()))
	for n := range 40 { // appends of 90 events, so that batches and appends do not end together
		var events []eventstore.Event
		for i := range 90 {
			events = append(events, event("book-42", n*90+i+1, "book.lent", `{}`))
		}
		_, err := s.Append(t.Context(), events)
		require.NoError(t, err)
	}
	file := export(t, s)
	broken := errors.New("interrupted")
	other := memory.New()
	before := 0
	for _, part := range []int{1, 4, 5, 9} {
		cut := io.MultiReader(bytes.NewReader(file[:len(file)*part/10]), iotest.ErrReader(broken))
		summary, err := archive.Import(t.Context(), other, cut)
		require.ErrorIs(t, err, broken)
		var line *archive.LineError
		require.ErrorAs(t, err, &line)
		head, err := other.Head(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, before+summary.Added, head)
		require.LessOrEqual(t, int(head), summary.Events)
		require.Zero(t, int(head)%90, "whole appends")
		before = int(head)
	}
	require.Greater(t, before, 1000)
	summary, err := archive.Import(t.Context(), other, bytes.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, 3600-before, summary.Added)
	require.Equal(t, string(file), string(export(t, other)))
}

func TestBatchesKeepTheLimits(t *testing.T) {
	s := memory.New(memory.WithClock(clock()))
	large := `"` + strings.Repeat("x", eventstore.MaxData-2) + `"`
	n := 0
	for range 2 { // 3 MiB an append: no two fit into one batch
		var events []eventstore.Event
		for range 3 {
			n++
			events = append(events, event("book-42", n, "book.scanned", large))
		}
		_, err := s.Append(t.Context(), events)
		require.NoError(t, err)
	}
	counts := &restores{Store: memory.New()}
	_, err := archive.Import(t.Context(), counts, bytes.NewReader(export(t, s)))
	require.NoError(t, err)
	require.Equal(t, []int{3, 3}, counts.sizes)
	same(t, log(t, s), log(t, counts))
}

func TestBatchesAreFilledToTheLimit(t *testing.T) {
	const stream, typ = "book-42", "book.scanned"
	quarter := `"` + strings.Repeat("x", eventstore.MaxAppend/4-len(stream)-len(typ)-2) + `"`
	for _, c := range []struct {
		name    string
		appends []int // of so many events, a quarter of an append each
		sizes   []int
	}{
		{"one by one", []int{1, 1, 1, 1, 1, 1, 1, 1, 1}, []int{4, 4, 1}},
		{"the greatest appends", []int{4, 4}, []int{4, 4}},
		{"appends that leave room", []int{3, 3, 1, 2, 2, 3}, []int{3, 4, 4, 3}},
		{"a small one, then the greatest", []int{1, 4, 1}, []int{1, 4, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := memory.New(memory.WithClock(clock()))
			n := 0
			for _, size := range c.appends {
				var events []eventstore.Event
				for range size {
					n++
					events = append(events, event(stream, n, typ, quarter))
				}
				_, err := s.Append(t.Context(), events)
				require.NoError(t, err)
			}
			counts := &restores{Store: memory.New()}
			_, err := archive.Import(t.Context(), counts, bytes.NewReader(export(t, s)))
			require.NoError(t, err)
			require.Equal(t, c.sizes, counts.sizes)
			same(t, log(t, s), log(t, counts))
		})
	}
}

// restores notes how many records each Restore takes.
type restores struct {
	*memory.Store
	sizes  []int
	before func() // called before each
	err    error  // with which each fails
}

func (s *restores) Restore(ctx context.Context, after eventstore.Position, records []eventstore.Recorded) (eventstore.Position, error) {
	s.sizes = append(s.sizes, len(records))
	if s.before != nil {
		s.before()
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.Store.Restore(ctx, after, records)
}

func TestAnotherHistoryIsRefused(t *testing.T) {
	original := read(t, export(t, library(t)))
	for _, c := range []struct {
		name   string
		line   int
		says   string
		change func([]eventstore.Recorded) []eventstore.Recorded
	}{
		{"ID", 3, "event", func(r []eventstore.Recorded) []eventstore.Recorded { r[1].ID = id("x", 1); return r }},
		{"stream", 2, "stream", func(r []eventstore.Recorded) []eventstore.Recorded { r[0].Stream = "book-1"; return r[:1] }},
		{"version", 7, "version", func(r []eventstore.Recorded) []eventstore.Recorded { r[5].Version = 2; return r }},
		{"type", 5, "type", func(r []eventstore.Recorded) []eventstore.Recorded { r[3].Type = "x"; return r }},
		{"schema", 5, "schema", func(r []eventstore.Recorded) []eventstore.Recorded { r[3].Schema = 2; return r }},
		{"tags", 4, "tags", func(r []eventstore.Recorded) []eventstore.Recorded { r[2].Tags = nil; return r }},
		{"metadata", 4, "metadata", func(r []eventstore.Recorded) []eventstore.Recorded { r[2].Meta = nil; return r }},
		{"payload", 2, "payloads", func(r []eventstore.Recorded) []eventstore.Recorded { r[0].Data = []byte(`{"title": "Emma"}`); return r }},
		{"time", 6, "recorded", func(r []eventstore.Recorded) []eventstore.Recorded { r[4].RecordedAt = r[3].RecordedAt; return r }},
		{"an append more", 4, "appends", func(r []eventstore.Recorded) []eventstore.Recorded {
			r[2].Append, r[3].Append = 3, 3
			return r
		}},
		{"an append less", 6, "appends", func(r []eventstore.Recorded) []eventstore.Recorded { r[4].Append = 2; return r }},
		{"the archive ends within an append", 5, "goes on in the store", func(r []eventstore.Recorded) []eventstore.Recorded { return r[:3] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := library(t)
			var changed bytes.Buffer
			w := archive.NewWriter(&changed)
			for _, r := range c.change(append([]eventstore.Recorded{}, original...)) {
				require.NoError(t, w.Write(r))
			}
			_, err := w.End()
			require.NoError(t, err)

			summary, err := archive.Import(t.Context(), s, &changed)
			var diverged *archive.DivergedError
			require.ErrorAs(t, err, &diverged)
			require.Equal(t, c.line, diverged.Line, "%v", err)
			require.ErrorContains(t, diverged, c.says)
			require.Zero(t, summary.Added)
			same(t, original, log(t, s))
		})
	}
	t.Run("the first event", func(t *testing.T) {
		other := memory.New()
		_, err := other.Append(t.Context(), []eventstore.Event{event("book-1", 1, "book.added", `{}`)})
		require.NoError(t, err)
		_, err = archive.Import(t.Context(), other, bytes.NewReader(export(t, library(t))))
		require.ErrorContains(t, err, "archive line 2 and the store's event at position 1 are different histories")
	})
	t.Run("the store ends within an append", func(t *testing.T) {
		s := memory.New()
		_, err := s.Restore(t.Context(), 0, original[:3])
		require.NoError(t, err)
		_, err = archive.Import(t.Context(), s, bytes.NewReader(export(t, library(t))))
		var diverged *archive.DivergedError
		require.ErrorAs(t, err, &diverged)
		require.Equal(t, archive.DivergedError{Line: 5, Reason: "the append goes on in the archive"}, *diverged)
		require.ErrorContains(t, err, "the end of the store")
	})
	t.Run("a store that has gone on is left as it is", func(t *testing.T) {
		s := library(t)
		file := export(t, s)
		_, err := s.Append(t.Context(), []eventstore.Event{event("book-42", 4, "book.lent", `{}`)})
		require.NoError(t, err)
		summary, err := archive.Import(t.Context(), s, bytes.NewReader(file))
		require.NoError(t, err)
		require.Zero(t, summary.Added)
		require.Len(t, log(t, s), 7)
	})
}

func TestAnAppendDuringAnImportEndsIt(t *testing.T) {
	s := &restores{Store: memory.New()}
	s.before = func() {
		_, err := s.Append(t.Context(), []eventstore.Event{event("book-9", 1, "book.added", `{}`)})
		require.NoError(t, err)
	}
	summary, err := archive.Import(t.Context(), s, bytes.NewReader(export(t, library(t))))
	require.ErrorIs(t, err, eventstore.ErrConflict)
	require.ErrorContains(t, err, "somebody else writes")
	require.Zero(t, summary.Added)
	require.Len(t, log(t, s), 1)
}

func TestAnImportWhoseOutcomeIsUnknownSaysWhatToDo(t *testing.T) {
	s := &restores{Store: memory.New(), err: eventstore.OutcomeUnknown(errors.New("connection lost"))}
	summary, err := archive.Import(t.Context(), s, bytes.NewReader(export(t, library(t))))
	require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	require.ErrorContains(t, err, "import again to go on")
	require.Zero(t, summary.Added)
}

func TestAnArchiveThatIsNoHistoryIsRefused(t *testing.T) {
	records := read(t, export(t, library(t)))
	line := func(n int) eventstore.Recorded { return records[n-2] }
	other := line(2)
	other.ID, other.Version = id("book-42", 99), 3
	again := line(2)
	again.Version = 2
	joined := again
	joined.Append = line(2).Append
	numbered := func(stream string, version uint64) eventstore.Recorded {
		r := line(2)
		r.ID, r.Stream, r.Version = id(stream, int(version)), stream, version
		return r
	}
	for _, c := range []struct {
		name    string
		records []eventstore.Recorded
		line    int
		kind    error
	}{
		{"a version is missing", []eventstore.Recorded{line(2), other}, 3, eventstore.ErrConflict},
		{"a version is missing that another stream has", []eventstore.Recorded{
			numbered("a", 1), numbered("a", 2), numbered("a", 3), numbered("b", 1), numbered("b", 3),
		}, 6, eventstore.ErrConflict},
		{"it begins within a stream", []eventstore.Recorded{line(6)}, 2, eventstore.ErrConflict},
		{"an ID twice", []eventstore.Recorded{line(2), withAppend(again, 7)}, 3, eventstore.ErrInvalid},
		{"an ID twice in an append", []eventstore.Recorded{line(2), joined}, 3, eventstore.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			w := archive.NewWriter(&b)
			for _, r := range c.records {
				require.NoError(t, w.Write(r))
			}
			_, err := w.End()
			require.NoError(t, err)
			s := memory.New()
			_, err = archive.Import(t.Context(), s, &b)
			require.ErrorIs(t, err, c.kind)
			var at *archive.LineError
			require.ErrorAs(t, err, &at)
			require.Equal(t, c.line, at.Line, "%v", err)
			require.Empty(t, log(t, s))
		})
	}
	t.Run("an ID twice, batches apart", func(t *testing.T) {
		var b bytes.Buffer
		w := archive.NewWriter(&b)
		for n := range 1500 {
			r := line(2)
			r.Version, r.Append = uint64(n+1), eventstore.Position(n+1)
			if n > 0 && n != 1400 {
				r.ID = id("book-42", 100+n)
			}
			require.NoError(t, w.Write(r))
		}
		_, err := w.End()
		require.NoError(t, err)
		s := memory.New()
		summary, err := archive.Import(t.Context(), s, &b)
		require.ErrorIs(t, err, eventstore.ErrDuplicate)
		var at *archive.LineError
		require.ErrorAs(t, err, &at)
		require.Equal(t, 1402, at.Line)
		require.Equal(t, 1000, summary.Added, "what earlier batches brought in stays")
	})
}

func withAppend(r eventstore.Recorded, first eventstore.Position) eventstore.Recorded {
	r.Append = first
	return r
}

func TestOnlyARestorerImports(t *testing.T) {
	plain := struct{ eventstore.Store }{memory.New()}
	_, err := archive.Import(t.Context(), plain, bytes.NewReader(export(t, library(t))))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "Restorer")
}

func TestAnImportEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := archive.Import(ctx, memory.New(), bytes.NewReader(export(t, library(t))))
	require.ErrorIs(t, err, context.Canceled)
}

// payloads are JSON values as people and programs write them.
var payloads = rapid.Custom(func(t *rapid.T) string {
	space := rapid.SampledFrom([]string{"", "", " ", "\n", "\t", "\r\n"})
	text := rapid.Custom(func(t *rapid.T) string {
		return `"` + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			"a", "é", `\n`, `\u00e9`, `\/`, `\"`, "\u2028", "<", "\U0001f600", `\\`, "\u007f", `\u0000`,
		}), 0, 6).Draw(t, "text"), "") + `"`
	})
	var value func(depth int) string
	value = func(depth int) string {
		pad := func(s string) string { return space.Draw(t, "before") + s + space.Draw(t, "after") }
		switch kind := rapid.IntRange(0, 5).Draw(t, "kind"); {
		case kind == 0 && depth > 0:
			return pad("{" + pad(`"a"`) + ":" + value(depth-1) + "," + pad(`"b"`) + ":" + value(depth-1) + "}")
		case kind == 1 && depth > 0:
			return pad("[" + value(depth-1) + "," + value(depth-1) + "]")
		case kind == 2:
			return pad(rapid.SampledFrom([]string{"0", "-0", "1.50", "1e400", "123456789012345678901234567890", "null", "true"}).Draw(t, "plain"))
		default:
			return pad(text.Draw(t, "string"))
		}
	}
	return value(3)
})

func TestEveryHistoryComesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := memory.New(memory.WithClock(clock()))
		name := rapid.StringN(1, 20, 100).Filter(func(s string) bool { return !strings.Contains(s, "\x00") })
		for range rapid.IntRange(0, 5).Draw(rt, "appends") {
			var events []eventstore.Event
			for range rapid.IntRange(1, 4).Draw(rt, "events") {
				e := eventstore.Event{
					ID:     uuid.Must(uuid.FromBytes(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "id"))),
					Stream: rapid.OneOf(rapid.SampledFrom([]string{"book-1", "book-2"}), name).Draw(rt, "stream"),
					Type:   name.Draw(rt, "type"), Schema: rapid.IntRange(1, 3).Draw(rt, "schema"),
					Tags: rapid.SliceOfNDistinct(name, 0, 3, rapid.ID).Draw(rt, "tags"),
					Data: []byte(payloads.Draw(rt, "data")),
				}
				if rapid.Bool().Draw(rt, "has metadata") {
					e.Meta = []byte(`{"a":` + payloads.Draw(rt, "meta") + `}` + rapid.SampledFrom([]string{"", "\n"}).Draw(rt, "end"))
				}
				events = append(events, e)
			}
			if _, err := s.Append(t.Context(), events); errors.Is(err, eventstore.ErrDuplicate) || errors.Is(err, eventstore.ErrInvalid) {
				rt.Skip("an ID twice, or zero")
			} else if err != nil {
				rt.Fatal(err)
			}
		}
		var file, again bytes.Buffer
		_, err := archive.Export(t.Context(), &file, s, eventstore.Query{})
		require.NoError(rt, err)
		other := memory.New()
		_, err = archive.Import(t.Context(), other, bytes.NewReader(file.Bytes()))
		require.NoError(rt, err)
		_, err = archive.Export(t.Context(), &again, other, eventstore.Query{})
		require.NoError(rt, err)
		require.Equal(rt, file.String(), again.String())
		same(rt, log(t, s), log(t, other))
	})
}
