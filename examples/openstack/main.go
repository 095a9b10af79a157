// Command openstack replays seven years of real history through the engine: the
// release changes of OpenStack, with who proposed them, when they were approved,
// and what they released.
//
//	go run ./examples/openstack -data DIR
//	go run ./examples/openstack -data DIR -store sqlite:openstack.db
//	go run ./examples/openstack -data DIR -store postgres:'host=db user=app dbname=openstack'
//
// DIR has release_changes.csv, one change per row; deliverables/SERIES/NAME.yaml,
// what became of each deliverable of a series; and schedules/SERIES.yaml, the
// calendar of each series. They are not part of this repository.
//
// Each change is raised by its proposer when it was uploaded and, when it was
// merged, approved by the release team, planned as a release, deployed and
// finished by the pipeline. A deliverable of a series is a CI. Its version in force
// at the end, and as of 20 dates of the past, is compared with its file.
//
// The page goes to the standard output, and is the same whenever the same history
// is replayed; how long it took goes to the standard error. On a file or a database that
// has the history already nothing is appended. -rows replays the first rows only.
//
// Entries of the agenda that touch different deliverables are taken at once, -at-once
// of them, so that they share the commits of the store.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func main() { os.Exit(program()) }

func program() int {
	ctx := context.Background()
	options, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = play(ctx, options, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "openstack:", err)
		return 1
	}
	return 0
}

// atOnce is how many entries are under way at once by default. Those of real history
// that touch a deliverable of another are far apart: so many hardly ever wait.
const atOnce = 32

// options are what the command line says.
type options struct {
	data   string // folder
	rows   int    // of the history, from the first; 0: all
	atOnce int    // entries of the agenda
	file   string // of SQLite
	dsn    string // of PostgreSQL; both empty: in memory
}

func parse(args []string, errs io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("openstack", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&o.data, "data", "", "folder of the history: release_changes.csv, deliverables, schedules")
	flags.IntVar(&o.rows, "rows", 0, "how many rows of the history, from the first; 0 for all")
	flags.IntVar(&o.atOnce, "at-once", atOnce, "how many entries of the agenda are under way at once, where they touch different deliverables")
	store := flags.String("store", "memory", "memory, sqlite:FILE or postgres:DSN, where DSN is a connection string")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("there are no arguments beside flags, such as %q", flags.Arg(0))
	}
	if o.data == "" {
		return o, errors.New("say where the history is: -data DIR")
	}
	if o.rows < 0 {
		return o, fmt.Errorf("-rows is 0 or more, not %d", o.rows)
	}
	if o.atOnce < 1 {
		return o, fmt.Errorf("-at-once is 1 or more, not %d", o.atOnce)
	}
	kind, where, colon := strings.Cut(*store, ":")
	switch {
	case kind == "memory" && !colon:
	case kind == "sqlite" && where != "":
		o.file = where
	case kind == "postgres" && strings.HasPrefix(where, "//"): // a URL says it itself
		o.dsn = *store
	case kind == "postgres" && where != "":
		o.dsn = where
	default: // there may be a password behind the colon
		return o, fmt.Errorf("-store is memory, sqlite:FILE or postgres:DSN, not %q", kind)
	}
	return o, nil
}

func (o options) open(ctx context.Context) (eventstore.Store, error) {
	switch {
	case o.file != "":
		return sqlite.Open(o.file)
	case o.dsn != "":
		return postgres.Open(ctx, o.dsn)
	}
	return memory.New(), nil
}

// play replays the history on a store and prints the page to out, and how long it
// took to errs.
func play(ctx context.Context, o options, out, errs io.Writer) (err error) {
	h, err := readHistory(o.data, o.rows)
	if err != nil {
		return err
	}
	a := newAgenda(h)
	if len(a.events) == 0 {
		return errors.New("no row of the history can be used")
	}
	store, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return onStore(ctx, store, h, a, o, out, errs)
}

func onStore(ctx context.Context, store eventstore.Store, h *history, a *agenda, o options, out, errs io.Writer) (err error) {
	c := &clock{}
	c.follow(a.events[0].at)
	eng, err := openEngine(ctx, store, h, c.Now)
	if err != nil {
		return err
	}
	defer func() { err = closing(eng, err) }()
	before, err := store.Head(ctx)
	if err != nil {
		return err
	}
	var b *beside
	if o.file != "" {
		if b, err = newBeside(store, before, o.file); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.close()) }()
	}
	p, took, err := replayed(ctx, newReplay(eng, h, c, o.atOnce), store, a, b)
	if err != nil {
		return err
	}
	if err := p.print(out); err != nil {
		return err
	}
	return speed(ctx, store, before, took, b, errs)
}

// slice is how much of the agenda is replayed before it is made beside.
const slice = 250

// replayed replays the agenda, and returns the page and how long the replay took. What
// it appends is made once more by b, unless that is nil.
func replayed(ctx context.Context, r *replay, store eventstore.Store, a *agenda, b *beside) (*report, spent, error) {
	took := spent{atOnce: r.atOnce, by: r.spent}
	for events := range slices.Chunk(a.events, slice) {
		began := time.Now()
		if err := r.run(ctx, events); err != nil {
			return nil, spent{}, err
		}
		took.all += time.Since(began)
		if b != nil {
			if err := b.follow(ctx); err != nil {
				return nil, spent{}, fmt.Errorf("make the same beside: %w", err)
			}
		}
	}
	p, err := newReport(ctx, store, r, a)
	return p, took, err
}

// spent is how long a replay took, in all and by kind of command: of commands that are
// under way at once each counts, and the waits for each other.
type spent struct {
	atOnce int
	all    time.Duration
	by     map[string]time.Duration
}

// speed prints how long the replay took and, on a file, how long the same appends
// took by the driver and by the store alone.
func speed(ctx context.Context, store eventstore.Store, before eventstore.Position, took spent, b *beside, errs io.Writer) error {
	events := 0
	for _, err := range store.Read(ctx, eventstore.Query{After: before}) {
		if err != nil {
			return err
		}
		events++
	}
	if events == 0 {
		fmt.Fprintf(errs, "nothing was appended: the log has it already (%.1f s)\n", took.all.Seconds())
		return nil
	}
	fmt.Fprintf(errs, "%s events in %.1f s: %s events/s, %d at once\n", grouped(events), took.all.Seconds(), grouped(int(float64(events)/took.all.Seconds())), took.atOnce)
	for _, kind := range []string{"record", "raise", "rebase", "approve", "plan", "deploy"} {
		fmt.Fprintf(errs, "  %-8s %6.1f s\n", kind, took.by[kind].Seconds())
	}
	if b == nil {
		return nil
	}
	times := func(of time.Duration) float64 { return took.all.Seconds() / of.Seconds() }
	fmt.Fprintf(errs, "%s appends; the same bytes by the driver alone %.1f s: %.2f times as long; by the store alone %.1f s: %.2f times\n",
		grouped(b.appends), b.byDriver.Seconds(), times(b.byDriver), b.byStore.Seconds(), times(b.byStore))
	return nil
}
