package cmdb_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/cmdb"
)

// shopEstate is a small shop: two application servers in a pool, a database and
// its host, a rack, and documents.
func shopEstate(t testing.TB) *written {
	return standard(t).deltas(
		cmdb.Add("rack-1", "rack"),
		cmdb.Add("host-1", "physical-server"),
		cmdb.Add("db-01", "database"),
		cmdb.Add("app-1", "application"),
		cmdb.Add("app-2", "application"),
		cmdb.Add("apps", "cluster", cmdb.Attr("min_up", "1")),
		cmdb.Add("shop", "service", cmdb.Attr("criticality", "critical")),
		cmdb.Add("portal", "service"),
		cmdb.Add("manual", "document"),
	).deltas(cmdb.Relate("rack-1", "contains", "host-1")).
		deltas(cmdb.Relate("db-01", "runs on", "host-1")).
		deltas(cmdb.Relate("app-1", "depends on", "db-01"), cmdb.Relate("app-1", "member of", "apps")).
		deltas(cmdb.Relate("app-2", "depends on", "db-01"), cmdb.Relate("app-2", "member of", "apps")).
		deltas(cmdb.Relate("shop", "depends on", "apps")).
		deltas(cmdb.Relate("portal", "depends on", "shop"), cmdb.Relate("portal", "connects to", "shop")).
		deltas(cmdb.Relate("manual", "documents", "shop"))
}

// reached are the CIs of an impact with their depths.
func reached(impact cmdb.Impact) []string {
	var all []string
	for _, r := range impact.Reached {
		all = append(all, fmt.Sprintf("%d %s", r.Depth, r.CI.ID))
	}
	return all
}

func path(steps []cmdb.Step) string {
	var all []string
	for _, s := range steps {
		all = append(all, fmt.Sprintf("%s %s %s", s.From, s.Relation, s.To))
	}
	return strings.Join(all, ", ")
}

// DOMAIN 4.2: forward, who is affected if this goes down, and backward, what it
// needs, with depth limit, per relation type, and with the path.
func TestImpactFollowsRelationsTheWayItRuns(t *testing.T) {
	g := shopEstate(t).fold()
	for name, c := range map[string]struct {
		from      []string
		direction cmdb.Direction
		options   []cmdb.ImpactOption
		reached   []string
	}{
		"a database goes down":            {[]string{"db-01"}, cmdb.Down, nil, []string{"1 app-1", "1 app-2", "2 apps", "3 shop", "4 portal"}},
		"a rack goes down":                {[]string{"rack-1"}, cmdb.Down, nil, []string{"1 host-1", "2 db-01", "3 app-1", "3 app-2", "4 apps", "5 shop", "6 portal"}},
		"one of a pool that can lose one": {[]string{"app-1"}, cmdb.Down, nil, nil},
		"both of them":                    {[]string{"app-2", "app-1", "app-2"}, cmdb.Down, nil, []string{"1 apps", "2 shop", "3 portal"}},
		"the pool itself":                 {[]string{"apps"}, cmdb.Down, nil, []string{"1 shop", "2 portal"}},
		"a document":                      {[]string{"manual"}, cmdb.Down, nil, nil},
		"both ways of a connection":       {[]string{"portal"}, cmdb.Down, nil, []string{"1 shop"}},
		"one step":                        {[]string{"db-01"}, cmdb.Down, []cmdb.ImpactOption{cmdb.Depth(1)}, []string{"1 app-1", "1 app-2"}},
		"three steps":                     {[]string{"db-01"}, cmdb.Down, []cmdb.ImpactOption{cmdb.Depth(3)}, []string{"1 app-1", "1 app-2", "2 apps", "3 shop"}},
		"no step":                         {[]string{"db-01"}, cmdb.Down, []cmdb.ImpactOption{cmdb.Depth(0)}, nil},
		"some relations":                  {[]string{"host-1"}, cmdb.Down, []cmdb.ImpactOption{cmdb.Through("runs on")}, []string{"1 db-01"}},
		"by the name read backwards":      {[]string{"db-01"}, cmdb.Down, []cmdb.ImpactOption{cmdb.Through("used by"), cmdb.Through("has member")}, []string{"1 app-1", "1 app-2", "2 apps", "3 shop", "4 portal"}},
		"nothing that is asked for":       {nil, cmdb.Down, nil, nil},
		"what a service needs":            {[]string{"shop"}, cmdb.Up, nil, []string{"1 apps", "1 portal", "2 app-1", "2 app-2", "3 db-01", "4 host-1", "5 rack-1"}},
		"what a server needs":             {[]string{"host-1"}, cmdb.Up, nil, []string{"1 rack-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			impact, err := g.Impact(c.from, c.direction, c.options...)
			require.NoError(t, err)
			require.Equal(t, c.reached, reached(impact))
			for _, r := range impact.Reached {
				require.Len(t, r.Path, r.Depth)
				require.Contains(t, c.from, r.Path[0].From)
				require.Equal(t, r.CI.ID, r.Path[r.Depth-1].To)
				for i := 1; i < r.Depth; i++ {
					require.Equal(t, r.Path[i-1].To, r.Path[i].From)
				}
			}
		})
	}
}

func TestAPathIsReadFromTheCause(t *testing.T) {
	g := shopEstate(t).fold()
	impact, err := g.Impact([]string{"rack-1"}, cmdb.Down)
	require.NoError(t, err)
	shop := impact.Reached[5]
	require.Equal(t, "critical", shop.CI.Attributes["criticality"])
	require.Equal(t, "rack-1 contains host-1, host-1 hosts db-01, db-01 used by app-1, app-1 member of apps, apps used by shop", path(shop.Path))
	impact, err = g.Impact([]string{"db-01"}, cmdb.Up)
	require.NoError(t, err)
	require.Equal(t, "db-01 runs on host-1, host-1 contained by rack-1", path(impact.Reached[1].Path))
	// Of two relations between the same two the first by name is shown.
	impact, err = g.Impact([]string{"shop"}, cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, "shop connects to portal", path(impact.Reached[0].Path))
}

func TestPathsThatShareTheirBeginningEndEachInItsCI(t *testing.T) {
	w := standard(t).deltas(cmdb.Add("c-0", "server"))
	for i := range 12 {
		c, fan := fmt.Sprint("c-", i+1), fmt.Sprint("a-", i+1) // the fan comes first in order
		w.deltas(cmdb.Add(c, "server"), cmdb.Relate(c, "depends on", fmt.Sprint("c-", i)))
		w.deltas(cmdb.Add(fan, "server"), cmdb.Relate(fan, "depends on", fmt.Sprint("c-", i)))
	}
	impact, err := w.fold().Impact([]string{"c-0"}, cmdb.Down)
	require.NoError(t, err)
	require.Len(t, impact.Reached, 24)
	for _, r := range impact.Reached {
		require.Len(t, r.Path, r.Depth)
		for i, s := range r.Path {
			to := fmt.Sprint("c-", i+1)
			if i == r.Depth-1 {
				to = r.CI.ID
			}
			require.Equal(t, cmdb.Step{From: fmt.Sprint("c-", i), Relation: "used by", To: to}, s)
		}
	}
}

func TestPathsCanBeExtendedWithoutHarm(t *testing.T) {
	g := shopEstate(t).fold()
	impact, err := g.Impact([]string{"rack-1"}, cmdb.Down)
	require.NoError(t, err)
	for _, r := range impact.Reached {
		_ = append(r.Path, cmdb.Step{From: "x", Relation: "x", To: "x"})
	}
	again, err := g.Impact([]string{"rack-1"}, cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, again, impact)
}

// DOMAIN 4.2: minUp = count or N x pct / 100; threshold = max(0, N - minUp); the
// sink is reached only if failed > threshold.
func TestAPoolIsReachedWhenItLosesMoreThanItCan(t *testing.T) {
	for _, c := range []struct {
		members int
		minUp   string
		spare   int // failures that it survives
	}{
		{1, "", 0}, {3, "", 0}, // without a number any failure reaches
		{4, "0", 4}, {4, "1", 3}, {4, "2", 2}, {4, "4", 0}, {4, "5", 0}, {4, "100", 0},
		{4, "0%", 4}, {4, "50%", 2}, {4, "100%", 0}, {4, "25%", 3}, {4, "75%", 1},
		// Fractions are rounded up to the safe side: half of three is two.
		{3, "50%", 1}, {3, "34%", 1}, {3, "33%", 2}, {3, "1%", 2}, {3, "67%", 0}, {10, "91%", 0}, {10, "90%", 1}, {7, "30%", 4},
		{5, "half", 0}, // cannot be read, as a source may report it: as without
	} {
		w := standard(t).deltas(cmdb.Add("pool", "cluster", cmdb.Attr("min_up", c.minUp)), cmdb.Add("service", "service"))
		w.deltas(cmdb.Relate("service", "depends on", "pool"))
		var members []string
		for i := range c.members {
			m := fmt.Sprint("m", i)
			members = append(members, m)
			w.deltas(cmdb.Add(m, "server"), cmdb.Relate(m, "member of", "pool"))
		}
		// One that is gone and one that has left do not count.
		w.deltas(cmdb.Add("gone", "server"), cmdb.Relate("gone", "member of", "pool"), cmdb.Retire("gone"))
		w.deltas(cmdb.Add("left", "server"), cmdb.Relate("left", "member of", "pool"), cmdb.Unrelate("left", "member of", "pool"))
		g := w.fold()
		for failed := 1; failed <= c.members; failed++ {
			impact, err := g.Impact(members[:failed], cmdb.Down)
			require.NoError(t, err)
			if failed > c.spare {
				require.Equal(t, []string{"1 pool", "2 service"}, reached(impact), "%d of %d failed, min_up %q", failed, c.members, c.minUp)
				require.Empty(t, impact.Degraded)
			} else {
				require.Empty(t, impact.Reached, "%d of %d failed, min_up %q", failed, c.members, c.minUp)
				require.Equal(t, []cmdb.Degraded{{CI: "pool", Members: c.members, Failed: failed, Spare: c.spare - failed}}, impact.Degraded)
			}
		}
		// What a service needs is every member.
		impact, err := g.Impact([]string{"service"}, cmdb.Up)
		require.NoError(t, err)
		require.Len(t, impact.Reached, 1+c.members)
		require.Empty(t, impact.Degraded)
	}
}

func TestAPoolIsReachedByMembersThatFailOneAfterTheOther(t *testing.T) {
	// m1 fails at once, m2 one step later, m3 two: the pool of three that needs
	// two goes down with the second.
	g := standard(t).deltas(
		cmdb.Add("pool", "cluster", cmdb.Attr("min_up", "2")), cmdb.Add("m1", "server"), cmdb.Add("m2", "server"), cmdb.Add("m3", "server"),
		cmdb.Relate("m1", "member of", "pool"), cmdb.Relate("m2", "member of", "pool"), cmdb.Relate("m3", "member of", "pool"),
		cmdb.Relate("m2", "depends on", "m1"), cmdb.Relate("m3", "depends on", "m2")).fold()
	impact, err := g.Impact([]string{"m1"}, cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, []string{"1 m2", "2 m3", "2 pool"}, reached(impact))
	require.Equal(t, "m1 used by m2, m2 member of pool", path(impact.Reached[2].Path))
	impact, err = g.Impact([]string{"m1"}, cmdb.Down, cmdb.Depth(1))
	require.NoError(t, err)
	require.Equal(t, []cmdb.Degraded{{CI: "pool", Members: 3, Failed: 1, Spare: 0}}, impact.Degraded)
}

func TestAPoolThatHangsOnWhatFailedIsReachedAllTheSame(t *testing.T) {
	g := standard(t).deltas(
		cmdb.Add("pool", "cluster", cmdb.Attr("min_up", "1")), cmdb.Add("m1", "server"), cmdb.Add("m2", "server"),
		cmdb.Relate("m1", "member of", "pool"), cmdb.Relate("m2", "member of", "pool"), cmdb.Relate("pool", "depends on", "m1")).fold()
	impact, err := g.Impact([]string{"m1"}, cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, []string{"1 pool"}, reached(impact))
	require.Equal(t, "m1 used by pool", path(impact.Reached[0].Path))
	require.Empty(t, impact.Degraded)
}

func TestImpactGoesRoundInCirclesOnce(t *testing.T) {
	g := standard(t).deltas(
		cmdb.Add("a", "server"), cmdb.Add("b", "server"), cmdb.Add("c", "server"),
		cmdb.Relate("a", "depends on", "b"), cmdb.Relate("b", "depends on", "c"), cmdb.Relate("c", "depends on", "a")).fold()
	for _, direction := range []cmdb.Direction{cmdb.Down, cmdb.Up} {
		impact, err := g.Impact([]string{"a"}, direction)
		require.NoError(t, err)
		require.Len(t, impact.Reached, 2)
	}
}

// Unknown is not clear.
func TestImpactOfWhatIsNotThereIsAnError(t *testing.T) {
	g := shopEstate(t).deltas(cmdb.Retire("app-2")).fold()
	_, err := g.Impact([]string{"shop", "nowhere", "app-2", "nothing"}, cmdb.Down)
	require.ErrorIs(t, err, cmdb.ErrUnknownCI)
	var unknown *cmdb.UnknownError
	require.True(t, errors.As(err, &unknown))
	require.Equal(t, []string{"nothing", "nowhere"}, unknown.Names)
	require.Equal(t, []string{"app-2"}, unknown.Retired)
	require.EqualError(t, err, `unknown CI: there is no "nothing", "nowhere": retired is "app-2"`)
	_, err = g.Impact([]string{"shop"}, cmdb.Down, cmdb.Through("depends on", "loves"))
	require.ErrorIs(t, err, cmdb.ErrUnknownRelation)
	require.NotErrorIs(t, err, cmdb.ErrUnknownCI)
	require.ErrorContains(t, err, "loves")
}

func TestWhatIsRetiredTakesNoPartInImpact(t *testing.T) {
	w := shopEstate(t)
	w.deltas(cmdb.Retire("app-2"))
	impact, err := w.fold().Impact([]string{"app-1"}, cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, []string{"1 apps", "2 shop", "3 portal"}, reached(impact), "the pool has one member left")
	w.deltas(cmdb.Retire("shop"))
	impact, err = w.fold().Impact([]string{"app-1"}, cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, []string{"1 apps"}, reached(impact))
}

// edge is a relation of the oracle.
type edge struct{ from, relation, to string }

// oracle computes impact from a list of edges, by rounds over all of them.
func oracle(types map[string]cmdb.RelationType, edges []edge, minUp map[string]string, from []string, up bool, depth int) (reached map[string]int, degraded []cmdb.Degraded) {
	type hop struct {
		from, to string
		pooled   bool
	}
	var hops []hop
	for _, e := range edges {
		r := types[e.relation]
		if r.Impact == cmdb.Forward || r.Impact == cmdb.Both {
			hops = append(hops, hop{e.from, e.to, r.Pooled})
		}
		if r.Impact == cmdb.Backward || r.Impact == cmdb.Both {
			hops = append(hops, hop{e.to, e.from, r.Pooled})
		}
	}
	down := map[string]int{}
	for _, ci := range from {
		down[ci] = 0
	}
	members := func(pool string) map[string]bool {
		all := map[string]bool{}
		for _, h := range hops {
			if h.to == pool && h.pooled {
				all[h.from] = true
			}
		}
		return all
	}
	failed := func(pool string, before int) int {
		n := 0
		for m := range members(pool) {
			if at, ok := down[m]; ok && at < before {
				n++
			}
		}
		return n
	}
	threshold := func(pool string) int {
		n := len(members(pool))
		var want, percent int
		if c, _ := fmt.Sscanf(minUp[pool], "%d%%", &percent); c == 1 && strings.HasSuffix(minUp[pool], "%") {
			for want*100 < n*percent {
				want++
			}
		} else {
			fmt.Sscan(minUp[pool], &want)
		}
		return max(0, n-want)
	}
	rounds := 1
	for ; depth < 0 || rounds <= depth; rounds++ {
		next := map[string]bool{}
		for _, h := range hops {
			a, b := h.from, h.to
			if up {
				a, b = b, a
			}
			if _, ok := down[a]; !ok {
				continue
			}
			if _, ok := down[b]; ok {
				continue
			}
			if !up && h.pooled && minUp[b] != "" && failed(b, rounds) <= threshold(b) {
				continue
			}
			next[b] = true
		}
		if len(next) == 0 {
			break
		}
		for ci := range next {
			down[ci] = rounds
		}
	}
	if depth >= 0 && rounds > depth {
		rounds = depth // what hangs on those that were reached last is not looked at
	}
	if !up {
		for _, pool := range slices.Sorted(maps.Keys(minUp)) {
			if _, ok := down[pool]; ok {
				continue
			}
			if n := failed(pool, rounds); n > 0 {
				degraded = append(degraded, cmdb.Degraded{CI: pool, Members: len(members(pool)), Failed: n, Spare: threshold(pool) - n})
			}
		}
	}
	for _, ci := range from {
		delete(down, ci)
	}
	return down, degraded
}

func TestImpactAgreesWithAnOracle(t *testing.T) {
	types := map[string]cmdb.RelationType{}
	base := write(t)
	for _, r := range append(cmdb.StandardRelations(), cmdb.RelationType{Name: "guards", Inverse: "guarded by", Impact: cmdb.Backward, Pooled: true},
		cmdb.RelationType{Name: "mirrors", Inverse: "mirrors", Impact: cmdb.Both, Pooled: true}) {
		types[r.Name] = r
		base.add("classes", cmdb.RelationDefined{Relation: r})
	}
	names := slices.Sorted(maps.Keys(types))
	rapid.Check(t, func(rt *rapid.T) {
		w := &written{t: t, registry: base.registry, records: slices.Clone(base.records), versions: maps.Clone(base.versions)}
		n := rapid.IntRange(1, 14).Draw(rt, "CIs")
		ids := make([]string, n)
		minUp := map[string]string{}
		for i := range ids {
			ids[i] = fmt.Sprintf("ci-%02d", i)
			m := rapid.SampledFrom([]string{"", "", "0", "1", "2", "3", "30%", "50%", "67%", "100%"}).Draw(rt, "min up")
			if m != "" {
				minUp[ids[i]] = m
			}
			w.deltas(cmdb.Add(ids[i], "server", cmdb.Attr("min_up", m)))
		}
		known := map[edge]bool{}
		var edges []edge
		for range rapid.IntRange(0, 3*n).Draw(rt, "relations") {
			e := edge{rapid.SampledFrom(ids).Draw(rt, "from"), rapid.SampledFrom(names).Draw(rt, "relation"), rapid.SampledFrom(ids).Draw(rt, "to")}
			if e.from == e.to || known[e] {
				continue
			}
			known[e] = true
			edges = append(edges, e)
			w.deltas(cmdb.Relate(e.from, e.relation, e.to))
		}
		from := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 1, min(3, n), rapid.ID).Draw(rt, "sources")
		depth := rapid.IntRange(-1, 4).Draw(rt, "depth")
		through := rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(rt, "through")
		var options []cmdb.ImpactOption
		if depth >= 0 {
			options = append(options, cmdb.Depth(depth))
		}
		g := w.fold()
		for _, up := range []bool{false, true} {
			direction := cmdb.Down
			if up {
				direction = cmdb.Up
			}
			impact, err := g.Impact(from, direction, options...)
			require.NoError(rt, err)
			want, degraded := oracle(types, edges, minUp, from, up, depth)
			got := map[string]int{}
			for _, r := range impact.Reached {
				got[r.CI.ID] = r.Depth
				require.Len(rt, r.Path, r.Depth)
				require.Equal(rt, r.CI.ID, r.Path[r.Depth-1].To)
				require.Contains(rt, from, r.Path[0].From)
				for i, s := range r.Path {
					side := edge{s.From, s.Relation, s.To}
					ok := known[side]
					for _, typ := range types {
						ok = ok || typ.Inverse == s.Relation && known[edge{s.To, typ.Name, s.From}]
					}
					require.True(rt, ok, "step %v is a relation", s)
					require.True(rt, i == 0 || r.Path[i-1].To == s.From)
				}
			}
			require.Equal(rt, want, got)
			require.Equal(rt, degraded, impact.Degraded)
			require.True(rt, slices.IsSortedFunc(impact.Reached, func(a, b cmdb.Reached) int {
				return strings.Compare(fmt.Sprintf("%3d%s", a.Depth, a.CI.ID), fmt.Sprintf("%3d%s", b.Depth, b.CI.ID))
			}))
			if len(through) > 0 && !up && len(minUp) == 0 {
				narrow, err := g.Impact(from, direction, append(options, cmdb.Through(through...))...)
				require.NoError(rt, err)
				var some []edge
				for _, e := range edges {
					if slices.Contains(through, e.relation) {
						some = append(some, e)
					}
				}
				want, _ := oracle(types, some, minUp, from, up, depth)
				require.Len(rt, narrow.Reached, len(want))
			}
		}
	})
}
