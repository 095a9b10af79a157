package eventstore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

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
			require.Equal(t, "book-42", d.Stream)
			require.Equal(t, c.event.ID, d.ID)
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

func TestTypeNameIsForQueries(t *testing.T) {
	r := registry(t, eventstore.Type[returned]("book.returned", 1))
	name, err := r.TypeName(returned{})
	require.NoError(t, err)
	require.Equal(t, "book.returned", name)
	_, err = r.TypeName(lent{})
	require.ErrorIs(t, err, eventstore.ErrUnknownType)
}

// vault is a Sealer that keeps what it sealed and can forget an event.
type vault struct {
	sealed map[string]string
	erased map[uuid.UUID]bool
}

func (v *vault) Seal(event uuid.UUID, field string, plain []byte) ([]byte, error) {
	key := fmt.Sprintf("%s %s", event, field)
	v.sealed[key] = string(plain)
	return []byte(key), nil
}

func (v *vault) Unseal(event uuid.UUID, field string, sealed []byte) ([]byte, error) {
	switch {
	case v.erased[event]:
		return nil, eventstore.ErrErased
	case string(sealed) != fmt.Sprintf("%s %s", event, field):
		return nil, errors.New("sealed for another event or field")
	}
	return []byte(v.sealed[string(sealed)]), nil
}

type registered struct {
	Member string              `json:"member"`
	Name   eventstore.Secret   `json:"name"`
	Phones []eventstore.Secret `json:"phones,omitzero"`
}

func TestSealedFieldsAreBoundToTheirEventAndPlace(t *testing.T) {
	v := &vault{sealed: map[string]string{}, erased: map[uuid.UUID]bool{}}
	bare := registry(t, eventstore.Type[registered]("member.registered", 1))
	r := bare.WithSealer(v)
	want := registered{Member: "m-1", Name: "Ann Smith", Phones: []eventstore.Secret{"1", "2"}}
	id := uuid.New()
	e, err := r.Encode(id, want)
	require.NoError(t, err)
	require.NotContains(t, string(e.Data), "Ann")
	require.Contains(t, v.sealed, id.String()+" /name")
	require.Contains(t, v.sealed, id.String()+" /phones/0")
	require.Contains(t, v.sealed, id.String()+" /phones/1")
	require.NoError(t, eventstore.Validate([]eventstore.Event{{ID: id, Stream: "m", Type: e.Type, Schema: 1, Data: e.Data}}, nil))

	got, err := r.Decode(e)
	require.NoError(t, err)
	require.Equal(t, want, got)

	moved := e
	moved.ID = uuid.New()
	_, err = r.Decode(moved)
	require.ErrorIs(t, err, eventstore.ErrMalformed)
	require.ErrorContains(t, err, "another event")

	open := e
	open.Data = []byte(`{"member":"m-1","name":"Ann Smith"}`)
	_, err = r.Decode(open)
	require.ErrorIs(t, err, eventstore.ErrMalformed, "a field that is not sealed is not read as if it were")

	v.erased[id] = true
	_, err = r.Decode(e)
	require.ErrorIs(t, err, eventstore.ErrErased)
	require.NotErrorIs(t, err, eventstore.ErrMalformed)

	_, err = bare.Encode(id, want)
	require.ErrorContains(t, err, "give the registry a Sealer")
	_, err = bare.Decode(e)
	require.ErrorContains(t, err, "give the registry a Sealer")
}

func TestASecretIsNeverWrittenInTheClear(t *testing.T) {
	type loose struct {
		Details any `json:"details"`
	}
	v := &vault{sealed: map[string]string{}, erased: map[uuid.UUID]bool{}}
	r := registry(t, eventstore.Type[loose]("loose", 1)).WithSealer(v)
	for _, details := range []any{eventstore.Secret("Ann"), map[string]any{"name": eventstore.Secret("Ann")}, []eventstore.Secret{"Ann"}} {
		e, err := r.Encode(uuid.New(), loose{details})
		require.ErrorContains(t, err, "registry with a Sealer")
		require.NotContains(t, string(e.Data), "Ann")
	}
	_, err := json.Marshal(registered{Name: "Ann"}) // a snapshot of a fold, say
	require.ErrorContains(t, err, "registry with a Sealer")
	require.ErrorContains(t, json.Unmarshal([]byte(`{"name":"Ann"}`), &registered{}), "registry with a Sealer")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, registered{Name: "Ann", Phones: []eventstore.Secret{"Ann"}}), "Ann", verb)
	}
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
	_, err = eventstore.DecodeMetadata([]byte(`{"actor":7}`))
	require.ErrorIs(t, err, eventstore.ErrMalformed)
}
