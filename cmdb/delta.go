package cmdb

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore"
)

// Op is what a delta does.
type Op string

// The operations of a delta.
const (
	OpAdd      Op = "add"      // CI with Class and Attributes comes to be
	OpSet      Op = "set"      // Attribute of CI goes from Before to After; empty is not set
	OpRetire   Op = "retire"   // CI ends; its relations rest
	OpRelate   Op = "relate"   // CI stands in Relation to To
	OpUnrelate Op = "unrelate" // it no longer does
)

// Delta is one change to the graph. It states what must be so before: a CI that
// is added is not there, an attribute that is set has the value Before, a
// relation that ends is there. Fields that an operation does not use are zero.
type Delta struct {
	Op         Op                `json:"op"`
	CI         string            `json:"ci"`
	Class      string            `json:"class,omitzero"`
	Attributes map[string]string `json:"attributes,omitzero"`
	Attribute  string            `json:"attribute,omitzero"`
	Before     string            `json:"before,omitzero"`
	After      string            `json:"after,omitzero"`
	Relation   string            `json:"relation,omitzero"`
	To         string            `json:"to,omitzero"`
}

// Add makes a CI of a class.
func Add(ci, class string, attributes ...Attribute) Delta {
	d := Delta{Op: OpAdd, CI: ci, Class: class}
	for _, a := range attributes {
		if d.Attributes == nil {
			d.Attributes = map[string]string{}
		}
		d.Attributes[a.Name] = a.Value
	}
	return d
}

// Set gives an attribute another value; before is the one it has, empty for none,
// and after empty takes it away.
func Set(ci, attribute, before, after string) Delta {
	return Delta{Op: OpSet, CI: ci, Attribute: attribute, Before: before, After: after}
}

// Retire ends a CI.
func Retire(ci string) Delta { return Delta{Op: OpRetire, CI: ci} }

// Relate says that ci stands in a relation to another: "shop", "depends on", "db-01".
func Relate(ci, relation, to string) Delta {
	return Delta{Op: OpRelate, CI: ci, Relation: relation, To: to}
}

// Unrelate says that it no longer does.
func Unrelate(ci, relation, to string) Delta {
	return Delta{Op: OpUnrelate, CI: ci, Relation: relation, To: to}
}

// Carried is what an event tells the CMDB.
type Carried struct {
	Deltas []Delta // what happened, in order
	Cause  string  // to what it is put down: a change's ID, a source, empty for by hand
}

// Carrier is the payload of an event that may carry deltas. Its Tags must have
// [CarrierTag] whenever it carries any, so that a program which does not know
// the type stops instead of folding a wrong graph; see [Tags].
type Carrier interface {
	CMDB() Carried
}

// CarrierTag is the tag of every event that carries deltas.
const CarrierTag = "cmdb"

// maxTags leaves room for the other tags of an event.
const maxTags = eventstore.MaxTags - 16

// Tags returns the tags of an event that carries deltas: CarrierTag, and "ci:ID"
// for each CI they name, in their order, up to 48 tags, so that an event has
// room for others. None for none.
func Tags(deltas []Delta) []string {
	if len(deltas) == 0 {
		return nil
	}
	tags := []string{CarrierTag}
	add := func(ci string) {
		if tag := "ci:" + ci; len(tags) < maxTags && CheckID(ci) == nil && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	for _, d := range deltas {
		add(d.CI)
		add(d.To)
	}
	return tags
}

// MaxID is the limit of a CI's ID, in bytes.
const MaxID = 200

// CheckID returns an error unless id can be the ID of a CI: 1 to MaxID bytes of
// valid UTF-8 without control characters, and without space at either end.
func CheckID(id string) error {
	switch {
	case id == "":
		return errors.New("the ID of a CI is not empty")
	case len(id) > MaxID:
		return fmt.Errorf("the ID of a CI has at most %d bytes, not %d", MaxID, len(id))
	case !plain(id, ""):
		return fmt.Errorf("the ID of a CI is valid UTF-8 without control characters, not %q", id)
	case strings.TrimSpace(id) != id:
		return fmt.Errorf("the ID of a CI does not begin or end with space, as %q does", id)
	}
	return nil
}
