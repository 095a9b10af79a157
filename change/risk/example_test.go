package risk_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
)

func ExampleMax() {
	policy := risk.Max(
		risk.LeadTime(24*time.Hour),
		risk.BlastRadius(),
		risk.Rules(risk.Low, risk.Rule{When: `"payment" in classes && !backout`, Level: risk.Critical, Why: "a payment system without a way back"}),
	)
	if err := policy.Err(); err != nil {
		fmt.Println(err)
		return
	}
	verdict, err := policy.Assess(context.Background(), change.Facts{
		Planned: true, LeadTime: change.Of(72 * time.Hour), Backout: true,
		CIs: []change.FactCI{{ID: "db-01", Class: "database"}}, Impacted: 12,
		Criticality: []change.Counted{{Name: "critical", Count: 1}, {Name: "low", Count: 12}},
		Classes:     []change.Counted{{Name: "database", Count: 1}, {Name: "payment", Count: 1}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(verdict.Level)
	for _, e := range verdict.Engines {
		fmt.Println("-", e.Engine, "says", e.Level)
		for _, why := range e.Why {
			fmt.Println("   ", why)
		}
	}
	// Output:
	// high
	// - lead-time says low
	//     it starts in 72h: 24h or more of lead time is low
	// - blast-radius says high
	//     1 critical CI: 1 or more is high
	//     12 CIs are impacted: 10 or more is moderate
	// - rules says low
	//     no rule holds
}

// A questionnaire whose thresholds leave a score out is refused when it is built.
func ExampleQuestionnaire() {
	questions := []risk.Question{
		{ID: "rehearsed", Text: "Has it been rehearsed?", Choices: []risk.Choice{{Text: "yes", Value: 0}, {Text: "no", Value: 4}}},
		{ID: "outage", Text: "How long may it be down?", Weight: "2", Choices: []risk.Choice{{Text: "not at all", Value: 0}, {Text: "minutes", Value: 1}, {Text: "hours", Value: 3}}},
	}
	broken := risk.Questionnaire("Release risk", questions, risk.Threshold{Level: risk.Low, To: "4"}, risk.Threshold{Level: risk.High, From: "6"})
	fmt.Println(broken.Err())

	policy := risk.Questionnaire("Release risk", questions, risk.Threshold{Level: risk.Low, To: "4"}, risk.Threshold{Level: risk.High, Above: "4"})
	for _, answers := range [][]change.Answer{
		{{Question: "outage", Value: 1}, {Question: "rehearsed", Value: 4}},
		{{Question: "outage", Value: 1}},
	} {
		verdict, err := policy.Assess(context.Background(), change.Facts{Answers: answers})
		fmt.Println(verdict.Level, verdict.Why, err)
	}
	// Output:
	// questionnaire: gap: no threshold has the score 5, and the score goes from 0 to 10: cover it
	// high [the score is 6: above 4 is high] <nil>
	// critical [question "rehearsed" is not answered, so it counts as critical] <nil>
}

// A policy is a text, and a receipt that was judged by it can be judged again.
func ExampleAgain() {
	policy := risk.LeadTime(24 * time.Hour)
	fmt.Println(policy.Policy().Text)

	facts := change.Facts{Model: "normal", Planned: true, LeadTime: 3600}
	verdict, _ := policy.Assess(context.Background(), facts)
	digest, _ := facts.Digest()
	receipt := change.Receipt{Policy: policy.Policy(), Facts: facts, Digest: digest, Verdict: verdict}

	again, err := risk.Again(context.Background(), receipt, policy.Policy().Text)
	fmt.Println(risk.Same(verdict, again), err)

	receipt.Facts.LeadTime = 100_000
	_, err = risk.Again(context.Background(), receipt, policy.Policy().Text)
	fmt.Println(err != nil)
	// Output:
	// {"format":"rollforward-risk-1","scale":["low","moderate","high","critical"],"policy":{"id":"lead-time","lead_time":{"rungs":[{"under":"24h0m0s","level":"high"}]}}}
	// true <nil>
	// true
}

func ExampleCEL() {
	conditions := risk.CEL()
	condition, err := conditions.Compile(`criticality.critical > 0 || compare(cost, "10000.50") > 0`)
	if err != nil {
		fmt.Println(err)
		return
	}
	facts := change.Facts{Criticality: []change.Counted{{Name: "critical", Count: 2}}}
	fmt.Println(condition.Holds(facts.Map()))

	_, err = conditions.Compile(`critcality.critical > 0`)
	fmt.Println(err)
	// Output:
	// true <nil>
	// condition at 1:1: unknown-name: undeclared reference to 'critcality' (did you mean 'criticality'?); there are answers, backout, benefit, category, change, cis, classes, conflicts, cost, criticality, degraded, deltas, environments, group, history, impacted, impacted_cis, lead_time, model, origin, outage, planned, risk, template, tested, timed, urgency
}
