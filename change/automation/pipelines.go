package automation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// PipelinesConfig is how [Pipelines] works. Changes, CMDB and Door are required.
type PipelinesConfig struct {
	Changes *change.Service
	CMDB    *cmdb.Service
	Door    *command.Door

	// Choose says under which template the change of a run is raised, and on which CI;
	// no template is no change. Default what the report says. It has no effects and
	// says the same of all reports of a run.
	Choose func(r Reported) (template, ci string)

	// Attribute of the CI that becomes the version. Default "version".
	Attribute string

	// Carries has the change started when its run is reported as running, and completed
	// when it has succeeded. Default: people do that.
	Carries bool

	// Window is how long the change may take, from when the run was first reported. It
	// is at most what the template allows. Default 1 h.
	Window time.Duration

	// WaitFor returns when the CMDB shows the event at a position: Engine.WaitFor.
	// Default: what other processes recorded is taken as it is known here.
	WaitFor func(ctx context.Context, position eventstore.Position) error

	Actor command.Actor // default Actor
	Name  string        // of the handler; default "pipelines"
}

// Pipelines returns a handler that raises and submits a standard change for each run
// of a pipeline that was reported: under a template, with the run's name as external
// reference (of which there is one), its URL and the artifact's digest as evidence,
// and the version of the CI as planned delta, if the CI does not have it already. A
// run that is first heard of when it has failed has its change too. Where a run has
// failed, the change gets a note and stays as it is: what was left behind is for
// people to find out, who then complete and review it. Where somebody else has raised
// a change with the run's reference, the run is left to him.
func Pipelines(c PipelinesConfig) (relay.Handler, error) {
	if c.Changes == nil || c.CMDB == nil || c.Door == nil {
		return relay.Handler{}, errors.New("automation: pipelines: Changes, CMDB and Door are required")
	}
	if c.Window < 0 {
		return relay.Handler{}, errors.New("automation: pipelines: Window is not negative; 0 is its default")
	}
	if c.Choose == nil {
		c.Choose = func(r Reported) (string, string) { return r.Template, r.CI }
	}
	if c.Attribute == "" {
		c.Attribute = "version"
	}
	if c.Window == 0 {
		c.Window = time.Hour
	}
	if c.Name == "" {
		c.Name = "pipelines"
	}
	c.Actor = acting(c.Actor)
	return relay.Handler{Name: c.Name, Cases: []relay.Case{relay.On(c.reported)}}, nil
}

// runs derives the keys of runs.
var runs = uuid.MustParse("0d8c9bb5-6a0c-5c55-9a5e-6c5f1f0e2a37")

func (c PipelinesConfig) reported(ctx context.Context, e Reported, env relay.Envelope) error {
	template, ci := c.Choose(e)
	if template == "" {
		return nil
	}
	if c.WaitFor != nil {
		if err := c.WaitFor(ctx, env.Position); err != nil {
			return err
		}
	}
	// All reports of a run raise one change: the key is the run's and not the event's.
	call := env.Call(c.Actor)
	call.Key = env.Handler + "/" + uuid.NewSHA1(runs, []byte(e.run())).String()
	r := raised{changes: c.Changes, door: c.Door, call: call, what: e.run()}
	id, err := r.raise(ctx, func() (change.Raise, []change.Command, error) {
		raise, err := c.raise(ctx, e, env, template, ci)
		return raise, []change.Command{change.Submit{}}, err
	})
	switch {
	case command.By(err, "precondition-failed"):
		return err // the version was set meanwhile: what it is now is looked up with the next attempt
	case err != nil || id == "":
		return answered(err)
	}
	if e.State == Failed {
		note := change.Note{Text: line(fmt.Sprintf("Run %s of pipeline %s failed. %s", e.Run, e.Pipeline, e.URL), 3_000)}
		if _, err := c.Changes.DoCall(ctx, env.Call(c.Actor, "failed"), id, note); err != nil {
			return answered(err)
		}
	}
	if c.Carries && (e.State == Running || e.State == Succeeded) {
		if err := c.reach(ctx, env, id, "start", change.Start{}, func(now change.Change) bool { return now.Started != nil }); err != nil {
			return err
		}
	}
	if c.Carries && e.State == Succeeded {
		return c.complete(ctx, e, env, id, ci)
	}
	return nil
}

// complete completes the change of a run. Where a source has seen the version on the
// CI meanwhile, nothing is left to be applied.
func (c PipelinesConfig) complete(ctx context.Context, e Reported, env relay.Envelope, id, ci string) error {
	var cmd change.Complete
	if ci != "" && e.Version != "" {
		now, err := c.CMDB.Get(ctx, ci)
		if err != nil && !errors.Is(err, cmdb.ErrUnknownCI) { // of which the command says so
			return err
		}
		if now.Attributes[c.Attribute] == e.Version {
			cmd = change.Complete{Applied: []cmdb.Delta{}, Notes: "The CMDB has the version already."}
		}
	}
	return c.reach(ctx, env, id, "complete", cmd, func(now change.Change) bool { return now.Work != nil })
}

// reach runs a command unless the change is where it leads already, or has ended:
// people may have gone ahead.
func (c PipelinesConfig) reach(ctx context.Context, env relay.Envelope, id, part string, cmd change.Command, there func(change.Change) bool) error {
	done := func() (bool, error) {
		now, err := c.Changes.Get(ctx, id)
		return err == nil && (there(now) || !now.Open()), err
	}
	if ok, err := done(); ok || err != nil {
		return err
	}
	_, err := c.Changes.DoCall(ctx, env.Call(c.Actor, part), id, cmd)
	if errors.Is(err, command.ErrRefused) {
		if ok, failed := done(); ok || failed != nil {
			return failed
		}
	}
	if command.By(err, "precondition-failed") {
		return err // the CI was altered meanwhile: how it is now is looked up with the next attempt
	}
	return answered(err)
}

// raise is the change of a run.
func (c PipelinesConfig) raise(ctx context.Context, e Reported, env relay.Envelope, template, ci string) (change.Raise, error) {
	from := when(env)
	content := change.Content{Description: describe(e), Window: change.Between(from, from.Add(c.Window)), Tags: []string{"pipeline " + e.Pipeline}}
	if e.URL != "" {
		content.Evidence = append(content.Evidence, change.Evidence{Title: line("Run "+e.Run+" of "+e.Pipeline, maxTitle), URL: e.URL})
	}
	if e.Artifact != "" {
		content.Evidence = append(content.Evidence, change.Evidence{Title: "Artifact", URL: e.Artifact, SHA256: e.SHA256})
	}
	if ci != "" {
		content.CIs = []string{ci}
	}
	if ci != "" && e.Version != "" {
		now, err := c.CMDB.Get(ctx, ci)
		if err != nil && !errors.Is(err, cmdb.ErrUnknownCI) { // of which the raise says so
			return change.Raise{}, err
		}
		if before := now.Attributes[c.Attribute]; before != e.Version {
			content.Deltas = []cmdb.Delta{cmdb.Set(ci, c.Attribute, before, e.Version)}
		}
	}
	return change.Raise{Template: template, Content: content, External: e.run(), Unique: true}, nil
}

// describe says in words what a run does.
func describe(e Reported) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Run %s of pipeline %s.", e.Run, e.Pipeline)
	for _, f := range []struct{ name, text string }{
		{"Repository", e.Repository}, {"Ref", e.Ref}, {"Commit", e.Commit}, {"Version", e.Version}, {"Environment", e.Environment}, {"CI", e.CI},
	} {
		if f.text != "" {
			fmt.Fprintf(&b, "\n%s: %s", f.name, f.text)
		}
	}
	return b.String()
}

// when an event happened: by the clock of who recorded it where he said.
func when(env relay.Envelope) time.Time {
	if !env.Metadata.OccurredAt.IsZero() {
		return env.Metadata.OccurredAt
	}
	return env.RecordedAt
}
