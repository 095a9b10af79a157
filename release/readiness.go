package release

import (
	"fmt"
	"math/big"
	"time"

	"github.com/rollforward/rollforward/eventstore/command"
)

// Readiness is what the risk that a release will not be ready is computed from:
// the phase that it is in.
type Readiness struct {
	Tasks  int       `json:"tasks"`        // of the phase
	Closed int       `json:"closed"`       // of these
	Runs   int       `json:"runs"`         // completed runs of gates and policies
	Failed int       `json:"failed"`       // of these
	Due    time.Time `json:"due,omitzero"` // when it is to be ready; zero: no date
}

// ReadinessRisk is how likely it is that a release will not be ready, from 0 to
// 100, and why.
type ReadinessRisk struct {
	Score int      `json:"score"`
	Why   []string `json:"why"` // a sentence for each part
}

const readinessDays = 14 // before its date a release comes under pressure

// Risk computes the readiness risk at a time (DOMAIN 3). Every part is a fraction
// from 0 to 1:
//
//	work      tasks that are not closed; 0 with at most one task
//	policy    runs that failed; 0 without runs
//	progress  1 - (closed / tasks) / 0.2, at least 0; 0 without tasks
//	time      1 - days left / 14; 1 when the date is past, 0 with 14 days or more
//
// and the risk is 100 x (0.3 work + 0.4 policy + 0.1 progress + 0.2 time), or
// without a date 100 x (0.5 work + 0.4 policy + 0.1 progress), half rounded up. A
// day is 24 hours, and parts of days count. The arithmetic is exact: it is one of
// fractions.
func (r Readiness) Risk(now time.Time) (ReadinessRisk, error) {
	var f faults
	for _, n := range []struct {
		field string
		value int
	}{{"tasks", r.Tasks}, {"closed", r.Closed}, {"runs", r.Runs}, {"failed", r.Failed}} {
		if n.value < 0 {
			f.add(n.field, "negative-count", "it is %d", "count from 0", n.value)
		}
	}
	if r.Closed > r.Tasks {
		f.add("closed", "more-than-all", "%d of %d tasks are closed", "count those of the same phase", r.Closed, r.Tasks)
	}
	if r.Failed > r.Runs {
		f.add("failed", "more-than-all", "%d of %d runs failed", "count those of the same phase", r.Failed, r.Runs)
	}
	if err := command.Refuse(f...); err != nil {
		return ReadinessRisk{}, err
	}
	zero, one := new(big.Rat), big.NewRat(1, 1)
	work, policy, progress := new(big.Rat), new(big.Rat), new(big.Rat)
	if r.Tasks > 0 {
		closed := big.NewRat(int64(r.Closed), int64(r.Tasks))
		if r.Tasks > 1 {
			work.Sub(one, closed)
		}
		progress = between(zero, progress.Sub(one, closed.Mul(closed, big.NewRat(5, 1))), one)
	}
	if r.Runs > 0 {
		policy = big.NewRat(int64(r.Failed), int64(r.Runs))
	}
	parts := []struct {
		weight int64 // in percent
		part   *big.Rat
		why    string
	}{
		{50, work, fmt.Sprintf("work: %d of %d tasks are closed", r.Closed, r.Tasks)},
		{40, policy, fmt.Sprintf("policy: %d of %d runs failed", r.Failed, r.Runs)},
		{10, progress, "progress: a fifth of the tasks is looked for"},
	}
	if !r.Due.IsZero() {
		parts[0].weight = 30
		left := r.Due.Sub(now)
		pressure := new(big.Rat).Sub(one, new(big.Rat).SetFrac64(int64(left), int64(readinessDays*24*time.Hour)))
		why := fmt.Sprintf("time: %v are left until %s", left.Round(time.Minute), clock(r.Due))
		if left <= 0 {
			why = "time: the date is past, " + clock(r.Due)
		}
		parts = append(parts, parts[0])
		parts[3].weight, parts[3].part, parts[3].why = 20, between(zero, pressure, one), why
	}
	var risk ReadinessRisk
	sum := new(big.Rat)
	for _, p := range parts {
		sum.Add(sum, new(big.Rat).Mul(p.part, big.NewRat(p.weight, 1)))
		risk.Why = append(risk.Why, fmt.Sprintf("%s, which is %s, with a weight of %d%%", p.why, p.part.RatString(), p.weight))
	}
	risk.Score = halfUp(between(zero, sum, big.NewRat(100, 1)))
	return risk, nil
}

func between(low, x, high *big.Rat) *big.Rat {
	switch {
	case x.Cmp(low) < 0:
		return low
	case x.Cmp(high) > 0:
		return high
	}
	return x
}

// halfUp rounds what is not negative to a whole number.
func halfUp(x *big.Rat) int {
	twice := new(big.Int).Add(new(big.Int).Lsh(x.Num(), 1), x.Denom()) // (2n + d) / 2d
	return int(twice.Quo(twice, new(big.Int).Lsh(x.Denom(), 1)).Int64())
}
