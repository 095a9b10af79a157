package release_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/storefor"
	"github.com/rollforward/rollforward/release"
)

// walker is a crowd that does what comes to its mind, mostly what makes sense.
type walker struct {
	*house
	r        *rand.Rand
	releases []string
	changes  []string
	windows  []string
	report   int
	done     int            // commands that were not refused
	counts   map[string]int // of what the log does not say
}

// walked makes a walk on a store, without some guards. Three of four have the real calendar,
// in the others one that is closed in every sixth hour.
func walked(t testing.TB, kind storefor.Kind, seed uint64, steps int, without ...string) *walker {
	few := func(_ *release.Config, d *command.Config) { d.RefusalsPerMinute = 1 }
	calendar := scheduled
	if seed%4 == 3 {
		calendar = dated
	}
	h := openOn(t, kind.New(t), calendar, few)
	w := &walker{house: h, r: rand.New(rand.NewPCG(seed, 7)), counts: map[string]int{}}
	w.clock.pass(time.Second) // no two commands at one moment: the oracle tells appends apart by it
	h.estate(walkedEnvironments())
	release.Without(h.house().releases, without...)
	if w.almanac != nil {
		w.almanac.faults = without
	}
	for range steps {
		w.clock.pass(time.Duration(1+w.r.IntN(40)) * time.Minute)
		switch {
		case w.calendar != nil:
			w.everySixthHour()
		case w.r.IntN(10) == 0:
			w.timeActs(context.Background())
		}
		w.step()
	}
	return w
}

func (w *walker) everySixthHour() {
	open := w.clock.now.Truncate(6 * time.Hour)
	w.calendar.closed = change.Between(open.Add(5*time.Hour), open.Add(6*time.Hour))
	w.calendar.resolved = nil
	if w.r.IntN(4) == 0 {
		w.calendar.resolved = &change.Resolution{By: "carol", Why: "it has to be"}
	}
}

func (h *house) house() *house { return h }

// walkedEnvironments are dev, staging, and two productions one after the other.
func walkedEnvironments() release.Environments {
	return release.Environments{
		{Name: "dev", Limits: release.Limits{Failures: 1, ConsecutiveErrors: 1}},
		{Name: "staging", Upstream: []string{"dev"}, Soak: change.Duration(45 * time.Minute), MinSuccesses: 2},
		{Name: "production", Production: true, Upstream: []string{"staging"}, Gates: []release.Gate{cab("alice", "bob", "ben")}},
		{Name: "south", Production: true, Upstream: []string{"production"}},
	}
}

func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (w *walker) step() {
	ctx := context.Background()
	actor := one(w.r, alice, alice, dave)
	switch n := w.r.IntN(100); {
	case len(w.releases) == 0 || n < 4 && len(w.releases) < 3:
		r, err := w.house.releases.Plan(ctx, alice, release.Plan{Content: w.content(), Process: "direct"}, release.Advance{})
		if w.took(err) {
			w.releases = append(w.releases, r.ID)
		}
	case len(w.changes) == 0 || n < 12 && len(w.changes) < 6:
		content := change.Content{Title: "c", Deltas: w.deltas(), Plans: change.Plans{Implementation: "i", Backout: "b"}}
		if w.r.IntN(2) == 0 {
			content.Window = w.planned()
		}
		c, err := w.house.changes.Raise(ctx, carol, change.Raise{Content: content}, change.Submit{})
		if w.took(err) {
			w.changes = append(w.changes, c.ID)
		}
	case n < 25:
		id := one(w.r, w.changes...)
		c := w.change(id)
		_, err := w.house.changes.Do(ctx, one(w.r, bob, carol), id, one[change.Command](w.r,
			change.Approve{Stage: "cab", Scope: c.Scope}, change.Approve{Stage: "cab", Scope: c.Scope}, change.Approve{Stage: "cab", Scope: c.Scope},
			change.Hold{Reason: "h"}, change.Resume{}, change.Resume{}, change.Cancel{Reason: "c"}, change.Complete{}, change.Start{},
			change.Revert{Reason: "r"}, change.Submit{}, change.Edit{Set: change.Content{Deltas: w.deltas()}}, change.Review{Outcome: change.Successful}, change.Close{}))
		w.took(err)
	default:
		id := one(w.r, w.releases...)
		r, err := w.house.releases.Get(ctx, id)
		require.NoError(w.t, err)
		cmd := w.sensible(ctx, r)
		if cmd == nil || w.r.IntN(7) == 0 {
			actor, cmd = w.whatever(r, actor)
		}
		switch cmd.(type) {
		case release.Approve:
			actor = one(w.r, bob, bob, command.As("ben"), command.As("ben"), alice)
		case release.Report:
			actor = pipeline
		}
		w.release(ctx, actor, r, cmd)
	}
}

// sensible returns what brings a release forward, nil if nothing does.
func (w *walker) sensible(ctx context.Context, r release.Release) release.Command {
	for _, d := range r.Deployments {
		switch {
		case d.State == release.Paused:
			for _, id := range d.Waits {
				if w.r.IntN(2) == 0 {
					w.approveChange(ctx, id)
				}
			}
			return release.Resume{Deployment: d.Number}
		case d.State == release.Running && d.Production && w.r.IntN(12) == 0:
			return release.Pause{Deployment: d.Number, Reason: "p"}
		case d.State == release.Running && w.r.IntN(60) == 0:
			return w.emerge()
		case d.State == release.Running:
			last := map[string]release.Outcome{}
			for _, report := range d.Reports {
				last[report.Target] = report.Outcome
			}
			for _, wave := range d.Waves[:d.Wave] {
				for _, target := range wave.Targets {
					if last[target] == "" || last[target] == release.Errored {
						w.report++
						return release.Report{Deployment: d.Number, ID: strconv.Itoa(w.report), Target: target, Digest: digest,
							Outcome: w.outcome()}
					}
				}
			}
			if d.Wave < len(d.Waves) {
				return release.NextWave{Deployment: d.Number}
			}
			return release.Finish{Deployment: d.Number, More: d.Environment == "production" && w.r.IntN(2) == 0}
		}
	}
	if len(r.Holds) > 0 && w.r.IntN(3) == 0 {
		return release.Lift{Environment: r.Holds[0].Environment, Reason: "l"}
	}
	if n := len(r.Deployments); n > 0 && r.Deployments[n-1].RollsBack == 0 && w.r.IntN(12) == 0 {
		return release.Rollback{Environment: r.Deployments[n-1].Environment, Reason: "r"}
	}
	next := "dev"
	for _, d := range r.Deployments {
		after := map[string]string{"dev": "staging", "staging": "production", "production": "south"}[d.Environment]
		if d.State == release.Finished && after != "" {
			next = after
		}
	}
	deploy := release.Deploy{Environment: next, Waves: release.Percent([]string{"a", "b", "c"}, 50), For: one(w.r, 0, change.Of(30*time.Minute), change.Of(2*time.Hour))}
	why, err := w.house.releases.Why(ctx, alice, r.ID, deploy)
	require.NoError(w.t, err)
	for _, refused := range why {
		switch refused.Rule {
		case "gate-not-run":
			return release.Approve{Environment: "production", Gate: "cab", Scope: r.Scope}
		case "gate-failed":
			return release.Ask{Environment: "production", Gate: "cab"}
		case "change-authorized", "not-what-was-authorized":
			return w.covered(ctx, r)
		}
	}
	return deploy
}

// outcome is what comes of a target: mostly it goes well.
func (w *walker) outcome() release.Outcome {
	switch w.r.IntN(16) {
	case 0:
		return release.Unsuccessful
	case 1:
		return release.Errored
	}
	return release.Successful
}

func (w *walker) emerge() release.Command {
	return release.Emerge{Raise: change.Raise{Content: change.Content{Title: "e", Deltas: w.deltas(), Plans: change.Plans{Implementation: "i", Backout: "b"}}}, Submit: true}
}

// covered raises a change that is what a release needs, and returns its binding.
func (w *walker) covered(ctx context.Context, r release.Release) release.Command {
	for _, b := range r.Changes {
		switch c := w.change(b.Change); {
		case c.Held != nil:
			_, err := w.house.changes.Do(ctx, carol, c.ID, change.Resume{})
			w.took(err)
			w.clock.pass(time.Millisecond)
		case c.Authorized == nil && c.Kind == change.KindAuthorize && w.r.IntN(2) == 0:
			w.approveChange(ctx, c.ID)
		case c.Open() && c.Authorized == nil || w.r.IntN(8) == 0:
			return release.Unbind{Change: c.ID}
		}
	}
	content := change.Content{Title: "c", Plans: change.Plans{Implementation: "i", Backout: "b"}}
	if w.r.IntN(2) == 0 {
		content.Window = w.planned()
	}
	for _, c := range r.Components {
		if version := w.inGraph(c.CI); version != "" && version != c.To {
			content.Deltas = append(content.Deltas, cmdb.Set(c.CI, "version", version, c.To))
		} else if version != "" {
			content.CIs = append(content.CIs, c.CI)
		} else {
			content.Deltas = append(content.Deltas, cmdb.Add(c.CI, "middleware", cmdb.Attr("engine", "redis")))
		}
	}
	c, err := w.house.changes.Raise(ctx, carol, change.Raise{Content: content}, change.Submit{})
	if !w.took(err) {
		return nil
	}
	w.clock.pass(time.Millisecond)
	w.changes = append(w.changes, c.ID)
	w.approveChange(ctx, c.ID)
	return release.Bind{Change: c.ID}
}

func (w *walker) approveChange(ctx context.Context, id string) {
	for range 2 {
		_, err := w.house.changes.Do(ctx, bob, id, change.Approve{Stage: "cab", Scope: w.change(id).Scope})
		w.clock.pass(time.Millisecond)
		if w.took(err) || w.schedule == nil || !w.excuse(ctx, id, err) {
			return
		}
	}
}

func (w *walker) took(err error) bool {
	if err == nil {
		w.done++
		return true
	}
	for _, kind := range []error{command.ErrMalformed, command.ErrDenied, command.ErrRefused} {
		if is(err, kind) {
			return false
		}
	}
	require.NoError(w.t, err)
	return false
}

func (w *walker) content() release.Content {
	c := release.Content{Title: "r", Kind: release.Minor}
	for _, ci := range []string{"db-01", "shop", "cache"} {
		if w.r.IntN(3) > 0 || len(c.Components) == 0 && ci == "cache" {
			c.Components = append(c.Components, release.Component{Kind: release.Code, CI: ci, Class: "middleware", To: one(w.r, "16", "17"), Digest: digest})
		}
	}
	return c
}

func (w *walker) deltas() []cmdb.Delta {
	var all []cmdb.Delta
	for _, ci := range []string{"db-01", "shop"} {
		version := w.inGraph(ci)
		if to := one(w.r, "16", "17"); w.r.IntN(4) > 0 && to != version {
			all = append(all, cmdb.Set(ci, "version", version, to))
		}
	}
	if w.inGraph("cache") == "" && w.r.IntN(2) == 0 {
		all = append(all, cmdb.Add("cache", "middleware", cmdb.Attr("engine", "redis")))
	}
	if len(all) == 0 {
		all = append(all, cmdb.Set("shop", "description", w.ci("shop").Attributes["description"], fmt.Sprint(w.r.IntN(1000))))
	}
	return all
}

func (w *walker) inGraph(ci string) string {
	one, err := w.house.cmdb.Get(context.Background(), ci)
	if err != nil || one.Retired {
		return ""
	}
	return one.Attributes["version"]
}

// whatever returns something that can be asked of a release.
func (w *walker) whatever(r release.Release, actor command.Actor) (command.Actor, release.Command) {
	environment := one(w.r, "dev", "dev", "staging", "staging", "production", "production", "south")
	number := max(1, len(r.Deployments)-w.r.IntN(2))
	d, _ := r.Deployment(number)
	w.report++
	var cmd release.Command
	switch n := w.r.IntN(100); {
	case n < 10:
		cmd = release.Bind{Change: one(w.r, w.changes...)}
	case n < 13:
		cmd = release.Unbind{Change: one(w.r, w.changes...)}
	case n < 16:
		cmd = release.Edit{Set: w.content()}
	case n < 22:
		actor = one(w.r, bob, command.As("ben"), alice)
		cmd = release.Approve{Environment: "production", Gate: "cab", Scope: one(w.r, r.Scope, r.Scope, r.Scope, "release-1:0")}
	case n < 23:
		actor = bob
		cmd = release.Reject{Environment: "production", Gate: "cab", Reason: "r"}
	case n < 25:
		cmd = release.Ask{Environment: "production", Gate: "cab"}
	case n < 45:
		cmd = release.Deploy{Environment: environment, Waves: one(w.r, nil, release.Percent([]string{"a", "b", "c"}, 50), release.Percent([]string{"a", "b"}, 100)), For: one(w.r, 0, change.Of(time.Hour))}
	case n < 70:
		target := one(w.r, "a", "b", "c")
		if len(d.Waves) > 0 && w.r.IntN(8) > 0 {
			target = one(w.r, d.Waves[min(d.Wave, len(d.Waves))-1].Targets...)
		}
		actor = pipeline
		cmd = release.Report{Deployment: number, ID: strconv.Itoa(w.report - w.r.IntN(2)), Target: target, Digest: one(w.r, "", digest, digest, "sha256:00"),
			Outcome: one(w.r, release.Successful, release.Successful, release.Successful, release.Successful, release.Unsuccessful, release.Errored)}
	case n < 75:
		cmd = release.NextWave{Deployment: number}
	case n < 83:
		cmd = release.Finish{Deployment: number, More: w.r.IntN(4) == 0}
	case n < 85:
		cmd = release.Pause{Deployment: number, Reason: "p"}
	case n < 88:
		cmd = release.Resume{Deployment: number}
	case n < 89:
		cmd = one[release.Command](w.r, release.Fail{Deployment: number, Reason: "f"}, release.Abort{Deployment: number, Reason: "a"})
	case n < 93:
		cmd = release.Rollback{Environment: environment, Reason: "r", To: one(w.r, "", "", "16")}
	case n < 95:
		cmd = release.Lift{Environment: environment, Reason: "l"}
	case n < 97:
		cmd = release.Retry{Deployment: number}
	case n < 98:
		cmd = w.emerge()
	default:
		cmd = one[release.Command](w.r, release.Close{}, release.Cancel{Reason: "c"}, release.Restart{Phase: "deploy", Reason: "r"}, release.Note{Text: "n"})
	}
	return actor, cmd
}

// release asks something of a release, and now and then whether it will be done
// before.
func (w *walker) release(ctx context.Context, actor command.Actor, r release.Release, cmd release.Command) {
	if w.almanac != nil {
		w.almanac.doing = cmd
	}
	after, err := w.asked(ctx, actor, r.ID, cmd)
	var refused *command.Error
	if w.almanac != nil && errors.As(err, &refused) && w.overrule(ctx, r, refused.Refusals) {
		after, err = w.asked(ctx, actor, r.ID, cmd)
	}
	if w.took(err) {
		if n := len(after.Changes); n > len(r.Changes) && after.Changes[n-1].Emergent {
			w.changes = append(w.changes, after.Changes[n-1].Change)
		}
	}
}

func (w *walker) asked(ctx context.Context, actor command.Actor, id string, cmd release.Command) (release.Release, error) {
	if w.r.IntN(3) > 0 {
		return w.house.releases.Do(ctx, actor, id, cmd)
	}
	why, err := w.house.releases.Why(ctx, actor, id, cmd)
	require.NoError(w.t, err)
	after, err := w.house.releases.Do(ctx, actor, id, cmd)
	require.Equal(w.t, len(why) == 0, err == nil, "Why and Do agree on %T: %v, %v", cmd, why, err)
	return after, err
}
