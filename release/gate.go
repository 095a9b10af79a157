package release

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/internal/workflow"
)

// GateKind is what a gate asks.
type GateKind string

// The kinds of gate (DOMAIN 3).
const (
	GateChange    GateKind = "change-authorized" // are the changes in force under which it is deployed?
	GateWindow    GateKind = "window-open"       // does the calendar leave it room?
	GateChecklist GateKind = "checklist"         // has somebody said go to every item?
	GateEvidence  GateKind = "evidence"          // is evidence there, and does a condition hold over it?
	GateApproval  GateKind = "approval"          // has a stage approved?
	GatePolicyAsk GateKind = "policy"            // what does a hook of the user say?
)

// GateKinds are all of them.
func GateKinds() []GateKind {
	return []GateKind{GateChange, GateWindow, GateChecklist, GateEvidence, GateApproval, GatePolicyAsk}
}

// Gate is something that has to be so before an environment is deployed to.
type Gate struct {
	Name     string          `json:"name"`
	Kind     GateKind        `json:"kind"`
	Items    []string        `json:"items,omitzero"`    // of a checklist
	Evidence string          `json:"evidence,omitzero"` // kind of evidence that is asked for
	When     string          `json:"when,omitzero"`     // that holds over the evidence, an expression; empty: that it is there
	Stage    *workflow.Stage `json:"stage,omitzero"`    // of an approval
	Policy   string          `json:"policy,omitzero"`   // name of the hook
}

// GateState is how a gate stands.
type GateState string

// The states of a gate (DOMAIN 3). What is not known is not run, and lets nothing through.
const (
	GateNotRun  GateState = "not run"
	GateFailed  GateState = "fail"
	GateExcused GateState = "waived"
	GatePassed  GateState = "pass"
)

// GateResult is a gate as it was judged.
type GateResult struct {
	Gate   string    `json:"gate"`
	Kind   GateKind  `json:"kind"`
	State  GateState `json:"state"`
	Why    string    `json:"why"`
	By     string    `json:"by,omitzero"` // who answered it: approved, said go or no-go, gave the evidence, waived it
	At     time.Time `json:"at,omitzero"` // when
	Waiver *Waiver   `json:"waiver,omitzero"`
}

// Waiver lets a gate be passed that has not passed.
type Waiver struct {
	By    string    `json:"by"`
	Why   string    `json:"why"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"` // it counts before that time only
}

// Holds reports whether w counts at a time.
func (w Waiver) Holds(now time.Time) bool { return now.Before(w.Until) }

// ItemCheck is an answer to an item of a checklist.
type ItemCheck struct {
	Item string    `json:"item"`
	Go   bool      `json:"go"` // or no-go
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Note string    `json:"note,omitzero"`
}

// GateAnswer is what a policy hook says, or how the stage of a gate stands.
type GateAnswer struct {
	State GateState `json:"state"` // GatePassed, GateFailed or GateNotRun; anything else counts as not run
	Why   string    `json:"why,omitzero"`
	By    string    `json:"by,omitzero"`
	At    time.Time `json:"at,omitzero"`
}

// GateInput is what the gates of an environment are judged by. What is left out
// is not known, and a gate that asks for it is not run.
type GateInput struct {
	Now        time.Time
	Scope      string          // digest of what the release is now; evidence of another one is none; empty: not asked
	CIs        []string        // that are deployed: each is declared by a change
	Changes    []change.Change // that are bound to the release
	Timing     *change.Timing  // what the calendar said; nil: it was not asked
	Checks     []ItemCheck     // in order: the last one of an item counts
	Evidence   []Evidence      // in order: the last one of a kind counts
	Conditions map[string]change.Condition
	Approvals  map[string]GateAnswer // by gate
	Policies   map[string]GateAnswer // by gate
	Waivers    map[string]Waiver     // by gate
}

// RollUpState is how several gates stand together.
type RollUpState string

// The states of several gates (DOMAIN 3).
const (
	RollUpNotRun    RollUpState = "not run"
	RollUpFailed    RollUpState = "fail"
	RollUpException RollUpState = "passed with exception"
	RollUpPassed    RollUpState = "passed"
)

// Open reports whether a deployment may go ahead.
func (s RollUpState) Open() bool { return s == RollUpPassed || s == RollUpException }

// RollUp says how gates stand together: any not run, not run; else any failed,
// fail; else any waived, passed with exception; else passed. No gates have passed.
// A state that is none of the four is not run.
func RollUp(results []GateResult) RollUpState {
	has := map[GateState]bool{}
	for _, r := range results {
		switch r.State {
		case GatePassed, GateFailed, GateExcused:
			has[r.State] = true
		default:
			has[GateNotRun] = true
		}
	}
	switch {
	case has[GateNotRun]:
		return RollUpNotRun
	case has[GateFailed]:
		return RollUpFailed
	case has[GateExcused]:
		return RollUpException
	}
	return RollUpPassed
}

// Evaluate judges every gate of an environment, in their order.
func (e Environment) Evaluate(in GateInput) []GateResult {
	all := make([]GateResult, len(e.Gates))
	for i, g := range e.Gates {
		all[i] = g.Evaluate(in)
	}
	return all
}

// Evaluate judges a gate. It is pure but for the condition over evidence, which
// is handed in compiled. A waiver that has not expired lets through what has not
// passed; it changes nothing for what has.
func (g Gate) Evaluate(in GateInput) GateResult {
	a := g.judge(in)
	switch a.State {
	case GatePassed, GateFailed:
	case GateNotRun, GateExcused: // only a person waives, and says until when
		a.State = GateNotRun
	default:
		a.State, a.Why = GateNotRun, fmt.Sprintf("%q is no answer: %s", a.State, a.Why)
	}
	r := GateResult{Gate: g.Name, Kind: g.Kind, State: a.State, Why: a.Why, By: a.By, At: a.At}
	w, given := in.Waivers[g.Name]
	if !given || r.State == GatePassed {
		return r
	}
	r.Waiver = &w
	if !w.Holds(in.Now) {
		r.Why += fmt.Sprintf("; the waiver of %s expired at %s", w.By, clock(w.Until))
		return r
	}
	r.Why = fmt.Sprintf("waived by %s until %s: %s; otherwise %s: %s", w.By, clock(w.Until), w.Why, r.State, r.Why)
	r.State, r.By, r.At = GateExcused, w.By, w.At
	return r
}

func (g Gate) judge(in GateInput) GateAnswer {
	switch g.Kind {
	case GateChange:
		return judgeChanges(in)
	case GateWindow:
		return judgeTiming(in.Timing)
	case GateChecklist:
		return g.judgeItems(in)
	case GateEvidence:
		return g.judgeEvidence(in)
	case GateApproval:
		return answered(in.Approvals, g.Name, "nobody was asked to approve yet")
	case GatePolicyAsk:
		return answered(in.Policies, g.Name, fmt.Sprintf("policy %q was not asked", g.Policy))
	}
	return GateAnswer{State: GateNotRun, Why: fmt.Sprintf("%q is no kind of gate", g.Kind)}
}

func answered(by map[string]GateAnswer, gate, unknown string) GateAnswer {
	if a, ok := by[gate]; ok {
		return a
	}
	return GateAnswer{State: GateNotRun, Why: unknown}
}

// Unauthorized says what is missing before CIs may be deployed under changes, a
// sentence each: every change is authorised as it is now and not on hold, and
// every CI is declared by one of them. Nothing is missing only where there is a
// change.
func Unauthorized(changes []change.Change, cis []string) []string {
	if len(changes) == 0 {
		return []string{"no change that is still to be carried out is bound to the release"}
	}
	var missing []string
	declared := map[string]bool{}
	for _, c := range changes {
		switch {
		case c.Kind == change.KindCanceled:
			missing = append(missing, fmt.Sprintf("change %s is cancelled", c.ID))
			continue
		case c.Unauthorized != nil:
			missing = append(missing, fmt.Sprintf("change %s was refused: %s", c.ID, c.Unauthorized.Why))
			continue
		case c.Authorized == nil:
			missing = append(missing, fmt.Sprintf("change %s is not authorised", c.ID))
			continue
		case c.Authorized.Scope != c.Scope:
			missing = append(missing, fmt.Sprintf("change %s was authorised as something else than it is now", c.ID))
			continue
		case c.Held != nil:
			missing = append(missing, fmt.Sprintf("change %s is on hold: %s", c.ID, c.Held.Reason))
		}
		for _, ci := range c.CIs {
			declared[ci] = true
		}
		for _, d := range c.Deltas {
			declared[d.CI] = true
		}
	}
	for _, ci := range cis {
		if !declared[ci] {
			missing = append(missing, fmt.Sprintf("no authorised change declares %s", ci))
		}
	}
	return missing
}

func judgeChanges(in GateInput) GateAnswer {
	if len(in.Changes) == 0 {
		return GateAnswer{State: GateNotRun, Why: "no change is bound to the release"}
	}
	if missing := Unauthorized(in.Changes, in.CIs); len(missing) > 0 {
		return GateAnswer{State: GateFailed, Why: strings.Join(missing, "; ")}
	}
	a := GateAnswer{State: GatePassed}
	ids := make([]string, len(in.Changes))
	for i, c := range in.Changes {
		ids[i] = c.ID
		if c.Authorized.At.After(a.At) {
			a.By, a.At = c.Authorized.By, c.Authorized.At
		}
	}
	slices.Sort(ids)
	a.Why = "authorised: " + strings.Join(ids, ", ")
	return a
}

func judgeTiming(t *change.Timing) GateAnswer {
	if t == nil {
		return GateAnswer{State: GateNotRun, Why: "the calendar was not asked"}
	}
	var stand, taken []string
	for _, c := range t.Conflicts {
		switch {
		case c.Stands():
			stand = append(stand, fmt.Sprintf("%s: %s", c.Rule, c.Why))
		case c.Effect == change.Block:
			taken = append(taken, fmt.Sprintf("%s, by %s: %s", c.Rule, c.Resolved.By, c.Resolved.Why))
		}
	}
	switch {
	case len(stand) > 0:
		return GateAnswer{State: GateFailed, Why: strings.Join(stand, "; ")}
	case t.Answer == change.TimingConflict && t.Count > 0 && len(t.Conflicts) == 0:
		return GateAnswer{State: GateNotRun, Why: fmt.Sprintf("the calendar found %d conflicts and lists none", t.Count)}
	case t.Answer == change.TimingConflict && len(taken) > 0:
		return GateAnswer{State: GatePassed, Why: "overridden: " + strings.Join(taken, "; ")}
	case t.Answer == change.TimingConflict:
		return GateAnswer{State: GatePassed, Why: fmt.Sprintf("conflicts that do not block: %d", t.Count)}
	case t.Answer == change.TimingClear:
		return GateAnswer{State: GatePassed, Why: "nothing stands against the time"}
	}
	return GateAnswer{State: GateNotRun, Why: fmt.Sprintf("the calendar says: %s", t.Answer)}
}

// judgeItems: one no-go decides, whatever is open beside it.
func (g Gate) judgeItems(in GateInput) GateAnswer {
	last := map[string]ItemCheck{}
	for _, c := range in.Checks {
		last[c.Item] = c
	}
	a := GateAnswer{State: GatePassed, Why: fmt.Sprintf("go for all of %d", len(g.Items))}
	var open, against []string
	for _, item := range g.Items {
		c, checked := last[item]
		switch {
		case !checked:
			open = append(open, item)
			continue
		case !c.Go:
			why := item
			if c.Note != "" {
				why += " (" + c.Note + ")"
			}
			if len(against) == 0 {
				a.By, a.At = c.By, c.At
			}
			against = append(against, why)
		case len(against) == 0 && !c.At.Before(a.At):
			a.By, a.At = c.By, c.At
		}
	}
	switch {
	case len(against) > 0:
		a.State, a.Why = GateFailed, "no-go: "+strings.Join(against, ", ")
	case len(open) > 0 || len(g.Items) == 0:
		return GateAnswer{State: GateNotRun, Why: "nobody has said go or no-go: " + strings.Join(open, ", ")}
	}
	return a
}
