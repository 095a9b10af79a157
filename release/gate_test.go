package release_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/release"
)

// Roll-up, DOMAIN 3: any not run, not run; any fail, fail; any waived, passed with
// exception; else passed.
func TestRollUp(t *testing.T) {
	of := func(states ...release.GateState) release.RollUpState {
		var results []release.GateResult
		for _, s := range states {
			results = append(results, release.GateResult{State: s})
		}
		return release.RollUp(results)
	}
	pass, fail, waived, not := release.GatePassed, release.GateFailed, release.GateExcused, release.GateNotRun
	require.Equal(t, release.RollUpPassed, of())
	require.Equal(t, release.RollUpPassed, of(pass, pass))
	require.Equal(t, release.RollUpException, of(pass, waived, pass))
	require.Equal(t, release.RollUpFailed, of(pass, waived, fail))
	require.Equal(t, release.RollUpNotRun, of(not, waived, fail, pass))
	require.Equal(t, release.RollUpNotRun, of(pass, ""), "what is not known is not run")
	require.Equal(t, release.RollUpNotRun, of("perhaps"))
	for state, open := range map[release.RollUpState]bool{
		release.RollUpPassed: true, release.RollUpException: true, release.RollUpFailed: false, release.RollUpNotRun: false, "": false,
	} {
		require.Equal(t, open, state.Open(), state)
	}
}

// The states are ordered, not run the lowest, and gates together stand as the
// lowest of them: in whatever order, however grouped, however often.
func TestRollUpIsTheLowest(t *testing.T) {
	rank := map[release.GateState]int{release.GateNotRun: 0, release.GateFailed: 1, release.GateExcused: 2, release.GatePassed: 3}
	together := []release.RollUpState{release.RollUpNotRun, release.RollUpFailed, release.RollUpException, release.RollUpPassed}
	rapid.Check(t, func(t *rapid.T) {
		var results []release.GateResult
		lowest := 3
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			s := rapid.SampledFrom([]release.GateState{release.GateNotRun, release.GateFailed, release.GateExcused, release.GatePassed}).Draw(t, "state")
			lowest = min(lowest, rank[s])
			results = append(results, release.GateResult{State: s})
		}
		require.Equal(t, together[lowest], release.RollUp(results))
	})
}

func authorised(id string, cis ...string) change.Change {
	return change.Change{
		ID: id, Kind: change.KindScheduled, Scope: "s1", Authorized: &change.Authorized{Scope: "s1", By: "stages cab", At: noon}, Content: change.Content{CIs: cis},
	}
}

func timing(answer change.TimingAnswer, conflicts ...change.Conflict) *change.Timing {
	return &change.Timing{Answer: answer, Count: len(conflicts), Conflicts: conflicts}
}

// Gates, DOMAIN 3. What is unknown is not run, never pass.
func TestGates(t *testing.T) {
	changed := func(f func(*change.Change)) release.GateInput {
		c := authorised("CHG-000001", "db-01")
		f(&c)
		return release.GateInput{Changes: []change.Change{c}, CIs: []string{"db-01"}}
	}
	blackout := change.Conflict{Rule: "blackout", Effect: change.Block, Why: "the books are closed"}
	overridden := blackout
	overridden.Resolved = &change.Resolution{By: "mary", Why: "the board wants it"}
	warning := change.Conflict{Rule: "freeze", Effect: change.Warn, Why: "feature freeze"}
	checks := func(list ...release.ItemCheck) release.GateInput { return release.GateInput{Checks: list} }
	tests := release.Evidence{Kind: "tests", Scope: "s1", By: "ci", At: noon}
	old := release.Evidence{Kind: "tests", Scope: "s0", By: "ci", At: noon}

	authorisedGate := release.Gate{Name: "g", Kind: release.GateChange}
	window := release.Gate{Name: "g", Kind: release.GateWindow}
	list := release.Gate{Name: "g", Kind: release.GateChecklist, Items: []string{"support", "rollback"}}
	evidence := release.Gate{Name: "g", Kind: release.GateEvidence, Evidence: "tests"}
	approval := release.Gate{Name: "g", Kind: release.GateApproval}
	policy := release.Gate{Name: "g", Kind: release.GatePolicyAsk, Policy: "own"}

	for what, test := range map[string]struct {
		gate  release.Gate
		in    release.GateInput
		state release.GateState
		says  string
		by    string
	}{
		"no change":                  {authorisedGate, release.GateInput{CIs: []string{"db-01"}}, release.GateNotRun, "no change is bound", ""},
		"authorised":                 {authorisedGate, changed(func(*change.Change) {}), release.GatePassed, "CHG-000001", "stages cab"},
		"declared by a delta":        {authorisedGate, changed(func(c *change.Change) { c.CIs, c.Deltas = nil, []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")} }), release.GatePassed, "CHG-000001", "stages cab"},
		"not authorised":             {authorisedGate, changed(func(c *change.Change) { c.Authorized = nil }), release.GateFailed, "CHG-000001 is not authorised; no authorised change declares db-01", ""},
		"authorised as it was":       {authorisedGate, changed(func(c *change.Change) { c.Scope = "s2" }), release.GateFailed, "as something else", ""},
		"on hold":                    {authorisedGate, changed(func(c *change.Change) { c.Held = &change.Held{Reason: "audit"} }), release.GateFailed, "on hold: audit", ""},
		"cancelled":                  {authorisedGate, changed(func(c *change.Change) { c.Kind = change.KindCanceled }), release.GateFailed, "is cancelled", ""},
		"refused afterwards":         {authorisedGate, changed(func(c *change.Change) { c.Unauthorized = &change.Unauthorized{Why: "nobody asked"} }), release.GateFailed, "was refused: nobody asked", ""},
		"of another CI":              {authorisedGate, changed(func(c *change.Change) { c.CIs = []string{"db-02"} }), release.GateFailed, "no authorised change declares db-01", ""},
		"one of two not":             {authorisedGate, release.GateInput{Changes: []change.Change{authorised("CHG-000001", "db-01"), {ID: "CHG-000002"}}, CIs: []string{"db-01"}}, release.GateFailed, "CHG-000002 is not authorised", ""},
		"each declares one":          {authorisedGate, release.GateInput{Changes: []change.Change{authorised("CHG-000002", "db-02"), authorised("CHG-000001", "db-01")}, CIs: []string{"db-01", "db-02"}}, release.GatePassed, "CHG-000001, CHG-000002", "stages cab"},
		"nobody asked":               {window, release.GateInput{}, release.GateNotRun, "was not asked", ""},
		"clear":                      {window, release.GateInput{Timing: timing(change.TimingClear)}, release.GatePassed, "nothing stands", ""},
		"not run":                    {window, release.GateInput{Timing: timing(change.TimingNotRun)}, release.GateNotRun, "not run", ""},
		"not applicable":             {window, release.GateInput{Timing: timing(change.TimingNotApplicable)}, release.GateNotRun, "not applicable", ""},
		"no answer":                  {window, release.GateInput{Timing: timing("")}, release.GateNotRun, "", ""},
		"a blackout":                 {window, release.GateInput{Timing: timing(change.TimingConflict, blackout)}, release.GateFailed, "blackout: the books are closed", ""},
		"a blackout called clear":    {window, release.GateInput{Timing: timing(change.TimingClear, blackout)}, release.GateFailed, "blackout", ""},
		"overridden":                 {window, release.GateInput{Timing: timing(change.TimingConflict, overridden)}, release.GatePassed, "blackout, by mary: the board wants it", ""},
		"a warning":                  {window, release.GateInput{Timing: timing(change.TimingConflict, warning)}, release.GatePassed, "do not block: 1", ""},
		"one overridden, one not":    {window, release.GateInput{Timing: timing(change.TimingConflict, overridden, blackout)}, release.GateFailed, "blackout", ""},
		"conflicts not listed":       {window, release.GateInput{Timing: &change.Timing{Answer: change.TimingConflict, Count: 3}}, release.GateNotRun, "lists none", ""},
		"nothing checked":            {list, release.GateInput{}, release.GateNotRun, "support, rollback", ""},
		"one checked":                {list, checks(release.ItemCheck{Item: "support", Go: true}), release.GateNotRun, "go or no-go: rollback", ""},
		"all go":                     {list, checks(release.ItemCheck{Item: "rollback", Go: true, By: "rob", At: noon.Add(time.Hour)}, release.ItemCheck{Item: "support", Go: true, By: "sue", At: noon}), release.GatePassed, "go for all of 2", "rob"},
		"one no-go":                  {list, checks(release.ItemCheck{Item: "support", By: "sue", Note: "on holiday"}), release.GateFailed, "no-go: support (on holiday)", "sue"},
		"the last answer counts":     {list, checks(release.ItemCheck{Item: "support", By: "sue"}, release.ItemCheck{Item: "rollback", Go: true, By: "rob"}, release.ItemCheck{Item: "support", Go: true, By: "sam", At: noon}), release.GatePassed, "go for all", "sam"},
		"an empty checklist":         {release.Gate{Name: "g", Kind: release.GateChecklist}, release.GateInput{}, release.GateNotRun, "", ""},
		"no evidence":                {evidence, release.GateInput{Evidence: []release.Evidence{{Kind: "coverage"}}}, release.GateNotRun, `no evidence of kind "tests"`, ""},
		"evidence":                   {evidence, release.GateInput{Evidence: []release.Evidence{old, tests}, Scope: "s1"}, release.GatePassed, "is there", "ci"},
		"evidence of something else": {evidence, release.GateInput{Evidence: []release.Evidence{tests, old}, Scope: "s1"}, release.GateNotRun, "before", "ci"},
		"a condition not compiled":   {release.Gate{Name: "g", Kind: release.GateEvidence, Evidence: "tests", When: "true"}, release.GateInput{Evidence: []release.Evidence{tests}}, release.GateNotRun, "not compiled", "ci"},
		"not approved yet":           {approval, release.GateInput{}, release.GateNotRun, "nobody was asked", ""},
		"approved":                   {approval, release.GateInput{Approvals: map[string]release.GateAnswer{"g": {State: release.GatePassed, By: "bob"}}}, release.GatePassed, "", "bob"},
		"rejected":                   {approval, release.GateInput{Approvals: map[string]release.GateAnswer{"g": {State: release.GateFailed, Why: "no"}}}, release.GateFailed, "no", ""},
		"another one approved":       {approval, release.GateInput{Approvals: map[string]release.GateAnswer{"h": {State: release.GatePassed}}}, release.GateNotRun, "", ""},
		"policy not asked":           {policy, release.GateInput{Approvals: map[string]release.GateAnswer{"g": {State: release.GatePassed}}}, release.GateNotRun, `policy "own" was not asked`, ""},
		"policy says yes":            {policy, release.GateInput{Policies: map[string]release.GateAnswer{"g": {State: release.GatePassed}}}, release.GatePassed, "", ""},
		"policy says nothing":        {policy, release.GateInput{Policies: map[string]release.GateAnswer{"g": {}}}, release.GateNotRun, "is no answer", ""},
		"policy cannot waive":        {policy, release.GateInput{Policies: map[string]release.GateAnswer{"g": {State: release.GateExcused}}}, release.GateNotRun, "", ""},
		"no kind":                    {release.Gate{Name: "g"}, release.GateInput{}, release.GateNotRun, "no kind of gate", ""},
	} {
		t.Run(what, func(t *testing.T) {
			test.in.Now = noon
			r := test.gate.Evaluate(test.in)
			require.Equal(t, test.state, r.State, r.Why)
			require.Contains(t, r.Why, test.says)
			require.Equal(t, test.by, r.By)
			require.Equal(t, "g", r.Gate)
			require.Equal(t, test.gate.Kind, r.Kind)
			require.Nil(t, r.Waiver)
		})
	}
}

func TestAWaiverCountsUntilItExpiresAndWhereItIsNeeded(t *testing.T) {
	e := release.Environment{Gates: []release.Gate{{Name: "open", Kind: release.GateWindow}, {Name: "own", Kind: release.GatePolicyAsk, Policy: "own"}}}
	w := release.Waiver{By: "mary", Why: "the board wants it", At: noon.Add(-time.Hour), Until: noon.Add(time.Hour)}
	in := release.GateInput{
		Now: noon, Timing: timing(change.TimingClear), Policies: map[string]release.GateAnswer{"own": {State: release.GateFailed, Why: "too big"}},
		Waivers: map[string]release.Waiver{"own": w, "open": w},
	}
	results := e.Evaluate(in)
	require.Equal(t, release.GatePassed, results[0].State)
	require.Nil(t, results[0].Waiver, "what has passed needs none")
	require.Equal(t, release.GateExcused, results[1].State)
	require.Equal(t, "waived by mary until 2026-11-24 13:00:00 UTC: the board wants it; otherwise fail: too big", results[1].Why)
	require.Equal(t, w, *results[1].Waiver)
	require.Equal(t, "mary", results[1].By)
	require.Equal(t, release.RollUpException, release.RollUp(results))

	in.Now = w.Until // half open: it does not count any more
	expired := e.Evaluate(in)[1]
	require.Equal(t, release.GateFailed, expired.State)
	require.Contains(t, expired.Why, "too big; the waiver of mary expired at 2026-11-24 13:00:00 UTC")

	in.Now, in.Policies = noon, nil
	require.Equal(t, release.GateExcused, e.Evaluate(in)[1].State, "also what was not run")
}

type broken struct{}

func (broken) Holds(map[string]any) (bool, error) { return true, errors.New("out of order") }

// Conditions over evidence are those of change/risk; DOMAIN 3 asks for CEL.
func TestConditionsOverEvidence(t *testing.T) {
	const sound, late = `category == "tests" && "failed" in answers && answers["failed"] == 0`, `answers["failed"] <= 2`
	e := release.Environments{{Name: "production", Production: true, Gates: []release.Gate{
		{Name: "tests", Kind: release.GateEvidence, Evidence: "tests", When: sound},
		{Name: "again", Kind: release.GateEvidence, Evidence: "tests", When: late},
	}}}
	conditions, refused := e.Compile(risk.CEL())
	require.Empty(t, refused)
	require.Len(t, conditions, 2)
	judge := func(values map[string]string) []release.GateResult {
		return e[0].Evaluate(release.GateInput{Now: noon, Conditions: conditions, Evidence: []release.Evidence{{Kind: "tests", Values: values, By: "ci"}}})
	}
	require.Equal(t, release.RollUpPassed, release.RollUp(judge(map[string]string{"failed": "0"})))
	results := judge(map[string]string{"failed": "1"})
	require.Equal(t, release.GateFailed, results[0].State)
	require.Contains(t, results[0].Why, "it does not hold: "+sound)
	require.Equal(t, release.GatePassed, results[1].State)
	results = judge(map[string]string{"failed": "0.5", "coverage": "87.5"})
	require.Equal(t, release.GateFailed, results[0].State, "there is no whole number")
	require.Equal(t, release.GateNotRun, results[1].State, "an error is never a pass")
	require.Contains(t, results[1].Why, "cannot be evaluated")

	r := e[0].Gates[0].Evaluate(release.GateInput{Conditions: map[string]change.Condition{sound: broken{}}, Evidence: []release.Evidence{{Kind: "tests"}}})
	require.Equal(t, release.GateNotRun, r.State, "also where it says that it holds")

	e[0].Gates[0].When = "answers[" // broken
	conditions, refused = e.Compile(risk.CEL())
	require.Equal(t, []string{"bad-condition"}, rules(refused))
	require.Equal(t, "environments[0].gates[0].when", refused[0].Field)
	require.Len(t, conditions, 1, "the sound ones are there")
	_, refused = e.Compile(nil)
	require.Equal(t, []string{"no-expressions", "no-expressions"}, rules(refused))
}

func TestWhatAConditionSeesOfEvidence(t *testing.T) {
	facts := release.Evidence{Kind: "coverage", At: noon, Values: map[string]string{"lines": "87.5", "files": "12", "tool": "cover"}}.Facts(noon.Add(time.Hour))
	require.Equal(t, map[string]any{"lines": "87.5", "files": "12", "tool": "cover"}, facts["evidence"])
	require.Equal(t, map[string]any{"files": int64(12)}, facts["answers"])
	require.Equal(t, "coverage", facts["category"])
	require.Equal(t, time.Hour, facts["age"])
	for name := range (change.Facts{}).Map() {
		require.Contains(t, facts, name)
	}
}
