package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind says what stood in the way.
type Kind string

// The kinds of refusal, each with its sentinel.
const (
	Malformed   Kind = "malformed"   // the input cannot be meant; never recorded
	Denied      Kind = "denied"      // this actor may not
	Refused     Kind = "refused"     // a rule of the field
	Unavailable Kind = "unavailable" // a hook failed, panicked or was too slow: closed by default
)

// What kind of rule stood in the way: errors.Is(err, ErrDenied).
var (
	ErrMalformed   = errors.New("malformed command")
	ErrDenied      = errors.New("denied")
	ErrRefused     = errors.New("refused")
	ErrUnavailable = errors.New("refused because a hook failed")
)

// Refusal is one rule that stands in the way of a command.
type Refusal struct {
	Kind   Kind
	Rule   string // its name: "separation-of-duties"
	Field  string // of the input, where one is to blame: "window.end"
	Reason string // what is: "u-7f3a requested the change"
	Remedy string // what to do: "ask another approver"
}

func (r Refusal) String() string {
	var b strings.Builder
	b.WriteString(r.Rule)
	if r.Field != "" {
		fmt.Fprintf(&b, " (%s)", r.Field)
	}
	fmt.Fprintf(&b, ": %s", r.Reason)
	if r.Remedy != "" {
		fmt.Fprintf(&b, ": %s", r.Remedy)
	}
	return b.String()
}

// Error says that a command was refused: by which rules, all of them, and what to do.
type Error struct {
	Call     Call
	Refusals []Refusal // at least one
}

// Refuse returns an *Error of these refusals, or nil if there are none.
func Refuse(refusals ...Refusal) error {
	if len(refusals) == 0 {
		return nil
	}
	return &Error{Refusals: refusals}
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Call.Action != "" {
		fmt.Fprintf(&b, "%s ", e.Call.Action)
		if e.Call.Target != "" {
			fmt.Fprintf(&b, "%s ", e.Call.Target)
		}
	}
	for i, r := range e.Refusals {
		if i == 0 {
			verb := verbs[r.Kind]
			if verb == "" {
				verb = verbs[Refused]
			}
			fmt.Fprintf(&b, "%s by %s", verb, r)
		} else {
			fmt.Fprintf(&b, "; and by %s", r)
		}
	}
	return b.String()
}

var verbs = map[Kind]string{Malformed: "is malformed", Denied: "is denied", Refused: "is refused", Unavailable: "is refused"}

// Is reports whether target is the sentinel of one of the refusals.
func (e *Error) Is(target error) bool {
	for _, r := range e.Refusals {
		switch {
		case target == ErrMalformed && r.Kind == Malformed,
			target == ErrDenied && r.Kind == Denied,
			target == ErrRefused && r.Kind == Refused,
			target == ErrUnavailable && r.Kind == Unavailable:
			return true
		}
	}
	return false
}

// By reports whether err is an *Error in which this rule stands in the way.
func By(err error, rule string) bool {
	var e *Error
	if errors.As(err, &e) {
		for _, r := range e.Refusals {
			if r.Rule == rule {
				return true
			}
		}
	}
	return false
}

// completed returns a copy of e that is whole: with the call, and with a kind
// and a rule in every refusal. It is a copy since e may be shared.
func (e *Error) completed(call Call, kind Kind) *Error {
	if e == nil {
		e = &Error{}
	}
	c := &Error{Call: e.Call, Refusals: slices.Clone(e.Refusals)}
	if c.Call.Action == "" {
		c.Call = call
	}
	if len(c.Refusals) == 0 {
		c.Refusals = []Refusal{{Reason: "whoever refused it gave no refusal"}}
	}
	for i := range c.Refusals {
		r := &c.Refusals[i]
		if verbs[r.Kind] == "" {
			r.Kind = kind
		}
		if r.Rule == "" {
			r.Rule = "unnamed"
		}
	}
	return c
}
