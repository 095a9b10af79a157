package change

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/go-json-experiment/json"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Directory is the hook that says who belongs to a group (a team is one) or has a
// role. It is asked when a stage opens, and what it said is recorded. A name it
// does not know has no members.
type Directory interface {
	Group(ctx context.Context, name string) ([]string, error)
	Role(ctx context.Context, name string) ([]string, error)
}

// People is a Directory of fixed lists.
type People struct {
	Groups map[string][]string
	Roles  map[string][]string
}

// Group returns the members of a group.
func (p People) Group(_ context.Context, name string) ([]string, error) { return p.Groups[name], nil }

// Role returns who has a role.
func (p People) Role(_ context.Context, name string) ([]string, error) { return p.Roles[name], nil }

// AskDirectory runs ask, which asks a directory, as a hook of the door. People answer
// from memory and are asked at once: a goroutine under a deadline would cost more
// than the answer.
func AskDirectory[T any](ctx context.Context, d *command.Door, directory Directory, ask func(ctx context.Context) (T, error)) (T, error) {
	if _, listed := directory.(People); listed {
		return ask(ctx)
	}
	return command.Hook(ctx, d, "directory", ask)
}

// needs says what a command has to know of the world.
type needs struct {
	graph bool // the CMDB: whether CIs are there and deltas fit
	facts bool // what policies and expressions look at, impact among it; with graph
	risk  bool // the risk policy; with facts
	seats bool // the directory: it may open a stage
	moves bool // it may take a transition whose condition looks at facts
}

func needsOf(cmd Command, c Change) needs {
	switch cmd.(type) {
	case Raise:
		judged := slices.Contains(authorizing, c.Kind)
		return needs{graph: true, facts: judged, risk: judged, seats: true, moves: true}
	case Submit, Advance:
		return needs{graph: true, facts: true, risk: true, seats: true, moves: true}
	case Edit:
		judged := c.Kind != KindPlan && c.Started == nil
		return needs{graph: true, facts: judged, risk: judged, seats: true, moves: true}
	case Assess:
		return needs{graph: true, facts: true, seats: true, moves: true}
	case Start, Carry:
		return needs{graph: true, seats: true, moves: true}
	case Complete:
		return needs{graph: true, moves: true}
	case Approve, Expire, Resume, MoveTask:
		return needs{seats: true, moves: true}
	case Reject, Review, Close:
		return needs{moves: true}
	}
	return needs{}
}

// gather collects what a decision needs of the world, in the unit of work of tx.
// What it depends on in the log is pinned or does not change; the CMDB is read
// at the head of the log as it stands after that.
func (s *Service) gather(tx *command.Tx, c Change, cmd Command, m *model, t *TemplateVersion) (facts, error) {
	ctx := tx.Context()
	f := facts{now: tx.Now, actor: tx.Call.Actor, model: m, template: t, without: s.without}
	if m == nil || c.ID == "" && !isRaise(cmd) {
		return f, nil // it is refused for that
	}
	content := c.Content
	var applied []cmdb.Delta
	switch cmd := cmd.(type) {
	case Raise:
		content = t.fill(cmd.Content.normal())
		c.Model, c.Template, c.Kind = m.Name, cmd.Template, m.Phases[0].Kind
	case Edit:
		content = c.Content.edited(cmd.Set.normal(), cmd.Clear).normal()
	case Complete:
		applied = cmd.applied(content)
	}
	need := needsOf(cmd, c)
	if c.Kind == KindPlan && (isRaise(cmd) || isEdit(cmd)) && len(content.Declared()) == 0 {
		need.graph = false // a draft that names no CI has nothing to ask the CMDB
	}
	need.facts = need.facts || need.moves && m.asks
	need.graph = need.graph || need.facts || need.seats && m.owners
	need.seats = need.seats && m.stages
	if isRaise(cmd) || isEdit(cmd) {
		if err := s.unknownChanges(ctx, content, &f); err != nil {
			return f, err
		}
	}
	var owners []string
	if need.graph {
		var err error
		if owners, err = s.look(tx, c, content, applied, need.facts, &f); err != nil {
			return f, err
		}
	}
	if need.risk && s.risk != nil && c.Held == nil {
		receipt, err := s.judge(ctx, f.about, tx.Now)
		if err != nil {
			return f, err
		}
		f.risk = &receipt
	}
	if need.seats {
		var err error
		if f.resolved, err = s.resolve(ctx, m, owners); err != nil {
			return f, err
		}
	}
	if s.calendar != nil {
		f.judged = func(c Change, at Point, w Window) (Timing, error) { return s.calendar.Judge(tx, occasion(c, at, w)) }
	}
	if need.facts && m.asks {
		f.holds = s.conditions(ctx, c, cmd, f)
	} else {
		f.holds = func(string) (bool, error) { return false, errors.New("nothing is known of the change here") }
	}
	return f, nil
}

func isRaise(cmd Command) bool { _, ok := cmd.(Raise); return ok }
func isEdit(cmd Command) bool  { _, ok := cmd.(Edit); return ok }

// applied returns what a completion says was applied.
func (c Complete) applied(content Content) []cmdb.Delta {
	switch {
	case c.Applied != nil && len(c.Applied) == 0:
		return nil
	case c.Applied != nil:
		return c.Applied
	case c.BackedOut:
		return nil
	}
	return content.Deltas
}

// unknownChanges finds the changes that an order names and that there are not.
func (s *Service) unknownChanges(ctx context.Context, c Content, f *facts) error {
	for i, o := range c.Order {
		if i >= maxList || !nameable(o.Change) {
			f.unknown = append(f.unknown, o.Change)
			continue
		}
		version, err := s.store.Version(ctx, stream(o.Change))
		if err != nil {
			return err
		}
		if version == 0 {
			f.unknown = append(f.unknown, o.Change)
		}
	}
	return nil
}

// look reads the CMDB at the head of the log and, where facts are needed, impact
// and the history of outcomes, which cost what they reach. It returns the teams
// that own what the change declares.
func (s *Service) look(tx *command.Tx, c Change, content Content, applied []cmdb.Delta, whole bool, f *facts) (owners []string, err error) {
	declared := content.Declared()
	g := &graphFacts{classes: map[string]string{}}
	f.graph = g
	err = s.follower.Within(tx.Tx, func(v *follow.View) error {
		graph := s.cmdb.In(v)
		var existing []string
		var cis []FactCI
		for _, id := range declared {
			ci, ok := graph.CI(id)
			switch {
			case !ok && !adds(content.Deltas, id):
				g.unknown = append(g.unknown, id)
			case !ok:
			case ci.Retired:
				g.retired = append(g.retired, id)
			default:
				existing = append(existing, id)
				cis = append(cis, factCI(ci, 0))
				if owner := ci.Attributes[cmdb.AttrOwner]; owner != "" {
					owners = with(owners, owner)
				}
			}
			if ok {
				g.classes[id] = ci.Class
			}
		}
		for _, delta := range content.Deltas {
			if delta.Op == cmdb.OpAdd && g.classes[delta.CI] == "" {
				g.classes[delta.CI] = delta.Class
			}
		}
		g.problems = graph.Check(content.Deltas)
		if applied != nil {
			g.applied = graph.Check(applied)
		}
		if !whole {
			return nil
		}
		impact := cmdb.Impact{Position: v.Position()}
		if len(existing) > 0 {
			if impact, err = graph.Impact(existing, cmdb.Down); err != nil {
				return err
			}
		}
		g.impact = summary(impact)
		f.about = about(c, content, f.now, cis, impact, g.impact)
		f.about.History = s.list.In(v).outcomes(content.Group, c.Model, declared)
		return nil
	})
	return owners, err
}

// adds reports whether one of deltas makes the CI.
func adds(deltas []cmdb.Delta, ci string) bool {
	return slices.ContainsFunc(deltas, func(d cmdb.Delta) bool { return d.Op == cmdb.OpAdd && d.CI == ci })
}

func factCI(ci cmdb.CI, depth int) FactCI {
	return FactCI{ID: ci.ID, Class: ci.Class, Criticality: ci.Attributes[cmdb.AttrCriticality], Environment: ci.Attributes[cmdb.AttrEnvironment], Depth: depth}
}

// kept is how many CIs are listed one by one in a receipt; the rest is counted
// and stands in a digest.
const kept = 50

// ends is how many steps at each end of a long path are recorded.
const ends = 10

// criticalities are the levels of a CI, the most important first.
var criticalities = []string{"critical", "high", "moderate", "low", "unknown"}

func importance(ci FactCI) int {
	if i := slices.Index(criticalities, ci.Criticality); i >= 0 {
		return i
	}
	return len(criticalities) - 1
}

// summary returns what is recorded of an impact: the most important CIs with
// their paths, by criticality, then the nearest, then by ID.
func summary(impact cmdb.Impact) *Impact {
	reached := slices.Clone(impact.Reached)
	slices.SortFunc(reached, func(a, b cmdb.Reached) int {
		return cmp.Or(cmp.Compare(importance(factCI(a.CI, 0)), importance(factCI(b.CI, 0))), cmp.Compare(a.Depth, b.Depth), strings.Compare(a.CI.ID, b.CI.ID))
	})
	short := &Impact{Count: len(reached), Degraded: impact.Degraded[:min(len(impact.Degraded), kept)], Position: uint64(impact.Position)}
	for _, r := range reached[:min(len(reached), kept)] {
		a := Affected{FactCI: factCI(r.CI, r.Depth), Path: r.Path}
		if a.Cut = len(r.Path) - 2*ends; a.Cut > 0 {
			a.Path = slices.Concat(r.Path[:ends], r.Path[len(r.Path)-ends:])
		} else {
			a.Cut = 0
		}
		short.Top = append(short.Top, a)
	}
	if len(reached) > kept {
		var rest []string
		for _, r := range reached[kept:] {
			rest = append(rest, r.CI.ID)
		}
		slices.Sort(rest)
		h := sha256.New()
		for _, id := range rest {
			fmt.Fprintf(h, "%d:%s", len(id), id)
		}
		short.Rest = hex.EncodeToString(h.Sum(nil))
	}
	return short
}

// about returns the facts of a change for policies and expressions.
func about(c Change, content Content, now time.Time, cis []FactCI, impact cmdb.Impact, short *Impact) Facts {
	f := Facts{
		Change: c.ID, Model: c.Model, Template: c.Template, Category: content.Category, Group: content.Group, Origin: content.Origin.Kind,
		CIs: cis[:min(len(cis), kept)], Deltas: len(content.Deltas),
		Impacted: short.Count, Rest: short.Rest, GraphPosition: short.Position,
		Planned: content.Window != nil, Backout: content.Plans.Backout != "", Tested: content.Plans.Test != "",
		Answers: content.Answers, Cost: content.Cost, Benefit: content.Benefit, Urgency: content.Urgency,
	}
	for _, top := range short.Top {
		f.Top = append(f.Top, top.FactCI)
	}
	for _, pool := range short.Degraded {
		f.Degraded = append(f.Degraded, pool.CI)
	}
	if content.Window != nil {
		f.LeadTime = Of(content.Window.Start.Sub(now))
	}
	if content.Outage != nil {
		f.Outage = content.Outage.For
	}
	if t, ok := c.Timing(Planned); ok && content.Window != nil && t.Timing.Window == *content.Window {
		f.Conflicts, f.Timed = t.Timing.Count, t.Timing.Answer == TimingClear || t.Timing.Answer == TimingConflict
	}
	levels, classes := map[string]int{}, map[string]int{}
	count := func(ci FactCI) {
		levels[criticalities[importance(ci)]]++
		classes[ci.Class]++
	}
	for _, ci := range cis {
		count(ci)
	}
	for _, r := range impact.Reached {
		count(factCI(r.CI, r.Depth))
	}
	for _, level := range criticalities {
		if levels[level] > 0 {
			f.Criticality = append(f.Criticality, Counted{level, levels[level]})
		}
	}
	for class, n := range classes {
		f.Classes = append(f.Classes, Counted{class, n})
	}
	slices.SortFunc(f.Classes, func(a, b Counted) int { return strings.Compare(a.Name, b.Name) })
	return f
}

// judge asks the risk policy and makes its receipt.
func (s *Service) judge(ctx context.Context, about Facts, now time.Time) (Receipt, error) {
	type judgement struct {
		policy  Policy
		verdict Verdict
	}
	j, err := command.Hook(ctx, s.door, "risk policy", func(ctx context.Context) (judgement, error) {
		j := judgement{policy: s.risk.Policy()}
		var err error
		if j.verdict, err = s.risk.Assess(ctx, about); err == nil {
			err = j.verdict.check()
		}
		if err != nil {
			err = fmt.Errorf("%s %s: %w", j.policy.ID, j.policy.Version, err)
		}
		return j, err
	})
	if err != nil {
		return Receipt{}, err
	}
	j.policy.Text = ""
	return receipt(j.policy, about, j.verdict, now)
}

// check says what a verdict lacks.
func (v Verdict) check() error {
	switch {
	case v.Level == "" || len(v.Why) == 0:
		return errors.New("it gave no level, or no reason")
	case v.Score != nil && v.Score.Form != apd.Finite:
		return fmt.Errorf("it gave the score %s", v.Score)
	case v.Failure != nil && (v.Failure.Form != apd.Finite || v.Failure.Sign() < 0 || v.Failure.Cmp(apd.New(1, 0)) > 0):
		return fmt.Errorf("it gave the probability %s of a failure, which is not from 0 to 1", v.Failure)
	}
	return nil
}

func receipt(policy Policy, about Facts, verdict Verdict, now time.Time) (Receipt, error) {
	digest, err := about.Digest()
	return Receipt{Policy: policy, Facts: about, Digest: digest, Verdict: verdict, At: now}, err
}

// Digest returns the SHA-256 of the JSON of f, hexadecimal.
func (f Facts) Digest() (string, error) {
	b, err := json.Marshal(f, json.Deterministic(true))
	if err != nil {
		return "", fmt.Errorf("digest of facts: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// byHand returns the receipt of a judgement that a person made.
func (d *decision) byHand(c Assess) (Receipt, error) {
	r, err := receipt(Policy{ID: "by hand", Version: "1"}, d.about, Verdict{Level: c.Level, Score: c.Score, Why: []string{c.Why}}, d.now)
	r.By = d.actor.ID
	return r, err
}

// resolve asks the directory for everybody whom a stage of the model may ask.
func (s *Service) resolve(ctx context.Context, m *model, owners []string) (workflow.Resolved, error) {
	r := workflow.Resolved{Groups: map[string][]string{}, Roles: map[string][]string{}, Owners: map[string][]string{}}
	if s.directory == nil {
		return r, nil
	}
	return AskDirectory(ctx, s.door, s.directory, func(ctx context.Context) (workflow.Resolved, error) {
		ask := func(into map[string][]string, name string, from func(context.Context, string) ([]string, error)) error {
			if _, known := into[name]; known || name == "" {
				return nil
			}
			people, err := from(ctx, name)
			into[name] = people
			return err
		}
		for _, stage := range m.Stages {
			for _, c := range slices.Concat(stage.Candidates, stage.Escalate) {
				if err := cmp.Or(ask(r.Groups, c.Group, s.directory.Group), ask(r.Roles, c.Role, s.directory.Role)); err != nil {
					return r, err
				}
			}
		}
		for _, team := range owners {
			if err := ask(r.Owners, team, s.directory.Group); err != nil {
				return r, err
			}
		}
		return r, nil
	})
}

// conditions returns a function that evaluates expressions over the facts.
func (s *Service) conditions(ctx context.Context, c Change, cmd Command, f facts) func(string) (bool, error) {
	var values map[string]any
	return func(text string) (bool, error) {
		if s.expressions == nil {
			return false, errors.New("the engine has no Expressions to evaluate it: configure them")
		}
		if values == nil {
			values = f.about.Map()
			level := ""
			if c.Risk != nil {
				level = c.Risk.Verdict.Level
			}
			if f.risk != nil {
				level = f.risk.Verdict.Level
			}
			if a, ok := cmd.(Assess); ok {
				level = a.Level
			}
			values["risk"] = level
		}
		return command.Hook(ctx, s.door, "expression", func(context.Context) (bool, error) {
			condition, err := s.expressions.Compile(text)
			if err != nil {
				return false, err
			}
			return condition.Holds(values)
		})
	}
}
