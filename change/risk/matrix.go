package risk

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
)

// Axis is a side of [Matrix]. Its steps are chosen by the answer to Question, 1
// for the first, or, without a question, by their own conditions: the first that
// holds.
type Axis struct {
	Name     string `json:"name"` // "impact"
	Question string `json:"question,omitzero"`
	Steps    []Step `json:"steps"`
}

// Step is a row or a column.
type Step struct {
	Name string `json:"name"`          // "very high"
	When string `json:"when,omitzero"` // a CEL condition over change.Facts.Map; only where the axis has no question
}

// Matrix is an engine: the cell of a row and a column, from 1, is the score, and
// levels says which level of the scale it means: the first 1, the second 2. Without
// levels, 1 to 5 are low, low, moderate, high, critical. Where the row or the
// column cannot be told, because its question is not answered or no condition
// holds, it gives the scale's highest level and no score.
func Matrix(rows, columns Axis, cells [][]int, levels ...string) *Policy {
	if len(levels) == 0 {
		levels = fiveSteps()
	}
	e := &matrix{Rows: rows, Columns: columns, Levels: slices.Clone(levels)}
	e.Rows.Steps, e.Columns.Steps = slices.Clone(rows.Steps), slices.Clone(columns.Steps)
	for _, row := range cells {
		e.Cells = append(e.Cells, slices.Clone(row))
	}
	return build(node{ID: "matrix", Matrix: e}, nil)
}

// Priority5x5 is Znuny's matrix: impact by category, both from very low to very
// high, as the questions "impact" and "category" answer them with 1 to 5.
func Priority5x5() *Policy {
	steps := []Step{{Name: "very low"}, {Name: "low"}, {Name: "normal"}, {Name: "high"}, {Name: "very high"}}
	return Matrix(Axis{"impact", "impact", steps}, Axis{"category", "category", steps}, [][]int{
		{1, 1, 2, 2, 3},
		{1, 2, 2, 3, 4},
		{2, 2, 3, 4, 4},
		{2, 3, 4, 4, 5},
		{3, 4, 4, 5, 5},
	})
}

type matrix struct {
	Rows    Axis     `json:"rows"`
	Columns Axis     `json:"columns"`
	Cells   [][]int  `json:"cells"`
	Levels  []string `json:"levels"`
}

func (e *matrix) build(b *builder, _ int) judge {
	b.levels(e.Levels)
	row, column := b.axis("the rows", e.Rows), b.axis("the columns", e.Columns)
	if len(e.Cells) != len(e.Rows.Steps) {
		b.refuse("size", "there are %d rows of cells and %d steps of %q: give one row for each", len(e.Cells), len(e.Rows.Steps), e.Rows.Name)
	}
	for i, cells := range e.Cells {
		if len(cells) != len(e.Columns.Steps) {
			b.refuse("size", "row %d has %d cells and there are %d steps of %q: give one for each", i+1, len(cells), len(e.Columns.Steps), e.Columns.Name)
		}
		for j, cell := range cells {
			if cell < 1 || cell > len(e.Levels) {
				b.refuse("cell", "row %d, column %d has %d: levels go from 1 to %d", i+1, j+1, cell, len(e.Levels))
			}
		}
	}
	scale := b.scale
	return func(_ context.Context, s *subject) (change.Verdict, error) {
		i, missing, err := row(s)
		if err != nil {
			return change.Verdict{}, err
		}
		j, also, err := column(s)
		if err != nil {
			return change.Verdict{}, err
		}
		if missing != "" || also != "" {
			return scale.unknown("%s", some(slices.DeleteFunc([]string{missing, also}, func(s string) bool { return s == "" }))), nil
		}
		cell := e.Cells[i][j]
		level := e.Levels[cell-1]
		return change.Verdict{Level: level, Score: apd.New(int64(cell), 0), Why: []string{fmt.Sprintf("%s is %s and %s is %s: level %d of %d, %s",
			e.Rows.Name, e.Rows.Steps[i].Name, e.Columns.Name, e.Columns.Steps[j].Name, cell, len(e.Levels), level)}}, nil
	}
}

// axis checks one side and returns what chooses its step; missing says why it
// cannot be told.
func (b *builder) axis(of string, a Axis) func(*subject) (step int, missing string, err error) {
	b.name(of, a.Name)
	b.count("steps of "+of, len(a.Steps), 50)
	seen := map[string]bool{}
	conditions := make([]*condition, len(a.Steps))
	for i, step := range a.Steps {
		where := fmt.Sprintf("step %d of %s", i+1, of)
		b.name(where, step.Name)
		b.twice(seen, "step of "+of, step.Name)
		switch {
		case a.Question == "":
			conditions[i] = b.condition(where, step.When)
		case step.When != "":
			b.refuse("two-ways", "%s has a condition, and the axis has question %q: say one of them", where, a.Question)
		}
	}
	if a.Question != "" {
		b.name("the question of "+of, a.Question)
		return func(s *subject) (int, string, error) {
			value, missing := answer(s.Facts, a.Question, func(v int) bool { return v >= 1 && v <= len(a.Steps) })
			return value - 1, missing, nil
		}
	}
	return func(s *subject) (int, string, error) {
		for i, c := range conditions {
			holds, err := c.Holds(s.values())
			if err != nil {
				return 0, "", fmt.Errorf("%s, step %d: %w", a.Name, i+1, err)
			}
			if holds {
				return i, "", nil
			}
		}
		return 0, fmt.Sprintf("no step of %s holds", a.Name), nil
	}
}
