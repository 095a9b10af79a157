package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Suite{Open: func(testing.TB) eventstore.Store { return memory.New() }}.Run(t)
}

func TestAgreesWithTheModel(t *testing.T) {
	storetest.Suite{Open: func(testing.TB) eventstore.Store { return memory.New() }}.Model(t, 2000)
}
