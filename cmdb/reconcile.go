package cmdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore/command"
)

// permit asks whether the actor may import.
func (i *importing) permit(tx *command.Tx) error {
	return tx.Authorize(ActionImport, i.source, map[string][]string{"source": {i.source}})
}

// vanish deals with the keys that are no longer reported, or that stand for
// another CI now. It is the first step, and runs once also for none, so that who
// may not import learns nothing.
func (i *importing) vanish(ctx context.Context) error {
	var gone []ObservedKey
	if _, err := i.service.config.Door.Do(ctx, i.call, func(tx *command.Tx) error {
		if err := i.malformed(); err != nil {
			return err
		}
		if err := i.permit(tx); err != nil {
			return err
		}
		return i.service.atHead(tx, []string{classStream, sourceStream(i.source)}, func(g *Graph) error {
			gone = nil
			if s := g.sources[i.source]; s != nil {
				for _, key := range sortedKeys(s.keys) {
					if ci := s.keys[key].ci; ci != "" && i.byKey[key] != ci {
						gone = append(gone, ObservedKey{key, ci})
					}
				}
			}
			i.want(g)
			return nil
		})
	}); err != nil {
		return err
	}
	for _, k := range gone {
		if i.byKey[k.Key] == "" {
			i.done.Vanished++
		}
	}
	if i.options.Vanished == VanishedIgnore {
		return nil
	}
	observed := map[string]bool{}
	for _, item := range i.items {
		observed[item.CI] = true
	}
	return i.run(ctx, len(gone), func(b *batch, from int) int {
		next := from
		for ; next < len(gone) && next-from < i.options.Batch && !b.full(); next++ {
			key, ci := gone[next].Key, gone[next].CI
			if b.reports[key].ci != ci {
				continue
			}
			b.gone = append(b.gone, key)
			c := b.draft.ci(ci)
			if observed[ci] || !c.alive {
				continue // known by another key now, or retired already
			}
			d := Retire(ci)
			if i.options.Vanished == VanishedMark {
				if c.attribute(AttrStatus) == statusOutOfUse {
					continue
				}
				d = Set(ci, AttrStatus, c.attribute(AttrStatus), statusOutOfUse)
			}
			for _, p := range b.try(d) {
				b.skip(key, ci, p.Rule, p.Reason)
			}
		}
		return next
	})
}

const statusOutOfUse = "out of use"

// add adds the CIs that are not there and sets what differs on those that are.
func (i *importing) add(ctx context.Context) error {
	return i.run(ctx, len(i.items), func(b *batch, from int) int {
		next := from
		for ; next < len(i.items) && next-from < i.options.Batch && !b.full(); next++ {
			b.outcome[next] = i.item(b, i.items[next])
			if item := i.items[next]; b.outcome[next] != skipped && b.reports[item.Key].ci != item.CI {
				b.items = append(b.items, ObservedKey{item.Key, item.CI})
			}
		}
		return next
	})
}

// item takes one observed item.
func (i *importing) item(b *batch, item ObservedItem) outcome {
	c := b.draft.ci(item.CI)
	class := b.g.schema.class(item.Class)
	switch {
	case class == nil:
		b.skip(item.Key, item.CI, ruleUnknownClass, fmt.Sprintf("there is no class %q", clip(item.Class)))
		return skipped
	case c.alive && c.class != item.Class:
		b.skip(item.Key, item.CI, ruleClassDiffers, fmt.Sprintf("%s is of class %q, and was observed as %q", c.id, c.class, item.Class))
		return skipped
	case c.known && !c.alive && b.reports[item.Key].ci == item.CI:
		b.skip(item.Key, item.CI, ruleByOthers, fmt.Sprintf("%s was retired while the source still reports it", c.id))
		return skipped
	}
	values := map[string]string{}
	for _, name := range sortedKeys(item.Attributes) {
		text := item.Attributes[name]
		if text == "" {
			continue
		}
		a, ok := class.attributes[name]
		if !ok {
			p := unknownAttribute(class, name)
			b.skip(item.Key, item.CI, p.Rule, p.Reason)
			continue
		}
		form, err := a.Canonical(text)
		if err != nil {
			b.skip(item.Key, item.CI, ruleType, fmt.Sprintf("%s of %s cannot be %q: %v", name, item.CI, clip(text), err))
			continue
		}
		values[name] = form
	}
	if !c.alive {
		return b.addItem(item, values)
	}
	out := unchanged
	for _, name := range sortedKeys(values) {
		if before := c.attribute(name); before != values[name] {
			if problems := b.try(Set(item.CI, name, before, values[name])); problems != nil {
				b.skip(item.Key, item.CI, problems[0].Rule, problems[0].Reason)
				continue
			}
			out = changed
		}
	}
	for _, name := range b.g.nodes[item.CI].setBy(sourceStream(i.source)) {
		if text := item.Attributes[name]; text != "" {
			continue
		}
		if problems := b.try(Set(item.CI, name, c.attribute(name), "")); problems != nil {
			b.skip(item.Key, item.CI, problems[0].Rule, problems[0].Reason)
			continue
		}
		out = changed
	}
	return out
}

// addItem adds the CI of an item. It is tried on a draft of its own first, since
// one that cannot be taken must not be seen by those that come later.
func (b *batch) addItem(item ObservedItem, values map[string]string) outcome {
	d := Delta{Op: OpAdd, CI: item.CI, Class: item.Class}
	if len(values) > 0 {
		d.Attributes = values
	}
	before := *b.draft.ci(item.CI)
	problems := b.try(d)
	if problems == nil {
		return added
	}
	*b.draft.ci(item.CI) = before
	for _, p := range problems {
		b.skip(item.Key, item.CI, p.Rule, p.Reason)
	}
	return skipped
}

// setBy returns the attributes of n whose values were brought by a cause, sorted.
func (n *node) setBy(cause string) []string {
	if n == nil || !n.alive() {
		return nil
	}
	var names []string
	for _, a := range n.attributes {
		for k := len(n.own) - 1; k >= 0; k-- {
			f := n.own[k]
			if !f.taken() || f.op == opSet && f.name != a.Name {
				continue
			}
			if f.event.cause == cause {
				names = append(names, a.Name)
			}
			break // the set that gave the value, or the add before all sets
		}
	}
	return names
}

// want lists which relations should stand between the items, read forwards.
func (i *importing) want(g *Graph) {
	i.wanted = map[string]map[Relation]string{}
	keys := map[string]mapped{}
	if s := g.sources[i.source]; s != nil {
		keys = s.keys
	}
	i.done.Skipped = nil
	for _, item := range i.items {
		for _, r := range item.Relations {
			to := i.byKey[r.To]
			if to == "" {
				to = keys[r.To].ci
			}
			s, ok := g.schema.sides[r.Relation]
			switch {
			case to == "":
				i.done.Skipped = append(i.done.Skipped, Skipped{item.Key, item.CI, ruleUnknownKey, fmt.Sprintf("%s %s %q, a key that the source does not report", item.CI, clip(r.Relation), clip(r.To))})
				continue
			case !ok:
				i.done.Skipped = append(i.done.Skipped, Skipped{item.Key, item.CI, ruleUnknownRelation, fmt.Sprintf("there is no relation %q", clip(r.Relation))})
				continue
			}
			wanted := Relation{item.CI, s.relation.Name, to}
			if s.inverse {
				wanted.From, wanted.To = to, item.CI
			} else if s.relation.Name == s.relation.Inverse && to < item.CI {
				wanted.From, wanted.To = to, item.CI // one way round, whoever says it
			}
			if i.wanted[wanted.From] == nil {
				i.wanted[wanted.From] = map[Relation]string{}
			}
			i.wanted[wanted.From][wanted] = item.Key
		}
	}
}

// relate ends the relations that the source brought and no longer reports, and
// makes those that are missing.
func (i *importing) relate(ctx context.Context) error {
	index := map[string]int{}
	for n, item := range i.items {
		index[item.CI] = n
	}
	// Also from CIs that are known by an earlier observation only.
	from := sortedKeys(i.wanted)
	for _, item := range i.items {
		if _, ok := i.wanted[item.CI]; !ok {
			from = append(from, item.CI)
		}
	}
	return i.run(ctx, len(from), func(b *batch, at int) int {
		next := at
		for ; next < len(from) && next-at < i.options.Batch; next++ {
			ci := from[next]
			item, observed := index[ci]
			if observed && i.outcome[item] == skipped {
				continue
			}
			complete, touched := i.relations(b, ci, observed)
			if touched && observed {
				b.outcome[item] = changed
			}
			if !complete {
				return next // the rest of its relations come with the next append
			}
		}
		return next
	})
}

// relations brings the relations that go out from a CI up to date; complete is
// false if the append is full before it is done.
func (i *importing) relations(b *batch, ci string, observed bool) (complete, touched bool) {
	n := b.g.nodes[ci]
	if n == nil {
		return true, false
	}
	var over []Relation
	if observed {
		for _, t := range n.out.living() {
			r := Relation{ci, t.relation, t.to.id}
			if _, ok := i.wanted[ci][r]; !ok && t.since.event.cause == sourceStream(i.source) && !i.mirrored(b, r) {
				over = append(over, r)
			}
		}
	}
	byName := func(a, b Relation) int { return strings.Compare(a.Relation+"\x00"+a.To, b.Relation+"\x00"+b.To) }
	slices.SortFunc(over, byName)
	for _, r := range over {
		if b.full() {
			return false, touched
		}
		touched = b.try(Unrelate(r.From, r.Relation, r.To)) == nil || touched
	}
	missing := make([]Relation, 0, len(i.wanted[ci]))
	for r := range i.wanted[ci] {
		missing = append(missing, r)
	}
	slices.SortFunc(missing, byName)
	for _, r := range missing {
		if b.full() {
			return false, touched
		}
		from, to := b.draft.ci(r.From), b.draft.ci(r.To)
		if b.draft.related(from, r.Relation, to) || b.symmetric(r.Relation) && b.draft.related(to, r.Relation, from) {
			continue
		}
		if problems := b.try(Relate(r.From, r.Relation, r.To)); problems != nil {
			b.skip(i.wanted[ci][r], r.From, problems[0].Rule, problems[0].Reason)
			continue
		}
		touched = true
	}
	return true, touched
}

// symmetric reports whether a relation type is read the same both ways.
func (b *batch) symmetric(relation string) bool {
	s := b.g.schema.sides[relation].relation
	return s.Name == s.Inverse
}

// mirrored reports whether a symmetric relation is wanted the other way round.
func (i *importing) mirrored(b *batch, r Relation) bool {
	_, ok := i.wanted[r.To][Relation{r.To, r.Relation, r.From}]
	return ok && b.symmetric(r.Relation)
}
