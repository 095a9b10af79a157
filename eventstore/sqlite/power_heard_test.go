//go:build linux

package sqlite_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// attempt is one append of a traced process, however often it was sent, with the places
// among the process's calls where it said so.
type attempt struct {
	events  []eventstore.Event
	expect  eventstore.Expect
	tried   int // before it was sent
	acked   int // where it was acknowledged; never if it was not
	refused int // where it was given up as not applied; never if it was not
	unknown bool
	records []eventstore.Recorded // as they were acknowledged
}

const (
	never   = math.MaxInt
	earlier = -1 // than the first call
)

// heard is all that traced processes said, and the faults that they reported.
type heard struct {
	attempts []*attempt
	byID     map[uuid.UUID]*attempt // by any of its events
	acks     int
	outcomes map[string]int // how often an append failed, by outcome
	faults   []string       // other failures, which only an injected fault may cause
	failures []string       // what must not be even then
}

// listen takes in what a process said, behind what those said that worked on the file
// before it.
func listen(calls []call, before []*attempt) (*heard, error) {
	h := &heard{attempts: before, outcomes: map[string]int{}}
	keys := map[string]*attempt{}
	for at, c := range calls {
		if c.kind != "say" {
			continue
		}
		if err := h.hear(strings.TrimSpace(string(c.data)), at, keys); err != nil {
			return nil, fmt.Errorf("%q: %w", c.data, err)
		}
	}
	h.byID = h.ids()
	return h, nil
}

func (h *heard) ids() map[uuid.UUID]*attempt {
	ids := map[uuid.UUID]*attempt{}
	for _, a := range h.attempts {
		for _, e := range a.events {
			ids[e.ID] = a
		}
	}
	return ids
}

func (h *heard) hear(line string, at int, keys map[string]*attempt) error {
	kind, rest, _ := strings.Cut(line, " ")
	key, rest, _ := strings.Cut(rest, " ")
	fields := strings.Fields(rest)
	a := keys[key]
	if a == nil && (kind == "ack" || kind == "err") {
		return fmt.Errorf("no such append was tried")
	}
	switch kind {
	case "try":
		a = &attempt{tried: at, acked: never, refused: never}
		for i, field := range fields {
			left, right, _ := strings.Cut(field, ":")
			if i == 0 {
				version, err := strconv.ParseUint(right, 10, 64)
				if err != nil {
					return err
				}
				a.expect = eventstore.At(left, version)
				continue
			}
			id, err := uuid.Parse(left)
			if err != nil {
				return err
			}
			a.events = append(a.events, sizedEvent(id, right))
		}
		keys[key] = a
		h.attempts = append(h.attempts, a)
	case "ack":
		if len(fields) != len(a.events) {
			return fmt.Errorf("%d records of %d events", len(fields), len(a.events))
		}
		a.acked, a.refused = at, never
		h.acks++
		for i, field := range fields {
			r := eventstore.Recorded{Event: a.events[i]}
			var micros int64
			if _, err := fmt.Sscanf(field, "%d:%d:%d:%d", &r.Version, &r.Position, &r.Append, &micros); err != nil {
				return err
			}
			r.RecordedAt = time.UnixMicro(micros).UTC()
			a.records = append(a.records, r)
		}
	case "err":
		outcome := "none"
		if len(fields) > 0 {
			outcome = fields[0]
		}
		h.outcomes[outcome]++
		switch outcome {
		case "unknown":
			a.unknown = true
		case "not-applied":
			if !a.unknown {
				a.refused = at
			}
		default:
			h.failures = append(h.failures, line)
		}
		h.faults = append(h.faults, line)
	default:
		h.faults = append(h.faults, line)
	}
	return nil
}

// until is what those who go on with the file after a cut behind the given call know.
func (h *heard) until(at int) (attempts []*attempt) {
	for _, a := range h.attempts {
		if a.tried > at {
			continue
		}
		b := *a
		b.tried = earlier
		switch {
		case b.acked <= at:
			b.acked = earlier
		case b.refused <= at:
			b.refused = earlier
		default:
			b.acked, b.records, b.refused = never, nil, never
		}
		attempts = append(attempts, &b)
	}
	return attempts
}

// hold compares a log with what had been said when the power went, behind the given
// call: every acknowledged event is there, once, in the same bytes, as it was
// acknowledged; no append is there in part; versions are contiguous; nothing is there
// that was not sent, or that was said not to be applied. It returns what is lost and
// what is wrong otherwise.
func (h *heard) hold(log []eventstore.Recorded, at int) (lost, wrong []string) {
	seen := map[*attempt]bool{}
	versions := map[string]uint64{}
	var last eventstore.Position
	for i, r := range log {
		if versions[r.Stream]++; r.Version != versions[r.Stream] {
			wrong = append(wrong, fmt.Sprintf("stream %q has version %d in place %d", r.Stream, r.Version, versions[r.Stream]))
		}
		if r.Position <= last {
			wrong = append(wrong, fmt.Sprintf("position %d behind %d", r.Position, last))
		}
		last = r.Position
		if r.Append != r.Position {
			if i == 0 || log[i-1].Append != r.Append {
				wrong = append(wrong, fmt.Sprintf("position %d is of an append whose first event is not there", r.Position))
			}
			continue // held to below, with the first of its append
		}
		a := h.byID[r.ID]
		switch {
		case a == nil || a.tried > at:
			wrong = append(wrong, fmt.Sprintf("position %d was never sent", r.Position))
			continue
		case seen[a]:
			wrong = append(wrong, fmt.Sprintf("position %d is there twice", r.Position))
		case a.refused <= at:
			wrong = append(wrong, fmt.Sprintf("position %d was said not to be applied", r.Position))
		}
		seen[a] = true
		n := 1
		for i+n < len(log) && log[i+n].Append == r.Append {
			n++
		}
		if n != len(a.events) {
			wrong = append(wrong, fmt.Sprintf("position %d is of an append of %d events, of which %d are there", r.Position, len(a.events), n))
			continue
		}
		for j, want := range a.events {
			got := log[i+j]
			if !got.Equal(want) {
				wrong = append(wrong, fmt.Sprintf("position %d has other bytes than were sent", got.Position))
			}
			if a.acked <= at && a.records != nil && !sameRecord(got, a.records[j]) {
				wrong = append(wrong, fmt.Sprintf("position %d is not as it was acknowledged", got.Position))
			}
		}
	}
	for _, a := range h.attempts {
		if a.acked <= at && !seen[a] {
			lost = append(lost, fmt.Sprintf("an append to %s of %d events, acknowledged at call %d", a.expect.Stream, len(a.events), a.acked))
		}
	}
	return lost, wrong
}

func sameRecord(a, b eventstore.Recorded) bool {
	return a.Equal(b.Event) && a.Version == b.Version && a.Position == b.Position && a.Append == b.Append && a.RecordedAt.Equal(b.RecordedAt)
}
