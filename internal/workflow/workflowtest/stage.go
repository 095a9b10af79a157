package workflowtest

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
)

// drawStages draws stages and where they are asked for. The phase that must ask
// whatever the facts are lists one that is not skipped, or ends its table in a row
// that always matches.
func (d *drawing) drawStages() {
	var phases []int // places of phases that may ask
	for place := range d.end {
		if slices.Contains(d.v.Authorize, d.at(place).Kind) {
			phases = append(phases, place)
		}
	}
	if len(phases) == 0 {
		return
	}
	least := 0
	if d.asking >= 0 {
		least = 1
	}
	var names []string
	for range d.upTo(least, 4, "stages") {
		s := d.stage()
		d.m.Stages = append(d.m.Stages, s)
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return
	}
	for _, place := range phases {
		p := d.at(place)
		p.Stages = some(d, names, 0, 2, "stages of a phase")
		if rapid.Bool().Draw(d.T, "table") {
			p.Table = d.table(names, false)
		}
	}
	if d.asking >= 0 {
		p := d.at(d.asking)
		if rapid.Bool().Draw(d.T, "asks by table") {
			p.Table = d.table(names, true)
		} else {
			i := d.upTo(0, len(names)-1, "stage that is always asked")
			d.m.Stages[i].Skip = false
			if !slices.Contains(p.Stages, names[i]) {
				p.Stages = append(p.Stages, names[i])
			}
		}
	}
	for _, name := range names {
		if !d.used(name) {
			p := d.at(pick(d, phases, "phase of a stage"))
			p.Stages = append(p.Stages, name)
		}
	}
}

func (d *drawing) used(stage string) bool {
	return slices.ContainsFunc(d.m.Phases, func(p workflow.Phase) bool {
		return slices.Contains(p.Stages, stage) || p.Table != nil &&
			slices.ContainsFunc(p.Table.Rows, func(r workflow.Row) bool { return slices.Contains(r.Stages, stage) })
	})
}

// table draws a decision table, nil if it would have no rows. Only its last row has no condition.
func (d *drawing) table(names []string, always bool) *workflow.Table {
	table := &workflow.Table{All: rapid.Bool().Draw(d.T, "all rows")}
	if len(d.expressions) > 0 {
		for range d.upTo(0, 2, "rows") {
			table.Rows = append(table.Rows, workflow.Row{When: pick(d, d.expressions, "row condition"), Stages: some(d, names, 1, 2, "row stages")})
		}
	}
	if always || rapid.Bool().Draw(d.T, "last row") {
		table.Rows = append(table.Rows, workflow.Row{Stages: some(d, names, 1, 2, "row stages")})
	}
	if len(table.Rows) == 0 {
		return nil
	}
	return table
}

func (d *drawing) stage() workflow.Stage {
	s := workflow.Stage{Name: d.name("stage"), Candidates: d.candidates(1, 3), Skip: d.oneIn(3, "skip")}
	if d.oneIn(4, "required") {
		s.Required = some(d, People(), 1, 2, "required approvers")
	}
	if d.oneIn(3, "deadline") {
		s.Deadline = d.hours("deadline")
		if rapid.Bool().Draw(d.T, "escalates") {
			s.Escalate = d.candidates(1, 2)
		}
	}
	switch s.Rule.Counting = pick(d, []workflow.Counting{workflow.First, workflow.All, workflow.Percent, workflow.AtLeast}, "counting"); s.Rule.Counting {
	case workflow.Percent:
		s.Rule.N = pick(d, []int{50, 0, 1, 33, 66, 99, 100, 150, -5}, "percent")
	case workflow.AtLeast:
		s.Rule.N = d.upTo(1, 3, "people")
		people, others := map[string]bool{}, false
		for _, id := range s.Required {
			people[id] = true
		}
		for _, c := range slices.Concat(s.Candidates, s.Escalate) {
			people[c.Person] = true
			others = others || c.Person == ""
		}
		if !others {
			s.Rule.N = min(s.Rule.N, len(people))
		}
	}
	return s
}

func (d *drawing) candidates(least, most int) []workflow.Candidate {
	var out []workflow.Candidate
	for range d.upTo(least, most, "candidates") {
		switch d.upTo(1, 5, "kind of candidate") {
		case 1, 2:
			out = append(out, workflow.Candidate{Person: pick(d, People(), "person")})
		case 3, 4:
			out = append(out, workflow.Candidate{Group: pick(d, Groups(), "group"), EachMember: rapid.Bool().Draw(d.T, "each member")})
		default:
			out = append(out, workflow.Candidate{Owners: true})
		}
	}
	return out
}
