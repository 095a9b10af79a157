package archive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/memory"
)

var update = flag.Bool("update", false, "write the golden archive anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// id returns the same ID for the same place in the same stream.
func id(stream string, n int) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s@%d", stream, n))
}

func event(stream string, n int, typ, data string) eventstore.Event {
	return eventstore.Event{ID: id(stream, n), Stream: stream, Type: typ, Schema: 1, Data: []byte(data)}
}

// clock ticks 90 seconds and a bit at every append.
func clock() func() time.Time {
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	return func() time.Time {
		at = at.Add(90*time.Second + time.Microsecond)
		return at
	}
}

// library returns a store with four appends, one of three events in two streams.
func library(t testing.TB) *memory.Store {
	t.Helper()
	s := memory.New(memory.WithClock(clock()))
	t.Cleanup(func() { s.Close() })
	lent := event("book-42", 2, "book.lent", `{"to": "ann",  "days":14.0}`)
	lent.Tags = []string{"reader:ann", "shelf:\"A\"\u2028"}
	lent.Meta = []byte(`{"actor":"librarian-1"}`)
	counted := event("shelf-A", 2, "shelf.counted", "{\n  \"books\": 1e400\n}")
	counted.Meta = []byte("{\"reason\":\"stock\\u002dtaking\"}\n")
	for _, events := range [][]eventstore.Event{
		{event("book-42", 1, "book.added", `{"title":"Emma"}`)},
		{event("shelf-A", 1, "shelf.filled", `null`), lent, counted},
		{event("book-42", 3, "book.returned", ` {} `)},
		{event("book-7", 1, "book.added", `{"title":"Über < > & \ud83d\ude00"}`)},
	} {
		_, err := s.Append(t.Context(), events)
		require.NoError(t, err)
	}
	return s
}

func export(t testing.TB, s eventstore.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := archive.Export(t.Context(), &b, s, eventstore.Query{})
	require.NoError(t, err)
	return b.Bytes()
}

func read(t testing.TB, file []byte) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for r, err := range archive.Read(bytes.NewReader(file)) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

func log(t testing.TB, s eventstore.Store) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for r, err := range s.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

// same compares what an archive keeps: all but the difference of nil and empty.
func same(t require.TestingT, want, got []eventstore.Recorded) {
	require.Len(t, got, len(want))
	for i := range want {
		require.True(t, want[i].Equal(got[i].Event), "event %d:\nwant %s\ngot  %s", i, want[i].Data, got[i].Data)
		w, g := want[i], got[i]
		w.Event, g.Event = eventstore.Event{}, eventstore.Event{}
		require.Equal(t, w, g, "event %d", i)
	}
}

func TestTheFormatsBytesAreFixed(t *testing.T) {
	const golden = "testdata/library.jsonl"
	file := export(t, library(t))
	if *update {
		require.NoError(t, os.WriteFile(golden, file, 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), string(file))
	for line := range strings.Lines(string(file)) {
		require.True(t, json.Valid([]byte(line)), "another JSON library reads %s", line)
	}
}

func TestAnArchiveIsTheHistory(t *testing.T) {
	s := library(t)
	file := export(t, s)
	same(t, log(t, s), read(t, file))

	summary, err := archive.Check(bytes.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, 6, summary.Events)
	require.Len(t, summary.SHA256, 64)
	require.Contains(t, string(file), summary.SHA256)
}

func TestAnEmptyHistoryIsAnArchive(t *testing.T) {
	file := export(t, memory.New())
	require.Equal(t, 2, bytes.Count(file, []byte("\n")))
	summary, err := archive.Import(t.Context(), memory.New(), bytes.NewReader(file))
	require.NoError(t, err)
	require.Zero(t, summary.Events)
}

func TestBytesAreKept(t *testing.T) {
	deep := strings.Repeat("[", eventstore.MaxDepth) + strings.Repeat("]", eventstore.MaxDepth)
	for name, data := range map[string]string{
		"null":              `null`,
		"a string":          `"x"`,
		"an empty string":   `""`,
		"a number":          `0.10`,
		"a huge number":     `{"n":1e400,"m":-0,"k":123456789012345678901234567890,"j":1E+2}`,
		"inner space":       `{ "a" : [ 1 , 2 ] }`,
		"tabs inside":       "{\t\"a\":\t1}",
		"a leading space":   ` {"a":1}`,
		"a trailing space":  `{"a":1} `,
		"a leading tab":     "\t1",
		"a trailing return": "1\r",
		"pretty-printed":    "{\n  \"a\": 1,\r\n\t\"b\": [\n  ]\n}\n",
		"order of fields":   `{"b":1,"a":2}`,
		"escapes":           `{"a":"\u0041\/\u00e9\n\\\"\u0000"}`,
		"escapes, broken":   "{\"a\":\"\\u0041\\/\\n\\\\\\\"\\u0000\",\n\"b\":\"\u2028\"}",
		"separators":        "{\"a\":\"\u2028\u2029\u0085\"}",
		"HTML":              `{"a":"<b>&amp;</b>"}`,
		"DEL and beyond":    "\"\u007f\u0080\U0010ffff\"",
		"looks like a line": `{"end":{"events":0,"sha256":""}}`,
		"deepest":           deep,
		"deepest, broken":   deep + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := memory.New()
			e := event("book-1", 1, "book.noted", data)
			if data[0] == '{' {
				e.Meta = []byte(data)
			}
			_, err := s.Append(t.Context(), []eventstore.Event{e})
			require.NoError(t, err)
			file := export(t, s)
			require.Equal(t, 3, bytes.Count(file, []byte("\n")))
			require.Zero(t, bytes.Count(file, []byte("\r")))
			same(t, log(t, s), read(t, file))

			other := memory.New()
			_, err = archive.Import(t.Context(), other, bytes.NewReader(file))
			require.NoError(t, err)
			require.Equal(t, string(file), string(export(t, other)))
		})
	}
}

func TestTheGreatestEventPasses(t *testing.T) {
	tags := make([]string, eventstore.MaxTags)
	for i := range tags {
		tags[i] = string([]byte{byte(14 + i/8), byte(14 + i%8)}) + strings.Repeat("\x01", eventstore.MaxTag-2)
	}
	e := eventstore.Event{
		ID: id("greatest", 1), Stream: strings.Repeat("\x02", eventstore.MaxStream), Type: strings.Repeat("\x03", eventstore.MaxType),
		Schema: 1<<31 - 1, Tags: tags,
		Data: []byte("1" + strings.Repeat("\n", eventstore.MaxData-1)),
		Meta: []byte("{}" + strings.Repeat("\t", eventstore.MaxMeta-2)),
	}
	s := memory.New()
	_, err := s.Append(t.Context(), []eventstore.Event{e})
	require.NoError(t, err)
	same(t, log(t, s), read(t, export(t, s)))

	var b bytes.Buffer
	w := archive.NewWriter(&b)
	r := log(t, s)[0]
	require.NoError(t, w.Write(r))
	r.ID, r.Version = id("greatest", 2), math.MaxUint64 // the longest line there is
	require.NoError(t, w.Write(r))
	_, err = w.End()
	require.NoError(t, err)
	require.Equal(t, r.Event, read(t, b.Bytes())[1].Event)
}

func TestAWriterTakesWhatComesFromElsewhere(t *testing.T) {
	sound := read(t, export(t, library(t)))
	for _, c := range []struct {
		name   string
		change func(i int, r *eventstore.Recorded)
	}{
		{"other zones", func(i int, r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.In(time.FixedZone("", 3600*(i-3))) }},
		{"no positions", func(_ int, r *eventstore.Recorded) { r.Position = 0 }},
		{"appends from 1", func(_ int, r *eventstore.Recorded) { r.Append-- }},
		{"appends in any order", func(_ int, r *eventstore.Recorded) { r.Append = 100 - r.Append }},
	} {
		var want, got bytes.Buffer
		for b, change := range map[*bytes.Buffer]func(int, *eventstore.Recorded){&want: func(int, *eventstore.Recorded) {}, &got: c.change} {
			w := archive.NewWriter(b)
			for i, r := range sound[1:] { // an append of three is the first
				change(i, &r)
				require.NoError(t, w.Write(r))
			}
			_, err := w.End()
			require.NoError(t, err)
		}
		require.Equal(t, want.String(), got.String(), c.name)
	}
}

func TestTheFirstAndTheLastTimePass(t *testing.T) {
	records := read(t, export(t, library(t)))[:2]
	records[0].RecordedAt = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
	records[1].RecordedAt = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	var b bytes.Buffer
	w := archive.NewWriter(&b)
	for _, r := range records {
		require.NoError(t, w.Write(r))
	}
	_, err := w.End()
	require.NoError(t, err)
	same(t, records, read(t, b.Bytes()))
}

// What counts in an append are names, tags, payload and metadata.
func TestAWriterCountsAllPartsOfAnAppend(t *testing.T) {
	tags := make([]string, eventstore.MaxTags)
	for i := range tags {
		tags[i] = fmt.Sprintf("%0*d", eventstore.MaxTag, i)
	}
	for part, fill := range map[string]func(*eventstore.Recorded){
		"metadata": func(r *eventstore.Recorded) {
			r.Meta = []byte("{}" + strings.Repeat(" ", eventstore.MaxMeta-2))
		},
		"tags":   func(r *eventstore.Recorded) { r.Tags = tags },
		"stream": func(r *eventstore.Recorded) { r.Stream = strings.Repeat("s", eventstore.MaxStream) },
		"type":   func(r *eventstore.Recorded) { r.Type = strings.Repeat("t", eventstore.MaxType) },
	} {
		w := archive.NewWriter(io.Discard)
		var err error
		written, size := 0, 0
		for n := 1; err == nil; n++ {
			r := eventstore.Recorded{Event: event("s", n, "t", "1"), Version: uint64(n), Append: 1, RecordedAt: time.Unix(0, 0).UTC()}
			fill(&r)
			if n <= 3 {
				r.Data = []byte("1" + strings.Repeat(" ", eventstore.MaxData-1))
			} else if n == 4 {
				r.Data = []byte("1" + strings.Repeat(" ", eventstore.MaxData-300_000))
			}
			size += len(r.Stream) + len(r.Type) + len(r.Data) + len(r.Meta)
			for _, tag := range r.Tags {
				size += len(tag)
			}
			if err = w.Write(r); err == nil {
				written = size
			}
		}
		require.ErrorIs(t, err, eventstore.ErrTooLarge, part)
		require.LessOrEqual(t, written, eventstore.MaxAppend, part)
		var input *eventstore.InputError
		require.ErrorAs(t, err, &input)
		if input.Limit == eventstore.MaxAppend {
			require.Equal(t, size, input.Size, part)
			require.Greater(t, size, eventstore.MaxAppend, part)
		}
	}
}

func TestASelectionHoldsWholeStreams(t *testing.T) {
	s := library(t)
	var b bytes.Buffer
	_, err := archive.Export(t.Context(), &b, s, eventstore.Query{Prefix: "shelf-"})
	require.NoError(t, err)
	part := memory.New()
	summary, err := archive.Import(t.Context(), part, bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	require.Equal(t, archive.Summary{Events: 2, Added: 2, SHA256: summary.SHA256}, summary)
	require.Equal(t, b.String(), string(export(t, part)))

	for _, q := range []eventstore.Query{{Types: []string{"book.lent"}}, {Tags: []string{"reader:ann"}}, {After: 1}, {Limit: 1}} {
		_, err := archive.Export(t.Context(), io.Discard, s, q)
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		require.ErrorContains(t, err, "whole streams")
	}
}

func TestAWriterRefusesWhatAReaderWould(t *testing.T) {
	sound := read(t, export(t, library(t)))[0]
	for name, damage := range map[string]func(*eventstore.Recorded){
		"version 0":           func(r *eventstore.Recorded) { r.Version = 0 },
		"no ID":               func(r *eventstore.Recorded) { r.ID = uuid.Nil },
		"bad UTF-8":           func(r *eventstore.Recorded) { r.Stream = "\xff" },
		"no JSON":             func(r *eventstore.Recorded) { r.Data = []byte("{") },
		"too deep":            func(r *eventstore.Recorded) { r.Data = bytes.Repeat([]byte("["), 101) },
		"tag twice":           func(r *eventstore.Recorded) { r.Tags = []string{"a", "a"} },
		"nanoseconds":         func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.Add(1) },
		"a tenth of a micro":  func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.Add(100) },
		"a year before 1":     func(r *eventstore.Recorded) { r.RecordedAt = time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC) },
		"a five-digit year":   func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.AddDate(9000, 0, 0) },
		"metadata, no object": func(r *eventstore.Recorded) { r.Meta = []byte("[]") },
	} {
		t.Run(name, func(t *testing.T) {
			r := sound
			damage(&r)
			w := archive.NewWriter(io.Discard)
			require.ErrorIs(t, w.Write(r), eventstore.ErrInvalid)
			require.ErrorIs(t, w.Write(sound), eventstore.ErrInvalid, "an error is final")
			_, err := w.End()
			require.ErrorIs(t, err, eventstore.ErrInvalid)
		})
	}
	t.Run("an append beyond the limits", func(t *testing.T) {
		w := archive.NewWriter(io.Discard)
		for i := range eventstore.MaxEvents + 1 {
			r := sound
			r.ID, r.Version = id("book-42", i+1), uint64(i+1)
			err := w.Write(r)
			require.Equal(t, i == eventstore.MaxEvents, errors.Is(err, eventstore.ErrTooLarge), "%v", err)
		}
	})
	t.Run("more after the end", func(t *testing.T) {
		w := archive.NewWriter(io.Discard)
		_, err := w.End()
		require.NoError(t, err)
		require.Error(t, w.Write(sound))
		_, err = w.End()
		require.Error(t, err)
	})
}

// full is a writer on a disk of so many bytes.
type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, eventstore.ErrStorageFull
	}
	return len(p), nil
}

func TestExportSaysWhyItFailed(t *testing.T) {
	disk := full(100)
	_, err := archive.Export(t.Context(), &disk, library(t), eventstore.Query{})
	require.ErrorIs(t, err, eventstore.ErrStorageFull)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = archive.Export(ctx, io.Discard, library(t), eventstore.Query{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestReadingGoesOnWhereItStopped(t *testing.T) {
	seq := archive.Read(bytes.NewReader(export(t, library(t))))
	n := 0
	for range seq {
		if n++; n == 2 {
			break
		}
	}
	for r, err := range seq {
		require.NoError(t, err)
		n++
		require.EqualValues(t, n, r.Position)
	}
	require.Equal(t, 6, n)
}

func TestTheWriterRefusesAnEventThatNamesNoAppend(t *testing.T) {
	w := archive.NewWriter(io.Discard)
	err := w.Write(eventstore.Recorded{Event: event("book-42", 1, "book.added", `{}`), Version: 1, RecordedAt: time.Unix(1, 0)})
	var input *eventstore.InputError
	require.ErrorAs(t, err, &input)
	require.Equal(t, "append", input.Field)
}
