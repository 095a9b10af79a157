package cmdb

import (
	"github.com/rollforward/rollforward/eventstore"
)

// ClassDefined is recorded in "classes" when a class is defined or defined anew.
// The definition replaces an earlier one of the same name wholly.
type ClassDefined struct {
	Class Class `json:"class"`
}

// Tags makes programs that do not know the type stop, see [CarrierTag].
func (ClassDefined) Tags() []string { return []string{CarrierTag} }

// RelationDefined is recorded in "classes" when a relation type is defined or
// defined anew.
type RelationDefined struct {
	Relation RelationType `json:"relation"`
}

// Tags makes programs that do not know the type stop, see [CarrierTag].
func (RelationDefined) Tags() []string { return []string{CarrierTag} }

// Recorded is recorded in "ci-ID" when somebody records deltas of that CI by hand.
type Recorded struct {
	Deltas []Delta `json:"deltas"`
}

// CMDB implements [Carrier].
func (r Recorded) CMDB() Carried { return Carried{Deltas: r.Deltas} }

// Tags returns the tags of its deltas.
func (r Recorded) Tags() []string { return Tags(r.Deltas) }

// ValueTaken is recorded in the stream of a unique attribute's value, together
// with the Recorded that gives the value to a CI: of two people who give it to
// two CIs at the same instant, one is refused.
type ValueTaken struct {
	Attribute string `json:"attribute"`
	Value     string `json:"value"`
	CI        string `json:"ci"`
}

// Observed is recorded in "source-NAME" when a source reports what differs from
// the graph.
type Observed struct {
	Source string        `json:"source"`
	Items  []ObservedKey `json:"items,omitzero"` // keys that are new to the source
	Gone   []string      `json:"gone,omitzero"`  // keys that it reported before and no longer does
	Deltas []Delta       `json:"deltas,omitzero"`
}

// ObservedKey says by which key a source knows a CI.
type ObservedKey struct {
	Key string `json:"key"`
	CI  string `json:"ci"`
}

// CMDB implements [Carrier]. The cause is the source's stream.
func (o Observed) CMDB() Carried { return Carried{Deltas: o.Deltas, Cause: sourceStream(o.Source)} }

// Tags returns the tags of its deltas, and [CarrierTag] in any case.
func (o Observed) Tags() []string {
	if tags := Tags(o.Deltas); tags != nil {
		return tags
	}
	return []string{CarrierTag}
}

const classStream = "classes"

func ciStream(ci string) string         { return "ci-" + ci }
func sourceStream(source string) string { return "source-" + source }

// Types returns the event types of this package.
func Types() []eventstore.EventType {
	return []eventstore.EventType{
		eventstore.Type[ClassDefined]("cmdb.class-defined", 1),
		eventstore.Type[RelationDefined]("cmdb.relation-defined", 1),
		eventstore.Type[Recorded]("cmdb.recorded", 1),
		eventstore.Type[ValueTaken]("cmdb.value-taken", 1),
		eventstore.Type[Observed]("cmdb.observed", 1),
	}
}
