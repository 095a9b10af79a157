package rollforward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/release"
)

// About says what is asked about. Its fields are ANDed; the zero About is all that
// goes on this week.
type About struct {
	CI     string    // and whatever it needs, however far away
	Team   string    // that carries out changes, or owns the CIs that they are about
	Person string    // who asked for it, owns it, carries it out, or is to approve it
	From   time.Time // default now
	To     time.Time // default a week after From
}

// Situation is what goes on, at one position of the log.
type Situation struct {
	About    About // with its defaults
	Position eventstore.Position
	CI       cmdb.CI           // that was asked about
	Changes  []change.Change   // under way, planned for that time, or not planned yet, by their start, then by ID
	Releases []release.Release // that have not ended and have a part in those changes, or bring a CI that is asked about; all of them where all is asked about
	Windows  []schedule.Active // in effect at some time of it
}

// Situation says what is going on with a CI, a team, a person, or at all, in a
// time: in one query, at one position. It costs a look at every change and release
// that has not ended, and what a CI needs.
func (e *Engine) Situation(ctx context.Context, about About) (Situation, error) {
	if about.From.IsZero() {
		about.From = e.Door.Now()
	}
	if about.To.IsZero() {
		about.To = about.From.AddDate(0, 0, 7)
	}
	if !about.From.Before(about.To) {
		return Situation{}, errors.New("rollforward: situation: From lies before To")
	}
	s := Situation{About: about}
	return s, e.View(ctx, func(v View) error { return s.look(v) })
}

func (s *Situation) look(v View) (err error) {
	s.Position = v.Position
	about := s.About
	cis := map[string]bool{}
	if about.CI != "" {
		var ok bool
		if s.CI, ok = v.CMDB.CI(about.CI); !ok {
			return fmt.Errorf("rollforward: situation of %.100q: %w", about.CI, cmdb.ErrUnknownCI)
		}
		cis[about.CI] = true
		if !s.CI.Retired {
			needs, err := v.CMDB.Impact([]string{about.CI}, cmdb.Up)
			if err != nil {
				return err
			}
			for _, r := range needs.Reached {
				cis[r.CI.ID] = true
			}
		}
	}
	touches := func(declared []string) bool {
		return about.CI == "" || slices.ContainsFunc(declared, func(ci string) bool { return cis[ci] })
	}
	owned := func(declared []string) bool {
		return slices.ContainsFunc(declared, func(id string) bool {
			ci, _ := v.CMDB.CI(id)
			return ci.Attributes[cmdb.AttrOwner] == about.Team
		})
	}
	during := func(w *change.Window) bool { return w == nil || w.Start.Before(about.To) && about.From.Before(w.End) }
	has := map[string]bool{}
	for _, c := range v.Changes.Find(change.Filter{Open: true}) {
		declared := c.Declared()
		switch {
		case !touches(declared):
		case about.Team != "" && c.Group != about.Team && !owned(declared):
		case about.Person != "" && !concerns(c, about.Person):
		case c.Started == nil && !during(c.Window): // what has begun and not ended goes on
		default:
			s.Changes = append(s.Changes, c)
			has[c.ID] = true
		}
	}
	slices.SortStableFunc(s.Changes, func(a, b change.Change) int {
		return cmp.Or(begins(a).Compare(begins(b)), strings.Compare(a.ID, b.ID))
	})
	all := about.CI == "" && about.Team == "" && about.Person == ""
	for _, r := range v.Releases.Find(release.Filter{Open: true}) {
		part := slices.ContainsFunc(r.Changes, func(b release.Bound) bool { return has[b.Change] })
		brings := about.CI != "" && slices.ContainsFunc(r.Components, func(c release.Component) bool { return cis[c.CI] })
		plans := about.Person != "" && r.Planner == about.Person
		if all || part || brings || plans {
			s.Releases = append(s.Releases, r)
		}
	}
	over := change.Window{Start: about.From, End: about.To}
	if about.CI == "" {
		s.Windows, err = v.Schedule.Active(over, v.CMDB)
	} else {
		s.Windows, err = v.Schedule.Active(over, v.CMDB, about.CI)
	}
	return err
}

// begins is when a change begins, as far as is known; what is not planned comes last.
func begins(c change.Change) time.Time {
	switch {
	case c.Started != nil:
		return c.Started.At
	case c.Window != nil:
		return c.Window.Start
	}
	return time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
}

// concerns reports whether a person has a part in a change.
func concerns(c change.Change, person string) bool {
	return c.Requester == person || c.Owner == person || slices.Contains(c.Implementers, person) || c.Waits(person)
}
