package workflow_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

// Golden texts are written anew with SPEC_UPDATE=1.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("SPEC_UPDATE") != "" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestModelsAreDrawnAndPrintedAsTheGoldenTextsShow(t *testing.T) {
	for _, m := range []workflow.Model{normal(), emergency()} {
		golden(t, m.Name+".mmd", m.Mermaid(vocabulary()))
		golden(t, m.Name+".dot", m.DOT(vocabulary()))
		golden(t, m.Name+".txt", m.String())
	}
}

func TestTextInADrawingIsReadAsItWasWritten(t *testing.T) {
	m := workflow.Model{Name: "m", Phases: []workflow.Phase{{Name: ""}, {Name: `a "&lt;" \N`}}}
	require.Contains(t, m.Mermaid(vocabulary()), `state "#40;no name#41;" as p0`)
	require.Contains(t, m.Mermaid(vocabulary()), `state "a #34;#38;lt#59;#34; #92;N" as p1`)
	require.Contains(t, m.DOT(vocabulary()), `p1 [label="a \"&amp;lt;\" \\N\n"]`)
}

func TestWhatIsNotThereIsNotDrawn(t *testing.T) {
	var empty workflow.Model
	require.Equal(t, "stateDiagram-v2\n", empty.Mermaid(vocabulary()))
	require.Equal(t, "digraph \"\" {\n    node [shape=box, style=rounded]\n    start [shape=point]\n}\n", empty.DOT(vocabulary()))
	m := workflow.Model{Phases: []workflow.Phase{{Name: "a"}}, Transitions: []workflow.Transition{{From: "a", To: "lost"}, {From: "lost", To: "a"}}}
	require.NotContains(t, m.Mermaid(vocabulary()), "lost")
	require.NotContains(t, m.DOT(vocabulary()), "lost")
	require.NotContains(t, m.Mermaid(vocabulary()), "p0 --> p0")
	require.NotContains(t, m.DOT(vocabulary()), "p0 -> p0")
}

var (
	mermaidLine = regexp.MustCompile(`^(stateDiagram-v2|    (state "TEXT" as p\d+|p\d+ : TEXT|\[\*\] --> p0|p\d+ --> p\d+( : (TEXT|\(TEXT\)))?|p\d+ --> \[\*\]))$`)
	// Letters and digits of any script, character numbers, and signs that mean nothing to Mermaid.
	mermaidText = `(?:[\p{L}\p{Nd} _.,-]|#\d+;)*`
	dotLine     = regexp.MustCompile(`^(digraph TEXT \{|    (node \[shape=box, style=rounded\]|start \[shape=point\]|start -> p0|p\d+ \[label=TEXT(, peripheries=2)?\]|p\d+ -> p\d+( \[(label=TEXT)?(, )?(style=dashed|style=dotted, color=gray50, fontcolor=gray50)?\])?)|\})$`)
	dotText     = `"(?:[^"\\]|\\.)*"`
)

// holds reports whether every line of a drawing is one of those that drawings are
// made of, whatever the texts in it are.
func holds(line *regexp.Regexp, text string) *regexp.Regexp {
	return regexp.MustCompile(strings.ReplaceAll(line.String(), "TEXT", text))
}

// Such names are refused by Validate, and are drawn all the same before somebody
// asks it.
func TestNoNameBreaksOutOfADrawing(t *testing.T) {
	mermaid, dot := holds(mermaidLine, mermaidText), holds(dotLine, dotText)
	bad := []string{
		"x\"]\n    evil --> p0", `"; evil -> p0; "`, `\`, `\"`, `"`, "a --> b", "<script>alert(1)</script>", "#quot;", "#34;", "%% comment", "%%{init: {}}%%",
		"state x", "[*]", "end note", "note right of p0", "a : b", "{ }", "\r\n", "\u2028x\u2029", "\x00\x1b[31m", "\xff\xfe", "\u202eevil", "`code`", "a;b", "<<choice>>",
		"style p0: #f00;", "classDef x:#f;", "\\N \\G \\l", "&lt;b&gt;", "click p0 href \"javascript:alert(1)\"", "--", "---", "p0", "", " ", "&amp;",
	}
	check := func(t require.TestingT, m workflow.Model) {
		v := vocabulary()
		for line := range strings.Lines(m.Mermaid(v)) {
			require.Regexp(t, mermaid, strings.TrimSuffix(line, "\n"))
		}
		for line := range strings.Lines(m.DOT(v)) {
			require.Regexp(t, dot, strings.TrimSuffix(line, "\n"))
		}
		require.NotRegexp(t, `[\x00-\x09\x0b-\x1f\x7f]|\x{2028}|\x{2029}|\x{202e}`, m.Mermaid(v)+m.DOT(v)+m.String())
	}
	model := func(name, other, more string) workflow.Model {
		return workflow.Model{
			Name: name, Title: other,
			Phases: []workflow.Phase{
				{Name: name, Kind: "plan", Stages: []string{other}, Edits: []string{name}, Table: &workflow.Table{Rows: []workflow.Row{{When: more, Stages: []string{name}}}}},
				{Name: other, Kind: workflow.Kind(more), Tasks: []workflow.TaskTemplate{{Title: name}}},
				{Name: "x", Kind: "canceled"},
			},
			Transitions: []workflow.Transition{{From: name, To: other, When: more, Guards: []string{name}, Requires: []string{other, more}, Automatic: true}},
			Stages:      []workflow.Stage{{Name: other, Candidates: []workflow.Candidate{{Person: name}}, Rule: workflow.Rule{Counting: workflow.Counting(more)}, Required: []string{more}}},
			Material:    []workflow.Materiality{{Field: name, Voids: []string{more}}},
			Duties:      []workflow.Duty{{Part: name, Against: other}},
			Authority:   workflow.Authority(more),
		}
	}
	for _, name := range bad {
		check(t, model(name, name+"2", name))
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.SampledFrom(bad), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		check(t, model(text.Draw(t, "name"), text.Draw(t, "other"), text.Draw(t, "more")))
	})
	// The control: a name that is written as it is does break out.
	require.NotRegexp(t, mermaid, `    state "`+bad[1]+`" as p0`)
	require.NotRegexp(t, dot, `    p0 [label="`+bad[1]+`"]`)
}

func TestADrawnModelShowsEveryPhaseAndEveryWay(t *testing.T) {
	v := vocabulary()
	rapid.Check(t, func(t *rapid.T) {
		m := workflowtest.Models(v, "a", "b").Draw(t, "model")
		implicit := len(m.Implicit(v))
		count := func(pattern, text string) int { return len(regexp.MustCompile("(?m)"+pattern).FindAllString(text, -1)) }
		mermaid, dot := m.Mermaid(v), m.DOT(v)
		require.Equal(t, mermaid, m.Mermaid(v))
		require.Equal(t, len(m.Phases), count(`^    state "`, mermaid))
		require.Equal(t, len(m.Transitions)+implicit, count(`^    p\d+ --> p\d+`, mermaid))
		require.Equal(t, implicit, count(`^    p\d+ --> p\d+ : \((cancel|return)\)$`, mermaid))
		require.Equal(t, len(m.Phases), count(`^    p\d+ \[label="`, dot))
		require.Equal(t, len(m.Transitions)+implicit, count(`^    p\d+ -> p\d+`, dot))
		require.Equal(t, implicit, count(`style=dotted, color=gray50, fontcolor=gray50\]$`, dot))
		automatic := 0
		for _, way := range m.Transitions {
			if way.Automatic {
				automatic++
			}
		}
		require.Equal(t, automatic, count(`^    p\d+ -> p\d+ \[label="auto.*style=dashed\]$`, dot))
		require.Equal(t, automatic, count(`^    p\d+ --> p\d+ : auto(,.*)?$`, mermaid))
		text := m.String()
		for _, p := range m.Phases {
			require.Contains(t, text, "\n"+p.Name+" ")
		}
		for _, s := range m.Stages {
			require.Contains(t, text, "\n"+s.Name+" ")
		}
	})
}
