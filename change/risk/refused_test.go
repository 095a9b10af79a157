package risk_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
)

func TestWhatIsWrongWithAPolicyIsRefusedByTheNameOfItsRule(t *testing.T) {
	one := []risk.Question{question("q1", "", 0, 1, 2)}
	all := risk.Threshold{Level: risk.Low}
	long := strings.Repeat("x", 2_001)
	steps := func(names ...string) (list []risk.Step) {
		for _, n := range names {
			list = append(list, risk.Step{Name: n})
		}
		return list
	}
	axis := func(names ...string) risk.Axis {
		return risk.Axis{Name: "axis", Question: "q1", Steps: steps(names...)}
	}
	ask := func(thresholds ...risk.Threshold) *risk.Policy { return risk.Questionnaire("", one, thresholds...) }
	rule := func(when, level string) *risk.Policy {
		return risk.Rules(risk.Low, risk.Rule{When: when, Level: level})
	}
	says := func(context.Context, change.Facts) (change.Verdict, error) { return change.Verdict{}, nil }
	many := make([]risk.Rung, 21)
	for i := range many {
		many[i] = risk.Rung{time.Duration(i+1) * time.Hour, risk.High}
	}
	deep := risk.BlastRadius()
	for range 10 {
		deep = risk.Max(deep)
	}

	for name, c := range map[string]struct {
		p    *risk.Policy
		rule string
		says string
	}{
		"lead time of nothing":        {risk.LeadTime(0), "duration", "whole seconds above 0"},
		"lead time below nothing":     {risk.LeadTime(-time.Hour), "duration", "whole seconds above 0"},
		"lead time of half a second":  {risk.LeadTime(time.Second / 2), "duration", "whole seconds above 0"},
		"a ladder without rungs":      {risk.Ladder(), "count", "0 steps of lead time"},
		"a ladder with too many":      {risk.Ladder(many...), "count", "1 to 20"},
		"a rung twice":                {risk.Ladder(risk.Rung{time.Hour, risk.High}, risk.Rung{time.Hour, risk.Low}), "order", "once"},
		"a rung's level":              {risk.Ladder(risk.Rung{time.Hour, "red"}), "unknown-level", `level "red": the scale has low, moderate, high, critical`},
		"levels on another scale":     {risk.LeadTime(time.Hour).On(risk.Scale{"green", "red"}), "unknown-level", `level "high": the scale has green, red`},
		"a scale of one":              {risk.BlastRadius().On(risk.Scale{"low"}), "scale", "2 to 20 levels, not 1"},
		"an empty scale":              {risk.BlastRadius().On(risk.Scale{}), "scale", "2 to 20 levels, not 0"},
		"a scale of 21":               {risk.BlastRadius().On(risk.Scale(strings.Fields(strings.Repeat("x ", 21)))), "scale", "not 21"},
		"a level twice":               {risk.Rules("a", risk.Rule{When: "true", Level: "b"}).On(risk.Scale{"a", "b", "a"}), "scale", `"a" stands twice`},
		"a level without a name":      {risk.Rules("a", risk.Rule{When: "true", Level: "b"}).On(risk.Scale{"a", "b", ""}), "scale", "level 3"},
		"an engine without a name":    {risk.BlastRadius().Named(""), "name", "letters, digits"},
		"an engine with a slash":      {risk.BlastRadius().Named("a/b"), "name", "letters, digits"},
		"a name that is not UTF-8":    {risk.BlastRadius().Named("a\xff"), "name", "letters, digits"},
		"a name with spaces around":   {risk.BlastRadius().Named(" a"), "name", "space"},
		"a limit of nothing":          {risk.BlastRadius(risk.Limit{"servers", 1, risk.High}), "unknown-count", `"servers"`},
		"a limit of a nameless class": {risk.BlastRadius(risk.Limit{"class:", 1, risk.High}), "unknown-count", `class:NAME`},
		"a limit from 0":              {risk.BlastRadius(risk.Limit{"impacted", 0, risk.High}), "from", "1 or more"},
		"undeclared from 2":           {risk.BlastRadius(risk.Limit{"undeclared", 2, risk.High}), "from", "1 for undeclared"},
		"a limit's level":             {risk.BlastRadius(risk.Limit{"impacted", 1, "red"}), "unknown-level", "red"},
		"a limit twice":               {risk.BlastRadius(risk.Limit{"impacted", 1, risk.High}, risk.Limit{"impacted", 1, risk.Low}), "twice", "impacted from 1"},

		"no rules":                     {risk.Rules(risk.Low), "count", "0 rules"},
		"no otherwise":                 {risk.Rules("", risk.Rule{When: "true", Level: risk.Low}), "unknown-level", "otherwise"},
		"a rule's level":               {rule("true", "red"), "unknown-level", "rule 1"},
		"a rule's score":               {risk.Rules(risk.Low, risk.Rule{When: "true", Level: risk.Low, Score: "1e9"}), "score", "no decimal"},
		"a rule's reason":              {risk.Rules(risk.Low, risk.Rule{When: "true", Level: risk.Low, Why: long}), "text", "2000 bytes"},
		"a reason that is no text":     {risk.Rules(risk.Low, risk.Rule{When: "true", Level: risk.Low, Why: "\xff"}), "text", "UTF-8"},
		"a rule without condition":     {rule("", risk.Low), "condition", "says nothing"},
		"a rule that is no text":       {rule("\xff", risk.Low), "condition", "UTF-8"},
		"an unknown name":              {rule("impakted > 1", risk.Low), "condition", "at 1:1: unknown-name: undeclared reference to 'impakted'"},
		"a name that only models have": {rule(`risk == "low"`, risk.Low), "condition", "undeclared reference to 'risk'"},
		"a rule that is a number":      {rule("impacted", risk.Low), "condition", "gives int"},

		"a questionnaire of nothing": {risk.Questionnaire("", nil, all), "count", "0 questions"},
		"a question without choices": {risk.Questionnaire("", []risk.Question{{ID: "q1"}}, all), "choices", "no choices"},
		"a question without ID":      {risk.Questionnaire("", []risk.Question{question("", "", 1)}, all), "name", "question 1"},
		"a question twice":           {risk.Questionnaire("", []risk.Question{question("q", "", 1), question("q", "", 1)}, all), "twice", `"q"`},
		"a value twice":              {risk.Questionnaire("", []risk.Question{question("q", "", 1, 1)}, all), "twice", "counts for 1"},
		"a value too large":          {risk.Questionnaire("", []risk.Question{question("q", "", 1_000_001)}, all), "value", "1000001"},
		"a value too small":          {risk.Questionnaire("", []risk.Question{question("q", "", -1_000_001)}, all), "value", "-1000001"},
		"too many choices":           {risk.Questionnaire("", []risk.Question{question("q", "", upTo(100)...)}, all), "count", "101 choices"},
		"a weight of 0":              {risk.Questionnaire("", []risk.Question{question("q", "0", 1)}, all), "weight", "above 0"},
		"a weight below 0":           {risk.Questionnaire("", []risk.Question{question("q", "-1", 1)}, all), "weight", "above 0"},
		"a weight that is none":      {risk.Questionnaire("", []risk.Question{question("q", "much", 1)}, all), "weight", "no decimal"},
		"a weight with an exponent":  {risk.Questionnaire("", []risk.Question{question("q", "1e3", 1)}, all), "weight", "no decimal"},
		"a weight that is too long":  {risk.Questionnaire("", []risk.Question{question("q", "1.0000001", 1)}, all), "weight", "up to 6 after the point"},
		"a weight without end":       {risk.Questionnaire("", []risk.Question{question("q", "Infinity", 1)}, all), "weight", "no decimal"},
		"a weight with only a point": {risk.Questionnaire("", []risk.Question{question("q", "1.", 1)}, all), "weight", "no decimal"},
		"a long title":               {risk.Questionnaire(long, one, all), "text", "title"},
		"no thresholds":              {ask(), "count", "0 thresholds"},
		"a threshold's level":        {ask(risk.Threshold{Level: "red"}), "unknown-level", "threshold 1"},
		"a threshold's bound":        {ask(risk.Threshold{Level: risk.Low, From: "few"}), "bound", "threshold 1, from"},
		"two bounds at one end":      {ask(risk.Threshold{Level: risk.Low, From: "0", Above: "0"}), "bound", "from or above"},
		"two bounds at the other":    {ask(risk.Threshold{Level: risk.Low, To: "0", Below: "0"}), "bound", "to or below"},
		"a threshold the wrong way":  {ask(risk.Threshold{Level: risk.Low, From: "2", To: "1"}), "empty", "no score"},
		"a threshold between scores": {ask(risk.Threshold{Level: risk.Low, Above: "1", Below: "2"}), "empty", "no score"},
		"a gap at the beginning":     {ask(risk.Threshold{Level: risk.Low, From: "1"}), "gap", "no threshold has the score 0, and the score goes from 0 to 2"},
		"a gap in the middle":        {ask(risk.Threshold{Level: risk.Low, To: "0"}, risk.Threshold{Level: risk.High, From: "2"}), "gap", "the score 1"},
		"a gap between above, below": {ask(risk.Threshold{Level: risk.Low, Below: "1"}, risk.Threshold{Level: risk.High, Above: "1"}), "gap", "the score 1"},
		"a gap at the end":           {ask(risk.Threshold{Level: risk.Low, To: "0"}), "gap", "the scores 1 to 2"},
		"an overlap":                 {ask(risk.Threshold{Level: risk.Low, To: "1"}, risk.Threshold{Level: risk.High, From: "1"}), "overlap", `"up to 1 is low" and "1 and more is high"`},
		"an overlap without end":     {ask(risk.Threshold{Level: risk.Low}, risk.Threshold{Level: risk.High, From: "1"}), "overlap", `"every score is low"`},
		"an overlap with one before": {ask(risk.Threshold{Level: risk.Low, To: "2"}, risk.Threshold{Level: risk.High, From: "0", To: "0"}), "overlap", `in common`},
		"a gap of half a point":      {risk.Questionnaire("", []risk.Question{question("q", "0.5", 0, 60)}, risk.Threshold{Level: risk.Low, To: "25"}, risk.Threshold{Level: risk.High, From: "26"}), "gap", "the scores 25.1 to 25.9"},

		"a mean of nothing":        {risk.WeightedMean(nil), "count", "0 questions"},
		"a mean with one level":    {risk.WeightedMean(one, risk.Low), "levels", "1 levels"},
		"a mean's level":           {risk.WeightedMean([]risk.Question{question("q", "")}, risk.Low, "red"), "unknown-level", "number 2"},
		"a choice beyond":          {risk.WeightedMean([]risk.Question{question("q", "", 1, 6)}), "value", "from 1 to 5"},
		"a choice of 0":            {risk.WeightedMean(one), "value", "from 1 to 5"},
		"no rows":                  {risk.Matrix(axis(), axis("a"), nil), "count", "0 steps of the rows"},
		"no columns":               {risk.Matrix(axis("a"), axis(), [][]int{{}}), "count", "0 steps of the columns"},
		"a row too few":            {risk.Matrix(axis("a", "b"), axis("a"), [][]int{{1}}), "size", "1 rows of cells and 2 steps"},
		"a cell too many":          {risk.Matrix(axis("a"), axis("a"), [][]int{{1, 1}}), "size", "row 1 has 2 cells"},
		"a cell beyond":            {risk.Matrix(axis("a"), axis("a"), [][]int{{6}}), "cell", "from 1 to 5"},
		"a cell of 0":              {risk.Matrix(axis("a"), axis("a"), [][]int{{0}}), "cell", "from 1 to 5"},
		"a step twice":             {risk.Matrix(axis("a", "a"), axis("a"), [][]int{{1}, {1}}), "twice", `"a"`},
		"a step without name":      {risk.Matrix(axis(""), axis("a"), [][]int{{1}}), "name", "step 1"},
		"an axis without name":     {risk.Matrix(risk.Axis{Question: "q", Steps: steps("a")}, axis("a"), [][]int{{1}}), "name", "the rows"},
		"an axis that is not said": {risk.Matrix(risk.Axis{Name: "x", Steps: steps("a")}, axis("a"), [][]int{{1}}), "condition", "says nothing"},
		"an axis said twice":       {risk.Matrix(risk.Axis{"x", "q", []risk.Step{{"a", "true"}}}, axis("a"), [][]int{{1}}), "two-ways", "say one of them"},
		"a question's name":        {risk.Matrix(risk.Axis{"x", "q/1", steps("a")}, axis("a"), [][]int{{1}}), "name", "the question of the rows"},

		"a combination of nothing":   {risk.Max(), "count", "0 engines"},
		"a mean of no engines":       {risk.Mean(), "count", "0 engines"},
		"a combination of nil":       {risk.Max(nil), "no-engine", "give one"},
		"a combination of no policy": {risk.Max((*risk.Policy)(nil)), "no-engine", "give one"},
		"a mean of nil":              {risk.Mean(risk.Weighted{}), "no-engine", "give one"},
		"an engine twice":            {risk.Max(risk.BlastRadius(), risk.BlastRadius()), "twice", `"blast-radius"`},
		"an engine's weight":         {risk.Mean(risk.Weighted{risk.BlastRadius(), "0"}), "weight", "above 0"},
		"an engine that is refused":  {risk.Max(risk.LeadTime(0)), "duration", "max/lead-time"},
		"engines too deep":           {deep, "too-deep", "8 deep"},
		"a function that is nil":     {risk.Func("x", "1", nil), "no-engine", "give one"},
		"a function without version": {risk.Func("x", "", says), "no-version", "which one judged"},
		"a function without name":    {risk.Func("", "1", says), "name", "letters"},
	} {
		err := c.p.Err()
		require.ErrorIs(t, err, risk.ErrInvalid, name)
		var p *risk.PolicyError
		require.ErrorAs(t, err, &p, name)
		require.Contains(t, err.Error(), c.rule+": ", name)
		require.Contains(t, err.Error(), c.says, name)

		// Refused is refused: no verdict, no version, no text.
		_, assessed := c.p.Assess(context.Background(), change.Facts{})
		require.ErrorIs(t, assessed, risk.ErrInvalid, name)
		require.Empty(t, c.p.Policy().Version, name)
		require.Empty(t, c.p.Policy().Text, name)
	}
}

func TestEverythingThatIsWrongIsSaidAtOnce(t *testing.T) {
	err := risk.Max(risk.LeadTime(0), risk.Rules("red", risk.Rule{When: "nothing", Level: "blue"})).Err()
	var all interface{ Unwrap() []error }
	require.True(t, errors.As(err, &all))
	var said []string
	for _, e := range all.Unwrap() {
		var p *risk.PolicyError
		require.ErrorAs(t, e, &p)
		said = append(said, p.Where+" "+p.Rule)
	}
	require.Equal(t, []string{"max/lead-time duration", "max/rules unknown-level", "max/rules unknown-level", "max/rules condition"}, said)
}

func TestAPolicyOfTooManyEnginesIsRefused(t *testing.T) {
	group := func(id string, n int) *risk.Policy {
		var engines []change.RiskPolicy
		for i := range n {
			engines = append(engines, risk.LeadTime(time.Hour).Named(fmt.Sprint(i)))
		}
		return risk.Max(engines...).Named(id)
	}
	require.NoError(t, risk.Max(group("a", 48), group("b", 49)).Err())
	require.ErrorContains(t, risk.Max(group("a", 49), group("b", 49)).Err(), "too-many-engines")
	require.ErrorContains(t, group("a", 101).Err(), "count")
}

func TestAPolicyTooLargeToKeepIsRefused(t *testing.T) {
	var rules []risk.Rule
	for range 200 {
		rules = append(rules, risk.Rule{When: "true", Level: risk.Low, Why: strings.Repeat("x", 2_000)})
	}
	require.NoError(t, risk.Rules(risk.Low, rules[:100]...).Err())
	require.ErrorContains(t, risk.Rules(risk.Low, rules...).Err(), "too-large")
}

func TestAPolicyKeepsNothingThatItsMakerCanChange(t *testing.T) {
	questions := []risk.Question{question("q1", "", 0, 1)}
	thresholds := []risk.Threshold{{Level: risk.Low}}
	rules := []risk.Rule{{When: "true", Level: risk.High}}
	cells := [][]int{{1}}
	rows := risk.Axis{Name: "x", Question: "q1", Steps: []risk.Step{{Name: "a"}}}
	p := risk.Max(risk.Questionnaire("", questions, thresholds...), risk.Rules(risk.Low, rules...), risk.Matrix(rows, rows, cells))
	before, text := judged(t, p, answers(1)), p.Policy().Text
	questions[0].Choices[1].Value = 9
	questions[0].ID, thresholds[0].Level, rules[0].Level, cells[0][0], rows.Steps[0].Name = "q2", "red", risk.Low, 5, "b"
	require.True(t, risk.Same(before, judged(t, p, answers(1))))
	require.Equal(t, text, p.Named("max").Policy().Text, "made again of what it keeps")
}
