package release

import (
	"fmt"
	"strconv"
	"time"

	"github.com/rollforward/rollforward/change"
)

// Evidence is a finding about a release: a test run, a coverage, a scan. The
// document is elsewhere; its digest and the values that gates judge are here.
type Evidence struct {
	Kind   string            `json:"kind"` // "tests", "coverage", "vulnerabilities"
	Title  string            `json:"title,omitzero"`
	URL    string            `json:"url,omitzero"`
	SHA256 string            `json:"sha256,omitzero"` // of the document, hexadecimal
	Values map[string]string `json:"values,omitzero"` // "failed": "0", "coverage": "87.5"; numbers are exact decimals
	Scope  string            `json:"scope,omitzero"`  // digest of what the release was when it was given
	By     string            `json:"by,omitzero"`
	At     time.Time         `json:"at,omitzero"`
}

// Facts returns what a condition over evidence can speak of:
//
//	answers    those of its values that are whole numbers: answers["failed"] == 0
//	category   its kind
//	evidence   all of its values as text: evidence["coverage"]
//	age        how old it is
//
// and beside them the names of change.Facts.Map, empty. change/risk.EvidenceCEL
// evaluates conditions over these four.
func (e Evidence) Facts(now time.Time) map[string]any {
	var about change.Facts
	facts := about.Map()
	text, whole := map[string]any{}, map[string]any{}
	for name, value := range e.Values {
		text[name] = value
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			whole[name] = n
		}
	}
	facts["evidence"], facts["answers"], facts["category"], facts["age"] = text, whole, e.Kind, now.Sub(e.At)
	facts["risk"] = ""
	return facts
}

func (g Gate) judgeEvidence(in GateInput) GateAnswer {
	var last *Evidence
	for i := range in.Evidence {
		if in.Evidence[i].Kind == g.Evidence {
			last = &in.Evidence[i]
		}
	}
	switch {
	case last == nil:
		return GateAnswer{State: GateNotRun, Why: fmt.Sprintf("there is no evidence of kind %q", g.Evidence)}
	case in.Scope != "" && last.Scope != in.Scope:
		return GateAnswer{State: GateNotRun, Why: fmt.Sprintf("the evidence of kind %q is about what the release was before", g.Evidence), By: last.By, At: last.At}
	case g.When == "":
		return GateAnswer{State: GatePassed, Why: "the evidence is there", By: last.By, At: last.At}
	}
	a := GateAnswer{State: GateNotRun, By: last.By, At: last.At}
	condition, ok := in.Conditions[g.When]
	if !ok || condition == nil {
		a.Why = "its condition was not compiled"
		return a
	}
	holds, err := condition.Holds(last.Facts(in.Now))
	switch {
	case err != nil:
		a.Why = "its condition cannot be evaluated: " + err.Error()
	case holds:
		a.State, a.Why = GatePassed, "it holds: "+g.When
	default:
		a.State, a.Why = GateFailed, "it does not hold: "+g.When
	}
	return a
}
