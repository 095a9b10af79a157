// Package disorder delivers Watermill messages as a bad broker may: several times,
// and not in order. Tests put it around a subscriber.
package disorder

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Disorder decorates subscribers. Use one for one subscriber.
type Disorder struct {
	Seed   uint64
	Times  int // a message comes so often at most, and once at least
	Within int // by so many messages it comes later at most, unless there are none

	Lose func(m *message.Message) bool // it never comes; nil: all do

	Sent, Nacked atomic.Uint64
}

// Decorate is a message.SubscriberDecorator. A message is acknowledged to the
// subscriber below at once, and what is refused above comes again later.
func (d *Disorder) Decorate(below message.Subscriber) (message.Subscriber, error) {
	return &subscriber{Subscriber: below, d: d}, nil
}

type subscriber struct {
	message.Subscriber
	d       *Disorder
	working sync.WaitGroup
}

// pending is a message that is to be sent when so many have come.
type pending struct {
	at int
	m  *message.Message
}

// idle is how long nothing comes before what is held back is sent anyway.
const idle = 5 * time.Millisecond

func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := s.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	s.working.Go(func() {
		defer close(out)
		s.mix(ctx, in, out)
	})
	return out, nil
}

func (s *subscriber) mix(ctx context.Context, in <-chan *message.Message, out chan<- *message.Message) {
	r := rand.New(rand.NewPCG(s.d.Seed, 50))
	var held []pending
	came := 0
	hold := func(m *message.Message) {
		p := pending{came + r.IntN(s.d.Within+1), m}
		i, _ := slices.BinarySearchFunc(held, p, func(a, b pending) int { return a.at - b.at })
		held = slices.Insert(held, i, p)
	}
	for in != nil || len(held) > 0 {
		quiet := time.NewTimer(idle)
		ready := len(held) > 0 && held[0].at < came
		if !ready {
			select {
			case m, more := <-in:
				if !more {
					in = nil
					continue
				}
				m.Ack()
				came++
				if s.d.Lose == nil || !s.d.Lose(m) {
					for range 1 + r.IntN(s.d.Times) {
						hold(m)
					}
				}
				quiet.Stop()
				continue
			case <-quiet.C:
				if len(held) == 0 {
					continue
				}
			case <-ctx.Done():
				return
			}
		}
		quiet.Stop()
		m := held[0].m.Copy()
		held = held[1:]
		within, cancel := context.WithCancel(ctx)
		m.SetContext(within)
		again, ok := s.send(ctx, m, out)
		cancel()
		if !ok {
			return
		}
		if again {
			hold(m)
		}
	}
}

// send sends a message and reports whether it is to come again.
func (s *subscriber) send(ctx context.Context, m *message.Message, out chan<- *message.Message) (again, ok bool) {
	select {
	case out <- m:
	case <-ctx.Done():
		return false, false
	}
	s.d.Sent.Add(1)
	select {
	case <-m.Acked():
	case <-m.Nacked():
		s.d.Nacked.Add(1)
		again = true
	case <-ctx.Done():
		return false, false
	}
	return again, true
}

func (s *subscriber) Close() error {
	err := s.Subscriber.Close()
	s.working.Wait()
	return err
}
