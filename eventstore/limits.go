package eventstore

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits of an append, in bytes where nothing else is said. A store checks them
// with [Validate] before any I/O.
const (
	MaxStream = 255      // a stream's name, a checkpoint's
	MaxType   = 128      // an event type
	MaxTag    = 255      // a tag
	MaxTags   = 64       // tags of an event
	MaxData   = 1 << 20  // a payload
	MaxMeta   = 64 << 10 // metadata of an event
	MaxDepth  = 100      // nesting of JSON in a payload or metadata
	MaxEvents = 1_000    // events, and expectations, of an append
	MaxAppend = 4 << 20  // names, tags, payloads and metadata of an append together
	MaxState  = 1 << 29  // state of a checkpoint
	MaxQuery  = 1_000    // values in each field of a Query
)

// Validate checks an append against the limits. It returns nil or an
// *InputError, wrapped as ErrNotApplied. Stores call it before any I/O; its
// cost is one pass over the bytes.
func Validate(events []Event, expect []Expect) error {
	if err := validate(events, expect); err != nil {
		return NotApplied(err)
	}
	return nil
}

func validate(events []Event, expect []Expect) error {
	switch {
	case len(events) == 0:
		return &InputError{Field: "events", Rule: "an append records at least one event"}
	case len(events) > MaxEvents:
		return &InputError{Field: "events", Rule: "events an append", Size: len(events), Limit: MaxEvents}
	case len(expect) > MaxEvents:
		return &InputError{Field: "expect", Rule: "expectations an append", Size: len(expect), Limit: MaxEvents}
	}
	total := 0
	ids := make(map[uuid.UUID]struct{}, len(events))
	for i := range events {
		e := &events[i]
		if err := checkEvent(e); err != nil {
			err.Field = fmt.Sprintf("events[%d].%s", i, err.Field)
			return err
		}
		if _, twice := ids[e.ID]; twice {
			return &InputError{Field: fmt.Sprintf("events[%d].id", i), Rule: "no two events of an append have the same ID"}
		}
		ids[e.ID] = struct{}{}
		total += e.Size()
	}
	if total > MaxAppend {
		return &InputError{Field: "events", Rule: "bytes an append", Size: total, Limit: MaxAppend}
	}
	streams := make(map[string]struct{}, len(expect))
	for i, x := range expect {
		field := fmt.Sprintf("expect[%d].stream", i)
		if err := checkName(field, x.Stream, MaxStream); err != nil {
			return err
		}
		if _, twice := streams[x.Stream]; twice {
			return &InputError{Field: field, Rule: "a stream is expected at one version only"}
		}
		streams[x.Stream] = struct{}{}
	}
	return nil
}

// checkEvent checks one event; the error's Field is relative to it.
func checkEvent(e *Event) *InputError {
	if e.ID == uuid.Nil {
		return &InputError{Field: "id", Rule: "an event has an ID, given once by the caller"}
	}
	if err := checkName("stream", e.Stream, MaxStream); err != nil {
		return err.(*InputError)
	}
	if err := checkName("type", e.Type, MaxType); err != nil {
		return err.(*InputError)
	}
	if e.Schema < 1 || e.Schema > math.MaxInt32 {
		return &InputError{Field: "schema", Rule: "schema versions count from 1"}
	}
	if len(e.Tags) > MaxTags {
		return &InputError{Field: "tags", Rule: "tags an event", Size: len(e.Tags), Limit: MaxTags}
	}
	for i, tag := range e.Tags {
		err := checkName("", tag, MaxTag)
		if err == nil && slices.Contains(e.Tags[:i], tag) {
			err = &InputError{Rule: "no tag stands twice"}
		}
		if err != nil {
			refused := err.(*InputError)
			refused.Field = fmt.Sprintf("tags[%d]", i)
			return refused
		}
	}
	if len(e.Data) > MaxData {
		return &InputError{Field: "data", Rule: "bytes", Size: len(e.Data), Limit: MaxData}
	}
	if err := checkJSON(e.Data); err != nil {
		return &InputError{Field: "data", Rule: err.Error()}
	}
	if len(e.Meta) > MaxMeta {
		return &InputError{Field: "meta", Rule: "bytes", Size: len(e.Meta), Limit: MaxMeta}
	}
	if len(e.Meta) > 0 {
		if err := checkJSON(e.Meta); err != nil {
			return &InputError{Field: "meta", Rule: err.Error()}
		}
		if e.Meta[0] != '{' {
			return &InputError{Field: "meta", Rule: "metadata is a JSON object"}
		}
	}
	return nil
}

// checkName checks the name of a stream, a type, a tag or a checkpoint. It
// returns nil or an *InputError.
func checkName(field, name string, limit int) error {
	switch {
	case name == "":
		return &InputError{Field: field, Rule: "it is not empty"}
	case len(name) > limit:
		return &InputError{Field: field, Rule: "bytes", Size: len(name), Limit: limit}
	case !utf8.ValidString(name):
		return &InputError{Field: field, Rule: "it is valid UTF-8"}
	case strings.IndexByte(name, 0) >= 0:
		return &InputError{Field: field, Rule: "it has no NUL"}
	}
	return nil
}

// ValidateRestore checks the records of Restorer.Restore as Validate does the
// events of an append; beyond that each has a version and an Append from 1, and
// a time in UTC, in whole microseconds, of the years 1 to 9999.
func ValidateRestore(records []Recorded) error {
	events := make([]Event, len(records))
	for i, r := range records {
		events[i] = r.Event
	}
	if err := Validate(events, nil); err != nil {
		return err
	}
	for i, r := range records {
		rule := ""
		switch at := r.RecordedAt; {
		case r.Version == 0:
			rule = "versions count from 1"
		case r.Append == 0:
			rule = "a record names the append it came in"
		case at.IsZero() || at.Location() != time.UTC || !at.Equal(at.Truncate(time.Microsecond)) || at.Year() < 1 || at.Year() > 9999:
			rule = "it is recorded at a UTC time in whole microseconds, of the years 1 to 9999"
		}
		if rule != "" {
			return NotApplied(&InputError{Field: fmt.Sprintf("records[%d]", i), Rule: rule})
		}
	}
	return nil
}
