package change_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// commands is one of each command that Do takes, as it can be meant.
func commands() []change.Command {
	return []change.Command{
		change.Submit{}, change.Edit{Set: change.Content{Description: "x"}}, change.Assess{Level: "low", Why: "x"}, change.Advance{},
		change.Approve{Stage: "cab", Scope: "scope-1:0"}, change.Reject{Stage: "cab", Reason: "x"}, change.Expire{Stage: "cab"},
		change.Start{}, change.Complete{}, change.Review{Outcome: change.Successful}, change.Close{}, change.Cancel{Reason: "x"},
		change.Revert{Reason: "x"}, change.Hold{Reason: "x"}, change.Resume{}, change.AddTask{Title: "x", Kind: "testing"},
		change.EditTask{ID: 1, Title: "x"}, change.MoveTask{ID: 1, To: "open"},
		change.Link{Incident: change.Incident{ID: "INC-1", Relation: change.Fixes}}, change.Note{Text: "x"},
		change.Carry{Release: "REL-000001", State: change.CarryBound},
	}
}

func named(c change.Command) string { return strings.TrimPrefix(fmt.Sprintf("%T", c), "change.") }

func TestEveryCommandIsRefusedOnAChangeThatThereIsNot(t *testing.T) {
	h := open(t, memory.New(), everybody)
	for _, c := range commands() {
		t.Run(named(c), func(t *testing.T) {
			h := *h
			h.t = t
			for id, rule := range map[string]string{
				"": "unknown-change", "CHG-000001": "unknown-change", "chg-1": "unknown-change", strings.Repeat("x", 201): "unknown-change",
				strings.Repeat("x", 300): "too-long", "CHG\x00": "not-text", "CHG\xff": "not-text",
			} {
				h.refused(rule, alice, id, c)
				h.untouched(func() {
					_, err := h.changes.Do(t.Context(), alice, id, c)
					refusedBy(t, err, command.ErrMalformed, rule)
				})
			}
		})
	}
}

func TestEveryCommandIsDeniedToWhoHasNoRight(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.AddTask{Title: "x", Kind: "testing"}, change.Submit{})
	for _, cmd := range commands() {
		t.Run(named(cmd), func(t *testing.T) {
			h := *h
			h.t = t
			for actor, rule := range map[command.Actor]string{
				command.As("mallory"):             "role-required",
				command.As("mallory").For("bob"):  "no-delegation",
				command.As("mallory").For("dave"): "no-delegation",
			} {
				h.untouched(func() {
					_, err := h.changes.Do(t.Context(), actor, c.ID, cmd)
					refusedBy(t, err, command.ErrDenied, rule)
				})
			}
			h.untouched(func() {
				for _, actor := range []command.Actor{{}, command.As("a\x00"), command.As(strings.Repeat("x", 129))} {
					_, err := h.changes.Do(t.Context(), actor, c.ID, cmd)
					require.ErrorIs(t, err, command.ErrMalformed)
				}
			})
		})
	}
	h.refusedRaise("role-required", bob, upgrade())
	h.refusedRaise("no-delegation", bob.For("alice"), upgrade())
	h.refusedRaise("role-required", command.As("mallory"), upgrade())
}

// A right can be given by what a change is about, and goes as far.
func TestARightByAttributesReachesAsFar(t *testing.T) {
	table := command.ReadyTable()
	table["db requester"] = []command.Permission{{Actions: []string{"change.raise", "change.submit"}, Where: map[string][]string{"ci": {"db-01"}, "model": {"normal"}}}}
	h := open(t, memory.New(), func(_ *change.Config, d *command.Config) {
		roles := command.Roles{"zoe": {"db requester"}}
		for person, has := range staff {
			roles[person] = has
		}
		d.Authorizer = command.Policy{Table: table, Roles: roles}
	}).estate()
	h.refusedRaise("outside-right", zoe, plain(""))
	h.refusedRaise("outside-right", zoe, outbreak())
	c, err := h.changes.Raise(t.Context(), zoe, upgrade())
	require.NoError(t, err)
	h.do(alice, c.ID, change.Edit{Set: change.Content{CIs: []string{"shop"}}, Clear: []string{"deltas"}})
	h.refused("outside-right", zoe, c.ID, change.Submit{})
}

func TestEveryCommandOnAChangeThatHasEndedButNotesAndLinks(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade(), change.AddTask{Title: "x", Kind: "testing"}, change.Submit{}, change.Cancel{Reason: "x"})
	for _, cmd := range commands() {
		switch cmd.(type) {
		case change.Note, change.Link:
			h.do(bob, c.ID, cmd)
		case change.Approve, change.Reject, change.Expire:
			h.refused("change-ended", bob, c.ID, cmd)
			h.refused("stage-not-open", bob, c.ID, cmd)
		default:
			h.refused("change-ended", bob, c.ID, cmd)
		}
	}
}

func TestEveryCommandThatMovesAChangeInAPhaseThatIsNotItsOwn(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	draft := h.raise(upgrade()).ID
	asked := h.raise(upgrade(), change.Submit{}).ID
	scheduled := h.raise(upgrade(), change.Submit{}).ID
	h.approve(bob, scheduled, "cab")
	begun := h.raise(upgrade(), change.Submit{}).ID
	h.approve(bob, begun, "cab")
	h.do(dave, begun, change.Start{})
	done := h.raise(upgrade(), change.Submit{}).ID
	h.approve(bob, done, "cab")
	h.do(dave, done, change.Start{}, change.Complete{Applied: noDeltas})

	fit := map[string][]string{ // where a command is not in the wrong phase
		"Submit": {draft}, "Assess": {draft, asked, scheduled}, "Start": {scheduled}, "Complete": {begun}, "Review": {done},
		"Close": {done}, "Cancel": {draft, asked, scheduled, begun}, "Revert": {asked, scheduled}, "Advance": {asked},
	}
	for _, cmd := range commands() {
		places, moves := fit[named(cmd)]
		if !moves {
			continue
		}
		for _, id := range []string{draft, asked, scheduled, begun, done} {
			rule := "wrong-phase"
			if named(cmd) == "Start" && (id == draft || id == asked) {
				rule = "authorized" // it says what is missing
			}
			if !slices.Contains(places, id) {
				h.refused(rule, person("ann"), id, cmd)
				continue
			}
			why, err := h.changes.Why(t.Context(), person("ann"), id, cmd)
			require.NoError(t, err)
			for _, r := range why {
				require.NotEqual(t, "wrong-phase", r.Rule, "%s of %s", named(cmd), id)
			}
		}
	}
	for id, rule := range map[string]string{begun: "not-editable", done: "not-editable"} {
		h.refused(rule, alice, id, change.Edit{Set: change.Content{Title: "x"}})
		h.refused(rule, alice, id, change.Edit{Set: change.Content{Window: change.Between(monday, monday.Add(time.Hour))}})
		h.do(alice, id, change.Edit{Set: change.Content{Description: "what was found on the way"}})
	}
}

// What a command says is checked whatever the phase: too long, not UTF-8, missing,
// of a kind that there is not.
func TestBadInputOfCommandsIsRefusedByFieldAndRule(t *testing.T) {
	long, notText, bell := strings.Repeat("x", 32_769), "a\xffb", "a\ab"
	year := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	prose := func(field string, required bool, make func(text string) change.Command) map[string]change.Command {
		all := map[string]change.Command{
			"too-long|" + field: make(long), "not-text|" + field: make(notText), "not-text|" + field + "|bell": make(bell),
		}
		if required {
			all[field+"-required|"+field], all[field+"-required|"+field+"|blank"] = make(""), make(" \n")
		}
		return all
	}
	cases := []map[string]change.Command{
		prose("reason", false, func(s string) change.Command { return change.Edit{Set: change.Content{Owner: "x"}, Reason: s} }),
		prose("level", true, func(s string) change.Command { return change.Assess{Level: s, Why: "x"} }),
		prose("why", true, func(s string) change.Command { return change.Assess{Level: "x", Why: s} }),
		prose("comment", false, func(s string) change.Command { return change.Approve{Stage: "cab", Scope: "x", Comment: s} }),
		prose("reason", true, func(s string) change.Command { return change.Reject{Stage: "cab", Reason: s} }),
		prose("notes", false, func(s string) change.Command { return change.Complete{Notes: s} }),
		prose("notes", false, func(s string) change.Command { return change.Review{Outcome: change.Successful, Notes: s} }),
		prose("accept", false, func(s string) change.Command { return change.Review{Outcome: change.Successful, Accept: s} }),
		prose("reason", true, func(s string) change.Command { return change.Cancel{Reason: s} }),
		prose("reason", true, func(s string) change.Command { return change.Revert{Reason: s} }),
		prose("reason", true, func(s string) change.Command { return change.Hold{Reason: s} }),
		prose("reason", false, func(s string) change.Command { return change.Resume{Reason: s} }),
		prose("title", true, func(s string) change.Command { return change.AddTask{Title: s, Kind: "testing"} }),
		prose("assignee", false, func(s string) change.Command { return change.AddTask{Title: "x", Kind: "testing", Assignee: s} }),
		prose("group", false, func(s string) change.Command { return change.AddTask{Title: "x", Kind: "testing", Group: s} }),
		prose("title", false, func(s string) change.Command { return change.EditTask{ID: 1, Title: s} }),
		prose("assignee", false, func(s string) change.Command { return change.EditTask{ID: 1, Assignee: s} }),
		prose("note", false, func(s string) change.Command { return change.MoveTask{ID: 1, To: "closed", Note: s} }),
		prose("incident", true, func(s string) change.Command {
			return change.Link{Incident: change.Incident{ID: s, Relation: change.Fixes}}
		}),
		prose("text", true, func(s string) change.Command { return change.Note{Text: s} }),
		{
			"not-a-number|score":                         change.Assess{Level: "x", Why: "x", Score: &apd.Decimal{Form: apd.NaN}},
			"negative|score":                             change.Assess{Level: "x", Why: "x", Score: decimal("-1")},
			"scope-required|scope":                       change.Approve{Stage: "cab"},
			"unknown-stage|stage":                        change.Approve{Stage: "", Scope: "x"},
			"unknown-stage|stage|of a rejection":         change.Reject{Stage: "board", Reason: "x"},
			"unknown-stage|stage|of an expiry":           change.Expire{Stage: long},
			"interval-invalid|end":                       change.Complete{Start: monday, End: monday.Add(-time.Second)},
			"in-the-future|end":                          change.Complete{Start: monday, End: monday.Add(time.Second)},
			"interval-invalid|start":                     change.Complete{Start: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)},
			"interval-invalid|end|in the year 10000":     change.Complete{Start: monday, End: year},
			"too-many|applied":                           change.Complete{Applied: make([]cmdb.Delta, 501)},
			"unknown-outcome|outcome":                    change.Review{},
			"unknown-outcome|outcome|of no kind":         change.Review{Outcome: "fine"},
			"title-required|follow_ups[0]":               change.Review{Outcome: change.Successful, FollowUps: []change.FollowUp{{Kind: "training"}}},
			"unknown-task-kind|follow_ups[0]":            change.Review{Outcome: change.Successful, FollowUps: []change.FollowUp{{Title: "x", Kind: "implementation"}}},
			"too-long|follow_ups[0]":                     change.Review{Outcome: change.Successful, FollowUps: []change.FollowUp{{Title: long, Kind: "training"}}},
			"not-text|follow_ups[0]":                     change.Review{Outcome: change.Successful, FollowUps: []change.FollowUp{{Title: "x", Kind: "training", Assignee: notText}}},
			"too-many|follow_ups":                        change.Review{Outcome: change.Successful, FollowUps: make([]change.FollowUp, 201)},
			"unknown-task-kind|kind":                     change.AddTask{Title: "x", Kind: "magic"},
			"interval-invalid|end|of a task":             change.AddTask{Title: "x", Kind: "testing", Start: monday, End: monday.Add(-time.Second)},
			"interval-invalid|start|of a task":           change.AddTask{Title: "x", Kind: "testing", Start: year},
			"interval-invalid|end|of a task, much later": change.EditTask{ID: 1, End: year},
			"unknown-task|id":                            change.EditTask{ID: 2, Title: "x"},
			"unknown-task|id|to move":                    change.MoveTask{ID: -1, To: "open"},
			"unknown-relation|relation":                  change.Link{Incident: change.Incident{ID: "INC-1", Relation: "likes"}},
			"unknown-priority|priority":                  change.Link{Incident: change.Incident{ID: "INC-1", Relation: change.Fixes, Priority: 6}},
			"unknown-priority|priority|below 0":          change.Link{Incident: change.Incident{ID: "INC-1", Relation: change.Fixes, Priority: -1}},
			"not-an-id|incident":                         change.Link{Incident: change.Incident{ID: "INC\n1", Relation: change.Fixes}},
		},
	}
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade(), change.AddTask{Title: "x", Kind: "testing"}, change.Submit{})
	for _, some := range cases {
		for name, cmd := range some {
			t.Run(named(cmd)+" "+name, func(t *testing.T) {
				h := *h
				h.t = t
				part := strings.Split(name, "|")
				h.refused(part[0], carol, c.ID, cmd)
				h.untouched(func() {
					_, err := h.changes.Do(t.Context(), carol, c.ID, cmd)
					require.ErrorIs(t, err, command.ErrMalformed)
					var refused *command.Error
					require.ErrorAs(t, err, &refused)
					var fields []string
					for _, r := range refused.Refusals {
						if r.Rule == part[0] {
							fields = append(fields, r.Field)
						}
					}
					require.Contains(t, fields, part[1])
				})
			})
		}
	}
	stood, err := h.changes.Get(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, c.Version, stood.Version)
}

func TestBadInputOfARaiseIsRefusedByName(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	for name, c := range map[string]struct {
		rule  string
		alter func(r *change.Raise)
	}{
		"a model unheard of":        {"unknown-model", func(r *change.Raise) { r.Model = "whim" }},
		"a model of a long name":    {"unknown-model", func(r *change.Raise) { r.Model = strings.Repeat("x", 5000) }},
		"a model with a NUL":        {"unknown-model", func(r *change.Raise) { r.Model = "normal\x00" }},
		"a model not in UTF-8":      {"unknown-model", func(r *change.Raise) { r.Model = "normal\xff" }},
		"a template unheard of":     {"unknown-template", func(r *change.Raise) { r.Template = "whim" }},
		"a template of a long name": {"unknown-template", func(r *change.Raise) { r.Template = strings.Repeat("x", 5000) }},
		"a template with a NUL":     {"unknown-template", func(r *change.Raise) { r.Template = "\x00" }},
		"a long requester":          {"too-long", func(r *change.Raise) { r.Requester = strings.Repeat("x", 201) }},
		"a requester not in UTF-8":  {"not-text", func(r *change.Raise) { r.Requester = "\xff" }},
		"a requester of two lines":  {"not-an-id", func(r *change.Raise) { r.Requester = "a\nb" }},
		"a long reference":          {"too-long", func(r *change.Raise) { r.External = strings.Repeat("x", 201) }},
		"a reference not in UTF-8":  {"not-text", func(r *change.Raise) { r.External, r.Unique = "\xff", true }},
		"a reference with a NUL":    {"not-text", func(r *change.Raise) { r.External, r.Unique = "\x00", true }},
		"no reference to be unique": {"external-required", func(r *change.Raise) { r.Unique = true }},
	} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			r := plain("")
			c.alter(&r)
			h.refusedRaise(c.rule, alice, r)
			_, err := h.changes.Raise(t.Context(), alice, r)
			require.ErrorIs(t, err, command.ErrMalformed)
		})
	}
	h.refusedRaise("unknown-model", alice, change.Raise{Model: "whim"})
	h.refusedRaise("title-required", alice, change.Raise{Model: "whim"}) // all at once
	require.Zero(t, h.version("register-CHG"))
}

// A CI that ends while a change is planned stands in its way.
func TestACIThatIsRetiredMeanwhileStandsInTheWay(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	r := plain("")
	r.Content.CIs = []string{"shop"}
	planned, approved := h.raise(r), h.raise(r, change.Submit{})
	h.approve(bob, approved.ID, "cab")
	_, err := h.cmdb.Record(t.Context(), carol, cmdb.Retire("shop"))
	require.NoError(t, err)
	h.refusedRaise("ci-retired", alice, r)
	h.refused("ci-retired", alice, planned.ID, change.Submit{})
	h.refused("ci-retired", alice, approved.ID, change.Start{})
	h.refused("ci-retired", alice, planned.ID, change.Edit{Set: change.Content{CIs: []string{"db-01", "shop"}}})
	h.do(alice, planned.ID, change.Edit{Set: change.Content{CIs: []string{"db-01"}}}, change.Submit{})
}
