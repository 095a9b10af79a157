package telemetry_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/rollforward/rollforward/internal/storefor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storefor.Tests{M: m}) }
