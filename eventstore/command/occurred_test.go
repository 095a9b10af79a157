package command_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

func backdating(c *command.Config) { c.Backdating = true }

// of returns a call that says when it happened.
func of(at time.Time, key string) command.Call {
	c := call("ann", "x", 3, key)
	c.OccurredAt = at
	return c
}

func occurredAt(t *testing.T, r eventstore.Recorded) time.Time {
	meta, err := eventstore.DecodeMetadata(r.Meta)
	require.NoError(t, err)
	return meta.OccurredAt
}

func TestACommandSaysWhenItHappenedWhereHistoryIsBroughtIn(t *testing.T) {
	d := open(t, backdating)
	zone := time.FixedZone("CET", 3600)
	at := time.Date(2019, 5, 2, 10, 0, 0, 1_999, zone)
	seen := time.Time{}
	done, err := d.Do(t.Context(), of(at, "k"), func(tx *command.Tx) error {
		seen = tx.Now
		return work("x", 3)(tx)
	})
	require.NoError(t, err)
	want := time.Date(2019, 5, 2, 9, 0, 0, 1_000, time.UTC)
	require.Equal(t, want, seen)
	require.Len(t, done.Records, 2)
	for _, r := range done.Records {
		require.Equal(t, want, occurredAt(t, r))
	}

	again, err := d.Do(t.Context(), of(at.Add(time.Hour), "k"), work("x", 3))
	require.NoError(t, err, "the time is no part of what the key stands for")
	require.True(t, again.Repeated)

	now, err := d.give("ann", "y", 1, "")
	require.NoError(t, err)
	require.Equal(t, noon, occurredAt(t, now.Records[0]), "what says nothing happens now")
	_, err = d.Do(t.Context(), of(noon, ""), work("x", 1))
	require.NoError(t, err, "now is no time that is still to come")
}

func TestATimeThatIsNotPossibleIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		open func(*command.Config)
		at   time.Time
		rule string
		kind command.Kind
	}{
		"where all happens now": {nil, noon.Add(-time.Hour), "backdating", command.Denied},
		"still to come":         {backdating, noon.Add(time.Microsecond), "still-to-come", command.Malformed},
		"two digits of a year":  {backdating, noon.AddDate(-2000, 0, 0), "too-early", command.Malformed},
		"before the year 1":     {backdating, noon.AddDate(-4000, 0, 0), "too-early", command.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, c.open)
			ran := false
			_, err := d.Do(t.Context(), of(c.at, "k"), func(*command.Tx) error { ran = true; return nil })
			require.Equal(t, []string{c.rule}, rules(t, err))
			require.Equal(t, c.kind, err.(*command.Error).Refusals[0].Kind)
			require.Equal(t, "occurred_at", err.(*command.Error).Refusals[0].Field)
			require.NotEmpty(t, err.(*command.Error).Refusals[0].Remedy)
			require.False(t, ran)
			refusals, err := d.Try(t.Context(), of(c.at, ""), func(*command.Tx) error { ran = true; return nil })
			require.NoError(t, err)
			require.Equal(t, []string{c.rule}, named(refusals))
			require.False(t, ran)

			records, _ := d.all("refusals-")
			if c.kind == command.Malformed {
				require.Empty(t, records)
				return
			}
			require.Len(t, records, 1)
			require.Equal(t, "refusals-2026-03", records[0].Stream)
			require.Equal(t, noon, occurredAt(t, records[0]), "a time that was not accepted is not recorded as one")
		})
	}
}

// Refusals are counted when they come: history that is brought in cannot get around
// the limit by its times.
func TestRefusalsOfHistoryAreCountedWhenTheyCome(t *testing.T) {
	d := open(t, backdating)
	refuse := refusing(command.Refusal{Rule: "at-most-10", Reason: "it has 9"})
	for i := range 30 {
		_, err := d.Do(t.Context(), of(noon.AddDate(0, -i, 0), ""), refuse)
		require.Equal(t, []string{"at-most-10"}, rules(t, err))
	}
	require.Len(t, d.refusals(), 10)
	records, _ := d.all("refusals-")
	for i, r := range records {
		require.Equal(t, "refusals-2026-03", r.Stream)
		require.Equal(t, noon.AddDate(0, -i, 0), occurredAt(t, r))
	}
}

func TestADelegationIsHeldAgainstTheTimeOfTheCommand(t *testing.T) {
	d := open(t, backdating)
	require.NoError(t, grant(d, "ann", "bob")) // for a day
	d.clock.Advance(60 * 24 * time.Hour)
	for _, c := range []struct {
		at   time.Time
		want []string
	}{
		{noon.Add(-time.Hour), []string{"no-delegation"}},
		{noon.Add(time.Hour), nil},
		{noon.AddDate(0, 0, 2), []string{"no-delegation"}},
		{time.Time{}, []string{"no-delegation"}},
	} {
		call := of(c.at, "")
		call.Actor = command.As("bob").For("ann")
		refusals, err := d.Try(t.Context(), call, work("x", 1))
		require.NoError(t, err)
		require.Equal(t, c.want, named(refusals), "%s", c.at)
	}
}
