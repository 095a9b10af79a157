package workflow_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
)

var (
	first = workflow.Rule{Counting: workflow.First}
	all   = workflow.Rule{Counting: workflow.All}
)

func percent(n int) workflow.Rule { return workflow.Rule{Counting: workflow.Percent, N: n} }
func atLeast(n int) workflow.Rule { return workflow.Rule{Counting: workflow.AtLeast, N: n} }

// DOMAIN 1.3: N <= 0 is "first", N >= 100 is "all", rounding half up: 2.49 -> 2, 2.5 -> 3.
func TestNeededIsRoundedHalfUpAsDomain13Says(t *testing.T) {
	for _, test := range []struct {
		rule          workflow.Rule
		seats, needed int
	}{
		{percent(83), 3, 2},     // 2.49
		{percent(50), 5, 3},     // 2.5
		{percent(249), 1, 1},    // all
		{percent(51), 5, 3},     // 2.55
		{percent(49), 5, 2},     // 2.45
		{percent(1), 10, 1},     // 0.1 is no seat, and at least one is needed
		{percent(99), 10, 10},   // 9.9
		{percent(95), 10, 10},   // 9.5
		{percent(94), 10, 9},    // 9.4
		{percent(99), 200, 198}, // 198
		{percent(0), 10, 1}, {percent(-5), 10, 1},
		{percent(100), 10, 10}, {percent(101), 10, 10},
		{first, 10, 1}, {first, 1, 1},
		{all, 10, 10}, {all, 1, 1},
		{atLeast(3), 10, 3}, {atLeast(3), 1, 3}, {atLeast(0), 4, 1},
		{percent(50), 0, 1}, {all, 0, 1}, {first, 0, 1},
		{workflow.Rule{}, 4, 4}, {workflow.Rule{Counting: "most", N: 2}, 4, 4}, // unknown: as strict as can be
	} {
		require.Equal(t, test.needed, test.rule.Needed(test.seats), "%v of %d", test.rule, test.seats)
	}
}

func seats(names ...string) []workflow.Seat {
	var out []workflow.Seat
	for _, name := range names {
		out = append(out, workflow.Seat{Name: "person " + name, Voters: []string{name}})
	}
	return out
}

// votes reads "+bob" as bob approving, "-bob" as rejecting, "+dave:bob" as dave
// approving for bob, and "+dave:bob,carol" for both their seats at once.
func votes(text string) []workflow.Vote {
	var out []workflow.Vote
	for _, word := range strings.Fields(text) {
		by, whose, delegated := strings.Cut(word[1:], ":")
		v := workflow.Vote{By: by, Approve: word[0] == '+', Seats: []string{"person " + by}}
		if delegated {
			v.Seats = nil
			for _, name := range strings.Split(whose, ",") {
				v.For = name
				v.Seats = append(v.Seats, "person "+name)
			}
		}
		out = append(out, v)
	}
	return out
}

func TestCountingVotesAsDomain13Says(t *testing.T) {
	for _, test := range []struct {
		what     string
		rule     workflow.Rule
		required []string
		seats    []workflow.Seat
		votes    string
		state    workflow.State
		why      string
	}{
		{"nobody can be asked", first, nil, nil, "", workflow.Rejected, "nobody can be asked: the stage has no seat"},
		{"nobody can be asked, and a stranger approves", first, nil, nil, "+bob", workflow.Rejected, "nobody can be asked: the stage has no seat"},
		{"nobody has answered", all, nil, seats("bob", "carol"), "", workflow.Requested, "0 of 2 seats approved, 2 are needed, 2 can still"},

		{"first: an approval decides", first, nil, seats("bob", "carol"), "+carol", workflow.Approved, "1 of 2 seats approved, 1 was needed"},
		{"first: a rejection decides", first, nil, seats("bob", "carol"), "-carol", workflow.Rejected, "1 of 2 seats rejected, one rejection decides"},
		{"first: what comes second changes nothing", first, nil, seats("bob", "carol"), "+carol -bob", workflow.Approved, "1 of 2 seats approved, 1 was needed"},
		{"first: nor an approval after a rejection", first, nil, seats("bob", "carol"), "-carol +bob", workflow.Rejected, "1 of 2 seats rejected, one rejection decides"},
		{"0 percent is first", percent(0), nil, seats("bob", "carol"), "-carol +bob", workflow.Rejected, "1 of 2 seats rejected, one rejection decides"},

		{"all: everybody", all, nil, seats("bob", "carol"), "+carol +bob", workflow.Approved, "2 of 2 seats approved, 2 were needed"},
		{"all: one is missing", all, nil, seats("bob", "carol"), "+carol", workflow.Requested, "1 of 2 seats approved, 2 are needed, 1 can still"},
		{"all: one rejects", all, nil, seats("bob", "carol", "dave"), "+carol -bob", workflow.Rejected, "1 of 3 seats rejected, one rejection decides"},
		{"100 percent is all", percent(100), nil, seats("bob", "carol", "dave"), "-carol", workflow.Rejected, "1 of 3 seats rejected, one rejection decides"},

		{"percent: enough", percent(50), nil, seats("a", "b", "c", "d", "e"), "+a -b +c -d +e", workflow.Approved, "3 of 5 seats approved, 3 were needed"},
		{"percent: a rejection alone does not decide", percent(50), nil, seats("a", "b", "c", "d", "e"), "-a -b", workflow.Requested, "0 of 5 seats approved, 3 are needed, 3 can still"},
		{"percent: refused early", percent(50), nil, seats("a", "b", "c", "d", "e"), "-a -b -c", workflow.Rejected, "0 of 5 seats approved and 2 can still, 3 were needed"},
		{"percent: refused early, though some approved", percent(50), nil, seats("a", "b", "c", "d", "e"), "+a +b -c -d -e", workflow.Rejected, "2 of 5 seats approved and 0 can still, 3 were needed"},

		{"at least: enough people", atLeast(2), nil, seats("a", "b", "c"), "+a +c", workflow.Approved, "2 people approved, 2 were needed"},
		{"at least: one of them", atLeast(2), nil, seats("a", "b", "c"), "+a", workflow.Requested, "1 person approved, 2 are needed, 2 can still"},
		{"at least: refused early", atLeast(2), nil, seats("a", "b", "c"), "-a -b", workflow.Rejected, "0 people approved and 1 can still, 2 were needed"},
		{"at least: more than there are seats", atLeast(3), nil, seats("a", "b"), "", workflow.Rejected, "0 people approved and 2 can still, 3 were needed"},
		{"at least: a delegate with two seats is one person", atLeast(2), nil, seats("a", "b", "c"), "+dave:a +dave:b", workflow.Requested, "1 person approved, 2 are needed, 1 can still"},
		{"at least: also with a vote for both", atLeast(2), nil, seats("a", "b", "c"), "+dave:a,b", workflow.Requested, "1 person approved, 2 are needed, 1 can still"},
		{"at least: refused as the delegate used the seats up", atLeast(2), nil, seats("a", "b"), "+dave:a,b", workflow.Rejected, "1 person approved and 0 can still, 2 were needed"},
		{"a delegate with two seats is two seats", all, nil, seats("a", "b"), "+dave:a,b", workflow.Approved, "2 of 2 seats approved, 2 were needed"},

		{"a seat votes once", all, nil, seats("a", "b"), "+a +a", workflow.Requested, "1 of 2 seats approved, 2 are needed, 1 can still"},
		{"by its first vote", percent(50), nil, seats("a", "b", "c", "d"), "-a +a", workflow.Requested, "0 of 4 seats approved, 2 are needed, 3 can still"},
		{"also if a delegate is faster", percent(50), nil, seats("a", "b", "c", "d"), "-dave:a +a", workflow.Requested, "0 of 4 seats approved, 2 are needed, 3 can still"},
		{"an unknown seat is not counted", all, nil, seats("a", "b"), "+mallory +a", workflow.Requested, "1 of 2 seats approved, 2 are needed, 1 can still"},
		{"nor its rejection", all, nil, seats("a", "b"), "-mallory +a", workflow.Requested, "1 of 2 seats approved, 2 are needed, 1 can still"},
		{"a seat that stands twice is one", all, nil, seats("a", "a", "b"), "+a +b", workflow.Approved, "2 of 2 seats approved, 2 were needed"},

		{"required: on top of the quorum", percent(50), []string{"c"}, seats("a", "b", "c"), "+a +b", workflow.Requested, "2 of 3 seats approved, 2 are needed, 1 can still; also needed is the approval of c"},
		{"required: approves last", percent(50), []string{"c"}, seats("a", "b", "c"), "+a +b +c", workflow.Approved, "3 of 3 seats approved, 2 were needed"},
		{"required: is no quorum alone", percent(50), []string{"c"}, seats("a", "b", "c"), "+c", workflow.Requested, "1 of 3 seats approved, 2 are needed, 2 can still"},
		{"required: rejects", percent(50), []string{"c"}, seats("a", "b", "c"), "+a -c", workflow.Rejected, "rejected by or for c, whose approval is required"},
		{"required: approves through a delegate", percent(50), []string{"c"}, seats("a", "b", "c"), "+a +dave:c", workflow.Approved, "2 of 3 seats approved, 2 were needed"},
		{"required: is rejected for by a delegate", percent(50), []string{"c"}, seats("a", "b", "c"), "-dave:c", workflow.Rejected, "rejected by or for c, whose approval is required"},
		{"required: as somebody's delegate", percent(50), []string{"c"}, seats("a", "b", "c"), "+a +c:b", workflow.Approved, "2 of 3 seats approved, 2 were needed"},
		{"required: rejects as somebody's delegate", percent(10), []string{"c"}, seats("a", "b", "c"), "-c:b", workflow.Rejected, "rejected by or for c, whose approval is required"},
		{"required: first waits for them", first, []string{"c"}, seats("a", "b", "c"), "+a", workflow.Requested, "1 of 3 seats approved, 1 is needed, 2 can still; also needed is the approval of c"},
		{"required: first is approved by them", first, []string{"c"}, seats("a", "b", "c"), "+a +c", workflow.Approved, "2 of 3 seats approved, 1 was needed"},
		{"required: first is rejected while it waits", first, []string{"c"}, seats("a", "b", "c"), "+a -b", workflow.Rejected, "1 of 3 seats rejected, one rejection decides"},
		{"required: two of them, one twice", all, []string{"a", "b", "a"}, seats("a", "b", "c"), "+c", workflow.Requested, "1 of 3 seats approved, 3 are needed, 2 can still; also needed is the approval of a, b"},
		{"required: nobody can vote for them", first, []string{"dora"}, seats("a", "b"), "", workflow.Rejected, "the approval of dora is required, and no seat is left to give it from"},
		{"required: a stranger's vote does not count", first, []string{"c"}, seats("a", "c"), "+a +mallory:c2", workflow.Requested, "1 of 2 seats approved, 1 is needed, 1 can still; also needed is the approval of c"},
	} {
		t.Run(test.what, func(t *testing.T) {
			got := workflow.Count(test.rule, test.required, test.seats, votes(test.votes))
			require.Equal(t, test.state, got.State, "%s", got.Why)
			require.Equal(t, test.why, got.Why)
		})
	}
}

func TestTheTallyAddsUp(t *testing.T) {
	got := workflow.Count(percent(60), []string{"e", "a"}, seats("a", "b", "c", "d", "e"), votes("+a -b +c"))
	require.Equal(t, workflow.Tally{
		Seats: 5, Needed: 3, Accepted: 2, Rejected: 1, Waiting: 2, Missing: []string{"e"}, State: workflow.Requested,
		Why: "2 of 5 seats approved, 3 are needed, 2 can still; also needed is the approval of e",
	}, got)
}

func TestARequiredApproverOfAGroupThatHasAnsweredLeavesNothingToWaitFor(t *testing.T) {
	group := []workflow.Seat{{Name: "group dba", Voters: []string{"bob", "carol"}}}
	got := workflow.Count(first, []string{"bob"}, group, nil)
	require.Equal(t, workflow.Requested, got.State)
	got = workflow.Count(first, []string{"bob"}, group, []workflow.Vote{{Seats: []string{"group dba"}, By: "carol", Approve: true}})
	require.Equal(t, workflow.Rejected, got.State)
	require.Equal(t, "the approval of bob is required, and no seat is left to give it from", got.Why)
	got = workflow.Count(first, []string{"bob"}, group, []workflow.Vote{{Seats: []string{"group dba"}, By: "bob", Approve: true}})
	require.Equal(t, workflow.Approved, got.State)
	group[0].Voters = nil // voters that are not listed may be anybody
	require.Equal(t, workflow.Requested, workflow.Count(first, []string{"bob"}, group, nil).State)
}

func TestCountLeavesWhatItIsGivenAsItIs(t *testing.T) {
	required, given, cast := []string{"b", "a"}, seats("a", "b"), votes("+a +b")
	got := workflow.Count(all, required, given, cast)
	require.Empty(t, got.Missing)
	require.Equal(t, []string{"b", "a"}, required)
	require.Equal(t, seats("a", "b"), given)
	require.Equal(t, votes("+a +b"), cast)
}

// stage is a random stage as [workflow.Seats] makes them: every required approver
// has a seat of their own.
type stage struct {
	rule     workflow.Rule
	required []string
	seats    []workflow.Seat
}

func drawStage(t *rapid.T) stage {
	people := []string{"a", "b", "c", "d", "e"}
	s := stage{
		rule: rapid.SampledFrom([]workflow.Rule{
			first, all, percent(-1), percent(1), percent(34), percent(50), percent(66), percent(99), percent(100), atLeast(1), atLeast(2), atLeast(3),
		}).Draw(t, "rule"),
		seats: seats(people[:rapid.IntRange(0, 4).Draw(t, "people")]...),
	}
	if rapid.Bool().Draw(t, "group") {
		s.seats = append(s.seats, workflow.Seat{Name: "group g", Voters: []string{"a", "b", "x"}})
	}
	for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom(people), 0, 2, rapid.ID[string]).Draw(t, "required") {
		s.required = append(s.required, p)
		if !slices.ContainsFunc(s.seats, func(seat workflow.Seat) bool { return seat.Name == "person "+p }) {
			s.seats = append(s.seats, seats(p)...)
		}
	}
	return s
}

// drawVotes draws votes as the engine lets them in: a seat is voted by one of its
// voters, or by a delegate for one. Some seats are named twice, or do not exist.
func (s stage) drawVotes(t *rapid.T, most int) []workflow.Vote {
	var out []workflow.Vote
	for range rapid.IntRange(0, most).Draw(t, "votes") {
		v := workflow.Vote{Approve: rapid.IntRange(0, 2).Draw(t, "approve") > 0}
		if len(s.seats) == 0 || rapid.IntRange(0, 9).Draw(t, "stray") == 0 {
			v.Seats, v.By = []string{"person nobody"}, "nobody"
		} else {
			seat := rapid.SampledFrom(s.seats).Draw(t, "seat")
			v.Seats, v.By = []string{seat.Name}, rapid.SampledFrom(seat.Voters).Draw(t, "voter")
			if rapid.IntRange(0, 3).Draw(t, "delegated") == 0 {
				v.For, v.By = v.By, rapid.SampledFrom([]string{"delegate 1", "delegate 2", "a"}).Draw(t, "delegate")
			}
			if more := rapid.SampledFrom(s.seats).Draw(t, "second seat"); slices.Contains(more.Voters, v.By) || slices.Contains(more.Voters, v.For) {
				v.Seats = append(v.Seats, more.Name)
			}
		}
		out = append(out, v)
	}
	return out
}

func (s stage) count(votes []workflow.Vote) workflow.Tally {
	return workflow.Count(s.rule, s.required, s.seats, votes)
}

func TestADecisionStandsWhateverFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawStage(t)
		cast := s.drawVotes(t, 8)
		decided := workflow.Tally{}
		for n := range len(cast) + 1 {
			got := s.count(cast[:n])
			if decided.State != "" {
				require.Equal(t, decided, got)
			} else if got.State != workflow.Requested {
				decided = got
			}
			require.Equal(t, got.Seats, len(s.seats))
			if s.rule.Counting != workflow.AtLeast {
				require.Equal(t, got.Seats, got.Accepted+got.Rejected+got.Waiting)
			}
			require.Equal(t, got.State == workflow.Approved, got.State != workflow.Rejected && got.Accepted >= got.Needed && len(got.Missing) == 0)
		}
	})
}

func TestWhenEverySeatHasVotedTheStageIsDecided(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawStage(t)
		cast := s.drawVotes(t, 5)
		for _, seat := range s.seats {
			cast = append(cast, workflow.Vote{Seats: []string{seat.Name}, By: seat.Voters[0], Approve: rapid.Bool().Draw(t, "approve")})
		}
		require.NotEqual(t, workflow.Requested, s.count(cast).State)
	})
}

func TestOneMoreApprovalNeverTakesAnApprovalAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawStage(t)
		cast := s.drawVotes(t, 8)
		before := s.count(cast)
		// At the end, and for any seat that is still waiting anywhere.
		i := rapid.IntRange(0, len(cast)).Draw(t, "where")
		var waiting []workflow.Seat
		for _, seat := range s.seats {
			if !slices.ContainsFunc(cast, func(v workflow.Vote) bool { return slices.Contains(v.Seats, seat.Name) }) {
				waiting = append(waiting, seat)
			}
		}
		if len(waiting) == 0 {
			t.Skip("all seats have voted")
		}
		seat := rapid.SampledFrom(waiting).Draw(t, "seat")
		more := workflow.Vote{Seats: []string{seat.Name}, By: rapid.SampledFrom(seat.Voters).Draw(t, "by"), Approve: true}
		after := s.count(slices.Insert(slices.Clone(cast), i, more))
		if before.State == workflow.Approved {
			require.Equal(t, workflow.Approved, after.State, "%s, then %s", before.Why, after.Why)
		}
		// A person who approves a second time, under at least N people, uses a seat up.
		again := s.rule.Counting == workflow.AtLeast && slices.ContainsFunc(cast, func(v workflow.Vote) bool { return v.By == more.By })
		if before.State == workflow.Requested && !again {
			require.NotEqual(t, workflow.Rejected, after.State, "%s, then %s", before.Why, after.Why)
		}
	})
}

// The oracle knows nothing of early refusal. It judges votes when nothing more can
// come, and says that a stage is rejected if no way of filling the seats that wait,
// by fresh people or by required approvers, ends in an approval.
func TestAStageIsRejectedExactlyWhenNothingThatMayComeApprovesIt(t *testing.T) {
	var decided [3]int
	rapid.Check(t, func(t *rapid.T) {
		s := drawStage(t)
		cast := s.drawVotes(t, 6)
		got := s.count(cast)
		// Count stops at a decision; so do the votes that the oracle sees.
		for n := range cast {
			if s.count(cast[:n]).State != workflow.Requested {
				cast = cast[:n]
				break
			}
		}
		waiting := slices.DeleteFunc(slices.Clone(s.seats), func(seat workflow.Seat) bool {
			return slices.ContainsFunc(cast, func(v workflow.Vote) bool { return slices.Contains(v.Seats, seat.Name) })
		})
		possible := false
		for pattern := range 1 << (2 * len(waiting)) { // each seat: nobody, a fresh approval, a fresh rejection, its required approver
			filled := slices.Clone(cast)
			for i, seat := range waiting {
				switch pattern >> (2 * i) & 3 {
				case 1, 2:
					filled = append(filled, workflow.Vote{Seats: []string{seat.Name}, By: fmt.Sprintf("fresh %d", i), Approve: pattern>>(2*i)&3 == 1})
				case 3:
					filled = append(filled, workflow.Vote{Seats: []string{seat.Name}, By: fmt.Sprintf("fresh %d", i), For: seat.Voters[0], Approve: true})
				}
			}
			possible = possible || s.approvedByHand(filled)
		}
		switch {
		case s.approvedByHand(cast):
			require.Equal(t, workflow.Approved, got.State, got.Why)
			decided[0]++
		case !possible:
			require.Equal(t, workflow.Rejected, got.State, got.Why)
			decided[1]++
		default:
			require.Equal(t, workflow.Requested, got.State, got.Why)
			decided[2]++
		}
	})
	for _, n := range decided {
		require.Positive(t, n, "approved, rejected, requested: %v", decided)
	}
}

// approvedByHand judges votes once all are in, as the sentences of DOMAIN 1.3 say.
func (s stage) approvedByHand(votes []workflow.Vote) bool {
	answer := map[string]*workflow.Vote{}
	for _, v := range votes {
		for _, seat := range v.Seats {
			if answer[seat] == nil {
				answer[seat] = &v
			}
		}
	}
	yes, no, people, approvers := 0, 0, map[string]bool{}, map[string]bool{}
	for _, seat := range s.seats {
		switch v := answer[seat.Name]; {
		case v == nil:
		case v.Approve:
			yes++
			people[v.By] = true
			approvers[v.By], approvers[v.For] = true, true
		default:
			no++
			if slices.Contains(s.required, v.By) || slices.Contains(s.required, v.For) {
				return false
			}
		}
	}
	for _, person := range s.required {
		if !approvers[person] {
			return false
		}
	}
	n := len(s.seats)
	switch r := s.rule; {
	case n == 0:
		return false
	case r.Counting == workflow.First, r.Counting == workflow.Percent && r.N <= 0:
		return yes >= 1 && no == 0
	case r.Counting == workflow.All, r.Counting == workflow.Percent && r.N >= 100:
		return yes == n
	case r.Counting == workflow.AtLeast:
		return len(people) >= r.N
	default:
		needed := 0
		for 100*(needed+1) <= n*r.N+50 { // one more while it is no more than half a seat above
			needed++
		}
		return yes >= max(needed, 1)
	}
}
