package change_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// DOMAIN 1.3: an approval names, and binds to, a digest of the material fields.
func TestAnApprovalOfWhatIsNoLongerThereIsRefused(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.Submit{})
	seen := c.Scope
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(monday.Add(24*time.Hour), monday.Add(26*time.Hour))}})
	require.NotEqual(t, seen, c.Scope)
	h.refused("scope-changed", bob, c.ID, change.Approve{Stage: "cab", Scope: seen})
	h.refused("scope-changed", bob, c.ID, change.Approve{Stage: "cab", Scope: "scope-1:none"})
	c = h.do(bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	require.Equal(t, "scheduled", c.Phase)
}

// DOMAIN 1.3: voiding is decided at the edit and recorded; only voided stages are
// asked again; approvers see the diff since they approved.
func TestAnEditOfWhatIsMaterialVoidsTheApproval(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.Submit{})
	c = h.approve(bob, c.ID, "cab")
	before, window := c.Scope, *c.Window

	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(monday, monday.Add(time.Hour)), Title: "Upgrade db-01 at once"}, Reason: "the vendor comes today"})
	require.Equal(t, "authorize", c.Phase, "it goes back")
	require.Nil(t, c.Authorized)
	e := last[change.Edited](h, c.ID)
	require.Equal(t, []string{"title", "window"}, e.Fields)
	require.Equal(t, []string{"cab"}, e.Voids)
	require.Equal(t, c.Scope, e.Scope)
	require.NotEqual(t, before, c.Scope)
	a, _ := c.Approval("cab")
	require.Equal(t, workflow.Requested, a.State)
	require.Equal(t, 2, a.Round)
	require.Empty(t, a.Votes)
	h.refused("authorized", dave, c.ID, change.Start{})
	h.refused("scope-changed", bob, c.ID, change.Approve{Stage: "cab", Scope: before})

	since, err := h.changes.Since(t.Context(), c.ID, "bob")
	require.NoError(t, err)
	require.Len(t, since, 2)
	require.Equal(t, `title: "Upgrade db-01 to 16" -> "Upgrade db-01 at once"`, since[0].String())
	require.Equal(t, "window: 2026-03-04 09:00 UTC to 2026-03-04 11:00 UTC -> 2026-03-02 09:00 UTC to 2026-03-02 10:00 UTC", since[1].String())
	require.Equal(t, monday.Add(48*time.Hour), window.Start)
	since, err = h.changes.Since(t.Context(), c.ID, "ben")
	require.NoError(t, err)
	require.Empty(t, since, "who never voted has nothing to compare")

	c = h.approve(ben, c.ID, "cab")
	require.Equal(t, "scheduled", c.Phase)
	require.Equal(t, c.Scope, c.Authorized.Scope)
	since, err = h.changes.Since(t.Context(), c.ID, "ben")
	require.NoError(t, err)
	require.Empty(t, since)
}

// DOMAIN 1.3: dates, CIs, deltas and plans are material by default.
func TestWhatIsMaterial(t *testing.T) {
	h := open(t, memory.New()).estate()
	h.raise(upgrade(), change.Submit{})
	for name, edit := range map[string]struct {
		set      change.Content
		material bool
	}{
		"title":               {change.Content{Title: "x"}, false},
		"description":         {change.Content{Description: "x"}, false},
		"justification":       {change.Content{Justification: "x"}, false},
		"category":            {change.Content{Category: "x"}, false},
		"origin":              {change.Content{Origin: change.Origin{Kind: "problem", Reference: "P-1"}}, false},
		"owner":               {change.Content{Owner: "x"}, false},
		"group":               {change.Content{Group: "x"}, false},
		"implementers":        {change.Content{Implementers: []string{"x"}}, false},
		"cis":                 {change.Content{CIs: []string{"shop"}}, true},
		"deltas":              {change.Content{Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "17")}}, true},
		"plan.implementation": {change.Content{Plans: change.Plans{Implementation: "x"}}, true},
		"plan.backout":        {change.Content{Plans: change.Plans{Backout: "x"}}, true},
		"plan.test":           {change.Content{Plans: change.Plans{Test: "x"}}, true},
		"plan.communication":  {change.Content{Plans: change.Plans{Communication: "x"}}, true},
		"window":              {change.Content{Window: change.Between(monday, monday.Add(time.Minute))}, true},
		"outage":              {change.Content{Outage: &change.Outage{Expected: true, For: 60}}, true},
		"order":               {change.Content{Order: []change.Order{{Rule: change.MustNotOverlap, Change: "CHG-000001"}}}, false},
		"cost":                {change.Content{Cost: decimal("1")}, false},
		"benefit":             {change.Content{Benefit: decimal("1")}, false},
		"urgency":             {change.Content{Urgency: decimal("1")}, false},
		"failure":             {change.Content{Failure: decimal("0.1")}, false},
		"stakeholders":        {change.Content{Stakeholders: []change.Stakeholder{{Who: "x"}}}, false},
		"evidence":            {change.Content{Evidence: []change.Evidence{{URL: "https://example.com"}}}, false},
		"answers":             {change.Content{Answers: []change.Answer{{Question: "q", Value: 1}}}, false},
		"tags":                {change.Content{Tags: []string{"x"}}, false},
	} {
		require.Contains(t, change.Fields(), name)
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			c := h.raise(upgrade(), change.Submit{})
			c = h.approve(bob, c.ID, "cab")
			after := h.do(alice, c.ID, change.Edit{Set: edit.set})
			require.Equal(t, []string{name}, last[change.Edited](&h, c.ID).Fields)
			require.Equal(t, edit.material, c.Scope != after.Scope)
			if edit.material {
				require.Equal(t, "authorize", after.Phase)
				return
			}
			require.Equal(t, "scheduled", after.Phase)
			require.Equal(t, c.Authorized, after.Authorized)
			a, _ := after.Approval("cab")
			require.Equal(t, 1, a.Round)
		})
	}
	require.Len(t, change.Fields(), 25, "a new field needs its line above")
}

// DOMAIN 1.3: materiality rules say which edits void which stages; only those are
// asked again.
func TestAModelSaysWhichEditsVoidWhichStages(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("technical", change.Rule{Counting: change.First}, "bob"), stage("business", change.Rule{Counting: change.First}, "ben"))
	m.Phases[1].Together = true
	m.Material = []change.Materiality{
		{Field: "window", Voids: []string{"business"}}, {Field: "plan.test", Immaterial: true}, {Field: "cost"},
	}
	h.publish(m)
	c := h.raise(plain("asking"), change.Submit{})
	h.approve(bob, c.ID, "technical")
	c = h.approve(ben, c.ID, "business")
	scope := c.Scope

	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Plans: change.Plans{Test: "select 1"}}})
	require.Equal(t, scope, c.Scope, "what is immaterial is no part of the scope")
	require.Equal(t, "scheduled", c.Phase)

	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(monday, monday.Add(time.Hour))}})
	require.Equal(t, []string{"business"}, last[change.Edited](h, c.ID).Voids)
	require.Equal(t, map[string]workflow.State{"technical": workflow.Approved, "business": workflow.Requested}, states(c))
	require.Equal(t, "authorize", c.Phase)
	technical, _ := c.Approval("technical")
	require.Equal(t, 1, technical.Round)
	require.Equal(t, scope, technical.Votes[0].Scope, "what was approved then stays on record")
	c = h.approve(ben, c.ID, "business")
	require.Equal(t, "scheduled", c.Phase)
	require.Equal(t, c.Scope, c.Authorized.Scope)

	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Cost: decimal("100")}})
	require.Equal(t, []string{"technical", "business"}, last[change.Edited](h, c.ID).Voids)
	require.NotEqual(t, technical.Votes[0].Scope, c.Scope)
}

// A vote that is given when its stage is voided before the stage is decided.
func TestAnEditVoidsVotesOfAStageThatIsStillAsked(t *testing.T) {
	h := open(t, memory.New(), everybody)
	h.publish(asking(stage("vote", change.Rule{Counting: change.All}, "bob", "ben")))
	c := h.raise(plain("asking"), change.Submit{})
	h.approve(bob, c.ID, "vote")
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Plans: change.Plans{Implementation: "by hand"}}})
	a, _ := c.Approval("vote")
	require.Equal(t, 2, a.Round)
	require.Empty(t, a.Votes)
	c = h.approve(ben, c.ID, "vote")
	require.Equal(t, "authorize", c.Phase, "bob's vote was for something else")
	require.Equal(t, "scheduled", h.approve(bob, c.ID, "vote").Phase)
}

// What is set to what it is, or set and cleared at once, is no edit of it.
func TestAnEditOfNothingRecordsNothing(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.Submit{})
	c = h.approve(bob, c.ID, "cab")
	again := h.do(alice, c.ID, change.Edit{Set: upgrade().Content, Clear: []string{"window", "deltas", "owner"}})
	require.Equal(t, c.Version, again.Version)

	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Window: c.Window, Title: "Another"}, Clear: []string{"window", "justification"}})
	require.NotNil(t, c.Window, "what is set is not cleared")
	require.Equal(t, "scheduled", c.Phase)
	e := last[change.Edited](h, c.ID)
	require.Equal(t, []string{"title"}, e.Fields)
	require.Empty(t, e.Clear)
	c = h.do(alice, c.ID, change.Edit{Clear: []string{"window"}})
	require.Nil(t, c.Window)
	require.Equal(t, []string{"window"}, last[change.Edited](h, c.ID).Clear)
	require.Equal(t, "authorize", c.Phase)
}

// The digest of upgrade. It is fixed: approvals of years ago name it, and a field
// that is added later and left at zero must not change it.
const digest = "scope-1:b99c8646e57e527e77a83d6e5c5a7df15c8bcc71d6b498215baf423d4c4f8237"

func TestTheBytesOfADigestAreFixed(t *testing.T) {
	h := open(t, memory.New()).estate()
	require.Equal(t, digest, h.raise(upgrade()).Scope)

	sum := sha256.New()
	for _, text := range []string{
		"scope-1",
		"deltas", `[{"op":"set","ci":"db-01","attribute":"version","before":"15","after":"16"}]`,
		"plan.backout", `"restore"`,
		"plan.implementation", `"pg_upgrade"`,
		"window", `{"start":"2026-03-04T09:00:00Z","end":"2026-03-04T11:00:00Z"}`,
	} {
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		sum.Write([]byte(text))
	}
	require.Equal(t, digest, "scope-1:"+hex.EncodeToString(sum.Sum(nil)), "as it is documented")
}

func TestADigestDoesNotDependOnTheOrderOfSetsOrTheTimeZone(t *testing.T) {
	h := open(t, memory.New()).estate()
	scope := func(alter func(c *change.Content)) string {
		r := upgrade()
		r.Content.CIs = []string{"db-01", "shop"}
		r.Content.Implementers = []string{"dave", "dan"}
		alter(&r.Content)
		return h.raise(r).Scope
	}
	same := scope(func(*change.Content) {})
	far := time.FixedZone("far", 5*3600+1800)
	for name, alter := range map[string]func(c *change.Content){
		"another order of CIs": func(c *change.Content) { c.CIs = []string{"shop", "db-01"} },
		"a CI twice":           func(c *change.Content) { c.CIs = []string{"shop", "db-01", "shop"} },
		"another zone": func(c *change.Content) {
			c.Window = &change.Window{Start: c.Window.Start.In(far), End: c.Window.End.In(far)}
		},
		"less than a microsecond": func(c *change.Content) { c.Window.End = c.Window.End.Add(999) },
		"empty lists instead of nil": func(c *change.Content) {
			c.Tags, c.Order, c.Evidence = []string{}, []change.Order{}, []change.Evidence{}
		},
		"what is not material": func(c *change.Content) { c.Title, c.Owner, c.Implementers = "x", "y", nil },
	} {
		require.Equal(t, same, scope(alter), name)
	}
	for name, alter := range map[string]func(c *change.Content){
		"a microsecond": func(c *change.Content) { c.Window.End = c.Window.End.Add(time.Microsecond) },
		"another order of deltas": func(c *change.Content) {
			c.Deltas = append(c.Deltas, cmdb.Set("db-01", "engine", "", "pg"))
			c.Deltas[0], c.Deltas[1] = c.Deltas[1], c.Deltas[0]
		},
		"one CI less":                 func(c *change.Content) { c.CIs = []string{"db-01"} },
		"a plan moved to another one": func(c *change.Content) { c.Plans = change.Plans{Implementation: "restore", Backout: "pg_upgrade"} },
		"no outage, said":             func(c *change.Content) { c.Outage = &change.Outage{} },
	} {
		require.NotEqual(t, same, scope(alter), name)
	}
}

func TestDigestsOfSwappedTextsDiffer(t *testing.T) {
	// Every field stands behind its name and length, so that no two contents meet.
	h := open(t, memory.New())
	seen := map[string]string{}
	for i, plans := range []change.Plans{
		{Implementation: "ab"}, {Backout: "ab"}, {Test: "ab"}, {Communication: "ab"}, {Implementation: "a", Backout: "b"}, {Implementation: "b", Backout: "a"},
		{Implementation: `a"plan.backout"b`}, {},
	} {
		c := h.raise(change.Raise{Content: change.Content{Title: "x", Plans: plans}})
		require.Empty(t, seen[c.Scope], "%d", i)
		seen[c.Scope] = fmt.Sprint(plans)
	}
}
