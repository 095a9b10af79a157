// Command quickstart takes one change to a database through its whole life, and
// two releases of a service to production, on an SQLite file in a temporary folder:
//
//	go run ./examples/quickstart
//
// or on another store, which must be empty:
//
//	go run ./examples/quickstart -store sqlite:changes.db
//	go run ./examples/quickstart -store postgres:'host=db user=app dbname=changes'
//	go run ./examples/quickstart -store memory
//
// It shows what hangs on the database, what the risk is and why, a freeze that is
// in the way and the slot that is free, an approval that is refused and one that is
// given, an edit that voids it, the work and its review; a release that goes
// through two environments, fails on a server, is rolled back and held, and the
// next one, which succeeds; what became of the configuration, and the history that
// all of it is folded from, also after the file was closed and opened again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// Who acts. People are named by opaque IDs in a log; here by what reads well.
var (
	alice = command.As("alice")
	bob   = command.As("bob")
	carol = command.As("carol")
	dave  = command.As("dave")
	erin  = command.As("erin")
	frank = command.As("frank")
)

// roles says who may do what. Alice may approve, but not what she asked for.
var roles = command.Roles{
	"alice": {command.Requester, command.Approver},
	"bob":   {command.Approver},
	"carol": {command.ChangeManager, command.ConfigManager},
	"dave":  {command.Implementer},
	"erin":  {command.Reviewer},
	"frank": {command.ReleaseManager},
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	place, err := parse(args, errs)
	if err != nil {
		return err
	}
	if place != nil {
		return play(ctx, out, place)
	}
	folder, err := os.MkdirTemp("", "rollforward")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	return play(ctx, out, file(filepath.Join(folder, "changes.db")))
}

// play tells the story on a store, which it closes once and opens again.
func play(ctx context.Context, out io.Writer, place *place) (err error) {
	story := &story{page: newPage(out), place: place, now: time.Date(2026, 3, 5, 9, 0, 0, 0, time.UTC)} // a Thursday

	var id string
	if err := story.open(ctx, func() error {
		if err := story.begin(ctx); err != nil {
			return err
		}
		id, err = story.tell(ctx)
		return err
	}); err != nil {
		return err
	}
	return story.open(ctx, func() error { return story.again(ctx, id) })
}

// story is an engine, a clock that is moved by hand, and a page to write on.
type story struct {
	*page
	*rollforward.Engine
	place  *place
	store  eventstore.Store // while it is open
	now    time.Time
	before change.Change // as it was when the store was closed
}

// open runs part of the story on the store and closes it.
func (s *story) open(ctx context.Context, part func() error) (err error) {
	if s.store, err = s.place.open(ctx); err != nil {
		return err
	}
	defer s.store.Close()
	s.Engine, err = rollforward.Open(ctx, s.store, rollforward.Config{
		Authorizer: roles,
		Risk:       risk.Max(risk.LeadTime(24*time.Hour), risk.BlastRadius()),
		Clock:      func() time.Time { return s.now },
	})
	if err != nil {
		return err
	}
	if err := part(); err != nil {
		return fmt.Errorf("%w (%v)", err, s.Engine.Close())
	}
	return s.Engine.Close()
}

// begin fails on a store where something was done already: the story would go on
// otherwise than it is told.
func (s *story) begin(ctx context.Context) error {
	done, err := s.Changes.List(ctx, change.Filter{})
	if err != nil {
		return err
	}
	items, err := s.CMDB.List(ctx, cmdb.Filter{})
	if err != nil {
		return err
	}
	if len(done)+len(items) > 0 {
		return fmt.Errorf("the %s has %d changes and %d CIs already: choose an empty one", s.place.noun, len(done), len(items))
	}
	return nil
}

func (s *story) tell(ctx context.Context) (string, error) {
	if err := s.estate(ctx); err != nil {
		return "", err
	}
	c, err := s.plan(ctx)
	if err != nil {
		return "", err
	}
	for _, part := range []func(context.Context, change.Change) (change.Change, error){s.freeze, s.approve, s.edit, s.work, s.review} {
		if c, err = part(ctx, c); err != nil {
			return "", err
		}
	}
	s.before = c
	if err := s.trail(ctx, c.ID); err != nil {
		return "", err
	}
	return c.ID, s.releases(ctx)
}

// estate records what there is: three services on one database.
func (s *story) estate(ctx context.Context) error {
	s.heading("The estate")
	_, err := s.CMDB.Record(ctx, carol,
		cmdb.Add("host-7", "server", cmdb.Attr("environment", "production")),
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15"), cmdb.Attr("criticality", "high"), cmdb.Attr("environment", "production"), cmdb.Attr("owner", "team-db")),
		cmdb.Add("shop", "service", cmdb.Attr("criticality", "critical"), cmdb.Attr("owner", "team-shop")),
		cmdb.Add("billing", "service", cmdb.Attr("version", "3.1"), cmdb.Attr("criticality", "high"), cmdb.Attr("owner", "team-money")),
		cmdb.Add("reports", "service", cmdb.Attr("criticality", "low"), cmdb.Attr("owner", "team-money")),
		cmdb.Add("web-1", "application"), cmdb.Add("web-2", "application"), cmdb.Add("web", "cluster", cmdb.Attr("min_up", "1")),
		cmdb.Relate("db-01", "runs on", "host-7"),
		cmdb.Relate("web-1", "member of", "web"), cmdb.Relate("web-2", "member of", "web"),
		cmdb.Relate("web-1", "depends on", "db-01"), cmdb.Relate("web-2", "depends on", "db-01"),
		cmdb.Relate("shop", "depends on", "web"),
		cmdb.Relate("billing", "depends on", "db-01"),
		cmdb.Relate("reports", "depends on", "billing"))
	if err != nil {
		return err
	}
	_, err = s.Schedule.DefineWindow(ctx, carol, schedule.Window{
		ID: "spring-sale", Name: "Spring sale", Kind: schedule.Deny, Scope: schedule.Scope{Environments: []string{"production"}},
		Zone: "Europe/Berlin", Start: "2026-03-07T00:00:00", End: "2026-03-08T00:00:00", Reason: "the shop has its sale",
	})
	if err != nil {
		return err
	}
	around, err := s.CMDB.Neighbourhood(ctx, "db-01", 1)
	if err != nil {
		return err
	}
	s.block(around.Mermaid())
	return nil
}

// plan raises the change and submits it, in one append.
func (s *story) plan(ctx context.Context) (change.Change, error) {
	s.heading("A change, its impact and its risk")
	saturday := time.Date(2026, 3, 7, 1, 0, 0, 0, time.UTC)
	c, err := s.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{
		Title:        "Upgrade db-01 to PostgreSQL 16",
		Origin:       change.Origin{Kind: "problem", Reference: "PRB-118"},
		Group:        "team-db",
		Implementers: []string{"dave"},
		Deltas:       []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")},
		Plans:        change.Plans{Implementation: "pg_upgrade --link", Backout: "restore the snapshot", Test: "smoke test of shop and billing"},
		Window:       change.Between(saturday, saturday.Add(time.Hour)),
		Outage:       &change.Outage{Expected: true, For: change.Of(15 * time.Minute)},
	}}, change.Submit{})
	if err != nil {
		return c, err
	}
	s.say("%s %s, phase %s, window %s to %s", c.ID, c.Title, c.Phase, stamp(c.Window.Start), stamp(c.Window.End))
	for _, a := range c.Impact.Top {
		s.item("%s is affected: %s", named(a), path(a.Path))
	}
	s.say("risk %s", s.strong(c.Risk.Verdict.Level))
	for _, engine := range c.Risk.Verdict.Engines {
		for _, why := range engine.Why {
			s.item("%s says %s: %s", engine.Engine, engine.Level, why)
		}
	}
	return c, nil
}

// freeze finds that the time is not free, and takes the next one that is.
func (s *story) freeze(ctx context.Context, c change.Change) (change.Change, error) {
	s.heading("A freeze, and a free slot")
	planned, _ := c.Timing(change.Planned)
	for _, conflict := range planned.Timing.Conflicts {
		s.item("%s: %s", conflict.Rule, conflict.Why)
	}
	s.now = s.now.Add(10 * time.Minute)
	_, err := s.Changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	if !command.By(err, schedule.Blackout) {
		return c, fmt.Errorf("bob approves what falls into a freeze: %w", err)
	}
	s.no("bob: %v", err)
	everyDay := []time.Weekday{time.Saturday, time.Sunday, time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}
	room, err := s.Schedule.Slots(ctx, schedule.Need{
		Change: c.ID, For: time.Hour, NotBefore: c.Window.Start, Most: 1, Reasons: true,
		Hours: &schedule.Hours{Zone: "Europe/Berlin", Days: everyDay, From: schedule.Clock(2 * time.Hour), To: schedule.Clock(5 * time.Hour)},
	})
	if err != nil {
		return c, err
	}
	for _, passed := range room.Passed {
		s.item("not %s to %s: %s", stamp(passed.Window.Start), stamp(passed.Window.End), passed.Why)
	}
	slot := room.Slots[0]
	c, err = s.Changes.Do(ctx, alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(slot.Start, slot.End)}, Reason: "the first night hour that is free"})
	if err != nil {
		return c, err
	}
	planned, _ = c.Timing(change.Planned)
	s.yes("alice takes %s to %s: %s", stamp(slot.Start), stamp(slot.End), planned.Timing.Answer)
	return c, nil
}

// approve asks, is refused, and gets the approval of somebody else.
func (s *story) approve(ctx context.Context, c change.Change) (change.Change, error) {
	s.heading("May it be deployed now?")
	s.now = s.now.Add(70 * time.Minute)
	why, err := s.Changes.Why(ctx, dave, c.ID, change.Start{})
	if err != nil {
		return c, err
	}
	for _, rule := range why {
		s.no("dave: %s", rule)
	}
	_, err = s.Changes.Do(ctx, alice, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	if !command.By(err, "separation-of-duties") {
		return c, fmt.Errorf("alice approves her own change: %w", err)
	}
	s.no("alice: %v", err)
	c, err = s.Changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope, Comment: "go ahead"})
	if err != nil {
		return c, err
	}
	s.yes("bob approves what he saw, %s", short(c.Scope))
	s.say("phase %s, authorised by %s", c.Phase, c.Authorized.By)
	return c, nil
}

// edit changes the plan, which voids the approval, and has it approved anew.
func (s *story) edit(ctx context.Context, c change.Change) (change.Change, error) {
	s.heading("An edit voids the approval")
	s.now = s.now.Add(5 * time.Hour)
	old := c.Scope
	plans := c.Plans
	plans.Test = "smoke test of shop, billing and reports"
	c, err := s.Changes.Do(ctx, alice, c.ID, change.Edit{Set: change.Content{Plans: plans}, Reason: "reports was forgotten"})
	if err != nil {
		return c, err
	}
	s.say("phase %s: stage cab is asked again", c.Phase)
	since, err := s.Changes.Since(ctx, c.ID, "bob")
	if err != nil {
		return c, err
	}
	for _, d := range since {
		s.item("since bob approved, %s", d)
	}
	s.now = s.now.Add(18 * time.Hour)
	_, err = s.Changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: old})
	if !command.By(err, "scope-changed") {
		return c, fmt.Errorf("bob approves what is no longer so: %w", err)
	}
	s.no("bob: %v", err)
	c, err = s.Changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	if err != nil {
		return c, err
	}
	s.yes("bob approves %s, phase %s", short(c.Scope), c.Phase)
	return c, nil
}

// work carries the change out.
func (s *story) work(ctx context.Context, c change.Change) (change.Change, error) {
	s.heading("The work")
	s.now = c.Window.Start.Add(2 * time.Minute)
	c, err := s.Changes.Do(ctx, dave, c.ID, change.Start{})
	if err != nil {
		return c, err
	}
	s.yes("dave starts at %s", stamp(c.Started.At))
	s.now = s.now.Add(25 * time.Minute)
	c, err = s.Changes.Do(ctx, dave, c.ID, change.Complete{Notes: "replication lag for 3 minutes"})
	if err != nil {
		return c, err
	}
	s.yes("dave completes at %s, %d delta applied", stamp(c.Work.End), len(c.Work.Applied))
	return c, nil
}

// review closes the change, which has to wait for a follow-up.
func (s *story) review(ctx context.Context, c change.Change) (change.Change, error) {
	s.heading("The review")
	s.now = s.now.Add(32 * time.Hour)
	c, err := s.Changes.Do(ctx, erin, c.ID, change.Review{
		Outcome: change.WithIssues, Notes: "lag was not in the plan",
		FollowUps: []change.FollowUp{{Title: "Add replication to the runbook", Kind: "documentation", Assignee: "dave"}},
	})
	if err != nil {
		return c, err
	}
	s.say("erin: %s, %s", c.Reviewed.Outcome, c.Reviewed.Notes)
	_, err = s.Changes.Do(ctx, carol, c.ID, change.Close{})
	if !command.By(err, "tasks-open") {
		return c, fmt.Errorf("carol closes it while a task is open: %w", err)
	}
	s.no("carol: %v", err)
	s.now = s.now.Add(3 * time.Hour)
	if c, err = s.Changes.Do(ctx, dave, c.ID, change.MoveTask{ID: 1, To: "closed"}); err != nil {
		return c, err
	}
	if c, err = s.Changes.Do(ctx, carol, c.ID, change.Close{}); err != nil {
		return c, err
	}
	s.yes("carol closes it, phase %s", c.Phase)
	return c, nil
}

// trail shows what became of the database, and the history of the change.
func (s *story) trail(ctx context.Context, id string) error {
	s.heading("What the CMDB knows of db-01")
	entries, err := s.CMDB.History(ctx, "db-01")
	if err != nil {
		return err
	}
	for _, e := range entries {
		s.item("%s", e)
	}
	s.heading("The audit trail")
	history, err := s.Changes.History(ctx, id)
	if err != nil {
		return err
	}
	for _, e := range history {
		s.item("%s", e)
	}
	return nil
}

// again shows that the store holds the same.
func (s *story) again(ctx context.Context, id string) error {
	s.heading("The " + s.place.noun + ", closed and opened again")
	c, err := s.Changes.Get(ctx, id)
	if err != nil {
		return err
	}
	db, err := s.CMDB.Get(ctx, "db-01")
	if err != nil {
		return err
	}
	if c.Phase != s.before.Phase || c.Scope != s.before.Scope || c.Version != s.before.Version || len(s.before.Diff(c.Content)) > 0 {
		return fmt.Errorf("%s is not what it was: phase %s, version %d", id, c.Phase, c.Version)
	}
	verified, err := s.Verify(ctx)
	if err != nil {
		return err
	}
	s.yes("%s is %s at version %d, db-01 has version %s", c.ID, c.Phase, c.Version, db.Attributes["version"])
	events := 0 // a store may leave positions out
	for r, err := range s.store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return err
		}
		if r.Position <= verified.Position {
			events++
		}
	}
	s.yes("%d folds are what the log of %d positions gives", len(verified.Folds), events)
	return nil
}
