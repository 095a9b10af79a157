package command_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/fixture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The domain of these tests: points are given to accounts, at most 10 to each.

type Given struct {
	Points int `json:"points"`
}

var accounts = eventstore.Decider[int, int]{
	Decide: func(sum, points int) ([]any, error) {
		if sum+points > 10 {
			return nil, command.Refuse(command.Refusal{Rule: "at-most-10", Reason: fmt.Sprintf("it has %d", sum), Remedy: "give fewer"})
		}
		if points == 0 {
			return nil, nil
		}
		return []any{Given{points}}, nil
	},
	Evolve: func(sum int, payload any) int {
		if g, ok := payload.(Given); ok {
			sum += g.Points
		}
		return sum
	},
}

var registry = func() *eventstore.Registry {
	r, err := eventstore.NewRegistry(append(command.Types(), eventstore.Type[Given]("points.given", 1))...)
	if err != nil {
		panic(err)
	}
	return r
}()

// noon is when the injected clock of these tests starts.
var noon = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

// desk is a door with all that is around it.
type desk struct {
	*command.Door
	t      testing.TB
	store  eventstore.Store
	memory *memory.Store
	clock  *fixture.Clock
	log    *fixture.Lines
}

// open opens a door on a new memory store, where everybody may do everything,
// after change has had its way with the config.
func open(t testing.TB, change func(*command.Config)) *desk {
	d := &desk{t: t, memory: memory.New(), clock: fixture.At(noon), log: &fixture.Lines{}}
	config := command.Config{
		Store: d.memory, Registry: registry, Authorizer: command.AllowAll, Clock: d.clock.Now,
		Logger: slog.New(slog.NewTextHandler(d.log, nil)),
	}
	if change != nil {
		change(&config)
	}
	d.store = config.Store
	door, err := command.Open(config)
	require.NoError(t, err)
	d.Door = door
	t.Cleanup(func() { require.NoError(t, door.Close(context.Background())) })
	return d
}

// call gives points to an account in the usual way.
func call(actor, account string, points int, key string) command.Call {
	return command.Call{Actor: command.As(actor), Action: "points.give", Target: account, Key: key, Content: points}
}

func work(account string, points int) func(tx *command.Tx) error {
	return func(tx *command.Tx) error {
		if err := tx.Authorize("points.give", account, nil); err != nil {
			return err
		}
		_, err := accounts.Do(tx.Tx, "account-"+account, points)
		return err
	}
}

func (d *desk) give(actor, account string, points int, key string) (command.Done, error) {
	return d.Do(context.Background(), call(actor, account, points, key), work(account, points))
}

// all returns the events with that prefix of their stream, and their payloads.
func (d *desk) all(prefix string) (records []eventstore.Recorded, payloads []any) {
	for r, err := range d.memory.Read(context.Background(), eventstore.Query{Prefix: prefix}) {
		require.NoError(d.t, err)
		payload, err := registry.Decode(r.Event)
		require.NoError(d.t, err)
		records, payloads = append(records, r), append(payloads, payload)
	}
	return records, payloads
}

func (d *desk) refusals() []command.CommandRefused {
	var list []command.CommandRefused
	_, payloads := d.all("refusals-")
	for _, p := range payloads {
		if r, ok := p.(command.CommandRefused); ok {
			list = append(list, r)
		}
	}
	return list
}

// rules returns the names of the rules by which err refuses, in order.
func rules(t require.TestingT, err error) []string {
	var e *command.Error
	require.ErrorAs(t, err, &e)
	return named(e.Refusals)
}

func named(refusals []command.Refusal) []string {
	var names []string
	for _, r := range refusals {
		names = append(names, r.Rule)
	}
	return names
}

func TestADoorIsNotOpenedWithoutWhatItStandsOn(t *testing.T) {
	bare, err := eventstore.NewRegistry(eventstore.Type[Given]("points.given", 1))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*command.Config)
		says   string
	}{
		"no store":               {func(c *command.Config) { c.Store = nil }, "a Store is required"},
		"no registry":            {func(c *command.Config) { c.Registry = nil }, "command.Types()"},
		"another registry":       {func(c *command.Config) { c.Registry = bare }, "command.Types()"},
		"no authorizer":          {func(c *command.Config) { c.Authorizer = nil }, "AllowAll"},
		"a negative deadline":    {func(c *command.Config) { c.HookTimeout = -1 }, "not negative"},
		"a negative flood limit": {func(c *command.Config) { c.RefusalsPerMinute = -1 }, "not negative"},
	} {
		t.Run(name, func(t *testing.T) {
			config := command.Config{Store: memory.New(), Registry: registry, Authorizer: command.AllowAll}
			_, err := command.Open(config)
			require.NoError(t, err, "the config as such does")
			c.change(&config)
			_, err = command.Open(config)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestEveryEventSaysWhoActedAndWhy(t *testing.T) {
	d := open(t, nil)
	d.clock.Advance(1234567 * time.Nanosecond) // 1.234567 ms
	berlin := time.FixedZone("CET", 3600)
	d.clock.Set(d.clock.Now().In(berlin))
	cause := uuid.Must(uuid.NewV7())
	_, err := d.Delegate(context.Background(), command.As("ann"), command.Delegation{
		Person: "ann", To: "bob", Actions: []string{"points.*"}, Until: noon.Add(time.Hour),
	})
	require.NoError(t, err)
	done, err := d.Do(context.Background(), command.Call{
		Actor:  command.Actor{ID: "bob", OnBehalfOf: "ann", Source: "cli"},
		Action: "points.give", Target: "x", Reason: "line one\nline two", Key: "k", Correlation: "c", Causation: cause,
	}, work("x", 3))
	require.NoError(t, err)
	require.Len(t, done.Records, 2)
	for _, r := range done.Records {
		meta, err := eventstore.DecodeMetadata(r.Meta)
		require.NoError(t, err)
		require.Equal(t, eventstore.Metadata{
			Actor: "bob", OnBehalfOf: "ann", Reason: "line one\nline two", Command: "points.give", Key: "k", Correlation: "c",
			Causation: cause, Source: "cli", OccurredAt: noon.Add(1234 * time.Microsecond),
		}, meta)
	}
}

func TestOnBehalfOfOneselfIsInOnesOwnRight(t *testing.T) {
	d := open(t, func(c *command.Config) {
		c.Authorizer = command.Policy{Table: command.Table{"giver": {{Actions: []string{"*"}}}}, Roles: command.Roles{"ann": {"giver"}}}
	})
	c := call("ann", "x", 1, "")
	c.Actor = c.Actor.For("ann")
	done, err := d.Do(context.Background(), c, work("x", 1))
	require.NoError(t, err)
	meta, err := eventstore.DecodeMetadata(done.Records[0].Meta)
	require.NoError(t, err)
	require.Empty(t, meta.OnBehalfOf)
}

func TestDoneSaysWhereEverythingStands(t *testing.T) {
	d := open(t, nil)
	_, err := d.give("ann", "x", 1, "")
	require.NoError(t, err)
	done, err := d.Do(context.Background(), call("ann", "x", 2, ""), func(tx *command.Tx) error {
		require.NoError(t, tx.Authorize("points.give", "", nil))
		for _, account := range []string{"y", "x", "x"} { // several commands, one append
			if _, err := accounts.Do(tx.Tx, "account-"+account, 2); err != nil {
				return err
			}
		}
		_, err := tx.Check("account-z")
		return err
	})
	require.NoError(t, err)
	require.Equal(t, []eventstore.Expect{eventstore.At("account-y", 1), eventstore.At("account-x", 3)}, done.Streams)
	require.Len(t, done.Records, 3)
	require.Equal(t, done.Records[2].Position, done.Position)
	require.Equal(t, done.Records[0].Position, done.Records[2].Append)
	require.Equal(t, done.Position, d.Last())

	none, err := d.give("ann", "x", 0, "")
	require.NoError(t, err)
	require.Equal(t, command.Done{}, none)
	require.Equal(t, done.Position, d.Last())
	require.Equal(t, command.Status{Commands: 3}, d.Status())
}

func TestAnAttemptHasOneTimeAndTheNextOneAnother(t *testing.T) {
	d := open(t, nil)
	var times []time.Time
	_, err := d.Do(context.Background(), call("ann", "x", 1, ""), func(tx *command.Tx) error {
		times = append(times, tx.Now)
		d.clock.Advance(time.Second)
		if len(times) == 1 {
			overtake(t, tx, d, "account-x")
		}
		return work("x", 1)(tx)
	})
	require.NoError(t, err)
	require.Equal(t, []time.Time{noon, noon.Add(time.Second)}, times)
}

// overtake has another writer come between: tx has read stream, and it moves.
func overtake(t testing.TB, tx *command.Tx, d *desk, stream string) {
	_, err := tx.Check(stream)
	require.NoError(t, err)
	_, err = eventstore.Update(context.Background(), d.memory, registry, func(tx *eventstore.Tx) error {
		return tx.RecordBlind(stream, Given{1})
	})
	require.NoError(t, err)
}

func TestWhatRecordsWithoutAskingIsRefused(t *testing.T) {
	for name, f := range map[string]func(tx *command.Tx) error{
		"through a decider": func(tx *command.Tx) error {
			_, err := accounts.Do(tx.Tx, "account-x", 1)
			return err
		},
		"blindly": func(tx *command.Tx) error { return tx.RecordBlind("account-x", Given{1}) },
		"with IDs of its own": func(tx *command.Tx) error {
			tx.NewID = func() uuid.UUID { return uuid.Must(uuid.NewV7()) }
			return tx.RecordBlind("account-x", Given{1})
		},
		"after a no that it passed over": func(tx *command.Tx) error {
			_ = tx.Authorize("points.take", "x", nil)
			return tx.RecordBlind("account-x", Given{1})
		},
		"as somebody else": func(tx *command.Tx) error {
			tx.Call.Actor = command.As("root")
			_ = tx.Authorize("points.take", "x", nil)
			return tx.RecordBlind("account-x", Given{1})
		},
	} {
		for _, key := range []string{"", "k"} {
			t.Run(name+" "+key, func(t *testing.T) {
				d := open(t, func(c *command.Config) {
					c.Authorizer = authorizerFunc(func(_ context.Context, r command.Request) error {
						if r.Action == "points.take" && r.Actor.ID != "root" {
							return command.Refuse(command.Refusal{Rule: "never"})
						}
						return nil
					})
				})
				_, err := d.Do(context.Background(), call("ann", "x", 1, key), f)
				require.ErrorIs(t, err, command.ErrDenied)
				require.Equal(t, []string{"not-authorized"}, rules(t, err))
				records, _ := d.all("account-")
				require.Empty(t, records)
				records, _ = d.all("key-")
				require.Empty(t, records)
				require.Len(t, d.refusals(), 1)
			})
		}
	}
}

func TestWhatRecordsNothingNeedsNobodysPermission(t *testing.T) {
	d := open(t, nil)
	done, err := d.Do(context.Background(), call("ann", "x", 0, ""), func(tx *command.Tx) error { return nil })
	require.NoError(t, err)
	require.Zero(t, done)
}

func TestAYesOfAnEarlierAttemptDoesNotCount(t *testing.T) {
	d := open(t, nil)
	attempt := 0
	_, err := d.Do(context.Background(), call("ann", "x", 1, ""), func(tx *command.Tx) error {
		if attempt++; attempt == 1 {
			require.NoError(t, tx.Authorize("points.give", "x", nil))
			overtake(t, tx, d, "account-x")
		}
		_, err := accounts.Do(tx.Tx, "account-x", 1)
		return err
	})
	require.Equal(t, 2, attempt)
	require.Equal(t, []string{"not-authorized"}, rules(t, err))
}

func TestAnErrorThatIsNoRefusalComesBackAsItIs(t *testing.T) {
	d := open(t, nil)
	boom := errors.New("boom")
	_, err := d.Do(context.Background(), call("ann", "x", 1, ""), func(*command.Tx) error { return boom })
	require.Equal(t, boom, err)

	// Nor is a version that the caller named a refusal of the door.
	_, err = d.Do(context.Background(), call("ann", "x", 1, ""), func(tx *command.Tx) error {
		if err := tx.Expect("account-x", 7); err != nil {
			return err
		}
		require.NoError(t, tx.Authorize("points.give", "x", nil))
		return tx.Record("account-x", Given{1})
	})
	require.ErrorIs(t, err, eventstore.ErrConflict)

	big := strings.Repeat("x", eventstore.MaxStream+1)
	_, err = d.Do(context.Background(), call("ann", "x", 1, ""), func(tx *command.Tx) error {
		require.NoError(t, tx.Authorize("points.give", "x", nil))
		return tx.RecordBlind(big, Given{1})
	})
	require.ErrorIs(t, err, eventstore.ErrTooLarge)
	require.Empty(t, d.refusals())
	require.Equal(t, command.Status{Commands: 3}, d.Status())
}

func TestAPanicOfAUnitOfWorkLeavesTheDoorUsable(t *testing.T) {
	d := open(t, nil)
	require.Panics(t, func() {
		_, _ = d.Do(context.Background(), call("ann", "x", 1, ""), func(*command.Tx) error { panic("boom") })
	})
	require.Zero(t, d.Status().Inside)
	_, err := d.give("ann", "x", 1, "")
	require.NoError(t, err)
}

// The names and fields of events are for ever: what was once recorded is read,
// and written, as it was.
func TestTheEventsOfTheDoorKeepTheirForm(t *testing.T) {
	for name, data := range map[string]string{
		"command.done":             `{"key":"k","action":"points.give","target":"x","digest":"00ff","streams":[{"stream":"account-x","version":3}]}`,
		"command.refused":          `{"action":"points.give","target":"x","actor":"bob","on_behalf_of":"ann","rule":"at-most-10","kind":"refused","reason":"it has 9"}`,
		"command.refusals-counted": `{"actor":"ann","rule":"at-most-10","from":"2026-03-31T12:00:00Z","until":"2026-03-31T12:00:00.000001Z","count":100}`,
		"delegation.given":         `{"person":"ann","to":"bob","actions":["points.*"],"from":"2026-03-31T12:00:00Z","until":"2026-04-01T00:00:00Z","reason":"holiday"}`,
		"delegation.ended":         `{"person":"ann","to":"bob","reason":"back"}`,
	} {
		payload, err := registry.Decode(eventstore.Event{Type: name, Schema: 1, Data: []byte(data)})
		require.NoError(t, err)
		e, err := registry.Encode(uuid.Must(uuid.NewV7()), payload)
		require.NoError(t, err)
		require.Equal(t, name, e.Type)
		require.Equal(t, data, string(e.Data))
	}
}
