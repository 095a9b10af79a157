package schedule

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
)

// Kind says what a window does to what lies in it.
type Kind string

// The kinds of window (DOMAIN 2.1).
const (
	Allow Kind = "allow" // maintenance: what it matches is done in it, or in another one that allows
	Deny  Kind = "deny"  // blackout, freeze: what it matches is not done in it
)

// Window is a time, once or again and again, in which something is allowed or
// denied. It is data: [Window.Check] says what is wrong with it, and [Compile]
// makes it answer.
//
// All its times are local times of its zone, without an offset, to the second:
// "2026-03-02T02:30:00". One that does not exist, since the clock is put forward
// over it, is taken with the offset from before the gap: 02:30 is then 03:30. One
// that comes twice, since the clock is put back, is the first (RFC 5545, 3.3.5).
//
// A Duration is time that passes: eight hours are eight hours also in the night
// in which the clock changes. An End is a time of day: a window from 22:00 to
// 06:00 ends at 06:00, after seven hours in one night of the year and nine in
// another. Where the clock leaves nothing between Start and End, it lasts as long
// as they are apart on other days.
type Window struct {
	ID     string `json:"id,omitzero"`
	Name   string `json:"name"`
	Kind   Kind   `json:"kind"`
	Scope  Scope  `json:"scope"`
	Reason string `json:"reason,omitzero"` // shown to whoever meets it

	// Parent is the ID of the window from which this one carves an exception: while
	// this one is active, and for what its own scope matches, the parent is not. One
	// of the parent's kind then stands in its place, with its own reason and effects;
	// one of the other kind does nothing else: an exception to a freeze does not
	// close the rest of the year. Without its parent it has no effect.
	Parent string `json:"parent,omitzero"`

	Zone     string          `json:"zone,omitzero"`     // IANA: "Europe/Berlin"; default "UTC"
	Start    string          `json:"start"`             // of the first occurrence, local
	Duration change.Duration `json:"duration,omitzero"` // this, or End
	End      string          `json:"end,omitzero"`      // of the first occurrence, local
	Rule     string          `json:"rule,omitzero"`     // RFC 5545 RRULE: "FREQ=MONTHLY;BYDAY=2SA"; Start is an occurrence only if the rule has it
	Dates    []string        `json:"dates,omitzero"`    // RDATE: further starts, local
	Except   []string        `json:"except,omitzero"`   // EXDATE: starts that are left out, local

	Effects Effects `json:"effects,omitzero"`
}

// Effects says what a window does to a command that meets it, at each point
// (DOMAIN 2.1). Where nothing is said it warns when a change is planned, so that
// an override can be asked for, and blocks when it is authorised and when it, or
// a deployment, is started.
type Effects struct {
	Plan      change.Effect `json:"plan,omitzero"`      // default warn
	Authorize change.Effect `json:"authorize,omitzero"` // default block
	Start     change.Effect `json:"start,omitzero"`     // default block; also for deployments
}

// At returns the effect at a point. To one who only asks it is the strongest of
// the three.
func (e Effects) At(p change.Point) change.Effect {
	plan, authorize, start := cmp.Or(e.Plan, change.Warn), cmp.Or(e.Authorize, change.Block), cmp.Or(e.Start, change.Block)
	switch p {
	case change.Planned:
		return plan
	case change.ToAuthorize:
		return authorize
	case change.ToStart, change.ToDeploy:
		return start
	}
	return Stronger(plan, Stronger(authorize, start))
}

// Stronger returns the stronger of two effects: block, warn, record.
func Stronger(a, b change.Effect) change.Effect {
	order := []change.Effect{change.Record, change.Warn, change.Block}
	if slices.Index(order, a) >= slices.Index(order, b) {
		return a
	}
	return b
}

// Compiled is a window that answers. It is safe for concurrent use.
type Compiled struct {
	window Window
	zone   *time.Location
	start  local
	length local   // from start to end: of an End by the clock on the wall, of a Duration exact
	wall   bool    // whether it is by the clock on the wall
	rule   *rule   // nil: it occurs at start
	dates  []local // further starts, sorted, each once
	except []local // sorted, each once
}

// Compile returns w as one that answers, or a *command.Error of all that
// [Window.Check] finds. It costs some microseconds; a rule with a COUNT is counted
// through, which takes up to 10 ms for 100,000.
func Compile(w Window) (*Compiled, error) {
	c, faults := compile(w)
	if len(faults) > 0 {
		return nil, command.Refuse(faults...)
	}
	return c, nil
}

// Check returns everything that is wrong with w.
func (w Window) Check() []command.Refusal {
	_, faults := compile(w)
	return faults
}

// Window returns what was compiled.
func (c *Compiled) Window() Window { return c.window }

// ID returns the ID of the window.
func (c *Compiled) ID() string { return c.window.ID }

// Occurrences returns the occurrences that have some time within [from, to), in
// the order of their starts, each as long as it is, in UTC. It costs what lies
// between, however long ago the window began.
func (c *Compiled) Occurrences(from, to time.Time) iter.Seq[change.Window] {
	return func(yield func(change.Window) bool) { c.occurrences(from, to, yield) }
}

// Between returns when c is active within [from, to), in order, half open, in
// UTC, cut to it. Occurrences that overlap or touch are one.
func (c *Compiled) Between(from, to time.Time) iter.Seq[change.Window] {
	return func(yield func(change.Window) bool) {
		var held change.Window
		for o := range c.Occurrences(from, to) {
			o = change.Window{Start: later(o.Start, from.UTC()), End: earlier(o.End, to.UTC())}
			switch {
			case held.End.IsZero():
				held = o
			case o.Start.After(held.End):
				if !yield(held) {
					return
				}
				held = o
			default:
				held.End = later(held.End, o.End)
			}
		}
		if !held.End.IsZero() {
			yield(held)
		}
	}
}

// At returns the occurrence that is active at t: of several the one that ends last.
func (c *Compiled) At(t time.Time) (change.Window, bool) {
	var found change.Window
	for o := range c.Occurrences(t, t.Add(1)) {
		if found.End.IsZero() || o.End.After(found.End) {
			found = o
		}
	}
	return found, !found.End.IsZero()
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// malformed returns a refusal of what was given.
func malformed(rule, field, reason, remedy string) command.Refusal {
	return command.Refusal{Kind: command.Malformed, Rule: rule, Field: field, Reason: reason, Remedy: remedy}
}
