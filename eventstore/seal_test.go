package eventstore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

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

func TestASecretIsSealedWhereverItStands(t *testing.T) {
	const s = eventstore.Secret("Ann Smith")
	secret := s
	type (
		inner struct{ Name eventstore.Secret }
		outer struct{ In inner }
		late  struct {
			N  int
			In outer
		}
		pointer struct{ Name *eventstore.Secret }
		list    struct{ Names []inner }
		array   struct{ Names [2]eventstore.Secret }
		values  struct{ Names map[string]eventstore.Secret }
		keys    struct{ Ages map[eventstore.Secret]int }
		lists   struct{ Names [][]eventstore.Secret }
		tree    struct {
			Below []tree `json:",omitzero"`
			Name  eventstore.Secret
		}
	)
	v := &vault{sealed: map[string]string{}, erased: map[uuid.UUID]bool{}}
	bare := registry(t,
		eventstore.Type[outer]("outer", 1), eventstore.Type[late]("late", 1), eventstore.Type[pointer]("pointer", 1),
		eventstore.Type[list]("list", 1), eventstore.Type[array]("array", 1), eventstore.Type[values]("values", 1),
		eventstore.Type[keys]("keys", 1), eventstore.Type[lists]("lists", 1), eventstore.Type[tree]("tree", 1),
	)
	for _, payload := range []any{
		outer{inner{s}}, late{1, outer{inner{s}}}, pointer{&secret}, list{[]inner{{"a"}, {s}, {"b"}}}, array{[2]eventstore.Secret{"a", s}},
		values{map[string]eventstore.Secret{"a": s, "b": "2", "c": "3", "d": "4", "e": "5", "f": "6"}}, keys{map[eventstore.Secret]int{s: 1}},
		lists{[][]eventstore.Secret{{"a", s}, {"b", "c", s}}}, tree{[]tree{{nil, s}, {[]tree{{nil, "a"}}, "b"}}, "c"},
	} {
		t.Run(fmt.Sprintf("%T", payload), func(t *testing.T) {
			id := uuid.New()
			_, err := bare.Encode(id, payload)
			require.ErrorContains(t, err, "give the registry a Sealer")
			e, err := bare.WithSealer(v).Encode(id, payload)
			require.NoError(t, err)
			require.NotContains(t, string(e.Data), "Ann")
			got, err := bare.WithSealer(v).Decode(e)
			require.NoError(t, err)
			require.Equal(t, payload, got)
			for range 10 {
				again, err := bare.WithSealer(v).Encode(id, payload)
				require.NoError(t, err)
				require.Equal(t, string(e.Data), string(again.Data), "the same value is the same bytes")
			}
		})
	}
}

func TestASecretOfAnOldSchemaIsOpened(t *testing.T) {
	type old struct{ Name eventstore.Secret }
	type now struct{ Initial string }
	v := &vault{sealed: map[string]string{}, erased: map[uuid.UUID]bool{}}
	e, err := registry(t, eventstore.Type[old]("member", 1)).WithSealer(v).Encode(uuid.New(), old{"Ann"})
	require.NoError(t, err)
	r := registry(t, eventstore.Type[now]("member", 2, eventstore.Upcast(1, func(o old) (now, error) { return now{string(o.Name[:1])}, nil })))
	got, err := r.WithSealer(v).Decode(e)
	require.NoError(t, err)
	require.Equal(t, now{"A"}, got)
	v.erased[e.ID] = true
	_, err = r.WithSealer(v).Decode(e)
	require.ErrorIs(t, err, eventstore.ErrErased)
}

// locked is a Sealer without its keys.
type locked struct{ err error }

func (l locked) Seal(uuid.UUID, string, []byte) ([]byte, error)   { return nil, l.err }
func (l locked) Unseal(uuid.UUID, string, []byte) ([]byte, error) { return []byte("opened"), nil }

func TestWhatCannotBeSealedIsNotWritten(t *testing.T) {
	l := locked{errors.New("no key")}
	r := registry(t, eventstore.Type[registered]("member.registered", 1)).WithSealer(l)
	_, err := r.Encode(uuid.New(), registered{Name: "Ann"})
	require.ErrorIs(t, err, l.err)
	for name, data := range map[string]string{
		"not base64":     `{"name":"sealed:?"}`,
		"half of base64": `{"name":"sealed:QUJ"}`,
		"no prefix":      `{"name":"QUJD"}`,
		"a number":       `{"name":7}`,
	} {
		_, err := r.Decode(eventstore.Event{Type: "member.registered", Schema: 1, Data: []byte(data)})
		require.ErrorIs(t, err, eventstore.ErrMalformed, name)
	}
}
