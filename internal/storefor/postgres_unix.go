//go:build unix

package storefor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/internal/pgtest"
)

// Tests are the tests of a package that uses stores; for TestMain, as m or as
// goleak.VerifyTestMain(storefor.Tests{m}).
type Tests struct{ *testing.M }

// Run runs them and stops the server that they shared.
func (m Tests) Run() int { return pgtest.Run(m.M) }

// postgresPlace is a schema of its own on the server that the tests share: a database of
// its own would take longer to make than a walk takes.
func postgresPlace(t testing.TB) (place Place, remove func() error) {
	t.Helper()
	dsn := pgtest.Shared(t)
	schema := "t" + strings.ToLower(rand.Text()) // on a server that is given somebody else may be as well
	return Place(fmt.Sprintf("postgres:%s %s", schema, dsn)), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		_, err = c.Exec(ctx, "SET client_min_messages = warning; DROP SCHEMA IF EXISTS "+schema+" CASCADE")
		return errors.Join(err, c.Close(ctx))
	}
}

func openPostgres(ctx context.Context, where string) (Store, error) {
	schema, dsn, _ := strings.Cut(where, " ")
	return postgres.Open(ctx, dsn, postgres.WithSchema(schema))
}
