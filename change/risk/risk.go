// Package risk has engines for the RiskPolicy hook of package change (DOMAIN 1.4):
// each looks at the facts of a change and says a level, a score where it has one,
// and why. [Max] and [Mean] combine them and keep what every one said.
//
//	policy := risk.Max(
//		risk.LeadTime(24*time.Hour),
//		risk.BlastRadius(),
//		risk.Rules(risk.Low, risk.Rule{When: `"payment" in classes`, Level: risk.High, Why: "a payment system is touched"}),
//	)
//
// In come change.Facts, out comes a change.Verdict. Engines ask nothing else: no
// clock, no network, no random source, no floating point. So the same facts give
// the same verdict, today and when a receipt is judged again with [Again].
//
// # A policy is data
//
// Every policy made here has a canonical JSON text that says all of it, what was
// left to defaults too, and [Parse] makes the same policy of it. Its version is
// the text's SHA-256. Only what contains a hook written in Go (see [Func]) has no
// text.
//
// # Refused when built
//
// Thresholds with a gap, levels that the scale does not have, conditions that do
// not compile: such a policy is refused. Constructors stand in expressions, so the
// refusal is kept: [Policy.Err] returns it, everything that is wrong at once, and
// Assess returns nothing else.
//
// # Unknown is not low
//
// What an engine cannot tell is never the lowest level. A question that is not
// answered, or not with one of its choices, gives the highest level of the scale,
// by name; a change without a window is judged as if it started now; a condition
// that cannot be evaluated is an error, on which package change refuses the
// command.
package risk

import (
	"context"
	"fmt"
	"slices"

	"github.com/rollforward/rollforward/change"
)

// Policy is a risk policy: one engine or a combination. It is immutable, safe for
// concurrent use, and implements change.RiskPolicy.
type Policy struct {
	root   node
	scale  Scale
	judge  judge
	policy change.Policy
	err    error
}

// judge is an engine that is ready to be asked.
type judge func(ctx context.Context, s *subject) (change.Verdict, error)

// subject is what one assessment is about.
type subject struct {
	change.Facts
	named map[string]any // for conditions; made when the first one asks
}

func (s *subject) values() map[string]any {
	if s.named == nil {
		s.named = s.Facts.Map()
	}
	return s.named
}

// Func returns an engine written in Go. Its level must be one of the scale, and it
// says why. It has no text: it, and a combination with it, can be judged again
// only by the program that has it. Change version whenever f changes. Any other
// change.RiskPolicy may stand in a combination as it is, under its own ID.
func Func(id, version string, f func(context.Context, change.Facts) (change.Verdict, error)) *Policy {
	var hook change.RiskPolicy
	if f != nil {
		hook = function{change.Policy{ID: id, Version: version}, f}
	}
	return build(nodeOf(hook, id), nil)
}

type function struct {
	policy change.Policy
	assess func(context.Context, change.Facts) (change.Verdict, error)
}

func (f function) Policy() change.Policy { return f.policy }

func (f function) Assess(ctx context.Context, facts change.Facts) (change.Verdict, error) {
	return f.assess(ctx, facts)
}

// Named returns p under another ID: as a policy, or as one of two engines of a
// kind in a combination.
func (p *Policy) Named(id string) *Policy {
	root := p.root
	root.ID = id
	return build(root, p.scale)
}

// On returns p on another scale. Engines of a combination are on its scale,
// whatever theirs was.
func (p *Policy) On(scale Scale) *Policy { return build(p.root, slices.Clone(scale)) }

// Err returns why p was refused when it was built, a *[PolicyError] or several
// joined; nil for a policy that can be used.
func (p *Policy) Err() error { return p.err }

// Policy says which policy this is.
func (p *Policy) Policy() change.Policy { return p.policy }

// Assess judges facts. It fails where ctx has ended, where a condition cannot be
// evaluated, where a hook fails or says what is no verdict, and always on a policy
// that was refused.
func (p *Policy) Assess(ctx context.Context, facts change.Facts) (change.Verdict, error) {
	if p.err != nil {
		return change.Verdict{}, fmt.Errorf("risk policy %q: %w", p.root.ID, p.err)
	}
	err := ctx.Err()
	var v change.Verdict
	if err == nil {
		v, err = p.judge(ctx, &subject{Facts: facts})
	}
	if err != nil {
		return change.Verdict{}, fmt.Errorf("risk policy %q: %w", p.root.ID, err)
	}
	return v, nil
}

// build makes a policy; a nil scale is the default one.
func build(root node, scale Scale) *Policy {
	p := &Policy{root: root, scale: scale}
	if p.scale == nil {
		p.scale = DefaultScale()
	}
	b := &builder{scale: p.scale}
	b.checkScale()
	p.judge = b.node(root, 0)
	text, gone := canonical(root, p.scale, b)
	if p.err = b.err(); p.err != nil {
		p.policy = change.Policy{ID: root.ID}
		return p
	}
	p.policy = change.Policy{ID: root.ID, Version: digest([]byte(text)), Text: text}
	if gone {
		p.policy.Text = ""
		if root.Go != nil {
			p.policy.Version = root.Go.Version
		}
	}
	return p
}
