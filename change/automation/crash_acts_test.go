package automation_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/change/notify"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/release"
)

func crashRoles() command.Roles {
	roles := staff()
	roles[notify.Actor] = []command.Role{command.Automation}
	return roles
}

func crashRegistry(t testing.TB) *eventstore.Registry {
	r, err := eventstore.NewRegistry(slices.Concat(command.Types(), cmdb.Types(), change.Types(), schedule.Types(), release.Types(),
		follow.Types(), relay.Types(), automation.Types(), notify.Types())...)
	require.NoError(t, err)
	return r
}

func built(t testing.TB) func(h relay.Handler, err error) relay.Handler {
	return func(h relay.Handler, err error) relay.Handler {
		require.NoError(t, err)
		return h
	}
}

// acts are those of all ready handlers.
func acts() []act {
	return []act{{
		name: "follow-ups", appends: []string{"change.task-added", "change.raised"},
		prepare: func(h *house) {
			for _, review := range [][]change.Command{
				{change.Review{Outcome: change.Unsuccessful}}, // two tasks
				{change.Review{Outcome: change.WithIssues}},
				{change.Review{Outcome: change.Unsuccessful}, change.Close{}}, // a fresh change
			} {
				c := h.approved(cmdb.Set("db-01", "owner", "", "dba"))
				h.clock.Advance(time.Hour)
				h.do(dave, c.ID, change.Start{})
				h.do(dave, c.ID, change.Complete{Applied: []cmdb.Delta{}})
				h.do(erin, c.ID, review...)
			}
		},
		handler: func(t testing.TB, e *rollforward.Engine, _ *process, _ *sent) relay.Handler {
			return built(t)(automation.FollowUps(automation.FollowUpsConfig{Changes: e.Changes, Door: e.Door, Fresh: &automation.Fresh{Model: "normal"}}))
		},
	}, {
		name: "pipelines", appends: []string{"change.raised", "change.timed", "change.implemented", "change.noted"},
		prepare: func(h *house) {
			for _, state := range []automation.State{automation.Queued, automation.Running, automation.Succeeded} {
				h.report(deployment(state))
			}
			other := deployment(automation.Failed)
			other.Run, other.CI = "4712", "db-02"
			h.report(other)
			refused := deployment(automation.Queued)
			refused.Run, refused.Template = "4713", ""
			h.report(refused)
		},
		handler: func(t testing.TB, e *rollforward.Engine, _ *process, _ *sent) relay.Handler {
			return built(t)(automation.Pipelines(automation.PipelinesConfig{Changes: e.Changes, CMDB: e.CMDB, Door: e.Door, WaitFor: e.WaitFor, Carries: true}))
		},
	}, {
		name: "drift", appends: []string{"change.raised"},
		prepare: func(h *house) {
			c := h.approved()
			h.do(dave, c.ID, change.Start{})
			h.observe("scan", sees("db-01", "16")) // explained
			h.observe("scan", sees("db-01", "17"))
			h.observe("probe", sees("db-02", "16"))
		},
		handler: func(t testing.TB, e *rollforward.Engine, _ *process, _ *sent) relay.Handler {
			return built(t)(automation.Drift(automation.DriftConfig{Changes: e.Changes, CMDB: e.CMDB, Door: e.Door, WaitFor: e.WaitFor, Classes: []string{"database"}}))
		},
	}, {
		name: "notify", appends: []string{"notify.sent"}, loose: true,
		prepare: func(h *house) {
			c := h.approved()
			h.do(alice, c.ID, change.Edit{Set: change.Content{Stakeholders: []change.Stakeholder{
				{Who: "u-1", Told: []string{"started", "implemented"}}, {Who: "u-2", Told: []string{"implemented", "closed"}},
			}}})
			h.do(dave, c.ID, change.Start{})
			h.do(dave, c.ID, change.Complete{})
			h.do(erin, c.ID, change.Review{Outcome: change.Successful}, change.Close{})
		},
		handler: func(t testing.TB, e *rollforward.Engine, p *process, s *sent) relay.Handler {
			return built(t)(notify.Stakeholders(notify.Config{
				Changes: e.Changes, Door: e.Door, Senders: map[string]notify.Sender{"post": post{p, s}}, Logger: silent,
				Addresses: func(_ context.Context, who string) ([]notify.Address, error) {
					return []notify.Address{{Channel: "post", Where: who + "@example.com"}}, nil
				},
			}))
		},
	}}
}

// post is where notices are sent.
type post struct {
	*process
	*sent
}

func (p post) Send(_ context.Context, where string, m notify.Message) error {
	if err := p.point("before a notice is sent"); err != nil {
		return err
	}
	p.add(m.Key + " " + where + " " + m.Text)
	return p.point("after a notice is sent")
}

// FAULTS F02: a process that dies at any point of a ready handler loses nothing and
// does nothing twice.
func TestAHandlerThatDiesAtAnyPointDoesEverythingOnceAtFullSize(t *testing.T) {
	for _, a := range acts() {
		t.Run(a.name, func(t *testing.T) {
			stride := 1
			if race.Enabled {
				stride = 5
			}
			deaths, different, without, points := a.trial(t, stride)
			kinds := slices.Clone(points)
			slices.Sort(kinds)
			kinds = slices.Compact(kinds)
			t.Logf("%d points of %d kinds, %d deaths, %d events and %d sent: %q", len(points), len(kinds), deaths, len(without.Log), len(without.Sent), kinds)
			if stride == 1 {
				require.GreaterOrEqual(t, deaths, len(points)-map[bool]int{true: 4}[a.loose])
			}
			for _, first := range a.appends {
				require.Contains(t, kinds, "before the append of "+first)
				require.Contains(t, kinds, "after the append of "+first)
			}
			require.Contains(t, kinds, "after a checkpoint is saved")
			require.Empty(t, different, "what was left by a death at these points")
		})
	}
}

// The harness must be able to tell: a handler that gives its commands new keys, and one
// that acknowledges before it acts, are known by it.
func TestTheHarnessKnowsHandlersThatAreCareless(t *testing.T) {
	prepare := acts()[0].prepare
	careless := func(f func(e *rollforward.Engine, id string, env relay.Envelope) error) func(testing.TB, *rollforward.Engine, *process, *sent) relay.Handler {
		return func(_ testing.TB, e *rollforward.Engine, _ *process, _ *sent) relay.Handler {
			return relay.Handler{Name: "careless", Cases: []relay.Case{relay.On(func(_ context.Context, _ change.Reviewed, env relay.Envelope) error {
				return f(e, env.Stream[len("change-"):], env)
			})}}
		}
	}
	note := func(e *rollforward.Engine, id string, call command.Call) error {
		_, err := e.Changes.DoCall(context.Background(), call, id, change.AddTask{Title: fmt.Sprint("Think of ", id), Kind: "review"})
		if command.By(err, "change-ended") {
			return nil
		}
		return err
	}
	sameShape := func(a, b outcome) bool { return maps.Equal(shape(a), shape(b)) }
	for _, c := range []struct {
		name string
		bad  bool
		do   func(e *rollforward.Engine, id string, env relay.Envelope) error
	}{
		{"careful", false, func(e *rollforward.Engine, id string, env relay.Envelope) error {
			return note(e, id, env.Call(robot))
		}},
		{"new keys", true, func(e *rollforward.Engine, id string, env relay.Envelope) error {
			call := env.Call(robot)
			call.Key = uuid.NewString()
			return note(e, id, call)
		}},
		{"acknowledged before it acts", true, func(e *rollforward.Engine, id string, env relay.Envelope) error {
			call := env.Call(robot)
			go func() {
				time.Sleep(100 * time.Millisecond)
				_ = note(e, id, call) // if it lives that long
			}()
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := act{name: c.name, prepare: prepare, handler: careless(c.do), loose: true, same: sameShape}
			deaths, different, without, _ := a.trial(t, 1)
			require.NotEmpty(t, shape(without))
			t.Logf("%d deaths, after %d of them something is different: %q", deaths, len(different), different)
			require.Equal(t, c.bad, len(different) > 0)
			require.Less(t, len(different), deaths, "not by anything but what is bad")
		})
	}
}
