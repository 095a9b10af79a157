package schedule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Config is what a Service stands on. All but Rules is required; package
// rollforward wires it.
type Config struct {
	Door     *command.Door
	Store    eventstore.Store     // the door's
	Registry *eventstore.Registry // the door's, with the types of this package, change and cmdb
	Follower *follow.Follower     // of Store, started with CMDB and Schedule
	CMDB     follow.Projection[*cmdb.Graph]
	Schedule follow.Projection[*Schedule]

	Rules Rules // default the zero Rules
}

// Service is where windows come in and questions about time are answered. It is
// the change.Calendar of an engine. Its methods may be called concurrently; what a
// command of the same door recorded, a later query shows.
type Service struct {
	door     *command.Door
	store    eventstore.Store
	registry *eventstore.Registry
	follower *follow.Follower
	cmdb     follow.Projection[*cmdb.Graph]
	schedule follow.Projection[*Schedule]
	rules    Rules
	blind    bool // a test has taken the bookings out
}

var _ change.Calendar = (*Service)(nil)

// What was asked about is not there.
var (
	ErrUnknownWindow = errors.New("no such window")
	ErrUnknownChange = errors.New("no such change that has not ended")
)

// New returns a service. It does no I/O.
func New(c Config) (*Service, error) {
	switch {
	case c.Door == nil, c.Store == nil, c.Registry == nil, c.Follower == nil, c.CMDB.New == nil, c.Schedule.New == nil:
		return nil, errors.New("schedule: Door, Store, Registry, Follower, CMDB and Schedule are required: let package rollforward wire them")
	case c.Rules.MostRelated < 0 || c.Rules.Horizon < 0 || c.Rules.Horizon > maxWithin:
		return nil, errors.New("schedule: MostRelated and Horizon are not negative, and a horizon is at most 10 years")
	}
	for rule := range c.Rules.Effects {
		if severity[rule] == "" {
			return nil, fmt.Errorf("schedule: Effects name %q, which is no rule: they are %v", rule, slices.Sorted(maps.Keys(severity)))
		}
	}
	if _, err := c.Registry.TypeName(WindowDefined{}); err != nil {
		return nil, fmt.Errorf("schedule: give the registry schedule.Types(): %w", err)
	}
	return &Service{
		door: c.Door, store: c.Store, registry: c.Registry, follower: c.Follower, cmdb: c.CMDB, schedule: c.Schedule, rules: c.Rules,
	}, nil
}

// Judge implements change.Calendar: it looks at the schedule and the CMDB as they
// stand at the head of the log, for which it waits.
func (s *Service) Judge(tx *command.Tx, o change.Occasion) (change.Timing, error) {
	var found Found
	err := s.follower.Within(tx.Tx, func(v *follow.View) (err error) {
		found, err = s.conflicts(v, o)
		return err
	})
	return found.Timing, err
}

func (s *Service) conflicts(v *follow.View, o change.Occasion) (Found, error) {
	found, err := s.schedule.In(v).Conflicts(o, s.cmdb.In(v), s.rules)
	found.Timing.Position = uint64(v.Position())
	return found, err
}

// head reads the folds at the head of the log, and after what this door has recorded.
func (s *Service) head(ctx context.Context, read func(v *follow.View) error) error {
	head, err := s.store.Head(ctx)
	if err != nil {
		return err
	}
	if err := s.follower.WaitFor(ctx, max(head, s.door.Last())); err != nil {
		return err
	}
	return s.follower.View(ctx, read)
}

// view reads the folds as they stand after what this door has recorded.
func (s *Service) view(ctx context.Context, read func(v *follow.View, fold *Schedule) error) error {
	if err := s.follower.WaitFor(ctx, s.door.Last()); err != nil {
		return err
	}
	return s.follower.View(ctx, func(v *follow.View) error { return read(v, s.schedule.In(v)) })
}

// Conflicts returns what stands against the time of a change now. The error is
// ErrUnknownChange if it has ended or never was.
func (s *Service) Conflicts(ctx context.Context, id string) (Found, error) {
	var found Found
	return found, s.view(ctx, func(v *follow.View, fold *Schedule) (err error) {
		e := fold.open[id]
		if e == nil {
			return fmt.Errorf("conflicts of %.100q: %w", id, ErrUnknownChange)
		}
		found, err = s.conflicts(v, e.occasion())
		return err
	})
}

// ConflictsOf returns what stands against an occasion that nobody has planned yet.
// CIs that the CMDB does not have are looked at by their ID alone.
func (s *Service) ConflictsOf(ctx context.Context, o change.Occasion) (Found, error) {
	var found Found
	return found, s.view(ctx, func(v *follow.View, _ *Schedule) (err error) {
		if o.Point == "" {
			o.Point = change.Asked
		}
		slices.Sort(o.CIs)
		o.CIs = slices.Compact(o.CIs)
		found, err = s.conflicts(v, o)
		return err
	})
}

// occasion is what is asked about a change that is there.
func (e *Scheduled) occasion() change.Occasion {
	o := change.Occasion{
		Point: change.Asked, Change: e.Change, Model: e.Model, Group: e.Group, CIs: e.CIs, Deltas: e.Deltas, Tags: e.Tags,
		People: e.People, Order: e.Order, Apart: []string{e.Change},
	}
	if e.Window != nil {
		o.Window = *e.Window
	}
	return o
}

// Open says whether a time is open to work on a CI by a change of a model, and if
// not why, and when it is open next for as long. It asks about windows only. An
// interval without length is the instant at its start. model may be empty.
func (s *Service) Open(ctx context.Context, ci, model string, at change.Window) (Opening, error) {
	var opening Opening
	return opening, s.view(ctx, func(v *follow.View, fold *Schedule) error {
		live, err := fold.live()
		if err != nil {
			return err
		}
		graph := s.cmdb.In(v)
		item, ok := graph.CI(ci)
		if !ok {
			return &cmdb.UnknownError{Kind: cmdb.ErrUnknownCI, Names: []string{ci}}
		}
		e := estate{graph: graph, above: map[string][]string{}}
		opening = Judge(live, e.subject(item, model, nil), at, s.rules.filled().Horizon)
		return nil
	})
}

// OpenTo is Open for whatever the windows are to be matched with.
func (s *Service) OpenTo(ctx context.Context, x Subject, at change.Window) (Opening, error) {
	var opening Opening
	return opening, s.view(ctx, func(_ *follow.View, fold *Schedule) error {
		live, err := fold.live()
		if err == nil {
			opening = Judge(live, x, at, s.rules.filled().Horizon)
		}
		return err
	})
}

// Slots returns the first times in which there is room; see [Schedule.Slots].
func (s *Service) Slots(ctx context.Context, n Need) (Slots, error) {
	var slots Slots
	return slots, s.view(ctx, func(v *follow.View, fold *Schedule) (err error) {
		slots, err = fold.Slots(n, s.cmdb.In(v), s.rules, s.door.Now())
		slots.Position = v.Position()
		return err
	})
}

// Windows returns the windows in force, by ID; with retired those that were
// retired, too.
func (s *Service) Windows(ctx context.Context, retired bool) ([]Defined, error) {
	var all []Defined
	return all, s.view(ctx, func(_ *follow.View, fold *Schedule) error {
		for _, id := range slices.Sorted(maps.Keys(fold.windows)) {
			if w := fold.windows[id]; w.Version > 0 && (retired || w.Retired == nil) {
				all = append(all, w.handed())
			}
		}
		return nil
	})
}

// Window returns a window as it stands. The error is ErrUnknownWindow if there
// never was one.
func (s *Service) Window(ctx context.Context, id string) (Defined, error) {
	var found Defined
	return found, s.view(ctx, func(_ *follow.View, fold *Schedule) error {
		w := fold.windows[id]
		if w == nil || w.Version == 0 {
			return fmt.Errorf("window %.100q: %w", id, ErrUnknownWindow)
		}
		found = w.handed()
		return nil
	})
}

// handed returns a copy that whoever has it may keep.
func (d *Defined) handed() Defined {
	copied := *d
	copied.Overrides = slices.Clone(d.Overrides)
	return copied
}

// Capacity returns how many changes each team can carry out at once, where that
// was declared.
func (s *Service) Capacity(ctx context.Context) (map[string]int, error) {
	var all map[string]int
	return all, s.view(ctx, func(_ *follow.View, fold *Schedule) error {
		all = maps.Clone(fold.capacity)
		return nil
	})
}

// Bookings returns when a CI is booked, by change; nothing where booking is not
// strict.
func (s *Service) Bookings(ctx context.Context, ci string) (map[string]change.Window, error) {
	var all map[string]change.Window
	return all, s.view(ctx, func(_ *follow.View, fold *Schedule) error {
		all = maps.Clone(fold.bookings[ci])
		return nil
	})
}

// WindowEntry is one event of a window as people read it.
type WindowEntry struct {
	Version  uint64
	Position eventstore.Position
	At       time.Time
	Actor    string
	Says     string // "defines it: deny everything, from ..."
	Reason   string // of the command, in the actor's words
}

// History returns the events of a window as sentences, oldest first. The error is
// ErrUnknownWindow if there never was one. It costs one read of its stream.
func (s *Service) History(ctx context.Context, id string) ([]WindowEntry, error) {
	if !nameable(id) {
		return nil, fmt.Errorf("history of window %.100q: %w", id, ErrUnknownWindow)
	}
	var all []WindowEntry
	for r, err := range s.store.Read(ctx, eventstore.Query{Streams: []string{windowPrefix + id}}) {
		if err != nil {
			return nil, fmt.Errorf("history of window %q: %w", id, err)
		}
		payload, err := s.registry.Decode(r.Event)
		if err != nil {
			return nil, fmt.Errorf("history of window %q: %w", id, err)
		}
		meta, err := eventstore.DecodeMetadata(r.Meta)
		if err != nil {
			return nil, fmt.Errorf("history of window %q: %w", id, err)
		}
		all = append(all, WindowEntry{
			Version: r.Version, Position: r.Position, At: meta.OccurredAt, Actor: meta.Actor, Says: say(payload), Reason: meta.Reason,
		})
	}
	if all == nil {
		return nil, fmt.Errorf("history of window %.100q: %w", id, ErrUnknownWindow)
	}
	return all, nil
}

// say returns what the actor did.
func say(payload any) string {
	switch e := payload.(type) {
	case WindowDefined:
		w := e.Window
		s := fmt.Sprintf("defines it: %q, %s %s, from %s", w.Name, map[Kind]string{Allow: "allows", Deny: "denies"}[w.Kind], w.Scope, w.Start)
		if w.End != "" {
			s += " to " + w.End
		} else {
			s += " for " + w.Duration.String()
		}
		if w.Zone != "" {
			s += " in " + w.Zone
		}
		if w.Rule != "" {
			s += ", " + w.Rule
		}
		return s
	case WindowRetired:
		return "retires it: " + e.Why
	case Overridden:
		about := e.Change
		if about == "" {
			about = e.Scope.String()
		}
		return fmt.Sprintf("overrides it for %s until %s: %s", about, e.Until.UTC().Format("2006-01-02 15:04 MST"), e.Why)
	}
	return fmt.Sprintf("records %T", payload)
}
