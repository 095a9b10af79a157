package workflow

import (
	"slices"
	"strings"
)

// graph is the state graph of a model. Phases are numbered in their order; of two
// with one name the second is left out, and so are transitions to nowhere.
type graph struct {
	phases   []Phase
	index    map[string]int
	out      [][]int // by transitions of the model
	auto     [][]int // of these, by automatic ones
	implicit [][]int
}

func newGraph(m Model, v Vocabulary) graph {
	g := graph{index: map[string]int{}}
	for _, p := range m.Phases {
		if _, twice := g.index[p.Name]; !twice {
			g.index[p.Name] = len(g.phases)
			g.phases = append(g.phases, p)
		}
	}
	g.out = make([][]int, len(g.phases))
	g.auto = make([][]int, len(g.phases))
	g.implicit = make([][]int, len(g.phases))
	for _, t := range m.Transitions {
		if from, to, ok := g.ends(t); ok {
			g.out[from] = append(g.out[from], to)
			if t.Automatic {
				g.auto[from] = append(g.auto[from], to)
			}
		}
	}
	for _, t := range m.Implicit(v) {
		if from, to, ok := g.ends(t); ok {
			g.implicit[from] = append(g.implicit[from], to)
		}
	}
	return g
}

func (g graph) ends(t Transition) (from, to int, ok bool) {
	from, okFrom := g.index[t.From]
	to, okTo := g.index[t.To]
	return from, to, okFrom && okTo
}

// walk visits what is reached from start over edges and returns for each phase the
// one it was first reached from: itself for a start, -1 if it is not reached. It
// does not go on from where stop says so.
func (g graph) walk(start []int, stop func(int) bool, edges ...[][]int) []int {
	from := make([]int, len(g.phases))
	for i := range from {
		from[i] = -1
	}
	var queue []int
	for _, i := range start {
		if from[i] < 0 {
			from[i] = i
			queue = append(queue, i)
		}
	}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		if stop != nil && stop(i) {
			continue
		}
		for _, to := range edges {
			for _, j := range to[i] {
				if from[j] < 0 {
					from[j] = i
					queue = append(queue, j)
				}
			}
		}
	}
	return from
}

// path returns the phases by which walk came to i: "draft, implement".
func (g graph) path(from []int, i int) string {
	names := []string{g.phases[i].Name}
	for from[i] != i {
		i = from[i]
		names = append(names, g.phases[i].Name)
	}
	slices.Reverse(names)
	return strings.Join(names, ", ")
}

// where returns the phases whose kind is one of kinds.
func (g graph) where(kinds []Kind) []int {
	var out []int
	for i, p := range g.phases {
		if slices.Contains(kinds, p.Kind) {
			out = append(out, i)
		}
	}
	return out
}

func reversed(edges [][]int) [][]int {
	back := make([][]int, len(edges))
	for i, to := range edges {
		for _, j := range to {
			back[j] = append(back[j], i)
		}
	}
	return back
}

// circles returns the groups of phases that lead to each other over edges, each in
// order of the phases: Kosaraju's algorithm without recursion.
func (g graph) circles(edges [][]int) [][]int {
	var order []int // by when they were left
	state := make([]int, len(edges))
	for root := range edges {
		if state[root] != 0 {
			continue
		}
		stack := []int{root}
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			if state[i] > len(edges[i]) { // all done
				stack = stack[:len(stack)-1]
				continue
			}
			state[i]++ // how many ways were taken, plus one
			if state[i] > len(edges[i]) {
				order = append(order, i)
				continue
			}
			if j := edges[i][state[i]-1]; state[j] == 0 {
				stack = append(stack, j)
			}
		}
	}
	back := reversed(edges)
	group := make([]bool, len(edges))
	var circles [][]int
	for _, root := range slices.Backward(order) {
		if group[root] {
			continue
		}
		group[root] = true
		members := []int{root}
		for k := 0; k < len(members); k++ {
			for _, j := range back[members[k]] {
				if !group[j] {
					group[j] = true
					members = append(members, j)
				}
			}
		}
		if len(members) > 1 || slices.Contains(edges[root], root) {
			slices.Sort(members)
			circles = append(circles, members)
		}
	}
	slices.SortFunc(circles, slices.Compare)
	return circles
}
