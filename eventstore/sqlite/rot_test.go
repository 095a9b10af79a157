package sqlite_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

// flipsVariable sets how many bits are flipped, one at a time.
const flipsVariable = "ROLLFORWARD_FLIPS"

// What may be changed by one bit without anybody noticing: the fields of an event, and
// the checkpoint's state, of which any value is as good as another to a store.
var unseen = []string{"data", "meta", "schema", "recorded at", "checkpoint state"}

// F35: of the bits of a sound file each is flipped alone. What changes what can be read
// is refused by Open or found by Check, or has changed one of those fields alone, where
// only proofs would show it. The control is integrity_check alone, which misses more.
func TestAFlippedBitIsFoundUnlessItMadeAnotherValidFieldAtFullSize(t *testing.T) {
	t.Parallel()
	flips := sizeOf(t, flipsVariable, 200, 8)
	seed := rand.Uint64() >> 1
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSpecimen(t, 120)
	before, err := contentsOf(s.open(t))
	require.NoError(t, err)
	path := quickPath(t)
	counts, fields := map[string]int{}, map[string]int{}
	for range flips {
		bit := random.IntN(len(s) * 8)
		flipped := slices.Clone(s)
		flipped[bit/8] ^= 1 << (bit % 8)
		require.NoError(t, os.WriteFile(path, flipped, 0o600))
		verdict, changed, bySQLite := judge(t, path, before)
		counts[verdict]++
		if verdict == "found" && !bySQLite {
			counts["missed by integrity_check alone"]++
		}
		if verdict == "unseen" {
			for _, field := range changed {
				fields[field]++
				require.Contains(t, unseen, field, "bit %d of seed %d changed %v, and nobody noticed", bit, seed, changed)
			}
		}
		if verdict == "refused" {
			require.NoError(t, os.WriteFile(path, flipped, 0o600))
			if soundToSQLite(path) {
				counts["missed by integrity_check alone"]++
			}
		}
		for _, beside := range []string{"", "-wal", "-shm", "-journal"} {
			if err := os.Remove(path + beside); !errors.Is(err, os.ErrNotExist) {
				require.NoError(t, err)
			}
		}
	}
	t.Logf("%d bits flipped in %d KiB, seed %d: %d refused by Open, %d more found by Check (of both, %d missed by integrity_check alone), %d changed nothing that is read, %d made another valid field: %v",
		flips, len(s)>>10, seed, counts["refused"], counts["found"], counts["missed by integrity_check alone"], counts["harmless"], counts["unseen"], fields)
	require.Equal(t, flips, counts["refused"]+counts["found"]+counts["harmless"]+counts["unseen"])
	if flips >= 200 {
		require.NotZero(t, counts["found"])
		require.NotZero(t, counts["missed by integrity_check alone"], "the control: it is as good as Check")
	}
}

// contents is all that can be read of a store.
type contents struct {
	records    []eventstore.Recorded
	finds      map[string][]eventstore.Position // by each stream, type and tag, and the versions of streams
	checkpoint eventstore.Checkpoint
}

func contentsOf(store *sqlite.Store) (c contents, err error) {
	c.finds = map[string][]eventstore.Position{}
	for r, err := range store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return c, err
		}
		c.records = append(c.records, r)
	}
	queries := map[string]eventstore.Query{}
	for i := range 10 {
		stream := fmt.Sprint("s-", i)
		queries[stream] = eventstore.Query{Streams: []string{stream}}
		version, err := store.Version(ctx, stream)
		if err != nil {
			return c, err
		}
		c.finds["version "+stream] = []eventstore.Position{eventstore.Position(version)}
	}
	for _, typ := range []string{"thing.happened", "thing.rare"} {
		queries[typ] = eventstore.Query{Types: []string{typ}}
	}
	for _, tag := range []string{"tag:0", "tag:1", "tag:2", "tag:3", "tag:4", "tag:5", "tag:6", "even"} {
		queries[tag] = eventstore.Query{Tags: []string{tag}}
	}
	for name, q := range queries {
		for r, err := range store.Read(ctx, q) {
			if err != nil {
				return c, err
			}
			c.finds[name] = append(c.finds[name], r.Position)
		}
	}
	c.checkpoint, err = store.Checkpoint(ctx, "consumer")
	return c, err
}

// differs names what differs between c and d.
func (c contents) differs(d contents) (fields []string) {
	if len(c.records) != len(d.records) {
		return []string{"number of events"}
	}
	note := func(field string, same bool) {
		if !same && !slices.Contains(fields, field) {
			fields = append(fields, field)
		}
	}
	for i, a := range c.records {
		b := d.records[i]
		note("position", a.Position == b.Position)
		note("append", a.Append == b.Append)
		note("id", a.ID == b.ID)
		note("stream", a.Stream == b.Stream)
		note("version", a.Version == b.Version)
		note("type", a.Type == b.Type)
		note("schema", a.Schema == b.Schema)
		note("tags", slices.Equal(a.Tags, b.Tags))
		note("data", string(a.Data) == string(b.Data))
		note("meta", string(a.Meta) == string(b.Meta))
		note("recorded at", a.RecordedAt.Equal(b.RecordedAt))
	}
	for _, name := range slices.Sorted(maps.Keys(c.finds)) {
		note("what is found by "+name, slices.Equal(c.finds[name], d.finds[name]))
	}
	p, q := c.checkpoint, d.checkpoint
	note("checkpoint state", string(p.State) == string(q.State))
	p.State, q.State = nil, nil
	note("checkpoint", fmt.Sprint(p) == fmt.Sprint(q))
	return fields
}

// judge says what becomes of the file at path: "refused" by Open, "found" by Check, and
// then whether by SQLite, "harmless" if all of it reads as before, or "unseen" and what
// has changed.
func judge(t *testing.T, path string, before contents) (verdict string, changed []string, bySQLite bool) {
	store, err := sqlite.Open(path)
	if err != nil {
		requireTyped(t, err)
		return "refused", nil, false
	}
	defer func() { require.NoError(t, store.Close()) }()
	findings, err := store.Check(ctx)
	if err != nil && !errors.Is(err, sqlite.ErrManyFindings) {
		requireTyped(t, err)
		return "found", nil, false
	}
	if len(findings) > 0 {
		return "found", nil, findings[0].Kind == sqlite.DamagedPages
	}
	now, err := contentsOf(store)
	if err != nil {
		return "unseen", []string{"reading fails: " + err.Error()}, false
	}
	if changed = before.differs(now); len(changed) == 0 {
		return "harmless", nil, false
	}
	return "unseen", changed, false
}

// requireTyped requires an error that says what is wrong with the file.
func requireTyped(t *testing.T, err error) {
	t.Helper()
	for _, kind := range []error{eventstore.ErrDamaged, sqlite.ErrForeign, eventstore.ErrNewerFormat} {
		if errors.Is(err, kind) {
			return
		}
	}
	require.NoError(t, err, "not one of the errors for a file that is not sound")
}

// soundToSQLite reports whether SQLite alone takes the file for sound.
func soundToSQLite(path string) bool {
	conn, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		return false
	}
	ok := false
	err = sqlitex.ExecuteTransient(conn, "PRAGMA integrity_check", &sqlitex.ExecOptions{ResultFunc: func(stmt *driver.Stmt) error {
		ok = stmt.ColumnText(0) == "ok"
		return nil
	}})
	return errors.Join(err, conn.Close()) == nil && ok
}

// Bits of the log beside the file are under checksums, and still: one that is
// flipped there ends the log for SQLite, and what was acknowledged behind it is gone
// without a trace. That is the end cut off, which cannot be found without proofs.
func TestAFlippedBitInTheLogBesideTheFileCutsTheEndOff(t *testing.T) {
	path, records := filled(t, 100)
	store := open(t, path)
	for range 20 {
		added, err := store.Append(ctx, []eventstore.Event{event("s-1")})
		require.NoError(t, err)
		records = append(records, added...)
	}
	file, err := os.ReadFile(path + "-wal") // as a program that is killed leaves it
	require.NoError(t, err)
	copied := quickPath(t)
	cp(t, path, copied)
	cut := func(harm func(wal []byte)) []eventstore.Recorded {
		wal := slices.Clone(file)
		harm(wal)
		place := quickPath(t)
		cp(t, copied, place)
		require.NoError(t, os.WriteFile(place+"-wal", wal, 0o600))
		after := open(t, place)
		require.Empty(t, check(t, after))
		return all(t, after, eventstore.Query{})
	}
	require.Equal(t, records, cut(func([]byte) {}), "the control: as it is all of it is there")
	left := cut(func(wal []byte) { wal[len(wal)/2] ^= 1 })
	require.Equal(t, records[:len(left)], left)
	require.Less(t, len(left), len(records))
	require.GreaterOrEqual(t, len(left), 100)
}
