package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/release"
)

// replay takes an engine through an agenda. Every command has a key made of the
// row and the step, so that a run on a log which has it already appends nothing.
type replay struct {
	*rollforward.Engine
	history *history
	clock   *clock
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

func newReplay(eng *rollforward.Engine, h *history, c *clock) *replay {
	return &replay{
		Engine: eng, history: h, clock: c,
		known: map[string]bool{}, inForce: map[string]string{}, open: map[*job]*proposal{}, refused: tally{}, spent: map[string]time.Duration{},
	}
}

func (r *replay) run(ctx context.Context, events []event) error {
	for _, e := range events {
		r.clock.follow(e.at)
		act := r.propose
		if e.step == merge {
			act = r.merge
		}
		err := act(ctx, e.job)
		if refused := (*command.Error)(nil); errors.As(err, &refused) {
			r.refused[fmt.Sprintf("%s, by %s", refused.Call.Action, refused.Refusals[0].Rule)]++
			delete(r.open, e.job)
		} else if err != nil {
			return fmt.Errorf("line %d, commit %s: %w", e.job.line, e.job.commit, err)
		}
	}
	return nil
}

// step is a call of a command that a row leads to.
func (r *replay) step(actor command.Actor, j *job, name string) command.Call {
	return command.Call{Actor: actor, Key: name + " " + j.commit}
}

// timed counts what a kind of command takes.
func (r *replay) timed(kind string, do func() error) error {
	began := time.Now()
	err := do()
	r.spent[kind] += time.Since(began)
	return err
}

// propose records deliverables that are new, and raises the change.
func (r *replay) propose(ctx context.Context, j *job) error {
	var add []cmdb.Delta
	for _, d := range j.releases {
		if !r.known[d.ci] {
			add = append(add, r.history.added(d.ci))
		}
	}
	if len(add) > 0 {
		if err := r.timed("record", func() error {
			_, err := r.CMDB.RecordCall(ctx, r.step(pipeline, j, "record"), add...)
			return err
		}); err != nil {
			return err
		}
		for _, d := range add {
			r.known[d.CI] = true
		}
	}
	return r.timed("raise", func() error {
		content := r.planned(j)
		content.Title = title(j)
		content.Description = "Releases " + strings.Join(j.versions[:min(len(j.versions), 500)], ", ")
		content.Origin = change.Origin{Kind: "release", Reference: j.review}
		content.Group, content.Implementers = team.ID, []string{pipeline.ID}
		c, err := r.Changes.RaiseCall(ctx, r.step(command.As(j.proposer), j, "raise"),
			change.Raise{Model: model().Name, Content: content, External: j.commit}, change.Submit{})
		r.open[j] = &proposal{c, content}
		return err
	})
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
func (r *replay) merge(ctx context.Context, j *job) error {
	p := r.open[j]
	if p == nil {
		return nil // it was refused
	}
	delete(r.open, j)
	if err := r.rebase(ctx, j, p); err != nil {
		return err
	}
	if err := r.timed("approve", func() (err error) {
		p.Change, err = r.Changes.DoCall(ctx, r.step(team, j, "approve"), p.ID, change.Approve{Stage: approval, Scope: p.Scope})
		return err
	}); err != nil {
		return err
	}
	if err := r.carryOut(ctx, j, p); err != nil {
		return err
	}
	for _, d := range j.releases {
		r.inForce[d.ci] = d.version
	}
	return nil
}

// rebase writes the change anew where other changes were merged since it was
// proposed, to the same deliverables: what it comes from is no longer in force.
func (r *replay) rebase(ctx context.Context, j *job, p *proposal) error {
	now := r.planned(j)
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
		p.Change, err = r.Changes.DoCall(ctx, r.step(command.As(j.proposer), j, "rebase"), p.ID, edit)
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
func (r *replay) carryOut(ctx context.Context, j *job, p *proposal) error {
	plan := release.Plan{Process: "direct", Content: release.Content{Title: title(j), Kind: kindOf(j.releases), Notes: notes(j)}}
	for _, d := range j.releases {
		plan.Content.Components = append(plan.Content.Components, release.Component{Kind: release.Code, CI: d.ci, From: r.inForce[d.ci], To: d.version})
	}
	var one release.Release
	if err := r.timed("plan", func() (err error) {
		one, err = r.Releases.PlanCall(ctx, r.step(pipeline, j, "plan"), plan, release.Bind{Change: p.ID}, release.Advance{})
		return err
	}); err != nil {
		return err
	}
	return r.timed("deploy", func() (err error) {
		_, err = r.Releases.DoCall(ctx, r.step(pipeline, j, "deploy"), one.ID,
			release.Deploy{Environment: published},
			release.Report{Deployment: 1, ID: j.commit, Target: published, Outcome: release.Successful},
			release.Finish{Deployment: 1}, release.Close{})
		return err
	})
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
