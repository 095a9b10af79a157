package cmdb

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Neighbourhood is what stands around a CI, whatever way impact runs: living CIs
// up to some number of relations away, and every relation between them.
type Neighbourhood struct {
	Center    string     `json:"center"`
	CIs       []CI       `json:"cis"`       // by ID
	Relations []Relation `json:"relations"` // by From, Relation, To
}

// Relation stands between two living CIs.
type Relation struct {
	From     string `json:"from"`
	Relation string `json:"relation"`
	To       string `json:"to"`
}

// Neighbourhood returns what stands up to depth relations away from a living CI.
// It costs what it returns.
func (g *Graph) Neighbourhood(id string, depth int) (Neighbourhood, error) {
	start, err := g.living([]string{id})
	if err != nil {
		return Neighbourhood{}, err
	}
	inside := map[*node]struct{}{start[0]: {}}
	frontier := start
	for range depth {
		var next []*node
		reach := func(n *node) {
			if _, ok := inside[n]; !ok {
				inside[n] = struct{}{}
				next = append(next, n)
			}
		}
		for _, n := range frontier {
			for _, t := range n.out.living() {
				reach(t.to)
			}
			for _, t := range n.in.living() {
				reach(t.from)
			}
		}
		if frontier = next; len(next) == 0 {
			break
		}
	}
	found := Neighbourhood{Center: id, CIs: []CI{}, Relations: []Relation{}}
	for n := range inside {
		found.CIs = append(found.CIs, n.ci())
		for _, t := range n.out.living() {
			if _, ok := inside[t.to]; ok {
				found.Relations = append(found.Relations, Relation{n.id, t.relation, t.to.id})
			}
		}
	}
	slices.SortFunc(found.CIs, func(a, b CI) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(found.Relations, func(a, b Relation) int {
		return cmp.Or(strings.Compare(a.From, b.From), strings.Compare(a.Relation, b.Relation), strings.Compare(a.To, b.To))
	})
	return found, nil
}

// Neighbourhood returns what stands up to depth relations away from a living CI.
func (s *Service) Neighbourhood(ctx context.Context, id string, depth int) (Neighbourhood, error) {
	var found Neighbourhood
	return found, s.View(ctx, func(g *Graph) (err error) {
		found, err = g.Neighbourhood(id, depth)
		return err
	})
}

// JSON returns the neighbourhood as indented JSON, always the same for the same one.
func (n Neighbourhood) JSON() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(n); err != nil {
		return nil, fmt.Errorf("neighbourhood of %q as JSON: %w", n.Center, err)
	}
	return b.Bytes(), nil
}

// DOT returns the neighbourhood in the language of Graphviz. Nothing in the names
// of CIs, classes or relations is taken for DOT.
func (n Neighbourhood) DOT() string {
	var b strings.Builder
	b.WriteString("digraph cmdb {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n")
	for i, ci := range n.CIs {
		extra := ""
		if ci.ID == n.Center {
			extra = ", penwidth=2"
		}
		fmt.Fprintf(&b, "  n%d [label=\"%s\\n%s\"%s];\n", i, dotText(ci.ID), dotText(ci.Class), extra)
	}
	for _, r := range n.Relations {
		fmt.Fprintf(&b, "  n%d -> n%d [label=\"%s\"];\n", n.index(r.From), n.index(r.To), dotText(r.Relation))
	}
	b.WriteString("}\n")
	return b.String()
}

// Mermaid returns the neighbourhood as a Mermaid flowchart. Nothing in the names
// of CIs, classes or relations is taken for Mermaid or for HTML.
func (n Neighbourhood) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i, ci := range n.CIs {
		fmt.Fprintf(&b, "  n%d[\"%s<br/>%s\"]\n", i, mermaidText(ci.ID), mermaidText(ci.Class))
	}
	for _, r := range n.Relations {
		fmt.Fprintf(&b, "  n%d -->|\"%s\"| n%d\n", n.index(r.From), mermaidText(r.Relation), n.index(r.To))
	}
	if i := n.index(n.Center); i >= 0 {
		fmt.Fprintf(&b, "  style n%d stroke-width:3px\n", i)
	}
	return b.String()
}

// index finds a CI among n.CIs, -1 if it is not there.
func (n Neighbourhood) index(id string) int {
	i, ok := slices.BinarySearchFunc(n.CIs, id, func(ci CI, id string) int { return strings.Compare(ci.ID, id) })
	if !ok {
		return -1
	}
	return i
}

// dotText escapes text within a double-quoted label, where a backslash begins an
// escape sequence and an ampersand an HTML entity.
func dotText(text string) string { return dotEscapes.Replace(oneLine(text)) }

var dotEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `&`, `&amp;`)

// mermaidText writes every sign that Mermaid or HTML could take for its own as
// Mermaid's entity code.
func mermaidText(text string) string {
	var b strings.Builder
	for _, r := range oneLine(text) {
		if r < 0x80 && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" -_.:/@+,", r) {
			fmt.Fprintf(&b, "#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// oneLine replaces control characters, which a graph that was fed by hand may
// have in its names, by spaces.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}
