package cmdb

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore"
)

// What was asked about is not there: the answer is unknown, not empty.
var (
	ErrUnknownCI       = errors.New("unknown CI")            // *UnknownError; there never was one, or it is retired
	ErrUnknownRelation = errors.New("unknown relation type") // *UnknownError
)

// UnknownError says what is not there.
type UnknownError struct {
	Kind    error    // ErrUnknownCI or ErrUnknownRelation
	Names   []string // there never were such
	Retired []string // there were such CIs
}

func (e *UnknownError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", e.Kind)
	if len(e.Names) > 0 {
		fmt.Fprintf(&b, ": there is no %s", quoted(e.Names))
	}
	if len(e.Retired) > 0 {
		fmt.Fprintf(&b, ": retired is %s", quoted(e.Retired))
	}
	return b.String()
}

func (e *UnknownError) Is(target error) bool { return target == e.Kind }

// ImpactOption narrows an impact.
type ImpactOption func(*impactQuery)

type impactQuery struct {
	depth   int // of a limited one
	limited bool
	through []string
}

// Depth follows impact so many steps at most; without it there is no limit. What
// lies one step beyond is not looked at, pools that would be degraded included.
func Depth(steps int) ImpactOption {
	return func(q *impactQuery) { q.depth, q.limited = steps, true }
}

// Through follows only relations of these types, by either of their names.
func Through(relations ...string) ImpactOption {
	return func(q *impactQuery) { q.through = append(q.through, relations...) }
}

// Impact is what is reached from some CIs.
type Impact struct {
	From     []string
	Reached  []Reached  // nearest first, then by ID; without From
	Degraded []Degraded // pools that lost members and still have enough, by ID
	Position eventstore.Position
}

// Reached is a CI that impact reaches, by one shortest path.
type Reached struct {
	CI    CI
	Depth int    // steps from the nearest of From
	Path  []Step // from one of From to it; paths share memory and are to be read only
}

// Step is one relation on a path.
type Step struct {
	From     string `json:"from"`     // the CI nearer to the cause
	Relation string `json:"relation"` // read from From to To: "used by"
	To       string `json:"to"`
}

// Degraded is a pool that lost members and still has enough: redundancy lost.
type Degraded struct {
	CI      string `json:"ci"`
	Members int    `json:"members"` // in the pool
	Failed  int    `json:"failed"`  // of them
	Spare   int    `json:"spare"`   // how many more may fail
}

// Impact follows the relations that carry impact from the given CIs, all of
// which fail or change at once. CIs that there are not, or that are retired, are
// an error: unknown is not clear. Retired CIs take no part.
//
// Down, a CI is reached when one that it hangs on is. A pool that says how many
// members must be up ([AttrMinUp]) is reached by them only when more failed than
// it can lose: with N living members, minUp = count or N x percent / 100, when
// failed > max(0, N - minUp). Up ignores pools: what a CI needs is every member.
//
// It costs what is reached and the relations of that, and nothing of the graph beyond.
func (g *Graph) Impact(from []string, direction Direction, options ...ImpactOption) (Impact, error) {
	var q impactQuery
	for _, option := range options {
		option(&q)
	}
	sources, err := g.living(from)
	if err != nil {
		return Impact{}, err
	}
	w := walk{g: g, up: direction == Up, seen: map[*node]*visit{}, pools: map[*node]*pool{}}
	if err := w.restrict(q.through); err != nil {
		return Impact{}, err
	}
	impact := Impact{Position: g.position}
	frontier := make([]*visit, 0, len(sources))
	for _, n := range sources {
		impact.From = append(impact.From, n.id)
		v := &visit{node: n}
		w.seen[n] = v
		frontier = append(frontier, v)
	}
	for depth := 1; len(frontier) > 0 && (!q.limited || depth <= q.depth); depth++ {
		frontier = w.next(frontier)
		for _, v := range frontier {
			impact.Reached = append(impact.Reached, Reached{CI: v.node.ci(), Depth: depth, Path: slices.Clip(v.path)})
		}
	}
	impact.Degraded = w.degraded()
	return impact, nil
}

// living returns the nodes of IDs, each once, by ID; or an *UnknownError.
func (g *Graph) living(ids []string) ([]*node, error) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	nodes := make([]*node, 0, len(ids))
	unknown := &UnknownError{Kind: ErrUnknownCI}
	for _, id := range ids {
		switch n := g.nodes[id]; {
		case n == nil || len(n.lives) == 0:
			unknown.Names = append(unknown.Names, id)
		case !n.alive():
			unknown.Retired = append(unknown.Retired, id)
		default:
			nodes = append(nodes, n)
		}
	}
	if unknown.Names != nil || unknown.Retired != nil {
		return nil, unknown
	}
	return nodes, nil
}

// walk is one breadth-first walk along impact.
type walk struct {
	g       *Graph
	up      bool
	through map[string]struct{} // names of relation types; nil is all
	seen    map[*node]*visit
	pools   map[*node]*pool
}

// visit is a CI that was reached.
type visit struct {
	node  *node
	from  *visit
	label string // of the relation, read from from
	path  []Step
	grown bool // the path of a further CI stands behind path
}

// pool is a pool that lost members.
type pool struct {
	members   int // living ones
	threshold int
	failed    map[*node]struct{}
	waiting   *visit // how it would be reached in this round
}

func (w *walk) restrict(relations []string) error {
	if len(relations) == 0 {
		return nil
	}
	w.through = map[string]struct{}{}
	unknown := &UnknownError{Kind: ErrUnknownRelation}
	for _, name := range relations {
		s, ok := w.g.schema.sides[name]
		if !ok {
			unknown.Names = append(unknown.Names, name)
			continue
		}
		w.through[s.relation.Name] = struct{}{}
	}
	if unknown.Names != nil {
		return unknown
	}
	return nil
}

// next returns what is reached one step beyond the frontier, by ID. The frontier
// is sorted by ID and each CI is reached from its first in that order, by the
// relation first in name, so the order of adjacencies does not matter.
func (w *walk) next(frontier []*visit) []*visit {
	found := map[*node]*visit{}
	var touched []*pool
	for _, v := range frontier {
		w.follow(v, func(n *node, r RelationType, label string) {
			if w.seen[n] != nil {
				return
			}
			candidate := &visit{node: n, from: v, label: label}
			if r.Pooled && !w.up {
				p := w.pool(n)
				if p != nil {
					p.failed[v.node] = struct{}{}
					if p.waiting == nil {
						touched = append(touched, p)
					}
					p.waiting = candidate.before(p.waiting)
					return
				}
			}
			found[n] = candidate.before(found[n])
		})
	}
	for _, p := range touched {
		if len(p.failed) > p.threshold {
			found[p.waiting.node] = p.waiting.before(found[p.waiting.node])
		}
		p.waiting = nil
	}
	next := make([]*visit, 0, len(found))
	for n, v := range found {
		w.seen[n] = v
		next = append(next, v)
	}
	slices.SortFunc(next, func(a, b *visit) int { return strings.Compare(a.node.id, b.node.id) })
	for _, v := range next {
		v.extend()
	}
	return next
}

// before returns the one of v and other by which a CI is reached.
func (v *visit) before(other *visit) *visit {
	if other == nil || cmp.Or(strings.Compare(v.from.node.id, other.from.node.id), strings.Compare(v.label, other.label)) < 0 {
		return v
	}
	return other
}

// extend makes the path of v: behind that of the CI it was reached from if
// nobody else's stands there, so that a long chain costs its length and not the
// square of it.
func (v *visit) extend() {
	step := Step{v.from.node.id, v.label, v.node.id}
	if v.from.grown {
		v.path = append(slices.Clone(v.from.path), step)
	} else {
		v.from.grown = true
		v.path = append(v.from.path, step)
	}
}

// follow calls f for every CI that is one step from v.
func (w *walk) follow(v *visit, f func(n *node, r RelationType, label string)) {
	for _, t := range v.node.out.living() {
		if r, ok := w.relation(t); ok && (r.Impact == Both || r.Impact == Forward && !w.up || r.Impact == Backward && w.up) {
			f(t.to, r, r.Name)
		}
	}
	for _, t := range v.node.in.living() {
		if r, ok := w.relation(t); ok && (r.Impact == Both || r.Impact == Backward && !w.up || r.Impact == Forward && w.up) {
			f(t.from, r, r.Inverse)
		}
	}
}

func (w *walk) relation(t *tie) (RelationType, bool) {
	if w.through != nil {
		if _, ok := w.through[t.relation]; !ok {
			return RelationType{}, false
		}
	}
	r, ok := w.g.schema.relations[t.relation]
	return r.def, ok
}

// pool returns what is known of the losses of n, nil if n does not say how many
// of its members must be up, or says it in no way that can be read.
func (w *walk) pool(n *node) *pool {
	if p, ok := w.pools[n]; ok {
		return p
	}
	var p *pool
	if m, err := parseMinUp(n.attribute(AttrMinUp)); err == nil {
		p = &pool{members: w.g.members(n), failed: map[*node]struct{}{}}
		p.threshold = m.threshold(p.members)
	}
	w.pools[n] = p
	return p
}

// members returns how many living members a pool has, a CI in several relations to it once.
func (g *Graph) members(n *node) int {
	members := map[*node]struct{}{}
	for _, t := range n.in.living() {
		if r, ok := g.schema.relations[t.relation]; ok && r.def.Pooled && (r.def.Impact == Forward || r.def.Impact == Both) {
			members[t.from] = struct{}{}
		}
	}
	for _, t := range n.out.living() {
		if r, ok := g.schema.relations[t.relation]; ok && r.def.Pooled && (r.def.Impact == Backward || r.def.Impact == Both) {
			members[t.to] = struct{}{}
		}
	}
	return len(members)
}

// degraded returns the pools that lost members and were not reached, by ID.
func (w *walk) degraded() []Degraded {
	var all []Degraded
	for n, p := range w.pools {
		if p != nil && w.seen[n] == nil {
			all = append(all, Degraded{CI: n.id, Members: p.members, Failed: len(p.failed), Spare: p.threshold - len(p.failed)})
		}
	}
	slices.SortFunc(all, func(a, b Degraded) int { return strings.Compare(a.CI, b.CI) })
	return all
}
