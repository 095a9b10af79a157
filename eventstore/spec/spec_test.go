package spec_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a test whose failure is looked at instead of reported.
type recorder struct {
	testing.TB
	messages []string
	cleanups []func()
}

func (r *recorder) Helper()             {}
func (r *recorder) Cleanup(f func())    { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Failed() bool        { return len(r.messages) > 0 }
func (r *recorder) FailNow()            { runtime.Goexit() }
func (r *recorder) Logf(string, ...any) {}
func (r *recorder) Errorf(format string, args ...any) {
	r.messages = append(r.messages, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); r.FailNow() }
func (r *recorder) Fatal(args ...any)                 { r.Fatalf("%s", fmt.Sprint(args...)) }

// outcome runs f as a test to its end and returns how it failed, "" if it did not.
func outcome(t *testing.T, f func(t testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, c := range r.cleanups {
				c()
			}
		}()
		f(r)
	}()
	<-done
	return strings.Join(r.messages, "\n")
}

func TestAScenarioThatHoldsPasses(t *testing.T) {
	until := time.Date(2026, 3, 24, 0, 0, 0, 0, time.UTC)
	spec.Given(t, registry, lending, Added{Title: "Emma"}, &Lent{To: "ann", Until: until}).
		When(Return{By: "ann"}).Then(Returned{By: "ann"}).
		When(Return{By: "ann"}).ThenError(ErrNotLent).
		When(Lend{To: "bob", Until: until}).Then(Lent{To: "bob", Until: until.In(time.FixedZone("", 3600))}).
		ThenState(Book{Title: "Emma", LentTo: "bob", Until: until, Loans: 2})

	var other *OtherReaderError
	spec.Given(t, registry, lending, Lent{To: "ann"}).When(Return{By: "bob"}).ThenErrorAs(&other)
	require.Equal(t, "ann", other.Has)

	require.Equal(t, Book{}, spec.Given(t, registry, lending).State())
	require.Equal(t, 1, spec.Given(t, registry, lending).When(Lend{To: "ann"}).State().Loans)
}

func TestWhatARefusedCommandDecidedIsNotRecorded(t *testing.T) {
	both := with(func(Book, any) ([]any, error) { return []any{Lent{To: "ann"}}, ErrLent })
	spec.Given(t, registry, both, Added{Title: "Emma"}).When(nil).ThenError(ErrLent).ThenState(Book{Title: "Emma"})
}

func TestAFailureIsReportedOnce(t *testing.T) {
	said := outcome(t, func(t testing.TB) {
		spec.Given(t, registry, lending).When(Lend{To: "ann"})
		t.Fatal("something else")
	})
	require.Equal(t, "something else", said)
}

// with returns the decider of books with another Decide.
func with(decide func(Book, any) ([]any, error)) eventstore.Decider[Book, any] {
	return eventstore.Decider[Book, any]{Decide: decide, Evolve: lending.Evolve}
}

// Payloads that a store does not give back.
type (
	Unregistered struct{ N int }
	Unexported   struct{ N, n int }
	Left         struct {
		N int `json:"-"`
	}
	Rounded struct{ At day }
	Failing struct{ C chan int }
)

// Shelved is equal wherever the book stands, but is found by the place.
type Shelved struct{ Title, Place string }

func (s Shelved) Equal(other Shelved) bool { return s.Title == other.Title }
func (s Shelved) Tags() []string           { return []string{s.Place} }

// day is a time whose JSON forgets the hour.
type day struct{ at time.Time }

func (d day) MarshalText() ([]byte, error) { return []byte(d.at.Format(time.DateOnly)), nil }
func (d *day) UnmarshalText(text []byte) (err error) {
	d.at, err = time.Parse(time.DateOnly, string(text))
	return err
}

func TestAScenarioThatDoesNotHoldFails(t *testing.T) {
	lossy, err := eventstore.NewRegistry(
		eventstore.Type[Added]("book.added", 1), eventstore.Type[Unexported]("unexported", 1),
		eventstore.Type[Left]("left", 1), eventstore.Type[Rounded]("rounded", 1), eventstore.Type[Failing]("failing", 1),
	)
	require.NoError(t, err)
	tagged, err := eventstore.NewRegistry(eventstore.Type[Shelved]("shelved", 1))
	require.NoError(t, err)
	decides := func(payloads ...any) eventstore.Decider[Book, any] {
		return with(func(Book, any) ([]any, error) { return payloads, nil })
	}
	var calls atomic.Int64
	type shelf struct{ Books map[string]int }
	shelves := eventstore.Decider[shelf, any]{
		Decide: func(s shelf, _ any) ([]any, error) { s.Books["Emma"]++; return nil, nil },
		Evolve: func(s shelf, payload any) shelf {
			if s.Books == nil {
				s.Books = map[string]int{}
			}
			s.Books[payload.(Added).Title]++
			return s
		},
	}
	for _, c := range []struct {
		name string
		test func(t testing.TB)
		says []string
	}{
		{"other events", func(t testing.TB) {
			spec.Given(t, registry, lending, Lent{To: "ann"}).When(Return{By: "ann"}).Then(Returned{By: "bob"})
		}, []string{`When(spec_test.Return{By:ann})`, "led to other events", `-  "by": "bob"`, `+  "by": "ann"`}},
		{"another type of event", func(t testing.TB) {
			spec.Given(t, registry, lending, Lent{To: "ann"}).When(Return{By: "ann"}).Then(Lent{To: "ann"})
		}, []string{"book.lent #reader:ann {", "book.returned {"}},
		{"fewer events", func(t testing.TB) {
			spec.Given(t, registry, lending, Lent{To: "ann"}).When(Return{By: "ann"}).ThenNothing()
		}, []string{"no event", "book.returned"}},
		{"more events", func(t testing.TB) {
			spec.Given(t, registry, lending, Lent{To: "ann"}).When(Return{By: "ann"}).Then(Returned{By: "ann"}, Returned{By: "ann"})
		}, []string{"other events"}},
		{"refused", func(t testing.TB) {
			spec.Given(t, registry, lending).When(Return{By: "ann"}).Then(Returned{By: "ann"})
		}, []string{"was refused: the book is not lent", "ThenError"}},
		{"refused, nothing wanted", func(t testing.TB) { spec.Given(t, registry, lending).When(Return{By: "ann"}).ThenNothing() }, []string{"was refused"}},
		{"refused, state wanted", func(t testing.TB) { spec.Given(t, registry, lending).When(Return{By: "ann"}).ThenState(Book{}) }, []string{"was refused"}},
		{"not refused", func(t testing.TB) {
			spec.Given(t, registry, lending).When(Lend{To: "ann"}).ThenError(ErrLent)
		}, []string{"was not refused", "book.lent"}},
		{"another error", func(t testing.TB) { spec.Given(t, registry, lending).When(Return{}).ThenError(ErrLent) }, []string{"refused otherwise", "the book is not lent"}},
		{"another type of error", func(t testing.TB) {
			var other *OtherReaderError
			spec.Given(t, registry, lending).When(Return{}).ThenErrorAs(&other)
		}, []string{"refused otherwise", "the book is not lent"}},
		{"another state", func(t testing.TB) {
			spec.Given(t, registry, lending, Added{Title: "Emma"}).ThenState(Book{Title: "Persuasion"})
		}, []string{"the state is another", "Persuasion", "Emma"}},

		{"nothing said", func(t testing.TB) { spec.Given(t, registry, lending).When(Lend{To: "ann"}) }, []string{"When(spec_test.Lend{To:ann", "proves nothing"}},
		{"nothing said in between", func(t testing.TB) {
			spec.Given(t, registry, lending).When(Lend{To: "ann"}).When(Return{By: "ann"}).Then(Returned{By: "ann"})
		}, []string{"followed by another When"}},
		{"no command", func(t testing.TB) { spec.Given(t, registry, lending).Then() }, []string{"Then without a command"}},
		{"said twice", func(t testing.TB) { spec.Given(t, registry, lending).When(Lend{}).ThenNothing().ThenNothing() }, []string{"without a command"}},

		{"a payload not registered, given", func(t testing.TB) { spec.Given(t, registry, lending, Unregistered{}) }, []string{"Given: ", "Unregistered", "eventstore.Type"}},
		{"a payload not registered, decided", func(t testing.TB) {
			spec.Given(t, registry, decides(Unregistered{})).When(nil).ThenNothing()
		}, []string{"When(", "Unregistered"}},
		{"a payload not registered, wanted", func(t testing.TB) {
			spec.Given(t, registry, decides()).When(nil).Then(Unregistered{})
		}, []string{"Then: ", "Unregistered"}},
		{"no payload", func(t testing.TB) { spec.Given(t, registry, lending, nil) }, []string{"Given: "}},
		{"a field not exported", func(t testing.TB) { spec.Given(t, lossy, lending, Unexported{n: 1}) }, []string{"as another", "export its fields"}},
		{"a field left out", func(t testing.TB) { spec.Given(t, lossy, decides(Left{N: 1})).When(nil).Then(Left{N: 1}) }, []string{"When(", "as another"}},
		{"a field rounded", func(t testing.TB) { spec.Given(t, lossy, lending, Rounded{day{time.Unix(1, 0)}}) }, []string{"as another"}},
		{"a field without JSON", func(t testing.TB) { spec.Given(t, lossy, lending, Failing{make(chan int)}) }, []string{"Given: encode failing"}},
		{"a payload no store takes", func(t testing.TB) {
			spec.Given(t, registry, lending, Added{Title: strings.Repeat("x", eventstore.MaxData)})
		}, []string{"no store would take a spec_test.Added", "too large"}},

		{"a decider with a clock", func(t testing.TB) {
			spec.Given(t, registry, with(func(Book, any) ([]any, error) { return []any{Lent{Until: time.Now()}}, nil })).When(nil).ThenNothing()
		}, []string{"not deterministic", "no clock"}},
		{"a decider that draws", func(t testing.TB) {
			spec.Given(t, registry, with(func(Book, any) ([]any, error) { return []any{Returned{By: fmt.Sprint(rand.Int())}}, nil })).When(nil).ThenNothing()
		}, []string{"not deterministic"}},
		{"a decider that counts its calls", func(t testing.TB) {
			spec.Given(t, registry, with(func(Book, any) ([]any, error) { return make([]any, 0), fmt.Errorf("call %d", calls.Add(1)) })).When(nil).ThenError(ErrLent)
		}, []string{"not deterministic", "call"}},
		{"a decider that refuses at times", func(t testing.TB) {
			spec.Given(t, registry, with(func(Book, any) ([]any, error) {
				if calls.Add(1)%3 == 0 {
					return nil, ErrLent
				}
				return nil, nil
			})).When(nil).ThenNothing()
		}, []string{"not deterministic", "the book is lent"}},
		{"a decider that changes its state", func(t testing.TB) {
			spec.Given(t, registry, shelves, Added{Title: "Emma"}).When(nil).ThenNothing()
		}, []string{"changed the state"}},
		{"a decider that changes its state later", func(t testing.TB) {
			d, n := shelves, 0
			d.Decide = func(s shelf, command any) ([]any, error) {
				if n++; n == 3 {
					return shelves.Decide(s, command)
				}
				return nil, nil
			}
			spec.Given(t, registry, d, Added{Title: "Emma"}).When(nil).ThenNothing()
		}, []string{"changed the state"}},
		{"other tags", func(t testing.TB) {
			spec.Given(t, tagged, decides(Shelved{"Emma", "shelf:A"})).When(nil).Then(Shelved{"Emma", "shelf:B"})
		}, []string{"other events", "-shelved #shelf:B", "+shelved #shelf:A"}},
		{"an Evolve with a clock", func(t testing.TB) {
			spec.Given(t, registry, eventstore.Decider[Book, any]{Evolve: func(b Book, _ any) Book { b.Until = time.Now(); return b }}, Added{}).State()
		}, []string{"Evolve is not deterministic"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			said := outcome(t, c.test)
			require.NotEmpty(t, said, "it passed")
			for _, s := range c.says {
				require.Contains(t, said, s)
			}
		})
	}
}

// A map's order decides at least one of eight runs otherwise, nearly always.
func TestTheOrderOfAMapIsFound(t *testing.T) {
	d := with(func(Book, any) ([]any, error) {
		for by := range map[string]int{"ann": 1, "bob": 2, "eve": 3, "joe": 4} {
			return []any{Returned{By: by}}, nil
		}
		return nil, nil
	})
	found := 0
	for range 20 {
		if outcome(t, func(t testing.TB) { spec.Given(t, registry, d).When(nil).State() }) != "" {
			found++
		}
	}
	require.Greater(t, found, 15)
}

func TestStatesAreComparedAsValues(t *testing.T) {
	type node struct {
		Next  *node
		Times []time.Time
		Names map[string][]int
		Any   any
		Err   error
		call  func()
	}
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	loop := func(name string) *node {
		n := &node{Times: []time.Time{at}, Names: map[string][]int{name: {1}}, Any: &name}
		n.Next = n
		return n
	}
	local := loop("a")
	local.Times[0] = at.In(time.FixedZone("", 3600))
	for _, c := range []struct {
		name string
		a, b *node
		same bool
	}{
		{"nil", nil, nil, true},
		{"nil and not", nil, &node{}, false},
		{"empty and nil", &node{Times: []time.Time{}, Names: map[string][]int{}}, &node{}, true},
		{"cycles", loop("a"), loop("a"), true},
		{"other cycles", loop("a"), loop("b"), false},
		{"instants", loop("a"), local, true},
		{"a shorter list", &node{Times: []time.Time{at, at}}, &node{Times: []time.Time{at}}, false},
		{"a longer list", &node{Times: []time.Time{at}}, &node{Times: []time.Time{at, at}}, false},
		{"a longer map", &node{Names: map[string][]int{"a": {1}}}, &node{Names: map[string][]int{"a": {1}, "b": {1}}}, false},
		{"a shorter map", &node{Names: map[string][]int{"a": {1}, "b": {1}}}, &node{Names: map[string][]int{"a": {1}}}, false},
		{"another name in a map", &node{Names: map[string][]int{"a": nil}}, &node{Names: map[string][]int{"b": nil}}, false},
		{"another value in a map", &node{Names: map[string][]int{"a": {1}}}, &node{Names: map[string][]int{"a": {2}}}, false},
		{"another type inside", &node{Any: 1}, &node{Any: "1"}, false},
		{"a value and none", &node{Any: 1}, &node{}, false},
		{"errors", &node{Err: errors.New("a")}, &node{Err: errors.New("a")}, true},
		{"functions", &node{call: func() {}}, &node{call: func() {}}, false},
		{"a function and none", &node{call: func() {}}, &node{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := eventstore.Decider[*node, any]{Evolve: func(*node, any) *node { return c.a }}
			said := outcome(t, func(t testing.TB) { spec.Given(t, registry, d, Added{}).ThenState(c.b) })
			if c.a != nil && c.a.call != nil {
				require.NotEmpty(t, said)
				return
			}
			require.Equal(t, c.same, said == "", said)
		})
	}
}
