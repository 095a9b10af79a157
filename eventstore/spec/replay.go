package spec

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// History is what was recorded up to some point. It is immutable: To, ToTime,
// ToVersion and Before return the same history at another point, counted from
// its first event wherever h stands.
type History struct {
	t        testing.TB
	registry *eventstore.Registry
	file     string
	all      []entry // of the file; it is not changed after Replay
	n        int     // of them up to the point
	goldens  []golden
}

// entry is an event and the line of the file in which it stands.
type entry struct {
	eventstore.Recorded
	line int
}

// Replay reads the history in file and decodes every event of it. What cannot
// be read, or does not decode, or is no history, ends the test. All of it is
// held in memory.
//
// A .jsonl file is an archive, read as strictly as archive.Read does. A .txtar
// file has one section of events, as an archive called "events.jsonl" or in
// short form called "events", and any number of golden states; see
// [CheckStates]. The short form is for people, one event a line:
//
//	-- events --
//	# A line is: [+] [time] [actor:] stream type[@schema] {json}
//	2026-03-01T09:00:00Z ann: book-42 book.added {"title":"Emma"}
//	+ ann: shelf-A shelf.filled {"book":"book-42"}
//	book-42 book.lent@2 {"to":"bob"}
//
// A plus joins the append of the line before. The time is UTC; without one the
// append is a second after the one before, and the first at 2000-01-01T00:00:00Z.
// The schema is 1 if it is not named. Versions are counted, tags are those that
// the payload names, and an ID is derived from stream and version. Names with
// spaces, other tags and other metadata need the archive form.
func Replay(t testing.TB, file string, registry *eventstore.Registry) *History {
	t.Helper()
	h := &History{t: t, registry: registry, file: file}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("read a history: %v", err)
	}
	switch filepath.Ext(file) {
	case ".jsonl":
		h.readArchive(content, 0)
	case ".txtar":
		h.readSections(content)
	default:
		t.Fatalf("%s: a history is an archive, .jsonl, or has sections, .txtar", file)
	}
	if len(h.all) == 0 {
		t.Fatalf("%s: the history has no events: there is nothing to replay", file)
	}
	h.check()
	h.n = len(h.all)
	return h
}

func (h *History) readSections(content []byte) {
	h.t.Helper()
	parsed := txtar.Parse(content)
	line := bytes.Count(parsed.Comment, []byte("\n")) // before the section's marker
	found := ""
	for _, section := range parsed.Files {
		line++
		switch section.Name {
		case "events", "events.jsonl":
			if found != "" {
				h.fail(line, "there is a section %q already: a file is one history", found)
			}
			if found = section.Name; found == "events" {
				h.readShort(section.Data, line)
			} else {
				h.readArchive(section.Data, line)
			}
		default:
			g, err := parseGolden(section.Name)
			if err != nil {
				h.fail(line, "%v", err)
			}
			g.line, g.data = line, section.Data
			h.goldens = append(h.goldens, g)
		}
		line += bytes.Count(section.Data, []byte("\n"))
	}
	if found == "" {
		h.t.Fatalf("%s: there is no section -- events -- and no -- events.jsonl --", h.file)
	}
}

// readArchive reads an archive that begins behind so many lines of the file.
func (h *History) readArchive(content []byte, before int) {
	h.t.Helper()
	line := before + 1 // the header
	for r, err := range archive.Read(bytes.NewReader(content)) {
		if err != nil {
			if at, ok := err.(*archive.LineError); ok {
				h.fail(before+at.Line, "%v", at.Cause)
			}
			h.t.Fatalf("%s: %v", h.file, err)
		}
		line++
		h.all = append(h.all, entry{r, line})
	}
}

// check proves that the events are a history and that the registry knows them.
func (h *History) check() {
	h.t.Helper()
	versions := map[string]uint64{}
	seen := map[uuid.UUID]int{}
	for _, e := range h.all {
		if versions[e.Stream]++; e.Version != versions[e.Stream] {
			h.fail(e.line, "stream %q is at version %d here, but the event has version %d: export whole streams", e.Stream, versions[e.Stream]-1, e.Version)
		}
		if at, twice := seen[e.ID]; twice {
			h.fail(e.line, "event %s stands in line %d already", e.ID, at)
		}
		seen[e.ID] = e.line
		h.decode(e)
	}
}

func (h *History) decode(e entry) any {
	h.t.Helper()
	payload, err := h.registry.Decode(e.Event)
	if err != nil {
		h.fail(e.line, "%v: what was recorded never changes, so this code must read it: register the type, or add an upcaster", err)
	}
	return payload
}

// fail ends the test at a line of the file.
func (h *History) fail(line int, format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s:%d: %s", h.file, line, fmt.Sprintf(format, args...))
}

// In returns the same history, at the same point, for a subtest.
func (h *History) In(t testing.TB) *History {
	other := *h
	other.t = t
	return &other
}

// Len returns how many events there are up to h's point.
func (h *History) Len() int { return h.n }

// To returns the history up to its first n events.
func (h *History) To(n int) *History {
	h.t.Helper()
	if n < 0 || n > len(h.all) {
		h.t.Fatalf("%s: there is no point after %d events: the history has %d", h.file, n, len(h.all))
	}
	other := *h
	other.n = n
	return &other
}

// ToTime returns the history up to a time: what stands before the first event
// that was recorded later. Where a clock went back, order goes before time.
func (h *History) ToTime(at time.Time) *History {
	h.t.Helper()
	n := slices.IndexFunc(h.all, func(e entry) bool { return e.RecordedAt.After(at) })
	if n < 0 {
		n = len(h.all)
	}
	return h.To(n)
}

// ToVersion returns the history up to the event by which stream came to version.
func (h *History) ToVersion(stream string, version uint64) *History {
	h.t.Helper()
	n := h.find(stream, version)
	if n < 0 {
		h.t.Fatalf("%s: stream %q never stands at version %d", h.file, stream, version)
	}
	return h.To(n + 1)
}

// find returns the index of an event, or -1.
func (h *History) find(stream string, version uint64) int {
	return slices.IndexFunc(h.all, func(e entry) bool { return e.Stream == stream && e.Version == version })
}

// Before returns the history before its first event of a type.
func (h *History) Before(typ string) *History {
	h.t.Helper()
	n := slices.IndexFunc(h.all, func(e entry) bool { return e.Type == typ })
	if n < 0 {
		h.t.Fatalf("%s: there is no event of type %q", h.file, typ)
	}
	return h.To(n)
}

// Records yields the events up to h's point. Positions count from 1.
func (h *History) Records() iter.Seq[eventstore.Recorded] {
	return func(yield func(eventstore.Recorded) bool) {
		for _, e := range h.all[:h.n] {
			if !yield(clone(e.Recorded)) {
				return
			}
		}
	}
}

// clone returns r with bytes of its own, so that a test cannot change history.
func clone(r eventstore.Recorded) eventstore.Recorded {
	r.Data, r.Meta, r.Tags = bytes.Clone(r.Data), bytes.Clone(r.Meta), slices.Clone(r.Tags)
	return r
}

// Feed applies the events up to h's point to a fold, such as a projection. An
// error of Apply ends the test at the event.
func (h *History) Feed(fold interface {
	Apply(eventstore.Recorded) error
}) {
	h.t.Helper()
	for _, e := range h.all[:h.n] {
		if err := fold.Apply(clone(e.Recorded)); err != nil {
			h.fail(e.line, "%T cannot apply %s: %v", fold, e.Type, err)
		}
	}
}

// Store returns a store in memory that holds the history up to h's point, with
// positions that count from 1, so that a test can go on from there. An append
// that h's point divides is a shorter one. The store is closed when the test ends.
func (h *History) Store() eventstore.Store {
	h.t.Helper()
	s := memory.New()
	h.t.Cleanup(func() { s.Close() })
	records := slices.Collect(h.Records())
	for len(records) > 0 {
		n := slices.IndexFunc(records, func(r eventstore.Recorded) bool { return r.Append != records[0].Append })
		if n < 0 {
			n = len(records)
		}
		if _, err := s.Restore(h.t.Context(), records[0].Position-1, records[:n]); err != nil {
			h.t.Fatalf("%s: a store with the history: %v", h.file, err)
		}
		records = records[n:]
	}
	return s
}

// State folds a stream up to h's point, and does so twice: if the states differ,
// the test fails. A stream that comes later is the zero S; one that the whole
// history does not have ends the test.
func State[S, C any](h *History, d eventstore.Decider[S, C], stream string) S {
	h.t.Helper()
	return From(h, d, stream).State()
}

// stream returns the events of one stream up to h's point.
func (h *History) stream(name string) []entry {
	h.t.Helper()
	if h.find(name, 1) < 0 {
		h.t.Fatalf("%s: there is no stream %q", h.file, name)
	}
	var entries []entry
	for _, e := range h.all[:h.n] {
		if e.Stream == name {
			entries = append(entries, e)
		}
	}
	return entries
}
