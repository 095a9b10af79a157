package workflow

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sizes of what a model holds.
const (
	MaxName = 64   // bytes of the name of a model, phase or stage
	MaxText = 4096 // bytes of a title, description, person, group or role
)

// Validate returns every fault of m as a *ModelError, or nil. A model without
// fault can be published: what it names exists, every phase can be reached and
// left, nothing turns in a circle by itself, and nothing is carried out without
// the authority that the model claims. It takes time linear in the size of m.
//
// The rules, by the name that a fault carries:
//
//	name-required            names are 1 to 64 lower-case letters, digits, space, - and _
//	bad-text                 titles and descriptions are text without control characters
//	no-phases, phase-twice, unknown-kind, unknown-phase, transition-twice
//	initial-phase-final      an item does not begin where it ends
//	unreachable-phase        every phase is reached from the first, implicit ways included
//	dead-end                 by transitions of the model every phase leads to a final one
//	final-with-exit          no transition leads out of a final phase
//	final-with-work          a final phase opens no tasks and asks for no stages
//	automatic-loop           automatic transitions form no circle, whatever their conditions
//	no-cancel                what is planned or carried out can be given up, in one phase
//	cancel-after-review      no transition leads from a review to the canceled phase
//	unknown-guard, unknown-field, bad-expression
//	stage-twice, unknown-stage, unused-stage
//	stage-without-candidates a stage asks somebody
//	bad-candidate            a candidate is one person, group, role, or the owners
//	bad-rule                 how a stage counts is known, and can be met
//	negative-duration        deadlines are 0, which is none, or more
//	escalation-without-deadline
//	table-without-rows, row-without-stages
//	unreachable-row          no row follows one that always matches, unless all count
//	task-without-title, unknown-task-kind
//	material-twice, bad-materiality
//	material-edit-late       material fields stay as they are once it is carried out
//	unknown-part, duty-with-itself
//	unknown-authority, implement-without-authority, retrospective-unused
//	no-review-before-close   what was authorised afterwards is reviewed before it ends
//	return-impossible        where approval is asked for there is a plan phase to return to
func (m Model) Validate(v Vocabulary) error {
	c := newCheck(m, v)
	c.model()
	c.phases()
	c.transitions()
	c.stages()
	c.material()
	c.duties()
	c.paths()
	c.authority()
	if len(c.faults) == 0 {
		return nil
	}
	return &ModelError{Model: m.Name, Faults: c.faults}
}

// check is a validation under way.
type check struct {
	m      Model
	v      Vocabulary
	fields map[string]bool
	stage  map[string]Stage // the first of each name
	graph  graph
	faults []Fault
}

func newCheck(m Model, v Vocabulary) *check {
	c := &check{m: m, v: v, fields: map[string]bool{}, stage: map[string]Stage{}, graph: newGraph(m, v)}
	for _, field := range v.Fields {
		c.fields[field] = true
	}
	for _, s := range m.Stages {
		if _, twice := c.stage[s.Name]; !twice {
			c.stage[s.Name] = s
		}
	}
	return c
}

func (c *check) fault(rule, where, reason string, args ...any) {
	c.faults = append(c.faults, Fault{Rule: rule, Where: where, Reason: fmt.Sprintf(reason, args...)})
}

func atPhase(name string) string       { return fmt.Sprintf("phase %q", name) }
func atStage(name string) string       { return fmt.Sprintf("stage %q", name) }
func atTransition(t Transition) string { return fmt.Sprintf("transition %q to %q", t.From, t.To) }

func (c *check) name(where, name string) {
	switch {
	case name == "":
		c.fault("name-required", where, "it has no name: give it one")
	case len(name) > MaxName:
		c.fault("name-required", where, "its name has %d bytes: use at most %d", len(name), MaxName)
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789 -_", r) }):
		c.fault("name-required", where, "its name has other characters than lower-case letters, digits, space, - and _: use only these")
	case strings.TrimSpace(name) != name:
		c.fault("name-required", where, "its name begins or ends with a space: leave it out")
	}
}

// text reports whether s is printable text of a sane size. Lines may be broken.
func text(s string) bool {
	return len(s) <= MaxText && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' })
}

// id reports whether s can stand for a person, a group or a role.
func id(s string) bool {
	return s != "" && text(s) && strings.TrimSpace(s) == s && !strings.ContainsAny(s, "\n\t")
}

func (c *check) text(where, what, s string) {
	if !text(s) {
		c.fault("bad-text", where, "its %s has more than %d bytes, control characters, or is not UTF-8: mend it", what, MaxText)
	}
}

func (c *check) field(where, what, field string) {
	if !c.fields[field] {
		c.fault("unknown-field", where, "%s %q is no field: use one of %s", what, field, list(c.v.Fields))
	}
}

func (c *check) expression(where, text string) {
	if text == "" {
		return
	}
	if c.v.Expression == nil {
		c.fault("bad-expression", where, "expressions cannot be evaluated here: leave out %q", text)
	} else if err := c.v.Expression(text); err != nil {
		c.fault("bad-expression", where, "%q cannot be evaluated: %v", text, err)
	}
}

// list names what may be used instead.
func list[T ~string](values []T) string {
	if len(values) == 0 {
		return "none, there are none"
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", string(v))
	}
	return strings.Join(quoted, ", ")
}

func (c *check) model() {
	c.name("model", c.m.Name)
	c.text("model", "title", c.m.Title)
	c.text("model", "description", c.m.Description)
}

func (c *check) phases() {
	if len(c.m.Phases) == 0 {
		c.fault("no-phases", "model", "it has no phases: an item would have nowhere to begin")
		return
	}
	material := map[string]bool{}
	for _, field := range c.m.MaterialFields(c.v) {
		material[field] = true
	}
	seen := map[string]bool{}
	for _, p := range c.m.Phases {
		at := atPhase(p.Name)
		c.name(at, p.Name)
		if seen[p.Name] {
			c.fault("phase-twice", at, "two phases have this name: rename one")
		}
		seen[p.Name] = true
		if !c.v.knows(p.Kind) {
			c.fault("unknown-kind", at, "%q is no kind of phase: use one of %s", p.Kind, list(c.v.kinds()))
		}
		if c.v.final(p.Kind) && (len(p.Stages) > 0 || p.Table != nil || len(p.Tasks) > 0) {
			c.fault("final-with-work", at, "a final phase asks for stages or opens tasks, and nobody could finish them: move them before it")
		}
		c.guards(at, p.Gates)
		for _, name := range p.Stages {
			c.named(at, name)
		}
		c.table(at, p.Table)
		for _, task := range p.Tasks {
			if strings.TrimSpace(task.Title) == "" {
				c.fault("task-without-title", at, "a task has no title: say what is to be done")
			}
			c.text(at, "task", task.Title)
			if !slices.Contains(TaskKinds(), task.Kind) {
				c.fault("unknown-task-kind", at, "%q is no kind of task: use one of %s", task.Kind, list(TaskKinds()))
			}
			if task.Group != "" && !id(task.Group) {
				c.fault("bad-text", at, "the group %q of a task cannot be a name: mend it", task.Group)
			}
		}
		late := slices.Contains(c.v.Implement, p.Kind) || slices.Contains(c.v.Review, p.Kind) || c.v.final(p.Kind)
		for _, field := range p.Edits {
			if field != "*" {
				c.field(at, "edit of", field)
			}
			if late && (field == "*" || material[field]) {
				c.fault("material-edit-late", at, "it lets %q be edited, after what was approved has begun: leave it out here, or declare it immaterial", field)
			}
		}
	}
	if first := c.m.Phases[0]; c.v.final(first.Kind) {
		c.fault("initial-phase-final", atPhase(first.Name), "an item begins in the first phase, and this one is final: put another one first")
	}
}

// guards checks that guards exist.
func (c *check) guards(at string, names []string) {
	for _, guard := range names {
		if !slices.Contains(c.v.Guards, guard) {
			c.fault("unknown-guard", at, "%q is no guard: use one of %s", guard, list(c.v.Guards))
		}
	}
}

// named checks that a stage exists.
func (c *check) named(where, name string) {
	if _, ok := c.stage[name]; !ok {
		c.fault("unknown-stage", where, "it names the stage %q, which the model does not have: add it, or name another", name)
	}
}

func (c *check) table(at string, t *Table) {
	if t == nil {
		return
	}
	if len(t.Rows) == 0 {
		c.fault("table-without-rows", at, "its decision table has no rows: add one, or leave the table out")
	}
	always := false
	for i, row := range t.Rows {
		where := fmt.Sprintf("row %d of %s", i+1, at)
		if len(row.Stages) == 0 {
			c.fault("row-without-stages", where, "it names no stages: name one, or leave the row out")
		}
		if always && !t.All {
			c.fault("unreachable-row", where, "a row before it always matches, and only the first that matches counts: give that one a condition or put it last")
		}
		always = always || row.When == ""
		c.expression(where, row.When)
		for _, name := range row.Stages {
			c.named(where, name)
		}
	}
}

func (c *check) transitions() {
	seen := map[[2]string]bool{}
	for _, t := range c.m.Transitions {
		at := atTransition(t)
		for _, name := range []string{t.From, t.To} {
			if _, ok := c.graph.index[name]; !ok {
				c.fault("unknown-phase", at, "the model has no phase %q: add it, or name another", name)
			}
		}
		if seen[[2]string{t.From, t.To}] {
			c.fault("transition-twice", at, "it stands twice: make one of both, with one condition")
		}
		seen[[2]string{t.From, t.To}] = true
		for _, field := range t.Requires {
			c.field(at, "required", field)
		}
		c.guards(at, t.Guards)
		c.expression(at, t.When)
	}
}

func (c *check) material() {
	seen := map[string]bool{}
	for _, said := range c.m.Material {
		at := fmt.Sprintf("materiality of %q", said.Field)
		c.field(at, "the field", said.Field)
		if seen[said.Field] {
			c.fault("material-twice", at, "the field stands twice: make one of both")
		}
		seen[said.Field] = true
		if said.Immaterial && len(said.Voids) > 0 {
			c.fault("bad-materiality", at, "it is immaterial and yet voids stages: say one of both")
		}
		for _, name := range said.Voids {
			c.named(at, name)
		}
	}
}

func (c *check) duties() {
	for i, d := range c.m.Duties {
		at := fmt.Sprintf("duty %d", i+1)
		for _, part := range []string{d.Part, d.Against} {
			if !slices.Contains(c.v.Parts, part) {
				c.fault("unknown-part", at, "%q is no part: use one of %s", part, list(c.v.Parts))
			}
		}
		if d.Part == d.Against {
			c.fault("duty-with-itself", at, "%q is kept apart from itself, which nobody could keep: name two parts", d.Part)
		}
	}
}
