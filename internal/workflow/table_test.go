package workflow_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

// holding evaluates the conditions that are listed as true and all others as false.
func holding(conditions ...string) func(string) (bool, error) {
	return func(text string) (bool, error) { return slices.Contains(conditions, text), nil }
}

func TestWhichStagesApply(t *testing.T) {
	// must is always asked where a phase lists it, may is skipped where no row names it.
	m := workflow.Model{Stages: []workflow.Stage{
		{Name: "must"}, {Name: "must too"}, {Name: "may", Skip: true}, {Name: "may too", Skip: true},
	}}
	row := func(when string, stages ...string) workflow.Row { return workflow.Row{When: when, Stages: stages} }
	for what, test := range map[string]struct {
		stages                []string
		all                   bool
		rows                  []workflow.Row
		holds, asked, skipped []string
		matched               []int
	}{
		"no table":                                         {stages: []string{"may", "must"}, asked: []string{"must"}, skipped: []string{"may"}},
		"nothing at all":                                   {},
		"the first row that matches":                       {rows: []workflow.Row{row("a", "must"), row("b", "must too"), row("", "may")}, holds: []string{"b"}, asked: []string{"must too"}, skipped: []string{"may"}, matched: []int{1}},
		"only the first, though more match":                {rows: []workflow.Row{row("a", "must"), row("b", "must too"), row("", "may")}, holds: []string{"a", "b"}, asked: []string{"must"}, skipped: []string{"may"}, matched: []int{0}},
		"every row that matches":                           {all: true, rows: []workflow.Row{row("a", "must"), row("b", "must too"), row("", "may")}, holds: []string{"b"}, asked: []string{"must too", "may"}, matched: []int{1, 2}},
		"no row matches":                                   {rows: []workflow.Row{row("a", "must"), row("b", "may")}, skipped: []string{"may"}},
		"listed stages come first":                         {stages: []string{"must too"}, rows: []workflow.Row{row("", "may", "must")}, asked: []string{"must too", "may", "must"}, matched: []int{0}},
		"a listed one that may be skipped keeps its place": {stages: []string{"may", "must"}, rows: []workflow.Row{row("", "must too", "may")}, asked: []string{"may", "must", "must too"}, matched: []int{0}},
		"each once, however many name it":                  {stages: []string{"must", "must"}, all: true, rows: []workflow.Row{row("", "must", "may", "may"), row("", "may", "must")}, asked: []string{"must", "may"}, matched: []int{0, 1}},
		"skipped once, however many name it":               {stages: []string{"may", "may"}, rows: []workflow.Row{row("a", "may", "may too"), row("b", "may too")}, skipped: []string{"may", "may too"}},
		"a row that matches asks for what may be skipped":  {all: true, rows: []workflow.Row{row("a", "may"), row("b", "may")}, holds: []string{"b"}, asked: []string{"may"}, matched: []int{1}},
		"only rows name it, and none matches":              {rows: []workflow.Row{row("a", "must")}},
		"a stage that the model lacks is asked for":        {stages: []string{"lost"}, rows: []workflow.Row{row("", "gone")}, asked: []string{"lost", "gone"}, matched: []int{0}},
	} {
		t.Run(what, func(t *testing.T) {
			p := workflow.Phase{Name: "authorize", Stages: test.stages}
			if test.rows != nil {
				p.Table = &workflow.Table{All: test.all, Rows: test.rows}
			}
			asked, skipped, rows, err := p.Applies(m, holding(test.holds...))
			require.NoError(t, err)
			require.Equal(t, test.asked, asked)
			require.Equal(t, test.skipped, skipped)
			require.Equal(t, test.matched, rows)
		})
	}
}

func TestNoRowAfterTheFirstThatMatchesIsEvaluated(t *testing.T) {
	p := workflow.Phase{Table: &workflow.Table{Rows: []workflow.Row{{When: "a", Stages: []string{"x"}}, {When: "b", Stages: []string{"y"}}, {When: "c", Stages: []string{"z"}}}}}
	var seen []string
	_, _, _, err := p.Applies(workflow.Model{}, func(text string) (bool, error) {
		seen = append(seen, text)
		return text == "b", nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, seen)
}

func TestWhatCannotBeEvaluatedIsAnErrorAndNoAnswer(t *testing.T) {
	broken := errors.New("no such fact")
	p := workflow.Phase{Name: "authorize", Stages: []string{"x"}, Table: &workflow.Table{All: true, Rows: []workflow.Row{{Stages: []string{"x"}}, {When: "a", Stages: []string{"y"}}}}}
	asked, skipped, rows, err := p.Applies(workflow.Model{}, func(string) (bool, error) { return true, broken })
	require.ErrorIs(t, err, broken)
	require.EqualError(t, err, `decision table of phase "authorize": row 2: no such fact`)
	require.Empty(t, slices.Concat(asked, skipped))
	require.Empty(t, rows)

	_, _, _, err = p.Applies(workflow.Model{}, nil)
	require.EqualError(t, err, `decision table of phase "authorize": row 2: nothing was given to evaluate its condition with`)
	p.Table.Rows = p.Table.Rows[:1]
	_, _, _, err = p.Applies(workflow.Model{}, nil)
	require.NoError(t, err, "nothing is to be evaluated")
}

// A sound model's stages are asked for or skipped, never both, and never lost.
func TestEveryStageThatAPhaseListsIsAskedForOrSkipped(t *testing.T) {
	v := vocabulary()
	rapid.Check(t, func(t *rapid.T) {
		m := workflowtest.Models(v, "a", "b").Draw(t, "model")
		holds := map[string]bool{"a": rapid.Bool().Draw(t, "a"), "b": rapid.Bool().Draw(t, "b")}
		for _, p := range m.Phases {
			asked, skipped, rows, err := p.Applies(m, func(text string) (bool, error) { return holds[text], nil })
			require.NoError(t, err)
			both := slices.Concat(asked, skipped)
			slices.Sort(both)
			require.Len(t, slices.Compact(slices.Clone(both)), len(both), "each once")
			for _, name := range p.Stages {
				require.Contains(t, both, name)
			}
			for _, name := range skipped {
				s, ok := m.Stage(name)
				require.True(t, ok && s.Skip)
			}
			for _, i := range rows {
				row := p.Table.Rows[i]
				require.True(t, row.When == "" || holds[row.When])
				require.Subset(t, asked, row.Stages)
			}
			require.True(t, p.Table == nil || p.Table.All || len(rows) <= 1)
		}
	})
}
