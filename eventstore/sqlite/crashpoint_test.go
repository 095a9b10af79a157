package sqlite_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/sqlite"
	"github.com/rollforward/rollforward/internal/race"
)

// The points of a write, besides "inserted" where an append goes together with a row of
// a table of the caller's own. Those of recordedPoints come once its commit has happened.
const (
	beforeCommit = "before the commit"
	behindCommit = "behind the commit"
)

var (
	appendPoints   = []string{"begin", "ids", "expectations", "event", "commit", beforeCommit, behindCommit, "committed"}
	restorePoints  = []string{"begin", "event", "commit", beforeCommit, behindCommit, "committed"}
	savePoints     = []string{"begin", "commit", beforeCommit, behindCommit, "committed"}
	recordedPoints = []string{behindCommit, "committed"}
)

// some is every third of the points under the race detector, where a process takes ten times
// as long to come there, and otherwise all.
func some(points []string) (chosen []string) {
	for i, point := range points {
		if !race.Enabled || i%3 == 0 {
			chosen = append(chosen, point)
		}
	}
	return chosen
}

// pointOptions have reach called at each point of each write.
func pointOptions(reach func(point string)) []sqlite.Option {
	return []sqlite.Option{
		sqlite.WithStep(reach),
		sqlite.WithCommit(func(commit func() error) error {
			reach(beforeCommit)
			err := commit()
			if err == nil {
				reach(behindCommit)
			}
			return err
		}),
	}
}

// dieAt returns what is to be called at each point: it kills the process where the variables say.
func dieAt() (reach func(point string)) {
	wanted := os.Getenv(pointVariable)
	hit, err := number(hitVariable)
	if err != nil {
		say("failure %v", err)
		os.Exit(1)
	}
	var hits atomic.Uint64
	return func(point string) {
		if point == wanted && hits.Add(1) == hit {
			die()
		}
	}
}

// die kills the process as kill -9 does.
func die() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		say("failure %v", err)
		os.Exit(1)
	}
	select {}
}

// atPoint is the process that kills itself at the given hit of a point.
func atPoint(role, path, point string, hit int, more ...string) (lines []string, err error) {
	cmd := dyingCommand(role, path, append(more, pointVariable+"="+point, fmt.Sprint(hitVariable, "=", hit))...)
	lines, err = overhear(cmd, func(string) {})
	if err == nil && !killed(cmd) {
		err = fmt.Errorf("it was not killed: %q", lines)
	}
	return lines, err
}

// F02: a process that dies at any point of an append leaves it out before the commit and
// whole behind it, and what others appended beside it as they were told.
func TestProcessesThatDieAtAnyPointOfAnAppendLeaveAllOrNothingAtFullSize(t *testing.T) {
	t.Parallel()
	for _, writers := range []int{1, 4} {
		path, k, reached := quickPath(t), newKills(1), map[string]int{}
		points := some(append([]string{"inserted"}, appendPoints...))
		for i, point := range points {
			hit := 1 + i%3
			if writers > 1 {
				hit = 5 + i
			}
			k.rounds++
			seed := uint64(k.rounds)
			lines, err := atPoint("append, dying at a point", path, point, hit,
				fmt.Sprint(seedVariable, "=", seed), fmt.Sprint(writersVariable, "=", writers))
			if err != nil {
				k.problem("%v", err)
				continue
			}
			reached[point]++
			k.crashes++
			acknowledged, unheard := k.heard(lines, seed, writers)
			store := open(t, path)
			recorded := k.check(store, acknowledged, unheard)
			require.NoError(t, store.Close())
			if writers == 1 && recorded[0] != slices.Contains(recordedPoints, point) {
				k.problem("at %q, hit %d: recorded is %v", point, hit, recorded[0])
			}
		}
		if err := k.whole(path); err != nil {
			k.problem("%v", err)
		}
		t.Logf("%d writers: died at %v; %v", writers, reached, k)
		require.Empty(t, k.problems)
		require.ElementsMatch(t, points, slices.Collect(maps.Keys(reached)), "points of an append that nobody died at")
		require.NotZero(t, k.acks)
	}
}

// saveUntilKilled saves two checkpoints at a time, and says which generation they are.
func saveUntilKilled(options ...sqlite.Option) error {
	store, err := sqlite.Open(os.Getenv(pathVariable), options...)
	if err != nil {
		return err
	}
	last, err := store.Checkpoint(ctx, "a")
	if err != nil {
		return err
	}
	for n := last.Position + 1; ; n++ {
		if err := store.SaveCheckpoints(ctx, generation(n)...); err != nil {
			return err
		}
		say("saved %d", n)
	}
}

// generation is what is saved together the n-th time.
func generation(n eventstore.Position) (saved []eventstore.Checkpoint) {
	for _, name := range []string{"a", "b"} {
		saved = append(saved, eventstore.Checkpoint{
			Name: name, Position: n, Event: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, name, n)), Format: int(n % 7),
			State: fmt.Appendf(nil, "%s %0*d", name, 10_000*int(n%3), n), // several pages, one, none
		})
	}
	return saved
}

// F02: likewise of checkpoints that are saved together: all of them or none.
func TestProcessesThatDieAtAnyPointOfSavingCheckpointsLeaveAllOrNothingAtFullSize(t *testing.T) {
	t.Parallel()
	path, reached := quickPath(t), map[string]int{}
	var stands eventstore.Position // the generation that is saved
	for i, point := range some(savePoints) {
		hit := 1 + i%3
		lines, err := atPoint("save, dying at a point", path, point, hit)
		require.NoError(t, err, "at %q", point)
		reached[point]++
		require.Len(t, lines, hit-1)
		for _, line := range lines {
			stands++
			require.Equal(t, fmt.Sprint("saved ", stands), line)
		}
		if slices.Contains(recordedPoints, point) {
			stands++
		}
		store := open(t, path)
		for _, wanted := range generation(stands) {
			if stands == 0 {
				wanted = eventstore.Checkpoint{}
			}
			found, err := store.Checkpoint(ctx, wanted.Name)
			require.NoError(t, err)
			require.Equal(t, wanted, found, "at %q, hit %d", point, hit)
		}
		require.NoError(t, store.Close())
	}
	t.Logf("died at %v; %d generations", reached, stands)
	require.ElementsMatch(t, some(savePoints), slices.Collect(maps.Keys(reached)))
}

// restoreUntilKilled restores behind the head, and says where that is afterwards.
func restoreUntilKilled(options ...sqlite.Option) error {
	store, err := sqlite.Open(os.Getenv(pathVariable), options...)
	if err != nil {
		return err
	}
	head, err := store.Head(ctx)
	for err == nil {
		if head, err = store.Restore(ctx, head, elsewhere(head)); err == nil {
			say("restored %d", head)
		}
	}
	return err
}

// elsewhere is a history recorded elsewhere that continues a log of such: three events in two appends.
func elsewhere(head eventstore.Position) (records []eventstore.Recorded) {
	for i := range eventstore.Position(3) {
		p := head + 1 + i
		records = append(records, eventstore.Recorded{
			Event:   eventOf(uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, p)), "restored"),
			Version: uint64(p), Position: p, Append: min(p, head+2), RecordedAt: time.Unix(int64(p), 0).UTC(),
		})
	}
	return records
}

// F02: likewise of a history that is restored; again, it is a conflict where it is there.
func TestProcessesThatDieAtAnyPointOfARestoreLeaveAllOrNothingAtFullSize(t *testing.T) {
	t.Parallel()
	path, reached := quickPath(t), map[string]int{}
	var want []eventstore.Recorded
	restored := func() { want = append(want, elsewhere(eventstore.Position(len(want)))...) }
	for _, point := range some(restorePoints) {
		lines, err := atPoint("restore, dying at a point", path, point, 2)
		require.NoError(t, err, "at %q", point)
		reached[point]++
		for range lines {
			restored()
		}
		head := eventstore.Position(len(want))
		store := open(t, path)
		if slices.Contains(recordedPoints, point) {
			_, err := store.Restore(ctx, head, elsewhere(head))
			require.ErrorIs(t, err, eventstore.ErrConflict, "at %q", point)
		} else {
			require.Equal(t, want, all(t, store, eventstore.Query{}), "at %q", point)
			_, err := store.Restore(ctx, head, elsewhere(head))
			require.NoError(t, err, "at %q", point)
		}
		restored()
		require.Equal(t, want, all(t, store, eventstore.Query{}), "at %q", point)
		require.NoError(t, store.Close())
	}
	t.Logf("died at %v; %d events", reached, len(want))
	require.ElementsMatch(t, some(restorePoints), slices.Collect(maps.Keys(reached)))
}

// The orders in which a consumer of the log may do its two writes for each event. The
// first is right; the others are the controls.
const (
	effectFirst     = "effect first"
	checkpointFirst = "checkpoint first"
	otherIDs        = "effect first, under a new ID each time"
)

// consume is a consumer of the log that has an effect for each event of the streams
// cause-*: an event of a stream effect-*, whose ID is derived from its cause. It dies at the
// given hit of a point, and otherwise ends when there is nothing left to do.
func consume(order string) error {
	hit, err := number(hitVariable)
	if err != nil {
		return err
	}
	doing, hits := "", uint64(0)
	store, err := sqlite.Open(os.Getenv(pathVariable), pointOptions(func(point string) {
		if doing+": "+point != os.Getenv(pointVariable) {
			return
		}
		if hits++; hits == hit {
			die()
		}
	})...)
	if err != nil {
		return err
	}
	done, err := store.Checkpoint(ctx, "consumer")
	if err != nil {
		return err
	}
	for r, err := range store.Read(ctx, eventstore.Query{Prefix: "cause-", After: done.Position}) {
		if err != nil {
			return err
		}
		writes := []func() error{func() error {
			doing = "effect"
			id := uuid.NewSHA1(r.ID, []byte("effect"))
			if order == otherIDs {
				id = uuid.New()
			}
			e := eventOf(id, "effect-"+strings.TrimPrefix(r.Stream, "cause-"))
			_, err := store.Append(ctx, []eventstore.Event{e})
			return err
		}, func() error {
			doing = "checkpoint"
			return store.SaveCheckpoints(ctx, eventstore.Checkpoint{Name: "consumer", Position: r.Position, Event: r.ID})
		}}
		if order == checkpointFirst {
			slices.Reverse(writes)
		}
		for _, write := range writes {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return store.Close()
}

// consumed lets consumers die at the points, and the last one come to its end. It returns
// where they died, and the first breach of I5 and I6.
func consumed(t *testing.T, order string, points []string) (reached map[string]int, breach error) {
	path := quickPath(t)
	store := open(t, path)
	var causes []eventstore.Event
	for i := range 40 {
		causes = append(causes, event(fmt.Sprint("cause-", i)))
	}
	_, err := store.Append(ctx, causes)
	require.NoError(t, err)
	reached = map[string]int{}
	for _, point := range points {
		// At the second hit: the first effect may be one that is there already.
		_, err := atPoint("consume, "+order, path, point, 2)
		require.NoError(t, err)
		reached[point]++
		if breach := effects(store, false); breach != nil {
			return reached, breach
		}
	}
	cmd := dyingCommand("consume, "+order, path, hitVariable+"=0")
	_, err = overhear(cmd, func(string) {})
	require.NoError(t, err)
	require.True(t, cmd.ProcessState.Success())
	return reached, effects(store, true)
}

// effects holds each cause that the checkpoint has passed, or all of them, to one effect, and the others to at most one.
func effects(store eventstore.Store, ended bool) (breach error) {
	done, err := store.(eventstore.Checkpoints).Checkpoint(ctx, "consumer")
	if err != nil {
		return err
	}
	for r, err := range store.Read(ctx, eventstore.Query{Prefix: "cause-"}) {
		if err != nil {
			return err
		}
		n, err := store.Version(ctx, "effect-"+strings.TrimPrefix(r.Stream, "cause-"))
		if err != nil {
			return err
		}
		switch {
		case n > 1:
			breach = errors.Join(breach, fmt.Errorf("%s has %d effects", r.Stream, n))
		case n == 0 && (r.Position <= done.Position || ended):
			breach = errors.Join(breach, fmt.Errorf("%s has no effect, and the checkpoint is at %d", r.Stream, done.Position))
		}
	}
	return breach
}

// F02, around checkpoints: a consumer that dies at any point between an effect and its
// checkpoint, and is started again, has each effect once.
func TestProcessesThatDieBetweenEffectAndCheckpointHaveEachEffectOnceAtFullSize(t *testing.T) {
	t.Parallel()
	var want []string
	for _, point := range appendPoints {
		want = append(want, "effect: "+point)
	}
	for _, point := range savePoints {
		want = append(want, "checkpoint: "+point)
	}
	reached, breach := consumed(t, effectFirst, some(want))
	t.Logf("died at %v", reached)
	require.NoError(t, breach)
	require.ElementsMatch(t, some(want), slices.Collect(maps.Keys(reached)))
}

// The controls of F02: a checkpoint before its effect loses it, and an effect that
// is not derived from its cause is there twice.
func TestTheHarnessSeesWhatAConsumerLosesOrDoubles(t *testing.T) {
	t.Parallel()
	_, breach := consumed(t, checkpointFirst, []string{"effect: begin"})
	require.ErrorContains(t, breach, "has no effect")
	_, breach = consumed(t, otherIDs, []string{"effect: committed"})
	require.ErrorContains(t, breach, "has 2 effects")
}
