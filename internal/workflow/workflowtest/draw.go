package workflowtest

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
)

// drawPhases draws the chain: plan, authorize, other, implement, review, final.
// What is authorised afterwards may be so before or after it is implemented, and
// may be neither planned nor implemented here.
func (d *drawing) drawPhases() {
	plan, authorize, other, implement, review := d.upTo(1, 3, "plan phases"), d.upTo(1, 3, "authorize phases"),
		d.upTo(0, 1, "other phases"), d.upTo(1, 3, "implement phases"), d.upTo(0, 2, "review phases")
	late, bare := false, false
	switch d.m.Authority {
	case workflow.AuthorityTemplate:
		authorize--
	case workflow.AuthorityElsewhere:
		authorize, implement = 0, 0
		if bare = review > 0 && d.oneIn(3, "is only reviewed"); bare {
			plan, other = 0, 0
		}
	case workflow.AuthorityRetrospective:
		review = max(review, 1)
		late = d.oneIn(3, "authorized after")
		if bare = d.oneIn(4, "is found out"); bare {
			plan, other, implement = 0, 0, 0
		}
	}
	if len(d.v.Authorize) == 0 {
		authorize = 0
	}

	var asking []int
	add := func(n int, kinds []workflow.Kind, label string) (places []int) {
		for range n {
			if len(kinds) == 0 {
				return places
			}
			places = append(places, len(d.chain))
			d.chain = append(d.chain, len(d.m.Phases))
			d.m.Phases = append(d.m.Phases, workflow.Phase{
				Name: d.name(label), Kind: pick(d, kinds, label+" kind"), Together: rapid.Bool().Draw(d.T, "together"),
			})
		}
		return places
	}
	add(plan, d.v.Plan, "plan phase")
	if !late {
		asking = add(authorize, d.v.Authorize, "authorize phase")
	}
	add(other, d.v.Other, "other phase")
	add(implement, d.v.Implement, "implement phase")
	if late {
		asking = add(authorize, d.v.Authorize, "authorize phase")
	}
	add(review, d.v.Review, "review phase")
	d.end = len(d.chain)
	add(1, d.ends, "final phase")

	d.asking = -1
	if len(asking) > 0 && d.m.Authority != workflow.AuthorityTemplate {
		d.asking = pick(d, asking, "phase that always asks")
	}
	if d.v.Canceled != "" && slices.ContainsFunc(d.m.Phases, d.beforeReview) {
		d.m.Phases = append(d.m.Phases, workflow.Phase{Name: d.name("canceled phase"), Kind: d.v.Canceled})
	}
}

func (d *drawing) at(place int) *workflow.Phase { return &d.m.Phases[d.chain[place]] }

func (d *drawing) beforeReview(p workflow.Phase) bool {
	return p.Kind != d.v.Canceled && !slices.Contains(d.v.Final, p.Kind) && !slices.Contains(d.v.Review, p.Kind)
}

func (d *drawing) isReview(place int) bool { return slices.Contains(d.v.Review, d.at(place).Kind) }

// drawTransitions draws the chain, ways that jump ahead or back, a second end and
// ways to cancel that have conditions. Automatic ones only lead ahead, so they
// form no circle.
func (d *drawing) drawTransitions() {
	type ends struct{ from, to string }
	drawn := map[ends]bool{}
	add := func(from, to string, ahead bool, rare int) {
		if drawn[ends{from, to}] {
			return
		}
		drawn[ends{from, to}] = true
		t := workflow.Transition{From: from, To: to, Automatic: ahead && d.oneIn(6, "automatic")}
		if d.oneIn(rare, "guarded") && len(d.v.Guards) > 0 {
			t.Guards = some(d, d.v.Guards, 1, 2, "guards")
		}
		if d.oneIn(rare, "requires") && len(d.v.Fields) > 0 {
			t.Requires = some(d, d.v.Fields, 1, 2, "required fields")
		}
		if d.oneIn(rare, "conditional") && len(d.expressions) > 0 {
			t.When = pick(d, d.expressions, "condition")
		}
		d.m.Transitions = append(d.m.Transitions, t)
	}
	for place := range d.end {
		add(d.at(place).Name, d.at(place+1).Name, true, 8)
	}
	for range d.upTo(0, 3, "jumps ahead") {
		from, to := d.upTo(0, d.end-1, "jump from"), d.upTo(1, d.end, "jump to")
		if from < to && d.mayJump(from, to) {
			add(d.at(from).Name, d.at(to).Name, true, 3)
		}
	}
	for range d.upTo(0, 2, "jumps back") {
		from, to := d.upTo(0, d.end-1, "back from"), d.upTo(0, d.end-1, "back to")
		if from >= to {
			add(d.at(from).Name, d.at(to).Name, false, 3)
		}
	}
	if d.oneIn(3, "second end") {
		p := workflow.Phase{Name: d.name("second end"), Kind: pick(d, d.ends, "second end kind")}
		d.m.Phases = append(d.m.Phases, p)
		add(d.at(d.end-1).Name, p.Name, true, 3)
	}
	canceled := slices.IndexFunc(d.m.Phases, func(p workflow.Phase) bool { return p.Kind == d.v.Canceled })
	if from := d.at(d.upTo(0, d.end-1, "cancel from")); canceled >= 0 && d.beforeReview(*from) && d.oneIn(4, "cancel by transition") {
		add(from.Name, d.m.Phases[canceled].Name, true, 2)
	}
}

// mayJump reports whether a way ahead passes by nothing that must be passed.
func (d *drawing) mayJump(from, to int) bool {
	if from < d.asking && d.asking < to {
		return false
	}
	if d.m.Authority != workflow.AuthorityRetrospective || to < d.end {
		return true
	}
	return d.isReview(from)
}

// drawMaterial draws what is material beside or against the vocabulary.
func (d *drawing) drawMaterial() {
	var stages []string
	for _, s := range d.m.Stages {
		stages = append(stages, s.Name)
	}
	for _, field := range some(d, d.v.Fields, 0, 3, "material fields") {
		said := workflow.Materiality{Field: field}
		if said.Immaterial = d.oneIn(3, "immaterial"); !said.Immaterial {
			said.Voids = some(d, stages, 0, 2, "voids")
		}
		d.m.Material = append(d.m.Material, said)
	}
}

// drawDuties draws mostly the three that hold by default, as far as v has the parts.
func (d *drawing) drawDuties() {
	duties := []workflow.Duty{
		{Part: "approver", Against: "requester"},
		{Part: "approver", Against: "implementer"},
		{Part: "reviewer", Against: "implementer"},
	}
	if d.oneIn(4, "own duties") {
		duties = nil
		for range d.upTo(0, 2, "duties") {
			if pair := some(d, d.v.Parts, 2, 2, "parts"); len(pair) == 2 {
				duties = append(duties, workflow.Duty{Part: pair[0], Against: pair[1]})
			}
		}
	}
	d.m.Duties = slices.DeleteFunc(duties, func(one workflow.Duty) bool {
		return !slices.Contains(d.v.Parts, one.Part) || !slices.Contains(d.v.Parts, one.Against)
	})
}

// drawWork draws what may be edited in each phase and the tasks that it opens.
func (d *drawing) drawWork() {
	material := d.m.MaterialFields(d.v)
	later := slices.DeleteFunc(slices.Clone(d.v.Fields), func(field string) bool { return slices.Contains(material, field) })
	for i := range d.m.Phases {
		p := &d.m.Phases[i]
		final := p.Kind == d.v.Canceled || slices.Contains(d.v.Final, p.Kind)
		begun := final || slices.Contains(d.v.Implement, p.Kind) || slices.Contains(d.v.Review, p.Kind)
		switch {
		case begun:
			p.Edits = some(d, later, 0, 4, "edits")
		case slices.Contains(d.v.Plan, p.Kind) && !d.oneIn(4, "some edits"), d.oneIn(3, "all edits"):
			p.Edits = []string{"*"}
		default:
			p.Edits = some(d, d.v.Fields, 0, 8, "edits")
		}
		if final || !d.oneIn(4, "tasks") {
			continue
		}
		for range d.upTo(1, 2, "tasks") {
			task := workflow.TaskTemplate{Title: pick(d, []string{"Tell the users", "Take a backup", "Test the back-out"}, "task"), Kind: pick(d, workflow.TaskKinds(), "task kind")}
			if rapid.Bool().Draw(d.T, "task has a group") {
				task.Group = pick(d, Groups(), "task group")
			}
			p.Tasks = append(p.Tasks, task)
		}
	}
}
