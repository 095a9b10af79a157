package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestItSaysNoWithReasonsAndThenYes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "changes.db")
	ask := func(id string) (bool, string) {
		var out bytes.Buffer
		may, err := mayDeploy(t.Context(), &out, file, "deploy-bot", id)
		require.NoError(t, err)
		return may, out.String()
	}
	may, said := ask("CHG-000001")
	require.False(t, may)
	require.Contains(t, said, "no: unknown-change")

	store, err := sqlite.Open(file)
	require.NoError(t, err)
	engine, err := rollforward.Open(t.Context(), store, rollforward.Config{Authorizer: command.Roles{
		"alice": {command.Requester}, "bob": {command.Approver}, "carol": {command.ChangeManager},
	}})
	require.NoError(t, err)
	c, err := engine.Changes.Raise(t.Context(), command.As("alice"), change.Raise{Content: change.Content{Title: "Deploy shop 4.2"}}, change.Submit{})
	require.NoError(t, err)
	c, err = engine.Changes.Do(t.Context(), command.As("carol"), c.ID, change.Assess{Level: "low", Why: "small"})
	require.NoError(t, err)

	may, said = ask(c.ID)
	require.False(t, may)
	require.Equal(t, "no: authorized: the change is in phase \"authorize\" and not authorised: stage \"cab\" waits for bob\n", said)

	_, err = engine.Changes.Do(t.Context(), command.As("bob"), c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	require.NoError(t, err)
	may, said = ask(c.ID)
	require.True(t, may)
	require.Equal(t, "yes\n", said)
	require.NoError(t, engine.Close())
	require.NoError(t, store.Close())
}

func TestWhatCannotBeFoundOutIsNotAYes(t *testing.T) {
	may, err := mayDeploy(t.Context(), &bytes.Buffer{}, t.TempDir(), "deploy-bot", "CHG-000001")
	require.Error(t, err)
	require.False(t, may)
}
