package cmdb

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// The rules that definitions are checked by, beside some of those of deltas.
const (
	ruleDefinition = "definition-malformed" // it cannot be meant
	ruleParent     = "unknown-parent"       //
	ruleLoop       = "parent-loop"          // a class stands below itself
	ruleDeep       = "class-too-deep"       // more than 32 classes stand above it
	ruleRedefined  = "attribute-redefined"  // a class states again what it inherits, with another type or further words
	ruleInUse      = "attribute-in-use"     // living CIs have values that the definition no longer knows
	ruleClassInUse = "class-in-use"         // living CIs are of a class that is to be abstract
	ruleNameTaken  = "relation-name-taken"  // another relation type is read so
)

// DefineClasses defines classes, or defines them anew; what is defined already
// in the same words is left out. They may name each other as parents, in any
// order. Refused is a parent that there is not, a class below itself, and an
// attribute that is inherited with another type or fewer words.
//
// An attribute may go, change its type or lose words only when no living CI has
// a value that would become unknown, and become unique only when no value is
// shared; the values are looked at as they stand at the head of the log. An
// attribute may become required: CIs that lack it stay as they are.
func (s *Service) DefineClasses(ctx context.Context, actor command.Actor, classes ...Class) (command.Done, error) {
	call := command.Call{Actor: actor, Action: ActionDefine, Content: classes}
	if len(classes) == 1 && checkName("class", classes[0].Name) == nil {
		call.Target = classes[0].Name
	}
	d := definitions{kind: "class"}
	for i, c := range classes {
		d.names = append(d.names, c.Name)
		d.malformed = append(d.malformed, c.malformed(i)...)
	}
	d.judge = func(g *Graph) (fresh []any, problems []command.Refusal) {
		for _, c := range classes {
			if old, ok := g.schema.classes[c.Name]; !ok || !old.def.equal(c) {
				fresh = append(fresh, ClassDefined{c})
			}
		}
		return fresh, g.checkClasses(classes)
	}
	return s.define(ctx, call, d)
}

// definitions are what is to be defined: classes, or relation types.
type definitions struct {
	kind      string // the attribute of the objects that rights are asked for
	names     []string
	malformed []command.Refusal // what cannot be meant
	// judge returns the events of those that say something new, and what the graph
	// has against them.
	judge func(g *Graph) (fresh []any, problems []command.Refusal)
}

// define asks, judges and records definitions, all or none.
func (s *Service) define(ctx context.Context, call command.Call, d definitions) (command.Done, error) {
	return s.config.Door.Do(ctx, call, func(tx *command.Tx) error {
		if err := command.Refuse(d.malformed...); err != nil {
			return err
		}
		for _, name := range d.names {
			if err := tx.Authorize(ActionDefine, name, map[string][]string{d.kind: {name}}); err != nil {
				return err
			}
		}
		var fresh []any
		var problems []command.Refusal
		if err := s.atHead(tx, []string{classStream}, func(g *Graph) error {
			fresh, problems = d.judge(g)
			return nil
		}); err != nil {
			return err
		}
		if err := command.Refuse(problems...); err != nil {
			return err
		}
		return tx.Record(classStream, fresh...)
	})
}

// malformed returns why the definition of a class, the i-th that is given, cannot be meant.
func (c Class) malformed(i int) []command.Refusal {
	var all []command.Refusal
	wrong := func(field, format string, args ...any) {
		all = append(all, command.Refusal{
			Kind: command.Malformed, Rule: ruleDefinition, Field: fmt.Sprintf("classes[%d].%s", i, field), Reason: fmt.Sprintf(format, args...), Remedy: "correct the definition",
		})
	}
	if err := checkName("class", c.Name); err != nil {
		wrong("name", "%v", err)
	}
	switch {
	case c.Name == RootClass && c.Parent != "":
		wrong("parent", "class %q stands above all others", RootClass)
	case c.Name != RootClass && c.Parent == "":
		wrong("parent", "class %q has no parent: %q stands above all others", clip(c.Name), RootClass)
	}
	if !plain(c.Title, "") || len(c.Title) > MaxValue {
		wrong("title", "it is valid UTF-8 without control characters of at most %d bytes", MaxValue)
	}
	if len(c.Attributes) > maxAttributes {
		wrong("attributes", "there are %d, of at most %d", len(c.Attributes), maxAttributes)
		return all
	}
	seen := map[string]bool{}
	for j, a := range c.Attributes {
		field := fmt.Sprintf("attributes[%d]", j)
		if err := checkName("attribute", a.Name); err != nil {
			wrong(field+".name", "%v", err)
		}
		if seen[a.Name] {
			wrong(field+".name", "attribute %q stands twice", clip(a.Name))
		}
		seen[a.Name] = true
		if forms[a.Type] == nil {
			wrong(field+".type", "%q is no type: take one of %s", clip(string(a.Type)), quoted(typeNames()))
		}
		if !plain(a.Title, "") || len(a.Title) > MaxValue {
			wrong(field+".title", "it is valid UTF-8 without control characters of at most %d bytes", MaxValue)
		}
		switch {
		case a.Type == TypeEnum && len(a.Enum) == 0:
			wrong(field+".enum", "an enum has words")
		case a.Type != TypeEnum && len(a.Enum) > 0:
			wrong(field+".enum", "only an enum has words")
		case len(a.Enum) > maxAttributes:
			wrong(field+".enum", "there are %d words, of at most %d", len(a.Enum), maxAttributes)
		}
		for _, word := range a.Enum {
			if err := checkName("a word", word); err != nil {
				wrong(field+".enum", "%v", err)
			}
		}
		if len(slices.Compact(slices.Sorted(slices.Values(a.Enum)))) != len(a.Enum) {
			wrong(field+".enum", "a word stands twice")
		}
	}
	return all
}

func typeNames() []string {
	var names []string
	for name := range forms {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

// checkClasses returns what stands in the way of defining classes.
func (g *Graph) checkClasses(classes []Class) []command.Refusal {
	next := schema{classes: maps.Clone(g.schema.classes), relations: g.schema.relations}
	given := map[string]int{}
	var problems []command.Refusal
	refuse := func(class, rule, remedy, format string, args ...any) {
		field := "classes"
		if i, ok := given[class]; ok {
			field = fmt.Sprintf("classes[%d]", i)
		}
		problems = append(problems, command.Refusal{Kind: command.Refused, Rule: rule, Field: field, Reason: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	for i, c := range classes {
		if _, twice := given[c.Name]; twice {
			refuse(c.Name, ruleDefinition, "define it once", "class %q is defined twice", c.Name)
			return problems
		}
		given[c.Name] = i
		next.classes[c.Name] = defined[Class]{eventstore.Position(0), c}
	}
	next.derive()
	for _, c := range classes {
		next.checkLineage(c, refuse)
	}
	if problems != nil {
		return problems // what follows looks at classes with what they inherit
	}
	for _, name := range sortedKeys(next.views) {
		next.checkInherited(name, refuse)
	}
	if problems == nil {
		g.checkValues(&next, refuse)
	}
	return problems
}

type refuseFunc func(class, rule, remedy, format string, args ...any)

// checkLineage refuses a class from which no way leads to the root.
func (s *schema) checkLineage(c Class, refuse refuseFunc) {
	if s.view(c.Name, 0) != nil {
		return
	}
	seen := map[string]bool{}
	for name := c.Name; name != RootClass; name = s.classes[name].def.Parent {
		if _, ok := s.classes[name]; !ok {
			refuse(c.Name, ruleParent, "define it too, or take another parent", "class %q stands below %q, which there is not", c.Name, name)
			return
		}
		if seen[name] {
			refuse(c.Name, ruleLoop, "take another parent", "class %q stands below itself", name)
			return
		}
		seen[name] = true
	}
	refuse(c.Name, ruleDeep, "put it higher up", "more than %d classes stand above class %q", maxLineage, c.Name)
}

// checkInherited refuses a class that states what it inherits in another way.
func (s *schema) checkInherited(name string, refuse refuseFunc) {
	above := map[string]attribute{}
	if name == RootClass {
		for _, a := range inherited {
			above[a.Name] = attribute{AttributeSchema: a}
		}
	} else {
		above = s.views[s.classes[name].def.Parent].attributes
	}
	for _, a := range s.classes[name].def.Attributes {
		old, ok := above[a.Name]
		switch {
		case !ok:
		case old.Type != a.Type:
			refuse(name, ruleRedefined, "give one of them another name", "class %q has attribute %q as %s and inherits it as %s", name, a.Name, a.Type, old.Type)
		default:
			further := slices.DeleteFunc(slices.Clone(a.Enum), func(word string) bool { return slices.Contains(old.Enum, word) })
			if len(further) > 0 {
				refuse(name, ruleRedefined, "take words of those it inherits", "class %q has further words for attribute %q, which it inherits: %s", name, a.Name, quoted(further))
			}
		}
	}
}

// checkValues refuses definitions by which values of living CIs would become
// unknown. It looks at every CI.
func (g *Graph) checkValues(next *schema, refuse refuseFunc) {
	type place struct{ class, attribute string }
	abstract := map[string][]string{} // IDs by class
	lost := map[place][]string{}
	shared := map[place]map[string][]string{} // IDs by value, the class is the scope
	for _, n := range g.nodes {
		was, is := g.schema.class(n.class), next.class(n.class)
		if !n.alive() || was == nil || is == nil {
			continue // a class that is not known says nothing about its CIs
		}
		if is.Abstract && !was.Abstract {
			abstract[n.class] = append(abstract[n.class], n.id)
		}
		for _, a := range n.attributes {
			before, known := was.attributes[a.Name]
			after := is.attributes[a.Name]
			if known && !before.equal(after.AttributeSchema) {
				if form, err := after.Canonical(a.Value); err != nil || form != a.Value {
					at := place{n.class, a.Name}
					lost[at] = append(lost[at], n.id)
					continue
				}
			}
			if after.Unique && before.scope != after.scope {
				at := place{after.scope, a.Name}
				if shared[at] == nil {
					shared[at] = map[string][]string{}
				}
				shared[at][a.Value] = append(shared[at][a.Value], n.id)
			}
		}
	}
	for _, class := range sortedKeys(abstract) {
		refuse(class, ruleClassInUse, "retire them, or leave the class as it is", "of class %q are living CIs: %s", class, someOf(abstract[class]))
	}
	compare := func(a, b place) int {
		return cmp.Or(strings.Compare(a.class, b.class), strings.Compare(a.attribute, b.attribute))
	}
	for _, at := range slices.SortedFunc(maps.Keys(lost), compare) {
		refuse(at.class, ruleInUse, "set or take away these values first",
			"values of %q would no longer be known on CIs of class %q: %s", at.attribute, at.class, someOf(lost[at]))
	}
	for _, at := range slices.SortedFunc(maps.Keys(shared), compare) {
		for _, text := range sortedKeys(shared[at]) {
			if ids := shared[at][text]; len(ids) > 1 {
				refuse(at.class, ruleUnique, "give them different values first", "%q is %q on several CIs: %s", at.attribute, clip(text), someOf(ids))
				break // one value is enough to see it
			}
		}
	}
}

// someOf lists IDs in their order, the first few of many.
func someOf(ids []string) string {
	slices.Sort(ids)
	return quoted(ids)
}

func (c Class) equal(other Class) bool {
	return c.Name == other.Name && c.Parent == other.Parent && c.Title == other.Title && c.Abstract == other.Abstract &&
		slices.EqualFunc(c.Attributes, other.Attributes, AttributeSchema.equal)
}

func (a AttributeSchema) equal(other AttributeSchema) bool {
	return a.Name == other.Name && a.Type == other.Type && a.Title == other.Title && a.Required == other.Required &&
		a.Unique == other.Unique && slices.Equal(a.Enum, other.Enum)
}

// DefineRelations defines relation types, or defines them anew; what is defined
// already in the same words is left out. Refused is a name or an inverse by
// which another type is read.
func (s *Service) DefineRelations(ctx context.Context, actor command.Actor, relations ...RelationType) (command.Done, error) {
	call := command.Call{Actor: actor, Action: ActionDefine, Content: relations}
	if len(relations) == 1 && checkName("relation", relations[0].Name) == nil {
		call.Target = relations[0].Name
	}
	d := definitions{kind: "relation"}
	for i, r := range relations {
		d.names = append(d.names, r.Name)
		d.malformed = append(d.malformed, r.malformed(i)...)
	}
	d.judge = func(g *Graph) (fresh []any, problems []command.Refusal) {
		for _, r := range relations {
			if old, ok := g.schema.relations[r.Name]; !ok || old.def != r {
				fresh = append(fresh, RelationDefined{r})
			}
		}
		return fresh, g.schema.checkRelations(relations)
	}
	return s.define(ctx, call, d)
}

func (r RelationType) malformed(i int) []command.Refusal {
	var reasons []string
	for what, name := range map[string]string{"relation": r.Name, "inverse": r.Inverse} {
		if err := checkName(what, name); err != nil {
			reasons = append(reasons, err.Error())
		}
	}
	slices.Sort(reasons)
	switch r.Impact {
	case Forward, Backward, Both, None:
	default:
		reasons = append(reasons, fmt.Sprintf("impact runs %s, not %q", strings.Join([]string{string(Forward), string(Backward), string(Both), "or " + string(None)}, ", "), clip(string(r.Impact))))
	}
	if r.Pooled && r.Impact == None {
		reasons = append(reasons, "a relation that carries no impact makes no pools")
	}
	var all []command.Refusal
	for _, reason := range reasons {
		all = append(all, command.Refusal{
			Kind: command.Malformed, Rule: ruleDefinition, Field: fmt.Sprintf("relations[%d]", i), Reason: reason, Remedy: "correct the definition",
		})
	}
	return all
}

// checkRelations refuses names by which two types would be read.
func (s *schema) checkRelations(relations []RelationType) []command.Refusal {
	next := map[string]RelationType{}
	for name, d := range s.relations {
		next[name] = d.def
	}
	var problems []command.Refusal
	for i, r := range relations {
		if slices.ContainsFunc(relations[:i], func(other RelationType) bool { return other.Name == r.Name }) {
			problems = append(problems, command.Refusal{
				Kind: command.Refused, Rule: ruleNameTaken, Field: fmt.Sprintf("relations[%d]", i),
				Reason: fmt.Sprintf("relation type %q is defined twice", r.Name), Remedy: "define it once",
			})
		}
		next[r.Name] = r
	}
	for i, r := range relations {
		for _, name := range sortedKeys(next) {
			other := next[name]
			if name == r.Name {
				continue
			}
			for _, read := range []string{r.Name, r.Inverse} {
				if read == other.Name || read == other.Inverse {
					problems = append(problems, command.Refusal{
						Kind: command.Refused, Rule: ruleNameTaken, Field: fmt.Sprintf("relations[%d]", i),
						Reason: fmt.Sprintf("%q is how relation type %q is read", read, other.Name), Remedy: "take another name",
					})
					break
				}
			}
		}
	}
	return problems
}
