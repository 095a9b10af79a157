package cmdb

import (
	"fmt"
	"maps"
)

// draft is the graph as it would be after some deltas: what they name lies over
// what is there.
type draft struct {
	g      *Graph
	cis    map[string]*draftCI
	ties   map[draftTie]bool
	gained map[value][]string // CIs that were given a value
}

// draftCI is a CI that deltas name.
type draftCI struct {
	id         string
	known      bool // it is there, or was
	alive      bool
	anew       bool // it began or ended in the draft: relations of the graph are no longer its own
	class      string
	attributes []Attribute
}

type draftTie struct {
	from, relation, to string
}

func newDraft(g *Graph) *draft {
	return &draft{g: g, cis: map[string]*draftCI{}, ties: map[draftTie]bool{}, gained: map[value][]string{}}
}

func (d *draft) ci(id string) *draftCI {
	c := d.cis[id]
	if c == nil {
		c = &draftCI{id: id}
		if n := d.g.nodes[id]; n != nil {
			c.known, c.alive, c.class, c.attributes = len(n.lives) > 0, n.alive(), n.class, n.attributes
		}
		d.cis[id] = c
	}
	return c
}

func (c *draftCI) attribute(name string) string {
	if i, ok := find(c.attributes, name); ok {
		return c.attributes[i].Value
	}
	return ""
}

// take puts a delta over the draft and returns what stands in its way.
func (d *draft) take(delta Delta) []Problem {
	if delta.CI == delta.To && (delta.Op == OpRelate || delta.Op == OpUnrelate) && delta.CI != "" {
		return []Problem{{Rule: ruleSelf, Reason: fmt.Sprintf("%s is to be related to itself", clip(delta.CI)), Remedy: "name another CI"}}
	}
	if err := delta.Validate(); err != nil {
		return []Problem{{Rule: ruleMalformed, Reason: err.Error(), Remedy: remedyMalformed}}
	}
	switch delta.Op {
	case OpAdd:
		return d.add(delta)
	case OpSet:
		return d.set(delta)
	case OpRetire:
		return d.retire(delta)
	}
	return d.relate(delta)
}

// present returns the CI of an ID, or why it cannot be meant.
func (d *draft) present(id string) (*draftCI, []Problem) {
	c := d.ci(id)
	switch {
	case c.alive:
		return c, nil
	case c.known:
		return nil, []Problem{{Rule: ruleRetired, Reason: id + " is retired", Remedy: "add it again if it is back in use"}}
	}
	return nil, []Problem{{Rule: ruleUnknownCI, Reason: fmt.Sprintf("there is no CI %q", id), Remedy: "add it first, or correct its ID"}}
}

func (d *draft) add(delta Delta) []Problem {
	c := d.ci(delta.CI)
	if c.alive {
		return []Problem{{Rule: ruleExists, Reason: fmt.Sprintf("%s is there already, of class %q", c.id, c.class), Remedy: "set its attributes, or add it under another ID"}}
	}
	c.known, c.alive, c.anew, c.class, c.attributes = true, true, true, delta.Class, nil
	for _, name := range sortedKeys(delta.Attributes) {
		c.attributes = append(c.attributes, Attribute{name, delta.Attributes[name]})
	}
	class := d.g.schema.class(delta.Class)
	if class == nil {
		return []Problem{{
			Rule: ruleUnknownClass, Reason: fmt.Sprintf("there is no class %q", delta.Class),
			Remedy: "define it, or take one of " + quoted(d.g.Classes()),
		}}
	}
	var problems []Problem
	if class.Abstract {
		problems = append(problems, Problem{Rule: ruleAbstract, Reason: fmt.Sprintf("class %q is abstract", class.Name), Remedy: "take a class below it"})
	}
	for _, a := range c.attributes {
		problems = append(problems, d.fits(c, class, a.Name, a.Value)...)
	}
	for _, name := range class.names {
		if _, given := delta.Attributes[name]; class.attributes[name].Required && !given {
			problems = append(problems, Problem{
				Rule: ruleRequired, Reason: fmt.Sprintf("class %q requires %s, and %s has none", class.Name, name, c.id), Remedy: "give it a value",
			})
		}
	}
	return problems
}

func (d *draft) set(delta Delta) []Problem {
	c, problems := d.present(delta.CI)
	if problems != nil {
		return problems
	}
	if delta.Before == delta.After {
		return []Problem{{
			Rule: ruleNoChange, Reason: fmt.Sprintf("%s of %s is to go from %s to the same", delta.Attribute, c.id, shown(delta.Before)), Remedy: "leave the delta out",
		}}
	}
	found := c.attribute(delta.Attribute)
	c.attributes = with(c.attributes, delta.Attribute, delta.After)
	class := d.g.schema.class(c.class)
	if class == nil {
		problems = append(problems, Problem{Rule: ruleUnknownClass, Reason: fmt.Sprintf("there is no class %q, of which %s is", c.class, c.id), Remedy: "define it"})
	} else if a, ok := class.attributes[delta.Attribute]; !ok {
		if delta.After != "" || found == "" { // what is no longer known can still be taken away
			problems = append(problems, unknownAttribute(class, delta.Attribute))
		}
	} else if delta.After == "" && a.Required {
		problems = append(problems, Problem{Rule: ruleRequired, Reason: fmt.Sprintf("class %q requires %s", class.Name, a.Name), Remedy: "set it to another value"})
	} else if delta.After != "" {
		problems = append(problems, d.fits(c, class, delta.Attribute, delta.After)...)
	}
	if found != delta.Before {
		problems = append(problems, Problem{
			Rule:   rulePrecondition,
			Reason: fmt.Sprintf("%s of %s is %s", delta.Attribute, c.id, otherwise(found, delta.Before)),
			Remedy: "look at " + c.id + " again and decide on what it is now",
		})
	}
	return problems
}

func unknownAttribute(class *class, name string) Problem {
	return Problem{
		Rule: ruleUnknownAttr, Reason: fmt.Sprintf("class %q has no attribute %q", class.Name, name),
		Remedy: "define it on the class, or take one of " + quoted(class.names),
	}
}

// fits returns why a CI of the class cannot have a value, which is not empty.
func (d *draft) fits(c *draftCI, class *class, name, text string) []Problem {
	a, ok := class.attributes[name]
	if !ok {
		return []Problem{unknownAttribute(class, name)}
	}
	canonical, err := a.Canonical(text)
	if err != nil {
		rule := ruleType
		if a.Type == TypeEnum {
			rule = ruleEnum
		}
		return []Problem{{Rule: rule, Reason: fmt.Sprintf("%s of %s cannot be %q", name, c.id, clip(text)), Remedy: err.Error()}}
	}
	if canonical != text {
		return []Problem{{
			Rule: ruleType, Reason: fmt.Sprintf("%s of %s is given as %q, which is not the canonical form", name, c.id, clip(text)),
			Remedy: fmt.Sprintf("write %q", canonical),
		}}
	}
	if a.Unique {
		v := value{name, text}
		if holder := d.holder(v, a.scope, c.id); holder != "" {
			return []Problem{{
				Rule: ruleUnique, Reason: fmt.Sprintf("%s %q belongs to %s, and is unique within class %q", name, clip(text), holder, a.scope),
				Remedy: "give it another value, or take it from " + holder + " first",
			}}
		}
		d.gained[v] = append(d.gained[v], c.id)
	}
	return nil
}

// holder returns a living CI other than except that has the value and is of the
// class or below it: of several the first by ID; "" if there is none.
func (d *draft) holder(v value, class, except string) string {
	first := ""
	consider := func(id string) {
		if id == except || first != "" && first <= id {
			return
		}
		if c := d.ci(id); c.alive && c.attribute(v.attribute) == v.value && d.g.schema.below(c.class, class) {
			first = id
		}
	}
	d.g.unique[v].each(func(n *node) bool { consider(n.id); return true })
	for _, id := range d.gained[v] {
		consider(id)
	}
	return first
}

func (d *draft) retire(delta Delta) []Problem {
	c, problems := d.present(delta.CI)
	if problems == nil {
		c.alive, c.anew = false, true
		maps.DeleteFunc(d.ties, func(t draftTie, _ bool) bool { return t.from == c.id || t.to == c.id })
	}
	return problems
}

func (d *draft) relate(delta Delta) []Problem {
	from, problems := d.present(delta.CI)
	to, more := d.present(delta.To)
	problems = append(problems, more...)
	s, ok := d.g.schema.sides[delta.Relation]
	switch {
	case !ok:
		problems = append(problems, Problem{
			Rule: ruleUnknownRelation, Reason: fmt.Sprintf("there is no relation %q", delta.Relation),
			Remedy: "define it, or take one of " + quoted(sortedKeys(d.g.schema.relations)),
		})
	case s.inverse:
		problems = append(problems, Problem{
			Rule: ruleUnknownRelation, Reason: fmt.Sprintf("%q is how %q is read backwards", delta.Relation, s.relation.Name),
			Remedy: fmt.Sprintf("say that %s %s %s", delta.To, s.relation.Name, delta.CI),
		})
	}
	if from == nil || to == nil {
		return problems
	}
	symmetric := ok && s.relation.Name == s.relation.Inverse
	tie, there := draftTie{delta.CI, delta.Relation, delta.To}, d.related(from, delta.Relation, to)
	if back := d.related(to, delta.Relation, from); symmetric && back && !there {
		if delta.Op == OpRelate {
			there = true // said the other way round
		} else {
			problems = append(problems, Problem{
				Rule: ruleUnrelated, Reason: fmt.Sprintf("it is %s that was said to be in %q to %s", delta.To, delta.Relation, delta.CI),
				Remedy: fmt.Sprintf("say that %s no longer is in %q to %s", delta.To, delta.Relation, delta.CI),
			})
			return problems
		}
	}
	switch {
	case delta.Op == OpRelate && there:
		problems = append(problems, Problem{
			Rule: ruleRelated, Reason: fmt.Sprintf("%s %s %s already", delta.CI, delta.Relation, delta.To), Remedy: "leave the delta out",
		})
	case delta.Op == OpUnrelate && !there:
		problems = append(problems, Problem{
			Rule: ruleUnrelated, Reason: fmt.Sprintf("it is not so that %s %s %s", delta.CI, delta.Relation, delta.To), Remedy: "leave the delta out",
		})
	}
	d.ties[tie] = delta.Op == OpRelate
	return problems
}

// related reports whether a relation stands between two living CIs of the draft.
func (d *draft) related(from *draftCI, relation string, to *draftCI) bool {
	if stands, ok := d.ties[draftTie{from.id, relation, to.id}]; ok {
		return stands
	}
	if from.anew || to.anew {
		return false
	}
	t := d.g.ties[tieKey{d.g.nodes[from.id], d.g.nodes[to.id], relation}]
	return t != nil && t.live
}
