package schedule

import (
	"time"

	"github.com/rollforward/rollforward/change"
)

// Horizon is how far is looked for the next opening where nothing else is said.
const Horizon = 90 * 24 * time.Hour

// Opening says whether a time is open to something, and why.
type Opening struct {
	Open    bool      `json:"open"`
	Why     string    `json:"why"`
	Window  string    `json:"window,omitzero"`  // ID of the one that closes it, or that allows it; empty: none is needed
	Until   time.Time `json:"until,omitzero"`   // when it closes, or the window that closes it ends; zero: not within the horizon
	Next    time.Time `json:"next,omitzero"`    // closed: when it is open next for as long; zero: not within the horizon
	Against []Against `json:"against,omitzero"` // closed: every window that stands against it, by the time it does
}

// Against is a window that stands against a time.
type Against struct {
	Rule    string        `json:"rule"`   // Blackout or OutsideMaintenance
	Window  Window        `json:"window"` // outside of maintenance: of those that allow, the one with the smallest ID
	Overlap change.Window `json:"overlap"`
	Effects Effects       `json:"effects"` // outside of maintenance: the strongest of all that allow
}

// The rules of windows (DOMAIN 2.2).
const (
	Blackout           = "blackout"
	OutsideMaintenance = "outside-maintenance"
)

// Judge applies the open rule (DOMAIN 2.1) to an interval: it is open to x if no
// window that matches x and denies is active at any time of it, and either no
// window that matches x allows, or those that do are active, one after the other,
// for all of it. An interval without length is the instant at its start.
//
// The horizon counts from the start of the interval; 0 is [Horizon].
func Judge(windows []*Compiled, x Subject, over change.Window, horizon time.Duration) Opening {
	panic("not yet")
}

// Open returns when x is open within an interval, in order, cut to it.
func Open(windows []*Compiled, x Subject, within change.Window) []change.Window {
	panic("not yet")
}
