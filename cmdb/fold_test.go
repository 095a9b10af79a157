package cmdb_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
)

// relations returns every relation that stands, as sentences.
func relations(t require.TestingT, g *cmdb.Graph) []string {
	var all []string
	for _, ci := range g.List(cmdb.Filter{}) {
		near, err := g.Neighbourhood(ci.ID, 1)
		require.NoError(t, err)
		for _, r := range near.Relations {
			if r.From == ci.ID {
				all = append(all, r.From+" "+r.Relation+" "+r.To)
			}
		}
	}
	return all
}

// misfit is what a discrepancy is compared by.
type misfit struct {
	rule, reason string
	taken        bool
}

// DOMAIN 4.1: a fold never refuses, and never takes half of a delta.
func TestAFoldTakesEachDeltaWhollyOrListsIt(t *testing.T) {
	db := cmdb.Add("db", "database", cmdb.Attr("version", "15"))
	shop := cmdb.Add("shop", "service")
	related := cmdb.Relate("shop", "depends on", "db")
	for name, c := range map[string]struct {
		given   []cmdb.Delta
		when    cmdb.Delta
		version string // of db afterwards; "-" if it is retired or never was
		stands  bool   // shop depends on db
		misfit  misfit
	}{
		"an add makes a CI":                           {nil, db, "15", false, misfit{}},
		"an add of one that is there":                 {[]cmdb.Delta{db}, cmdb.Add("db", "cluster", cmdb.Attr("version", "3")), "15", false, misfit{"ci-exists", "db was there already", false}},
		"an add of one that is retired":               {[]cmdb.Delta{db, cmdb.Retire("db")}, cmdb.Add("db", "database", cmdb.Attr("version", "16")), "16", false, misfit{}},
		"an add with an empty value has none":         {nil, cmdb.Add("db", "database", cmdb.Attr("version", "")), "", false, misfit{}},
		"a set":                                       {[]cmdb.Delta{db}, cmdb.Set("db", "version", "15", "16"), "16", false, misfit{}},
		"a set to nothing":                            {[]cmdb.Delta{db}, cmdb.Set("db", "version", "15", ""), "", false, misfit{}},
		"a set over another value":                    {[]cmdb.Delta{db}, cmdb.Set("db", "version", "14", "16"), "16", false, misfit{"precondition-failed", `version of db was "15", not "14"`, true}},
		"a set over a value where none was expected":  {[]cmdb.Delta{db}, cmdb.Set("db", "version", "", "16"), "16", false, misfit{"precondition-failed", `version of db was "15" already`, true}},
		"a set of one that is not there":              {nil, cmdb.Set("db", "version", "", "16"), "-", false, misfit{"unknown-ci", "db was not there", false}},
		"a set of one that is retired":                {[]cmdb.Delta{db, cmdb.Retire("db")}, cmdb.Set("db", "version", "15", "16"), "-", false, misfit{"ci-retired", "db was retired", false}},
		"a set of nothing":                            {[]cmdb.Delta{db}, cmdb.Delta{Op: cmdb.OpSet, CI: "db"}, "15", false, misfit{"delta-malformed", `"set" of "db" cannot be meant`, false}},
		"a retirement":                                {[]cmdb.Delta{db, shop, related}, cmdb.Retire("db"), "-", false, misfit{}},
		"a retirement of one that is not there":       {nil, cmdb.Retire("db"), "-", false, misfit{"unknown-ci", "db was not there", false}},
		"a second retirement":                         {[]cmdb.Delta{db, cmdb.Retire("db")}, cmdb.Retire("db"), "-", false, misfit{"ci-retired", "db was retired", false}},
		"a relation":                                  {[]cmdb.Delta{db, shop}, related, "15", true, misfit{}},
		"a relation that stands":                      {[]cmdb.Delta{db, shop, related}, related, "15", true, misfit{"relation-exists", "shop depends on db already", false}},
		"a relation to one that is not there":         {[]cmdb.Delta{shop}, related, "-", false, misfit{"unknown-ci", "db was not there", false}},
		"a relation from one that is not there":       {[]cmdb.Delta{db}, related, "15", false, misfit{"unknown-ci", "shop was not there", false}},
		"a relation to one that is retired":           {[]cmdb.Delta{db, shop, cmdb.Retire("db")}, related, "-", false, misfit{"ci-retired", "db was retired", false}},
		"a relation to itself":                        {[]cmdb.Delta{db}, cmdb.Relate("db", "depends on", "db"), "15", false, misfit{"self-relation", "db is related to itself", false}},
		"a relation without a name":                   {[]cmdb.Delta{db, shop}, cmdb.Relate("shop", "", "db"), "15", false, misfit{"delta-malformed", `"relate" of "shop" cannot be meant`, false}},
		"a relation to nothing":                       {[]cmdb.Delta{db, shop}, cmdb.Relate("shop", "depends on", ""), "15", false, misfit{"delta-malformed", `"relate" of "shop" cannot be meant`, false}},
		"an end of a relation":                        {[]cmdb.Delta{db, shop, related}, cmdb.Unrelate("shop", "depends on", "db"), "15", false, misfit{}},
		"an end of a relation that does not stand":    {[]cmdb.Delta{db, shop}, cmdb.Unrelate("shop", "depends on", "db"), "15", false, misfit{"relation-missing", `shop did not stand in "depends on" to db`, false}},
		"a relation ends with one of its CIs":         {[]cmdb.Delta{db, shop, related, cmdb.Retire("db")}, db, "15", false, misfit{}},
		"such a relation can be said again":           {[]cmdb.Delta{db, shop, related, cmdb.Retire("shop"), shop}, related, "15", true, misfit{}},
		"such a relation is no longer there to end":   {[]cmdb.Delta{db, shop, related, cmdb.Retire("shop"), shop}, cmdb.Unrelate("shop", "depends on", "db"), "15", false, misfit{"relation-missing", `shop did not stand in "depends on" to db`, false}},
		"another relation between the same two":       {[]cmdb.Delta{db, shop, related}, cmdb.Relate("shop", "runs on", "db"), "15", true, misfit{}},
		"an operation that there is not":              {[]cmdb.Delta{db}, cmdb.Delta{Op: "paint", CI: "db"}, "15", false, misfit{"delta-malformed", `"paint" of "db" cannot be meant`, false}},
		"a delta of no CI":                            {[]cmdb.Delta{db}, cmdb.Delta{Op: cmdb.OpRetire}, "15", false, misfit{"delta-malformed", `"retire" of "" cannot be meant`, false}},
		"an attribute that no class has, as observed": {[]cmdb.Delta{db}, cmdb.Set("db", "colour", "", "red"), "15", false, misfit{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := standard(t)
			for _, d := range c.given {
				w.deltas(d)
			}
			require.Empty(t, w.fold().Discrepancies(), "what is given fits")
			w.add("change-CHG-000001", applied{"CHG-000001", []cmdb.Delta{c.when}})
			g := w.fold()

			ci, ok := g.CI("db")
			if c.version == "-" {
				require.True(t, !ok || ci.Retired)
			} else {
				require.True(t, ok)
				require.False(t, ci.Retired)
				require.Equal(t, c.version, ci.Attributes["version"])
			}
			require.Equal(t, c.stands, slices.Contains(relations(t, g), "shop depends on db"))

			found := g.Discrepancies()
			if c.misfit == (misfit{}) {
				require.Empty(t, found)
				return
			}
			require.Equal(t, []cmdb.Discrepancy{{
				Position: eventstore.Position(len(w.records)), CI: c.when.CI, Delta: c.when,
				Rule: c.misfit.rule, Reason: c.misfit.reason, Taken: c.misfit.taken,
			}}, found)
		})
	}
}

func TestWhatCannotBeMeantHarmsNothingBesideIt(t *testing.T) {
	w := standard(t).deltas(
		cmdb.Add("db", "database"),
		cmdb.Delta{Op: "paint", CI: "db"},
		cmdb.Relate("db", "depends on", "db"),
		cmdb.Set("db", "version", "", "15"))
	ci, ok := w.fold().CI("db")
	require.True(t, ok)
	require.Equal(t, map[string]string{"version": "15"}, ci.Attributes)
	require.Len(t, w.fold().Discrepancies(), 2)
}

func TestDeltasOfEveryRoomCount(t *testing.T) {
	w := standard(t).deltas(cmdb.Add("db", "database")).add("note-1", noted{"nothing"})
	w.add("change-CHG-000042", applied{"CHG-000042", []cmdb.Delta{cmdb.Set("db", "version", "", "16")}})
	w.add("change-CHG-000043", applied{Change: "CHG-000043"})
	g := w.fold()
	ci, _ := g.CI("db")
	require.Equal(t, "16", ci.Attributes["version"])
	history, ok := g.History("db")
	require.True(t, ok)
	require.Equal(t, "CHG-000042", history[1].Cause)
	impact, err := g.Impact([]string{"db"}, cmdb.Down)
	require.NoError(t, err)
	require.EqualValues(t, len(w.records), impact.Position)
}

func TestAnEventWithDeltasOfAnUnknownTypeStopsTheFold(t *testing.T) {
	w := standard(t).deltas(cmdb.Add("db", "database"))
	w.add("change-CHG-000001", applied{"CHG-000001", []cmdb.Delta{cmdb.Retire("db")}})
	knows, err := eventstore.NewRegistry(cmdb.Types()...)
	require.NoError(t, err)
	g := cmdb.NewGraph(knows)
	for _, r := range w.records[:len(w.records)-1] {
		require.NoError(t, g.Apply(r))
	}
	before := snapshot(t, g)
	err = g.Apply(w.records[len(w.records)-1])
	require.ErrorIs(t, err, eventstore.ErrUnknownType)
	require.ErrorContains(t, err, "change.applied")
	require.Equal(t, before, snapshot(t, g), "what is refused leaves the state as it was")

	// A registry without the types of this package knows no classes: it stops too.
	none, err := eventstore.NewRegistry(eventstore.Type[noted]("note.noted", 1))
	require.NoError(t, err)
	require.ErrorIs(t, cmdb.NewGraph(none).Apply(w.records[0]), eventstore.ErrUnknownType)
}

func TestAnEventThatCannotBeReadStopsTheFold(t *testing.T) {
	w := standard(t).deltas(cmdb.Add("db", "database"))
	r := w.records[len(w.records)-1]
	g := w.fold(w.records[:len(w.records)-1]...)
	before := snapshot(t, g)
	broken := r
	broken.Data = []byte(`{"deltas":7}`)
	require.ErrorIs(t, g.Apply(broken), eventstore.ErrMalformed)
	broken = r
	broken.Meta = []byte(`{"actor":7}`)
	require.ErrorIs(t, g.Apply(broken), eventstore.ErrMalformed)
	require.Equal(t, before, snapshot(t, g))
	require.NoError(t, g.Apply(r))
}

func TestTheLatestDefinitionCounts(t *testing.T) {
	w := write(t).
		add("classes", cmdb.ClassDefined{Class: cmdb.Class{Name: "printer", Parent: "item"}}).
		add("classes", cmdb.ClassDefined{Class: cmdb.Class{Name: "printer", Parent: "item", Title: "Printer"}})
	for _, order := range [][]int{{0, 1}, {1, 0}, {1, 0, 1, 0}} {
		g := cmdb.NewGraph(w.registry)
		for _, i := range order {
			require.NoError(t, g.Apply(w.records[i]))
		}
		c, above, ok := g.Class("printer")
		require.True(t, ok)
		require.Equal(t, "Printer", c.Title)
		require.Equal(t, []string{"item"}, above)
	}
}

func TestEveryClassHasTheInheritedAttributes(t *testing.T) {
	g := standard(t).fold()
	require.Greater(t, len(g.Classes()), 15)
	for _, name := range g.Classes() {
		c, above, ok := g.Class(name)
		require.True(t, ok)
		if name != cmdb.RootClass {
			require.Equal(t, cmdb.RootClass, above[len(above)-1])
		}
		have := map[string]bool{}
		for _, a := range c.Attributes {
			have[a.Name] = true
		}
		for _, a := range []string{cmdb.AttrName, cmdb.AttrStatus, cmdb.AttrEnvironment, cmdb.AttrCriticality, cmdb.AttrOwner, cmdb.AttrTags, cmdb.AttrMinUp} {
			require.True(t, have[a], "%s has %s", name, a)
		}
	}
	// They are there before anything is defined.
	c, _, ok := write(t).fold([]eventstore.Recorded{}...).Class(cmdb.RootClass)
	require.True(t, ok)
	require.Len(t, c.Attributes, 7)
}

func TestACIHandedOutIsACopy(t *testing.T) {
	g := standard(t).deltas(cmdb.Add("db", "database", cmdb.Attr("version", "15"))).fold()
	ci, _ := g.CI("db")
	ci.Attributes["version"] = "99"
	again, _ := g.CI("db")
	require.Equal(t, "15", again.Attributes["version"])
	c, _, _ := g.Class("item")
	for _, a := range c.Attributes {
		for i := range a.Enum {
			a.Enum[i] = "spoilt"
		}
	}
	require.Empty(t, g.Check([]cmdb.Delta{cmdb.Set("db", "criticality", "", "high")}))
}
