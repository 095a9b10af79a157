package wake_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/wake"
)

func TestRingWakesAllWhoListenedBeforeAndNobodyAfter(t *testing.T) {
	var bell wake.Bell
	bell.Ring() // nobody there: no effect on who comes later

	var woken sync.WaitGroup
	for range 10 {
		ch := bell.Listen()
		woken.Go(func() { <-ch })
	}
	bell.Ring()
	woken.Wait()

	select {
	case <-bell.Listen():
		require.Fail(t, "a listener heard a ring from before it came")
	default:
	}
}

func ExampleBell() {
	var bell wake.Bell
	heard := bell.Listen()
	go bell.Ring()
	<-heard
	fmt.Println("something happened")
	// Output: something happened
}
