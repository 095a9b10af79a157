package workflow

import (
	"errors"
	"fmt"
	"slices"
)

// Applies returns the stages that are asked for in phase p of model m, each once:
// those of p in their order, then those that the rows of its table add, in the
// order of the rows. Eval says whether a row's condition holds; a row without one
// always holds, and no row after the first that matches is evaluated unless the
// table says All.
//
// A stage with Skip is asked for only where a matching row names it, also if p
// lists it; otherwise it is in skipped. A stage without Skip that p lists is
// always asked for; one that only rows name is asked for if a matching row does.
// Rows are the indices of those that matched, as a reason to record.
//
// An error of eval is returned, and no stages: what could not be judged must not
// pass for what does not apply.
func (p Phase) Applies(m Model, eval func(expression string) (bool, error)) (asked []string, skipped []string, rows []int, err error) {
	rows, err = p.Table.match(eval)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("decision table of phase %q: %w", p.Name, err)
	}
	var chosen []string
	for _, i := range rows {
		chosen = append(chosen, p.Table.Rows[i].Stages...)
	}
	mayBeSkipped := func(name string) bool {
		s, _ := m.Stage(name)
		return s.Skip && !slices.Contains(chosen, name)
	}
	add := func(to *[]string, name string) {
		if !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	for _, name := range p.Stages {
		if mayBeSkipped(name) {
			add(&skipped, name)
		} else {
			add(&asked, name)
		}
	}
	for _, name := range chosen {
		add(&asked, name)
	}
	if p.Table != nil {
		for _, row := range p.Table.Rows {
			for _, name := range row.Stages {
				if mayBeSkipped(name) {
					add(&skipped, name)
				}
			}
		}
	}
	return asked, skipped, rows, nil
}

// match returns the indices of the rows that count.
func (t *Table) match(eval func(string) (bool, error)) ([]int, error) {
	if t == nil {
		return nil, nil
	}
	var rows []int
	for i, row := range t.Rows {
		if row.When != "" {
			if eval == nil {
				return nil, fmt.Errorf("row %d: %w", i+1, errors.New("nothing was given to evaluate its condition with"))
			}
			holds, err := eval(row.When)
			if err != nil {
				return nil, fmt.Errorf("row %d: %w", i+1, err)
			}
			if !holds {
				continue
			}
		}
		rows = append(rows, i)
		if !t.All {
			break
		}
	}
	return rows, nil
}

// always reports whether at least one stage is asked for in p, whatever rows match.
func (p Phase) always(stages map[string]Stage) bool {
	for _, name := range p.Stages {
		if s, ok := stages[name]; ok && !s.Skip {
			return true
		}
	}
	if p.Table == nil {
		return false
	}
	for _, row := range p.Table.Rows {
		asks := slices.ContainsFunc(row.Stages, func(name string) bool { _, ok := stages[name]; return ok })
		if row.When == "" && asks {
			return true // reached at the latest, since every row before asks too
		}
		if !asks && !p.Table.All {
			return false // it may be the one that matches
		}
	}
	return false
}
