package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
)

// page writes for people: in colour on a terminal, in plain text elsewhere.
type page struct {
	out    io.Writer
	colour bool
}

func newPage(out io.Writer) *page {
	f, ok := out.(*os.File)
	return &page{out: out, colour: ok && isatty.IsTerminal(f.Fd()) && os.Getenv("NO_COLOR") == ""}
}

// Colours of a terminal (ECMA-48, SGR).
const (
	bold  = "1"
	red   = "31"
	green = "32"
	dim   = "2"
)

func (p *page) paint(colour, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (p *page) strong(text string) string { return p.paint(bold, text) }

func (p *page) heading(text string) { fmt.Fprintf(p.out, "\n%s\n", p.paint(bold, text)) }

func (p *page) say(format string, args ...any) { fmt.Fprintf(p.out, "  "+format+"\n", args...) }

func (p *page) item(format string, args ...any) { fmt.Fprintf(p.out, "  - "+format+"\n", args...) }

func (p *page) yes(format string, args ...any) {
	fmt.Fprintf(p.out, "  %s %s\n", p.paint(green, "yes"), fmt.Sprintf(format, args...))
}

func (p *page) no(format string, args ...any) {
	fmt.Fprintf(p.out, "  %s  %s\n", p.paint(red, "no"), fmt.Sprintf(format, args...))
}

func (p *page) block(text string) {
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		fmt.Fprint(p.out, "  ", p.paint(dim, strings.TrimRight(line, "\n")), "\n")
	}
}

func stamp(t time.Time) string { return t.UTC().Format("Mon 2 Jan 15:04") }

// path writes how impact reaches a CI.
func path(steps []cmdb.Step) string {
	var b strings.Builder
	for i, s := range steps {
		if i == 0 {
			b.WriteString(s.From)
		} else {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s %s", s.Relation, s.To)
	}
	return b.String()
}

// named writes a CI with its criticality, where it has one.
func named(a change.Affected) string {
	if a.Criticality == "" {
		return a.ID
	}
	return fmt.Sprintf("%s (%s)", a.ID, a.Criticality)
}

// short cuts a digest to what people compare.
func short(scope string) string { return scope[:min(len(scope), 20)] + "..." }
