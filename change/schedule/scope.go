package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore/command"
)

// Scope says what a window is about: everything, or whatever satisfies each field
// that is set by one of its values. So classes [database] with environments
// [production, staging] is the databases of these two; what else is meant goes
// into a window of its own. A scope that says nothing matches nothing, and is
// refused.
type Scope struct {
	Everything   bool     `json:"everything,omitzero"`   // alone
	Classes      []string `json:"classes,omitzero"`      // and what is derived from them
	CIs          []string `json:"cis,omitzero"`          // IDs
	Tags         []string `json:"tags,omitzero"`         // one of them is enough
	Environments []string `json:"environments,omitzero"` // of the CI, or deployed to
	Models       []string `json:"models,omitzero"`       // of the change, or processes of the release
}

// Subject is what a scope may match: one CI, as a change of one model works on
// it. Fields that are empty are unknown or do not apply, and match no value.
type Subject struct {
	CI          string
	Classes     []string // its class and all above it
	Tags        []string
	Environment string
	Model       string
}

// Matches reports whether x is in s.
func (s Scope) Matches(x Subject) bool {
	if s.Everything {
		return true
	}
	if s.empty() {
		return false
	}
	return oneOf(s.CIs, x.CI) && oneOf(s.Classes, x.Classes...) && oneOf(s.Tags, x.Tags...) &&
		oneOf(s.Environments, x.Environment) && oneOf(s.Models, x.Model)
}

// oneOf reports whether wanted says nothing, or has one of these.
func oneOf(wanted []string, has ...string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(has, func(h string) bool { return h != "" && slices.Contains(wanted, h) })
}

func (s Scope) empty() bool {
	return !s.Everything && len(s.Classes) == 0 && len(s.CIs) == 0 && len(s.Tags) == 0 && len(s.Environments) == 0 && len(s.Models) == 0
}

// String returns s in a few words: "classes database, environments production or staging".
func (s Scope) String() string {
	if s.Everything {
		return "everything"
	}
	var parts []string
	for _, f := range s.fields() {
		if len(f.values) > 0 {
			parts = append(parts, f.name+" "+strings.Join(f.values, " or "))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

type scopeField struct {
	name   string
	values []string
}

func (s Scope) fields() []scopeField {
	return []scopeField{{"classes", s.Classes}, {"cis", s.CIs}, {"tags", s.Tags}, {"environments", s.Environments}, {"models", s.Models}}
}

// check returns what is wrong with s, in a field of this name.
func (s Scope) check(field string) []command.Refusal {
	var faults []command.Refusal
	if s.empty() {
		faults = append(faults, malformed("scope-required", field, "it says nothing, so that the window would be about nothing", "name classes, CIs, tags, environments or models, or say everything"))
	}
	if named := (Scope{Classes: s.Classes, CIs: s.CIs, Tags: s.Tags, Environments: s.Environments, Models: s.Models}); s.Everything && !named.empty() {
		faults = append(faults, malformed("everything-and-more", field, "it says everything, and "+named.String(), "leave out one of the two"))
	}
	for _, f := range s.fields() {
		if slices.Contains(f.values, "") {
			faults = append(faults, malformed("empty-value", field+"."+f.name, "one of its values is empty", "leave it out"))
		}
		if n := len(f.values); n > maxScope {
			faults = append(faults, malformed("too-many", field+"."+f.name, fmt.Sprintf("it has %d values, more than %d", n, maxScope), "name a class, a tag or an environment instead"))
		}
	}
	return faults
}

// maxScope is how many values a field of a scope may have, since each is looked
// at for every subject.
const maxScope = 1000
