package cmdb_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/cmdb"
)

func TestADifferenceListsWhatEndedCameAndChanged(t *testing.T) {
	w := standard(t)
	w.deltas(cmdb.Add("db", "database", cmdb.Attr("version", "15"), cmdb.Attr("owner", "ann")), cmdb.Add("shop", "service"), cmdb.Add("old", "server"),
		cmdb.Add("box", "server"), cmdb.Relate("shop", "depends on", "db"), cmdb.Relate("shop", "depends on", "old"), cmdb.Relate("shop", "depends on", "box"))
	a := w.fold()
	w.deltas(cmdb.Set("db", "version", "15", "16"), cmdb.Set("db", "owner", "ann", ""), cmdb.Set("db", "environment", "", "production"),
		cmdb.Retire("old"), cmdb.Retire("box"), cmdb.Add("box", "cluster"), cmdb.Relate("shop", "depends on", "box"),
		cmdb.Unrelate("shop", "depends on", "db"), cmdb.Relate("db", "runs on", "box"))
	b := w.fold()
	require.Equal(t, []cmdb.Delta{
		cmdb.Unrelate("shop", "depends on", "db"),
		cmdb.Retire("box"), cmdb.Retire("old"),
		cmdb.Add("box", "cluster"),
		cmdb.Set("db", "environment", "", "production"), cmdb.Set("db", "owner", "ann", ""), cmdb.Set("db", "version", "15", "16"),
		cmdb.Relate("db", "runs on", "box"), cmdb.Relate("shop", "depends on", "box"),
	}, cmdb.Diff(a, b))
	require.Empty(t, cmdb.Diff(a, a))
	require.Empty(t, cmdb.Diff(b, b))
}

// What the difference of two graphs is recorded on the first gives the second, and
// each of its deltas fits.
func TestADifferenceMakesTheOneGraphTheOther(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first, second := standard(t), standard(t)
		for _, w := range []*written{first, second} {
			for _, d := range rapid.SliceOfN(rapid.Custom(drawDelta), 0, 40).Draw(rt, "deltas") {
				w.deltas(d)
			}
		}
		a, b := first.fold(), second.fold()
		deltas := cmdb.Diff(a, b)
		wrong := len(a.Discrepancies())
		if len(deltas) > 0 {
			first.add("change-1", applied{"CHG-1", deltas})
		}
		after := first.fold()
		require.Len(rt, after.Discrepancies(), wrong, "%v", deltas)
		require.Equal(rt, b.List(cmdb.Filter{}), after.List(cmdb.Filter{}))
		require.ElementsMatch(rt, relations(rt, b), relations(rt, after))
		require.Empty(rt, cmdb.Diff(after, b))
		if a.Len() == 0 && b.Len() == 0 {
			require.Empty(rt, deltas)
		}
	})
}
