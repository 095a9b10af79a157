package release

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
)

const attrVersion = "version"

// above returns every environment that lies before one, however far, each once.
func (e Environments) above(name string) []string {
	var all []string
	var walk func(string)
	walk = func(name string) {
		one, _ := e.Find(name)
		for _, up := range one.Upstream {
			if !slices.Contains(all, up) && up != name {
				all = append(all, up)
				walk(up)
			}
		}
	}
	walk(name)
	return slices.DeleteFunc(all, func(up string) bool { return up == name })
}

// instance returns the CI that holds the version of a component in an environment:
// the component's CI itself where it belongs to that environment, or to none and
// the environment is the first production one; otherwise one of its own.
func (e Environments) instance(ci, environment string, look lookup) string {
	one, there := look(ci)
	of := one.Attributes[cmdb.AttrEnvironment]
	first := ""
	if production := e.Production(); len(production) > 0 {
		first = production[0]
	}
	if there && of == environment || (!there || of == "") && environment == first {
		return ci
	}
	return ci + "@" + environment
}

// lookup finds a CI, retired ones too.
type lookup func(ci string) (cmdb.CI, bool)

// alive finds a CI that lives.
func (l lookup) alive(ci string) (cmdb.CI, bool) {
	one, ok := l(ci)
	return one, ok && !one.Retired
}

// versionOf returns the version that a delta of a change brings to what an item
// puts in place; says is false where it says nothing of it.
func versionOf(delta cmdb.Delta, item Item) (version string, says bool) {
	if item.CI == "" || delta.CI != item.CI && delta.CI != item.Instance {
		return "", false
	}
	switch {
	case delta.Op == cmdb.OpSet && delta.Attribute == attrVersion:
		return delta.After, true
	case delta.Op == cmdb.OpAdd && delta.Attributes[attrVersion] != "":
		return delta.Attributes[attrVersion], true
	}
	return "", false
}

// declaredAs returns the names under which changes are to declare the items: that
// of the instance where one of them does, otherwise that of the component's CI.
func declaredAs(items []Item, changes []change.Change) []string {
	declared := map[string]bool{}
	for _, c := range changes {
		for _, ci := range c.Declared() {
			declared[ci] = true
		}
	}
	var all []string
	for _, item := range items {
		switch {
		case item.CI == "":
		case declared[item.Instance]:
			all = with(all, item.Instance)
		default:
			all = with(all, item.CI)
		}
	}
	return all
}

// ledger collects deltas on the CMDB as it is, so that each fits: it knows what
// those before have made of an attribute.
type ledger struct {
	look   lookup
	values map[[2]string]string // what attributes are after the deltas so far
	added  map[string]bool
	deltas []cmdb.Delta
}

func (l *ledger) value(ci, attribute string) string {
	if v, ok := l.values[[2]string{ci, attribute}]; ok {
		return v
	}
	one, _ := l.look.alive(ci)
	return one.Attributes[attribute]
}

func (l *ledger) there(ci string) bool {
	_, ok := l.look.alive(ci)
	return ok || l.added[ci]
}

// set gives an attribute a value, if it has another one.
func (l *ledger) set(ci, attribute, value string) {
	if before := l.value(ci, attribute); before != value {
		l.deltas = append(l.deltas, cmdb.Set(ci, attribute, before, value))
		l.values[[2]string{ci, attribute}] = value
	}
}

// add makes a CI, or gives one that is there already the attributes.
func (l *ledger) add(ci, class string, attributes map[string]string) {
	if l.there(ci) {
		for _, name := range slices.Sorted(maps.Keys(attributes)) {
			l.set(ci, name, attributes[name])
		}
		return
	}
	l.deltas = append(l.deltas, cmdb.Delta{Op: cmdb.OpAdd, CI: ci, Class: class, Attributes: attributes})
	l.added[ci] = true
	for name, v := range attributes {
		l.values[[2]string{ci, name}] = v
	}
}

// deltasOf returns what a deployment changes in the CMDB when it finishes: the
// version of every instance, made where there is none, and what else was planned
// in the changes that it completes. What is so already is left out.
func deltasOf(items []Item, environment string, completes []change.Change, look lookup) []cmdb.Delta {
	l := &ledger{look: look, values: map[[2]string]string{}, added: map[string]bool{}}
	covered := map[string]bool{}
	for _, item := range items {
		if item.CI == "" {
			continue
		}
		covered[item.CI], covered[item.Instance] = true, true
		planned := plannedAdd(item, completes)
		switch {
		case l.there(item.Instance) && item.After != "":
			l.set(item.Instance, attrVersion, item.After)
		case item.After != "":
			attributes := map[string]string{}
			base, known := look.alive(item.CI)
			if known && item.Instance != item.CI {
				attributes[cmdb.AttrName] = base.Attributes[cmdb.AttrName]
			}
			maps.Copy(attributes, planned.Attributes)
			if attributes[cmdb.AttrName] == "" {
				attributes[cmdb.AttrName] = item.CI
			}
			attributes[cmdb.AttrEnvironment], attributes[attrVersion] = environment, item.After
			class := item.Class
			if class == "" {
				class = planned.Class
			}
			if class == "" {
				class = base.Class
			}
			l.add(item.Instance, class, attributes)
		case l.there(item.Instance) && item.New:
			l.deltas = append(l.deltas, cmdb.Retire(item.Instance))
		case l.there(item.Instance):
			l.set(item.Instance, attrVersion, "")
		}
	}
	for _, c := range completes {
		for _, d := range c.Deltas {
			switch {
			case covered[d.CI] && (d.Op == cmdb.OpAdd || d.Op == cmdb.OpSet && d.Attribute == attrVersion):
			case d.Op == cmdb.OpSet:
				l.set(d.CI, d.Attribute, d.After)
			case d.Op == cmdb.OpAdd:
				l.add(d.CI, d.Class, d.Attributes)
			case d.Op == cmdb.OpRetire && !l.there(d.CI):
			default:
				if !slices.ContainsFunc(l.deltas, func(had cmdb.Delta) bool { return same(had, d) }) {
					l.deltas = append(l.deltas, d)
				}
			}
		}
	}
	return l.deltas
}

func same(a, b cmdb.Delta) bool {
	return a.Op == b.Op && a.CI == b.CI && a.Relation == b.Relation && a.To == b.To
}

// plannedAdd returns the delta by which a change makes what an item puts in place.
func plannedAdd(item Item, changes []change.Change) cmdb.Delta {
	for _, c := range changes {
		for _, d := range c.Deltas {
			if d.Op == cmdb.OpAdd && (d.CI == item.Instance || d.CI == item.CI) {
				return d
			}
		}
	}
	return cmdb.Delta{}
}

// fitting returns deltas without those that say what is so already, and what
// stands in the way of the rest, on the graph after what the unit of work has
// recorded before.
func fitting(g *cmdb.Graph, before, deltas []cmdb.Delta) ([]cmdb.Delta, []cmdb.Problem) {
	for _, d := range deltas {
		if d.Op == cmdb.OpAdd && d.Class == "" {
			return deltas, []cmdb.Problem{{
				Rule: "unknown-ci", CI: d.CI, Reason: fmt.Sprintf("there is no CI %q, and nothing says of which class it is", d.CI),
				Remedy: "record it, or give the component a class",
			}}
		}
	}
	problems := checked(g, before, deltas)
	idle := map[int]bool{}
	for _, p := range problems {
		if p.Rule == "relation-exists" || p.Rule == "relation-missing" {
			idle[p.Delta] = true
		}
	}
	if len(idle) == 0 {
		return deltas, problems
	}
	var left []cmdb.Delta
	for i, d := range deltas {
		if !idle[i] {
			left = append(left, d)
		}
	}
	return left, checked(g, before, left)
}

func checked(g *cmdb.Graph, before, deltas []cmdb.Delta) []cmdb.Problem {
	var problems []cmdb.Problem
	for _, p := range g.Check(slices.Concat(before, deltas)) {
		if p.Delta -= len(before); p.Delta >= 0 {
			problems = append(problems, p)
		}
	}
	return problems
}

// after returns a lookup that sees what deltas do to a CI.
func (l lookup) after(deltas []cmdb.Delta) lookup {
	if len(deltas) == 0 {
		return l
	}
	return func(ci string) (cmdb.CI, bool) {
		one, ok := l(ci)
		one.Attributes = maps.Clone(one.Attributes)
		for _, d := range deltas {
			switch {
			case d.CI != ci:
			case d.Op == cmdb.OpAdd:
				one, ok = cmdb.CI{ID: ci, Class: d.Class, Attributes: maps.Clone(d.Attributes)}, true
			case d.Op == cmdb.OpSet && ok:
				if one.Attributes == nil {
					one.Attributes = map[string]string{}
				}
				one.Attributes[d.Attribute] = d.After
			case d.Op == cmdb.OpRetire:
				one.Retired = true
			}
		}
		return one, ok
	}
}
