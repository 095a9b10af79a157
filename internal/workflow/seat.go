package workflow

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Resolved is what a directory said, when it was asked, of those whom a stage may ask.
type Resolved struct {
	Groups map[string][]string `json:"groups,omitzero"` // members by group
	Roles  map[string][]string `json:"roles,omitzero"`  // members by role
	Owners map[string][]string `json:"owners,omitzero"` // members by team, of the teams that own the affected items
}

// Excluded is a person who may not vote, or a seat that has no voter, and why.
type Excluded struct {
	Person string `json:"person,omitzero"`
	Seat   string `json:"seat,omitzero"`
	Why    string `json:"why"`
}

// Seats returns the seats that candidates have in a stage: its Candidates, or its
// Escalate when the deadline has passed. Every required approver has a seat of
// their own beside them. Barred says why a person must not vote (separation of
// duties), or nothing; a nil barred bars nobody.
//
//	person bob        the person bob, also as one of each member
//	group dba         one member for the whole group
//	role manager      one member for the whole role
//	owners team-db    one member for the team
//
// Who is barred is in no seat; a seat that is left without a voter, because the
// directory knows nobody for it or all are barred, is left out. Both are listed in
// excluded. Seats are sorted by name, and so are excluded: people first.
func Seats(stage Stage, candidates []Candidate, resolved Resolved, barred func(person string) (why string)) (seats []Seat, excluded []Excluded) {
	f := seating{barred: barred, voters: map[string][]string{}, out: map[Excluded]bool{}, judged: map[string]string{}}
	for _, c := range candidates {
		switch {
		case c.Person != "":
			f.person(c.Person)
		case c.Group != "":
			f.team("group", c.Group, resolved.Groups, c.EachMember)
		case c.Role != "":
			f.team("role", c.Role, resolved.Roles, c.EachMember)
		case c.Owners:
			if len(resolved.Owners) == 0 {
				f.out[Excluded{Seat: "owners", Why: "no team owns what is affected"}] = true
			}
			for team := range resolved.Owners {
				f.team("owners", team, resolved.Owners, false)
			}
		}
	}
	for _, person := range stage.Required {
		f.person(person)
	}
	for name, voters := range f.voters {
		seats = append(seats, Seat{Name: name, Voters: voters})
	}
	slices.SortFunc(seats, func(a, b Seat) int { return cmp.Compare(a.Name, b.Name) })
	excluded = slices.SortedFunc(maps.Keys(f.out), func(a, b Excluded) int {
		return cmp.Or(cmp.Compare(a.Seat, b.Seat), cmp.Compare(a.Person, b.Person), cmp.Compare(a.Why, b.Why))
	})
	return seats, excluded
}

// seating collects seats while candidates are gone through. Its maps are sorted
// before anything is returned.
type seating struct {
	barred func(string) string
	judged map[string]string // what barred said, so that it is asked once a person
	voters map[string][]string
	out    map[Excluded]bool
}

func (f *seating) person(id string) { f.seat("person "+id, []string{id}) }

func (f *seating) team(kind, name string, directory map[string][]string, each bool) {
	seat := kind + " " + name
	members, known := directory[name]
	switch {
	case !known:
		f.out[Excluded{Seat: seat, Why: fmt.Sprintf("the directory knows no %s", seat)}] = true
	case len(members) == 0:
		f.out[Excluded{Seat: seat, Why: "it has no members"}] = true
	case each:
		for _, id := range members {
			f.person(id)
		}
	default:
		f.seat(seat, members)
	}
}

// seat adds a seat with those of members who may vote.
func (f *seating) seat(name string, members []string) {
	if _, done := f.voters[name]; done {
		return
	}
	var voters []string
	for _, id := range members {
		why, asked := f.judged[id]
		if !asked && f.barred != nil {
			why = f.barred(id)
			f.judged[id] = why
		}
		if why != "" {
			f.out[Excluded{Person: id, Why: why}] = true
			continue
		}
		voters = append(voters, id)
	}
	if len(voters) == 0 {
		f.out[Excluded{Seat: name, Why: "none of its members may vote"}] = true
		return
	}
	slices.Sort(voters)
	f.voters[name] = slices.Compact(voters)
}
