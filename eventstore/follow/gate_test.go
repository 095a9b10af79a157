package follow

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestTheGateHoldsWhoeverGivesUpWaiting(t *testing.T) {
	var g gate
	var inside atomic.Int64 // views, or -1 for the writer
	var views sync.WaitGroup
	var entered, gaveUp atomic.Int64
	done := make(chan struct{})
	for range 8 {
		views.Go(func() {
			for i := range 2000 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 0 {
					go cancel()
				}
				if err := g.enter(ctx); err == nil {
					if inside.Add(1) <= 0 {
						t.Error("a view beside the writer")
					}
					entered.Add(1)
					inside.Add(-1)
					g.leave()
				} else {
					gaveUp.Add(1)
				}
				cancel()
			}
		})
	}
	go func() { views.Wait(); close(done) }()
	for {
		g.lock()
		if !inside.CompareAndSwap(0, -1<<32) {
			t.Error("the writer beside a view")
		}
		runtime.Gosched()
		inside.Add(1 << 32)
		g.unlock()
		select {
		case <-done:
			g.mu.Lock()
			defer g.mu.Unlock()
			require.Zero(t, g.inside, "nobody is left inside")
			require.Zero(t, g.waiting)
			require.Positive(t, entered.Load())
			require.Positive(t, gaveUp.Load())
			return
		default:
		}
	}
}

func TestViewsThatWaitEnterBeforeTheWriterComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		var order []string
		g.lock()
		go func() {
			if g.enter(t.Context()) == nil {
				synctest.Wait() // the writer is back at the gate
				order = append(order, "view")
				g.leave()
			}
		}()
		synctest.Wait()
		g.unlock()
		g.lock()
		order = append(order, "writer")
		g.unlock()
		require.Equal(t, []string{"view", "writer"}, order)
	})
}
