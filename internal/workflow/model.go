package workflow

import "slices"

// Phase returns the phase of that name; ok is false if there is none.
func (m Model) Phase(name string) (p Phase, ok bool) {
	i := slices.IndexFunc(m.Phases, func(p Phase) bool { return p.Name == name })
	if i < 0 {
		return Phase{}, false
	}
	return m.Phases[i], true
}

// Stage returns the stage of that name; ok is false if there is none.
func (m Model) Stage(name string) (s Stage, ok bool) {
	i := slices.IndexFunc(m.Stages, func(s Stage) bool { return s.Name == name })
	if i < 0 {
		return Stage{}, false
	}
	return m.Stages[i], true
}

// From returns the transitions out of a phase, in the order of the model, without
// the implicit ones.
func (m Model) From(phase string) []Transition {
	var out []Transition
	for _, t := range m.Transitions {
		if t.From == phase {
			out = append(out, t)
		}
	}
	return out
}

// Implicit returns the ways between phases that are open without a transition, in
// the order of the phases: from every phase of an authorize kind the return to the
// first phase of a plan kind, and from every phase whose kind is neither a review
// nor final the way to the phase of the kind v.Canceled. A way whose end the model
// lacks is left out.
func (m Model) Implicit(v Vocabulary) []Transition {
	plan := slices.IndexFunc(m.Phases, func(p Phase) bool { return slices.Contains(v.Plan, p.Kind) })
	canceled := slices.IndexFunc(m.Phases, func(p Phase) bool { return v.Canceled != "" && p.Kind == v.Canceled })
	var out []Transition
	for _, p := range m.Phases {
		if plan >= 0 && slices.Contains(v.Authorize, p.Kind) {
			out = append(out, Transition{From: p.Name, To: m.Phases[plan].Name})
		}
		if canceled >= 0 && v.cancels(p.Kind) {
			out = append(out, Transition{From: p.Name, To: m.Phases[canceled].Name})
		}
	}
	return out
}

// Voids returns the stages that an edit of these fields voids, in the order of
// the model. For a field the model says it, or else v: fields of v.Material void
// all stages, other fields of v none. A field that v does not know voids all.
func (m Model) Voids(v Vocabulary, fields []string) []string {
	all, some := false, map[string]bool{}
	for _, field := range fields {
		switch said, ok := m.materiality(field); {
		case !ok:
			all = all || slices.Contains(v.Material, field) || !slices.Contains(v.Fields, field)
		case said.Immaterial:
		case len(said.Voids) == 0:
			all = true
		default:
			for _, name := range said.Voids {
				some[name] = true
			}
		}
	}
	var out []string
	for _, s := range m.Stages {
		if all || some[s.Name] {
			out = append(out, s.Name)
		}
	}
	return out
}

// MaterialFields returns the fields that an approval is given to, sorted: those
// whose edit voids stages. The scope digest is taken over them.
func (m Model) MaterialFields(v Vocabulary) []string {
	var out []string
	for _, field := range v.Material {
		if _, said := m.materiality(field); !said {
			out = append(out, field)
		}
	}
	for _, said := range m.Material {
		if first, _ := m.materiality(said.Field); !first.Immaterial {
			out = append(out, said.Field)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// materiality returns what m says of a field, if it says anything.
func (m Model) materiality(field string) (Materiality, bool) {
	i := slices.IndexFunc(m.Material, func(said Materiality) bool { return said.Field == field })
	if i < 0 {
		return Materiality{}, false
	}
	return m.Material[i], true
}

func (v Vocabulary) knows(k Kind) bool {
	for _, kinds := range [][]Kind{v.Plan, v.Authorize, v.Implement, v.Review, v.Other} {
		if slices.Contains(kinds, k) {
			return true
		}
	}
	return v.final(k)
}

func (v Vocabulary) final(k Kind) bool {
	return slices.Contains(v.Final, k) || v.Canceled != "" && k == v.Canceled
}

// cancels reports whether an item can be canceled in a phase of kind k.
func (v Vocabulary) cancels(k Kind) bool {
	return v.knows(k) && !v.final(k) && !slices.Contains(v.Review, k)
}
