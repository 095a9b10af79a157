package spec_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/spec"
)

// isbn is equal to one with other hyphens; its method needs both.
type isbn struct{ digits, written string }

func (i *isbn) Equal(other *isbn) bool { return i.digits == other.digits }

// Types whose Equal is not the one of values: it takes nothing, another type,
// or says something else than yes or no.
type (
	alone    struct{ N int }
	foreign  struct{ N int }
	distance struct{ N int }
)

func (alone) Equal() bool           { return true }
func (foreign) Equal(string) bool   { return true }
func (distance) Equal(distance) int { return 0 }

type equaler interface{ Equal(equaler) bool }

func TestAMethodEqualDecidesWhereItComparesValues(t *testing.T) {
	type state struct {
		ISBN     *isbn
		Alone    alone
		Foreign  foreign
		Distance distance
		Equaler  equaler
		Until    *time.Time
		byTime   map[string]time.Time
	}
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	local := at.In(time.FixedZone("", 3600))
	for _, c := range []struct {
		name string
		a, b state
		same bool
	}{
		{"by a pointer's method", state{ISBN: &isbn{"1", "1-"}}, state{ISBN: &isbn{"1", "-1"}}, true},
		{"by a pointer's method, not equal", state{ISBN: &isbn{"1", "1"}}, state{ISBN: &isbn{"2", "1"}}, false},
		{"a pointer and none", state{ISBN: &isbn{}}, state{}, false},
		{"no pointer and one", state{}, state{ISBN: &isbn{}}, false},
		{"no pointers, no interfaces", state{}, state{}, true},
		{"a method without argument", state{Alone: alone{1}}, state{Alone: alone{2}}, false},
		{"a method for another type", state{Foreign: foreign{1}}, state{Foreign: foreign{2}}, false},
		{"a method with another answer", state{Distance: distance{1}}, state{Distance: distance{2}}, false},
		{"pointers to times", state{Until: &at}, state{Until: &local}, true},
		{"times that are not exported", state{byTime: map[string]time.Time{"a": at}}, state{byTime: map[string]time.Time{"a": at}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := eventstore.Decider[state, any]{Evolve: func(state, any) state { return c.a }}
			said := outcome(t, func(t testing.TB) { spec.Given(t, registry, d, Added{}).ThenState(c.b) })
			require.Equal(t, c.same, said == "", said)
		})
	}
}

func TestWhatIsSharedIsComparedWhereverItStands(t *testing.T) {
	type book struct {
		Number int
		Title  string
	}
	type state struct {
		Number *int
		Book   *book
		Again  *book
	}
	point := func(b, again *book) state { return state{&b.Number, b, again} }
	emma, otherEmma, anna := &book{1, "Emma"}, &book{1, "Emma"}, &book{1, "Anna"}
	for _, c := range []struct {
		name string
		a, b state
		same bool
	}{
		{"the same twice and two that are equal", point(emma, emma), point(otherEmma, emma), true},
		{"the same twice and two that differ", point(emma, emma), point(otherEmma, anna), false},
		{"two that differ and the same twice", point(otherEmma, anna), point(emma, emma), false},
		{"a pointer into what differs elsewhere", point(emma, nil), point(anna, nil), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := eventstore.Decider[state, any]{Evolve: func(state, any) state { return c.a }}
			said := outcome(t, func(t testing.TB) { spec.Given(t, registry, d, Added{}).ThenState(c.b) })
			require.Equal(t, c.same, said == "", said)
		})
	}
}

// never is not even equal to itself, and prints as if it were.
type never struct{}

func (never) Equal(never) bool { return false }

func TestADifferenceThatDoesNotShowFails(t *testing.T) {
	d := eventstore.Decider[never, any]{}
	said := outcome(t, func(t testing.TB) { spec.Given(t, registry, d).ThenState(never{}) })
	require.Contains(t, said, "Evolve is not deterministic")
	require.Contains(t, said, "want {}\ngot  {}")
}
