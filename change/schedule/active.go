package schedule

import (
	"context"
	"errors"
	"slices"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Active is a window in force that is in effect at some time.
type Active struct {
	Window Window
	Times  []change.Window // when, cut to what was asked for; the first 100
}

const mostTimes = 100

// Active returns the windows in force that are in effect at some time of over, by
// ID: those whose scope matches one of the CIs, or all where none is given.
func (s *Service) Active(ctx context.Context, over change.Window, cis ...string) ([]Active, error) {
	if !over.Start.Before(over.End) {
		return nil, errors.New("schedule: active: the start lies before the end")
	}
	var all []Active
	return all, s.view(ctx, func(v *follow.View, fold *Schedule) (err error) {
		all, err = fold.Active(over, s.cmdb.In(v), cis...)
		return err
	})
}

// Active is [Service.Active] within a View.
func (s *Schedule) Active(over change.Window, g *cmdb.Graph, cis ...string) ([]Active, error) {
	windows, err := s.live()
	if err != nil {
		return nil, err
	}
	e := estate{graph: g, above: map[string][]string{}}
	subjects := e.subjects(change.Occasion{CIs: cis})
	var all []Active
	for _, w := range windows {
		scope := w.window.Scope
		scope.Models = nil // of whatever change
		if len(cis) > 0 && !scope.empty() && !slices.ContainsFunc(subjects, scope.Matches) {
			continue
		}
		a := Active{Window: w.Window()}
		for t := range w.Between(over.Start, over.End) {
			if a.Times = append(a.Times, t); len(a.Times) == mostTimes {
				break
			}
		}
		if len(a.Times) > 0 {
			all = append(all, a)
		}
	}
	return all, nil
}
