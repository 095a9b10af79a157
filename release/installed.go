package release

import (
	"slices"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// InForce is what stands in one environment of one CI. It is folded from a stream
// of its own, so that of two deployments that begin at the same instant one is
// refused, and so that what is in force is known without waiting for a fold.
type InForce struct {
	Environment string
	CI          string // of the component
	Occupation         // now; its Version is empty where there is none
	Earlier     []Occupation
	Busy        *Installing // the deployment that is under way
	Withheld    []Withheld  // versions that were rolled back, and that nobody has lifted
	Events      uint64      // version of its stream
}

// Occupation is a version in force for a time, without a break.
type Occupation struct {
	Version    string
	Verified   bool
	Since      time.Time
	Until      time.Time // zero: still
	Release    string
	Deployment int
	Successes  int // targets that took it
}

// disturbed returns what is in force as it is when another version has been put
// beside it: from the moment at which that began it was no longer alone.
func (f InForce) disturbed(at time.Time) Occupation {
	past := f.Occupation
	if past.Until = at; f.Busy != nil {
		past.Until = f.Busy.At
	}
	return past
}

// was reports whether a version has been in force and verified.
func (f InForce) was(version string) bool {
	verified := func(o Occupation) bool { return o.Version == version && o.Verified }
	return verified(f.Occupation) || slices.ContainsFunc(f.Earlier, verified)
}

// withheld returns the hold on a version.
func (f InForce) withheld(version string) (Withheld, bool) {
	i := slices.IndexFunc(f.Withheld, func(w Withheld) bool { return w.Version == version })
	if i < 0 {
		return Withheld{}, false
	}
	return f.Withheld[i], true
}

// standings returns the occupations of a version, for promotion. While a deployment
// is under way time does not count for what is in force.
func (f InForce) standings(version string) []Standing {
	var all []Standing
	now := f.Occupation
	if f.Busy != nil {
		now.Until = f.Busy.At
	}
	for _, o := range append(slices.Clip(f.Earlier), now) {
		if o.Version == version && version != "" {
			all = append(all, Standing{
				Environment: f.Environment, Version: version, Verified: o.Verified, Since: o.Since, Until: o.Until, Successes: o.Successes,
			})
		}
	}
	return all
}

// inForceFolder folds the streams of what is in force. Its commands are their
// events: what is recorded there was decided with the release.
var inForceFolder = eventstore.Decider[InForce, any]{Decide: func(_ InForce, payload any) ([]any, error) { return []any{payload}, nil }, Evolve: func(f InForce, payload any) InForce {
	f.Events++
	switch e := payload.(type) {
	case Installing:
		f.Busy = &e
	case Installed:
		if f.Version != "" {
			f.Earlier = append(f.Earlier, f.disturbed(e.At))
		}
		f.Busy = nil
		f.Occupation = Occupation{Version: e.Version, Verified: e.Verified, Since: e.At, Release: e.Release, Deployment: e.Deployment, Successes: e.Successes}
	case NotInstalled:
		if e.Touched && f.Version != "" {
			f.Earlier = append(f.Earlier, f.disturbed(e.At))
			f.Occupation.Verified, f.Occupation.Since = false, e.At
		}
		f.Busy = nil
	case Withheld:
		f.Withheld = append(slices.Clip(f.Withheld), e)
	case Released:
		f.Withheld = slices.DeleteFunc(slices.Clone(f.Withheld), func(w Withheld) bool { return w.Release == e.Release })
	}
	return f
}}

// installedStream returns the stream of what is in force of a CI. The name of an
// environment has no slash, so that no two pairs have one stream.
func installedStream(environment, ci string) string { return "installed-" + environment + "/" + ci }
