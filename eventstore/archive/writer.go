package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Writer writes an archive event by event: for histories that come from
// elsewhere, and to change one on its way from [Read], as in pseudonyms for a
// history that is to lie beside tests. It is not for concurrent use.
type Writer struct {
	out     *bufio.Writer
	digest  hash.Hash
	line    []byte
	last    eventstore.Position // Append of the last event
	group   group
	summary Summary
	err     error // that ended it
}

var errEnded = errors.New("the archive has its trailer already")

// NewWriter returns a Writer to w. What it writes is an archive after [Writer.End].
func NewWriter(w io.Writer) *Writer {
	return &Writer{out: bufio.NewWriterSize(w, 64<<10), digest: sha256.New()}
}

// Write adds r. Its position is of no account; neighbours with the same Append
// are one append. An event outside the limits is an *eventstore.InputError.
// After an error every further call fails with it.
func (w *Writer) Write(r eventstore.Recorded) error {
	if w.err != nil {
		return w.err
	}
	w.err = w.write(&r)
	return w.err
}

func (w *Writer) write(r *eventstore.Recorded) error {
	err := check(r)
	if err == nil && r.Append == 0 {
		err = &eventstore.InputError{Field: "append", Rule: "a record names the append it came in"}
	}
	if err != nil {
		return fmt.Errorf("event %s of stream %q: %w", r.ID, r.Stream, err)
	}
	if w.summary.Events == 0 {
		if err := w.emit(append(w.line[:0], header...)); err != nil {
			return err
		}
	}
	first := uuid.Nil
	if r.Append == w.last { // which is 0, and no record's, before the first
		first = w.group.first
		if err := w.group.join(r); err != nil {
			return fmt.Errorf("event %s of stream %q: %w", r.ID, r.Stream, err)
		}
	} else {
		w.group.start(r)
	}
	if err := w.emit(appendEvent(w.line[:0], r, first)); err != nil {
		return err
	}
	w.last = r.Append
	w.summary.Events++
	return nil
}

// End writes the trailer and flushes. It does not close the underlying writer.
func (w *Writer) End() (Summary, error) {
	if w.err != nil {
		return w.summary, w.err
	}
	w.err = w.end()
	if w.err != nil {
		return w.summary, w.err
	}
	w.err = errEnded
	return w.summary, nil
}

func (w *Writer) end() error {
	if w.summary.Events == 0 {
		if err := w.emit(append(w.line[:0], header...)); err != nil {
			return err
		}
	}
	sum := w.digest.Sum(nil)
	if err := w.emit(appendTrailer(w.line[:0], w.summary.Events, sum)); err != nil {
		return err
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	w.summary.SHA256 = hex.EncodeToString(sum)
	return nil
}

// emit writes a line and takes it into the digest; line is reused.
func (w *Writer) emit(line []byte) error {
	w.line = append(line, '\n')
	w.digest.Write(w.line)
	_, err := w.out.Write(w.line)
	return err
}
