package risk_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
)

func example() change.Facts {
	return change.Facts{
		Change: "CHG-000042", Model: "normal", Template: "patch", Category: "software", Group: "dba", Origin: "problem",
		CIs: []change.FactCI{{ID: "db-01", Environment: "production"}, {ID: "db-02", Environment: "test"}}, Deltas: 2,
		Impacted: 7, Criticality: []change.Counted{{Name: "critical", Count: 1}, {Name: "low", Count: 8}}, Classes: []change.Counted{{Name: "database", Count: 2}, {Name: "service", Count: 7}},
		Top: []change.FactCI{{ID: "shop", Environment: "production"}}, Degraded: []string{"web"},
		LeadTime: 3600, Planned: true, Outage: 90, Backout: true,
		Answers: []change.Answer{{Question: "q1", Value: 3}},
		History: []change.History{{Of: "group:dba", Successful: 10, WithIssues: 2, Unsuccessful: 1, IncidentsHigh: 1}},
		Cost:    apd.New(123450, -2),
	}
}

// facts are those of the example as a model sees them.
func facts() map[string]any {
	m := example().Map()
	m["risk"] = "high"
	return m
}

func TestConditionsSeeTheFactsUnderTheirNames(t *testing.T) {
	for text, want := range map[string]bool{
		`change == "CHG-000042" && model == "normal" && template == "patch" && category == "software" && group == "dba" && origin == "problem"`: true,
		`cis == ["db-01", "db-02"] && impacted_cis == ["shop"] && degraded == ["web"]`:                                                          true,
		`environments == ["production", "test"]`:                     true,
		`deltas == 2 && impacted == 7`:                               true,
		`criticality.critical == 1 && criticality["high"] == 0`:      true,
		`criticality.size() == 5`:                                    true,
		`"database" in classes && !("server" in classes)`:            true,
		`classes.service + classes.database == 9`:                    true,
		`has(classes.server)`:                                        false,
		`planned && backout && !tested`:                              true,
		`lead_time == duration("1h") && outage == duration("1m30s")`: true,
		`lead_time < duration("24h")`:                                true,
		`answers.q1 >= 3`:                                            true,
		`"q2" in answers && answers.q2 > 1`:                          false,
		`history["group:dba"].successful == 10 && history["group:dba"].with_issues == 2 && history["group:dba"].unsuccessful == 1 && history["group:dba"].incidents_p2 == 1`: true,
		`history["group:dba"].incidents_p1 + history["group:dba"].incidents_p3 == 0`:                                                                                         true,
		`cost == "1234.50" && benefit == "" && urgency == ""`:                                                                                                                true,
		`compare(cost, "1234.5") == 0 && compare(cost, "1234.51") < 0 && compare(cost, "-1") == 1`:                                                                           true,
		`risk == "high"`: true,
		`cis.exists(ci, ci.startsWith("db-")) && cis.all(ci, ci.matches("^db-[0-9]+$"))`: true,
		`cis.filter(ci, ci.endsWith("1")).size() == 1`:                                   true,
		`criticality.exists(level, criticality[level] > 100)`:                            false,
		`duration("90m") > lead_time ? impacted > 5 : impacted > 50`:                     true,
	} {
		c, err := risk.CEL().Compile(text)
		require.NoError(t, err, text)
		holds, err := c.Holds(facts())
		require.NoError(t, err, text)
		require.Equal(t, want, holds, text)
	}
}

// What a change does not have is empty, not missing; without a window it is judged
// as if it started now.
func TestTheFactsOfAnEmptyChangeHaveEveryName(t *testing.T) {
	for text, want := range map[string]bool{
		`model == "" && cost == "" && cis == [] && environments == [] && size(answers) == 0 && size(history) == 0 && size(classes) == 0`: true,
		`criticality.all(level, criticality[level] == 0) && criticality.size() == 5`:                                                     true,
		`!planned && lead_time == duration("0s") && outage == duration("0s") && impacted == 0`:                                           true,
	} {
		c, err := risk.CEL().Compile(text)
		require.NoError(t, err, text)
		holds, err := c.Holds(change.Facts{LeadTime: 999}.Map())
		require.NoError(t, err, text)
		require.Equal(t, want, holds, text)
	}
	far := change.Facts{Planned: true, LeadTime: 1 << 60, Outage: -1 << 60}.Map()
	require.Greater(t, far["lead_time"], time.Duration(0), "longer than a duration holds is long, not negative")
	require.Less(t, far["outage"], time.Duration(0))
}

// The names that a condition may speak of are exactly those of the facts.
func TestConditionsKnowTheNamesOfTheFactsAndNoOthers(t *testing.T) {
	_, err := risk.CEL().Compile("nothing")
	_, list, found := strings.Cut(err.Error(), "there are ")
	require.True(t, found)
	require.Equal(t, slices.Sorted(maps.Keys(facts())), strings.Split(list, ", "))
	for name := range facts() {
		c, err := risk.CEL().Compile(name + " == " + name)
		require.NoError(t, err, name)
		for _, f := range []change.Facts{{}, example()} {
			m := f.Map()
			m["risk"] = ""
			holds, err := c.Holds(m)
			require.NoError(t, err, name)
			require.True(t, holds, name)
		}
	}
	err = risk.Rules(risk.Low, risk.Rule{When: "nothing", Level: risk.Low}).Err()
	_, list, _ = strings.Cut(err.Error(), "there are ")
	require.Equal(t, slices.Sorted(maps.Keys(example().Map())), strings.Split(list, ", "), "rules of risk see no risk")
}

func TestATextThatIsNoConditionIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, where, rule, says string }{
		"nothing":              {"", "condition", "empty", "write true"},
		"only space":           {" \n\t ", "condition", "empty", "write true"},
		"too large":            {strings.Repeat("a", 4<<10) + "b", "condition", "too-large", "4097 bytes"},
		"no UTF-8":             {"\xff", "condition", "text", "UTF-8"},
		"a NUL":                {"true\x00", "condition", "text", "NUL"},
		"a syntax error":       {"planned &&", "condition at 1:11", "condition", "Syntax error"},
		"on the second line":   {"planned &&\n  planed", "condition at 2:3", "unknown-name", "undeclared reference to 'planed' (did you mean 'planned'?); there are answers, backout"},
		"an unknown function":  {"now() > 3", "condition at 1:4", "unknown-name", "undeclared reference to 'now'"},
		"a number":             {"impacted + 1", "condition", "not-a-condition", "gives int"},
		"a text":               {"model", "condition", "not-a-condition", "gives string"},
		"what may be anything": {"dyn(true)", "condition", "not-a-condition", "gives dyn"},
		"other types":          {`impacted == "7"`, "condition at 1:10", "condition", "no matching overload"},
		"an amount as number":  {`cost > 5`, "condition at 1:6", "condition", "no matching overload"},
		"a floating point":     {`1.5 > 1.0`, "condition at 1:1", "floating-point", `compare(cost, "1.5")`},
		"a hidden one":         {`[1, 2].exists(x, dyn(x) == dyn(1.0))`, "condition at 1:32", "floating-point", "whole"},
		"a floating function":  {`double(impacted) > double(3)`, "condition at 1:7", "unknown-name", "double"},
		"a literal of a map":   {`{"a": 1}.size() > 0`, "condition at 1:1", "literal", "write a list"},
		"a literal of message": {`google.protobuf.Duration{seconds: 1} == lead_time`, "condition at 1:25", "literal", "messages"},
		"a duration":           {`lead_time < duration("soon")`, "condition at 1:22", "condition", "duration"},
		"a large expression":   {`model.matches("((a{30}){30}){30}")`, "condition at 1:15", "condition", ""},
		"a broken expression":  {`model.matches("(")`, "condition at 1:15", "condition", "matches"},
		"a zone by its name":   {`timestamp("2026-01-01T00:00:00Z").getHours("Europe/Berlin") == 1`, "condition at 1:43", "condition", "no matching overload"},
		"nested too deep":      {strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300), "condition", "condition", ""},
	} {
		condition, err := risk.CEL().Compile(c.text)
		require.Nil(t, condition, name)
		require.ErrorIs(t, err, risk.ErrInvalid, name)
		var p *risk.PolicyError
		require.ErrorAs(t, err, &p, name)
		require.Equal(t, c.rule, p.Rule, "%s: %v", name, err)
		require.Contains(t, p.Where, c.where, "%s: %v", name, err)
		require.Contains(t, p.Reason, c.says, name)
	}
}

// The compiler is quick also with what was written to hurt it.
func TestHostileTextsAreRefusedQuickly(t *testing.T) {
	for _, unit := range []string{"(", "[", "{", "!", "-", "a.", "a[", "a(", "1+", "a?b:", "a&&", "true||", "cis.all(a,", "1 ", "'", `"""`, "(a?", "a<b<", "{?a:", "a{b:", "`", "long_name"} {
		text := strings.Repeat(unit, 4<<10/len(unit))
		began := time.Now()
		_, err := risk.CEL().Compile(text)
		require.Less(t, time.Since(began), 5*time.Second, unit)
		require.ErrorIs(t, err, risk.ErrInvalid, unit)
		require.Less(t, len(err.Error()), 1_000, unit)
		require.NotContains(t, err.Error(), "-1:", unit)
	}
}

func TestWhatCannotBeEvaluatedIsAnErrorAndNeverFalse(t *testing.T) {
	with := func(name string, value any) map[string]any {
		m := facts()
		m[name] = value
		return m
	}
	many := make([]any, 100_001)
	for i := range many {
		many[i] = ""
	}
	fifty := make([]any, 50)
	for i := range fifty {
		fifty[i] = fmt.Sprint("ci-", i)
	}
	var deep any = ""
	for range 30 {
		deep = []any{deep}
	}
	for name, c := range map[string]struct {
		text  string
		facts map[string]any
		says  string
	}{
		"a missing key":           {`answers["q2"] > 1`, facts(), "no such key: q2"},
		"a missing key, selected": {`classes.server > 1`, facts(), "no such key: server"},
		"a missing index":         {`cis[2] == "x"`, facts(), "out of bounds"},
		"an overflow":             {`9223372036854775807 + impacted > 0`, facts(), "overflow"},
		"a division by zero":      {`1 / (impacted - 7) > 0`, facts(), "division by zero"},
		"no amount":               {`compare(benefit, "1") > 0`, facts(), "there is no amount"},
		"an amount that is none":  {`compare(model, "1") > 0`, facts(), `"normal" is no exact decimal`},
		"an endless amount":       {`compare("Infinity", "NaN") == 0`, facts(), "no exact decimal"},
		"a very long amount":      {`compare("` + strings.Repeat("9", 101) + `", "1") > 0`, facts(), "100 characters"},
		"a missing fact":          {`risk == "high"`, example().Map(), `the facts do not have "risk"`},
		"no facts":                {`planned`, nil, `do not have "planned"`},
		"another type":            {`planned`, with("planned", "yes"), "it is string, and should be bool"},
		"another type, unequal":   {`impacted != 7`, with("impacted", "7"), "it is string, and should be int"},
		"another type within":     {`"db-01" in cis`, with("cis", []any{1}), "it is list"},
		"another type in a map":   {`classes.a > 1`, with("classes", map[string]any{"a": "b"}), "it is map"},
		"a map within a map":      {`history["a"].b == 1`, with("history", map[string]any{"a": 1}), "it is map"},
		"no map":                  {`history["a"].b == 1`, with("history", []any{}), "it is list"},
		"no list":                 {`"x" in cis`, with("cis", true), "it is bool"},
		"nil":                     {`model == ""`, with("model", nil), "it is null_type"},
		"a floating point":        {`impacted > 1`, with("impacted", 1.5), "float64 is no plain value"},
		"a struct":                {`impacted > 1`, with("impacted", struct{}{}), "no plain value"},
		"a time":                  {`lead_time > outage`, with("lead_time", time.Unix(1, 0)), "it is google.protobuf.Timestamp"},
		"too many values":         {`"x" in cis`, with("cis", many), "more than 100000 values"},
		"too deep":                {`"x" in cis`, with("cis", deep), "nests more than 20 deep"},
		"above the limit of cost": {`cis.all(a, cis.all(b, cis.all(c, cis.all(d, a + b + c + d != ""))))`, with("cis", fifty), "cost"},
		"a regular expression":    {`cis.exists(ci, ci.matches(model))`, with("model", "("), "error parsing regexp"},
		"a large one":             {`cis.exists(ci, ci.matches(model))`, with("model", "(a{100}){100}"), "regex"},
		"gone before the start":   {`cis.exists(ci, answers[ci] > 1)`, facts(), "no such key"},
	} {
		condition, err := risk.CEL().Compile(c.text)
		require.NoError(t, err, name)
		began := time.Now()
		holds, err := condition.Holds(c.facts)
		require.ErrorIs(t, err, risk.ErrCondition, name)
		require.ErrorContains(t, err, c.says, name)
		require.False(t, holds, name)
		require.Less(t, time.Since(began), 5*time.Second, name)
	}
}

func TestFactsThatAConditionDoesNotSpeakOfMayBeAnything(t *testing.T) {
	c, err := risk.CEL().Compile("planned")
	require.NoError(t, err)
	holds, err := c.Holds(map[string]any{"planned": true, "model": 1.5, "something": struct{}{}})
	require.NoError(t, err)
	require.True(t, holds)
}

// Go goes through a map in another order every time; a condition must not notice.
func TestConditionsGoThroughMapsInTheOrderOfTheirKeys(t *testing.T) {
	classes := map[string]any{}
	for i := range 40 {
		classes[fmt.Sprintf("class-%02d", i)] = int64(i)
	}
	for _, text := range []string{
		`classes.map(c, c)[0] == "class-00" && classes.map(c, c)[39] == "class-39"`,
		`classes.filter(c, classes[c] > 10)[0] == "class-11"`,
		`classes.exists_one(c, c == "class-07")`,
	} {
		c, err := risk.CEL().Compile(text)
		require.NoError(t, err)
		for range 20 {
			holds, err := c.Holds(map[string]any{"classes": classes})
			require.NoError(t, err)
			require.True(t, holds, text)
		}
	}
}

func TestCompiledConditionsAreKeptWithinABound(t *testing.T) {
	e := risk.CEL()
	first, err := e.Compile("impacted > 0")
	require.NoError(t, err)
	again, err := e.Compile("impacted > 0")
	require.NoError(t, err)
	require.Same(t, first, again)
	_, err = e.Compile("nothing")
	require.Error(t, err)
	require.Equal(t, 1, risk.Cached(e), "what was refused is not kept")
	for i := range 1_200 {
		_, err := e.Compile(fmt.Sprintf("impacted > %d", i))
		require.NoError(t, err)
	}
	require.Equal(t, 1_000, risk.Cached(e))
	later, err := e.Compile("impacted > 0")
	require.NoError(t, err)
	require.NotSame(t, first, later, "the oldest went first")
	holds, err := first.Holds(facts())
	require.NoError(t, err)
	require.True(t, holds, "and who has it may still use it")
}

func TestPoliciesAndConditionsAreSafeForConcurrentUse(t *testing.T) {
	e := risk.CEL()
	p := risk.Max(risk.BlastRadius(), risk.Rules(risk.Low, risk.Rule{When: `"database" in classes && cis.exists(ci, ci == "db-02")`, Level: risk.High, Score: "1.5"}), risk.LeadTime(time.Hour))
	want := judged(t, p, example())
	var group sync.WaitGroup
	errs := make(chan error, 8)
	for g := range 8 {
		group.Go(func() {
			for i := range 100 {
				v, err := p.Assess(context.Background(), example())
				if err != nil || !risk.Same(want, v) {
					errs <- fmt.Errorf("%v %w", v, err)
					return
				}
				c, err := e.Compile(fmt.Sprintf("impacted >= %d", i%20))
				if err != nil {
					errs <- err
					return
				}
				holds, err := c.Holds(facts())
				if err != nil || holds != (i%20 <= 7) {
					errs <- fmt.Errorf("goroutine %d: %d holds %v: %w", g, i, holds, err)
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, 20, risk.Cached(e))
}

// Conditions of gates are over evidence: whole numbers, and decimals compared as
// what they are and not as text.
func TestConditionsOverEvidenceAreExact(t *testing.T) {
	facts := map[string]any{
		"category": "test results", "age": 3 * time.Hour,
		"evidence": map[string]any{"coverage": "9.50", "failed": "0"}, "answers": map[string]any{"failed": int64(0)},
	}
	for text, want := range map[string]bool{
		`answers["failed"] == 0`:                               true,
		`compare(evidence["coverage"], "87.5") >= 0`:           false, // as text "9.50" comes after "87.5"
		`compare(evidence["coverage"], "9.5") == 0`:            true,
		`"critical" in answers && answers["critical"] > 0`:     false,
		`age < duration("168h") && category == "test results"`: true,
	} {
		condition, err := risk.EvidenceCEL().Compile(text)
		require.NoError(t, err, text)
		holds, err := condition.Holds(facts)
		require.NoError(t, err, text)
		require.Equal(t, want, holds, text)
	}
	_, err := risk.EvidenceCEL().Compile("impacted > 3")
	require.ErrorContains(t, err, "unknown-name")
	_, err = risk.CEL().Compile(`evidence["coverage"] == ""`)
	require.ErrorContains(t, err, "unknown-name")
}
