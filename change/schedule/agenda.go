package schedule

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Feed says what goes into a calendar.
type Feed struct {
	Name     string // of the calendar, as programs show it; default "Changes"
	From, To time.Time
	Filter   Filter // of the changes
	Windows  bool   // the windows in force, too
}

// mostEntries is how many entries a feed has at most.
const mostEntries = 10_000

// Calendar writes the forward schedule as iCalendar (DOMAIN 2.4; RFC 5545). A
// change has the same UID always, and its SEQUENCE rises whenever something about
// it is another; it is tentative until it is scheduled. A change that is no longer
// planned is no longer in the feed. More than 10,000 entries are an error: ask for
// less time.
func (s *Service) Calendar(ctx context.Context, w io.Writer, f Feed) error {
	changes, err := s.Forward(ctx, f.From, f.To, f.Filter)
	if err != nil {
		return err
	}
	var entries []Entry
	for _, c := range changes {
		entries = append(entries, c.entry())
	}
	if f.Windows {
		err := s.view(ctx, func(_ *follow.View, fold *Schedule) error {
			live, err := fold.live()
			for _, c := range live {
				d := fold.windows[c.ID()]
				for o := range c.Occurrences(f.From, f.To) {
					if len(entries) > mostEntries {
						break
					}
					entries = append(entries, Entry{
						UID: "window-" + c.ID() + "-" + o.Start.Format(icalUTC), Sequence: d.Version, Stamp: d.At, Start: o.Start, End: o.End,
						Summary: d.Window.Name, Description: d.Window.Reason, Status: "CONFIRMED", Categories: []string{string(d.Window.Kind)}, Free: true,
					})
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(entries) > mostEntries {
		return fmt.Errorf("schedule: a calendar of more than %d entries: ask for less time", mostEntries)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Or(a.Start.Compare(b.Start), strings.Compare(a.UID, b.UID)) })
	return WriteICal(w, cmp.Or(f.Name, "Changes"), entries)
}

// entry is a change as an event of a calendar.
func (e Scheduled) entry() Entry {
	about := []string{"Model " + e.Model + ", in phase " + e.Phase}
	if len(e.CIs) > 0 {
		about = append(about, "On "+strings.Join(e.CIs, ", "))
	}
	if e.Group != "" || len(e.People) > 0 {
		about = append(about, "By "+strings.Trim(e.Group+": "+strings.Join(e.People, ", "), ": "))
	}
	if e.Outage != nil && e.Outage.Expected {
		down := "An outage is expected"
		if e.Outage.For > 0 {
			down += " for " + e.Outage.For.Duration().String()
		}
		about = append(about, down)
	}
	status := "TENTATIVE"
	if (e.Kind == change.KindScheduled || e.Kind == change.KindImplement) && e.OnHold == "" {
		status = "CONFIRMED"
	}
	if e.OnHold != "" {
		about = append(about, "On hold: "+e.OnHold)
	}
	return Entry{
		UID: "change-" + e.Change, Sequence: e.Version, Stamp: e.At, Start: e.Window.Start, End: e.Window.End,
		Summary: e.Change + " " + e.Title, Description: strings.Join(about, "\n"), Status: status, Categories: []string{"change", e.Model},
	}
}
