package spec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/spec"
)

func TestGoldenStates(t *testing.T) {
	t.Setenv("SPEC_UPDATE", "")
	original := read(t, library)
	check := func(file string) string {
		return outcome(t, func(t testing.TB) { spec.CheckStates(spec.Replay(t, file, registry).To(0), lending, "book-") })
	}
	require.Empty(t, check(library))

	other := strings.Replace(original, `"loans": 2`, `"loans": 3`, 1)
	file := write(t, "a.txtar", other)
	said := check(file)
	require.Contains(t, said, file+":21: stream \"book-42\" is in another state at version 4")
	require.Contains(t, said, `-  "loans": 3`)
	require.Contains(t, said, `+  "loans": 2`)
	require.Contains(t, said, "SPEC_UPDATE=1")
	require.Equal(t, other, read(t, file), "nothing is written unasked")

	t.Setenv("SPEC_UPDATE", "1")
	require.Empty(t, check(file))
	require.Equal(t, original, read(t, file))
	require.Empty(t, check(file))
	require.Equal(t, original, read(t, file))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "others read it as before")
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no other file is left behind")

	t.Setenv("SPEC_UPDATE", "")
	empty := write(t, "a.txtar", original+"-- state/book-7@2.json --\n")
	require.Contains(t, check(empty), "is not JSON")
	t.Setenv("SPEC_UPDATE", "1")
	require.Empty(t, check(empty))
	require.Contains(t, read(t, empty), "-- state/book-7@2.json --\n{\n  \"title\": \"Persuasion\",\n  \"lentTo\": \"bob\"")

	for content, says := range map[string]string{
		original + "-- state/book-7@3.json --\n{}\n":  `a.txtar:35: stream "book-7" never stands at version 3`,
		original + "-- state/book-43@1.json --\n{}\n": `a.txtar:35: stream "book-43" never stands at version 1`,
		"-- events --\nbook-42 book.added {}\n":       `no golden state of a stream that begins with "book-"`,
	} {
		require.Contains(t, check(write(t, "a.txtar", content)), says)
	}
}

func TestGoldenStatesAreCheckedByPrefix(t *testing.T) {
	t.Setenv("SPEC_UPDATE", "")
	h := spec.Replay(t, write(t, "a.txtar", strings.Replace(read(t, library), `"title": "Persuasion"`, `"title": "Anna"`, 1)), registry)
	require.Empty(t, outcome(t, func(t testing.TB) { spec.CheckStates(h.In(t), lending, "book-4") }))
	require.Contains(t, outcome(t, func(t testing.TB) { spec.CheckStates(h.In(t), lending, "book-7") }), "is in another state")
}

// Types that say what their JSON is, each in one of the ways there are.
type (
	byJSON    struct{ n int }
	byText    struct{ n int }
	byStream  struct{ n int }
	byPointer struct{ n int }
)

func (v byJSON) MarshalJSON() ([]byte, error) { return fmt.Append(nil, v.n), nil }
func (v byText) MarshalText() ([]byte, error) { return fmt.Append(nil, v.n), nil }
func (v byStream) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.Int(int64(v.n)))
}
func (v *byPointer) MarshalJSON() ([]byte, error) { return fmt.Append(nil, v.n), nil }

type Shelf struct {
	Name string `json:"name"`
}
type place struct {
	Row int `json:"row"`
}

func TestGoldenStatesSeeWhatJSONSees(t *testing.T) {
	t.Setenv("SPEC_UPDATE", "")
	type state struct {
		Shelf
		place
		JSON    byJSON         `json:"json"`
		Text    byText         `json:"text"`
		Stream  byStream       `json:"stream"`
		Pointer byPointer      `json:"pointer"`
		Counts  map[string]int `json:"counts"`
		Below   []*state       `json:"below,omitzero"`
	}
	d := eventstore.Decider[state, any]{Evolve: func(state, any) state {
		return state{
			Shelf{"A"}, place{2}, byJSON{3}, byText{4}, byStream{5}, byPointer{6},
			map[string]int{"f": 1, "b": 2, "e": 3, "a": 4, "d": 5, "c": 6}, []*state{{}},
		}
	}}
	file := write(t, "a.txtar", "-- events --\nbook-42 book.added {}\n-- state/book-42@1.json --\n"+
		`{"name":"A","row":2,"json":3,"text":"4","stream":5,"pointer":6,"counts":{"a":4,"b":2,"c":6,"d":5,"e":3,"f":1},`+
		`"below":[{"name":"","row":0,"json":0,"text":"0","stream":0,"pointer":0,"counts":{}}]}`+"\n")
	require.Empty(t, outcome(t, func(t testing.TB) { spec.CheckStates(spec.Replay(t, file, registry), d, "") }))
}

func TestGoldenStatesDoNotHideFields(t *testing.T) {
	h := spec.Replay(t, library, registry)
	type inner struct {
		Left int `json:"-"`
	}
	type Outer struct{ In map[string][]*inner }
	said := outcome(t, func(t testing.TB) { spec.CheckStates(h.In(t), eventstore.Decider[Outer, any]{}, "") })
	require.Contains(t, said, "golden states do not see field In.Left of spec_test.Outer")
	//lint:ignore U1000 the field is there not to be seen
	type small struct{ n int }
	said = outcome(t, func(t testing.TB) { spec.CheckStates(h.In(t), eventstore.Decider[*small, any]{}, "") })
	require.Contains(t, said, "field n of")
	said = outcome(t, func(t testing.TB) { spec.CheckStates(h.In(t), eventstore.Decider[[][2]inner, any]{}, "") })
	require.Contains(t, said, "field Left of")
	//lint:ignore U1000 the field is there not to be seen
	type embedded struct{ n int }
	//lint:ignore U1000 it is embedded not to be seen either
	type outer struct{ embedded }
	said = outcome(t, func(t testing.TB) { spec.CheckStates(h.In(t), eventstore.Decider[outer, any]{}, "") })
	require.Contains(t, said, "field embedded.n of")
}
