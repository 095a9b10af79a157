package workflow_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
)

var directory = workflow.Resolved{
	Groups: map[string][]string{"dba": {"dave", "bob", "dave"}, "empty": {}, "ops": {"bob"}},
	Roles:  map[string][]string{"manager": {"mary", "bob"}},
	Owners: map[string][]string{"team-web": {"wanda"}, "team-db": {"dave", "bob"}},
}

func TestSeatsOfCandidates(t *testing.T) {
	alice := func(person string) string {
		if person == "alice" || person == "bob" {
			return person + " implements it"
		}
		return ""
	}
	for what, test := range map[string]struct {
		candidates []workflow.Candidate
		required   []string
		directory  workflow.Resolved
		barred     func(string) string
		seats      []workflow.Seat
		excluded   []workflow.Excluded
	}{
		"a person":                       {[]workflow.Candidate{{Person: "bob"}}, nil, directory, nil, []workflow.Seat{{"person bob", []string{"bob"}}}, nil},
		"a group is one seat":            {[]workflow.Candidate{{Group: "dba"}}, nil, directory, nil, []workflow.Seat{{"group dba", []string{"bob", "dave"}}}, nil},
		"unless it is each member":       {[]workflow.Candidate{{Group: "dba", EachMember: true}}, nil, directory, nil, []workflow.Seat{{"person bob", []string{"bob"}}, {"person dave", []string{"dave"}}}, nil},
		"a role":                         {[]workflow.Candidate{{Role: "manager"}}, nil, directory, nil, []workflow.Seat{{"role manager", []string{"bob", "mary"}}}, nil},
		"each member of a role":          {[]workflow.Candidate{{Role: "manager", EachMember: true}}, nil, directory, nil, []workflow.Seat{{"person bob", []string{"bob"}}, {"person mary", []string{"mary"}}}, nil},
		"the owners, each team a seat":   {[]workflow.Candidate{{Owners: true}}, nil, directory, nil, []workflow.Seat{{"owners team-db", []string{"bob", "dave"}}, {"owners team-web", []string{"wanda"}}}, nil},
		"the same seat twice is one":     {[]workflow.Candidate{{Person: "bob"}, {Group: "ops", EachMember: true}, {Person: "bob"}, {Group: "dba"}, {Group: "dba"}}, nil, directory, nil, []workflow.Seat{{"group dba", []string{"bob", "dave"}}, {"person bob", []string{"bob"}}}, nil},
		"a required approver has a seat": {[]workflow.Candidate{{Group: "ops"}}, []string{"bob"}, directory, nil, []workflow.Seat{{"group ops", []string{"bob"}}, {"person bob", []string{"bob"}}}, nil},
		"but not two":                    {[]workflow.Candidate{{Person: "bob"}}, []string{"bob", "bob"}, directory, nil, []workflow.Seat{{"person bob", []string{"bob"}}}, nil},
		"an unknown group":               {[]workflow.Candidate{{Group: "dbz"}, {Person: "carol"}}, nil, directory, nil, []workflow.Seat{{"person carol", []string{"carol"}}}, []workflow.Excluded{{Seat: "group dbz", Why: "the directory knows no group dbz"}}},
		"an unknown role, each member":   {[]workflow.Candidate{{Role: "king", EachMember: true}}, nil, directory, nil, nil, []workflow.Excluded{{Seat: "role king", Why: "the directory knows no role king"}}},
		"an empty group":                 {[]workflow.Candidate{{Group: "empty"}, {Group: "empty", EachMember: true}}, nil, directory, nil, nil, []workflow.Excluded{{Seat: "group empty", Why: "it has no members"}}},
		"nobody owns it":                 {[]workflow.Candidate{{Owners: true}}, nil, workflow.Resolved{}, nil, nil, []workflow.Excluded{{Seat: "owners", Why: "no team owns what is affected"}}},
		"a candidate of nothing":         {[]workflow.Candidate{{}}, nil, directory, nil, nil, nil},
		"a barred member": {[]workflow.Candidate{{Group: "dba"}, {Role: "manager"}}, nil, directory, alice,
			[]workflow.Seat{{"group dba", []string{"dave"}}, {"role manager", []string{"mary"}}}, []workflow.Excluded{{Person: "bob", Why: "bob implements it"}}},
		"a seat whose voters are all barred": {[]workflow.Candidate{{Group: "ops"}, {Person: "carol"}, {Person: "alice"}}, nil, directory, alice,
			[]workflow.Seat{{"person carol", []string{"carol"}}}, []workflow.Excluded{
				{Person: "alice", Why: "alice implements it"}, {Person: "bob", Why: "bob implements it"},
				{Seat: "group ops", Why: "none of its members may vote"}, {Seat: "person alice", Why: "none of its members may vote"},
			}},
		"a required approver who is barred": {[]workflow.Candidate{{Person: "carol"}}, []string{"bob"}, directory, alice,
			[]workflow.Seat{{"person carol", []string{"carol"}}}, []workflow.Excluded{{Person: "bob", Why: "bob implements it"}, {Seat: "person bob", Why: "none of its members may vote"}}},
	} {
		t.Run(what, func(t *testing.T) {
			seats, excluded := workflow.Seats(workflow.Stage{Required: test.required}, test.candidates, test.directory, test.barred)
			require.Equal(t, test.seats, seats)
			require.Equal(t, test.excluded, excluded)
		})
	}
}

func TestARequiredApproverWhoIsBarredCannotBeDoneWithout(t *testing.T) {
	s := workflow.Stage{Required: []string{"bob"}, Rule: workflow.Rule{Counting: workflow.First}}
	seats, _ := workflow.Seats(s, []workflow.Candidate{{Person: "carol"}}, workflow.Resolved{}, func(person string) string {
		if person == "bob" {
			return "bob asked for it"
		}
		return ""
	})
	require.Equal(t, workflow.Rejected, workflow.Count(s.Rule, s.Required, seats, nil).State)
}

func TestSeatsDependOnNeitherTheOrderOfCandidatesNorOfMembersAndBarNobodyTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		people := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 5)
		resolved := workflow.Resolved{Groups: map[string][]string{}, Roles: map[string][]string{}, Owners: map[string][]string{}}
		var candidates []workflow.Candidate
		for range rapid.IntRange(0, 6).Draw(t, "candidates") {
			switch name := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name"); rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				candidates = append(candidates, workflow.Candidate{Person: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "person")})
			case 1:
				candidates = append(candidates, workflow.Candidate{Group: name, EachMember: rapid.Bool().Draw(t, "each")})
				resolved.Groups[name] = people.Draw(t, "members")
			case 2:
				candidates = append(candidates, workflow.Candidate{Role: name})
				resolved.Roles[name] = people.Draw(t, "members")
			case 3:
				candidates = append(candidates, workflow.Candidate{Owners: true})
				resolved.Owners[name] = people.Draw(t, "members")
			}
		}
		s := workflow.Stage{Required: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "e"}), 0, 3).Draw(t, "required")}
		asked := map[string]int{}
		barred := func(person string) string {
			asked[person]++
			if person == "b" || person == "e" {
				return "barred"
			}
			return ""
		}
		seats, excluded := workflow.Seats(s, candidates, resolved, barred)
		for person, n := range asked {
			require.Equal(t, 1, n, person)
		}
		require.True(t, slices.IsSortedFunc(seats, func(a, b workflow.Seat) int {
			if a.Name < b.Name {
				return -1
			}
			return 1
		}))
		for _, seat := range seats {
			require.NotEmpty(t, seat.Voters)
			require.NotContains(t, seat.Voters, "b")
			require.NotContains(t, seat.Voters, "e")
			require.True(t, slices.IsSorted(seat.Voters))
			require.Len(t, slices.Compact(slices.Clone(seat.Voters)), len(seat.Voters))
			require.False(t, slices.ContainsFunc(excluded, func(x workflow.Excluded) bool { return x.Seat == seat.Name }))
		}
		for _, list := range []map[string][]string{resolved.Groups, resolved.Roles, resolved.Owners} {
			for _, members := range list {
				slices.Reverse(members)
			}
		}
		again, out := workflow.Seats(s, rapid.Permutation(candidates).Draw(t, "order"), resolved, barred)
		require.Equal(t, seats, again)
		require.Equal(t, excluded, out)
	})
}
