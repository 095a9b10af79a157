// Package archive carries a history in and out as JSON Lines: to back it up, to
// move it to another store, to hand it to an auditor, and to keep it beside the
// tests that replay it (package spec).
//
//	_, err := archive.Export(ctx, file, store, eventstore.Query{}) // out
//	_, err = archive.Import(ctx, other, file)                      // in
//
// An archive is a header, one event a line in the order of the log, and a
// trailer with the number of events and the SHA-256 of every byte before it:
//
//	{"format":"rollforward.archive","version":1}
//	{"id":"…","stream":"book-42","version":1,"type":"book.added","schema":1,"recorded_at":"2026-03-01T09:00:00.000001Z","meta":{"actor":"ann"},"data":{"title":"Emma"}}
//	{"id":"…","stream":"book-42","version":2,"type":"book.lent","schema":1,"tags":["reader:bob"],"append":"…","recorded_at":"2026-03-01T09:00:00.000001Z","data":{"to":"bob"}}
//	{"end":{"events":2,"sha256":"…"}}
//
// Fields stand in this order, without space between them, and every line ends
// with a newline. An event without tags or metadata has no such field. "append"
// is the ID of the first event of the same append, on its second and later
// events. There are no positions: the same history is the same file from
// whichever store, and byte for byte what is exported again after an import.
//
// Payload and metadata are kept byte for byte. They stand in the line as they
// are, unless they contain a line break or begin or end with white space; then
// they are a JSON string, called "data_text" and "meta_text".
//
// Everything here streams: memory does not grow with the history. It is bounded
// by one line when reading and by one append of the greatest size when importing.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/rollforward/rollforward/eventstore"
)

// Summary says what went through. Where a call fails it says how far it came.
type Summary struct {
	Events int    // read from the archive, or written to it
	Added  int    // restored by Import; the others were in the store already
	SHA256 string // of every byte before the trailer, in hex as the trailer has it; empty before that is reached
}

// Export writes the streams that q selects to w, up to the head at the time of
// the call; the zero Query is the whole log. It costs one read of them and a
// few passes over their bytes. After an error what was written has no trailer,
// so that nobody takes it for an archive.
//
// An archive holds whole streams, since part of one can neither be folded nor
// imported: q selects by Streams and Prefix only. What an append recorded in
// streams that are not selected is left out, and the rest of it is an append of
// its own: in a store that has imported this, a resend of the original append
// is refused as a duplicate.
func Export(ctx context.Context, w io.Writer, store eventstore.Store, q eventstore.Query) (Summary, error) {
	if err := wholeStreams(q); err != nil {
		return Summary{}, fmt.Errorf("export: %w", err)
	}
	out := NewWriter(w)
	for r, err := range store.Read(ctx, q) {
		if err == nil {
			err = out.Write(r)
		}
		if err != nil {
			return out.summary, fmt.Errorf("export: %w", err)
		}
	}
	s, err := out.End()
	if err != nil {
		return s, fmt.Errorf("export: %w", err)
	}
	return s, nil
}

func wholeStreams(q eventstore.Query) error {
	for _, f := range []struct {
		name string
		used bool
	}{
		{"types", len(q.Types) > 0}, {"tags", len(q.Tags) > 0}, {"after", q.After > 0}, {"limit", q.Limit != 0},
	} {
		if f.used {
			return &eventstore.InputError{Field: "query." + f.name, Rule: "an archive holds whole streams: select by Streams or Prefix"}
		}
	}
	return nil
}

// Read yields the events of an archive in order. Their positions count from 1,
// so that an event at position p stands in line p+1. An error is yielded once,
// last, with a zero Recorded; it is a *LineError.
//
// Read accepts exactly what Export writes: of each event the line is built anew
// and compared, which is about a sixth of what reading costs. Whether a stream's versions rise and whether an ID stands
// twice is not looked at; Import does. The trailer is known only at the end: what
// must not act on a cut or altered archive calls [Check] first, or waits for the end.
func Read(r io.Reader) iter.Seq2[eventstore.Recorded, error] {
	in := newReader(r)
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			record, err := in.next()
			if err == io.EOF || !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// Check reads an archive to its end and returns what it holds. It finds
// everything that [Read] does.
func Check(r io.Reader) (Summary, error) {
	in := newReader(r)
	for {
		if _, err := in.next(); err == io.EOF {
			return in.summary, nil
		} else if err != nil {
			return in.summary, err
		}
	}
}

// Reading an archive fails with one of these, with eventstore.ErrInvalid or
// ErrTooLarge for an event outside the limits, with eventstore.ErrNewerFormat,
// or with the error of the underlying reader; all in a *LineError.
var (
	ErrTruncated = errors.New("archive is cut off") // it ends before its trailer
	ErrMalformed = errors.New("malformed archive")  // a line that Export does not write
	ErrAltered   = errors.New("archive is altered") // the trailer does not fit the lines before it
)

// LineError says in which line of an archive reading failed, and why.
type LineError struct {
	Line  int // from 1, which is the header
	Cause error
}

func (e *LineError) Error() string { return fmt.Sprintf("archive line %d: %v", e.Line, e.Cause) }
func (e *LineError) Unwrap() error { return e.Cause }

// DivergedError says where a store and the archive to be imported into it stop
// being the same history.
type DivergedError struct {
	Line     int                 // in the archive
	Position eventstore.Position // in the store, 0 behind its last event
	Reason   string              // what differs
}

func (e *DivergedError) Error() string {
	at := "the end of the store"
	if e.Position > 0 {
		at = fmt.Sprintf("the store's event at position %d", e.Position)
	}
	return fmt.Sprintf("archive line %d and %s are different histories: %s: import into an empty store", e.Line, at, e.Reason)
}
