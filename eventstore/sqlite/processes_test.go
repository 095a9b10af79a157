package sqlite_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// The test binary runs itself again as other processes, in the role that this
// variable names. What they need follows it in the environment.
const (
	roleVariable     = "ROLLFORWARD_SQLITE_ROLE" // "open", "write" or "write deferred"
	pathVariable     = "ROLLFORWARD_SQLITE_PATH"
	seedVariable     = "ROLLFORWARD_SQLITE_SEED"
	durationVariable = "ROLLFORWARD_SQLITE_DURATION"

	// secondsVariable sets for how many seconds the harness runs; 10 if not set.
	secondsVariable = "ROLLFORWARD_PROCESSES_SECONDS"
)

const (
	processes = 2
	writers   = 4 // in each process
)

// childCommand is the test binary in a role; its output is in out.
func childCommand(t testing.TB, role, path string, more ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	t.Helper()
	cmd, out = exec.Command(os.Args[0]), new(bytes.Buffer)
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role, pathVariable+"="+path), more...)
	cmd.Stdout, cmd.Stderr = out, new(bytes.Buffer)
	return cmd, out
}

// child is the whole of another process. It returns the exit code.
func child(role string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var options []sqlite.Option
	if role == "write deferred" {
		options = append(options, sqlite.WithDeferred())
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // until the parent lets all go at once
		return fail(err)
	}
	store, err := sqlite.Open(os.Getenv(pathVariable), options...)
	if err != nil {
		return fail(err)
	}
	if role == "open" {
		_, err = store.Append(ctx, []eventstore.Event{event("opened")})
	} else {
		err = write(store)
	}
	if err := errors.Join(err, store.Close()); err != nil {
		return fail(err)
	}
	return 0
}

// write runs the writers of a process and prints what they are told: a line for
// each event acknowledged, each conflict and each failure.
func write(store *sqlite.Store) error {
	seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	if err != nil {
		return err
	}
	duration, err := time.ParseDuration(os.Getenv(durationVariable))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	end := time.Now().Add(duration)
	var running sync.WaitGroup
	for i := range writers {
		w := &writer{
			store: store, own: fmt.Sprintf("own-%d-%d", seed, i), rand: rand.New(rand.NewPCG(seed, uint64(i))),
			say: func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(out, format+"\n", args...)
			},
		}
		running.Go(func() {
			for time.Now().Before(end) {
				w.turn()
			}
		})
	}
	running.Wait()
	return out.Flush()
}

type writer struct {
	store   *sqlite.Store
	own     string
	version uint64 // of own, which nobody else writes
	rand    *rand.Rand
	say     func(format string, args ...any)
	last    []eventstore.Recorded
}

// turn does one thing that a writer does.
func (w *writer) turn() {
	switch n := w.rand.IntN(100); {
	case n < 40: // a stream that everybody wants, at the version just read
		version, err := w.store.Version(ctx, "shared")
		if err != nil {
			w.say("failure version: %v", err)
			return
		}
		w.append([]eventstore.Event{w.event("shared")}, eventstore.At("shared", version))
	case n < 70:
		w.append([]eventstore.Event{w.event(w.own)}, eventstore.At(w.own, w.version))
	case n < 85: // several streams, most of them blind
		events := []eventstore.Event{w.event(w.own), w.event("blind"), w.event(fmt.Sprint("rare-", w.rand.IntN(50))), w.event("blind")}
		w.append(events[:1+w.rand.IntN(len(events))], eventstore.At(w.own, w.version))
	case w.last != nil: // again, under expectations that no longer hold
		events := make([]eventstore.Event, len(w.last))
		for i, r := range w.last {
			events[i] = r.Event
		}
		records, err := w.store.Append(ctx, events, eventstore.At(w.own, 1_000_000))
		switch {
		case err != nil:
			w.say("failure resend: %v", err)
		case !slices.EqualFunc(records, w.last, func(a, b eventstore.Recorded) bool {
			return a.Equal(b.Event) && a.Version == b.Version && a.Position == b.Position && a.Append == b.Append && a.RecordedAt.Equal(b.RecordedAt)
		}):
			w.say("failure resend: other records than those of the first time")
		default:
			w.say("resent")
		}
	}
}

func (w *writer) append(events []eventstore.Event, expect ...eventstore.Expect) {
	records, err := w.store.Append(ctx, events, expect...)
	switch {
	case errors.Is(err, eventstore.ErrConflict) && expect[0].Stream == "shared":
		w.say("conflict")
	case err != nil:
		w.say("failure append: %v", err)
	default:
		var lines []string
		for _, r := range records {
			lines = append(lines, fmt.Sprintf("event %v %d %d %d %s", r.ID, r.Version, r.Position, r.Append, r.Stream))
			if r.Stream == w.own {
				w.version = r.Version
			}
		}
		w.say("%s", strings.Join(lines, "\n"))
		w.last = records
	}
}

// event makes an event whose every byte follows from its ID.
func (w *writer) event(stream string) eventstore.Event {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(w.rand.UintN(256))
	}
	return eventOf(id, stream)
}

func eventOf(id uuid.UUID, stream string) eventstore.Event {
	return eventstore.Event{
		ID: id, Stream: stream, Type: fmt.Sprint("type.", id[0]%5), Schema: 1 + int(id[1]), Tags: []string{fmt.Sprint("tag:", id[2]%20)},
		Data: fmt.Appendf(nil, `{"id": %q, "fill": "%0*d"}`, id, 1+int(id[3]), 0),
		Meta: fmt.Appendf(nil, `{"actor":"writer-%d"}`, id[4]),
	}
}

// figures is what a run of the harness came to.
type figures struct {
	seed                                          uint64
	events, appends, conflicts, resends, failures int
	problems                                      []string // the first 20 of the failures
}

func (f *figures) problem(format string, args ...any) {
	if f.failures++; f.failures <= 20 {
		f.problems = append(f.problems, fmt.Sprintf(format, args...))
	}
}

// harness lets processes write one file at once and checks what must hold
// afterwards, I1 to I4: every event that was acknowledged is there once, in the
// same bytes; appends are there as a whole; versions are contiguous; and
// nothing is there that was not acknowledged.
func harness(t *testing.T, role string, duration time.Duration) *figures {
	path := newPath(t)
	f := &figures{seed: rand.Uint64() >> 1}
	var children []*exec.Cmd
	var outputs []*bytes.Buffer
	for i := range processes {
		cmd, out := childCommand(t, role, path, fmt.Sprint(seedVariable, "=", f.seed+uint64(i)), fmt.Sprint(durationVariable, "=", duration))
		require.NoError(t, cmd.Start())
		children, outputs = append(children, cmd), append(outputs, out)
	}
	for _, cmd := range children {
		if err := cmd.Wait(); err != nil {
			f.problem("a process ended with %v: %s", err, cmd.Stderr)
		}
	}
	acknowledged := map[uuid.UUID]eventstore.Recorded{}
	for _, out := range outputs {
		for line := range strings.Lines(out.String()) {
			f.hear(strings.TrimSpace(line), acknowledged)
		}
	}
	f.check(all(t, open(t, path), eventstore.Query{}), acknowledged)
	t.Logf("%s for %v: %d processes x %d writers, %d events in %d appends, %d conflicts, %d resends, %d failures, seed %d",
		role, duration, processes, writers, f.events, f.appends, f.conflicts, f.resends, f.failures, f.seed)
	return f
}

// hear takes in a line that a writer said.
func (f *figures) hear(line string, acknowledged map[uuid.UUID]eventstore.Recorded) {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "conflict":
		f.conflicts++
	case "resent":
		f.resends++
	case "event":
		var id, stream string
		var r eventstore.Recorded
		if _, err := fmt.Sscan(rest, &id, &r.Version, &r.Position, &r.Append, &stream); err != nil {
			f.problem("%q: %v", line, err)
			return
		}
		r.Event = eventOf(uuid.MustParse(id), stream)
		if _, twice := acknowledged[r.ID]; twice {
			f.problem("event %v was acknowledged twice", r.ID)
		}
		acknowledged[r.ID] = r
	default:
		f.problem("%s", line)
	}
}

// check compares the log with what was acknowledged.
func (f *figures) check(log []eventstore.Recorded, acknowledged map[uuid.UUID]eventstore.Recorded) {
	versions := map[string]uint64{}
	var last eventstore.Position
	missing := maps.Clone(acknowledged)
	for _, r := range log {
		f.events++
		if r.Append == r.Position {
			f.appends++
		}
		if versions[r.Stream]++; r.Version != versions[r.Stream] {
			f.problem("stream %q has version %d in place %d", r.Stream, r.Version, versions[r.Stream])
		}
		if r.Position <= last {
			f.problem("position %d behind %d", r.Position, last)
		}
		last = r.Position
		a, ok := missing[r.ID]
		switch {
		case !ok:
			f.problem("event %v is in the log and was not acknowledged, or is there twice", r.ID)
		case !r.Equal(a.Event) || r.Version != a.Version || r.Position != a.Position || r.Append != a.Append:
			f.problem("event %v is not as it was acknowledged", r.ID)
		}
		delete(missing, r.ID)
	}
	if len(missing) > 0 {
		f.problem("%d acknowledged events are not in the log", len(missing))
	}
}

func TestProcessesThatWriteOneFileFailOnlyByConflicts(t *testing.T) {
	t.Parallel()
	seconds := sizeOf(t, secondsVariable, 10, 10)
	f := harness(t, "write", time.Duration(seconds)*time.Second)
	require.Empty(t, f.problems, "seed %d", f.seed)
	require.NotZero(t, f.events)
	require.NotZero(t, f.resends)
	require.NotZero(t, f.conflicts, "nobody was in anybody's way: the harness proves nothing")
}

func TestTheHarnessFailsOnTransactionsThatBeginWithoutTheLock(t *testing.T) {
	f := harness(t, "write deferred", time.Second)
	require.NotEmpty(t, f.problems, "seed %d: the harness cannot tell good from bad", f.seed)
	require.Contains(t, strings.Join(f.problems, "\n"), "locked")
}

func TestTheHarnessSeesWhatIsLostDoubledOrChanged(t *testing.T) {
	_, log := filled(t, 6)
	acknowledged := func() map[uuid.UUID]eventstore.Recorded {
		m := map[uuid.UUID]eventstore.Recorded{}
		for _, r := range log {
			m[r.ID] = r
		}
		return m
	}
	for name, harm := range map[string]func() []eventstore.Recorded{
		"lost":    func() []eventstore.Recorded { return log[:5] },
		"doubled": func() []eventstore.Recorded { return append(slices.Clone(log), log[5]) },
		"foreign": func() []eventstore.Recorded {
			return append(slices.Clone(log), eventstore.Recorded{Event: event("x"), Version: 1, Position: 7, Append: 7})
		},
		"changed":  func() []eventstore.Recorded { l := slices.Clone(log); l[2].Data = []byte("1"); return l },
		"swapped":  func() []eventstore.Recorded { l := slices.Clone(log); l[2], l[3] = l[3], l[2]; return l },
		"versions": func() []eventstore.Recorded { l := slices.Clone(log); l[4].Version = 2; return l },
	} {
		f := &figures{}
		f.check(harm(), acknowledged())
		require.NotEmpty(t, f.problems, name)
	}
	f := &figures{}
	f.check(log, acknowledged())
	require.Empty(t, f.problems)
}
