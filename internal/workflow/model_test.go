package workflow_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

func TestLookingUpPhasesStagesAndTransitions(t *testing.T) {
	m := normal()
	p, ok := m.Phase("assess")
	require.True(t, ok)
	require.Equal(t, workflow.Kind("assess"), p.Kind)
	p, ok = m.Phase("draft")
	require.True(t, ok)
	require.Equal(t, workflow.Kind("plan"), p.Kind)
	_, ok = m.Phase("nowhere")
	require.False(t, ok)
	s, ok := m.Stage("cab")
	require.True(t, ok)
	require.Equal(t, "Change advisory board", s.Title)
	s, ok = m.Stage("technical")
	require.True(t, ok)
	require.Equal(t, "technical", s.Name)
	_, ok = m.Stage("legal")
	require.False(t, ok)

	from := func(phase string) (to []string) {
		for _, way := range m.From(phase) {
			to = append(to, way.To)
		}
		return to
	}
	require.Equal(t, []string{"implement", "closed"}, from("review"))
	require.Equal(t, []string{"assess"}, from("draft"), "without the implicit ones")
	require.Empty(t, from("closed"))
	require.Empty(t, from("nowhere"))
}

func TestImplicitWaysAreToReturnFromAuthorizePhasesAndToCancelBeforeReview(t *testing.T) {
	way := func(from, to string) workflow.Transition { return workflow.Transition{From: from, To: to} }
	require.Equal(t, []workflow.Transition{
		way("draft", "canceled"),
		way("assess", "draft"), way("assess", "canceled"),
		way("authorize", "draft"), way("authorize", "canceled"),
		way("scheduled", "canceled"),
		way("implement", "canceled"),
	}, normal().Implicit(vocabulary()))

	m := normal()
	m.Phases = append([]workflow.Phase{{Name: "idea", Kind: "plan"}}, m.Phases[:7]...)
	require.Equal(t, []workflow.Transition{way("assess", "idea"), way("authorize", "idea")}, m.Implicit(vocabulary()),
		"to the first of two plan phases, and nowhere if none is canceled")
	require.Empty(t, m.Implicit(workflow.Vocabulary{}))

	m.Phases = []workflow.Phase{{Name: "canceled", Kind: "canceled"}, {Name: "authorize", Kind: "authorize"}}
	require.Equal(t, []workflow.Transition{way("authorize", "canceled")}, m.Implicit(vocabulary()), "wherever the canceled phase stands")
}

func TestWhatAnEditVoids(t *testing.T) {
	everything := []string{"technical", "security", "cab"}
	for what, test := range map[string]struct {
		fields, voids []string
	}{
		"nothing edited":                          {nil, nil},
		"material by default":                     {[]string{"cis"}, everything},
		"not material by default":                 {[]string{"title", "tags"}, nil},
		"material by default, immaterial here":    {[]string{"outage"}, nil},
		"only some stages":                        {[]string{"window"}, []string{"cab"}},
		"made material here":                      {[]string{"implementers"}, everything},
		"together, in the order of the model":     {[]string{"window", "tags", "deltas"}, everything},
		"some and none":                           {[]string{"window", "outage"}, []string{"cab"}},
		"a field nobody knows, closed by default": {[]string{"colour"}, everything},
	} {
		t.Run(what, func(t *testing.T) {
			require.Equal(t, test.voids, normal().Voids(vocabulary(), test.fields))
		})
	}
	m := normal()
	m.Material = []workflow.Materiality{{Field: "tags", Voids: []string{"cab", "technical", "cab"}}}
	require.Equal(t, []string{"technical", "cab"}, m.Voids(vocabulary(), []string{"tags"}), "each once, in the order of the model")
}

func TestMaterialFieldsAreThoseOfTheVocabularyAsTheModelChangesThem(t *testing.T) {
	require.Equal(t, []string{
		"cis", "deltas", "implementers", "plan.backout", "plan.communication", "plan.implementation", "plan.test", "window",
	}, normal().MaterialFields(vocabulary()))
	require.Equal(t, []string{
		"cis", "deltas", "outage", "plan.backout", "plan.communication", "plan.implementation", "plan.test", "window",
	}, emergency().MaterialFields(vocabulary()))
	require.Empty(t, emergency().MaterialFields(workflow.Vocabulary{}))
}

func TestAFieldIsMaterialExactlyIfItsEditVoids(t *testing.T) {
	v := vocabulary()
	rapid.Check(t, func(t *rapid.T) {
		m := workflowtest.Models(v).Draw(t, "model")
		if len(m.Stages) == 0 {
			t.Skip("nothing can be voided")
		}
		material := m.MaterialFields(v)
		require.True(t, slices.IsSorted(material))
		for _, field := range v.Fields {
			voids := m.Voids(v, []string{field})
			require.Equal(t, slices.Contains(material, field), len(voids) > 0, field)
		}
		for _, p := range m.Phases {
			if !slices.Contains([]workflow.Kind{"plan", "assess", "authorize", "scheduled"}, p.Kind) {
				require.NotContains(t, p.Edits, "*")
				require.Empty(t, m.Voids(v, p.Edits), "no phase after the start lets anything be voided")
			}
		}
	})
}
