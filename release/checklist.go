package release

import (
	"slices"
	"strings"
	"time"
)

// evidence adds a finding about the release as it is.
func (d *decision) evidence(c AddEvidence) {
	d.stillOpen()
	e := c.Evidence
	d.text("kind", e.Kind, maxTitle, true)
	d.text("title", e.Title, maxTitle, false)
	d.text("url", e.URL, 2048, false)
	if e.SHA256 != "" && (len(e.SHA256) != 64 || strings.Trim(e.SHA256, "0123456789abcdef") != "") {
		d.malformed("sha256", "not-a-digest", "it is not 64 hexadecimal digits", "give the SHA-256 in lower case")
	}
	d.count("values", len(e.Values), maxList)
	for name, value := range e.Values {
		d.text("values."+name, name, maxTitle, true)
		d.text("values."+name, value, maxTitle, false)
	}
	d.count("evidence", len(d.Evidence)+1, 1000)
	if d.clear() {
		e.By, e.At, e.Scope = d.actor.ID, d.now, d.Scope
		d.record(EvidenceAdded{Evidence: e})
	}
}

// environment returns an environment of the graph, or refuses.
func (d *decision) environment(name string) (Environment, bool) {
	e, ok := d.graph.Find(name)
	if !ok {
		known := strings.Join(d.graph.names(), ", ")
		if known == "" {
			known = "none: define some"
		}
		d.malformed("environment", "unknown-environment", "there is no environment %.100q", "name one of %s", name, known)
	}
	return e, ok
}

// gate returns a gate of an environment, or refuses.
func (d *decision) gate(environment, name string) (Environment, Gate, bool) {
	e, ok := d.environment(environment)
	if !ok {
		return e, Gate{}, false
	}
	i := slices.IndexFunc(e.Gates, func(g Gate) bool { return g.Name == name })
	if i < 0 {
		d.malformed("gate", "unknown-gate", "environment %s has no gate %.100q", "check its name", environment, name)
		return e, Gate{}, false
	}
	return e, e.Gates[i], true
}

// check answers an item of a checklist.
func (d *decision) check(c CheckItem) {
	d.stillOpen()
	d.text("note", c.Note, maxTitle, false)
	e, ok := d.environment(c.Environment)
	if ok && !slices.ContainsFunc(e.Gates, func(g Gate) bool { return slices.Contains(g.Items, c.Item) }) {
		d.malformed("item", "unknown-item", "no checklist of %s has the item %.100q", "check its words", e.Name, c.Item)
	}
	d.count("checks", len(d.Checks)+1, 5*maxList)
	if d.clear() {
		d.record(ItemChecked{Checked{c.Environment, ItemCheck{Item: c.Item, Go: c.Go, By: d.actor.ID, At: d.now, Note: c.Note}}})
	}
}

// waive lets a gate be passed.
func (d *decision) waive(c Waive) {
	d.stillOpen()
	d.text("why", c.Why, maxText, true)
	e, g, ok := d.gate(c.Environment, c.Gate)
	if ok && e.Production && (g.Kind == GateChange || g.Kind == GateWindow) {
		d.refuse("not-waivable", "production asks for it in any case", "have the change authorised, or override the window in the calendar")
	}
	switch year := c.Until.UTC().Year(); {
	case !c.Until.After(d.now):
		d.malformed("until", "interval-invalid", "it is not after now", "say until when it is waived")
	case year > 9999:
		d.malformed("until", "interval-invalid", "the year %d lies outside the years 1 to 9999", "check the year", year)
	}
	d.count("waivers", len(d.Waivers)+1, maxList)
	if d.clear() {
		d.record(GateWaived{Waived{c.Environment, c.Gate, Waiver{By: d.actor.ID, Why: c.Why, At: d.now, Until: c.Until.UTC().Truncate(time.Microsecond)}}})
	}
}
