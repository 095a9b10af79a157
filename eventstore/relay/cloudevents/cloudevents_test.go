package cloudevents_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/relay/cloudevents"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var form = cloudevents.Form{
	Source: "https://itsm.example.com/changes", TypePrefix: "com.example.",
	Schema: func(eventType string, version int) string {
		return fmt.Sprintf("https://itsm.example.com/schemas/%s/%d", eventType, version)
	},
}

func raised() eventstore.Recorded {
	return eventstore.Recorded{
		Event: eventstore.Event{
			ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Stream: "change-CHG-000042", Type: "change.raised", Schema: 3,
			Tags: []string{"ci:db-01", `a "quoted" <tag>`}, Data: []byte(`{"title": "Upgrade  db-01"}`),
			Meta: []byte(`{"actor": "u-7f3a", "correlation": "c-1", "causation": "01890a5d-ac96-774b-bcce-b302099a8056", "occurred_at": "2026-01-02T03:04:00Z", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "unknown": 1}`),
		},
		Version: 7, Position: 1234, Append: 1233, RecordedAt: time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC),
	}
}

func TestAnEventIsACloudEvent(t *testing.T) {
	m, err := form.Message(raised())
	require.NoError(t, err)
	require.Equal(t, `{"specversion":"1.0","id":"01890a5d-ac96-774b-bcce-b302099a8057","source":"https://itsm.example.com/changes",`+
		`"type":"com.example.change.raised","subject":"change-CHG-000042","datacontenttype":"application/json",`+
		`"dataschema":"https://itsm.example.com/schemas/change.raised/3","time":"2026-01-02T03:04:00Z","data":{"title": "Upgrade  db-01"},`+
		`"appendsequence":"00000000000000001233","causationid":"01890a5d-ac96-774b-bcce-b302099a8056","correlationid":"c-1",`+
		`"recordedtime":"2026-01-02T03:04:05.000678Z","schemaversion":3,"sequence":"00000000000000001234","streamversion":"7",`+
		`"tags":"[\"ci:db-01\",\"a \\\"quoted\\\" <tag>\"]","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`, string(m.Payload))
	require.Equal(t, "01890a5d-ac96-774b-bcce-b302099a8057", m.UUID)
	require.Equal(t, message.Metadata{
		"content-type": "application/cloudevents+json; charset=UTF-8", "correlation_id": "c-1",
		"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}, m.Metadata)
	require.NotContains(t, string(m.Payload), "u-7f3a", "who did it does not leave the house")
}

// The SDK is the judge of what a CloudEvent is.
func TestTheSDKReadsAndAcceptsWhatIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyEvent(t)
		m, err := cloudevents.Form{Source: "/log", Meta: true}.Message(r)
		require.NoError(t, err)
		require.True(t, json.Valid(m.Payload))
		var e event.Event
		require.NoError(t, json.Unmarshal(m.Payload, &e))
		require.NoError(t, e.Validate())
		require.Equal(t, "1.0", e.SpecVersion())
		require.Equal(t, r.ID.String(), e.ID())
		require.Equal(t, r.Stream, e.Subject())
		require.Equal(t, r.Type, e.Type())
		require.Equal(t, string(r.Data), string(e.Data()))
		for name := range e.Extensions() {
			require.Regexp(t, "^[a-z0-9]{1,20}$", name, "the names that the specification recommends")
		}
	})
}

// anyEvent draws an event that can be a CloudEvent.
func anyEvent(t *rapid.T) eventstore.Recorded {
	name := rapid.StringMatching(`[a-zA-Z0-9._ äß"\\<>&€-]{0,20}[a-z]`)
	data := rapid.SampledFrom([]string{
		`{}`, `null`, `"text"`, `[1, 2.50, 1e400]`, " {\n\t\"a\" : 1 }\n", `{"<": "\u0000\u2028 \ud83d\ude00"}`, `0`, `false`, `""`, "\n[]",
	})
	meta := rapid.SampledFrom([]string{
		``, `{}`, "{\n \"actor\" : \"ann\" }\n", `{"correlation":"c","x":[1]}`, `{"occurred_at":"2020-02-03T04:05:06.123456789+02:00"}`,
	})
	number := rapid.Uint64Range(1, 1<<63)
	r := eventstore.Recorded{
		Event: eventstore.Event{
			ID: uuid.New(), Stream: name.Draw(t, "stream"), Type: name.Draw(t, "type"), Schema: rapid.IntRange(1, 1<<31-1).Draw(t, "schema"),
			Tags: rapid.SliceOfNDistinct(name, 0, 5, rapid.ID).Draw(t, "tags"), Data: []byte(data.Draw(t, "data")), Meta: []byte(meta.Draw(t, "meta")),
		},
		Version: number.Draw(t, "version"), Position: eventstore.Position(number.Draw(t, "position")), Append: eventstore.Position(number.Draw(t, "append")),
		RecordedAt: time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "time")).UTC(),
	}
	if len(r.Tags) == 0 {
		r.Tags = nil
	}
	if len(r.Meta) == 0 {
		r.Meta = nil
	}
	return r
}

func TestWithItsMetaAnEventComesBackByteForByte(t *testing.T) {
	form := form
	form.Meta = true
	rapid.Check(t, func(t *rapid.T) {
		r := anyEvent(t)
		m, err := form.Message(r)
		require.NoError(t, err)
		again, err := form.Recorded(m)
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

func TestWithoutItsMetaAllElseComesBack(t *testing.T) {
	r := raised()
	m, err := form.Message(r)
	require.NoError(t, err)
	again, err := form.Recorded(m)
	require.NoError(t, err)
	meta, err := eventstore.DecodeMetadata(again.Meta)
	require.NoError(t, err)
	require.Equal(t, eventstore.Metadata{
		Correlation: "c-1", Causation: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8056"), OccurredAt: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}, meta)
	r.Meta, again.Meta = nil, nil
	require.Equal(t, r, again)
}

func TestWhatNoCloudEventCanBeIsAnError(t *testing.T) {
	for says, change := range map[string]func(f *cloudevents.Form, r *eventstore.Recorded){
		"source: REQUIRED":     func(f *cloudevents.Form, _ *eventstore.Recorded) { f.Source = "" },
		"the source is no URI": func(f *cloudevents.Form, _ *eventstore.Recorded) { f.Source = "http://[" },
		"the schema is no URI": func(f *cloudevents.Form, _ *eventstore.Recorded) {
			f.Schema = func(string, int) string { return "http://[" }
		},
		"dataschema": func(f *cloudevents.Form, _ *eventstore.Recorded) {
			f.Schema = func(string, int) string { return "relative" }
		},
		"subject: if present":           func(_ *cloudevents.Form, r *eventstore.Recorded) { r.Stream = "  " },
		"subject has control":           func(_ *cloudevents.Form, r *eventstore.Recorded) { r.Stream = "a\nb" },
		"type has control":              func(f *cloudevents.Form, r *eventstore.Recorded) { f.Schema, r.Type = nil, "a\x7f" },
		"tags has control":              func(_ *cloudevents.Form, r *eventstore.Recorded) { r.Tags = []string{"\u0085"} },
		"correlationid has control":     func(_ *cloudevents.Form, r *eventstore.Recorded) { r.Meta = []byte(`{"correlation":"\n"}`) },
		eventstore.ErrMalformed.Error(): func(_ *cloudevents.Form, r *eventstore.Recorded) { r.Meta = []byte(`[]`) },
	} {
		f, r := form, raised()
		change(&f, &r)
		_, err := f.Message(r)
		require.ErrorContains(t, err, says)
	}
}

func TestAnotherMessageIsNotAnEvent(t *testing.T) {
	whole, err := form.Message(raised())
	require.NoError(t, err)
	replaced := func(old, new string) string {
		out := strings.Replace(string(whole.Payload), old, new, 1)
		require.NotEqual(t, string(whole.Payload), out)
		return out
	}
	for name, payload := range map[string]string{
		"nothing":              ``,
		"no CloudEvent":        `{}`,
		"of another version":   replaced(`"1.0"`, `"0.3"`),
		"of another source":    replaced(`example.com/changes`, `example.org/changes`),
		"of another prefix":    replaced(`com.example.`, `org.example.`),
		"without a sequence":   replaced(`"sequence"`, `"sequences"`),
		"with a sequence of 0": replaced(`"00000000000000001234"`, `"0"`),
		"without a version":    replaced(`"streamversion":"7"`, `"streamversion":"seven"`),
		"of no schema":         replaced(`"schemaversion":3`, `"schemaversion":0`),
		"with no time":         replaced(`"recordedtime":"2026`, `"recordedtime":"2026-`),
		"with no ID":           replaced(`"id":"01890a5d-`, `"id":"`),
		"with no subject":      replaced(`"subject":"change-CHG-000042",`, ``),
		"with no tags":         replaced(`"tags":"[`, `"tags":"`),
		"with no cause":        replaced(`"causationid":"0`, `"causationid":"`),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := form.Recorded(message.NewMessage("m", []byte(payload)))
			require.ErrorIs(t, err, cloudevents.ErrNotAnEvent)
			require.ErrorIs(t, err, eventstore.ErrMalformed)
		})
	}
	_, err = relay.Recorded(whole)
	require.ErrorIs(t, err, relay.ErrNotAnEvent, "a CloudEvent is not taken for the plain form")
}

// Who forwards events as they are does not link the SDK.
func TestPackageRelayDoesNotPullInTheSDK(t *testing.T) {
	deps := func(of string) string {
		out, err := exec.Command("go", "list", "-deps", of).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	const sdk = "github.com/cloudevents/"
	require.NotContains(t, deps("github.com/rollforward/rollforward/eventstore/relay"), sdk)
	require.Contains(t, deps("github.com/rollforward/rollforward/eventstore/relay/cloudevents"), sdk)
}

func FuzzRecordedNeverPanics(f *testing.F) {
	whole, err := form.Message(raised())
	require.NoError(f, err)
	f.Add([]byte(whole.Payload))
	f.Add([]byte(`{"specversion":"1.0"}`))
	f.Add([]byte(`{"data_base64":"e30=","specversion":"1.0","metadata":"e30="}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := form.Recorded(message.NewMessage("m", payload))
		if err != nil {
			require.ErrorIs(t, err, cloudevents.ErrNotAnEvent)
			return
		}
		require.NoError(t, eventstore.Validate([]eventstore.Event{r.Event}, nil))
	})
}

func TestALogIsForwardedAsCloudEvents(t *testing.T) {
	store := memory.New()
	defer func() { require.NoError(t, store.Close()) }()
	form := form
	form.Meta = true
	var log []eventstore.Recorded
	for range 100 {
		r := raised()
		r.ID = uuid.New()
		records, err := store.Append(t.Context(), []eventstore.Event{r.Event})
		require.NoError(t, err)
		log = append(log, records...)
	}
	broker := gochannel.NewGoChannel(gochannel.Config{Persistent: true, BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	defer func() { require.NoError(t, broker.Close()) }()
	messages, err := broker.Subscribe(t.Context(), "change_raised")
	require.NoError(t, err)
	forwarder, err := relay.NewForwarder(relay.Config{Store: store, Name: "to-all", Message: form.Message, Logger: slog.New(slog.DiscardHandler)},
		relay.ByType("change.raised"), relay.Destination{Publisher: broker})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- forwarder.Run(ctx) }()
	for _, want := range log {
		m := <-messages
		got, err := form.Recorded(m)
		require.NoError(t, err)
		require.Equal(t, want, got)
		m.Ack()
	}
	cancel()
	require.NoError(t, <-done)
}
