package schedule

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// booking folds a stream "booking-CI": what is booked, by change.
var booking = eventstore.Decider[bookings, any]{Evolve: func(b bookings, payload any) bookings {
	switch e := payload.(type) {
	case Booked:
		if b == nil {
			b = bookings{}
		}
		b[e.Change] = e.Window
	case Unbooked:
		delete(b, e.Change)
	}
	return b
}}

// books returns the CIs that a change has to have booked, and when: those it
// declares, for its window, from when it is scheduled until its work ends.
func books(c change.Change) ([]string, change.Window) {
	if !c.Open() || c.Window == nil || c.Work != nil || c.Kind != change.KindScheduled && c.Kind != change.KindImplement {
		return nil, change.Window{}
	}
	return c.Declared(), *c.Window
}

// Settle implements change.Calendar: where booking is strict, it books what a
// change needs once it is scheduled, in the same append, and gives it back when it
// no longer does. A change that comes too late is refused by the rule "booked",
// which names who was first.
//
// It costs a look at the version of each declared CI's bookings. Where the fold
// stands there, that is all, however much was booked before; otherwise the stream
// is read.
func (s *Service) Settle(tx *command.Tx, before, after change.Change) error {
	if !s.rules.Strict {
		return nil
	}
	had, was := books(before)
	needs, is := books(after)
	if was == is && slices.Equal(had, needs) && before.Kind == after.Kind {
		return nil
	}
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(had, needs))))
	if len(all) == 0 {
		return nil
	}
	held, err := s.booked(tx, all)
	if err != nil {
		return err
	}
	var refused []command.Refusal
	for _, ci := range all {
		stream := bookingPrefix + ci
		own, booked := held[ci][after.ID]
		need := slices.Contains(needs, ci)
		if need && booked && own == is {
			continue
		}
		if need {
			refused = append(refused, s.taken(held[ci], after.ID, ci, is)...)
		}
		if booked {
			if err := tx.Record(stream, Unbooked{CI: ci, Change: after.ID}); err != nil {
				return err
			}
		}
		if need && !s.blind {
			if err := tx.Record(stream, Booked{CI: ci, Change: after.ID, Window: is}); err != nil {
				return err
			}
		}
	}
	return command.Refuse(refused...)
}

// taken returns who has booked a CI for a part of a window already.
func (s *Service) taken(held bookings, id, ci string, w change.Window) []command.Refusal {
	at := spanOf(w)
	if s.rules.Touching {
		at = at.wider(1)
	}
	var refused []command.Refusal
	for _, other := range slices.Sorted(maps.Keys(held)) {
		if other == id || !spanOf(held[other]).overlaps(at) {
			continue
		}
		refused = append(refused, command.Refusal{
			Kind: command.Refused, Rule: "booked", Field: "window",
			Reason: fmt.Sprintf("%s has booked %s %s", other, ci, when(held[other])), Remedy: "choose another time, or let it be rescheduled",
		})
	}
	return refused
}

// booked returns what is booked of CIs, by CI, and holds the unit of work to it.
func (s *Service) booked(tx *command.Tx, cis []string) (map[string]bookings, error) {
	held := map[string]bookings{}
	pinned := map[string]uint64{}
	written := tx.After()
	for _, ci := range cis {
		stream := bookingPrefix + ci
		version, err := tx.Check(stream)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(written, func(e eventstore.Expect) bool { return e.Stream == stream }) {
			pinned[ci] = version
		}
	}
	err := s.follower.View(tx.Context(), func(v *follow.View) error {
		fold := s.schedule.In(v)
		for ci, version := range pinned {
			if fold.versions[bookingPrefix+ci] == version {
				held[ci] = maps.Clone(fold.bookings[ci])
			} else {
				delete(pinned, ci)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, ci := range cis {
		if _, known := pinned[ci]; known {
			continue
		}
		if held[ci], err = booking.Load(tx.Tx, bookingPrefix+ci); err != nil {
			return nil, err
		}
	}
	return held, nil
}
