package spec

import (
	"bytes"
	"encoding"
	stdjson "encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/assert"

	"github.com/rollforward/rollforward/eventstore"
)

// golden is a state that the file expects.
type golden struct {
	section string // "state/book-42@3.json"
	stream  string
	version uint64
	line    int // of its marker
	data    []byte
}

func parseGolden(section string) (golden, error) {
	name, isState := strings.CutPrefix(section, "state/")
	name, isJSON := strings.CutSuffix(name, ".json")
	if at := strings.LastIndexByte(name, '@'); isState && isJSON && at > 0 {
		version, err := strconv.ParseUint(name[at+1:], 10, 64)
		if err == nil && version > 0 && strconv.FormatUint(version, 10) == name[at+1:] {
			return golden{section: section, stream: name[:at], version: version}, nil
		}
	}
	return golden{}, fmt.Errorf("section %q is unknown: there are events, events.jsonl and state/STREAM@VERSION.json", section)
}

// updateEnv makes CheckStates write states instead of comparing them.
const updateEnv = "SPEC_UPDATE"

// CheckStates compares the golden states in the file of h, of streams whose
// name begins with prefix, with the states to which d folds these streams. It
// looks at the whole file, wherever h stands, and reports every state that
// differs. A golden state is a section such as
//
//	-- state/book-42@3.json --
//	{
//	  "title": "Emma"
//	}
//
// the JSON of the state of stream book-42 at version 3; spaces do not count,
// the order of fields does. With SPEC_UPDATE=1 in the environment the states
// are written into the file instead: to get a new one, name an empty section.
// Golden states see what JSON sees, so a state with a field that JSON leaves
// out is refused.
func CheckStates[S, C any](h *History, d eventstore.Decider[S, C], prefix string) {
	h.t.Helper()
	if field := hidden(reflect.TypeFor[S](), nil); field != "" {
		h.t.Fatalf("golden states do not see field %s of %v: export it, or give the type a MarshalJSON", field, reflect.TypeFor[S]())
	}
	found := false
	for _, g := range h.goldens {
		if !strings.HasPrefix(g.stream, prefix) {
			continue
		}
		found = true
		if h.find(g.stream, g.version) < 0 {
			h.fail(g.line, "stream %q never stands at version %d", g.stream, g.version)
		}
		state := State(h.ToVersion(g.stream, g.version), d, g.stream)
		got, err := json.Marshal(state, json.Deterministic(true), jsontext.WithIndent("  "))
		if err != nil {
			h.fail(g.line, "the state of stream %q has no JSON: %v", g.stream, err)
		}
		want, err := indent(g.data)
		if err == nil && bytes.Equal(want, got) {
			continue
		}
		if os.Getenv(updateEnv) == "1" {
			if err := rewrite(h.file, g.section, append(got, '\n')); err != nil {
				h.fail(g.line, "update %s: %v", g.section, err)
			}
			h.t.Logf("%s:%d: %s is updated", h.file, g.line, g.section)
			continue
		}
		if err != nil {
			h.fail(g.line, "%s is not JSON: %v: with %s=1 it is written", g.section, err, updateEnv)
		}
		assert.Equal(h.t, string(want), string(got),
			"%s:%d: stream %q is in another state at version %d; if that is right, run the test with %s=1", h.file, g.line, g.stream, g.version, updateEnv)
	}
	if !found {
		h.t.Fatalf("%s: there is no golden state of a stream that begins with %q: write an empty section -- state/STREAM@VERSION.json -- and run the test with %s=1", h.file, prefix, updateEnv)
	}
}

// indent returns JSON in the form in which golden states are written.
func indent(data []byte) ([]byte, error) {
	v := jsontext.Value(bytes.Clone(data))
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil, err
	}
	return v, nil
}

// rewriting serialises the updates of tests that run in parallel.
var rewriting sync.Mutex

// rewrite puts data into one section of a file, and leaves the others as they are.
func rewrite(file, section string, data []byte) error {
	rewriting.Lock()
	defer rewriting.Unlock()
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	parsed := txtar.Parse(content)
	for i := range parsed.Files {
		if parsed.Files[i].Name == section {
			parsed.Files[i].Data = data
		}
	}
	next, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(next.Name())
	_, err = next.Write(txtar.Format(parsed))
	if closed := next.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Chmod(next.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(next.Name(), file)
	}
	return err
}

// hidden returns the first field within t that its JSON does not show, or "".
func hidden(t reflect.Type, seen map[reflect.Type]bool) string {
	if seen == nil {
		seen = map[reflect.Type]bool{}
	}
	if seen[t] || marshalsItself(t) {
		return ""
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return hidden(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Tag.Get("json") == "-" || !f.IsExported() && !f.Anonymous {
				return f.Name
			}
			if inner := hidden(f.Type, seen); inner != "" {
				return f.Name + "." + inner
			}
		}
	}
	return ""
}

// marshalsItself reports whether a type says what its JSON is.
func marshalsItself(t reflect.Type) bool {
	for _, i := range []reflect.Type{
		reflect.TypeFor[json.MarshalerTo](), reflect.TypeFor[stdjson.Marshaler](), reflect.TypeFor[encoding.TextMarshaler](),
	} {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}
