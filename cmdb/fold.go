package cmdb

import (
	"cmp"
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

// op is an Op in one byte.
type op uint8

const (
	opOther op = iota // none that there is
	opAdd
	opSet
	opRetire
	opRelate
	opUnrelate
)

var ops = [...]Op{opAdd: OpAdd, opSet: OpSet, opRetire: OpRetire, opRelate: OpRelate, opUnrelate: OpUnrelate}

// fact is a delta of the log as the graph keeps it.
type fact struct {
	event      *event
	index      int32
	op         op
	misfit     *misfit // nil if it fits
	node, to   *node
	name       string // of the class, the attribute or the relation; of the operation where there is no such
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
	at, known := g.place(e.position)
	if known {
		return
	}
	e.facts = make([]fact, len(deltas))
	for i, d := range deltas {
		g.fill(&e.facts[i], d)
	}
	e.actor, e.onBehalfOf, e.cause = g.word(e.actor), g.word(e.onBehalfOf), g.word(e.cause)
	g.events = slices.Insert(g.events, at, e)
	g.fold(e)
}

// place finds where an event of that position stands, from behind: most come in order.
func (g *Graph) place(position eventstore.Position) (int, bool) {
	if n := len(g.events); n == 0 || g.events[n-1].position < position {
		return n, false
	}
	return slices.BinarySearchFunc(g.events, position, func(e *event, p eventstore.Position) int { return cmp.Compare(e.position, p) })
}

// fold folds the facts of an event that has just found its place.
func (g *Graph) fold(e *event) {
	for i := range e.facts {
		f := &e.facts[i]
		f.event, f.index = e, int32(i)
		if f.misfit = f.nonsense(); f.misfit == nil && (f.op == opRelate || f.op == opUnrelate) {
			g.tie(f)
		} else {
			g.own(f)
		}
	}
	first := e.facts[0].node
	first.version = max(first.version, e.version)
}

// fill copies a delta into a fact.
func (g *Graph) fill(f *fact, d Delta) {
	f.op, f.node = op(max(0, slices.Index(ops[:], d.Op))), g.node(d.CI)
	switch f.op {
	case opOther:
		f.name = string(d.Op)
	case opAdd:
		f.name = g.word(d.Class)
		if len(d.Attributes) > 0 {
			f.attributes = make([]Attribute, 0, len(d.Attributes))
			for _, name := range sortedKeys(d.Attributes) {
				f.attributes = append(f.attributes, Attribute{g.word(name), d.Attributes[name]})
			}
		}
	case opSet:
		f.name, f.before, f.after = g.word(d.Attribute), d.Before, d.After
	case opRelate, opUnrelate:
		f.name, f.to = g.word(d.Relation), g.node(d.To)
	}
}

// nonsense says why f cannot be meant, whatever comes before it; nil if it can.
func (f *fact) nonsense() *misfit {
	rule := ""
	switch {
	case f.op == opOther || f.node.id == "",
		f.op == opSet && f.name == "",
		f.to != nil && (f.name == "" || f.to.id == ""):
		rule = ruleMalformed
	case f.to == f.node:
		rule = ruleSelf
	default:
		return nil
	}
	return &misfit{rule: rule, node: f.node}
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
		otherLives = f.op != opSet && f.taken()
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
		// Of copies: what begins or ends to live changes its place.
		for _, t := range slices.Concat(n.out.all, n.in.all) {
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
	case opAdd:
		if n.alive() {
			wrong = &misfit{rule: ruleExists, node: n}
			break
		}
		n.lives = append(n.lives, life{from: f})
		n.class, n.attributes = f.name, f.attributes
		if slices.ContainsFunc(f.attributes, func(a Attribute) bool { return a.Value == "" }) {
			n.attributes = slices.DeleteFunc(slices.Clone(f.attributes), func(a Attribute) bool { return a.Value == "" })
		}
	case opSet:
		if !n.alive() {
			wrong = n.absent()
			break
		}
		if found := n.attribute(f.name); found != f.before {
			wrong = &misfit{rule: rulePrecondition, node: n, found: found}
		}
		n.attributes = with(n.attributes, f.name, f.after)
	case opRetire:
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

// delta returns what f was made of.
func (f *fact) delta() Delta {
	d := Delta{Op: ops[f.op], CI: f.node.id}
	switch f.op {
	case opOther:
		d.Op = Op(f.name)
	case opAdd:
		d.Class = f.name
		if len(f.attributes) > 0 {
			d.Attributes = make(map[string]string, len(f.attributes))
			for _, a := range f.attributes {
				d.Attributes[a.Name] = a.Value
			}
		}
	case opSet:
		d.Attribute, d.Before, d.After = f.name, f.before, f.after
	case opRelate, opUnrelate:
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
		d.Reason = fmt.Sprintf("%q of %q cannot be meant", d.Delta.Op, f.node.id)
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
		d.Reason = fmt.Sprintf("%s of %s was %s", f.name, blame, otherwise(f.misfit.found, f.before))
	}
	return d
}

// otherwise says which value is found where another was expected.
func otherwise(found, expected string) string {
	switch {
	case expected == "":
		return fmt.Sprintf("%q already", found)
	case found == "":
		return fmt.Sprintf("not set, and not %q", expected)
	}
	return fmt.Sprintf("%q, not %q", found, expected)
}

// shown is a value within a sentence.
func shown(value string) string {
	if value == "" {
		return "not set"
	}
	return fmt.Sprintf("%q", value)
}
