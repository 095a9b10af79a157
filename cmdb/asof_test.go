package cmdb_test

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/timing"
)

// happened says of the last record when it happened; a zero time says nothing.
func (w *written) happened(at time.Time) *written {
	last := &w.records[len(w.records)-1]
	meta, err := eventstore.DecodeMetadata(last.Meta)
	require.NoError(w.t, err)
	meta.OccurredAt = at
	last.Meta, err = meta.Encode()
	require.NoError(w.t, err)
	return w
}

func day(n int) time.Time { return monday.AddDate(0, 0, n) }

// DOMAIN 4.3: late discovery and corrections make valid and known differ.
func TestTheGraphAsOfAMomentShowsWhatWasTrueAndWhatWasKnown(t *testing.T) {
	w := standard(t)
	w.deltas(cmdb.Add("db", "database", cmdb.Attr("version", "15"))).happened(day(1))
	first := w.records[len(w.records)-1].Position
	w.deltas(cmdb.Set("db", "version", "15", "16")).happened(day(10))
	upgraded := w.records[len(w.records)-1].Position
	w.deltas(cmdb.Set("db", "owner", "", "team-db")).happened(day(2)) // discovered late
	g := w.fold()
	before := snapshot(t, g)
	for _, c := range []struct {
		name           string
		valid          time.Time
		known          eventstore.Position
		version, owner string
	}{
		{"now", time.Time{}, 0, "16", "team-db"},
		{"then, as is known now", day(5), 0, "15", "team-db"},
		{"then, as was known when it was added", day(5), first, "15", ""},
		{"then, as was known when it was upgraded", day(5), upgraded, "15", ""},
		{"at the very instant", day(10), 0, "16", "team-db"},
		{"an instant before", day(10).Add(-time.Microsecond), 0, "15", "team-db"},
		{"far ahead", day(10_000), upgraded, "16", ""},
	} {
		past := g.AsOf(c.valid, c.known)
		ci, ok := past.CI("db")
		require.True(t, ok, c.name)
		require.Equal(t, c.version, ci.Attributes["version"], c.name)
		require.Equal(t, c.owner, ci.Attributes["owner"], c.name)
		require.Empty(t, past.Discrepancies(), c.name)
	}
	require.Zero(t, g.AsOf(day(0), 0).Len())
	require.Zero(t, g.AsOf(time.Time{}, first-1).Len())
	require.Equal(t, before, snapshot(t, g), "it changes nothing")
}

func TestWhatDoesNotSayWhenItHappenedDidSoWhenItWasRecorded(t *testing.T) {
	w := standard(t)
	w.deltas(cmdb.Add("db", "database")).happened(time.Time{})
	recorded := w.records[len(w.records)-1].RecordedAt
	require.Equal(t, 1, w.fold().AsOf(recorded, 0).Len())
	require.Zero(t, w.fold().AsOf(recorded.Add(-time.Microsecond), 0).Len())
}

// Held against the simple model, which knows nothing of events, times or folds.
func TestTheGraphAsOfAMomentAgreesWithASimpleModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := standard(t)
		type given struct {
			deltas   []cmdb.Delta
			position eventstore.Position
			occurred time.Time
		}
		var all []given
		for range rapid.IntRange(1, 40).Draw(rt, "events") {
			one := given{deltas: rapid.SliceOfN(rapid.Custom(drawDelta), 1, 3).Draw(rt, "deltas"), occurred: day(rapid.IntRange(0, 9).Draw(rt, "day"))}
			w.add("change-1", applied{"CHG-1", one.deltas}).happened(one.occurred)
			one.position = w.records[len(w.records)-1].Position
			all = append(all, one)
		}
		g := w.fold()
		before := snapshot(rt, g)
		valid, known := day(rapid.IntRange(-1, 10).Draw(rt, "valid")), eventstore.Position(rapid.IntRange(1, len(w.records)).Draw(rt, "known"))
		past := g.AsOf(valid, known)

		m := model{map[string]map[string]string{}, map[string]bool{}, map[[3]string]bool{}, nil}
		for _, one := range all {
			if one.position <= known && !one.occurred.After(valid) {
				for _, d := range one.deltas {
					m.take(d)
				}
			}
		}
		living := map[string]map[string]string{}
		for _, ci := range past.List(cmdb.Filter{}) {
			living[ci.ID] = maps.Clone(ci.Attributes)
			if ci.Attributes == nil {
				living[ci.ID] = map[string]string{}
			}
		}
		require.Equal(rt, m.cis, living)
		var ties, wrong []string
		for tie := range m.ties {
			ties = append(ties, tie[0]+" "+tie[1]+" "+tie[2])
		}
		require.ElementsMatch(rt, ties, relations(rt, past))
		for _, d := range past.Discrepancies() {
			wrong = append(wrong, d.Rule)
		}
		require.Equal(rt, m.wrong, wrong)
		require.Equal(rt, before, snapshot(rt, g), "it changes nothing")
	})
}

// What is true whenever, as known up to the head, is the graph itself.
func TestTheGraphAsOfNowIsTheGraph(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := standard(t)
		drawLog(rt, w, rapid.IntRange(0, 40).Draw(rt, "events"))
		g := w.fold()
		same(rt, g, g.AsOf(time.Time{}, 0))
		// And known at a cut is the graph of the log up to there.
		n := rapid.IntRange(len(w.records)-20, len(w.records)).Draw(rt, "cut")
		then := w.fold(w.records[:n]...)
		past := g.AsOf(time.Time{}, eventstore.Position(n))
		require.Equal(rt, then.List(cmdb.Filter{Retired: true}), past.List(cmdb.Filter{Retired: true}))
		require.Equal(rt, relations(rt, then), relations(rt, past))
		require.Equal(rt, then.Discrepancies(), past.Discrepancies())
	})
}

func TestATimeIsMappedToThePositionThatWasKnownThen(t *testing.T) {
	w := standard(t)
	_, ok := w.fold().PositionAt(day(100))
	require.False(t, ok, "no event with deltas")
	w.deltas(cmdb.Add("a", "server"))
	a := w.records[len(w.records)-1]
	w.add("note-1", noted{"in between"})
	w.deltas(cmdb.Add("b", "server"))
	b := w.records[len(w.records)-1]
	g := w.fold()
	for _, c := range []struct {
		at   time.Time
		want eventstore.Position
	}{{a.RecordedAt, a.Position}, {b.RecordedAt.Add(-time.Microsecond), a.Position}, {b.RecordedAt, b.Position}, {day(100), b.Position}} {
		position, ok := g.PositionAt(c.at)
		require.True(t, ok)
		require.Equal(t, c.want, position)
	}
	_, ok = g.PositionAt(a.RecordedAt.Add(-time.Microsecond))
	require.False(t, ok)
}

func TestTheServiceAnswersAsOfAMoment(t *testing.T) {
	h := start(t)
	done, err := h.Record(t.Context(), ann, cmdb.Add("db", "database", cmdb.Attr("version", "15")))
	require.NoError(t, err)
	_, err = h.Record(t.Context(), ann, cmdb.Set("db", "version", "15", "16"), cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db"))
	require.NoError(t, err)
	past, err := h.AsOf(t.Context(), monday, done.Position)
	require.NoError(t, err)
	require.Equal(t, 1, past.Len())
	deltas, err := h.Diff(t.Context(), cmdb.Moment{Known: done.Position}, cmdb.Moment{})
	require.NoError(t, err)
	require.Equal(t, []cmdb.Delta{cmdb.Add("shop", "service"), cmdb.Set("db", "version", "15", "16"), cmdb.Relate("shop", "depends on", "db")}, deltas)
	deltas, err = h.Diff(t.Context(), cmdb.Moment{}, cmdb.Moment{Valid: monday.Add(-time.Hour)})
	require.NoError(t, err)
	require.Equal(t, []cmdb.Delta{cmdb.Retire("db"), cmdb.Retire("shop")}, deltas)

	_, err = h.AsOf(t.Context(), monday, 1_000_000)
	require.ErrorIs(t, err, cmdb.ErrBeyondHead)
	_, err = h.Diff(t.Context(), cmdb.Moment{}, cmdb.Moment{Known: 1_000_000})
	require.ErrorIs(t, err, cmdb.ErrBeyondHead)

	position, ok, err := h.PositionAt(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.True(t, ok)
	require.Greater(t, position, done.Position)
}

// The graph as of a moment costs the events that are taken: the few that happened
// early are folded in a small part of the time that all of them take.
func TestTheGraphAsOfAnEarlyMomentIsCheap(t *testing.T) {
	w := standard(t)
	for n := range 20_000 {
		w.deltas(cmdb.Add(name(n), "server", cmdb.Attr("version", "1")))
	}
	g := w.fold()
	early := eventstore.Position(len(w.records) / 100)
	all, few := timing.Until(func(all, few time.Duration) bool { return 10*few < all },
		func() { require.Equal(t, 20_000, g.AsOf(time.Time{}, 0).Len()) },
		func() { require.Less(t, g.AsOf(time.Time{}, early).Len(), 300) })
	require.Less(t, 10*few, all)
}

func name(n int) string { return "ci-" + string(rune('a'+n%26)) + time.Duration(n).String() }

func BenchmarkAsOf(b *testing.B) {
	w := standard(b)
	for n := range 20_000 {
		w.deltas(cmdb.Add(name(n), "server", cmdb.Attr("version", "1")), cmdb.Set(name(n), "version", "1", "2"))
	}
	g := w.fold()
	b.Run("all of 40,000 deltas", func(b *testing.B) {
		for b.Loop() {
			g.AsOf(time.Time{}, 0)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/40_000, "ns/delta")
	})
	past := g.AsOf(time.Time{}, eventstore.Position(len(w.records)-100))
	b.Run("difference", func(b *testing.B) {
		for b.Loop() {
			require.Len(b, cmdb.Diff(past, g), 100)
		}
	})
}
