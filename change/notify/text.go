package notify

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rollforward/rollforward/change"
)

// Page is what Config.Subject and Config.Text are executed with. Its texts are those
// that people wrote, each as one line without control characters, so that none can
// look like a part of the notice that is not his; Change has them as they are.
type Page struct {
	ID      string // of the change
	Title   string
	Word    string // one of Words
	Says    string // what happened, as a verb: "has started"
	By      string // who did it, or what an authorisation rests on; may be empty
	Reason  string // in his words; may be empty
	At      time.Time
	Link    string // empty where there is no BaseURL
	Who     string // is told
	Owner   bool   // as the owner of a CI, and not as a stakeholder
	Planned string // the window, in UTC; empty where there is none
	Outage  string // how long services are down, as planned; empty where none is expected
	Change  change.Change
}

var (
	defaultSubject = template.Must(template.New("subject").Parse(`{{.ID}} {{.Says}}: {{.Title}}`))
	defaultText    = template.Must(template.New("text").Parse(
		`Change {{.ID}} {{.Says}}.

Title:    {{.Title}}
When:     {{.At.UTC.Format "2006-01-02 15:04 MST"}}
{{- with .By}}
By:       {{.}}{{end}}
{{- with .Reason}}
Reason:   {{.}}{{end}}
{{- with .Planned}}
Planned:  {{.}}{{end}}
{{- with .Outage}}
Outage:   {{.}}{{end}}
{{- with .Link}}

{{.}}{{end}}

You are told this as {{if .Owner}}an owner of what it touches{{else}}a stakeholder of the change{{end}}.
`))
)

const (
	maxSubject = 240      // bytes
	maxText    = 64 << 10 // bytes
	maxField   = 2_000    // bytes of one text in a Page
)

// tryTemplates has a template that cannot be executed refused before anybody is to be
// told.
func (n *notifier) tryTemplates() error {
	for _, word := range words {
		for _, c := range []change.Change{{ID: "CHG-000000"}, {ID: "CHG-000000", Content: change.Content{
			Title: "title", Window: change.Between(time.Unix(0, 0), time.Unix(3600, 0)), Outage: &change.Outage{Expected: true, For: 60},
		}}} {
			if _, _, err := n.render(n.page(c, happening{word: word, says: "is so", by: "by", reason: "reason"}, recipient{who: "who"})); err != nil {
				return err
			}
		}
	}
	return nil
}

// page returns what a template says of a change to one recipient.
func (n *notifier) page(c change.Change, h happening, to recipient) Page {
	p := Page{
		ID: line(c.ID, maxField), Title: line(c.Title, maxField), Word: h.word, Says: line(h.says, maxField), By: line(h.by, maxField),
		Reason: line(h.reason, maxField), At: h.at, Who: line(to.who, maxField), Owner: to.owner, Change: c,
	}
	if n.base != nil {
		p.Link = n.base.JoinPath(c.ID).String()
	}
	if w := c.Window; w != nil {
		p.Planned = stamp(w.Start) + " to " + stamp(w.End)
	}
	if o := c.Outage; o != nil && o.Expected {
		p.Outage = "expected"
		if o.For > 0 {
			p.Outage = (time.Duration(o.For) * time.Second).String()
		}
	}
	return p
}

// render returns the subject and the text of a notice.
func (n *notifier) render(p Page) (subject, text string, err error) {
	var b bytes.Buffer
	if err := n.Subject.Execute(&b, p); err != nil {
		return "", "", fmt.Errorf("the template of the subject: %w", err)
	}
	subject = line(b.String(), maxSubject)
	b.Reset()
	if err := n.Text.Execute(&b, p); err != nil {
		return "", "", fmt.Errorf("the template of the text: %w", err)
	}
	return subject, prose(b.String()), nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// line returns s as one line of at most limit bytes: of whatever kind the breaks in
// it are, they become spaces.
func line(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return ' '
		case turns(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return cut(strings.TrimSpace(s), limit)
}

// prose returns s with the line breaks and tabs that it has, and no other control
// characters.
func prose(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	return cut(strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case unicode.IsControl(r), turns(r):
			return -1
		}
		return r
	}, s), maxText)
}

// turns reports whether r changes the direction in which text is shown, so that it
// reads as what it is not.
func turns(r rune) bool { return r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069' }

// cut returns s, or its beginning with three dots, in at most limit bytes.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len("...")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}
