package eventstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Metadata says who recorded an event and why. It is for audit and tracing:
// what state depends on belongs into the payload. People are named by opaque
// IDs. Unknown fields of metadata written elsewhere are kept in Extra.
type Metadata struct {
	Actor       string                     `json:"actor,omitzero"`        // who
	OnBehalfOf  string                     `json:"on_behalf_of,omitzero"` // for whom, where delegated
	Reason      string                     `json:"reason,omitzero"`       // why, in the actor's words
	Command     string                     `json:"command,omitzero"`      // the command that decided it
	Key         string                     `json:"key,omitzero"`          // idempotency key of the command
	Correlation string                     `json:"correlation,omitzero"`  // what belongs to one undertaking shares it
	Causation   uuid.UUID                  `json:"causation,omitzero"`    // ID of the event that caused it
	Source      string                     `json:"source,omitzero"`       // the program or place it came from
	OccurredAt  time.Time                  `json:"occurred_at,omitzero"`  // when it happened, by the caller's clock
	Traceparent string                     `json:"traceparent,omitzero"`  // W3C Trace Context
	Extra       map[string]json.RawMessage `json:",embed"`
}

// same reports whether two are the same for certain. Metadata with Extra never are:
// its maps can change in place.
func (m Metadata) same(o Metadata) bool {
	return m.Extra == nil && o.Extra == nil &&
		m.Actor == o.Actor && m.OnBehalfOf == o.OnBehalfOf && m.Reason == o.Reason && m.Command == o.Command && m.Key == o.Key &&
		m.Correlation == o.Correlation && m.Causation == o.Causation && m.Source == o.Source && m.OccurredAt == o.OccurredAt &&
		m.Traceparent == o.Traceparent
}

// Encode returns m as the JSON object of an Event's Meta, always the same bytes
// for the same value; nil for zero metadata.
func (m Metadata) Encode() ([]byte, error) {
	b, err := marshal(m, nil)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	if string(b) == "{}" {
		return nil, nil
	}
	return b, nil
}

// DecodeMetadata reads an Event's Meta. The error wraps ErrMalformed.
func DecodeMetadata(meta []byte) (Metadata, error) {
	var m Metadata
	if len(meta) == 0 {
		return m, nil
	}
	if err := unmarshal(meta, &m, nil); err != nil {
		return Metadata{}, fmt.Errorf("decode metadata: %w: %w", ErrMalformed, err)
	}
	return m, nil
}
