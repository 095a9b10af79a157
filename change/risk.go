package change

import (
	"context"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// RiskPolicy is the hook that judges the risk of a change (DOMAIN 1.4). Its
// verdict is recorded with the facts it saw as a [Receipt]; a replay never asks
// it. Assess may run more than once for one event, under the deadline of hooks,
// and has no effects. Package change/risk has engines and combinations.
type RiskPolicy interface {
	// Policy says which policy this is.
	Policy() Policy
	// Assess judges facts. The same facts always give the same verdict.
	Assess(ctx context.Context, facts Facts) (Verdict, error)
}

// Policy names a policy and says what it does.
type Policy struct {
	ID      string `json:"id"`            // "risk"
	Version string `json:"version"`       // of a policy with a text: its digest
	Text    string `json:"text,omitzero"` // from which it can be made again; empty for a hook written in Go
}

// Facts are what a policy sees: a plain value, complete, that goes into the
// receipt. Counts are whole; lists are cut where the comment says so, with a
// digest of what they leave out.
type Facts struct {
	Change   string   `json:"change,omitzero"` // ID; empty where it is being raised
	Model    string   `json:"model"`
	Template string   `json:"template,omitzero"`
	Category string   `json:"category,omitzero"`
	Group    string   `json:"group,omitzero"` // that implements it
	Origin   string   `json:"origin,omitzero"`
	CIs      []FactCI `json:"cis,omitzero"` // declared, sorted by ID, the first 50
	Deltas   int      `json:"deltas,omitzero"`

	Impacted      int       `json:"impacted"`                // CIs affected beyond the declared ones
	Criticality   []Counted `json:"criticality,omitzero"`    // of declared and impacted CIs together, by level, in the order critical, high, moderate, low, unknown
	Classes       []Counted `json:"classes,omitzero"`        // of declared and impacted CIs together, by class, sorted
	Top           []FactCI  `json:"top,omitzero"`            // the 50 most important impacted CIs
	Rest          string    `json:"rest,omitzero"`           // SHA-256 of the IDs of the others, sorted; empty if there are none
	Degraded      []string  `json:"degraded,omitzero"`       // pools that lose redundancy, the first 50
	GraphPosition uint64    `json:"graph_position,omitzero"` // of the log, up to which the CMDB was known

	LeadTime Seconds `json:"lead_time,omitzero"` // from now to the start of the window; negative if it lies before
	Planned  bool    `json:"planned"`            // it has a window: without one LeadTime says nothing
	Outage   Seconds `json:"outage,omitzero"`

	Conflicts int  `json:"conflicts,omitzero"` // that the calendar found when the window was planned
	Timed     bool `json:"timed,omitzero"`     // the calendar has looked: without that Conflicts says nothing

	Backout bool `json:"backout"` // it has a back-out plan
	Tested  bool `json:"tested"`  // it has a test plan

	Answers []Answer  `json:"answers,omitzero"` // to questionnaires, sorted by question
	History []History `json:"history,omitzero"` // of the group, the model and the CIs

	Cost    *apd.Decimal `json:"cost,omitempty"`
	Benefit *apd.Decimal `json:"benefit,omitempty"`
	Urgency *apd.Decimal `json:"urgency,omitempty"`
}

// Seconds is a duration in whole seconds, as it is recorded.
type Seconds int64

// Of returns d in whole seconds, cut towards zero.
func Of(d time.Duration) Seconds { return Seconds(d / time.Second) }

// Duration returns s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// FactCI is what a policy sees of a CI.
type FactCI struct {
	ID          string `json:"id"`
	Class       string `json:"class,omitzero"`
	Criticality string `json:"criticality,omitzero"`
	Environment string `json:"environment,omitzero"`
	Depth       int    `json:"depth,omitzero"` // steps from the nearest declared CI; 0 for a declared one
}

// Counted is a name and how often it occurs.
type Counted struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// Answer is what was answered to a question of a questionnaire: the number of
// the choice's value.
type Answer struct {
	Question string `json:"question"`
	Value    int    `json:"value"`
}

// History counts the closed changes of a team, a model or a CI by their outcome.
type History struct {
	Of             string `json:"of"` // "group:dba", "model:normal", "ci:db-01"
	Successful     int    `json:"successful"`
	WithIssues     int    `json:"with_issues,omitzero"`
	Unsuccessful   int    `json:"unsuccessful,omitzero"`
	IncidentsMajor int    `json:"incidents_p1,omitzero"`
	IncidentsHigh  int    `json:"incidents_p2,omitzero"`
	IncidentsOther int    `json:"incidents_p3,omitzero"`
}

// Verdict is what a policy or one of its engines says.
type Verdict struct {
	Level   string          `json:"level"`                // of the policy's scale: low, moderate, high, critical
	Score   *apd.Decimal    `json:"score,omitempty"`      // exact; nil where the engine gives none
	Failure *apd.Decimal    `json:"failure,omitempty"`    // probability that the change fails, 0 to 1; nil where unknown
	Why     []string        `json:"why"`                  // sentences for people, at least one
	Engines []EngineVerdict `json:"engines,omitzero"`     // of a combination: every engine's own
	By      string          `json:"combination,omitzero"` // how they were combined: "max"
}

// EngineVerdict is what one engine of a combination said.
type EngineVerdict struct {
	Engine string       `json:"engine"` // "lead-time"
	Level  string       `json:"level"`
	Score  *apd.Decimal `json:"score,omitempty"`
	Weight *apd.Decimal `json:"weight,omitempty"`
	Why    []string     `json:"why"`
}

// Receipt is a verdict with everything it stands on. It can be judged again
// years later by the policy's text, which is an event of its own.
type Receipt struct {
	Policy  Policy    `json:"policy"` // without its text
	Facts   Facts     `json:"facts"`
	Digest  string    `json:"digest"` // SHA-256 of the JSON of Facts, hexadecimal
	Verdict Verdict   `json:"verdict"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitzero"` // who assessed by hand; empty where the policy did
}

// Expressions is the hook that evaluates conditions of models, decision tables
// and rules. Package change/risk has one for CEL. Compile fails for a text that
// is no condition; the condition is pure and bounded in cost.
type Expressions interface {
	Compile(text string) (Condition, error)
}

// Condition says whether an expression holds for facts, given as plain values:
// nil, bool, int64, string, time.Time, time.Duration, []any and map[string]any.
type Condition interface {
	Holds(facts map[string]any) (bool, error)
}
