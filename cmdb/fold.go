package cmdb

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// event is one event of the log that carried deltas.
type event struct {
	position   eventstore.Position
	version    uint64 // if it stands in the stream of its first delta's CI: there; else 0
	recorded   int64  // Unix time in microseconds, as is occurred
	occurred   int64
	actor      string
	onBehalfOf string
	reason     string
	cause      string
	facts      []fact
}

func newEvent(r eventstore.Recorded, carried Carried) (*event, error) {
	meta, err := eventstore.DecodeMetadata(r.Meta)
	if err != nil {
		return nil, err
	}
	e := &event{
		position: r.Position, recorded: r.RecordedAt.UnixMicro(), occurred: meta.OccurredAt.UnixMicro(),
		actor: meta.Actor, onBehalfOf: meta.OnBehalfOf, reason: meta.Reason, cause: carried.Cause,
	}
	if r.Stream == ciStream(carried.Deltas[0].CI) {
		e.version = r.Version
	}
	return e, nil
}

func moment(micro int64) time.Time { return time.UnixMicro(micro).UTC() }

// fact is a delta of the log as the graph keeps it.
type fact struct {
	event      *event
	index      int32
	op         Op
	misfit     *misfit // nil if it fits
	node, to   *node
	name       string // of the class, the attribute or the relation
	before     string
	after      string
	attributes []Attribute // sorted by name, as given
}

// misfit says why a fact does not fit.
type misfit struct {
	rule  string
	node  *node  // the CI to blame
	found string // the value that stands where another was expected
}

// taken reports whether f counts.
func (f *fact) taken() bool { return f.misfit == nil || f.misfit.rule == rulePrecondition }

// life is the time of a CI from an add that counts to a retirement that counts, nil if it lasts.
type life struct {
	from, to *fact
}

// node is a CI, or the ID of one that was named before it was there.
type node struct {
	id         string
	version    uint64 // of its stream, as far as the log was given
	class      string
	attributes []Attribute // sorted by name, none empty; replaced, never changed in place
	lives      []life
	own        []*fact // add, set and retire, and what cannot be meant; sorted
	out, in    adjacency
}

func (n *node) alive() bool { return len(n.lives) > 0 && n.lives[len(n.lives)-1].to == nil }

// at returns which life of n it is at f, or the rule by which there is none.
func (n *node) at(f *fact) (int, string) {
	rule := ruleUnknownCI
	for i, l := range n.lives {
		if l.from.compare(f) >= 0 {
			break
		}
		if l.to == nil || l.to.compare(f) > 0 {
			return i, ""
		}
		rule = ruleRetired
	}
	return -1, rule
}

func (n *node) attribute(name string) string {
	if i, ok := find(n.attributes, name); ok {
		return n.attributes[i].Value
	}
	return ""
}

func find(attributes []Attribute, name string) (int, bool) {
	return slices.BinarySearchFunc(attributes, name, func(a Attribute, name string) int { return strings.Compare(a.Name, name) })
}

// with returns a copy of attributes in which name has a value, or none if that is empty.
func with(attributes []Attribute, name, value string) []Attribute {
	i, ok := find(attributes, name)
	switch {
	case ok && value == "":
		return slices.Concat(attributes[:i], attributes[i+1:])
	case ok:
		attributes = slices.Clone(attributes)
		attributes[i].Value = value
		return attributes
	case value == "":
		return attributes
	}
	return slices.Concat(attributes[:i], []Attribute{{name, value}}, attributes[i:])
}

func (n *node) ci() CI {
	ci := CI{ID: n.id, Class: n.class, Retired: !n.alive()}
	if len(n.attributes) > 0 {
		ci.Attributes = make(map[string]string, len(n.attributes))
		for _, a := range n.attributes {
			ci.Attributes[a.Name] = a.Value
		}
	}
	return ci
}

// node returns the node of an ID, made if need be.
func (g *Graph) node(id string) *node {
	n := g.nodes[id]
	if n == nil {
		n = &node{id: id}
		g.nodes[id] = n
	}
	return n
}

// take adds an event's deltas to the graph, unless it has them.
func (g *Graph) take(e *event, deltas []Delta) {
	at := len(g.events)
	if at > 0 && g.events[at-1].position >= e.position {
		var known bool
		at, known = slices.BinarySearchFunc(g.events, e.position, func(e *event, p eventstore.Position) int {
			return int(min(max(int64(e.position)-int64(p), -1), 1))
		})
		if known {
			return
		}
	}
	g.events = slices.Insert(g.events, at, e)
	e.actor, e.onBehalfOf, e.cause = g.word(e.actor), g.word(e.onBehalfOf), g.word(e.cause)
	e.facts = make([]fact, len(deltas))
	for i, d := range deltas {
		f := &e.facts[i]
		g.fill(f, d)
		f.event, f.index = e, int32(i)
		if f.to != nil && f.misfit == nil {
			g.tie(f)
		} else {
			g.own(f)
		}
	}
	first := e.facts[0].node
	first.version = max(first.version, e.version)
}

// fill turns a delta into a fact that does not stand anywhere yet.
func (g *Graph) fill(f *fact, d Delta) {
	*f = fact{op: d.Op, node: g.node(d.CI)}
	if d.CI == "" {
		f.misfit = &misfit{rule: ruleMalformed, node: f.node}
	}
	switch d.Op {
	case OpAdd:
		f.op, f.name = OpAdd, g.word(d.Class)
		if len(d.Attributes) > 0 {
			f.attributes = make([]Attribute, 0, len(d.Attributes))
			for _, name := range sortedKeys(d.Attributes) {
				f.attributes = append(f.attributes, Attribute{g.word(name), d.Attributes[name]})
			}
		}
	case OpSet:
		f.op, f.name, f.before, f.after = OpSet, g.word(d.Attribute), d.Before, d.After
		if d.Attribute == "" {
			f.misfit = &misfit{rule: ruleMalformed, node: f.node}
		}
	case OpRetire:
		f.op = OpRetire
	case OpRelate, OpUnrelate:
		if f.op = OpRelate; d.Op == OpUnrelate {
			f.op = OpUnrelate
		}
		f.name, f.to = g.word(d.Relation), g.node(d.To)
		if d.Relation == "" || d.To == "" {
			f.misfit = &misfit{rule: ruleMalformed, node: f.node}
		} else if d.To == d.CI {
			f.misfit = &misfit{rule: ruleSelf, node: f.node}
		}
	default:
		f.misfit = &misfit{rule: ruleMalformed, node: f.node}
	}
}

// own puts a fact of one CI in its place and brings the CI up to date: by this
// one fact if it comes in order, else by folding the CI anew.
func (g *Graph) own(f *fact) {
	n := f.node
	at, known := search(n.own, f)
	if known {
		return
	}
	n.own = slices.Insert(n.own, at, f)
	if f.misfit != nil {
		g.misfits[f] = struct{}{} // it cannot be meant, whatever comes before it
		return
	}
	g.release(n)
	otherLives := false
	if at == len(n.own)-1 {
		g.step(n, f)
		otherLives = f.op != OpSet && f.taken()
	} else {
		lives := n.lives
		n.class, n.attributes, n.lives = "", nil, nil
		for _, f := range n.own {
			if f.misfit == nil || !f.misfit.final() {
				g.step(n, f)
			}
		}
		otherLives = !slices.Equal(lives, n.lives)
	}
	g.hold(n)
	if otherLives {
		for _, t := range n.out.all {
			g.retie(t)
		}
		for _, t := range n.in.all {
			g.retie(t)
		}
	}
}

// final reports that the fact does not fit whatever comes before it.
func (m *misfit) final() bool { return m.rule == ruleMalformed || m.rule == ruleSelf }

// step takes the next fact of n's own.
func (g *Graph) step(n *node, f *fact) {
	var wrong *misfit
	switch f.op {
	case OpAdd:
		if n.alive() {
			wrong = &misfit{rule: ruleExists, node: n}
			break
		}
		n.lives = append(n.lives, life{from: f})
		n.class, n.attributes = f.name, f.attributes
		if slices.ContainsFunc(f.attributes, func(a Attribute) bool { return a.Value == "" }) {
			n.attributes = slices.DeleteFunc(slices.Clone(f.attributes), func(a Attribute) bool { return a.Value == "" })
		}
	case OpSet:
		if !n.alive() {
			wrong = n.absent()
			break
		}
		if found := n.attribute(f.name); found != f.before {
			wrong = &misfit{rule: rulePrecondition, node: n, found: found}
		}
		n.attributes = with(n.attributes, f.name, f.after)
	case OpRetire:
		if !n.alive() {
			wrong = n.absent()
			break
		}
		n.lives[len(n.lives)-1].to = f
	}
	g.judge(f, wrong)
}

// absent says why nothing can be done with a CI that is not alive.
func (n *node) absent() *misfit {
	if len(n.lives) == 0 {
		return &misfit{rule: ruleUnknownCI, node: n}
	}
	return &misfit{rule: ruleRetired, node: n}
}

func (g *Graph) judge(f *fact, wrong *misfit) {
	if f.misfit = wrong; wrong == nil {
		delete(g.misfits, f)
	} else {
		g.misfits[f] = struct{}{}
	}
}

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
		t.outAt = t.from.out.add(t, outward)
		t.inAt = t.to.in.add(t, inward)
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
	case f.op == OpRelate && stands:
		g.judge(f, &misfit{rule: ruleRelated, node: t.from})
	case f.op == OpRelate:
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

// add appends a relation that does not live.
func (a *adjacency) add(t *tie, place func(*tie) *int) int {
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

// delta returns what f was made of.
func (f *fact) delta() Delta {
	d := Delta{Op: f.op, CI: f.node.id}
	switch f.op {
	case OpAdd:
		d.Class = f.name
		if len(f.attributes) > 0 {
			d.Attributes = make(map[string]string, len(f.attributes))
			for _, a := range f.attributes {
				d.Attributes[a.Name] = a.Value
			}
		}
	case OpSet:
		d.Attribute, d.Before, d.After = f.name, f.before, f.after
	case OpRelate, OpUnrelate:
		d.Relation, d.To = f.name, f.to.id
	}
	return d
}

func (f *fact) discrepancy() Discrepancy {
	d := Discrepancy{
		Position: f.event.position, Index: int(f.index), CI: f.node.id, Delta: f.delta(),
		Rule: f.misfit.rule, Taken: f.taken(),
	}
	blame := f.misfit.node.id
	switch f.misfit.rule {
	case ruleMalformed:
		d.Reason = fmt.Sprintf("%q of %q cannot be meant", f.op, f.node.id)
	case ruleSelf:
		d.Reason = fmt.Sprintf("%s is related to itself", blame)
	case ruleExists:
		d.Reason = fmt.Sprintf("%s was there already", blame)
	case ruleUnknownCI:
		d.Reason = fmt.Sprintf("%s was not there", blame)
	case ruleRetired:
		d.Reason = fmt.Sprintf("%s was retired", blame)
	case ruleRelated:
		d.Reason = fmt.Sprintf("%s %s %s already", blame, f.name, f.to.id)
	case ruleUnrelated:
		d.Reason = fmt.Sprintf("%s did not stand in %q to %s", blame, f.name, f.to.id)
	case rulePrecondition:
		d.Reason = fmt.Sprintf("%s of %s was %s, not %s", f.name, blame, shown(f.misfit.found), shown(f.before))
	}
	return d
}

// shown is a value within a sentence.
func shown(value string) string {
	if value == "" {
		return "not set"
	}
	return fmt.Sprintf("%q", value)
}
