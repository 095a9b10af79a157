package workflow

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Drawings name phases p0, p1 and so on in their order, and write names only
// where they are quoted, so that no name can change what is drawn. v says which
// phases are final and which ways are implicit.

// Mermaid returns the state graph of m as a Mermaid state diagram. Automatic
// transitions are labelled "auto", implicit ones "(cancel)" and "(return)", since
// Mermaid has one kind of line.
func (m Model) Mermaid(v Vocabulary) string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	index := map[string]int{}
	for i, p := range m.Phases {
		if _, twice := index[p.Name]; !twice {
			index[p.Name] = i
		}
		fmt.Fprintf(&b, "    state \"%s\" as p%d\n", mermaidText(drawnName(p.Name)), i)
		fmt.Fprintf(&b, "    p%d : %s\n", i, mermaidText(p.about()))
	}
	if len(m.Phases) > 0 {
		b.WriteString("    [*] --> p0\n")
	}
	for _, w := range m.ways(v, index) {
		fmt.Fprintf(&b, "    p%d --> p%d", w.from, w.to)
		label := mermaidText(w.label)
		if w.implicit {
			label = "(" + label + ")"
		}
		if label != "" {
			b.WriteString(" : " + label)
		}
		b.WriteByte('\n')
	}
	for i, p := range m.Phases {
		if v.final(p.Kind) {
			fmt.Fprintf(&b, "    p%d --> [*]\n", i)
		}
	}
	return b.String()
}

// DOT returns the state graph of m for Graphviz. Automatic transitions are dashed
// and labelled "auto", implicit ones dotted, grey and labelled "cancel" and "return".
func (m Model) DOT(v Vocabulary) string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph \"%s\" {\n", dotText(m.Name))
	b.WriteString("    node [shape=box, style=rounded]\n    start [shape=point]\n")
	index := map[string]int{}
	for i, p := range m.Phases {
		if _, twice := index[p.Name]; !twice {
			index[p.Name] = i
		}
		more := ""
		if v.final(p.Kind) {
			more = ", peripheries=2"
		}
		fmt.Fprintf(&b, "    p%d [label=\"%s\\n%s\"%s]\n", i, dotText(drawnName(p.Name)), dotText(p.about()), more)
	}
	if len(m.Phases) > 0 {
		b.WriteString("    start -> p0\n")
	}
	for _, w := range m.ways(v, index) {
		var attrs []string
		if w.label != "" {
			attrs = append(attrs, fmt.Sprintf("label=\"%s\"", dotText(w.label)))
		}
		switch {
		case w.implicit:
			attrs = append(attrs, "style=dotted", "color=gray50", "fontcolor=gray50")
		case w.automatic:
			attrs = append(attrs, "style=dashed")
		}
		fmt.Fprintf(&b, "    p%d -> p%d", w.from, w.to)
		if len(attrs) > 0 {
			fmt.Fprintf(&b, " [%s]", strings.Join(attrs, ", "))
		}
		b.WriteByte('\n')
	}
	b.WriteString("}\n")
	return b.String()
}

// about says in one line what p is, what holds to enter it, and what it asks for.
func (p Phase) about() string {
	line := string(p.Kind)
	if len(p.Gates) > 0 {
		line += ", behind " + strings.Join(p.Gates, ", ")
	}
	if names := p.stages(); len(names) > 0 {
		line += ", asks " + strings.Join(names, ", ")
	}
	if len(p.Tasks) > 0 {
		line += ", opens " + plural(len(p.Tasks), "task", "tasks")
	}
	return line
}

// stages returns the stages that p may ask for, each once.
func (p Phase) stages() []string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range p.Stages {
		add(name)
	}
	if p.Table != nil {
		for _, row := range p.Table.Rows {
			for _, name := range row.Stages {
				add(name)
			}
		}
	}
	return names
}

// way is an arrow of a drawing.
type way struct {
	from, to            int
	automatic, implicit bool
	label               string
}

// ways returns the transitions of m whose ends exist, and after them the implicit ones.
func (m Model) ways(v Vocabulary, index map[string]int) []way {
	var out []way
	for _, t := range m.Transitions {
		from, ok := index[t.From]
		to, okTo := index[t.To]
		if ok && okTo {
			out = append(out, way{from: from, to: to, automatic: t.Automatic, label: strings.Join(t.conditions(), ", ")})
		}
	}
	for _, t := range m.Implicit(v) {
		label := "return"
		if m.Phases[index[t.To]].Kind == v.Canceled {
			label = "cancel"
		}
		out = append(out, way{from: index[t.From], to: index[t.To], implicit: true, label: label})
	}
	return out
}

// conditions says in words when t is open.
func (t Transition) conditions() []string {
	var out []string
	if t.Automatic {
		out = append(out, "auto")
	}
	out = append(out, t.Guards...)
	if len(t.Requires) > 0 {
		out = append(out, "needs "+strings.Join(t.Requires, " and "))
	}
	if t.When != "" {
		out = append(out, "when "+t.When)
	}
	return out
}

// mermaidText writes what could be read as a sign of Mermaid or HTML as a
// character number, which is drawn as the character.
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range plainText(s) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" -_.,", r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "#%d;", r)
		}
	}
	return b.String()
}

// drawnName is what is drawn for a name: Mermaid cannot draw an empty one.
func drawnName(name string) string {
	if strings.TrimSpace(plainText(name)) == "" {
		return "(no name)"
	}
	return name
}

// dotEscapes keeps a quoted string of DOT together, and what looks like an entity
// of HTML, which Graphviz would read, as it is written.
var dotEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `&`, `&amp;`)

// dotText escapes s for a quoted string of DOT.
func dotText(s string) string { return dotEscapes.Replace(plainText(s)) }

// plainText returns s on one line: control characters, line separators and marks
// of direction are spaces, and bytes that are no UTF-8 the replacement character.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
}
