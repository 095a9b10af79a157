package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/release"
)

// releases brings a new version of billing to production: the first one fails and
// is rolled back, the second one stays.
func (s *story) releases(ctx context.Context) error {
	s.heading("Environments")
	graph := release.Environments{
		{Name: "staging", Limits: release.Limits{}},
		{Name: "production", Production: true, Upstream: []string{"staging"}, Soak: change.Duration(time.Hour), Gates: []release.Gate{
			{Name: "authorised", Kind: release.GateChange}, {Name: "time", Kind: release.GateWindow},
		}},
	}
	if _, err := s.Releases.DefineEnvironments(ctx, frank, graph, "as we work"); err != nil {
		return err
	}
	s.say("staging, then after an hour of soak production, which asks for a change and an open window")

	s.heading("A release that fails, and is rolled back")
	c, err := s.authorised(ctx, "Release billing 3.2", time.Date(2026, 3, 10, 9, 0, 0, 0, time.UTC))
	if err != nil {
		return err
	}
	r, err := s.staged(ctx, "Billing 3.2", "3.2", c)
	if err != nil {
		return err
	}
	why, err := s.Releases.Why(ctx, frank, r.ID, release.Deploy{Environment: "production"})
	if err != nil {
		return err
	}
	for _, rule := range why {
		s.no("frank: %s", rule)
	}
	s.now = c.Window.Start
	r, err = s.Releases.Do(ctx, frank, r.ID, release.Deploy{Environment: "production", Waves: []release.Wave{
		{Name: "canary", Targets: []string{"billing-1"}}, {Name: "rest", Targets: []string{"billing-2", "billing-3"}},
	}})
	if err != nil {
		return err
	}
	if err := s.stands(ctx, "production is being deployed", r, c.ID); err != nil {
		return err
	}
	s.now = s.now.Add(5 * time.Minute)
	r, err = s.Releases.Do(ctx, frank, r.ID, report(2, "billing-1", release.Successful), release.NextWave{Deployment: 2}, report(2, "billing-2", release.Unsuccessful))
	if err != nil {
		return err
	}
	s.say("billing-1 is fine, billing-2 is not: the deployment is %s", r.Deployments[1].State)
	s.now = s.now.Add(5 * time.Minute)
	r, err = s.Releases.Do(ctx, frank, r.ID,
		release.Rollback{Environment: "production", Reason: "billing-2 counts invoices twice", Waves: []release.Wave{{Name: "all", Targets: []string{"billing-1", "billing-2"}}}},
		report(3, "billing-1", release.Successful), report(3, "billing-2", release.Successful), release.Finish{Deployment: 3})
	if err != nil {
		return err
	}
	if err := s.stands(ctx, "rolled back", r, c.ID); err != nil {
		return err
	}
	s.now = s.now.Add(time.Hour)
	_, err = s.Releases.Do(ctx, frank, r.ID, release.Deploy{Environment: "production"})
	if !command.By(err, "on-hold") {
		return fmt.Errorf("what was rolled back is deployed again: %w", err)
	}
	s.no("frank: %v", err)

	s.heading("The next one, which succeeds")
	if c, err = s.authorised(ctx, "Release billing 3.2.1", time.Date(2026, 3, 11, 9, 0, 0, 0, time.UTC)); err != nil {
		return err
	}
	if r, err = s.staged(ctx, "Billing 3.2.1", "3.2.1", c); err != nil {
		return err
	}
	s.now = c.Window.Start
	targets := []string{"billing-1", "billing-2", "billing-3"}
	if r, err = s.Releases.Do(ctx, frank, r.ID, release.Deploy{Environment: "production", Waves: []release.Wave{{Name: "all", Targets: targets}}}); err != nil {
		return err
	}
	s.now = s.now.Add(10 * time.Minute)
	var reports []release.Command
	for _, target := range targets {
		reports = append(reports, report(2, target, release.Successful))
	}
	if r, err = s.Releases.Do(ctx, frank, r.ID, append(reports, release.Finish{Deployment: 2}, release.Close{})...); err != nil {
		return err
	}
	if err := s.stands(ctx, "delivered", r, c.ID); err != nil {
		return err
	}
	notes, err := s.Releases.Notes(ctx, r.ID)
	if err != nil {
		return err
	}
	s.block(notes.Markdown())
	return s.situation(ctx)
}

// authorised raises a change to billing for an hour and has it approved.
func (s *story) authorised(ctx context.Context, title string, start time.Time) (change.Change, error) {
	c, err := s.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{
		Title: title, CIs: []string{"billing"}, Group: "team-money", Window: change.Between(start, start.Add(2*time.Hour)),
		Plans: change.Plans{Implementation: "by the pipeline", Backout: "roll back to what was there"},
	}}, change.Submit{})
	if err != nil {
		return c, err
	}
	if c, err = s.Changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope}); err != nil {
		return c, err
	}
	s.say("%s %s is authorised, for %s", c.ID, c.Title, stamp(c.Window.Start))
	return c, nil
}

// staged plans a release that carries a change out, and brings it to staging.
func (s *story) staged(ctx context.Context, title, version string, c change.Change) (release.Release, error) {
	r, err := s.Releases.Plan(ctx, frank, release.Plan{Process: "direct", Content: release.Content{
		Title: title, Kind: release.Minor,
		Components: []release.Component{{Kind: release.Code, CI: "billing", To: version}},
	}}, release.Bind{Change: c.ID}, release.Advance{}, release.Deploy{Environment: "staging"})
	if err != nil {
		return r, err
	}
	if r, err = s.Releases.Do(ctx, frank, r.ID, report(1, "staging", release.Successful), release.Finish{Deployment: 1}); err != nil {
		return r, err
	}
	s.yes("%s %s is in staging", r.ID, r.Title)
	return r, nil
}

func report(deployment int, target string, outcome release.Outcome) release.Report {
	return release.Report{Deployment: deployment, ID: fmt.Sprintf("job-%d-%s", deployment, target), Target: target, Outcome: outcome}
}

// stands shows a release, the change that it carries out and the CMDB, at one
// position of the log.
func (s *story) stands(ctx context.Context, what string, r release.Release, id string) error {
	return s.View(ctx, func(v rollforward.View) error {
		c, _ := v.Changes.Get(id)
		billing, _ := v.CMDB.CI("billing")
		s.yes("%s: %s is in %s, %s in %s, billing has version %s", what, r.ID, r.Phase, c.ID, c.Phase, billing.Attributes["version"])
		if c.Work != nil && c.Work.BackedOut {
			s.item("%s was backed out by %s", c.ID, c.Work.Delivered[0])
		}
		return nil
	})
}

// situation shows what is going on with billing in the next days.
func (s *story) situation(ctx context.Context) error {
	s.heading("What goes on with billing")
	now, err := s.Situation(ctx, rollforward.About{CI: "billing"})
	if err != nil {
		return err
	}
	for _, c := range now.Changes {
		s.item("%s %s, in %s", c.ID, c.Title, c.Phase)
	}
	for _, r := range now.Releases {
		s.item("%s %s, in %s", r.ID, r.Title, r.Phase)
	}
	before, err := s.CMDB.Get(ctx, "billing@staging")
	if err != nil {
		return err
	}
	s.item("in staging it has version %s", before.Attributes["version"])
	return nil
}
