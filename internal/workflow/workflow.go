// Package workflow holds what changes and releases share: process models as data
// (phases, transitions, approval stages, decision tables, tasks), the check that
// a model is sound, the arithmetic of approvals, and pictures of a model. It is
// pure: it decides nothing by itself and records nothing.
//
// What phases mean, which guards exist and which fields an item has differs
// between changes and releases; a [Vocabulary] says it.
//
// # Transitions that no model names
//
// Two ways are open in every model, whatever its transitions are, so that nobody
// can forget or bar them ([Model.Implicit] lists them, drawings show them):
//
//   - Cancel: from every phase whose kind is neither a review nor final, to the
//     one phase of the kind [Vocabulary].Canceled.
//   - Return: from every phase of an authorize kind, when a stage is rejected or
//     somebody reverts, to the first phase of a plan kind.
//
// They count where a model is checked for phases that nothing leads to, and not
// where it is checked for dead ends: giving up and starting anew are no ways on.
package workflow

// Kind is what a phase means to the engine, whatever its name is.
type Kind string

// Model is how an item of work goes through its life. It is data: it is
// published, versioned and kept in the log.
type Model struct {
	Name        string `json:"name"`
	Title       string `json:"title,omitzero"`
	Description string `json:"description,omitzero"`

	Phases      []Phase        `json:"phases"` // the first one is where an item begins
	Transitions []Transition   `json:"transitions"`
	Stages      []Stage        `json:"stages,omitzero"`
	Material    []Materiality  `json:"material,omitzero"`
	Duties      []Duty         `json:"duties,omitzero"` // separation of duties; none is none: say it
	Authority   Authority      `json:"authority"`
	Retrospect  *Retrospective `json:"retrospective,omitzero"` // for AuthorityRetrospective
}

// Authority says what allows an item to be carried out.
type Authority string

// The authorities.
const (
	AuthorityStages        Authority = "stages"        // every stage of the phases before is approved
	AuthorityTemplate      Authority = "template"      // an approved template says what is done; stages, if any, come on top
	AuthorityRetrospective Authority = "retrospective" // it may start before the stages are approved, and cannot close without
	AuthorityElsewhere     Authority = "elsewhere"     // gated elsewhere: recorded, not gated
)

// Retrospective are the deadlines of what is authorised afterwards.
type Retrospective struct {
	AuthorizeWithin Duration `json:"authorize_within"` // of the start
	ReviewWithin    Duration `json:"review_within"`    // of the end of the work
}

// Phase is a state of an item.
type Phase struct {
	Name     string         `json:"name"`
	Kind     Kind           `json:"kind"`
	Gates    []string       `json:"gates,omitzero"`    // guards that hold to enter it, whichever transition leads here; implicit ones ask no guard
	Stages   []string       `json:"stages,omitzero"`   // always asked for here, unless Skip of the stage
	Table    *Table         `json:"table,omitzero"`    // which stages are asked for beside these
	Together bool           `json:"together,omitzero"` // stages run side by side; otherwise one after the other
	Tasks    []TaskTemplate `json:"tasks,omitzero"`    // opened when the phase is entered
	Edits    []string       `json:"edits,omitzero"`    // fields that may be edited here; "*" is all
}

// Table is a decision table: which stages apply, by the facts of the item.
type Table struct {
	Rows []Row `json:"rows"`
	All  bool  `json:"all,omitzero"` // every row that matches counts, not only the first
}

// Row names stages under a condition, an expression over facts; empty always holds.
type Row struct {
	When   string   `json:"when,omitzero"`
	Stages []string `json:"stages"`
}

// Transition leads from one phase to another, beside the implicit ones (see
// [Model.Implicit]). It is open when all of its conditions hold.
type Transition struct {
	From      string   `json:"from"`
	To        string   `json:"to"`
	Automatic bool     `json:"automatic,omitzero"` // taken as soon as its conditions hold
	Requires  []string `json:"requires,omitzero"`  // fields that must be filled in
	Guards    []string `json:"guards,omitzero"`    // named conditions of the vocabulary
	When      string   `json:"when,omitzero"`      // an expression over facts
}

// Materiality says which stages the edit of a field voids: approvals given before
// no longer hold and are asked for again. It replaces what the vocabulary says of
// the field.
type Materiality struct {
	Field      string   `json:"field"`
	Voids      []string `json:"voids,omitzero"`      // stages; none is all
	Immaterial bool     `json:"immaterial,omitzero"` // it voids none, and is no part of the scope that is approved
}

// Duty is a pair of parts that one person must not play in one item, also not
// through a delegate.
type Duty struct {
	Part    string `json:"part"`    // "approver"
	Against string `json:"against"` // "requester"
}

// TaskTemplate is a task that a phase opens.
type TaskTemplate struct {
	Title string   `json:"title"`
	Kind  TaskKind `json:"kind"`
	Group string   `json:"group,omitzero"`
}

// Vocabulary is what the models of one kind of item may speak of.
type Vocabulary struct {
	Plan       []Kind                  // kinds in which the item is being planned, to which a rejection returns
	Authorize  []Kind                  // kinds in which it is assessed and authorised
	Implement  []Kind                  // kinds in which it is carried out: entered only with authority
	Review     []Kind                  // kinds after that in which it is reviewed
	Other      []Kind                  // further kinds an open item can be in
	Final      []Kind                  // kinds with no way out, and none needed
	Canceled   Kind                    // the final kind that every phase before review can reach
	Guards     []string                // names of guards
	Fields     []string                // names of fields
	Material   []string                // those that are material unless the model says otherwise
	Parts      []string                // of separation of duties
	Expression func(text string) error // nil error if text is a condition that can be evaluated; nil refuses every expression
}
