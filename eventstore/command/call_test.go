package command_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore/command"
)

func TestACallThatCannotBeMeantIsMalformed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*command.Call)
		rule   string
		field  string
	}{
		"nobody":                       {func(c *command.Call) { c.Actor.ID = "" }, "actor-required", "actor.id"},
		"nothing":                      {func(c *command.Call) { c.Action = "" }, "action-required", "action"},
		"a long actor":                 {func(c *command.Call) { c.Actor.ID = strings.Repeat("a", 129) }, "too-long", "actor.id"},
		"a long principal":             {func(c *command.Call) { c.Actor.OnBehalfOf = strings.Repeat("a", 129) }, "too-long", "actor.on_behalf_of"},
		"a long source":                {func(c *command.Call) { c.Actor.Source = strings.Repeat("a", 256) }, "too-long", "actor.source"},
		"a long action":                {func(c *command.Call) { c.Action = strings.Repeat("a", 129) }, "too-long", "action"},
		"a long target":                {func(c *command.Call) { c.Target = strings.Repeat("a", 256) }, "too-long", "target"},
		"a long reason":                {func(c *command.Call) { c.Reason = strings.Repeat("a", 8<<10+1) }, "too-long", "reason"},
		"a long key":                   {func(c *command.Call) { c.Key = strings.Repeat("a", command.MaxKey+1) }, "too-long", "key"},
		"a long correlation":           {func(c *command.Call) { c.Correlation = strings.Repeat("a", 256) }, "too-long", "correlation"},
		"an actor that is not text":    {func(c *command.Call) { c.Actor.ID = "\xff" }, "not-text", "actor.id"},
		"a NUL":                        {func(c *command.Call) { c.Target = "a\x00" }, "not-text", "target"},
		"a line break in a name":       {func(c *command.Call) { c.Key = "a\nb" }, "not-text", "key"},
		"a bell in a reason":           {func(c *command.Call) { c.Reason = "\a" }, "not-text", "reason"},
		"content that is not JSON":     {func(c *command.Call) { c.Key, c.Content = "k", func() {} }, "content-not-json", "content"},
		"content that is not UTF-8":    {func(c *command.Call) { c.Key, c.Content = "k", "\xff" }, "content-not-json", "content"},
		"content with a channel in it": {func(c *command.Call) { c.Key, c.Content = "k", []any{1, make(chan int)} }, "content-not-json", "content"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, nil)
			asked := call("ann", "x", 1, "")
			c.change(&asked)
			ran := false
			_, err := d.Do(context.Background(), asked, func(*command.Tx) error { ran = true; return nil })
			require.ErrorIs(t, err, command.ErrMalformed)
			require.NotErrorIs(t, err, command.ErrRefused)
			var e *command.Error
			require.ErrorAs(t, err, &e)
			require.Len(t, e.Refusals, 1)
			require.Equal(t, c.rule, e.Refusals[0].Rule)
			require.Equal(t, c.field, e.Refusals[0].Field)
			require.NotEmpty(t, e.Refusals[0].Reason)
			require.NotEmpty(t, e.Refusals[0].Remedy)

			tried, err := d.Try(context.Background(), asked, func(*command.Tx) error { ran = true; return nil })
			require.NoError(t, err)
			require.Equal(t, e.Refusals, tried)

			require.False(t, ran)
			head, err := d.memory.Head(context.Background())
			require.NoError(t, err)
			require.Zero(t, head, "what is malformed is never recorded")
			require.Equal(t, command.Status{Commands: 1, Malformed: 1}, d.Status())
		})
	}
}

func TestAllThatIsWrongWithACallIsNamedAtOnce(t *testing.T) {
	d := open(t, nil)
	_, err := d.Do(context.Background(), command.Call{Key: strings.Repeat("k", 200), Reason: "\xff"}, nil)
	require.Equal(t, []string{"actor-required", "action-required", "not-text", "too-long"}, rules(t, err))
}

func TestACallAtItsLimitsIsTaken(t *testing.T) {
	d := open(t, nil)
	c := command.Call{
		Actor:  command.Actor{ID: strings.Repeat("a", 128), OnBehalfOf: "", Source: strings.Repeat("s", 255)},
		Action: strings.Repeat("x", 128), Target: strings.Repeat("t", 255), Reason: strings.Repeat("\t", 8<<10),
		Key: strings.Repeat("k", command.MaxKey), Correlation: strings.Repeat("c", 255),
	}
	done, err := d.Do(context.Background(), c, work("x", 1))
	require.NoError(t, err)
	require.Len(t, done.Records, 2)

	person := strings.Repeat("p", 128)
	_, err = d.Delegate(context.Background(), command.As(person), command.Delegation{
		Person: person, To: c.Actor.ID, Actions: []string{"*"}, Until: noon.AddDate(0, 0, 1),
	})
	require.NoError(t, err)
	c.Key = ""
	c.Actor.OnBehalfOf = person
	_, err = d.Do(context.Background(), c, work("x", 10))
	require.True(t, command.By(err, "at-most-10"))
	require.Len(t, d.refusals(), 1)
	require.Zero(t, d.Status().Unrecorded)
}
