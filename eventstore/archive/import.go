package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Import brings the archive r into store, which must be an eventstore.Restorer
// (errors.ErrUnsupported otherwise) and to which nobody else may write
// meanwhile: if somebody does, Import ends with a *eventstore.ConflictError.
//
// The store is empty or holds the beginning of the same history. What it has is
// compared with the archive in every field but positions, and a difference is a
// *DivergedError; the rest is restored behind it, in batches of whole appends.
// So an import that was interrupted is resumed by running it again, running a
// finished one again changes nothing, and a store that has gone on since is
// left as it is. It costs one read of what the store has and one append for
// every 1,000 events or 4 MiB.
//
// An archive is judged as far as it is read. An error in a line is a
// *LineError, and what earlier batches brought in stays; of a wrong digest that
// is nearly everything, since the trailer comes last. Whoever cannot throw the
// store away then calls [Check] first.
func Import(ctx context.Context, store eventstore.Store, r io.Reader) (Summary, error) {
	restorer, ok := store.(eventstore.Restorer)
	if !ok {
		return Summary{}, fmt.Errorf("import: a %T cannot take in a history recorded elsewhere: import into a store that is an eventstore.Restorer: %w", store, errors.ErrUnsupported)
	}
	in := newReader(r)
	b := batch{restorer: restorer}
	err := b.fill(ctx, store, in)
	s := in.summary
	s.Added = b.added
	if err != nil {
		return s, fmt.Errorf("import: %w", err)
	}
	return s, nil
}

// batch collects records until they are as many as one Restore takes.
type batch struct {
	restorer eventstore.Restorer
	head     eventstore.Position // of the store
	added    int

	records []eventstore.Recorded
	bytes   int // of records
	cut     int // records before it are whole appends
	cutSize int // bytes of the records before it
}

func (b *batch) fill(ctx context.Context, store eventstore.Store, in *reader) error {
	ended, err := b.compare(ctx, store, in)
	for err == nil && !ended {
		var r eventstore.Recorded
		switch r, err = in.next(); {
		case err == io.EOF:
			b.cut, b.cutSize = len(b.records), b.bytes
			return b.flush(ctx)
		case err == nil:
			err = b.add(ctx, r)
		}
	}
	return err
}

// compare reads the store and the archive in lockstep to the end of the store,
// or to that of the archive, and reports whether it was the latter.
func (b *batch) compare(ctx context.Context, store eventstore.Store, in *reader) (ended bool, err error) {
	for have, err := range store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return false, err
		}
		want, err := in.next()
		if err == io.EOF {
			if have.Append != have.Position {
				return true, &DivergedError{in.line, have.Position, "the append goes on in the store"}
			}
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if differs := difference(have, want); differs != "" {
			return false, &DivergedError{in.line, have.Position, differs}
		}
		b.head = have.Position
	}
	return false, nil
}

// difference says in what the store's record differs from the archive's, "" if
// in nothing.
func difference(have, want eventstore.Recorded) string {
	switch {
	case have.ID != want.ID:
		return fmt.Sprintf("the store has event %s of stream %q, the archive %s of %q", have.ID, have.Stream, want.ID, want.Stream)
	case have.Stream != want.Stream:
		return fmt.Sprintf("the store has stream %q, the archive %q", have.Stream, want.Stream)
	case have.Version != want.Version:
		return fmt.Sprintf("the store has version %d, the archive %d", have.Version, want.Version)
	case have.Type != want.Type || have.Schema != want.Schema:
		return fmt.Sprintf("the store has type %s, schema %d, the archive %s, schema %d", have.Type, have.Schema, want.Type, want.Schema)
	case !slices.Equal(have.Tags, want.Tags):
		return fmt.Sprintf("the store has tags %q, the archive %q", have.Tags, want.Tags)
	case (have.Append == have.Position) != (want.Append == want.Position):
		return "the appends are not the same"
	case !have.RecordedAt.Equal(want.RecordedAt):
		return fmt.Sprintf("the store recorded it at %v, the archive says %v", have.RecordedAt, want.RecordedAt)
	case !bytes.Equal(have.Meta, want.Meta):
		return "the metadata are not the same"
	case !bytes.Equal(have.Data, want.Data):
		return "the payloads are not the same"
	}
	return ""
}

// add takes in r, and restores the whole appends before it if there is no room.
func (b *batch) add(ctx context.Context, r eventstore.Recorded) error {
	if r.Append == r.Position {
		b.cut, b.cutSize = len(b.records), b.bytes
	} else if len(b.records) == 0 {
		return &DivergedError{line(r), 0, "the append goes on in the archive"}
	}
	if len(b.records) == eventstore.MaxEvents || b.bytes+r.Size() > eventstore.MaxAppend {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.records = append(b.records, r)
	b.bytes += r.Size()
	return nil
}

// flush restores the whole appends. What is left is the beginning of one, and
// the reader has seen to it that one append always has room.
func (b *batch) flush(ctx context.Context) error {
	if b.cut == 0 {
		return nil
	}
	whole := b.records[:b.cut]
	head, err := b.restorer.Restore(ctx, b.head, whole)
	if err != nil {
		return explain(err, whole)
	}
	b.head = head
	b.added += len(whole)
	b.records = slices.Delete(b.records, 0, b.cut)
	b.bytes -= b.cutSize
	b.cut, b.cutSize = 0, 0
	return nil
}

// explain names the line whose fault err is, where it is one's, or says what to do.
func explain(err error, records []eventstore.Recorded) error {
	var conflict *eventstore.ConflictError
	var duplicate *eventstore.DuplicateError
	var input *eventstore.InputError
	switch {
	case errors.As(err, &conflict) && conflict.Stream == "":
		return fmt.Errorf("somebody else writes to the store: import into one that is left alone: %w", err)
	case errors.As(err, &conflict):
		for _, r := range records {
			if r.Stream == conflict.Stream && r.Version-1 == conflict.Want {
				return &LineError{line(r), fmt.Errorf("the versions of stream %q do not follow each other: %w", r.Stream, err)}
			}
		}
	case errors.As(err, &duplicate):
		for _, r := range records {
			if r.ID == duplicate.ID {
				return &LineError{line(r), fmt.Errorf("the event stands in the archive twice: %w", err)}
			}
		}
	case errors.As(err, &input):
		seen := make(map[uuid.UUID]bool, len(records))
		for _, r := range records {
			if seen[r.ID] {
				return &LineError{line(r), fmt.Errorf("the event stands in the archive twice: %w", err)}
			}
			seen[r.ID] = true
		}
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		return fmt.Errorf("import again to go on: %w", err)
	}
	return err
}

// line returns where the reader found r.
func line(r eventstore.Recorded) int { return int(r.Position) + 1 }
