package release

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
)

// Limits of what people write into a release.
const (
	maxText       = 32_768 // bytes of a text
	maxComponents = 200
	maxList       = 200
	maxVersion    = 200 // bytes of a version
	maxReports    = 20_000
	maxID         = 200 // bytes of the ID of a person, a report or a change
)

// contentField is a field of the content under its name.
type contentField struct {
	name  string
	zero  func(c Content) bool
	copy  func(from, to *Content)
	equal func(a, b Content) bool
}

// plain makes a field of a comparable type.
func plain[T comparable](name string, of func(*Content) *T) contentField {
	var zero T
	return contentField{
		name: name,
		zero: func(c Content) bool { return *of(&c) == zero },
		copy: func(from, to *Content) { *of(to) = *of(from) }, equal: func(a, b Content) bool { return *of(&a) == *of(&b) },
	}
}

// listed makes a field of a list.
func listed[T comparable](name string, of func(*Content) *[]T) contentField {
	return contentField{
		name: name,
		zero: func(c Content) bool { return len(*of(&c)) == 0 },
		copy: func(from, to *Content) { *of(to) = slices.Clone(*of(from)) }, equal: func(a, b Content) bool { return slices.Equal(*of(&a), *of(&b)) },
	}
}

var fields = []contentField{
	plain("title", func(c *Content) *string { return &c.Title }),
	plain("description", func(c *Content) *string { return &c.Description }),
	plain("kind", func(c *Content) *Kind { return &c.Kind }),
	listed("components", func(c *Content) *[]Component { return &c.Components }),
	plain("origin", func(c *Content) *change.Origin { return &c.Origin }),
	plain("notes", func(c *Content) *string { return &c.Notes }),
	plain("due", func(c *Content) *time.Time { return &c.Due }),
	plain("bundle", func(c *Content) *string { return &c.Bundle }),
	plain("owner", func(c *Content) *string { return &c.Owner }),
	listed("tags", func(c *Content) *[]string { return &c.Tags }),
}

// material are the fields that approvals, checks and waivers are given for.
var material = []string{"components", "kind"}

func contentFields() []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// edited returns c with the fields of set that are not zero, and without those
// that clear names.
func (c Content) edited(set Content, clear []string) Content {
	var none Content
	for _, f := range fields {
		switch {
		case slices.Contains(clear, f.name):
			f.copy(&none, &c)
		case !f.zero(set):
			f.copy(&set, &c)
		}
	}
	return c
}

// differs returns the names of the fields in which two contents differ.
func (c Content) differs(other Content) []string {
	var names []string
	for _, f := range fields {
		if !f.equal(c, other) {
			names = append(names, f.name)
		}
	}
	return names
}

// normal returns c as it is recorded: components in their order, tags sorted,
// times in UTC and whole microseconds, text without space around it.
func (c Content) normal() Content {
	c.Title = strings.TrimSpace(c.Title)
	c.Due = c.Due.UTC().Truncate(time.Microsecond)
	c.Tags = with(c.Tags)
	c.Components = slices.Clone(c.Components)
	slices.SortStableFunc(c.Components, func(a, b Component) int { return a.Order - b.Order })
	if len(c.Components) == 0 {
		c.Components = nil
	}
	if len(c.Tags) == 0 {
		c.Tags = nil
	}
	return c
}

// scopeScheme names how a scope is taken. New fields that are left out when they
// are zero do not change it.
const scopeScheme = "release-1"

// scope returns the digest of what is material: SHA-256 over the scheme and the
// JSON of kind and components.
func (c Content) scope() (string, error) {
	b, err := json.Marshal(struct {
		Scheme     string      `json:"scheme"`
		Kind       Kind        `json:"kind"`
		Components []Component `json:"components"`
	}{scopeScheme, c.Kind, c.Components}, json.Deterministic(true))
	if err != nil {
		return "", fmt.Errorf("scope of a release: %w", err)
	}
	sum := sha256.Sum256(b)
	return scopeScheme + ":" + hex.EncodeToString(sum[:]), nil
}

// content refuses what no release can be about.
func (d *decision) content(c Content) {
	d.text("title", c.Title, maxTitle, true)
	d.text("description", c.Description, maxText, false)
	d.text("notes", c.Notes, maxText, false)
	d.id("bundle", c.Bundle)
	d.id("owner", c.Owner)
	kinds := []Kind{Major, Minor, Patch, Emergency}
	if !slices.Contains(kinds, c.Kind) {
		d.malformed("kind", "unknown-kind", "there is no kind of release %q", "choose one of %v", c.Kind, kinds)
	}
	if c.Origin != (change.Origin{}) && !slices.Contains(change.Origins(), c.Origin.Kind) {
		d.malformed("origin", "unknown-origin", "there is no origin %q", "choose one of %v", c.Origin.Kind, change.Origins())
	}
	d.text("origin.reference", c.Origin.Reference, maxTitle, false)
	if year := c.Due.UTC().Year(); year < 1 || year > 9999 {
		d.malformed("due", "interval-invalid", "the year %d lies outside the years 1 to 9999", "check the year", year)
	}
	d.count("tags", len(c.Tags), maxList)
	for i, tag := range c.Tags {
		d.id(fmt.Sprintf("tags[%d]", i), tag)
	}
	d.count("components", len(c.Components), maxComponents)
	seen := map[string]bool{}
	for i, one := range c.Components {
		d.component(fmt.Sprintf("components[%d]", i), one)
		if seen[one.CI] {
			d.malformed(fmt.Sprintf("components[%d].ci", i), "component-twice", "two components bring %s, which has one version", "make one of them", one.CI)
		}
		seen[one.CI] = one.CI != ""
	}
}

// component refuses what cannot be rolled out.
func (d *decision) component(at string, c Component) {
	kinds := []ComponentKind{Code, Configuration, Network, DataComponent, Document, ProcessChange, Dependency, Training}
	if !slices.Contains(kinds, c.Kind) {
		d.malformed(at+".kind", "unknown-component", "there is no kind of component %q", "choose one of %v", c.Kind, kinds)
	}
	switch {
	case c.CI != "":
		if err := cmdb.CheckID(c.CI); err != nil {
			d.malformed(at+".ci", "not-an-id", "%v", "name a CI", err)
		}
		if strings.Contains(c.CI, "@") {
			d.malformed(at+".ci", "not-an-id", "%q is a CI of one environment", "name the CI before the @", c.CI)
		}
	case c.Kind != Document && c.Kind != ProcessChange && c.Kind != Training:
		d.malformed(at+".ci", "ci-required", "a component of kind %s is a version of a CI", "name the CI", c.Kind)
	}
	d.text(at+".title", c.Title, maxTitle, c.CI == "")
	d.id(at+".class", c.Class)
	d.text(at+".to", c.To, maxVersion, c.CI != "")
	d.text(at+".from", c.From, maxVersion, false)
	d.text(at+".location", c.Location, 2048, false)
	if hexa, ok := strings.CutPrefix(c.Digest, "sha256:"); c.Digest != "" && (!ok || len(hexa) != 64 || strings.Trim(hexa, "0123456789abcdef") != "") {
		d.malformed(at+".digest", "not-a-digest", "%.80q is no digest", "give sha256: and 64 hexadecimal digits in lower case", c.Digest)
	}
}

// text refuses a text that is too long, not UTF-8, or has control characters
// beyond line ends and tabs; required: or empty.
func (d *decision) text(field, s string, limit int, required bool) {
	switch {
	case required && strings.TrimSpace(s) == "":
		name, _, _ := strings.Cut(field[strings.LastIndexByte(field, '.')+1:], "[")
		d.malformed(field, name+"-required", "it is empty", "say it in a few words")
	case len(s) > limit:
		d.malformed(field, "too-long", "it has %d bytes", "use at most %d", len(s), limit)
	case !utf8.ValidString(s):
		d.malformed(field, "not-text", "it is not valid UTF-8", "send text in UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }):
		d.malformed(field, "not-text", "it has control characters", "leave them out")
	}
}

// id refuses what is no opaque ID; empty is none.
func (d *decision) id(field, s string) {
	d.text(field, s, maxID, false)
	if strings.ContainsAny(s, "\n\t\r") {
		d.malformed(field, "not-an-id", "it has control characters", "leave them out")
	}
}

func (d *decision) count(field string, n, limit int) {
	if n > limit {
		d.malformed(field, "too-many", "there are %d", "use at most %d", n, limit)
	}
}
