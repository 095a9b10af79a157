package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// The test binary runs itself again as processes that do not live to their end, in
// the role that this variable names; see dying. Path and seed follow it in the
// variables that other processes take them from, the rest in these.
const (
	dyingVariable   = "ROLLFORWARD_SQLITE_DYING"
	writersVariable = "ROLLFORWARD_SQLITE_WRITERS"
	pointVariable   = "ROLLFORWARD_SQLITE_POINT" // where a process kills itself
	hitVariable     = "ROLLFORWARD_SQLITE_HIT"   // and when: the first time that it comes there, the second
)

func init() {
	if role := os.Getenv(dyingVariable); role != "" {
		if err := dying(role); err != nil {
			say("failure %v", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// dying is the whole of a process that is killed, or kills itself. What it says is
// out at once: a line is one write to the pipe. It ends with its parent.
func dying(role string) error {
	go func() {
		io.Copy(io.Discard, os.Stdin) // nothing comes, and however it ends, the parent is gone
		os.Exit(3)
	}()
	switch role {
	case "append":
		return appendUntilKilled(true, func(string) {})
	case "append, told too early":
		return appendUntilKilled(false, func(string) {}, sqlite.WithCommit(func(commit func() error) error {
			say("%s", tooEarly)
			return commit()
		}))
	case "append, dying at a point":
		reach := dieAt()
		return appendUntilKilled(true, reach, pointOptions(reach)...)
	case "save, dying at a point":
		return saveUntilKilled(pointOptions(dieAt())...)
	case "restore, dying at a point":
		return restoreUntilKilled(pointOptions(dieAt())...)
	case "create":
		return createUntilKilled()
	}
	if order, ok := strings.CutPrefix(role, "consume, "); ok {
		return consume(order)
	}
	return fmt.Errorf("no role %q", role)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// number returns a variable that the parent has set.
func number(variable string) (uint64, error) {
	n, err := strconv.ParseUint(os.Getenv(variable), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", variable, err)
	}
	return n, nil
}

// script is what one writer appends. All of it follows from its seed and from the
// version at which its own stream, which nobody else writes, stood before.
type script struct {
	own     string
	version uint64 // of own, once all that send has given is appended
	rand    *rand.Rand
}

func newScript(seed uint64, writer int, version uint64) *script {
	return &script{ownStream(writer), version, rand.New(rand.NewPCG(seed, uint64(writer)))}
}

func ownStream(writer int) string { return fmt.Sprint("own-", writer) }

// send is the next append: one to six events of the writer's own stream, of one that all
// append to blindly, and of many small ones, under the version of the first. One of four
// goes together with a row of a table of the writers' own.
func (s *script) send() sending {
	a := sending{expect: eventstore.At(s.own, s.version), told: s.rand.IntN(4) == 0}
	streams := []string{s.own, "blind", fmt.Sprint("rare-", s.rand.IntN(50)), s.own, "blind", fmt.Sprint("rare-", s.rand.IntN(50))}
	for _, stream := range streams[:1+s.rand.IntN(len(streams))] {
		var id uuid.UUID
		for i := range id {
			id[i] = byte(s.rand.UintN(256))
		}
		a.events = append(a.events, eventOf(id, stream))
		if stream == s.own {
			s.version++
		}
	}
	return a
}

// sending is an append that a process made, and what it was told.
type sending struct {
	events  []eventstore.Event
	expect  eventstore.Expect     // or a zero one
	told    bool                  // goes together with a row of the table told: the append's position
	records []eventstore.Recorded // nil where it was told nothing, or nothing more than that all is well
}

// to makes the append, in any process; inserted is called where the row is inserted and nothing committed.
func (a sending) to(ctx context.Context, store *sqlite.Store, inserted func()) ([]eventstore.Recorded, error) {
	var expect []eventstore.Expect
	if a.expect.Stream != "" {
		expect = append(expect, a.expect)
	}
	if !a.told {
		return store.Append(ctx, a.events, expect...)
	}
	return store.AppendWith(ctx, a.events, func(c *driver.Conn, records []eventstore.Recorded) error {
		err := sqlitex.Execute(c, "CREATE TABLE IF NOT EXISTS told (position INTEGER NOT NULL) STRICT", nil)
		if err == nil {
			err = sqlitex.Execute(c, "INSERT INTO told VALUES (?)", &sqlitex.ExecOptions{Args: []any{int64(records[0].Append)}})
		}
		inserted()
		return err
	}, expect...)
}

// tooEarly is what the control says in place of what it does not know yet.
const tooEarly = "ack 0 0"

// acknowledge says what a writer was told of an append: for each event the version, the
// position, the append and the time.
func acknowledge(writer int, records []eventstore.Recorded) {
	line := fmt.Sprintf("ack %d %d", writer, len(records))
	for _, r := range records {
		line += fmt.Sprintf(" %d %d %d %d", r.Version, r.Position, r.Append, r.RecordedAt.UnixMicro())
	}
	say("%s", line)
}

// appendUntilKilled appends by several writers at once, and says each append that was
// acknowledged unless that is said elsewhere.
func appendUntilKilled(says bool, reach func(point string), options ...sqlite.Option) error {
	seed, err := number(seedVariable)
	if err != nil {
		return err
	}
	writers, err := number(writersVariable)
	if err != nil {
		return err
	}
	say("opening")
	store, err := sqlite.Open(os.Getenv(pathVariable), options...)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range int(writers) {
		version, err := store.Version(ctx, ownStream(w))
		if err != nil {
			return err
		}
		go func() {
			for s := newScript(seed, w, version); ; {
				records, err := s.send().to(ctx, store, func() { reach("inserted") })
				if err != nil {
					failed <- err
					return
				}
				if says {
					acknowledge(w, records)
				}
			}
		}()
	}
	return <-failed
}

// dyingCommand is the test binary in a role of dying.
func dyingCommand(role, path string, more ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), dyingVariable+"="+role, pathVariable+"="+path), more...)
	cmd.Stderr = os.Stderr
	return cmd
}

// lifetime is how long a process may go on that nobody kills and that does not kill itself.
const lifetime = time.Minute

// overhear starts cmd and returns each line it says, heard being told of it, until it
// has ended. It fails where the process was neither killed nor ended well.
func overhear(cmd *exec.Cmd, heard func(line string)) (lines []string, err error) {
	in, err := cmd.StdinPipe() // stays open as long as the parent lives
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var late atomic.Bool
	defer time.AfterFunc(lifetime, func() { late.Store(true); cmd.Process.Kill() }).Stop()
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
		heard(scanner.Text())
	}
	heardAll := scanner.Err()
	ended := cmd.Wait()
	in.Close() // closed by Wait already
	if late.Load() {
		return lines, fmt.Errorf("a process went on for %v: %q", lifetime, lines)
	}
	if ended != nil && !killed(cmd) {
		return lines, fmt.Errorf("a process ended with %w: %q", ended, lines)
	}
	return lines, heardAll
}

func killed(cmd *exec.Cmd) bool {
	return strings.HasPrefix(cmd.ProcessState.String(), "signal: killed")
}

// heardOf is the append that a line acknowledges: the next one of its writer.
func heardOf(line string, scripts []*script) (a sending, err error) {
	said, ok := strings.CutPrefix(line, "ack ")
	if !ok {
		return a, errors.New(line)
	}
	var numbers []int64
	for field := range strings.FieldsSeq(said) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return a, fmt.Errorf("%q: %w", line, err)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) < 2 || numbers[0] >= int64(len(scripts)) || int64(len(numbers)) != 2+4*numbers[1] {
		return a, fmt.Errorf("%q has %d numbers", line, len(numbers))
	}
	a = scripts[numbers[0]].send()
	if line == tooEarly {
		return a, nil
	}
	if int(numbers[1]) != len(a.events) {
		return a, fmt.Errorf("%q: %d events were appended", line, len(a.events))
	}
	for i, e := range a.events {
		n := numbers[2+4*i:]
		a.records = append(a.records, eventstore.Recorded{
			Event: e, Version: uint64(n[0]), Position: eventstore.Position(n[1]), Append: eventstore.Position(n[2]),
			RecordedAt: time.UnixMicro(n[3]).UTC(),
		})
	}
	return a, nil
}
