package cmdb

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// Diff returns what makes b of a, as the deltas that would do it: what of a ended,
// then what came to be in b, was set, and was related. Within each, deltas stand in
// the order of their CIs, attributes and relations. Only living CIs count, and a
// relation that ended since one of its CIs was retired is not listed by itself. A
// CI that is there in both, as another class, is retired and added.
//
// The graphs may be of any two moments, also of one moment as it was known at two
// positions. It looks at every CI and relation of both, once.
func Diff(a, b *Graph) []Delta {
	var all []Delta
	for id, was := range a.nodes {
		if was.alive() && !b.alike(id, was) {
			all = append(all, Retire(id))
		}
	}
	for id, is := range b.nodes {
		if !is.alive() {
			continue
		}
		was := a.nodes[id]
		if was == nil || !a.alike(id, is) {
			all = append(all, Add(id, is.class, is.attributes...))
			was = nil
		} else {
			all = append(all, attributesDiff(id, was.attributes, is.attributes)...)
			for _, t := range was.out.living() {
				// The other end must be there as it was, or the relation ended with it.
				if b.alike(t.to.id, t.to) && !b.tied(t) {
					all = append(all, Unrelate(id, t.relation, t.to.id))
				}
			}
		}
		for _, t := range is.out.living() {
			if was == nil || !a.alike(t.to.id, t.to) || !a.tied(t) {
				all = append(all, Relate(id, t.relation, t.to.id))
			}
		}
	}
	slices.SortFunc(all, func(x, y Delta) int {
		return cmp.Or(cmp.Compare(slices.Index(order, x.Op), slices.Index(order, y.Op)), strings.Compare(x.CI, y.CI),
			strings.Compare(x.Attribute, y.Attribute), strings.Compare(x.Relation, y.Relation), strings.Compare(x.To, y.To))
	})
	return all
}

// order is that of the deltas of a difference, in which each finds what it needs.
var order = []Op{OpUnrelate, OpRetire, OpAdd, OpSet, OpRelate}

// alike reports whether the CI lives in g too, as the class that it has as n.
func (g *Graph) alike(id string, n *node) bool {
	other := g.nodes[id]
	return other != nil && other.alive() && other.class == n.class
}

// tied reports whether a relation of another graph stands in g too.
func (g *Graph) tied(t *tie) bool {
	same := g.ties[tieKey{g.nodes[t.from.id], g.nodes[t.to.id], t.relation}]
	return same != nil && same.live
}

// attributesDiff returns what makes is of was, both sorted by name.
func attributesDiff(ci string, was, is []Attribute) []Delta {
	var all []Delta
	for len(was) > 0 || len(is) > 0 {
		switch {
		case len(is) == 0 || len(was) > 0 && was[0].Name < is[0].Name:
			all = append(all, Set(ci, was[0].Name, was[0].Value, ""))
			was = was[1:]
		case len(was) == 0 || is[0].Name < was[0].Name:
			all = append(all, Set(ci, is[0].Name, "", is[0].Value))
			is = is[1:]
		default:
			if was[0].Value != is[0].Value {
				all = append(all, Set(ci, is[0].Name, was[0].Value, is[0].Value))
			}
			was, is = was[1:], is[1:]
		}
	}
	return all
}

// Diff returns what makes the CMDB of one moment that of another; see [Diff]. Both
// are cut from one view. It costs folding both, as [Service.AsOf] does.
func (s *Service) Diff(ctx context.Context, from, to Moment) ([]Delta, error) {
	graphs, err := s.asOf(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return Diff(graphs[0], graphs[1]), nil
}
