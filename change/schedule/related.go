package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
)

// relative is a CI near one that is worked on.
type relative struct {
	ci   cmdb.CI
	path []cmdb.Step // from the one that is worked on
}

func (r relative) from() string { return r.path[0].From }

// estate is what the CMDB says of an occasion: its own CIs and those near them.
type estate struct {
	graph    *cmdb.Graph
	own      map[string]bool
	living   []string // of own
	parents  []relative
	children []relative
	cut      int // relatives that were not looked at
	above    map[string][]string
}

// estateOf looks around the CIs of an occasion. It costs their relations; see
// cmdb.Graph.Impact.
func estateOf(g *cmdb.Graph, r Rules, cis []string) (estate, error) {
	e := estate{graph: g, own: map[string]bool{}, above: map[string][]string{}}
	for _, id := range cis {
		e.own[id] = true
		if ci, ok := g.CI(id); ok && !ci.Retired {
			e.living = append(e.living, id)
		}
	}
	if len(e.living) == 0 || r.Depth < 0 {
		return e, nil
	}
	through := r.Related
	if through == nil {
		for _, relation := range g.Relations() {
			if slices.Contains(Related(), relation.Name) {
				through = append(through, relation.Name)
			}
		}
	}
	if len(through) == 0 {
		return e, nil
	}
	seen := map[string]bool{}
	near := func(direction cmdb.Direction) ([]relative, error) {
		impact, err := g.Impact(e.living, direction, cmdb.Depth(r.Depth), cmdb.Through(through...))
		if err != nil {
			return nil, fmt.Errorf("schedule: look around %s: %w", strings.Join(e.living[:min(len(e.living), 5)], ", "), err)
		}
		var all []relative
		for _, reached := range impact.Reached {
			all = append(all, relative{reached.CI, reached.Path})
		}
		if direction == cmdb.Down {
			for _, pool := range impact.Degraded {
				ci, _ := g.CI(pool.CI)
				steps, err := e.toPool(pool.CI)
				if err != nil {
					return nil, err
				}
				if len(steps) > 0 {
					all = append(all, relative{ci, steps})
				}
			}
		}
		all = slices.DeleteFunc(all, func(n relative) bool { return seen[n.ci.ID] || e.own[n.ci.ID] })
		if len(all) > r.MostRelated {
			e.cut += len(all) - r.MostRelated
			all = all[:r.MostRelated]
		}
		for _, n := range all {
			seen[n.ci.ID] = true
		}
		return all, nil
	}
	var err error
	if e.parents, err = near(cmdb.Up); err != nil {
		return e, err
	}
	e.children, err = near(cmdb.Down)
	return e, err
}

// toPool returns the step from one of the own CIs to a pool that it is a member
// of: impact does not go there as long as the pool can lose it, but who works on
// the pool at the same time is in its way.
func (e estate) toPool(pool string) ([]cmdb.Step, error) {
	members, err := e.members(pool)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if e.own[m.CI.ID] {
			return []cmdb.Step{{From: m.CI.ID, Relation: e.inverse(m.Path[0].Relation), To: pool}}, nil
		}
	}
	return nil, nil
}

// members returns the members of a pool.
func (e estate) members(pool string) ([]cmdb.Reached, error) {
	var pooled []string
	for _, r := range e.graph.Relations() {
		if r.Pooled {
			pooled = append(pooled, r.Name)
		}
	}
	if len(pooled) == 0 {
		return nil, nil
	}
	impact, err := e.graph.Impact([]string{pool}, cmdb.Up, cmdb.Depth(1), cmdb.Through(pooled...))
	if err != nil {
		return nil, fmt.Errorf("schedule: members of %s: %w", pool, err)
	}
	return impact.Reached, nil
}

// pooled is a pool of which the CIs worked on are members, and which can lose them.
type pooled struct {
	degraded cmdb.Degraded
	members  []cmdb.Reached
}

// pools returns the pools that lose members by the occasion and still have enough.
func (e estate) pools() ([]pooled, error) {
	if len(e.living) == 0 {
		return nil, nil
	}
	impact, err := e.graph.Impact(e.living, cmdb.Down, cmdb.Depth(1))
	if err != nil {
		return nil, fmt.Errorf("schedule: pools of what is worked on: %w", err)
	}
	var all []pooled
	for _, d := range impact.Degraded {
		members, err := e.members(d.CI)
		if err != nil {
			return nil, err
		}
		all = append(all, pooled{d, members})
	}
	return all, nil
}

// inverse returns the other name of a relation.
func (e estate) inverse(name string) string {
	for _, r := range e.graph.Relations() {
		switch name {
		case r.Name:
			return r.Inverse
		case r.Inverse:
			return r.Name
		}
	}
	return name
}

// subject returns a CI as the scopes of windows see it.
func (e estate) subject(ci cmdb.CI, model string, tags []string) Subject {
	x := Subject{CI: ci.ID, Classes: e.classes(ci.Class), Environment: ci.Attributes[cmdb.AttrEnvironment], Model: model, Tags: tags}
	if own := ci.Attributes[cmdb.AttrTags]; own != "" {
		x.Tags = append(slices.Clip(x.Tags), strings.Split(own, ",")...)
	}
	return x
}

// classes returns a class and all above it.
func (e estate) classes(name string) []string {
	if name == "" {
		return nil
	}
	all, known := e.above[name]
	if !known {
		_, above, _ := e.graph.Class(name)
		all = append([]string{name}, above...)
		e.above[name] = all
	}
	return all
}

// subjects returns what an occasion works on as the scopes of windows see it: a
// subject for each CI, and for one that belongs to no environment, one for each
// that is deployed to. Without CIs there is one that has none.
func (e estate) subjects(o change.Occasion) []Subject {
	var all []Subject
	in := func(x Subject) {
		if x.Environment != "" || len(o.Environments) == 0 {
			all = append(all, x)
			return
		}
		for _, environment := range o.Environments {
			x.Environment = environment
			all = append(all, x)
		}
	}
	for _, id := range o.CIs {
		ci, ok := e.graph.CI(id)
		if !ok {
			ci = added(id, o.Deltas)
		}
		in(e.subject(ci, o.Model, o.Tags))
	}
	if len(o.CIs) == 0 {
		in(Subject{Model: o.Model, Tags: o.Tags})
	}
	return all
}

// added returns a CI as the deltas of an occasion would add it.
func added(id string, deltas []cmdb.Delta) cmdb.CI {
	for _, d := range deltas {
		if d.Op == cmdb.OpAdd && d.CI == id {
			return cmdb.CI{ID: id, Class: d.Class, Attributes: d.Attributes}
		}
	}
	return cmdb.CI{ID: id}
}
