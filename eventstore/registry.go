package eventstore

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

// Registry names the payload types of events. It turns payloads into events and
// back, under explicit names and schema versions. It is immutable and may be
// shared.
type Registry struct {
	byName map[string]*EventType
	byType map[reflect.Type]*EventType
	sealer Sealer
}

// EventType ties a Go struct to an event type's name and schema version; see [Type].
type EventType struct {
	name   string
	schema int
	typ    reflect.Type
	given  []Upcaster
	tagged bool // *P is Tagged, but P is not

	// Completed by check.
	steps  []Upcaster // by schema - 1; the last one only decodes
	sealed bool       // there is a Secret in it
}

// Upcaster turns payloads of one schema version into the next; see [Upcast].
type Upcaster struct {
	from     int
	old, new reflect.Type
	decode   func(data []byte, options json.Options) (any, error)
	apply    func(any) (any, error)
}

// Tagged is a payload that says under which tags its event is to be found.
type Tagged interface {
	Tags() []string
}

// Type declares that payloads of type P are recorded as events called name,
// under the given schema version. Every older version from 1 needs its upcaster.
// P is a struct; add fields to it, never change what one means: that is a new
// schema version.
func Type[P any](name string, schema int, upcasters ...Upcaster) EventType {
	var value P
	_, byValue := any(value).(Tagged)
	_, byPointer := any(&value).(Tagged)
	current := Upcaster{from: schema, old: reflect.TypeFor[P](), decode: decodeAs[P]()}
	return EventType{
		name: name, schema: schema, typ: current.old, tagged: byPointer && !byValue,
		given: append(slices.Clone(upcasters), current),
	}
}

// Upcast declares how a payload of schema version from becomes one of version
// from+1. Steps are chained: the next one, or P itself, takes what this one returns.
func Upcast[Old, New any](from int, up func(Old) (New, error)) Upcaster {
	return Upcaster{
		from: from, old: reflect.TypeFor[Old](), new: reflect.TypeFor[New](), decode: decodeAs[Old](),
		apply: func(v any) (any, error) { return up(v.(Old)) },
	}
}

// decodeAs returns what decodes payloads of one Go type. What it decodes into is used
// again: as the value that is returned it is copied all the same.
func decodeAs[P any]() func(data []byte, options json.Options) (any, error) {
	scratch := sync.Pool{New: func() any { return new(P) }}
	return func(data []byte, options json.Options) (any, error) {
		p := scratch.Get().(*P)
		err := unmarshal(data, p, options)
		payload := *p
		var zero P
		*p = zero
		scratch.Put(p)
		if err != nil {
			return nil, err
		}
		return payload, nil
	}
}

// NewRegistry returns a registry of types. It refuses a name or a Go type that
// stands twice, a payload that is not a struct, and a schema version that no
// upcaster leads on from.
func NewRegistry(types ...EventType) (*Registry, error) {
	r := &Registry{byName: map[string]*EventType{}, byType: map[reflect.Type]*EventType{}}
	var errs []error
	for _, t := range types {
		if err := t.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		if _, twice := r.byName[t.name]; twice {
			errs = append(errs, fmt.Errorf("event type %q is declared twice", t.name))
			continue
		}
		if other, twice := r.byType[t.typ]; twice {
			errs = append(errs, fmt.Errorf("payload %v is declared both as %q and as %q: one Go type, one name", t.typ, other.name, t.name))
			continue
		}
		r.byName[t.name], r.byType[t.typ] = &t, &t
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("registry: %w", errors.Join(errs...))
	}
	return r, nil
}

// maxSchema bounds the versions of a type's schema.
const maxSchema = 1_000

// check completes t: it resolves the chain of upcasters.
func (t *EventType) check() error {
	if err := checkName("event type", t.name, MaxType); err != nil {
		return err
	}
	if t.schema < 1 || t.schema > maxSchema {
		return fmt.Errorf("event type %q has schema version %d: versions count from 1 to %d", t.name, t.schema, maxSchema)
	}
	if t.typ.Kind() != reflect.Struct {
		return fmt.Errorf("event type %q has payload %v: it must be a struct", t.name, t.typ)
	}
	if t.tagged {
		return fmt.Errorf("event type %q: give %v.Tags a value receiver, or payloads recorded by value have no tags", t.name, t.typ)
	}
	t.steps = make([]Upcaster, t.schema)
	for _, u := range t.given {
		if u.from < 1 || u.from > t.schema {
			return fmt.Errorf("event type %q has an upcaster from schema %d, outside 1 to %d", t.name, u.from, t.schema-1)
		}
		if t.steps[u.from-1].decode != nil {
			return fmt.Errorf("event type %q has two upcasters from schema %d", t.name, u.from)
		}
		t.steps[u.from-1] = u
		t.sealed = t.sealed || hasSecret(u.old, nil)
	}
	for i, u := range t.steps {
		if u.decode == nil {
			return fmt.Errorf("event type %q has no upcaster from schema %d", t.name, i+1)
		}
	}
	for i, u := range t.steps[:t.schema-1] {
		if next := t.steps[i+1].old; u.new != next {
			return fmt.Errorf("event type %q: the upcaster from schema %d returns %v, the next takes %v", t.name, i+1, u.new, next)
		}
	}
	return nil
}

// Encode returns an event with the ID, type, schema, tags and data of payload,
// a registered struct or a pointer to one. The error is ErrUnknownType for a
// payload that is not registered; no stream is set.
func (r *Registry) Encode(id uuid.UUID, payload any) (Event, error) {
	t, err := r.typeOf(payload)
	if err != nil {
		return Event{}, err
	}
	options, err := r.options(t, id)
	if err != nil {
		return Event{}, err
	}
	data, err := marshal(payload, options)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", t.name, err)
	}
	e := Event{ID: id, Type: t.name, Schema: t.schema, Data: data}
	if tagged, ok := payload.(Tagged); ok {
		e.Tags = addTags(nil, tagged.Tags())
	}
	return e, nil
}

// addTags appends to tags those of more that it does not have: a payload that
// names a thing twice is found by it once.
func addTags(tags, more []string) []string {
	for _, tag := range more {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// TypeName returns the event type under which payload is registered, for queries.
func (r *Registry) TypeName(payload any) (string, error) {
	t, err := r.typeOf(payload)
	if err != nil {
		return "", err
	}
	return t.name, nil
}

// TypesOf returns the names of the event types whose payload, taken by value, is
// a T, sorted: those that a fold which knows only an interface has to look at.
func TypesOf[T any](r *Registry) []string {
	var names []string
	for name, t := range r.byName {
		if _, ok := reflect.Zero(t.typ).Interface().(T); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (r *Registry) typeOf(payload any) (*EventType, error) {
	typ := reflect.TypeOf(payload)
	if typ != nil && typ.Kind() == reflect.Pointer {
		if reflect.ValueOf(payload).IsNil() {
			return nil, fmt.Errorf("%w: payload is a nil %v", ErrUnknownType, typ)
		}
		typ = typ.Elem()
	}
	t, ok := r.byType[typ]
	if !ok {
		return nil, fmt.Errorf("%w: payload %v is not in the registry", ErrUnknownType, typ)
	}
	return t, nil
}

// Decode returns the payload of e as a value of the struct registered for its
// type, brought to the current schema version. The error is a *DecodeError
// around ErrUnknownType, ErrFutureSchema or ErrMalformed.
func (r *Registry) Decode(e Event) (any, error) {
	payload, err := r.decode(e)
	if err != nil {
		return nil, &DecodeError{ID: e.ID, Stream: e.Stream, Type: e.Type, Schema: e.Schema, Cause: err}
	}
	return payload, nil
}

func (r *Registry) decode(e Event) (any, error) {
	t, ok := r.byName[e.Type]
	if !ok {
		return nil, fmt.Errorf("%w: register it, or do not select it", ErrUnknownType)
	}
	if e.Schema > t.schema {
		return nil, fmt.Errorf("%w: this program knows %s up to schema %d: upgrade it", ErrFutureSchema, t.name, t.schema)
	}
	if e.Schema < 1 {
		return nil, fmt.Errorf("%w: schema versions count from 1", ErrMalformed)
	}
	options, err := r.options(t, e.ID)
	if err != nil {
		return nil, err
	}
	payload, err := t.steps[e.Schema-1].decode(e.Data, options)
	if err != nil {
		if errors.Is(err, ErrErased) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, step := range t.steps[e.Schema-1 : t.schema-1] {
		if payload, err = step.apply(payload); err != nil {
			return nil, fmt.Errorf("%w: upcast from schema %d: %w", ErrMalformed, step.from, err)
		}
	}
	return payload, nil
}
