package command

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rollforward/rollforward/eventstore"
)

// Limits of a call, in bytes. They leave room for what stands around them: a
// person's ID is part of a stream's name, an action is at most an event type, and
// all of it together fits into an event's metadata.
const (
	maxPerson = 128
	maxAction = eventstore.MaxType
	maxName   = 255     // a target, a source, a correlation
	maxReason = 8 << 10 // in the actor's words
)

// check returns nil or an *Error that names all that cannot be meant.
func (c Call) check() error {
	var wrong []Refusal
	if c.Actor.ID == "" {
		wrong = append(wrong, malformed("actor-required", "actor.id", "nobody is named as the actor", "say who acts"))
	}
	if c.Action == "" {
		wrong = append(wrong, malformed("action-required", "action", "no action is named", "say what is to be done, as in \"change.approve\""))
	}
	for _, f := range [...]struct {
		field, text string
		limit       int
		prose       bool
	}{
		{"actor.id", c.Actor.ID, maxPerson, false},
		{"actor.on_behalf_of", c.Actor.OnBehalfOf, maxPerson, false},
		{"actor.source", c.Actor.Source, maxName, false},
		{"action", c.Action, maxAction, false},
		{"target", c.Target, maxName, false},
		{"reason", c.Reason, maxReason, true},
		{"key", c.Key, MaxKey, false},
		{"correlation", c.Correlation, maxName, false},
	} {
		wrong = checkText(wrong, f.field, f.text, f.limit, f.prose)
	}
	return Refuse(wrong...)
}

// earliest is when history begins; what is said to be older has digits missing.
var earliest = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)

// timely returns nil or an *Error that says why a call may not be of its time.
func (d *Door) timely(c Call) error {
	at := c.OccurredAt.UTC()
	switch {
	case at.IsZero():
		return nil
	case !d.config.Backdating:
		return Refuse(Refusal{
			Kind: Denied, Rule: "backdating", Field: "occurred_at",
			Reason: "the command says when it happened, and here it happens when it is asked for",
			Remedy: "leave the time out; a program that brings history in opens its door with Backdating",
		})
	case at.Before(earliest):
		return Refuse(malformed("too-early", "occurred_at", fmt.Sprintf("it would have happened in the year %d", at.Year()), "give the time in full"))
	case at.After(d.Now()):
		return Refuse(malformed("still-to-come", "occurred_at", fmt.Sprintf("it would have happened at %s, which is still to come", at.Format(time.RFC3339)), "give a time that has passed, or none"))
	}
	return nil
}

// checkText appends to wrong what is wrong with a text. Prose may have line
// breaks and tabs, a name no control character at all.
func checkText(wrong []Refusal, field, text string, limit int, prose bool) []Refusal {
	if len(text) > limit {
		return append(wrong, malformed("too-long", field, fmt.Sprintf("it has %d bytes of at most %d", len(text), limit), "shorten it"))
	}
	if !utf8.ValidString(text) {
		return append(wrong, malformed("not-text", field, "it is not valid UTF-8", "give text"))
	}
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' && !(prose && strings.IndexByte("\n\r\t", c) >= 0) || c == 0x7f {
			return append(wrong, malformed("not-text", field, fmt.Sprintf("it has the control character %#x", c), "leave it out"))
		}
	}
	return wrong
}

func malformed(rule, field, reason, remedy string) Refusal {
	return Refusal{Kind: Malformed, Rule: rule, Field: field, Reason: reason, Remedy: remedy}
}

// metadata is that of the events that the call records.
func (c Call) metadata(now time.Time) eventstore.Metadata {
	onBehalfOf := c.Actor.OnBehalfOf
	if onBehalfOf == c.Actor.ID {
		onBehalfOf = ""
	}
	return eventstore.Metadata{
		Actor: c.Actor.ID, OnBehalfOf: onBehalfOf, Reason: c.Reason, Command: c.Action, Key: c.Key,
		Correlation: c.Correlation, Causation: c.Causation, Source: c.Actor.Source, OccurredAt: now,
	}
}
