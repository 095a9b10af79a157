package change_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// seated submits a change under a stage with these candidates and returns its approval.
func seated(t *testing.T, h *house, r change.Raise, candidates ...change.Candidate) (change.Change, change.Approval) {
	h.publish(asking(change.Stage{Name: "vote", Rule: change.Rule{Counting: change.All}, Candidates: candidates}))
	c := h.raise(r, change.Submit{})
	a, ok := c.Approval("vote")
	require.True(t, ok)
	return c, a
}

func seat(name string, voters ...string) workflow.Seat {
	return workflow.Seat{Name: name, Voters: voters}
}

// DOMAIN 1.3: counting is in seats: a person is one seat, a group is one seat unless
// it says each member.
func TestSeatsOfPeopleGroupsAndRoles(t *testing.T) {
	people := knowing(change.People{
		Groups: map[string][]string{"dba": {"ed", "dot", "ann", "ed"}, "empty": {}},
		Roles:  map[string][]string{"manager": {"max", "ann"}},
	})
	for name, c := range map[string]struct {
		candidates []change.Candidate
		seats      []workflow.Seat
	}{
		"a person":                     {[]change.Candidate{{Person: "bob"}}, []workflow.Seat{seat("person bob", "bob")}},
		"a person named twice":         {[]change.Candidate{{Person: "bob"}, {Person: "bob"}}, []workflow.Seat{seat("person bob", "bob")}},
		"a group":                      {[]change.Candidate{{Group: "dba"}}, []workflow.Seat{seat("group dba", "ann", "dot", "ed")}},
		"each member of a group":       {[]change.Candidate{{Group: "dba", EachMember: true}}, []workflow.Seat{seat("person ann", "ann"), seat("person dot", "dot"), seat("person ed", "ed")}},
		"a role":                       {[]change.Candidate{{Role: "manager"}}, []workflow.Seat{seat("role manager", "ann", "max")}},
		"each who has a role":          {[]change.Candidate{{Role: "manager", EachMember: true}}, []workflow.Seat{seat("person ann", "ann"), seat("person max", "max")}},
		"a member, and in the group":   {[]change.Candidate{{Group: "dba"}, {Person: "ed"}}, []workflow.Seat{seat("group dba", "ann", "dot", "ed"), seat("person ed", "ed")}},
		"beside a group without any":   {[]change.Candidate{{Group: "empty"}, {Person: "bob"}}, []workflow.Seat{seat("person bob", "bob")}},
		"beside a group nobody knows":  {[]change.Candidate{{Group: "nobody knows"}, {Person: "bob"}}, []workflow.Seat{seat("person bob", "bob")}},
		"each of two groups that meet": {[]change.Candidate{{Group: "dba", EachMember: true}, {Role: "manager", EachMember: true}}, []workflow.Seat{seat("person ann", "ann"), seat("person dot", "dot"), seat("person ed", "ed"), seat("person max", "max")}},
	} {
		t.Run(name, func(t *testing.T) {
			_, a := seated(t, open(t, memory.New(), everybody, people), plain("asking"), c.candidates...)
			require.Equal(t, c.seats, a.Seats)
		})
	}
}

// One vote of a group's member is the vote of the group; who has several seats
// votes them all at once.
func TestAGroupVotesThroughOneMember(t *testing.T) {
	people := knowing(change.People{Groups: map[string][]string{"dba": {"ed", "dot"}, "net": {"dot", "ned"}}})
	h := open(t, memory.New(), everybody, people)
	c, a := seated(t, h, plain("asking"), change.Candidate{Group: "dba"}, change.Candidate{Group: "net"}, change.Candidate{Person: "bob"})
	require.Len(t, a.Seats, 3)
	c = h.approve(person("dot"), c.ID, "vote")
	a, _ = c.Approval("vote")
	require.Equal(t, []string{"group dba", "group net"}, a.Votes[0].Seats)
	h.refused("already-voted", person("ed"), c.ID, approval(c, "vote"))
	h.refused("already-voted", person("ned"), c.ID, reject("vote"))
	require.Equal(t, "scheduled", h.approve(bob, c.ID, "vote").Phase)
}

func TestASeatThatIsLeftIsVotedByWhoHasAnotherOneToo(t *testing.T) {
	people := knowing(change.People{Groups: map[string][]string{"dba": {"ed", "dot"}, "net": {"dot", "ned"}}})
	h := open(t, memory.New(), everybody, people)
	c, _ := seated(t, h, plain("asking"), change.Candidate{Group: "dba"}, change.Candidate{Group: "net"})
	h.approve(person("ed"), c.ID, "vote")
	c = h.approve(person("dot"), c.ID, "vote")
	a, _ := c.Approval("vote")
	require.Equal(t, []string{"group net"}, a.Votes[1].Seats, "the seat that has voted stays as it is")
	require.Equal(t, "scheduled", c.Phase)
}

// DOMAIN 1.3: "the teams that own the affected CIs", each team approving for its own;
// resolved by a directory when the stage opens, and recorded.
func TestTheTeamsThatOwnTheDeclaredCIsAreAsked(t *testing.T) {
	teams := map[string][]string{"team-db": {"dot", "ed"}, "team-web": {"wim"}}
	h := open(t, memory.New(), everybody, knowing(change.People{Groups: teams})).estate()
	_, err := h.cmdb.Record(t.Context(), carol,
		cmdb.Add("db-02", "database", cmdb.Attr("owner", "team-db")), cmdb.Add("web-01", "application", cmdb.Attr("owner", "team-web")),
		cmdb.Add("cache-01", "middleware", cmdb.Attr("owner", "team-cache")))
	require.NoError(t, err)
	r := plain("asking")
	r.Content.CIs = []string{"db-01", "db-02", "web-01", "cache-01"}
	c, a := seated(t, h, r, change.Candidate{Owners: true})
	require.Equal(t, []workflow.Seat{seat("owners team-db", "dot", "ed"), seat("owners team-web", "wim")}, a.Seats)
	require.Equal(t, []workflow.Excluded{{Seat: "owners team-cache", Why: "it has no members"}}, a.Excluded)

	teams["team-db"] = []string{"new"}
	h.refused("not-a-candidate", person("new"), c.ID, approval(c, "vote"))
	h.approve(person("dot"), c.ID, "vote")
	require.Equal(t, "scheduled", h.approve(person("wim"), c.ID, "vote").Phase)

	r.Content.CIs = []string{"db-01"}
	c = h.raise(r, change.Submit{})
	a, _ = c.Approval("vote")
	require.Equal(t, []workflow.Seat{seat("owners team-db", "new")}, a.Seats, "whom the directory knows now")
}

func TestAStageThatNobodyCanApproveIsNotOpened(t *testing.T) {
	h := open(t, memory.New(), everybody, knowing(nil)).estate()
	for name, candidate := range map[string]change.Candidate{
		"no owner of any CI":       {Owners: true},
		"no directory for a group": {Group: "cab"},
		"no directory for a role":  {Role: "approver"},
		"the requester himself":    {Person: "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			h.publish(asking(change.Stage{Name: "vote", Rule: change.Rule{Counting: change.First}, Candidates: []change.Candidate{candidate}}))
			c := h.raise(plain("asking"))
			h.refused("no-candidates", alice, c.ID, change.Submit{})
		})
	}
	h.publish(asking(stage("vote", change.Rule{Counting: change.AtLeast, N: 2}, "alice", "bob")))
	c := h.raise(plain("asking"))
	h.refused("no-candidates", alice, c.ID, change.Submit{})
}
