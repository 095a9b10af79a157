package change_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// tabled is a model whose one authorising phase has a decision table, and the
// stages "peer" (always), "cab" and "board" (as the table says).
func tabled(all bool, rows ...change.Row) change.Model {
	m := asking(stage("peer", change.Rule{Counting: change.First}, "bob"), stage("cab", change.Rule{Counting: change.First}, "ben"), stage("board", change.Rule{Counting: change.First}, "zoe"))
	m.Name = "tabled"
	m.Stages[1].Skip, m.Stages[2].Skip = true, true
	m.Phases[1].Stages, m.Phases[1].Together = []string{"peer"}, true
	m.Phases[1].Table = &change.Table{All: all, Rows: rows}
	return m
}

// states returns how the stages of a change stand.
func states(c change.Change) map[string]workflow.State {
	all := map[string]workflow.State{}
	for _, a := range c.Approvals {
		all[a.Stage.Name] = a.State
	}
	return all
}

// DOMAIN 1.3: which stages apply is a decision table: ordered rows, first match or
// run all; the same stage is added once however many rows name it; a stage that no
// row names is skipped.
func TestWhichStagesADecisionTableAsksFor(t *testing.T) {
	row := func(when string, stages ...string) change.Row { return change.Row{When: when, Stages: stages} }
	const requested, skipped = workflow.Requested, workflow.Skipped
	for name, c := range map[string]struct {
		all   bool
		rows  []change.Row
		peer  workflow.State
		cab   workflow.State
		board workflow.State
	}{
		"the first row that matches": {false, []change.Row{row("risk=high", "board"), row("category=db", "cab"), row("", "board")}, requested, requested, skipped},
		"only the first":             {false, []change.Row{row("category=db", "cab"), row("risk=low", "board")}, requested, requested, skipped},
		"every row that matches":     {true, []change.Row{row("category=db", "cab"), row("risk=high", "board")}, requested, requested, skipped},
		"all rows, each stage once":  {true, []change.Row{row("category=db", "cab", "board"), row("risk=low", "board"), row("", "cab")}, requested, requested, requested},
		"no row":                     {false, []change.Row{row("risk=high", "board"), row("category=net", "cab")}, requested, skipped, skipped},
		"a row without a condition":  {false, []change.Row{row("risk=high", "board"), row("", "cab", "peer")}, requested, requested, skipped},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, memory.New(), everybody, evaluating(words{}))
			m := tabled(c.all, c.rows...)
			for _, s := range m.Stages[1:] { // every stage must be named somewhere
				if !names(c.rows, s.Name) {
					m.Phases[1].Stages = append(m.Phases[1].Stages, s.Name)
				}
			}
			h.publish(m)
			r := plain("tabled")
			r.Content.Category = "db"
			got := h.raise(r, change.Submit{})
			require.Len(t, got.Approvals, 3, "each stage once")
			require.Equal(t, map[string]workflow.State{"peer": c.peer, "cab": c.cab, "board": c.board}, states(got))
			for _, a := range got.Approvals {
				if a.State == workflow.Skipped {
					require.NotEmpty(t, a.Why)
				}
			}
		})
	}
}

func names(rows []change.Row, stage string) bool {
	for _, r := range rows {
		for _, s := range r.Stages {
			if s == stage {
				return true
			}
		}
	}
	return false
}

func TestAStageThatIsSkippedIsNoneToWaitFor(t *testing.T) {
	h := open(t, memory.New(), everybody, evaluating(words{}))
	h.publish(tabled(false, change.Row{When: "risk=high", Stages: []string{"cab", "board"}}))
	c := h.raise(plain("tabled"), change.Submit{})
	h.refused("stage-not-open", ben, c.ID, approval(c, "cab"))
	c = h.approve(bob, c.ID, "peer")
	require.Equal(t, "scheduled", c.Phase)
	require.Equal(t, "stages peer", c.Authorized.By)
}

// An edit can make a stage necessary that was not before: it is asked for, and the
// authorisation does not hold without it.
func TestAnEditThatRaisesTheRiskAsksForAnotherStage(t *testing.T) {
	h := open(t, memory.New(), everybody, evaluating(words{}))
	m := tabled(false, change.Row{When: "category=db", Stages: []string{"cab", "board"}})
	h.publish(m)
	c := h.raise(plain("tabled"), change.Submit{})
	c = h.approve(bob, c.ID, "peer")
	require.Equal(t, "scheduled", c.Phase)

	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Category: "db"}}) // not material
	require.Equal(t, "authorize", c.Phase, "it goes back")
	require.Nil(t, c.Authorized)
	require.Equal(t, map[string]workflow.State{"peer": workflow.Approved, "cab": workflow.Requested, "board": workflow.Requested}, states(c), "what was approved stands")
	e := last[change.Edited](h, c.ID)
	require.Empty(t, e.Voids)
	require.False(t, e.Keeps)
	h.refused("authorized", alice, c.ID, change.Start{})
	h.approve(ben, c.ID, "cab")
	c = h.approve(zoe, c.ID, "board")
	require.Equal(t, "scheduled", c.Phase)
	require.Equal(t, "stages peer, cab, board", c.Authorized.By)

	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Category: "net"}})
	require.Equal(t, "scheduled", c.Phase, "what is not needed any more does no harm")
	require.NotNil(t, c.Authorized)
}

func TestAJudgementByHandCanMakeAStageNecessary(t *testing.T) {
	h := open(t, memory.New(), everybody, evaluating(words{}))
	h.publish(tabled(false, change.Row{When: "risk=high", Stages: []string{"cab", "board"}}))
	c := h.raise(plain("tabled"), change.Submit{})
	c = h.approve(bob, c.ID, "peer")
	c = h.do(carol, c.ID, change.Assess{Level: "high", Why: "the vendor warns"})
	require.Equal(t, "authorize", c.Phase)
	require.Equal(t, workflow.Requested, states(c)["board"])
	require.Nil(t, c.Authorized)
	require.Equal(t, "carol", c.Risk.By)
	require.Equal(t, []string{"the vendor warns"}, c.Risk.Verdict.Why)
}

// The next round asks for what the table then says, and not for what it said once.
func TestARevisedPlanIsAskedAboutAsItIsNow(t *testing.T) {
	h := open(t, memory.New(), everybody, evaluating(words{}))
	h.publish(tabled(false, change.Row{When: "category=db", Stages: []string{"cab", "board"}}))
	r := plain("tabled")
	r.Content.Category = "db"
	c := h.raise(r, change.Submit{})
	require.Equal(t, workflow.Requested, states(c)["cab"])
	h.do(zoe, c.ID, reject("board"))
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Category: "net"}}, change.Submit{})
	require.Equal(t, map[string]workflow.State{"peer": workflow.Requested, "cab": workflow.Skipped, "board": workflow.Skipped}, states(c))
	require.Equal(t, "scheduled", h.approve(bob, c.ID, "peer").Phase)
}

// What cannot be judged must not pass for what does not apply.
func TestATableThatCannotBeJudgedRefusesTheCommand(t *testing.T) {
	h := open(t, memory.New(), everybody, evaluating(words{}))
	h.publish(tabled(false, change.Row{When: "!unheard of", Stages: []string{"cab", "board"}}))
	c := h.raise(plain("tabled"))
	h.refused("condition-failed", alice, c.ID, change.Submit{})
	_, err := h.changes.Do(t.Context(), alice, c.ID, change.Submit{})
	require.ErrorIs(t, err, command.ErrUnavailable)
}
