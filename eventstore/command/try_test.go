package command_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

func TestTryNamesTheRulesInTheWayAndRecordsNothing(t *testing.T) {
	ctx := context.Background()
	d := open(t, givers)
	_, err := d.give("ann", "x", 6, "k")
	require.NoError(t, err)
	head, err := d.memory.Head(ctx)
	require.NoError(t, err)
	status, last := d.Status(), d.Last()

	for name, c := range map[string]struct {
		call  command.Call
		f     func(tx *command.Tx) error
		rules []string
	}{
		"nothing":                   {call("ann", "x", 1, ""), work("x", 1), nil},
		"nothing, with a key":       {call("ann", "x", 1, "k2"), work("x", 1), nil},
		"nothing, nothing to do":    {call("ann", "x", 0, ""), work("x", 0), nil},
		"a rule":                    {call("ann", "x", 5, ""), work("x", 5), []string{"at-most-10"}},
		"a denial":                  {call("bob", "x", 1, ""), work("x", 1), []string{"role-required"}},
		"nobody asked":              {call("ann", "x", 1, ""), func(tx *command.Tx) error { return tx.RecordBlind("account-x", Given{1}) }, []string{"not-authorized"}},
		"what cannot be meant":      {command.Call{}, nil, []string{"actor-required", "action-required"}},
		"a used key is not looked":  {call("ann", "x", 5, "k"), work("x", 5), []string{"at-most-10"}},
		"several rules":             {call("ann", "x", 1, ""), func(*command.Tx) error { return command.Refuse(command.Refusal{Rule: "a"}, command.Refusal{Rule: "b"}) }, []string{"a", "b"}},
		"a right that is not lent":  {command.Call{Actor: command.As("bob").For("ann"), Action: "points.give"}, work("x", 1), []string{"no-delegation"}},
		"a refusal without a kind":  {call("ann", "x", 1, ""), func(*command.Tx) error { return command.Refuse(command.Refusal{}) }, []string{"unnamed"}},
		"a hook that does not work": {call("ann", "x", 1, ""), func(tx *command.Tx) error { return down(tx.Context(), d) }, []string{"hook-failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			why, err := d.Try(ctx, c.call, c.f)
			require.NoError(t, err)
			require.Equal(t, c.rules, named(why))
			for _, r := range why {
				require.NotEmpty(t, r.Kind)
			}
		})
	}
	now, err := d.memory.Head(ctx)
	require.NoError(t, err)
	require.Equal(t, head, now)
	require.Equal(t, status, d.Status())
	require.Equal(t, last, d.Last())
}

func down(ctx context.Context, d *desk) error {
	_, err := command.Hook(ctx, d.Door, "risk", func(context.Context) (int, error) { return 0, errors.New("it is down") })
	return err
}

func TestTryFailsWhereDoWouldWithoutARefusal(t *testing.T) {
	ctx := context.Background()
	d := open(t, nil)
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		f   func(tx *command.Tx) error
		err error
	}{
		"an error of the work":         {func(*command.Tx) error { return boom }, boom},
		"a version that was named":     {func(tx *command.Tx) error { return errors.Join(tx.Expect("account-x", 3), recorded(tx, "account-x")) }, eventstore.ErrConflict},
		"one that is only depended on": {func(tx *command.Tx) error { return tx.Expect("account-x", 3) }, eventstore.ErrConflict},
		"what no store takes":          {func(tx *command.Tx) error { return recorded(tx, strings.Repeat("x", 256)) }, eventstore.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			why, err := d.Try(ctx, call("ann", "x", 1, ""), c.f)
			require.ErrorIs(t, err, c.err)
			require.Empty(t, why)
			_, err = d.Do(ctx, call("ann", "x", 1, ""), c.f)
			require.ErrorIs(t, err, c.err)
		})
	}
}

func recorded(tx *command.Tx, stream string) error {
	return errors.Join(tx.Authorize("points.give", "x", nil), tx.RecordBlind(stream, Given{1}))
}

func TestTryIsJudgedOnTheStateThatItEndsIn(t *testing.T) {
	d := open(t, nil)
	runs := 0
	why, err := d.Try(context.Background(), call("ann", "x", 10, ""), func(tx *command.Tx) error {
		if runs++; runs == 1 {
			overtake(t, tx, d, "account-x")
		}
		return work("x", 10)(tx)
	})
	require.NoError(t, err)
	require.Equal(t, []string{"at-most-10"}, named(why))
}

// Why is empty exactly when Do succeeds, and otherwise names what Do is refused by.
func TestTrySaysWhatDoWouldFind(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d := open(t, givers)
		for range rapid.IntRange(1, 30).Draw(r, "commands") {
			account := rapid.SampledFrom([]string{"x", "y"}).Draw(r, "account")
			points := rapid.IntRange(0, 6).Draw(r, "points")
			c := call(rapid.SampledFrom([]string{"ann", "bob", ""}).Draw(r, "actor"), account, points, "")
			c.Actor.OnBehalfOf = rapid.SampledFrom([]string{"", "", "ann"}).Draw(r, "principal")
			f := work(account, points)
			if rapid.IntRange(0, 5).Draw(r, "asks") == 0 {
				f = func(tx *command.Tx) error {
					_, err := accounts.Do(tx.Tx, "account-"+account, points)
					return err
				}
			}
			why, err := d.Try(context.Background(), c, f)
			require.NoError(r, err)
			_, err = d.Do(context.Background(), c, f)
			if err == nil {
				require.Empty(r, why)
				continue
			}
			require.Equal(r, err.(*command.Error).Refusals, why)
		}
	})
}
