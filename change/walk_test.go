package change_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

// conditions are the expressions that models of walks speak in.
var conditions = []string{"planned", "backout", "risk=high", "risk=low", "category=network"}

// drawn are the models that walks go through: random ones that are sound, by their
// seeds, and every shipped one but standard, which has walks of its own.
var drawn = sync.OnceValue(func() []change.Model {
	all := slices.DeleteFunc(change.Models(), func(m change.Model) bool { return m.Name == "standard" })
	generator := workflowtest.Models(change.Vocabulary(words{}), conditions...)
	for seed := 1; len(all) < 400; seed++ {
		m := generator.Example(seed)
		m.Name = fmt.Sprintf("drawn %d", seed)
		if change.CheckModel(m, words{}) != nil {
			m = eased(m)
		}
		if change.CheckModel(m, words{}) == nil {
			all = append(all, m)
		}
	}
	return all
})

// eased returns a model without the conditions on the last ways by which the end
// may be out of reach, and in which no plan goes on and no work begins or ends by itself.
func eased(m change.Model) change.Model {
	kinds := map[string]change.Kind{}
	for _, p := range m.Phases {
		kinds[p.Name] = p.Kind
	}
	m.Transitions = slices.Clone(m.Transitions)
	for i := range m.Transitions {
		t := &m.Transitions[i]
		if (kinds[t.From] == change.KindImplement) != (kinds[t.To] == change.KindImplement) || kinds[t.From] == change.KindPlan {
			t.Automatic = false
		}
		if k := kinds[t.From]; k == change.KindImplement || k == change.KindReview {
			t.Requires, t.When = nil, ""
			t.Guards = slices.DeleteFunc(slices.Clone(t.Guards), func(g string) bool {
				return g != "tasks-closed" && (g != "reviewed" || k == change.KindImplement)
			})
		}
	}
	return m
}

// crowd is who takes part: those whom stages ask, and others.
var crowd = []string{"p1", "p2", "p3", "p4", "p5", "p6", "p7"}

// last resorts are people who do nothing in a walk.
var spare = []string{"s1", "s2", "s3"}

// facing is a risk policy that follows from the facts.
type facing struct{}

func (facing) Policy() change.Policy { return change.Policy{ID: "facing", Version: "1"} }

func (facing) Assess(_ context.Context, f change.Facts) (change.Verdict, error) {
	if f.Impacted > 1 || !f.Backout {
		return change.Verdict{Level: "high", Why: []string{"much hangs on it, or there is no way back"}}, nil
	}
	return change.Verdict{Level: "low", Why: []string{"little hangs on it"}}, nil
}

// closers collects what is to be done at the end of a walk, which is no test of its own.
type closers struct {
	testing.TB
	all []func()
}

func (c *closers) Cleanup(f func()) { c.all = append(c.all, f) }

func (c *closers) close() {
	for _, f := range slices.Backward(c.all) {
		f()
	}
}

// walk is one random walk.
type walk struct {
	*house
	random   *rand.Rand
	trace    []string
	oracles  map[string]*oracle
	models   []change.Model
	ids      []string
	template *change.TemplateVersion
	receipts bool // deltas were recorded that nobody gated
	reached  map[change.Kind]int
}

// violation is what a walk finds wrong.
type violation struct{ invariant, says string }

func (v violation) Error() string { return v.invariant + ": " + v.says }

func (w *walk) wrong(invariant, format string, args ...any) {
	panic(violation{invariant, fmt.Sprintf(format, args...)})
}

// stroll makes a walk by a seed, without one guard, and returns what it found
// wrong, nil if nothing.
func stroll(t testing.TB, seed uint64, without string) (reached map[change.Kind]int, err error) {
	scope := &closers{TB: t}
	defer scope.close()
	w := &walk{random: rand.New(rand.NewPCG(seed, 7)), oracles: map[string]*oracle{}, reached: map[change.Kind]int{}}
	defer func() {
		switch v := recover().(type) {
		case nil:
		case violation:
			reached, err = w.reached, fmt.Errorf("seed %d: %w\n%s", seed, v, strings.Join(w.trace, "\n"))
		default:
			panic(v)
		}
	}()
	w.house = open(scope, memory.New(), everybody, evaluating(words{}), judging(facing{}), knowing(change.People{
		Groups: map[string][]string{"g1": {"p1", "p2", "p7"}, "g2": {"p3", "p4"}, "g3": {"p5", "p6", "p1"}, "team-db": {"p2", "p5"}},
		Roles:  map[string][]string{"approver": {"p1", "p3", "p6"}},
	}))
	change.Without(w.changes, without)
	w.estate()
	w.prepare()
	for range 15 + w.random.IntN(30) {
		w.step()
	}
	w.finish()
	w.whole()
	return w.reached, nil
}

// estate is as in other tests, with one CI more.
var estateCIs = []string{"db-01", "shop", "web"}

func (w *walk) prepare() {
	ctx := context.Background()
	if _, err := w.cmdb.Record(ctx, carol, cmdb.Add("web", "application"), cmdb.Relate("shop", "depends on", "web")); err != nil {
		w.wrong("estate", "%v", err)
	}
	for range 1 + w.random.IntN(2) {
		m := drawn()[w.random.IntN(len(drawn()))]
		if _, err := w.changes.Publish(ctx, carol, m); err != nil {
			w.wrong("publish", "%v", err)
		}
		w.models = append(w.models, m)
	}
	if w.random.IntN(3) == 0 {
		text := change.Template{
			Title: "Raise a limit", Plans: change.Plans{Implementation: "set it", Backout: "set it back"},
			Classes: []string{"database", "application"}, Attributes: []string{"version"},
		}
		proposer, approver := command.As(w.person()), command.As(w.person())
		t, err := w.changes.ProposeTemplate(ctx, proposer, "limits", text)
		if err != nil {
			w.wrong("template", "%v", err)
		}
		if _, err = w.changes.ApproveTemplate(ctx, approver, "limits", t.Version); err == nil {
			if t, err = w.changes.PublishTemplate(ctx, carol, "limits", t.Version); err == nil {
				w.template = &t
			}
		}
		w.models = append(w.models, change.Models()[1])
	}
	for range w.random.IntN(3) {
		from, to := w.person(), w.person()
		if from != to {
			if _, err := w.door.Delegate(ctx, command.As(from), command.Delegation{Person: from, To: to, From: w.clock.now, Until: w.clock.now.Add(2000 * time.Hour), Actions: []string{"change.*"}}); err != nil {
				w.wrong("delegate", "%v", err)
			}
		}
	}
}

func (w *walk) person() string          { return pick(w, crowd) }
func (w *walk) chance(one, of int) bool { return w.random.IntN(of) < one }

func pick[E any](w *walk, from []E) E { return from[w.random.IntN(len(from))] }

func (w *walk) actor() command.Actor {
	a := command.As(w.person())
	if w.chance(1, 8) {
		a = a.For(w.person())
	}
	return a
}

// step runs one random command, and compares what Why said with what Do does.
func (w *walk) step() {
	if w.chance(1, 6) {
		w.clock.pass(time.Duration(w.random.IntN(100)) * time.Hour)
	}
	if len(w.ids) == 0 || len(w.ids) < 3 && w.chance(1, 25) {
		w.raise()
		return
	}
	id := pick(w, w.ids)
	c, err := w.changes.Get(context.Background(), id)
	if err != nil {
		w.wrong("get", "%v", err)
	}
	commands := w.commands(c)
	actor := w.actor()
	if a, ok := commands[0].(change.Approve); ok && w.chance(3, 4) { // mostly somebody who is asked
		if asked, ok := c.Approval(a.Stage); ok && len(asked.Seats) > 0 {
			actor = command.As(pick(w, pick(w, asked.Seats).Voters))
		}
	}
	w.ask(actor, id, commands...)
}

// ask asks why not, does it, and judges both.
func (w *walk) ask(actor command.Actor, id string, commands ...change.Command) bool {
	ctx := context.Background()
	why, err := w.changes.Why(ctx, actor, id, commands...)
	if err != nil {
		w.wrong("why", "%s %+v: %v", actor.ID, commands, err)
	}
	before := w.version("change-" + id)
	c, err := w.changes.Do(ctx, actor, id, commands...)
	w.trace = append(w.trace, fmt.Sprintf("%s %v %s %s -> %s %v", w.clock.now.Format("01-02 15h"), actor, id, shown(commands), c.Phase, err))
	w.compare(why, err)
	if err != nil {
		if after := w.version("change-" + id); after != before {
			w.wrong("refused", "and %d events recorded", after-before)
		}
		return false
	}
	w.settled(c)
	return true
}

func shown(commands []change.Command) string {
	var all []string
	for _, c := range commands {
		all = append(all, fmt.Sprintf("%T%+v", c, c))
	}
	s := strings.ReplaceAll(strings.Join(all, "; "), "change.", "")
	return s[:min(len(s), 300)]
}

// compare requires that Why was empty exactly if Do succeeded, and said the same.
func (w *walk) compare(why []command.Refusal, err error) {
	var refused *command.Error
	switch {
	case err == nil && len(why) > 0:
		w.wrong("why", "said %v, and it was done", why)
	case err == nil:
	case !errors.As(err, &refused):
		w.wrong("error", "%v", err)
	case !slices.Equal(refused.Refusals, why):
		w.wrong("why", "said %v, and it was refused: %v", why, err)
	}
}

// settled judges a change after a command: its events, and what is folded of them.
func (w *walk) settled(c change.Change) {
	ctx := context.Background()
	o := w.oracles[c.ID]
	registry := registry(w.t)
	for r, err := range w.store.Read(ctx, eventstore.Query{Streams: []string{"change-" + c.ID}}) {
		if err != nil {
			w.wrong("read", "%v", err)
		}
		if r.Version <= o.version {
			continue
		}
		payload, err := registry.Decode(r.Event)
		if err != nil {
			w.wrong("decode", "%v", err)
		}
		o.take(r, payload)
	}
	o.settled()
	if len(o.broken) > 0 {
		invariant, says, _ := strings.Cut(o.broken[0], ": ")
		w.wrong(invariant, "%s of %s", says, c.ID)
	}
	got, err := w.changes.Get(ctx, c.ID)
	if err != nil || !same(c, got) {
		w.wrong("replay", "Do returned another state than the log gives (%v)", err)
	}
	if c.Open() == o.ended || c.Phase != o.phase || c.Scope != o.scope {
		w.wrong("replay", "phase %q and scope %.14s, by the events %q and %.14s", c.Phase, c.Scope, o.phase, o.scope)
	}
	w.reached[c.Kind]++
}

// same compares two states by what a store would make of them.
func same(a, b change.Change) bool {
	a.Position, b.Position = 0, 0
	return assert.ObjectsAreEqual(a, b)
}

func (w *walk) raise() {
	ctx := context.Background()
	m := pick(w, w.models)
	r := change.Raise{Model: m.Name, Content: w.content(true)}
	if m.Name == "standard" {
		r.Template = "limits"
		if w.chance(9, 10) {
			r.Content.Plans = change.Plans{}
		}
	}
	if w.chance(1, 5) {
		r.Requester = w.person()
	}
	var then []change.Command
	if w.chance(1, 2) {
		then = append(then, change.Submit{})
	}
	actor := w.actor()
	why, err := w.changes.WhyRaise(ctx, actor, r, then...)
	if err != nil {
		w.wrong("why", "raise: %v", err)
	}
	before := w.version("register-CHG")
	c, err := w.changes.Raise(ctx, actor, r, then...)
	w.trace = append(w.trace, fmt.Sprintf("%v raises under %s -> %s %v", actor, m.Name, c.ID, err))
	w.compare(why, err)
	if err != nil {
		if w.version("register-CHG") != before {
			w.wrong("numbers", "a refused raise burnt one")
		}
		return
	}
	if want := fmt.Sprintf("CHG-%06d", before+1); c.ID != want {
		w.wrong("numbers", "%s after %d", c.ID, before)
	}
	w.ids = append(w.ids, c.ID)
	o := &oracle{model: m, estate: estateCIs}
	if c.Template != "" {
		o.template = w.template
	}
	w.oracles[c.ID] = o
	w.receipts = w.receipts || m.Authority == change.AuthorityElsewhere || m.Name == "unauthorized"
	w.settled(c)
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
	maybe(func() { c.Stakeholders = []change.Stakeholder{{Who: "p6", Told: []string{"closed"}}} })
	return c
}

// commands are what could be asked of a change: mostly what leads on.
func (w *walk) commands(c change.Change) []change.Command {
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

// finish shows that every state has a way out: people who did nothing so far, and
// for approvals those who are asked, bring each change to its end.
func (w *walk) finish() {
	for _, id := range w.ids {
		ctx := context.Background()
		for range 200 {
			c, err := w.changes.Get(ctx, id)
			if err != nil {
				w.wrong("get", "%v", err)
			}
			if !c.Open() {
				break
			}
			if !w.nearer(c) {
				steps, err := w.changes.Next(ctx, command.As("s1"), id)
				var why []string
				for _, step := range steps {
					why = append(why, fmt.Sprintf("to %s: %v", step.Says, step.Refused))
				}
				for _, a := range c.Approvals {
					for _, who := range crowd {
						r, err := w.changes.Why(ctx, command.As(who), id, change.Approve{Stage: a.Stage.Name, Scope: c.Scope})
						why = append(why, fmt.Sprintf("%s approves %s: %v %v", who, a.Stage.Name, r, err))
					}
				}
				w.wrong("way out", "%s is stuck in phase %q (%s) %v\n%v\n%s", id, c.Phase, c.Kind, err, strings.Join(why, "\n"), w.oracles[id].model)
			}
		}
		c, err := w.changes.Get(ctx, id)
		if err != nil || c.Open() {
			w.wrong("way out", "%s does not end, phase %q (%v)", id, c.Phase, err)
		}
	}
}

// nearer does one thing that brings a change nearer to its end.
func (w *walk) nearer(c change.Change) bool {
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
				tries = append(tries, change.Edit{Set: filling(field)})
			}
		}
	}
	for _, a := range c.Approvals {
		if a.State == workflow.Requested {
			tries = append(tries, change.Approve{Stage: a.Stage.Name, Scope: c.Scope}, change.Reject{Stage: a.Stage.Name, Reason: "the walk ends"})
			if !a.Deadline.IsZero() {
				if w.clock.now.Before(a.Deadline) {
					w.clock.now = a.Deadline
				}
				tries = append(tries, change.Expire{Stage: a.Stage.Name})
			}
		}
	}
	tries = append(tries, change.Cancel{Reason: "the walk ends"})
	for _, cmd := range tries {
		for _, who := range slices.Concat(spare, crowd) {
			why, err := w.changes.Why(context.Background(), command.As(who), c.ID, cmd)
			if err != nil {
				w.wrong("why", "%v", err)
			}
			if len(why) == 0 {
				before := w.version("change-" + c.ID)
				w.ask(command.As(who), c.ID, cmd)
				if w.version("change-"+c.ID) > before {
					return true
				}
			}
		}
	}
	return false
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

// whole is what holds for all changes of a walk together.
func (w *walk) whole() {
	ctx := context.Background()
	if n := w.version("register-CHG"); int(n) != len(w.ids) {
		w.wrong("numbers", "%d for %d changes", n, len(w.ids))
	}
	listed, err := w.changes.List(ctx, change.Filter{})
	if err != nil || len(listed) != len(w.ids) {
		w.wrong("list", "%d of %d (%v)", len(listed), len(w.ids), err)
	}
	for _, c := range listed {
		got, err := w.changes.Get(ctx, c.ID)
		if err != nil || !same(c, got) {
			w.wrong("list", "%s is another in the list (%v)", c.ID, err)
		}
	}
	if misfits, err := w.cmdb.Discrepancies(ctx); err != nil || len(misfits) > 0 && !w.receipts {
		w.wrong("precondition", "%v (%v)", misfits, err)
	}
	if w.template != nil && slices.ContainsFunc(w.template.ApprovedBy, func(p string) bool { return slices.Contains(w.template.ProposedBy, p) }) {
		w.wrong("template separation", "approved by %v, proposed by %v", w.template.ApprovedBy, w.template.ProposedBy)
	}
}

// walks returns how many walks are asked for.
func walks(t testing.TB, few, many int) int {
	if text := os.Getenv("ROLLFORWARD_WALKS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, "ROLLFORWARD_WALKS")
		return n
	}
	if race.Enabled {
		return few
	}
	return many
}

// strolls makes walks with seeds from 1 on until one finds something, and returns
// how many it took, and what kinds of phase they came to.
func strolls(t testing.TB, n int, without string) (took uint64, reached map[change.Kind]int, found error) {
	var next atomic.Uint64
	var mu sync.Mutex
	reached = map[change.Kind]int{}
	var walkers sync.WaitGroup
	for range 2 {
		walkers.Go(func() {
			for {
				seed := next.Add(1)
				mu.Lock()
				done := found != nil || seed > uint64(n)
				mu.Unlock()
				if done {
					return
				}
				kinds, err := stroll(t, seed, without)
				mu.Lock()
				for kind := range kinds {
					reached[kind]++
				}
				if err != nil && (found == nil || seed < took) {
					took, found = seed, err
				}
				mu.Unlock()
			}
		})
	}
	walkers.Wait()
	return took, reached, found
}

// Random people send random commands to changes of random sound models. The walk
// of one seed again: ROLLFORWARD_WALK=2428 go test -run RandomWalks ./change
func TestRandomWalksBreakNoRuleAtFullSize(t *testing.T) {
	if text := os.Getenv("ROLLFORWARD_WALK"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		_, err = stroll(t, seed, "")
		require.NoError(t, err)
		return
	}
	n := walks(t, 150, 5_000)
	begin := time.Now()
	_, reached, found := strolls(t, n, "")
	require.NoError(t, found)
	t.Logf("%d walks from seed 1 in %v; came to implement %d, review %d, closed %d, canceled %d", n, time.Since(begin).Round(time.Second),
		reached[change.KindImplement], reached[change.KindReview], reached[change.KindClosed], reached[change.KindCanceled])
	for _, kind := range []change.Kind{change.KindImplement, change.KindReview, change.KindClosed, change.KindCanceled} {
		require.Greater(t, reached[kind], n/10, "too few walks come to %s to prove anything", kind)
	}
}

// Each guard is taken out, and walks notice it.
func TestEveryGuardThatIsTakenOutIsCaughtAtFullSize(t *testing.T) {
	// "authorized" is not among them: it is a second lock. Whoever comes to it without
	// an authorisation in force would first have to get past "stages-approved", or
	// past "voiding", which takes the change back.
	guards := []string{
		"stages-approved", "separation-of-duties", "scope-changed", "not-a-candidate", "already-voted", "on-hold", "tasks-open",
		"task-outside-window", "reviewed", "retrospective", "voiding", "not-editable", "precondition-failed", "unknown-ci", "outside-template",
		"not-started", "interval-invalid", "template-separation",
	}
	if race.Enabled {
		guards = guards[:3]
	}
	for _, guard := range guards {
		took, _, found := strolls(t, 3_000, guard)
		var v violation
		if !errors.As(found, &v) {
			t.Errorf("%-22s is not missed by any of 3000 walks", guard)
			continue
		}
		t.Logf("%-22s caught by walk %4d: %s", guard, took, v)
	}
}
