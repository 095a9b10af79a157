package cmdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// Moment is a point in both times of the CMDB: when things happened, and when the
// log came to know of it. The two differ where something was discovered late, or
// corrected. The zero Moment is now.
type Moment struct {
	Valid time.Time           // what had happened by then; zero: whenever it happened
	Known eventstore.Position // by what was recorded up to there; 0: all of it
}

// ErrBeyondHead says that a position was asked for to which the log has not come.
var ErrBeyondHead = errors.New("the log has not come to that position")

// AsOf returns the graph of what was true at valid, according to what was recorded
// up to known: a fold, in the order of their positions, of those events that stand
// at known or before it and happened at valid or before it. An event that does not
// say when it happened did so when it was recorded. A zero valid leaves out none,
// nor does known 0.
//
// Classes and relation types are those of g: they say how facts are read, also old
// ones. Keys of sources are left out, so the graph answers queries and is no base
// for an import. It shares nothing with g that changes, and is to be read only.
//
// It does no I/O: g keeps all deltas. Costs are those of folding the events that
// are taken, about 1 µs and 0.5 KB for each delta, and one look at all the others.
func (g *Graph) AsOf(valid time.Time, known eventstore.Position) *Graph {
	return g.cut(Moment{valid, known}).fold()
}

// cut is what a graph as of a moment is folded from. Making it is cheap, so that
// nobody waits for the fold who waits for a View to end.
type cut struct {
	registry *eventstore.Registry
	position eventstore.Position
	version  uint64
	schema   schema
	events   []*event // whose facts' misfits may change: they are not looked at
}

func (g *Graph) cut(at Moment) cut {
	c := cut{registry: g.registry, position: g.position, version: g.version, schema: g.schema}
	c.schema.classes, c.schema.relations = maps.Clone(g.schema.classes), maps.Clone(g.schema.relations) // the rest is replaced when it changes
	last := int64(math.MaxInt64)
	if !at.Valid.IsZero() {
		last = at.Valid.UnixMicro()
	}
	if at.Known > 0 {
		c.position = min(c.position, at.Known)
	}
	c.events = make([]*event, 0, len(g.events))
	for _, e := range g.events {
		if e.position > c.position {
			break
		}
		if e.happened() <= last {
			c.events = append(c.events, e)
		}
	}
	return c
}

// never is how an event keeps a time that was not given.
var never = time.Time{}.UnixMicro()

// happened returns when an event happened, as far as is known, in Unix microseconds.
func (e *event) happened() int64 {
	if e.occurred == never {
		return e.recorded
	}
	return e.occurred
}

func (c cut) fold() *Graph {
	g := NewGraph(c.registry)
	g.position, g.version, g.schema = c.position, c.version, c.schema
	g.events = make([]*event, 0, len(c.events))
	for _, old := range c.events {
		e := *old
		e.facts = make([]fact, len(old.facts))
		for i := range old.facts {
			f := &old.facts[i]
			e.facts[i] = fact{op: f.op, node: g.node(f.node.id), name: f.name, before: f.before, after: f.after, attributes: f.attributes}
			if f.to != nil {
				e.facts[i].to = g.node(f.to.id)
			}
		}
		g.events = append(g.events, &e)
		g.fold(&e)
	}
	return g
}

// PositionAt returns the position of the last event with deltas that was recorded
// at t or before it: AsOf(valid, position) shows what was known then. Where clocks
// of several writers differ, what one of them recorded shortly after t may stand
// before it. ok is false if nothing had been recorded, which AsOf(valid, 0) does
// not mean. It looks at the events that came after t, in memory.
func (g *Graph) PositionAt(t time.Time) (position eventstore.Position, ok bool) {
	last := t.UnixMicro()
	for i := len(g.events) - 1; i >= 0; i-- {
		if g.events[i].recorded <= last {
			return g.events[i].position, true
		}
	}
	return 0, false
}

// AsOf returns the graph of what was true at valid, according to what was recorded
// up to known, as a copy of the caller's own; see [Graph.AsOf] for what it shows
// and costs. A known to which the log has not come yet is an [ErrBeyondHead].
func (s *Service) AsOf(ctx context.Context, valid time.Time, known eventstore.Position) (*Graph, error) {
	graphs, err := s.asOf(ctx, Moment{valid, known})
	if err != nil {
		return nil, err
	}
	return graphs[0], nil
}

// asOf folds the graphs of moments, all cut from one view.
func (s *Service) asOf(ctx context.Context, moments ...Moment) ([]*Graph, error) {
	position := s.config.Door.Last()
	for _, m := range moments {
		if m.Known <= position {
			continue
		}
		head, err := s.config.Store.Head(ctx)
		if err != nil {
			return nil, err
		}
		if m.Known > head {
			return nil, fmt.Errorf("cmdb: as of position %d: %w: it ends at %d", m.Known, ErrBeyondHead, head)
		}
		position = m.Known
	}
	cuts := make([]cut, len(moments))
	if err := s.viewAt(ctx, position, func(g *Graph) error {
		for i, m := range moments {
			cuts[i] = g.cut(m)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	graphs := make([]*Graph, len(cuts))
	for i, c := range cuts {
		graphs[i] = c.fold()
	}
	return graphs, nil
}

// PositionAt returns the position of the last event with deltas that was recorded
// at t or before it; see [Graph.PositionAt]. It reads nothing from the store.
func (s *Service) PositionAt(ctx context.Context, t time.Time) (position eventstore.Position, ok bool, err error) {
	err = s.View(ctx, func(g *Graph) error {
		position, ok = g.PositionAt(t)
		return nil
	})
	return position, ok, err
}
