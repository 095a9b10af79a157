package schedule

import (
	"cmp"
	"hash/fnv"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
)

// span is an interval in microseconds since 1970, half open, which is as fine as
// times are recorded.
type span struct{ start, end int64 }

func spanOf(w change.Window) span {
	s := span{w.Start.UnixMicro(), w.End.UnixMicro()}
	if s.end <= s.start {
		s.end = s.start + 1 // an instant
	}
	return s
}

// wider returns s with so many microseconds more at either end.
func (s span) wider(by int64) span { return span{s.start - by, s.end + by} }

func (s span) overlaps(o span) bool { return s.start < o.end && o.start < s.end }

// overlap returns what two windows have in common; where they only touch, the
// instant at which they do.
func overlap(a, b change.Window) change.Window {
	w := change.Window{Start: later(a.Start, b.Start), End: earlier(a.End, b.End)}
	if w.End.Before(w.Start) {
		w.End = w.Start
	}
	return w
}

func micro(t int64) time.Time { return time.UnixMicro(t).UTC() }

// tree is the entries of one CI, person, team or delta by their time: a treap,
// ordered by start, end and change, in which each node knows the last end below
// it. Its shape follows from what is in it alone. A query costs the logarithm of
// what is in it and what it finds.
type tree struct {
	root *treeNode
	n    int
}

type treeNode struct {
	span
	entry       *Scheduled
	last        int64 // end of all below
	weight      uint64
	left, right *treeNode
}

func (n *treeNode) compare(s span, id string) int {
	return cmp.Or(cmp.Compare(n.start, s.start), cmp.Compare(n.end, s.end), strings.Compare(n.entry.Change, id))
}

func (n *treeNode) pull() *treeNode {
	n.last = n.end
	for _, child := range []*treeNode{n.left, n.right} {
		if child != nil {
			n.last = max(n.last, child.last)
		}
	}
	return n
}

func weight(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	x := h.Sum64() // IDs that follow each other have sums that do
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (t *tree) insert(e *Scheduled) {
	t.n++
	t.root = insertNode(t.root, &treeNode{span: spanOf(*e.Window), entry: e, weight: weight(e.Change)})
}

func insertNode(n, added *treeNode) *treeNode {
	switch {
	case n == nil:
		return added.pull()
	case added.weight > n.weight:
		added.left, added.right = split(n, added.span, added.entry.Change)
		return added.pull()
	case n.compare(added.span, added.entry.Change) > 0:
		n.left = insertNode(n.left, added)
	default:
		n.right = insertNode(n.right, added)
	}
	return n.pull()
}

// split parts n into what lies before and behind a key.
func split(n *treeNode, s span, id string) (before, behind *treeNode) {
	if n == nil {
		return nil, nil
	}
	if n.compare(s, id) < 0 {
		n.right, behind = split(n.right, s, id)
		return n.pull(), behind
	}
	before, n.left = split(n.left, s, id)
	return before, n.pull()
}

func merge(a, b *treeNode) *treeNode {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.weight > b.weight:
		a.right = merge(a.right, b)
		return a.pull()
	}
	b.left = merge(a, b.left)
	return b.pull()
}

func (t *tree) remove(e *Scheduled) {
	removed := false
	t.root, removed = removeNode(t.root, spanOf(*e.Window), e.Change)
	if removed {
		t.n--
	}
}

func removeNode(n *treeNode, s span, id string) (*treeNode, bool) {
	if n == nil {
		return nil, false
	}
	removed := true
	switch c := n.compare(s, id); {
	case c == 0:
		return merge(n.left, n.right), true
	case c > 0:
		n.left, removed = removeNode(n.left, s, id)
	default:
		n.right, removed = removeNode(n.right, s, id)
	}
	return n.pull(), removed
}

// overlapping yields the entries that have some time in s, by their start, until
// yield returns false. A tree that is nil is empty.
func (t *tree) overlapping(s span, yield func(*Scheduled) bool) {
	if t != nil {
		walkOverlapping(t.root, s, yield)
	}
}

func walkOverlapping(n *treeNode, s span, yield func(*Scheduled) bool) bool {
	if n == nil || n.last <= s.start {
		return true
	}
	if !walkOverlapping(n.left, s, yield) {
		return false
	}
	if n.start >= s.end {
		return true
	}
	if n.end > s.start && !yield(n.entry) {
		return false
	}
	return walkOverlapping(n.right, s, yield)
}

// before yields the entries that start before t, the latest start first, until
// yield returns false.
func (t *tree) before(at int64, yield func(*Scheduled) bool) {
	if t != nil {
		walkBefore(t.root, at, yield)
	}
}

func walkBefore(n *treeNode, at int64, yield func(*Scheduled) bool) bool {
	if n == nil {
		return true
	}
	if n.start >= at {
		return walkBefore(n.left, at, yield)
	}
	return walkBefore(n.right, at, yield) && yield(n.entry) && walkBefore(n.left, at, yield)
}

// from yields the entries that start at t or later, the earliest first, until
// yield returns false.
func (t *tree) from(at int64, yield func(*Scheduled) bool) {
	if t != nil {
		walkFrom(t.root, at, yield)
	}
}

func walkFrom(n *treeNode, at int64, yield func(*Scheduled) bool) bool {
	if n == nil {
		return true
	}
	if n.start < at {
		return walkFrom(n.right, at, yield)
	}
	return walkFrom(n.left, at, yield) && yield(n.entry) && walkFrom(n.right, at, yield)
}

// trees are trees by what they are about; one that becomes empty is left out.
type trees map[string]*tree

func (t trees) insert(key string, e *Scheduled) {
	if t[key] == nil {
		t[key] = &tree{}
	}
	t[key].insert(e)
}

func (t trees) remove(key string, e *Scheduled) {
	if one := t[key]; one != nil {
		if one.remove(e); one.n == 0 {
			delete(t, key)
		}
	}
}
