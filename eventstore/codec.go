package eventstore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The one place that knows the JSON library. It refuses invalid UTF-8,
// duplicate names and trailing data, matches names exactly, and writes map keys
// in order, so that the same value is always the same bytes.

func marshal(v any, options json.Options) ([]byte, error) {
	if options == nil {
		return json.Marshal(v, json.Deterministic(true))
	}
	return json.Marshal(v, json.Deterministic(true), options)
}

func unmarshal(data []byte, into any, options json.Options) error {
	if err := checkDepth(data); err != nil {
		return err
	}
	if options == nil {
		return json.Unmarshal(data, into)
	}
	return json.Unmarshal(data, into, options)
}

var errTooDeep = fmt.Errorf("it nests at most %d deep", MaxDepth)

// checkJSON returns nil if data is one JSON value within MaxDepth.
func checkJSON(data []byte) error {
	if err := checkDepth(data); err != nil {
		return err
	}
	if jsontext.Value(data).IsValid() {
		return nil
	}
	// Once more, slower, for the reason.
	var v jsontext.Value
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("it is one JSON value: %w", err)
	}
	return errors.New("it is one JSON value")
}

// checkDepth bounds the nesting of data before a recursive parser sees it, in
// one pass over the bytes. Of data that is not JSON it may accept anything.
func checkDepth(data []byte) error {
	if bytes.Count(data, []byte{'['})+bytes.Count(data, []byte{'{'}) <= MaxDepth {
		return nil // nearly always, and at the speed of memory
	}
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			if depth++; depth > MaxDepth {
				return errTooDeep
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return nil
}
