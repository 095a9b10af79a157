package workflow_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/workflow"
)

func TestAGateNamesAGuardThatExists(t *testing.T) {
	m := workflow.Model{
		Name: "gated", Authority: workflow.AuthorityElsewhere,
		Phases:      []workflow.Phase{{Name: "recorded", Kind: "review"}, {Name: "closed", Kind: "closed", Gates: []string{"reviewed"}}},
		Transitions: []workflow.Transition{{From: "recorded", To: "closed"}},
	}
	v := workflow.Vocabulary{Review: []workflow.Kind{"review"}, Final: []workflow.Kind{"closed"}, Guards: []string{"reviewed"}}
	require.NoError(t, m.Validate(v))
	require.Contains(t, m.String(), "reviewed")
	require.Contains(t, m.Mermaid(v), "p1 : closed, behind reviewed\n")
	require.Contains(t, m.DOT(v), `[label="closed\nclosed, behind reviewed", peripheries=2]`)
	m.Phases[1].Gates = []string{"reviewed", "blessed"}
	var broken *workflow.ModelError
	require.ErrorAs(t, m.Validate(v), &broken)
	require.Len(t, broken.Faults, 1)
	require.Equal(t, "unknown-guard", broken.Faults[0].Rule)
	require.Equal(t, `phase "closed"`, broken.Faults[0].Where)
}
