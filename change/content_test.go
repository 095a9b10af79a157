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

// bad is what no change can be about.
type bad struct {
	rule, field string
	alter       func(c *change.Content)
}

// texts are the fields of prose.
var texts = map[string]func(c *change.Content) *string{
	"title":               func(c *change.Content) *string { return &c.Title },
	"description":         func(c *change.Content) *string { return &c.Description },
	"justification":       func(c *change.Content) *string { return &c.Justification },
	"category":            func(c *change.Content) *string { return &c.Category },
	"owner":               func(c *change.Content) *string { return &c.Owner },
	"group":               func(c *change.Content) *string { return &c.Group },
	"plan.implementation": func(c *change.Content) *string { return &c.Plans.Implementation },
	"plan.backout":        func(c *change.Content) *string { return &c.Plans.Backout },
	"plan.test":           func(c *change.Content) *string { return &c.Plans.Test },
	"plan.communication":  func(c *change.Content) *string { return &c.Plans.Communication },
}

func badContents() map[string]bad {
	long := strings.Repeat("x", 32_769)
	window := func(start, end time.Time) func(c *change.Content) {
		return func(c *change.Content) { c.Window = &change.Window{Start: start, End: end} }
	}
	order := func(rule, id string) func(c *change.Content) {
		return func(c *change.Content) { c.Order = []change.Order{{Rule: rule, Change: id}} }
	}
	evidence := func(e change.Evidence) func(c *change.Content) {
		return func(c *change.Content) { c.Evidence = []change.Evidence{e} }
	}
	cost := func(d *apd.Decimal) func(c *change.Content) {
		return func(c *change.Content) { c.Cost = d }
	}
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	all := map[string]bad{
		"an origin of no kind":            {"unknown-origin", "origin", func(c *change.Content) { c.Origin = change.Origin{Reference: "P-1"} }},
		"an origin nobody knows":          {"unknown-origin", "origin", func(c *change.Content) { c.Origin.Kind = "whim" }},
		"a long reference of an origin":   {"too-long", "origin.reference", func(c *change.Content) { c.Origin = change.Origin{Kind: "problem", Reference: long} }},
		"an implementer of no name":       {"empty-member", "implementers[0]", func(c *change.Content) { c.Implementers = []string{""} }},
		"an implementer of a long name":   {"too-long", "implementers[0]", func(c *change.Content) { c.Implementers = []string{long} }},
		"an implementer not in UTF-8":     {"not-text", "implementers[0]", func(c *change.Content) { c.Implementers = []string{"\xff"} }},
		"an owner with a line break":      {"not-an-id", "owner", func(c *change.Content) { c.Owner = "a\nb" }},
		"too many implementers":           {"too-many", "implementers", func(c *change.Content) { c.Implementers = numbered("p", 201) }},
		"too many CIs":                    {"too-many", "cis", func(c *change.Content) { c.CIs = numbered("ci", 201) }},
		"too many tags":                   {"too-many", "tags", func(c *change.Content) { c.Tags = numbered("t", 201) }},
		"a tag with a tab":                {"not-an-id", "tags[0]", func(c *change.Content) { c.Tags = []string{"a\tb"} }},
		"a CI of no name":                 {"empty-member", "cis[0]", func(c *change.Content) { c.CIs = []string{""} }},
		"a CI that there is not":          {"unknown-ci", "cis", func(c *change.Content) { c.CIs = []string{"db-99"} }},
		"a CI that is retired":            {"ci-retired", "", func(c *change.Content) { c.CIs = []string{"old"} }},
		"a delta of a CI there is not":    {"unknown-ci", "cis", func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Set("db-99", "version", "1", "2")} }},
		"too many deltas":                 {"too-many", "deltas", func(c *change.Content) { c.Deltas = make([]cmdb.Delta, 501) }},
		"a delta that does nothing known": {"delta-malformed", "deltas[0]", func(c *change.Content) { c.Deltas = []cmdb.Delta{{Op: "paint", CI: "db-01"}} }},
		"a delta with a class nobody has": {"unknown-class", "deltas[0]", func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Add("new", "spaceship")} }},
		"a delta of no attribute":         {"unknown-attribute", "deltas[0]", func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Set("db-01", "colour", "", "red")} }},
		"a delta of another type":         {"attribute-type", "deltas[0]", func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Set("db-01", "port", "", "many")} }},
		"a delta to no relation":          {"unknown-relation", "deltas[0]", func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Relate("db-01", "envies", "shop")} }},
		"a window without a start":        {"interval-invalid", "window", window(time.Time{}, monday)},
		"a window without an end":         {"interval-invalid", "window", window(monday, time.Time{})},
		"a window that ends before":       {"interval-invalid", "window.end", window(monday, monday.Add(-time.Second))},
		"a window of no length":           {"interval-invalid", "window.end", window(monday, monday)},
		"a window beyond the year 9999":   {"interval-invalid", "window", window(monday, year(10_000))},
		"a window before the year 1":      {"interval-invalid", "window", window(year(-5), monday)},
		"an outage below 0":               {"outage-invalid", "outage", func(c *change.Content) { c.Outage = &change.Outage{Expected: true, For: -1} }},
		"an outage that is not expected":  {"outage-invalid", "outage", func(c *change.Content) { c.Outage = &change.Outage{For: 60} }},
		"an order of no kind":             {"unknown-order", "order[0]", order("must precede", "CHG-000001")},
		"an order to no change":           {"unknown-change", "order", order(change.MustFollow, "")},
		"an order to a change unheard of": {"unknown-change", "order", order(change.MustFollow, "CHG-999999")},
		"an order to a NUL":               {"unknown-change", "order", order(change.MustFollow, "CHG\x00")},
		"an order not in UTF-8":           {"unknown-change", "order", order(change.MustFollow, "CHG\xff")},
		"too many orders":                 {"too-many", "order", func(c *change.Content) { c.Order = make([]change.Order, 201) }},
		"evidence without an address":     {"not-a-url", "evidence[0].url", evidence(change.Evidence{Title: "x"})},
		"evidence of another scheme":      {"not-a-url", "evidence[0].url", evidence(change.Evidence{URL: "javascript:alert(1)"})},
		"evidence in a file":              {"not-a-url", "evidence[0].url", evidence(change.Evidence{URL: "file:///etc/passwd"})},
		"evidence without a host":         {"not-a-url", "evidence[0].url", evidence(change.Evidence{URL: "https:///x"})},
		"evidence at a long address":      {"not-a-url", "evidence[0].url", evidence(change.Evidence{URL: "https://example.com/" + long})},
		"evidence at a broken address":    {"not-a-url", "evidence[0].url", evidence(change.Evidence{URL: "https://exa mple.com/%zz"})},
		"evidence of a short digest":      {"not-a-digest", "evidence[0].sha256", evidence(change.Evidence{URL: "https://example.com", SHA256: "ab"})},
		"evidence of no hexadecimals":     {"not-a-digest", "evidence[0].sha256", evidence(change.Evidence{URL: "https://example.com", SHA256: strings.Repeat("zz", 32)})},
		"evidence of a long title":        {"too-long", "evidence[0].title", evidence(change.Evidence{URL: "https://example.com", Title: long})},
		"too much evidence":               {"too-many", "evidence", func(c *change.Content) { c.Evidence = make([]change.Evidence, 201) }},
		"a stakeholder of no name":        {"empty-member", "stakeholders[0]", func(c *change.Content) { c.Stakeholders = []change.Stakeholder{{}} }},
		"a stakeholder told of nothing":   {"empty-member", "stakeholders[0].told[0]", func(c *change.Content) { c.Stakeholders = []change.Stakeholder{{Who: "x", Told: []string{""}}} }},
		"too many stakeholders":           {"too-many", "stakeholders", func(c *change.Content) { c.Stakeholders = make([]change.Stakeholder, 201) }},
		"an answer to no question":        {"answers[0]-required", "answers[0]", func(c *change.Content) { c.Answers = []change.Answer{{Value: 1}} }},
		"two answers to one question": {"answered-twice", "answers[1]", func(c *change.Content) {
			c.Answers = []change.Answer{{Question: "q", Value: 1}, {Question: "q", Value: 2}}
		}},
		"too many answers":           {"too-many", "answers", func(c *change.Content) { c.Answers = make([]change.Answer, 201) }},
		"a cost of no number":        {"not-a-number", "cost", cost(&apd.Decimal{Form: apd.NaN})},
		"an infinite cost":           {"not-a-number", "cost", cost(&apd.Decimal{Form: apd.Infinite})},
		"a cost of 35 digits":        {"not-a-number", "cost", cost(decimal(strings.Repeat("9", 35)))},
		"a cost of a great exponent": {"not-a-number", "cost", cost(apd.New(1, 35))},
		"a cost of a small exponent": {"not-a-number", "cost", cost(apd.New(1, -35))},
		"a cost below 0":             {"negative", "cost", cost(decimal("-0.01"))},
		"a benefit below 0":          {"negative", "benefit", func(c *change.Content) { c.Benefit = decimal("-1") }},
		"an urgency below 0":         {"negative", "urgency", func(c *change.Content) { c.Urgency = decimal("-1") }},
		"a failure above 1":          {"not-a-probability", "failure", func(c *change.Content) { c.Failure = decimal("1.0001") }},
		"more than can be recorded": {"too-large", "content", func(c *change.Content) {
			for i := range 400 {
				c.Deltas = append(c.Deltas, cmdb.Set("db-01", "engine", "", fmt.Sprint(i)+strings.Repeat("x", 2000)))
			}
		}},
	}
	for field, at := range texts {
		all["a long "+field] = bad{"too-long", field, func(c *change.Content) { *at(c) = long }}
		all["a "+field+" not in UTF-8"] = bad{"not-text", field, func(c *change.Content) { *at(c) = "a\xffb" }}
		all["a "+field+" with a NUL"] = bad{"not-text", field, func(c *change.Content) { *at(c) = "a\x00b" }}
		all["a "+field+" with a bell"] = bad{"not-text", field, func(c *change.Content) { *at(c) = "a\ab" }}
	}
	return all
}

func numbered(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(prefix, i)
	}
	return all
}

// Bad content is refused alike when a change is raised and when it is edited, by the
// name of the rule and the field.
func TestBadContentIsRefusedByFieldAndRule(t *testing.T) {
	h := open(t, memory.New()).estate()
	_, err := h.cmdb.Record(t.Context(), carol, cmdb.Add("old", "database"))
	require.NoError(t, err)
	_, err = h.cmdb.Record(t.Context(), carol, cmdb.Retire("old"))
	require.NoError(t, err)
	c := h.raise(upgrade())
	numbers := h.version("register-CHG")
	for name, b := range badContents() {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			named := func(err error) {
				t.Helper()
				var refused *command.Error
				require.ErrorAs(t, err, &refused)
				require.True(t, slices.ContainsFunc(refused.Refusals, func(r command.Refusal) bool {
					kind := command.Malformed
					if r.Rule == "ci-retired" {
						kind = command.Refused
					}
					return r.Rule == b.rule && r.Field == b.field && r.Kind == kind && r.Reason != "" && r.Remedy != ""
				}), "%v", err)
			}
			r := upgrade()
			b.alter(&r.Content)
			h.refusedRaise(b.rule, alice, r)
			_, err := h.changes.Raise(t.Context(), alice, r)
			named(err)
			set := change.Content{}
			b.alter(&set)
			h.untouched(func() {
				_, err = h.changes.Do(t.Context(), alice, c.ID, change.Edit{Set: set})
				named(err)
			})
		})
	}
	for _, title := range []string{"", " ", "\n"} {
		r := upgrade()
		r.Content.Title = title
		h.refusedRaise("title-required", alice, r)
	}
	h.refused("title-required", alice, c.ID, change.Edit{Clear: []string{"title"}})
	h.refused("unknown-field", alice, c.ID, change.Edit{Clear: []string{"colour"}})
	h.refused("order-with-itself", alice, c.ID, change.Edit{Set: change.Content{Order: []change.Order{{Rule: change.MustFollow, Change: c.ID}}}})
	require.Equal(t, numbers, h.version("register-CHG"), "no number is burnt")
}

// What is at the limit passes, and is kept as it was given but for space around
// names and the order of sets.
func TestContentAtTheLimitsIsKept(t *testing.T) {
	h := open(t, memory.New()).estate()
	r := upgrade()
	c := &r.Content
	for field, at := range texts {
		limit := 32_768
		switch field {
		case "title", "category", "owner", "group":
			limit = 200
		}
		*at(c) = strings.Repeat("x", limit)
	}
	c.Description = strings.Repeat("Łódź\t\r\n", 32_768/10)
	c.Implementers, c.Tags = numbered("p", 200), numbered("t", 200)
	c.Cost, c.Benefit, c.Urgency, c.Failure = decimal(strings.Repeat("9", 34)), apd.New(1, 34), apd.New(1, -34), decimal("1")
	c.Evidence = []change.Evidence{{URL: "http://example.com/" + strings.Repeat("x", 2048-19), SHA256: strings.Repeat("0f", 32)}}
	c.Window = change.Between(time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
	got := h.raise(r)
	slices.Sort(c.Implementers)
	slices.Sort(c.Tags)
	require.Empty(t, c.Diff(got.Content))
	require.Equal(t, c.Description, got.Description)

	again := h.do(alice, got.ID, change.Edit{Set: change.Content{Title: "  spaces \n", Tags: []string{"b", "a", "b"}}})
	require.Equal(t, "spaces", again.Title)
	require.Equal(t, []string{"a", "b"}, again.Tags)
}

func TestEveryFieldCanBeSetClearedAndCompared(t *testing.T) {
	h := open(t, memory.New()).estate()
	c := h.raise(change.Raise{Content: change.Content{Title: "x"}})
	all := change.Content{
		Title: "y", Description: "d", Justification: "j", Category: "c", Origin: change.Origin{Kind: "drift"}, Owner: "o", Group: "g",
		Implementers: []string{"dave"}, CIs: []string{"db-01"}, Deltas: upgrade().Content.Deltas,
		Plans:  change.Plans{Implementation: "i", Backout: "b", Test: "t", Communication: "c"},
		Window: change.Between(monday, monday.Add(time.Hour)), Outage: &change.Outage{}, Order: []change.Order{{Rule: change.MustFollow, Change: h.raise(upgrade()).ID}},
		Cost: decimal("0"), Benefit: decimal("0"), Urgency: decimal("0"), Failure: decimal("0"),
		Stakeholders: []change.Stakeholder{{Who: "s"}}, Evidence: []change.Evidence{{URL: "https://example.com"}}, Answers: []change.Answer{{Question: "q"}}, Tags: []string{"t"},
	}
	require.Len(t, c.Content.Diff(all), len(change.Fields()), "every field is in use above")
	got := h.do(alice, c.ID, change.Edit{Set: all})
	require.Empty(t, got.Content.Diff(all))
	clear := change.Fields()[1:] // but the title
	got = h.do(alice, c.ID, change.Edit{Clear: clear})
	require.Equal(t, change.Content{Title: "y"}, got.Content)
	require.Equal(t, clear, last[change.Edited](h, c.ID).Fields)
}
