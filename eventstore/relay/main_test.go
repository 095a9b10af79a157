package relay_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/internal/storefor"
)

// TestMain looks for goroutines that tests leave behind. Those of the multiplier with
// which Watermill's suite subscribes many times are the suite's own: they wait to hand
// on what nobody reads any more.
func TestMain(m *testing.M) {
	const multiplier = "github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe."
	goleak.VerifyTestMain(storefor.Tests{M: m}, goleak.IgnoreAnyFunction(multiplier+"func2"), goleak.IgnoreAnyFunction(multiplier+"func3"))
}
