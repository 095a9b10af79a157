package release_test

import (
	"testing"
	"time"
	_ "time/tzdata" // the tests are about its zones, wherever they run

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/release"
)

var everyDay = []time.Weekday{time.Sunday, time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday, time.Saturday}

// Back-scheduling from a readiness date over working days with holidays, DOMAIN 3.
// Times are those of the zone.
func TestBack(t *testing.T) {
	type span struct{ start, end string }
	for what, test := range map[string]struct {
		days  release.Workdays
		ready string // local
		steps []release.Step
		spans []span
		hours float64 // of the first span, 0: not asked
	}{
		"within a week": {release.Workdays{Zone: "Europe/Berlin"}, "2026-11-27 09:00",
			[]release.Step{{"plan", 1}, {"build", 2}}, []span{{"2026-11-24 00:00", "2026-11-25 00:00"}, {"2026-11-25 00:00", "2026-11-27 00:00"}}, 24},
		"at midnight the day before is over": {release.Workdays{Zone: "Europe/Berlin"}, "2026-11-27 00:00",
			[]release.Step{{"build", 1}}, []span{{"2026-11-26 00:00", "2026-11-27 00:00"}}, 24},
		"over a weekend": {release.Workdays{}, "2026-11-23 18:00",
			[]release.Step{{"build", 2}}, []span{{"2026-11-19 00:00", "2026-11-21 00:00"}}, 48},
		"a step goes around a weekend": {release.Workdays{}, "2026-11-25 18:00",
			[]release.Step{{"build", 3}}, []span{{"2026-11-20 00:00", "2026-11-25 00:00"}}, 120},
		"over Christmas": {release.Workdays{Zone: "Europe/Berlin", Holidays: []string{"2026-12-24", "2026-12-25", "2026-12-25"}}, "2026-12-28 08:00",
			[]release.Step{{"build", 1}}, []span{{"2026-12-23 00:00", "2026-12-24 00:00"}}, 24},
		"over new year": {release.Workdays{Holidays: []string{"2027-01-01"}}, "2027-01-04 08:00",
			[]release.Step{{"build", 1}, {"test", 1}}, []span{{"2026-12-30 00:00", "2026-12-31 00:00"}, {"2026-12-31 00:00", "2027-01-01 00:00"}}, 24},
		"a leap day": {release.Workdays{Days: everyDay}, "2028-03-01 08:00",
			[]release.Step{{"build", 1}}, []span{{"2028-02-29 00:00", "2028-03-01 00:00"}}, 24},
		"Sunday to Thursday": {release.Workdays{Zone: "Asia/Riyadh", Days: []time.Weekday{time.Sunday, time.Monday, time.Tuesday, time.Wednesday, time.Thursday}}, "2026-11-23 08:00",
			[]release.Step{{"build", 2}}, []span{{"2026-11-19 00:00", "2026-11-23 00:00"}}, 96},
		"milestones": {release.Workdays{}, "2026-11-27 09:00",
			[]release.Step{{"begin", 0}, {"build", 1}, {"built", 0}, {"test", 1}, {"go", 0}},
			[]span{{"2026-11-25 00:00", "2026-11-25 00:00"}, {"2026-11-25 00:00", "2026-11-26 00:00"}, {"2026-11-26 00:00", "2026-11-26 00:00"}, {"2026-11-26 00:00", "2026-11-27 00:00"}, {"2026-11-27 09:00", "2026-11-27 09:00"}}, 0},
		"nothing to do": {release.Workdays{}, "2026-11-27 09:00", nil, []span{}, 0},

		"clocks go forward": {release.Workdays{Zone: "Europe/Berlin", Days: everyDay}, "2026-03-30 09:00",
			[]release.Step{{"build", 1}}, []span{{"2026-03-29 00:00", "2026-03-30 00:00"}}, 23},
		"clocks go back": {release.Workdays{Zone: "Europe/Berlin", Days: everyDay}, "2026-10-26 09:00",
			[]release.Step{{"build", 1}}, []span{{"2026-10-25 00:00", "2026-10-26 00:00"}}, 25},
		"clocks go forward at midnight": {release.Workdays{Zone: "America/Sao_Paulo", Days: everyDay}, "2018-11-05 09:00",
			[]release.Step{{"build", 1}}, []span{{"2018-11-04 01:00", "2018-11-05 00:00"}}, 23},
		"clocks go back at midnight": {release.Workdays{Zone: "America/Sao_Paulo", Days: everyDay}, "2018-02-18 09:00",
			[]release.Step{{"build", 1}}, []span{{"2018-02-17 00:00", "2018-02-18 00:00"}}, 25},
		"midnight comes twice": {release.Workdays{Zone: "America/Havana", Days: everyDay}, "2026-11-02 09:00",
			[]release.Step{{"build", 1}}, []span{{"2026-11-01 00:00", "2026-11-02 00:00"}}, 25},
		"a day that was left out": {release.Workdays{Zone: "Pacific/Apia", Days: everyDay}, "2011-12-31 09:00", // there was no 30 December
			[]release.Step{{"build", 1}}, []span{{"2011-12-29 00:00", "2011-12-31 00:00"}}, 24},
	} {
		t.Run(what, func(t *testing.T) {
			zone, err := time.LoadLocation(test.days.Zone)
			require.NoError(t, err)
			const layout = "2006-01-02 15:04"
			ready, err := time.ParseInLocation(layout, test.ready, zone)
			require.NoError(t, err)
			plan, err := test.days.Back(ready, test.steps...)
			require.NoError(t, err)
			spans := []span{}
			for i, b := range plan {
				require.Equal(t, test.steps[i], b.Step)
				spans = append(spans, span{b.Start.In(zone).Format(layout), b.End.In(zone).Format(layout)})
			}
			require.Equal(t, test.spans, spans)
			if test.hours > 0 {
				require.Equal(t, test.hours, plan[0].End.Sub(plan[0].Start).Hours())
			}
		})
	}
}

func TestReadyIsADayOfTheZone(t *testing.T) {
	ready := time.Date(2026, 11, 25, 2, 0, 0, 0, time.UTC) // Tuesday evening in New York
	plan, err := release.Workdays{Zone: "America/New_York"}.Back(ready, release.Step{Name: "build", Days: 1})
	require.NoError(t, err)
	require.Equal(t, "2026-11-23T00:00:00-05:00", plan[0].Start.Format(time.RFC3339), "Tuesday is not over")
}

func TestBackOfWhatCannotBe(t *testing.T) {
	for rule, test := range map[string]struct {
		days  release.Workdays
		steps []release.Step
	}{
		"unknown-zone":  {release.Workdays{Zone: "Moon/Tranquility"}, nil},
		"unknown-day":   {release.Workdays{Days: []time.Weekday{7}}, nil},
		"bad-date":      {release.Workdays{Holidays: []string{"25.12.2026"}}, nil},
		"negative-days": {release.Workdays{}, []release.Step{{"build", -1}}},
		"too-many":      {release.Workdays{}, make([]release.Step, 1001)},
		"too-long":      {release.Workdays{}, []release.Step{{"build", 1 << 62}, {"test", 1 << 62}, {"deploy", 1 << 62}}},
	} {
		_, err := test.days.Back(noon, test.steps...)
		require.ErrorIs(t, err, command.ErrMalformed, rule)
		require.True(t, command.By(err, rule), "%v", err)
	}
	_, err := release.Workdays{Zone: "Local"}.Back(time.Time{})
	require.True(t, command.By(err, "unknown-zone"), "what is local differs from machine to machine")
	require.True(t, command.By(err, "ready-required"))
	_, err = release.Workdays{Days: []time.Weekday{time.Monday}}.Back(noon, release.Step{Name: "build", Days: 6_000})
	require.True(t, command.By(err, "no-workdays"), "%v", err)
	require.ErrorIs(t, err, command.ErrRefused)
}

// Every working day between the first step and the end belongs to one step, which
// is looked at one hour at a time.
func TestBackTakesEveryWorkingDayOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"}).Draw(t, "zone")
		zone, err := time.LoadLocation(name)
		require.NoError(t, err)
		ready := noon.Add(time.Duration(rapid.IntRange(-9_000, 9_000).Draw(t, "hours")) * time.Hour)
		w := release.Workdays{Zone: name}
		for range rapid.IntRange(0, 4).Draw(t, "holidays") {
			w.Holidays = append(w.Holidays, ready.In(zone).AddDate(0, 0, -rapid.IntRange(0, 20).Draw(t, "back")).Format(time.DateOnly))
		}
		var steps []release.Step
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			steps = append(steps, release.Step{Days: rapid.IntRange(0, 6).Draw(t, "days")})
		}
		plan, err := w.Back(ready, steps...)
		require.NoError(t, err)
		for i, b := range plan {
			require.False(t, b.End.Before(b.Start))
			require.False(t, b.End.After(ready))
			if i > 0 {
				require.False(t, b.Start.Before(plan[i-1].End))
			}
		}
		worked := make([]map[string]bool, len(plan)) // dates by step
		for i := range worked {
			worked[i] = map[string]bool{}
		}
		free := map[string]bool{}
		for _, h := range w.Holidays {
			free[h] = true
		}
		for at := plan[0].Start; at.Before(ready); at = at.Add(time.Hour) {
			local := at.In(zone)
			date := local.Format(time.DateOnly)
			if day := local.Weekday(); day == time.Saturday || day == time.Sunday || free[date] || date == ready.In(zone).Format(time.DateOnly) {
				continue
			}
			owners := 0
			for i, b := range plan {
				if !at.Before(b.Start) && at.Before(b.End) {
					worked[i][date] = true
					owners++
				}
			}
			require.Equal(t, 1, owners, date)
		}
		for i, b := range plan {
			require.Len(t, worked[i], b.Days)
		}
	})
}
