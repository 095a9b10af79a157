package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

const (
	formatName    = "rollforward.archive"
	formatVersion = 1

	header  = `{"format":"rollforward.archive","version":1}`
	trailer = `{"end":` // how the last line begins, and no other

	timeLayout = "2006-01-02T15:04:05.000000Z"
)

// maxLine is the greatest length of a line in bytes. A payload doubles at most
// as a JSON string: the control characters that JSON has outside of its strings
// all have a short escape. In names a control character becomes \u00XX.
const maxLine = 2*(eventstore.MaxData+eventstore.MaxMeta) +
	6*(eventstore.MaxStream+eventstore.MaxType+eventstore.MaxTags*(eventstore.MaxTag+1)) + 1024

// appendEvent appends the line of r, without its newline. first is the ID of
// the first event of its append, or uuid.Nil if r is that. r has been checked.
func appendEvent(b []byte, r *eventstore.Recorded, first uuid.UUID) []byte {
	b = append(append(b, `{"id":"`...), r.ID.String()...)
	b = quote(append(b, `","stream":`...), r.Stream)
	b = strconv.AppendUint(append(b, `,"version":`...), r.Version, 10)
	b = quote(append(b, `,"type":`...), r.Type)
	b = strconv.AppendInt(append(b, `,"schema":`...), int64(r.Schema), 10)
	for i, tag := range r.Tags {
		if i == 0 {
			b = append(b, `,"tags":[`...)
		} else {
			b = append(b, ',')
		}
		b = quote(b, tag)
	}
	if len(r.Tags) > 0 {
		b = append(b, ']')
	}
	if first != uuid.Nil {
		b = append(append(append(b, `,"append":"`...), first.String()...), '"')
	}
	b = r.RecordedAt.UTC().AppendFormat(append(b, `,"recorded_at":"`...), timeLayout)
	b = append(b, '"')
	if len(r.Meta) > 0 {
		b = appendBytes(b, "meta", r.Meta)
	}
	b = appendBytes(b, "data", r.Data)
	return append(b, '}')
}

func appendBytes(b []byte, field string, value []byte) []byte {
	b = append(append(b, `,"`...), field...)
	if verbatim(value) {
		return append(append(b, `":`...), value...)
	}
	return quote(append(b, `_text":`...), value)
}

// verbatim reports whether value, which is JSON, can stand in a line as it is.
func verbatim(value []byte) bool {
	const space = " \t\r\n"
	return len(value) > 0 && bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 &&
		strings.IndexByte(space, value[0]) < 0 && strings.IndexByte(space, value[len(value)-1]) < 0
}

func quote[T string | []byte](b []byte, text T) []byte {
	b, _ = jsontext.AppendQuote(b, text) // fails for invalid UTF-8 only, which check has refused
	return b
}

func appendTrailer(b []byte, events int, digest []byte) []byte {
	b = strconv.AppendInt(append(b, `{"end":{"events":`...), int64(events), 10)
	return append(hex.AppendEncode(append(b, `,"sha256":"`...), digest), `"}}`...)
}

// check returns why an archive cannot hold r, or nil.
func check(r *eventstore.Recorded) error {
	if err := eventstore.Validate([]eventstore.Event{r.Event}, nil); err != nil {
		var input *eventstore.InputError
		if errors.As(err, &input) {
			input.Field = strings.TrimPrefix(input.Field, "events[0].")
			return input
		}
		return err
	}
	if r.Version == 0 {
		return &eventstore.InputError{Field: "version", Rule: "versions count from 1"}
	}
	at := r.RecordedAt.UTC()
	if at.IsZero() || at.Year() < 1 || at.Year() > 9999 || at.Nanosecond()%1000 != 0 {
		return &eventstore.InputError{Field: "recorded_at", Rule: "whole microseconds in the years 1 to 9999"}
	}
	return nil
}

// group is the append in which the last event stands.
type group struct {
	first  uuid.UUID
	events int
	bytes  int
}

// start begins an append with r.
func (g *group) start(r *eventstore.Recorded) { *g = group{first: r.ID, events: 1, bytes: r.Size()} }

// join adds r to the append. It fails where that would grow beyond the limits
// and could never be restored as one.
func (g *group) join(r *eventstore.Recorded) error {
	g.events++
	g.bytes += r.Size()
	if g.events > eventstore.MaxEvents {
		return &eventstore.InputError{Field: "append", Rule: "events an append", Size: g.events, Limit: eventstore.MaxEvents}
	}
	if g.bytes > eventstore.MaxAppend {
		return &eventstore.InputError{Field: "append", Rule: "bytes an append", Size: g.bytes, Limit: eventstore.MaxAppend}
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// parseHeader returns nil if line is the header of an archive of this format.
func parseHeader(line []byte) error {
	if string(line) == header {
		return nil
	}
	if bytes.HasSuffix(line, []byte("\r")) {
		return malformed("its lines end with CR LF: keep the file as Export wrote it (in git: *.jsonl -text)")
	}
	var h struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(line, &h); err != nil || h.Format != formatName {
		return malformed("it does not begin with the line %s", header)
	}
	if h.Version > formatVersion {
		return fmt.Errorf("%w: %d, this program reads up to %d: upgrade it", eventstore.ErrNewerFormat, h.Version, formatVersion)
	}
	return malformed("the header is not %s", header)
}

// parseEvent returns the event of a line, and the "append" of it or uuid.Nil.
// That the line is canonical is for the caller to see.
func parseEvent(line []byte) (eventstore.Recorded, uuid.UUID, error) {
	var l struct {
		ID         string         `json:"id"`
		Stream     string         `json:"stream"`
		Version    uint64         `json:"version"`
		Type       string         `json:"type"`
		Schema     int            `json:"schema"`
		Tags       []string       `json:"tags"`
		Append     string         `json:"append"`
		RecordedAt string         `json:"recorded_at"`
		Meta       jsontext.Value `json:"meta"`
		MetaText   string         `json:"meta_text"`
		Data       jsontext.Value `json:"data"`
		DataText   string         `json:"data_text"`
	}
	fail := func(format string, args ...any) (eventstore.Recorded, uuid.UUID, error) {
		return eventstore.Recorded{}, uuid.Nil, malformed(format, args...)
	}
	if err := json.Unmarshal(line, &l, json.RejectUnknownMembers(true)); err != nil {
		return fail("%v", err)
	}
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"id", l.ID == ""}, {"stream", l.Stream == ""}, {"version", l.Version == 0}, {"type", l.Type == ""},
		{"schema", l.Schema == 0}, {"recorded_at", l.RecordedAt == ""}, {"data", len(l.Data) == 0 && l.DataText == ""},
	} {
		if f.missing {
			return fail("field %q is missing", f.name)
		}
	}
	id, err := uuid.Parse(l.ID)
	if err != nil {
		return fail("field \"id\": %v", err)
	}
	first := uuid.Nil
	if l.Append != "" {
		if first, err = uuid.Parse(l.Append); err != nil || first == uuid.Nil {
			return fail("field \"append\" is not the ID of an event")
		}
	}
	at, err := time.Parse(timeLayout, l.RecordedAt)
	if err != nil {
		return fail("field \"recorded_at\": %v", err)
	}
	r := eventstore.Recorded{
		Event: eventstore.Event{
			ID: id, Stream: l.Stream, Type: l.Type, Schema: l.Schema, Tags: l.Tags, Data: l.Data, Meta: l.Meta,
		},
		Version: l.Version, RecordedAt: at.UTC(),
	}
	if l.DataText != "" {
		r.Data = []byte(l.DataText)
	}
	if l.MetaText != "" {
		r.Meta = []byte(l.MetaText)
	}
	return r, first, nil
}

// parseTrailer returns what the last line says.
func parseTrailer(line []byte) (events int, digest string, err error) {
	var l struct {
		End struct {
			Events int    `json:"events"`
			SHA256 string `json:"sha256"`
		} `json:"end"`
	}
	if err := json.Unmarshal(line, &l, json.RejectUnknownMembers(true)); err != nil {
		return 0, "", malformed("%v", err)
	}
	sum, err := hex.DecodeString(l.End.SHA256)
	if err != nil || len(sum) != sha256.Size || !bytes.Equal(appendTrailer(nil, l.End.Events, sum), line) {
		return 0, "", malformed("the trailer is not as Export writes it")
	}
	return l.End.Events, l.End.SHA256, nil
}
