package command

import (
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// Types returns the event types of this package, for a registry.
func Types() []eventstore.EventType {
	return []eventstore.EventType{
		eventstore.Type[CommandDone]("command.done", 1),
		eventstore.Type[CommandRefused]("command.refused", 1),
		eventstore.Type[RefusalsCounted]("command.refusals-counted", 1),
		eventstore.Type[Delegation]("delegation.given", 1),
		eventstore.Type[DelegationEnded]("delegation.ended", 1),
	}
}

// CommandDone is recorded in the stream "key-DIGEST" of an actor and his
// idempotency key, in one append with what the command recorded: the answer that
// the same key is given from then on.
type CommandDone struct {
	Key     string  `json:"key"`
	Action  string  `json:"action"`
	Target  string  `json:"target,omitzero"`
	Digest  string  `json:"digest"` // SHA-256 of what was asked for, in hex
	Streams []stood `json:"streams,omitzero"`
}

// stood is a stream and the version at which a command left it.
type stood struct {
	Stream  string `json:"stream"`
	Version uint64 `json:"version"`
}

// CommandRefused is recorded in the stream "refusals-YYYY-MM" when a rule stood
// in the way of a command, once for each rule. Long texts are cut so that the
// payload has at most 1 KiB. A command with a key that is repeated and refused again
// for the same reasons is recorded once.
type CommandRefused struct {
	Action     string `json:"action"`
	Target     string `json:"target,omitzero"`
	Actor      string `json:"actor"`
	OnBehalfOf string `json:"on_behalf_of,omitzero"`
	Rule       string `json:"rule"`
	Kind       Kind   `json:"kind"`
	Reason     string `json:"reason,omitzero"`
}

// Tags makes refusals be found by actor and by rule.
func (r CommandRefused) Tags() []string { return refusalTags(r.Actor, r.Rule) }

// RefusalsCounted is recorded in the stream "refusals-YYYY-MM" for refusals that
// were too many to be listed: when their number in a minute reaches 100, 1,000,
// 10,000 and so on, when the minute has ended, and when the door is closed. Each
// counts what the one before did not, so that their sum is the number.
type RefusalsCounted struct {
	Actor string    `json:"actor,omitzero"` // empty: of several actors, when too many were refused in one minute
	Rule  string    `json:"rule,omitzero"`  // empty: of several rules, likewise
	From  time.Time `json:"from"`           // of the first one, by the door's clock
	Until time.Time `json:"until"`          // of the last one
	Count uint64    `json:"count"`
}

// Tags makes counts be found as refusals are.
func (r RefusalsCounted) Tags() []string { return refusalTags(r.Actor, r.Rule) }

// Delegation is a right given away for a time: To may act on behalf of Person.
// It is recorded in the stream "delegation-PERSON" when it is given.
type Delegation struct {
	Person  string    `json:"person"`           // whose right it is
	To      string    `json:"to"`               // who may use it
	Actions []string  `json:"actions,omitzero"` // exact, or with * as last character; given as none it is change.approve and change.reject
	From    time.Time `json:"from"`             // in force from here; given as zero, or as past, it is now
	Until   time.Time `json:"until"`            // and before here
	Reason  string    `json:"reason,omitzero"`
}

// DelegationEnded is recorded in the stream "delegation-PERSON" when all that was
// delegated to one person, in force or to come, is taken back.
type DelegationEnded struct {
	Person string `json:"person"`
	To     string `json:"to"`
	Reason string `json:"reason,omitzero"`
}
