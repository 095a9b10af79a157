package memory

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// record is an event as it is kept: 112 bytes beside its payload and metadata, with
// names that all events share. Its position is where it stands.
type record struct {
	id          uuid.UUID
	stream, typ *string
	tags        []string
	bytes       []byte // data, then metadata
	data        int32  // length of the data
	schema      int32
	version     uint64
	first       eventstore.Position // of its append
	at          int64               // recorded, us
}

// log holds records in chunks that never move. A copy of it taken under the
// mutex may be read outside, up to its size, while writers add.
type log struct {
	chunks []*[chunk]record
	size   int
}

const chunk = 1024

func (l *log) add(r record) {
	if l.size%chunk == 0 {
		l.chunks = append(l.chunks, new([chunk]record))
	}
	l.chunks[l.size/chunk][l.size%chunk] = r
	l.size++
}

// at returns the event at a position that the log has. Its bytes and tags are the
// log's own: see clone.
func (l *log) at(p eventstore.Position) eventstore.Recorded {
	r := &l.chunks[(p-1)/chunk][(p-1)%chunk]
	return eventstore.Recorded{
		Event: eventstore.Event{
			ID: r.id, Stream: *r.stream, Type: *r.typ, Schema: int(r.schema), Tags: r.tags,
			Data: r.bytes[:r.data:r.data], Meta: r.bytes[r.data:],
		},
		Version: r.version, Position: p, Append: r.first, RecordedAt: time.UnixMicro(r.at).UTC(),
	}
}

// index is where the events stand that have a name: a stream's, a type's, a tag's.
type index map[string]*entry

type entry struct {
	name      string
	positions []eventstore.Position
}

// add notes that the event at p has a name, and returns the one string of that name.
func (x index) add(name string, p eventstore.Position) *string {
	e := x[name]
	if e == nil {
		e = &entry{name: strings.Clone(name)} // not a part of something large
		x[e.name] = e
	}
	e.positions = append(e.positions, p)
	return &e.name
}

func (x index) of(name string) []eventstore.Position {
	if e := x[name]; e != nil {
		return e.positions
	}
	return nil
}

// Read yields what q selects; see eventstore.Store.
func (s *Store) Read(ctx context.Context, q eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := q.Validate(); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		s.mu.RLock()
		err := s.usable(ctx)
		log, lists := s.log, s.lists(q)
		s.mu.RUnlock()
		if err == nil && q.After > eventstore.Position(log.size) {
			err = eventstore.ErrRewound
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		read := 0
		for p := range positions(lists, q.After, eventstore.Position(log.size)) {
			if err := s.usable(ctx); err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			r := log.at(p)
			if !q.Match(r) {
				continue
			}
			if !yield(clone(r), nil) {
				return
			}
			if read++; read == q.Limit {
				return
			}
		}
	}
}

// lists returns the positions to look at for q, as rising lists: those of its
// most selective field. nil stands for the whole log. Called under the mutex.
func (s *Store) lists(q eventstore.Query) [][]eventstore.Position {
	var best [][]eventstore.Position
	fewest := -1
	consider := func(lists [][]eventstore.Position) {
		n := 0
		for _, list := range lists {
			n += len(list)
		}
		if fewest < 0 || n < fewest {
			best, fewest = lists, n
		}
	}
	for _, tag := range q.Tags {
		consider([][]eventstore.Position{s.byTag.of(tag)})
	}
	for _, f := range []struct {
		values []string
		index  index
	}{{q.Streams, s.byStream}, {q.Types, s.byType}} {
		if len(f.values) == 0 {
			continue
		}
		lists := make([][]eventstore.Position, len(f.values))
		for i, v := range f.values {
			lists[i] = f.index.of(v)
		}
		consider(lists)
	}
	return best
}

// positions merges rising lists into one, from after to last; nil is every position.
func positions(lists [][]eventstore.Position, after, last eventstore.Position) iter.Seq[eventstore.Position] {
	return func(yield func(eventstore.Position) bool) {
		if lists == nil {
			for p := after + 1; p <= last; p++ {
				if !yield(p) {
					return
				}
			}
			return
		}
		rest := make([][]eventstore.Position, 0, len(lists))
		for _, list := range lists {
			from, _ := slices.BinarySearch(list, after+1)
			if from < len(list) {
				rest = append(rest, list[from:])
			}
		}
		for len(rest) > 0 {
			next := 0
			for i := range rest {
				if rest[i][0] < rest[next][0] {
					next = i
				}
			}
			p := rest[next][0]
			for i := 0; i < len(rest); { // a value that stands twice in the query is one list twice
				if rest[i][0] != p {
					i++
				} else if rest[i] = rest[i][1:]; len(rest[i]) == 0 {
					rest = slices.Delete(rest, i, i+1)
				} else {
					i++
				}
			}
			if !yield(p) {
				return
			}
		}
	}
}
