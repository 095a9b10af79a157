package postgres

import (
	"sync"

	"github.com/rollforward/rollforward/eventstore"
)

// memo is where streams stood when this process last looked.
type memo struct {
	mu       sync.Mutex
	versions map[string]uint64
}

const maxMemo = 16_384 // streams; a full memo forgets all

// keep remembers a stream.
func (m *memo) keep(stream string, version uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.versions == nil || len(m.versions) >= maxMemo {
		m.versions = map[string]uint64{}
	}
	m.versions[stream] = version
}

// Recall returns where a stream stood when this process last looked, without a round
// trip; see eventstore.Recaller.
func (s *Store) Recall(stream string) (version uint64, ok bool) {
	s.memo.mu.Lock()
	defer s.memo.mu.Unlock()
	version, ok = s.memo.versions[stream]
	return version, ok
}

// NextAppend returns where the append behind the one with the event at after begins if
// nothing lies between; see Spaced in package follow.
func (s *Store) NextAppend(after eventstore.Position) eventstore.Position {
	if s.serialized {
		return after + 1
	}
	return firstOf(int64(after/perNumber) + 1)
}
