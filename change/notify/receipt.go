package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Sent is recorded in the stream "notice-CHANGE" when a notice was handed over to who
// delivers it.
type Sent struct {
	Notice  string    `json:"notice"` // its key
	Change  string    `json:"change"`
	Version uint64    `json:"version"` // of the change, at the event
	Event   uuid.UUID `json:"event"`
	Word    string    `json:"word"`           // what he was told, one of Words
	Who     string    `json:"who"`            // an opaque ID
	Owner   bool      `json:"owner,omitzero"` // as the owner of a CI that the change touches
	Channel string    `json:"channel"`        // by which
	At      time.Time `json:"at"`             // by the clock of the door
}

// Failed is recorded in the stream "notice-CHANGE" when a notice is not tried again.
type Failed struct {
	Notice  string    `json:"notice"`
	Change  string    `json:"change"`
	Version uint64    `json:"version"`
	Event   uuid.UUID `json:"event"`
	Word    string    `json:"word"`
	Who     string    `json:"who"`
	Owner   bool      `json:"owner,omitzero"`
	Channel string    `json:"channel,omitzero"` // empty: nobody said how he is reached
	Why     Failure   `json:"why"`
	Code    int       `json:"code,omitzero"` // of the reply, by SMTP or HTTP
	At      time.Time `json:"at"`
}

// Tags lets To find what somebody was told.
func (e Sent) Tags() []string { return told(e.Who) }

// Tags lets To find what somebody was to be told.
func (e Failed) Tags() []string { return told(e.Who) }

func told(who string) []string {
	tag := toldPrefix + who
	if len(tag) > eventstore.MaxTag {
		return nil
	}
	return []string{tag}
}

const (
	toldPrefix   = "told:"
	streamPrefix = "notice-"
)

// Types returns the payloads that this package records, for a registry.
func Types() []eventstore.EventType {
	return []eventstore.EventType{eventstore.Type[Sent]("notify.sent", 1), eventstore.Type[Failed]("notify.failed", 1)}
}

// Receipt is a notice as the log has it: a [Sent], or a [Failed] where Why is set.
type Receipt struct {
	Notice   string // its key
	Change   string
	Version  uint64 // of the change, at the event
	Event    uuid.UUID
	Word     string // one of Words
	Who      string
	Owner    bool // as the owner of a CI
	Channel  string
	Why      Failure // empty: it was handed over
	Code     int     // of the reply that refused it
	At       time.Time
	Position eventstore.Position
}

// Delivered reports whether the notice was handed over.
func (r Receipt) Delivered() bool { return r.Why == "" }

// Of returns who was told what of a change, in the order in which it was recorded. It
// costs one read of the receipts' stream. registry has Types. Whoever calls it has
// authorised it.
func Of(ctx context.Context, store eventstore.Store, registry *eventstore.Registry, change string) ([]Receipt, error) {
	return receipts(ctx, store, registry, eventstore.Query{Streams: []string{streamPrefix + change}})
}

// To returns what somebody was told of all changes, in the order in which it was
// recorded. It costs one read by a tag.
func To(ctx context.Context, store eventstore.Store, registry *eventstore.Registry, who string) ([]Receipt, error) {
	return receipts(ctx, store, registry, eventstore.Query{Prefix: streamPrefix, Tags: []string{toldPrefix + who}})
}

func receipts(ctx context.Context, store eventstore.Store, registry *eventstore.Registry, q eventstore.Query) ([]Receipt, error) {
	var all []Receipt
	for r, err := range store.Read(ctx, q) {
		if err != nil {
			return nil, fmt.Errorf("read receipts of notices: %w", err)
		}
		payload, err := registry.Decode(r.Event)
		if err != nil {
			return nil, fmt.Errorf("read receipts of notices: %w", err)
		}
		switch e := payload.(type) {
		case Sent:
			all = append(all, Receipt{e.Notice, e.Change, e.Version, e.Event, e.Word, e.Who, e.Owner, e.Channel, "", 0, e.At, r.Position})
		case Failed:
			all = append(all, Receipt{e.Notice, e.Change, e.Version, e.Event, e.Word, e.Who, e.Owner, e.Channel, e.Why, e.Code, e.At, r.Position})
		}
	}
	return all, nil
}

// settled are the keys of the notices that have a receipt.
var settled = eventstore.Decider[map[string]bool, any]{
	Evolve: func(keys map[string]bool, payload any) map[string]bool {
		if keys == nil {
			keys = map[string]bool{}
		}
		switch e := payload.(type) {
		case Sent:
			keys[e.Notice] = true
		case Failed:
			keys[e.Notice] = true
		}
		return keys
	},
}
