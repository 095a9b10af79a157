package schedule

import "github.com/rollforward/rollforward/change"

// Blind takes the bookings out of a service: what is scheduled is checked and not
// recorded, as if nobody had booked. For tests that are to see double bookings.
func (s *Service) Blind() { s.blind = true }

// Scan returns the changes that overlap a window by looking at all there are, to
// hold the index against.
func (s *Schedule) Scan(w change.Window) []string {
	var all []string
	for id, e := range s.open {
		if e.Takes() && spanOf(*e.Window).overlaps(spanOf(w)) {
			all = append(all, id)
		}
	}
	return all
}
