package change

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// List is a fold of all changes as they stand, for queries over many. It keeps
// each change in memory, a few KiB. It is the same whatever the order in which
// events reach it and however often they do.
type List struct {
	registry *eventstore.Registry
	changes  map[string]*listed
	open     map[string]struct{}
	byCI     map[string]map[string]struct{} // IDs of changes by CI they declare
	counts   map[string]History             // of closed changes, by "group:dba", "model:normal", "ci:db-01"
}

type listed struct {
	change  Change
	waiting map[uint64]early // events that came before those ahead of them
}

type early struct {
	payload  any
	position eventstore.Position
}

// Projection declares the list to a follower. registry has the types of this package.
func Projection(registry *eventstore.Registry) follow.Projection[*List] {
	return follow.Projection[*List]{Name: "changes", New: func() *List {
		return &List{
			registry: registry, changes: map[string]*listed{}, open: map[string]struct{}{},
			byCI: map[string]map[string]struct{}{}, counts: map[string]History{},
		}
	}}
}

// Apply takes the events of changes, each once.
func (l *List) Apply(r eventstore.Recorded) error {
	id, ok := strings.CutPrefix(r.Stream, streamPrefix)
	if !ok {
		return nil
	}
	one := l.changes[id]
	if one != nil && (r.Version <= one.change.Version || one.waiting[r.Version].payload != nil) {
		return nil
	}
	payload, err := l.registry.Decode(r.Event)
	if err != nil {
		return err
	}
	if one == nil {
		one = &listed{}
		l.changes[id] = one
	}
	if r.Version > one.change.Version+1 {
		if one.waiting == nil {
			one.waiting = map[uint64]early{}
		}
		one.waiting[r.Version] = early{payload, r.Position}
		return nil
	}
	before := one.change
	one.take(payload, r.Position)
	for len(one.waiting) > 0 {
		next, ok := one.waiting[one.change.Version+1]
		if !ok {
			break
		}
		delete(one.waiting, one.change.Version+1)
		one.take(next.payload, next.position)
	}
	l.index(id, before, one.change)
	return nil
}

func (o *listed) take(payload any, position eventstore.Position) {
	o.change = evolve(o.change, payload).handed() // queries give it away
	o.change.Position = position
}

// index keeps what is looked up by.
func (l *List) index(id string, before, after Change) {
	was, is := before.Declared(), after.Declared()
	if !slices.Equal(was, is) {
		for _, ci := range was {
			delete(l.byCI[ci], id)
			if len(l.byCI[ci]) == 0 {
				delete(l.byCI, ci)
			}
		}
		for _, ci := range is {
			if l.byCI[ci] == nil {
				l.byCI[ci] = map[string]struct{}{}
			}
			l.byCI[ci][id] = struct{}{}
		}
	}
	if after.Open() {
		l.open[id] = struct{}{}
		return
	}
	delete(l.open, id)
	if !before.Open() && before.ID != "" {
		l.outcome(before, -1)
	}
	l.outcome(after, 1)
}

// outcome adds a closed change to the counts, or takes it away.
func (l *List) outcome(c Change, by int) {
	if c.Kind != KindClosed || c.Reviewed == nil {
		return
	}
	keys := []string{"model:" + c.Model}
	if c.Group != "" {
		keys = append(keys, "group:"+c.Group)
	}
	for _, ci := range c.Declared() {
		keys = append(keys, "ci:"+ci)
	}
	for _, key := range keys {
		h := l.counts[key]
		h.Of = key
		switch c.Reviewed.Outcome {
		case Successful:
			h.Successful += by
		case WithIssues:
			h.WithIssues += by
		case Unsuccessful:
			h.Unsuccessful += by
		}
		for _, i := range c.Incidents {
			if i.Relation != Caused {
				continue
			}
			switch i.Priority {
			case 1:
				h.IncidentsMajor += by
			case 2:
				h.IncidentsHigh += by
			default:
				h.IncidentsOther += by
			}
		}
		if h == (History{Of: key}) {
			delete(l.counts, key)
		} else {
			l.counts[key] = h
		}
	}
}

// outcomes returns the counts of a group, a model and CIs, where there are any;
// of the CIs the first 50.
func (l *List) outcomes(group, model string, cis []string) []History {
	var all []History
	keys := []string{"group:" + group, "model:" + model}
	for _, ci := range cis[:min(len(cis), kept)] {
		keys = append(keys, "ci:"+ci)
	}
	for _, key := range keys {
		if h, ok := l.counts[key]; ok {
			all = append(all, h)
		}
	}
	return all
}

// Format, Snapshot and Restore let a restart begin where the last run ended.

// Format is the version of the form of Snapshot.
func (l *List) Format() int { return 1 }

// Snapshot returns the list, always the same bytes for the same state.
func (l *List) Snapshot() ([]byte, error) {
	all := make([]Change, 0, len(l.changes))
	for _, id := range slices.Sorted(maps.Keys(l.changes)) {
		if len(l.changes[id].waiting) > 0 {
			return nil, fmt.Errorf("change %q has events that wait for others before them", id)
		}
		all = append(all, l.changes[id].change)
	}
	return json.Marshal(all, json.Deterministic(true))
}

// Restore puts an empty list into the state of a snapshot.
func (l *List) Restore(state []byte) error {
	var all []Change
	if err := json.Unmarshal(state, &all); err != nil {
		return err
	}
	for _, c := range all {
		if c.ID == "" {
			return errors.New("a change in the snapshot has no ID")
		}
		l.changes[c.ID] = &listed{change: c.handed()}
		l.index(c.ID, Change{}, c)
	}
	return nil
}

// Filter selects changes. Its fields are ANDed; the zero Filter selects all.
type Filter struct {
	Open      bool // only those that have not ended
	Ended     bool // only those that have
	Model     string
	Phase     string
	Kind      Kind   // of the phase
	CI        string // that they declare
	Requester string
	Group     string
	Category  string
	Waiting   string // person who is asked for an approval that is not given yet
}

func (f Filter) matches(c Change) bool {
	for _, p := range []struct{ want, have string }{
		{f.Model, c.Model}, {f.Phase, c.Phase}, {string(f.Kind), string(c.Kind)}, {f.Requester, c.Requester},
		{f.Group, c.Group}, {f.Category, c.Category},
	} {
		if p.want != "" && p.want != p.have {
			return false
		}
	}
	return !(f.Open && !c.Open() || f.Ended && c.Open()) && (f.Waiting == "" || c.Waits(f.Waiting))
}

// Get returns a change as it stands; ok is false if there is none.
func (l *List) Get(id string) (c Change, ok bool) {
	one := l.changes[id]
	if one == nil || one.change.Version == 0 { // only events that wait for those before them
		return Change{}, false
	}
	return one.change, true
}

// Find returns the changes that f selects, by ID. It costs what f's CI, or Open,
// narrows it to, otherwise all changes.
func (l *List) Find(f Filter) []Change {
	var found []Change
	look := func(id string) {
		if c, ok := l.Get(id); ok && f.matches(c) {
			found = append(found, c)
		}
	}
	switch {
	case f.CI != "":
		for id := range l.byCI[f.CI] {
			look(id)
		}
	case f.Open:
		for id := range l.open {
			look(id)
		}
	default:
		for id := range l.changes {
			look(id)
		}
	}
	slices.SortFunc(found, func(a, b Change) int { return strings.Compare(a.ID, b.ID) })
	return found
}

// List returns the changes that f selects, by ID. It shows what this engine has
// recorded, and costs as [List.Find] does.
func (s *Service) List(ctx context.Context, f Filter) ([]Change, error) {
	var found []Change
	err := s.view(ctx, func(l *List) { found = l.Find(f) })
	return found, err
}

// view reads the list as it stands after what this engine has recorded.
func (s *Service) view(ctx context.Context, read func(l *List)) error {
	if err := s.follower.WaitFor(ctx, s.door.Last()); err != nil {
		return err
	}
	return s.follower.View(ctx, func(v *follow.View) error {
		read(s.list.In(v))
		return nil
	})
}
