package cmdb

import (
	"errors"
	"fmt"
	"strings"
)

// The rules that deltas are checked by. Programs go by their names, which stay.
const (
	ruleMalformed       = "delta-malformed"     // it cannot be meant: no such operation, a field is missing, too long or not used
	ruleTooMany         = "too-many-deltas"     // more than MaxDeltas, or more than MaxDeltaBytes
	ruleUnknownCI       = "unknown-ci"          // there never was such a CI
	ruleExists          = "ci-exists"           // it is there already
	ruleRetired         = "ci-retired"          // it was there, and ended
	ruleUnknownClass    = "unknown-class"       //
	ruleAbstract        = "abstract-class"      // no CI is of this very class
	ruleUnknownAttr     = "unknown-attribute"   // the class has none of that name
	ruleRequired        = "attribute-required"  // a value is missing, or taken away
	ruleType            = "attribute-type"      // not a value of its type in canonical form
	ruleEnum            = "attribute-enum"      // not one of its words
	ruleUnique          = "attribute-unique"    // another living CI has this value
	rulePrecondition    = "precondition-failed" // the value before is another one
	ruleNoChange        = "no-change"           // the value before is the value after
	ruleUnknownRelation = "unknown-relation"    //
	ruleRelated         = "relation-exists"     //
	ruleUnrelated       = "relation-missing"    //
	ruleSelf            = "self-relation"       //
)

// Limits of the deltas that are checked together.
const (
	MaxDeltas     = 1_000
	MaxDeltaBytes = 512 << 10 // of all their texts; half of what an event can hold
	maxAttributes = 200       // of a CI that is added
	maxName       = 128       // bytes of the name of a class, an attribute, a relation type or a source
)

// Problem is one precondition or rule that a delta breaks.
type Problem struct {
	Delta  int    // index
	Rule   string // "unknown-ci", "precondition-failed", ...
	CI     string
	Reason string // what is: `version of db-01 is "16", not "15"`
	Remedy string // what to do
}

func (p Problem) String() string {
	return fmt.Sprintf("delta %d: %s: %s: %s", p.Delta, p.Rule, p.Reason, p.Remedy)
}

// Check returns what stands in the way of deltas, taken in order, on the graph
// as it stands: nothing if they can be decided. A delta sees what those before
// it did, also where they have problems of their own. It costs what the deltas
// name.
func (g *Graph) Check(deltas []Delta) []Problem {
	if p, ok := tooMany(deltas); ok {
		return []Problem{p}
	}
	draft := newDraft(g)
	var problems []Problem
	for i, d := range deltas {
		for _, p := range draft.take(d) {
			p.Delta, p.CI = i, d.CI
			problems = append(problems, p)
		}
	}
	return problems
}

func tooMany(deltas []Delta) (Problem, bool) {
	if len(deltas) > MaxDeltas {
		return Problem{
			Delta: MaxDeltas, Rule: ruleTooMany, CI: deltas[MaxDeltas].CI,
			Reason: fmt.Sprintf("there are %d deltas, of at most %d", len(deltas), MaxDeltas),
			Remedy: "divide them",
		}, true
	}
	size := 0
	for i, d := range deltas {
		if size += d.size(); size > MaxDeltaBytes {
			return Problem{
				Delta: i, Rule: ruleTooMany, CI: clip(d.CI),
				Reason: fmt.Sprintf("the deltas up to this one have more than %d bytes", MaxDeltaBytes),
				Remedy: "divide them",
			}, true
		}
	}
	return Problem{}, false
}

// size is about what d takes in an event.
func (d Delta) size() int {
	n := 32 + len(d.CI) + len(d.Class) + len(d.Attribute) + len(d.Before) + len(d.After) + len(d.Relation) + len(d.To)
	for name, v := range d.Attributes {
		n += 8 + len(name) + len(v)
	}
	return n
}

// Validate returns nil if d can be meant, whatever the graph is like: it has an
// operation, what that needs and nothing else, within the limits.
func (d Delta) Validate() error {
	used := Delta{Op: d.Op, CI: d.CI}
	switch d.Op {
	case OpAdd:
		used.Class, used.Attributes = d.Class, d.Attributes
	case OpSet:
		used.Attribute, used.Before, used.After = d.Attribute, d.Before, d.After
	case OpRetire:
	case OpRelate, OpUnrelate:
		used.Relation, used.To = d.Relation, d.To
	default:
		return fmt.Errorf("the operation is one of %s, not %q", quoted([]string{string(OpAdd), string(OpSet), string(OpRetire), string(OpRelate), string(OpUnrelate)}), clip(string(d.Op)))
	}
	if used.Class != d.Class || len(used.Attributes) != len(d.Attributes) || used.Attribute != d.Attribute ||
		used.Before != d.Before || used.After != d.After || used.Relation != d.Relation || used.To != d.To {
		return fmt.Errorf("it has a field that %q does not use", d.Op)
	}
	if err := CheckID(d.CI); err != nil {
		return err
	}
	switch d.Op {
	case OpAdd:
		if err := checkName("class", d.Class); err != nil {
			return err
		}
		if len(d.Attributes) > maxAttributes {
			return fmt.Errorf("a CI is added with at most %d attributes, not %d", maxAttributes, len(d.Attributes))
		}
		for _, name := range sortedKeys(d.Attributes) {
			if err := checkName("attribute", name); err != nil {
				return err
			}
			if err := checkText(d.Attributes[name]); err != nil {
				return fmt.Errorf("attribute %q: %w", name, err)
			}
			if d.Attributes[name] == "" {
				return fmt.Errorf("attribute %q is given without a value: leave it out", name)
			}
		}
	case OpSet:
		if err := checkName("attribute", d.Attribute); err != nil {
			return err
		}
		for _, text := range []string{d.Before, d.After} {
			if err := checkText(text); err != nil {
				return fmt.Errorf("attribute %q: %w", d.Attribute, err)
			}
		}
	case OpRelate, OpUnrelate:
		if err := checkName("relation", d.Relation); err != nil {
			return err
		}
		if err := CheckID(d.To); err != nil {
			return fmt.Errorf("to: %w", err)
		}
	}
	return nil
}

func checkText(text string) error {
	if len(text) > MaxValue {
		return fmt.Errorf("a value has at most %d bytes, not %d", MaxValue, len(text))
	}
	if !plain(text, "\t\n") {
		return errors.New("a value is valid UTF-8 without control characters")
	}
	return nil
}

// checkName checks the name of a class, an attribute, a relation type or a source.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s is empty", what)
	case len(name) > maxName:
		return fmt.Errorf("%s has at most %d bytes, not %d", what, maxName, len(name))
	case !plain(name, "") || strings.TrimSpace(name) != name:
		return fmt.Errorf("%s is valid UTF-8 without control characters and does not begin or end with space, as %q does", what, name)
	}
	return nil
}

// clip shortens what a caller gave for an error.
func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
