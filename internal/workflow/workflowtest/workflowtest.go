// Package workflowtest draws random process models for the property tests of
// those who carry them out. What comes in is a vocabulary; what comes out is
// always sound under it, so that a walk over a model tests the engine and not
// the check.
package workflowtest

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
)

// People and Groups are whom the stages of a drawn model ask, beside the owners.
// A directory in a test says who is in the groups.
func People() []string { return []string{"p1", "p2", "p3", "p4", "p5", "p6"} }

// Groups returns the groups that stages ask and that tasks go to.
func Groups() []string { return []string{"g1", "g2", "g3"} }

// Models returns a generator of sound models: of every authority that v has kinds
// for, with phases, stages, decision tables, tasks, materiality and duties that
// vary. Conditions are taken from expressions, those that v cannot evaluate left
// out. Every phase leads on, at the latest along the chain of phases in their
// order; transitions may ask for any guard and field of v.
//
// A vocabulary without a plan kind or a final one other than v.Canceled fails the
// test that draws.
func Models(v workflow.Vocabulary, expressions ...string) *rapid.Generator[workflow.Model] {
	usable := slices.DeleteFunc(slices.Clone(expressions), func(text string) bool {
		return text == "" || v.Expression == nil || v.Expression(text) != nil
	})
	ends := slices.DeleteFunc(slices.Clone(v.Final), func(k workflow.Kind) bool { return k == v.Canceled })
	return rapid.Custom(func(t *rapid.T) workflow.Model {
		if len(v.Plan) == 0 || len(ends) == 0 {
			t.Fatalf("a vocabulary needs a plan kind and a final kind beside the canceled one, to draw models under it")
		}
		d := &drawing{T: t, v: v, ends: ends, expressions: usable, names: map[string]bool{}}
		return d.model()
	})
}

// drawing is one model being drawn.
type drawing struct {
	*rapid.T
	v           workflow.Vocabulary
	ends        []workflow.Kind
	expressions []string
	names       map[string]bool

	m      workflow.Model
	chain  []int // indices of phases from the first to a final one, in the order of work
	asking int   // place in chain of the phase that asks whatever the facts are; -1 is none
	end    int   // place in chain of the final phase
}

// one in n is true.
func (d *drawing) oneIn(n int, label string) bool {
	return rapid.IntRange(1, n).Draw(d.T, label) == n
}

func (d *drawing) upTo(least, most int, label string) int {
	return rapid.IntRange(least, most).Draw(d.T, label)
}

func pick[E any](d *drawing, from []E, label string) E {
	return rapid.SampledFrom(from).Draw(d.T, label)
}

// some returns least to most distinct values of from, as far as there are.
func some[E comparable](d *drawing, from []E, least, most int, label string) []E {
	n := min(d.upTo(least, most, label+" count"), len(from))
	if n == 0 {
		return nil
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), n, n, rapid.ID[E]).Draw(d.T, label)
}

var words = []string{
	"draft", "intake", "triage", "idea", "assess", "qa", "board", "authorize", "second look", "waiting", "scheduled",
	"night_shift", "go-live", "wave 1", "wave 2", "roll out", "check", "post-mortem", "closed", "rejected", "done", "archive",
}

// name returns a name that nothing of the model has yet.
func (d *drawing) name(label string) string {
	name := ""
	if d.oneIn(4, label+" is odd") {
		name = rapid.StringMatching(`[a-z0-9_-]([a-z0-9 _-]{0,20}[a-z0-9_-])?`).Draw(d.T, label)
	} else {
		name = pick(d, words, label)
	}
	for i := 2; d.names[name]; i++ {
		if next := fmt.Sprintf("%s %d", name, i); !d.names[next] {
			name = next
		}
	}
	d.names[name] = true
	return name
}

func (d *drawing) model() workflow.Model {
	d.m = workflow.Model{Name: d.name("model"), Title: "A drawn model", Authority: pick(d, d.authorities(), "authority")}
	if d.m.Authority == workflow.AuthorityRetrospective {
		d.m.Retrospect = &workflow.Retrospective{
			AuthorizeWithin: d.hours("authorize within"),
			ReviewWithin:    d.hours("review within"),
		}
	}
	d.drawPhases()
	d.drawStages()
	d.drawTransitions()
	d.drawMaterial()
	d.drawDuties()
	d.drawWork()
	return d.m
}

func (d *drawing) hours(label string) workflow.Duration {
	return workflow.Duration(time.Duration(d.upTo(1, 96, label)) * time.Hour)
}

// authorities returns those that v has the kinds for.
func (d *drawing) authorities() []workflow.Authority {
	out := []workflow.Authority{workflow.AuthorityElsewhere}
	if len(d.v.Implement) > 0 {
		out = append(out, workflow.AuthorityTemplate)
		if len(d.v.Authorize) > 0 {
			// Twice, as it is the common one and has the most to go wrong.
			out = append(out, workflow.AuthorityStages, workflow.AuthorityStages)
		}
	}
	if len(d.v.Authorize) > 0 && len(d.v.Review) > 0 {
		out = append(out, workflow.AuthorityRetrospective)
	}
	return out
}
