package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Filter selects changes of the forward schedule. Its fields are ANDed; the zero
// Filter selects all.
type Filter struct {
	CI          string // that they declare
	Service     string // a CI; they work on it, or on something that it needs, however far away
	Group       string // the team that carries them out
	Person      string // who does
	Environment string // of one of their CIs
	Model       string
	Tentative   bool // those too that are still being planned
}

// Forward is the forward schedule of change (DOMAIN 2.4): the changes that take
// some time within [from, to), by their start. It costs what lies within.
func (s *Service) Forward(ctx context.Context, from, to time.Time, f Filter) ([]Scheduled, error) {
	if !from.Before(to) {
		return nil, errors.New("schedule: forward: from lies before to")
	}
	var all []Scheduled
	return all, s.view(ctx, func(v *follow.View, fold *Schedule) (err error) {
		all, err = fold.Forward(from, to, f, s.cmdb.In(v))
		return err
	})
}

// Forward is [Service.Forward] within a View.
func (s *Schedule) Forward(from, to time.Time, f Filter, g *cmdb.Graph) ([]Scheduled, error) {
	needed := map[string]bool{}
	if f.Service != "" {
		impact, err := g.Impact([]string{f.Service}, cmdb.Up)
		if err != nil {
			return nil, fmt.Errorf("schedule: what %s needs: %w", f.Service, err)
		}
		needed[f.Service] = true
		for _, r := range impact.Reached {
			needed[r.CI.ID] = true
		}
	}
	in := s.all[""]
	switch {
	case f.CI != "":
		in = s.byCI[f.CI]
	case f.Person != "":
		in = s.byPerson[f.Person]
	case f.Group != "":
		in = s.byGroup[f.Group]
	}
	var all []Scheduled
	in.overlapping(spanOf(change.Window{Start: from, End: to}), func(e *Scheduled) bool {
		inEnvironment := func(id string) bool {
			ci, ok := g.CI(id)
			if !ok {
				ci = added(id, e.Deltas)
			}
			return ci.Attributes[cmdb.AttrEnvironment] == f.Environment
		}
		switch {
		case !e.Takes() && !(f.Tentative && e.Kind == change.KindPlan):
		case f.Service != "" && !slices.ContainsFunc(e.CIs, func(ci string) bool { return needed[ci] }):
		case f.Group != "" && e.Group != f.Group, f.Person != "" && !slices.Contains(e.People, f.Person):
		case f.Model != "" && e.Model != f.Model:
		case f.Environment != "" && !slices.ContainsFunc(e.CIs, inEnvironment):
		default:
			all = append(all, *e)
		}
		return true
	})
	return all, nil
}

// Late is a change whose window is over and whose work is not.
type Late struct {
	Scheduled
	Since time.Time // the end of its window
	Begun bool      // it has begun, and takes longer than planned; otherwise it never began
}

// Overdue returns the changes whose window is over and whose work is not, the
// longest first.
func (s *Service) Overdue(ctx context.Context) ([]Late, error) {
	now := s.door.Now()
	var all []Late
	return all, s.view(ctx, func(_ *follow.View, fold *Schedule) error {
		fold.all[""].before(now.UnixMicro(), func(e *Scheduled) bool {
			if e.Takes() && !e.Window.End.After(now) {
				all = append(all, Late{Scheduled: *e, Since: e.Window.End, Begun: !e.Started.IsZero()})
			}
			return true
		})
		slices.SortFunc(all, func(a, b Late) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Change, b.Change)) })
		return nil
	})
}

// Outage is a time in which something is down by a change.
type Outage struct {
	Change string
	Title  string
	Window change.Window // from the start of the change's window, as long as it was said, or all of it
	CIs    []string      // that are worked on
	Down   []cmdb.Reached
	OnHold bool
}

// Outages is the projected service outage (DOMAIN 2.4): the changes within [from,
// to) that say that they take something down, with everything that is then down by
// the CMDB. ci narrows it to those that take that CI down; empty is all. CIs that
// the CMDB does not have are down alone.
func (s *Service) Outages(ctx context.Context, from, to time.Time, ci string) ([]Outage, error) {
	if !from.Before(to) {
		return nil, errors.New("schedule: outages: from lies before to")
	}
	var all []Outage
	return all, s.view(ctx, func(v *follow.View, fold *Schedule) error {
		g := s.cmdb.In(v)
		entries, err := fold.Forward(from, to, Filter{}, g)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Outage == nil || !e.Outage.Expected {
				continue
			}
			o := Outage{Change: e.Change, Title: e.Title, Window: *e.Window, CIs: e.CIs, OnHold: e.OnHold != ""}
			if e.Outage.For > 0 {
				o.Window.End = earlier(o.Window.End, o.Window.Start.Add(e.Outage.For.Duration()))
			}
			if !o.Window.End.After(from) {
				continue
			}
			living := slices.DeleteFunc(slices.Clone(e.CIs), func(id string) bool {
				item, ok := g.CI(id)
				return !ok || item.Retired
			})
			impact, err := g.Impact(living, cmdb.Down)
			if err != nil {
				return fmt.Errorf("schedule: outage by %s: %w", e.Change, err)
			}
			o.Down = impact.Reached
			if ci == "" || slices.Contains(o.CIs, ci) || slices.ContainsFunc(o.Down, func(r cmdb.Reached) bool { return r.CI.ID == ci }) {
				all = append(all, o)
			}
		}
		return nil
	})
}
