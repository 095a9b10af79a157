package automation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Rule says which tasks a review has follow. What it says nothing of does not matter;
// a rule that says nothing holds for every review.
type Rule struct {
	Outcomes  []change.Outcome  // one of these
	Models    []string          // the change's model is one of these
	BackedOut bool              // the work was backed out
	Tasks     []change.FollowUp // without Group: of the change's group
}

// StandardRules are those of a [FollowUpsConfig] that has none: what failed or was
// backed out has its cause found and its plan updated, an emergency has its
// documentation completed, and what went with issues leaves what was learnt.
func StandardRules() []Rule {
	again := []change.FollowUp{{Title: "Find the cause", Kind: "review"}, {Title: "Update the plan", Kind: "planning"}}
	return []Rule{
		{Outcomes: []change.Outcome{change.Unsuccessful}, Tasks: again},
		{BackedOut: true, Tasks: again},
		{Models: []string{"emergency"}, Tasks: []change.FollowUp{{Title: "Complete the documentation", Kind: "documentation"}}},
		{Outcomes: []change.Outcome{change.WithIssues}, Tasks: []change.FollowUp{{Title: "Record what was learnt", Kind: "documentation"}}},
	}
}

func (r Rule) holds(c change.Change, outcome change.Outcome) bool {
	return (len(r.Outcomes) == 0 || slices.Contains(r.Outcomes, outcome)) && (len(r.Models) == 0 || slices.Contains(r.Models, c.Model)) &&
		(!r.BackedOut || c.Work != nil && c.Work.BackedOut)
}

// Fresh says as what a change is raised for tasks whose own change has closed.
type Fresh struct {
	Model    string // "normal"; default that of Template
	Template string // of a standard change
}

// FollowUpsConfig is how [FollowUps] works. Changes and Door are required.
type FollowUpsConfig struct {
	Changes *change.Service
	Door    *command.Door
	Rules   []Rule // default StandardRules

	// Fresh has a change raised for the tasks where the reviewed one has closed before
	// they could be opened: one change for a review, not submitted, for the same
	// requester, owner and group, and under a model also for the same CIs. Default
	// none: nothing is opened, since who closed the change together with its review has
	// decided that nothing is left to do.
	Fresh *Fresh

	Actor command.Actor // default Actor
	Name  string        // of the handler; default "follow-ups"
}

// FollowUps returns a handler that opens tasks after a review, on the change that was
// reviewed, by rules: all that follow from one review in one command. A task of the
// same title and kind that the change has already, such as one that the review itself
// asked for, is not opened again. An event costs a read or two of the change's stream.
func FollowUps(c FollowUpsConfig) (relay.Handler, error) {
	if c.Changes == nil || c.Door == nil {
		return relay.Handler{}, errors.New("automation: follow-ups: Changes and Door are required")
	}
	if c.Rules == nil {
		c.Rules = StandardRules()
	}
	for i, r := range c.Rules {
		if len(r.Tasks) == 0 {
			return relay.Handler{}, fmt.Errorf("automation: follow-ups: rule %d has no tasks", i)
		}
		for _, t := range r.Tasks {
			if strings.TrimSpace(t.Title) == "" || len(t.Title) > maxTitle || t.Kind == "implementation" || !slices.Contains(change.TaskKinds(), t.Kind) {
				return relay.Handler{}, fmt.Errorf("automation: follow-ups: rule %d: a task has a title of at most %d bytes, and a kind of %v other than implementation, unlike %q (%q)",
					i, maxTitle, change.TaskKinds(), t.Title, t.Kind)
			}
		}
	}
	if c.Fresh != nil && c.Fresh.Model == "" && c.Fresh.Template == "" {
		return relay.Handler{}, errors.New("automation: follow-ups: Fresh names a Model or a Template")
	}
	if c.Name == "" {
		c.Name = "follow-ups"
	}
	c.Actor = acting(c.Actor)
	return relay.Handler{Name: c.Name, Cases: []relay.Case{relay.On(c.reviewed)}}, nil
}

func (c FollowUpsConfig) reviewed(ctx context.Context, e change.Reviewed, env relay.Envelope) error {
	id, ok := strings.CutPrefix(env.Stream, changePrefix)
	if !ok {
		return nil // a review of something else
	}
	judged, err := c.Changes.At(ctx, id, env.Version)
	if err != nil {
		return err
	}
	var tasks []change.FollowUp
	for _, r := range c.Rules {
		if r.holds(judged, e.Outcome) {
			tasks = append(tasks, r.Tasks...)
		}
	}
	if len(tasks) == 0 {
		return nil
	}
	now, err := c.Changes.Get(ctx, id)
	if err != nil {
		return err
	}
	add := missing(now, tasks)
	if len(add) == 0 {
		return nil
	}
	if now.Open() {
		_, err := c.Changes.DoCall(ctx, env.Call(c.Actor, "tasks"), id, add...)
		if !command.By(err, "change-ended") {
			return once(err)
		}
	}
	if c.Fresh == nil {
		return nil
	}
	r := raised{changes: c.Changes, door: c.Door, call: env.Call(c.Actor, "raise"), what: id}
	_, err = r.raise(ctx, func() (change.Raise, []change.Command, error) { return c.fresh(now, add, env), add, nil })
	return answered(err)
}

// once is answered, where a key that was used for other tasks has done its work: the
// rules were others when the event came before.
func once(err error) error {
	if command.By(err, "key-reused") {
		return nil
	}
	return answered(err)
}

// missing returns the commands that open those tasks that c does not have.
func missing(c change.Change, tasks []change.FollowUp) []change.Command {
	type same struct{ title, kind string }
	known := map[same]bool{}
	of := func(title, kind string) same { return same{strings.ToLower(strings.TrimSpace(title)), kind} }
	for _, t := range c.Tasks {
		known[of(t.Title, string(t.Kind))] = true
	}
	var add []change.Command
	for _, t := range tasks {
		key := of(t.Title, string(t.Kind))
		if known[key] {
			continue
		}
		known[key] = true
		if t.Group == "" && t.Assignee == "" {
			t.Group = c.Group
		}
		add = append(add, change.AddTask{Title: t.Title, Kind: t.Kind, Assignee: t.Assignee, Group: t.Group})
	}
	return add
}

// fresh is the change that is raised where c has closed.
func (f FollowUpsConfig) fresh(c change.Change, add []change.Command, env relay.Envelope) change.Raise {
	r := change.Raise{
		Model: f.Fresh.Model, Template: f.Fresh.Template, Requester: c.Requester,
		External: "follow-up/" + env.ID.String(), Unique: true,
		Content: change.Content{
			Title:       line(fmt.Sprintf("Follow-up of %s: %s", c.ID, c.Title), maxTitle),
			Description: fmt.Sprintf("%s was closed before %d tasks could be opened that follow from its review.", c.ID, len(add)),
			Owner:       c.Owner, Group: c.Group, Tags: []string{c.ID},
		},
	}
	if f.Fresh.Template == "" {
		r.Content.CIs = c.Declared() // a template allows those of its classes only
	}
	return r
}
