package risk

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
)

// Max is a combination: the highest level of its engines, which are of this
// package or any other change.RiskPolicy. Of several engines with that level the
// first says the score. The verdict has what every engine said; an engine that is
// a combination itself is followed by its own, under "its/name".
func Max(engines ...change.RiskPolicy) *Policy {
	e := &highest{}
	for _, p := range engines {
		e.Engines = append(e.Engines, nodeOf(p, "nothing"))
	}
	return build(node{ID: "max", Max: e}, nil)
}

// Weighted is an engine of [Mean] with its weight.
type Weighted struct {
	Engine change.RiskPolicy
	Weight string // an exact decimal above 0; empty is 1
}

// Mean is a combination: the weighted mean of the ranks of its engines' levels, 1
// for the lowest of the scale, of which any fraction rounds up. The score is that
// mean. Like [Max] it has what every engine said.
func Mean(engines ...Weighted) *Policy {
	e := &mean{}
	for _, p := range engines {
		e.Parts = append(e.Parts, part{p.Weight, nodeOf(p.Engine, "nothing")})
	}
	return build(node{ID: "mean", Mean: e}, nil)
}

type highest struct {
	Engines []node `json:"engines"`
}

type mean struct {
	Parts []part `json:"parts"`
}

type part struct {
	Weight string `json:"weight,omitzero"`
	Engine node   `json:"engine"`
}

func (e *highest) build(b *builder, depth int) judge {
	ask := b.engines(e.Engines, nil, depth)
	scale := b.scale
	return func(ctx context.Context, s *subject) (change.Verdict, error) {
		all, v, err := ask(ctx, s)
		if err != nil {
			return change.Verdict{}, err
		}
		top := 0
		for i := range all {
			if scale.rank(all[i].Level) > scale.rank(all[top].Level) {
				top = i
			}
		}
		v.By, v.Level, v.Score = "max", all[top].Level, copied(all[top].Score)
		for i, said := range all {
			if said.Level == v.Level {
				v.Why = append(v.Why, because(e.Engines[i].ID, said.Why)...)
			}
		}
		return v, nil
	}
}

func (e *mean) build(b *builder, depth int) judge {
	engines := make([]node, len(e.Parts))
	weights := make([]*apd.Decimal, len(e.Parts))
	for i, p := range e.Parts {
		engines[i], weights[i] = p.Engine, b.weight(fmt.Sprintf("engine %q", p.Engine.ID), p.Weight)
	}
	ask := b.engines(engines, weights, depth)
	scale := b.scale
	return func(ctx context.Context, s *subject) (change.Verdict, error) {
		all, v, err := ask(ctx, s)
		if err != nil {
			return change.Verdict{}, err
		}
		ranks := make([]int64, len(all))
		for i, said := range all {
			ranks[i] = int64(scale.rank(said.Level))
		}
		a, err := averaged(ranks, weights, len(scale))
		if err != nil {
			return change.Verdict{}, err
		}
		v.By, v.Level, v.Score = "mean", scale[a.up-1], a.score
		v.Why = []string{fmt.Sprintf("the weighted mean of %d engines is %s, which is level %d of %d: %s", len(all), a, a.up, len(scale), v.Level)}
		for i, said := range all {
			v.Why = append(v.Why, because(engines[i].ID, said.Why)...)
		}
		return v, nil
	}
}

// because says who gave a reason.
func because(engine string, why []string) []string {
	all := make([]string, len(why))
	for i, w := range why {
		all[i] = engine + ": " + w
	}
	return all
}

// engines builds the engines of a combination and returns what asks them all: what
// each said, and a verdict with that and with the highest probability of failure
// that one of them gave.
func (b *builder) engines(list []node, weights []*apd.Decimal, depth int) func(context.Context, *subject) ([]change.Verdict, change.Verdict, error) {
	b.count("engines", len(list), maxNodes)
	seen := map[string]bool{}
	judges := make([]judge, len(list))
	for i, n := range list {
		b.twice(seen, "engine", n.ID)
		judges[i] = b.node(n, depth+1)
	}
	return func(ctx context.Context, s *subject) (all []change.Verdict, v change.Verdict, err error) {
		for i, judge := range judges {
			if err := ctx.Err(); err != nil {
				return nil, v, err
			}
			said, err := judge(ctx, s)
			if err != nil {
				return nil, v, fmt.Errorf("engine %q: %w", list[i].ID, err)
			}
			all = append(all, said)
			one := change.EngineVerdict{Engine: list[i].ID, Level: said.Level, Score: copied(said.Score), Why: slices.Clone(said.Why)}
			if weights != nil {
				one.Weight = copied(weights[i])
			}
			v.Engines = append(v.Engines, one)
			for _, below := range said.Engines {
				below.Engine = list[i].ID + "/" + below.Engine
				v.Engines = append(v.Engines, below)
			}
			if said.Failure != nil && (v.Failure == nil || said.Failure.Cmp(v.Failure) > 0) {
				v.Failure = copied(said.Failure)
			}
		}
		return all, v, nil
	}
}

func copied(d *apd.Decimal) *apd.Decimal {
	if d == nil {
		return nil
	}
	return new(apd.Decimal).Set(d)
}

// build checks a hook, and that what it says is a verdict: only an engine of this
// package is known to say nothing else.
func (h *hook) build(b *builder, _ int) judge {
	if h.policy == nil {
		b.refuse("no-engine", "there is no engine: give one")
		return nil
	}
	b.text("the version", h.Version)
	if h.Version == "" {
		b.refuse("no-version", "it has no version: a receipt must say which one judged")
	}
	scale := b.scale
	return func(ctx context.Context, s *subject) (change.Verdict, error) {
		v, err := h.policy.Assess(ctx, s.Facts)
		if err != nil {
			return change.Verdict{}, err
		}
		switch {
		case scale.rank(v.Level) == 0:
			err = fmt.Errorf("%w: level %q is not on the scale %s", ErrVerdict, v.Level, scale)
		case len(v.Why) == 0:
			err = fmt.Errorf("%w: it does not say why", ErrVerdict)
		case v.Score != nil && v.Score.Form != apd.Finite:
			err = fmt.Errorf("%w: the score is %s", ErrVerdict, v.Score)
		case v.Failure != nil && (v.Failure.Form != apd.Finite || v.Failure.Sign() < 0 || v.Failure.Cmp(apd.New(1, 0)) > 0):
			err = fmt.Errorf("%w: the probability of failure is %s, not 0 to 1", ErrVerdict, v.Failure)
		}
		return v, err
	}
}
