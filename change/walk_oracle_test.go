package change_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// oracle judges a change by its events alone. It shares no code with what decides:
// it folds content, votes, parts and tasks by itself, and knows the model as data.
type oracle struct {
	model    change.Model
	now      time.Time               // when what is taken was asked for
	estate   []string                // CIs that there are
	template *change.TemplateVersion // of a standard change

	version   uint64
	content   map[string]string // JSON by field
	scope     string
	scopes    map[string]string // material content by scope
	digests   map[string]string // scope by material content
	phase     string
	requester []string
	workers   []string // who has acted as an implementer
	reviewer  []string
	stages    map[string]*polled
	tasks     map[int]change.Task
	held      *change.Held
	judged    bool // a risk was recorded
	started   *change.Started
	work      *change.Implemented
	reviewed  *change.Reviewed
	accepted  bool
	refused   bool // marked unauthorised
	ended     bool
	broken    []string
}

// polled is a stage in its present round.
type polled struct {
	e        change.StageRequested
	votes    []cast
	state    workflow.State
	extra    []workflow.Seat
	deadline time.Time
}

func (a *polled) seats() []workflow.Seat { return slices.Concat(a.e.Seats, a.extra) }

// cast is a vote with the content as it was.
type cast struct {
	workflow.Vote
	content map[string]string
}

func (o *oracle) wrong(invariant, format string, args ...any) {
	o.broken = append(o.broken, invariant+": "+fmt.Sprintf(format, args...))
}

// standardMaterial are the fields that are material by default (DOMAIN 1.3).
var standardMaterial = []string{"cis", "deltas", "outage", "plan.backout", "plan.communication", "plan.implementation", "plan.test", "window"}

// material returns the fields whose edit voids a stage; any stage for "".
func (o *oracle) material(stage string) []string {
	fields := slices.Clone(standardMaterial)
	for _, m := range o.model.Material {
		i := slices.Index(fields, m.Field)
		voids := !m.Immaterial && (stage == "" || len(m.Voids) == 0 || slices.Contains(m.Voids, stage))
		switch {
		case voids && i < 0:
			fields = append(fields, m.Field)
		case !voids && i >= 0:
			fields = slices.Delete(fields, i, i+1)
		}
	}
	slices.Sort(fields)
	return fields
}

func pickFields(content map[string]string, fields []string) string {
	var b strings.Builder
	for _, f := range fields {
		if content[f] != "" {
			fmt.Fprintf(&b, "%s=%s\n", f, content[f])
		}
	}
	return b.String()
}

// valid returns the votes of a stage that were cast on what is material to it now.
func (o *oracle) valid(a *polled) []cast {
	fields := o.material(a.e.Stage.Name)
	now := pickFields(o.content, fields)
	var valid []cast
	for _, v := range a.votes {
		if pickFields(v.content, fields) == now {
			valid = append(valid, v)
		}
	}
	return valid
}

func (o *oracle) kind(phase string) change.Kind {
	for _, p := range o.model.Phases {
		if p.Name == phase {
			return p.Kind
		}
	}
	return ""
}

// fieldsOf returns the JSON of each field of a content that has a value, by the name
// that models know it by.
func fieldsOf(c change.Content) map[string]string {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		panic(err)
	}
	fields := map[string]string{}
	var plans map[string]json.RawMessage
	if text, ok := all["plans"]; ok {
		if err := json.Unmarshal(text, &plans); err != nil {
			panic(err)
		}
		delete(all, "plans")
	}
	for plan, text := range plans {
		fields["plan."+plan] = string(text)
	}
	for name, text := range all {
		if string(text) != "[]" {
			fields[name] = string(text)
		}
	}
	return fields
}

func everyOf(people ...string) []string {
	people = slices.DeleteFunc(people, func(p string) bool { return p == "" })
	slices.Sort(people)
	return slices.Compact(people)
}

// take folds one event and judges it.
func (o *oracle) take(r eventstore.Recorded, payload any) {
	o.version++
	if r.Version != o.version {
		o.wrong("order", "version %d comes after %d", r.Version, o.version-1)
	}
	if o.ended {
		switch payload.(type) {
		case change.Linked, change.Noted:
		default:
			o.wrong("ended", "%T after the end", payload)
		}
	}
	o.signed(r, payload)
	if o.held != nil {
		switch e := payload.(type) {
		case change.Linked, change.Noted, change.Resumed:
		case change.StageDecided:
			if e.State != workflow.Cancelled {
				o.wrong("on hold", "%T on hold", payload)
			}
		case change.Moved:
			if o.kind(e.To) != change.KindCanceled {
				o.wrong("on hold", "moved to %q on hold", e.To)
			}
		default:
			o.wrong("on hold", "%T on hold", payload)
		}
	}
	switch e := payload.(type) {
	case change.Raised:
		o.content, o.scope, o.phase = fieldsOf(e.Content), e.Scope, e.Phase
		o.requester = everyOf(e.Requester, e.By)
		o.stages, o.tasks, o.scopes, o.digests = map[string]*polled{}, map[int]change.Task{}, map[string]string{}, map[string]string{}
		o.known(e.Content)
		if o.kind(e.Phase) == change.KindImplement {
			o.wrong("authorisation", "raised in phase %q, which is the work", e.Phase)
		}
	case change.Edited:
		o.edited(e)
	case change.Moved:
		o.moved(e)
	case change.StageRequested:
		if a := o.stages[e.Stage.Name]; o.refused || a != nil && a.state != workflow.NotRequested {
			o.wrong("asked again", "stage %q is asked for, after a refusal: %t", e.Stage.Name, o.refused)
		}
		o.stages[e.Stage.Name] = &polled{e: e, state: workflow.Requested, deadline: e.Deadline}
	case change.StagePlanned:
		if a := o.stages[e.Stage.Name]; a != nil && a.state != workflow.Skipped && a.state != workflow.NotRequested && a.state != workflow.Cancelled {
			o.wrong("asked again", "stage %q is %s, and planned", e.Stage.Name, a.state)
		} else {
			o.stages[e.Stage.Name] = &polled{e: change.StageRequested{Stage: e.Stage, Phase: e.Phase}, state: workflow.NotRequested}
		}
	case change.StageSkipped:
		o.stages[e.Stage.Name] = &polled{e: change.StageRequested{Stage: e.Stage, Phase: e.Phase}, state: workflow.Skipped}
		if !e.Stage.Skip && o.alwaysAsked(e.Phase, e.Stage.Name) {
			o.wrong("skipped", "stage %q is always asked for", e.Stage.Name)
		}
	case change.StageEscalated:
		a := o.stages[e.Stage]
		if a.deadline.IsZero() || o.now.Before(a.deadline) {
			o.wrong("deadline", "stage %q escalates at %s, before its deadline", e.Stage, o.now)
		}
		a.extra, a.deadline = append(a.extra, e.Seats...), e.Deadline
	case change.Voted:
		o.voted(e)
	case change.StageDecided:
		a := o.stages[e.Stage]
		a.state = e.State
		if e.State == workflow.Approved && !o.approvedBy(a) {
			o.wrong("authorisation", "stage %q counts as approved and is not", e.Stage)
		}
		if e.State == workflow.Expired && (a.deadline.IsZero() || o.now.Before(a.deadline)) {
			o.wrong("deadline", "stage %q expires at %s, before its deadline", e.Stage, o.now)
		}
	case change.Authorized:
		if why := o.authorised(); why != "" {
			o.wrong("authorisation", "recorded as authorised: %s", why)
		}
		if e.Scope != o.scope {
			o.wrong("authorisation", "for another scope")
		}
	case change.Unauthorized:
		o.refused = true
	case change.Started:
		o.workers = everyOf(append(o.workers, e.By, e.For)...)
		o.started = &e
		if e.First {
			if o.model.Authority != change.AuthorityRetrospective || e.AuthorizeBy.IsZero() {
				o.wrong("authorisation", "started first under authority %s", o.model.Authority)
			}
		} else if why := o.authorised(); why != "" {
			o.wrong("authorisation", "started: %s", why)
		}
	case change.Implemented:
		if o.started != nil {
			o.workers = everyOf(append(o.workers, e.By, e.For)...)
		} else if o.model.Authority != change.AuthorityElsewhere {
			o.wrong("authorisation", "the work ended and had not been started")
		}
		o.work = &e
	case change.Reviewed:
		o.reviewer, o.reviewed = everyOf(e.By, e.For), &e
		o.accepted = e.Accepted != ""
		if o.kind(o.phase) != change.KindReview || o.accepted && !o.refused {
			o.wrong("reviewed", "in phase %q, accepted: %q", o.phase, e.Accepted)
		}
	case change.Held:
		o.held = &e
	case change.Resumed:
		for _, a := range o.stages {
			if a.state == workflow.Requested && !a.deadline.IsZero() {
				a.deadline = a.deadline.Add(e.At.Sub(o.held.At))
			}
		}
		o.held = nil
	case change.Assessed:
		o.judged = o.judged || e.Receipt != nil
	case change.TaskAdded:
		o.tasks[e.ID] = e.Task
	case change.TaskChanged:
		before := o.tasks[e.ID]
		o.tasks[e.ID] = e.Task
		if e.Kind == workflow.TaskImplementation && before.State != e.State && (e.State == workflow.TaskInProgress || e.State == workflow.TaskClosed) {
			o.workers = everyOf(append(o.workers, e.By, e.For)...)
			if k := o.kind(o.phase); k != change.KindImplement && k != change.KindReview {
				o.wrong("not started", "task %d of the implementation is worked on in phase %q", e.ID, o.phase)
			}
		}
	}
	o.always()
}

func (o *oracle) window() (w change.Window, ok bool) {
	text := o.content["window"]
	if text == "" {
		return w, false
	}
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		o.wrong("fold", "the window is %s", text)
		return w, false
	}
	return w, true
}
