//go:build linux

package sqlite_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/race"
)

// faultsVariable, set to "all", has every call of a period fail, not some.
const faultsVariable = "ROLLFORWARD_DISK_FAULTS"

// F05, F06: each call by which SQLite writes, syncs, cuts, removes or reads fails, at
// every place in turn, while a process appends; what that process was told must be
// true, and it must have come through without another process.
//
// strace fails the calls N, N+period, N+2*period of a thread; a period is longer
// than what one append calls, so that one sent again gets through.
func TestAnAppendTellsTheTruthWhateverCallToTheDiskFailsAtFullSize(t *testing.T) {
	for _, c := range []struct {
		name, calls, fault string
		period             int
		some               int    // places that are tried where nobody asks for all
		outcome            string // that must be seen
	}{
		{"a sync fails", "fsync,fdatasync", "error=EIO", 4, 4, "unknown"},
		{"a sync finds the disk full", "fsync,fdatasync", "error=ENOSPC", 5, 1, "unknown"},
		{"a write fails", "pwrite64", "error=EIO", 251, 3, "unknown"},
		{"a write finds the disk full", "pwrite64", "error=ENOSPC", 251, 3, "not-applied"},
		{"a write writes nothing", "pwrite64", "retval=0", 251, 3, "not-applied"},
		{"a truncation fails", "ftruncate", "error=EIO", 3, 1, ""},
		{"a read fails", "pread64", "error=EIO", 151, 2, ""},
		{"a removal fails", "?unlink,unlinkat", "error=EIO", 3, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if race.Enabled && c.outcome == "" {
				t.Skip("in full without the race detector")
			}
			f := &faultRun{outcomes: map[string]int{}}
			seen := func() bool { return f.injected > 0 && (c.outcome == "" || f.outcomes[c.outcome] > 0) }
			for i, n := range rand.Perm(c.period) {
				if i >= enough(c.period, c.some) && seen() {
					break
				}
				e := errand{seed: rand.Uint64(), rounds: 2, writers: 1, appends: 15, pages: 40, clean: true}
				f.run(t, e, c.calls, fmt.Sprintf("%s:when=%d+%d", c.fault, n+1, c.period))
			}
			f.report(t)
			require.True(t, seen())
		})
	}
}

// F05, F06 with F16: appends of several writers share a commit, and one call fails for
// all of them or for one. Each is told what became of his own.
func TestAppendsThatShareACommitAreToldTheTruthWhateverCallFails(t *testing.T) {
	for _, c := range []struct {
		name, calls, fault string
		period, some       int
		outcome            string
	}{
		{"a sync fails", "fsync,fdatasync", "error=EIO", 7, 2, "unknown"},
		{"a write fails", "pwrite64", "error=EIO", 151, 2, "unknown"},
		{"a write finds the disk full", "pwrite64", "error=ENOSPC", 151, 2, "not-applied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &faultRun{outcomes: map[string]int{}}
			for i, n := range rand.Perm(c.period) {
				if i >= enough(c.period, c.some) && f.outcomes[c.outcome] > 0 {
					break
				}
				e := errand{seed: rand.Uint64(), rounds: 1, writers: 6, appends: 12, pages: 60, clean: true}
				f.run(t, e, c.calls, fmt.Sprintf("%s:when=%d+%d", c.fault, n+1, c.period))
			}
			f.report(t)
			require.NotZero(t, f.outcomes[c.outcome])
		})
	}
}

// F05, F06 while the file is made: whoever tries again has a store.
func TestAFaultWhileTheFileIsMadeIsGoneWithTheNextAttempt(t *testing.T) {
	f := &faultRun{outcomes: map[string]int{}, create: true}
	for _, c := range []struct {
		calls, fault string
		last         int // the call behind which nothing happens any more
		some         int
	}{
		{"fsync,fdatasync", "error=EIO", 8, 2}, {"pwrite64", "error=EIO", 70, 2}, {"pwrite64", "error=ENOSPC", 70, 1}, {"?unlink,unlinkat", "error=EIO", 3, 1},
	} {
		for _, n := range rand.Perm(c.last)[:enough(c.last, c.some)] {
			e := errand{seed: rand.Uint64(), rounds: 1, writers: 1, appends: 2, pages: 1000, clean: true}
			f.run(t, e, c.calls, fmt.Sprintf("%s:when=%d", c.fault, n+1))
		}
	}
	f.report(t)
	require.NotZero(t, f.injected)
}

// enough is how many of all places are tried.
func enough(all, some int) int {
	switch {
	case os.Getenv(faultsVariable) == "all":
		return all
	case race.Enabled:
		return 1
	}
	return some
}

// faultRun is what runs with faults came to.
type faultRun struct {
	create                         bool // the traced process makes the file
	runs, injected, attempts, acks int
	faults                         int // reported, besides the appends that failed
	outcomes                       map[string]int
}

func (f *faultRun) run(t *testing.T, e errand, calls, fault string) {
	t.Helper()
	dir := quickDir(t)
	path := filepath.Join(dir, "log.db")
	if !f.create {
		store, err := sqlite.Open(path)
		require.NoError(t, err)
		require.NoError(t, store.Close())
	}
	said, injected := straceFaults(t, e, path, calls, fault)
	f.injected += injected
	f.check(t, e, path, said, calls+":"+fault)
	require.NoError(t, os.RemoveAll(dir))
}

// check holds the log to what the process was told, when its last word is in.
func (f *faultRun) check(t *testing.T, e errand, path string, said []call, what string) {
	t.Helper()
	h, err := listen(said, nil)
	require.NoError(t, err)
	f.runs++
	f.attempts += len(h.attempts)
	f.acks += h.acks
	for outcome, n := range h.outcomes {
		f.outcomes[outcome] += n
		f.faults -= n
	}
	f.faults += len(h.faults)
	where := fmt.Sprintf("%s, errand %s", what, e)
	require.Empty(t, h.failures, where)
	require.Len(t, h.attempts, e.rounds*e.writers*e.appends, where)
	for _, a := range h.attempts {
		require.True(t, a.acked != never || a.refused != never, "%s: an append has no outcome, however often it was sent", where)
	}
	store, err := sqlite.Open(path)
	require.NoError(t, err, where)
	log, err := whole(store)
	require.NoError(t, err, where)
	lost, wrong := h.hold(log, never-1)
	require.Empty(t, lost, where)
	require.Empty(t, wrong, where)
	require.NoError(t, store.Close(), where)
	require.NoError(t, integrity(path), where)
}

func (f *faultRun) report(t *testing.T) {
	t.Helper()
	t.Logf("%d processes, %d faults: of %d appends %d were acknowledged, after outcomes %v; %d other errors", f.runs, f.injected, f.attempts, f.acks, f.outcomes, f.faults)
}

// F06, a short write by the system itself: files may not grow beyond a limit that lies
// within what an append writes.
func TestAWriteThatIsCutShortIsNoHarm(t *testing.T) {
	f := &faultRun{outcomes: map[string]int{}}
	runs := 3
	switch {
	case os.Getenv(faultsVariable) == "all":
		runs = 100
	case race.Enabled:
		runs = 1
	}
	for range runs {
		dir := quickDir(t)
		path := filepath.Join(dir, "log.db")
		e := errand{seed: rand.Uint64(), rounds: 2, writers: 1, appends: 40, pages: 60, clean: true, limited: true}
		f.check(t, e, path, e.start(t, path), "files may not grow")
		require.NoError(t, os.RemoveAll(dir))
	}
	f.report(t)
	require.NotZero(t, f.outcomes["unknown"]+f.outcomes["not-applied"], "no write was cut short")
}

// The control of F05 and F06: it is seen when a process was told what is not true.
func TestTheFaultHarnessSeesWhatWasToldWrongly(t *testing.T) {
	path, log := filled(t, 6)
	for name, harm := range map[string]func(*attempt){
		"acknowledged, and not there":    func(a *attempt) { a.events = []eventstore.Event{event("other")}; a.records = nil },
		"not applied, and there":         func(a *attempt) { a.acked, a.records, a.refused = never, nil, 1 },
		"acknowledged as something else": func(a *attempt) { a.records[0].Version++ },
		"part of it is there":            func(a *attempt) { a.events = append(a.events, event("other")); a.records = nil },
		"other bytes":                    func(a *attempt) { a.events[0].Data = []byte("1"); a.records = nil },
	} {
		h := &heard{}
		for _, r := range log {
			alone := r
			alone.Append = r.Position
			h.attempts = append(h.attempts, &attempt{events: []eventstore.Event{r.Event}, acked: 1, refused: never, records: []eventstore.Recorded{alone}})
		}
		each := slices.Clone(log)
		for i := range each {
			each[i].Append = each[i].Position
		}
		h.byID = h.ids()
		lost, wrong := h.hold(each, 2)
		require.Empty(t, append(lost, wrong...))
		harm(h.attempts[3])
		maps.Copy(h.byID, h.ids())
		lost, wrong = h.hold(each, 2)
		require.NotEmpty(t, append(lost, wrong...), name)
	}
	require.FileExists(t, path)
}
