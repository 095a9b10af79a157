package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/eventstore/command"
)

// PriorityPolicy is the hook that ranks the backlog. It returns the rank, the
// higher the sooner, or nil and why a change cannot be ranked.
type PriorityPolicy interface {
	Priority(ctx context.Context, c Change) (rank *apd.Decimal, unranked string, err error)
}

// StandardPriority is benefit x (1 - failure probability) x urgency / cost, in 34
// significant digits (DOMAIN 1.2). The failure probability is that of the risk
// policy, or else the one estimated in the change. What is missing leaves a change
// unranked: it is never taken for zero.
type StandardPriority struct{}

// Priority ranks c.
func (StandardPriority) Priority(_ context.Context, c Change) (*apd.Decimal, string, error) {
	failure := c.Failure
	if c.Risk != nil && c.Risk.Verdict.Failure != nil {
		failure = c.Risk.Verdict.Failure
	}
	var missing []string
	for _, f := range []struct {
		name string
		v    *apd.Decimal
	}{{"benefit", c.Benefit}, {"failure probability", failure}, {"urgency", c.Urgency}, {"cost", c.Cost}} {
		if f.v == nil {
			missing = append(missing, f.name)
		}
	}
	if len(missing) > 0 {
		return nil, "it has no " + strings.Join(missing, ", no "), nil
	}
	if c.Cost.Sign() == 0 {
		return nil, "its cost is 0", nil
	}
	exact := apd.BaseContext.WithPrecision(34)
	var rank apd.Decimal
	for _, step := range []func() (apd.Condition, error){
		func() (apd.Condition, error) { return exact.Sub(&rank, apd.New(1, 0), failure) },
		func() (apd.Condition, error) { return exact.Mul(&rank, &rank, c.Benefit) },
		func() (apd.Condition, error) { return exact.Mul(&rank, &rank, c.Urgency) },
		func() (apd.Condition, error) { return exact.Quo(&rank, &rank, c.Cost) },
	} {
		if _, err := step(); err != nil {
			return nil, "", fmt.Errorf("priority of change %q: %w", c.ID, err)
		}
	}
	rank.Reduce(&rank)
	return &rank, "", nil
}

// Ranked is a change in the backlog. Rank is nil where it is unranked.
type Ranked struct {
	Change   Change
	Rank     *apd.Decimal
	Unranked string // why
}

// Backlog returns the open changes whose work has not begun, without those that
// were found to have happened: the ranked ones, the first to do first, and apart
// from them those that cannot be ranked, by ID. It costs one pass over the open
// changes.
func (s *Service) Backlog(ctx context.Context) (ranked, unranked []Ranked, err error) {
	open, err := s.List(ctx, Filter{Open: true})
	if err != nil {
		return nil, nil, err
	}
	for _, c := range open {
		m, err := s.modelAt(ctx, c.Model, c.ModelVersion)
		if err != nil {
			return nil, nil, err
		}
		if !m.plans() || c.Started != nil || c.Kind == KindImplement || c.Kind == KindReview {
			continue
		}
		r, err := command.Hook(ctx, s.door, "priority policy", func(ctx context.Context) (Ranked, error) {
			rank, why, err := s.priority.Priority(ctx, c)
			if err == nil && rank == nil && why == "" {
				err = errors.New("it gave no rank, and no reason for that")
			}
			return Ranked{c, rank, why}, err
		})
		switch {
		case err != nil:
			return nil, nil, err
		case r.Rank == nil:
			unranked = append(unranked, r)
		default:
			ranked = append(ranked, r)
		}
	}
	slices.SortStableFunc(ranked, func(a, b Ranked) int { return b.Rank.Cmp(a.Rank) })
	return ranked, unranked, nil
}
