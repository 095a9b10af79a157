package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/postgres"
	"github.com/rollforward/rollforward/eventstore/storetest"
	"github.com/rollforward/rollforward/internal/pgtest"
	"github.com/rollforward/rollforward/internal/race"
)

func suite(t *testing.T, options ...postgres.Option) storetest.Suite {
	dsn := pgtest.Database(t)
	opened := func(t testing.TB, schema string) eventstore.Store {
		store, err := postgres.Open(t.Context(), dsn, append(options, postgres.WithSchema(schema))...)
		require.NoError(t, err)
		return store
	}
	return storetest.Suite{
		Open: func(t testing.TB) eventstore.Store { return opened(t, fresh()) },
		Reopen: func(t testing.TB, store eventstore.Store) eventstore.Store {
			require.NoError(t, store.Close())
			return opened(t, schemaOf(store))
		},
	}
}

func TestConformance(t *testing.T) {
	both(t, func(t *testing.T, options ...postgres.Option) { suite(t, options...).Run(t) })
}

func TestAgreesWithTheModelAtFullSize(t *testing.T) {
	histories := 200
	if race.Enabled {
		histories = 20
	}
	both(t, func(t *testing.T, options ...postgres.Option) { suite(t, options...).Model(t, histories) })
}
