package change_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// hooks are every hook of an engine in one: each works until it is told to fail.
type hooks struct {
	fails atomic.Pointer[failing] // a hook that was too late may still look
	calls atomic.Int64
}

// failing is how one hook fails.
type failing struct {
	hook string
	way  func(ctx context.Context) error
}

// fail lets one hook fail from now on; "" lets all work.
func (h *hooks) fail(hook string, way func(ctx context.Context) error) {
	h.fails.Store(&failing{hook, way})
}

func (h *hooks) call(ctx context.Context, name string) error {
	h.calls.Add(1)
	if f := h.fails.Load(); f != nil && f.hook == name {
		return f.way(ctx)
	}
	return nil
}

func (h *hooks) Policy() change.Policy {
	if err := h.call(context.Background(), "policy"); err != nil {
		panic(err)
	}
	return change.Policy{ID: "hooked", Version: "7", Text: "always moderate"}
}

func (h *hooks) Assess(ctx context.Context, f change.Facts) (change.Verdict, error) {
	if err := h.call(ctx, "risk"); err != nil {
		return change.Verdict{}, err
	}
	return change.Verdict{Level: "moderate", Score: decimal("12.50"), Why: []string{"it always is"}}, nil
}

func (h *hooks) Group(ctx context.Context, name string) ([]string, error) {
	return []string{"bob"}, h.call(ctx, "group")
}

func (h *hooks) Role(ctx context.Context, name string) ([]string, error) {
	return []string{"ben"}, h.call(ctx, "role")
}

func (h *hooks) Authorize(ctx context.Context, r command.Request) error {
	return h.call(ctx, "authorizer")
}

func (h *hooks) Priority(ctx context.Context, c change.Change) (*apd.Decimal, string, error) {
	return apd.New(1, 0), "", h.call(ctx, "priority")
}

func (h *hooks) Compile(text string) (change.Condition, error) {
	return condition{h}, h.call(context.Background(), "compile")
}

type condition struct{ *hooks }

func (c condition) Holds(map[string]any) (bool, error) {
	return true, c.call(context.Background(), "condition")
}

// hooked is an engine of hooks only.
func hooked(t testing.TB, store eventstore.Store) (*house, *hooks) {
	all := &hooks{}
	h := open(t, store, func(c *change.Config, d *command.Config) {
		c.Risk, c.Directory, c.Expressions, c.Priority = all, all, all, all
		d.Authorizer, d.HookTimeout, d.Logger = all, 200*time.Millisecond, slog.New(slog.DiscardHandler)
	})
	return h, all
}

// judged is a model that needs every hook on the way out of planning.
func judged() change.Model {
	m := asking(change.Stage{Name: "vote", Rule: change.Rule{Counting: change.First}, Candidates: []change.Candidate{{Group: "g"}, {Role: "r"}}})
	m.Name = "judged"
	m.Transitions[0].When = "anything"
	return m
}

// DESIGN 1: a hook that panics, errs or outlives its deadline refuses the command.
func TestAHookThatFailsRefusesTheCommand(t *testing.T) {
	ways := map[string]func(context.Context) error{
		"fails":  func(context.Context) error { return errors.New("no answer") },
		"panics": func(context.Context) error { panic("out of order") },
		"is too late": func(ctx context.Context) error {
			if _, limited := ctx.Deadline(); limited {
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(400 * time.Millisecond) // a hook without a context
			return nil
		},
	}
	h, all := hooked(t, memory.New())
	h.publish(judged())
	c := h.raise(plain("judged"))
	for name, way := range ways {
		for _, hook := range []string{"risk", "group", "role", "authorizer", "compile", "condition"} {
			t.Run(hook+" "+name, func(t *testing.T) {
				all.fail(hook, way)
				defer all.fail("", nil)
				h.untouched(func() {
					why, err := h.changes.Why(t.Context(), alice, c.ID, change.Submit{})
					require.NoError(t, err)
					require.Equal(t, command.Unavailable, why[0].Kind)
					_, err = h.changes.Do(t.Context(), alice, c.ID, change.Submit{})
					require.ErrorIs(t, err, command.ErrUnavailable)
					require.NotErrorIs(t, err, command.ErrRefused)
				})
				if hook == "risk" || hook == "authorizer" {
					r := change.Raise{Model: "unauthorized", Content: change.Content{Title: "x"}}
					h.untouched(func() {
						_, err := h.changes.Raise(t.Context(), alice, r)
						require.ErrorIs(t, err, command.ErrUnavailable)
					})
				}
			})
		}
		t.Run("priority "+name, func(t *testing.T) {
			all.fail("priority", way)
			defer all.fail("", nil)
			ranked, unranked, err := h.changes.Backlog(t.Context())
			require.ErrorIs(t, err, command.ErrUnavailable)
			require.Empty(t, ranked)
			require.Empty(t, unranked, "what could not be ranked is no empty backlog")
		})
		t.Run("compile, when a model is published, "+name, func(t *testing.T) {
			all.fail("compile", way)
			defer all.fail("", nil)
			h.untouched(func() {
				_, err := h.changes.Publish(t.Context(), carol, judged())
				require.Error(t, err)
				var refused *command.Error
				require.ErrorAs(t, err, &refused)
			})
		})
	}
	all.fail("policy", ways["fails"])
	h.untouched(func() {
		_, err := h.changes.Do(t.Context(), alice, c.ID, change.Submit{})
		refusedBy(t, err, command.ErrUnavailable, "hook-panicked")
	})
	all.fail("", nil)
	c = h.do(alice, c.ID, change.Submit{})
	require.Equal(t, "authorize", c.Phase, "when they work it goes on")
}

// verdict is a policy that gives a broken verdict.
type verdict change.Verdict

func (v verdict) Policy() change.Policy { return change.Policy{ID: "broken", Version: "1"} }
func (v verdict) Assess(context.Context, change.Facts) (change.Verdict, error) {
	return change.Verdict(v), nil
}

func TestAVerdictWithoutALevelOrAReasonIsNone(t *testing.T) {
	nan := &apd.Decimal{Form: apd.NaN}
	for name, v := range map[string]change.Verdict{
		"no level":                   {Why: []string{"x"}},
		"no reason":                  {Level: "low"},
		"a score of no number":       {Level: "low", Why: []string{"x"}, Score: nan},
		"a probability of no number": {Level: "low", Why: []string{"x"}, Failure: &apd.Decimal{Form: apd.Infinite}},
		"a probability above 1":      {Level: "low", Why: []string{"x"}, Failure: decimal("1.01")},
		"a probability below 0":      {Level: "low", Why: []string{"x"}, Failure: decimal("-0.01")},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, memory.New(), judging(verdict(v)))
			c := h.raise(plain("normal"))
			h.refused("hook-failed", alice, c.ID, change.Submit{})
		})
	}
}

// DOMAIN 1.4: the verdict is recorded with the facts and their digest: a receipt.
func TestAReceiptHoldsTheFactsAndTheirDigest(t *testing.T) {
	h, _ := hooked(t, memory.New())
	h.estate()
	r := upgrade()
	r.Content.Category, r.Content.Group, r.Content.Cost = "database", "dba", decimal("0.00")
	r.Content.Answers = []change.Answer{{Question: "tested?", Value: 3}, {Question: "backed up?", Value: 1}}
	r.Content.Outage = &change.Outage{Expected: true, For: 600}
	c := h.raise(r, change.Submit{})
	got := c.Risk
	require.Equal(t, change.Policy{ID: "hooked", Version: "7"}, got.Policy, "its text is an event of its own")
	require.Equal(t, "12.50", got.Verdict.Score.String())
	require.Equal(t, monday, got.At)
	f := got.Facts
	require.Equal(t, []change.FactCI{{ID: "db-01", Class: "database", Criticality: "high"}}, f.CIs)
	require.Equal(t, []change.FactCI{{ID: "shop", Class: "service", Criticality: "critical", Depth: 1}}, f.Top)
	require.Equal(t, []change.Counted{{Name: "critical", Count: 1}, {Name: "high", Count: 1}}, f.Criticality)
	require.Equal(t, []change.Counted{{Name: "database", Count: 1}, {Name: "service", Count: 1}}, f.Classes)
	require.Equal(t, 1, f.Impacted)
	require.Equal(t, 1, f.Deltas)
	require.Equal(t, change.Of(48*time.Hour), f.LeadTime)
	require.True(t, f.Planned)
	require.Equal(t, change.Seconds(600), f.Outage)
	require.True(t, f.Backout)
	require.False(t, f.Tested)
	require.Equal(t, []change.Answer{{Question: "backed up?", Value: 1}, {Question: "tested?", Value: 3}}, f.Answers)
	require.Equal(t, "0.00", f.Cost.String(), "an amount of nothing is an amount")

	digest, err := f.Digest()
	require.NoError(t, err)
	require.Equal(t, digest, got.Digest)
	for e, err := range h.store.Read(t.Context(), eventstore.Query{Streams: []string{"change-" + c.ID}, Types: []string{"change.assessed"}}) {
		require.NoError(t, err)
		var raw struct {
			Receipt struct {
				Facts  jsontext.Value `json:"facts"`
				Digest string         `json:"digest"`
			} `json:"receipt"`
		}
		require.NoError(t, json.Unmarshal(e.Data, &raw))
		sum := sha256.Sum256(raw.Receipt.Facts)
		require.Equal(t, raw.Receipt.Digest, hex.EncodeToString(sum[:]), "of the bytes that are recorded")
	}
	text, err := h.changes.PolicyText(t.Context(), "hooked", "7")
	require.NoError(t, err)
	require.Equal(t, "always moderate", text)
	text, err = h.changes.PolicyText(t.Context(), "hooked", "8")
	require.NoError(t, err)
	require.Empty(t, text)
}

func TestAnEditOfWhatTheRiskLooksAtIsJudgedAnew(t *testing.T) {
	h, _ := hooked(t, memory.New())
	h.estate()
	c := h.raise(upgrade())
	h.do(alice, c.ID, change.Edit{Set: change.Content{Category: "x"}})
	require.NotContains(t, h.types(c.ID, 0), "assessed", "what is being planned is judged when it is submitted")
	c = h.do(alice, c.ID, change.Submit{})
	version := c.Version
	h.clock.pass(time.Hour)
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Category: "y"}})
	require.Equal(t, []string{"edited", "assessed"}, h.types(c.ID, version))
	require.Equal(t, change.Of(47*time.Hour), c.Risk.Facts.LeadTime)
	require.Equal(t, "y", c.Risk.Facts.Category)
	version = c.Version
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Title: "z", Tags: []string{"a"}}})
	require.Equal(t, []string{"edited"}, h.types(c.ID, version), "no policy looks at that")
}

// DESIGN 1: decisions are recorded, never recomputed: replay calls no hook.
func TestReadingCallsNoHook(t *testing.T) {
	h, all := hooked(t, memory.New())
	h.estate()
	h.publish(judged())
	r := upgrade()
	r.Model = "judged"
	c := h.raise(r, change.Submit{})
	h.approve(bob, c.ID, "vote")
	h.do(dave, c.ID, change.Start{})
	h.do(dave, c.ID, change.Complete{})
	require.NotZero(t, all.calls.Load())

	calls := all.calls.Load()
	ctx := t.Context()
	read := func(s *change.Service) {
		for version := range c.Version {
			_, err := s.At(ctx, c.ID, version)
			require.NoError(t, err)
		}
		_, err := s.History(ctx, c.ID)
		require.NoError(t, err)
		_, err = s.Since(ctx, c.ID, "bob")
		require.NoError(t, err)
		_, err = s.List(ctx, change.Filter{Open: true, CI: "db-01", Waiting: "bob"})
		require.NoError(t, err)
		_, _, err = s.Model(ctx, "judged", 0)
		require.NoError(t, err)
	}
	read(h.changes)
	require.Equal(t, calls, all.calls.Load())

	again, none := hooked(t, h.store)
	asked := none.calls.Load() // opening asks a policy for its name
	read(again.changes)
	_, err := again.follow.Verify(ctx)
	require.NoError(t, err)
	require.Equal(t, asked, none.calls.Load())
	require.LessOrEqual(t, asked, int64(1))
}

// Once the work has begun an edit is not judged any more, so nobody is asked.
func TestAnEditOfWhatHasBegunAsksNoRiskPolicy(t *testing.T) {
	h, all := hooked(t, memory.New())
	h.publish(judged())
	c := h.raise(plain("judged"), change.Submit{})
	c = h.do(bob, c.ID, change.Approve{Stage: "vote", Scope: c.Scope})
	c = h.do(dave, c.ID, change.Start{})
	all.fail("risk", func(context.Context) error { return errors.New("no answer") })
	before := h.version("change-" + c.ID)
	h.do(alice, c.ID, change.Edit{Set: change.Content{Description: "as it went"}})
	require.Equal(t, []string{"edited"}, h.types(c.ID, before))
}
