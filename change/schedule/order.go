package schedule

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/change"
)

// order finds where a change is planned against the order in which it and others
// are to be carried out, from either side.
func (q *query) order() {
	for _, o := range q.o.Order {
		if o.Change == q.o.Change && o.Rule == change.MustFollow {
			q.circular([]string{o.Change, o.Change})
			continue
		}
		if q.apart(o.Change) {
			continue
		}
		e, open := q.s.open[o.Change]
		ended, known := q.s.ended[o.Change]
		switch {
		case o.Rule == change.MustNotOverlap:
			q.mustNotOverlap(e)
		case open:
			q.mustFollow(e)
		case !known:
			q.violates(o.Change, fmt.Sprintf("it must follow %s, and there is no such change", o.Change), "check its ID")
		case ended.Done.IsZero():
			q.violates(o.Change, fmt.Sprintf("it must follow %s, which ended without being carried out", o.Change), "take it out of the order, or follow another one")
		}
	}
	if q.o.Change == "" {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(q.s.ordered[q.o.Change])) {
		e := q.s.open[id]
		if q.apart(id) || e.Window == nil || !e.Done.IsZero() {
			continue
		}
		for _, o := range e.Order {
			switch {
			case o.Change != q.o.Change:
			case o.Rule == change.MustNotOverlap:
				q.mustNotOverlap(e)
			case q.counts(e) && e.Window.Start.Before(q.o.Window.End):
				c := q.violates(id, fmt.Sprintf("%s must follow it, and is to begin before its end, %s", id, when(*e.Window)), "choose an earlier time, or let the other one wait")
				if c.Effect == change.Block { // it is the other one that has to wait
					c.Effect = change.Warn
					q.found[c.ID] = c
				}
			}
		}
	}
	if path := q.circle(); path != nil {
		q.circular(path)
	}
}

// mustFollow holds the occasion against a change that it must follow.
func (q *query) mustFollow(e *Scheduled) {
	switch {
	case !e.Done.IsZero():
	case q.o.Point == change.ToStart || q.o.Point == change.ToDeploy:
		q.violates(e.Change, fmt.Sprintf("it must follow %s, which is not carried out yet", e.Change), "wait until it is")
	case e.Window == nil:
		q.violates(e.Change, fmt.Sprintf("it must follow %s, which has no time yet", e.Change), "let it be planned first")
	case e.Window.End.After(q.o.Window.Start):
		q.violates(e.Change, fmt.Sprintf("it must follow %s, which is to take place %s", e.Change, when(*e.Window)), "choose a later time")
	}
}

func (q *query) mustNotOverlap(e *Scheduled) {
	if e != nil && e.Window != nil && e.Done.IsZero() && spanOf(*e.Window).overlaps(q.at) {
		q.violates(e.Change, fmt.Sprintf("it must not overlap with %s, which is to take place %s", e.Change, when(*e.Window)), "choose another time")
	}
}

// violates adds a violation of order. It is bound to the time of the occasion: at
// another time it is to be accepted anew.
func (q *query) violates(with, why, remedy string) change.Conflict {
	return q.add(change.Conflict{Rule: OrderViolated, With: with, Overlap: q.o.Window, Why: why, Remedy: remedy}, Effects{})
}

func (q *query) circular(path []string) {
	q.add(change.Conflict{
		Rule: OrderCircular, With: path[1], Overlap: q.o.Window,
		Why:    "each must follow the next: " + strings.Join(path, ", "),
		Remedy: "take one of them out of the order",
	}, Effects{})
}

// circle returns a way from the occasion's change along "must follow" back to it,
// nil if there is none. It costs the changes that are to be followed.
func (q *query) circle() []string {
	from := map[string]string{} // which change led to one
	next := func(order []change.Order, id string) (more []string, closed bool) {
		for _, o := range order {
			if o.Rule != change.MustFollow {
				continue
			}
			if o.Change == q.o.Change {
				return nil, id != q.o.Change
			}
			if _, seen := from[o.Change]; !seen {
				from[o.Change] = id
				more = append(more, o.Change)
			}
		}
		return more, false
	}
	front, _ := next(q.o.Order, q.o.Change)
	for len(front) > 0 {
		id := front[0]
		front = front[1:]
		e := q.s.open[id]
		if e == nil {
			continue
		}
		more, closed := next(e.Order, id)
		if closed {
			path := []string{q.o.Change}
			for at := id; at != q.o.Change; at = from[at] {
				path = append(path, at)
			}
			path = append(path, q.o.Change)
			slices.Reverse(path)
			return path
		}
		front = append(front, more...)
	}
	return nil
}
