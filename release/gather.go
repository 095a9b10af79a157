package release

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/internal/workflow"
)

// GatePolicy is the hook that answers a gate of the kind policy, by the name under
// which Config has it. An error, a panic or a late answer refuses the deployment.
type GatePolicy func(ctx context.Context, r Release, e Environment) (GateAnswer, error)

// graphs is the fold of the environments: the last definition counts.
type graphs struct {
	environments Environments
	version      uint64
}

var graphFolder = eventstore.Decider[graphs, any]{Evolve: func(g graphs, payload any) graphs {
	g.version++
	if e, ok := payload.(EnvironmentsDefined); ok {
		g.environments = e.Environments
	}
	return g
}}

// needs says what a command has to know of the world.
type needs struct {
	graph   bool   // the environments
	changes bool   // those that are bound
	also    string // and this one, which may be
	seats   bool   // the directory
}

func needsOf(cmd Command, r Release) needs {
	switch c := cmd.(type) {
	case Bind:
		return needs{also: c.Change}
	case Unbind:
		return needs{also: c.Change}
	case CheckItem, Waive:
		return needs{graph: true}
	case Ask, Approve, Reject:
		return needs{graph: true, seats: true}
	case Deploy, Retry, Rollback, NextWave, Resume, Finish:
		return needs{graph: true, changes: true}
	case Report:
		one, _ := r.Deployment(c.Deployment)
		return needs{changes: one.Production}
	case Pause:
		one, _ := r.Deployment(c.Deployment)
		return needs{changes: one.Production}
	case Fail, Abort, Emerge, Advance, Close, Cancel:
		return needs{changes: true}
	}
	return needs{}
}

// gather collects what a decision needs of the world, in the unit of work of tx.
// What it depends on in the log is pinned or does not change; the CMDB is read at
// the head of the log, with what the unit of work has recorded before.
func (s *Service) gather(tx *command.Tx, r Release, cmd Command, recorded []cmdb.Delta) (facts, error) {
	f := facts{now: tx.Now, actor: tx.Call.Actor, without: s.without, changes: map[string]change.Change{}}
	if r.ID == "" {
		return f, nil // it is refused for that
	}
	need := needsOf(cmd, r)
	if need.graph {
		g, err := s.graphs.Load(tx.Tx, graphStream)
		if err != nil {
			return f, err
		}
		f.graph, f.graphAt = g.environments, g.version
	}
	ids := []string{need.also}
	if need.changes {
		for _, b := range r.Changes {
			ids = append(ids, b.Change)
		}
	}
	for _, id := range ids {
		if id == "" {
			continue
		}
		c, err := s.changes.Load(tx, id)
		if err != nil {
			return f, err
		}
		if c.ID != "" {
			f.changes[id] = c
		}
	}
	if need.seats {
		var err error
		if f.resolved, err = s.resolve(tx, r, f.graph, cmd); err != nil {
			return f, err
		}
	}
	err := s.roll(tx, r, cmd, &f, recorded)
	return f, err
}

// aim is what a command that deploys is about.
type aim struct {
	environment Environment
	items       []Item // without what is there now
	back        bool
	begins      bool
	finishes    bool
	more        bool      // and leaves its changes open
	until       time.Time // zero: as long as a window of the changes lasts
}

// aimed returns what a command deploys, or false where it does not, or not what
// there is.
func aimed(r Release, cmd Command, f facts) (a aim, ok bool) {
	name := ""
	until := func(s change.Seconds) {
		if s > 0 {
			a.until = f.now.Add(s.Duration())
		}
	}
	forward := func() {
		for _, c := range r.Components {
			a.items = append(a.items, Item{CI: c.CI, Class: c.Class, Title: c.Title, After: c.To, Digest: c.Digest})
		}
	}
	backward := func(one Deployment, to string) {
		for _, item := range one.Items {
			after := item.Before
			if to != "" && item.CI != "" {
				after = to
			}
			a.items = append(a.items, Item{CI: item.CI, Class: item.Class, Title: item.Title, After: after, New: item.New})
		}
		a.back = true
	}
	switch c := cmd.(type) {
	case Deploy:
		name, a.begins = c.Environment, true
		forward()
		until(c.For)
	case Retry:
		one, there := r.Deployment(c.Deployment)
		if !there {
			return a, false
		}
		name, a.begins = one.Environment, true
		if one.RollsBack > 0 {
			a.items, a.back = one.Items, true
		} else {
			forward()
		}
		until(c.For)
	case Rollback:
		one, there := r.undone(c.Environment, c.Deployment)
		if !there {
			return a, false
		}
		name, a.begins = c.Environment, true
		backward(one, c.To)
		until(c.For)
	case NextWave:
		return a.goingOn(r, c.Deployment, f)
	case Resume:
		return a.goingOn(r, c.Deployment, f)
	case Finish:
		a.finishes, a.more = true, c.More
		return a.goingOn(r, c.Deployment, f)
	default:
		return a, false
	}
	a.environment, ok = f.graph.Find(name)
	return a, ok
}

// goingOn is what a deployment that has begun is about.
func (a aim) goingOn(r Release, number int, f facts) (aim, bool) {
	one, ok := r.Deployment(number)
	if !ok {
		return a, false
	}
	a.items, a.back = one.Items, one.RollsBack > 0
	// The graph may have changed since: production it is where it was.
	a.environment, ok = f.graph.Find(one.Environment)
	if !ok {
		a.environment = Environment{Name: one.Environment}
	}
	a.environment.Production = one.Production
	if one.Timing != nil && one.Timing.Window.End.After(f.now) {
		a.until = one.Timing.Window.End
	}
	return a, true
}

// roll collects what a deployment depends on: what is in force, and what the CMDB,
// the calendar and the gates say.
func (s *Service) roll(tx *command.Tx, r Release, cmd Command, f *facts, recorded []cmdb.Delta) error {
	a, ok := aimed(r, cmd, *f)
	if !ok {
		return nil
	}
	e := a.environment
	roll := &roll{environment: e, inForce: map[string]InForce{}, above: map[string][]InForce{}}
	f.roll = roll
	if a.begins {
		for _, item := range a.items {
			if item.CI == "" || len(installedStream(e.Name, item.CI)) > maxStream {
				continue
			}
			one, err := s.inForce(tx, e.Name, item.CI)
			if err != nil {
				return err
			}
			roll.inForce[item.CI] = one
			for _, up := range f.graph.above(e.Name) {
				if a.back || len(installedStream(up, item.CI)) > maxStream {
					continue
				}
				one, err := s.inForce(tx, up, item.CI)
				if err != nil {
					return err
				}
				roll.above[item.CI] = append(roll.above[item.CI], one)
			}
		}
	}
	d := decision{Release: r, facts: *f}
	changes := d.inForceChanges(a.back)
	if err := s.look(tx, r, a, *f, changes, recorded, roll); err != nil {
		return err
	}
	if !a.finishes {
		roll.window = change.Window{Start: f.now, End: a.until}
		if a.until.IsZero() {
			roll.window.End = lasting(f.now, changes)
		}
		asks := e.Production || slices.ContainsFunc(e.Gates, func(g Gate) bool { return g.Kind == GateWindow })
		if s.calendar != nil && asks {
			timing, err := s.calendar.Judge(tx, occasion(r, e, roll, changes))
			if err != nil {
				roll.timeless = err
			} else {
				roll.timing = &timing
			}
		}
	}
	if !a.begins || a.back {
		return nil
	}
	return s.judge(tx.Context(), r, e, *f, changes, roll)
}

// inForce returns what is in force of a CI, and pins it.
func (s *Service) inForce(tx *command.Tx, environment, ci string) (InForce, error) {
	f, err := s.installed.Load(tx.Tx, installedStream(environment, ci))
	f.Environment, f.CI = environment, ci
	return f, err
}

// lasting returns until when a deployment lasts if nobody says: to the end of the
// first window of its changes that is open, otherwise it is this moment.
func lasting(now time.Time, changes []change.Change) time.Time {
	end := time.Time{}
	for _, c := range changes {
		if c.Window != nil && c.Window.Holds(now) && (end.IsZero() || c.Window.End.Before(end)) {
			end = c.Window.End
		}
	}
	if end.IsZero() {
		return now.Add(time.Microsecond)
	}
	return end
}

// occasion is what the calendar is asked about a deployment.
func occasion(r Release, e Environment, roll *roll, changes []change.Change) change.Occasion {
	o := change.Occasion{
		Point: change.ToDeploy, Release: r.ID, Model: r.Process.Name, Window: roll.window, CIs: instances(roll.items), Deltas: roll.deltas,
		Environments: []string{e.Name}, Tags: r.Tags,
	}
	for _, c := range changes {
		o.Apart = with(o.Apart, c.ID)
		o.People = with(o.People, c.Implementers...)
		o.Order = append(o.Order, c.Order...)
	}
	return o
}

// look reads the CMDB at the head of the log: where the versions are, which are
// there, and what the end of the deployment changes.
func (s *Service) look(tx *command.Tx, r Release, a aim, f facts, changes []change.Change, recorded []cmdb.Delta, roll *roll) error {
	return s.view(tx, func(v *follow.View) {
		graph := s.cmdb.In(v)
		find := lookup(graph.CI).after(recorded)
		roll.items = slices.Clone(a.items)
		for i := range roll.items {
			item := &roll.items[i]
			if item.CI == "" || !a.begins {
				continue
			}
			item.Instance = f.graph.instance(item.CI, a.environment.Name, find)
			there, alive := find.alive(item.Instance)
			if !a.back {
				item.New = !alive
			}
			if one := roll.inForce[item.CI]; one.Since.IsZero() {
				item.Before = there.Attributes[attrVersion]
			} else {
				item.Before = one.Version
			}
		}
		var completes []change.Change
		if a.environment.Production && !a.back && !a.more {
			for _, c := range changes {
				if completedBy(c, r.ID) {
					completes = append(completes, c)
				}
			}
		}
		roll.deltas, roll.problems = fitting(graph, recorded, deltasOf(roll.items, a.environment.Name, completes, find))
	})
}

// view reads the folds at the head of the log.
func (s *Service) view(tx *command.Tx, read func(v *follow.View)) error {
	return s.follower.Within(tx.Tx, func(v *follow.View) error {
		read(v)
		return nil
	})
}

// completedBy reports whether a change has nothing open but what a release is to
// deliver: with that it is complete.
func completedBy(c change.Change, release string) bool {
	return c.Work == nil && !slices.ContainsFunc(c.Releases, func(r change.Carried) bool {
		ended := r.State == change.CarryDelivered || r.State == change.CarryBackedOut || r.State == change.CarryUnbound
		return r.Release != release && !ended
	})
}

// judge asks the gates.
func (s *Service) judge(ctx context.Context, r Release, e Environment, f facts, changes []change.Change, roll *roll) error {
	in := GateInput{
		Now: f.now, Scope: r.Scope, CIs: declaredAs(roll.items, changes), Changes: changes, Timing: roll.timing, Evidence: r.Evidence,
		Conditions: map[string]change.Condition{}, Approvals: map[string]GateAnswer{}, Policies: map[string]GateAnswer{}, Waivers: map[string]Waiver{},
	}
	for _, c := range r.Checks {
		if c.Environment == e.Name {
			in.Checks = append(in.Checks, c.ItemCheck)
		}
	}
	for _, w := range r.Waivers {
		if w.Environment == e.Name {
			in.Waivers[w.Gate] = w.Waiver
		}
	}
	for _, g := range e.Gates {
		switch g.Kind {
		case GateEvidence:
			if g.When == "" || s.expressions == nil {
				continue
			}
			compiled, err := command.Hook(ctx, s.door, "expression", func(context.Context) (change.Condition, error) { return s.expressions.Compile(g.When) })
			if err != nil {
				return err
			}
			in.Conditions[g.When] = hooked{ctx, s.door, compiled}
		case GateApproval:
			if a, ok := r.Approval(e.Name, g.Name); ok {
				in.Approvals[g.Name] = a.answer(r.Scope)
			}
		case GatePolicyAsk:
			policy, ok := s.policies[g.Policy]
			if !ok {
				continue
			}
			answer, err := command.Hook(ctx, s.door, "gate policy "+g.Policy, func(ctx context.Context) (GateAnswer, error) { return policy(ctx, r.handed(), e) })
			if err != nil {
				return err
			}
			in.Policies[g.Name] = answer
		}
		if e.Production && (g.Kind == GateChange || g.Kind == GateWindow) {
			delete(in.Waivers, g.Name) // given while it was not production
		}
	}
	roll.gates = e.Evaluate(in)
	return nil
}

// hooked is a condition that is evaluated as a hook: in time, and without panic.
type hooked struct {
	ctx       context.Context
	door      *command.Door
	condition change.Condition
}

// Holds implements change.Condition.
func (h hooked) Holds(values map[string]any) (bool, error) {
	return command.Hook(h.ctx, h.door, "expression", func(context.Context) (bool, error) { return h.condition.Holds(values) })
}

// resolve asks the directory for everybody whom the stage of a gate may ask.
func (s *Service) resolve(tx *command.Tx, r Release, graph Environments, cmd Command) (workflow.Resolved, error) {
	found := workflow.Resolved{Groups: map[string][]string{}, Roles: map[string][]string{}, Owners: map[string][]string{}}
	environment, name := "", ""
	switch c := cmd.(type) {
	case Ask:
		environment, name = c.Environment, c.Gate
	case Approve:
		environment, name = c.Environment, c.Gate
	case Reject:
		environment, name = c.Environment, c.Gate
	}
	e, _ := graph.Find(environment)
	i := slices.IndexFunc(e.Gates, func(g Gate) bool { return g.Name == name && g.Stage != nil })
	if s.directory == nil || i < 0 {
		return found, nil
	}
	stage := e.Gates[i].Stage
	var teams []string
	if slices.ContainsFunc(stage.Candidates, func(c workflow.Candidate) bool { return c.Owners }) {
		if err := s.view(tx, func(v *follow.View) {
			for _, ci := range r.CIs() {
				one, _ := s.cmdb.In(v).CI(ci)
				teams = with(teams, one.Attributes[cmdb.AttrOwner])
			}
		}); err != nil {
			return found, err
		}
	}
	return change.AskDirectory(tx.Context(), s.door, s.directory, func(ctx context.Context) (workflow.Resolved, error) {
		ask := func(into map[string][]string, name string, from func(context.Context, string) ([]string, error)) error {
			if _, known := into[name]; known || name == "" {
				return nil
			}
			people, err := from(ctx, name)
			if err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			into[name] = people
			return nil
		}
		for _, team := range teams {
			if err := ask(found.Owners, team, s.directory.Group); err != nil {
				return found, err
			}
		}
		for _, c := range stage.Candidates {
			if err := cmp.Or(ask(found.Groups, c.Group, s.directory.Group), ask(found.Roles, c.Role, s.directory.Role)); err != nil {
				return found, err
			}
		}
		return found, nil
	})
}
