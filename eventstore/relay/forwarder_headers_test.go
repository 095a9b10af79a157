package relay_test

import (
	"maps"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// asHeader is what the client of NATS makes of a header's value.
func asHeader(value string) string {
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(textproto.TrimString(value))
}

func TestMetadataSurvivesHeaders(t *testing.T) {
	for name, change := range map[string]func(r *eventstore.Recorded){
		"as usual":          func(*eventstore.Recorded) {},
		"metadata in lines": func(r *eventstore.Recorded) { r.Meta = []byte("{\n\t\"actor\": \"ann\"\r\n}\n") },
		"space around":      func(r *eventstore.Recorded) { r.Stream, r.Type = " s ", "\ttype" },
		"a line break":      func(r *eventstore.Recorded) { r.Stream = "a\r\nb" },
		"other letters": func(r *eventstore.Recorded) {
			r.Stream, r.Tags = "größe-\u2028", []string{"a\nb", " ", "ä", "\u0085"}
		},
		"no metadata":            func(r *eventstore.Recorded) { r.Meta = nil },
		"like base64 by looks":   func(r *eventstore.Recorded) { r.Stream = "YQ==" },
		"correlation with space": func(r *eventstore.Recorded) { r.Meta = []byte(`{"correlation":" c\n"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			r := eventstore.Recorded{
				Event:   eventstore.Event{ID: uuid.New(), Stream: "s-1", Type: "a.b", Schema: 2, Data: []byte("{\n}"), Meta: []byte(`{"actor":"ann"}`)},
				Version: 3, Position: 9, Append: 8, RecordedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
			}
			change(&r)
			m, err := relay.Message(r)
			require.NoError(t, err)
			for key, value := range m.Metadata {
				require.Equal(t, value, asHeader(value), key)
			}
			again, err := relay.Recorded(m)
			require.NoError(t, err)
			require.Equal(t, r, again)
		})
	}
	require.NotEqual(t, " a\nb", asHeader(" a\nb"), "the control: a header does not carry this")
}

func TestMetadataThatIsNotBase64IsNotOfAnEvent(t *testing.T) {
	m, err := relay.Message(eventstore.Recorded{
		Event:   eventstore.Event{ID: uuid.New(), Stream: "s\n1", Type: "a.b", Schema: 1, Tags: []string{"a\n"}, Data: []byte("{}"), Meta: []byte("{}\n")},
		Version: 1, Position: 1, Append: 1, RecordedAt: time.Now(),
	})
	require.NoError(t, err)
	for _, key := range []string{relay.KeyStream, relay.KeyMeta} {
		broken := m.Copy()
		broken.Metadata = maps.Clone(m.Metadata)
		require.Contains(t, broken.Metadata, key+"_base64")
		broken.Metadata[key+"_base64"] = "*"
		_, err = relay.Recorded(broken)
		require.ErrorIs(t, err, relay.ErrNotAnEvent)
	}
}
