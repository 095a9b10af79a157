package command

import "sync/atomic"

// Status is what has come to a door since it was opened. One command may meet
// several refusals; what is only tried is not counted.
type Status struct {
	Commands    uint64 // all that came in
	Repeated    uint64 // answered from what their key's first command recorded
	Malformed   uint64 // refusals by kind
	Denied      uint64
	Refused     uint64
	Unavailable uint64
	Counted     uint64 // refusals that were not listed in the log but counted
	Unrecorded  uint64 // refusals that could be neither listed nor counted in the log
	Inside      int    // commands under way
	Closed      bool   // Close was called
}

type counts struct {
	commands, repeated, malformed, denied, refused, unavailable, counted, unrecorded atomic.Uint64
}

// Status returns how the door stands. It waits for nothing.
func (d *Door) Status() Status {
	d.mu.Lock()
	inside, closed := d.inside, d.closed
	d.mu.Unlock()
	c := &d.counts
	return Status{
		Commands: c.commands.Load(), Repeated: c.repeated.Load(), Malformed: c.malformed.Load(), Denied: c.denied.Load(),
		Refused: c.refused.Load(), Unavailable: c.unavailable.Load(), Counted: c.counted.Load(), Unrecorded: c.unrecorded.Load(),
		Inside: inside, Closed: closed,
	}
}
