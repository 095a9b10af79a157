package risk

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
)

// Rung is a step of [Ladder]: a lead time under Under has the level. Under is in
// whole seconds, and above 0.
type Rung struct {
	Under time.Duration
	Level string
}

// LeadTime is an engine: a change that starts in less than least from now has
// level high, any other the scale's lowest. See [Ladder].
func LeadTime(least time.Duration) *Policy { return Ladder(Rung{least, High}) }

// Ladder is LeadTime with several steps: the smallest Under that is above the lead
// time gives the level, and above all of them it is the scale's lowest. A change
// that should have started already, and one without a window, is judged like one
// that starts now.
func Ladder(rungs ...Rung) *Policy {
	e := &leadTime{}
	for _, r := range rungs {
		e.Rungs = append(e.Rungs, rung{duration(r.Under), r.Level})
	}
	slices.SortStableFunc(e.Rungs, func(a, b rung) int { return int(min(max(a.Under-b.Under, -1), 1)) })
	return build(node{ID: "lead-time", LeadTime: e}, nil)
}

// farOff is as far as a lead time is told: 270 years, since a duration holds little more.
const farOff = change.Seconds(270 * 365 * 24 * 60 * 60)

type leadTime struct {
	Rungs []rung `json:"rungs"` // by Under, rising
}

type rung struct {
	Under duration `json:"under"`
	Level string   `json:"level"`
}

func (e *leadTime) build(b *builder, _ int) judge {
	b.count("steps of lead time", len(e.Rungs), 20)
	for i, r := range e.Rungs {
		if under := time.Duration(r.Under); under <= 0 || under%time.Second != 0 {
			b.refuse("duration", "step %d is under %s: give whole seconds above 0", i+1, under)
		}
		b.level(fmt.Sprintf("step %d", i+1), r.Level)
		if i > 0 && e.Rungs[i-1].Under >= r.Under {
			b.refuse("order", "step %d is under %s and the one before under %s: give each duration once, rising", i+1, r.Under, e.Rungs[i-1].Under)
		}
	}
	scale := b.scale
	return func(_ context.Context, s *subject) (change.Verdict, error) {
		lead, begin := change.Seconds(0), "it has no window, so it may start at any moment"
		switch {
		case s.Planned && s.LeadTime < 0:
			lead, begin = s.LeadTime, "its window began before now"
		case s.Planned:
			lead, begin = s.LeadTime, "it starts in "+spell(min(s.LeadTime, farOff).Duration())
		}
		for _, r := range e.Rungs {
			if under := change.Of(time.Duration(r.Under)); lead < under {
				return change.Verdict{Level: r.Level, Why: []string{fmt.Sprintf("%s: under %s of lead time is %s", begin, r.Under, r.Level)}}, nil
			}
		}
		last := e.Rungs[len(e.Rungs)-1]
		return change.Verdict{Level: scale.lowest(), Why: []string{fmt.Sprintf("%s: %s or more of lead time is %s", begin, last.Under, scale.lowest())}}, nil
	}
}
