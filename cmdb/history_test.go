package cmdb_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
)

func TestAHistoryReadsAsSentences(t *testing.T) {
	w := standard(t)
	w.deltas(cmdb.Add("db-01", "database", cmdb.Attr("version", "15"), cmdb.Attr("engine", "PostgreSQL")))
	w.deltas(cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db-01"))
	w.deltas(cmdb.Set("db-01", "port", "", "5432"))
	w.add("change-CHG-000042", applied{"CHG-000042", []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")}})
	w.add("source-nmap", cmdb.Observed{Source: "nmap", Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "17")}})
	w.deltas(cmdb.Set("db-01", "port", "5432", ""))
	w.deltas(cmdb.Unrelate("shop", "depends on", "db-01"))
	w.deltas(cmdb.Retire("db-01"))
	w.deltas(cmdb.Retire("db-01"))
	w.deltas(cmdb.Delta{Op: "paint", CI: "db-01"})
	history, ok := w.fold().History("db-01")
	require.True(t, ok)
	var sentences []string
	for _, e := range history {
		sentences = append(sentences, e.String())
		require.Equal(t, monday.Add(time.Duration(e.Position)*time.Minute), e.RecordedAt)
		require.Equal(t, monday.Add(time.Duration(e.Position)*time.Second), e.OccurredAt)
	}
	require.Equal(t, []string{
		`2026-03-02 09:00 UTC: u-1 added db-01 as database with engine "PostgreSQL", version "15"`,
		`2026-03-02 09:00 UTC: u-2 recorded that shop depends on db-01`,
		`2026-03-02 09:00 UTC: u-0 set port of db-01 to "5432"`,
		`2026-03-02 09:00 UTC: u-1 set version of db-01 from "15" to "16", for CHG-000042`,
		`2026-03-02 09:00 UTC: u-2 set version of db-01 from "15" to "17", as reported by nmap; expected otherwise: version of db-01 was "16", not "15"`,
		`2026-03-02 09:00 UTC: u-0 took away port of db-01, which was "5432"`,
		`2026-03-02 09:00 UTC: u-1 recorded that shop no longer depends on db-01`,
		`2026-03-02 09:00 UTC: u-2 retired db-01`,
		`2026-03-02 09:00 UTC: u-0 retired db-01; without effect: db-01 was retired`,
		`2026-03-02 09:00 UTC: u-1 did "paint" to "db-01"; without effect: "paint" of "db-01" cannot be meant`,
	}, sentences)
	require.Equal(t, 1, history[1].Index, "the second delta of its event")
	require.Equal(t, "precondition-failed", history[4].Misfit)
	require.True(t, history[4].Taken)
	require.False(t, history[8].Taken)
}

func TestAHistorySaysForWhomAndWhy(t *testing.T) {
	h := start(t)
	_, err := h.door.Do(t.Context(), command.Call{Actor: command.As("cy"), Action: "x"}, func(tx *command.Tx) error {
		return tx.Authorize("x", "", nil)
	})
	require.NoError(t, err)
	_, err = h.RecordCall(t.Context(), command.Call{Actor: ann, Reason: "ordered by the shop"}, cmdb.Add("db-01", "database"))
	require.NoError(t, err)
	history, err := h.History(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, `2026-03-02 09:00 UTC: ann added db-01 as database (ordered by the shop)`, history[0].String())
	e := history[0]
	e.OnBehalfOf, e.Actor, e.OccurredAt = "bob", "", time.Time{}
	e.RecordedAt = monday.Add(time.Hour)
	require.Equal(t, `2026-03-02 10:00 UTC: somebody on behalf of bob added db-01 as database (ordered by the shop)`, e.String())
}
