package storetest_test

import (
	"fmt"
	"testing"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/storetest"
)

var mine = storetest.Suite{
	Open:     func(testing.TB) eventstore.Store { return memory.New() },
	Features: storetest.Features{NoRestore: true}, // if it could not
}

// A store's test file holds this, under whatever name.
func TestMyStore(t *testing.T) {
	mine.Run(t)
	mine.Model(t, 20)
}

func ExampleSuite() {
	fmt.Printf("my store keeps the contract, but for %+v\n", mine.Features)
	// Output: my store keeps the contract, but for {NoCheckpoints:false NoRestore:true OneStream:false}
}
