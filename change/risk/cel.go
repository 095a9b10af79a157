package risk

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/rollforward/rollforward/change"
)

// The bounds of a condition.
const (
	maxCondition = 4 << 10 // bytes of its text
	maxCost      = 100_000 // of one evaluation, in CEL's units, about one for a step: some milliseconds at most
	maxRegex     = 1_000   // instructions of a regular expression, which is matched in linear time
	maxCached    = 1_000   // conditions that are kept compiled
	maxFact      = 100_000 // values in one variable
)

// CEL returns the hook by which models, decision tables and rules say conditions,
// in the Common Expression Language. A condition is true or false; it sees what
// change.Facts.Map has, under the same names, and in models and decision tables
// also "risk", the level of risk, empty before the change was judged:
//
//	risk == "high" || criticality.critical > 0
//	planned && lead_time < duration("24h")
//	"payment" in classes && !backout
//	cis.exists(ci, ci.startsWith("db-"))
//	"outage" in answers && answers["outage"] >= 3
//	cost != "" && compare(cost, "10000.50") > 0
//
// compare(a, b) compares two exact decimals and gives -1, 0 or 1. There are no
// floating point numbers and no literals of maps or messages. A name that there is
// not is refused when compiled, with its place and what there is. What cannot be
// evaluated, such as a key that a map does not have, an overflow or a cost above
// the limit, is an error, never false. Conditions are safe for concurrent use, and
// the last 1,000 are kept compiled.
func CEL() change.Expressions {
	return &expressions{compiled: map[string]*condition{}, environment: modelEnvironment}
}

// EvidenceCEL returns the hook by which gates of releases say conditions over
// evidence, in the same language. They see what release.Evidence.Facts has:
//
//	answers["failed"] == 0
//	compare(evidence["coverage"], "87.5") >= 0
//	"critical" in answers && answers["critical"] == 0 && age < duration("168h")
func EvidenceCEL() change.Expressions {
	return &expressions{compiled: map[string]*condition{}, environment: evidenceEnvironment}
}

type expressions struct {
	environment func() (*environment, error)

	mu       sync.Mutex
	compiled map[string]*condition
	order    []string // of compiled, the oldest first
}

// Compile makes a condition of a text, or says why it is none: a *PolicyError.
func (e *expressions) Compile(text string) (change.Condition, error) {
	e.mu.Lock()
	done, ok := e.compiled[text]
	e.mu.Unlock()
	if ok {
		return done, nil
	}
	environment, err := e.environment()
	if err != nil {
		return nil, err
	}
	c, err := environment.compile(text)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.compiled[text]; !ok {
		if len(e.order) >= maxCached {
			delete(e.compiled, e.order[0])
			e.order = e.order[1:]
		}
		e.compiled[text], e.order = c, append(e.order, text)
	}
	return c, nil
}

// environment is what conditions of one kind can speak of.
type environment struct {
	cel  *cel.Env
	vars map[string]variable
}

// The environments are made once, since making one takes about as long as
// compiling ten conditions. They never change.
var (
	factEnvironment  = sync.OnceValues(func() (*environment, error) { return newEnvironment(factVariables()) })
	modelEnvironment = sync.OnceValues(func() (*environment, error) { return newEnvironment(append(factVariables(), levelVariable())) })

	evidenceEnvironment = sync.OnceValues(func() (*environment, error) { return newEnvironment(evidenceVariables()) })
)

func newEnvironment(vars []variable) (*environment, error) {
	e := &environment{vars: map[string]variable{}}
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{ExcludeFunctions: excluded()})),
		cel.Function("compare", cel.Overload("compare_decimals", []*cel.Type{cel.StringType, cel.StringType}, cel.IntType), cel.SingletonBinaryBinding(compare)),
		cel.ParserExpressionSizeLimit(maxCondition), cel.ParserRecursionLimit(100), cel.ParserErrorRecoveryLimit(5), cel.ExpressionNodeLimit(10_000),
		cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
		cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(false),
	}
	for _, v := range vars {
		e.vars[v.name] = v
		options = append(options, cel.Variable(v.name, v.kind))
	}
	var err error
	if e.cel, err = cel.NewCustomEnv(options...); err != nil {
		return nil, fmt.Errorf("the environment of conditions: %w", err)
	}
	return e, nil
}

// excluded are the functions of CEL that conditions do not have: floating point,
// and the clock in a zone by its name, which depends on the tables of the machine.
func excluded() []*env.Function {
	without := func(function, overload string) *env.Function {
		return env.NewFunction(function, env.NewOverload(overload, nil, nil))
	}
	return []*env.Function{
		env.NewFunction("double"),
		without(overloads.TimeGetFullYear, overloads.TimestampToYearWithTz),
		without(overloads.TimeGetMonth, overloads.TimestampToMonthWithTz),
		without(overloads.TimeGetDayOfYear, overloads.TimestampToDayOfYearWithTz),
		without(overloads.TimeGetDayOfMonth, overloads.TimestampToDayOfMonthZeroBasedWithTz),
		without(overloads.TimeGetDate, overloads.TimestampToDayOfMonthOneBasedWithTz),
		without(overloads.TimeGetDayOfWeek, overloads.TimestampToDayOfWeekWithTz),
		without(overloads.TimeGetHours, overloads.TimestampToHoursWithTz),
		without(overloads.TimeGetMinutes, overloads.TimestampToMinutesWithTz),
		without(overloads.TimeGetSeconds, overloads.TimestampToSecondsWithTz),
		without(overloads.TimeGetMilliseconds, overloads.TimestampToMillisecondsWithTz),
	}
}

// compile makes a condition of a text.
func (e *environment) compile(text string) (*condition, error) {
	refuse := func(where, rule, format string, args ...any) (*condition, error) {
		return nil, &PolicyError{strings.TrimSpace("condition " + where), rule, fmt.Sprintf(format, args...)}
	}
	switch {
	case len(text) > maxCondition:
		return refuse("", "too-large", "it has %d bytes: at most %d", len(text), maxCondition)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return refuse("", "text", "it is not UTF-8, or has a NUL")
	case strings.TrimSpace(text) == "":
		return refuse("", "empty", "it says nothing: write true for what always holds")
	}
	tree, issues := e.cel.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		reason := cut(first.Message)
		rule := "condition"
		if strings.Contains(reason, "undeclared reference") {
			rule = "unknown-name"
			reason += "; there are " + e.names()
		}
		return refuse(place(first.Location.Line(), first.Location.Column()), rule, "%s", reason)
	}
	if tree.OutputType() != cel.BoolType {
		return refuse("", "not-a-condition", "it gives %s: a condition is true or false", cut(tree.OutputType().String()))
	}
	if at, rule, reason := forbidden(tree.NativeRep()); rule != "" {
		start := tree.NativeRep().SourceInfo().GetStartLocation(at)
		return refuse(place(start.Line(), start.Column()), rule, "%s", reason)
	}
	program, err := e.cel.Program(tree, cel.CostLimit(maxCost))
	if err != nil {
		return refuse("", "condition", "%v", err)
	}
	return &condition{text: text, program: program, uses: e.uses(tree.NativeRep())}, nil
}

// place says where in a text: lines and columns count from 1. What concerns the
// whole text has no place.
func place(line, column int) string {
	if line < 1 {
		return ""
	}
	return fmt.Sprintf("at %d:%d", line, column+1)
}

// cut shortens a text that an error repeats.
func cut(text string) string {
	const most = 300 // bytes
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + " ..."
}

// forbidden returns the first expression that would make a condition inexact or
// dependent on the order of a map.
func forbidden(tree *ast.AST) (at int64, rule, reason string) {
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if rule != "" {
			return
		}
		switch e.Kind() {
		case ast.LiteralKind:
			if _, double := e.AsLiteral().(types.Double); double {
				at, rule, reason = e.ID(), "floating-point", `numbers are whole: for amounts write compare(cost, "1.5") > 0`
			}
		case ast.MapKind, ast.StructKind:
			at, rule, reason = e.ID(), "literal", "there are no literals of maps and messages: write a list"
		}
	}))
	return at, rule, reason
}

// uses returns the variables that a condition speaks of, in the order of their names.
func (e *environment) uses(tree *ast.AST) []variable {
	spoken := map[string]bool{}
	for _, r := range tree.ReferenceMap() {
		if r.Name != "" && len(r.OverloadIDs) == 0 {
			spoken[strings.TrimPrefix(r.Name, ".")] = true
		}
	}
	var all []variable
	for _, v := range sorted(e.vars) {
		if spoken[v.name] {
			all = append(all, v)
		}
	}
	return all
}

// condition is a compiled condition. It is immutable.
type condition struct {
	text    string
	program cel.Program
	uses    []variable
}

// Holds evaluates the condition. Facts that it does not speak of may be missing,
// or anything.
func (c *condition) Holds(facts map[string]any) (bool, error) {
	values := make(map[string]any, len(c.uses))
	for _, v := range c.uses {
		fact, ok := facts[v.name]
		if !ok {
			return false, c.fails(fmt.Errorf("the facts do not have %q", v.name))
		}
		value, err := v.value(fact)
		if err != nil {
			return false, c.fails(fmt.Errorf("the fact %q: %w", v.name, err))
		}
		values[v.name] = value
	}
	out, _, err := c.program.Eval(values)
	if err != nil {
		return false, c.fails(err)
	}
	holds, ok := out.(types.Bool)
	if !ok {
		return false, c.fails(errors.New("it is neither true nor false"))
	}
	return bool(holds), nil
}

func (c *condition) fails(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrCondition, cut(c.text), err)
}

// compare compares two exact decimals.
func compare(a, b ref.Val) ref.Val {
	x, err := amount(a)
	if err != nil {
		return types.WrapErr(err)
	}
	y, err := amount(b)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Int(x.Cmp(y))
}
