//go:build unix

package relay_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/pgtest"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

// realBroker opens both ends of a broker that ends with the test.
type realBroker func(t *testing.T) (message.Publisher, message.Subscriber)

var realBrokers = map[string]realBroker{
	"GoChannel":  overGoChannel,
	"PostgreSQL": overPostgres,
	"JetStream": func(t *testing.T) (message.Publisher, message.Subscriber) {
		p, s, _ := overJetStream(t, true)
		return p, s
	},
}

func overGoChannel(t *testing.T) (message.Publisher, message.Subscriber) {
	g := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	return g, g
}

func overPostgres(t *testing.T) (message.Publisher, message.Subscriber) {
	db, err := sql.Open("pgx", pgtest.Database(t))
	require.NoError(t, err)
	p, err := watermillsql.NewPublisher(watermillsql.BeginnerFromStdSQL(db), watermillsql.PublisherConfig{
		SchemaAdapter: watermillsql.DefaultPostgreSQLSchema{}, AutoInitializeSchema: true,
	}, watermill.NopLogger{})
	require.NoError(t, err)
	s, err := watermillsql.NewSubscriber(watermillsql.BeginnerFromStdSQL(db), watermillsql.SubscriberConfig{
		ConsumerGroup: "readers", SchemaAdapter: watermillsql.DefaultPostgreSQLSchema{}, OffsetsAdapter: watermillsql.DefaultPostgreSQLOffsetsAdapter{},
		InitializeSchema: true, PollInterval: 10 * time.Millisecond, ResendInterval: 10 * time.Millisecond,
	}, watermill.NopLogger{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(p.Close(), s.Close(), db.Close())) })
	return p, s
}

const forwardedTo = "log.all" // TopicName("log", "all")

// overJetStream is a server of NATS within the process; it takes a message that has
// an ID that it knows for the one that it has, where the publisher tracks IDs.
func overJetStream(t *testing.T, track bool) (message.Publisher, message.Subscriber, func() uint64) {
	s, err := server.NewServer(&server.Options{ServerName: "test", DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(time.Minute))
	connect := func() *nats.Conn {
		c, err := nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		require.NoError(t, err)
		return c
	}
	admin := connect()
	js, err := admin.JetStream()
	require.NoError(t, err)
	_, err = js.AddStream(&nats.StreamConfig{Name: "LOG", Subjects: []string{"log.>"}, Duplicates: time.Hour})
	require.NoError(t, err)
	p, err := watermillnats.NewPublisherWithNatsConn(connect(), watermillnats.PublisherPublishConfig{
		Marshaler: &watermillnats.NATSMarshaler{}, SubjectCalculator: watermillnats.DefaultSubjectCalculator,
		JetStream: watermillnats.JetStreamConfig{TrackMsgId: track, ConnectOptions: []nats.JSOpt{nats.MaxWait(time.Minute)}},
	}, watermill.NopLogger{})
	require.NoError(t, err)
	sub, err := watermillnats.NewSubscriberWithNatsConn(connect(), watermillnats.SubscriberSubscriptionConfig{
		JetStream: watermillnats.JetStreamConfig{
			DurablePrefix: "readers", SubscribeOptions: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit(), nats.ManualAck(), nats.AckWait(time.Minute)},
			ConnectOptions: []nats.JSOpt{nats.MaxWait(time.Minute)},
		},
		CloseTimeout: time.Minute, AckWaitTimeout: time.Minute,
	}, watermill.NopLogger{})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, errors.Join(p.Close(), sub.Close()))
		admin.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	return p, sub, func() uint64 {
		at, err := js.StreamInfo("LOG")
		require.NoError(t, err)
		return at.State.Msgs
	}
}

// forwardLog is a log of events in several streams, with names, payloads and metadata
// that brokers may find hard to carry.
func forwardLog(t *testing.T, store eventstore.Store, events int, seed uint64) []eventstore.Recorded {
	random := rand.New(rand.NewPCG(seed, 1))
	data := []string{`{"n": %d}`, " {\n\t\"n\": %d }\n", `{"n": %d, "text": "größe \u0000 \u2028 <&>"}`, `{"n":%d,"f":1e400}`}
	meta := []string{"", "{}", "{\n\t\"actor\" : \"ann\"\r\n}\n", `{"actor":"größe","correlation":"c 1","causation":"01890a5d-ac96-774b-bcce-b302099a8056"}`, `{"correlation":" c\n"}`}
	streams := []string{"told-1", "told-2", "told-größe", "told- a\r\nb ", "told-\t", "told-3", "told-4", "told-5"}
	var batch []eventstore.Event
	for n := range events {
		e := eventstore.Event{
			ID: uuid.New(), Stream: streams[random.IntN(len(streams))], Type: "test.told", Schema: 1 + random.IntN(3),
			Data: fmt.Appendf(nil, data[random.IntN(len(data))], n),
		}
		if m := meta[random.IntN(len(meta))]; m != "" {
			e.Meta = []byte(m)
		}
		for i := range random.IntN(4) {
			e.Tags = append(e.Tags, fmt.Sprintf(" tag-%d\n\"", i))
		}
		if batch = append(batch, e); len(batch) == 100 || n == events-1 {
			_, err := store.Append(t.Context(), batch)
			require.NoError(t, err)
			batch = batch[:0]
		}
	}
	return forwardedLog(t, store, trialTopic)
}

// lossy publishes, and now and then says that it has not.
type lossy struct {
	message.Publisher
	mu     sync.Mutex
	random *rand.Rand
	lost   int
}

func (l *lossy) Publish(topic string, messages ...*message.Message) error {
	if err := l.Publisher.Publish(topic, messages...); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.random.IntN(10) == 0 {
		l.lost++
		return errAnswerLost
	}
	return nil
}

func forwardOver(t *testing.T, store eventstore.Store, p message.Publisher) (f *relay.Forwarder, stop func()) {
	t.Helper()
	config := forwardConfig(store)
	config.FirstPause, config.Attempts, config.Grace = time.Millisecond, -1, time.Minute
	f, err := relay.NewForwarder(config, trialTopic, relay.Destination{
		Publisher: p, To: func(eventstore.Recorded) string { return relay.TopicName("log", "all") }, Timeout: time.Minute,
	})
	require.NoError(t, err)
	return f, runForwarder(t, f.Run)
}

func eventsOver(full int) int {
	if race.Enabled {
		return full / 20
	}
	return full
}

// What a broker's subscriber is given is the log, byte for byte, each stream in order.
func TestALogComesWholeThroughBrokersAtFullSize(t *testing.T) {
	for _, kind := range []storefor.Kind{storefor.SQLite, storefor.Postgres} {
		for name, open := range realBrokers {
			t.Run(string(kind)+" over "+name, func(t *testing.T) {
				seed := forwarderSeed(t)
				store := kind.New(t)
				log := forwardLog(t, store, eventsOver(3000), seed)
				read := time.Now()
				require.Equal(t, log, forwardedLog(t, store, trialTopic))
				reading := time.Since(read)
				publisher, subscriber := open(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				messages, err := subscriber.Subscribe(ctx, forwardedTo)
				require.NoError(t, err)
				p := &lossy{Publisher: publisher, random: rand.New(rand.NewPCG(seed, 2))}
				began := time.Now()
				f, stop := forwardOver(t, store, p)
				come := &fakeBroker{attempts: map[uuid.UUID]int{}}
				got, again := map[uuid.UUID]eventstore.Recorded{}, 0
				for len(got) < len(log) {
					var m *message.Message
					select {
					case m = <-messages:
					case <-time.After(5 * time.Minute):
						require.FailNow(t, "no message", "seed %d: %d of %d came; %+v", seed, len(got), len(log), f.Status())
					}
					r, err := relay.Recorded(m)
					require.NoError(t, err)
					require.Equal(t, r.ID.String(), m.UUID)
					if _, found := got[r.ID]; found {
						again++
					}
					got[r.ID] = r
					come.arrived = append(come.arrived, r)
					m.Ack()
				}
				took := time.Since(began)
				for _, want := range log {
					require.Equal(t, want, got[want.ID])
				}
				require.NoError(t, come.check(log, nil))
				go func() { // what comes again, and nobody looks at
					for m := range messages {
						m.Ack()
					}
				}()
				stop()
				t.Logf("seed %d: %d events in %s, %.0f a second, %.0f times reading the log; %d answers lost, %d came again",
					seed, len(log), took.Round(time.Millisecond), float64(len(log))/took.Seconds(), float64(took)/float64(reading), p.lost, again)
				require.Positive(t, p.lost)
			})
		}
	}
}

// JetStream knows the event's ID again, where the publisher says it: what comes twice
// is stored once.
func TestJetStreamStoresWhatIsPublishedTwiceOnce(t *testing.T) {
	for _, track := range []bool{true, false} {
		store := storefor.Memory.New(t)
		log := forwardLog(t, store, 300, 1)
		publisher, _, stored := overJetStream(t, track)
		p := &lossy{Publisher: publisher, random: rand.New(rand.NewPCG(1, 2))}
		f, stop := forwardOver(t, store, p)
		untilForwarded(t, 5*time.Minute, "all is forwarded", func() bool { return int(f.Status().Acknowledged) == len(log) })
		stop()
		require.Positive(t, p.lost)
		if track {
			require.EqualValues(t, len(log), stored())
		} else {
			require.EqualValues(t, len(log)+p.lost, stored(), "the control: without IDs they are stored twice")
		}
	}
}

// carriedOut is the effect of a handler in the tests.
type carriedOut struct {
	Of uuid.UUID `json:"of"`
}

// toldOf is the payload of what is told.
type toldOf struct {
	N int `json:"n"`
}

// A handler of the messages of a broker has each effect once, by the key of its
// command; a control that has no such key has some twice.
func TestHandlersOfABrokersMessagesHaveEachEffectOnce(t *testing.T) {
	open := maps.Clone(realBrokers)
	open["JetStream"] = func(t *testing.T) (message.Publisher, message.Subscriber) {
		p, s, _ := overJetStream(t, false) // otherwise it has told them apart itself
		return p, s
	}
	for name, open := range open {
		for _, keyed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, keyed: %t", name, keyed), func(t *testing.T) {
				store := storefor.Memory.New(t)
				registry, err := eventstore.NewRegistry(append(command.Types(), eventstore.Type[toldOf]("test.told", 1), eventstore.Type[carriedOut]("test.carried-out", 1))...)
				require.NoError(t, err)
				door, err := command.Open(command.Config{Store: store, Registry: registry, Authorizer: command.AllowAll})
				require.NoError(t, err)
				defer func() { require.NoError(t, door.Close(context.Background())) }()
				handle, err := relay.Handler{Name: "carry-out", Cases: []relay.Case{
					relay.On(func(ctx context.Context, _ toldOf, env relay.Envelope) error {
						call := env.Call(command.Actor{ID: "handler:carry-out"})
						if call.Action = "test.carry-out"; !keyed {
							call.Key = uuid.NewString()
						}
						_, err := door.Do(ctx, call, func(tx *command.Tx) error {
							if err := tx.Authorize(call.Action, "effects", nil); err != nil {
								return err
							}
							return tx.RecordBlind("effects", carriedOut{Of: env.ID})
						})
						return err
					}),
				}}.Func(registry)
				require.NoError(t, err)

				events := eventsOver(300)
				for n := range events {
					tellStream(t, store, fmt.Sprintf("told-%d", n%4), n)
				}
				publisher, subscriber := open(t)
				ctx, cancel := context.WithCancel(t.Context())
				messages, err := subscriber.Subscribe(ctx, forwardedTo)
				require.NoError(t, err)
				ended, failed := make(chan struct{}), make(chan error, 1)
				go func() {
					defer close(ended)
					for m := range messages {
						if err := handle(m); err != nil {
							select {
							case failed <- err:
							default:
							}
						}
						m.Ack()
					}
				}()
				f, stop := forwardOver(t, store, &lossy{Publisher: twice{publisher}, random: rand.New(rand.NewPCG(1, 2))})
				untilForwarded(t, 5*time.Minute, "all is forwarded", func() bool { return int(f.Status().Acknowledged) == events })
				effects := func() (all int, of map[uuid.UUID]int) {
					of = map[uuid.UUID]int{}
					for r, err := range store.Read(context.Background(), eventstore.Query{Streams: []string{"effects"}}) {
						require.NoError(t, err)
						payload, err := registry.Decode(r.Event)
						require.NoError(t, err)
						of[payload.(carriedOut).Of]++
						all++
					}
					return all, of
				}
				untilForwarded(t, 5*time.Minute, "all is handled", func() bool {
					select {
					case err := <-failed:
						require.NoError(t, err)
					default:
					}
					_, of := effects()
					return len(of) == events
				})
				stop()
				cancel()
				require.NoError(t, subscriber.Close())
				<-ended
				all, _ := effects()
				if keyed {
					require.Equal(t, events, all)
				} else {
					require.Greater(t, all, events, "the control has doubles")
				}
			})
		}
	}
}

// twice publishes each message twice.
type twice struct{ message.Publisher }

func (p twice) Publish(topic string, messages ...*message.Message) error {
	for range 2 {
		if err := p.Publisher.Publish(topic, messages[0].Copy()); err != nil {
			return err
		}
	}
	return nil
}

// How much forwarding costs beside reading the log, with a publisher that does nothing.
func BenchmarkForwarder(b *testing.B) {
	for _, kind := range []storefor.Kind{storefor.Memory, storefor.SQLite, storefor.Postgres} {
		b.Run(string(kind), func(b *testing.B) {
			const events = 10_000
			store := kind.New(b)
			for n := range events / 100 {
				var batch []eventstore.Event
				for i := range 100 {
					batch = append(batch, eventstore.Event{
						ID: uuid.New(), Stream: fmt.Sprintf("told-%d", i), Type: "test.told", Schema: 1, Data: fmt.Appendf(nil, `{"n": %d}`, n),
						Meta: []byte(`{"actor":"ann","correlation":"c-1"}`),
					})
				}
				_, err := store.Append(context.Background(), batch)
				require.NoError(b, err)
			}
			var forwarding, reading time.Duration
			for n := 0; b.Loop(); n++ {
				began := time.Now()
				require.Len(b, forwardedLog(b, store, trialTopic), events)
				reading += time.Since(began)

				config := forwardConfig(store)
				config.Name = fmt.Sprintf("to-nothing-%d", n)
				f, err := relay.NewForwarder(config, trialTopic, relay.Destination{Publisher: nothing{}})
				require.NoError(b, err)
				began = time.Now()
				stop := runForwarder(b, f.Run)
				for f.Status().Acknowledged < events {
					time.Sleep(time.Millisecond)
				}
				forwarding += time.Since(began)
				stop()
			}
			b.ReportMetric(float64(forwarding)/float64(reading), "x-readall")
			b.ReportMetric(events*float64(b.N)/forwarding.Seconds(), "events/s")
		})
	}
}

// nothing is a publisher that takes all and does nothing.
type nothing struct{}

func (nothing) Publish(string, ...*message.Message) error { return nil }
func (nothing) Close() error                              { return nil }
