package eventstore

import (
	"container/list"
	"sync"
)

// Cache keeps the states of streams that this process has read or recorded, so
// that a [Decider] that has it need not read them again. It is a cache: a unit of
// work on a state from it is held to the version of that state, like any other,
// and where somebody else has moved the stream on it runs again on what it reads.
// So is one that refuses or records nothing: what was refused is refused by the
// log as it stands.
//
// The zero Cache is ready. Its methods may be called concurrently.
type Cache[S any] struct {
	// Limit is how many states are kept, those used last. Default 4,096.
	Limit int

	// Copy returns a state that Evolve may change while the original stays as it is.
	// Default: the state itself, for an Evolve that changes nothing in place.
	Copy func(S) S

	mu     sync.Mutex
	states map[string]*list.Element // of *kept
	used   list.List                // last used first
}

type kept[S any] struct {
	stream  string
	version uint64
	state   S
}

// get returns a copy of the state of a stream, and the version it stands at.
func (c *Cache[S]) get(stream string) (state S, version uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.states[stream]
	if e == nil {
		return state, 0, false
	}
	c.used.MoveToFront(e)
	k := e.Value.(*kept[S])
	return c.copy(k.state), k.version, true
}

// put keeps a state that the log has, unless a later one is there.
func (c *Cache[S]) put(stream string, version uint64, state S) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.states[stream]; e != nil {
		if k := e.Value.(*kept[S]); k.version < version {
			k.version, k.state = version, c.copy(state)
		}
		c.used.MoveToFront(e)
		return
	}
	if c.states == nil {
		c.states = map[string]*list.Element{}
	}
	c.states[stream] = c.used.PushFront(&kept[S]{stream, version, c.copy(state)})
	limit := c.Limit
	if limit <= 0 {
		limit = 4096
	}
	for c.used.Len() > limit {
		last := c.used.Back()
		delete(c.states, c.used.Remove(last).(*kept[S]).stream)
	}
}

// drop forgets a stream: the log does not have it as it is kept.
func (c *Cache[S]) drop(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.states[stream]; e != nil {
		c.used.Remove(e)
		delete(c.states, stream)
	}
}

func (c *Cache[S]) copy(state S) S {
	if c.Copy == nil {
		return state
	}
	return c.Copy(state)
}
