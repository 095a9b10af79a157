package schedule

import (
	"context"
	"fmt"
	"slices"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Staleness says whether what a change has recorded of its time still holds.
type Staleness struct {
	Recorded change.Timed        // what was recorded last; its answer is "not run" where nothing was
	At       eventstore.Position // of that record
	Stale    bool
	Why      []string // what is different since, if it is stale
	Position eventstore.Position
}

// Stale says whether what a change recorded when its time was judged last still
// holds (DOMAIN 2.2). It is stale once the change itself needs another time or
// other things, a relation around its CIs is another, or another change or a window
// stands against it, no longer does, or does so otherwise. The error is
// ErrUnknownChange if it has ended or never was.
//
// It costs a read of the change's stream, the history of its CIs and a look at
// its conflicts.
func (s *Service) Stale(ctx context.Context, id string) (Staleness, error) {
	stale := Staleness{Recorded: change.Timed{Timing: change.Timing{Answer: change.TimingNotRun}}}
	if !nameable(id) {
		return stale, fmt.Errorf("timing of %.50q: %w", id, ErrUnknownChange)
	}
	for r, err := range s.store.Read(ctx, eventstore.Query{Streams: []string{changePrefix + id}, Types: []string{"change.timed"}}) {
		if err != nil {
			return stale, fmt.Errorf("timing of %s: %w", id, err)
		}
		payload, err := s.registry.Decode(r.Event)
		if err != nil {
			return stale, fmt.Errorf("timing of %s: %w", id, err)
		}
		if e, ok := payload.(change.Timed); ok {
			stale.Recorded, stale.At = e, r.Position
		}
	}
	err := s.head(ctx, func(v *follow.View) error {
		stale.Position = v.Position()
		fold, graph := s.schedule.In(v), s.cmdb.In(v)
		e := fold.open[id]
		if e == nil {
			return fmt.Errorf("timing of %s: %w", id, ErrUnknownChange)
		}
		if stale.At == 0 {
			return nil
		}
		why, err := s.since(fold, graph, e, stale)
		stale.Why, stale.Stale = why, len(why) > 0
		return err
	})
	return stale, err
}

// since returns what is different since a timing was recorded.
func (s *Service) since(fold *Schedule, g *cmdb.Graph, e *Scheduled, stale Staleness) ([]string, error) {
	recorded := stale.Recorded.Timing
	looked := eventstore.Position(recorded.Position)
	var why []string
	o := e.occasion()
	o.Point = stale.Recorded.Point
	if e.Needs > stale.At {
		why = append(why, "the change itself: when it is to be, on what, or by whom")
	} else {
		o.Window = recorded.Window // at its start it was what was left of it
	}
	around, err := s.around(g, o, looked)
	if err != nil {
		return nil, err
	}
	why = append(why, around...)
	found, err := fold.Conflicts(o, g, s.rules)
	if err != nil {
		return nil, err
	}
	known := func(in []change.Conflict, id string) bool {
		return slices.ContainsFunc(in, func(c change.Conflict) bool { return c.ID == id })
	}
	whole := recorded.Count == len(recorded.Conflicts) // otherwise some may be known that are not listed
	for _, c := range found.Conflicts {
		switch other, window := fold.open[c.With], fold.windows[c.With]; {
		case whole && !known(recorded.Conflicts, c.ID):
			why = append(why, fmt.Sprintf("%s with %s is new", c.Rule, c.With))
		case other != nil && other.Touched > looked:
			why = append(why, fmt.Sprintf("%s with %s is another: %s has changed", c.Rule, c.With, c.With))
		case window != nil && window.Position > looked:
			why = append(why, fmt.Sprintf("%s with %s is another: the window was defined anew", c.Rule, c.With))
		}
	}
	for _, c := range recorded.Conflicts {
		if !known(found.Conflicts, c.ID) {
			why = append(why, fmt.Sprintf("%s with %s is no more", c.Rule, c.With))
		}
	}
	if !whole && len(found.Conflicts) != recorded.Count {
		why = append(why, fmt.Sprintf("%d conflicts were found, and there are %d", recorded.Count, len(found.Conflicts)))
	}
	return why, nil
}

// matter are the attributes that windows and conflicts look at.
var matter = []string{cmdb.AttrEnvironment, cmdb.AttrTags, cmdb.AttrMinUp}

// around returns what is different in the CMDB around an occasion since a position.
func (s *Service) around(g *cmdb.Graph, o change.Occasion, since eventstore.Position) ([]string, error) {
	rules := s.rules.filled()
	cis := o.CIs
	if rules.Depth > 1 {
		rules.Depth-- // the relations of what lies at the end are not looked at
		e, err := estateOf(g, rules, o.CIs)
		if err != nil {
			return nil, err
		}
		for _, n := range slices.Concat(e.parents, e.children) {
			cis = append(slices.Clip(cis), n.ci.ID)
		}
	}
	var why []string
	for _, ci := range cis {
		history, _ := g.History(ci)
		for _, entry := range slices.Backward(history) {
			if entry.Position <= since {
				break
			}
			if entry.Taken && (entry.Delta.Op != cmdb.OpSet || slices.Contains(matter, entry.Delta.Attribute)) {
				why = append(why, fmt.Sprintf("%s: %s", ci, entry))
				break
			}
		}
	}
	return why, nil
}
