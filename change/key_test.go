package change_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func keyed(actor command.Actor, key string) command.Call {
	return command.Call{Actor: actor, Key: key}
}

// The same key again gives the first answer, also in an engine that was opened
// later on the same store, and when the change has moved on since.
func TestTheSameKeyTwiceIsOneEffectAndTheSameAnswer(t *testing.T) {
	ctx := t.Context()
	h := open(t, memory.New()).estate()
	first, err := h.changes.RaiseCall(ctx, keyed(alice, "order-7"), upgrade(), change.Submit{})
	require.NoError(t, err)
	approved, err := h.changes.DoCall(ctx, keyed(bob, "vote-1"), first.ID, change.Approve{Stage: "cab", Scope: first.Scope})
	require.NoError(t, err)
	h.do(dave, first.ID, change.Start{})
	h.clock.pass(time.Hour)

	for name, engine := range map[string]*house{"the same engine": h, "an engine that was opened later": open(t, h.store)} {
		t.Run(name, func(t *testing.T) {
			h.untouched(func() {
				again, err := engine.changes.RaiseCall(ctx, keyed(alice, "order-7"), upgrade(), change.Submit{})
				require.NoError(t, err)
				require.Equal(t, asJSON(t, first), asJSON(t, again))
				require.Equal(t, first.Position, again.Position)
				again, err = engine.changes.DoCall(ctx, keyed(bob, "vote-1"), first.ID, change.Approve{Stage: "cab", Scope: first.Scope})
				require.NoError(t, err)
				require.Equal(t, asJSON(t, approved), asJSON(t, again))
				require.Equal(t, approved.Position, again.Position)
			})
			all, err := engine.changes.List(ctx, change.Filter{})
			require.NoError(t, err)
			require.Len(t, all, 1)
		})
	}
}

// A command that had nothing to record has an answer too.
func TestAKeyOfACommandThatRecordedNothingGivesTheChangeAsItWas(t *testing.T) {
	ctx := t.Context()
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade())
	first, err := h.changes.DoCall(ctx, keyed(alice, "k"), c.ID, change.Edit{Set: change.Content{Title: c.Title}})
	require.NoError(t, err)
	require.Equal(t, c.Version, first.Version)
	h.do(alice, c.ID, change.Edit{Set: change.Content{Title: "Another"}})
	again, err := h.changes.DoCall(ctx, keyed(alice, "k"), c.ID, change.Edit{Set: change.Content{Title: c.Title}})
	require.NoError(t, err)
	require.Equal(t, asJSON(t, first), asJSON(t, again))
	require.Equal(t, first.Position, again.Position)
}

func TestAKeyIsForOneCommandOnly(t *testing.T) {
	ctx := t.Context()
	h := open(t, memory.New(), everybody).estate()
	c, err := h.changes.RaiseCall(ctx, keyed(alice, "k"), upgrade())
	require.NoError(t, err)
	other := upgrade()
	other.Content.Title = "Another"
	h.untouched(func() {
		for name, again := range map[string]func() error{
			"another title":   func() error { _, err := h.changes.RaiseCall(ctx, keyed(alice, "k"), other); return err },
			"another command": func() error { _, err := h.changes.DoCall(ctx, keyed(alice, "k"), c.ID, change.Submit{}); return err },
			"one more command": func() error {
				_, err := h.changes.RaiseCall(ctx, keyed(alice, "k"), upgrade(), change.Submit{})
				return err
			},
			"on behalf of somebody": func() error { _, err := h.changes.RaiseCall(ctx, keyed(alice.For("bob"), "k"), upgrade()); return err },
		} {
			refusedBy(t, again(), command.ErrRefused, "key-reused")
			t.Log(name)
		}
	})
	// Two commands with the same fields are not the same.
	_, err = h.changes.DoCall(ctx, keyed(alice, "f"), c.ID, change.Submit{})
	require.NoError(t, err)
	_, err = h.changes.DoCall(ctx, keyed(alice, "f"), c.ID, change.Start{})
	refusedBy(t, err, command.ErrRefused, "key-reused")
	// Keys are the actor's own.
	_, err = h.changes.RaiseCall(ctx, keyed(bob, "k"), other)
	require.NoError(t, err)
	require.EqualValues(t, 2, h.version("register-CHG"))
}

func TestARefusedCommandLeavesItsKeyFree(t *testing.T) {
	ctx := t.Context()
	h := open(t, memory.New()).estate()
	c := h.raise(upgrade(), change.Submit{})
	_, err := h.changes.DoCall(ctx, keyed(dave, "k"), c.ID, change.Start{})
	refusedBy(t, err, command.ErrRefused, "authorized")
	h.approve(bob, c.ID, "cab")
	c, err = h.changes.DoCall(ctx, keyed(dave, "k"), c.ID, change.Start{})
	require.NoError(t, err)
	require.Equal(t, "implement", c.Phase)
}

// Of many that send one command at once, one has an effect and all have the answer.
func TestOneKeySentByManyAtOnceRaisesOneChange(t *testing.T) {
	h := open(t, memory.New()).estate()
	second := open(t, h.store)
	var group sync.WaitGroup
	answers := make([]change.Change, 16)
	for i := range answers {
		group.Add(1)
		go func() {
			defer group.Done()
			engine := []*house{h, second}[i%2]
			c, err := engine.changes.RaiseCall(t.Context(), keyed(alice, "k"), upgrade(), change.Submit{})
			if err != nil {
				t.Error(err)
			}
			answers[i] = c
		}()
	}
	group.Wait()
	for _, c := range answers {
		require.Equal(t, asJSON(t, answers[0]), asJSON(t, c))
	}
	require.EqualValues(t, 1, h.version("register-CHG"))
}

// DESIGN 1: any command may name the version it was based on.
func TestACommandThatNamesAVersionIsDoneAtThatVersionOnly(t *testing.T) {
	ctx := t.Context()
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade())
	seen := c.Version
	c = h.do(alice, c.ID, change.At(seen), change.Submit{})

	for name, commands := range map[string][]change.Command{
		"what would still go":            {change.At(seen), change.Note{Text: "x"}},
		"what went then":                 {change.At(seen), change.Submit{}},
		"what did not go then":           {change.At(seen), approval(c, "cab")},
		"what records nothing":           {change.At(seen), change.Edit{Set: change.Content{Title: c.Title}}},
		"behind another command":         {change.Note{Text: "x"}, change.At(seen), change.Note{Text: "y"}},
		"a version that has not come":    {change.At(c.Version + 1), change.Note{Text: "x"}},
		"as if the change did not exist": {change.At(0), change.Note{Text: "x"}},
		"behind the command it holds":    {change.Note{Text: "x"}, change.At(seen)},
	} {
		t.Run(name, func(t *testing.T) {
			h.untouched(func() {
				_, err := h.changes.Do(ctx, bob, c.ID, commands...)
				require.ErrorIs(t, err, eventstore.ErrConflict)
				var conflict *eventstore.ConflictError
				require.ErrorAs(t, err, &conflict)
				require.Equal(t, c.Version, conflict.Actual)
				_, err = h.changes.Why(ctx, bob, c.ID, commands...)
				require.ErrorIs(t, err, eventstore.ErrConflict, "it could not be found out: that is not a yes")
			})
		})
	}
	h.do(bob, c.ID, change.Note{Text: "x"}, change.At(c.Version), change.Note{Text: "the same append does not count"})
}

func TestSeveralCommandsAreDoneAllOrNone(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade())
	h.refused("not-a-candidate", zoe, c.ID, change.Note{Text: "x"}, change.Submit{}, change.Approve{Stage: "cab", Scope: c.Scope}, change.Start{})
	r := upgrade()
	h.refusedRaise("authorized", alice, r, change.Submit{}, change.Start{})
	c, err := h.changes.Do(t.Context(), bob, c.ID, change.Submit{}, change.Approve{Stage: "cab", Scope: c.Scope}, change.Note{Text: "at once"})
	require.NoError(t, err)
	require.Equal(t, "scheduled", c.Phase)
	require.EqualValues(t, 1, h.version("register-CHG"))
}

func TestNothingAskedForIsRefusedAndNotDone(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	c := h.raise(upgrade())
	h.refused("command-required", alice, c.ID)
	h.refused("command-required", alice, c.ID, change.At(c.Version))
	h.refused("command-required", alice, c.ID, nil)
	h.refused("raise-first", alice, c.ID, upgrade())
	h.refused("raise-first", alice, c.ID, change.Note{Text: "x"}, upgrade())
	h.refusedRaise("raise-first", alice, upgrade(), upgrade())
	h.refusedRaise("command-required", alice, upgrade(), nil)
	h.refused("unknown-command", alice, c.ID, &change.Submit{})
}

// DOMAIN 1.2: numbers are gap-free; a caller's own ID is an external reference, unique
// when asked.
func TestNumbersHaveNoGapsAndReferencesAreUniqueWhenAsked(t *testing.T) {
	ctx := t.Context()
	h := open(t, memory.New()).estate()
	r := upgrade()
	r.External, r.Unique = "JIRA-12", true
	c := h.raise(r)
	require.Equal(t, "CHG-000001", c.ID)
	require.Equal(t, "JIRA-12", c.External)
	h.refusedRaise("external-taken", alice, r)
	r.Unique = false
	require.Equal(t, "CHG-000002", h.raise(r).ID, "it is not asked to be unique")
	r.External, r.Unique = "", true
	h.refusedRaise("external-required", alice, r)
	r = upgrade()
	r.Content.Deltas = append(r.Content.Deltas, cmdb.Set("db-77", "version", "1", "2"))
	h.refusedRaise("unknown-ci", alice, r)
	require.Equal(t, "CHG-000003", h.raise(upgrade()).ID)

	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := h.changes.Raise(ended, alice, upgrade())
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "CHG-000004", h.raise(upgrade()).ID)
}
