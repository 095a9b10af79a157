package command_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

func TestTheAuthorizerIsGivenWhatIsAskedFor(t *testing.T) {
	var got []command.Request
	d := open(t, func(c *command.Config) {
		c.Authorizer = authorizerFunc(func(_ context.Context, r command.Request) error { got = append(got, r); return nil })
	})
	require.NoError(t, grant(d, "ann", "bob"))
	got = nil
	c := call("bob", "x", 1, "")
	c.Actor = command.Actor{ID: "bob", OnBehalfOf: "ann", Source: "cli"}
	attributes := map[string][]string{"ci": {"db-01", "app-02"}, "model": nil}
	_, err := d.Do(context.Background(), c, func(tx *command.Tx) error {
		tx.Call.Actor = command.As("root") // is not who asks
		return tx.Authorize("points.give", "x", attributes)
	})
	require.NoError(t, err)
	require.Equal(t, []command.Request{{Actor: c.Actor, Action: "points.give", Object: "x", Attributes: attributes}}, got)
	got[0].Attributes["ci"][0] = "changed"
	require.Equal(t, "db-01", attributes["ci"][0], "a hook that is left behind shares nothing with who asked it")
}

func TestHowAnAuthorizerSaysNo(t *testing.T) {
	mine := command.Refuse(
		command.Refusal{Rule: "not-on-sundays", Reason: "it is Sunday"},
		command.Refusal{Kind: command.Refused, Rule: "at-rest", Reason: "it rests"},
	)
	var none *command.Error
	for name, c := range map[string]struct {
		err   error
		kinds []command.Kind
		rules []string
	}{
		"with refusals of its own": {mine, []command.Kind{command.Denied, command.Refused}, []string{"not-on-sundays", "at-rest"}},
		"wrapped":                  {errors.Join(errors.New("no"), mine), []command.Kind{command.Denied, command.Refused}, []string{"not-on-sundays", "at-rest"}},
		"with no refusal in it":    {&command.Error{}, []command.Kind{command.Denied}, []string{"unnamed"}},
		"with a nil one":           {none, []command.Kind{command.Denied}, []string{"unnamed"}},
		"of a kind that is none":   {command.Refuse(command.Refusal{Kind: "maybe", Rule: "r"}), []command.Kind{command.Denied}, []string{"r"}},
		"with another error":       {errors.New("the directory is down"), []command.Kind{command.Unavailable}, []string{"authorizer-failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, func(config *command.Config) {
				config.Authorizer = authorizerFunc(func(context.Context, command.Request) error { return c.err })
			})
			_, err := d.give("ann", "x", 1, "")
			var e *command.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "points.give", e.Call.Action)
			require.Equal(t, c.rules, named(e.Refusals))
			for i, r := range e.Refusals {
				require.Equal(t, c.kinds[i], r.Kind)
			}
			require.Len(t, d.refusals(), len(c.rules))
			records, _ := d.all("account-")
			require.Empty(t, records)
		})
	}
	require.Empty(t, mine.(*command.Error).Refusals[0].Kind, "an error that may be shared is not changed")
	require.Empty(t, mine.(*command.Error).Call.Action)
}

func TestAuthorisationIsAskedAgainOnEveryAttempt(t *testing.T) {
	for name, revoked := range map[string]bool{"and may say yes again": false, "and may have been revoked": true} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			d := open(t, func(c *command.Config) {
				c.Authorizer = authorizerFunc(func(context.Context, command.Request) error {
					if asked++; asked > 1 && revoked {
						return command.Refuse(command.Refusal{Rule: "revoked"})
					}
					return nil
				})
			})
			attempt := 0
			_, err := d.Do(context.Background(), call("ann", "x", 1, ""), func(tx *command.Tx) error {
				if attempt++; attempt == 1 {
					overtake(t, tx, d, "account-x")
				}
				return work("x", 1)(tx)
			})
			require.Equal(t, 2, asked)
			records, _ := d.all("account-")
			if revoked {
				require.ErrorIs(t, err, command.ErrDenied)
				require.Len(t, records, 1, "only what the other writer recorded")
				return
			}
			require.NoError(t, err)
			require.Len(t, records, 2)
		})
	}
}

// embeds has the roles as a fallback, and asks a directory first.
type embeds struct{ command.Roles }

func (embeds) Authorize(context.Context, command.Request) error { panic("the directory is on fire") }

func TestAnAuthorizerThatPanicsRefuses(t *testing.T) {
	var nobody *command.Policy
	for name, a := range map[string]command.Authorizer{
		"its own":             authorizerFunc(func(context.Context, command.Request) error { panic("boom") }),
		"built in":            nobody,
		"around one built in": embeds{},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, func(c *command.Config) { c.Authorizer = a })
			_, err := d.give("ann", "x", 1, "")
			require.ErrorIs(t, err, command.ErrUnavailable)
			require.Equal(t, []string{"hook-panicked"}, rules(t, err))
			require.Contains(t, d.log.String(), "stack=")
			require.Contains(t, d.log.String(), "Authorize", "the stack is that of the panic")
			records, _ := d.all("account-")
			require.Empty(t, records)
			require.Equal(t, uint64(1), d.Status().Unavailable)
		})
	}
}

func TestWhenTheCallerLeavesAuthorisationIsNoRefusal(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	d := open(t, func(c *command.Config) {
		c.Authorizer = authorizerFunc(func(ctx context.Context, _ command.Request) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
	})
	_, err := d.Do(ctx, call("ann", "x", 1, ""), work("x", 1))
	require.ErrorIs(t, err, context.Canceled)
	var e *command.Error
	require.False(t, errors.As(err, &e))
	require.Empty(t, d.refusals())
}

func TestWhoIsAskedOfTheAuthorizer(t *testing.T) {
	ask := command.Request{Action: "change.approve"}
	d := open(t, func(c *command.Config) {
		c.Authorizer = command.Roles{"bob": {command.Approver}, "ann": {command.Approver}}
	})
	people, ok := d.Who(ask)
	require.True(t, ok)
	require.Equal(t, []string{"ann", "bob"}, people)

	_, ok = open(t, nil).Who(ask)
	require.False(t, ok, "everybody is nobody in particular")
	d = open(t, func(c *command.Config) { c.Authorizer = embeds{command.Roles{"ann": {command.Approver}}} })
	people, ok = d.Who(ask)
	require.True(t, ok)
	require.Equal(t, []string{"ann"}, people)
	_, ok = open(t, func(c *command.Config) { c.Authorizer = badFinder{} }).Who(ask)
	require.False(t, ok, "who panics cannot say")
}

type badFinder struct{ authorizerFunc }

func (badFinder) Who(command.Request) []string { panic("boom") }

func TestDelegationsThatCannotBeReadAreAnErrorAndNoNo(t *testing.T) {
	d := open(t, nil)
	_, err := eventstore.Update(context.Background(), d.memory, registry, func(tx *eventstore.Tx) error {
		return tx.RecordBlind("delegation-ann", Given{1}) // known, and left out
	})
	require.NoError(t, err)
	c := call("bob", "x", 1, "")
	c.Actor = c.Actor.For("ann")
	_, err = d.Do(context.Background(), c, work("x", 1))
	require.Equal(t, []string{"no-delegation"}, rules(t, err))

	failing := open(t, func(c *command.Config) { c.Store = unreadable{c.Store} })
	_, err = failing.Do(context.Background(), c, work("x", 1))
	require.ErrorIs(t, err, eventstore.ErrDamaged)
	require.Empty(t, failing.refusals())
}
