package library

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/rollforward/rollforward/eventstore"
)

// Loans is a fold over the whole log: who has which books.
type Loans struct {
	registry *eventstore.Registry
	byBook   map[string]string // stream of the book: reader
}

// NewLoans returns an empty fold.
func NewLoans(registry *eventstore.Registry) *Loans {
	return &Loans{registry: registry, byBook: map[string]string{}}
}

// Of returns the streams of the books that a reader has, sorted.
func (l *Loans) Of(reader string) []string {
	var books []string
	for _, book := range slices.Sorted(maps.Keys(l.byBook)) {
		if l.byBook[book] == reader {
			books = append(books, book)
		}
	}
	return books
}

// Apply takes what concerns loans and passes over the rest.
func (l *Loans) Apply(r eventstore.Recorded) error {
	if r.Type != "book.lent" && r.Type != "book.returned" {
		return nil
	}
	payload, err := l.registry.Decode(r.Event)
	if err != nil {
		return err
	}
	switch e := payload.(type) {
	case Lent:
		l.byBook[r.Stream] = e.To
	case Returned:
		delete(l.byBook, r.Stream)
	}
	return nil
}

// Format, Snapshot and Restore let a restart begin where the last run ended.

func (l *Loans) Format() int { return 1 }

func (l *Loans) Snapshot() ([]byte, error) { return json.Marshal(l.byBook) }

func (l *Loans) Restore(state []byte) error { return json.Unmarshal(state, &l.byBook) }
