package eventstore

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Secret is a text in a payload that is stored sealed, so that it can be erased
// from a log that never changes by destroying its key. Only a registry with a
// Sealer writes and reads it, in fields that have this type: elsewhere, in an
// interface or in a snapshot, its JSON is an error. It prints as "[secret]"; a
// type of its own made from it has none of this.
type Secret string

var errUnsealed = errors.New("a Secret is written and read only by a registry with a Sealer, in a field of that type")

func (s Secret) String() string               { return "[secret]" }
func (s Secret) GoString() string             { return "[secret]" }
func (s Secret) MarshalJSON() ([]byte, error) { return nil, errUnsealed }
func (s *Secret) UnmarshalJSON([]byte) error  { return errUnsealed }

// Sealer seals and opens the Secret fields of payloads. Both calls are bound to
// the event's ID and the field (a JSON Pointer, RFC 6901) as additional
// authenticated data. Unseal fails with ErrErased when the key is gone.
type Sealer interface {
	Seal(event uuid.UUID, field string, plain []byte) ([]byte, error)
	Unseal(event uuid.UUID, field string, sealed []byte) ([]byte, error)
}

// WithSealer returns a registry of the same types that seals by s.
func (r *Registry) WithSealer(s Sealer) *Registry {
	return &Registry{byName: r.byName, byType: r.byType, sealer: s}
}

const sealedPrefix = "sealed:" // before the base64 of what the Sealer returned

// options returns how to read and write t's payload of one event; nil where
// nothing is sealed.
func (r *Registry) options(t *EventType, event uuid.UUID) (json.Options, error) {
	if !t.sealed {
		return nil, nil
	}
	if r.sealer == nil {
		return nil, fmt.Errorf("event type %q has sealed fields: give the registry a Sealer", t.name)
	}
	seal := func(enc *jsontext.Encoder, s Secret) error {
		sealed, err := r.sealer.Seal(event, place(enc), []byte(s))
		if err != nil {
			return err
		}
		return enc.WriteToken(jsontext.String(sealedPrefix + base64.StdEncoding.EncodeToString(sealed)))
	}
	unseal := func(dec *jsontext.Decoder, s *Secret) error {
		field := place(dec)
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		text, ok := strings.CutPrefix(token.String(), sealedPrefix)
		if token.Kind() != '"' || !ok {
			return fmt.Errorf("field %s is not sealed", field)
		}
		sealed, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return err
		}
		plain, err := r.sealer.Unseal(event, field, sealed)
		*s = Secret(plain)
		return err
	}
	return json.JoinOptions(
		json.WithMarshalers(json.MarshalToFunc(seal)),
		json.WithUnmarshalers(json.UnmarshalFromFunc(unseal)),
	), nil
}

// place returns the JSON Pointer of the value that an encoder or decoder comes
// to next. Its own StackPointer names the last one that it has passed, which
// within an array is the element before.
func place(stack interface {
	StackDepth() int
	StackIndex(int) (jsontext.Kind, int64)
	StackPointer() jsontext.Pointer
}) string {
	pointer := stack.StackPointer()
	kind, n := stack.StackIndex(stack.StackDepth())
	if kind != '[' {
		return string(pointer)
	}
	if n > 0 {
		pointer = pointer.Parent()
	}
	return string(pointer.AppendToken(strconv.FormatInt(n, 10)))
}

// hasSecret reports whether a value of type t can hold a Secret.
func hasSecret(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	if seen == nil {
		seen = map[reflect.Type]bool{}
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.String:
		return t == reflect.TypeFor[Secret]()
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return hasSecret(t.Elem(), seen)
	case reflect.Map:
		return hasSecret(t.Key(), seen) || hasSecret(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if hasSecret(t.Field(i).Type, seen) {
				return true
			}
		}
	case reflect.Interface:
		return false // its content decides what it is when decoded; a Secret cannot come back through one
	}
	return false
}
