package workflow

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// String returns m as tables for people: phases, transitions, stages, and what
// else it says. The implicit transitions are not listed.
func (m Model) String() string {
	var b strings.Builder
	title := m.Name
	if m.Title != "" {
		title += ": " + m.Title
	}
	fmt.Fprintf(&b, "%s\nauthority: %s\n", plainText(title), plainText(string(m.Authority)))
	if r := m.Retrospect; r != nil {
		fmt.Fprintf(&b, "authorised within %v of the start, reviewed within %v of the end\n", r.AuthorizeWithin, r.ReviewWithin)
	}

	rows := [][]string{{"PHASE", "KIND", "GATES", "STAGES", "TASKS", "EDITS"}}
	for _, p := range m.Phases {
		var tasks []string
		for _, t := range p.Tasks {
			tasks = append(tasks, t.Title)
		}
		rows = append(rows, []string{p.Name, string(p.Kind), strings.Join(p.Gates, ", "), m.asks(p), strings.Join(tasks, "; "), strings.Join(p.Edits, ", ")})
	}
	printTable(&b, rows)

	rows = [][]string{{"ROW OF", "WHEN", "STAGES"}}
	for _, p := range m.Phases {
		if p.Table == nil {
			continue
		}
		for _, row := range p.Table.Rows {
			when := row.When
			if when == "" {
				when = "always"
			}
			name := p.Name
			if p.Table.All {
				name += ", all that match"
			} else {
				name += ", first that matches"
			}
			rows = append(rows, []string{name, when, strings.Join(row.Stages, ", ")})
		}
	}
	printTable(&b, rows)

	rows = [][]string{{"FROM", "TO", "CONDITIONS"}}
	for _, t := range m.Transitions {
		rows = append(rows, []string{t.From, t.To, strings.Join(t.conditions(), ", ")})
	}
	printTable(&b, rows)

	rows = [][]string{{"STAGE", "ASKS", "RULE", "REQUIRED", "DEADLINE", "ESCALATES TO"}}
	for _, s := range m.Stages {
		deadline := ""
		if s.Deadline != 0 {
			deadline = s.Deadline.String()
		}
		rows = append(rows, []string{s.Name, candidates(s.Candidates), s.Rule.String(), strings.Join(s.Required, ", "), deadline, candidates(s.Escalate)})
	}
	printTable(&b, rows)

	rows = [][]string{{"FIELD", "EDIT VOIDS"}}
	for _, said := range m.Material {
		voids := "all stages"
		if said.Immaterial {
			voids = "nothing"
		} else if len(said.Voids) > 0 {
			voids = strings.Join(said.Voids, ", ")
		}
		rows = append(rows, []string{said.Field, voids})
	}
	printTable(&b, rows)

	rows = [][]string{{"DUTY", "APART FROM"}}
	for _, d := range m.Duties {
		rows = append(rows, []string{d.Part, d.Against})
	}
	printTable(&b, rows)
	return b.String()
}

// asks says which stages p asks for: "cab, security?" where the second depends on
// the facts.
func (m Model) asks(p Phase) string {
	names := p.stages()
	for i, name := range names {
		if s, _ := m.Stage(name); s.Skip || !slices.Contains(p.Stages, name) {
			names[i] += "?"
		}
	}
	sep := ", then "
	if p.Together {
		sep = ", "
	}
	return strings.Join(names, sep)
}

// String says how r counts: "50 % of the seats".
func (r Rule) String() string {
	switch r.Counting {
	case First:
		return "the first answer decides"
	case All:
		return "all seats"
	case Percent:
		return fmt.Sprintf("%d %% of the seats", r.N)
	case AtLeast:
		return fmt.Sprintf("at least %s", plural(r.N, "person", "people"))
	}
	return string(r.Counting)
}

func candidates(all []Candidate) string {
	var out []string
	for _, c := range all {
		name := ""
		switch {
		case c.Person != "":
			name = "person " + c.Person
		case c.Group != "":
			name = "group " + c.Group
		case c.Role != "":
			name = "role " + c.Role
		case c.Owners:
			name = "the owners"
		}
		if c.EachMember {
			name = "each of " + name
		}
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

// printTable writes rows under their headings, or nothing if there are only those.
func printTable(b *strings.Builder, rows [][]string) {
	if len(rows) < 2 {
		return
	}
	b.WriteByte('\n')
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = plainText(cell); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush() // into memory: it cannot fail
	b.WriteString(table.String())
}
