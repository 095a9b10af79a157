package cmdb

import (
	"slices"
)

// tieKey names a relation from one CI to another.
type tieKey struct {
	from, to *node
	relation string
}

// tie is a relation from one CI to another that was ever spoken of.
type tie struct {
	tieKey
	facts []*fact // sorted
	since *fact   // the relate by which it stands, or stood until one of the CIs was retired
	outAt int     // its place in from.out
	inAt  int     // its place in to.in
	live  bool    // it stands, and both CIs are alive
}

// tie puts a fact of two CIs in its place and brings their relation up to date.
func (g *Graph) tie(f *fact) {
	key := tieKey{f.node, f.to, f.name}
	t := g.ties[key]
	if t == nil {
		t = &tie{tieKey: key}
		g.ties[key] = t
		t.outAt, t.inAt = t.from.out.add(t), t.to.in.add(t)
	}
	at, known := search(t.facts, f)
	if known {
		return
	}
	t.facts = slices.Insert(t.facts, at, f)
	if at == len(t.facts)-1 {
		g.stepTie(t, f)
		t.settle()
	} else {
		g.retie(t)
	}
}

// retie folds a relation anew.
func (g *Graph) retie(t *tie) {
	t.since = nil
	for _, f := range t.facts {
		g.stepTie(t, f)
	}
	t.settle()
}

// stepTie takes the next fact of a relation. Whether it fits depends on which
// lives its CIs live at that place of the log, and on nothing that comes later.
func (g *Graph) stepTie(t *tie, f *fact) {
	from, rule := t.from.at(f)
	if rule != "" {
		g.judge(f, &misfit{rule: rule, node: t.from})
		return
	}
	to, rule := t.to.at(f)
	if rule != "" {
		g.judge(f, &misfit{rule: rule, node: t.to})
		return
	}
	stands := false
	if t.since != nil {
		a, _ := t.from.at(t.since)
		b, _ := t.to.at(t.since)
		stands = a == from && b == to // a relation ends with the life of either
	}
	switch {
	case f.op == opRelate && stands:
		g.judge(f, &misfit{rule: ruleRelated, node: t.from})
	case f.op == opRelate:
		t.since = f
		g.judge(f, nil)
	case !stands:
		g.judge(f, &misfit{rule: ruleUnrelated, node: t.from})
	default:
		t.since = nil
		g.judge(f, nil)
	}
}

// settle puts t among the living relations of its CIs, or out of them.
func (t *tie) settle() {
	live := t.since != nil && t.from.alive() && t.to.alive()
	if live {
		a, _ := t.from.at(t.since)
		b, _ := t.to.at(t.since)
		live = a == len(t.from.lives)-1 && b == len(t.to.lives)-1
	}
	if live != t.live {
		t.live = live
		t.from.out.settle(t, outward)
		t.to.in.settle(t, inward)
	}
}

// adjacency are the relations on one side of a CI, those that live first, in no
// order beyond that: a CI with a million of them gains and loses one at once.
type adjacency struct {
	all  []*tie
	live int
}

func (a *adjacency) living() []*tie { return a.all[:a.live] }

// outward and inward say where a relation keeps its place in an adjacency.
func outward(t *tie) *int { return &t.outAt }
func inward(t *tie) *int  { return &t.inAt }

// add appends a relation that does not live, and returns its place.
func (a *adjacency) add(t *tie) int {
	a.all = append(a.all, t)
	return len(a.all) - 1
}

// settle moves t, whose life has just begun or ended, over the border.
func (a *adjacency) settle(t *tie, place func(*tie) *int) {
	border := a.live
	if t.live {
		a.live++
	} else {
		border--
		a.live--
	}
	at := *place(t)
	other := a.all[border]
	a.all[at], a.all[border] = other, t
	*place(other), *place(t) = at, border
}
