package cmdb_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// seen is an item of class server whose key is the CI's number.
func seen(key string, attributes map[string]string, on ...string) cmdb.ObservedItem {
	item := cmdb.ObservedItem{Key: key, CI: "srv-" + key, Class: "server", Attributes: attributes}
	for _, to := range on {
		item.Relations = append(item.Relations, cmdb.ObservedRelation{Relation: "depends on", To: to})
	}
	return item
}

func (h *house) mustImport(t testing.TB, options cmdb.ImportOptions, items ...cmdb.ObservedItem) cmdb.Imported {
	done, err := h.Import(t.Context(), ann, "netbox", cmdb.Observation{Items: items}, options)
	require.NoError(t, err)
	found, err := h.Discrepancies(t.Context())
	require.NoError(t, err)
	require.Empty(t, found, "an import is computed on the graph it is recorded after")
	return done
}

func (h *house) attributes(t testing.TB, ci string) map[string]string {
	got, err := h.Get(t.Context(), ci)
	require.NoError(t, err)
	return got.Attributes
}

func (h *house) relations(t testing.TB) []string {
	var all []string
	require.NoError(t, h.View(t.Context(), func(g *cmdb.Graph) error { all = relations(t, g); return nil }))
	return all
}

func TestAnImportRecordsWhatDiffers(t *testing.T) {
	h := start(t)
	linux := map[string]string{"os": "linux", "cpus": "08", "address": ""}
	first := h.mustImport(t, cmdb.ImportOptions{Reason: "nightly"}, seen("1", linux, "2"), seen("2", linux))
	require.Equal(t, cmdb.Imported{Added: 2, Events: 2, Batches: 2, Position: h.head(t)}, first)
	require.Equal(t, map[string]string{"os": "linux", "cpus": "8"}, h.attributes(t, "srv-1"), "in canonical form")
	require.Equal(t, []string{"srv-1 depends on srv-2"}, h.relations(t))
	history, err := h.History(t.Context(), "srv-1")
	require.NoError(t, err)
	require.Equal(t, "source-netbox", history[0].Cause)
	require.Equal(t, `2026-03-02 09:00 UTC: ann added srv-1 as server with cpus "8", os "linux", as reported by netbox (nightly)`, history[0].String())

	again := h.mustImport(t, cmdb.ImportOptions{}, seen("1", linux, "2"), seen("2", linux))
	require.Equal(t, cmdb.Imported{Unchanged: 2}, again, "what has not changed is not recorded again")

	third := h.mustImport(t, cmdb.ImportOptions{}, seen("1", map[string]string{"os": "bsd", "cpus": "8"}), seen("2", linux, "1"), seen("3", nil))
	require.Equal(t, 1, third.Added)
	require.Equal(t, 2, third.Changed)
	require.Equal(t, []string{"srv-2 depends on srv-1"}, h.relations(t))
	require.Equal(t, "bsd", h.attributes(t, "srv-1")["os"])
	last := h.events(t, "source-netbox")
	meta, err := eventstore.DecodeMetadata(last[len(last)-1].Meta)
	require.NoError(t, err)
	require.Equal(t, "cmdb.import", meta.Command)
}

func TestAnImportLeavesWhatOthersRecordedBesideIt(t *testing.T) {
	h := start(t)
	h.mustImport(t, cmdb.ImportOptions{}, seen("1", map[string]string{"os": "linux", "version": "6"}, "2"), seen("2", nil), seen("3", nil))
	h.mustRecord(t, cmdb.Set("srv-1", "owner", "", "team-a"), cmdb.Relate("srv-1", "depends on", "srv-3"), cmdb.Set("srv-1", "version", "6", "7"))

	// It no longer reports os, version and the relation to 2: os and the relation were its own.
	done := h.mustImport(t, cmdb.ImportOptions{}, seen("1", nil), seen("2", nil), seen("3", nil))
	require.Equal(t, 1, done.Changed)
	require.Equal(t, map[string]string{"owner": "team-a", "version": "7"}, h.attributes(t, "srv-1"))
	require.Equal(t, []string{"srv-1 depends on srv-3"}, h.relations(t))

	// What it reports is set, whoever set it before.
	h.mustImport(t, cmdb.ImportOptions{}, seen("1", map[string]string{"version": "8"}), seen("2", nil), seen("3", nil))
	require.Equal(t, "8", h.attributes(t, "srv-1")["version"])
}

func TestAnImportTakesUpWhatWasRecordedByHand(t *testing.T) {
	h := start(t)
	h.mustRecord(t, cmdb.Add("srv-1", "server", cmdb.Attr("os", "linux")), cmdb.Add("srv-2", "database"))
	done := h.mustImport(t, cmdb.ImportOptions{}, seen("1", map[string]string{"os": "linux"}), seen("2", nil, "1"))
	require.Equal(t, 1, done.Unchanged)
	require.Equal(t, []cmdb.Skipped{{Key: "2", CI: "srv-2", Rule: "class-differs", Reason: `srv-2 is of class "database", and was observed as "server"`}}, done.Skipped)
	require.Equal(t, 1, done.Events, "that the source knows srv-1 is recorded")
	require.Zero(t, h.mustImport(t, cmdb.ImportOptions{}, seen("1", map[string]string{"os": "linux"})).Events)
}

func TestWhatVanishesIsDealtWithAsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		vanished cmdb.Vanished
		retired  bool
		status   string
		again    int // counted as vanished the next time
	}{
		"ignored": {cmdb.VanishedIgnore, false, "", 1},
		"marked":  {cmdb.VanishedMark, false, "out of use", 0},
		"retired": {cmdb.VanishedRetire, true, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			options := cmdb.ImportOptions{Vanished: c.vanished}
			h.mustImport(t, options, seen("1", nil), seen("2", nil, "1"))
			done := h.mustImport(t, options, seen("1", nil))
			require.Equal(t, 1, done.Vanished)
			ci, err := h.Get(t.Context(), "srv-2")
			require.NoError(t, err)
			require.Equal(t, c.retired, ci.Retired)
			require.Equal(t, c.status, ci.Attributes["status"])
			done = h.mustImport(t, options, seen("1", nil))
			require.Equal(t, cmdb.Imported{Vanished: c.again, Unchanged: 1}, done)

			// It comes back as it is seen now.
			h.mustImport(t, options, seen("1", nil), seen("2", nil, "1"))
			ci, err = h.Get(t.Context(), "srv-2")
			require.NoError(t, err)
			require.Equal(t, cmdb.CI{ID: "srv-2", Class: "server"}, ci)
			require.Equal(t, []string{"srv-2 depends on srv-1"}, h.relations(t))
		})
	}
}

func TestAKeyThatStandsForAnotherCIIsNotMistaken(t *testing.T) {
	h := start(t)
	retire := cmdb.ImportOptions{Vanished: cmdb.VanishedRetire}
	h.mustImport(t, retire, seen("1", nil), seen("2", nil), seen("3", nil))
	// 1 and 2 change places, 3 is another machine.
	one, two, three := seen("1", nil), seen("2", nil), seen("3", nil)
	one.CI, two.CI, three.CI = "srv-2", "srv-1", "srv-9"
	done := h.mustImport(t, retire, one, two, three)
	require.Equal(t, 1, done.Added)
	require.Equal(t, 2, done.Unchanged)
	for ci, retired := range map[string]bool{"srv-1": false, "srv-2": false, "srv-3": true, "srv-9": false} {
		got, err := h.Get(t.Context(), ci)
		require.NoError(t, err)
		require.Equal(t, retired, got.Retired, ci)
	}
	require.Equal(t, cmdb.Imported{Unchanged: 3}, h.mustImport(t, retire, one, two, three))
}

func TestASourceThatSeesNothingRetiresNothing(t *testing.T) {
	h := start(t)
	h.mustImport(t, cmdb.ImportOptions{}, seen("1", nil))
	for _, vanished := range []cmdb.Vanished{cmdb.VanishedMark, cmdb.VanishedRetire} {
		_, err := h.Import(t.Context(), ann, "netbox", cmdb.Observation{}, cmdb.ImportOptions{Vanished: vanished})
		require.True(t, command.By(err, "nothing-observed"), "%v", err)
	}
	require.Equal(t, cmdb.Imported{Vanished: 1}, h.mustImport(t, cmdb.ImportOptions{}))
}

func TestSourcesKnowTheirKeysApart(t *testing.T) {
	h := start(t)
	h.mustImport(t, cmdb.ImportOptions{}, seen("1", nil))
	other := cmdb.ObservedItem{Key: "1", CI: "db-1", Class: "database"}
	done, err := h.Import(t.Context(), ann, "nmap", cmdb.Observation{Items: []cmdb.ObservedItem{other}}, cmdb.ImportOptions{Vanished: cmdb.VanishedRetire})
	require.NoError(t, err)
	require.Zero(t, done.Vanished)
	require.Equal(t, 1, done.Added)
}

func TestWhatCannotBeTakenIsSkippedWithTheReason(t *testing.T) {
	h := start(t)
	_, err := h.DefineClasses(t.Context(), ann, cmdb.Class{Name: "phone", Parent: "item", Attributes: []cmdb.AttributeSchema{{Name: "number", Type: cmdb.TypeString, Required: true, Unique: true}}})
	require.NoError(t, err)
	phone := func(key, number string) cmdb.ObservedItem {
		return cmdb.ObservedItem{Key: key, CI: "phone-" + key, Class: "phone", Attributes: map[string]string{"number": number}}
	}
	items := []cmdb.ObservedItem{
		seen("ok", map[string]string{"os": "linux", "cpus": "many", "flavour": "sweet"}, "nowhere", "ufo"),
		{Key: "ufo", CI: "ufo-1", Class: "spaceship"},
		{Key: "soft", CI: "soft-1", Class: "software"},
		phone("a", "555-1"), phone("b", "555-1"), phone("c", ""),
		{Key: "loves", CI: "srv-loves", Class: "server", Relations: []cmdb.ObservedRelation{{Relation: "loves", To: "ok"}}},
		{Key: "self", CI: "srv-self", Class: "server", Relations: []cmdb.ObservedRelation{{Relation: "depends on", To: "self"}}},
	}
	done := h.mustImport(t, cmdb.ImportOptions{}, items...)
	require.Equal(t, 4, done.Added, "ok, the first phone, loves, self")
	var rules []string
	for _, s := range done.Skipped {
		rules = append(rules, s.Key+" "+s.Rule)
		require.NotEmpty(t, s.Reason)
		require.NotEmpty(t, s.CI)
	}
	require.ElementsMatch(t, []string{
		"ok attribute-type", "ok unknown-attribute", "ok unknown-key", "ok unknown-ci", "ufo unknown-class", "soft abstract-class",
		"b attribute-unique", "c attribute-required", "loves unknown-relation", "self self-relation",
	}, rules)
	require.Equal(t, map[string]string{"os": "linux"}, h.attributes(t, "srv-ok"))
	again := h.mustImport(t, cmdb.ImportOptions{}, items...)
	require.Zero(t, again.Events)
	require.Equal(t, done.Skipped, again.Skipped)

	// A value that is set to one that another has.
	h.mustImport(t, cmdb.ImportOptions{}, phone("d", "555-2"))
	done = h.mustImport(t, cmdb.ImportOptions{}, phone("d", "555-1"))
	require.Equal(t, "attribute-unique", done.Skipped[0].Rule)
	require.Equal(t, "555-2", h.attributes(t, "phone-d")["number"])
	// One that was its own and is required stays.
	done = h.mustImport(t, cmdb.ImportOptions{}, phone("d", ""))
	require.Equal(t, "attribute-required", done.Skipped[0].Rule)
	require.Equal(t, "555-2", h.attributes(t, "phone-d")["number"])
}

func TestWhatSomebodyRetiredIsNotBroughtBackByASourceThatStillSeesIt(t *testing.T) {
	h := start(t)
	h.mustImport(t, cmdb.ImportOptions{}, seen("1", nil))
	h.mustRecord(t, cmdb.Retire("srv-1"))
	done := h.mustImport(t, cmdb.ImportOptions{}, seen("1", nil))
	require.Equal(t, "retired-by-others", done.Skipped[0].Rule)
	ci, err := h.Get(t.Context(), "srv-1")
	require.NoError(t, err)
	require.True(t, ci.Retired)
}

func TestRelationsMayBeReportedFromEitherEnd(t *testing.T) {
	h := start(t)
	rel := func(relation, to string) cmdb.ObservedRelation {
		return cmdb.ObservedRelation{Relation: relation, To: to}
	}
	host, guest := seen("1", nil), seen("2", nil)
	host.Relations = []cmdb.ObservedRelation{rel("hosts", "2"), rel("connects to", "2"), rel("hosts", "2")}
	guest.Relations = []cmdb.ObservedRelation{rel("connects to", "1")}
	h.mustImport(t, cmdb.ImportOptions{}, guest, host)
	require.Equal(t, []string{"srv-1 connects to srv-2", "srv-2 runs on srv-1"}, h.relations(t))
	require.Zero(t, h.mustImport(t, cmdb.ImportOptions{}, host, guest).Events)
	guest.Relations, host.Relations = []cmdb.ObservedRelation{rel("runs on", "1")}, nil
	require.Equal(t, 1, h.mustImport(t, cmdb.ImportOptions{}, host, guest).Changed)
	require.Equal(t, []string{"srv-2 runs on srv-1"}, h.relations(t))
	// Symmetric, recorded by hand the other way round.
	h.mustRecord(t, cmdb.Relate("srv-2", "connects to", "srv-1"))
	guest.Relations = append(guest.Relations, rel("connects to", "1"))
	require.Zero(t, h.mustImport(t, cmdb.ImportOptions{}, host, guest).Events)
}

func TestAnObservationOfAPartNamesWhatTheSourceKnewBefore(t *testing.T) {
	h := start(t)
	h.mustImport(t, cmdb.ImportOptions{}, seen("1", nil), seen("2", nil))
	backwards := seen("3", nil)
	backwards.Relations = []cmdb.ObservedRelation{{Relation: "used by", To: "2"}, {Relation: "depends on", To: "1"}}
	done := h.mustImport(t, cmdb.ImportOptions{}, backwards)
	require.Equal(t, 2, done.Vanished, "which is ignored")
	require.Empty(t, done.Skipped)
	require.Equal(t, []string{"srv-2 depends on srv-3", "srv-3 depends on srv-1"}, h.relations(t))
}

func TestAnImportThatCannotBeMeantRecordsNothing(t *testing.T) {
	h := start(t)
	for name, c := range map[string]struct {
		source  string
		options cmdb.ImportOptions
		items   []cmdb.ObservedItem
		reason  string
	}{
		"no source":           {"", cmdb.ImportOptions{}, nil, "source is empty"},
		"a long source":       {strings.Repeat("x", 200), cmdb.ImportOptions{}, nil, "at most 128"},
		"a batch too large":   {"s", cmdb.ImportOptions{Batch: 501}, nil, "1 to 500"},
		"a negative batch":    {"s", cmdb.ImportOptions{Batch: -1}, nil, "1 to 500"},
		"an unknown vanished": {"s", cmdb.ImportOptions{Vanished: 7}, nil, "there is not"},
		"no key":              {"s", cmdb.ImportOptions{}, []cmdb.ObservedItem{{CI: "a", Class: "server"}}, "a key has"},
		"a long key":          {"s", cmdb.ImportOptions{}, []cmdb.ObservedItem{{Key: strings.Repeat("k", 256), CI: "a", Class: "server"}}, "a key has"},
		"no CI":               {"s", cmdb.ImportOptions{}, []cmdb.ObservedItem{{Key: "1", Class: "server"}}, "not empty"},
		"a key twice":         {"s", cmdb.ImportOptions{}, []cmdb.ObservedItem{{Key: "1", CI: "a"}, {Key: "1", CI: "b"}}, "stands twice"},
		"a CI twice":          {"s", cmdb.ImportOptions{}, []cmdb.ObservedItem{{Key: "1", CI: "a"}, {Key: "2", CI: "a"}}, `has the keys "1" and "2"`},
	} {
		_, err := h.Import(t.Context(), ann, c.source, cmdb.Observation{Items: c.items}, c.options)
		require.ErrorIs(t, err, command.ErrMalformed, name)
		require.ErrorContains(t, err, c.reason, name)
	}
	require.Empty(t, h.events(t, "source-s"))
}

// failing is a store on which appends to a stream fail from some number on.
type failing struct {
	eventstore.Store
	left atomic.Int64
}

var errOff = errors.New("power cut")

func (f *failing) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if strings.HasPrefix(events[0].Stream, "source-") && f.left.Add(-1) < 0 {
		return nil, eventstore.NotApplied(errOff)
	}
	return f.Store.Append(ctx, events, expect...)
}

// fleet are n servers, each depending on the one before, and on a hub.
func fleet(n int) []cmdb.ObservedItem {
	items := []cmdb.ObservedItem{seen("hub", nil)}
	for i := range n {
		item := seen(fmt.Sprintf("%04d", i), map[string]string{"os": "linux"}, "hub")
		if i > 0 {
			item.Relations = append(item.Relations, cmdb.ObservedRelation{Relation: "connects to", To: fmt.Sprintf("%04d", i-1)})
		}
		items = append(items, item)
	}
	return items
}

func TestAnInterruptedImportGoesOnWhereItWas(t *testing.T) {
	inner := memory.New()
	t.Cleanup(func() { require.NoError(t, inner.Close()) })
	store := &failing{Store: inner}
	h := open(t, store, command.AllowAll)
	h.ship(t)
	items := fleet(100)
	options := cmdb.ImportOptions{Batch: 10}
	total := 0
	for runs := 1; ; runs++ {
		store.left.Store(3)
		done, err := h.Import(t.Context(), ann, "netbox", cmdb.Observation{Items: items}, options)
		total += done.Batches
		if err == nil {
			require.Greater(t, runs, 5)
			break
		}
		require.ErrorIs(t, err, errOff)
		require.Equal(t, 3, done.Batches)
		require.NotZero(t, done.Position)
	}
	require.Equal(t, 11+10, total, "eleven batches of items, ten with relations")
	whole := start(t)
	whole.mustImport(t, options, items...)
	require.Equal(t, whole.relations(t), h.relations(t))
	require.Len(t, h.relations(t), 199)
	store.left.Store(0)
	require.Equal(t, cmdb.Imported{Unchanged: 101}, h.mustImport(t, options, items...), "with nothing to record the store is not asked")
}

func TestALargeImportIsDividedIntoAppendsAndEvents(t *testing.T) {
	h := start(t)
	items := fleet(300)
	for i := range items {
		long := strings.Repeat("x", 4000)
		items[i].Attributes = map[string]string{"description": long, "os": long, "version": long, "address": long}
	}
	done := h.mustImport(t, cmdb.ImportOptions{Batch: 500}, items...)
	require.Greater(t, done.Batches, 2, "4.8 MB of values are more than one append")
	for _, r := range h.events(t, "source-netbox") {
		require.LessOrEqual(t, len(r.Tags), 48)
		require.Less(t, len(r.Data), 300<<10)
		payload, err := h.registry.Decode(r.Event)
		require.NoError(t, err)
		for _, d := range payload.(cmdb.Observed).Deltas {
			require.Contains(t, r.Tags, "ci:"+d.CI, "every CI is found by its tag")
		}
	}
}

func TestMoreRelationsOfOneCIThanAnAppendTakesAreDivided(t *testing.T) {
	h := start(t)
	const n = 5_200
	items := []cmdb.ObservedItem{seen("hub", nil)}
	for i := range n {
		items = append(items, seen(fmt.Sprint(i), nil))
		items[0].Relations = append(items[0].Relations, cmdb.ObservedRelation{Relation: "contains", To: fmt.Sprint(i)})
	}
	h.mustImport(t, cmdb.ImportOptions{Batch: 500}, items...)
	impact, err := h.Impact(t.Context(), "srv-hub", cmdb.Down)
	require.NoError(t, err)
	require.Len(t, impact.Reached, n)
	items[0].Relations = nil
	require.Equal(t, 2, h.mustImport(t, cmdb.ImportOptions{Batch: 500}, items...).Batches)
	require.Empty(t, h.relations(t))
}

func TestAnItemThatIsSkippedStandsInNobodysWay(t *testing.T) {
	h := start(t)
	_, err := h.DefineClasses(t.Context(), ann, cmdb.Class{Name: "phone", Parent: "item", Attributes: []cmdb.AttributeSchema{
		{Name: "number", Type: cmdb.TypeString, Unique: true}, {Name: "owner", Type: cmdb.TypeString, Required: true}}})
	require.NoError(t, err)
	done := h.mustImport(t, cmdb.ImportOptions{},
		cmdb.ObservedItem{Key: "1", CI: "phone-1", Class: "phone", Attributes: map[string]string{"number": "555"}},
		cmdb.ObservedItem{Key: "2", CI: "phone-2", Class: "phone", Attributes: map[string]string{"number": "555", "owner": "team-a"}})
	require.Equal(t, 1, done.Added)
	require.Len(t, done.Skipped, 1)
	require.Equal(t, "attribute-required", done.Skipped[0].Rule)
}

func TestTwoImportsOfOneSourceAtOnceAgree(t *testing.T) {
	h := start(t)
	items := fleet(40)
	errs := make(chan error, 3)
	for range cap(errs) {
		go func() {
			_, err := h.Import(t.Context(), ann, "netbox", cmdb.Observation{Items: items}, cmdb.ImportOptions{Batch: 7})
			errs <- err
		}()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.Zero(t, h.mustImport(t, cmdb.ImportOptions{}, items...).Events)
	require.Len(t, h.relations(t), 79)
}

// Whatever is observed, one after the other: afterwards the graph says what the
// last observation says, and the same observation again records nothing.
func TestAnImportEndsInWhatWasObserved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := start(t)
		options := cmdb.ImportOptions{Batch: rapid.IntRange(1, 5).Draw(rt, "batch"), Vanished: cmdb.VanishedRetire}
		for range rapid.IntRange(1, 4).Draw(rt, "imports") {
			keys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "6"}), 1, 6, rapid.ID).Draw(rt, "keys")
			var items []cmdb.ObservedItem
			want := map[string]bool{}
			for _, key := range keys {
				item := seen(key, map[string]string{"os": rapid.SampledFrom([]string{"", "linux", "bsd"}).Draw(rt, "os")})
				for _, to := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 0, 3, rapid.ID).Draw(rt, "on") {
					if to != key {
						relation := rapid.SampledFrom([]string{"depends on", "used by", "runs on"}).Draw(rt, "relation")
						item.Relations = append(item.Relations, cmdb.ObservedRelation{Relation: relation, To: to})
						if relation == "used by" {
							want["srv-"+to+" depends on srv-"+key] = true
						} else {
							want["srv-"+key+" "+relation+" srv-"+to] = true
						}
					}
				}
				items = append(items, item)
			}
			done := h.mustImport(t, options, items...)
			require.Empty(rt, done.Skipped)
			cis, err := h.List(t.Context(), cmdb.Filter{})
			require.NoError(rt, err)
			require.Len(rt, cis, len(items))
			for _, item := range items {
				require.Equal(rt, item.Attributes["os"], h.attributes(t, item.CI)["os"])
			}
			var all []string
			for r := range want {
				all = append(all, r)
			}
			require.ElementsMatch(rt, all, h.relations(t))
			require.Equal(rt, cmdb.Imported{Unchanged: len(items)}, h.mustImport(t, options, items...))
		}
	})
}
