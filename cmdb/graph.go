package cmdb

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Projection declares the graph to a follower. registry has the types of every
// event that carries deltas, and those of this package.
func Projection(registry *eventstore.Registry) follow.Projection[*Graph] {
	return follow.Projection[*Graph]{Name: "cmdb", New: func() *Graph { return NewGraph(registry) }}
}

// Graph is the CMDB as a fold. In a View it is to be read only. Costs: CI by ID
// is one look-up; impact and neighbourhoods grow with what is reached.
//
// It keeps every delta it was given, since what a CI is follows from all of
// them in the order of their positions, in whatever order they come.
type Graph struct {
	registry *eventstore.Registry
	carriers map[string]struct{} // event types to decode

	position eventstore.Position // the highest it was given, of any event
	version  uint64              // of the stream of classes
	schema   schema
	events   []*event // that carried deltas, by position
	nodes    map[string]*node
	ties     map[tieKey]*tie
	misfits  map[*fact]struct{}
	unique   map[value]holders  // who holds the values of unique attributes
	sources  map[string]*source // what sources reported, by name
	words    map[string]string  // one copy of each name that comes again and again
}

// source is what a source reported.
type source struct {
	version uint64 // of its stream
	keys    map[string]mapped
}

// mapped says to which CI a source's key belongs, and where the log says so.
type mapped struct {
	at eventstore.Position
	ci string // empty: the key is gone
}

// NewGraph returns an empty graph, to be fed by hand; see [Projection] for one
// that follows the log.
func NewGraph(registry *eventstore.Registry) *Graph {
	g := &Graph{
		registry: registry,
		carriers: map[string]struct{}{},
		schema:   newSchema(),
		nodes:    map[string]*node{},
		ties:     map[tieKey]*tie{},
		misfits:  map[*fact]struct{}{},
		unique:   map[value]holders{},
		sources:  map[string]*source{},
		words:    map[string]string{},
	}
	for _, name := range eventstore.TypesOf[Carrier](registry) {
		g.carriers[name] = struct{}{}
	}
	for _, payload := range []any{ClassDefined{}, RelationDefined{}} {
		if name, err := registry.TypeName(payload); err == nil {
			g.carriers[name] = struct{}{} // without one its events are of an unknown type, which stops the fold
		}
	}
	return g
}

// Apply takes a record. One that it has taken already changes nothing, and they
// may come in any order. It passes over what carries nothing for it at the cost
// of one look-up. A record that carries deltas, by its tag, and is of no type
// that the registry knows as a [Carrier] is an error: eventstore.ErrUnknownType.
func (g *Graph) Apply(r eventstore.Recorded) error {
	if _, ok := g.carriers[r.Type]; !ok {
		if slices.Contains(r.Tags, CarrierTag) {
			return &eventstore.DecodeError{ID: r.ID, Stream: r.Stream, Type: r.Type, Schema: r.Schema, Cause: fmt.Errorf(
				"%w: it carries deltas of the CMDB: register its type, whose payload must be a cmdb.Carrier", eventstore.ErrUnknownType)}
		}
		g.position = max(g.position, r.Position)
		return nil
	}
	payload, err := g.registry.Decode(r.Event)
	if err != nil {
		return err
	}
	switch p := payload.(type) {
	case ClassDefined:
		if g.schema.defineClass(r.Position, p.Class) {
			g.redefined()
		}
	case RelationDefined:
		if g.schema.defineRelation(r.Position, p.Relation) {
			g.redefined()
		}
	case Carrier:
		carried := p.CMDB()
		if len(carried.Deltas) > 0 {
			e, err := newEvent(r, carried)
			if err != nil {
				return err
			}
			g.take(e, carried.Deltas)
		}
		if o, ok := payload.(Observed); ok {
			g.learn(r, o)
		}
	}
	if r.Stream == classStream {
		g.version = max(g.version, r.Version)
	}
	g.position = max(g.position, r.Position)
	return nil
}

// redefined is called when classes or relation types have changed.
func (g *Graph) redefined() {
	before := g.schema.unique
	g.schema.derive()
	if maps.Equal(before, g.schema.unique) {
		return
	}
	g.unique = map[value]holders{}
	for _, n := range g.nodes {
		g.hold(n)
	}
}

// learn takes the keys of a source.
func (g *Graph) learn(r eventstore.Recorded, o Observed) {
	s := g.sources[o.Source]
	if s == nil {
		s = &source{keys: map[string]mapped{}}
		g.sources[o.Source] = s
	}
	if r.Stream == sourceStream(o.Source) {
		s.version = max(s.version, r.Version)
	}
	for _, item := range o.Items {
		if s.keys[item.Key].at <= r.Position {
			s.keys[item.Key] = mapped{r.Position, item.CI}
		}
	}
	for _, key := range o.Gone {
		if s.keys[key].at <= r.Position {
			s.keys[key] = mapped{r.Position, ""}
		}
	}
}

// CI returns a copy of the CI of that ID; ok is false if there never was one.
func (g *Graph) CI(id string) (ci CI, ok bool) {
	n := g.nodes[id]
	if n == nil || len(n.lives) == 0 {
		return CI{}, false
	}
	return n.ci(), true
}

// Len returns how many CIs there are, living ones only.
func (g *Graph) Len() int {
	living := 0
	for _, n := range g.nodes {
		if n.alive() {
			living++
		}
	}
	return living
}

// Class returns the class of that name with all that it inherits, and the names
// of the classes above it, nearest first.
func (g *Graph) Class(name string) (c Class, above []string, ok bool) {
	view := g.schema.class(name)
	if view == nil {
		return Class{}, nil, false
	}
	c = view.Class
	c.Attributes = nil
	for _, n := range view.names {
		a := view.attributes[n].AttributeSchema
		a.Enum = slices.Clone(a.Enum)
		c.Attributes = append(c.Attributes, a)
	}
	return c, slices.Clone(view.lineage[1:]), true
}

// Classes returns the names of all classes, sorted.
func (g *Graph) Classes() []string { return sortedKeys(g.schema.views) }

// Relations returns all relation types, by name.
func (g *Graph) Relations() []RelationType {
	var all []RelationType
	for _, name := range sortedKeys(g.schema.relations) {
		all = append(all, g.schema.relations[name].def)
	}
	return all
}

// Discrepancy is a delta that did not fit when it was folded.
type Discrepancy struct {
	Position eventstore.Position
	Index    int // of the delta in its event
	CI       string
	Delta    Delta
	Rule     string // as of Problem
	Reason   string
	Taken    bool // it counts nevertheless: a value that was set over another one than expected
}

// Discrepancies returns every delta that did not fit, in the order of the log.
func (g *Graph) Discrepancies() []Discrepancy {
	facts := slices.SortedFunc(maps.Keys(g.misfits), (*fact).compare)
	all := make([]Discrepancy, len(facts))
	for i, f := range facts {
		all[i] = f.discrepancy()
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// word returns the one copy of a name.
func (g *Graph) word(s string) string {
	if w, ok := g.words[s]; ok {
		return w
	}
	g.words[s] = s
	return s
}

// value is a value of a unique attribute.
type value struct {
	attribute, value string
}

// holders are the living CIs that hold a value: nearly always one.
type holders struct {
	one  *node
	more map[*node]struct{}
}

// each calls f for every holder until it returns false.
func (h holders) each(f func(*node) bool) {
	if h.one == nil || !f(h.one) {
		return
	}
	for n := range h.more {
		if !f(n) {
			return
		}
	}
}

// hold puts the unique values of a living CI into the index.
func (g *Graph) hold(n *node) {
	if len(g.schema.unique) == 0 || !n.alive() {
		return
	}
	for _, a := range n.attributes {
		if _, ok := g.schema.unique[a.Name]; !ok {
			continue
		}
		v := value{a.Name, a.Value}
		h := g.unique[v]
		switch {
		case h.one == nil:
			h.one = n
		case h.more == nil:
			h.more = map[*node]struct{}{n: {}}
		default:
			h.more[n] = struct{}{}
		}
		g.unique[v] = h
	}
}

// release takes the unique values of a CI, as it stands, out of the index.
func (g *Graph) release(n *node) {
	if len(g.schema.unique) == 0 || !n.alive() {
		return
	}
	for _, a := range n.attributes {
		v := value{a.Name, a.Value}
		h, ok := g.unique[v]
		if !ok {
			continue
		}
		if h.one != n {
			delete(h.more, n)
			continue
		}
		h.one = nil
		for other := range h.more {
			h.one = other
			delete(h.more, other)
			break
		}
		if h.one == nil {
			delete(g.unique, v)
		} else {
			g.unique[v] = h
		}
	}
}

// search finds f's place among facts that are sorted, from behind: most come in order.
func search(facts []*fact, f *fact) (int, bool) {
	if len(facts) == 0 || facts[len(facts)-1].compare(f) < 0 {
		return len(facts), false
	}
	return slices.BinarySearchFunc(facts, f, (*fact).compare)
}

func (f *fact) compare(other *fact) int {
	return cmp.Or(cmp.Compare(f.event.position, other.event.position), cmp.Compare(f.index, other.index))
}
