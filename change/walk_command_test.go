package change_test

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

func (w *walk) person() string          { return pick(w, crowd) }
func (w *walk) chance(one, of int) bool { return w.random.IntN(of) < one }

func pick[E any](w *walk, from []E) E { return from[w.random.IntN(len(from))] }

func (w *walk) actor() command.Actor {
	a := command.As(w.person())
	switch {
	case w.chance(1, 20):
		a = a.For(w.person())
	case len(w.delegated) > 0 && w.chance(1, 4):
		d := pick(w, w.delegated)
		a = command.As(d.To).For(d.Person)
	}
	return a
}

// content is something that people might write into a change.
func (w *walk) content(whole bool) change.Content {
	var c change.Content
	if whole {
		c.Title = "Change " + strconv.Itoa(w.random.IntN(100))
	}
	maybe := func(f func()) {
		if w.chance(1, 3) || whole && w.chance(1, 2) {
			f()
		}
	}
	maybe(func() { c.Plans.Backout = pick(w, []string{"restore", "switch back"}) })
	maybe(func() { c.Plans.Implementation = pick(w, []string{"by hand", "by script"}) })
	maybe(func() {
		start := monday.Add(time.Duration(w.random.IntN(400)) * time.Hour)
		c.Window = change.Between(start, start.Add(time.Duration(w.random.IntN(20)-1)*time.Hour))
	})
	maybe(func() { c.Implementers = []string{w.person()} })
	maybe(func() { c.Category = pick(w, []string{"network", "database"}) })
	maybe(func() {
		c.CIs = []string{pick(w, estateCIs)}
		if w.chance(1, 12) {
			c.CIs = append(c.CIs, "nowhere")
		}
	})
	maybe(func() {
		attribute := "version"
		if w.chance(1, 6) {
			attribute = "owner"
		}
		ci, _ := w.cmdb.Get(context.Background(), "db-01")
		value := ci.Attributes[attribute]
		if w.chance(1, 6) {
			value = "something else"
		}
		c.Deltas = []cmdb.Delta{cmdb.Set("db-01", attribute, value, "v"+strconv.Itoa(w.random.IntN(1000)))}
	})
	maybe(func() { c.Description = "about " + strconv.Itoa(w.random.IntN(100)) })
	maybe(func() { c.Cost, c.Benefit = apd.New(int64(1+w.random.IntN(9)), 2), apd.New(int64(w.random.IntN(9)), 3) })
	maybe(func() { c.Justification, c.Group, c.Owner = "needed", "g1", w.person() })
	maybe(func() { c.Outage = &change.Outage{Expected: true, For: 60} })
	maybe(func() { c.Urgency, c.Tags = apd.New(2, 0), []string{"q3"} })
	maybe(func() { c.Plans.Test, c.Plans.Communication = "smoke", "mail" })
	maybe(func() { c.Evidence = []change.Evidence{{URL: "https://ci.example.org/run/7"}} })
	maybe(func() {
		if w.chance(1, 4) {
			c.Order = []change.Order{{Rule: pick(w, []string{change.MustFollow, change.MustNotOverlap}), Change: pick(w, append([]string{"CHG-000099"}, w.ids...))}}
		}
	})
	maybe(func() { c.Stakeholders = []change.Stakeholder{{Who: "p6", Told: []string{"closed"}}} })
	return c
}

// commands are what could be asked of a change: mostly what leads on.
func (w *walk) commands(c change.Change) []change.Command {
	if w.chance(1, 20) {
		return []change.Command{change.At(c.Version), w.any(c)}
	}
	if w.chance(2, 3) {
		if on := w.onward(c); len(on) > 0 {
			return on[w.random.IntN(len(on)):][:1]
		}
	}
	one := w.any(c)
	if w.chance(1, 20) {
		return []change.Command{one, w.any(c)}
	}
	return []change.Command{one}
}

// onward are commands that fit the phase.
func (w *walk) onward(c change.Change) []change.Command {
	if c.Held != nil {
		return []change.Command{change.Resume{}}
	}
	var on []change.Command
	for _, a := range c.Approvals {
		if a.State == workflow.Requested {
			on = append(on, change.Approve{Stage: a.Stage.Name, Scope: c.Scope}, change.Approve{Stage: a.Stage.Name, Scope: c.Scope}, change.Approve{Stage: a.Stage.Name, Scope: c.Scope})
			if !a.Deadline.IsZero() && !w.clock.now.Before(a.Deadline) {
				on = append(on, change.Expire{Stage: a.Stage.Name})
			}
		}
	}
	switch c.Kind {
	case change.KindPlan:
		on = append(on, change.Submit{}, change.Submit{}, change.Advance{}, change.Edit{Set: w.content(false)})
	case change.KindAssess, change.KindAuthorize:
		on = append(on, change.Advance{}, change.Assess{Level: pick(w, []string{"low", "high"}), Why: "seen"}, change.Start{})
	case change.KindScheduled:
		on = append(on, change.Start{}, change.Start{}, change.Advance{})
	case change.KindImplement:
		if c.Started != nil && c.Started.First && w.chance(1, 3) {
			on = append(on, change.Cancel{Reason: "as if nothing had happened"})
		}
		on = append(on, change.Complete{}, change.Complete{BackedOut: w.chance(1, 3)}, change.Advance{})
	case change.KindReview:
		on = append(on, change.Review{Outcome: change.Successful, Accept: pick(w, []string{"", "", "it had to be"})}, change.Close{}, change.Advance{})
	}
	for _, t := range c.Tasks {
		if !t.State.Ended() {
			on = append(on, change.MoveTask{ID: t.ID, To: workflow.TaskClosed})
			break
		}
	}
	return on
}

// any is any command, whether it fits or not.
func (w *walk) any(c change.Change) change.Command {
	stage := "nobody"
	if m := w.oracles[c.ID].model; len(m.Stages) > 0 {
		stage = pick(w, m.Stages).Name
	}
	scopes := []string{c.Scope, c.Scope, "scope-1:old"}
	for old := range w.oracles[c.ID].scopes {
		scopes = append(scopes, old)
	}
	slices.Sort(scopes)
	task := change.MoveTask{ID: 1 + w.random.IntN(max(1, len(c.Tasks))), To: pick(w, []workflow.TaskState{workflow.TaskInProgress, workflow.TaskClosed, workflow.TaskCancelled, workflow.TaskPending, workflow.TaskOpen})}
	at := monday.Add(time.Duration(w.random.IntN(400)) * time.Hour)
	return pick(w, []change.Command{
		change.Submit{}, change.Start{}, change.Start{}, change.Complete{}, change.Close{}, change.Advance{},
		change.Edit{Set: w.content(false)}, change.Edit{Set: w.content(false)}, change.Edit{Set: w.content(false)},
		change.Edit{Clear: []string{pick(w, change.Fields())}},
		change.Approve{Stage: stage, Scope: pick(w, scopes)}, change.Approve{Stage: stage, Scope: pick(w, scopes)},
		change.Reject{Stage: stage, Reason: "not so"}, change.Expire{Stage: stage},
		change.Assess{Level: "high", Why: "seen"},
		change.Review{Outcome: change.WithIssues, Accept: pick(w, []string{"", "so be it"}), FollowUps: []change.FollowUp{{Title: "write it down", Kind: workflow.TaskDocumentation}}},
		change.Complete{BackedOut: true, Applied: []cmdb.Delta{cmdb.Set("db-01", "version", "guess", "x")}},
		change.Cancel{Reason: "no need"}, change.Revert{Reason: "again"}, change.Hold{Reason: "wait"}, change.Resume{},
		change.AddTask{Title: "do it", Kind: workflow.TaskImplementation, Start: at, End: at.Add(time.Hour)}, change.AddTask{Title: "tell", Kind: workflow.TaskCommunication},
		task, task, change.EditTask{ID: task.ID, Start: at, End: at.Add(time.Hour)},
		change.Link{Incident: change.Incident{ID: "INC-1", Relation: pick(w, []string{change.Fixes, change.Caused}), Priority: 2}},
		change.Note{Text: "hm"}, change.Advance{To: "nowhere"},
	})
}
