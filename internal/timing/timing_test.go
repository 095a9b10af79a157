package timing_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/timing"
)

// Work that is disturbed often is seen undisturbed once.
func TestTheShortestTimesAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		disturbed := func(base time.Duration) func() {
			return func() {
				runs++
				time.Sleep(base)
				if runs < 100 {
					time.Sleep(40 * time.Millisecond)
				}
			}
		}
		equal := func(a, b time.Duration) bool { return 2*a <= b }
		a, b := timing.Until(equal, disturbed(time.Millisecond), disturbed(2*time.Millisecond))
		require.Equal(t, []time.Duration{time.Millisecond, 2 * time.Millisecond}, []time.Duration{a, b})
	})
}

func TestWhatNeverHoldsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		a, b := timing.Until(func(a, b time.Duration) bool { return a > b }, func() { time.Sleep(time.Second) }, func() { time.Sleep(2 * time.Second) })
		require.Equal(t, []time.Duration{time.Second, 2 * time.Second}, []time.Duration{a, b})
		require.Less(t, time.Since(begin), timing.Patience+4*time.Second)
	})
}

func ExampleUntil() {
	small, large := make([]byte, 1<<10), make([]byte, 1<<20)
	sum := func(b []byte) func() {
		return func() {
			total := 0
			for _, v := range b {
				total += int(v)
			}
			small[0] = byte(total)
		}
	}
	few, many := timing.Until(func(few, many time.Duration) bool { return many > 4*few }, sum(small), sum(large))
	fmt.Println("a sum grows with what it adds up:", many > 4*few)
	// Output: a sum grows with what it adds up: true
}
