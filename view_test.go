package rollforward_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/release"
)

var frank = command.As("frank")

// withReleases gives frank the rights of a release manager, and all a clock.
func withReleases(now *time.Time) func(*rollforward.Config) {
	return func(c *rollforward.Config) {
		staff := command.Roles{"frank": {command.ReleaseManager}}
		for person, has := range roles {
			staff[person] = has
		}
		c.Authorizer = staff
		c.Clock = func() time.Time { return *now }
	}
}

var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// scheduled is a change to CIs for two hours from a time, that may be carried out.
func scheduled(t testing.TB, e *rollforward.Engine, title string, start time.Time, content change.Content) change.Change {
	t.Helper()
	content.Title, content.Window = title, change.Between(start, start.Add(2*time.Hour))
	content.Plans = change.Plans{Implementation: "by the pipeline", Backout: "the version before"}
	c, err := e.Changes.Raise(t.Context(), alice, change.Raise{Content: content}, change.Submit{})
	require.NoError(t, err)
	c, err = e.Changes.Do(t.Context(), carol, c.ID, change.Assess{Level: "low", Why: "often done"})
	require.NoError(t, err)
	c, err = e.Changes.Do(t.Context(), bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
	require.NoError(t, err)
	return c
}

func straight(t testing.TB, e *rollforward.Engine) {
	t.Helper()
	_, err := e.Releases.DefineEnvironments(t.Context(), frank, release.Environments{{Name: "production", Production: true}}, "")
	require.NoError(t, err)
}

// planned plans a release of one CI that carries changes out.
func planned(t testing.TB, e *rollforward.Engine, ci, version string, changes ...string) release.Release {
	t.Helper()
	commands := []release.Command{release.Advance{}}
	for _, id := range changes {
		commands = append(commands, release.Bind{Change: id})
	}
	r, err := e.Releases.Plan(t.Context(), frank, release.Plan{Process: "direct", Content: release.Content{
		Title: ci + " " + version, Kind: release.Minor, Components: []release.Component{{Kind: release.Code, CI: ci, To: version}},
	}}, commands...)
	require.NoError(t, err)
	return r
}

// A deployment, the changes that it carries out and the CMDB are seen to move as
// one: no view has one without the others.
func TestAViewHasADeploymentItsChangesAndTheCMDBAtOnePosition(t *testing.T) {
	now := monday
	e := open(t, memory.New(), withReleases(&now))
	estate(t, e)
	straight(t, e)
	var watched, moved int
	stop, done := make(chan struct{}), make(chan struct{})
	looked := make(chan struct{}) // once while the deployment runs
	const rounds = 20
	var id, rel string
	ready := make(chan [2]string)
	go func() {
		defer close(done)
		for pair := range ready {
			for first := true; ; first = false {
				over := false
				err := e.View(context.Background(), func(v rollforward.View) error {
					c, _ := v.Changes.Get(pair[0])
					r, _ := v.Releases.Get(pair[1])
					db, _ := v.CMDB.CI("db-01")
					one := r.Deployments[len(r.Deployments)-1]
					watched++
					switch one.State {
					case release.Running:
						if c.Kind != change.KindImplement || db.Attributes["version"] == one.Items[0].After {
							t.Errorf("deployment %s, change %s, version %s", one.State, c.Phase, db.Attributes["version"])
						}
					case release.Finished:
						moved++
						over = true
						if c.Kind != change.KindReview || db.Attributes["version"] != one.Items[0].After {
							t.Errorf("deployment %s, change %s, version %s", one.State, c.Phase, db.Attributes["version"])
						}
					}
					return nil
				})
				if first {
					looked <- struct{}{}
				}
				if err != nil || over {
					break
				}
			}
			stop <- struct{}{}
		}
	}()
	for n := range rounds {
		version := string(rune('A' + n))
		c := scheduled(t, e, "Database "+version, now, change.Content{CIs: []string{"db-01"}})
		r := planned(t, e, "db-01", version, c.ID)
		id, rel = c.ID, r.ID
		_, err := e.Releases.Do(t.Context(), frank, rel, release.Deploy{Environment: "production"})
		require.NoError(t, err)
		ready <- [2]string{id, rel}
		<-looked
		_, err = e.Releases.Do(t.Context(), frank, rel, release.Report{Deployment: 1, ID: "1", Target: "production", Outcome: release.Successful})
		require.NoError(t, err)
		_, err = e.Releases.Do(t.Context(), frank, rel, release.Finish{Deployment: 1})
		require.NoError(t, err)
		<-stop
		now = now.Add(3 * time.Hour)
	}
	close(ready)
	<-done
	require.Equal(t, rounds, moved)
	require.GreaterOrEqual(t, watched, 2*rounds)
	_, err := e.Verify(t.Context())
	require.NoError(t, err)
}

func TestASituationIsWhatGoesOnWithACIATeamAPersonOrThisWeek(t *testing.T) {
	now := monday
	e := open(t, memory.New(), withReleases(&now))
	estate(t, e)
	straight(t, e)
	_, err := e.CMDB.Record(t.Context(), carol, cmdb.Add("mail", "service", cmdb.Attr("owner", "team-mail")), cmdb.Add("fax", "service"))
	require.NoError(t, err)
	for _, w := range []schedule.Window{
		{ID: "db-freeze", Name: "No databases", Kind: schedule.Deny, Scope: schedule.Scope{Classes: []string{"database"}, Models: []string{"standard"}}, Start: "2026-03-04T00:00:00", Duration: change.Duration(time.Hour), Effects: schedule.Effects{Authorize: change.Warn}},
		{ID: "mail-window", Name: "Mail", Kind: schedule.Allow, Scope: schedule.Scope{CIs: []string{"mail"}}, Start: "2026-01-01T00:00:00", Duration: change.Duration(24 * time.Hour), Rule: "FREQ=DAILY"},
		{ID: "summer", Name: "Summer", Kind: schedule.Deny, Scope: schedule.Scope{Everything: true}, Start: "2026-07-01T00:00:00", Duration: change.Duration(24 * time.Hour)},
	} {
		_, err := e.Schedule.DefineWindow(t.Context(), carol, w)
		require.NoError(t, err)
	}
	day := 24 * time.Hour
	db := scheduled(t, e, "Database", monday.Add(2*day), change.Content{CIs: []string{"db-01"}, Group: "team-db"})
	mail := scheduled(t, e, "Mail", monday.Add(day), change.Content{CIs: []string{"mail"}, Implementers: []string{"dave"}})
	later := scheduled(t, e, "Fax, later", monday.Add(20*day), change.Content{CIs: []string{"fax"}, Group: "team-db"})
	idea, err := e.Changes.Raise(t.Context(), alice, change.Raise{Content: change.Content{Title: "An idea", CIs: []string{"fax"}, Owner: "dave"}})
	require.NoError(t, err)
	r := planned(t, e, "db-01", "16", db.ID)
	other := planned(t, e, "fax", "2")

	type found struct {
		Changes, Releases, Windows []string
	}
	ask := func(about rollforward.About) (f found) {
		t.Helper()
		s, err := e.Situation(t.Context(), about)
		require.NoError(t, err)
		require.NotZero(t, s.Position)
		for _, c := range s.Changes {
			f.Changes = append(f.Changes, c.ID)
		}
		for _, r := range s.Releases {
			f.Releases = append(f.Releases, r.ID)
		}
		for _, w := range s.Windows {
			f.Windows = append(f.Windows, w.Window.ID)
		}
		return f
	}
	require.Equal(t, found{[]string{mail.ID, db.ID, idea.ID}, []string{r.ID, other.ID}, []string{"db-freeze", "mail-window"}}, ask(rollforward.About{}), "this week")
	require.Equal(t, found{[]string{db.ID}, []string{r.ID}, []string{"db-freeze"}}, ask(rollforward.About{CI: "db-01"}))
	require.Equal(t, found{[]string{db.ID}, []string{r.ID}, nil}, ask(rollforward.About{CI: "shop"}), "the shop needs the database")
	require.Equal(t, found{[]string{db.ID}, []string{r.ID}, []string{"db-freeze", "mail-window"}}, ask(rollforward.About{Team: "team-db"}))
	require.Equal(t, found{[]string{mail.ID}, nil, []string{"db-freeze", "mail-window"}}, ask(rollforward.About{Team: "team-mail"}), "the team owns what it is about")
	require.Equal(t, found{[]string{mail.ID, idea.ID}, nil, []string{"db-freeze", "mail-window"}}, ask(rollforward.About{Person: "dave"}))
	require.Equal(t, found{[]string{later.ID, idea.ID}, []string{r.ID, other.ID}, []string{"mail-window"}}, ask(rollforward.About{From: monday.Add(15 * day), To: monday.Add(30 * day)}))
	require.Equal(t, found{nil, []string{r.ID, other.ID}, []string{"mail-window", "summer"}}, func() found {
		f := ask(rollforward.About{From: monday.Add(120 * day), To: monday.Add(130 * day)})
		f.Changes = nil
		return f
	}())

	_, err = e.Releases.Do(t.Context(), frank, r.ID, release.Deploy{Environment: "production"})
	require.NoError(t, err)
	require.Contains(t, ask(rollforward.About{CI: "db-01", From: monday.Add(100 * day)}).Changes, db.ID, "it has begun and not ended")

	_, err = e.Situation(t.Context(), rollforward.About{CI: "db-99"})
	require.ErrorIs(t, err, cmdb.ErrUnknownCI)
	_, err = e.Situation(t.Context(), rollforward.About{From: monday, To: monday})
	require.Error(t, err)
}
