package change_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// everybody may do everything, so that only the rules of changes stand in the way.
func everybody(_ *change.Config, d *command.Config) { d.Authorizer = command.AllowAll }

// knowing gives the engine a directory.
func knowing(p change.Directory) option {
	return func(c *change.Config, _ *command.Config) { c.Directory = p }
}

// judging gives the engine a risk policy, nil for none.
func judging(p change.RiskPolicy) option {
	return func(c *change.Config, _ *command.Config) { c.Risk = p }
}

// evaluating gives the engine expressions.
func evaluating(e change.Expressions) option {
	return func(c *change.Config, _ *command.Config) { c.Expressions = e }
}

// words are Expressions whose condition is a name of the facts that is true, or
// "name=value". "?" does not compile, "!" fails when it is judged.
type words struct{}

type word string

func (words) Compile(text string) (change.Condition, error) {
	if strings.HasPrefix(text, "?") {
		return nil, errors.New("it begins with a question mark")
	}
	return word(text), nil
}

func (w word) Holds(facts map[string]any) (bool, error) {
	name, value, equal := strings.Cut(string(w), "=")
	fact, ok := facts[name]
	if !ok {
		return false, errors.New("there is no fact " + name)
	}
	if equal {
		return fact == value, nil
	}
	holds, _ := fact.(bool)
	return holds, nil
}

// registry knows every type that an engine records.
func registry(t testing.TB) *eventstore.Registry {
	types := append(append(append(command.Types(), cmdb.Types()...), change.Types()...), follow.Types()...)
	r, err := eventstore.NewRegistry(types...)
	require.NoError(t, err)
	return r
}

// version returns where a stream stands.
func (h *house) version(stream string) uint64 {
	h.t.Helper()
	v, err := h.store.Version(context.Background(), stream)
	require.NoError(h.t, err)
	return v
}

// recorded returns the payloads of a change's events behind a version.
func (h *house) recorded(id string, after uint64) []any {
	h.t.Helper()
	var all []any
	r := registry(h.t)
	for e, err := range h.store.Read(context.Background(), eventstore.Query{Streams: []string{"change-" + id}}) {
		require.NoError(h.t, err)
		if e.Version <= after {
			continue
		}
		payload, err := r.Decode(e.Event)
		require.NoError(h.t, err)
		all = append(all, payload)
	}
	return all
}

// types returns the types of a change's events behind a version, without "change.".
func (h *house) types(id string, after uint64) []string {
	h.t.Helper()
	var all []string
	for e, err := range h.store.Read(context.Background(), eventstore.Query{Streams: []string{"change-" + id}}) {
		require.NoError(h.t, err)
		if e.Version > after {
			all = append(all, strings.TrimPrefix(e.Type, "change."))
		}
	}
	return all
}

// last returns the last event of one type of a change.
func last[T any](h *house, id string) T {
	h.t.Helper()
	var found *T
	for _, payload := range h.recorded(id, 0) {
		if e, ok := payload.(T); ok {
			found = &e
		}
	}
	require.NotNil(h.t, found, "there is no %T", *new(T))
	return *found
}

// untouched runs f and requires that nothing was recorded but refusals.
func (h *house) untouched(f func()) {
	h.t.Helper()
	count := func() (n int) {
		for r, err := range h.store.Read(context.Background(), eventstore.Query{}) {
			require.NoError(h.t, err)
			if !strings.HasPrefix(r.Stream, "refusals-") {
				n++
			}
		}
		return n
	}
	before := count()
	f()
	require.Equal(h.t, before, count(), "a refused command has recorded something")
}

// refusedRaise runs a raise that is to be refused by a rule, and requires that
// WhyRaise says the same and that no number is burnt.
func (h *house) refusedRaise(rule string, actor command.Actor, r change.Raise, then ...change.Command) {
	h.t.Helper()
	why, err := h.changes.WhyRaise(h.t.Context(), actor, r, then...)
	require.NoError(h.t, err)
	h.untouched(func() {
		h.t.Helper()
		_, err = h.changes.Raise(h.t.Context(), actor, r, then...)
	})
	require.Error(h.t, err)
	require.True(h.t, command.By(err, rule), "%v", err)
	var refused *command.Error
	require.ErrorAs(h.t, err, &refused)
	require.Equal(h.t, refused.Refusals, why)
}

// approve approves a stage as it stands.
func (h *house) approve(actor command.Actor, id, stage string) change.Change {
	h.t.Helper()
	c, err := h.changes.Get(context.Background(), id)
	require.NoError(h.t, err)
	return h.do(actor, id, change.Approve{Stage: stage, Scope: c.Scope})
}

// publish publishes a model and returns its name.
func (h *house) publish(m change.Model) string {
	h.t.Helper()
	_, err := h.changes.Publish(context.Background(), carol, m)
	require.NoError(h.t, err)
	return m.Name
}

// asking is a model like normal, without assessment, that asks for these stages in
// its one phase "authorize".
func asking(stages ...change.Stage) change.Model {
	m := change.Model{
		Name: "asking", Authority: change.AuthorityStages, Duties: change.StandardDuties(), Stages: stages,
		Phases: []change.Phase{
			{Name: "draft", Kind: change.KindPlan, Edits: []string{"*"}},
			{Name: "authorize", Kind: change.KindAuthorize, Edits: []string{"*"}},
			{Name: "scheduled", Kind: change.KindScheduled, Edits: []string{"*"}},
			{Name: "implement", Kind: change.KindImplement, Edits: []string{"description", "tags"}},
			{Name: "review", Kind: change.KindReview, Edits: []string{"description", "tags"}},
			{Name: "closed", Kind: change.KindClosed},
			{Name: "canceled", Kind: change.KindCanceled},
		},
		Transitions: []change.Transition{
			{From: "draft", To: "authorize"},
			{From: "authorize", To: "scheduled", Automatic: true},
			{From: "scheduled", To: "implement"},
			{From: "implement", To: "review"},
			{From: "review", To: "closed", Guards: []string{"reviewed"}},
		},
	}
	for _, s := range stages {
		m.Phases[1].Stages = append(m.Phases[1].Stages, s.Name)
	}
	return m
}

// stage is a stage that asks people by a rule.
func stage(name string, rule change.Rule, people ...string) change.Stage {
	s := change.Stage{Name: name, Rule: rule}
	for _, p := range people {
		s.Candidates = append(s.Candidates, change.Candidate{Person: p})
	}
	return s
}

// plain is a change that touches nothing, under a model.
func plain(model string) change.Raise {
	return change.Raise{Model: model, Content: change.Content{
		Title: "Rotate the logs", Plans: change.Plans{Implementation: "logrotate"},
		Window: change.Between(monday.Add(48*time.Hour), monday.Add(50*time.Hour)),
	}}
}

// person is somebody who acts in his own right.
func person(id string) command.Actor { return command.As(id) }

// decimal is an exact decimal.
func decimal(text string) *apd.Decimal {
	d, _, err := apd.NewFromString(text)
	if err != nil {
		panic(err)
	}
	return d
}
