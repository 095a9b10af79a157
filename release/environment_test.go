package release_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/release"
)

const hour = change.Duration(time.Hour)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// street is a plain graph: dev -> test -> staging -> production.
func street() release.Environments {
	return release.Environments{
		{Name: "production", Production: true, Upstream: []string{"staging"}, Soak: 24 * hour, MinSuccesses: 3},
		{Name: "staging", Upstream: []string{"test"}},
		{Name: "dev"},
		{Name: "test", Upstream: []string{"dev"}},
	}
}

func rules(refused []command.Refusal) []string {
	all := make([]string, len(refused))
	for i, r := range refused {
		all[i] = r.Rule
	}
	return all
}

func TestAGraphInOrder(t *testing.T) {
	require.Empty(t, street().Check())
	require.Equal(t, []string{"dev", "test", "staging", "production"}, street().Order())
	require.Equal(t, []string{"production"}, street().Production())
	found, ok := street().Find("test")
	require.True(t, ok)
	require.Equal(t, []string{"dev"}, found.Upstream)
	_, ok = street().Find("moon")
	require.False(t, ok)
	require.Empty(t, release.Environments(nil).Check())
	require.Empty(t, release.Environments(nil).Order())
}

func TestEveryFaultOfAGraphIsNamed(t *testing.T) {
	stage := &workflow.Stage{Name: "cab", Candidates: []workflow.Candidate{{Group: "cab"}}, Rule: workflow.Rule{Counting: workflow.All}}
	gate := func(g release.Gate) func(e release.Environments) release.Environments {
		return func(e release.Environments) release.Environments { e[1].Gates = []release.Gate{g}; return e }
	}
	for what, test := range map[string]struct {
		change func(release.Environments) release.Environments
		rules  []string
		field  string // of the first
	}{
		"no name": {func(e release.Environments) release.Environments { return append(e, release.Environment{}) }, []string{"name-required"}, "environments[4].name"},
		"a name that streams and CIs could not bear": {func(e release.Environments) release.Environments { return append(e, release.Environment{Name: "a@b"}) }, []string{"bad-name"}, "environments[4].name"},
		"twice":                {func(e release.Environments) release.Environments { return append(e, release.Environment{Name: "dev"}) }, []string{"environment-twice"}, "environments[4].name"},
		"unknown upstream":     {func(e release.Environments) release.Environments { e[2].Upstream = []string{"moon"}; return e }, []string{"unknown-upstream"}, "environments[2].upstream[0]"},
		"upstream twice":       {func(e release.Environments) release.Environments { e[3].Upstream = []string{"dev", "dev"}; return e }, []string{"upstream-twice"}, "environments[3].upstream[1]"},
		"upstream of itself":   {func(e release.Environments) release.Environments { e[2].Upstream = []string{"dev"}; return e }, []string{"environment-cycle"}, "environments"},
		"no production":        {func(e release.Environments) release.Environments { e[0].Production = false; return e }, []string{"no-production"}, "environments"},
		"negative soak":        {func(e release.Environments) release.Environments { e[1].Soak = -1; return e }, []string{"negative-soak"}, "environments[1].soak"},
		"negative minimum":     {func(e release.Environments) release.Environments { e[1].MinSuccesses = -1; return e }, []string{"negative-minimum"}, "environments[1].min_successes"},
		"negative limits":      {func(e release.Environments) release.Environments { e[1].Limits = release.Limits{-1, -1, -1}; return e }, []string{"negative-limit", "negative-limit", "negative-limit"}, "environments[1].limits.failures"},
		"asks nobody":          {func(e release.Environments) release.Environments { e[2].Soak = hour; return e }, []string{"no-upstream"}, "environments[2].upstream"},
		"a title of two lines": {func(e release.Environments) release.Environments { e[2].Title = "a\nb"; return e }, []string{"not-text"}, "environments[2].title"},
		"too many":             {func(release.Environments) release.Environments { return make(release.Environments, 201) }, []string{"too-many"}, "environments"},
		"too many gates":       {func(e release.Environments) release.Environments { e[0].Gates = make([]release.Gate, 51); return e }, []string{"too-many"}, "environments[0].gates"},

		"a gate of no kind":              {gate(release.Gate{Name: "g", Kind: "luck"}), []string{"unknown-kind"}, "environments[1].gates[0].kind"},
		"a gate without a name":          {gate(release.Gate{Kind: release.GateWindow}), []string{"name-required"}, "environments[1].gates[0].name"},
		"a checklist without items":      {gate(release.Gate{Name: "g", Kind: release.GateChecklist}), []string{"bad-gate"}, "environments[1].gates[0].items"},
		"an item twice, one empty":       {gate(release.Gate{Name: "g", Kind: release.GateChecklist, Items: []string{"a", "a", " "}}), []string{"bad-gate", "bad-gate"}, "environments[1].gates[0].items[1]"},
		"evidence of no kind":            {gate(release.Gate{Name: "g", Kind: release.GateEvidence, When: "true"}), []string{"bad-gate"}, "environments[1].gates[0].evidence"},
		"a condition over nothing":       {gate(release.Gate{Name: "g", Kind: release.GateWindow, When: "true"}), []string{"bad-gate"}, "environments[1].gates[0].when"},
		"an approval without a stage":    {gate(release.Gate{Name: "g", Kind: release.GateApproval}), []string{"bad-gate"}, "environments[1].gates[0].stage"},
		"a policy without a name":        {gate(release.Gate{Name: "g", Kind: release.GatePolicyAsk}), []string{"bad-gate"}, "environments[1].gates[0].policy"},
		"what a kind has no use for":     {gate(release.Gate{Name: "g", Kind: release.GateChange, Items: []string{"a"}, Stage: stage}), []string{"bad-gate", "bad-gate"}, "environments[1].gates[0].items"},
		"a stage that asks nobody":       {gate(release.Gate{Name: "g", Kind: release.GateApproval, Stage: &workflow.Stage{Name: "cab", Rule: stage.Rule}}), []string{"stage-without-candidates"}, "environments[1].gates[0].stage"},
		"a stage that counts in no way":  {gate(release.Gate{Name: "g", Kind: release.GateApproval, Stage: &workflow.Stage{Name: "cab", Candidates: stage.Candidates}}), []string{"bad-rule"}, "environments[1].gates[0].stage"},
		"a stage with a broken deadline": {gate(release.Gate{Name: "g", Kind: release.GateApproval, Stage: &workflow.Stage{Name: "cab", Candidates: stage.Candidates, Rule: stage.Rule, Deadline: -1}}), []string{"negative-duration"}, "environments[1].gates[0].stage"},
	} {
		t.Run(what, func(t *testing.T) {
			refused := test.change(street()).Check()
			require.Equal(t, test.rules, rules(refused), "%v", refused)
			require.Equal(t, test.field, refused[0].Field)
			for _, r := range refused {
				require.Equal(t, command.Malformed, r.Kind)
				require.NotEmpty(t, r.Reason)
				require.NotEmpty(t, r.Remedy)
				require.NotContains(t, r.String(), "%!")
			}
		})
	}
	sound := street()
	sound[1].Gates = []release.Gate{
		{Name: "authorised", Kind: release.GateChange}, {Name: "open", Kind: release.GateWindow}, {Name: "ready", Kind: release.GateChecklist, Items: []string{"support knows"}},
		{Name: "tests", Kind: release.GateEvidence, Evidence: "tests", When: "true"}, {Name: "cab", Kind: release.GateApproval, Stage: stage}, {Name: "own", Kind: release.GatePolicyAsk, Policy: "own"},
	}
	require.Empty(t, sound.Check())
	sound[1].Gates[1].Name = "authorised"
	require.Equal(t, []string{"gate-twice"}, rules(sound.Check()))
}

func TestACycleIsNamedUpstreamFirst(t *testing.T) {
	e := street()
	e[2].Upstream = []string{"staging"} // dev after staging
	refused := e.Check()
	require.Equal(t, []string{"environment-cycle"}, rules(refused))
	require.Contains(t, refused[0].Reason, "staging -> dev -> test -> staging")
	require.Equal(t, []string{"production", "staging", "dev", "test"}, e.Order(), "all of them are there")
}

// Promotion, DOMAIN 3: verified upstream (all or one of), a soak time of
// continuous occupation, a minimum of N successful targets; holds.
func TestPromotion(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	staging := func(verified bool, since, until time.Time, successes int) release.Standing {
		return release.Standing{Environment: "staging", Version: "16", Verified: verified, Since: since, Until: until, Successes: successes}
	}
	held := func(environment string) release.Standing {
		return release.Standing{Environment: environment, Version: "16", Verified: true, Since: ago(48 * time.Hour), Successes: 3, Held: true}
	}
	for what, test := range map[string]struct {
		to        string
		standings []release.Standing
		rules     []string
		says      string // of the first refusal
	}{
		"all of it":                       {"production", []release.Standing{staging(true, ago(48*time.Hour), time.Time{}, 3)}, []string{}, ""},
		"the soak is over to the instant": {"production", []release.Standing{staging(true, ago(24*time.Hour), time.Time{}, 3)}, []string{}, ""},
		"an instant before":               {"production", []release.Standing{staging(true, ago(24*time.Hour-1), time.Time{}, 3)}, []string{"soak-not-over"}, "wait until 2026-11-24 12:00:00 UTC"},
		"never there":                     {"production", nil, []string{"upstream-not-verified"}, "never in staging"},
		"elsewhere does not count":        {"production", []release.Standing{held("test")}, []string{"upstream-not-verified"}, "never in staging"},
		"not verified":                    {"production", []release.Standing{staging(false, ago(48*time.Hour), time.Time{}, 3)}, []string{"upstream-not-verified"}, "version 16 is not verified in staging"},
		"too few took it":                 {"production", []release.Standing{staging(true, ago(48*time.Hour), time.Time{}, 2)}, []string{"too-few-successes"}, "2 targets in staging"},
		"nothing of it":                   {"production", []release.Standing{staging(false, ago(time.Hour), time.Time{}, 0)}, []string{"upstream-not-verified", "soak-not-over", "too-few-successes"}, "not verified"},
		"since when is not known":         {"production", []release.Standing{staging(true, time.Time{}, time.Time{}, 3)}, []string{"soak-not-over"}, "not known since when"},
		"from a clock that was ahead":     {"production", []release.Standing{staging(true, noon.Add(time.Hour), time.Time{}, 3)}, []string{"soak-not-over"}, "wait until"},
		"soaked, then replaced":           {"production", []release.Standing{staging(true, ago(48*time.Hour), ago(time.Hour), 3)}, []string{}, ""},
		"replaced too early":              {"production", []release.Standing{staging(true, ago(48*time.Hour), ago(25*time.Hour), 3)}, []string{"soak-not-over"}, "deploy it there again"},
		"two breaks are no long stay": {"production", []release.Standing{
			staging(true, ago(40*time.Hour), ago(20*time.Hour), 3), staging(true, ago(20*time.Hour), time.Time{}, 3),
		}, []string{"soak-not-over"}, "has been in staging since"},
		"one occupation has it all, another nothing": {"production", []release.Standing{
			staging(true, ago(48*time.Hour), ago(20*time.Hour), 3), staging(false, ago(time.Hour), time.Time{}, 0),
		}, []string{}, ""},
		"what one lacks another does not give": {"production", []release.Standing{
			staging(true, ago(48*time.Hour), ago(20*time.Hour), 0), staging(true, ago(time.Hour), time.Time{}, 3),
		}, []string{"soak-not-over"}, "wait until"},
		"upstream on hold":         {"production", []release.Standing{held("staging")}, []string{"on-hold"}, "staging is on hold"},
		"itself on hold":           {"production", []release.Standing{staging(true, ago(48*time.Hour), time.Time{}, 3), held("production")}, []string{"on-hold"}, "production is on hold"},
		"on hold further upstream": {"production", []release.Standing{staging(true, ago(48*time.Hour), time.Time{}, 3), held("dev")}, []string{}, ""},
		"to the first one":         {"dev", nil, []string{}, ""},
		"the first one on hold":    {"dev", []release.Standing{held("dev"), held("dev")}, []string{"on-hold"}, "dev is on hold"},
		"nowhere":                  {"moon", nil, []string{"unknown-environment"}, "production, staging, dev, test"},
	} {
		t.Run(what, func(t *testing.T) {
			refused := street().Promotion(test.to, test.standings, noon)
			require.Equal(t, test.rules, rules(refused), "%v", refused)
			if len(refused) > 0 {
				require.Contains(t, refused[0].String(), test.says)
			}
			slices.Reverse(test.standings)
			require.Equal(t, test.rules, rules(street().Promotion(test.to, test.standings, noon)), "in any order")
		})
	}
}

func TestOneOfSeveralUpstreamsIsEnoughWhereItIsSaid(t *testing.T) {
	e := release.Environments{{Name: "eu"}, {Name: "us"}, {Name: "prod", Production: true, Upstream: []string{"eu", "us"}}}
	eu := release.Standing{Environment: "eu", Version: "2", Verified: true}
	require.Equal(t, []string{"upstream-not-verified"}, rules(e.Promotion("prod", []release.Standing{eu}, noon)), "every one by default")
	e[2].AnyUpstream = true
	require.Empty(t, e.Promotion("prod", []release.Standing{eu}, noon))
	require.Equal(t, []string{"upstream-not-verified", "upstream-not-verified"}, rules(e.Promotion("prod", nil, noon)))
	eu.Held = true
	require.Equal(t, []string{"on-hold", "upstream-not-verified"}, rules(e.Promotion("prod", []release.Standing{eu}, noon)), "a hold does not count as one")
	us := release.Standing{Environment: "us", Version: "2", Verified: true}
	require.Empty(t, e.Promotion("prod", []release.Standing{eu, us}, noon))
	own := release.Standing{Environment: "prod", Version: "1", Held: true}
	require.Equal(t, []string{"on-hold"}, rules(e.Promotion("prod", []release.Standing{us, own}, noon)))
}

func TestAnOrderIsTopologicalOrTheGraphIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "n")
		e := make(release.Environments, n)
		for i := range e {
			e[i] = release.Environment{Name: fmt.Sprint("e", i), Production: i == 0}
			for k := range n {
				if rapid.IntRange(0, 4).Draw(t, "edge") == 0 {
					e[i].Upstream = append(e[i].Upstream, fmt.Sprint("e", k))
				}
			}
		}
		order := e.Order()
		require.Len(t, order, n)
		topological := true
		for _, one := range e {
			at := slices.Index(order, one.Name)
			require.GreaterOrEqual(t, at, 0)
			for _, up := range one.Upstream {
				topological = topological && slices.Index(order, up) < at
			}
		}
		refused := e.Check()
		require.Equal(t, topological, len(refused) == 0, "%v: %v", order, refused)
		for _, r := range refused {
			require.Equal(t, "environment-cycle", r.Rule)
		}
	})
}

func TestASoakOnceOverStaysOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := street()
		e[0].AnyUpstream = rapid.Bool().Draw(t, "any")
		e[0].Upstream = []string{"staging", "test"}
		var standings []release.Standing
		for range rapid.IntRange(0, 5).Draw(t, "standings") {
			s := release.Standing{
				Environment: rapid.SampledFrom([]string{"staging", "test", "production"}).Draw(t, "environment"), Version: "16",
				Verified: rapid.IntRange(0, 3).Draw(t, "verified") > 0, Since: noon.Add(time.Duration(rapid.IntRange(-60, 30).Draw(t, "since")) * time.Hour),
				Successes: rapid.IntRange(2, 4).Draw(t, "successes"), Held: rapid.IntRange(0, 9).Draw(t, "held") == 0,
			}
			if rapid.IntRange(0, 2).Draw(t, "ended") == 0 {
				s.Until = s.Since.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "stay")) * time.Hour)
			}
			standings = append(standings, s)
		}
		early := noon.Add(time.Duration(rapid.IntRange(-40, 40).Draw(t, "now")) * time.Hour)
		late := early.Add(time.Duration(rapid.IntRange(0, 80).Draw(t, "later")) * time.Hour)
		before, after := e.Promotion("production", standings, early), e.Promotion("production", standings, late)
		if len(before) == 0 {
			require.Empty(t, after)
		}
		require.LessOrEqual(t, len(after), len(before))
	})
}
