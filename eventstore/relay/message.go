package relay

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Keys of a message's metadata. Those of the event's Metadata are there where it
// has them; KeyCorrelation is the one that Watermill's own middleware uses. A value
// with control characters, or with space around it, is in base64 under its key with
// "_base64" behind it: headers of brokers do not carry it otherwise.
const (
	KeyStream      = "stream"
	KeyVersion     = "version"
	KeyPosition    = "position"
	KeyAppend      = "append"
	KeyType        = "type"
	KeySchema      = "schema"
	KeyTags        = "tags"        // a JSON array
	KeyRecordedAt  = "recorded_at" // RFC 3339, UTC
	KeyMeta        = "meta"        // the event's Meta, byte for byte
	KeyCorrelation = "correlation_id"
	KeyCausation   = "causation_id"
	KeyTraceparent = "traceparent" // W3C Trace Context
)

// Message returns the message of an event: its UUID is the event's ID, its payload
// the event's Data, and its metadata all the rest, so that Recorded gives the event
// again, also behind a broker.
func Message(r eventstore.Recorded) (*message.Message, error) {
	meta, err := eventstore.DecodeMetadata(r.Meta)
	if err != nil {
		return nil, err
	}
	return messageOf(r, meta)
}

// messageOf is Message of an event whose metadata is decoded.
func messageOf(r eventstore.Recorded, meta eventstore.Metadata) (*message.Message, error) {
	m := message.NewMessage(r.ID.String(), message.Payload(r.Data))
	m.Metadata = make(message.Metadata, 12)
	set := func(key, value string) {
		switch {
		case value == "":
		case carried(value):
			m.Metadata[key] = value
		default:
			m.Metadata[key+encoded] = base64.StdEncoding.EncodeToString([]byte(value))
		}
	}
	set(KeyStream, r.Stream)
	set(KeyVersion, strconv.FormatUint(r.Version, 10))
	set(KeyPosition, strconv.FormatUint(uint64(r.Position), 10))
	set(KeyAppend, strconv.FormatUint(uint64(r.Append), 10))
	set(KeyType, r.Type)
	set(KeySchema, strconv.Itoa(r.Schema))
	if len(r.Tags) > 0 {
		tags, err := json.Marshal(r.Tags)
		if err != nil {
			return nil, fmt.Errorf("message of event %s: %w", r.ID, err)
		}
		set(KeyTags, string(tags))
	}
	set(KeyRecordedAt, r.RecordedAt.UTC().Format(time.RFC3339Nano))
	set(KeyMeta, string(r.Meta))
	set(KeyCorrelation, meta.Correlation)
	if meta.Causation != uuid.Nil {
		set(KeyCausation, meta.Causation.String())
	}
	set(KeyTraceparent, meta.Traceparent)
	return m, nil
}

// encoded is behind the key of a value that is in base64.
const encoded = "_base64"

// carried reports whether a value comes through a broker as it is, where metadata
// becomes headers of text: of NATS, such a header has its line breaks replaced and
// the space around it cut off.
func carried(value string) bool {
	return strings.Trim(value, " ") == value && strings.IndexFunc(value, unicode.IsControl) < 0
}

// ErrNotAnEvent says that a message was not made by Message.
var ErrNotAnEvent = fmt.Errorf("the message is not an event of a log: %w", eventstore.ErrMalformed)

// Recorded returns the event of a message: the one that this process delivered, or
// what the metadata says of one that came through a broker. The error is
// ErrNotAnEvent.
func Recorded(m *message.Message) (eventstore.Recorded, error) {
	if d, ok := m.Context().Value(deliveryKey{}).(*delivery); ok {
		return d.record, nil
	}
	r, err := parse(m)
	if err != nil {
		return eventstore.Recorded{}, fmt.Errorf("message %.64q: %w: %w", m.UUID, ErrNotAnEvent, err)
	}
	return r, nil
}

func parse(m *message.Message) (r eventstore.Recorded, err error) {
	text := func(key string) string {
		if value, ok := m.Metadata[key]; ok || err != nil {
			return value
		}
		var value []byte
		value, err = base64.StdEncoding.DecodeString(m.Metadata[key+encoded])
		return string(value)
	}
	number := func(key string, bits int) (n uint64) {
		if err == nil {
			n, err = strconv.ParseUint(m.Metadata[key], 10, bits)
		}
		if err == nil && n == 0 {
			err = fmt.Errorf("%s is 0", key)
		}
		return n
	}
	r.Version = number(KeyVersion, 64)
	r.Position = eventstore.Position(number(KeyPosition, 64))
	r.Append = eventstore.Position(number(KeyAppend, 64))
	r.Schema = int(number(KeySchema, 31))
	if err != nil {
		return r, err
	}
	if r.ID, err = uuid.Parse(m.UUID); err != nil {
		return r, err
	}
	if r.RecordedAt, err = time.Parse(time.RFC3339Nano, m.Metadata[KeyRecordedAt]); err != nil {
		return r, err
	}
	r.RecordedAt = r.RecordedAt.UTC()
	if tags := text(KeyTags); tags != "" && err == nil {
		if err = json.Unmarshal([]byte(tags), &r.Tags); err != nil {
			return r, err
		}
	}
	r.Stream, r.Type, r.Data = text(KeyStream), text(KeyType), m.Payload
	if meta := text(KeyMeta); meta != "" {
		r.Meta = []byte(meta)
	}
	if err != nil {
		return r, err
	}
	return r, eventstore.Validate([]eventstore.Event{r.Event}, nil)
}

// deliveryKey is under what a message's context has its delivery.
type deliveryKey struct{}

// delivery is one message under way.
type delivery struct {
	record  eventstore.Recorded
	attempt int // from 1
	fence   []eventstore.Expect
	meta    eventstore.Metadata // if decoded
	decoded bool
	entry   *entry  // of the main line, or
	siding  *siding // of a stream that is behind
	cancel  context.CancelFunc

	mu     sync.Mutex
	failed error // why it was refused, where the handler said
}

// Failed says why a message is about to be refused, for the consumer's status and
// for the decision that parks it. An error that is [Permanent] parks it at once.
func Failed(m *message.Message, why error) {
	if d, ok := m.Context().Value(deliveryKey{}).(*delivery); ok {
		d.mu.Lock()
		d.failed = why
		d.mu.Unlock()
	}
}

// Explain is middleware that calls [Failed] for what a handler returns. Handlers of
// this package have it already.
func Explain(h message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		out, err := h(m)
		if err != nil {
			Failed(m, err)
		}
		return out, err
	}
}

// permanent is an error that trying again does not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that trying again does not mend: its event is parked at
// once.
func Permanent(err error) error { return permanent{err} }
