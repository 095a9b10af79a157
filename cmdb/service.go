package cmdb

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Config is what a service stands on; all of it is required.
type Config struct {
	Door     *command.Door
	Store    eventstore.Store     // the door's
	Registry *eventstore.Registry // the door's, with Types among its types
	Follower *follow.Follower     // of Store, started with Graph
	Graph    follow.Projection[*Graph]
}

// Service is the CMDB for programs: commands through the door, queries on the
// graph. What a command of the same door recorded, a later query shows. Its
// methods may be called concurrently.
type Service struct {
	config Config
}

// New returns a service.
func New(config Config) (*Service, error) {
	switch {
	case config.Door == nil, config.Store == nil, config.Registry == nil, config.Follower == nil, config.Graph.New == nil:
		return nil, errors.New("cmdb: a service needs a door, a store, a registry, a follower and the graph's projection")
	}
	if _, err := config.Registry.TypeName(Recorded{}); err != nil {
		return nil, errors.New("cmdb: the registry lacks the event types of this package: give it cmdb.Types()")
	}
	return &Service{config}, nil
}

// View runs read on the graph when it shows what this service's door has
// recorded. The graph is to be read only and not kept beyond read; see
// follow.Follower.View.
func (s *Service) View(ctx context.Context, read func(g *Graph) error) error {
	return s.viewAt(ctx, s.config.Door.Last(), read)
}

// Get returns a CI, retired ones too. The error is ErrUnknownCI if there never was one.
func (s *Service) Get(ctx context.Context, id string) (CI, error) {
	var ci CI
	return ci, s.View(ctx, func(g *Graph) error {
		var ok bool
		if ci, ok = g.CI(id); !ok {
			return &UnknownError{Kind: ErrUnknownCI, Names: []string{id}}
		}
		return nil
	})
}

// Filter selects CIs; the zero Filter selects all that live.
type Filter struct {
	Class      string            // of this class or below it
	Attributes map[string]string // that have these values; an empty one is not set
	Retired    bool              // retired ones too
	After      string            // only IDs behind this one, for pages
	Limit      int               // at most so many; 0 is all
}

// List returns the CIs that f selects, by ID. It looks at every CI.
func (s *Service) List(ctx context.Context, f Filter) ([]CI, error) {
	var cis []CI
	return cis, s.View(ctx, func(g *Graph) error {
		cis = g.List(f)
		return nil
	})
}

// List returns the CIs that f selects, by ID. It looks at every CI.
func (g *Graph) List(f Filter) []CI {
	var nodes []*node
	for _, n := range g.nodes {
		if f.match(g, n) {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return strings.Compare(a.id, b.id) })
	if f.Limit > 0 && len(nodes) > f.Limit {
		nodes = nodes[:f.Limit]
	}
	cis := make([]CI, len(nodes))
	for i, n := range nodes {
		cis[i] = n.ci()
	}
	return cis
}

func (f Filter) match(g *Graph, n *node) bool {
	if len(n.lives) == 0 || !f.Retired && !n.alive() || n.id <= f.After || f.Class != "" && !g.schema.below(n.class, f.Class) {
		return false
	}
	for name, v := range f.Attributes {
		if n.attribute(name) != v {
			return false
		}
	}
	return true
}

// Impact returns what is reached from one CI; see [Graph.Impact].
func (s *Service) Impact(ctx context.Context, id string, direction Direction, options ...ImpactOption) (Impact, error) {
	return s.ImpactOf(ctx, []string{id}, direction, options...)
}

// ImpactOf returns what is reached when all of ids fail or change at once.
func (s *Service) ImpactOf(ctx context.Context, ids []string, direction Direction, options ...ImpactOption) (Impact, error) {
	var impact Impact
	return impact, s.View(ctx, func(g *Graph) (err error) {
		impact, err = g.Impact(ids, direction, options...)
		return err
	})
}

// Discrepancies returns every delta that did not fit when it was folded.
func (s *Service) Discrepancies(ctx context.Context) ([]Discrepancy, error) {
	var all []Discrepancy
	return all, s.View(ctx, func(g *Graph) error {
		all = g.Discrepancies()
		return nil
	})
}
