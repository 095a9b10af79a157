//go:build !unix

package storefor

import (
	"context"
	"errors"
	"testing"
)

// Tests are the tests of a package that uses stores; for TestMain, as m or as
// goleak.VerifyTestMain(storefor.Tests{m}).
type Tests struct{ *testing.M }

func postgresPlace(t testing.TB) (place Place, remove func() error) {
	t.Helper()
	t.Skip("tests start PostgreSQL on Unix only")
	return "", nil
}

func openPostgres(context.Context, string) (Store, error) {
	return nil, errors.ErrUnsupported
}
