// Command notify shows two processes on one SQLite file: one changes, the other
// listens and prints what it hears.
//
//	go run ./examples/notify                              both: it starts the listener itself
//	go run ./examples/notify -log changes.db -listen      one terminal
//	go run ./examples/notify -log changes.db -change      another
//
// The listener is a handler with a name. Stopped and started again it goes on where
// it was; of two that run at once one is told and the other stands by.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := program(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "notify:", err)
		os.Exit(1)
	}
}

func program(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("notify", flag.ContinueOnError)
	file := flags.String("log", "", "the log, an SQLite `file`; by default one that is gone afterwards, with both processes")
	listens := flags.Bool("listen", false, "only listen, until interrupted")
	changes := flags.Bool("change", false, "only make a change")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *file == "" && (*listens || *changes) {
		return errors.New("say which file both processes share: -log changes.db")
	}
	switch {
	case *listens:
		return listen(ctx, *file, out)
	case *changes:
		_, err := makeChange(ctx, *file)
		return err
	}
	if *file == "" {
		folder, err := os.MkdirTemp("", "notify")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
		*file = filepath.Join(folder, "changes.db")
	}
	return both(ctx, *file, out)
}

// people are who may do what. The listener may do nothing: it only hears.
var people = command.Roles{
	"alice": {command.Requester, command.Implementer},
	"bob":   {command.Approver},
	"carol": {command.ChangeManager, command.ConfigManager},
	"erin":  {command.Reviewer},
}

// open opens an engine on a file that other processes have open as well.
func open(ctx context.Context, file string) (eng *rollforward.Engine, done func() error, err error) {
	store, err := sqlite.Open(file)
	if err != nil {
		return nil, nil, err
	}
	eng, err = rollforward.Open(ctx, store, rollforward.Config{Authorizer: people, Risk: risk.BlastRadius()})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return eng, func() error { return errors.Join(eng.Close(), store.Close()) }, nil
}

// listening is what the listener says when it hears.
const listening = "listening"

// listen prints what happens to changes until ctx ends.
func listen(ctx context.Context, file string, out io.Writer) (err error) {
	eng, done, err := open(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := eng.Handle(printer(eng, out)); err != nil {
		return err
	}
	fmt.Fprintln(out, listening)
	<-ctx.Done()
	return nil
}

// printer is the handler. What it prints may be printed twice where the process dies
// in between: what must not be carries env.Key.
func printer(eng *rollforward.Engine, out io.Writer) relay.Handler {
	say := func(env relay.Envelope, format string, args ...any) error {
		_, err := fmt.Fprintf(out, "%s %s\n", strings.TrimPrefix(env.Stream, "change-"), fmt.Sprintf(format, args...))
		return err
	}
	return relay.Handler{Name: "print-changes", Workers: 1, Cases: []relay.Case{
		relay.On(func(_ context.Context, e change.Raised, env relay.Envelope) error {
			return say(env, "is raised by %s: %s", e.By, e.Content.Title)
		}),
		relay.On(func(_ context.Context, e change.Voted, env relay.Envelope) error {
			return say(env, "has the vote of %s", env.Metadata.Actor)
		}),
		relay.On(func(_ context.Context, e change.Authorized, env relay.Envelope) error {
			return say(env, "is authorised by %s", e.By)
		}),
		relay.On(func(_ context.Context, e change.Started, env relay.Envelope) error {
			return say(env, "is started by %s", e.By)
		}),
		relay.On(func(ctx context.Context, e change.Implemented, env relay.Envelope) error {
			// The folds of this process have the event by now.
			for _, d := range e.Applied {
				ci, err := eng.CMDB.Get(ctx, d.CI)
				if err != nil {
					return err
				}
				if err := say(env, "is carried out: %s is %s %s", d.CI, d.Attribute, ci.Attributes[d.Attribute]); err != nil {
					return err
				}
			}
			return nil
		}),
		relay.On(func(_ context.Context, e change.Reviewed, env relay.Envelope) error {
			return say(env, "is reviewed by %s: %s", e.By, e.Outcome)
		}),
		relay.On(func(_ context.Context, e change.Moved, env relay.Envelope) error {
			if !e.Ends {
				return nil
			}
			return say(env, "is %s", e.To)
		}),
	}}
}

// makeChange takes one change through its life, and returns its ID.
func makeChange(ctx context.Context, file string) (id string, err error) {
	eng, done, err := open(ctx, file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, done()) }()
	alice, bob, carol, erin := command.As("alice"), command.As("bob"), command.As("carol"), command.As("erin")
	before := "15"
	ci, err := eng.CMDB.Get(ctx, "db-01")
	switch {
	case err == nil:
		before = ci.Attributes["version"]
	case !errors.Is(err, cmdb.ErrUnknownCI):
		return "", err
	default:
		if _, err := eng.CMDB.Record(ctx, carol, cmdb.Add("db-01", "database", cmdb.Attr("version", before))); err != nil {
			return "", err
		}
	}
	after := before + ".1"
	c, err := eng.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{
		Title:  "Upgrade db-01 to " + after,
		Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", before, after)},
		Plans:  change.Plans{Implementation: "pg_upgrade", Backout: "restore the snapshot"},
		Window: change.Between(time.Now(), time.Now().Add(time.Hour)),
	}}, change.Submit{})
	if err != nil {
		return "", err
	}
	for _, step := range []struct {
		by command.Actor
		do []change.Command
	}{
		{bob, []change.Command{change.Approve{Stage: "cab", Scope: c.Scope}}},
		{alice, []change.Command{change.Start{}, change.Complete{}}},
		{erin, []change.Command{change.Review{Outcome: change.Successful}}},
		{carol, []change.Command{change.Close{}}},
	} {
		if _, err := eng.Changes.Do(ctx, step.by, c.ID, step.do...); err != nil {
			return "", err
		}
	}
	return c.ID, nil
}

// both starts a listener as a process of its own, makes a change, and ends when the
// listener has printed all of it.
func both(ctx context.Context, file string, out io.Writer) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, self, "-log", file, "-listen")
	child.Args[0] = os.Args[0]
	child.Stderr = os.Stderr
	child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
	child.WaitDelay = 10 * time.Second
	heard, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	made := ""
	lines := bufio.NewScanner(heard)
	for lines.Scan() {
		fmt.Fprintln(out, "the listener hears:", lines.Text())
		switch text := lines.Text(); {
		case text == listening:
			fmt.Fprintln(out, "this process makes a change")
			if made, err = makeChange(ctx, file); err != nil {
				return errors.Join(err, child.Cancel(), child.Wait())
			}
		case text == made+" is closed":
			if err := child.Cancel(); err != nil {
				return err
			}
		}
	}
	return errors.Join(lines.Err(), child.Wait())
}
