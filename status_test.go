package rollforward_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// asJSON is what a health endpoint answers.
func asJSON(t testing.TB, s rollforward.Status) map[string]any {
	b, err := json.Marshal(s)
	require.NoError(t, err)
	var form map[string]any
	require.NoError(t, json.Unmarshal(b, &form))
	return form
}

func TestStatusSaysWhyAnEngineIsNotReady(t *testing.T) {
	ready := rollforward.Status{Folds: follow.Status{Ready: true, Position: 7, Head: 7}}
	for name, c := range map[string]struct {
		change func(s *rollforward.Status)
		why    []string
	}{
		"ready":     {func(*rollforward.Status) {}, nil},
		"closed":    {func(s *rollforward.Status) { s.Door.Closed, s.Folds.Closed, s.Folds.Ready = true, true, false }, []string{"the engine is closed"}},
		"starting":  {func(s *rollforward.Status) { s.Folds.Ready, s.Folds.Position = false, 3 }, []string{"the folds are at position 3 of 7"}},
		"stopped":   {func(s *rollforward.Status) { s.Folds.Stopped = &follow.StoppedError{Cause: errors.New("poison")} }, []string{"follower is stopped: poison"}},
		"blind":     {func(s *rollforward.Status) { s.Folds.Retrying = errors.New("cut") }, []string{"the folds cannot read the log: cut"}},
		"stands by": {func(s *rollforward.Status) { s.Handlers = []relay.Status{{Consumer: "h", Standby: true}} }, nil},
		"is behind": {func(s *rollforward.Status) {
			s.Handlers = []relay.Status{{Consumer: "h", Behind: []relay.Behind{{Parked: true}}}}
		}, nil},
		"cannot": {func(s *rollforward.Status) { s.Handlers = []relay.Status{{Consumer: "h", Err: errors.New("cut")}} }, []string{`handler "h" cannot go on: cut`}},
		"has ended": {func(s *rollforward.Status) {
			s.Handlers = []relay.Status{{Consumer: "h", Stopped: true, Err: errors.New("rewound")}}
		}, []string{`handler "h" is stopped: rewound`}},
		"two of all": {func(s *rollforward.Status) {
			s.Folds.Retrying, s.Handlers = errors.New("cut"), []relay.Status{{Consumer: "h", Err: errors.New("cut")}}
		}, []string{"the folds cannot read the log: cut", `handler "h" cannot go on: cut`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := ready
			c.change(&s)
			require.Equal(t, c.why, s.NotReady())
			form := asJSON(t, s)
			require.Equal(t, len(c.why) == 0, form["ready"])
			if len(c.why) > 0 {
				require.Equal(t, fmt.Sprint(c.why), fmt.Sprint(form["not_ready"]))
				require.Contains(t, s.String(), "not ready\n  "+c.why[0])
			} else {
				require.NotContains(t, form, "not_ready")
				require.NotContains(t, s.String(), "not ready")
			}
		})
	}
}

func TestStatusHasWhatSomebodyShouldLookAt(t *testing.T) {
	event := uuid.MustParse("0190b5c4-0000-7000-8000-000000000001")
	s := rollforward.Status{
		Folds: follow.Status{
			Ready: true, Position: 5, Head: 7, Lag: 2, SnapshotError: errors.New("disk full"),
			Folds: []follow.FoldStatus{{Name: "cmdb", Position: 5, Parked: []follow.Parked{{Fold: "cmdb", Event: event, Type: "x", Stream: "s"}}}},
		},
		Door: command.Status{Unrecorded: 3},
		Handlers: []relay.Status{{Consumer: "tell", Holding: true, Behind: []relay.Behind{
			{Event: event, Type: "x", Stream: "s", Parked: true}, {Event: event, Type: "y", Stream: "r", Attempts: 2, Err: errors.New("refused")},
		}, LastError: errors.New("refused"), LastErrorAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}},
	}
	want := []string{
		"snapshots of the folds are not saved: disk full",
		`fold "cmdb" leaves out event 0190b5c4-0000-7000-8000-000000000001 (x of stream "s")`,
		"3 refusals could not be recorded",
		`handler "tell": event 0190b5c4-0000-7000-8000-000000000001 (x of stream "s") is parked, and the stream waits: it did not fail here`,
		`handler "tell": event 0190b5c4-0000-7000-8000-000000000001 (y of stream "r") failed 2 times: refused`,
	}
	require.Equal(t, want, s.Attention())
	require.Empty(t, s.NotReady())
	form := asJSON(t, s)
	require.Equal(t, true, form["ready"])
	require.Len(t, form["attention"], len(want))
	fold := form["folds"].(map[string]any)["folds"].([]any)[0].(map[string]any)
	require.EqualValues(t, 2, fold["lag"])
	require.Equal(t, event.String(), fold["parked"].([]any)[0].(map[string]any)["event"])
	handler := form["handlers"].([]any)[0].(map[string]any)
	require.Equal(t, "refused", handler["last_error"])
	require.Equal(t, "2026-03-01T12:00:00Z", handler["last_error_at"])
	require.Equal(t, true, handler["behind"].([]any)[0].(map[string]any)["parked"])
	for _, line := range want {
		require.Contains(t, s.String(), "attention: "+line)
	}
}

func TestStatusNamesTheFoldThatStoppedTheFollower(t *testing.T) {
	store := memory.New()
	e := open(t, store)
	event := poison(t, store)
	require.Eventually(t, func() bool { return e.Status().Folds.Stopped != nil }, patience, time.Millisecond)
	form := asJSON(t, e.Status())
	require.Equal(t, false, form["ready"])
	blamed := 0
	for _, f := range form["folds"].(map[string]any)["folds"].([]any) {
		if text, ok := f.(map[string]any)["error"].(string); ok {
			require.Contains(t, text, event.String())
			blamed++
		}
	}
	require.Equal(t, 1, blamed)
	parkWherever(t, event, e)
	require.Equal(t, true, asJSON(t, e.Status())["ready"])
}

func TestStatusFollowsTheLifeOfAnEngine(t *testing.T) {
	store := memory.New()
	e, err := rollforward.Open(t.Context(), store, rollforward.Config{Authorizer: roles})
	require.NoError(t, err)
	require.Empty(t, e.Status().NotReady())
	require.NoError(t, e.Handle(onRaised("tell", func(context.Context, change.Raised, relay.Envelope) error { return errors.New("no such host") })))
	raise(t, e, "one")
	require.Eventually(t, func() bool { return len(e.Status().Attention()) == 1 }, patience, time.Millisecond)
	s := e.Status()
	require.Empty(t, s.NotReady(), "the engine goes on")
	require.EqualValues(t, 1, s.Door.Commands)
	require.Contains(t, s.String(), "no such host")
	require.Contains(t, s.String(), `handler "tell" runs here`)
	require.NoError(t, e.Close())
	require.Equal(t, []string{"the engine is closed"}, e.Status().NotReady())
}

func ExampleEngine_Status() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	engine, err := rollforward.Open(ctx, store, rollforward.Config{Authorizer: command.AllowAll})
	if err != nil {
		panic(err)
	}
	now := engine.Status()
	fmt.Println(now.NotReady(), now.Folds.Lag, len(now.Folds.Folds), "folds")
	if err := engine.Close(); err != nil {
		panic(err)
	}
	fmt.Println(engine.Status().NotReady())
	// Output:
	// [] 0 4 folds
	// [the engine is closed]
}
