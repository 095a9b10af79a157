package workflow

import (
	"slices"
	"strings"
)

// paths checks what must be true of the ways through a model.
func (c *check) paths() {
	g := c.graph
	if len(g.phases) == 0 {
		return
	}
	reached := g.walk([]int{0}, nil, g.out, g.implicit)
	var final []int
	canceled := 0
	mayCancel := ""
	for i, p := range g.phases {
		if c.v.final(p.Kind) {
			final = append(final, i)
		}
		if p.Kind == c.v.Canceled {
			canceled++
		}
		if mayCancel == "" && c.v.cancels(p.Kind) {
			mayCancel = p.Name
		}
	}
	ends := g.walk(final, nil, reversed(g.out))
	for i, p := range g.phases {
		at := atPhase(p.Name)
		if reached[i] < 0 {
			c.fault("unreachable-phase", at, "no way leads to it from the first phase %q: add a transition, or leave the phase out", g.phases[0].Name)
		}
		if c.v.final(p.Kind) {
			if len(g.out[i]) > 0 {
				c.fault("final-with-exit", at, "it is final and a transition leads out of it: leave the transition out")
			}
		} else if ends[i] < 0 {
			c.fault("dead-end", at, "it is not final and no transition leads on from it to a final phase: add one (to cancel and to return are ways out, not on; if canceling is meant, say so by a transition)")
		}
		if p.Kind == c.v.Canceled && canceled > 1 {
			c.fault("no-cancel", at, "there are %d phases of the kind %q, and canceling leads to one: keep one", canceled, c.v.Canceled)
		}
	}
	// What is neither planned nor carried out here, but was found to have happened,
	// cannot be given up.
	ours := len(g.where(c.v.Plan)) > 0 || len(g.where(c.v.Implement)) > 0
	if c.v.Canceled != "" && canceled == 0 && mayCancel != "" && ours {
		c.fault("no-cancel", "model", "an item can be canceled in %q, and no phase is of the kind %q: add one; it needs no transitions", mayCancel, c.v.Canceled)
	}
	for _, t := range c.m.Transitions {
		if from, to, ok := g.ends(t); ok && c.v.Canceled != "" && g.phases[to].Kind == c.v.Canceled && slices.Contains(c.v.Review, g.phases[from].Kind) {
			c.fault("cancel-after-review", atTransition(t), "what has come to review cannot be canceled any more: lead to another final phase")
		}
	}
	for _, circle := range g.circles(g.auto) {
		names := make([]string, len(circle))
		for k, i := range circle {
			names[k] = g.phases[i].Name
		}
		c.fault("automatic-loop", atPhase(names[0]), "automatic transitions lead in a circle over %s: make one of them manual", strings.Join(names, ", "))
	}
}

// authority checks that nothing is carried out without what the model says allows it.
func (c *check) authority() {
	g := c.graph
	if len(g.phases) == 0 {
		return
	}
	plan, implement := g.where(c.v.Plan), g.where(c.v.Implement)
	reached := g.walk([]int{0}, nil, g.out, g.implicit)
	asks := make([]bool, len(g.phases)) // always, of an authorize kind
	asking := -1                        // the first that may ask for approval
	authorized := false                 // one of asks is reached
	for _, i := range g.where(c.v.Authorize) {
		p := g.phases[i]
		asks[i] = p.always(c.stage)
		authorized = authorized || asks[i] && reached[i] >= 0
		if asking < 0 && (len(p.Stages) > 0 || p.Table != nil) {
			asking = i
		}
	}
	const rule = "implement-without-authority"
	// Whoever is in a plan phase may have come back to it, and what was approved
	// before is void: the way from every plan phase has to pass by approval.
	start := []int{0}
	for _, i := range plan {
		if reached[i] >= 0 {
			start = append(start, i)
		}
	}
	unasked := g.walk(start, func(i int) bool { return asks[i] }, g.out)

	switch c.m.Authority {
	case AuthorityStages:
		for _, i := range implement {
			if unasked[i] >= 0 {
				c.fault(rule, atPhase(g.phases[i].Name), "the way %s passes no phase that asks for approval whatever the facts are: put one between, %s", g.path(unasked, i), asksAlways)
			}
		}
	case AuthorityRetrospective:
		if !authorized {
			c.fault(rule, "authority", "it is authorised afterwards, and no phase asks for approval whatever the facts are: add one, %s", asksAlways)
		}
		if r := c.m.Retrospect; r == nil || r.AuthorizeWithin == 0 || r.ReviewWithin == 0 {
			c.fault(rule, "authority", "it is authorised afterwards, and does not say within what time it must be authorised and reviewed: set both deadlines")
		}
		unreviewed := g.walk(implement, func(i int) bool { return slices.Contains(c.v.Review, g.phases[i].Kind) }, g.out)
		for i, p := range g.phases {
			if !c.v.final(p.Kind) || p.Kind == c.v.Canceled {
				continue
			}
			// It cannot close without having been authorised, and at review not be
			// canceled any more: on such a way it would be stuck.
			if authorized && unasked[i] >= 0 {
				c.fault(rule, atPhase(p.Name), "the way %s passes no phase that asks for approval whatever the facts are, before or after: put one on it, %s", g.path(unasked, i), asksAlways)
			}
			if unreviewed[i] >= 0 {
				c.fault("no-review-before-close", atPhase(p.Name), "the way %s passes no review: put one between, since it is authorised afterwards", g.path(unreviewed, i))
			}
		}
	case AuthorityTemplate:
	case AuthorityElsewhere:
		for _, i := range implement {
			c.fault(rule, atPhase(g.phases[i].Name), "what is authorised elsewhere is recorded here and not carried out: leave the phase out, or choose another authority")
		}
	default:
		c.fault("unknown-authority", "authority", "%q is no authority: use one of %s", c.m.Authority,
			list([]Authority{AuthorityStages, AuthorityTemplate, AuthorityRetrospective, AuthorityElsewhere}))
	}

	if asking >= 0 && len(plan) == 0 && (c.m.Authority == AuthorityStages || c.m.Authority == AuthorityTemplate) {
		c.fault("return-impossible", atPhase(g.phases[asking].Name), "what is rejected here returns to planning, and there is no phase of a kind to plan in: add one")
	}
	if r := c.m.Retrospect; r != nil {
		if c.m.Authority != AuthorityRetrospective {
			c.fault("retrospective-unused", "authority", "deadlines of what is authorised afterwards are set, and the authority is %q: leave them out", c.m.Authority)
		}
		if r.AuthorizeWithin < 0 || r.ReviewWithin < 0 {
			c.fault("negative-duration", "authority", "a deadline of what is authorised afterwards is negative: set both above 0")
		}
	}
}

// asksAlways says what a phase needs in order to ask whatever the facts are.
const asksAlways = "with a stage that is not skipped or a table whose last row has no condition"

// kinds returns all kinds of v.
func (v Vocabulary) kinds() []Kind {
	all := slices.Concat(v.Plan, v.Authorize, v.Other, v.Implement, v.Review, v.Final)
	if v.Canceled != "" && !slices.Contains(all, v.Canceled) {
		all = append(all, v.Canceled)
	}
	return all
}
