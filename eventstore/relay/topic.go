package relay

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore"
)

// All is the topic of the whole log.
const All = "all"

// ByType is the topic of events of the given types: "type:change.raised,change.started".
func ByType(types ...string) string {
	types = slices.Clone(types)
	slices.Sort(types)
	return "type:" + strings.Join(slices.Compact(types), ",")
}

// ByPrefix is the topic of the streams whose names begin so: "prefix:change-".
func ByPrefix(prefix string) string { return "prefix:" + prefix }

// ByTag is the topic of events that have a tag: "tag:ci:db-01".
func ByTag(tag string) string { return "tag:" + tag }

// Topic returns what a topic selects: "all"; "type:" and event types, with commas
// between; "prefix:" and how stream names begin; "tag:" and one tag.
func Topic(topic string) (eventstore.Query, error) {
	var q eventstore.Query
	kind, value, _ := strings.Cut(topic, ":")
	switch {
	case topic == All:
		return q, nil
	case value == "":
		return q, fmt.Errorf("topic %.300q: want \"all\", \"type:NAME,NAME\", \"prefix:STREAM\" or \"tag:TAG\"", topic)
	case kind == "type":
		q.Types = strings.Split(value, ",")
	case kind == "prefix":
		q.Prefix = value
	case kind == "tag":
		q.Tags = []string{value}
	default:
		return q, fmt.Errorf("topic %.300q: there are no topics by %q: want \"all\", \"type:\", \"prefix:\" or \"tag:\"", topic, kind)
	}
	if err := q.Validate(); err != nil {
		return q, fmt.Errorf("topic %.300q: %w", topic, err)
	}
	return q, nil
}
