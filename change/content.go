package change

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/go-json-experiment/json"

	"github.com/rollforward/rollforward/cmdb"
)

// Content is what people write into a change (DOMAIN 1.2). All of it is optional
// but the title; a model may require more.
type Content struct {
	Title         string `json:"title,omitzero"`
	Description   string `json:"description,omitzero"`
	Justification string `json:"justification,omitzero"`
	Category      string `json:"category,omitzero"`
	Origin        Origin `json:"origin,omitzero"`

	Owner        string   `json:"owner,omitzero"`        // who answers for it
	Group        string   `json:"group,omitzero"`        // the team that carries it out
	Implementers []string `json:"implementers,omitzero"` // who carries it out; a set

	CIs    []string     `json:"cis,omitzero"`    // declared beside those that Deltas name; a set
	Deltas []cmdb.Delta `json:"deltas,omitzero"` // planned, in order
	Plans  Plans        `json:"plans,omitzero"`

	Window *Window `json:"window,omitzero"` // when it is to be carried out
	Outage *Outage `json:"outage,omitzero"` // nil: nobody has said
	Order  []Order `json:"order,omitzero"`

	// An amount of 0 is something else than none, and omitzero would leave it out.
	Cost    *apd.Decimal `json:"cost,omitempty"`
	Benefit *apd.Decimal `json:"benefit,omitempty"`
	Urgency *apd.Decimal `json:"urgency,omitempty"`
	Failure *apd.Decimal `json:"failure,omitempty"` // estimated probability of failure, 0 to 1, where the risk policy gives none

	Stakeholders []Stakeholder `json:"stakeholders,omitzero"`
	Evidence     []Evidence    `json:"evidence,omitzero"`
	Answers      []Answer      `json:"answers,omitzero"` // to questionnaires of risk
	Tags         []string      `json:"tags,omitzero"`    // a set
}

// Origin is what a change comes from.
type Origin struct {
	Kind      string `json:"kind"` // one of Origins
	Reference string `json:"reference,omitzero"`
}

// Origins are the kinds of origin.
func Origins() []string {
	return []string{"service request", "incident", "problem", "capacity plan", "service level", "release", "drift", "regulation"}
}

// Plans are the texts by which a change is carried out.
type Plans struct {
	Implementation string `json:"implementation,omitzero"`
	Backout        string `json:"backout,omitzero"`
	Test           string `json:"test,omitzero"`
	Communication  string `json:"communication,omitzero"`
}

// Window is a half-open interval: Start is in it, End is not.
type Window struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Between returns the window from start to end, in UTC.
func Between(start, end time.Time) *Window { return &Window{start.UTC(), end.UTC()} }

// Holds reports whether t lies in w.
func (w Window) Holds(t time.Time) bool { return !t.Before(w.Start) && t.Before(w.End) }

// Outage says whether services are down, and how long.
type Outage struct {
	Expected bool    `json:"expected"`
	For      Seconds `json:"for,omitzero"`
}

// Order says how a change stands to another in time.
type Order struct {
	Rule   string `json:"rule"` // MustFollow or MustNotOverlap
	Change string `json:"change"`
}

// The rules of order.
const (
	MustFollow     = "must follow"
	MustNotOverlap = "must not overlap"
)

// Stakeholder is who has an interest, and what he is told when. Package notify tells
// him at "authorized", "rejected", "started", "implemented", "unauthorized",
// "reviewed", "held", "resumed", "closed" and "canceled"; other words are for handlers
// of one's own.
type Stakeholder struct {
	Who  string   `json:"who"`           // a person or a team, an opaque ID
	Told []string `json:"told,omitzero"` // at which events; none: what the handler says
}

// Evidence is a document elsewhere, with the digest it had.
type Evidence struct {
	Title  string `json:"title,omitzero"`
	URL    string `json:"url"`
	SHA256 string `json:"sha256,omitzero"` // hexadecimal
}

// Declared returns the CIs that people named: in CIs and in Deltas, sorted, each
// once. A CI that a delta adds is among them.
func (c Content) Declared() []string {
	all := slices.Clone(c.CIs)
	for _, d := range c.Deltas {
		all = append(all, d.CI)
		if d.To != "" {
			all = append(all, d.To)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// field is one field of a content: how it is named in models and edits, and
// where it is.
type field struct {
	name string
	zero func(c *Content) bool
	copy func(to, from *Content)
	get  func(c *Content) any
}

func on[T comparable](name string, at func(*Content) *T) field {
	var zero T
	return field{
		name: name,
		zero: func(c *Content) bool { return *at(c) == zero },
		copy: func(to, from *Content) { *at(to) = *at(from) },
		get:  func(c *Content) any { return *at(c) },
	}
}

func onList[T any](name string, at func(*Content) *[]T) field {
	return field{
		name: name,
		zero: func(c *Content) bool { return len(*at(c)) == 0 },
		copy: func(to, from *Content) { *at(to) = *at(from) },
		get:  func(c *Content) any { return *at(c) },
	}
}

// fields is the table of all fields, in the order in which people are shown them.
var fields = []field{
	on("title", func(c *Content) *string { return &c.Title }),
	on("description", func(c *Content) *string { return &c.Description }),
	on("justification", func(c *Content) *string { return &c.Justification }),
	on("category", func(c *Content) *string { return &c.Category }),
	on("origin", func(c *Content) *Origin { return &c.Origin }),
	on("owner", func(c *Content) *string { return &c.Owner }),
	on("group", func(c *Content) *string { return &c.Group }),
	onList("implementers", func(c *Content) *[]string { return &c.Implementers }),
	onList("cis", func(c *Content) *[]string { return &c.CIs }),
	onList("deltas", func(c *Content) *[]cmdb.Delta { return &c.Deltas }),
	on("plan.implementation", func(c *Content) *string { return &c.Plans.Implementation }),
	on("plan.backout", func(c *Content) *string { return &c.Plans.Backout }),
	on("plan.test", func(c *Content) *string { return &c.Plans.Test }),
	on("plan.communication", func(c *Content) *string { return &c.Plans.Communication }),
	on("window", func(c *Content) **Window { return &c.Window }),
	on("outage", func(c *Content) **Outage { return &c.Outage }),
	onList("order", func(c *Content) *[]Order { return &c.Order }),
	on("cost", func(c *Content) **apd.Decimal { return &c.Cost }),
	on("benefit", func(c *Content) **apd.Decimal { return &c.Benefit }),
	on("urgency", func(c *Content) **apd.Decimal { return &c.Urgency }),
	on("failure", func(c *Content) **apd.Decimal { return &c.Failure }),
	onList("stakeholders", func(c *Content) *[]Stakeholder { return &c.Stakeholders }),
	onList("evidence", func(c *Content) *[]Evidence { return &c.Evidence }),
	onList("answers", func(c *Content) *[]Answer { return &c.Answers }),
	onList("tags", func(c *Content) *[]string { return &c.Tags }),
}

// material are the fields that are material unless a model says otherwise.
var material = []string{
	"cis", "deltas", "plan.implementation", "plan.backout", "plan.test", "plan.communication", "window", "outage",
}

// Fields returns the names of all fields of a content, as models and edits use them.
func Fields() []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

func fieldNamed(name string) (field, bool) {
	i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
	if i < 0 {
		return field{}, false
	}
	return fields[i], true
}

// edited returns c with the non-zero fields of set in place of its own, and
// without those that clear names.
func (c Content) edited(set Content, clear []string) Content {
	c.edit(&set, clear)
	return c
}

// edit is edited in place.
func (c *Content) edit(set *Content, clear []string) {
	var none Content
	for i := range fields {
		switch f := &fields[i]; {
		case !f.zero(set):
			f.copy(c, set)
		case len(clear) > 0 && slices.Contains(clear, f.name):
			f.copy(c, &none)
		}
	}
}

// Difference is a field that has another value in two contents.
type Difference struct {
	Field         string
	Before, After string // as JSON; empty where there is no value
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s -> %s", d.Field, d.show(d.Before), d.show(d.After))
}

// show writes a value for people, where its JSON is not fit for them.
func (d Difference) show(text string) string {
	if text == "" {
		return "nothing"
	}
	var w Window
	if d.Field == "window" && json.Unmarshal([]byte(text), &w) == nil {
		return stamp(w.Start) + " to " + stamp(w.End)
	}
	return text
}

// Diff returns the fields in which c and other differ, in the order of Fields.
func (c Content) Diff(other Content) []Difference {
	var all []Difference
	for _, f := range fields {
		before, after := f.text(&c), f.text(&other)
		if before != after {
			all = append(all, Difference{f.name, before, after})
		}
	}
	return all
}

// text returns the value of a field as JSON, always the same for the same value;
// empty for none.
func (f field) text(c *Content) string {
	if f.zero(c) {
		return ""
	}
	b, err := json.Marshal(f.get(c), json.Deterministic(true))
	if err != nil {
		return "cannot be shown: " + err.Error() // no value of these types fails; a difference is then still seen
	}
	return string(b)
}

// scopeScheme is the version of what a scope digest is taken over. A field that
// comes later and is left at zero does not change a digest.
const scopeScheme = "scope-1"

// scopeOf returns the digest of the material fields of c: SHA-256 over the
// scheme and, for each of these fields that has a value, by name, the name and
// the value's JSON, each behind its length as 8 bytes.
func scopeOf(c Content, fields []string) string {
	h := sha256.New()
	put := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	put(scopeScheme)
	for _, name := range slices.Sorted(slices.Values(fields)) {
		if f, ok := fieldNamed(name); ok {
			if text := f.text(&c); text != "" {
				put(name)
				put(text)
			}
		}
	}
	return scopeScheme + ":" + hex.EncodeToString(h.Sum(nil))
}

// normal returns c as it is recorded: sets sorted, times in UTC and whole
// microseconds, text without space around it.
func (c Content) normal() Content {
	for _, s := range []*[]string{&c.Implementers, &c.CIs, &c.Tags} {
		*s = set(*s)
	}
	for _, s := range []*string{&c.Title, &c.Category, &c.Owner, &c.Group} {
		*s = strings.TrimSpace(*s)
	}
	if c.Window != nil {
		c.Window = &Window{c.Window.Start.UTC().Truncate(time.Microsecond), c.Window.End.UTC().Truncate(time.Microsecond)}
	}
	c.Answers = slices.Clone(c.Answers)
	slices.SortFunc(c.Answers, func(a, b Answer) int { return strings.Compare(a.Question, b.Question) })
	if len(c.Answers) == 0 {
		c.Answers = nil
	}
	return c
}

// set returns the members sorted, each once; nil for none.
func set(members []string) []string {
	if len(members) == 0 {
		return nil
	}
	members = slices.Clone(members)
	slices.Sort(members)
	return slices.Compact(members)
}
