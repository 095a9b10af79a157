package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/release"
)

// replay takes an engine through an agenda. Every command has a key made of the
// row and the step, so that a run on a log which has it already appends nothing.
//
// Several entries are under way at once, each at its own time, so that they share the
// commits of the store. One waits for those before it that touch a deliverable of its
// own, and so for its own proposal: what becomes of a change, a release or a CI is the
// same as if all came one after the other, but for the numbers they are given.
type replay struct {
	*rollforward.Engine
	history *history
	clock   *clock
	atOnce  int // entries under way

	mu      sync.Mutex
	known   map[string]bool          // CIs that were recorded
	inForce map[string]string        // versions, by CI
	open    map[*job]*proposal       // that may be merged yet
	refused tally                    // steps that a rule stood in the way of, by the rule
	spent   map[string]time.Duration // by kind of command
}

// proposal is a change under review.
type proposal struct {
	change.Change
	planned change.Content // its deltas and CIs as last written
}

func newReplay(eng *rollforward.Engine, h *history, c *clock, atOnce int) *replay {
	return &replay{
		Engine: eng, history: h, clock: c, atOnce: atOnce,
		known: map[string]bool{}, inForce: map[string]string{}, open: map[*job]*proposal{}, refused: tally{}, spent: map[string]time.Duration{},
	}
}

func (r *replay) run(ctx context.Context, events []event) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	places := make(chan struct{}, r.atOnce)
	touching := map[string]chan struct{}{} // by CI: closed when the last entry that touches it is over
	var running sync.WaitGroup
	for _, e := range events {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		r.clock.follow(e.at)
		var before []chan struct{}
		over := make(chan struct{})
		for _, d := range e.job.releases {
			if last := touching[d.ci]; last != nil {
				before = append(before, last)
			}
			touching[d.ci] = over
		}
		running.Go(func() {
			defer func() { <-places }()
			defer close(over)
			for _, last := range before {
				<-last
			}
			if err := r.take(ctx, e); err != nil {
				cancel(fmt.Errorf("line %d, commit %s: %w", e.job.line, e.job.commit, err))
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// take does what an entry says, and counts what a rule is in the way of.
func (r *replay) take(ctx context.Context, e event) error {
	if ctx.Err() != nil {
		return nil // another one failed
	}
	act := r.propose
	if e.step == merge {
		act = r.merge
	}
	err := act(ctx, e)
	if refused := (*command.Error)(nil); errors.As(err, &refused) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused[fmt.Sprintf("%s, by %s", refused.Call.Action, refused.Refusals[0].Rule)]++
		delete(r.open, e.job)
		return nil
	}
	return err
}

// call is one of a command that an entry leads to.
func (e event) call(actor command.Actor, name string) command.Call {
	return command.Call{Actor: actor, Key: name + " " + e.job.commit, OccurredAt: e.at}
}

// timed counts what a kind of command takes.
func (r *replay) timed(kind string, do func() error) error {
	began := time.Now()
	err := do()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent[kind] += time.Since(began)
	return err
}

// propose records deliverables that are new, and raises the change.
func (r *replay) propose(ctx context.Context, e event) error {
	j := e.job
	if add := r.unknown(j); len(add) > 0 {
		if err := r.timed("record", func() error {
			_, err := r.CMDB.RecordCall(ctx, e.call(pipeline, "record"), add...)
			return err
		}); err != nil {
			return err
		}
		r.mu.Lock()
		for _, d := range add {
			r.known[d.CI] = true
		}
		r.mu.Unlock()
	}
	content := r.planned(j)
	content.Title = title(j)
	content.Description = "Releases " + strings.Join(j.versions[:min(len(j.versions), 500)], ", ")
	content.Origin = change.Origin{Kind: "release", Reference: j.review}
	content.Group, content.Implementers = team.ID, []string{pipeline.ID}
	p := &proposal{planned: content}
	if err := r.timed("raise", func() (err error) {
		p.Change, err = r.Changes.RaiseCall(ctx, e.call(command.As(j.proposer), "raise"),
			change.Raise{Model: model().Name, Content: content, External: j.commit}, change.Submit{})
		return err
	}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[j] = p
	return nil
}

// unknown returns the deltas that add deliverables of a row that were not recorded yet.
func (r *replay) unknown(j *job) (add []cmdb.Delta) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range j.releases {
		if !r.known[d.ci] {
			add = append(add, r.history.added(d.ci))
		}
	}
	return add
}

func title(j *job) string {
	if strings.TrimSpace(j.subject) != "" {
		return j.subject
	}
	return "Release " + j.releases[0].ci
}

// added returns the delta that adds a deliverable.
func (h *history) added(id string) cmdb.Delta {
	series, name, _ := strings.Cut(id, "/")
	d := h.deliverables[id]
	attributes := []cmdb.Attribute{cmdb.Attr(cmdb.AttrName, name), cmdb.Attr(cmdb.AttrTags, series)}
	for _, a := range []cmdb.Attribute{cmdb.Attr(cmdb.AttrOwner, d.Team), cmdb.Attr(releaseModel, d.Model)} {
		if a.Value != "" {
			attributes = append(attributes, a)
		}
	}
	return cmdb.Add(id, classOf(d.Type), attributes...)
}

// planned returns what a row brings, as seen now: a delta for each version that is
// another than the one in force, and the CI alone for others.
func (r *replay) planned(j *job) (c change.Content) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range j.releases {
		if before := r.inForce[d.ci]; before != d.version {
			c.Deltas = append(c.Deltas, cmdb.Set(d.ci, version, before, d.version))
		} else {
			c.CIs = append(c.CIs, d.ci)
		}
	}
	return c
}

// merge approves a change and carries it out.
func (r *replay) merge(ctx context.Context, e event) error {
	r.mu.Lock()
	p := r.open[e.job]
	delete(r.open, e.job)
	r.mu.Unlock()
	if p == nil {
		return nil // it was refused
	}
	if err := r.rebase(ctx, e, p); err != nil {
		return err
	}
	if err := r.timed("approve", func() (err error) {
		p.Change, err = r.Changes.DoCall(ctx, e.call(team, "approve"), p.ID, change.Approve{Stage: approval, Scope: p.Scope})
		return err
	}); err != nil {
		return err
	}
	if err := r.carryOut(ctx, e, p); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range e.job.releases {
		r.inForce[d.ci] = d.version
	}
	return nil
}

// rebase writes the change anew where other changes were merged since it was
// proposed, to the same deliverables: what it comes from is no longer in force.
func (r *replay) rebase(ctx context.Context, e event, p *proposal) error {
	now := r.planned(e.job)
	if sameDeltas(now.Deltas, p.planned.Deltas) {
		return nil
	}
	edit := change.Edit{Set: now, Reason: "rebased"}
	if len(now.Deltas) == 0 {
		edit.Clear = append(edit.Clear, "deltas")
	}
	if len(now.CIs) == 0 && len(p.planned.CIs) > 0 {
		edit.Clear = append(edit.Clear, "cis")
	}
	return r.timed("rebase", func() (err error) {
		p.Change, err = r.Changes.DoCall(ctx, e.call(command.As(e.job.proposer), "rebase"), p.ID, edit)
		return err
	})
}

func sameDeltas(a, b []cmdb.Delta) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].CI != b[i].CI || a[i].Before != b[i].Before || a[i].After != b[i].After {
			return false
		}
	}
	return true
}

// carryOut plans a release that carries the change out, and deploys it. The work of
// the change begins and ends with the deployment.
func (r *replay) carryOut(ctx context.Context, e event, p *proposal) error {
	var one release.Release
	if err := r.timed("plan", func() (err error) {
		one, err = r.Releases.PlanCall(ctx, e.call(pipeline, "plan"), r.plan(e.job), release.Bind{Change: p.ID}, release.Advance{})
		return err
	}); err != nil {
		return err
	}
	return r.timed("deploy", func() (err error) {
		_, err = r.Releases.DoCall(ctx, e.call(pipeline, "deploy"), one.ID,
			release.Deploy{Environment: published},
			release.Report{Deployment: 1, ID: e.job.commit, Target: published, Outcome: release.Successful},
			release.Finish{Deployment: 1}, release.Close{})
		return err
	})
}

// plan returns the release that carries a row out, as seen now.
func (r *replay) plan(j *job) release.Plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	plan := release.Plan{Process: "direct", Content: release.Content{Title: title(j), Kind: kindOf(j.releases), Notes: notes(j)}}
	for _, d := range j.releases {
		plan.Content.Components = append(plan.Content.Components, release.Component{Kind: release.Code, CI: d.ci, From: r.inForce[d.ci], To: d.version})
	}
	return plan
}

// notes says which versions a row released of a deliverable before the last.
func notes(j *job) string {
	var all []string
	for _, d := range j.releases {
		if d.versions > 1 {
			all = append(all, fmt.Sprintf("%s: the last of %d versions", d.ci, d.versions))
		}
	}
	return strings.Join(all, "\n")
}

// kindOf tells by its versions how large a release is: by the last number that is
// not 0, of the largest.
func kindOf(releases []delivery) release.Kind {
	kind := release.Patch
	for _, d := range releases {
		numbers := strings.SplitN(d.version, ".", 4)
		zero := func(i int) bool { return len(numbers) <= i || strings.TrimLeft(numbers[i], "0") == "" }
		switch {
		case !zero(2):
		case !zero(1):
			if kind == release.Patch {
				kind = release.Minor
			}
		default:
			kind = release.Major
		}
	}
	return kind
}
