package cmdb

import (
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Projection declares the graph to a follower. registry has the types of every
// event that carries deltas.
func Projection(registry *eventstore.Registry) follow.Projection[*Graph] { panic("stub") }

// Graph is the CMDB as a fold. In a View it is to be read only. Costs: CI by ID
// is one look-up; impact and neighbourhoods grow with what is reached.
type Graph struct{}

// CI returns a copy of the CI of that ID; ok is false if there never was one.
func (g *Graph) CI(id string) (ci CI, ok bool) { panic("stub") }

// Check returns what stands in the way of deltas, taken in order, on the graph
// as it stands: nothing if they can be decided.
func (g *Graph) Check(deltas []Delta) []Problem { panic("stub") }

// Problem is one precondition or rule that a delta breaks.
type Problem struct {
	Delta  int    // index
	Rule   string // "unknown-ci", "precondition-failed", ...
	CI     string
	Reason string
	Remedy string
}

// Impact follows the relations that carry impact from the given CIs, all of
// which fail or change at once. CIs that there are not, or that are retired, are
// an error: unknown is not clear.
func (g *Graph) Impact(from []string, direction Direction, options ...ImpactOption) (Impact, error) {
	panic("stub")
}

// ImpactOption narrows an impact.
type ImpactOption func(*impactQuery)

type impactQuery struct{}

// Impact is what is reached from some CIs.
type Impact struct {
	From     []string
	Reached  []Reached  // nearest first, then by ID; without From
	Degraded []Degraded // pools that lost members and still have enough
	Position eventstore.Position
}

// Reached is a CI that impact reaches, by one shortest path.
type Reached struct {
	CI    CI
	Depth int    // steps from the nearest of From
	Path  []Step // from one of From to it
}

// Step is one relation on a path.
type Step struct {
	From     string // the CI nearer to the cause
	Relation string // read from From to To: "used by"
	To       string
}

// Degraded is a pool that lost members and still has enough: redundancy lost.
type Degraded struct {
	CI      string
	Members int // in the pool
	Failed  int // of them
	Spare   int // how many more may fail
}
