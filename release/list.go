package release

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

// List is a fold of all releases as they stand, for queries over many. It keeps
// each release in memory, a few KiB. It is the same whatever the order in which
// events reach it and however often they do.
type List struct {
	registry *eventstore.Registry
	releases map[string]*entry
	open     map[string]struct{}
	byCI     map[string]map[string]struct{} // IDs of releases by CI of their components
	byChange map[string]map[string]struct{}
}

type entry struct {
	release Release
	waiting map[uint64]early // events that came before those ahead of them
}

type early struct {
	payload  any
	position eventstore.Position
}

// Projection declares the list to a follower. registry has the types of this package.
func Projection(registry *eventstore.Registry) follow.Projection[*List] {
	return follow.Projection[*List]{Name: "releases", New: func() *List {
		return &List{
			registry: registry, releases: map[string]*entry{}, open: map[string]struct{}{},
			byCI: map[string]map[string]struct{}{}, byChange: map[string]map[string]struct{}{},
		}
	}}
}

// Apply takes the events of releases, each once.
func (l *List) Apply(e eventstore.Recorded) error {
	id, ok := strings.CutPrefix(e.Stream, streamPrefix)
	if !ok {
		return nil
	}
	one := l.releases[id]
	if one != nil && (e.Version <= one.release.Version || one.waiting[e.Version].payload != nil) {
		return nil
	}
	payload, err := l.registry.Decode(e.Event)
	if err != nil {
		return err
	}
	if one == nil {
		one = &entry{}
		l.releases[id] = one
	}
	if e.Version > one.release.Version+1 {
		if one.waiting == nil {
			one.waiting = map[uint64]early{}
		}
		one.waiting[e.Version] = early{payload, e.Position}
		return nil
	}
	before := one.release
	one.take(payload, e.Position)
	for len(one.waiting) > 0 {
		next, ok := one.waiting[one.release.Version+1]
		if !ok {
			break
		}
		delete(one.waiting, one.release.Version+1)
		one.take(next.payload, next.position)
	}
	l.index(id, before, one.release)
	return nil
}

func (o *entry) take(payload any, position eventstore.Position) {
	o.release = evolve(o.release, payload).handed() // queries give it away
	o.release.Position = position
}

// index keeps what is looked up by.
func (l *List) index(id string, before, after Release) {
	reindex(l.byCI, id, before.CIs(), after.CIs())
	reindex(l.byChange, id, before.changeIDs(), after.changeIDs())
	if after.Open() {
		l.open[id] = struct{}{}
	} else {
		delete(l.open, id)
	}
}

func reindex(by map[string]map[string]struct{}, id string, was, is []string) {
	if slices.Equal(was, is) {
		return
	}
	for _, key := range was {
		delete(by[key], id)
		if len(by[key]) == 0 {
			delete(by, key)
		}
	}
	for _, key := range is {
		if by[key] == nil {
			by[key] = map[string]struct{}{}
		}
		by[key][id] = struct{}{}
	}
}

func (r Release) changeIDs() []string {
	var ids []string
	for _, b := range r.Changes {
		ids = with(ids, b.Change)
	}
	return ids
}

// Format is the version of the form of Snapshot.
func (l *List) Format() int { return 1 }

// Snapshot returns the list, always the same bytes for the same state.
func (l *List) Snapshot() ([]byte, error) {
	all := make([]Release, 0, len(l.releases))
	for _, id := range slices.Sorted(maps.Keys(l.releases)) {
		if len(l.releases[id].waiting) > 0 {
			return nil, fmt.Errorf("release %q has events that wait for others before them", id)
		}
		all = append(all, l.releases[id].release)
	}
	return json.Marshal(all, json.Deterministic(true))
}

// Restore puts an empty list into the state of a snapshot.
func (l *List) Restore(state []byte) error {
	var all []Release
	if err := json.Unmarshal(state, &all); err != nil {
		return err
	}
	for _, r := range all {
		if r.ID == "" {
			return errors.New("a release in the snapshot has no ID")
		}
		l.releases[r.ID] = &entry{release: r.handed()}
		l.index(r.ID, Release{}, r)
	}
	return nil
}

// Filter selects releases. Its fields are ANDed; the zero Filter selects all.
type Filter struct {
	Open        bool // only those that have not ended
	Ended       bool // only those that have
	Process     string
	Phase       string
	Kind        Kind
	CI          string // of a component
	Change      string // that is bound
	Bundle      string
	Planner     string
	Environment string // with a deployment there, whatever came of it
	Deploying   bool   // with a deployment under way, in Environment where that is given
	Held        bool   // with a hold that nobody has lifted
}

func (f Filter) matches(r Release) bool {
	for _, p := range []struct{ want, have string }{
		{f.Process, r.Process.Name}, {f.Phase, r.Phase}, {string(f.Kind), string(r.Kind)}, {f.Bundle, r.Bundle}, {f.Planner, r.Planner},
	} {
		if p.want != "" && p.want != p.have {
			return false
		}
	}
	if (f.Environment != "" || f.Deploying) && !slices.ContainsFunc(r.Deployments, func(d Deployment) bool {
		return (f.Environment == "" || d.Environment == f.Environment) && (!f.Deploying || d.Active())
	}) {
		return false
	}
	return !(f.Open && !r.Open() || f.Ended && r.Open()) && (!f.Held || len(r.Holds) > 0) &&
		(f.CI == "" || slices.Contains(r.CIs(), f.CI)) && (f.Change == "" || r.Bound(f.Change))
}

// Get returns a release as it stands; ok is false if there is none.
func (l *List) Get(id string) (r Release, ok bool) {
	one := l.releases[id]
	if one == nil || one.release.ID == "" {
		return Release{}, false
	}
	return one.release, true
}

// Find returns the releases that f selects, by ID. It costs what f's CI, Change or
// Open narrows it to, otherwise all releases.
func (l *List) Find(f Filter) []Release {
	var found []Release
	look := func(id string) {
		if r, ok := l.Get(id); ok && f.matches(r) {
			found = append(found, r)
		}
	}
	var among map[string]struct{}
	switch {
	case f.CI != "":
		among = l.byCI[f.CI]
	case f.Change != "":
		among = l.byChange[f.Change]
	case f.Open:
		among = l.open
	default:
		for id := range l.releases {
			look(id)
		}
	}
	for id := range among {
		look(id)
	}
	slices.SortFunc(found, func(a, b Release) int { return strings.Compare(a.ID, b.ID) })
	return found
}

// List returns the releases that f selects, by ID. It shows what this engine has
// recorded, and costs as [List.Find] does.
func (s *Service) List(ctx context.Context, f Filter) ([]Release, error) {
	if err := s.follower.WaitFor(ctx, s.door.Last()); err != nil {
		return nil, err
	}
	var found []Release
	err := s.follower.View(ctx, func(v *follow.View) error {
		found = s.list.In(v).Find(f)
		return nil
	})
	return found, err
}
