//go:build linux

package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/race"
)

// imagesVariable sets how many images of the disk the harness makes, in place of what
// fits in the time of a test; powerSeedVariable has it draw as it did with that seed, so
// that the images are like those of before, but for the order in which the threads of the
// processes took their turns.
const (
	imagesVariable    = "ROLLFORWARD_POWER_IMAGES"
	powerSeedVariable = "ROLLFORWARD_POWER_SEED"
)

const (
	imagesOfATrace = 100 // that are made of what one process did
	controlImages  = 40  // one in three of which shows what is wrong
	slowImages     = 10  // with the race detector, under which a store takes 30 times as long to open
)

// powerCut is a run of the harness: processes append under strace, and at random places
// in what they did to their files the power goes. What may then be on the disk is
// opened and held to I1 to I4.
type powerCut struct {
	seed   uint64
	images int
	normal bool   // the control: WithSynchronousNormal
	lying  bool   // the control: a disk whose fsync does nothing
	early  bool   // the control: an append counts as acknowledged when it is sent
	faults string // which calls of fsync fail in the processes: N or N+STEP, as strace takes it

	traces, calls, merged, acks, injected, unknown int // merged: writes of the log beside the file into it

	mu                                sync.Mutex
	made, lost, damaged, wrong, again int // images; again: in which the rest was sent again
	events, losses                    int // in them; and acknowledged appends not in them
	examples                          []string
}

func (p *powerCut) run(t *testing.T) {
	t.Helper()
	began := time.Now()
	r := rand.New(rand.NewPCG(p.seed, 0))
	var image map[string][]byte // with which the next process begins
	var known []*attempt
	for left := p.images; left > 0; left -= imagesOfATrace {
		dir := quickDir(t)
		if image != nil && r.IntN(2) == 0 {
			require.NoError(t, writeImage(dir, image))
		} else {
			known = nil
		}
		image, known = p.trace(t, r, dir, known, min(left, imagesOfATrace))
		require.NoError(t, os.RemoveAll(dir))
	}
	t.Logf("%d images with %d events, of %d processes that made %d calls (%d writes to the file itself) and heard %d acknowledgements (%d fsyncs failed, %d outcomes unknown): "+
		"%d images lost %d acknowledged appends, %d images were damaged, %d wrong otherwise; in %d the rest was sent again; %v, seed %d",
		p.made, p.events, p.traces, p.calls, p.merged, p.acks, p.injected, p.unknown, p.lost, p.losses, p.damaged, p.wrong, p.again,
		time.Since(began).Round(time.Millisecond), p.seed)
	for _, example := range p.examples {
		t.Log(example)
	}
}

// trace lets one process work and makes images of what it did. It returns one more of
// them with what is known of it, for another process to go on with.
func (p *powerCut) trace(t *testing.T, r *rand.Rand, dir string, known []*attempt, images int) (image map[string][]byte, then []*attempt) {
	t.Helper()
	e := errand{
		seed: r.Uint64(), normal: p.normal, rounds: 1 + r.IntN(3), writers: 1 + r.IntN(2)*3, appends: 8 + r.IntN(8),
		pages: 10 + r.IntN(60), clean: r.IntN(2) == 0,
	}
	var inject []string
	if p.faults != "" {
		inject = []string{"inject=fsync,fdatasync:error=EIO:when=" + p.faults}
	}
	d, err := newDisk(dir, r)
	require.NoError(t, err)
	d.lying = p.lying
	calls, injected := strace(t, e, filepath.Join(dir, "log.db"), inject...)
	h, err := listen(calls, known)
	require.NoError(t, err)
	if p.faults == "" {
		require.Empty(t, h.faults, "seed %d", p.seed)
	}
	require.Empty(t, h.failures, "seed %d", p.seed)
	if p.early {
		for _, a := range h.attempts {
			a.acked, a.records = a.tried, nil
		}
	}
	p.traces, p.calls, p.acks, p.injected, p.unknown = p.traces+1, p.calls+len(calls), p.acks+h.acks, p.injected+injected, p.unknown+h.outcomes["unknown"]

	cuts := map[int]int{} // by call: how often the power goes behind it
	for range images {
		cuts[r.IntN(len(calls))]++
	}
	goOn := r.IntN(len(calls))
	type job struct {
		image map[string][]byte
		at    int
		seed  uint64
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	folders := []string{quickDir(t), quickDir(t)}
	for _, folder := range folders {
		workers.Go(func() {
			for j := range jobs {
				p.check(folder, j.image, h, j.at, rand.New(rand.NewPCG(j.seed, 1)))
			}
		})
	}
	for at, c := range calls {
		if c.kind == "write" && c.name == "log.db" {
			p.merged++
		}
		if c.kind != "say" && err == nil {
			err = d.do(c)
		}
		for range cuts[at] {
			jobs <- job{d.cut(), at, r.Uint64()}
		}
		if at == goOn {
			image, then = d.cut(), h.until(at)
		}
	}
	close(jobs)
	workers.Wait()
	require.NoError(t, err)
	for _, folder := range folders {
		require.NoError(t, os.RemoveAll(folder))
	}

	// Has everything been seen that the process did to its files?
	content, err := contentOf(dir)
	require.NoError(t, err)
	require.Len(t, content, len(d.names))
	for name, f := range d.names {
		require.True(t, bytes.Equal(content[name], f.seen), "%s is not what the trace makes of it", name)
	}
	return image, then
}

// check opens an image and holds what is in it to what had been said.
func (p *powerCut) check(dir string, image map[string][]byte, h *heard, at int, r *rand.Rand) {
	lost, wrong, again, events, err := inspect(dir, image, h, at, r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made++
	p.events += events
	if again {
		p.again++
	}
	example := func(text string) {
		if len(p.examples) < 5 {
			p.examples = append(p.examples, fmt.Sprintf("cut behind call %d: %s", at, text))
		}
	}
	if err != nil {
		p.damaged++
		example(err.Error())
	}
	if len(lost) > 0 {
		p.lost++
		p.losses += len(lost)
		example("lost: " + lost[0])
	}
	if len(wrong) > 0 {
		p.wrong++
		example(wrong[0])
	}
}

// inspect opens an image. An error is damage: what cannot be opened, read or gone on with.
func inspect(dir string, image map[string][]byte, h *heard, at int, r *rand.Rand) (lost, wrong []string, again bool, events int, err error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, nil, false, 0, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, false, 0, err
	}
	if err := writeImage(dir, image); err != nil {
		return nil, nil, false, 0, err
	}
	path := filepath.Join(dir, "log.db")
	if r.IntN(8) == 0 { // the index of the log beside the file is never synced: anything may be in it
		noise := make([]byte, 32<<10)
		for i := range noise {
			noise[i] = byte(r.UintN(256))
		}
		if err := os.WriteFile(path+"-shm", noise, 0o600); err != nil {
			return nil, nil, false, 0, err
		}
	}
	var options []sqlite.Option
	if r.IntN(4) > 0 { // to be faster
		options = append(options, sqlite.WithoutCheck())
	}
	store, err := sqlite.Open(path, options...)
	if err != nil {
		return nil, nil, false, 0, err
	}
	defer func() {
		err = errors.Join(err, store.Close())
		if err == nil && r.IntN(8) == 0 {
			err = integrity(path)
		}
	}()
	log, err := whole(store)
	if err != nil {
		return nil, nil, false, 0, err
	}
	lost, wrong = h.hold(log, at)
	if len(lost)+len(wrong) > 0 || r.IntN(3) > 0 {
		return lost, wrong, false, len(log), nil
	}
	// I4: what was not acknowledged is sent again and gives one outcome, and work goes on.
	// What had been given up comes last: before what is in the air it would take its place.
	after := &heard{}
	for _, givenUp := range []bool{false, true} {
		for _, a := range h.attempts {
			if a.tried > at || (a.refused <= at) != givenUp {
				continue
			}
			b := *a
			if a.acked > at {
				records, err := store.Append(ctx, a.events, a.expect)
				switch {
				case err == nil:
					b.acked, b.refused, b.records = at, never, records
				case givenUp && errors.Is(err, eventstore.ErrConflict):
				default:
					return lost, wrong, true, len(log), fmt.Errorf("sent again: %w", err)
				}
			}
			after.attempts = append(after.attempts, &b)
		}
	}
	after.byID = after.ids()
	if log, err = whole(store); err != nil {
		return lost, wrong, true, len(log), err
	}
	lost, wrong = after.hold(log, at)
	if len(lost) > 0 {
		wrong = append(wrong, "what was sent again is not there")
	}
	_, err = store.Append(ctx, []eventstore.Event{event("after")})
	return lost, wrong, true, len(log), err
}

func whole(store eventstore.Store) (log []eventstore.Recorded, err error) {
	for r, err := range store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return nil, err
		}
		log = append(log, r)
	}
	return log, nil
}

// integrity asks SQLite whether a file is sound, its indexes included.
func integrity(path string) (err error) {
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return sqlitex.ExecuteTransient(conn, "PRAGMA integrity_check(1)", &sqlitex.ExecOptions{ResultFunc: func(stmt *driver.Stmt) error {
		if verdict := stmt.ColumnText(0); verdict != "ok" {
			return errors.New(verdict)
		}
		return nil
	}})
}

func writeImage(dir string, image map[string][]byte) error {
	for name, content := range image {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func powerSeed(t testing.TB) uint64 {
	t.Helper()
	set := os.Getenv(powerSeedVariable)
	if set == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(set, 10, 64)
	require.NoError(t, err, powerSeedVariable)
	return seed
}

func imagesOfAControl() int { return fewer(controlImages, slowImages) }

// F03: power loss.
func TestAPowerCutLosesNothingThatWasAcknowledgedAtFullSize(t *testing.T) {
	p := &powerCut{seed: powerSeed(t), images: sizeOf(t, imagesVariable, 400, slowImages)}
	p.run(t)
	require.Zero(t, p.lost, "seed %d", p.seed)
	require.Zero(t, p.damaged, "seed %d", p.seed)
	require.Zero(t, p.wrong, "seed %d", p.seed)
	require.NotZero(t, p.acks)
	if !race.Enabled {
		require.NotZero(t, p.again)
		require.NotZero(t, p.merged)
	}
}

// F05 with F03: some calls of fsync fail, and what was not written then never will be.
func TestAPowerCutAfterFailedSyncsLosesNothingThatWasAcknowledgedAtFullSize(t *testing.T) {
	p := &powerCut{seed: powerSeed(t), images: sizeOf(t, imagesVariable, 100, slowImages), faults: "5+6"}
	p.run(t)
	require.Zero(t, p.lost, "seed %d", p.seed)
	require.Zero(t, p.damaged, "seed %d", p.seed)
	require.Zero(t, p.wrong, "seed %d", p.seed)
	require.NotZero(t, p.injected)
	require.NotZero(t, p.unknown)
}

// runUntil makes more images until they show what a control must show.
func (p *powerCut) runUntil(t *testing.T, shown func() bool) {
	t.Helper()
	for range 10 {
		if p.run(t); shown() {
			return
		}
		p.seed++
	}
	t.Fatalf("seed %d: the harness cannot tell good from bad", p.seed)
}

// The control of F03: what WithSynchronousNormal warns of is seen, and that it is not more.
func TestThePowerHarnessFailsAtSynchronousNormalWithoutDamage(t *testing.T) {
	p := &powerCut{seed: powerSeed(t), images: imagesOfAControl(), normal: true}
	p.runUntil(t, func() bool { return p.lost > 0 })
	require.Zero(t, p.damaged, "seed %d", p.seed)
	require.Zero(t, p.wrong, "seed %d", p.seed)
}

// A control of F03: damage is seen where there is some.
func TestThePowerHarnessFailsOnADiskThatDoesNotSync(t *testing.T) {
	p := &powerCut{seed: powerSeed(t), images: imagesOfAControl(), lying: true}
	p.runUntil(t, func() bool { return p.lost > 0 && p.damaged > 0 })
}

// A control of F03, and that of F01: an acknowledgement before the commit is seen.
func TestThePowerHarnessFailsOnAcknowledgementsBeforeTheCommit(t *testing.T) {
	p := &powerCut{seed: powerSeed(t), images: imagesOfAControl(), early: true}
	p.runUntil(t, func() bool { return p.lost > 0 })
	require.Zero(t, p.damaged, "seed %d", p.seed)
}

// What one writer gave up and what it sent next expect the same version: sent again in
// the order of their first sending, the former would take the place of the latter.
func TestThePowerHarnessSendsWhatWasGivenUpLast(t *testing.T) {
	attempts := []*attempt{
		{events: []eventstore.Event{event("own")}, expect: eventstore.At("own", 0), tried: 0, refused: 1, acked: never},
		{events: []eventstore.Event{event("own")}, expect: eventstore.At("own", 0), tried: 2, refused: never, acked: never},
	}
	h := &heard{attempts: attempts}
	h.byID = h.ids()
	resent := 0
	for seed := range uint64(20) {
		lost, wrong, again, _, err := inspect(t.TempDir(), nil, h, 3, rand.New(rand.NewPCG(seed, 1)))
		require.NoError(t, err)
		require.Empty(t, lost)
		require.Empty(t, wrong)
		if again {
			resent++
		}
	}
	require.NotZero(t, resent)
}
