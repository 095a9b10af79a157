package cmdb_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
)

// drawDelta draws a delta over few CIs, so that most histories hit what is there,
// what was there and what never was.
func drawDelta(t *rapid.T) cmdb.Delta {
	ci := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
	text := rapid.SampledFrom([]string{"", "1", "2"})
	relation := rapid.SampledFrom([]string{"depends on", "connects to", "member of"})
	switch rapid.SampledFrom([]string{"add", "add", "set", "set", "set", "retire", "relate", "relate", "relate", "unrelate", "nonsense"}).Draw(t, "op") {
	case "add":
		return cmdb.Add(ci.Draw(t, "ci"), "server", cmdb.Attr("version", text.Draw(t, "version")), cmdb.Attr("os", "linux"))
	case "set":
		return cmdb.Set(ci.Draw(t, "ci"), rapid.SampledFrom([]string{"version", "owner", "serial"}).Draw(t, "attribute"), text.Draw(t, "before"), text.Draw(t, "after"))
	case "retire":
		return cmdb.Retire(ci.Draw(t, "ci"))
	case "relate":
		return cmdb.Relate(ci.Draw(t, "ci"), relation.Draw(t, "relation"), ci.Draw(t, "to"))
	case "unrelate":
		return cmdb.Unrelate(ci.Draw(t, "ci"), relation.Draw(t, "relation"), ci.Draw(t, "to"))
	}
	return cmdb.Delta{Op: cmdb.Op(rapid.SampledFrom([]string{"", "paint", "set", "relate"}).Draw(t, "nonsense")), CI: rapid.SampledFrom([]string{"", "a"}).Draw(t, "ci")}
}

// drawLog draws a log of n events of every kind that the graph folds.
func drawLog(t *rapid.T, w *written, n int) {
	for i := range n {
		switch rapid.IntRange(0, 9).Draw(t, "event") {
		case 0:
			w.add("note-1", noted{"in between"})
		case 1:
			w.add("classes", cmdb.ClassDefined{Class: cmdb.Class{Name: rapid.SampledFrom([]string{"server", "printer"}).Draw(t, "class"), Parent: "item",
				Attributes: []cmdb.AttributeSchema{{Name: "serial", Type: cmdb.TypeString, Unique: rapid.Bool().Draw(t, "unique"), Title: fmt.Sprint(i)}}}})
		case 2:
			w.add("classes", cmdb.RelationDefined{Relation: cmdb.RelationType{Name: "depends on", Inverse: "used by", Impact: rapid.SampledFrom([]cmdb.Flow{cmdb.Forward, cmdb.Backward, cmdb.Both}).Draw(t, "flow")}})
		case 3:
			o := cmdb.Observed{Source: rapid.SampledFrom([]string{"netbox", "nmap"}).Draw(t, "source"), Deltas: rapid.SliceOfN(rapid.Custom(drawDelta), 0, 3).Draw(t, "deltas")}
			for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"1", "2", "3"}), 0, 2, rapid.ID).Draw(t, "keys") {
				if rapid.Bool().Draw(t, "gone") {
					o.Gone = append(o.Gone, key)
				} else {
					o.Items = append(o.Items, cmdb.ObservedKey{Key: key, CI: fmt.Sprint("a", i)})
				}
			}
			w.add("source-"+o.Source, o)
		case 4:
			w.add("change-1", applied{fmt.Sprint("CHG-", i), rapid.SliceOfN(rapid.Custom(drawDelta), 0, 4).Draw(t, "deltas")})
		default:
			w.deltas(rapid.SliceOfN(rapid.Custom(drawDelta), 1, 3).Draw(t, "deltas")...)
		}
	}
}

// shuffled delivers records as a broker may: each up to window places from where
// it stands, and some of them again.
func shuffled(random *rand.Rand, records []eventstore.Recorded, window int) []eventstore.Recorded {
	type delivery struct {
		at int
		r  eventstore.Recorded
	}
	var all []delivery
	for i, r := range records {
		all = append(all, delivery{i + random.IntN(window), r})
		for random.IntN(4) == 0 {
			all = append(all, delivery{i + random.IntN(window), r})
		}
	}
	slices.SortStableFunc(all, func(a, b delivery) int { return a.at - b.at })
	out := make([]eventstore.Recorded, len(all))
	for i, d := range all {
		out[i] = d.r
	}
	return out
}

func TestTheGraphIsTheSameInWhateverOrderEventsReachIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := standard(t)
		drawLog(rt, w, rapid.IntRange(1, 60).Draw(rt, "events"))
		inOrder := w.fold()
		want := snapshot(rt, inOrder)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		for _, window := range []int{2, 50, len(w.records)} {
			g := cmdb.NewGraph(w.registry)
			for _, r := range shuffled(random, w.records, window) {
				require.NoError(rt, g.Apply(r))
			}
			same(rt, inOrder, g)
			require.True(rt, bytes.Equal(want, snapshot(rt, g)), "window %d", window)
		}
	})
}

func TestASnapshotRestoresTheGraph(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := standard(t)
		drawLog(rt, w, rapid.IntRange(0, 40).Draw(rt, "events"))
		cut := rapid.IntRange(0, len(w.records)).Draw(rt, "cut")
		half := cmdb.NewGraph(w.registry)
		for _, r := range w.records[:cut] {
			require.NoError(rt, half.Apply(r))
		}
		saved := snapshot(rt, half)
		restored := cmdb.NewGraph(w.registry)
		require.NoError(rt, restored.Restore(saved))
		require.True(rt, bytes.Equal(saved, snapshot(rt, restored)))
		same(rt, half, restored)
		for _, r := range w.records[cut:] {
			require.NoError(rt, restored.Apply(r))
		}
		require.True(rt, bytes.Equal(snapshot(rt, w.fold()), snapshot(rt, restored)))
	})
}

// same compares what queries say of two graphs.
func same(t require.TestingT, a, b *cmdb.Graph) {
	all := a.List(cmdb.Filter{Retired: true})
	require.Equal(t, all, b.List(cmdb.Filter{Retired: true}))
	require.Equal(t, a.Discrepancies(), b.Discrepancies())
	require.Equal(t, relations(t, a), relations(t, b))
	for _, ci := range all {
		ha, _ := a.History(ci.ID)
		hb, _ := b.History(ci.ID)
		require.Equal(t, ha, hb)
		for _, direction := range []cmdb.Direction{cmdb.Down, cmdb.Up} {
			ia, ea := a.Impact([]string{ci.ID}, direction)
			ib, eb := b.Impact([]string{ci.ID}, direction)
			require.Equal(t, ea == nil, eb == nil)
			require.Equal(t, ia, ib)
		}
		// Also what is looked up by unique values.
		deltas := []cmdb.Delta{cmdb.Add("new", ci.Class, cmdb.Attr("serial", "1"))}
		require.Equal(t, a.Check(deltas), b.Check(deltas))
	}
}

// model is the graph as one would write it down on paper: it takes deltas in
// order and knows nothing of lives, indexes or adjacencies.
type model struct {
	cis   map[string]map[string]string // attributes of those that live
	gone  map[string]bool
	ties  map[[3]string]bool
	wrong []string
}

func (m *model) take(d cmdb.Delta) {
	refuse := func(rule string) { m.wrong = append(m.wrong, rule) }
	absent := func(ci string) bool {
		if m.cis[ci] != nil {
			return false
		}
		if m.gone[ci] {
			refuse("ci-retired")
		} else {
			refuse("unknown-ci")
		}
		return true
	}
	tie := [3]string{d.CI, d.Relation, d.To}
	switch {
	case d.CI == "" || !slices.Contains([]cmdb.Op{cmdb.OpAdd, cmdb.OpSet, cmdb.OpRetire, cmdb.OpRelate, cmdb.OpUnrelate}, d.Op),
		d.Op == cmdb.OpSet && d.Attribute == "",
		(d.Op == cmdb.OpRelate || d.Op == cmdb.OpUnrelate) && (d.Relation == "" || d.To == ""):
		refuse("delta-malformed")
	case (d.Op == cmdb.OpRelate || d.Op == cmdb.OpUnrelate) && d.CI == d.To:
		refuse("self-relation")
	case d.Op == cmdb.OpAdd && m.cis[d.CI] != nil:
		refuse("ci-exists")
	case d.Op == cmdb.OpAdd:
		m.cis[d.CI] = map[string]string{}
		for name, v := range d.Attributes {
			if v != "" {
				m.cis[d.CI][name] = v
			}
		}
	case absent(d.CI) || (d.Op == cmdb.OpRelate || d.Op == cmdb.OpUnrelate) && absent(d.To):
	case d.Op == cmdb.OpSet:
		if m.cis[d.CI][d.Attribute] != d.Before {
			refuse("precondition-failed")
		}
		m.cis[d.CI][d.Attribute] = d.After
		if d.After == "" {
			delete(m.cis[d.CI], d.Attribute)
		}
	case d.Op == cmdb.OpRetire:
		delete(m.cis, d.CI)
		m.gone[d.CI] = true
		maps.DeleteFunc(m.ties, func(t [3]string, _ bool) bool { return t[0] == d.CI || t[2] == d.CI })
	case d.Op == cmdb.OpRelate && m.ties[tie]:
		refuse("relation-exists")
	case d.Op == cmdb.OpRelate:
		m.ties[tie] = true
	case !m.ties[tie]:
		refuse("relation-missing")
	default:
		delete(m.ties, tie)
	}
}

func TestTheGraphAgreesWithASimpleModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := standard(t)
		m := model{map[string]map[string]string{}, map[string]bool{}, map[[3]string]bool{}, nil}
		for _, d := range rapid.SliceOfN(rapid.Custom(drawDelta), 1, 60).Draw(rt, "deltas") {
			w.deltas(d)
			m.take(d)
		}
		g := w.fold()
		var living []string
		for _, ci := range g.List(cmdb.Filter{}) {
			living = append(living, ci.ID)
			want := m.cis[ci.ID]
			if len(want) == 0 {
				want = nil
			}
			require.Equal(rt, want, ci.Attributes, ci.ID)
		}
		require.Equal(rt, slices.Sorted(maps.Keys(m.cis)), living)
		require.Equal(rt, len(living), g.Len())
		var ties []string
		for tie := range m.ties {
			ties = append(ties, tie[0]+" "+tie[1]+" "+tie[2])
		}
		require.ElementsMatch(rt, ties, relations(rt, g))
		var wrong []string
		for _, d := range g.Discrepancies() {
			wrong = append(wrong, d.Rule)
		}
		require.Equal(rt, m.wrong, wrong)
	})
}

// What Check lets pass fits when it is folded, and what it refuses for what is
// there does not.
func TestCheckAndFoldAgree(t *testing.T) {
	inFold := []string{"unknown-ci", "ci-retired", "ci-exists", "precondition-failed", "relation-exists", "relation-missing", "self-relation"}
	rapid.Check(t, func(rt *rapid.T) {
		w := standard(t)
		for _, d := range rapid.SliceOfN(rapid.Custom(drawDelta), 0, 30).Draw(rt, "given") {
			w.deltas(d)
		}
		g := w.fold()
		before := len(g.Discrepancies())
		deltas := rapid.SliceOfN(rapid.Custom(drawDelta), 1, 4).Draw(rt, "deltas")
		problems := g.Check(deltas)
		w.add("change-1", applied{"CHG-1", deltas})
		after := len(w.fold().Discrepancies())
		if len(problems) == 0 {
			require.Equal(rt, before, after, "%v", deltas)
		}
		if len(deltas) == 1 && slices.ContainsFunc(problems, func(p cmdb.Problem) bool { return slices.Contains(inFold, p.Rule) }) {
			symmetric := deltas[0].Relation == "connects to" // the fold knows no types of relations
			require.True(rt, after == before+1 || symmetric, "%v: %v", deltas, problems)
		}
	})
}

func TestADamagedSnapshotIsNotRestored(t *testing.T) {
	w := standard(t)
	w.deltas(cmdb.Add("db", "database", cmdb.Attr("version", "15")), cmdb.Set("db", "version", "14", "16"), cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db"))
	w.add("source-netbox", cmdb.Observed{Source: "netbox", Items: []cmdb.ObservedKey{{Key: "1", CI: "db"}}})
	whole := snapshot(t, w.fold())
	for n := range len(whole) {
		require.Error(t, cmdb.NewGraph(w.registry).Restore(whole[:n]), "the first %d bytes", n)
	}
	require.Error(t, cmdb.NewGraph(w.registry).Restore(append(slices.Clone(whole), 0)))
	// A value that the digest of what follows from the events does not have.
	at := slices.Index(whole, '5')
	require.Positive(t, at)
	for i := range whole[len(whole)-32:] {
		spoilt := slices.Clone(whole)
		spoilt[len(whole)-32+i] ^= 1
		require.ErrorContains(t, cmdb.NewGraph(w.registry).Restore(spoilt), "another state")
	}
}

func FuzzRestore(f *testing.F) {
	w := standard(f)
	w.deltas(cmdb.Add("db", "database", cmdb.Attr("version", "15")), cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db"), cmdb.Delta{Op: "paint", CI: "db"})
	w.add("source-netbox", cmdb.Observed{Source: "netbox", Items: []cmdb.ObservedKey{{Key: "1", CI: "db"}}, Gone: []string{"2"}})
	whole, err := w.fold().Snapshot()
	require.NoError(f, err)
	f.Add(whole)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		g := cmdb.NewGraph(w.registry)
		if g.Restore(b) == nil {
			_ = snapshot(t, g)
			same(t, g, g)
		}
	})
}
