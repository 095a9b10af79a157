package spec_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/spec"
)

// The events of a library's book.
type (
	Added struct { // a copy came into the library
		Title string `json:"title"`
	}
	Lent struct { // a reader took it
		To    string    `json:"to"`
		Until time.Time `json:"until"`
	}
	Returned struct { // it is back
		By string `json:"by"`
	}
)

// Tags makes a reader's loans findable.
func (l Lent) Tags() []string { return []string{"reader:" + l.To} }

// lentV1 is how a loan was recorded before loans had an end.
type lentV1 struct {
	Reader string `json:"reader"`
}

var registry, _ = eventstore.NewRegistry(
	eventstore.Type[Added]("book.added", 1),
	eventstore.Type[Lent]("book.lent", 2,
		eventstore.Upcast(1, func(old lentV1) (Lent, error) { return Lent{To: old.Reader}, nil })),
	eventstore.Type[Returned]("book.returned", 1),
)

// Book is the state of one book.
type Book struct {
	Title  string    `json:"title"`
	LentTo string    `json:"lentTo"`
	Until  time.Time `json:"until"`
	Loans  int       `json:"loans"`
}

// Commands.
type (
	Lend struct {
		To    string
		Until time.Time
	}
	Return struct{ By string }
)

var (
	ErrLent    = errors.New("the book is lent")
	ErrNotLent = errors.New("the book is not lent")
)

// OtherReaderError says who has the book.
type OtherReaderError struct{ Has string }

func (e *OtherReaderError) Error() string { return "the book is with " + e.Has }

var lending = eventstore.Decider[Book, any]{
	Decide: func(b Book, command any) ([]any, error) {
		switch c := command.(type) {
		case Lend:
			if b.LentTo == c.To {
				return nil, nil // he has it
			}
			if b.LentTo != "" {
				return nil, fmt.Errorf("lend to %s: %w", c.To, ErrLent)
			}
			return []any{Lent(c)}, nil
		case Return:
			if b.LentTo == "" {
				return nil, ErrNotLent
			}
			if b.LentTo != c.By {
				return nil, fmt.Errorf("return: %w", &OtherReaderError{Has: b.LentTo})
			}
			return []any{Returned(c)}, nil
		}
		return nil, fmt.Errorf("unknown command %T", command)
	},
	Evolve: func(b Book, payload any) Book {
		switch e := payload.(type) {
		case Added:
			b.Title = e.Title
		case Lent:
			b.LentTo, b.Until = e.To, e.Until
			b.Loans++
		case Returned:
			b.LentTo, b.Until = "", time.Time{}
		}
		return b
	},
}

// printer stands for the *testing.T of a test, which an example does not have.
type printer struct{ testing.TB }

func (printer) Helper()                           {}
func (printer) Cleanup(func())                    {}
func (printer) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func Example() {
	t := printer{} // in a test: func TestLending(t *testing.T)

	spec.Given(t, registry, lending, Added{Title: "Emma"}).
		When(Return{By: "ann"}).ThenError(ErrNotLent).
		When(Lend{To: "ann"}).Then(Lent{To: "ann"}).
		When(Lend{To: "ann"}).ThenNothing().
		ThenState(Book{Title: "Emma", LentTo: "ann", Loans: 1})

	h := spec.Replay(t, "testdata/library.txtar", registry)
	spec.CheckStates(h, lending, "book-")
	for n := range h.Len() + 1 {
		book := spec.State(h.To(n), lending, "book-42")
		fmt.Printf("after %d events: %q, lent to %q\n", n, book.Title, book.LentTo)
	}
	spec.From(h.Before("book.returned"), lending, "book-42").
		When(Return{By: "bob"}).Then(Returned{By: "bob"})
	// Output:
	// after 0 events: "", lent to ""
	// after 1 events: "Emma", lent to ""
	// after 2 events: "Emma", lent to ""
	// after 3 events: "Emma", lent to "bob"
	// after 4 events: "Emma", lent to ""
	// after 5 events: "Emma", lent to "eve"
	// after 6 events: "Emma", lent to "eve"
}
