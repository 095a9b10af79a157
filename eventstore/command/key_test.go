package command_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// reopen opens another door on the store of d, as after a restart or in another process.
func (d *desk) reopen() *desk {
	other := open(d.t, func(c *command.Config) { c.Store, c.Clock = d.store, d.clock.Now })
	other.memory = d.memory
	return other
}

func TestTheSameKeyAgainGivesTheFirstAnswerAndNoEffect(t *testing.T) {
	d := open(t, nil)
	first, err := d.give("ann", "x", 3, "k")
	require.NoError(t, err)
	require.False(t, first.Repeated)
	require.Equal(t, []eventstore.Expect{eventstore.At("account-x", 1)}, first.Streams)
	require.Equal(t, "command.done", first.Records[len(first.Records)-1].Type)
	_, err = d.give("ann", "x", 3, "") // the account moves on
	require.NoError(t, err)
	head, err := d.memory.Head(context.Background())
	require.NoError(t, err)

	for name, door := range map[string]*desk{"the same door": d, "a later door": d.reopen()} {
		t.Run(name, func(t *testing.T) {
			ran := false
			again, err := door.Do(context.Background(), call("ann", "x", 3, "k"), func(*command.Tx) error { ran = true; return nil })
			require.NoError(t, err)
			require.False(t, ran)
			require.Equal(t, command.Done{Position: first.Position, Streams: first.Streams, Repeated: true}, again)
			require.GreaterOrEqual(t, door.Last(), first.Position)
			require.Equal(t, uint64(1), door.Status().Repeated)
			now, err := d.memory.Head(context.Background())
			require.NoError(t, err)
			require.Equal(t, head, now)
		})
	}
}

func TestAKeyIsForOneCommand(t *testing.T) {
	d := open(t, nil)
	one := call("ann", "x", 3, "k")
	one.Content = map[string]any{"b": []int{1}, "a": 2}
	_, err := d.Do(context.Background(), one, work("x", 3))
	require.NoError(t, err)
	require.NoError(t, grant(d, "cleo", "ann"))

	for name, c := range map[string]struct {
		change func(*command.Call)
		reused bool
	}{
		"the same":                        {func(c *command.Call) {}, false},
		"the same in other Go values":     {func(c *command.Call) { c.Content = struct{ A, B any }{} }, true},
		"the same in another order":       {func(c *command.Call) { c.Content = map[string]any{"a": 2, "b": []int{1}} }, false},
		"another reason":                  {func(c *command.Call) { c.Reason = "because" }, false},
		"another content":                 {func(c *command.Call) { c.Content = map[string]any{"a": 3} }, true},
		"no content":                      {func(c *command.Call) { c.Content = nil }, true},
		"another target":                  {func(c *command.Call) { c.Target = "y" }, true},
		"another action":                  {func(c *command.Call) { c.Action = "points.take" }, true},
		"another person's right":          {func(c *command.Call) { c.Actor = c.Actor.For("cleo") }, true},
		"his own right in so many words":  {func(c *command.Call) { c.Actor = c.Actor.For("ann") }, false},
		"the border between two parts":    {func(c *command.Call) { c.Action, c.Target = "points.givex", "" }, true},
		"the same from another place":     {func(c *command.Call) { c.Actor.Source = "elsewhere" }, false},
		"the same in another undertaking": {func(c *command.Call) { c.Correlation = "c" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			again := one
			c.change(&again)
			done, err := d.Do(context.Background(), again, func(*command.Tx) error { panic("it must not run") })
			if c.reused {
				require.ErrorIs(t, err, command.ErrRefused)
				require.Equal(t, []string{"key-reused"}, rules(t, err))
				return
			}
			require.NoError(t, err)
			require.True(t, done.Repeated)
		})
	}
}

// grant lets to use all of person's rights for a day.
func grant(d *desk, person, to string) error {
	_, err := d.Delegate(context.Background(), command.As(person), command.Delegation{
		Person: person, To: to, Actions: []string{"*"}, Until: d.clock.Now().AddDate(0, 0, 1),
	})
	return err
}

func TestKeysAreTheActorsOwn(t *testing.T) {
	d := open(t, nil)
	for _, who := range []struct{ actor, key string }{{"ann", "k"}, {"bob", "k"}, {"an", "nk"}, {"annk", "x"}, {"ann", "kx"}} {
		done, err := d.give(who.actor, "x", 1, who.key)
		require.NoError(t, err)
		require.False(t, done.Repeated, "%v", who)
	}
	records, _ := d.all("account-")
	require.Len(t, records, 5)
}

func TestACommandThatRecordsNothingIsStillAnsweredOnce(t *testing.T) {
	d := open(t, nil)
	first, err := d.give("ann", "x", 0, "k")
	require.NoError(t, err)
	require.Len(t, first.Records, 1)
	require.Empty(t, first.Streams)
	again, err := d.give("ann", "x", 0, "k")
	require.NoError(t, err)
	require.Equal(t, command.Done{Position: first.Position, Repeated: true}, again)
}

// The answer is the door's own event, which needs no permission of the actor.
func TestAKeyedCommandThatRecordsNothingNeedsNobodysPermission(t *testing.T) {
	d := open(t, nil)
	done, err := d.Do(context.Background(), call("ann", "x", 0, "k"), func(*command.Tx) error { return nil })
	require.NoError(t, err)
	require.Len(t, done.Records, 1)
}

func TestARefusedCommandLeavesItsKeyFree(t *testing.T) {
	d := open(t, nil)
	_, err := d.give("ann", "x", 11, "k")
	require.True(t, command.By(err, "at-most-10"))
	done, err := d.give("ann", "x", 1, "k")
	require.NoError(t, err)
	require.False(t, done.Repeated)
}

// Whatever a unit of work makes of tags and metadata, the answer is the door's.
func TestTheAnswerIsRecordedInTheNameOfTheCall(t *testing.T) {
	d := open(t, nil)
	done, err := d.Do(context.Background(), call("ann", "x", 1, "k"), func(tx *command.Tx) error {
		tx.Meta.Actor, tx.Tags = "system", []string{"odd"}
		return work("x", 1)(tx)
	})
	require.NoError(t, err)
	require.Equal(t, []string{"odd"}, done.Records[0].Tags)
	require.Empty(t, done.Records[1].Tags)
	meta, err := eventstore.DecodeMetadata(done.Records[1].Meta)
	require.NoError(t, err)
	require.Equal(t, "ann", meta.Actor)
}

func TestOfManyCommandsWithOneKeyOneHasAnEffectAndAllHaveItsAnswer(t *testing.T) {
	const many, rounds = 16, 20
	d := open(t, nil)
	doors := []*desk{d, d.reopen()}
	for round := range rounds {
		account := fmt.Sprint("x", round)
		answers := make([]command.Done, many)
		var together sync.WaitGroup
		for i := range many {
			together.Go(func() {
				done, err := doors[i%2].give("ann", account, 6, "k"+account)
				if err != nil {
					t.Errorf("%d: %v", i, err)
				}
				answers[i] = done
			})
		}
		together.Wait()
		effects := 0
		for _, a := range answers {
			if !a.Repeated {
				effects++
			}
			require.Equal(t, answers[0].Position, a.Position)
			require.Equal(t, []eventstore.Expect{eventstore.At("account-"+account, 1)}, a.Streams)
		}
		require.Equal(t, 1, effects)
		records, _ := d.all("account-" + account)
		require.Len(t, records, 1)
	}
}

func TestACommandThatIsOvertakenByItselfGivesTheFirstAnswer(t *testing.T) {
	for name, late := range map[string]bool{"before it reads": false, "after it has read": true} {
		t.Run(name, func(t *testing.T) {
			d := open(t, nil)
			runs := 0
			var first command.Done
			itself := func() {
				var err error
				first, err = d.give("ann", "x", 6, "k")
				require.NoError(t, err)
			}
			done, err := d.Do(context.Background(), call("ann", "x", 6, "k"), func(tx *command.Tx) error {
				if runs++; !late {
					itself()
				}
				err := work("x", 6)(tx)
				if late {
					itself()
				} else {
					require.True(t, command.By(err, "at-most-10"), "it meets its own points")
				}
				return err
			})
			require.NoError(t, err)
			require.Equal(t, command.Done{Position: first.Position, Streams: first.Streams, Repeated: true}, done)
			require.Equal(t, 1, runs)
			require.Empty(t, d.refusals())
		})
	}
}

// A model of what keys mean: an answer for each (actor, key), and the points of each account.
func TestRandomCommandsWithKeysDoWhatAModelDoes(t *testing.T) {
	type asked struct {
		account string
		points  int
	}
	type name struct{ actor, key string }
	rapid.Check(t, func(r *rapid.T) {
		d := open(t, nil)
		answers := map[name]command.Done{}
		first := map[name]asked{}
		points, events := map[string]int{}, map[string]uint64{}
		for range rapid.IntRange(1, 40).Draw(r, "commands") {
			if rapid.IntRange(0, 9).Draw(r, "restart") == 0 {
				d = d.reopen()
			}
			who := name{rapid.SampledFrom([]string{"ann", "bob"}).Draw(r, "actor"), rapid.SampledFrom([]string{"", "k1", "k2", "k3"}).Draw(r, "key")}
			want := asked{rapid.SampledFrom([]string{"x", "y"}).Draw(r, "account"), rapid.IntRange(0, 4).Draw(r, "points")}
			done, err := d.give(who.actor, want.account, want.points, who.key)

			answer, known := answers[who]
			switch {
			case known && first[who] != want:
				require.Equal(r, []string{"key-reused"}, rules(r, err))
				continue
			case known:
				require.NoError(r, err)
				require.Equal(r, command.Done{Position: answer.Position, Streams: answer.Streams, Repeated: true}, done)
				continue
			case points[want.account]+want.points > 10:
				require.Equal(r, []string{"at-most-10"}, rules(r, err))
				continue
			}
			require.NoError(r, err)
			require.False(r, done.Repeated)
			var streams []eventstore.Expect
			if want.points > 0 {
				points[want.account] += want.points
				events[want.account]++
				streams = append(streams, eventstore.At("account-"+want.account, events[want.account]))
			}
			require.Equal(r, streams, done.Streams)
			if who.key != "" {
				answers[who], first[who] = done, want
			}
		}
		sums := map[string]int{}
		records, payloads := d.all("account-")
		for i, p := range payloads {
			sums[records[i].Stream[len("account-"):]] += p.(Given).Points
		}
		for account, sum := range points {
			require.Equal(r, sum, sums[account])
		}
		keys, _ := d.all("key-")
		require.Len(r, keys, len(answers))
	})
}
