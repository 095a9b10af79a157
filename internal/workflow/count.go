package workflow

import (
	"fmt"
	"slices"
	"strings"
)

// Tally is the count of a stage.
type Tally struct {
	Seats    int      // in the stage
	Needed   int      // seats, or people for AtLeast
	Accepted int      // seats, or distinct people for AtLeast
	Rejected int      // seats
	Waiting  int      // seats that have not voted
	Missing  []string // required approvers who have not approved
	State    State    // Requested, Approved or Rejected
	Why      string   // "2 of 3 seats approved, 2 were needed"
}

// Needed returns how many of so many seats must approve; for AtLeast, how many
// people. It is at least 1. A rule that is none of the four counts as All.
func (r Rule) Needed(seats int) int {
	n := seats
	switch r.effective() {
	case First:
		n = 1
	case Percent:
		n = (seats*r.N + 50) / 100 // half up
	case AtLeast:
		n = r.N
	}
	return max(n, 1)
}

// effective returns how r counts once the borders of Percent are drawn.
func (r Rule) effective() Counting {
	switch {
	case r.Counting == Percent && r.N <= 0:
		return First
	case r.Counting == Percent && r.N >= 100:
		return All
	case r.Counting == First, r.Counting == Percent, r.Counting == AtLeast:
		return r.Counting
	}
	return All
}

// Count counts votes in their order, each seat once, by its first vote. The
// stage is decided by the first vote after which it is approved or rejected; what
// comes later is not counted, so a decision stands whatever follows.
//
// The stage is approved when as many approve as the rule needs, and each required
// approver is among those who voted, or for whom a vote was cast. It is rejected
//   - when there is no seat;
//   - at the rejection of a required approver, or for one;
//   - at any rejection under First and All, also one that comes while First only
//     waits for a required approver;
//   - early, when those who approved and the seats that wait are fewer than needed;
//   - when a required approver is missing and no waiting seat has them among its
//     voters (a seat that lists no voters is open to anybody).
//
// Votes for unknown seats, and for seats that have voted, are not counted. Who
// may vote a seat was decided when the vote was taken; it is not judged here.
// Count takes time linear in seats and votes.
func Count(rule Rule, required []string, seats []Seat, votes []Vote) Tally {
	c := count{counting: rule.effective(), waiting: make(map[string]Seat, len(seats)), people: map[string]bool{}}
	for _, s := range seats {
		if _, twice := c.waiting[s.Name]; !twice {
			c.waiting[s.Name] = s
		}
	}
	c.Seats, c.Waiting = len(c.waiting), len(c.waiting)
	c.Needed = rule.Needed(c.Seats)
	for _, person := range required {
		if !slices.Contains(c.Missing, person) {
			c.Missing = append(c.Missing, person)
		}
	}
	must := slices.Clone(c.Missing)

	c.State, c.Why = c.judge()
	for _, v := range votes {
		if c.State != Requested {
			break
		}
		answered := c.take(v)
		if answered == 0 {
			continue
		}
		if !v.Approve {
			c.Rejected += answered
			for _, person := range []string{v.By, v.For} {
				if c.vetoed == "" && person != "" && slices.Contains(must, person) {
					c.vetoed = person
				}
			}
		} else {
			c.people[v.By] = true
			if c.counting == AtLeast {
				c.Accepted = len(c.people)
			} else {
				c.Accepted += answered
			}
			c.Missing = slices.DeleteFunc(c.Missing, func(person string) bool { return person == v.By || person == v.For })
		}
		c.State, c.Why = c.judge()
	}
	return c.Tally
}

// count is a count under way.
type count struct {
	Tally
	counting Counting
	waiting  map[string]Seat
	people   map[string]bool // who approved
	vetoed   string          // the required approver who rejected
}

// take returns how many waiting seats v answers, and answers them.
func (c *count) take(v Vote) int {
	answered := 0
	for _, name := range v.Seats {
		if _, ok := c.waiting[name]; ok {
			delete(c.waiting, name)
			answered++
		}
	}
	c.Waiting -= answered
	return answered
}

func (c *count) judge() (State, string) {
	unit := fmt.Sprintf("of %s approved", plural(c.Seats, "seat", "seats"))
	if c.counting == AtLeast {
		unit = "people approved"
		if c.Accepted == 1 {
			unit = "person approved"
		}
	}
	if c.Seats == 0 {
		return Rejected, "nobody can be asked: the stage has no seat"
	}
	if c.vetoed != "" {
		return Rejected, fmt.Sprintf("rejected by or for %s, whose approval is required", c.vetoed)
	}
	if c.Rejected > 0 && (c.counting == First || c.counting == All) {
		return Rejected, fmt.Sprintf("%d of %s rejected, one rejection decides", c.Rejected, plural(c.Seats, "seat", "seats"))
	}
	if c.Accepted+c.Waiting < c.Needed {
		return Rejected, fmt.Sprintf("%d %s and %d can still, %s needed", c.Accepted, unit, c.Waiting, plural(c.Needed, "was", "were"))
	}
	for _, person := range c.Missing {
		if !c.openTo(person) {
			return Rejected, fmt.Sprintf("the approval of %s is required, and no seat is left to give it from", person)
		}
	}
	if c.Accepted >= c.Needed && len(c.Missing) == 0 {
		return Approved, fmt.Sprintf("%d %s, %s needed", c.Accepted, unit, plural(c.Needed, "was", "were"))
	}
	why := fmt.Sprintf("%d %s, %s needed, %d can still", c.Accepted, unit, plural(c.Needed, "is", "are"), c.Waiting)
	if len(c.Missing) > 0 {
		why += "; also needed is the approval of " + strings.Join(c.Missing, ", ")
	}
	return Requested, why
}

// openTo reports whether a waiting seat is left that person may vote.
func (c *count) openTo(person string) bool {
	for _, s := range c.waiting {
		if len(s.Voters) == 0 || slices.Contains(s.Voters, person) {
			return true
		}
	}
	return false
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
