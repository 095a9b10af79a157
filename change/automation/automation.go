// Package automation has handlers that act on what happens to changes. In come
// events, by package relay; out go commands on changes, each done once however often
// its event comes.
//
//   - [FollowUps] opens tasks after a review, by rules.
//   - [Pipelines] raises a standard change for a run of a pipeline that was reported,
//     and may start and complete it as the run goes on. [Report] records a run,
//     [FromCDEvents] those of a message broker.
//   - [Drift] raises an unauthorized change for what a source observed and no change
//     explains.
//
// They are run by an engine whose types include [Types], or by package relay:
//
//	drift, err := automation.Drift(automation.DriftConfig{
//		Changes: engine.Changes, CMDB: engine.CMDB, Door: engine.Door, WaitFor: engine.WaitFor,
//		Classes: []string{"database"},
//	})
//	err = engine.Handle(drift)
//
// # Who acts
//
// The commands are those of [Actor] unless a config names another. Give it its rights
// as anybody: command.Roles{automation.Actor: {command.Automation}}.
//
// # What is refused
//
// A command that is refused for good, by a rule or for want of a right, parks its
// event with the reason: it is seen in the status of the handlers and in the log, and
// what comes later in the event's stream waits until somebody has mended the cause
// and decides that it is tried again, or left out. One that was refused since a hook
// failed is tried again by itself.
package automation

import (
	"context"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Actor is who acts unless a config says otherwise.
const Actor = "rollforward:automation"

// Types returns the event types of this package, for a registry.
func Types() []eventstore.EventType {
	return []eventstore.EventType{eventstore.Type[Reported]("pipeline.reported", 1)}
}

// acting is the actor of a config, or the default.
func acting(actor command.Actor) command.Actor {
	if actor.ID == "" {
		return command.As(Actor)
	}
	return actor
}

// answered returns the error of a command as the consumer is to take it: what was
// refused for good parks the event.
func answered(err error) error {
	var refused *command.Error
	if !errors.As(err, &refused) || errors.Is(err, command.ErrUnavailable) {
		return err
	}
	return relay.Permanent(err)
}

// raised is a change to be raised once.
type raised struct {
	changes *change.Service
	door    *command.Door
	call    command.Call
	what    string // the content of the call, by which its key is known again: always the same for one key
}

// raise raises the change that decide makes out, and returns its ID; decide is not
// asked where that was done already, since the answer may be another by now. The ID
// is empty where another change has the reference: whoever raised that has done it.
func (r raised) raise(ctx context.Context, decide func() (change.Raise, []change.Command, error)) (string, error) {
	r.call.Action, r.call.Content = "change.raise", r.what
	done, err := r.door.Do(ctx, r.call, func(tx *command.Tx) error {
		raise, then, err := decide()
		if err != nil {
			return err
		}
		_, err = r.changes.RaiseIn(tx, raise, then...)
		return err
	})
	if command.By(err, "external-taken") {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, at := range done.Streams {
		if id, ok := strings.CutPrefix(at.Stream, changePrefix); ok {
			return id, nil
		}
	}
	return "", errors.New("a change was raised, and the answer to its key does not name it")
}

const changePrefix = "change-"

// line returns text in one line of at most so many bytes.
func line(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	const more = "…"
	end := limit - len(more)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}

// maxTitle is the limit of a change's title, in bytes.
const maxTitle = 200
