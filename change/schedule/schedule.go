// Package schedule is time: windows in which something is allowed or denied, what
// is planned when, what conflicts with what, when there is room, and booking that
// no two can win. In come windows through the door of package command, and the
// events of changes by the log; out come answers: is this time open, what stands
// against it, when is it open next, what is to happen when.
//
//	_, err := calendar.DefineWindow(ctx, carol, schedule.Window{
//		ID: "year-end", Name: "Year-end freeze", Kind: schedule.Deny, Scope: schedule.Scope{Everything: true},
//		Start: "2026-12-18T00:00:00", End: "2027-01-04T00:00:00", Zone: "Europe/Berlin",
//	})
//	slots, err := calendar.Slots(ctx, schedule.Need{For: 2 * time.Hour, CIs: []string{"db-01"}})
//	found, err := calendar.Conflicts(ctx, "CHG-000042")
//
// # What is answered, and from what
//
// [Schedule] is a fold of the log: the windows in force, and of every change that
// has not ended what its time needs. A conflict is no event but the answer to a
// query over it, so it is always current; what was known when a change was
// planned, authorised and started is recorded with the change, and
// [Service.Stale] says whether it still holds. Not run, not applicable, clear and
// conflict are four answers; a query that cannot look returns an error.
//
// A change takes its time from when it leaves planning until its work ends.
// Intervals are half open, and two that only touch do not conflict.
//
// # Who is near whom
//
// A conflict may lie with a CI beside one's own: a parent is what the CI needs, a
// child what needs it. Followed are the relations of [Related], one step, unless
// [Config] says otherwise. A pool counts as a child of its members whether or not
// it can lose them.
//
// # Booking
//
// A conflict is found by a look at the log, and two who look at the same instant
// both see nothing. Where booking is strict, a change that becomes scheduled
// records that in the stream of each CI it declares, "booking-CI", in the same
// append: one of the two wins, the other is refused by the rule "booked" and told
// by whom. CIs beside the declared ones are not booked; they are found by query.
//
// Service implements change.Calendar, by which changes and releases ask.
package schedule

import (
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Schedule is a fold of all windows and of what every change needs of time. It is
// the same whatever the order in which events reach it and however often they do.
// It keeps about 1 KiB of a change that has not ended, some 100 bytes of one that
// has. In a View it is to be read only.
type Schedule struct {
	registry *eventstore.Registry
	versions map[string]uint64           // of streams
	waiting  map[string]map[uint64]early // by stream and version

	open     map[string]*Scheduled
	ended    map[string]outcome
	windows  map[string]*Defined
	compiled []*Compiled      // of the windows in force, by ID; replaced, never altered
	broken   map[string]error // windows in force that cannot be read
	accepted map[string]ConflictAccepted
	capacity map[string]int      // by team
	bookings map[string]bookings // by CI; only where there are any

	// Open changes that have a window and whose work has not ended.
	all      trees // under ""
	byCI     trees
	byPerson trees
	byGroup  trees
	byDelta  trees
	ordered  map[string]map[string]bool // open changes that name a change in their order
}

// Defined is a window as it stands.
type Defined struct {
	Window    Window              `json:"window"`
	Version   uint64              `json:"version"` // of its stream, when it was last defined or retired
	Position  eventstore.Position `json:"position"`
	By        string              `json:"by"`
	At        time.Time           `json:"at"`
	Retired   *WindowRetired      `json:"retired,omitzero"`   // nil: it is in force
	Overrides []Overridden        `json:"overrides,omitzero"` // oldest first
}

// bookings are when a CI is booked, by change.
type bookings map[string]change.Window

// Projection declares the schedule to a follower. registry has the types of
// package change and of this one.
func Projection(registry *eventstore.Registry) follow.Projection[*Schedule] {
	return follow.Projection[*Schedule]{Name: "schedule", New: func() *Schedule {
		return &Schedule{
			registry: registry, versions: map[string]uint64{}, waiting: map[string]map[uint64]early{},
			open: map[string]*Scheduled{}, ended: map[string]outcome{}, windows: map[string]*Defined{}, broken: map[string]error{},
			accepted: map[string]ConflictAccepted{}, capacity: map[string]int{}, bookings: map[string]bookings{},
			all: trees{}, byCI: trees{}, byPerson: trees{}, byGroup: trees{}, byDelta: trees{}, ordered: map[string]map[string]bool{},
		}
	}}
}

// Get returns what the schedule knows of a change that has not ended.
func (s *Schedule) Get(id string) (Scheduled, bool) {
	e := s.open[id]
	if e == nil {
		return Scheduled{}, false
	}
	return *e, true
}
