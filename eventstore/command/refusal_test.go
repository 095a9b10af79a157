package command_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore/command"
)

func TestAnErrorNamesEveryRuleInTheWay(t *testing.T) {
	require.NoError(t, command.Refuse())
	err := command.Refuse(
		command.Refusal{Kind: command.Denied, Rule: "separation-of-duties", Reason: "u-1 requested the change", Remedy: "ask another approver"},
		command.Refusal{Kind: command.Malformed, Rule: "end-before-start", Field: "window.end", Reason: "it ends at 1"},
	)
	require.EqualError(t, err, "is denied by separation-of-duties: u-1 requested the change: ask another approver; and by end-before-start (window.end): it ends at 1")
	var e *command.Error
	require.ErrorAs(t, err, &e)
	e.Call = command.Call{Action: "change.approve"}
	require.ErrorContains(t, err, "change.approve is denied by")
	e.Call.Target = "CHG-000042"
	require.ErrorContains(t, err, "change.approve CHG-000042 is denied by")

	wrapped := fmt.Errorf("approve: %w", err)
	require.ErrorIs(t, wrapped, command.ErrDenied)
	require.ErrorIs(t, wrapped, command.ErrMalformed)
	require.NotErrorIs(t, wrapped, command.ErrRefused)
	require.NotErrorIs(t, wrapped, command.ErrUnavailable)
	require.True(t, command.By(wrapped, "end-before-start"))
	require.False(t, command.By(wrapped, "at-most-10"))
	require.False(t, command.By(errors.New("end-before-start"), "end-before-start"))
	require.False(t, command.By(nil, "end-before-start"))

	require.EqualError(t, command.Refuse(command.Refusal{Rule: "r", Reason: "s"}), "is refused by r: s", "before the door has given it a kind")
}
