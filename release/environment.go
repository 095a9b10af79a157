package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
)

// The bounds of a graph of environments.
const (
	maxEnvironments = 200
	maxGates        = 50  // of one environment
	maxItems        = 200 // of one checklist
	maxName         = 200 // bytes
	maxTitle        = 500 // bytes
)

// Environment is where versions are deployed to, and what must hold before.
type Environment struct {
	Name         string          `json:"name"` // "staging"
	Title        string          `json:"title,omitzero"`
	Production   bool            `json:"production,omitzero"`    // what is deployed here is authorised by a change
	Upstream     []string        `json:"upstream,omitzero"`      // environments from which versions are promoted to this one
	AnyUpstream  bool            `json:"any_upstream,omitzero"`  // one upstream that holds all of it is enough; default: every one
	Soak         change.Duration `json:"soak,omitzero"`          // that a version has been in an upstream without a break
	MinSuccesses int             `json:"min_successes,omitzero"` // targets in an upstream that took the version, at least
	Gates        []Gate          `json:"gates,omitzero"`
	Limits       Limits          `json:"limits,omitzero"`
}

// Limits are how many targets of a deployment may go wrong; more fail it. At 0
// the first one does.
type Limits struct {
	Failures          int `json:"failures,omitzero"`
	Inconclusive      int `json:"inconclusive,omitzero"`
	ConsecutiveErrors int `json:"consecutive_errors,omitzero"` // one after the other: what could not be measured, and may be soon
}

// Environments is the graph of environments: each names its upstreams.
type Environments []Environment

// Find returns the environment of that name; ok is false if there is none.
func (e Environments) Find(name string) (found Environment, ok bool) {
	i := slices.IndexFunc(e, func(one Environment) bool { return one.Name == name })
	if i < 0 {
		return Environment{}, false
	}
	return e[i], true
}

// Production returns the names of the production environments, in the order of
// the graph.
func (e Environments) Production() []string {
	var all []string
	for _, one := range e {
		if one.Production {
			all = append(all, one.Name)
		}
	}
	return all
}

// Order returns the names of all environments, every one after its upstreams and
// otherwise in the order in which they are given. In a graph that Check refuses
// for a cycle those in it, and what lies behind them, come last. It costs the
// square of the number of environments.
func (e Environments) Order() []string {
	var order []string
	waits := func(one Environment) bool {
		return slices.ContainsFunc(one.Upstream, func(up string) bool {
			_, known := e.Find(up)
			return known && !slices.Contains(order, up)
		})
	}
	left := slices.Clone(e)
	for len(left) > 0 {
		next := slices.IndexFunc(left, func(one Environment) bool { return !waits(one) })
		if next < 0 {
			for _, one := range left {
				order = append(order, one.Name)
			}
			return order
		}
		order = append(order, left[next].Name)
		left = slices.Delete(left, next, next+1)
	}
	return order
}

// Check returns everything that is wrong with the graph and its gates, but for
// the texts of conditions: [Environments.Compile] tells about those.
func (e Environments) Check() []command.Refusal {
	var f faults
	if len(e) > maxEnvironments {
		f.add("environments", "too-many", "there are %d environments", "use at most %d", len(e), maxEnvironments)
		return f
	}
	if len(e) > 0 && len(e.Production()) == 0 {
		f.add("environments", "no-production", "no environment is production, so that nothing would be authorised", "say which one is")
	}
	seen := map[string]bool{}
	for i, one := range e {
		at := fmt.Sprintf("environments[%d]", i)
		f.name(at+".name", one.Name, "environment")
		f.text(at+".title", one.Title)
		if seen[one.Name] && one.Name != "" {
			f.add(at+".name", "environment-twice", "two environments are called %q", "rename one", one.Name)
		}
		seen[one.Name] = true
		e.checkUpstream(&f, at, one)
		for _, limit := range []struct {
			name string
			n    int
		}{{"failures", one.Limits.Failures}, {"inconclusive", one.Limits.Inconclusive}, {"consecutive_errors", one.Limits.ConsecutiveErrors}} {
			if limit.n < 0 {
				f.add(at+".limits."+limit.name, "negative-limit", "it is %d", "use 0 to allow none, or more", limit.n)
			}
		}
		checkGates(&f, at, one.Gates)
	}
	for _, cycle := range e.cycles() {
		f.add("environments", "environment-cycle", "%s: each is upstream of the next, and nothing could ever be deployed to them", "take one of these upstreams away", strings.Join(cycle, " -> "))
	}
	return f
}

func (e Environments) checkUpstream(f *faults, at string, one Environment) {
	seen := map[string]bool{}
	for k, up := range one.Upstream {
		field := fmt.Sprintf("%s.upstream[%d]", at, k)
		if _, known := e.Find(up); !known {
			f.add(field, "unknown-upstream", "there is no environment %q", "name one of %s", up, strings.Join(e.names(), ", "))
		}
		if seen[up] {
			f.add(field, "upstream-twice", "%q is named twice", "name it once", up)
		}
		seen[up] = true
	}
	if one.Soak < 0 {
		f.add(at+".soak", "negative-soak", "it is %v", "use 0 for none, or more", one.Soak)
	}
	if one.MinSuccesses < 0 {
		f.add(at+".min_successes", "negative-minimum", "it is %d", "use 0 for none, or more", one.MinSuccesses)
	}
	if len(one.Upstream) == 0 && (one.AnyUpstream || one.Soak != 0 || one.MinSuccesses != 0) {
		f.add(at+".upstream", "no-upstream", "it asks something of its upstreams, and has none", "name one, or ask nothing of them")
	}
}

func (e Environments) names() []string {
	all := make([]string, len(e))
	for i, one := range e {
		all[i] = one.Name
	}
	return all
}

// cycles returns for every upstream that closes a cycle the cycle, upstream
// first, its first environment again at the end.
func (e Environments) cycles() [][]string {
	const (
		open = 1 // on the path that is walked
		done = 2
	)
	var all [][]string
	var path []string // downstream first
	state := map[string]int{}
	var walk func(Environment)
	walk = func(one Environment) {
		state[one.Name] = open
		path = append(path, one.Name)
		for _, up := range one.Upstream {
			next, known := e.Find(up)
			switch {
			case !known:
			case state[up] == open:
				cycle := append(slices.Clone(path[slices.Index(path, up):]), up)
				slices.Reverse(cycle)
				all = append(all, cycle)
			case state[up] == 0:
				walk(next)
			}
		}
		path = path[:len(path)-1]
		state[one.Name] = done
	}
	for _, one := range e {
		if state[one.Name] == 0 {
			walk(one)
		}
	}
	return all
}

// Standing is how a version of a component stands in an environment: one
// occupation, without a break.
type Standing struct {
	Environment string
	Version     string
	Verified    bool      // a deployment of it has finished well
	Since       time.Time // it is in force there; zero: not known
	Until       time.Time // another one took its place; zero: still
	Successes   int       // targets that took it
	Held        bool      // a person has to lift a hold before anything goes past it
}

// Promotion returns what stands in the way of deploying a version of a component
// to an environment at a time (DOMAIN 3): its upstreams, where one and the same
// occupation must be verified, have lasted for the soak time, and have the
// successes; and holds, in upstreams and in the environment itself. Standings are
// those of the version, in any order, and of the environment itself whichever
// version it has. What is not known of an upstream counts as not verified.
func (e Environments) Promotion(to string, standings []Standing, now time.Time) []command.Refusal {
	target, known := e.Find(to)
	if !known {
		return []command.Refusal{{
			Kind: command.Malformed, Rule: "unknown-environment", Field: "environment", Reason: fmt.Sprintf("there is no environment %q", to),
			Remedy: "name one of " + strings.Join(e.names(), ", "),
		}}
	}
	var refused []command.Refusal
	for _, s := range standings {
		if s.Environment == to && s.Held && s.Until.IsZero() {
			refused = append(refused, held(to))
			break
		}
	}
	var missing []command.Refusal
	for _, up := range target.Upstream {
		lacks := target.lacks(up, standings, now)
		if len(lacks) == 0 && target.AnyUpstream {
			return refused
		}
		missing = append(missing, lacks...)
	}
	return append(refused, missing...)
}

// lacks returns what an upstream still owes.
func (e Environment) lacks(up string, standings []Standing, now time.Time) []command.Refusal {
	var best []command.Refusal // of the occupation that lacks least, the later one of two
	var since time.Time
	found, isHeld := false, false
	for _, s := range standings {
		if s.Environment != up {
			continue
		}
		isHeld = isHeld || s.Held && s.Until.IsZero()
		lacks := e.owed(s, now)
		if !found || len(lacks) < len(best) || len(lacks) == len(best) && s.Since.After(since) {
			best, since, found = lacks, s.Since, true
		}
	}
	if !found {
		best = []command.Refusal{unverified(e.Name, up, "this version was never in "+up)}
	}
	if isHeld {
		best = append(best, held(up))
	}
	return best
}

// owed returns what one occupation of an upstream does not have yet.
func (e Environment) owed(s Standing, now time.Time) []command.Refusal {
	var refused []command.Refusal
	if !s.Verified {
		refused = append(refused, unverified(e.Name, s.Environment, fmt.Sprintf("version %s is not verified in %s", s.Version, s.Environment)))
	}
	if soak := time.Duration(e.Soak); soak > 0 {
		refuse := func(reason, remedy string) {
			refused = append(refused, command.Refusal{Kind: command.Refused, Rule: "soak-not-over", Field: "environment", Reason: reason, Remedy: remedy})
		}
		ready := s.Since.Add(soak)
		switch {
		case s.Since.IsZero():
			refuse(fmt.Sprintf("it is not known since when version %s has been in %s, and %s asks for %v there", s.Version, s.Environment, e.Name, e.Soak), "deploy it there again")
		case !s.Until.IsZero() && s.Until.Before(ready):
			refuse(fmt.Sprintf("version %s was in %s for %v only, until %s, and %s asks for %v", s.Version, s.Environment, s.Until.Sub(s.Since), clock(s.Until), e.Name, e.Soak), "deploy it there again")
		case now.Before(ready):
			refuse(fmt.Sprintf("version %s has been in %s since %s, and %s asks for %v", s.Version, s.Environment, clock(s.Since), e.Name, e.Soak), "wait until "+clock(ready))
		}
	}
	if s.Successes < e.MinSuccesses {
		refused = append(refused, command.Refusal{
			Kind: command.Refused, Rule: "too-few-successes", Field: "environment",
			Reason: fmt.Sprintf("%d targets in %s took version %s, and %s asks for %d", s.Successes, s.Environment, s.Version, e.Name, e.MinSuccesses),
			Remedy: "deploy to more targets there",
		})
	}
	return refused
}

func unverified(to, up, reason string) command.Refusal {
	return command.Refusal{
		Kind: command.Refused, Rule: "upstream-not-verified", Field: "environment", Reason: reason,
		Remedy: fmt.Sprintf("deploy it to %s and finish before deploying to %s", up, to),
	}
}

func held(environment string) command.Refusal {
	return command.Refusal{
		Kind: command.Refused, Rule: "on-hold", Field: "environment", Reason: environment + " is on hold after a rollback",
		Remedy: "lift the hold, when it is clear why it was rolled back",
	}
}

// clock writes a time for people, in UTC.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// faults collects what is wrong with what people define.
type faults []command.Refusal

// add adds a refusal; args fill the reason first, then the remedy.
func (f *faults) add(field, rule, reason, remedy string, args ...any) {
	n := strings.Count(reason, "%") - 2*strings.Count(reason, "%%")
	*f = append(*f, command.Refusal{
		Kind: command.Malformed, Rule: rule, Field: field, Reason: fmt.Sprintf(reason, args[:n]...), Remedy: fmt.Sprintf(remedy, args[n:]...),
	})
}

// name refuses what is no name: names are parts of those of streams and CIs.
func (f *faults) name(field, s, of string) {
	switch {
	case s == "":
		f.add(field, "name-required", "the %s has no name", "give it one", of)
	case len(s) > maxName:
		f.add(field, "too-long", "it has %d bytes", "use at most %d", len(s), maxName)
	case !utf8.ValidString(s) || s != strings.TrimSpace(s) || strings.ContainsFunc(s, func(r rune) bool { return r == '@' || r == '/' || unicode.IsControl(r) }):
		f.add(field, "bad-name", "%q cannot be a name", "use no @, / or control characters, and no spaces around it", s)
	}
}

// text refuses what is no single line of text; empty is none.
func (f *faults) text(field, s string) {
	switch {
	case len(s) > maxTitle:
		f.add(field, "too-long", "it has %d bytes", "use at most %d", len(s), maxTitle)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		f.add(field, "not-text", "it is not UTF-8, or has control characters", "write it as one line")
	}
}
