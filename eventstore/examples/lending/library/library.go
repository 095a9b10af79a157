// Package library is a complete small domain on the kernel: a library that lends
// books. It shows the three things a domain consists of: events and their
// registry (this file), an aggregate that decides (book.go), and a fold over the
// whole log (loans.go). Its tests show Given / When / Then and replay a history.
package library

import (
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// Added is recorded when the library takes a book in.
type Added struct {
	Title string `json:"title"`
}

// Lent is recorded when a reader takes a book home.
type Lent struct {
	To  string    `json:"to"`
	Due time.Time `json:"due"`
}

// Tags lets queries find what a reader has ever borrowed.
func (l Lent) Tags() []string { return []string{"reader:" + l.To} }

// Returned is recorded when a book comes back.
type Returned struct {
	By   string `json:"by"`
	Late bool   `json:"late"`
}

// lentV1 is what Lent was when every loan lasted two weeks.
type lentV1 struct {
	To string    `json:"to"`
	On time.Time `json:"on"`
}

// Registry names the events. The names and what the fields mean are for ever.
func Registry() (*eventstore.Registry, error) {
	return eventstore.NewRegistry(
		eventstore.Type[Added]("book.added", 1),
		eventstore.Type[Lent]("book.lent", 2, eventstore.Upcast(1, func(old lentV1) (Lent, error) {
			return Lent{To: old.To, Due: old.On.AddDate(0, 0, 14)}, nil
		})),
		eventstore.Type[Returned]("book.returned", 1),
	)
}
