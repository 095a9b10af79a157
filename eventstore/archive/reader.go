package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// reader reads an archive line by line and holds no more than one.
type reader struct {
	in      *bufio.Reader
	digest  hash.Hash
	line    int    // number of the last line read
	buf     []byte // that line, newline included
	again   []byte // the same line built from what was parsed
	first   eventstore.Position
	group   group
	summary Summary
	err     error // sticky; io.EOF behind the trailer
}

func newReader(r io.Reader) *reader {
	return &reader{in: bufio.NewReaderSize(r, 64<<10), digest: sha256.New()}
}

// next returns the next event, io.EOF behind the trailer of a sound archive, or
// a *LineError.
func (in *reader) next() (eventstore.Recorded, error) {
	if in.err != nil {
		return eventstore.Recorded{}, in.err
	}
	r, err := in.read()
	if err != nil {
		if err != io.EOF {
			err = &LineError{Line: in.line, Cause: err}
		}
		in.err = err
		return eventstore.Recorded{}, err
	}
	return r, nil
}

func (in *reader) read() (eventstore.Recorded, error) {
	if in.line == 0 {
		line, err := in.readLine()
		if err != nil {
			return eventstore.Recorded{}, err
		}
		if err := parseHeader(line); err != nil {
			return eventstore.Recorded{}, err
		}
		in.digest.Write(in.buf)
	}
	line, err := in.readLine()
	if err != nil {
		return eventstore.Recorded{}, err
	}
	if bytes.HasPrefix(line, []byte(trailer)) {
		return eventstore.Recorded{}, in.end(line)
	}
	in.digest.Write(in.buf)
	return in.event(line)
}

// readLine returns the next line without its newline, valid until the next call.
func (in *reader) readLine() ([]byte, error) {
	in.buf = in.buf[:0]
	in.line++
	for {
		part, err := in.in.ReadSlice('\n')
		in.buf = append(in.buf, part...)
		switch {
		case len(in.buf) > maxLine:
			return nil, &eventstore.InputError{Field: "line", Rule: "bytes", Size: len(in.buf), Limit: maxLine}
		case err == nil:
			return in.buf[:len(in.buf)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(in.buf) == 0:
			return nil, fmt.Errorf("%w: its last line, %s…, is missing: get the whole file", ErrTruncated, trailer)
		case err == io.EOF:
			return nil, fmt.Errorf("%w within this line: get the whole file", ErrTruncated)
		default:
			return nil, err
		}
	}
}

// event returns the event of line.
func (in *reader) event(line []byte) (eventstore.Recorded, error) {
	r, first, err := parseEvent(line)
	if err != nil {
		return eventstore.Recorded{}, err
	}
	if err := check(&r); err != nil {
		return eventstore.Recorded{}, err
	}
	in.again = appendEvent(in.again[:0], &r, first)
	if !bytes.Equal(in.again, line) {
		at := 0
		for at < min(len(line), len(in.again)) && line[at] == in.again[at] {
			at++
		}
		return eventstore.Recorded{}, malformed("from byte %d on it is not as Export writes it: order of fields, spaces, escapes", at+1)
	}
	r.Position = eventstore.Position(in.summary.Events + 1)
	switch {
	case first == uuid.Nil:
		in.group.start(&r)
		in.first = r.Position
	case first != in.group.first: // which is uuid.Nil before the first event
		return eventstore.Recorded{}, malformed("field \"append\" is not the ID of the first event of the append before this line")
	default:
		if err := in.group.join(&r); err != nil {
			return eventstore.Recorded{}, err
		}
	}
	r.Append = in.first
	in.summary.Events++
	return r, nil
}

// end judges the trailer. It returns io.EOF if all is well.
func (in *reader) end(line []byte) error {
	events, sum, err := parseTrailer(line)
	if err != nil {
		return err
	}
	actual := hex.EncodeToString(in.digest.Sum(nil))
	switch {
	case events != in.summary.Events:
		return fmt.Errorf("%w: the trailer says %d events, there are %d: get the original", ErrAltered, events, in.summary.Events)
	case sum != actual:
		return fmt.Errorf("%w: the trailer says SHA-256 %s, the lines before it have %s: get the original", ErrAltered, sum, actual)
	}
	switch _, err := in.in.ReadByte(); err {
	case io.EOF:
		in.summary.SHA256 = sum
		return io.EOF
	case nil:
		in.line++
		return malformed("there is more behind the trailer")
	default:
		return err
	}
}
