package schedule

import (
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
)

// The events of this room. Their names and the meaning of their fields are for ever.

// WindowDefined is recorded in "window-ID" when a window is defined, or defined
// anew: the whole of it, in place of what it was.
type WindowDefined struct {
	Window Window    `json:"window"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// WindowRetired is recorded in "window-ID" when a window holds no longer.
type WindowRetired struct {
	Window string    `json:"window"`
	Why    string    `json:"why"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// Overridden is recorded in "window-ID" when somebody takes it upon himself that
// something happens against a window. The window stays in force.
type Overridden struct {
	Window string    `json:"window"`
	Change string    `json:"change,omitzero"` // this change or release, or
	Scope  Scope     `json:"scope,omitzero"`  // whatever this matches
	Why    string    `json:"why"`
	Until  time.Time `json:"until"` // what ends later is not covered
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// ConflictAccepted is recorded in "conflict-ID" when somebody takes a conflict upon
// himself. It has the conflict as he saw it: what overlaps elsewhere or longer
// than that is not covered.
type ConflictAccepted struct {
	Conflict change.Conflict `json:"conflict"`
	Why      string          `json:"why"`
	Until    time.Time       `json:"until,omitzero"` // an overlap that ends later is not covered; zero: any
	By       string          `json:"by"`
	At       time.Time       `json:"at"`
}

// CapacityDeclared is recorded in "capacity-TEAM" when it becomes known how many
// changes a team can carry out at once; 0 takes the limit away.
type CapacityDeclared struct {
	Team string    `json:"team"`
	Most int       `json:"most"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
}

// Booked is recorded in "booking-CI" when a change takes a CI for a time, where
// booking is strict.
type Booked struct {
	CI     string        `json:"ci"`
	Change string        `json:"change"`
	Window change.Window `json:"window"`
}

// Unbooked is recorded in "booking-CI" when a change no longer needs it: it has
// ended, or is planned otherwise.
type Unbooked struct {
	CI     string `json:"ci"`
	Change string `json:"change"`
}

// Types returns the event types of this package.
func Types() []eventstore.EventType {
	return []eventstore.EventType{
		eventstore.Type[WindowDefined]("window.defined", 1),
		eventstore.Type[WindowRetired]("window.retired", 1),
		eventstore.Type[Overridden]("window.overridden", 1),
		eventstore.Type[ConflictAccepted]("conflict.accepted", 1),
		eventstore.Type[CapacityDeclared]("capacity.declared", 1),
		eventstore.Type[Booked]("booking.booked", 1),
		eventstore.Type[Unbooked]("booking.unbooked", 1),
	}
}

// Names of streams, behind which the ID stands.
const (
	changePrefix   = "change-"
	windowPrefix   = "window-"
	conflictPrefix = "conflict-"
	capacityPrefix = "capacity-"
	bookingPrefix  = "booking-"
)
