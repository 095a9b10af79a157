package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func Example() {
	in := `{"Action":"output","Package":"a","Test":"TestX","Output":"a figure: 7\n"}
{"Action":"pass","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Test":"TestY","Output":"says nothing new\n"}
{"Action":"pass","Package":"a","Test":"TestY"}
{"Action":"pass","Package":"a","Elapsed":0.5}
`
	if err := tally(strings.NewReader(in), os.Stdout, regexp.MustCompile("X")); err != nil {
		panic(err)
	}
	// Output:
	// a figure: 7
	// ok   a 0.5s
	// 2 passed, 0 failed, 0 skipped
}

func TestWhatDidNotPassIsAnError(t *testing.T) {
	for in, says := range map[string]string{
		"": "no test ran",
		`{"Action":"fail","Package":"a","Test":"TestX"}` + "\n" + `{"Action":"fail","Package":"a"}`: "1 tests failed, 1 packages",
		`{"ImportPath":"a","Action":"build-output","Output":"x.go:1: broken\n"}` + "\n" + `{"ImportPath":"a","Action":"build-fail"}` + "\n" +
			`{"Action":"pass","Package":"b","Test":"TestX"}`: "1 packages",
		`{"Action":"start","Package":"a"}` + "\n" + `{"Action":"start","Package":"b"}` + "\n" +
			`{"Action":"pass","Package":"b","Test":"TestX"}` + "\n" + `{"Action":"pass","Package":"b"}`: "1 packages",
		"panic: out of memory\n" + `{"Action":"pass","Package":"b","Test":"TestX"}` + "\n" + `{"Action":"fail","Package":"a"}`: "1 packages",
	} {
		var out strings.Builder
		require.ErrorContains(t, tally(strings.NewReader(in), &out, regexp.MustCompile("^$")), says, in)
	}
}
