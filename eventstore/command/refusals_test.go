package command_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/fixture"
	"github.com/rollforward/rollforward/internal/race"
)

func refusing(refusals ...command.Refusal) func(*command.Tx) error {
	return func(*command.Tx) error { return command.Refuse(refusals...) }
}

func TestARefusalIsRecordedOnceForEachRule(t *testing.T) {
	d := open(t, nil)
	cause := uuid.Must(uuid.NewV7())
	c := command.Call{
		Actor: command.Actor{ID: "bob", OnBehalfOf: "ann", Source: "cli"}, Action: "points.give", Target: "x",
		Reason: "in my own words", Key: "k", Correlation: "c", Causation: cause,
	}
	_, err := d.Do(context.Background(), c, refusing(
		command.Refusal{Rule: "at-most-10", Reason: "it has 9", Remedy: "give fewer"},
		command.Refusal{Kind: command.Denied, Rule: "not-yours", Field: "account", Reason: "it is ann's"},
		command.Refusal{Kind: command.Malformed, Rule: "not-a-number", Reason: "it is x"},
		command.Refusal{Kind: command.Unavailable, Rule: "hook-failed", Reason: "it is down"},
	))
	require.Equal(t, []string{"at-most-10", "not-yours", "not-a-number", "hook-failed"}, rules(t, err))
	require.Equal(t, c, err.(*command.Error).Call)

	records, payloads := d.all("refusals-")
	require.Equal(t, []any{
		command.CommandRefused{Action: "points.give", Target: "x", Actor: "bob", OnBehalfOf: "ann", Rule: "at-most-10", Kind: command.Refused, Reason: "it has 9"},
		command.CommandRefused{Action: "points.give", Target: "x", Actor: "bob", OnBehalfOf: "ann", Rule: "not-yours", Kind: command.Denied, Reason: "it is ann's"},
		command.CommandRefused{Action: "points.give", Target: "x", Actor: "bob", OnBehalfOf: "ann", Rule: "hook-failed", Kind: command.Unavailable, Reason: "it is down"},
	}, payloads)
	for i, r := range records {
		require.Equal(t, "refusals-2026-03", r.Stream)
		require.Equal(t, []string{"actor:bob", "rule:" + payloads[i].(command.CommandRefused).Rule}, r.Tags)
		require.Equal(t, records[0].Position, r.Append)
		meta, err := eventstore.DecodeMetadata(r.Meta)
		require.NoError(t, err)
		require.Equal(t, eventstore.Metadata{
			Actor: "bob", OnBehalfOf: "ann", Command: "points.give", Correlation: "c", Causation: cause, Source: "cli", OccurredAt: noon,
		}, meta, "without the words of the actor, of which there may be many")
	}
	require.Equal(t, records[2].Position, d.Last())
	require.Equal(t, command.Status{Commands: 1, Malformed: 1, Refused: 1, Denied: 1, Unavailable: 1}, d.Status())
}

func TestARefusalInWrappingIsARefusal(t *testing.T) {
	d := open(t, nil)
	_, err := d.Do(context.Background(), call("ann", "x", 1, ""), func(*command.Tx) error {
		return fmt.Errorf("deep down: %w", command.Refuse(command.Refusal{Rule: "r"}))
	})
	require.IsType(t, &command.Error{}, err)
	require.Len(t, d.refusals(), 1)
}

func TestRefusalsAreOfTheMonthByTheDoorsClockInUTC(t *testing.T) {
	d := open(t, nil)
	for _, at := range []time.Time{
		time.Date(2026, 3, 31, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 5, 1, 1, 0, 0, 0, time.FixedZone("", 7200)),
	} {
		d.clock.Set(at)
		_, err := d.Do(context.Background(), call("ann", "x", 1, ""), refusing(command.Refusal{Rule: "r"}))
		require.Error(t, err)
	}
	records, _ := d.all("refusals-")
	var streams []string
	for _, r := range records {
		streams = append(streams, r.Stream)
	}
	require.Equal(t, []string{"refusals-2026-03", "refusals-2026-04", "refusals-2026-04"}, streams)
}

func TestARefusalTakesAtMostOneKiB(t *testing.T) {
	texts := rapid.OneOf(rapid.String(), rapid.StringN(0, 2000, -1), rapid.Custom(func(r *rapid.T) string {
		piece := rapid.SampledFrom([]string{"a", "\"", "\\", "\x01", "ä", "€", "😀", "\xff", "\x00", "\n"}).Draw(r, "piece")
		return strings.Repeat(piece, rapid.IntRange(0, 3000).Draw(r, "times"))
	}))
	names := rapid.Custom(func(r *rapid.T) string {
		piece := rapid.SampledFrom([]string{"a", "\"", "\\", "ä", "😀"}).Draw(r, "piece")
		return strings.Repeat(piece, rapid.IntRange(1, 128/len(piece)).Draw(r, "times"))
	})
	d := open(t, nil)
	rapid.Check(t, func(r *rapid.T) {
		c := command.Call{
			Actor:  command.Actor{ID: names.Draw(r, "actor"), OnBehalfOf: names.Draw(r, "principal")},
			Action: names.Draw(r, "action"), Target: names.Draw(r, "target"),
		}
		refusal := command.Refusal{Rule: texts.Draw(r, "rule"), Reason: texts.Draw(r, "reason")}
		d.clock.Advance(time.Minute)
		_, err := d.Do(context.Background(), c, refusing(refusal))
		require.ErrorIs(r, err, command.ErrRefused)
		require.Equal(r, refusal.Reason, err.(*command.Error).Refusals[0].Reason, "only what is recorded is cut")

		require.Zero(r, d.Status().Unrecorded, "%s", d.log)
		var last eventstore.Recorded
		for record, err := range d.memory.Read(context.Background(), eventstore.Query{After: d.Last() - 1}) {
			require.NoError(r, err)
			last = record
		}
		require.LessOrEqual(r, len(last.Data), 1<<10)
		payload, err := registry.Decode(last.Event)
		require.NoError(r, err)
		got := payload.(command.CommandRefused)
		for _, f := range [][2]string{{got.Reason, refusal.Reason}, {got.Target, c.Target}, {got.Rule, refusal.Rule}, {got.Actor, c.Actor.ID}, {got.Action, c.Action}} {
			require.True(r, utf8.ValidString(f[0]))
			if !utf8.ValidString(f[1]) || strings.ContainsRune(f[1], 0) || f[1] == "" {
				continue // mended, or given a name
			}
			if short, cut := strings.CutSuffix(f[0], "…"); f[0] != f[1] && f[0] != "" {
				require.True(r, cut && strings.HasPrefix(f[1], short), "%q of %q", f[0], f[1])
			}
		}
		if len(refusal.Reason)*6+len(refusal.Rule)*6 < 100 && utf8.ValidString(refusal.Reason) && !strings.ContainsRune(refusal.Reason, 0) &&
			2*(len(c.Actor.ID)+len(c.Actor.OnBehalfOf)+len(c.Action)+len(c.Target)) < 700 {
			require.Equal(r, refusal.Reason, got.Reason, "what is short is not cut")
		}
		require.NotEmpty(r, got.Actor, "who it was is cut last")
	})
}

func TestWhatIsTooMuchForAMinuteIsCounted(t *testing.T) {
	d := open(t, func(c *command.Config) { c.RefusalsPerMinute = 3 })
	refuse := func(actor, rule string, times int) {
		for range times {
			_, err := d.Do(context.Background(), call(actor, "x", 1, ""), refusing(command.Refusal{Rule: rule}))
			require.True(t, command.By(err, rule))
		}
	}
	counted := func() []any {
		var list []any
		_, payloads := d.all("refusals-")
		for _, p := range payloads {
			if c, ok := p.(command.RefusalsCounted); ok {
				list = append(list, c)
			}
		}
		return list
	}
	refuse("ann", "r", 4)
	refuse("ann", "s", 2)
	refuse("bob", "r", 5)
	require.Len(t, d.refusals(), 3+2+3)
	require.Empty(t, counted())
	require.Equal(t, uint64(1+2), d.Status().Counted)

	// Within the minute nothing else is recorded; when it has ended, at the next
	// occasion, whatever that is.
	d.clock.Advance(59*time.Second + 999_999*time.Microsecond)
	_, err := d.give("cleo", "x", 1, "")
	require.NoError(t, err)
	require.Empty(t, counted())
	d.clock.Advance(time.Microsecond)
	_, err = d.give("cleo", "x", 1, "")
	require.NoError(t, err)
	require.Equal(t, []any{
		command.RefusalsCounted{Actor: "ann", Rule: "r", From: noon, Until: noon, Count: 1},
		command.RefusalsCounted{Actor: "bob", Rule: "r", From: noon, Until: noon, Count: 2},
	}, counted())
	records, _ := d.all("refusals-")
	require.Equal(t, []string{"actor:ann", "rule:r"}, records[len(records)-2].Tags)

	// A new minute begins from nothing; a refusal is an occasion too.
	refuse("ann", "r", 4)
	d.clock.Advance(time.Minute)
	refuse("ann", "r", 1)
	require.Len(t, d.refusals(), 8+3+1)
	require.Len(t, counted(), 3)

	// Every power of ten from 100 is recorded at once, so that a crash loses little.
	refuse("ann", "r", 2+99)
	require.Len(t, counted(), 3)
	d.clock.Advance(time.Second)
	refuse("ann", "r", 1)
	two := noon.Add(2 * time.Minute)
	require.Equal(t, command.RefusalsCounted{Actor: "ann", Rule: "r", From: two, Until: two.Add(time.Second), Count: 100}, counted()[3])
	refuse("ann", "r", 900+5)
	require.Equal(t, command.RefusalsCounted{Actor: "ann", Rule: "r", From: two.Add(time.Second), Until: two.Add(time.Second), Count: 900}, counted()[4])
	require.NoError(t, d.Close(context.Background()))
	require.Equal(t, uint64(5), counted()[5].(command.RefusalsCounted).Count)
	require.Len(t, counted(), 6)
	require.Zero(t, d.Status().Unrecorded)
}

// sums returns how many refusals the log tells of, and by how many events.
func (d *desk) sums() (told uint64, events int) {
	_, payloads := d.all("refusals-")
	for _, p := range payloads {
		switch p := p.(type) {
		case command.CommandRefused:
			told++
		case command.RefusalsCounted:
			told += p.Count
		}
	}
	return told, len(payloads)
}

func TestManyActorsAndRulesTakeBoundedRoom(t *testing.T) {
	const actors, rules = 6_000, 1_000
	d := open(t, func(c *command.Config) { c.RefusalsPerMinute = 1 })
	for i := range actors {
		_, err := d.Do(context.Background(), call(fmt.Sprint("u-", i), "x", 1, ""), refusing(command.Refusal{Rule: "r"}))
		require.Error(t, err)
	}
	for i := range rules {
		_, err := d.Do(context.Background(), call("eve", "x", 1, ""), refusing(command.Refusal{Rule: fmt.Sprint("r-", i)}))
		require.Error(t, err)
	}
	require.NoError(t, d.Close(context.Background()))
	told, events := d.sums()
	require.Equal(t, uint64(actors+rules), told)
	require.LessOrEqual(t, events, 4096+256+10)
	_, payloads := d.all("refusals-")
	require.Contains(t, payloads, command.RefusalsCounted{Rule: "r", From: noon, Until: noon, Count: 900}, "of several actors")
	require.Contains(t, payloads, command.RefusalsCounted{From: noon, Until: noon, Count: 645}, "of several rules too: 1,000 less 255, less 100 counted before")
}

func TestRulesThatBeginAlikeAtLengthAreOneRule(t *testing.T) {
	d := open(t, func(c *command.Config) { c.RefusalsPerMinute = 1 })
	rule := strings.Repeat("r", 200)
	for i := range 5 {
		_, err := d.Do(context.Background(), call("ann", "x", 1, ""), refusing(command.Refusal{Rule: fmt.Sprint(rule, i)}))
		require.True(t, command.By(err, fmt.Sprint(rule, i)))
	}
	require.NoError(t, d.Close(context.Background()))
	cut := strings.Repeat("r", 125) + "…"
	_, payloads := d.all("refusals-")
	require.Len(t, payloads, 2)
	require.Equal(t, cut, payloads[0].(command.CommandRefused).Rule)
	require.Equal(t, command.RefusalsCounted{Actor: "ann", Rule: cut, From: noon, Until: noon, Count: 4}, payloads[1])
}

func TestCountsOfAnyNumberAreRecordedWithinTheLimitsOfAppends(t *testing.T) {
	const actors = 1_200 // more than events an append
	d := open(t, func(c *command.Config) { c.RefusalsPerMinute = 1 })
	for i := range 3 * actors {
		_, err := d.Do(context.Background(), call(fmt.Sprint("u-", i%actors), "x", 1, ""), refusing(command.Refusal{Rule: "r"}))
		require.Error(t, err)
	}
	require.NoError(t, d.Close(context.Background()))
	told, events := d.sums()
	require.Equal(t, uint64(3*actors), told)
	require.Equal(t, 2*actors, events)
}

// A flood of 100,000 denied commands by one actor leaves fewer than 200 events
// and does not disturb a writer on the same stream.
func TestAFloodOfDenialsIsBorneAtFullSize(t *testing.T) {
	denials, writes := 100_000, 500
	if race.Enabled {
		denials, writes = 4_000, 50
	}
	store := memory.New()
	d := open(t, func(c *command.Config) {
		c.Store, c.Clock = store, nil // the real one
		c.Authorizer = command.Policy{Table: command.Table{"giver": {{Actions: []string{"points.*"}}}}, Roles: command.Roles{"ann": {"giver"}}}
	})
	d.memory = store
	var flood sync.WaitGroup
	for range 4 {
		flood.Go(func() {
			for range denials / 4 {
				if _, err := d.give("eve", "x", 1, ""); !command.By(err, "role-required") {
					t.Errorf("it is not denied: %v", err)
					return
				}
			}
		})
	}
	runs := 0
	for range writes {
		_, err := d.Do(context.Background(), call("ann", "x", 0, ""), func(tx *command.Tx) error {
			runs++
			if err := tx.Authorize("points.give", "x", nil); err != nil {
				return err
			}
			if _, err := tx.Check("account-x"); err != nil {
				return err
			}
			return tx.Record("account-x", Given{1})
		})
		require.NoError(t, err)
	}
	flood.Wait()
	require.Equal(t, writes, runs, "the writer never had to begin again")
	require.NoError(t, d.Close(context.Background()))
	told, events := d.sums()
	require.Equal(t, uint64(denials), told, "none is lost")
	require.Less(t, events, 200)
	require.Equal(t, uint64(denials), d.Status().Denied)
	t.Logf("%d denials left %d events", denials, events)
}

// unreadable is a store that is damaged where it is read.
type unreadable struct{ eventstore.Store }

func (unreadable) Read(context.Context, eventstore.Query) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, eventstore.ErrDamaged) }
}

// full is a store that takes no refusals.
type full struct {
	eventstore.Store
	hangs bool
}

func (s full) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if !strings.HasPrefix(events[0].Stream, "refusals-") {
		return s.Store.Append(ctx, events, expect...)
	}
	if s.hangs {
		<-ctx.Done()
		return nil, eventstore.OutcomeUnknown(ctx.Err())
	}
	return nil, eventstore.NotApplied(eventstore.ErrStorageFull)
}

func TestARefusalThatCannotBeRecordedIsStillARefusal(t *testing.T) {
	for name, hangs := range map[string]bool{"the store is full": false, "the store does not answer": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := open(t, func(c *command.Config) {
					c.Store = full{c.Store, hangs}
					c.RefusalsPerMinute = 1
				})
				begin := time.Now()
				_, err := d.give("ann", "x", 11, "")
				require.Equal(t, []string{"at-most-10"}, rules(t, err))
				require.LessOrEqual(t, time.Since(begin), 2*time.Second+50*time.Millisecond)
				require.Equal(t, uint64(1), d.Status().Unrecorded)
				require.Contains(t, d.log.String(), "level=WARN")
				require.Contains(t, d.log.String(), "at-most-10")

				_, err = d.give("ann", "x", 11, "") // counted
				require.Error(t, err)
				d.clock.Advance(time.Minute)
				_, err = d.give("ann", "x", 1, "")
				require.NoError(t, err, "whoever comes next is served")
				require.Equal(t, uint64(2), d.Status().Unrecorded)
				require.Contains(t, d.log.String(), "counts of refusals could not be recorded")
			})
		})
	}
}

func TestCloseSaysThatCountsAreLost(t *testing.T) {
	d := &desk{clock: fixture.At(noon), memory: memory.New()}
	door, err := command.Open(command.Config{
		Store: full{Store: d.memory}, Registry: registry, Authorizer: command.AllowAll, RefusalsPerMinute: 1, Clock: d.clock.Now,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	for range 3 {
		_, err = door.Do(context.Background(), call("ann", "x", 11, ""), work("x", 11))
		require.Error(t, err)
	}
	require.ErrorIs(t, door.Close(context.Background()), eventstore.ErrStorageFull)
	require.ErrorIs(t, door.Close(context.Background()), eventstore.ErrStorageFull)
	require.Equal(t, command.Status{Commands: 3, Refused: 3, Counted: 2, Unrecorded: 3, Closed: true}, door.Status())
}

func TestARefusalIsRecordedAlsoWhenTheCallerHasLeft(t *testing.T) {
	d := open(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := d.Do(ctx, call("ann", "x", 1, ""), func(*command.Tx) error {
		cancel()
		return command.Refuse(command.Refusal{Rule: "r"})
	})
	require.True(t, command.By(err, "r"))
	require.Len(t, d.refusals(), 1)
}

// A program that was restarted gives its commands again, with the keys they had: what
// is refused again for the same reason is one refusal.
func TestARefusalOfACallWithAKeyIsRecordedOnceForEachReason(t *testing.T) {
	d := open(t, nil)
	refuse := func(actor, key string, refusals ...command.Refusal) {
		_, err := d.Do(context.Background(), call(actor, "x", 1, key), refusing(refusals...))
		require.ErrorIs(t, err, command.ErrRefused)
	}
	a, b := command.Refusal{Rule: "r", Reason: "a"}, command.Refusal{Rule: "s", Reason: "b"}
	refuse("ann", "k-1", a, b)
	require.Len(t, d.refusals(), 2)
	d.clock.Advance(40 * 24 * time.Hour) // into another month
	refuse("ann", "k-1", a, b)
	require.Len(t, d.refusals(), 2)
	refuse("ann", "k-1", a, command.Refusal{Rule: "s", Reason: "something else", Kind: command.Refused}, b)
	require.Len(t, d.refusals(), 3, "another reason is another refusal, beside those that are known")
	refuse("ann", "k-2", a, a)
	refuse("bob", "k-1", a)
	require.Len(t, d.refusals(), 5, "other keys and other people's")
	refuse("ann", "", a)
	refuse("ann", "", a)
	require.Len(t, d.refusals(), 7, "without a key each is one")
	require.Zero(t, d.Status().Unrecorded)
}
