package automation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// DriftConfig is how [Drift] works. Changes, CMDB, Door, WaitFor, and Classes or
// Governs are required.
type DriftConfig struct {
	Changes *change.Service
	CMDB    *cmdb.Service
	Door    *command.Door

	// WaitFor returns when changes and CMDB show the event at a position:
	// Engine.WaitFor. What a change in another process says is known by it.
	WaitFor func(ctx context.Context, position eventstore.Position) error

	// A CI is governed if it is of one of Classes or below it, or if Governs says so. A
	// relation is if one of its ends is.
	Classes []string
	Governs func(ci cmdb.CI) bool

	// Except says which deltas are none nevertheless, such as those of attributes that
	// change by themselves. Default none.
	Except func(d cmdb.Delta) bool

	// Added has a CI that a source reports for the first time count as drift. Default:
	// it does not, nor do its attributes and relations that the source reports within
	// NewFor, so that the first import of an estate raises nothing.
	Added  bool
	NewFor time.Duration // default 1 h

	// Before and After are by how much the time in which a change explains what is
	// observed is longer than its work or its window, since what is done is not seen at
	// once, and clocks differ. Defaults 0 and 15 min; below 0 is none.
	Before, After time.Duration

	Model string        // under which changes are raised; default "unauthorized"
	Actor command.Actor // default Actor
	Name  string        // of the handler; default "drift"

	asNow bool // tests judge changes by how they stand now
}

// Drift returns a handler that raises a change for what a source observed on governed
// CIs and no change explains (DOMAIN 4.6): one for an event of the source, with the
// CIs, drift as its origin, and each delta with the change that was nearest.
//
// A change explains a delta if it plans it and, as it stood when the observation was
// recorded, was at work at that time, by the clock of who imported, or was authorised
// and in its window; Before and After are added to both. A change at work, or whose
// work was backed out, explains the opposite of what it plans as well. How the change
// stands by the time the handler comes to the event does not matter, so that it says
// the same whenever it runs. Deltas that releases deliver are those of their change.
//
// An event without governed deltas costs a look at the graph; another one a look at
// every change that declares its CIs, and two reads of the streams of those that have
// moved on since.
func Drift(c DriftConfig) (relay.Handler, error) {
	if c.Changes == nil || c.CMDB == nil || c.Door == nil || c.WaitFor == nil {
		return relay.Handler{}, errors.New("automation: drift: Changes, CMDB, Door and WaitFor are required")
	}
	if len(c.Classes) == 0 && c.Governs == nil {
		return relay.Handler{}, errors.New("automation: drift: say by Classes or Governs which CIs are governed: none are by themselves")
	}
	if c.NewFor < 0 {
		return relay.Handler{}, errors.New("automation: drift: NewFor is not negative; 0 is its default")
	}
	if c.NewFor == 0 {
		c.NewFor = time.Hour
	}
	if c.After == 0 {
		c.After = 15 * time.Minute
	}
	c.Before, c.After = max(c.Before, 0), max(c.After, 0)
	if c.Model == "" {
		c.Model = "unauthorized"
	}
	if c.Name == "" {
		c.Name = "drift"
	}
	c.Actor = acting(c.Actor)
	return relay.Handler{Name: c.Name, Cases: []relay.Case{relay.On(c.observed)}}, nil
}

// unexplained is a delta that no change explains, with what was nearest.
type unexplained struct {
	delta   cmdb.Delta
	nearest string // a sentence
}

func (c DriftConfig) observed(ctx context.Context, e cmdb.Observed, env relay.Envelope) error {
	if err := c.WaitFor(ctx, env.Position); err != nil {
		return err
	}
	var deltas []cmdb.Delta
	err := c.CMDB.View(ctx, func(g *cmdb.Graph) error {
		deltas = c.governed(g, e, env)
		return nil
	})
	if err != nil || len(deltas) == 0 {
		return err
	}
	past := past{changes: c.Changes, at: env.Position, known: map[string]change.Change{}, asNow: c.asNow}
	var found []unexplained
	for _, d := range deltas {
		candidates, err := past.declaring(ctx, d)
		if err != nil {
			return err
		}
		if v := c.judge(candidates, d, when(env)); v.rank != explains {
			found = append(found, unexplained{d, v.says})
		}
	}
	if len(found) == 0 {
		return nil
	}
	r := raised{changes: c.Changes, door: c.Door, call: env.Call(c.Actor), what: env.ID.String()}
	_, err = r.raise(ctx, func() (change.Raise, []change.Command, error) { return c.raise(e, found, env), nil, nil })
	return answered(err)
}

// governed returns the deltas of an observation that a change has to explain.
func (c DriftConfig) governed(g *cmdb.Graph, e cmdb.Observed, env relay.Envelope) []cmdb.Delta {
	var deltas []cmdb.Delta
	reach, fresh := map[string]bool{}, map[string]bool{} // as found out
	ask := func(known map[string]bool, id string, f func() bool) bool {
		answer, ok := known[id]
		if !ok && id != "" {
			answer = f()
			known[id] = answer
		}
		return answer
	}
	for _, d := range e.Deltas {
		governs, isNew := false, false
		for _, id := range []string{d.CI, d.To} {
			governs = governs || ask(reach, id, func() bool { return c.reaches(g, id) })
		}
		if !governs || c.Except != nil && c.Except(d) {
			continue
		}
		for _, id := range []string{d.CI, d.To} {
			isNew = isNew || !c.Added && ask(fresh, id, func() bool { return c.isNew(g, id, e.CMDB().Cause, env) })
		}
		if d.Op == cmdb.OpAdd && !c.Added || d.Op != cmdb.OpAdd && isNew {
			continue
		}
		deltas = append(deltas, d)
	}
	return deltas
}

func (c DriftConfig) reaches(g *cmdb.Graph, id string) bool {
	ci, ok := g.CI(id)
	if !ok {
		return false
	}
	_, above, _ := g.Class(ci.Class)
	return slices.Contains(c.Classes, ci.Class) || slices.ContainsFunc(above, func(class string) bool { return slices.Contains(c.Classes, class) }) ||
		c.Governs != nil && c.Governs(ci)
}

// isNew reports whether the source itself brought a CI a short while before.
func (c DriftConfig) isNew(g *cmdb.Graph, id, source string, env relay.Envelope) bool {
	history, _ := g.History(id)
	at := when(env)
	return slices.ContainsFunc(history, func(e cmdb.Entry) bool {
		came := e.OccurredAt
		if came.IsZero() {
			came = e.RecordedAt
		}
		return e.Delta.Op == cmdb.OpAdd && e.Delta.CI == id && e.Misfit == "" && e.Cause == source && e.Position <= env.Position && at.Sub(came) <= c.NewFor
	})
}

const (
	mostListed = 100 // deltas in the text of a change
	mostCIs    = 200 // that a change can declare
)

// raise is the change for what was found.
func (c DriftConfig) raise(e cmdb.Observed, found []unexplained, env relay.Envelope) change.Raise {
	var cis []string
	for _, u := range found {
		for _, id := range []string{u.delta.CI, u.delta.To} {
			if id != "" && !slices.Contains(cis, id) {
				cis = append(cis, id)
			}
		}
	}
	title := "Drift on " + cis[0]
	if len(cis) > 1 {
		title += fmt.Sprintf(" and %d more", len(cis)-1)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Source %s reported what no change explains, seen at %s:\n", line(e.Source, 128), stamp(when(env)))
	for _, u := range found[:min(len(found), mostListed)] {
		fmt.Fprintf(&b, "- it has %s: %s\n", line(u.delta.String(), 180), line(u.nearest, 120))
	}
	if n := len(found) - mostListed; n > 0 {
		fmt.Fprintf(&b, "And %d more, which are in event %s.\n", n, env.ID)
	}
	if n := len(cis) - mostCIs; n > 0 {
		fmt.Fprintf(&b, "%d further CIs are not among those of this change.\n", n)
	}
	return change.Raise{
		Model: c.Model, External: "drift/" + env.ID.String(), Unique: true,
		Content: change.Content{
			Title: line(title, maxTitle), Description: b.String(), CIs: cis[:min(len(cis), mostCIs)],
			Origin: change.Origin{Kind: "drift", Reference: line(e.Source, maxTitle)},
		},
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
