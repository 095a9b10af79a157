package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// FuzzDecode: whatever bytes a log may hold, decoding gives a payload or a typed
// error, and what it gives is encoded and decoded to itself.
func FuzzDecode(f *testing.F) {
	type nested struct {
		N    int            `json:"n"`
		Text string         `json:"text"`
		Map  map[string]any `json:"map"`
		Self *nested        `json:"self,omitzero"`
		List []nested       `json:"list,omitzero"`
	}
	type old struct {
		N int `json:"n"`
	}
	r, err := eventstore.NewRegistry(eventstore.Type[nested]("nested", 2, eventstore.Upcast(1, func(o old) (nested, error) { return nested{N: o.N}, nil })))
	require.NoError(f, err)
	for _, data := range []string{
		`{}`, `{"n":1,"text":"x","map":{"a":[1,2.5,null]},"self":{"n":2}}`, `{"n":1e400}`, `{"n":`, `{"n":1,"n":2}`, "{\"text\":\"\xff\"}", `{"text":"\ud800"}`,
		`null`, `[]`, `{"map":` + strings.Repeat(`{"a":`, 99) + `1` + strings.Repeat(`}`, 99) + `}`, strings.Repeat("[", 10_000),
	} {
		f.Add("nested", 2, []byte(data))
		f.Add("nested", 1, []byte(data))
	}
	f.Add("nested", 3, []byte(`{}`))
	f.Add("other", 1, []byte(`{}`))
	f.Fuzz(func(t *testing.T, typ string, schema int, data []byte) {
		payload, err := r.Decode(eventstore.Event{ID: uuid.New(), Type: typ, Schema: schema, Data: data})
		if err != nil {
			var d *eventstore.DecodeError
			require.ErrorAs(t, err, &d)
			require.True(t, errors.Is(err, eventstore.ErrUnknownType) || errors.Is(err, eventstore.ErrFutureSchema) || errors.Is(err, eventstore.ErrMalformed), "%v", err)
			return
		}
		require.True(t, json.Valid(data))
		again, err := r.Encode(uuid.New(), payload)
		require.NoError(t, err)
		back, err := r.Decode(again)
		require.NoError(t, err)
		twice, err := r.Encode(uuid.New(), back)
		require.NoError(t, err)
		require.Equal(t, string(again.Data), string(twice.Data))
	})
}

// FuzzValidate: what Validate lets through is within the limits as others
// understand them, and what it refuses is a typed error.
func FuzzValidate(f *testing.F) {
	f.Add("a", "b", "c", []byte(`{}`), []byte(`{}`))
	f.Add("a\x00", "b", "\xff", []byte(`{"a":1,"a":2}`), []byte(`[]`))
	f.Add("", "b", "c", []byte(strings.Repeat("[", 200)+strings.Repeat("]", 200)), []byte(` {}`))
	f.Fuzz(func(t *testing.T, stream, typ, tag string, data, meta []byte) {
		e := eventstore.Event{ID: uuid.New(), Stream: stream, Type: typ, Schema: 1, Tags: []string{tag}, Data: data, Meta: meta}
		if err := eventstore.Validate([]eventstore.Event{e}, nil); err != nil {
			require.ErrorIs(t, err, eventstore.ErrNotApplied)
			var input *eventstore.InputError
			require.ErrorAs(t, err, &input)
			return
		}
		for _, name := range []string{stream, typ, tag} {
			require.True(t, name != "" && utf8.ValidString(name) && !strings.Contains(name, "\x00") && len(name) <= 255)
		}
		require.True(t, json.Valid(data))
		require.True(t, len(meta) == 0 || json.Valid(meta))
	})
}

// FuzzQuery: a read gives exactly what Query.Match selects, for any query that
// is valid, and a typed error for any that is not.
func FuzzQuery(f *testing.F) {
	store := memory.New()
	var all []eventstore.Recorded
	for i := range 40 {
		records, err := store.Append(context.Background(), []eventstore.Event{{
			ID: uuid.New(), Stream: fmt.Sprintf("s%d", i%7), Type: fmt.Sprintf("t%d", i%3), Schema: 1,
			Tags: []string{fmt.Sprintf("x%d", i%2), fmt.Sprintf("y%d", i%5)}, Data: []byte(`{}`),
		}})
		require.NoError(f, err)
		all = append(all, records...)
	}
	f.Add("s1,s2", "s", "t1", "x1,y1", uint64(3), 2)
	f.Add("", "", "", "", uint64(0), 0)
	f.Add("s1,s1,", "\xff", "t0,t1,t2", "x0", uint64(41), -1)
	f.Add("", "s6", "", "", uint64(1)<<63, 1)
	list := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ",")
	}
	f.Fuzz(func(t *testing.T, streams, prefix, types, tags string, after uint64, limit int) {
		q := eventstore.Query{
			Streams: list(streams), Prefix: prefix, Types: list(types), Tags: list(tags), After: eventstore.Position(after), Limit: limit,
		}
		var got []eventstore.Recorded
		var failed error
		for r, err := range store.Read(context.Background(), q) {
			if err != nil {
				failed = err
				break
			}
			got = append(got, r)
		}
		if err := q.Validate(); err != nil {
			require.Equal(t, err, failed)
			return
		}
		if q.After > eventstore.Position(len(all)) {
			require.ErrorIs(t, failed, eventstore.ErrRewound)
			return
		}
		require.NoError(t, failed)
		want := slices.DeleteFunc(slices.Clone(all), func(r eventstore.Recorded) bool { return !q.Match(r) })
		if q.Limit > 0 {
			want = want[:min(len(want), q.Limit)]
		}
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, want[i].ID, got[i].ID)
		}
	})
}
