package spec

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// The short form of an event: words, then JSON from the first that begins with
// a brace. The last two words are stream and type; so what stands before them
// is told apart by its form, whatever streams are called.
//
//	line  = blank | "#" anything | ["+"] [time] [actor ":"] stream type ["@" schema] object
var (
	payloadStart = regexp.MustCompile(`(?:^|[ \t])\{`)
	schemaSuffix = regexp.MustCompile(`^(.+)@([1-9][0-9]*)$`)
)

// short is one line in short form.
type short struct {
	joined bool      // to the append of the line before
	at     time.Time // zero where it names none
	actor  string
	event  eventstore.Event // without ID and tags
}

func parseShort(text string) (short, error) {
	brace := payloadStart.FindStringIndex(text)
	if brace == nil {
		return short{}, fmt.Errorf("there is no payload: a line ends with a JSON object, {} at least")
	}
	open := brace[1] - 1
	words := strings.Fields(text[:open])
	if len(words) < 2 {
		return short{}, fmt.Errorf("before the payload stand a stream and a type")
	}
	l := short{event: eventstore.Event{Stream: words[len(words)-2], Type: words[len(words)-1], Schema: 1, Data: []byte(text[open:])}}
	if m := schemaSuffix.FindStringSubmatch(l.event.Type); m != nil {
		schema, err := strconv.Atoi(m[2])
		if err != nil {
			return short{}, fmt.Errorf("schema %s is too great", m[2])
		}
		l.event.Type, l.event.Schema = m[1], schema
	}
	words = words[:len(words)-2]
	if len(words) > 0 && words[0] == "+" {
		l.joined, words = true, words[1:]
	}
	if len(words) > 0 && !strings.HasSuffix(words[0], ":") {
		at, err := time.Parse("2006-01-02T15:04:05Z", words[0])
		if err != nil || at.Nanosecond()%1000 != 0 {
			return short{}, fmt.Errorf("%q is neither a time such as 2026-03-01T09:00:00Z, with at most 6 decimals, nor an actor, which ends with a colon", words[0])
		}
		if l.joined {
			return short{}, fmt.Errorf("a line that joins an append by + has its time: leave it out")
		}
		l.at, words = at, words[1:]
	}
	if len(words) > 0 && len(words[0]) > 1 && strings.HasSuffix(words[0], ":") {
		l.actor, words = strings.TrimSuffix(words[0], ":"), words[1:]
	}
	if len(words) > 0 {
		return short{}, fmt.Errorf("%q is one word too many: [+] [time] [actor:] stream type[@schema] {json}", words[0])
	}
	return l, nil
}

// readShort reads a section in short form that begins behind so many lines of
// the file.
func (h *History) readShort(content []byte, before int) {
	h.t.Helper()
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	versions := map[string]uint64{}
	var group []eventstore.Recorded // the append so far
	endGroup := func(line int) {
		h.t.Helper()
		if err := eventstore.ValidateRestore(group); len(group) > 0 && err != nil {
			h.fail(line, "no store would take the append that ends here: %v", err)
		}
		group = group[:0]
	}
	line := before
	for text := range bytes.Lines(content) {
		line++
		text = bytes.TrimSpace(text)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		l, err := parseShort(string(text))
		if err != nil {
			h.fail(line, "%v", err)
		}
		switch {
		case l.joined && len(h.all) == 0:
			h.fail(line, "the first event joins no append: leave out the +")
		case !l.joined && !l.at.IsZero():
			at = l.at
		case !l.joined && len(h.all) > 0:
			at = at.Add(time.Second)
		}
		e := l.event
		versions[e.Stream]++
		e.ID = eventID(e.Stream, versions[e.Stream])
		if e.Meta, err = (eventstore.Metadata{Actor: l.actor}).Encode(); err != nil {
			h.fail(line, "%v", err)
		}
		r := eventstore.Recorded{
			Event: e, Version: versions[e.Stream], Position: eventstore.Position(len(h.all) + 1), RecordedAt: at,
		}
		// Tags need the payload, which needs an event that is valid without them.
		if err := eventstore.Validate([]eventstore.Event{e}, nil); err != nil {
			h.fail(line, "no store would take this event: %v", err)
		}
		tagged, err := h.registry.Encode(e.ID, h.decode(entry{r, line}))
		if err != nil {
			h.fail(line, "%v", err)
		}
		r.Tags = tagged.Tags
		if !l.joined && len(group) > 0 {
			endGroup(h.all[len(h.all)-1].line)
		}
		if r.Append = r.Position; l.joined {
			r.Append = group[0].Append
		}
		group = append(group, r)
		h.all = append(h.all, entry{r, line})
	}
	endGroup(line)
}
