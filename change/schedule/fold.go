package schedule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
)

// Scheduled is what the schedule knows of a change that has not ended. It is never
// altered once it is there.
type Scheduled struct {
	Change    string         `json:"change"`
	Title     string         `json:"title,omitzero"`
	Model     string         `json:"model"`
	Phase     string         `json:"phase"`
	Kind      change.Kind    `json:"kind"` // of the phase
	Requester string         `json:"requester,omitzero"`
	Owner     string         `json:"owner,omitzero"`
	Group     string         `json:"group,omitzero"`
	People    []string       `json:"people,omitzero"` // who carries it out
	CIs       []string       `json:"cis,omitzero"`    // declared, by deltas too, sorted
	Named     []string       `json:"named,omitzero"`  // of them those that are declared beside the deltas
	Deltas    []cmdb.Delta   `json:"deltas,omitzero"` // planned
	Tags      []string       `json:"tags,omitzero"`
	Window    *change.Window `json:"window,omitzero"`
	Outage    *change.Outage `json:"outage,omitzero"`
	Order     []change.Order `json:"order,omitzero"`
	OnHold    string         `json:"on_hold,omitzero"` // why; empty: it is not
	Started   time.Time      `json:"started,omitzero"`
	Done      time.Time      `json:"done,omitzero"` // when the work ended

	Version uint64              `json:"version"` // of the change, when it last became another one here
	At      time.Time           `json:"at"`      // when that was recorded
	Needs   eventstore.Position `json:"needs"`   // of the last event by which it needs another time, or other things in it
	Touched eventstore.Position `json:"touched"` // of that, or of the last by which it is in the way of others, or no longer

}

// Takes reports whether the change takes the time of its window: it has one, has
// left planning, and its work has not ended.
func (e *Scheduled) Takes() bool {
	return e.Window != nil && e.Done.IsZero() && takes[e.Kind]
}

var takes = map[change.Kind]bool{change.KindAssess: true, change.KindAuthorize: true, change.KindScheduled: true, change.KindImplement: true}

// outcome is what is kept of a change that has ended.
type outcome struct {
	Done time.Time `json:"done,omitzero"` // when its work ended; zero: it was never carried out
}

// matters are the events of a change by which its entry may become another one.
// All others only count.
var matters = map[string]bool{
	"change.raised": true, "change.edited": true, "change.moved": true, "change.started": true,
	"change.implemented": true, "change.held": true, "change.resumed": true,
}

// early is an event that came before those ahead of it in its stream.
type early struct {
	payload  any
	position eventstore.Position
	at       time.Time
}

// Apply takes the events of changes, windows, resolutions, teams and bookings,
// each once. In whatever order those of a stream come, they count in that of
// their versions.
func (s *Schedule) Apply(r eventstore.Recorded) error {
	kind, _, ok := strings.Cut(r.Stream, "-")
	if !ok || !streams[kind] {
		return nil
	}
	at := s.versions[r.Stream]
	if _, waits := s.waiting[r.Stream][r.Version]; waits || r.Version <= at {
		return nil
	}
	one := early{position: r.Position, at: r.RecordedAt.UTC()}
	if kind+"-" != changePrefix || matters[r.Type] {
		var err error
		if one.payload, err = s.registry.Decode(r.Event); err != nil {
			return err
		}
	}
	if r.Version > at+1 {
		if s.waiting[r.Stream] == nil {
			s.waiting[r.Stream] = map[uint64]early{}
		}
		s.waiting[r.Stream][r.Version] = one
		return nil
	}
	for ok := true; ok; {
		at++
		s.versions[r.Stream] = at
		s.take(r.Stream, at, one)
		if one, ok = s.waiting[r.Stream][at+1]; ok {
			if delete(s.waiting[r.Stream], at+1); len(s.waiting[r.Stream]) == 0 {
				delete(s.waiting, r.Stream)
			}
		}
	}
	return nil
}

var streams = map[string]bool{"change": true, "window": true, "conflict": true, "capacity": true, "booking": true}

func (s *Schedule) take(stream string, version uint64, one early) {
	if one.payload == nil {
		return
	}
	switch e := one.payload.(type) {
	case WindowDefined:
		w := s.window(e.Window.ID)
		w.Window, w.By, w.At, w.Version, w.Position, w.Retired = e.Window, e.By, e.At, version, one.position, nil
		s.compile(w)
	case WindowRetired:
		w := s.window(e.Window)
		w.Version, w.Position, w.Retired = version, one.position, &e
		s.compile(w)
	case Overridden:
		w := s.window(e.Window)
		w.Overrides = append(slices.Clip(w.Overrides), e)
	case ConflictAccepted:
		s.accepted[e.Conflict.ID] = e
	case CapacityDeclared:
		if s.capacity[e.Team] = e.Most; e.Most <= 0 {
			delete(s.capacity, e.Team)
		}
	case Booked:
		if s.bookings[e.CI] == nil {
			s.bookings[e.CI] = bookings{}
		}
		s.bookings[e.CI][e.Change] = e.Window
	case Unbooked:
		if delete(s.bookings[e.CI], e.Change); len(s.bookings[e.CI]) == 0 {
			delete(s.bookings, e.CI)
		}
	default:
		s.change(strings.TrimPrefix(stream, changePrefix), version, one)
	}
}

// window returns what is known of a window.
func (s *Schedule) window(id string) *Defined {
	if s.windows[id] == nil {
		s.windows[id] = &Defined{Window: Window{ID: id}}
	}
	return s.windows[id]
}

// compile makes a window answer. One that cannot, since an older or newer program
// defined it, is kept with the reason, and every query then says that it cannot look.
func (s *Schedule) compile(w *Defined) {
	id := w.Window.ID
	delete(s.broken, id)
	at, there := slices.BinarySearchFunc(s.compiled, id, func(c *Compiled, id string) int { return strings.Compare(c.ID(), id) })
	if there {
		s.compiled = slices.Delete(slices.Clone(s.compiled), at, at+1)
	}
	if w.Retired != nil || w.Version == 0 {
		return
	}
	c, err := Compile(w.Window)
	if err != nil {
		s.broken[id] = err
		return
	}
	s.compiled = slices.Insert(slices.Clip(s.compiled), at, c)
}

// live returns the windows in force, by ID, or an error if one of them cannot be
// read.
func (s *Schedule) live() ([]*Compiled, error) {
	for _, id := range slices.Sorted(maps.Keys(s.broken)) {
		return nil, fmt.Errorf("schedule: window %q cannot be read, so nothing can be said of any time: define it anew: %w", id, s.broken[id])
	}
	return s.compiled, nil
}

// change takes an event of a change.
func (s *Schedule) change(id string, version uint64, one early) {
	before := s.open[id]
	if before == nil {
		if _, ended := s.ended[id]; ended {
			return
		}
	}
	c := change.Evolve(before.change(), one.payload)
	if before != nil {
		s.unindex(before)
	}
	if !c.Open() {
		delete(s.open, id)
		if c.ID != "" {
			o := outcome{}
			if c.Work != nil {
				o.Done = c.Work.End
			}
			s.ended[id] = o
		}
		return
	}
	after := entryOf(c)
	after.Version, after.At, after.Needs, after.Touched = version, one.at, one.position, one.position
	if before != nil && before.needsSame(after) {
		after.Needs = before.Needs
		if before.Takes() == after.Takes() && (before.OnHold == "") == (after.OnHold == "") {
			after.Touched = before.Touched
		}
	}
	s.open[id] = after
	s.index(after)
}

// change returns as much of the change as e has, to go on from.
func (e *Scheduled) change() change.Change {
	if e == nil {
		return change.Change{}
	}
	c := change.Change{ID: e.Change, Model: e.Model, Requester: e.Requester, Phase: e.Phase, Kind: e.Kind}
	c.Title, c.Owner, c.Group, c.Implementers = e.Title, e.Owner, e.Group, e.People
	c.CIs, c.Deltas, c.Window, c.Outage, c.Order, c.Tags = e.Named, e.Deltas, e.Window, e.Outage, e.Order, e.Tags
	if e.OnHold != "" {
		c.Held = &change.Held{Reason: e.OnHold}
	}
	if !e.Started.IsZero() {
		c.Started = &change.Started{At: e.Started}
	}
	if !e.Done.IsZero() {
		c.Work = &change.Implemented{End: e.Done}
	}
	return c
}

func entryOf(c change.Change) *Scheduled {
	e := &Scheduled{
		Change: c.ID, Title: c.Title, Model: c.Model, Phase: c.Phase, Kind: c.Kind, Requester: c.Requester, Owner: c.Owner,
		Group: c.Group, People: c.Implementers, CIs: c.Declared(), Deltas: c.Deltas, Tags: c.Tags, Window: c.Window,
		Outage: c.Outage, Order: c.Order, Named: c.CIs,
	}
	if c.Held != nil {
		e.OnHold = c.Held.Reason
	}
	if c.Started != nil {
		e.Started = c.Started.At
	}
	if c.Work != nil {
		e.Done = c.Work.End
	}
	return e
}

// needsSame reports whether two entries need the same time for the same things.
func (e *Scheduled) needsSame(o *Scheduled) bool {
	return (e.Window == nil) == (o.Window == nil) && (e.Window == nil || *e.Window == *o.Window) &&
		e.Group == o.Group && slices.Equal(e.CIs, o.CIs) && slices.Equal(e.People, o.People) &&
		slices.Equal(e.Order, o.Order) && slices.Equal(e.Tags, o.Tags) &&
		slices.EqualFunc(e.Deltas, o.Deltas, sameDelta)
}

func sameDelta(a, b cmdb.Delta) bool {
	return a.Op == b.Op && a.CI == b.CI && a.Class == b.Class && maps.Equal(a.Attributes, b.Attributes) &&
		a.Attribute == b.Attribute && a.Before == b.Before && a.After == b.After && a.Relation == b.Relation && a.To == b.To
}

// index puts e under all that it is looked up by.
func (s *Schedule) index(e *Scheduled) {
	for _, o := range e.Order {
		if s.ordered[o.Change] == nil {
			s.ordered[o.Change] = map[string]bool{}
		}
		s.ordered[o.Change][e.Change] = true
	}
	s.timed(e, trees.insert)
}

// unindex takes e away from there.
func (s *Schedule) unindex(e *Scheduled) {
	for _, o := range e.Order {
		if delete(s.ordered[o.Change], e.Change); len(s.ordered[o.Change]) == 0 {
			delete(s.ordered, o.Change)
		}
	}
	s.timed(e, trees.remove)
}

// timed does something under all by which e is looked up in time.
func (s *Schedule) timed(e *Scheduled, do func(trees, string, *Scheduled)) {
	if e.Window == nil || !e.Done.IsZero() {
		return
	}
	do(s.all, "", e)
	for _, ci := range e.CIs {
		do(s.byCI, ci, e)
	}
	for _, person := range e.People {
		do(s.byPerson, person, e)
	}
	if e.Group != "" {
		do(s.byGroup, e.Group, e)
	}
	for _, key := range keysOf(e.Deltas) {
		do(s.byDelta, key, e)
	}
}

// Format is the version of the form of Snapshot.
func (s *Schedule) Format() int { return 2 }

type state struct {
	Versions map[string]uint64           `json:"versions"`
	Open     []*Scheduled                `json:"open,omitzero"`
	Ended    map[string]outcome          `json:"ended,omitzero"`
	Windows  map[string]*Defined         `json:"windows,omitzero"`
	Accepted map[string]ConflictAccepted `json:"accepted,omitzero"`
	Capacity map[string]int              `json:"capacity,omitzero"`
	Bookings map[string]bookings         `json:"bookings,omitzero"`
}

// Snapshot returns the schedule, always the same bytes for the same state.
func (s *Schedule) Snapshot() ([]byte, error) {
	for stream := range s.waiting {
		return nil, fmt.Errorf("stream %q has events that wait for others before them", stream)
	}
	all := state{Versions: s.versions, Ended: s.ended, Windows: s.windows, Accepted: s.accepted, Capacity: s.capacity, Bookings: s.bookings}
	for _, id := range slices.Sorted(maps.Keys(s.open)) {
		all.Open = append(all.Open, s.open[id])
	}
	return json.Marshal(all, json.Deterministic(true))
}

// Restore puts an empty schedule into the state of a snapshot.
func (s *Schedule) Restore(from []byte) error {
	var all state
	if err := json.Unmarshal(from, &all); err != nil {
		return err
	}
	if all.Versions == nil {
		return errors.New("it has no versions")
	}
	s.versions = all.Versions
	for _, e := range all.Open {
		if e == nil || e.Change == "" {
			return errors.New("a change in it has no ID")
		}
		s.open[e.Change] = e
		s.index(e)
	}
	maps.Copy(s.ended, all.Ended)
	maps.Copy(s.accepted, all.Accepted)
	maps.Copy(s.capacity, all.Capacity)
	maps.Copy(s.bookings, all.Bookings)
	for id, w := range all.Windows {
		if w == nil || w.Window.ID != id {
			return errors.New("a window in it has no ID")
		}
		s.windows[id] = w
		s.compile(w)
	}
	return nil
}
