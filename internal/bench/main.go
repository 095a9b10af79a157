// Command bench measures the stores against their limits: loops that do by hand and
// without a library what an operation cannot do without (raw.go). Comes in: a
// folder on the disk to be measured. Goes out: one table of ratios, each the median
// of pairs that ran in turn, with the spread, beside what SPEED.md has for the limit.
//
//	go run ./internal/bench                  every row at small sizes, under a minute
//	go run ./internal/bench -full            at the sizes that are promised for
//	go run ./internal/bench -run 'append' -json
//
// A ratio is the store's rate over the limit's, so 1 is the limit itself. Rates drift
// with the machine; ratios within a run are what to keep, and those under a tenth
// apart mean nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// sizes say how much is measured.
type sizes struct {
	pairs   int // of each row
	appends int // a side of a pair: of one writer
	crowd   int // likewise: of 64 writers together
	loads   int // likewise
	scan    int // events in the file that is read
	streams int // in the file that has many
	held    int // events in memory
	large   int // events in the file that is the largest
}

var (
	small = sizes{pairs: 7, appends: 400, crowd: 12_800, loads: 1_000, scan: 40_000, streams: 10_000, held: 100_000, large: 100_000}
	full  = sizes{pairs: 9, appends: 3_000, crowd: 32_000, loads: 10_000, scan: 1_000_000, streams: 1_000_000, held: 1_000_000, large: 10_000_000}
)

// bench is one run.
type bench struct {
	sizes
	ctx      context.Context
	dir      string
	postgres string // connection string of a server; empty: it is left out
	files    int
	say      func(format string, args ...any) // progress
}

// path returns the name of a file that is not there yet.
func (b *bench) path() string {
	b.files++
	return filepath.Join(b.dir, fmt.Sprintf("%d.db", b.files))
}

// measurements are what there is to run, by name; one gives one or several rows.
var measurements = []struct {
	name string
	run  func(*bench) ([]row, error)
}{
	{"sync", (*bench).sync},
	{"append1", (*bench).append1},
	{"append10", (*bench).append10},
	{"append64", (*bench).append64},
	{"load", (*bench).load},
	{"scan", (*bench).scan},
	{"streams", (*bench).manyStreams},
	{"memory", (*bench).memory},
	{"tenmillion", (*bench).tenMillion},
	{"relay", (*bench).relay},
	{"postgres-append1", (*bench).postgresAppend1},
	{"postgres-append10", (*bench).postgresAppend10},
	{"postgres-append64", (*bench).postgresAppend64},
	{"postgres-fence", (*bench).fence},
	{"postgres-reads", (*bench).postgresReads},
	{"postgres-relay", (*bench).postgresRelay},
}

// errNotReached is what -strict makes of a row that is not reached.
var errNotReached = errors.New("a row is not reached")

// command is the whole program.
func command(ctx context.Context, args []string, out, log io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(log)
	server := flags.String("postgres", os.Getenv("ROLLFORWARD_TEST_POSTGRES"), "`connection string` of the PostgreSQL server to be measured; by default from ROLLFORWARD_TEST_POSTGRES")
	asJSON := flags.Bool("json", false, "print one object a line instead of the table")
	fully := flags.Bool("full", false, "the sizes that are promised for: some minutes, and 12 GB with tenmillion")
	flags.Bool("short", false, "small sizes, under a minute: what is done without -full")
	strict := flags.Bool("strict", false, "exit with 1 if a row is not reached")
	only := flags.String("run", "", "only measurements whose name matches this `regexp`: sync append1 append10 append64 load scan streams memory tenmillion relay postgres-append1 postgres-append10 postgres-append64 postgres-fence postgres-reads postgres-relay")
	dir := flags.String("dir", "", "a `folder` on the disk to be measured; the system's one for temporary files by default")
	pairs := flags.Int("pairs", 0, "pairs a row, instead of 7 or with -full 9")
	streams := flags.Int("streams", 0, "streams in the file that has many")
	events := flags.Int("events", 0, "events in the largest file, and in the one that is scanned")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	b := &bench{sizes: small, ctx: ctx, postgres: *server, say: func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }}
	if *fully {
		b.sizes = full
	}
	for _, set := range []struct {
		to   []*int
		flag int
	}{{[]*int{&b.pairs}, *pairs}, {[]*int{&b.streams}, *streams}, {[]*int{&b.large, &b.sizes.scan}, *events}} {
		for _, to := range set.to {
			if set.flag > 0 {
				*to = set.flag
			}
		}
	}
	if b.dir, err = os.MkdirTemp(*dir, "bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	var rows []row
	for _, m := range measurements {
		if !chosen.MatchString(m.name) {
			continue
		}
		b.say("%s ...", m.name)
		measured, err := m.run(b)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		rows = append(rows, measured...)
	}
	if *asJSON {
		err = printJSON(out, rows)
	} else {
		err = print(out, rows)
	}
	for _, r := range rows {
		if *strict && !r.holds() {
			err = errors.Join(err, fmt.Errorf("%w: %s", errNotReached, r.What))
		}
	}
	return err
}
