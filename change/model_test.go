package change_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/workflow"
)

// DOMAIN 1.1: the shipped models and their paths.
func TestTheShippedModelsAreSoundAndDrawn(t *testing.T) {
	paths := map[string][]string{
		"normal":       {"draft", "assess", "authorize", "scheduled", "implement", "review", "closed"},
		"standard":     {"draft", "scheduled", "implement", "review", "closed"},
		"emergency":    {"draft", "authorize", "scheduled", "implement", "review", "closed"},
		"unauthorized": {"authorize", "review", "closed"},
		"registered":   {"recorded", "closed"},
	}
	models := change.Models()
	require.Len(t, models, len(paths))
	for _, m := range models {
		t.Run(m.Name, func(t *testing.T) {
			require.NoError(t, change.CheckModel(m, nil))
			for i, from := range paths[m.Name][:len(paths[m.Name])-1] {
				require.True(t, slices.ContainsFunc(m.From(from), func(x change.Transition) bool { return x.To == paths[m.Name][i+1] }), "%s leads on", from)
			}
			require.Equal(t, paths[m.Name][0], m.Phases[0].Name)
			if m.Name != "registered" {
				require.Equal(t, change.StandardDuties(), m.Duties)
			}
			golden(t, "testdata/"+m.Name+".mermaid", change.Mermaid(m))
			golden(t, "testdata/"+m.Name+".dot", change.DOT(m))
			golden(t, "testdata/"+m.Name+".txt", m.String())
		})
	}
}

// golden compares text with a file, or writes it with SPEC_UPDATE=1.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if os.Getenv("SPEC_UPDATE") == "1" {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "%s: if that is right, run the test with SPEC_UPDATE=1", file)
}

// Models are in the log like any other; what a user made of one stays.
func TestAnEngineBringsItsModelsOnce(t *testing.T) {
	h := open(t, memory.New())
	for _, m := range change.Models() {
		got, version, err := h.changes.Model(t.Context(), m.Name, 0)
		require.NoError(t, err)
		require.EqualValues(t, 1, version)
		require.Equal(t, m.String(), got.String())
	}
	own := change.Models()[0]
	own.Title = "Ours"
	h.publish(own)
	before := len(log(t, h.store))
	again := open(t, h.store)
	require.Len(t, log(t, h.store), before)
	got, version, err := again.changes.Model(t.Context(), "normal", 0)
	require.NoError(t, err)
	require.EqualValues(t, 2, version)
	require.Equal(t, "Ours", got.Title)

	for _, c := range []struct {
		name    string
		version uint64
	}{{"nothing", 0}, {"", 0}, {"normal", 3}} {
		_, _, err = again.changes.Model(t.Context(), c.name, c.version)
		require.ErrorIs(t, err, change.ErrUnknownModel)
	}
}

// DOMAIN 1.1: a change keeps the model version under which it was raised.
func TestOpenChangesKeepTheirVersionOfAModel(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("first", change.Rule{Counting: change.First}, "bob"))
	h.publish(m)
	old := h.raise(plain("asking"))
	next := asking(stage("second", change.Rule{Counting: change.First}, "ben"))
	version, err := h.changes.Publish(t.Context(), carol, next)
	require.NoError(t, err)
	require.EqualValues(t, 2, version)

	fresh := h.raise(plain("asking"), change.Submit{})
	require.EqualValues(t, 2, fresh.ModelVersion)
	require.Contains(t, states(fresh), "second")
	old = h.do(alice, old.ID, change.Submit{})
	require.EqualValues(t, 1, old.ModelVersion)
	require.Equal(t, workflow.Requested, states(old)["first"])
	h.refused("unknown-stage", ben, old.ID, approval(old, "second"))

	// An engine that never saw the first version being published knows it too.
	other := h.fork(everybody)
	other.approve(bob, old.ID, "first")
	got, _, err := other.changes.Model(t.Context(), "asking", 1)
	require.NoError(t, err)
	require.Equal(t, m.String(), got.String())
}

// DOMAIN 1.1: a model that has an unreachable phase, a dead end or a loop of automatic
// transitions is refused with the reason; every fault by the name of its rule.
func TestAnUnsoundModelIsRefusedWithEveryFault(t *testing.T) {
	sound := func() change.Model { return asking(stage("cab", change.Rule{Counting: change.First}, "bob")) }
	for name, c := range map[string]struct {
		rules []string
		alter func(m *change.Model)
	}{
		"an unreachable phase": {[]string{"unreachable-phase"}, func(m *change.Model) {
			m.Phases = append(m.Phases, change.Phase{Name: "lost", Kind: change.KindReview})
			m.Transitions = append(m.Transitions, change.Transition{From: "lost", To: "closed"})
		}},
		"a dead end": {[]string{"dead-end"}, func(m *change.Model) {
			m.Phases = append(m.Phases, change.Phase{Name: "end", Kind: change.KindReview})
			m.Transitions = append(m.Transitions, change.Transition{From: "review", To: "end"})
		}},
		"an automatic loop": {[]string{"automatic-loop"}, func(m *change.Model) {
			m.Phases = append(m.Phases, change.Phase{Name: "parked", Kind: change.KindScheduled})
			m.Transitions = append(m.Transitions, change.Transition{From: "scheduled", To: "parked", Automatic: true}, change.Transition{From: "parked", To: "scheduled", Automatic: true})
		}},
		"work without authority": {[]string{"implement-without-authority"}, func(m *change.Model) {
			m.Transitions = append(m.Transitions, change.Transition{From: "draft", To: "implement"})
		}},
		"no way to cancel": {[]string{"no-cancel"}, func(m *change.Model) { m.Phases = m.Phases[:6] }},
		"a guard that nobody knows": {[]string{"unknown-guard"}, func(m *change.Model) {
			m.Transitions[0].Guards = []string{"full-moon"}
		}},
		"a field that nobody knows": {[]string{"unknown-field"}, func(m *change.Model) { m.Transitions[0].Requires = []string{"colour"} }},
		"an expression, where there are none": {[]string{"bad-expression"}, func(m *change.Model) {
			m.Transitions[0].When = "planned"
		}},
		"stages outside authorization": {[]string{"stage-outside-authorization"}, func(m *change.Model) { m.Phases[2].Stages = []string{"cab"} }},
		"work that is undone": {[]string{"work-undone"}, func(m *change.Model) {
			m.Transitions = append(m.Transitions, change.Transition{From: "review", To: "implement"})
		}},
		"work that is planned again": {[]string{"work-undone"}, func(m *change.Model) {
			m.Transitions = append(m.Transitions, change.Transition{From: "implement", To: "draft"})
		}},
		"an edit of what was approved, when it has begun": {[]string{"material-edit-late"}, func(m *change.Model) { m.Phases[3].Edits = []string{"window"} }},
		"a gated receipt": {[]string{"receipt-gated"}, func(m *change.Model) {
			*m = change.Models()[4]
			m.Phases = append([]change.Phase{{Name: "draft", Kind: change.KindPlan}}, m.Phases...)
			m.Phases = append(m.Phases, change.Phase{Name: "canceled", Kind: change.KindCanceled})
			m.Transitions = append(m.Transitions, change.Transition{From: "draft", To: "recorded"})
		}},
		"several at once": {[]string{"bad-rule", "name-required", "unknown-guard", "unknown-part"}, func(m *change.Model) {
			m.Name = "Not A Name"
			m.Stages[0].Rule = change.Rule{Counting: "dice"}
			m.Transitions[0].Guards = []string{"full-moon"}
			m.Duties = []change.Duty{{Part: "king", Against: "requester"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, memory.New(), everybody)
			m := sound()
			c.alter(&m)
			h.untouched(func() {
				_, err := h.changes.Publish(t.Context(), carol, m)
				require.ErrorIs(t, err, command.ErrMalformed)
				var refused *command.Error
				require.ErrorAs(t, err, &refused)
				var rules []string
				for _, r := range refused.Refusals {
					rules = append(rules, r.Rule)
					require.NotEmpty(t, r.Field)
					require.NotEmpty(t, r.Reason)
				}
				require.Subset(t, rules, c.rules, "%v", rules)
			})
			err := change.CheckModel(m, nil)
			require.ErrorIs(t, err, workflow.ErrUnsound)
			var broken *change.ModelError
			require.True(t, errors.As(err, &broken))
		})
	}
	require.NoError(t, change.CheckModel(sound(), nil))
	m := sound()
	m.Transitions[0].When = "?"
	require.Error(t, change.CheckModel(m, words{}), "an expression that does not compile")
	m.Transitions[0].When = "planned"
	require.NoError(t, change.CheckModel(m, words{}))
}

func TestWhoMayNotPublishDoesNot(t *testing.T) {
	h := open(t, memory.New())
	h.untouched(func() {
		_, err := h.changes.Publish(t.Context(), bob, asking(stage("cab", change.Rule{Counting: change.First}, "bob")))
		refusedBy(t, err, command.ErrDenied, "role-required")
		_, err = h.changes.Publish(t.Context(), bob, change.Model{Name: "a\x00b"})
		refusedBy(t, err, command.ErrMalformed, "not-text")
	})
}

// Of two who publish a model at once, both are published, one after the other.
func TestVersionsOfAModelAreCountedOnce(t *testing.T) {
	h := open(t, memory.New(), everybody)
	m := asking(stage("cab", change.Rule{Counting: change.First}, "bob"))
	done := make(chan uint64)
	for range 8 {
		go func() {
			version, err := h.changes.Publish(t.Context(), carol, m)
			if err != nil {
				t.Error(err)
			}
			done <- version
		}()
	}
	var versions []uint64
	for range 8 {
		versions = append(versions, <-done)
	}
	slices.Sort(versions)
	require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7, 8}, versions)
	v, err := h.store.Version(t.Context(), "model-asking")
	require.NoError(t, err)
	require.EqualValues(t, 8, v)
}
