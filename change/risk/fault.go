package risk

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What can be wrong.
var (
	ErrInvalid    = errors.New("invalid risk policy or condition")            // *PolicyError; refused when built
	ErrPolicyGone = errors.New("policy not available")                        // it was written in Go, or its text was not kept
	ErrReceipt    = errors.New("receipt does not stand on what it came with") // its facts or its policy are others than it says
	ErrCondition  = errors.New("condition cannot be judged")                  // for these facts: a missing key, an overflow, the limit of cost
	ErrVerdict    = errors.New("hook gave no verdict")                        // what it said is not on the scale, or it gave no reason
)

// PolicyError says what is wrong with a policy or a condition.
type PolicyError struct {
	Where  string // the engine, "max/questionnaire"; for a condition with line and column
	Rule   string // "gap"
	Reason string // what is wrong and what to do
}

func (e *PolicyError) Error() string {
	if e.Where == "" {
		return e.Rule + ": " + e.Reason
	}
	return e.Where + ": " + e.Rule + ": " + e.Reason
}

func (e *PolicyError) Is(target error) bool { return target == ErrInvalid }

// builder checks a policy and collects what is wrong.
type builder struct {
	scale  Scale
	path   []string
	faults []error
	nodes  int
}

func (b *builder) refuse(rule, format string, args ...any) {
	const most = 50 // faults; more help nobody
	if len(b.faults) < most {
		b.faults = append(b.faults, &PolicyError{strings.Join(b.path, "/"), rule, fmt.Sprintf(format, args...)})
	}
}

func (b *builder) err() error {
	if len(b.faults) == 1 {
		return b.faults[0]
	}
	return errors.Join(b.faults...)
}

const (
	nameRule = "a name has 1 to 100 bytes of letters, digits, spaces and . _ - : and does not begin or end with a space"
	maxText  = 2_000 // bytes of a text for people
)

// isName reports whether s can name a level, an engine, a question, a step.
func isName(s string) bool {
	if s == "" || len(s) > 100 || strings.TrimSpace(s) != s {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !strings.ContainsRune(" ._-:", r)
	})
}

// name refuses what cannot be a name.
func (b *builder) name(of, name string) {
	if !isName(name) {
		b.refuse("name", "%s is named %q: %s", of, name, nameRule)
	}
}

// text refuses a text that is too long or that is no text.
func (b *builder) text(of, s string) {
	if len(s) > maxText || !utf8.ValidString(s) {
		b.refuse("text", "the text of %s has more than %d bytes or is not UTF-8: shorten it", of, maxText)
	}
}

// count refuses a list that is empty or too long, and reports whether it did not.
func (b *builder) count(of string, n, most int) bool {
	if n < 1 || n > most {
		b.refuse("count", "there are %d %s: give 1 to %d", n, of, most)
		return false
	}
	return true
}

// twice refuses a name that stands twice.
func (b *builder) twice(seen map[string]bool, of, name string) {
	if seen[name] {
		b.refuse("twice", "%s %q stands twice: give each its own name", of, name)
	}
	seen[name] = true
}
