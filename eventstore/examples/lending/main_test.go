package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	dir, err := os.MkdirTemp("", "lending")
	if err == nil {
		defer os.RemoveAll(dir)
		err = run(context.Background(), os.Stdout, filepath.Join(dir, "library.db"))
	}
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// bob asks for Emma: the book is out: wait until it is returned (ann has it)
	// eight clerks lend Persuasion at once: 1 did, 7 were refused
	// in the file:
	//   ann has [book-3]
	//   bob has []
	//   eve has [book-2]
	// in memory, after an export of 7 events and an import:
	//   ann has [book-3]
	//   bob has []
	//   eve has [book-2]
	// ann, book-1 version 2: {"to":"ann","due":"2026-03-09T09:00:00Z"}
	// ann, book-3 version 2: {"to":"ann","due":"2026-03-17T09:00:00Z"}
}
