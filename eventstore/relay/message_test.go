package relay_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
)

func full(t testing.TB) eventstore.Recorded {
	meta, err := eventstore.Metadata{
		Actor: "ann", Reason: "a\nb", Correlation: "corr", Causation: uuid.MustParse("a0000000-0000-4000-8000-000000000001"),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", OccurredAt: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC),
	}.Encode()
	require.NoError(t, err)
	return eventstore.Recorded{
		Event: eventstore.Event{
			ID: uuid.MustParse("a0000000-0000-4000-8000-000000000002"), Stream: "change-1", Type: "change.raised", Schema: 3,
			Tags: []string{"ci:db-01", "a,b", "ü"}, Data: []byte("{ \"a\": 1e400 }\n"), Meta: meta,
		},
		Version: 1<<63 + 7, Position: 1<<62 + 1, Append: 1 << 62, RecordedAt: time.Date(2026, 3, 1, 9, 0, 0, 123_456_000, time.UTC),
	}
}

func TestAnEventComesThroughAMessageByteForByte(t *testing.T) {
	r := full(t)
	m, err := relay.Message(r)
	require.NoError(t, err)
	back, err := relay.Recorded(m)
	require.NoError(t, err)
	require.Equal(t, r, back)
	require.Equal(t, r.Leaf(), back.Leaf())
	require.Equal(t, r.ID.String(), m.UUID)
	require.Equal(t, "corr", m.Metadata.Get(relay.KeyCorrelation))
	require.Equal(t, "a0000000-0000-4000-8000-000000000001", m.Metadata.Get(relay.KeyCausation))
	require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", m.Metadata.Get(relay.KeyTraceparent))
	require.Equal(t, "2026-03-01T09:00:00.123456Z", m.Metadata.Get(relay.KeyRecordedAt))
}

func TestAnyEventComesThroughAMessageByteForByte(t *testing.T) {
	text := func(most int) *rapid.Generator[string] {
		return rapid.StringN(1, -1, most).Filter(func(s string) bool {
			return eventstore.Validate([]eventstore.Event{{ID: uuid.New(), Stream: s[:min(len(s), most)], Type: "t", Schema: 1, Data: []byte("{}")}}, nil) == nil
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		r := eventstore.Recorded{
			Event: eventstore.Event{
				ID: uuid.New(), Stream: text(40).Draw(t, "stream"), Type: text(40).Draw(t, "type"), Schema: rapid.IntRange(1, 1<<30).Draw(t, "schema"),
				Tags: rapid.SliceOfNDistinct(text(20), 0, 4, rapid.ID).Draw(t, "tags"), Data: []byte(rapid.SampledFrom([]string{"{}", " [1,2] ", "null", "1e400"}).Draw(t, "data")),
			},
			Version: rapid.Uint64Min(1).Draw(t, "version"), Position: eventstore.Position(rapid.Uint64Min(1).Draw(t, "position")),
			RecordedAt: time.UnixMicro(rapid.Int64Range(0, 1<<50).Draw(t, "at")).UTC(),
		}
		if len(r.Tags) == 0 {
			r.Tags = nil
		}
		r.Append = r.Position
		if rapid.Bool().Draw(t, "has metadata") {
			r.Meta = []byte("{\"actor\":\"a\", \"correlation\":\"x y\" ,\"unknown\":[1]}")
		}
		if eventstore.Validate([]eventstore.Event{r.Event}, nil) != nil {
			t.Skip("no event")
		}
		m, err := relay.Message(r)
		require.NoError(t, err)
		back, err := relay.Recorded(m)
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}

func TestAMessageThatIsNoEventIsATypedError(t *testing.T) {
	for name, spoil := range map[string]func(m *message.Message){
		"no metadata":       func(m *message.Message) { m.Metadata = nil },
		"no ID":             func(m *message.Message) { m.UUID = "x" },
		"no stream":         func(m *message.Message) { delete(m.Metadata, relay.KeyStream) },
		"no type":           func(m *message.Message) { delete(m.Metadata, relay.KeyType) },
		"version 0":         func(m *message.Message) { m.Metadata[relay.KeyVersion] = "0" },
		"negative position": func(m *message.Message) { m.Metadata[relay.KeyPosition] = "-1" },
		"no append":         func(m *message.Message) { m.Metadata[relay.KeyAppend] = "" },
		"a schema too high": func(m *message.Message) { m.Metadata[relay.KeySchema] = "99999999999" },
		"no time":           func(m *message.Message) { m.Metadata[relay.KeyRecordedAt] = "yesterday" },
		"tags no list":      func(m *message.Message) { m.Metadata[relay.KeyTags] = "{}" },
		"no JSON":           func(m *message.Message) { m.Payload = []byte("{") },
		"metadata no JSON":  func(m *message.Message) { m.Metadata[relay.KeyMeta] = "x" },
		"a NUL":             func(m *message.Message) { m.Metadata[relay.KeyStream] = "a\x00" },
	} {
		t.Run(name, func(t *testing.T) {
			m, err := relay.Message(full(t))
			require.NoError(t, err)
			spoil(m)
			_, err = relay.Recorded(m)
			require.ErrorIs(t, err, relay.ErrNotAnEvent)
			require.ErrorIs(t, err, eventstore.ErrMalformed)
		})
	}
}

func TestMetadataThatCannotBeReadMakesNoMessage(t *testing.T) {
	r := full(t)
	r.Meta = []byte(`{"actor":7}`)
	_, err := relay.Message(r)
	require.ErrorIs(t, err, eventstore.ErrMalformed)
}

// FuzzRecorded: whatever a broker delivers is an event that would be recorded as it
// is, and the same again by way of its message, or a typed error; never a panic.
func FuzzRecorded(f *testing.F) {
	m, err := relay.Message(full(f))
	require.NoError(f, err)
	f.Add(m.UUID, m.Metadata[relay.KeyStream], m.Metadata[relay.KeyVersion], m.Metadata[relay.KeySchema], m.Metadata[relay.KeyTags], m.Metadata[relay.KeyRecordedAt], m.Metadata[relay.KeyMeta], []byte(m.Payload))
	f.Add("", "", "", "", "", "", "", []byte(nil))
	f.Add(m.UUID, "s", "+1", "1", "[]", "2026-03-01T09:00:00+02:00", "{}", []byte("[[[[[[[[1]]]]]]]]"))
	f.Fuzz(func(t *testing.T, id, stream, version, schema, tags, at, meta string, data []byte) {
		m := message.NewMessage(id, data)
		m.Metadata = message.Metadata{
			relay.KeyStream: stream, relay.KeyType: "t", relay.KeyVersion: version, relay.KeyPosition: version, relay.KeyAppend: version, relay.KeySchema: schema,
			relay.KeyTags: tags, relay.KeyRecordedAt: at, relay.KeyMeta: meta,
		}
		r, err := relay.Recorded(m)
		if err != nil {
			require.ErrorIs(t, err, relay.ErrNotAnEvent)
			return
		}
		require.NoError(t, eventstore.Validate([]eventstore.Event{r.Event}, nil))
		again, err := relay.Message(r)
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrMalformed) // metadata of another form
			return
		}
		back, err := relay.Recorded(again)
		require.NoError(t, err)
		require.Equal(t, r.Leaf(), back.Leaf())
		require.True(t, r.RecordedAt.Equal(back.RecordedAt))
		require.Equal(t, [3]uint64{r.Version, uint64(r.Position), uint64(r.Append)}, [3]uint64{back.Version, uint64(back.Position), uint64(back.Append)})
	})
}
