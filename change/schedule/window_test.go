package schedule_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/timing"
)

// freeze returns a window that denies everything, with what is changed about it.
func freeze(with func(*schedule.Window)) schedule.Window {
	w := schedule.Window{
		ID: "W-1", Name: "freeze", Kind: schedule.Deny, Scope: schedule.Scope{Everything: true},
		Start: "2026-03-02T00:00:00", End: "2026-03-03T00:00:00",
	}
	if with != nil {
		with(&w)
	}
	return w
}

func compiled(t require.TestingT, w schedule.Window) *schedule.Compiled {
	c, err := schedule.Compile(w)
	require.NoError(t, err, "%+v", w)
	return c
}

func utc(t require.TestingT, text string) time.Time {
	at, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return at.UTC()
}

// spans returns windows as "03-29T01:30/03-29T02:30".
func spans(of []change.Window) []string {
	list := []string{}
	for _, w := range of {
		list = append(list, w.Start.Format("01-02T15:04")+"/"+w.End.Format("01-02T15:04"))
	}
	return list
}

// DOMAIN 2.1: a local 02:30 on the day the clock is put forward, and on that on
// which it is put back, does what RFC 5545, 3.3.5 says.
func TestALocalTimeThatDoesNotExistOrComesTwiceIsTakenAsRFC5545Says(t *testing.T) {
	for _, c := range []struct {
		name, zone, start, from, to string
		duration                    time.Duration
		end                         string
		want                        []string
	}{
		{
			"02:30 is 03:30 on the day of the gap", "Europe/Berlin", "2026-03-28T02:30:00", "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z",
			time.Hour, "", []string{"03-28T01:30/03-28T02:30", "03-29T01:30/03-29T02:30", "03-30T00:30/03-30T01:30"},
		},
		{
			"so it is in New York", "America/New_York", "2026-03-07T02:30:00", "2026-03-07T00:00:00Z", "2026-03-10T00:00:00Z",
			time.Hour, "", []string{"03-07T07:30/03-07T08:30", "03-08T07:30/03-08T08:30", "03-09T06:30/03-09T07:30"},
		},
		{
			"02:30 is the first of two", "Europe/Berlin", "2026-10-24T02:30:00", "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z",
			time.Hour, "", []string{"10-24T00:30/10-24T01:30", "10-25T00:30/10-25T01:30", "10-26T01:30/10-26T02:30"},
		},
		{
			"a duration is time that passes", "Europe/Berlin", "2026-10-23T22:00:00", "2026-10-23T00:00:00Z", "2026-10-26T00:00:00Z",
			8 * time.Hour, "", []string{"10-23T20:00/10-24T04:00", "10-24T20:00/10-25T04:00", "10-25T21:00/10-26T05:00"},
		},
		{
			"an end is a time of day", "Europe/Berlin", "2026-10-23T22:00:00", "2026-10-23T00:00:00Z", "2026-10-26T00:00:00Z",
			0, "2026-10-24T06:00:00", []string{"10-23T20:00/10-24T04:00", "10-24T20:00/10-25T05:00", "10-25T21:00/10-26T05:00"},
		},
		{
			"and in the shorter night", "Europe/Berlin", "2026-03-27T22:00:00", "2026-03-27T00:00:00Z", "2026-03-30T00:00:00Z",
			0, "2026-03-28T06:00:00", []string{"03-27T21:00/03-28T05:00", "03-28T21:00/03-29T04:00", "03-29T20:00/03-30T04:00"},
		},
		{
			"an end that the gap puts before the start leaves it its length", "Europe/Berlin", "2026-03-28T02:30:00", "2026-03-28T00:00:00Z", "2026-03-30T00:00:00Z",
			0, "2026-03-28T03:00:00", []string{"03-28T01:30/03-28T02:00", "03-29T01:30/03-29T02:00"},
		},
		{
			"an end in the hour that comes twice is the first", "Europe/Berlin", "2026-10-24T01:00:00", "2026-10-25T00:00:00Z", "2026-10-26T00:00:00Z",
			0, "2026-10-24T02:30:00", []string{"10-24T23:00/10-25T00:30"},
		},
		{
			"half an hour is put over on Lord Howe Island", "Australia/Lord_Howe", "2026-10-03T02:15:00", "2026-10-02T00:00:00Z", "2026-10-05T00:00:00Z",
			time.Hour, "", []string{"10-02T15:45/10-02T16:45", "10-03T15:45/10-03T16:45", "10-04T15:15/10-04T16:15"},
		},
		{
			"Samoa left out a day, of which every time is the next day's", "Pacific/Apia", "2011-12-29T12:00:00", "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z",
			time.Hour, "", []string{"12-29T22:00/12-29T23:00", "12-30T22:00/12-30T23:00", "12-31T22:00/12-31T23:00"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := compiled(t, freeze(func(w *schedule.Window) {
				w.Zone, w.Start, w.Duration, w.End, w.Rule = c.zone, c.start, change.Duration(c.duration), c.end, "FREQ=DAILY"
			}))
			require.Equal(t, c.want, spans(slices.Collect(w.Occurrences(utc(t, c.from), utc(t, c.to)))))
		})
	}
}

func TestAWindowWithoutARuleIsOnceAndOnItsDates(t *testing.T) {
	w := freeze(func(w *schedule.Window) {
		w.Zone, w.Start, w.End, w.Duration = "Europe/Berlin", "2026-03-02T10:00:00", "", change.Duration(time.Hour)
		w.Dates = []string{"2026-02-01T10:00:00", "2026-07-01T10:00:00", "2026-07-01T10:00:00", "2026-03-02T10:00:00"}
	})
	from, to := utc(t, "2026-01-01T00:00:00Z"), utc(t, "2027-01-01T00:00:00Z")
	require.Equal(t, []string{"02-01T09:00/02-01T10:00", "03-02T09:00/03-02T10:00", "07-01T08:00/07-01T09:00"}, spans(slices.Collect(compiled(t, w).Occurrences(from, to))))
	w.Except = []string{"2026-02-01T10:00:00", "2026-03-02T10:00:00", "2026-03-03T10:00:00"}
	require.Equal(t, []string{"07-01T08:00/07-01T09:00"}, spans(slices.Collect(compiled(t, w).Occurrences(from, to))))
}

func TestDatesAreAddedToARuleAndExceptionsLeftOutOfIt(t *testing.T) {
	w := freeze(func(w *schedule.Window) {
		w.Start, w.End, w.Duration = "2026-03-02T10:00:00", "", change.Duration(time.Hour)
		w.Rule = "FREQ=DAILY;COUNT=4"
		w.Dates = []string{"2026-03-03T12:00:00", "2026-03-04T10:00:00", "2026-03-20T10:00:00", "2026-03-05T10:00:00"}
		w.Except = []string{"2026-03-05T10:00:00", "2026-03-02T10:00:00"}
	})
	from, to := utc(t, "2026-01-01T00:00:00Z"), utc(t, "2027-01-01T00:00:00Z")
	all := []string{"03-03T10:00/03-03T11:00", "03-03T12:00/03-03T13:00", "03-04T10:00/03-04T11:00", "03-20T10:00/03-20T11:00"}
	require.Equal(t, all, spans(slices.Collect(compiled(t, w).Occurrences(from, to))), "what is left out counts")
	for range compiled(t, w).Occurrences(from, to) {
		break // who has seen enough may leave
	}
	require.Equal(t, all[3:], spans(slices.Collect(compiled(t, w).Occurrences(utc(t, "2026-03-10T00:00:00Z"), to))))
}

func TestUntilIsLocalOrUTCAndIncluded(t *testing.T) {
	for until, want := range map[string]int{
		"20261027T010000":  4, // local, and a time of the rule
		"20261027T005959":  3,
		"20261027T000000Z": 4, // 01:00 in Berlin, in winter
		"20261026T235959Z": 3,
		"20261025":         2, // the whole day
		"20261024T230000Z": 2, // 01:00 in summer
		"20261024T225959Z": 1,
	} {
		w := freeze(func(w *schedule.Window) {
			w.Zone, w.Start, w.End, w.Rule = "Europe/Berlin", "2026-10-24T01:00:00", "2026-10-24T02:00:00", "FREQ=DAILY;UNTIL="+until
		})
		require.Len(t, slices.Collect(compiled(t, w).Occurrences(utc(t, "2026-10-01T00:00:00Z"), utc(t, "2027-01-01T00:00:00Z"))), want, until)
	}
}

func TestOccurrencesThatOverlapOrTouchAreOne(t *testing.T) {
	w := compiled(t, freeze(func(w *schedule.Window) {
		w.Start, w.End, w.Duration = "2026-03-02T00:00:00", "", change.Duration(24*time.Hour)
		w.Rule = "FREQ=DAILY;COUNT=3"
		w.Dates = []string{"2026-03-04T12:00:00", "2026-03-06T00:00:00"}
	}))
	from, to := utc(t, "2026-03-01T00:00:00Z"), utc(t, "2026-04-01T00:00:00Z")
	require.Equal(t, []string{"03-02T00:00/03-05T12:00", "03-06T00:00/03-07T00:00"}, spans(slices.Collect(w.Between(from, to))))
	require.Equal(t, []string{"03-04T00:00/03-05T12:00", "03-06T00:00/03-06T01:00"}, spans(slices.Collect(w.Between(utc(t, "2026-03-04T00:00:00Z"), utc(t, "2026-03-06T01:00:00Z")))), "cut to what was asked for")
	require.Empty(t, slices.Collect(w.Between(to, from)))
	require.Empty(t, slices.Collect(w.Between(from, from)))

	at, ok := w.At(utc(t, "2026-03-04T18:00:00Z"))
	require.True(t, ok)
	require.Equal(t, []string{"03-04T12:00/03-05T12:00"}, spans([]change.Window{at}), "of two the one that ends last")
	_, ok = w.At(utc(t, "2026-03-05T12:00:00Z"))
	require.False(t, ok, "half open")
}

func TestCheckNamesEveryFault(t *testing.T) {
	rule := func(text string) func(*schedule.Window) { return func(w *schedule.Window) { w.Rule = text } }
	for _, c := range []struct {
		with   func(*schedule.Window)
		faults []string
	}{
		{nil, nil},
		{func(w *schedule.Window) { w.Name = "" }, []string{"name-required name"}},
		{func(w *schedule.Window) { w.Kind = "freeze" }, []string{"unknown-kind kind"}},
		{func(w *schedule.Window) { w.Scope = schedule.Scope{} }, []string{"scope-required scope"}},
		{func(w *schedule.Window) { w.Scope.Tags = []string{"a", ""} }, []string{"everything-and-more scope", "empty-value scope.tags"}},
		{func(w *schedule.Window) { w.Scope = schedule.Scope{CIs: slices.Repeat([]string{"a"}, 1001)} }, []string{"too-many scope.cis"}},
		{func(w *schedule.Window) { w.Parent = "W-1" }, []string{"own-parent parent"}},
		{func(w *schedule.Window) { w.Effects.Start = "stop" }, []string{"unknown-effect effects.start"}},
		{func(w *schedule.Window) { w.Zone = "Europe/Atlantis" }, []string{"unknown-zone zone"}},
		{func(w *schedule.Window) { w.Zone = "Local" }, []string{"unknown-zone zone"}},
		{func(w *schedule.Window) { w.Zone = "../../etc/passwd" }, []string{"unknown-zone zone"}},
		{func(w *schedule.Window) { w.Start = "2026-03-02" }, []string{"bad-time start"}},
		{func(w *schedule.Window) { w.Start = "2026-03-02T00:00:00Z" }, []string{"bad-time start"}},
		{func(w *schedule.Window) { w.Start = "0026-03-02T00:00:00" }, []string{"bad-time start"}},
		{func(w *schedule.Window) { w.Start, w.End = "", "2026-02-30T00:00:00" }, []string{"bad-time start", "bad-time end"}},
		{func(w *schedule.Window) { w.End = "" }, []string{"one-length end"}},
		{func(w *schedule.Window) { w.Duration = 1e9 }, []string{"one-length end"}},
		{func(w *schedule.Window) { w.End = w.Start }, []string{"negative-window end"}},
		{func(w *schedule.Window) { w.End = "2026-03-01T00:00:00" }, []string{"negative-window end"}},
		{func(w *schedule.Window) { w.End, w.Duration = "", -1e9 }, []string{"negative-window duration"}},
		{func(w *schedule.Window) { w.End, w.Duration = "", 15e8 }, []string{"whole-seconds duration"}},
		{func(w *schedule.Window) { w.Start, w.End = "1900-01-01T00:00:00", "2200-01-01T00:00:00" }, []string{"window-too-long end"}},
		{func(w *schedule.Window) { w.Dates, w.Except = []string{"2026-03-02T00:00:00", "x"}, []string{"y"} }, []string{"bad-time dates[1]", "bad-time except[0]"}},
		{func(w *schedule.Window) { w.Dates = slices.Repeat([]string{w.Start}, 10_001) }, []string{"too-many dates"}},
		{func(w *schedule.Window) { w.Except = []string{w.Start} }, []string{"never-occurs rule"}},
		{rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), []string{"never-occurs rule"}},
		{rule("FREQ=HOURLY;INTERVAL=24;BYHOUR=5"), []string{"never-occurs rule"}},
		{rule("FREQ=DAILY;UNTIL=20200101T000000Z"), []string{"never-occurs rule"}},
		{rule("FREQ=DAILY;UNTIL=22270101T000000Z"), []string{"endless-rule rule"}},
		{rule("FREQ=YEARLY;COUNT=300"), []string{"endless-rule rule"}},
		{rule("FREQ=HOURLY;COUNT=1000000"), []string{"endless-rule rule"}},
		{rule("FREQ=MINUTELY;INTERVAL=4"), []string{"rule-too-frequent rule"}},
		{rule("FREQ=DAILY;BYHOUR=1,2;BYMINUTE=" + upTo(60) + ";BYSECOND=" + upTo(60)), []string{"rule-too-frequent rule"}},
		{func(w *schedule.Window) { w.Rule, w.End = "FREQ=MINUTELY;INTERVAL=5", "2027-01-01T00:00:00" }, []string{"rule-too-frequent rule"}},
		{rule("FREQ=SECONDLY;INTERVAL=2;BYMINUTE=0,5,10,15,20,25,30,35,40,45,50,55;BYSECOND=1"), []string{"never-occurs rule"}},
		{rule("FREQ=MINUTELY;INTERVAL=5;BYMINUTE=0;BYSETPOS=2"), []string{"never-occurs rule"}},
		{rule("FREQ=SECONDLY;BYSECOND=0;BYMINUTE=0;BYMONTHDAY=1;COUNT=50000"), []string{"rule-too-frequent rule"}},
		{rule("FREQ=HOURLY;INTERVAL=5;BYMINUTE=0;BYSETPOS=2"), []string{"never-occurs rule"}},
		{rule("FREQ=FORTNIGHTLY"), []string{"bad-rule rule"}},
		{rule("INTERVAL=2"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;INTERVAL=0"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;INTERVAL=-1"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;COUNT=3;UNTIL=20260401"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;FREQ=DAILY"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;UNTIL=tomorrow"), []string{"bad-rule rule"}},
		{rule("FREQ=WEEKLY;BYDAY=2MO"), []string{"bad-rule rule"}},
		{rule("FREQ=WEEKLY;BYMONTHDAY=2"), []string{"bad-rule rule"}},
		{rule("FREQ=MONTHLY;BYYEARDAY=2"), []string{"bad-rule rule"}},
		{rule("FREQ=MONTHLY;BYWEEKNO=2"), []string{"bad-rule rule"}},
		{rule("FREQ=YEARLY;BYWEEKNO=2;BYDAY=1MO"), []string{"bad-rule rule"}},
		{rule("FREQ=YEARLY;BYDAY=54MO"), []string{"bad-rule rule"}},
		{rule("FREQ=YEARLY;BYDAY=MONDAY"), []string{"bad-rule rule"}},
		{rule("FREQ=YEARLY;BYDAY="), []string{"bad-rule rule"}},
		{rule("FREQ=YEARLY;BYMONTH=13"), []string{"bad-rule rule"}},
		{rule("FREQ=YEARLY;BYMONTHDAY=0"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;BYSETPOS=1"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;RSCALE=CHINESE"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;WKST=XX"), []string{"bad-rule rule"}},
		{rule("FREQ=DAILY;BYHOUR=" + strings.Repeat("1,", 3000) + "1"), []string{"bad-rule rule"}},
		{
			func(w *schedule.Window) { *w = schedule.Window{} },
			[]string{"name-required name", "unknown-kind kind", "scope-required scope", "bad-time start", "one-length end"},
		},
	} {
		w := freeze(c.with)
		var got []string
		for _, f := range w.Check() {
			require.Equal(t, command.Malformed, f.Kind)
			require.NotEmpty(t, f.Reason)
			require.NotEmpty(t, f.Remedy)
			got = append(got, f.Rule+" "+f.Field)
		}
		require.Equal(t, c.faults, got, "%+v", w)
		_, err := schedule.Compile(w)
		require.Equal(t, len(c.faults) == 0, err == nil)
		for _, f := range c.faults {
			require.True(t, command.By(err, strings.Fields(f)[0]))
		}
	}
}

func upTo(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return strings.Join(list, ",")
}

func TestAWindowIsItsJSON(t *testing.T) {
	w := freeze(func(w *schedule.Window) {
		w.Reason, w.Parent, w.Zone = "r", "W-2", "Europe/Berlin"
		w.Scope = schedule.Scope{Classes: []string{"database"}, Environments: []string{"production"}}
		w.End, w.Duration, w.Rule = "", change.Duration(90*time.Minute), "FREQ=WEEKLY"
		w.Dates, w.Except, w.Effects.Plan = []string{"2026-03-05T00:00:00"}, []string{"2026-03-09T00:00:00"}, change.Record
	})
	text, err := json.Marshal(w)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"W-1","name":"freeze","kind":"deny","scope":{"classes":["database"],"environments":["production"]},"reason":"r",
		"parent":"W-2","zone":"Europe/Berlin","start":"2026-03-02T00:00:00","duration":"1h30m0s","rule":"FREQ=WEEKLY",
		"dates":["2026-03-05T00:00:00"],"except":["2026-03-09T00:00:00"],"effects":{"plan":"record"}}`, string(text))
	var back schedule.Window
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, w, back)
	require.Equal(t, w, compiled(t, w).Window())
}

// DOMAIN 2.1: the points at which a window has an effect.
func TestEffectsWarnAtFirstAndBlockThen(t *testing.T) {
	points := []change.Point{change.Planned, change.ToAuthorize, change.ToStart, change.ToDeploy, change.Asked}
	at := func(e schedule.Effects) (list []change.Effect) {
		for _, p := range points {
			list = append(list, e.At(p))
		}
		return list
	}
	require.Equal(t, []change.Effect{change.Warn, change.Block, change.Block, change.Block, change.Block}, at(schedule.Effects{}))
	require.Equal(t, []change.Effect{change.Record, change.Warn, change.Warn, change.Warn, change.Warn},
		at(schedule.Effects{Plan: change.Record, Authorize: change.Warn, Start: change.Warn}))
	require.Equal(t, []change.Effect{change.Block, change.Record, change.Record, change.Record, change.Block},
		at(schedule.Effects{Plan: change.Block, Authorize: change.Record, Start: change.Record}))
}

func TestAScopeMatchesByEachFieldThatIsSet(t *testing.T) {
	db := schedule.Subject{CI: "db-1", Classes: []string{"postgres", "database"}, Tags: []string{"pci", "gold"}, Environment: "production", Model: "normal"}
	for _, c := range []struct {
		scope schedule.Scope
		says  string
		want  bool
	}{
		{schedule.Scope{Everything: true}, "everything", true},
		{schedule.Scope{}, "nothing", false},
		{schedule.Scope{Classes: []string{"database"}}, "classes database", true},
		{schedule.Scope{Classes: []string{"queue", "postgres"}}, "classes queue or postgres", true},
		{schedule.Scope{CIs: []string{"db-2"}}, "cis db-2", false},
		{schedule.Scope{Tags: []string{"gold", "silver"}, Environments: []string{"production"}}, "tags gold or silver, environments production", true},
		{schedule.Scope{Tags: []string{"gold"}, Environments: []string{"staging"}}, "tags gold, environments staging", false},
		{schedule.Scope{Models: []string{"normal"}, CIs: []string{"db-1"}}, "cis db-1, models normal", true},
		{schedule.Scope{Models: []string{"standard"}}, "models standard", false},
	} {
		require.Equal(t, c.want, c.scope.Matches(db), c.says)
		require.Equal(t, c.says, c.scope.String())
	}
	require.False(t, schedule.Scope{Environments: []string{""}}.Matches(schedule.Subject{CI: "db-1"}), "what is unknown is no value")
}

// drawRule draws a rule that may be meant, in a zone whose clock is changed.
func drawRule(r *rapid.T) schedule.Window {
	return freeze(func(w *schedule.Window) {
		w.Zone = rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Antarctica/Troll", "Pacific/Apia"}).Draw(r, "zone")
		start := time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 3*365*96).Draw(r, "start")) * 15 * time.Minute)
		w.Start = start.Format("2006-01-02T15:04:05")
		length := time.Duration(rapid.SampledFrom([]int{1, 2, 3, 8, 24, 96, 400}).Draw(r, "length")) * 15 * time.Minute
		if rapid.Bool().Draw(r, "exact") {
			w.End, w.Duration = "", change.Duration(length)
		} else {
			w.End = start.Add(length).Format("2006-01-02T15:04:05")
		}
		w.Rule = rapid.SampledFrom([]string{
			"", "FREQ=DAILY", "FREQ=DAILY;INTERVAL=3", "FREQ=HOURLY", "FREQ=HOURLY;INTERVAL=7", "FREQ=MINUTELY;INTERVAL=45", "FREQ=WEEKLY;BYDAY=MO,SU;BYHOUR=0,2,3",
			"FREQ=MONTHLY;BYDAY=-1SU;BYHOUR=2;BYMINUTE=30", "FREQ=MONTHLY;BYMONTHDAY=31", "FREQ=YEARLY;BYMONTH=3,10;BYDAY=1SU,-1SU", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=-1",
			"FREQ=SECONDLY;INTERVAL=5400", "FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=MO,TH",
		}).Draw(r, "rule")
		if w.Rule != "" && rapid.IntRange(0, 2).Draw(r, "ends") == 0 {
			w.Rule += rapid.SampledFrom([]string{";COUNT=5", ";COUNT=100", ";UNTIL=20130331T010000Z", ";UNTIL=20131027"}).Draw(r, "end")
		}
		for range rapid.IntRange(0, 3).Draw(r, "dates") {
			w.Dates = append(w.Dates, start.Add(time.Duration(rapid.IntRange(-400, 4000).Draw(r, "date"))*15*time.Minute).Format("2006-01-02T15:04:05"))
		}
	})
}

func TestAnyPartOfTheOccurrencesIsThatPartOfAll(t *testing.T) {
	begin := utc(t, "2010-01-01T00:00:00Z")
	rapid.Check(t, func(r *rapid.T) {
		w := drawRule(r)
		c, err := schedule.Compile(w)
		if err != nil {
			r.Skip("it never occurs")
		}
		from := begin.Add(time.Duration(rapid.IntRange(0, 5*365*96).Draw(r, "from")) * 15 * time.Minute)
		to := from.Add(time.Duration(rapid.IntRange(1, 2000).Draw(r, "days/4")) * 6 * time.Hour)
		var want []change.Window
		for o := range c.Occurrences(begin, to) {
			require.True(r, o.Start.Before(o.End))
			if n := len(want); n > 0 {
				require.False(r, o.Start.Before(want[n-1].Start), "in order")
			}
			if o.End.After(from) {
				want = append(want, o)
			}
		}
		require.Equal(r, want, slices.Collect(c.Occurrences(from, to)))
	})
}

func TestBetweenIsWhereAtFindsAnOccurrence(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		c, err := schedule.Compile(drawRule(r))
		if err != nil {
			r.Skip("it never occurs")
		}
		// Some day of a change of the clock, or any.
		from := utc(r, rapid.SampledFrom([]string{
			"2011-12-29T00:00:00Z", "2012-03-24T12:00:00Z", "2012-10-27T12:00:00Z", "2013-03-09T12:00:00Z", "2013-10-05T00:00:00Z", "2013-10-19T00:00:00Z", "2012-05-31T00:00:00Z", "2012-12-31T00:00:00Z",
		}).Draw(r, "from"))
		to := from.Add(3 * 24 * time.Hour)
		active := slices.Collect(c.Between(from, to))
		for i, s := range active {
			require.True(r, s.Start.Before(s.End) && !s.Start.Before(from) && !s.End.After(to))
			if i > 0 {
				require.True(r, active[i-1].End.Before(s.Start), "apart")
			}
		}
		for at := from; at.Before(to); at = at.Add(15 * time.Minute) {
			o, ok := c.At(at)
			in := slices.ContainsFunc(active, func(s change.Window) bool { return s.Holds(at) })
			require.Equal(r, in, ok, "%s", at)
			require.Equal(r, ok, ok && o.Holds(at))
		}
	})
}

// far are rules that recur often, or seldom and then never.
var far = []string{"FREQ=MINUTELY;INTERVAL=5", "FREQ=SECONDLY;INTERVAL=300", "FREQ=SECONDLY;BYHOUR=3;BYMINUTE=0;BYSECOND=0", "FREQ=DAILY", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "FREQ=MONTHLY;COUNT=2000", "FREQ=WEEKLY;UNTIL=20980101T000000Z", "FREQ=YEARLY;BYWEEKNO=53;BYDAY=-1SU,MO"}

func TestWhatIsFarFromTheStartCostsNoMoreThanWhatIsNear(t *testing.T) {
	for _, rule := range far[:7] {
		c := compiled(t, freeze(func(w *schedule.Window) {
			w.Zone, w.Start, w.End, w.Rule = "Europe/Berlin", "1900-01-01T03:00:00", "1900-01-01T03:00:30", rule
		}))
		week := func(begin time.Time) func() {
			return func() {
				for range c.Occurrences(begin, begin.AddDate(0, 0, 7)) {
				}
			}
		}
		near, distant := timing.Until(func(near, distant time.Duration) bool { return distant < 3*near+50*time.Microsecond },
			week(utc(t, "1900-03-01T00:00:00Z")), week(utc(t, "2096-03-01T00:00:00Z")))
		require.Less(t, distant, 3*near+50*time.Microsecond, rule)
		t.Logf("%-50s a week in 1900 %v, in 2096 %v", rule, near, distant)
	}
}

func BenchmarkAWeekFarFromTheStart(b *testing.B) {
	for _, rule := range far[:7] {
		b.Run(rule, func(b *testing.B) {
			c := compiled(b, freeze(func(w *schedule.Window) {
				w.Zone, w.Start, w.End, w.Rule = "Europe/Berlin", "1900-01-01T03:00:00", "1900-01-01T03:00:30", rule
			}))
			begin := utc(b, "2096-03-01T00:00:00Z")
			n := 0
			for b.Loop() {
				for range c.Occurrences(begin, begin.AddDate(0, 0, 7)) {
					n++
				}
			}
			b.ReportMetric(float64(n)/float64(b.N), "occurrences/op")
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, rule := range []string{"", "FREQ=WEEKLY", "FREQ=DAILY;COUNT=70000", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=HOURLY;BYMONTHDAY=-1;COUNT=50000", "FREQ=MINUTELY;INTERVAL=5;BYMINUTE=0;BYSETPOS=2"} {
		b.Run(rule, func(b *testing.B) {
			w := freeze(func(w *schedule.Window) { w.Rule = rule })
			for b.Loop() {
				schedule.Compile(w)
			}
		})
	}
}

func FuzzCompile(f *testing.F) {
	for _, rule := range append(far, "", "FREQ=WEEKLY;BYDAY=MO,-1TU;BYSETPOS=-1,2;WKST=SU", "RRULE:FREQ=DAILY;UNTIL=20260101") {
		f.Add("Europe/Berlin", "2026-03-02T02:30:00", "2026-03-02T04:30:00", rule, "2026-03-29T02:30:00", int64(0))
	}
	f.Add("America/New_York", "2026-03-02T02:30:00", "", "FREQ=HOURLY;INTERVAL=5", "", int64(time.Hour))
	f.Fuzz(func(t *testing.T, zone, start, end, rule, date string, duration int64) {
		w := freeze(func(w *schedule.Window) {
			w.Zone, w.Start, w.End, w.Rule, w.Duration = zone, start, end, rule, change.Duration(duration)
			if date != "" {
				w.Dates, w.Except = []string{date, start}, []string{date}
			}
		})
		c, err := schedule.Compile(w)
		if err != nil {
			require.ErrorIs(t, err, command.ErrMalformed)
			return
		}
		last := time.Time{}
		for o := range c.Occurrences(utc(t, "2026-01-01T00:00:00Z"), utc(t, "2026-03-01T00:00:00Z")) {
			require.True(t, o.Start.Before(o.End))
			require.False(t, o.Start.Before(last))
			last = o.Start
		}
	})
}
