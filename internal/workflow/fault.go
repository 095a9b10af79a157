package workflow

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnsound is the kind of a *ModelError.
var ErrUnsound = errors.New("unsound model")

// ModelError lists everything that is wrong with a model.
type ModelError struct {
	Model  string
	Faults []Fault
}

// Fault is one thing that is wrong with a model.
type Fault struct {
	Rule   string `json:"rule"`   // "dead-end"
	Where  string `json:"where"`  // `phase "triage"`
	Reason string `json:"reason"` // what is wrong and what to do
}

func (f Fault) String() string { return fmt.Sprintf("%s at %s: %s", f.Rule, f.Where, f.Reason) }

func (e *ModelError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "model %q is unsound, %s: ", e.Model, plural(len(e.Faults), "fault", "faults"))
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.String())
	}
	return b.String()
}

func (e *ModelError) Is(target error) bool { return target == ErrUnsound }
