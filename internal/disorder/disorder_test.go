package disorder_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/internal/disorder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// comes returns the numbers of n messages as they come.
func comes(t *testing.T, d *disorder.Disorder, n int, refuse func(i int) bool) (numbers []int) {
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	s, err := d.Decorate(channel)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		require.NoError(t, s.Close())
	}()
	messages, err := s.Subscribe(ctx, "numbers")
	require.NoError(t, err)
	published := make(chan error, 1)
	go func() {
		for i := range n {
			if err := channel.Publish("numbers", message.NewMessage(strconv.Itoa(i), nil)); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	seen := map[int]bool{}
	for len(seen) < n {
		m := <-messages
		i, err := strconv.Atoi(m.UUID)
		require.NoError(t, err)
		if refuse(len(numbers)) {
			m.Nack()
		} else {
			m.Ack()
			seen[i] = true
		}
		numbers = append(numbers, i)
	}
	require.NoError(t, <-published)
	return numbers
}

func TestMessagesComeAgainAndOutOfOrder(t *testing.T) {
	d := &disorder.Disorder{Seed: 1, Times: 5, Within: 50}
	numbers := comes(t, d, 1000, func(i int) bool { return i%100 == 7 })
	disordered, highest := 0, 0
	for _, n := range numbers {
		if highest = max(highest, n); n < highest {
			disordered++
		}
	}
	t.Logf("seed 1: 1000 messages came %d times, %d behind a later one, %d were refused", d.Sent.Load(), disordered, d.Nacked.Load())
	require.Greater(t, len(numbers), 2000)
	require.Greater(t, disordered, 1000)
	require.Positive(t, d.Nacked.Load())
}

func TestWithoutDisorderMessagesComeOnceAndInOrder(t *testing.T) {
	for i, n := range comes(t, &disorder.Disorder{Times: 1}, 100, func(int) bool { return false }) {
		require.Equal(t, i, n)
	}
}

func Example() {
	d := &disorder.Disorder{Seed: 7, Times: 2, Within: 3}
	channel := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	s, err := d.Decorate(channel)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	messages, err := s.Subscribe(ctx, "greetings")
	if err != nil {
		panic(err)
	}
	if err := channel.Publish("greetings", message.NewMessage("1", []byte("hello"))); err != nil {
		panic(err)
	}
	m := <-messages
	m.Ack()
	fmt.Println(string(m.Payload))
	cancel()
	if err := s.Close(); err != nil {
		panic(err)
	}
	// Output: hello
}
