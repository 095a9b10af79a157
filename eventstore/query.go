package eventstore

import (
	"fmt"
	"slices"
	"strings"
)

// Query selects events. Its fields are ANDed, the values within Streams and
// Types are ORed, and all Tags must be present. The zero Query selects the
// whole log.
type Query struct {
	Streams []string // one or several streams by name, complete at once
	Prefix  string   // streams whose name begins so: "change-"
	Types   []string // event types, exact
	Tags    []string // all of them
	After   Position // only what comes later
	Limit   int      // at most so many events; 0 is no limit

	// PayloadsOnly lets a store leave out what state is folded without: Tags and Meta,
	// which cost as much as the payload to copy, Append and RecordedAt. A store may ignore
	// it, also for some of the events.
	PayloadsOnly bool

	// Lend lets a store lend Data, and Meta: they may be overwritten as soon as the next
	// event is asked for, so that whoever keeps them clones them. It spares an allocation
	// where events are decoded one by one. A store may ignore it.
	Lend bool
}

// Validate returns an *InputError if q is outside the limits, else nil.
func (q Query) Validate() error {
	if q.Limit < 0 {
		return &InputError{Field: "query.limit", Rule: "it is 0 or more"}
	}
	if q.Prefix != "" {
		if err := checkName("query.prefix", q.Prefix, MaxStream); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name   string
		values []string
		max    int
	}{{"query.streams", q.Streams, MaxStream}, {"query.types", q.Types, MaxType}, {"query.tags", q.Tags, MaxTag}} {
		if len(f.values) > MaxQuery {
			return &InputError{Field: f.name, Rule: "values", Size: len(f.values), Limit: MaxQuery}
		}
		for i, v := range f.values {
			if err := checkName(fmt.Sprintf("%s[%d]", f.name, i), v, f.max); err != nil {
				return err
			}
		}
	}
	return nil
}

// Match reports whether q selects r, Limit aside.
func (q Query) Match(r Recorded) bool {
	if r.Position <= q.After ||
		!strings.HasPrefix(r.Stream, q.Prefix) ||
		len(q.Streams) > 0 && !slices.Contains(q.Streams, r.Stream) ||
		len(q.Types) > 0 && !slices.Contains(q.Types, r.Type) {
		return false
	}
	for _, tag := range q.Tags {
		if !slices.Contains(r.Tags, tag) {
			return false
		}
	}
	return true
}
