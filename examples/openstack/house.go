package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/release"
)

// Who acts beside the people who proposed changes.
var (
	committee = command.As("technical-committee") // says how things are done
	team      = command.As("release-team")        // approves
	pipeline  = command.As("zuul")                // deploys
)

const approval = "release team"

// roles gives the people who proposed changes the right to do so.
func roles(h *history) command.Roles {
	all := command.Roles{
		committee.ID: {command.ChangeManager, command.ReleaseManager, command.ConfigManager},
		team.ID:      {command.Approver},
		pipeline.ID:  {command.ReleaseManager, command.Implementer, command.ConfigManager},
	}
	for _, r := range h.rows {
		if !slices.Contains(all[r.proposer], command.Requester) {
			all[r.proposer] = append(all[r.proposer], command.Requester)
		}
	}
	return all
}

// model is how a release change goes: proposed, approved by the release team,
// tagged by the pipeline, done.
func model() change.Model {
	return change.Model{
		Name: "openstack", Title: "Release change", Description: "Proposed as a change to a deliverable file; the release team merges it, and the pipeline tags and publishes.",
		Authority: change.AuthorityStages, Duties: change.StandardDuties(),
		Phases: []change.Phase{
			{Name: "draft", Kind: change.KindPlan, Edits: []string{"*"}},
			{Name: "review", Kind: change.KindAuthorize, Stages: []string{approval}, Edits: []string{"*"}},
			{Name: "merged", Kind: change.KindScheduled, Edits: []string{"*"}},
			{Name: "tagging", Kind: change.KindImplement},
			{Name: "released", Kind: change.KindClosed},
			{Name: "abandoned", Kind: change.KindCanceled},
		},
		Transitions: []change.Transition{
			{From: "draft", To: "review"},
			{From: "review", To: "merged", Automatic: true},
			{From: "merged", To: "tagging"},
			{From: "tagging", To: "released"},
		},
		Stages: []change.Stage{{Name: approval, Candidates: []change.Candidate{{Person: team.ID}}, Rule: change.Rule{Counting: change.First}}},
	}
}

// Attributes of deliverables.
const (
	version      = "version"
	releaseModel = "release_model"
)

// class is the class of all deliverables; each type of deliverable is one below it.
const class = "deliverable"

func classOf(kind string) string {
	if kind == "" {
		return class
	}
	return class + " " + kind
}

func (h *history) classes() []cmdb.Class {
	all := []cmdb.Class{{Name: class, Parent: cmdb.RootClass, Title: "Deliverable of a series", Attributes: []cmdb.AttributeSchema{
		{Name: version, Type: cmdb.TypeString}, {Name: releaseModel, Type: cmdb.TypeString},
	}}}
	var kinds []string
	for _, d := range h.deliverables {
		if d.Type != "" && !slices.Contains(kinds, d.Type) {
			kinds = append(kinds, d.Type)
		}
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		all = append(all, cmdb.Class{Name: classOf(kind), Parent: class})
	}
	return all
}

// clock is the one clock of the engine: it follows the agenda and never goes back. What
// is under way keeps the time of its entry.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) follow(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.now) {
		c.now = t
	}
}

// openEngine opens an engine and tells it how OpenStack releases: what is in the
// log already is left as it is.
func openEngine(ctx context.Context, store eventstore.Store, h *history, now func() time.Time) (*rollforward.Engine, error) {
	eng, err := rollforward.Open(ctx, store, rollforward.Config{Authorizer: roles(h), Clock: now, Backdating: true})
	if err != nil {
		return nil, err
	}
	if err := found(ctx, eng, h); err != nil {
		return nil, closing(eng, err)
	}
	return eng, nil
}

func found(ctx context.Context, eng *rollforward.Engine, h *history) error {
	if _, err := eng.CMDB.DefineClasses(ctx, committee, h.classes()...); err != nil {
		return err
	}
	if _, version, err := eng.Changes.Model(ctx, model().Name, 0); err != nil || version == 0 {
		if _, err := eng.Changes.Publish(ctx, committee, model()); err != nil {
			return err
		}
	}
	if environments, _, err := eng.Releases.Environments(ctx); err != nil {
		return err
	} else if _, ok := environments.Find(published); !ok {
		one := release.Environments{{Name: published, Title: "Tagged and published", Production: true}}
		if _, err := eng.Releases.DefineEnvironments(ctx, committee, one, ""); err != nil {
			return err
		}
	}
	windows, err := eng.Schedule.Windows(ctx, true)
	if err != nil {
		return err
	}
	for _, week := range h.weeks {
		w := week.window()
		if slices.ContainsFunc(windows, func(d schedule.Defined) bool { return d.Window.ID == w.ID }) {
			continue
		}
		if _, err := eng.Schedule.DefineWindow(ctx, committee, w); err != nil {
			return err
		}
	}
	return nil
}

// published is the one environment: what is tagged is published at once.
const published = "published"

// window returns the freeze as a window that warns: what was released in such a
// week was released, with an exception of the time that nobody wrote down.
func (w freezeWeek) window() schedule.Window {
	const local = "2006-01-02T15:04:05"
	scope := schedule.Scope{Tags: []string{w.series}}
	switch {
	case w.kind:
		scope.Classes = []string{classOf(w.only)}
	case w.only != "":
		scope.CIs = []string{ci(w.series, w.only)}
	}
	return schedule.Window{
		ID: w.series + " " + w.mark, Name: "Feature freeze of " + w.series, Kind: schedule.Deny, Scope: scope, Reason: w.mark + " of the release schedule",
		Start: w.start.Format(local), End: w.end.Format(local),
		Effects: schedule.Effects{Plan: change.Warn, Authorize: change.Warn, Start: change.Warn},
	}
}

func closing(eng *rollforward.Engine, err error) error { return errors.Join(err, eng.Close()) }
