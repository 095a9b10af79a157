package change_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/internal/workflow"
)

// goOn does what leads on, by whoever may, so that more walks come to the end of the work.
func (w *walk) goOn() {
	for _, id := range w.ids {
		for range 12 {
			c := w.handed[id].Change
			on := w.onward(c)
			if !c.Open() || len(on) == 0 {
				break
			}
			cmd, people := pick(w, on), slices.Concat(crowd, spare[:1])
			w.random.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
			for _, who := range people {
				if why, err := w.changes.Why(context.Background(), command.As(who), id, cmd); err != nil {
					w.wrong("why", "%v", err)
				} else if len(why) == 0 {
					w.ask(command.As(who), id, cmd)
					break
				}
			}
		}
	}
}

// finish shows that every state has a way out: people who did nothing so far, and
// for approvals those who are asked, bring each change to its end.
func (w *walk) finish() {
	for _, id := range w.ids {
		c := w.handed[id].Change
		for steps := 0; c.Open(); c = w.handed[id].Change {
			if steps++; steps > 200 || !w.nearer(c) {
				w.stuck(c)
			}
		}
	}
}

// wayOut judges that somebody can do something that leads on: what Next lists for him,
// or what the walk would do.
func (w *walk) wayOut(c change.Change) {
	if !c.Open() {
		return
	}
	for _, who := range slices.Concat(spare[:1], crowd) {
		steps, err := w.changes.Next(context.Background(), command.As(who), c.ID)
		if err != nil {
			w.wrong("next", "%v", err)
		}
		if slices.ContainsFunc(steps, func(s change.Step) bool { return len(s.Refused) == 0 }) {
			return
		}
	}
	if slices.ContainsFunc(c.Approvals, func(a change.Approval) bool {
		return a.State == workflow.Requested && w.clock.now.Before(a.Deadline)
	}) {
		return // it is waited for
	}
	if _, _, ok := w.possible(c); !ok {
		w.stuck(c)
	}
}

// stuck says of a change that nothing leads on what stands in the way.
func (w *walk) stuck(c change.Change) {
	ctx := context.Background()
	steps, err := w.changes.Next(ctx, command.As("s1"), c.ID)
	var why []string
	for _, step := range steps {
		why = append(why, fmt.Sprintf("to %s: %v", step.Says, step.Refused))
	}
	for _, a := range c.Approvals {
		for _, who := range crowd {
			r, err := w.changes.Why(ctx, command.As(who), c.ID, change.Approve{Stage: a.Stage.Name, Scope: c.Scope})
			why = append(why, fmt.Sprintf("%s approves %s: %v %v", who, a.Stage.Name, r, err))
		}
	}
	w.wrong("way out", "%s is stuck in phase %q (%s) %v\n%v\n%s", c.ID, c.Phase, c.Kind, err, strings.Join(why, "\n"), w.oracles[c.ID].model)
}

// nearer does one thing that brings a change nearer to its end.
func (w *walk) nearer(c change.Change) bool {
	for _, a := range c.Approvals {
		if a.State == workflow.Requested && w.clock.now.Before(a.Deadline) {
			w.clock.now = a.Deadline
		}
	}
	actor, cmd, ok := w.possible(c)
	if ok {
		w.ask(actor, c.ID, cmd)
	}
	return ok
}

// possible returns something that brings a change nearer to its end, and who may do it.
func (w *walk) possible(c change.Change) (command.Actor, change.Command, bool) {
	for _, cmd := range w.towards(c) {
		for _, who := range slices.Concat(spare, crowd) {
			why, err := w.changes.Why(context.Background(), command.As(who), c.ID, cmd)
			if err != nil {
				w.wrong("why", "%v", err)
			}
			if len(why) == 0 {
				return command.As(who), cmd, true
			}
		}
	}
	return command.Actor{}, nil, false
}

// towards returns what could bring a change nearer to its end, the last resort last.
func (w *walk) towards(c change.Change) []change.Command {
	var tries []change.Command
	switch {
	case c.Held != nil:
		tries = append(tries, change.Resume{})
	case c.Kind != change.KindPlan && slices.ContainsFunc(c.Tasks, func(t change.Task) bool { return !t.State.Ended() }):
		for _, t := range c.Tasks {
			if !t.State.Ended() {
				tries = append(tries, change.MoveTask{ID: t.ID, To: workflow.TaskCancelled})
			}
		}
	case c.Kind == change.KindImplement:
		tries = append(tries, change.Complete{}, change.Complete{BackedOut: true, Applied: []cmdb.Delta{}})
		for _, to := range w.ahead(c) {
			tries = append(tries, change.Advance{To: to})
		}
	case c.Kind == change.KindReview:
		tries = append(tries, change.Close{})
		if c.Reviewed == nil || c.Unauthorized != nil && c.Reviewed.Accepted == "" {
			r := change.Review{Outcome: change.WithIssues}
			if c.Unauthorized != nil {
				r.Accept = "it was needed"
			}
			tries = append(tries, r)
		}
		for _, to := range w.ahead(c) {
			tries = append(tries, change.Advance{To: to})
		}
	default:
		if slices.ContainsFunc(w.oracles[c.ID].model.Phases, func(p change.Phase) bool { return p.Kind == change.KindPlan }) {
			tries = nil // it can be cancelled, or the walk finds that it cannot
			break
		}
		if c.Risk == nil {
			tries = append(tries, change.Assess{Level: "high", Why: "the walk ends"})
		}
		for _, to := range w.ahead(c) {
			tries = append(tries, change.Advance{To: to}, change.Close{})
		}
	}
	for _, t := range w.oracles[c.ID].model.Transitions {
		if t.From == c.Phase && c.Kind != change.KindPlan && c.Held == nil {
			for _, field := range t.Requires {
				if w.oracles[c.ID].content[field] == "" {
					tries = append(tries, change.Edit{Set: filling(field)})
				}
			}
		}
	}
	for _, a := range c.Approvals {
		if a.State == workflow.Requested {
			tries = append(tries, change.Approve{Stage: a.Stage.Name, Scope: c.Scope}, change.Reject{Stage: a.Stage.Name, Reason: "the walk ends"})
			if !a.Deadline.IsZero() {
				tries = append(tries, change.Expire{Stage: a.Stage.Name})
			}
		}
	}
	return append(tries, change.Cancel{Reason: "the walk ends"})
}

// filling returns a content with one field filled in.
func filling(field string) change.Content {
	return map[string]change.Content{
		"description": {Description: "filled"}, "justification": {Justification: "filled"}, "category": {Category: "network"},
		"origin": {Origin: change.Origin{Kind: "drift"}}, "owner": {Owner: "s3"}, "group": {Group: "g1"}, "implementers": {Implementers: []string{"s3"}},
		"cis": {CIs: []string{"web"}}, "deltas": {Deltas: []cmdb.Delta{cmdb.Set("web", "name", "", "web")}},
		"plan.implementation": {Plans: change.Plans{Implementation: "filled"}}, "plan.backout": {Plans: change.Plans{Backout: "filled"}},
		"plan.test": {Plans: change.Plans{Test: "filled"}}, "plan.communication": {Plans: change.Plans{Communication: "filled"}},
		"window": {Window: change.Between(monday, monday.Add(10_000*time.Hour))}, "outage": {Outage: &change.Outage{}},
		"order": {Order: []change.Order{{Rule: change.MustNotOverlap, Change: "CHG-000001"}}},
		"cost":  {Cost: apd.New(1, 0)}, "benefit": {Benefit: apd.New(1, 0)}, "urgency": {Urgency: apd.New(1, 0)}, "failure": {Failure: apd.New(1, -1)},
		"stakeholders": {Stakeholders: []change.Stakeholder{{Who: "p1"}}}, "evidence": {Evidence: []change.Evidence{{URL: "https://example.org"}}},
		"answers": {Answers: []change.Answer{{Question: "q", Value: 1}}}, "tags": {Tags: []string{"filled"}},
	}[field]
}

// ahead returns the phases that the way to a closed phase leads to from here, the
// shortest way first.
func (w *walk) ahead(c change.Change) []string {
	m := w.oracles[c.ID].model
	steps := map[string]int{}
	for _, p := range m.Phases {
		steps[p.Name] = 1000
		if p.Kind == change.KindClosed {
			steps[p.Name] = 0
		}
	}
	for range m.Phases {
		for _, t := range m.Transitions {
			steps[t.From] = min(steps[t.From], steps[t.To]+1)
		}
	}
	var to []string
	for _, t := range m.Transitions {
		if t.From == c.Phase && (steps[t.To] < steps[c.Phase] || !slices.Contains(c.Path, t.To)) {
			to = append(to, t.To)
		}
	}
	slices.SortStableFunc(to, func(a, b string) int { return steps[a] - steps[b] })
	return to
}

// listed judges that the list has a change as its stream has it.
func (w *walk) listed(ids ...string) {
	all, err := w.changes.List(context.Background(), change.Filter{})
	if err != nil || len(all) != len(w.ids) {
		w.wrong("list", "%d of %d (%v)", len(all), len(w.ids), err)
	}
	for _, c := range all {
		if slices.Contains(ids, c.ID) && !same(c, w.get(c.ID)) {
			w.wrong("list", "%s is another in the list", c.ID)
		}
	}
}

// whole is what holds for all changes of a walk together.
func (w *walk) whole() {
	ctx := context.Background()
	if n := w.version("register-CHG"); int(n) != len(w.ids) {
		w.wrong("numbers", "%d for %d changes", n, len(w.ids))
	}
	w.listed(w.ids...)
	for _, id := range w.ids {
		var first, second change.Change
		for _, payload := range w.events[id] {
			first = change.Evolve(first, payload)
		}
		for _, payload := range w.events[id] {
			second = change.Evolve(second, payload)
		}
		got := w.get(id)
		got.Position = 0
		if !same(first, second) || text(first) != text(got) {
			w.wrong("replay", "%s folds to another state the second time", id)
		}
	}
	if misfits, err := w.cmdb.Discrepancies(ctx); err != nil || len(misfits) > 0 && !w.receipts {
		w.wrong("precondition", "%v (%v)", misfits, err)
	}
	if w.template != nil && slices.ContainsFunc(w.template.ApprovedBy, func(p string) bool { return slices.Contains(w.template.ProposedBy, p) }) {
		w.wrong("template separation", "approved by %v, proposed by %v", w.template.ApprovedBy, w.template.ProposedBy)
	}
	if w.chance(1, 4) {
		verified, err := w.follow.Verify(ctx)
		if err != nil {
			w.wrong("replay", "%v", err)
		}
		for _, fold := range verified.Folds {
			if fold.Result != follow.Same {
				w.wrong("replay", "%+v", fold)
			}
		}
	}
}
