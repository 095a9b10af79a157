package workflow

import "time"

// Stage is an approval that is asked for.
type Stage struct {
	Name       string      `json:"name"`
	Title      string      `json:"title,omitzero"`
	Candidates []Candidate `json:"candidates"`
	Rule       Rule        `json:"rule"`
	Required   []string    `json:"required,omitzero"` // people whose approval is needed on top of the rule
	Deadline   Duration    `json:"deadline,omitzero"` // after it was asked for; 0 is none
	Skip       bool        `json:"skip,omitzero"`     // skipped where no row of the phase's table names it
	Escalate   []Candidate `json:"escalate,omitzero"` // asked when the deadline passes, once; none: expired counts as refused
}

// Candidate is whom a stage asks: exactly one of the fields but EachMember is set.
type Candidate struct {
	Person     string `json:"person,omitzero"`
	Group      string `json:"group,omitzero"`
	Role       string `json:"role,omitzero"`
	Owners     bool   `json:"owners,omitzero"`      // the teams that own the affected CIs, each for its own
	EachMember bool   `json:"each_member,omitzero"` // every member of the group or role has a seat; otherwise it is one seat
}

// Counting is how the answers of a stage are counted.
type Counting string

// The ways of counting; DOMAIN 1.3.
const (
	First   Counting = "first"    // the first answer decides
	All     Counting = "all"      // every seat approves
	Percent Counting = "percent"  // so many percent of the seats, half up; 0 and less is First, 100 and more is All
	AtLeast Counting = "at least" // so many distinct people
)

// Rule says when a stage is approved.
type Rule struct {
	Counting Counting `json:"counting"`
	N        int      `json:"n,omitzero"` // percent, or people
}

// Seat is a voice in a stage: a person, or a group one of whose members votes.
type Seat struct {
	Name   string   `json:"name"`   // "person bob", "group dba", "owners team-db"
	Voters []string `json:"voters"` // who may vote it, sorted
}

// Vote is an answer, for one or more seats.
type Vote struct {
	Seats   []string  `json:"seats"`
	By      string    `json:"by"`           // who voted
	For     string    `json:"for,omitzero"` // on whose behalf, under a delegation
	Approve bool      `json:"approve"`      // or reject
	Scope   string    `json:"scope"`        // digest of what the voter saw
	Comment string    `json:"comment,omitzero"`
	At      time.Time `json:"at"`
}

// State is how a stage stands.
type State string

// The states of a stage.
const (
	NotRequested State = "not requested"
	Requested    State = "requested"
	Approved     State = "approved"
	Rejected     State = "rejected"
	Cancelled    State = "cancelled"
	Skipped      State = "skipped"
	Expired      State = "expired"            // counts as refused
	OnHold       State = "no longer required" // while the item is on hold
)
