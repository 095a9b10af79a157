package automation_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// run runs a handler on the relay until f returns.
func (h *house) run(handler relay.Handler, f func(status func() relay.Status)) {
	h.t.Helper()
	handlers, err := relay.New(relay.Config{Store: h.store.(*memory.Store), Registry: registry(h.t), Logger: silent}, handler)
	require.NoError(h.t, err)
	ran := make(chan error, 1)
	go func() { ran <- handlers.Run(context.Background()) }()
	f(func() relay.Status {
		time.Sleep(5 * time.Second)
		return handlers.Status()[0]
	})
	require.NoError(h.t, handlers.Close())
	require.NoError(h.t, <-ran)
}

// What was refused for good is parked with the reason, and goes on when the cause is
// mended and somebody decides so.
func TestAnEventWhoseCommandIsRefusedIsParkedUntilSomebodyDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, memory.New(), staff()).furnish()
		_, err := h.Changes.RetireTemplate(t.Context(), carol, "patch-db", "not now")
		require.NoError(t, err)
		queued := deployment(automation.Queued)
		h.report(queued)
		other := deployment(automation.Queued)
		other.Run, other.Template = "4712", ""
		h.report(other)
		handler := built(t)(automation.Pipelines(h.pipelines()))
		handler.History = true
		h.run(handler, func(status func() relay.Status) {
			s := status()
			require.Len(t, s.Behind, 1)
			require.True(t, s.Behind[0].Parked)
			require.Equal(t, 1, s.Behind[0].Attempts, "it is not tried again and again")
			require.True(t, command.By(s.LastError, "template-retired"), "%v", s.LastError)
			require.Equal(t, "pipeline-deploy#4711", s.Behind[0].Stream)
			require.EqualValues(t, 1, s.Acknowledged, "other runs go on")
			require.Empty(t, h.all())

			_, err = h.Changes.ProposeTemplate(t.Context(), carol, "patch-db", change.Template{
				Title: "Patch", Plans: change.Plans{Implementation: "x"}, Classes: []string{"database"}, Attributes: []string{"version"},
			})
			require.NoError(t, err)
			_, err = h.Changes.ApproveTemplate(t.Context(), bob, "patch-db", 2)
			require.NoError(t, err)
			_, err = h.Changes.PublishTemplate(t.Context(), carol, "patch-db", 2)
			require.NoError(t, err)
			_, err = eventstore.Update(t.Context(), h.store, registry(t), func(tx *eventstore.Tx) error {
				tx.Meta = eventstore.Metadata{Actor: "carol"}
				return relay.Retry(tx, "pipelines", s.Behind[0].Event)
			})
			require.NoError(t, err)
			s = status()
			require.Empty(t, s.Behind)
			require.Equal(t, "scheduled", h.get("CHG-000001").Phase)
		})
		require.NoError(t, h.Close())
		require.NoError(t, h.store.Close())
	})
}

// shaky is an authorizer that fails for the automation a few times.
type shaky struct {
	command.Authorizer
	failures *int
}

func (s shaky) Authorize(ctx context.Context, r command.Request) error {
	if r.Actor.ID == automation.Actor && *s.failures > 0 {
		*s.failures--
		return errors.New("the directory is down")
	}
	return s.Authorizer.Authorize(ctx, r)
}

func TestAnEventWhoseCommandMetAFailedHookIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, memory.New(), staff()).furnish()
		h.observe("scan", sees("db-01", "16"))
		require.NoError(t, h.Close())
		failures := 3
		var err error
		h.Engine, err = rollforward.Open(context.Background(), h.store, rollforward.Config{
			Authorizer: shaky{staff(), &failures}, Clock: h.clock.Now, Types: automation.Types(), Logger: silent,
		})
		require.NoError(t, err)
		handler := built(t)(automation.Drift(h.drift()))
		handler.History = true
		h.run(handler, func(status func() relay.Status) {
			s := status()
			require.EqualValues(t, 3, s.Refused)
			require.Empty(t, s.Behind)
			require.Len(t, h.found(), 1)
			require.False(t, slices.ContainsFunc(s.Behind, func(b relay.Behind) bool { return b.Parked }))
		})
		require.Equal(t, 1, h.count("command.refused"), "of one call, for one reason")
		require.NoError(t, h.Close())
		require.NoError(t, h.store.Close())
	})
}
