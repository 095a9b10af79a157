package library

import (
	"errors"
	"fmt"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// What a book's rules refuse.
var (
	ErrUnknown = errors.New("the library does not have this book: add it first")
	ErrOut     = errors.New("the book is out: wait until it is returned")
	ErrNotOut  = errors.New("the book is not out: check the number")
)

// The commands. They carry what a decision needs of the world, such as the time,
// since deciding itself asks nobody.
type (
	Add  struct{ Title string }
	Lend struct {
		To   string
		On   time.Time
		Days int
	}
	Return struct{ On time.Time }
)

// Book is the state of one stream, "book-NUMBER".
type Book struct {
	Title string    `json:"title"`
	With  string    `json:"with"` // the reader who has it, or ""
	Due   time.Time `json:"due"`
	Loans int       `json:"loans"`
}

// Books is the aggregate.
var Books = eventstore.Decider[Book, any]{Decide: decide, Evolve: evolve}

func decide(b Book, command any) ([]any, error) {
	if add, ok := command.(Add); ok {
		if b.Title == add.Title {
			return nil, nil // said twice is said once
		}
		return []any{Added{Title: add.Title}}, nil
	}
	if b.Title == "" {
		return nil, ErrUnknown
	}
	switch c := command.(type) {
	case Lend:
		if b.With != "" {
			return nil, fmt.Errorf("%w (%s has it)", ErrOut, b.With)
		}
		return []any{Lent{To: c.To, Due: c.On.AddDate(0, 0, c.Days)}}, nil
	case Return:
		if b.With == "" {
			return nil, ErrNotOut
		}
		return []any{Returned{By: b.With, Late: c.On.After(b.Due)}}, nil
	}
	return nil, fmt.Errorf("library: unknown command %T", command)
}

func evolve(b Book, payload any) Book {
	switch e := payload.(type) {
	case Added:
		b.Title = e.Title
	case Lent:
		b.With, b.Due = e.To, e.Due
		b.Loans++
	case Returned:
		b.With, b.Due = "", time.Time{}
	}
	return b
}
