package rollforward

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Status is how an engine stands. As JSON it is the answer of a health endpoint, as
// text some lines for people. Errors of handlers and the store are in both in their
// own words: show it to those who keep the engine running.
type Status struct {
	Folds    follow.Status
	Door     command.Status
	Handlers []relay.Status // in the order of Handle
}

// Status returns how the engine stands. It waits for nothing.
func (e *Engine) Status() Status {
	s := Status{Folds: e.follower.Status(), Door: e.Door.Status()}
	for _, h := range e.running() {
		s.Handlers = append(s.Handlers, h.Status()...)
	}
	return s
}

// NotReady returns why the engine cannot be relied on now, nothing where it can: it is
// closed, its folds do not answer or cannot see what is new, or a handler does not go
// on. A handler that stands by because another process runs it is no reason, nor is
// an event that waits for a decision; see Attention.
func (s Status) NotReady() []string {
	var why []string
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if s.Door.Closed {
		say("the engine is closed")
	}
	switch f := s.Folds; {
	case f.Closed && s.Door.Closed:
	case f.Closed:
		say("the follower is closed")
	case f.Stopped != nil:
		say("%v", f.Stopped)
	case !f.Ready:
		say("the folds are at position %d of %d", f.Position, f.Head)
	}
	if s.Folds.Retrying != nil {
		say("the folds cannot read the log: %v", s.Folds.Retrying)
	}
	for _, h := range s.Handlers {
		switch {
		case h.Stopped:
			say("handler %q is stopped: %v", h.Consumer, h.Err)
		case h.Err != nil:
			say("handler %q cannot go on: %v", h.Consumer, h.Err)
		}
	}
	return why
}

// Attention returns what somebody should look at though the engine goes on: events
// that are parked or fail, and what could not be saved or recorded.
func (s Status) Attention() []string {
	var what []string
	say := func(format string, args ...any) { what = append(what, fmt.Sprintf(format, args...)) }
	if s.Folds.SnapshotError != nil {
		say("snapshots of the folds are not saved: %v", s.Folds.SnapshotError)
	}
	for _, f := range s.Folds.Folds {
		for _, p := range f.Parked {
			say("fold %q leaves out event %s (%s of stream %q)", f.Name, p.Event, p.Type, p.Stream)
		}
	}
	if n := s.Door.Unrecorded; n > 0 {
		say("%d refusals could not be recorded", n)
	}
	for _, h := range s.Handlers {
		for _, b := range h.Behind {
			if b.Parked {
				say("handler %q: event %s (%s of stream %q) is parked, and the stream waits: %v", h.Consumer, b.Event, b.Type, b.Stream, told(b.Err))
			} else {
				say("handler %q: event %s (%s of stream %q) failed %d times: %v", h.Consumer, b.Event, b.Type, b.Stream, b.Attempts, told(b.Err))
			}
		}
	}
	return what
}

// told is an error, or what stands for one that this process has not met.
func told(err error) any {
	if err == nil {
		return "it did not fail here"
	}
	return err
}

// String returns the status in lines for people.
func (s Status) String() string {
	var b strings.Builder
	why, what := s.NotReady(), s.Attention()
	if len(why) == 0 {
		b.WriteString("ready")
	} else {
		b.WriteString("not ready")
	}
	for _, reason := range why {
		b.WriteString("\n  " + reason)
	}
	fmt.Fprintf(&b, "\nfolds at position %d of %d", s.Folds.Position, s.Folds.Head)
	fmt.Fprintf(&b, "\ndoor: %d commands, %d under way; refusals: %d denied, %d by rules, %d unavailable, %d malformed",
		s.Door.Commands, s.Door.Inside, s.Door.Denied, s.Door.Refused, s.Door.Unavailable, s.Door.Malformed)
	for _, h := range s.Handlers {
		fmt.Fprintf(&b, "\nhandler %q %s at position %d of %d: %d acknowledged, %d refused", h.Consumer, part(h), h.Position, h.Head, h.Acknowledged, h.Refused)
	}
	for _, line := range what {
		b.WriteString("\nattention: " + line)
	}
	return b.String()
}

// part is what a handler does in this process.
func part(h relay.Status) string {
	switch {
	case h.Stopped:
		return "stopped"
	case h.Holding:
		return "runs here"
	case h.Standby:
		return "stands by"
	}
	return "starts"
}

// statusJSON is the form of a Status, which only grows.
type statusJSON struct {
	Ready     bool          `json:"ready"`
	NotReady  []string      `json:"not_ready,omitempty"`
	Attention []string      `json:"attention,omitempty"`
	Folds     followJSON    `json:"folds"`
	Door      doorJSON      `json:"door"`
	Handlers  []handlerJSON `json:"handlers"`
}

type followJSON struct {
	Ready         bool                `json:"ready"`
	Closed        bool                `json:"closed,omitzero"`
	Stopped       string              `json:"stopped,omitzero"`
	Retrying      string              `json:"retrying,omitzero"`
	SnapshotError string              `json:"snapshot_error,omitzero"`
	Position      eventstore.Position `json:"position"`
	Head          eventstore.Position `json:"head"`
	Lag           uint64              `json:"lag"`
	Folds         []foldJSON          `json:"folds"`
}

type foldJSON struct {
	Name     string              `json:"name"`
	Position eventstore.Position `json:"position"`
	Lag      uint64              `json:"lag"`
	Snapshot eventstore.Position `json:"snapshot,omitzero"`
	Error    string              `json:"error,omitzero"` // by which it stopped the follower
	Parked   []follow.Parked     `json:"parked,omitempty"`
}

type doorJSON struct {
	Commands    uint64 `json:"commands"`
	Inside      int    `json:"inside"`
	Repeated    uint64 `json:"repeated"`
	Malformed   uint64 `json:"malformed"`
	Denied      uint64 `json:"denied"`
	Refused     uint64 `json:"refused"`
	Unavailable uint64 `json:"unavailable"`
	Counted     uint64 `json:"counted"`
	Unrecorded  uint64 `json:"unrecorded"`
	Closed      bool   `json:"closed,omitzero"`
}

type handlerJSON struct {
	Name         string              `json:"name"`
	Topic        string              `json:"topic"`
	Holding      bool                `json:"holding"`
	Standby      bool                `json:"standby"`
	Stopped      bool                `json:"stopped,omitzero"`
	Error        string              `json:"error,omitzero"`
	Token        uint64              `json:"token"`
	Position     eventstore.Position `json:"position"`
	Head         eventstore.Position `json:"head"`
	Lag          uint64              `json:"lag"`
	UnderWay     int                 `json:"under_way"`
	Acknowledged uint64              `json:"acknowledged"`
	Refused      uint64              `json:"refused"`
	LastError    string              `json:"last_error,omitzero"`
	LastErrorAt  time.Time           `json:"last_error_at,omitzero"`
	Behind       []behindJSON        `json:"behind,omitempty"`
}

type behindJSON struct {
	Event    uuid.UUID           `json:"event"`
	Stream   string              `json:"stream"`
	Type     string              `json:"type"`
	Position eventstore.Position `json:"position"`
	Attempts int                 `json:"attempts"`
	Since    time.Time           `json:"since,omitzero"`
	Due      time.Time           `json:"due,omitzero"`
	Error    string              `json:"error,omitzero"`
	Parked   bool                `json:"parked"`
}

// MarshalJSON returns the status as an object: "ready", and where it is false
// "not_ready" with reasons; "attention"; and "folds", "door" and "handlers" with the
// fields of Status in snake case, errors as texts, times in RFC 3339. Names of fields
// stay.
func (s Status) MarshalJSON() ([]byte, error) {
	f := s.Folds
	form := statusJSON{
		NotReady: s.NotReady(), Attention: s.Attention(),
		Folds: followJSON{
			Ready: f.Ready, Closed: f.Closed, Stopped: text(f.Stopped), Retrying: text(f.Retrying), SnapshotError: text(f.SnapshotError),
			Position: f.Position, Head: f.Head, Lag: f.Lag,
		},
		Door: doorJSON{
			Commands: s.Door.Commands, Inside: s.Door.Inside, Repeated: s.Door.Repeated, Malformed: s.Door.Malformed, Denied: s.Door.Denied,
			Refused: s.Door.Refused, Unavailable: s.Door.Unavailable, Counted: s.Door.Counted, Unrecorded: s.Door.Unrecorded, Closed: s.Door.Closed,
		},
		Handlers: []handlerJSON{},
	}
	form.Ready = len(form.NotReady) == 0
	var poison *follow.PoisonError
	errors.As(f.Stopped, &poison)
	for _, fold := range f.Folds {
		j := foldJSON{Name: fold.Name, Position: fold.Position, Snapshot: fold.Snapshot, Parked: fold.Parked}
		if f.Head > fold.Position {
			j.Lag = uint64(f.Head - fold.Position)
		}
		if poison != nil && poison.Fold == fold.Name {
			j.Error = poison.Error()
		}
		form.Folds.Folds = append(form.Folds.Folds, j)
	}
	for _, h := range s.Handlers {
		j := handlerJSON{
			Name: h.Consumer, Topic: h.Topic, Holding: h.Holding, Standby: h.Standby, Stopped: h.Stopped, Error: text(h.Err), Token: h.Token,
			Position: h.Position, Head: h.Head, Lag: h.Lag, UnderWay: h.UnderWay, Acknowledged: h.Acknowledged, Refused: h.Refused,
			LastError: text(h.LastError), LastErrorAt: h.LastErrorAt,
		}
		for _, b := range h.Behind {
			j.Behind = append(j.Behind, behindJSON{
				Event: b.Event, Stream: b.Stream, Type: b.Type, Position: b.Position, Attempts: b.Attempts, Since: b.Since, Due: b.Due,
				Error: text(b.Err), Parked: b.Parked,
			})
		}
		form.Handlers = append(form.Handlers, j)
	}
	return json.Marshal(form, jsontext.AllowInvalidUTF8(true))
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
