package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// place is where the story is told.
type place struct {
	noun string // what is closed and opened again
	open func(context.Context) (eventstore.Store, error)
}

// parse returns the place that the command line names, nil if it names none.
func parse(args []string, errs io.Writer) (*place, error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(errs)
	store := flags.String("store", "", "sqlite:FILE, postgres:DSN, where DSN is a connection string, or memory; a temporary file by default")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("there are no arguments beside flags, such as %q", flags.Arg(0))
	}
	kind, where, colon := strings.Cut(*store, ":")
	switch {
	case *store == "":
		return nil, nil
	case kind == "memory" && !colon:
		return inMemory(), nil
	case kind == "sqlite" && where != "":
		return file(where), nil
	case kind == "postgres" && strings.HasPrefix(where, "//"): // a URL says it itself
		return database(*store), nil
	case kind == "postgres" && where != "":
		return database(where), nil
	}
	return nil, fmt.Errorf("-store is memory, sqlite:FILE or postgres:DSN, not %q", kind) // there may be a password behind the colon
}

func file(name string) *place {
	return &place{"file", func(context.Context) (eventstore.Store, error) { return sqlite.Open(name) }}
}

func database(dsn string) *place {
	return &place{"database", func(ctx context.Context) (eventstore.Store, error) { return postgres.Open(ctx, dsn) }}
}

// inMemory keeps the log when the store is closed; the engine and its folds are new.
func inMemory() *place {
	log := memory.New()
	return &place{"engine", func(context.Context) (eventstore.Store, error) { return kept{log}, nil }}
}

type kept struct{ *memory.Store }

func (kept) Close() error { return nil }
