package risk

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/change"
)

// Limit is a row of [BlastRadius]: From or more of what Of counts have the level.
// Of is one of
//
//	critical, high, moderate, low, unknown   CIs of that criticality, declared and impacted together
//	impacted                                 CIs beyond the declared ones
//	degraded                                 pools that lose redundancy
//	class:NAME                               CIs of that class, declared and impacted together
//	undeclared                               1 for a change that declares no CI, otherwise 0
type Limit struct {
	Of    string `json:"of"`
	From  int    `json:"from"` // 1 or more
	Level string `json:"level"`
}

// BlastRadius is an engine: the highest level among the limits that are reached,
// or the scale's lowest if none is. Where no CI is declared, what the change
// reaches is not known, and unless a limit of "undeclared" says its level it is
// the scale's highest. Without limits it has these:
//
//	critical     1 high, 5 critical
//	high         1 moderate, 10 high
//	unknown      1 moderate
//	impacted     10 moderate, 50 high, 500 critical
//	degraded     1 moderate
//	undeclared   1 moderate
func BlastRadius(limits ...Limit) *Policy {
	if len(limits) == 0 {
		limits = []Limit{
			{"critical", 1, High}, {"critical", 5, Critical},
			{"high", 1, Moderate}, {"high", 10, High},
			{"unknown", 1, Moderate},
			{"impacted", 10, Moderate}, {"impacted", 50, High}, {"impacted", 500, Critical},
			{"degraded", 1, Moderate},
			{"undeclared", 1, Moderate},
		}
	}
	return build(node{ID: "blast-radius", BlastRadius: &blastRadius{slices.Clone(limits)}}, nil)
}

type blastRadius struct {
	Limits []Limit `json:"limits"`
}

// countable says what each word of Limit.Of counts, one and many.
var countable = map[string][2]string{
	"critical": {"critical CI", "critical CIs"},
	"high":     {"CI of high criticality", "CIs of high criticality"},
	"moderate": {"CI of moderate criticality", "CIs of moderate criticality"},
	"low":      {"CI of low criticality", "CIs of low criticality"},
	"unknown":  {"CI of unknown criticality", "CIs of unknown criticality"},
	"impacted": {"CI is impacted", "CIs are impacted"},
	"degraded": {"pool loses redundancy", "pools lose redundancy"},
}

const (
	undeclared  = "undeclared"
	classPrefix = "class:"
)

func (e *blastRadius) build(b *builder, _ int) judge {
	b.count("limits", len(e.Limits), 100)
	seen := map[string]bool{}
	for i, l := range e.Limits {
		of := fmt.Sprintf("limit %d, of %q,", i+1, l.Of)
		class, isClass := strings.CutPrefix(l.Of, classPrefix)
		if _, known := countable[l.Of]; !known && l.Of != undeclared && (!isClass || !isName(class)) {
			b.refuse("unknown-count", "%s counts nothing that there is: use critical, high, moderate, low, unknown, impacted, degraded, undeclared or class:NAME", of)
		}
		if l.From < 1 || l.Of == undeclared && l.From != 1 {
			b.refuse("from", "%s is from %d: give 1 or more, and 1 for undeclared", of, l.From)
		}
		b.level(of, l.Level)
		b.twice(seen, "limit", fmt.Sprintf("%s from %d", l.Of, l.From))
	}
	return e.judge(b.scale)
}

func (e *blastRadius) judge(scale Scale) judge {
	return func(_ context.Context, s *subject) (change.Verdict, error) {
		best := map[string]Limit{} // of each count the limit with the highest level that is reached
		for _, l := range e.Limits {
			before, had := best[l.Of]
			if counted(s.Facts, l.Of) >= l.From && (!had || scale.rank(l.Level) > scale.rank(before.Level)) {
				best[l.Of] = l
			}
		}
		v := change.Verdict{Level: scale.lowest()}
		if _, said := best[undeclared]; len(s.CIs) == 0 && !said {
			v = scale.unknown("no CI is declared, so what it reaches is not known")
		}
		reached := make([]Limit, 0, len(best))
		for _, l := range e.Limits {
			if best[l.Of] == l {
				reached = append(reached, l)
			}
		}
		slices.SortStableFunc(reached, func(a, b Limit) int { return scale.rank(b.Level) - scale.rank(a.Level) })
		for _, l := range reached {
			if scale.rank(l.Level) > scale.rank(v.Level) {
				v.Level = l.Level
			}
			v.Why = append(v.Why, l.because(s.Facts))
		}
		if len(v.Why) == 0 {
			v.Why = []string{fmt.Sprintf("%s, and no limit is reached", counting("impacted", s.Impacted))}
		}
		return v, nil
	}
}

// counted returns how many of what a limit counts there are.
func counted(f change.Facts, of string) int {
	class, isClass := strings.CutPrefix(of, classPrefix)
	switch {
	case isClass:
		return named(f.Classes, class)
	case of == undeclared:
		if len(f.CIs) == 0 {
			return 1
		}
		return 0
	case of == "impacted":
		return f.Impacted
	case of == "degraded":
		return len(f.Degraded)
	}
	return named(f.Criticality, of)
}

func named(list []change.Counted, name string) int {
	n := 0
	for _, c := range list {
		if c.Name == name {
			n += c.Count
		}
	}
	return n
}

func (l Limit) because(f change.Facts) string {
	if l.Of == undeclared {
		return fmt.Sprintf("no CI is declared, so what it reaches is not known: that is %s", l.Level)
	}
	what := counting(l.Of, counted(f, l.Of))
	if l.Of == "degraded" && len(f.Degraded) <= 5 {
		what += " (" + strings.Join(f.Degraded, ", ") + ")"
	}
	return fmt.Sprintf("%s: %d or more is %s", what, l.From, l.Level)
}

// counting says how many there are: "2 critical CIs".
func counting(of string, n int) string {
	if class, isClass := strings.CutPrefix(of, classPrefix); isClass {
		return fmt.Sprintf("CIs of class %s: %d", class, n)
	}
	form := 1
	if n == 1 {
		form = 0
	}
	return fmt.Sprintf("%d %s", n, countable[of][form])
}
