package sqlite_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// killsVariable sets how many processes are killed; 160 if not set.
const killsVariable = "ROLLFORWARD_KILLS"

// kills is what killing processes that append to one file came to, and what is known
// of the log: what check has seen in it and found right.
type kills struct {
	seed     uint64
	rounds   int
	log      []eventstore.Recorded
	told     []int64 // what the table told is to hold
	versions map[string]uint64

	crashes  int // processes killed
	early    int // of these, before they had acknowledged anything
	acks     int // appends acknowledged
	kept     int // appends of which nobody heard, found as a whole
	lost     int // likewise, not found
	problems []string
}

func newKills(seed uint64) *kills { return &kills{seed: seed, versions: map[string]uint64{}} }

func (k *kills) problem(format string, args ...any) {
	k.problems = append(k.problems, fmt.Sprintf("round %d: ", k.rounds)+fmt.Sprintf(format, args...))
}

// add takes over the figures of others.
func (k *kills) add(other *kills) {
	k.crashes, k.early, k.acks, k.kept, k.lost = k.crashes+other.crashes, k.early+other.early, k.acks+other.acks, k.kept+other.kept, k.lost+other.lost
	k.log, k.told = append(k.log, other.log...), append(k.told, other.told...)
	k.problems = append(k.problems, other.problems...)
}

func (k *kills) String() string {
	return fmt.Sprintf("%d processes killed, %d of them before the first acknowledgement; %d appends acknowledged; %d in flight were recorded, %d were not; %d events, %d rows of a table; %d problems; seed %d",
		k.crashes, k.early, k.acks, k.kept, k.lost, len(k.log), len(k.told), len(k.problems), k.seed)
}

// kill starts a process with so many writers and kills it up to 8 ms behind its first
// acknowledgement, or, one of eight, up to 8 ms after it began to open the file. It
// returns what was in flight.
func (k *kills) kill(role, path string, writers int) (acknowledged, unheard []sending) {
	k.rounds++
	random := rand.New(rand.NewPCG(k.seed, uint64(k.rounds)))
	seed := random.Uint64() >> 1
	wanted := "ack"
	if random.IntN(8) == 0 {
		wanted = "opening"
	}
	delay := time.Duration(random.Int64N(int64(8 * time.Millisecond)))
	cmd := dyingCommand(role, path, fmt.Sprint(seedVariable, "=", seed), fmt.Sprint(writersVariable, "=", writers))
	var timer *time.Timer
	lines, err := overhear(cmd, func(line string) {
		if timer == nil && strings.HasPrefix(line, wanted) {
			timer = time.AfterFunc(delay, func() { cmd.Process.Kill() }) // has ended by itself: overhear says so
		}
	})
	switch {
	case err != nil:
		k.problem("%v", err)
	case !killed(cmd):
		k.problem("the process ended by itself: %q", lines)
	default:
		k.crashes++
	}
	acknowledged, unheard = k.heard(lines, seed, writers)
	if len(acknowledged) == 0 {
		k.early++
	}
	return acknowledged, unheard
}

// heard is what a process said that was killed: the appends that were acknowledged, and for
// each writer the one that was next, of which nobody knows whether it began it.
func (k *kills) heard(lines []string, seed uint64, writers int) (acknowledged, unheard []sending) {
	scripts := make([]*script, writers)
	for w := range scripts {
		scripts[w] = newScript(seed, w, k.versions[ownStream(w)])
	}
	for _, line := range lines {
		if line == "opening" {
			continue
		}
		a, err := heardOf(line, scripts)
		if err != nil {
			k.problem("%v", err)
			continue
		}
		acknowledged = append(acknowledged, a)
	}
	k.acks += len(acknowledged)
	for _, s := range scripts {
		unheard = append(unheard, s.send())
	}
	return acknowledged, unheard
}

// check reads what a crash left in the log and holds it to I1 to I4. What was in flight
// it sends again, and holds the log to what came of that.
func (k *kills) check(store *sqlite.Store, acknowledged, unheard []sending) (recorded []bool) {
	tail, err := k.tail(store)
	if err != nil {
		k.problem("read: %v", err)
		return nil
	}
	k.order(tail)
	found := map[uuid.UUID]eventstore.Recorded{}
	for _, r := range tail {
		if _, twice := found[r.ID]; twice {
			k.problem("event %v is there twice", r.ID)
		}
		found[r.ID] = r
	}
	explained := 0
	tell := func(a sending, records []eventstore.Recorded) {
		if a.told && len(records) > 0 {
			k.told = append(k.told, int64(records[0].Append))
		}
	}
	for _, a := range acknowledged {
		records := recordsOf(a, found)
		tell(a, records)
		explained += len(records)
		switch {
		case len(records) < len(a.events):
			k.problem("of an acknowledged append of %d events %d are there", len(a.events), len(records))
		case a.records != nil && !slices.EqualFunc(records, a.records, same):
			k.problem("%+v is there as %+v", a.records, records)
		}
	}
	for _, a := range unheard {
		records := recordsOf(a, found)
		explained += len(records)
		switch len(records) {
		case 0:
			k.lost++
		case len(a.events):
			k.kept++
		default:
			k.problem("of an append of %d events in flight %d are there", len(a.events), len(records))
		}
		recorded = append(recorded, len(records) > 0)
	}
	if explained != len(tail) {
		k.problem("%d events are there and %d were appended", len(tail), explained)
	}
	k.log = append(k.log, tail...)

	for _, a := range unheard {
		was := recordsOf(a, found)
		tell(a, was)
		records, err := a.to(ctx, store, func() {})
		switch {
		case err != nil:
			k.problem("resend: %v", err)
		case len(was) > 0 && !slices.EqualFunc(records, was, same):
			k.problem("a resend gave %+v for %+v", records, was)
		case len(was) == 0:
			k.order(records)
			tell(a, records)
			k.log = append(k.log, records...)
			again, err := a.to(ctx, store, func() {})
			if err != nil || !slices.EqualFunc(again, records, same) {
				k.problem("a resend gave %+v and %v for %+v", again, err, records)
			}
		}
	}
	if tail, err := k.tail(store); err != nil || len(tail) > 0 {
		k.problem("behind what was sent again come %d events, %v", len(tail), err)
	}
	return recorded
}

// tail reads what comes behind the log as it is known.
func (k *kills) tail(store eventstore.Store) (tail []eventstore.Recorded, err error) {
	q := eventstore.Query{}
	if len(k.log) > 0 {
		q.After = k.log[len(k.log)-1].Position
	}
	for r, err := range store.Read(ctx, q) {
		if err != nil {
			return tail, err
		}
		tail = append(tail, r)
	}
	return tail, nil
}

// order holds records that continue the log to rising positions and contiguous versions, I3.
func (k *kills) order(records []eventstore.Recorded) {
	last := eventstore.Position(0)
	if len(k.log) > 0 {
		last = k.log[len(k.log)-1].Position
	}
	for _, r := range records {
		if r.Position <= last {
			k.problem("position %d behind %d", r.Position, last)
		}
		last = r.Position
		if k.versions[r.Stream]++; r.Version != k.versions[r.Stream] {
			k.problem("stream %q has version %d in place %d", r.Stream, r.Version, k.versions[r.Stream])
		}
	}
}

// recordsOf returns the records of an append, which were made by one append and with the
// same bytes; others are none of its.
func recordsOf(a sending, found map[uuid.UUID]eventstore.Recorded) (records []eventstore.Recorded) {
	for _, e := range a.events {
		if r, ok := found[e.ID]; ok && r.Equal(e) && (len(records) == 0 || r.Append == records[0].Append) {
			records = append(records, r)
		}
	}
	return records
}

func same(a, b eventstore.Recorded) bool {
	return a.Equal(b.Event) && a.Version == b.Version && a.Position == b.Position && a.Append == b.Append && a.RecordedAt.Equal(b.RecordedAt)
}

// whole holds the log from its beginning, and the table told, to what is known of them, in
// a file that is checked page by page.
func (k *kills) whole(path string) (err error) {
	store, err := sqlite.Open(path, sqlite.CheckOnOpen())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	n := 0
	for r, err := range store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return err
		}
		if n >= len(k.log) || !same(r, k.log[n]) {
			return fmt.Errorf("the event at position %d is not what it was", r.Position)
		}
		n++
	}
	if n != len(k.log) {
		return fmt.Errorf("the log has %d events, %d were seen in it", n, len(k.log))
	}
	conn, err := driver.OpenConn(path, driver.OpenReadOnly)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var told []int64
	if err := sqlitex.Execute(conn, "SELECT position FROM told ORDER BY position", &sqlitex.ExecOptions{
		ResultFunc: func(stmt *driver.Stmt) error { told = append(told, stmt.ColumnInt64(0)); return nil },
	}); err != nil {
		return err
	}
	slices.Sort(k.told)
	if !slices.Equal(told, k.told) {
		return fmt.Errorf("the table told has %d rows, %d appends went with one, or other ones", len(told), len(k.told))
	}
	return nil
}

// perFile is how many processes die over one file, which grows meanwhile.
const perFile = 250

// over kills n processes over a file. Where somebody stays, a store in this process is open
// all the time, so that what the dead leave is never recovered by the first who opens the
// file; otherwise each crash is.
func (k *kills) over(path string, n int, stays bool) (err error) {
	var store *sqlite.Store
	end := func() (err error) {
		if store != nil {
			err, store = store.Close(), nil
		}
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	for range n {
		if store == nil && stays {
			if store, err = sqlite.Open(path); err != nil {
				return err
			}
		}
		acknowledged, unheard := k.kill("append", path, []int{1, 4}[k.rounds%2])
		if store == nil {
			if store, err = sqlite.Open(path); err != nil {
				return err
			}
		}
		k.check(store, acknowledged, unheard)
		if !stays || k.rounds%50 == 0 {
			if err := end(); err != nil {
				return err
			}
		}
	}
	if err := end(); err != nil {
		return err
	}
	return k.whole(path)
}

// killings does so n times, over as many files of dir as it takes.
func killings(dir string, seed uint64, n int, stays bool) *kills {
	total := newKills(seed)
	for file := 0; n > 0; file++ {
		k := newKills(seed + uint64(file))
		if err := k.over(filepath.Join(dir, fmt.Sprint(file, ".db")), min(n, perFile), stays); err != nil {
			k.problem("%v", err)
		}
		n -= perFile
		total.add(k)
	}
	return total
}

// F01: kill -9 during appends loses nothing that was acknowledged, and leaves of what was
// in flight all or nothing, which a resend makes one.
func TestProcessesThatAreKilledLoseNothingAcknowledgedAtFullSize(t *testing.T) {
	t.Parallel()
	n := sizeOf(t, killsVariable, 160, 12)
	seed := rand.Uint64() >> 1
	results := make([]*kills, 2)
	var running sync.WaitGroup
	for i := range results {
		dir := quickDir(t)
		running.Go(func() { results[i] = killings(dir, seed+uint64(i)<<32, n/2, i == 1) })
	}
	running.Wait()
	total := newKills(seed)
	for i, k := range results {
		t.Logf("somebody stays %v: %v", i == 1, k)
		total.add(k)
	}
	t.Logf("in all: %v", total)
	require.Empty(t, total.problems, "seed %d", seed)
	require.Equal(t, n/2*2, total.crashes)
	require.NotZero(t, total.acks)
	require.NotZero(t, total.lost, "nobody was killed before a commit: the harness proves nothing")
}
