package eventstore_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
)

// The bytes of a leaf are for ever: proofs over histories that exist hang on
// them. If this test fails, the encoding needs a new leading byte.
func TestLeafBytesAreFixed(t *testing.T) {
	r := eventstore.Recorded{
		Event: eventstore.Event{
			ID: uuid.MustParse("0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"), Stream: "book-42", Type: "book.lent", Schema: 2,
			Tags: []string{"shelf:A", "ü"}, Data: []byte(`{"to":"ann"}`), Meta: []byte(`{"actor":"bob"}`),
		},
		Version: 7, Position: 99, Append: 98, RecordedAt: time.Unix(1, 0),
	}
	require.Equal(t, "01"+
		"00000010"+"0195a1b2c3d47e5f8a9b0c1d2e3f4a5b"+ // ID
		"00000007"+hex.EncodeToString([]byte("book-42"))+ // stream
		"00000008"+"0000000000000007"+ // version
		"00000009"+hex.EncodeToString([]byte("book.lent"))+ // type
		"00000008"+"0000000000000002"+ // schema
		"00000011"+"00000007"+hex.EncodeToString([]byte("shelf:A"))+"00000002"+"c3bc"+ // tags
		"0000000f"+hex.EncodeToString([]byte(`{"actor":"bob"}`))+ // Meta
		"0000000c"+hex.EncodeToString([]byte(`{"to":"ann"}`)), // Data
		hex.EncodeToString(r.Leaf()))

	elsewhere := r
	elsewhere.Position, elsewhere.Append, elsewhere.RecordedAt = 1, 1, time.Unix(2, 0)
	require.Equal(t, r.Leaf(), elsewhere.Leaf(), "position, append and time are not part of it")

	require.Equal(t, "01"+"00000010"+"00000000000000000000000000000000"+"00000000"+"00000008"+"0000000000000000"+
		"00000000"+"00000008"+"0000000000000000"+"00000000"+"00000000"+"00000000", hex.EncodeToString(eventstore.Recorded{}.Leaf()))
}

func TestDifferentEventsHaveDifferentLeaves(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "a", "b", "ab", "aa", "\x00", "a\x00\x00\x00\x01"})
	record := rapid.Custom(func(t *rapid.T) eventstore.Recorded {
		return eventstore.Recorded{
			Event: eventstore.Event{
				Stream: text.Draw(t, "stream"), Type: text.Draw(t, "type"), Schema: rapid.IntRange(0, 2).Draw(t, "schema"),
				Tags: rapid.SliceOfN(text, 0, 3).Draw(t, "tags"), Data: []byte(text.Draw(t, "data")), Meta: []byte(text.Draw(t, "meta")),
			},
			Version: rapid.Uint64Range(0, 2).Draw(t, "version"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := record.Draw(t, "a"), record.Draw(t, "b")
		require.Equal(t, a.Equal(b.Event) && a.Version == b.Version, string(a.Leaf()) == string(b.Leaf()))
	})
}
