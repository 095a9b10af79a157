package rollforward_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/storefor"
	"github.com/rollforward/rollforward/release"
)

// With envCrowd a test binary is a process in which a crowd of people works on an
// engine: so many steps for each number that it reads, and at last, when there are no
// more, it prints what its folds are.
const (
	envCrowd     = "ROLLFORWARD_TEST_CROWD_ON"
	envCrowdSeed = "ROLLFORWARD_TEST_CROWD_SEED"
)

// crowded does what a child is to do, and reports whether this is one.
func crowded() bool {
	place := storefor.Place(os.Getenv(envCrowd))
	if place == "" {
		return false
	}
	if err := crowdOn(place); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func crowdOn(place storefor.Place) error {
	ctx := context.Background()
	seed, err := strconv.ParseUint(os.Getenv(envCrowdSeed), 10, 64)
	if err != nil {
		return err
	}
	store, err := place.Open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	now := monday
	config := rollforward.Config{SnapshotEvery: -1}
	withReleases(&now)(&config)
	e, err := rollforward.Open(ctx, store, config)
	if err != nil {
		return err
	}
	c := &crowd{Engine: e, r: rand.New(rand.NewPCG(seed, 11)), now: &now, done: map[string]int{}}
	if err := c.begin(ctx); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		for range n {
			now = now.Add(time.Duration(1+c.r.IntN(40)) * time.Minute)
			if err := c.step(ctx); err != nil {
				return err
			}
		}
		head, err := store.Head(ctx)
		if err != nil {
			return err
		}
		fmt.Println("wrote", head)
	}
	err = e.View(ctx, func(v rollforward.View) error {
		text, err := digests(v.CMDB, v.Changes, v.Releases, v.Schedule)
		fmt.Println("state", v.Position, text)
		return err
	})
	fmt.Println("did", c.done, "refused", c.refused)
	return errors.Join(err, e.Close())
}

// digests are of the snapshots of folds.
func digests(folds ...interface{ Snapshot() ([]byte, error) }) (string, error) {
	var all []string
	for _, f := range folds {
		state, err := f.Snapshot()
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf("%x/%d", sha256.Sum256(state), len(state)))
	}
	return strings.Join(all, " "), nil
}

// crowd is people who mostly do what comes next, and sometimes anything.
type crowd struct {
	*rollforward.Engine
	r        *rand.Rand
	now      *time.Time
	changes  []string
	releases []string
	windows  int
	version  int
	report   int
	refused  int
	done     map[string]int
}

var crowdCIs = []string{"db-01", "db-02", "shop", "mail"}

func (c *crowd) begin(ctx context.Context) error {
	_, err := c.CMDB.Record(ctx, carol, cmdb.Add("db-01", "database", cmdb.Attr("version", "1")), cmdb.Add("db-02", "database", cmdb.Attr("version", "1")),
		cmdb.Add("shop", "service"), cmdb.Add("mail", "service"), cmdb.Relate("shop", "depends on", "db-01"), cmdb.Relate("mail", "depends on", "db-02"))
	if err != nil {
		return err
	}
	_, err = c.Releases.DefineEnvironments(ctx, frank, release.Environments{{Name: "dev"}, {Name: "production", Production: true, Upstream: []string{"dev"}}}, "")
	return err
}

func any1[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// took counts what was done, and passes over what a rule stood in the way of.
func (c *crowd) took(what string, err error) error {
	switch {
	case err == nil:
		c.done[what]++
	case errors.Is(err, command.ErrRefused), errors.Is(err, command.ErrDenied), errors.Is(err, command.ErrMalformed):
		c.refused++
		return nil
	}
	return err
}

func (c *crowd) step(ctx context.Context) error {
	switch n := c.r.IntN(20); {
	case n < 4 || len(c.changes) == 0:
		return c.raise(ctx)
	case n < 12:
		return c.advance(ctx, any1(c.r, c.changes[max(0, len(c.changes)-8):]...))
	case n < 13 || len(c.releases) == 0:
		return c.plan(ctx)
	case n < 17:
		return c.deploy(ctx, any1(c.r, c.releases[max(0, len(c.releases)-3):]...))
	case n < 18:
		return c.window(ctx)
	case n < 19:
		c.version++
		_, err := c.CMDB.Record(ctx, carol, cmdb.Add(fmt.Sprintf("srv-%d", c.version), "server"), cmdb.Relate("mail", "depends on", fmt.Sprintf("srv-%d", c.version)))
		return c.took("record", err)
	}
	var seen cmdb.Observation
	for i := range 6 {
		if c.r.IntN(4) > 0 {
			seen.Items = append(seen.Items, cmdb.ObservedItem{Key: fmt.Sprint(i), CI: fmt.Sprintf("seen-%d", i), Class: "server", Attributes: map[string]string{"owner": any1(c.r, "team-a", "team-b")}})
		}
	}
	_, err := c.CMDB.Import(ctx, carol, "scan", seen, cmdb.ImportOptions{Vanished: any1(c.r, cmdb.VanishedMark, cmdb.VanishedRetire), Batch: 3})
	return c.took("import", err)
}

func (c *crowd) raise(ctx context.Context) error {
	ci := any1(c.r, crowdCIs...)
	content := change.Content{Title: "Work on " + ci, CIs: []string{ci}, Group: any1(c.r, "", "team-a"), Plans: change.Plans{Implementation: "i", Backout: "b"}}
	if db, err := c.CMDB.Get(ctx, "db-01"); err != nil {
		return err
	} else if ci == "db-01" {
		c.version++
		content.CIs, content.Deltas = nil, []cmdb.Delta{cmdb.Set(ci, "version", db.Attributes["version"], strconv.Itoa(c.version))}
	}
	if c.r.IntN(2) == 0 {
		start := c.now.Add(time.Duration(c.r.IntN(72)) * time.Hour)
		content.Window = change.Between(start, start.Add(200*time.Hour))
	}
	one, err := c.Changes.Raise(ctx, alice, change.Raise{Content: content}, change.Submit{})
	if err == nil {
		c.changes = append(c.changes, one.ID)
	}
	return c.took("raise", err)
}

func (c *crowd) advance(ctx context.Context, id string) error {
	one, err := c.Changes.Get(ctx, id)
	if err != nil {
		return err
	}
	actor, cmd := alice, change.Command(change.Note{Text: "seen"})
	switch {
	case one.Held != nil:
		actor, cmd = carol, change.Resume{}
	case c.r.IntN(10) == 0:
		actor, cmd = carol, any1[change.Command](c.r, change.Hold{Reason: "h"}, change.Cancel{Reason: "c"}, change.Revert{Reason: "r"})
	case one.Kind == change.KindAssess:
		actor, cmd = carol, change.Assess{Level: "low", Why: "often done"}
	case one.Kind == change.KindAuthorize:
		actor, cmd = bob, change.Approve{Stage: "cab", Scope: one.Scope}
	case one.Kind == change.KindScheduled:
		actor, cmd = dave, change.Start{}
	case one.Kind == change.KindImplement:
		actor, cmd = dave, change.Complete{BackedOut: c.r.IntN(6) == 0}
	case one.Kind == change.KindReview && one.Reviewed == nil:
		actor, cmd = erin, change.Review{Outcome: any1(c.r, change.Successful, change.WithIssues, change.Unsuccessful)}
	case one.Kind == change.KindReview:
		actor, cmd = carol, change.Close{}
	}
	_, err = c.Changes.Do(ctx, actor, id, cmd)
	return c.took(strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", cmd), "change.")), err)
}

func (c *crowd) plan(ctx context.Context) error {
	c.version++
	commands := []release.Command{release.Advance{}}
	if c.r.IntN(2) == 0 {
		commands = append(commands, release.Bind{Change: any1(c.r, c.changes[max(0, len(c.changes)-4):]...)})
	}
	one, err := c.Releases.Plan(ctx, frank, release.Plan{Process: "direct", Content: release.Content{
		Title: "r", Kind: release.Minor, Components: []release.Component{{Kind: release.Code, CI: any1(c.r, crowdCIs...), To: strconv.Itoa(c.version)}},
	}}, commands...)
	if err == nil {
		c.releases = append(c.releases, one.ID)
	}
	return c.took("plan", err)
}

// deploy brings a release through its environments.
func (c *crowd) deploy(ctx context.Context, id string) error {
	one, err := c.Releases.Get(ctx, id)
	if err != nil {
		return err
	}
	cmd := release.Command(release.Deploy{Environment: "dev"})
	if n := len(one.Deployments); n > 0 {
		switch d := one.Deployments[n-1]; {
		case d.State == release.Running && len(d.Reports) == 0:
			c.report++
			cmd = release.Report{Deployment: d.Number, ID: strconv.Itoa(c.report), Target: d.Environment, Outcome: release.Successful}
		case d.State == release.Running:
			cmd = release.Finish{Deployment: d.Number}
		case c.r.IntN(8) == 0:
			cmd = release.Rollback{Environment: d.Environment, Reason: "r"}
		case d.Environment == "dev":
			cmd = release.Deploy{Environment: "production"}
		}
	}
	_, err = c.Releases.Do(ctx, frank, id, cmd)
	return c.took(strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", cmd), "release.")), err)
}

func (c *crowd) window(ctx context.Context) error {
	if c.windows > 0 && c.r.IntN(3) == 0 {
		_, err := c.Schedule.RetireWindow(ctx, carol, fmt.Sprintf("w-%d", c.r.IntN(c.windows)), "not needed")
		return c.took("retire", err)
	}
	start := c.now.Add(time.Duration(300+c.r.IntN(100)) * time.Hour).Format("2006-01-02T15:04:05")
	_, err := c.Schedule.DefineWindow(ctx, carol, schedule.Window{
		ID: fmt.Sprintf("w-%d", c.windows), Name: "w", Kind: any1(c.r, schedule.Deny, schedule.Allow), Scope: schedule.Scope{CIs: []string{any1(c.r, crowdCIs...)}},
		Start: start, Duration: change.Duration(time.Hour), Effects: schedule.Effects{Authorize: change.Warn},
	})
	c.windows++
	return c.took("window", err)
}

// bare is a fold that is given messages as they come, under a lock of the caller's.
type bare interface {
	Apply(eventstore.Recorded) error
	Snapshot() ([]byte, error)
}
