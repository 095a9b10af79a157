package command_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// givers is a policy in which ann may give points, and everybody may delegate for himself.
func givers(c *command.Config) {
	own := command.Permission{Actions: []string{"delegation.give"}, Self: true}
	c.Authorizer = command.Policy{
		Table: command.Table{"giver": {{Actions: []string{"points.*"}}, own}, "guest": {own}},
		Roles: command.Roles{"ann": {"giver"}, "bob": {"guest"}, "cleo": {"guest"}},
	}
}

func (d *desk) giveFor(actor, person string) error {
	c := call(actor, "x", 1, "")
	c.Actor = c.Actor.For(person)
	_, err := d.Do(context.Background(), c, work("x", 1))
	return err
}

func points(until time.Time) command.Delegation {
	return command.Delegation{Person: "ann", To: "bob", Actions: []string{"points.*"}, Until: until}
}

// DOMAIN 1.3: delegation has a period and is itself an event.
func TestADelegateHasTheRightFromTheBeginningToBeforeTheEnd(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		after time.Duration
		yes   bool
	}{
		"a microsecond before it begins": {time.Hour - time.Microsecond, false},
		"when it begins":                 {time.Hour, true},
		"a microsecond before it ends":   {2*time.Hour - time.Microsecond, true},
		"when it ends":                   {2 * time.Hour, false},
		"at once":                        {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, givers)
			g := points(noon.Add(2 * time.Hour).In(time.FixedZone("", 7200)))
			g.From, g.Reason = noon.Add(time.Hour), "holiday"
			done, err := d.Delegate(ctx, command.As("ann"), g)
			require.NoError(t, err)
			require.Equal(t, []eventstore.Expect{eventstore.At("delegation-ann", 1)}, done.Streams)
			require.Equal(t, "delegation.given", done.Records[0].Type)

			d.clock.Advance(c.after)
			err = d.giveFor("bob", "ann")
			if c.yes {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, command.ErrDenied)
			require.Equal(t, []string{"no-delegation"}, rules(t, err))
			require.ErrorContains(t, err, "from 2026-03-31T13:00:00Z until 2026-03-31T14:00:00Z")
			require.Equal(t, "ann", d.refusals()[0].OnBehalfOf)
		})
	}
}

func TestADelegationIsForOnePersonAndItsActions(t *testing.T) {
	d := open(t, givers)
	_, err := d.Delegate(context.Background(), command.As("ann"), points(noon.Add(time.Hour)))
	require.NoError(t, err)
	require.NoError(t, d.giveFor("bob", "ann"))
	require.Equal(t, []string{"no-delegation"}, rules(t, d.giveFor("cleo", "ann")))
	require.Equal(t, []string{"no-delegation"}, rules(t, d.giveFor("ann", "bob")))
	_, err = d.give("bob", "x", 1, "")
	require.Equal(t, []string{"role-required"}, rules(t, err), "in his own right he may not")

	c := call("bob", "x", 1, "")
	c.Actor = c.Actor.For("ann")
	_, err = d.Do(context.Background(), c, func(tx *command.Tx) error { return tx.Authorize("point", "x", nil) })
	require.Equal(t, []string{"no-delegation"}, rules(t, err))
}

func TestWhatThePrincipalMayNotHisDelegateMayNotEither(t *testing.T) {
	d := open(t, givers)
	g := points(noon.Add(time.Hour))
	g.Person, g.To = "bob", "ann"
	_, err := d.Delegate(context.Background(), command.As("bob"), g)
	require.NoError(t, err)
	require.Equal(t, []string{"role-required"}, rules(t, d.giveFor("ann", "bob")))
}

func TestADelegationOfNoActionsIsOfApprovals(t *testing.T) {
	d := open(t, nil)
	_, err := d.Delegate(context.Background(), command.As("ann"), command.Delegation{Person: "ann", To: "bob", Until: noon.Add(time.Hour)})
	require.NoError(t, err)
	given, err := d.Delegations(context.Background(), "ann")
	require.NoError(t, err)
	require.Equal(t, []command.Delegation{{
		Person: "ann", To: "bob", Actions: []string{"change.approve", "change.reject"}, From: noon, Until: noon.Add(time.Hour),
	}}, given)
	for action, yes := range map[string]bool{"change.approve": true, "change.reject": true, "change.edit": false, "change.approved": false} {
		why, err := d.Try(context.Background(), command.Call{Actor: command.As("bob").For("ann"), Action: action},
			func(tx *command.Tx) error { return tx.Authorize(action, "CHG-000001", nil) })
		require.NoError(t, err)
		require.Equal(t, yes, len(why) == 0, "%s: %v", action, why)
	}
}

func TestNobodyHadARightBeforeItWasGiven(t *testing.T) {
	d := open(t, givers)
	g := points(noon.Add(time.Hour))
	g.From = noon.AddDate(0, 0, -7)
	_, err := d.Delegate(context.Background(), command.As("ann"), g)
	require.NoError(t, err)
	given, err := d.Delegations(context.Background(), "ann")
	require.NoError(t, err)
	require.Equal(t, noon, given[0].From)
}

func TestARightGotByDelegationIsNotDelegatedOn(t *testing.T) {
	ctx := context.Background()
	d := open(t, nil) // everybody may everything, so that only the rule is in the way
	g := points(noon.Add(time.Hour))
	g.Actions = []string{"*"}
	_, err := d.Delegate(ctx, command.As("ann"), g)
	require.NoError(t, err)
	require.NoError(t, d.giveFor("bob", "ann"))

	onward := command.Delegation{Person: "ann", To: "cleo", Actions: []string{"*"}, Until: noon.Add(time.Hour)}
	_, err = d.Delegate(ctx, command.As("bob").For("ann"), onward)
	require.ErrorIs(t, err, command.ErrDenied)
	require.Equal(t, []string{"delegation-chain"}, rules(t, err))
	_, err = d.EndDelegation(ctx, command.As("bob").For("ann"), "ann", "bob", "")
	require.Equal(t, []string{"delegation-chain"}, rules(t, err))

	// What bob gives cleo is his own right, not ann's.
	onward.Person = "bob"
	_, err = d.Delegate(ctx, command.As("bob"), onward)
	require.NoError(t, err)
	require.NoError(t, d.giveFor("cleo", "bob"))
	require.Equal(t, []string{"no-delegation"}, rules(t, d.giveFor("cleo", "ann")))
}

func TestWhoMayDelegateForWhomIsTheAuthorizersWord(t *testing.T) {
	ctx := context.Background()
	d := open(t, givers)
	g := points(noon.Add(time.Hour))
	_, err := d.Delegate(ctx, command.As("bob"), g)
	require.Equal(t, []string{"outside-right"}, rules(t, err))
	_, err = d.EndDelegation(ctx, command.As("bob"), "ann", "bob", "")
	require.Equal(t, []string{"outside-right"}, rules(t, err))
	_, err = d.Delegate(ctx, command.As("dora"), g)
	require.Equal(t, []string{"role-required"}, rules(t, err))
}

func TestAnEndedDelegationGivesNoRight(t *testing.T) {
	ctx := context.Background()
	d := open(t, givers)
	later := points(noon.AddDate(0, 0, 9))
	later.From = noon.AddDate(0, 0, 8)
	other := points(noon.AddDate(0, 0, 1))
	other.To = "cleo"
	for _, g := range []command.Delegation{points(noon.Add(time.Hour)), later, other} {
		_, err := d.Delegate(ctx, command.As("ann"), g)
		require.NoError(t, err)
	}
	done, err := d.EndDelegation(ctx, command.As("ann"), "ann", "bob", "back")
	require.NoError(t, err)
	_, payloads := d.all("delegation-")
	require.Equal(t, command.DelegationEnded{Person: "ann", To: "bob", Reason: "back"}, payloads[len(payloads)-1])
	require.Equal(t, []eventstore.Expect{eventstore.At("delegation-ann", 4)}, done.Streams)

	require.Equal(t, []string{"no-delegation"}, rules(t, d.giveFor("bob", "ann")))
	require.NoError(t, d.giveFor("cleo", "ann"), "another's stays")
	d.clock.Advance(8 * 24 * time.Hour)
	require.Equal(t, []string{"no-delegation"}, rules(t, d.giveFor("bob", "ann")), "what was to come is ended too")

	_, err = d.EndDelegation(ctx, command.As("ann"), "ann", "bob", "")
	require.ErrorIs(t, err, command.ErrRefused)
	require.Equal(t, []string{"no-delegation"}, rules(t, err))
	_, err = d.EndDelegation(ctx, command.As("ann"), "ann", "cleo", "")
	require.Equal(t, []string{"no-delegation"}, rules(t, err), "it is over by itself")
	given, err := d.Delegations(ctx, "ann")
	require.NoError(t, err)
	require.Empty(t, given)
}

func TestADelegationEndedWhileItIsUsedIsNotUsed(t *testing.T) {
	d := open(t, givers)
	_, err := d.Delegate(context.Background(), command.As("ann"), points(noon.Add(time.Hour)))
	require.NoError(t, err)
	c := call("bob", "x", 1, "")
	c.Actor = c.Actor.For("ann")
	attempts := 0
	_, err = d.Do(context.Background(), c, func(tx *command.Tx) error {
		if err := work("x", 1)(tx); err != nil {
			return err
		}
		attempts++
		_, err := d.EndDelegation(context.Background(), command.As("ann"), "ann", "bob", "")
		return err
	})
	require.Equal(t, []string{"no-delegation"}, rules(t, err))
	require.Equal(t, 1, attempts)
	records, _ := d.all("account-")
	require.Empty(t, records)
}

func TestADelegationThatIsThereAlreadyIsNotRecordedAgain(t *testing.T) {
	ctx := context.Background()
	d := open(t, givers)
	give := func(change func(*command.Delegation)) bool {
		g := points(noon.Add(time.Hour))
		change(&g)
		done, err := d.Delegate(ctx, command.As("ann"), g)
		require.NoError(t, err)
		return done.Position > 0
	}
	require.True(t, give(func(*command.Delegation) {}))
	d.clock.Advance(time.Second)
	require.False(t, give(func(*command.Delegation) {}))
	require.False(t, give(func(g *command.Delegation) { g.Until = g.Until.Add(-time.Minute) }))
	require.True(t, give(func(g *command.Delegation) { g.Until = g.Until.Add(time.Minute) }), "longer")
	require.True(t, give(func(g *command.Delegation) { g.Actions = []string{"points.give"} }), "other actions")
	require.True(t, give(func(g *command.Delegation) { g.To = "cleo" }), "another person")
	given, err := d.Delegations(ctx, "ann")
	require.NoError(t, err)
	require.Len(t, given, 4)
	d.clock.Advance(time.Hour - time.Second)
	given, err = d.Delegations(ctx, "ann")
	require.NoError(t, err)
	require.Len(t, given, 1, "what is over is not listed")
}

func TestADelegationThatCannotBeMeantIsMalformed(t *testing.T) {
	long := strings.Repeat("a", 129)
	for name, c := range map[string]struct {
		change func(*command.Delegation)
		rules  []string
		field  string
	}{
		"of nobody":                   {func(g *command.Delegation) { g.Person = "" }, []string{"person-required"}, "person"},
		"to nobody":                   {func(g *command.Delegation) { g.To = "" }, []string{"to-required"}, "to"},
		"to oneself":                  {func(g *command.Delegation) { g.To = "ann" }, []string{"delegation-to-oneself"}, "to"},
		"of a long name":              {func(g *command.Delegation) { g.Person = long }, []string{"too-long"}, "person"},
		"to a long name":              {func(g *command.Delegation) { g.To = long }, []string{"too-long"}, "to"},
		"of a name with a line break": {func(g *command.Delegation) { g.Person = "a\nb" }, []string{"not-text"}, "person"},
		"with a long reason":          {func(g *command.Delegation) { g.Reason = strings.Repeat("a", 9000) }, []string{"too-long"}, "reason"},
		"for ever":                    {func(g *command.Delegation) { g.Until = time.Time{} }, []string{"until-required"}, "until"},
		"for ten thousand years":      {func(g *command.Delegation) { g.Until = noon.AddDate(9000, 0, 0) }, []string{"out-of-range"}, "until"},
		"that is over":                {func(g *command.Delegation) { g.Until = noon }, []string{"until-after-from"}, "until"},
		"that ends when it begins":    {func(g *command.Delegation) { g.From = g.Until }, []string{"until-after-from"}, "until"},
		"of a nanosecond":             {func(g *command.Delegation) { g.From = noon; g.Until = noon.Add(1) }, []string{"until-after-from"}, "until"},
		"of nothing":                  {func(g *command.Delegation) { g.Actions = []string{""} }, []string{"action-required"}, "actions[0]"},
		"of something long":           {func(g *command.Delegation) { g.Actions = []string{"x", long} }, []string{"too-long"}, "actions[1]"},
		"of too much":                 {func(g *command.Delegation) { g.Actions = make([]string, 65) }, []string{"too-many"}, "actions"},
		"of the right to delegate":    {func(g *command.Delegation) { g.Actions = []string{"delegation.*"} }, []string{"delegation-chain"}, "actions[0]"},
		"of much": {func(g *command.Delegation) { *g = command.Delegation{Actions: []string{"", "delegation.give"}} },
			[]string{"person-required", "to-required", "until-required", "action-required", "delegation-chain"}, "person"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, nil)
			g := points(noon.Add(time.Hour))
			c.change(&g)
			_, err := d.Delegate(context.Background(), command.As("ann"), g)
			require.ErrorIs(t, err, command.ErrMalformed)
			require.Equal(t, c.rules, rules(t, err))
			require.Equal(t, c.field, err.(*command.Error).Refusals[0].Field)
			head, err := d.memory.Head(context.Background())
			require.NoError(t, err)
			require.Zero(t, head)
		})
	}
	d := open(t, nil)
	_, err := d.EndDelegation(context.Background(), command.As("ann"), "", "", "")
	require.Equal(t, []string{"person-required", "to-required"}, rules(t, err))
	_, err = d.Delegations(context.Background(), "")
	require.Equal(t, []string{"person-required"}, rules(t, err))
	_, err = d.Delegations(context.Background(), "a\x00")
	require.Equal(t, []string{"not-text"}, rules(t, err))
}
