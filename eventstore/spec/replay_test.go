package spec_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/spec"
)

var update = flag.Bool("update", false, "write testdata/library.jsonl anew from library.txtar")

const library = "testdata/library.txtar"

// write makes a history of another content.
func write(t testing.TB, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
	return file
}

func read(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(content)
}

func TestTheShortFormSaysWhatIsInAnArchive(t *testing.T) {
	h := spec.Replay(t, library, registry)
	var b bytes.Buffer
	_, err := archive.Export(t.Context(), &b, h.Store(), eventstore.Query{})
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("testdata/library.jsonl", b.Bytes(), 0o644))
	}
	require.Equal(t, read(t, "testdata/library.jsonl"), b.String())

	inside := write(t, "a.txtar", "a comment\n-- events.jsonl --\n"+b.String()+"-- state/book-7@1.json --\n"+
		`{"title":"Persuasion","lentTo":"","until":"0001-01-01T00:00:00Z","loans":0}`+"\n")
	for _, file := range []string{"testdata/library.jsonl", inside} {
		other := spec.Replay(t, file, registry)
		require.Equal(t, slices.Collect(h.Records()), slices.Collect(other.Records()))
	}
	spec.CheckStates(spec.Replay(t, inside, registry), lending, "")
}

func TestTheShortForm(t *testing.T) {
	type (
		note     struct{ N string }
		newer    struct{ N string }
		versions struct{ N string }
		colon    struct{ N string }
	)
	same := func(from int) eventstore.Upcaster {
		return eventstore.Upcast(from, func(c colon) (colon, error) { return c, nil })
	}
	notes, err := eventstore.NewRegistry(
		eventstore.Type[note]("noted", 1), eventstore.Type[newer]("noted@0", 1), eventstore.Type[versions]("noted@2", 1),
		eventstore.Type[colon]("ann:", 3, same(1), same(2)),
	)
	require.NoError(t, err)
	lines := strings.Join([]string{
		"-- events --",
		"  # a comment, and an empty line",
		"",
		`book-42 noted {"N":"Emma"}`,
		"+ + noted {}",
		"  2026-03-01T09:00:00.000001Z\t 2026-03-01T09:00:00Z  noted {\"N\": \"{ \\\" }\"} \t",
		`+ ann: bob: ann:@3 { "N" : " { " }`,
		"a{b} noted@0 {}",
		"a#b noted@2@1 {}",
	}, "\n")
	var got []string
	for r := range spec.Replay(t, write(t, "a.txtar", lines), notes).Records() {
		m, err := eventstore.DecodeMetadata(r.Meta)
		require.NoError(t, err)
		require.EqualValues(t, 5, r.ID.Version())
		got = append(got, fmt.Sprintf("%d %d %s %q %q %d %q %d %s", r.Position, r.Append,
			r.RecordedAt.Format(time.RFC3339Nano), m.Actor, r.Stream, r.Version, r.Type, r.Schema, r.Data))
	}
	require.Equal(t, []string{
		`1 1 2000-01-01T00:00:00Z "" "book-42" 1 "noted" 1 {"N":"Emma"}`,
		`2 1 2000-01-01T00:00:00Z "" "+" 1 "noted" 1 {}`,
		`3 3 2026-03-01T09:00:00.000001Z "" "2026-03-01T09:00:00Z" 1 "noted" 1 {"N": "{ \" }"}`,
		`4 3 2026-03-01T09:00:00.000001Z "ann" "bob:" 1 "ann:" 3 { "N" : " { " }`,
		`5 5 2026-03-01T09:00:01.000001Z "" "a{b}" 1 "noted@0" 1 {}`,
		`6 6 2026-03-01T09:00:02.000001Z "" "a#b" 1 "noted@2" 1 {}`,
	}, got)
}

func TestTagsAreThoseOfThePayload(t *testing.T) {
	h := spec.Replay(t, library, registry)
	var bobs []uint64
	for r, err := range h.Store().Read(t.Context(), eventstore.Query{Tags: []string{"reader:bob"}}) {
		require.NoError(t, err)
		bobs = append(bobs, uint64(r.Position))
	}
	require.Equal(t, []uint64{3, 6}, bobs, "the upcast one as well")
}

func TestPoints(t *testing.T) {
	h := spec.Replay(t, library, registry)
	at := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		return at
	}
	for _, c := range []struct {
		name string
		h    *spec.History
		len  int
	}{
		{"all", h, 6},
		{"none", h.To(0), 0},
		{"forward again", h.To(0).To(6), 6},
		{"a time between", h.ToTime(at("2026-03-05T00:00:00Z")), 3},
		{"the very time", h.ToTime(at("2026-03-09T16:00:00.25Z")), 4},
		{"just before", h.ToTime(at("2026-03-09T16:00:00.249999Z")), 3},
		{"before everything", h.ToTime(time.Time{}), 0},
		{"after everything", h.ToTime(at("2027-01-01T00:00:00Z")), 6},
		{"a version", h.ToVersion("book-42", 3), 4},
		{"the first of an append", h.ToVersion("book-42", 1), 1},
		{"before a type", h.Before("book.lent"), 2},
		{"before the first", h.Before("book.added"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := c.h.In(t)
			require.Equal(t, c.len, h.Len())
			require.Len(t, slices.Collect(h.Records()), c.len)
			store := h.Store()
			head, err := store.Head(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, c.len, head)
			if c.len == 6 {
				require.Equal(t, 2, spec.State(h, lending, "book-42").Loans)
			}
		})
	}
	for n := range h.Records() { // a point moves no other
		require.NotZero(t, n.Position)
		break
	}
	require.Equal(t, 6, h.Len())
}

func TestHistoryCannotBeChangedByATest(t *testing.T) {
	h := spec.Replay(t, library, registry)
	h.Feed(spoiler{})
	for r := range h.Records() {
		require.NoError(t, spoiler{}.Apply(r))
	}
	require.Equal(t, slices.Collect(spec.Replay(t, library, registry).Records()), slices.Collect(h.Records()))
}

// spoiler is a projection that writes over what it is given.
type spoiler struct{}

func (spoiler) Apply(r eventstore.Recorded) error {
	clear(r.Data)
	clear(r.Meta)
	clear(r.Tags)
	return nil
}

func TestAStoreIsClosedWhenItsTestEnds(t *testing.T) {
	var store eventstore.Store
	require.Empty(t, outcome(t, func(t testing.TB) {
		store = spec.Replay(t, library, registry).Store()
		_, err := store.Head(t.Context())
		require.NoError(t, err)
	}))
	_, err := store.Head(t.Context())
	require.ErrorIs(t, err, eventstore.ErrClosed)
}

func TestATestGoesOnFromAHistory(t *testing.T) {
	store := spec.Replay(t, library, registry).Before("book.returned").Store()
	records, err := eventstore.Update(t.Context(), store, registry, func(tx *eventstore.Tx) error {
		_, err := lending.Do(tx, "book-42", Return{By: "bob"})
		return err
	})
	require.NoError(t, err)
	require.EqualValues(t, 3, records[0].Version)
	require.EqualValues(t, 4, records[0].Position)
}

// loans is a projection that knows loans only.
type loans struct {
	count int
	limit int
}

func (l *loans) Apply(r eventstore.Recorded) error {
	if r.Type == "book.lent" {
		if l.count++; l.count > l.limit {
			return errors.New("too many loans")
		}
	}
	return nil
}

func TestAProjectionIsFedUpToAPoint(t *testing.T) {
	l := &loans{limit: 3}
	h := spec.Replay(t, library, registry)
	h.To(5).Feed(l)
	require.Equal(t, 2, l.count)

	said := outcome(t, func(t testing.TB) { h.In(t).Feed(&loans{limit: 1}) })
	require.Contains(t, said, library+":12: *spec_test.loans cannot apply book.lent: too many loans")
}

func TestAHistoryThatCannotBeReadFails(t *testing.T) {
	jsonl := read(t, "testdata/library.jsonl")
	lines := strings.SplitAfter(jsonl, "\n")
	short := func(lines ...string) string { return "-- events --\n" + strings.Join(lines, "\n") + "\n" }
	const added = `book-42 book.added {"title":"Emma"}`
	for _, c := range []struct {
		name, file, content string
		says                string // behind the file's name
	}{
		{"another kind of file", "a.json", "{}", ": a history is an archive"},
		{"an empty archive", "a.jsonl", "", ":1: archive is cut off"},
		{"a cut archive", "a.jsonl", jsonl[:len(jsonl)/2], ":5: archive is cut off"},
		{"an archive without trailer", "a.jsonl", strings.Join(lines[:7], ""), ":8: archive is cut off"},
		{"an edited archive", "a.jsonl", strings.Replace(jsonl, "Emma", "Anna", 1), ":8: archive is altered"},
		{"a bad line", "a.jsonl", strings.Replace(jsonl, `"version":1,`, "", 1), ":2: malformed archive"},
		{"a cut archive inside", "a.txtar", "comment\n\n-- events.jsonl --\n" + jsonl[:len(jsonl)-1] + "x\n", ":11: "},

		{"no section", "a.txtar", "book-42 book.added {}\n", ": there is no section"},
		{"two histories", "a.txtar", short(added) + short(added), ":3: there is a section \"events\" already"},
		{"an unknown section", "a.txtar", short(added) + "-- notes --\n", ":3: section \"notes\" is unknown"},
		{"a state without version", "a.txtar", short(added) + "-- state/book-42.json --\n", ":3: section"},
		{"a state of no stream", "a.txtar", short(added) + "-- state/@1.json --\n", ":3: section"},
		{"a state that is no JSON", "a.txtar", short(added) + "-- state/book-42@1 --\n", ":3: section"},
		{"a stream that is no state", "a.txtar", short(added) + "-- book-42@1.json --\n", ":3: section"},
		{"a state at version 0", "a.txtar", short(added) + "-- state/book-42@0.json --\n", ":3: section"},
		{"a state at version 01", "a.txtar", short(added) + "-- state/book-42@01.json --\n", ":3: section"},
		{"no events", "a.txtar", short("# nothing"), ": the history has no events"},

		{"no payload", "a.txtar", short(added, "book-42 book.added"), ":3: there is no payload"},
		{"a payload that is no object", "a.txtar", short("book-42 book.added 1"), ":2: there is no payload"},
		{"no stream", "a.txtar", short(`book.added {}`), ":2: before the payload"},
		{"nothing but a payload", "a.txtar", short(`{}`), ":2: before the payload"},
		{"half a payload", "a.txtar", short(`book-42 book.added {"title":`), ":2: no store would take this event"},
		{"more behind a payload", "a.txtar", short(added + " x"), ":2: no store would take this event"},
		{"a word too many", "a.txtar", short("2026-03-01T09:00:00Z ann: x " + added), `:2: "x" is one word too many`},
		{"an actor without colon", "a.txtar", short("ann " + added), `:2: "ann" is neither a time`},
		{"another zone", "a.txtar", short("2026-03-01T09:00:00+01:00 " + added), ":2: "},
		{"nanoseconds", "a.txtar", short("2026-03-01T09:00:00.000000001Z " + added), ":2: "},
		{"a day only", "a.txtar", short("2026-03-01 " + added), ":2: "},
		{"an actor before the time", "a.txtar", short("ann: 2026-03-01T09:00:00Z " + added), ":2: "},
		{"a colon alone", "a.txtar", short(": " + added), ":2: "},
		{"joining nothing", "a.txtar", short("+ " + added), ":2: the first event joins no append"},
		{"joining at another time", "a.txtar", short(added, "+ 2026-03-01T09:00:00Z "+added), ":3: a line that joins"},
		{"an append too long", "a.txtar", short(added + strings.Repeat("\n+ "+added, 1000)), ":1002: no store would take the append that ends here"},

		{"an append too long, and another", "a.txtar", short(added+strings.Repeat("\n+ "+added, 1000), "# then", "", added), ":1002: no store would take the append that ends here"},

		{"a type that is not registered", "a.txtar", short(added, "book-42 book.burnt {}"), ":3: decode event"},
		{"a future schema", "a.txtar", short("book-42 book.added@2 {}"), ":2: decode event"},
		{"a schema far too great", "a.txtar", short("book-42 book.added@99999999999999999999 {}"), ":2: schema"},
		{"a payload of another shape", "a.txtar", short(`book-42 book.added {"title":1}`), ":2: decode event"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := write(t, c.file, c.content)
			said := outcome(t, func(t testing.TB) { spec.Replay(t, file, registry) })
			require.NotEmpty(t, said, "it passed")
			require.True(t, strings.HasPrefix(said, file+c.says), "want %s%s\ngot  %s", file, c.says, said)
		})
	}
	said := outcome(t, func(t testing.TB) { spec.Replay(t, "testdata/none.txtar", registry) })
	require.Contains(t, said, "no such file")
}

// altered is library.jsonl after a change, with a trailer that fits.
func altered(t *testing.T, change func([]eventstore.Recorded) []eventstore.Recorded) string {
	var records []eventstore.Recorded
	for r := range spec.Replay(t, library, registry).Records() {
		records = append(records, r)
	}
	var b bytes.Buffer
	w := archive.NewWriter(&b)
	for _, r := range change(records) {
		require.NoError(t, w.Write(r))
	}
	_, err := w.End()
	require.NoError(t, err)
	return write(t, "altered.jsonl", b.String())
}

func TestAnArchiveThatIsNoHistoryFails(t *testing.T) {
	gap := altered(t, func(r []eventstore.Recorded) []eventstore.Recorded { return slices.Delete(r, 3, 4) })
	require.Contains(t, outcome(t, func(t testing.TB) { spec.Replay(t, gap, registry) }), ":5: stream \"book-42\" is at version 2 here")
	twice := altered(t, func(r []eventstore.Recorded) []eventstore.Recorded { r[5].ID = r[0].ID; return r })
	require.Contains(t, outcome(t, func(t testing.TB) { spec.Replay(t, twice, registry) }), "stands in line 2 already")
	burnt := altered(t, func(r []eventstore.Recorded) []eventstore.Recorded { r[4].Type = "book.burnt"; return r })
	require.Contains(t, outcome(t, func(t testing.TB) { spec.Replay(t, burnt, registry) }), ":6: decode event")
	sound := altered(t, func(r []eventstore.Recorded) []eventstore.Recorded { return r })
	require.Empty(t, outcome(t, func(t testing.TB) { spec.Replay(t, sound, registry) }))
}

func TestAPointThatIsNotThereFails(t *testing.T) {
	h := spec.Replay(t, library, registry)
	for name, f := range map[string]func(h *spec.History){
		"there is no point after 7 events":              func(h *spec.History) { h.To(7) },
		"there is no point after -1 events":             func(h *spec.History) { h.To(-1) },
		`stream "book-42" never stands at version 5`:    func(h *spec.History) { h.ToVersion("book-42", 5) },
		`stream "book-42" never stands at version 0`:    func(h *spec.History) { h.ToVersion("book-42", 0) },
		`there is no event of type "book.burnt"`:        func(h *spec.History) { h.Before("book.burnt") },
		`there is no stream "book-43"`:                  func(h *spec.History) { spec.State(h, lending, "book-43") },
		`library.txtar: there is no stream "shelf-Aah"`: func(h *spec.History) { spec.From(h, lending, "shelf-Aah") },
	} {
		require.Contains(t, outcome(t, func(t testing.TB) { f(h.In(t)) }), name)
	}
}

func TestAFoldThatIsNotDeterministicFails(t *testing.T) {
	clock := eventstore.Decider[Book, any]{Evolve: func(b Book, _ any) Book { b.Until = time.Now(); return b }}
	h := spec.Replay(t, library, registry)
	require.Contains(t, outcome(t, func(t testing.TB) { spec.State(h.In(t), clock, "book-42") }), "Evolve is not deterministic")
}

// moved names the places it is found by, twice where they are the same.
type moved struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func (m moved) Tags() []string { return []string{"place:" + m.From, "place:" + m.To} }

func TestTheShortFormHasTheTagsThatAUnitOfWorkRecords(t *testing.T) {
	registry, err := eventstore.NewRegistry(eventstore.Type[moved]("book.moved", 1))
	require.NoError(t, err)
	h := spec.Replay(t, write(t, "a.txtar", "-- events --\nbook-1 book.moved {\"from\":\"A\",\"to\":\"A\"}\n"), registry)
	for r := range h.Records() {
		require.Equal(t, []string{"place:A"}, r.Tags)
	}
}
