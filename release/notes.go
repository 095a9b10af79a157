package release

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// NotesInput is what release notes are made of. It is its own JSON.
type NotesInput struct {
	Release     string            `json:"release"`
	Title       string            `json:"title,omitzero"`
	Kind        string            `json:"kind,omitzero"`
	State       string            `json:"state,omitzero"`
	Notes       string            `json:"notes,omitzero"` // of people, in lines and paragraphs
	Components  []NotesComponent  `json:"components,omitzero"`
	Changes     []NotesChange     `json:"changes,omitzero"`
	Emergent    []NotesChange     `json:"emergent,omitzero"`  // raised while it was being deployed
	Incidents   []NotesReference  `json:"incidents,omitzero"` // that are fixed
	Problems    []NotesReference  `json:"problems,omitzero"`  // that are fixed
	Deployments []NotesDeployment `json:"deployments,omitzero"`
}

// NotesComponent is something that is new.
type NotesComponent struct {
	Kind     string `json:"kind"`
	CI       string `json:"ci,omitzero"`
	Title    string `json:"title,omitzero"`
	From     string `json:"from,omitzero"` // empty: it was not there before, or not known
	To       string `json:"to,omitzero"`
	Digest   string `json:"digest,omitzero"`
	Location string `json:"location,omitzero"`
}

// NotesChange is a change that the release carries out.
type NotesChange struct {
	ID      string `json:"id"`
	Title   string `json:"title,omitzero"`
	Outcome string `json:"outcome,omitzero"` // empty: it is not known yet
}

// NotesReference is something elsewhere, by its ID there.
type NotesReference struct {
	ID    string `json:"id"`
	Title string `json:"title,omitzero"`
}

// NotesDeployment is how a deployment went.
type NotesDeployment struct {
	Number      int       `json:"number"`
	Environment string    `json:"environment"`
	State       string    `json:"state"`
	Started     time.Time `json:"started,omitzero"`
	Ended       time.Time `json:"ended,omitzero"`
	Successful  int       `json:"successful,omitzero"` // targets
	Targets     int       `json:"targets,omitzero"`
	Rollback    bool      `json:"rollback,omitzero"`
}

// sorted returns n in the order in which it is shown: components and deployments
// as they are given, everything else by ID, each ID once.
func (n NotesInput) sorted() NotesInput {
	changes := func(list []NotesChange) []NotesChange {
		list = slices.SortedStableFunc(slices.Values(list), func(a, b NotesChange) int { return cmp.Compare(a.ID, b.ID) })
		return slices.CompactFunc(list, func(a, b NotesChange) bool { return a.ID == b.ID })
	}
	references := func(list []NotesReference) []NotesReference {
		list = slices.SortedStableFunc(slices.Values(list), func(a, b NotesReference) int { return cmp.Compare(a.ID, b.ID) })
		return slices.CompactFunc(list, func(a, b NotesReference) bool { return a.ID == b.ID })
	}
	n.Changes, n.Emergent = changes(n.Changes), changes(n.Emergent)
	n.Incidents, n.Problems = references(n.Incidents), references(n.Problems)
	return n
}

// JSON returns the notes as JSON, indented, always the same for the same input.
// Text that is no UTF-8 cannot be written so.
func (n NotesInput) JSON() ([]byte, error) {
	b, err := json.Marshal(n.sorted(), json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("notes of release %q: %w", n.Release, err)
	}
	return append(b, '\n'), nil
}

// Markdown returns the notes as Markdown (CommonMark), always the same for the same
// input. What people wrote comes out as the text that it is: none of it becomes a
// heading, a link, an image, code, HTML or another line. Line ends and paragraphs
// are kept in Notes only. A renderer that also makes links of bare addresses may do
// so here; they then lead where they say.
func (n NotesInput) Markdown() string {
	n = n.sorted()
	var b strings.Builder
	b.WriteString("# " + inline(n.Release))
	if title := inline(n.Title); title != "" {
		b.WriteString(": " + title)
	}
	b.WriteString("\n")
	about := slices.DeleteFunc([]string{n.Kind, n.State}, func(s string) bool { return inline(s) == "" })
	if len(about) > 0 {
		for i, s := range about {
			about[i] = inline(s)
		}
		b.WriteString("\n*" + strings.Join(about, ", ") + "*\n")
	}
	if notes := paragraphs(n.Notes); notes != "" {
		b.WriteString("\n" + notes)
	}
	section(&b, "What is new", n.Components, NotesComponent.line)
	section(&b, "Changes", n.Changes, NotesChange.line)
	section(&b, "Emergent changes", n.Emergent, NotesChange.line)
	section(&b, "Incidents fixed", n.Incidents, NotesReference.line)
	section(&b, "Problems fixed", n.Problems, NotesReference.line)
	section(&b, "Deployments", n.Deployments, NotesDeployment.line)
	return b.String()
}

// section writes a heading and an item for each of list, or nothing.
func section[T any](b *strings.Builder, heading string, list []T, line func(T) string) {
	if len(list) == 0 {
		return
	}
	b.WriteString("\n## " + heading + "\n\n")
	for _, one := range list {
		b.WriteString("- " + line(one) + "\n")
	}
}

func (c NotesComponent) line() string {
	name := c.CI
	if inline(name) == "" {
		name = c.Title
	}
	s := bold(name)
	if kind := inline(c.Kind); kind != "" {
		s += " (" + kind + ")"
	}
	from, to := inline(c.From), inline(c.To)
	switch {
	case from != "" && to != "":
		s += " " + from + " → " + to
	case to != "":
		s += " " + to
	}
	if title := inline(c.Title); title != "" && c.CI != "" {
		s += ": " + title
	}
	for _, more := range []string{inline(c.Location), inline(c.Digest)} {
		if more != "" {
			s += ", " + more
		}
	}
	return s
}

func (c NotesChange) line() string {
	s := NotesReference{c.ID, c.Title}.line()
	if outcome := inline(c.Outcome); outcome != "" {
		s += " (" + outcome + ")"
	}
	return s
}

func (r NotesReference) line() string {
	s := bold(r.ID)
	if title := inline(r.Title); title != "" {
		s += ": " + title
	}
	return s
}

func (d NotesDeployment) line() string {
	what := "deployment"
	if d.Rollback {
		what = "rollback"
	}
	s := fmt.Sprintf("%s %d to %s", what, d.Number, bold(d.Environment))
	if state := inline(d.State); state != "" {
		s += ": " + state
	}
	if d.Targets > 0 {
		s += fmt.Sprintf(", %d of %d targets", d.Successful, d.Targets)
	}
	if !d.Started.IsZero() {
		s += ", from " + clock(d.Started)
	}
	if !d.Ended.IsZero() {
		s += " to " + clock(d.Ended)
	}
	return s
}

// bold makes text strong. Beside punctuation asterisks do not open or close it, so
// that what begins or ends with some is left as it is.
func bold(s string) string {
	text := inline(s)
	plain := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	runes := []rune(text)
	if len(runes) == 0 {
		return "–"
	}
	if plain(runes[0]) && plain(runes[len(runes)-1]) {
		return "**" + text + "**"
	}
	return text
}

// entities are the characters that mean something even to renderers which do not
// know that a backslash takes their meaning away, or that read tables and HTML
// before anything else.
var entities = map[rune]string{'<': "&lt;", '>': "&gt;", '&': "&amp;", '|': "&#124;"}

// inline returns a text of people as Markdown that shows it, on one line: white
// space is one space, control characters and those that turn the direction of
// writing are left out.
func inline(s string) string {
	var b strings.Builder
	for i, word := range strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), blank) {
		word = strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Bidi_Control, r) {
				return -1
			}
			return r
		}, word)
		if word == "" {
			continue
		}
		if i > 0 && b.Len() > 0 {
			b.WriteByte(' ')
		}
		escape(&b, word)
	}
	return b.String()
}

// blank reports whether a character is shown as a space, or not at all.
func blank(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}

// escape writes a word so that none of its characters has a meaning: a backslash
// before an ASCII punctuation mark takes it away (CommonMark 2.4). Marks that mean
// something only at the beginning of a line, or only where addresses become links,
// get one only where that could be.
func escape(b *strings.Builder, word string) {
	for i, r := range word {
		switch {
		case entities[r] != "":
			b.WriteString(entities[r])
			continue
		case strings.ContainsRune("\\`*_{}[]#~$@:", r),
			strings.ContainsRune("-+=", r) && i == 0,
			strings.ContainsRune(".)", r) && i == len(word)-1 && allDigits(word[:i]), // the number of an item of a list
			r == '.' && strings.HasSuffix(strings.ToLower(word[:i]), "www"):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
}

func allDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// paragraphs returns a text of people with its lines and paragraphs.
func paragraphs(s string) string {
	var b strings.Builder
	open := false // a line of the present paragraph was written
	for line := range strings.Lines(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")) {
		text := inline(line)
		switch {
		case text == "":
			if open {
				b.WriteString("\n\n")
			}
			open = false
			continue
		case open:
			b.WriteString("\\\n") // a hard line break
		}
		b.WriteString(text)
		open = true
	}
	if open {
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + strings.Repeat("\n", min(1, b.Len()))
}
