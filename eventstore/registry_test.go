package eventstore_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
)

type (
	lent     struct{ To string }
	returned struct {
		Late bool   `json:"late"`
		Note string `json:"note,omitzero"`
	}
	counted struct {
		Shelf string         `json:"shelf"`
		Per   map[string]int `json:"per"`
	}
)

func (c counted) Tags() []string { return []string{"shelf:" + c.Shelf} }

func registry(t testing.TB, types ...eventstore.EventType) *eventstore.Registry {
	t.Helper()
	r, err := eventstore.NewRegistry(types...)
	require.NoError(t, err)
	return r
}

func TestPayloadsComeBackAsTheValuesTheyWere(t *testing.T) {
	r := registry(t, eventstore.Type[returned]("book.returned", 1), eventstore.Type[counted]("shelf.counted", 3,
		eventstore.Upcast(1, func(returned) (lent, error) { return lent{}, nil }),
		eventstore.Upcast(2, func(lent) (counted, error) { return counted{}, nil }),
	))
	id := uuid.New()
	for _, payload := range []any{returned{Late: true}, &returned{Note: "torn"}, counted{Shelf: "A", Per: map[string]int{"z": 1, "a": 2, "m": 3}}} {
		e, err := r.Encode(id, payload)
		require.NoError(t, err)
		require.Equal(t, id, e.ID)
		back, err := r.Decode(e)
		require.NoError(t, err)
		if p, ok := payload.(*returned); ok {
			payload = *p
		}
		require.Equal(t, payload, back)
	}
	e, err := r.Encode(id, counted{Shelf: "A", Per: map[string]int{"z": 1, "a": 2, "m": 3}})
	require.NoError(t, err)
	require.Equal(t, "shelf.counted", e.Type)
	require.Equal(t, 3, e.Schema)
	require.Equal(t, []string{"shelf:A"}, e.Tags)
	require.Equal(t, `{"shelf":"A","per":{"a":2,"m":3,"z":1}}`, string(e.Data), "map keys stand in order, so that a value is always the same bytes")
}

type touched struct{ Items []string }

func (t touched) Tags() []string { return t.Items }

func TestATagStandsOnce(t *testing.T) {
	store := memory.New()
	records, err := eventstore.Update(t.Context(), store, registry(t, eventstore.Type[touched]("touched", 1)), func(tx *eventstore.Tx) error {
		tx.Tags = []string{"b", "c"}
		return tx.RecordBlind("s", touched{[]string{"a", "b", "a"}}, touched{})
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c"}, records[0].Tags)
	require.Equal(t, []string{"b", "c"}, records[1].Tags)
}

func TestOldSchemasAreBroughtUpStepByStep(t *testing.T) {
	type v1 struct {
		Days int `json:"days"`
	}
	type v2 struct {
		Hours int `json:"hours"`
	}
	type v3 struct {
		Minutes int    `json:"minutes"`
		By      string `json:"by"`
	}
	r := registry(t, eventstore.Type[v3]("loan.extended", 3,
		eventstore.Upcast(2, func(old v2) (v3, error) {
			if old.Hours < 0 {
				return v3{}, errors.New("negative time")
			}
			return v3{Minutes: old.Hours * 60, By: "unknown"}, nil
		}),
		eventstore.Upcast(1, func(old v1) (v2, error) { return v2{Hours: old.Days * 24}, nil }),
	))
	for schema, data := range map[int]string{1: `{"days":2}`, 2: `{"hours":48}`, 3: `{"minutes":2880,"by":"unknown"}`} {
		payload, err := r.Decode(eventstore.Event{Type: "loan.extended", Schema: schema, Data: []byte(data)})
		require.NoError(t, err)
		require.Equal(t, v3{Minutes: 2880, By: "unknown"}, payload, "schema %d", schema)
	}
	_, err := r.Decode(eventstore.Event{Type: "loan.extended", Schema: 1, Data: []byte(`{"days":-1}`)})
	require.ErrorIs(t, err, eventstore.ErrMalformed)
	require.ErrorContains(t, err, "upcast from schema 2: negative time")
}

func TestWhatCannotBeDecodedIsATypedError(t *testing.T) {
	r := registry(t, eventstore.Type[returned]("book.returned", 1))
	for what, c := range map[string]struct {
		event eventstore.Event
		cause error
		says  string
	}{
		"unknown type":   {eventstore.Event{Type: "book.burnt", Schema: 1, Data: []byte(`{}`)}, eventstore.ErrUnknownType, "register it"},
		"future schema":  {eventstore.Event{Type: "book.returned", Schema: 2, Data: []byte(`{}`)}, eventstore.ErrFutureSchema, "upgrade"},
		"schema 0":       {eventstore.Event{Type: "book.returned", Data: []byte(`{}`)}, eventstore.ErrMalformed, "count from 1"},
		"cut off":        {eventstore.Event{Type: "book.returned", Schema: 1, Data: []byte(`{"late":tr`)}, eventstore.ErrMalformed, ""},
		"empty":          {eventstore.Event{Type: "book.returned", Schema: 1}, eventstore.ErrMalformed, ""},
		"two values":     {eventstore.Event{Type: "book.returned", Schema: 1, Data: []byte(`{}{}`)}, eventstore.ErrMalformed, ""},
		"wrong type":     {eventstore.Event{Type: "book.returned", Schema: 1, Data: []byte(`{"late":"yes"}`)}, eventstore.ErrMalformed, ""},
		"name twice":     {eventstore.Event{Type: "book.returned", Schema: 1, Data: []byte(`{"late":true,"late":false}`)}, eventstore.ErrMalformed, "duplicate"},
		"invalid UTF-8":  {eventstore.Event{Type: "book.returned", Schema: 1, Data: []byte("{\"note\":\"\xff\"}")}, eventstore.ErrMalformed, "UTF-8"},
		"too deep":       {eventstore.Event{Type: "book.returned", Schema: 1, Data: []byte(`{"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`)}, eventstore.ErrMalformed, "deep"},
		"number too big": {eventstore.Event{Type: "shelf.counted", Schema: 1, Data: []byte(`{"per":{"a":1e400}}`)}, eventstore.ErrMalformed, ""},
	} {
		t.Run(what, func(t *testing.T) {
			r := registry(t, eventstore.Type[returned]("book.returned", 1), eventstore.Type[counted]("shelf.counted", 1))
			c.event.ID, c.event.Stream = uuid.New(), "book-42"
			payload, err := r.Decode(c.event)
			require.Nil(t, payload)
			require.ErrorIs(t, err, c.cause)
			require.ErrorContains(t, err, c.says)
			var d *eventstore.DecodeError
			require.ErrorAs(t, err, &d)
			require.Equal(t, eventstore.DecodeError{ID: c.event.ID, Stream: "book-42", Type: c.event.Type, Schema: c.event.Schema, Cause: d.Cause}, *d)
		})
	}
	for what, payload := range map[string]any{
		"nothing": nil, "not registered": lent{}, "nil pointer": (*returned)(nil), "not a struct": 7, "pointer to pointer": func() any { p := &returned{}; return &p }(),
	} {
		_, err := r.Encode(uuid.New(), payload)
		require.ErrorIs(t, err, eventstore.ErrUnknownType, what)
	}
	_, err := r.Encode(uuid.New(), returned{Note: "\xff"})
	require.ErrorContains(t, err, "UTF-8")
}

func TestUnknownMembersOfAPayloadAreLeftOut(t *testing.T) {
	r := registry(t, eventstore.Type[returned]("book.returned", 1))
	payload, err := r.Decode(eventstore.Event{Type: "book.returned", Schema: 1, Data: []byte(`{"late":true,"added_later":[1]}`)})
	require.NoError(t, err)
	require.Equal(t, returned{Late: true}, payload)
	payload, err = r.Decode(eventstore.Event{Type: "book.returned", Schema: 1, Data: []byte(`{"LATE":true}`)})
	require.NoError(t, err)
	require.Equal(t, returned{}, payload, "names match exactly")
}

type pointerTagged struct{ X int }

func (*pointerTagged) Tags() []string { return []string{"x"} }

func TestARegistryThatWouldSurpriseIsRefused(t *testing.T) {
	type other struct{ X int }
	for says, types := range map[string][]eventstore.EventType{
		"is declared twice":           {eventstore.Type[lent]("a", 1), eventstore.Type[other]("a", 1)},
		"one Go type, one name":       {eventstore.Type[lent]("a", 1), eventstore.Type[lent]("b", 1)},
		"must be a struct":            {eventstore.Type[map[string]int]("a", 1)},
		"count from 1":                {eventstore.Type[lent]("a", 0)},
		"it is not empty":             {eventstore.Type[lent]("", 1)},
		"no upcaster from schema 2":   {eventstore.Type[lent]("a", 3, eventstore.Upcast(1, func(other) (returned, error) { return returned{}, nil }))},
		"two upcasters from schema 1": {eventstore.Type[lent]("a", 2, eventstore.Upcast(1, func(other) (lent, error) { return lent{}, nil }), eventstore.Upcast(1, func(other) (lent, error) { return lent{}, nil }))},
		"from 1 to 1000":              {eventstore.Type[lent]("a", 1001)},
		"upcaster from schema 0":      {eventstore.Type[lent]("a", 1, eventstore.Upcast(0, func(other) (lent, error) { return lent{}, nil }))},
		"outside 1 to 1":              {eventstore.Type[lent]("a", 2, eventstore.Upcast(1, func(other) (lent, error) { return lent{}, nil }), eventstore.Upcast(5, func(other) (lent, error) { return lent{}, nil }))},
		"the next takes":              {eventstore.Type[lent]("a", 2, eventstore.Upcast(1, func(other) (returned, error) { return returned{}, nil }))},
		"value receiver":              {eventstore.Type[pointerTagged]("a", 1)},
	} {
		r, err := eventstore.NewRegistry(types...)
		require.Nil(t, r)
		require.ErrorContains(t, err, says)
	}
	_, err := eventstore.NewRegistry(eventstore.Type[lent]("", 1), eventstore.Type[other]("b", 0))
	require.ErrorContains(t, err, "not empty")
	require.ErrorContains(t, err, "count from 1", "all that is wrong is said at once")
}

func TestSchemasGoUpToAThousand(t *testing.T) {
	steps := make([]eventstore.Upcaster, 999)
	for i := range steps {
		steps[i] = eventstore.Upcast(i+1, func(c counted) (counted, error) { return counted{Shelf: c.Shelf + "+"}, nil })
	}
	r := registry(t, eventstore.Type[counted]("shelf.counted", 1000, steps...))
	payload, err := r.Decode(eventstore.Event{Type: "shelf.counted", Schema: 998, Data: []byte(`{"shelf":"A"}`)})
	require.NoError(t, err)
	require.Equal(t, counted{Shelf: "A++"}, payload)
}

func TestUpcastersMayBeSharedByTypes(t *testing.T) {
	type other struct{ To string }
	steps := make([]eventstore.Upcaster, 1, 8)
	steps[0] = eventstore.Upcast(1, func(lent) (lent, error) { return lent{"up"}, nil })
	first := eventstore.Type[lent]("a", 2, steps...)
	_ = eventstore.Type[other]("b", 2, steps...)
	payload, err := registry(t, first).Decode(eventstore.Event{Type: "a", Schema: 2, Data: []byte(`{"To":"ann"}`)})
	require.NoError(t, err)
	require.Equal(t, lent{"ann"}, payload)
}

func TestTypeNameIsForQueries(t *testing.T) {
	r := registry(t, eventstore.Type[returned]("book.returned", 1))
	name, err := r.TypeName(returned{})
	require.NoError(t, err)
	require.Equal(t, "book.returned", name)
	_, err = r.TypeName(lent{})
	require.ErrorIs(t, err, eventstore.ErrUnknownType)
}

func TestMetadataKeepsWhatItDoesNotKnow(t *testing.T) {
	in := []byte(`{"actor":"ann","tenant":{"b":1,"a":2},"reason":"late","zone":"x"}`)
	m, err := eventstore.DecodeMetadata(in)
	require.NoError(t, err)
	require.Equal(t, "ann", m.Actor)
	require.Equal(t, json.RawMessage(`{"b":1,"a":2}`), m.Extra["tenant"])
	out, err := m.Encode()
	require.NoError(t, err)
	again, err := eventstore.DecodeMetadata(out)
	require.NoError(t, err)
	require.Equal(t, m, again)

	zero, err := eventstore.Metadata{}.Encode()
	require.NoError(t, err)
	require.Nil(t, zero)
	m, err = eventstore.DecodeMetadata(nil)
	require.NoError(t, err)
	require.Equal(t, eventstore.Metadata{}, m)
	m, err = eventstore.DecodeMetadata([]byte(`{"reason":"late","actor":7}`))
	require.ErrorIs(t, err, eventstore.ErrMalformed)
	require.Zero(t, m)
}

// The names of the fields of metadata are for ever: they stand in the log.
func TestNamesOfMetadataAreFixed(t *testing.T) {
	m := eventstore.Metadata{
		Actor: "ann", OnBehalfOf: "bob", Reason: "late", Command: "return", Key: "k-1", Correlation: "c-1",
		Causation: uuid.MustParse("0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"), Source: "desk",
		OccurredAt: time.Date(2026, 3, 1, 9, 0, 0, 1000, time.UTC), Traceparent: "00-1-2-01",
		Extra: map[string]json.RawMessage{"tenant": json.RawMessage(`{"b":1,"a":2}`)},
	}
	meta, err := m.Encode()
	require.NoError(t, err)
	require.Equal(t, `{"actor":"ann","on_behalf_of":"bob","reason":"late","command":"return","key":"k-1","correlation":"c-1",`+
		`"causation":"0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","source":"desk","occurred_at":"2026-03-01T09:00:00.000001Z","traceparent":"00-1-2-01",`+
		`"tenant":{"b":1,"a":2}}`, string(meta))
	back, err := eventstore.DecodeMetadata(meta)
	require.NoError(t, err)
	require.Equal(t, m, back)

	meta, err = eventstore.Metadata{Actor: "ann"}.Encode()
	require.NoError(t, err)
	require.Equal(t, `{"actor":"ann"}`, string(meta), "what is not known is not written")
}
