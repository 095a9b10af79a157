package automation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
)

// past is changes as they stood at a position.
type past struct {
	changes *change.Service
	at      eventstore.Position
	known   map[string]change.Change // of those that have moved on since; without an ID where there was none
	asNow   bool
}

// declaring returns the changes that declare a CI of a delta, as they stood.
func (p past) declaring(ctx context.Context, d cmdb.Delta) ([]change.Change, error) {
	var all []change.Change
	for _, ci := range []string{d.CI, d.To} {
		if ci == "" {
			continue
		}
		listed, err := p.changes.List(ctx, change.Filter{CI: ci})
		if err != nil {
			return nil, err
		}
		for _, now := range listed {
			c, err := p.stood(ctx, now)
			if err != nil {
				return nil, err
			}
			if c.ID != "" && !slices.ContainsFunc(all, func(o change.Change) bool { return o.ID == c.ID }) {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

// stood returns a change as it stood; it has no ID if it had not been raised.
func (p past) stood(ctx context.Context, now change.Change) (change.Change, error) {
	if now.Position <= p.at || p.asNow {
		return now, nil
	}
	if c, ok := p.known[now.ID]; ok {
		return c, nil
	}
	history, err := p.changes.History(ctx, now.ID)
	if err != nil {
		return change.Change{}, err
	}
	var version uint64
	for _, e := range history {
		if e.Position <= p.at {
			version = e.Version
		}
	}
	var c change.Change
	if version > 0 {
		if c, err = p.changes.At(ctx, now.ID, version); err != nil {
			return change.Change{}, err
		}
	}
	p.known[now.ID] = c
	return c, nil
}

// rank is how near a change comes to a delta; the smallest is the nearest.
type rank int

const (
	explains rank = iota
	unpermitted
	early
	late
	given // up
	other // value
	extra
	nothing
)

// verdict is how a change stands to a delta.
type verdict struct {
	rank rank
	says string // a sentence
}

// judge returns the nearest of several verdicts on a delta that was seen at t.
func (c DriftConfig) judge(candidates []change.Change, d cmdb.Delta, t time.Time) verdict {
	best := verdict{nothing, "no change names it"}
	for _, one := range candidates {
		if v := c.stands(one, d, t); v.rank < best.rank {
			best = v
		}
	}
	return best
}

func (c DriftConfig) stands(one change.Change, d cmdb.Delta, t time.Time) verdict {
	from, until, allowed := c.span(one)
	inside := !from.IsZero() && !t.Before(from) && (until.IsZero() || t.Before(until))
	undone := one.Started != nil && (one.Work == nil || one.Work.BackedOut)
	plans, others := false, false
	for _, planned := range one.Deltas {
		plans = plans || same(planned, d) || undone && same(opposite(planned), d)
		others = others || d.Op == cmdb.OpSet && planned.Op == cmdb.OpSet && planned.CI == d.CI && planned.Attribute == d.Attribute
	}
	switch {
	case plans && inside && allowed:
		return verdict{explains, one.ID + " explains it"}
	case plans && one.Kind == change.KindCanceled:
		return verdict{given, one.ID + " planned it and was cancelled"}
	case plans && !allowed:
		return verdict{unpermitted, fmt.Sprintf("%s plans it and was not authorised, in phase %q", one.ID, one.Phase)}
	case plans && !from.IsZero() && t.Before(from):
		return verdict{early, fmt.Sprintf("early for %s, which plans it from %s", one.ID, stamp(from))}
	case plans:
		return verdict{late, fmt.Sprintf("late for %s, which planned it until %s", one.ID, stamp(until))}
	case others && inside && allowed:
		return verdict{other, one.ID + " plans another value"}
	case inside && allowed:
		return verdict{extra, fmt.Sprintf("extra: %s is under way and does not plan it", one.ID)}
	}
	return verdict{nothing, ""}
}

// span returns the time in which a change explains what is observed, half open, with
// what is added to it, and whether it may. Until is zero while the work goes on; from
// is where nobody has said when it is to be.
func (c DriftConfig) span(one change.Change) (from, until time.Time, allowed bool) {
	switch {
	case one.Work != nil:
		return one.Work.Start.Add(-c.Before), one.Work.End.Add(c.After), one.Unauthorized == nil
	case one.Started != nil:
		return one.Started.At.Add(-c.Before), time.Time{}, one.Unauthorized == nil && one.Open()
	case one.Window != nil:
		return one.Window.Start.Add(-c.Before), one.Window.End.Add(c.After), one.Authorized != nil && one.Held == nil && one.Open()
	}
	return time.Time{}, time.Time{}, false
}

// same reports whether a planned delta is the one that was observed. What was there
// before it does not matter: it is what it leads to.
func same(planned, d cmdb.Delta) bool {
	if planned.Op != d.Op || planned.CI != d.CI {
		return false
	}
	switch d.Op {
	case cmdb.OpSet:
		return planned.Attribute == d.Attribute && planned.After == d.After
	case cmdb.OpAdd:
		return planned.Class == d.Class
	case cmdb.OpRelate, cmdb.OpUnrelate:
		return planned.Relation == d.Relation && planned.To == d.To
	}
	return true
}

// opposite is what backing out a planned delta does. That of an addition is a
// retirement, and so on.
func opposite(d cmdb.Delta) cmdb.Delta {
	switch d.Op {
	case cmdb.OpSet:
		d.Before, d.After = d.After, d.Before
	case cmdb.OpAdd:
		return cmdb.Retire(d.CI)
	case cmdb.OpRelate:
		d.Op = cmdb.OpUnrelate
	case cmdb.OpUnrelate:
		d.Op = cmdb.OpRelate
	default:
		return cmdb.Delta{} // a retired CI that comes back may be of any class and value
	}
	return d
}
