package change

import (
	"fmt"
	"slices"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// A model and its parts, as data. Phases have Name, Kind, Stages (always asked
// for), Table (stages by condition), Together, Tasks and Edits; transitions From,
// To, Automatic, Requires (fields), Guards and When (an expression); stages Name,
// Candidates, Rule, Required, Deadline, Skip and Escalate. Candidates are a Person,
// a Group, a Role, or the Owners of the declared CIs.
type (
	Model         = workflow.Model
	Phase         = workflow.Phase
	Transition    = workflow.Transition
	Table         = workflow.Table
	Row           = workflow.Row
	Stage         = workflow.Stage
	Candidate     = workflow.Candidate
	Rule          = workflow.Rule
	Materiality   = workflow.Materiality
	Duty          = workflow.Duty
	TaskTemplate  = workflow.TaskTemplate
	Retrospective = workflow.Retrospective
	Duration      = workflow.Duration
	Kind          = workflow.Kind
)

// The kinds of phase of a change: what it means to the engine, whatever its name.
const (
	KindPlan      Kind = "plan"
	KindAssess    Kind = "assess"
	KindAuthorize Kind = "authorize"
	KindScheduled Kind = "scheduled"
	KindImplement Kind = "implement"
	KindReview    Kind = "review"
	KindClosed    Kind = "closed"
	KindCanceled  Kind = "canceled"
)

// How a model authorises, and how a stage counts; see package internal/workflow
// for what they say.
const (
	AuthorityStages        = workflow.AuthorityStages
	AuthorityTemplate      = workflow.AuthorityTemplate
	AuthorityRetrospective = workflow.AuthorityRetrospective
	AuthorityElsewhere     = workflow.AuthorityElsewhere

	First   = workflow.First
	All     = workflow.All
	Percent = workflow.Percent
	AtLeast = workflow.AtLeast
)

// ModelError says what is wrong with a model: every fault, by the name of its rule.
type ModelError = workflow.ModelError

var (
	planning    = []Kind{KindPlan}
	authorizing = []Kind{KindAssess, KindAuthorize}
)

// vocabulary is what models of changes may speak of. Without expressions a model
// that has any is refused.
func vocabulary(expressions Expressions) workflow.Vocabulary {
	v := workflow.Vocabulary{
		Plan: planning, Authorize: authorizing, Other: []Kind{KindScheduled}, Implement: []Kind{KindImplement}, Review: []Kind{KindReview},
		Final: []Kind{KindClosed, KindCanceled}, Canceled: KindCanceled,
		Guards: Guards(), Fields: Fields(), Material: material, Parts: []string{"approver", "implementer", "requester", "reviewer"},
	}
	if expressions != nil {
		v.Expression = func(text string) error {
			_, err := expressions.Compile(text)
			return err
		}
	}
	return v
}

// words is the vocabulary where nothing is evaluated.
var words = vocabulary(nil)

// checkModel returns what is wrong with a model of changes: what is wrong with
// any, and what only changes forbid.
func checkModel(m Model, expressions Expressions) error {
	var faults []workflow.Fault
	if err := m.Validate(vocabulary(expressions)); err != nil {
		broken, ok := err.(*ModelError)
		if !ok {
			return err
		}
		faults = broken.Faults
	}
	kinds := map[string]Kind{}
	for _, p := range m.Phases {
		kinds[p.Name] = p.Kind
		if (len(p.Stages) > 0 || p.Table != nil) && !slices.Contains(authorizing, p.Kind) {
			faults = append(faults, workflow.Fault{Rule: "stage-outside-authorization", Where: fmt.Sprintf("phase %q", p.Name),
				Reason: "approvals are asked for in phases of kind assess or authorize: move the stages there"})
		}
	}
	done := []Kind{KindImplement, KindReview}
	for _, t := range m.Transitions {
		to := kinds[t.To]
		if worked := kinds[t.From] == KindImplement; t.Automatic && to != "" && to != KindCanceled && worked != (to == KindImplement) {
			faults = append(faults, workflow.Fault{Rule: "work-by-itself", Where: fmt.Sprintf("transition %q to %q", t.From, t.To),
				Reason: "somebody begins the work and answers for it, and somebody says at its end what was applied: make it manual"})
		}
		if t.Automatic && slices.Contains(planning, kinds[t.From]) && slices.Contains(authorizing, to) {
			faults = append(faults, workflow.Fault{Rule: "submit-by-itself", Where: fmt.Sprintf("transition %q to %q", t.From, t.To),
				Reason: "risk is judged when somebody submits the plan, and who is asked can hang on it: make it manual"})
		}
		back := kinds[t.From] == KindReview && to == KindImplement
		if slices.Contains(done, kinds[t.From]) && (back || !slices.Contains(done, to) && to != KindClosed && to != KindCanceled && to != "") {
			faults = append(faults, workflow.Fault{Rule: "work-undone", Where: fmt.Sprintf("transition %q to %q", t.From, t.To),
				Reason: "what was carried out cannot be planned or authorised again: lead on to review or closed"})
		}
	}
	has := func(kinds ...Kind) bool {
		return slices.ContainsFunc(m.Phases, func(p Phase) bool { return slices.Contains(kinds, p.Kind) })
	}
	switch {
	case m.Authority == AuthorityElsewhere && has(KindPlan, KindAssess, KindAuthorize, KindScheduled):
		faults = append(faults, workflow.Fault{Rule: "receipt-gated", Where: "authority",
			Reason: "what was gated elsewhere is recorded and not gated again: begin with a phase of kind review"})
	case m.Authority == AuthorityRetrospective && has(KindImplement) && !has(KindPlan):
		faults = append(faults, workflow.Fault{Rule: "return-impossible", Where: "authority",
			Reason: "what is rejected before it starts returns to planning, and there is no phase of kind plan: add one"})
	}
	faults = append(faults, barred(m)...)
	if len(faults) == 0 {
		return nil
	}
	return &ModelError{Model: m.Name, Faults: faults}
}

// barred finds the phases from which the end may be out of reach: those that
// cannot be cancelled, and that no way leads on from whose conditions people can
// make hold there and then.
func barred(m Model) []workflow.Fault {
	phases := map[string]Phase{}
	plans := false
	for _, p := range m.Phases {
		phases[p.Name] = p
		plans = plans || p.Kind == KindPlan
	}
	can := map[Kind][]string{ // guards that people can make hold in a phase of this kind
		KindAssess: {"assessed", "decided", "tasks-closed"}, KindAuthorize: {"assessed", "decided", "tasks-closed"},
		KindImplement: {"tasks-closed"}, KindReview: {"tasks-closed", "reviewed"},
	}
	free := func(t Transition) bool {
		from, to := phases[t.From], phases[t.To]
		for _, guard := range slices.Concat(t.Guards, to.Gates) {
			if !slices.Contains(can[from.Kind], guard) {
				return false
			}
		}
		for _, field := range t.Requires {
			if !slices.Contains(from.Edits, "*") && !slices.Contains(from.Edits, field) {
				return false
			}
		}
		return t.When == ""
	}
	ends := map[string]bool{}
	for _, p := range m.Phases {
		ends[p.Name] = p.Kind == KindClosed
	}
	for range m.Phases { // as far as the longest way
		for _, t := range m.Transitions {
			ends[t.From] = ends[t.From] || ends[t.To] && free(t)
		}
	}
	var faults []workflow.Fault
	for _, p := range m.Phases {
		late := p.Kind == KindImplement || p.Kind == KindReview
		if (late || !plans && p.Kind != KindCanceled) && !ends[p.Name] {
			faults = append(faults, workflow.Fault{Rule: "end-barred", Where: fmt.Sprintf("phase %q", p.Name),
				Reason: "every way on to a closed phase has a condition that may never hold any more: leave one way whose fields can be edited here, whose guards are " +
					list(can[p.Kind]) + ", and which has no expression"})
		}
	}
	return faults
}

// model is a published version of a model, as decisions use it. It never changes.
type model struct {
	Model
	version  uint64
	material []string // fields that a scope is taken over
	asks     bool     // it has expressions, which look at facts
	stages   bool     // it asks for approvals
	owners   bool     // it asks the owners of CIs for theirs
}

func newModel(m Model, version uint64) *model {
	done := &model{Model: m, version: version, material: m.MaterialFields(words)}
	done.stages = len(m.Stages) > 0
	for _, stage := range m.Stages {
		for _, c := range slices.Concat(stage.Candidates, stage.Escalate) {
			done.owners = done.owners || c.Owners
		}
	}
	for _, t := range m.Transitions {
		done.asks = done.asks || t.When != ""
	}
	for _, p := range m.Phases {
		done.asks = done.asks || p.Table != nil
	}
	return done
}

func (m *model) kind(phase string) Kind {
	p, _ := m.Phase(phase)
	return p.Kind
}

func (m *model) has(kind Kind) bool {
	return slices.ContainsFunc(m.Phases, func(p Phase) bool { return p.Kind == kind })
}

// planned returns the phase to which a rejection returns, empty if the model has none.
func (m *model) planned() string {
	for _, p := range m.Phases {
		if p.Kind == KindPlan {
			return p.Name
		}
	}
	return ""
}

func (m *model) plans() bool { return m.planned() != "" }

func (m *model) implements() bool { return m.has(KindImplement) }

// canceled returns the phase of what is cancelled, empty if the model has none.
func (m *model) canceled() string {
	for _, p := range m.Phases {
		if p.Kind == KindCanceled {
			return p.Name
		}
	}
	return ""
}

func (m *model) scope(c Content) string { return scopeOf(c, m.material) }

// Published is recorded in "model-NAME" with every version of a model: the
// event's version is the model's.
type Published struct {
	Model Model  `json:"model"`
	By    string `json:"by"`
}

func modelStream(name string) string { return "model-" + name }

// versions are the published versions of a model.
type versions []*model

var modelFolder = eventstore.Decider[versions, any]{
	Evolve: func(v versions, payload any) versions {
		if e, ok := payload.(Published); ok {
			v = append(v, newModel(e.Model, uint64(len(v))+1))
		}
		return v
	},
}

// StandardDuties are the separation of duties that holds unless a model says otherwise (DOMAIN 1.3).
func StandardDuties() []Duty {
	return []Duty{{Part: "approver", Against: "requester"}, {Part: "approver", Against: "implementer"}, {Part: "reviewer", Against: "implementer"}}
}

// late are the fields that can be edited when the work has begun.
var late = []string{"description", "evidence", "stakeholders", "tags"}

// Models returns the models that the engine ships (DOMAIN 1.1). They are recorded
// when an engine first opens a log, and from then on are as any other: publish a
// version of your own to change one.
func Models() []Model {
	edits := slices.Clone(late)
	plan := Phase{Name: "draft", Kind: KindPlan, Edits: []string{"*"}}
	scheduled := Phase{Name: "scheduled", Kind: KindScheduled, Edits: []string{"*"}}
	implement := Phase{Name: "implement", Kind: KindImplement, Edits: edits}
	review := Phase{Name: "review", Kind: KindReview, Edits: edits}
	closed := Phase{Name: "closed", Kind: KindClosed}
	canceled := Phase{Name: "canceled", Kind: KindCanceled}
	reviewed := []string{"reviewed"}
	board := func(name string, deadline time.Duration) Stage {
		return Stage{Name: name, Candidates: []Candidate{{Role: "approver"}}, Rule: Rule{Counting: First}, Deadline: Duration(deadline)}
	}
	return []Model{{
		Name: "normal", Title: "Normal change", Description: "Assessed, authorised and scheduled before it is carried out, and reviewed afterwards.",
		Authority: AuthorityStages, Duties: StandardDuties(),
		Phases: []Phase{
			plan, {Name: "assess", Kind: KindAssess, Edits: []string{"*"}},
			{Name: "authorize", Kind: KindAuthorize, Stages: []string{"cab"}, Edits: []string{"*"}}, scheduled, implement, review, closed, canceled,
		},
		Transitions: []Transition{
			{From: "draft", To: "assess"},
			{From: "assess", To: "authorize", Automatic: true, Guards: []string{"assessed"}},
			{From: "authorize", To: "scheduled", Automatic: true},
			{From: "scheduled", To: "implement"},
			{From: "implement", To: "review"},
			{From: "review", To: "closed", Guards: reviewed},
		},
		Stages: []Stage{board("cab", 0)},
	}, {
		Name: "standard", Title: "Standard change", Description: "Done often and understood well: authorised beforehand by an approved template.",
		Authority: AuthorityTemplate, Duties: StandardDuties(),
		Phases: []Phase{plan, scheduled, implement, review, closed, canceled},
		Transitions: []Transition{
			{From: "draft", To: "scheduled", Requires: []string{"window"}},
			{From: "scheduled", To: "implement"},
			{From: "implement", To: "review"},
			{From: "review", To: "closed", Guards: reviewed},
		},
	}, {
		Name: "emergency", Title: "Emergency change", Description: "Cannot wait: may start before it is authorised, and cannot close without an authorisation afterwards and a review.",
		Authority: AuthorityRetrospective, Duties: StandardDuties(),
		Retrospect: &Retrospective{AuthorizeWithin: Duration(48 * time.Hour), ReviewWithin: Duration(7 * 24 * time.Hour)},
		Phases: []Phase{
			plan, {Name: "authorize", Kind: KindAuthorize, Stages: []string{"emergency board"}, Edits: []string{"*"}},
			scheduled, implement, review, closed, canceled,
		},
		Transitions: []Transition{
			{From: "draft", To: "authorize"},
			{From: "authorize", To: "scheduled", Automatic: true},
			{From: "scheduled", To: "implement"},
			{From: "authorize", To: "implement"},
			{From: "implement", To: "review"},
			{From: "review", To: "closed", Guards: reviewed},
		},
		Stages: []Stage{board("emergency board", 0)},
	}, {
		Name: "unauthorized", Title: "Unauthorised change", Description: "Found to have happened without anybody having asked: to be authorised or refused afterwards.",
		Authority: AuthorityRetrospective, Duties: StandardDuties(),
		Retrospect: &Retrospective{AuthorizeWithin: Duration(48 * time.Hour), ReviewWithin: Duration(7 * 24 * time.Hour)},
		Phases: []Phase{
			{Name: "authorize", Kind: KindAuthorize, Stages: []string{"owners"}, Edits: edits}, review, closed,
		},
		Transitions: []Transition{
			{From: "authorize", To: "review", Automatic: true, Guards: []string{"decided"}},
			{From: "review", To: "closed", Guards: reviewed},
		},
		Stages: []Stage{board("owners", 0)},
	}, {
		Name: "registered", Title: "Registered change", Description: "A receipt for a change that was gated elsewhere, by a pipeline or a vendor: recorded, not gated.",
		Authority:   AuthorityElsewhere,
		Phases:      []Phase{{Name: "recorded", Kind: KindReview, Edits: edits}, closed},
		Transitions: []Transition{{From: "recorded", To: "closed"}},
	}}
}
