package change_test

import (
	"context"
	"testing"

	"github.com/cockroachdb/apd/v3"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// worth is a content with these amounts; empty is none.
func worth(title, benefit, failure, urgency, cost string) change.Content {
	c := change.Content{Title: title}
	for _, f := range []struct {
		to   **apd.Decimal
		text string
	}{{&c.Benefit, benefit}, {&c.Failure, failure}, {&c.Urgency, urgency}, {&c.Cost, cost}} {
		if f.text != "" {
			*f.to = decimal(f.text)
		}
	}
	return c
}

// DOMAIN 1.2: priority = benefit x (1 - failure probability) x urgency / cost, in
// exact decimals.
func TestPriorityIsExact(t *testing.T) {
	for name, c := range map[string]struct{ benefit, failure, urgency, cost, rank string }{
		"as it is said":         {"1000", "0.25", "2", "300", "5"},
		"no float would do":     {"0.3", "0.9", "1", "0.1", "0.3"}, // 0.3 * (1 - 0.9) / 0.1 in float64 is 0.29999999999999993
		"a third":               {"1", "0", "1", "3", "0.3333333333333333333333333333333333"},
		"two thirds":            {"2", "0", "1", "3", "0.6666666666666666666666666666666667"},
		"beyond float64":        {"9007199254740993", "0", "1", "1", "9007199254740993"},
		"no failure":            {"10", "0.0", "1.0", "4", "2.5"},
		"sure failure":          {"10", "1", "1", "4", "0"},
		"no benefit is a rank":  {"0", "0.5", "1", "4", "0"},
		"urgency of a fraction": {"10", "0.5", "0.5", "4", "0.625"},
	} {
		t.Run(name, func(t *testing.T) {
			rank, unranked, err := change.StandardPriority{}.Priority(t.Context(), change.Change{Content: worth("x", c.benefit, c.failure, c.urgency, c.cost)})
			require.NoError(t, err)
			require.Empty(t, unranked)
			require.Equal(t, c.rank, rank.Text('f'))
		})
	}
}

// DOMAIN 1.2: without cost or benefit a change is unranked, never ranked as if it
// were zero.
func TestWhatIsMissingLeavesAChangeUnranked(t *testing.T) {
	for name, c := range map[string]struct{ benefit, failure, urgency, cost, why string }{
		"no cost":      {"1", "0", "1", "", "it has no cost"},
		"no benefit":   {"", "0", "1", "1", "it has no benefit"},
		"neither":      {"", "0", "1", "", "it has no benefit, no cost"},
		"no failure":   {"1", "", "1", "1", "it has no failure probability"},
		"no urgency":   {"1", "0", "", "1", "it has no urgency"},
		"nothing":      {"", "", "", "", "it has no benefit, no failure probability, no urgency, no cost"},
		"a cost of 0":  {"1", "0", "1", "0", "its cost is 0"},
		"a cost of -0": {"1", "0", "1", "-0", "its cost is 0"},
	} {
		t.Run(name, func(t *testing.T) {
			rank, unranked, err := change.StandardPriority{}.Priority(t.Context(), change.Change{Content: worth("x", c.benefit, c.failure, c.urgency, c.cost)})
			require.NoError(t, err)
			require.Nil(t, rank)
			require.Equal(t, c.why, unranked)
		})
	}
}

func TestTheProbabilityOfTheRiskPolicyGoesBeforeAnEstimate(t *testing.T) {
	c := change.Change{Content: worth("x", "10", "0.9", "1", "1")}
	c.Risk = &change.Receipt{Verdict: change.Verdict{Level: "low", Failure: decimal("0")}}
	rank, _, err := change.StandardPriority{}.Priority(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, "10", rank.Text('f'))
}

// titles returns the titles of a part of the backlog.
func titles(ranked []change.Ranked) []string {
	var all []string
	for _, r := range ranked {
		all = append(all, r.Change.Title)
	}
	return all
}

func TestTheBacklogIsListedByPriorityAndWhatCannotBeRankedApart(t *testing.T) {
	h := open(t, memory.New()).estate()
	raise := func(c change.Content) change.Change { return h.raise(change.Raise{Content: c}) }
	raise(worth("small", "10", "0", "1", "10"))
	raise(worth("no cost", "10", "0", "1", ""))
	raise(worth("great", "10", "0", "1", "1"))
	raise(worth("as great, and later", "100", "0", "1", "10"))
	raise(worth("worthless", "0", "0", "1", "1"))
	raise(worth("free", "10", "0", "1", "0"))
	gone := raise(worth("cancelled", "1000", "0", "1", "1"))
	h.do(carol, gone.ID, change.Cancel{Reason: "no"})
	begun := raise(worth("begun", "1000", "0", "1", "1"))
	begun = h.do(alice, begun.ID, change.Submit{})
	h.approve(bob, begun.ID, "cab")
	h.do(dave, begun.ID, change.Start{})
	h.raise(found())

	ranked, unranked, err := h.changes.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"great", "as great, and later", "small", "worthless"}, titles(ranked))
	require.Equal(t, []string{"no cost", "free"}, titles(unranked), "what has happened or has begun is no backlog")
	require.Equal(t, "0", ranked[3].Rank.Text('f'))
	require.Equal(t, "its cost is 0", unranked[1].Unranked)
}

// ranking is a PriorityPolicy.
type ranking func(change.Change) (*apd.Decimal, string, error)

func (r ranking) Priority(_ context.Context, c change.Change) (*apd.Decimal, string, error) {
	return r(c)
}

func TestAPriorityPolicyOfOnesOwnRanksTheBacklog(t *testing.T) {
	own := ranking(func(c change.Change) (*apd.Decimal, string, error) {
		if c.Category == "" {
			return nil, "nobody has sorted it", nil
		}
		return apd.New(int64(len(c.Category)), 0), "", nil
	})
	h := open(t, memory.New(), func(c *change.Config, _ *command.Config) { c.Priority = own })
	for _, category := range []string{"a", "", "ccc", "bb"} {
		h.raise(change.Raise{Content: change.Content{Title: category + "!", Category: category}})
	}
	ranked, unranked, err := h.changes.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"ccc!", "bb!", "a!"}, titles(ranked))
	require.Equal(t, []string{"!"}, titles(unranked))
}
