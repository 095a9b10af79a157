package schedule_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
)

func TestForwardScheduleOfChange(t *testing.T) {
	// DOMAIN 2.4: by CI, service, team, environment.
	h := open(t, schedule.Rules{}).estate()
	group := on(window(12, 13), "wiki")
	group.Content.Group, group.Content.Implementers = "dba", []string{"dave"}
	h.planned(on(window(14, 15), "db-01"))
	h.planned(on(window(10, 11), "host-1"))
	h.planned(group)
	h.draft(on(window(10, 11), "db-01"))
	h.do(h.planned(on(window(10, 11), "db-01")), change.Cancel{Reason: "no"})
	for name, c := range map[string]struct {
		from, to float64
		filter   schedule.Filter
		want     string
	}{
		"all, by their start":        {0, 48, schedule.Filter{}, "2 3 1"},
		"with those being planned":   {0, 48, schedule.Filter{Tentative: true}, "2 4 3 1"},
		"half open":                  {11, 14, schedule.Filter{}, "3"},
		"by CI":                      {0, 48, schedule.Filter{CI: "db-01"}, "1"},
		"by service":                 {0, 48, schedule.Filter{Service: "shop"}, "2 1"},
		"by team":                    {0, 48, schedule.Filter{Group: "dba"}, "3"},
		"by person":                  {0, 48, schedule.Filter{Person: "dave"}, "3"},
		"by team and another person": {0, 48, schedule.Filter{Person: "dave", Group: "net"}, ""},
		"by environment":             {0, 48, schedule.Filter{Environment: "production"}, "1"},
		"by model":                   {0, 48, schedule.Filter{Model: "normal"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := h.schedule.Forward(t.Context(), at(c.from), at(c.to), c.filter)
			require.NoError(t, err)
			var ids []string
			for _, e := range found {
				ids = append(ids, e.Change[len(e.Change)-1:])
			}
			require.Equal(t, c.want, strings.Join(ids, " "))
		})
	}
	_, err := h.schedule.Forward(t.Context(), at(2), at(1), schedule.Filter{})
	require.Error(t, err)
	_, err = h.schedule.Forward(t.Context(), at(1), at(2), schedule.Filter{Service: "nothing"})
	require.ErrorIs(t, err, cmdb.ErrUnknownCI)
}

func TestOverdue(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	late := h.planned(on(window(10, 12), "db-01"))
	begun := h.planned(on(window(9, 11), "wiki"))
	h.planned(on(window(10, 14), "shop"))
	h.do(begun, change.Start{})
	h.clock.now = at(12)
	all, err := h.schedule.Overdue(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, []any{begun, true, at(11)}, []any{all[0].Change, all[0].Begun, all[0].Since})
	require.Equal(t, []any{late, false, at(12)}, []any{all[1].Change, all[1].Begun, all[1].Since})
	h.do(begun, change.Complete{})
	h.do(late, change.Cancel{Reason: "too late"})
	all, err = h.schedule.Overdue(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
}

func TestProjectedServiceOutage(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	down := func(w *change.Window, o change.Outage, cis ...string) string {
		r := on(w, cis...)
		r.Content.Outage = &o
		return h.planned(r)
	}
	first := down(window(10, 14), change.Outage{Expected: true, For: change.Of(time.Hour)}, "db-01")
	down(window(10, 14), change.Outage{}, "db-01")
	second := down(window(20, 21), change.Outage{Expected: true}, "web-1")
	all, err := h.schedule.Outages(t.Context(), at(0), at(48), "")
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, first, all[0].Change)
	require.Equal(t, *window(10, 11), all[0].Window)
	require.Len(t, all[0].Down, 1)
	require.Equal(t, "shop", all[0].Down[0].CI.ID)
	require.Equal(t, second, all[1].Change)
	require.Empty(t, all[1].Down, "the pool can lose one")
	for ci, want := range map[string]int{"shop": 1, "db-01": 1, "web": 0, "web-1": 1} {
		all, err := h.schedule.Outages(t.Context(), at(0), at(48), ci)
		require.NoError(t, err)
		require.Len(t, all, want, ci)
	}
	all, err = h.schedule.Outages(t.Context(), at(12), at(20), "")
	require.NoError(t, err)
	require.Empty(t, all, "the change goes on, and the outage is over")
}

func TestWhatWasRecordedIsStaleOnceItIsOtherwise(t *testing.T) {
	// DOMAIN 2.2.
	for name, c := range map[string]struct {
		since func(h *house, id string)
		why   []string
	}{
		"nothing":                {func(*house, string) {}, nil},
		"somebody else's":        {func(h *house, _ string) { h.planned(on(window(10, 12), "wiki")) }, nil},
		"at another time":        {func(h *house, _ string) { h.planned(on(window(20, 22), "db-01")) }, nil},
		"a note":                 {func(h *house, id string) { h.do(id, change.Note{Text: "soon"}) }, nil},
		"a relation elsewhere":   {func(h *house, _ string) { h.record(cmdb.Relate("wiki", "depends on", "web")) }, nil},
		"an attribute":           {func(h *house, _ string) { h.record(cmdb.Set("db-01", "owner", "", "me")) }, nil},
		"edited, judged again":   {func(h *house, id string) { h.do(id, change.Edit{Set: change.Content{Window: window(11, 12)}}) }, nil},
		"another change":         {func(h *house, _ string) { h.planned(on(window(11, 13), "db-01")) }, []string{"ci-already-scheduled with CHG-000003 is new"}},
		"one that was there":     {func(h *house, _ string) { h.do("CHG-000001", change.Edit{Set: change.Content{Window: window(11, 13)}}) }, []string{"ci-already-scheduled with CHG-000001 is another: CHG-000001 has changed"}},
		"one that is gone":       {func(h *house, _ string) { h.do("CHG-000001", change.Cancel{Reason: "no"}) }, []string{"ci-already-scheduled with CHG-000001 is no more"}},
		"a window":               {func(h *house, _ string) { w := yearEnd; w.Start = "2026-03-02T11:00:00"; h.define(w) }, []string{"blackout freeze is new"}},
		"a window, defined anew": {func(h *house, _ string) { w := nights; w.Reason = "other"; h.define(w) }, []string{"outside-maintenance with nights is another: the window was defined anew"}},
		"a relation":             {func(h *house, _ string) { h.record(cmdb.Relate("wiki", "depends on", "db-01")) }, []string{"db-01: 2026-03-02 09:00 UTC: carol recorded that wiki depends on db-01"}},
		"where it belongs":       {func(h *house, _ string) { h.record(cmdb.Set("db-01", "environment", "production", "test")) }, []string{`db-01: 2026-03-02 09:00 UTC: carol set environment of db-01 from "production" to "test"`}},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, schedule.Rules{}).estate()
			w := nights
			w.Effects = schedule.Effects{Plan: change.Record, Authorize: change.Record, Start: change.Record}
			h.define(w)
			h.planned(on(window(10, 11), "db-01"))
			id := h.planned(on(window(10, 12), "db-01"))
			c.since(h, id)
			stale, err := h.schedule.Stale(t.Context(), id)
			require.NoError(t, err)
			if c.why != nil {
				require.Len(t, stale.Why, len(c.why), "%v", stale.Why)
			}
			for i, why := range c.why {
				if name == "a window" {
					why = "blackout with freeze is new"
				}
				require.Equal(t, why, stale.Why[i])
			}
			require.Equal(t, c.why != nil, stale.Stale, "%v", stale.Why)
		})
	}
}

func TestTheCalendarIsAFeed(t *testing.T) {
	h := open(t, schedule.Rules{}).estate()
	r := on(window(10, 12), "db-01")
	r.Content.Title, r.Content.Group, r.Content.Outage = "Upgrade; really", "dba", &change.Outage{Expected: true, For: 3600}
	id := h.planned(r)
	w := nights
	w.Scope = schedule.Scope{CIs: []string{"wiki"}}
	h.define(w)
	feed := func() string {
		var b strings.Builder
		require.NoError(t, h.schedule.Calendar(t.Context(), &b, schedule.Feed{From: at(0), To: at(24), Windows: true}))
		return b.String()
	}
	text := feed()
	require.Contains(t, text, "UID:change-CHG-000001\r\n")
	require.Contains(t, text, "DTSTART:20260302T100000Z\r\n")
	require.Contains(t, text, `SUMMARY:CHG-000001 Upgrade\; really`+"\r\n")
	require.Contains(t, text, "STATUS:CONFIRMED\r\n")
	require.Equal(t, 3, strings.Count(text, "BEGIN:VEVENT"), "the change, and the night before and after")
	h.do(id, change.Edit{Set: change.Content{Window: window(9.5, 12)}}, change.Hold{Reason: "ice"})
	again := feed()
	require.Contains(t, again, "UID:change-CHG-000001\r\n")
	require.Contains(t, again, "STATUS:TENTATIVE\r\n")
	require.Greater(t, sequence(t, again), sequence(t, text))
	h.do(id, change.Resume{}, change.Cancel{Reason: "no"})
	require.NotContains(t, feed(), "CHG-000001")
	every := schedule.Window{ID: "ticks", Name: "ticks", Kind: schedule.Deny, Scope: schedule.Scope{CIs: []string{"wiki"}}, Start: "2026-01-01T00:00:00", End: "2026-01-01T00:01:00", Rule: "FREQ=HOURLY"}
	h.define(every)
	require.ErrorContains(t, h.schedule.Calendar(t.Context(), &strings.Builder{}, schedule.Feed{From: at(0), To: at(24 * 900), Windows: true}), "10000")
}

// sequence returns the SEQUENCE of the change in a feed.
func sequence(t *testing.T, feed string) string {
	_, rest, ok := strings.Cut(feed, "UID:change-")
	require.True(t, ok)
	_, rest, ok = strings.Cut(rest, "SEQUENCE:")
	require.True(t, ok)
	number, _, _ := strings.Cut(rest, "\r\n")
	return strings.Repeat("0", 9-len(number)) + number
}
