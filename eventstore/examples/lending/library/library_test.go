package library_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	. "github.com/rollforward/rollforward/eventstore/examples/lending/library"
	"github.com/rollforward/rollforward/eventstore/spec"
)

var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func registry(t *testing.T) *eventstore.Registry {
	r, err := Registry()
	require.NoError(t, err)
	return r
}

func given(t *testing.T, payloads ...any) *spec.Scenario[Book, any] {
	return spec.Given(t, registry(t), Books, payloads...)
}

func TestALoan(t *testing.T) {
	given(t, Added{Title: "Emma"}).
		When(Lend{To: "ann", On: monday, Days: 7}).Then(Lent{To: "ann", Due: monday.AddDate(0, 0, 7)}).
		When(Lend{To: "bob", On: monday, Days: 7}).ThenError(ErrOut).
		When(Return{On: monday.AddDate(0, 0, 8)}).Then(Returned{By: "ann", Late: true}).
		When(Return{On: monday}).ThenError(ErrNotOut).
		ThenState(Book{Title: "Emma", Loans: 1})
}

func TestABookIsAddedOnce(t *testing.T) {
	given(t).When(Lend{To: "ann"}).ThenError(ErrUnknown)
	given(t).When(Add{Title: "Emma"}).Then(Added{Title: "Emma"})
	given(t, Added{Title: "Emma"}).When(Add{Title: "Emma"}).ThenNothing()
}

// The history was written when loans had no term of their own. Today's code reads
// it, gives the states it should, and decides on them by today's rules.
func TestTodaysCodeReadsYesterdaysHistory(t *testing.T) {
	h := spec.Replay(t, "testdata/yesterday.txtar", registry(t))
	spec.CheckStates(h, Books, "book-")

	loans := NewLoans(registry(t))
	h.Before("book.returned").Feed(loans)
	require.Equal(t, []string{"book-1", "book-2"}, loans.Of("ann"))

	spec.From(h.ToVersion("book-1", 2), Books, "book-1").
		When(Return{On: time.Date(2019, 5, 21, 0, 0, 0, 0, time.UTC)}).
		Then(Returned{By: "ann", Late: true})
}
