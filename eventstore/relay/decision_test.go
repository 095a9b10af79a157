package relay_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
)

const durable = "durable/prefix:s-" // the consumer of the subscriber "durable"

// decide runs a decision as another process would.
func decide(t *testing.T, store eventstore.Store, f func(tx *eventstore.Tx) error) []eventstore.Recorded {
	t.Helper()
	registry, err := eventstore.NewRegistry(relay.Types()...)
	require.NoError(t, err)
	records, err := eventstore.Update(t.Context(), store, registry, func(tx *eventstore.Tx) error {
		tx.Meta = eventstore.Metadata{Actor: "ann"}
		return f(tx)
	})
	require.NoError(t, err)
	return records
}

func park(t *testing.T, store eventstore.Store, r eventstore.Recorded) {
	t.Helper()
	decide(t, store, func(tx *eventstore.Tx) error { return relay.Park(tx, durable, r.Event, "wait for the vendor") })
}

func retry(t *testing.T, store eventstore.Store, r eventstore.Recorded) {
	t.Helper()
	decide(t, store, func(tx *eventstore.Tx) error { return relay.Retry(tx, durable, r.ID) })
}

func skip(t *testing.T, store eventstore.Store, r eventstore.Recorded) {
	t.Helper()
	decide(t, store, func(tx *eventstore.Tx) error { return relay.Skip(tx, durable, r.ID) })
}

// byWorkers runs a test with one and with several.
func byWorkers(t *testing.T, f func(t *testing.T, store *memory.Store, config relay.Config)) {
	t.Helper()
	for name, workers := range map[string]int{"one worker": 1, "several workers": 4} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, store *memory.Store) {
				f(t, store, relay.Config{Name: "durable", Workers: workers})
			})
		})
	}
}

func TestAnEventThatIsParkedBeforeItComesHoldsUpItsStreamOnly(t *testing.T) {
	byWorkers(t, func(t *testing.T, store *memory.Store, config relay.Config) {
		one := record(t, store, "s-1", 3)
		record(t, store, "s-2", 1)
		park(t, store, one[1])
		c := consume(t, store, config, ack)
		require.ElementsMatch(t, []string{"s-1/1", "s-2/1"}, c.after(time.Hour))
		status := c.status()
		require.Len(t, status.Behind, 1)
		require.True(t, status.Behind[0].Parked)
		require.Equal(t, one[1].ID, status.Behind[0].Event)

		c.close() // and across a restart
		c = consume(t, store, config, ack)
		require.Empty(t, c.after(time.Hour))
		retry(t, store, one[1])
		require.Equal(t, []string{"s-1/2", "s-1/3"}, c.after(time.Second))
		require.Empty(t, c.status().Behind)
	})
}

func TestAnEventThatIsSkippedBeforeItComesNeverDoes(t *testing.T) {
	byWorkers(t, func(t *testing.T, store *memory.Store, config relay.Config) {
		one := record(t, store, "s-1", 4)
		skip(t, store, one[0])
		skip(t, store, one[2])
		c := consume(t, store, config, ack)
		require.Equal(t, []string{"s-1/2", "s-1/4"}, c.after(time.Hour))
		require.Zero(t, c.status().Lag)
	})
}

// While its stream's earlier event is under way, what is decided on later ones must
// not have them overtake it.
func TestWhatIsDecidedOnLaterEventsWaitsForTheEarlierOnes(t *testing.T) {
	for name, decision := range map[string]func(*testing.T, eventstore.Store, eventstore.Recorded){
		"parked": park, "skipped": skip,
		"parked and retried": func(t *testing.T, store eventstore.Store, r eventstore.Recorded) {
			park(t, store, r)
			time.Sleep(time.Minute)
			retry(t, store, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			byWorkers(t, func(t *testing.T, store *memory.Store, config relay.Config) {
				one := record(t, store, "s-1", 4)
				release := make(chan struct{})
				c := consume(t, store, config, func(_ string, m *message.Message) { <-release; m.Nack() })
				require.Equal(t, []string{"s-1/1"}, c.after(time.Hour))
				decision(t, store, one[1])
				require.Empty(t, c.after(time.Hour))
				c.answers(ack)
				close(release)
				want := map[string][]string{
					"parked": {"s-1/1"}, "skipped": {"s-1/1", "s-1/3", "s-1/4"}, "parked and retried": {"s-1/1", "s-1/2", "s-1/3", "s-1/4"},
				}[name]
				require.Equal(t, want, c.after(time.Hour))
			})
		})
	}
}

func TestAnEventThatFailsIsParkedSkippedAndRetriedByPersonsWithinASecond(t *testing.T) {
	byWorkers(t, func(t *testing.T, store *memory.Store, config relay.Config) {
		config.FirstPause, config.LastPause = time.Hour, time.Hour // only a decision makes it sooner
		one := record(t, store, "s-1", 2)
		two := record(t, store, "s-2", 1)
		c := consume(t, store, config, refuse("s-1/1", "s-2/1"))
		c.after(time.Second)
		require.NotEmpty(t, c.status().Behind)
		park(t, store, one[0])
		c.after(time.Second)
		require.True(t, c.status().Behind[0].Parked)
		skip(t, store, two[0])
		c.answers(ack)
		require.Empty(t, c.after(time.Second))
		retry(t, store, one[0])
		require.Equal(t, []string{"s-1/1", "s-1/2"}, c.after(time.Second))
		require.Empty(t, c.status().Behind)
		require.Zero(t, c.status().Lag)
	})
}

func TestADecisionOnAnEventUnderWayCountsOnceItIsAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		decide func(*testing.T, eventstore.Store, eventstore.Recorded)
		acks   bool
		want   []string // after the answer
	}{
		"parked, then refused":       {park, false, nil},
		"parked, then acknowledged":  {park, true, []string{"s-1/2"}},
		"skipped, then refused":      {skip, false, []string{"s-1/2"}},
		"skipped, then acknowledged": {skip, true, []string{"s-1/2"}},
	} {
		t.Run(name, func(t *testing.T) {
			byWorkers(t, func(t *testing.T, store *memory.Store, config relay.Config) {
				config.Attempts = 1
				one := record(t, store, "s-1", 2)
				release := make(chan struct{})
				s := consume(t, store, config, func(_ string, m *message.Message) {
					<-release
					if c.acks {
						m.Ack()
					}
					m.Nack()
				})
				require.Equal(t, []string{"s-1/1"}, s.after(time.Minute))
				c.decide(t, store, one[0])
				require.Empty(t, s.after(time.Minute))
				s.answers(ack)
				close(release)
				require.Equal(t, c.want, s.after(time.Hour))
			})
		})
	}
}

func TestAPermanentFailureIsParkedAtOnce(t *testing.T) {
	byWorkers(t, func(t *testing.T, store *memory.Store, config relay.Config) {
		record(t, store, "s-1", 2)
		c := consume(t, store, config, func(_ string, m *message.Message) {
			relay.Failed(m, errors.Join(errors.New("told twice"), relay.Permanent(errors.New("no such address"))))
			m.Nack()
		})
		require.Equal(t, []string{"s-1/1"}, c.after(time.Hour))
		var parked []eventstore.Recorded
		for r, err := range store.Read(t.Context(), eventstore.Query{Streams: []string{"relay-" + durable}}) {
			require.NoError(t, err)
			parked = append(parked, r)
		}
		require.Len(t, parked, 1)
		require.Equal(t, "relay.parked", parked[0].Type)
		meta, err := eventstore.DecodeMetadata(parked[0].Meta)
		require.NoError(t, err)
		require.Equal(t, "consumer:"+durable, meta.Actor)
		require.Contains(t, meta.Reason, "no such address")
		require.Contains(t, string(parked[0].Data), `"attempts":1`)
	})
}

func TestLongErrorsAreCutAtACharacter(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 1)
		c := consume(t, store, relay.Config{Name: "durable"}, func(_ string, m *message.Message) {
			relay.Failed(m, relay.Permanent(errors.New("x"+strings.Repeat("ü", 3_000))))
			m.Nack()
		})
		c.after(time.Minute)
		require.True(t, c.status().Behind[0].Parked)
		registry, err := eventstore.NewRegistry(relay.Types()...)
		require.NoError(t, err)
		for r, err := range store.Read(t.Context(), eventstore.Query{Types: []string{"relay.parked"}}) {
			require.NoError(t, err)
			payload, err := registry.Decode(r.Event)
			require.NoError(t, err)
			require.Len(t, payload.(relay.Parked).Error, 1_023)
		}
	})
}

func TestWhatIsDecidedAlreadyRecordsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		one := record(t, store, "s-1", 1)[0]
		retryError := func() error {
			registry, err := eventstore.NewRegistry(relay.Types()...)
			require.NoError(t, err)
			_, err = eventstore.Update(t.Context(), store, registry, func(tx *eventstore.Tx) error { return relay.Retry(tx, durable, one.ID) })
			return err
		}
		do := func(f func(tx *eventstore.Tx) error) int { return len(decide(t, store, f)) }
		parkIt := func(tx *eventstore.Tx) error { return relay.Park(tx, durable, one.Event, "why") }
		skipIt := func(tx *eventstore.Tx) error { return relay.Skip(tx, durable, one.ID) }
		require.ErrorIs(t, retryError(), relay.ErrNotParked)
		require.Equal(t, 1, do(parkIt))
		require.Equal(t, 0, do(parkIt))
		require.NoError(t, retryError())
		require.ErrorIs(t, retryError(), relay.ErrNotParked)
		require.Equal(t, 1, do(parkIt))
		require.Equal(t, 1, do(skipIt))
		require.Equal(t, 0, do(skipIt))
		require.Equal(t, 0, do(parkIt), "it is skipped for ever")
		require.ErrorIs(t, retryError(), relay.ErrNotParked)
	})
}

func TestManyDecisionsAreTakenInOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		var all []eventstore.Recorded
		for range 100 {
			all = append(all, record(t, store, "s-"+uuid.NewString(), 2)...)
		}
		c := consume(t, store, relay.Config{Name: "durable", Workers: 8, Attempts: 1}, func(name string, m *message.Message) {
			if strings.HasSuffix(name, "/1") && name[2] < '8' { // about half
				m.Nack()
			}
			m.Ack()
		})
		c.after(time.Hour)
		behind := c.status().Behind
		require.NotEmpty(t, behind)
		c.answers(ack)
		for _, b := range behind {
			i := slices.IndexFunc(all, func(r eventstore.Recorded) bool { return r.ID == b.Event })
			if i%3 == 0 {
				skip(t, store, all[i])
			} else {
				retry(t, store, all[i])
			}
		}
		c.after(time.Minute)
		require.Empty(t, c.status().Behind)
	})
}

func TestAConsumerThatStartsFromNowPassesOverWhatIsThere(t *testing.T) {
	bubble(t, func(t *testing.T, store *memory.Store) {
		record(t, store, "s-1", 3)
		config := relay.Config{Name: "durable", FromNow: true}
		c := consume(t, store, config, ack)
		require.Empty(t, c.take())
		record(t, store, "s-1", 1)
		require.Equal(t, []string{"s-1/4"}, c.take())
		c.close()
		record(t, store, "s-1", 1)
		c = consume(t, store, config, ack) // now means when it was started first
		require.Equal(t, []string{"s-1/5"}, c.take())
		c.close()

		require.NoError(t, store.DeleteCheckpoint(context.Background(), "relay-"+durable))
		c = consume(t, store, config, ack) // so it does without its checkpoint, where nobody knows that the lease was let go
		require.Equal(t, []string{"s-1/4", "s-1/5"}, c.after(time.Minute))
	})
}

func TestADeletedCheckpointLosesTimeOnly(t *testing.T) {
	byWorkers(t, func(t *testing.T, store *memory.Store, config relay.Config) {
		one := record(t, store, "s-1", 3)
		skip(t, store, one[1])
		c := consume(t, store, config, ack)
		require.Equal(t, []string{"s-1/1", "s-1/3"}, c.take())
		c.close()
		require.NoError(t, store.DeleteCheckpoint(context.Background(), "relay-"+durable))
		c = consume(t, store, config, ack)
		synctest.Wait()
		require.Equal(t, []string{"s-1/1", "s-1/3"}, c.after(time.Minute), "decisions are in the log")
	})
}
