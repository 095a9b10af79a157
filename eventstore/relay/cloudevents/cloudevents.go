// Package cloudevents writes events of a log as CloudEvents 1.0, in the structured
// mode with JSON, and reads them again. What comes in is an eventstore.Recorded, what
// goes out a Watermill message for whoever does not know this library:
//
//	form := cloudevents.Form{Source: "https://itsm.example.com/changes", TypePrefix: "com.example."}
//	forwarder, err := relay.NewForwarder(relay.Config{Store: store, Name: "to-nats", Message: form.Message}, relay.All, destination)
//
// The attributes are these. Those below the line are extensions; the names of the
// first five are those of documented extensions of CloudEvents.
//
//	id               the event's ID
//	source           Form.Source
//	type             Form.TypePrefix and the event's type
//	subject          the stream
//	time             when it happened, by Metadata.OccurredAt; else when it was recorded
//	datacontenttype  application/json
//	dataschema       what Form.Schema says
//	data             the event's Data
//	---------------
//	sequence         the position in the log, with 20 digits, so that it sorts as text
//	recordedtime     when it was recorded
//	correlationid    Metadata.Correlation
//	causationid      Metadata.Causation
//	traceparent      Metadata.Traceparent
//	streamversion    the place in the stream; decimal, as a string: it has 64 bits
//	appendsequence   the position of the first event of the same append, as sequence
//	schemaversion    the version of the payload's schema, an Integer
//	tags             a JSON array of the tags, as a string
//	metadata         the event's Meta, a Binary, where Form.Meta says so
//
// Actor, reason and key of a command are in Meta and nowhere else, so that they leave
// the house only where Form.Meta has them do so.
package cloudevents

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// KeyContentType is the metadata key, and so the header or property, by which the
// bindings to NATS, Kafka and AMQP say that a message is a CloudEvent; ContentType is
// its value.
const (
	KeyContentType = "content-type"
	ContentType    = event.ApplicationCloudEventsJSON + "; charset=UTF-8"
)

// Form is how events are written. Source is required.
type Form struct {
	// Source is a URI of the log: with the event's ID it is unique. An absolute one is
	// recommended.
	Source string

	// TypePrefix is put before the event's type: "com.example.".
	TypePrefix string

	// Schema is the absolute URI of the schema of an event type's payload. Default none.
	Schema func(eventType string, version int) string

	// Meta has the event's Meta carried, byte for byte: who did it, and why.
	Meta bool
}

// extensions of our own, and those that are documented.
const (
	sequence       = "sequence"
	recordedTime   = "recordedtime"
	correlationID  = "correlationid"
	causationID    = "causationid"
	traceparent    = "traceparent"
	streamVersion  = "streamversion"
	appendSequence = "appendsequence"
	schemaVersion  = "schemaversion"
	tags           = "tags"
	metadata       = "metadata"
)

// Message returns the message of an event, for relay.Config.Message: its UUID is the
// event's ID, its payload the CloudEvent, and its metadata the content type and, under
// the keys of package relay, the correlation and the traceparent. It fails for a Form
// that does not do, and for an event that no CloudEvent can be: its stream, type,
// tags, correlation or traceparent has control characters, or the stream is nothing
// but space.
func (f Form) Message(r eventstore.Recorded) (*message.Message, error) {
	e, meta, err := f.event(r)
	if err != nil {
		return nil, fmt.Errorf("cloudevents: event %s: %w", r.ID, err)
	}
	var payload bytes.Buffer
	if err := event.WriteJson(e, &payload); err != nil {
		return nil, fmt.Errorf("cloudevents: event %s: %w", r.ID, err)
	}
	m := message.NewMessage(r.ID.String(), payload.Bytes())
	m.Metadata[KeyContentType] = ContentType
	for key, value := range map[string]string{relay.KeyCorrelation: meta.Correlation, relay.KeyTraceparent: meta.Traceparent} {
		if value != "" {
			m.Metadata[key] = value
		}
	}
	return m, nil
}

func (f Form) event(r eventstore.Recorded) (*event.Event, eventstore.Metadata, error) {
	meta, err := eventstore.DecodeMetadata(r.Meta)
	if err != nil {
		return nil, meta, err
	}
	source, err := url.Parse(f.Source)
	if err != nil {
		return nil, meta, fmt.Errorf("the source is no URI: %w", err)
	}
	c := &event.EventContextV1{ID: r.ID.String(), Source: types.URIRef{URL: *source}, Type: f.TypePrefix + r.Type, Subject: &r.Stream}
	contentType := event.ApplicationJSON
	c.DataContentType = &contentType
	c.Time = &types.Timestamp{Time: r.RecordedAt.UTC()}
	if !meta.OccurredAt.IsZero() {
		c.Time = &types.Timestamp{Time: meta.OccurredAt.UTC()}
	}
	if f.Schema != nil {
		if schema := f.Schema(r.Type, r.Schema); schema != "" {
			uri, err := url.Parse(schema)
			if err != nil {
				return nil, meta, fmt.Errorf("the schema is no URI: %w", err)
			}
			c.DataSchema = &types.URI{URL: *uri}
		}
	}
	if err := f.extend(c, r, meta); err != nil {
		return nil, meta, err
	}
	// The SDK writes JSON as it is, and reads it without the space around it.
	e := &event.Event{Context: c, DataEncoded: r.Data, DataBase64: len(bytes.TrimSpace(r.Data)) != len(r.Data)}
	if err := e.Validate(); err != nil {
		return nil, meta, err
	}
	return e, meta, plain(c)
}

// extend sets the extensions.
func (f Form) extend(c *event.EventContextV1, r eventstore.Recorded, meta eventstore.Metadata) error {
	type extension struct {
		name  string
		value any
	}
	all := []extension{
		{sequence, fmt.Sprintf("%020d", r.Position)},
		{recordedTime, types.Timestamp{Time: r.RecordedAt.UTC()}.String()},
		{streamVersion, strconv.FormatUint(r.Version, 10)},
		{appendSequence, fmt.Sprintf("%020d", r.Append)},
		{schemaVersion, r.Schema},
	}
	if meta.Correlation != "" {
		all = append(all, extension{correlationID, meta.Correlation})
	}
	if meta.Causation != uuid.Nil {
		all = append(all, extension{causationID, meta.Causation.String()})
	}
	if meta.Traceparent != "" {
		all = append(all, extension{traceparent, meta.Traceparent})
	}
	if len(r.Tags) > 0 {
		text, err := json.Marshal(r.Tags)
		if err != nil {
			return err
		}
		all = append(all, extension{tags, string(text)})
	}
	if f.Meta && len(r.Meta) > 0 {
		all = append(all, extension{metadata, r.Meta})
	}
	for _, x := range all {
		if err := c.SetExtension(x.name, x.value); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
	}
	return nil
}

// plain returns an error for an attribute with control characters, which CloudEvents
// does not allow and the SDK does not look for.
func plain(c *event.EventContextV1) error {
	attributes := map[string]any{"type": c.Type, "subject": *c.Subject}
	for name, value := range c.Extensions {
		attributes[name] = value
	}
	for name, value := range attributes {
		if text, ok := value.(string); ok && strings.IndexFunc(text, unicode.IsControl) >= 0 {
			return fmt.Errorf("%s has control characters, which an attribute of a CloudEvent has not: %q", name, text)
		}
	}
	return nil
}

// ErrNotAnEvent says that a message is no CloudEvent that a Form has written.
var ErrNotAnEvent = fmt.Errorf("the message is not a CloudEvent of a log: %w", eventstore.ErrMalformed)

// Recorded returns the event of a message that Message has written in the same form.
// With Form.Meta it is the event, byte for byte. Without, Meta has what attributes say,
// which is correlation, causation, traceparent and when it happened, and everything
// else that was in it is lost. The error is ErrNotAnEvent.
func (f Form) Recorded(m *message.Message) (eventstore.Recorded, error) {
	r, err := f.parse(m)
	if err == nil {
		err = eventstore.Validate([]eventstore.Event{r.Event}, nil)
	}
	if err != nil {
		return eventstore.Recorded{}, fmt.Errorf("message %.64q: %w: %w", m.UUID, ErrNotAnEvent, err)
	}
	return r, nil
}

func (f Form) parse(m *message.Message) (r eventstore.Recorded, err error) {
	var e event.Event
	if err := event.ReadJson(&e, bytes.NewReader(m.Payload)); err != nil {
		return r, err
	}
	c, ok := e.Context.(*event.EventContextV1)
	if !ok {
		return r, errors.New("it is not of version 1.0")
	}
	if err := e.Validate(); err != nil {
		return r, err
	}
	x := attributes{c.Extensions, nil}
	r.Position = eventstore.Position(x.number(sequence))
	r.Append = eventstore.Position(x.number(appendSequence))
	r.Version = x.number(streamVersion)
	r.RecordedAt = x.time(recordedTime)
	schema, err := types.ToInteger(c.Extensions[schemaVersion])
	if err != nil {
		return r, fmt.Errorf("%s: %w", schemaVersion, err)
	}
	r.Schema = int(schema)
	if text := x.text(tags); text != "" && x.err == nil {
		x.err = json.Unmarshal([]byte(text), &r.Tags)
	}
	if x.err != nil {
		return r, x.err
	}
	if r.ID, err = uuid.Parse(c.ID); err != nil {
		return r, err
	}
	if r.Type, ok = strings.CutPrefix(c.Type, f.TypePrefix); !ok {
		return r, fmt.Errorf("type %q does not begin with %q", c.Type, f.TypePrefix)
	}
	source, err := url.Parse(f.Source)
	if err != nil {
		return r, fmt.Errorf("the source of the form is no URI: %w", err)
	}
	if c.Source.String() != source.String() {
		return r, fmt.Errorf("it is of another source, %q", c.Source.String())
	}
	if c.Subject != nil {
		r.Stream = *c.Subject
	}
	r.Data = e.Data()
	r.Meta, err = x.meta(c, r)
	return r, err
}

// attributes reads extensions, and remembers the first error.
type attributes struct {
	all map[string]any
	err error
}

func (x *attributes) text(name string) string {
	value, found := x.all[name]
	if !found || x.err != nil {
		return ""
	}
	text, err := types.ToString(value)
	if err != nil {
		x.err = fmt.Errorf("%s: %w", name, err)
	}
	return text
}

func (x *attributes) number(name string) uint64 {
	text := x.text(name)
	if x.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err == nil && n == 0 {
		err = errors.New("it is 0")
	}
	if err != nil {
		x.err = fmt.Errorf("%s: %w", name, err)
	}
	return n
}

func (x *attributes) time(name string) time.Time {
	text := x.text(name)
	if x.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		x.err = fmt.Errorf("%s: %w", name, err)
	}
	return t.UTC()
}

// meta returns the Meta that is carried, or what the attributes say.
func (x *attributes) meta(c *event.EventContextV1, r eventstore.Recorded) ([]byte, error) {
	if carried, found := x.all[metadata]; found {
		return types.ToBinary(carried)
	}
	meta := eventstore.Metadata{Correlation: x.text(correlationID), Traceparent: x.text(traceparent)}
	if c.Time != nil && !c.Time.Equal(r.RecordedAt) {
		meta.OccurredAt = c.Time.UTC()
	}
	if cause := x.text(causationID); cause != "" && x.err == nil {
		meta.Causation, x.err = uuid.Parse(cause)
	}
	if x.err != nil {
		return nil, x.err
	}
	return meta.Encode()
}
