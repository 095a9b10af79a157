package change_test

import (
	"context"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// crowd is who takes part: those whom stages ask, and others.
var crowd = []string{"p1", "p2", "p3", "p4", "p5", "p6", "p7"}

// last resorts are people who do nothing in a walk.
var spare = []string{"s1", "s2", "s3"}

// directory is what is known of the crowd.
var directory = change.People{
	Groups: map[string][]string{"g1": {"p1", "p2", "p7"}, "g2": {"p3", "p4"}, "g3": {"p5", "p6", "p1"}, "team-db": {"p2", "p5"}},
	Roles:  map[string][]string{"approver": {"p1", "p3", "p6"}},
}

// facing is a risk policy that follows from the facts.
type facing struct{}

func (facing) Policy() change.Policy { return change.Policy{ID: "facing", Version: "1"} }

func (facing) Assess(_ context.Context, f change.Facts) (change.Verdict, error) {
	if f.Impacted > 1 || !f.Backout {
		return change.Verdict{Level: "high", Why: []string{"much hangs on it, or there is no way back"}}, nil
	}
	return change.Verdict{Level: "low", Why: []string{"little hangs on it"}}, nil
}

// estateCIs are those of other tests, with one more.
var estateCIs = []string{"db-01", "shop", "web"}

// prepare makes what a walk goes through: an estate, models, a template, delegations.
func (w *walk) prepare() {
	ctx := context.Background()
	if _, err := w.cmdb.Record(ctx, carol, cmdb.Add("web", "application"), cmdb.Relate("shop", "depends on", "web")); err != nil {
		w.wrong("estate", "%v", err)
	}
	for range 1 + w.random.IntN(2) {
		m := pick(w, drawn())
		if _, err := w.changes.Publish(ctx, carol, m); err != nil {
			w.wrong("publish", "%v", err)
		}
		w.models = append(w.models, m)
		if m.Authority == change.AuthorityTemplate {
			w.propose(m)
		}
	}
	if w.template == nil && w.chance(1, 3) {
		m := change.Models()[1]
		w.models = append(w.models, m)
		w.propose(m)
	}
	for range w.random.IntN(4) {
		from, to := w.person(), w.person()
		if from == to {
			continue
		}
		until := w.clock.now.Add(time.Duration(1+w.random.IntN(1000)) * time.Hour)
		d := command.Delegation{Person: from, To: to, From: w.clock.now, Until: until, Actions: []string{"change.*"}}
		if _, err := w.door.Delegate(ctx, command.As(from), d); err != nil {
			w.wrong("delegate", "%v", err)
		}
		w.delegated = append(w.delegated, d)
	}
}

// propose has the template "limits" of a model proposed, and published if who is
// drawn to approve it may.
func (w *walk) propose(m change.Model) {
	ctx := context.Background()
	text := change.Template{
		Model: m.Name, Title: "Raise a limit", Plans: change.Plans{Implementation: "set it", Backout: "set it back"},
		Classes: []string{"database", "application"}, Attributes: []string{"version"}, Longest: change.Duration(12 * time.Hour),
	}
	if w.chance(1, 3) {
		text.Tasks = []change.TaskTemplate{{Title: "Set it", Kind: workflow.TaskImplementation}}
	}
	proposer, approver := w.actor(), w.actor()
	proposer.OnBehalfOf, approver.OnBehalfOf = "", "" // nobody has delegated anything yet
	t, err := w.changes.ProposeTemplate(ctx, proposer, "limits", text)
	if err != nil {
		w.wrong("template", "%v", err)
	}
	if _, err = w.changes.ApproveTemplate(ctx, approver, "limits", t.Version); err == nil {
		if t, err = w.changes.PublishTemplate(ctx, carol, "limits", t.Version); err == nil {
			w.template = &t
		}
	}
}
