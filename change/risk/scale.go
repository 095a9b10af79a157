package risk

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/change"
)

// Scale is the levels of risk, from the lowest to the highest: 2 to 20.
type Scale []string

// The levels of the default scale.
const (
	Low      = "low"
	Moderate = "moderate"
	High     = "high"
	Critical = "critical"
)

// DefaultScale is low, moderate, high, critical.
func DefaultScale() Scale { return Scale{Low, Moderate, High, Critical} }

// rank returns the place of a level, from 1; 0 if the scale does not have it.
func (s Scale) rank(level string) int { return slices.Index(s, level) + 1 }

func (s Scale) lowest() string { return s[0] }

func (s Scale) highest() string { return s[len(s)-1] }

func (s Scale) String() string { return strings.Join(s, ", ") }

// unknown is the verdict where an engine cannot tell: the highest level.
func (s Scale) unknown(format string, args ...any) change.Verdict {
	return change.Verdict{Level: s.highest(), Why: []string{fmt.Sprintf(format, args...) + ", so it counts as " + s.highest()}}
}

func (b *builder) checkScale() {
	if len(b.scale) < 2 || len(b.scale) > 20 {
		b.refuse("scale", "a scale has 2 to 20 levels, not %d", len(b.scale))
	}
	for i, level := range b.scale {
		switch {
		case !isName(level):
			b.refuse("scale", "level %d is named %q: %s", i+1, level, nameRule)
		case slices.Index(b.scale, level) != i:
			b.refuse("scale", "level %q stands twice: name each level once", level)
		}
	}
}

// level refuses a level that the scale does not have.
func (b *builder) level(of, level string) {
	if b.scale.rank(level) == 0 {
		b.refuse("unknown-level", "%s has level %q: the scale has %s; use one of these, or give the policy another scale by On", of, level, b.scale)
	}
}

// levels refuses a list of levels that numbers from 1 are turned into.
func (b *builder) levels(list []string) {
	if len(list) < 2 || len(list) > 100 {
		b.refuse("levels", "there are %d levels: name 2 to 100, the first for 1, the second for 2", len(list))
	}
	for i, level := range list {
		b.level(fmt.Sprintf("number %d", i+1), level)
	}
}

// fiveSteps are what 1 to 5 mean on the default scale unless somebody says
// otherwise.
func fiveSteps() []string { return []string{Low, Low, Moderate, High, Critical} }
