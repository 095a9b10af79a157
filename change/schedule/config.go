package schedule

import (
	"cmp"
	"time"

	"github.com/rollforward/rollforward/change"
)

// Rules are how a Service judges. The zero Rules are the defaults.
type Rules struct {
	// Strict books the declared CIs of a change once it is scheduled, so that no two
	// changes can be scheduled for one CI at the same time. Default off: they warn.
	Strict bool

	// Touching lets two changes conflict of which one begins in the microsecond in
	// which the other ends. Default off.
	Touching bool

	// Tentative lets changes that are still being planned take their time too.
	// Default off: a change takes it from when it leaves planning.
	Tentative bool

	// Related are the types of the relations that lead to parents and children, by
	// either of their names. Default: those of [Related] that the CMDB has.
	Related []string

	// Depth is how many of them are followed. Default 1; below 0 none.
	Depth int

	// MostRelated is how many parents, and how many children, are looked at, the
	// nearest first. What lies beyond is unknown, and is said to be, by the rule
	// "too-many-related". Default 10,000.
	MostRelated int

	// Effects say what a rule does to a command that meets it, by the rule's name.
	// Default: what the window says for blackout, child-blackout,
	// outside-maintenance and window-too-short; order-violated warns, and blocks
	// the start of the one that must follow; order-circular blocks; everything else warns.
	Effects map[string]Effects

	// Horizon is how far is looked for openings and slots. Default [Horizon].
	Horizon time.Duration
}

// Related returns the types of relation that are followed to parents and children
// where nothing else is said.
func Related() []string { return []string{"depends on", "runs on", "contains", "member of"} }

// The rules of conflicts beside Blackout and OutsideMaintenance (DOMAIN 2.2).
// Those that can lie with a parent or a child of a CI are then named
// "parent-blackout", "child-already-scheduled", and so on.
const (
	AlreadyScheduled = "ci-already-scheduled"
	AssigneeBusy     = "assignee-busy"
	TeamOverCapacity = "team-over-capacity"
	OrderViolated    = "order-violated"
	OrderCircular    = "order-circular"
	DeltaClash       = "delta-clash"
	RedundancyLost   = "redundancy-lost"
	WindowTooShort   = "window-too-short"
	TooManyRelated   = "too-many-related"
)

const (
	parentPrefix     = "parent-"
	childPrefix      = "child-"
	alreadyScheduled = "already-scheduled"
)

const defaultRelated = 10_000

func (r Rules) filled() Rules {
	r.Depth = cmp.Or(r.Depth, 1)
	r.MostRelated = cmp.Or(r.MostRelated, defaultRelated)
	r.Horizon = cmp.Or(r.Horizon, Horizon)
	return r
}

// effect returns what a rule does at a point. window is what the window says that
// is met, the zero Effects where there is none.
func (r Rules) effect(rule string, at change.Point, window Effects) change.Effect {
	standard := Effects{change.Warn, change.Warn, change.Warn}
	switch rule {
	case Blackout, childPrefix + Blackout, OutsideMaintenance, WindowTooShort:
		standard = window
	case OrderViolated:
		standard.Start = change.Block
	case OrderCircular:
		standard = Effects{change.Block, change.Block, change.Block}
	case TooManyRelated:
		standard = Effects{change.Record, change.Record, change.Record}
	}
	own := r.Effects[rule]
	return Effects{
		Plan: cmp.Or(own.Plan, standard.Plan), Authorize: cmp.Or(own.Authorize, standard.Authorize), Start: cmp.Or(own.Start, standard.Start),
	}.At(at)
}

// severity is how grave a conflict is by its rule alone.
var severity = map[string]string{
	Blackout: "critical", childPrefix + Blackout: "critical", parentPrefix + Blackout: "moderate",
	OutsideMaintenance: "high", childPrefix + OutsideMaintenance: "moderate", parentPrefix + OutsideMaintenance: "low",
	AlreadyScheduled: "high", childPrefix + alreadyScheduled: "moderate", parentPrefix + alreadyScheduled: "high",
	AssigneeBusy: "moderate", TeamOverCapacity: "moderate", OrderViolated: "high", OrderCircular: "critical",
	DeltaClash: "high", RedundancyLost: "critical", WindowTooShort: "moderate", TooManyRelated: "low",
}

// severities are all of them, the gravest last.
var severities = []string{"low", "moderate", "high", "critical"}
