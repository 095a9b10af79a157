package memory

import (
	"context"
	"iter"
	"slices"

	"github.com/rollforward/rollforward/eventstore"
)

// log holds records in chunks that never move. A copy of it taken under the
// mutex may be read outside, up to its size, while writers add.
type log struct {
	chunks []*[chunk]eventstore.Recorded
	size   int
}

const chunk = 1024

func (l *log) add(r eventstore.Recorded) {
	if l.size%chunk == 0 {
		l.chunks = append(l.chunks, new([chunk]eventstore.Recorded))
	}
	l.chunks[l.size/chunk][l.size%chunk] = r
	l.size++
}

// at returns the record at a position that the log has.
func (l *log) at(p eventstore.Position) eventstore.Recorded {
	return l.chunks[(p-1)/chunk][(p-1)%chunk]
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
		consider([][]eventstore.Position{s.byTag[tag]})
	}
	for _, f := range []struct {
		values []string
		index  map[string][]eventstore.Position
	}{{q.Streams, s.byStream}, {q.Types, s.byType}} {
		if len(f.values) == 0 {
			continue
		}
		lists := make([][]eventstore.Position, len(f.values))
		for i, v := range f.values {
			lists[i] = f.index[v]
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
