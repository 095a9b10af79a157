//go:build linux

package sqlite_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// The test binary runs itself again under strace, with an errand in this variable and
// the path of the file in the one of the other roles.
const errandVariable = "ROLLFORWARD_SQLITE_ERRAND"

func init() {
	if text := os.Getenv(errandVariable); text != "" {
		e, err := parseErrand(text)
		if err == nil {
			err = e.run(os.Getenv(pathVariable))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// errand is what a traced process does; all of it follows from these numbers, but for
// the order in which its writers take their turns.
type errand struct {
	seed    uint64
	normal  bool // WithSynchronousNormal
	rounds  int  // how often the store is opened
	writers int  // at once
	appends int  // of each writer in a round
	pages   int  // after which the log beside the file is merged into it
	clean   bool // the last round ends with Close
	limited bool // each append finds that files may not grow beyond somewhere near; see limit
}

func (e errand) String() string {
	return fmt.Sprintf("%d %t %d %d %d %d %t %t", e.seed, e.normal, e.rounds, e.writers, e.appends, e.pages, e.clean, e.limited)
}

func parseErrand(text string) (e errand, err error) {
	_, err = fmt.Sscan(text, &e.seed, &e.normal, &e.rounds, &e.writers, &e.appends, &e.pages, &e.clean, &e.limited)
	return e, err
}

// run does the errand. It says, each in one write, so that a trace has what was said
// in order with what was done to the files:
//
//	try K STREAM:VERSION ID:STREAM ...     before an append, with what it expects
//	ack K VERSION:POSITION:APPEND:MICROS ...  what it was told of each event
//	err K OUTCOME TEXT                     or that
//	open TEXT                              of a store that could not be opened
func (e errand) run(path string) error {
	// strace counts the calls in which it injects a fault for each thread. What
	// the program does in one goroutine it now does in one thread.
	runtime.LockOSThread()
	signal.Ignore(syscall.SIGXFSZ)
	options := []sqlite.Option{sqlite.WithPragmas(fmt.Sprintf("PRAGMA wal_autocheckpoint = %d", e.pages))}
	if e.normal {
		options = append(options, sqlite.WithSynchronousNormal())
	}
	for round := range e.rounds {
		store, err := e.open(path, options)
		if err != nil {
			return err
		}
		if e.writers == 1 {
			e.write(store, path, round, 0)
		} else {
			var running sync.WaitGroup
			for w := range e.writers {
				running.Go(func() { e.write(store, path, round, w) })
			}
			running.Wait()
		}
		if round == e.rounds-1 && !e.clean {
			return nil
		}
		if err := store.Close(); err != nil {
			utter("close %v", err)
		}
	}
	return nil
}

// open opens the store, again where a fault was in the way.
func (e errand) open(path string, options []sqlite.Option) (store *sqlite.Store, err error) {
	for range 20 {
		if store, err = sqlite.Open(path, options...); err == nil {
			return store, nil
		}
		utter("open %v", err)
	}
	return nil, err
}

func utter(format string, args ...any) {
	if _, err := fmt.Fprintf(os.Stdout, format+"\n", args...); err != nil {
		panic(err) // nobody listens: what follows would prove nothing
	}
}

// write appends as one of the writers of a round: to a stream of its own, under the
// version where it stands, and blindly to others. What is not known to be recorded
// is sent again; so is every other append that was not applied.
func (e errand) write(store *sqlite.Store, path string, round, w int) {
	r := rand.New(rand.NewPCG(e.seed, uint64(round)<<8|uint64(w)))
	own := fmt.Sprintf("own-%x-%d-%d", e.seed, round, w)
	version := uint64(0)
	for i := range e.appends {
		streams := []string{own, "blind", fmt.Sprint("rare-", r.IntN(20)), own, "blind", fmt.Sprint("rare-", r.IntN(20))}
		streams = streams[:1+r.IntN(len(streams))]
		events := make([]eventstore.Event, len(streams))
		line := fmt.Sprintf("%d-%d-%d", round, w, i)
		key := line
		line += fmt.Sprintf(" %s:%d", own, version)
		for j, stream := range streams {
			var id uuid.UUID
			for k := range id {
				id[k] = byte(r.UintN(256))
			}
			events[j] = sizedEvent(id, stream)
			line += fmt.Sprintf(" %v:%s", id, stream)
		}
		utter("try %s", line)
		if e.append(store, path, key, events, eventstore.At(own, version), i%2 == 0, r) {
			for _, s := range streams {
				if s == own {
					version++
				}
			}
		}
		if r.IntN(12) == 0 {
			mode := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[r.IntN(4)]
			if err := store.Script("PRAGMA wal_checkpoint(" + mode + ")"); err != nil {
				utter("checkpoint %v", err)
			}
		}
	}
}

// append sends events until it is known whether they are recorded, which it returns.
func (e errand) append(store *sqlite.Store, path, key string, events []eventstore.Event, expect eventstore.Expect, insist bool, r *rand.Rand) bool {
	unknown := false
	for range 30 {
		restore, err := e.limit(path, r)
		if err != nil {
			utter("limit %v", err)
			return false
		}
		records, err := store.Append(ctx, events, expect)
		restore()
		if err == nil {
			line := ""
			for _, r := range records {
				line += fmt.Sprintf(" %d:%d:%d:%d", r.Version, r.Position, r.Append, r.RecordedAt.UnixMicro())
			}
			utter("ack %s%s", key, line)
			return true
		}
		outcome := outcomeOf(err)
		utter("err %s %s %s", key, outcome, strings.ReplaceAll(err.Error(), "\n", " "))
		unknown = unknown || outcome == "unknown"
		if outcome == "conflict" || outcome == "not-applied" && !insist && !unknown {
			return false
		}
	}
	utter("err %s gave-up", key)
	return false
}

// limit lets files grow by a few kilobytes only, the log beside the file to anywhere
// in its next pages, so that a write is cut short, as on a disk that is all but
// full, and the next one fails.
func (e errand) limit(path string, r *rand.Rand) (restore func(), err error) {
	if !e.limited || r.IntN(2) == 0 {
		return func() {}, nil
	}
	var usual syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &usual); err != nil {
		return nil, err
	}
	size := int64(0)
	switch info, err := os.Stat(path + "-wal"); {
	case err == nil:
		size = info.Size()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	near := syscall.Rlimit{Cur: uint64(size) + r.Uint64N(10*4096), Max: usual.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &near); err != nil {
		return nil, err
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &usual); err != nil {
			panic(err)
		}
	}, nil
}

// outcomeOf names which one of the outcomes of an append that failed err is.
func outcomeOf(err error) string {
	names := []string{}
	for name, kind := range map[string]error{
		"not-applied": eventstore.ErrNotApplied, "unknown": eventstore.ErrOutcomeUnknown, "conflict": eventstore.ErrConflict,
	} {
		if errors.Is(err, kind) {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		return "none-or-many"
	}
	return names[0]
}

// sizedEvent makes an event whose every byte follows from its ID and stream. One in
// ten has more than fits on a page of the file.
func sizedEvent(id uuid.UUID, stream string) eventstore.Event {
	e := eventOf(id, stream)
	if id[5] < 25 {
		e.Data = []byte(`"` + strings.Repeat(strconv.Itoa(int(id[6])), 3000) + `"`)
	}
	return e
}
