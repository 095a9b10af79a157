package schedule_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/eventstore/command"
)

// imported is what windows of a file are by default.
var imported = schedule.Window{Kind: schedule.Deny, Scope: schedule.Scope{Everything: true}}

// calendar returns lines as a VCALENDAR, with the line ends of the RFC.
func calendar(lines ...string) string {
	return "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n" + strings.Join(lines, "\r\n") + "\r\nEND:VCALENDAR\r\n"
}

func vevent(lines ...string) string {
	return "BEGIN:VEVENT\r\n" + strings.Join(lines, "\r\n") + "\r\nEND:VEVENT"
}

func readICal(t *testing.T, file string, defaults schedule.Window) ([]schedule.Window, []string) {
	windows, warnings, err := schedule.ReadICal(strings.NewReader(file), defaults)
	require.NoError(t, err)
	var list []string
	for _, w := range warnings {
		list = append(list, w.String())
	}
	return windows, list
}

func TestAFeedIsWrittenAsRFC5545Says(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, schedule.WriteICal(&b, "Changes; all", []schedule.Entry{
		{
			UID: "CHG-000042@rollforward", Sequence: 7, Stamp: utc(t, "2026-03-01T10:00:00Z"),
			Start: time.Date(2026, 3, 2, 3, 30, 0, 0, time.FixedZone("", 3600)), End: utc(t, "2026-03-02T04:00:00.25Z"),
			Summary: "Upgrade; \"main\", part\\one", Description: "first\r\nsecond\nthird\x00\x07\ttab" + strings.Repeat("ä€😀", 20),
			Location: "Köln", URL: "https://example.org/a b", Status: "CONFIRMED", Categories: []string{"normal", "a,b;c"},
		},
		{UID: "i", Start: utc(t, "2026-03-02T04:00:00Z"), End: utc(t, "2026-03-02T04:00:00Z"), Free: true},
	}))
	file := b.String()
	require.Equal(t, strings.Count(file, "\n"), strings.Count(file, "\r\n"))
	for line := range strings.SplitSeq(file, "\r\n") {
		require.LessOrEqual(t, len(line), 75)
		require.True(t, utf8.ValidString(line), "no character is split: %q", line)
	}
	require.Equal(t, []string{
		"BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//rollforward//schedule//EN", "METHOD:PUBLISH", `X-WR-CALNAME:Changes\; all`,
		"BEGIN:VEVENT", "UID:CHG-000042@rollforward", "SEQUENCE:7", "DTSTAMP:20260301T100000Z", "DTSTART:20260302T023000Z", "DTEND:20260302T040001Z",
		`SUMMARY:Upgrade\; "main"\, part\\one`, `DESCRIPTION:first\nsecond\nthird` + "\ttab" + strings.Repeat("ä€😀", 20),
		"LOCATION:Köln", "URL:https://example.org/a%20b", "STATUS:CONFIRMED", `CATEGORIES:normal,a\,b\;c`, "END:VEVENT",
		"BEGIN:VEVENT", "UID:i", "SEQUENCE:0", "DTSTAMP:00010101T000000Z", "DTSTART:20260302T040000Z", "TRANSP:TRANSPARENT", "END:VEVENT",
		"END:VCALENDAR", "",
	}, strings.Split(strings.ReplaceAll(file, "\r\n ", ""), "\r\n"))

	for _, bad := range []schedule.Entry{
		{},
		{UID: "a", Start: utc(t, "2026-03-02T04:00:00Z"), End: utc(t, "2026-03-02T03:00:00Z")},
		{UID: "a", Status: "OPEN"},
		{UID: "a", End: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		require.ErrorContains(t, schedule.WriteICal(&b, "", []schedule.Entry{bad}), "entry 0 of the feed: ")
	}
	require.ErrorIs(t, schedule.WriteICal(full{}, "", nil), errFull)
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWhatAFeedSaysIsReadBackWhateverTheText(t *testing.T) {
	texts := rapid.StringOfN(rapid.SampledFrom([]rune("ab ;,:\\\n\"ä€😀\t")), 0, 200, -1)
	rapid.Check(t, func(r *rapid.T) {
		var entries []schedule.Entry
		for i := range rapid.IntRange(1, 4).Draw(r, "entries") {
			start := utc(t, "2026-03-01T10:00:00Z").Add(time.Duration(rapid.IntRange(0, 1e6).Draw(r, "start")) * time.Second)
			entries = append(entries, schedule.Entry{
				UID: fmt.Sprint("u-", i), Start: start, End: start.Add(time.Duration(rapid.IntRange(1, 1e6).Draw(r, "length")) * time.Second),
				Summary: "s" + texts.Draw(r, "summary"), Description: texts.Draw(r, "description"),
			})
		}
		var b bytes.Buffer
		require.NoError(r, schedule.WriteICal(&b, "", entries))
		for line := range strings.SplitSeq(b.String(), "\r\n") {
			require.LessOrEqual(r, len(line), 75)
		}
		windows, warnings, err := schedule.ReadICal(&b, imported)
		require.NoError(r, err)
		require.Empty(r, warnings)
		require.Len(r, windows, len(entries))
		for i, w := range windows {
			e := entries[i]
			require.Equal(r, []string{e.UID, strings.TrimSpace(e.Summary), strings.TrimSpace(e.Description)}, []string{w.ID, w.Name, w.Reason})
			require.Equal(r, []change.Window{{Start: e.Start, End: e.End}}, slices.Collect(compiled(r, w).Occurrences(e.Start, e.End)))
		}
	})
}

func TestOccurrencesAreEntriesWithUIDsThatStay(t *testing.T) {
	c := compiled(t, freeze(func(w *schedule.Window) { w.Rule, w.Reason = "FREQ=WEEKLY", "audit" }))
	all := c.Entries(utc(t, "2026-03-01T00:00:00Z"), utc(t, "2026-04-01T00:00:00Z"), 3, utc(t, "2026-01-01T00:00:00Z"))
	require.Len(t, all, 5)
	require.Equal(t, schedule.Entry{
		UID: "W-1-20260302T000000Z", Sequence: 3, Stamp: utc(t, "2026-01-01T00:00:00Z"), Start: utc(t, "2026-03-02T00:00:00Z"), End: utc(t, "2026-03-03T00:00:00Z"),
		Summary: "freeze", Description: "audit", Status: "CONFIRMED", Categories: []string{"deny"}, Free: true,
	}, all[0])
	require.Equal(t, all[2:4], c.Entries(utc(t, "2026-03-16T12:00:00Z"), utc(t, "2026-03-23T12:00:00Z"), 3, utc(t, "2026-01-01T00:00:00Z")))
}

func TestEventsAreReadAsWindows(t *testing.T) {
	zoned := func(lines ...string) []string { return append([]string{"UID:u", "SUMMARY:s"}, lines...) }
	base := func(with func(*schedule.Window)) schedule.Window {
		w := schedule.Window{ID: "u", Name: "s", Kind: schedule.Deny, Scope: schedule.Scope{Everything: true}}
		with(&w)
		return w
	}
	for _, c := range []struct {
		name  string
		lines []string
		want  schedule.Window
	}{
		{
			"a DTEND gives every occurrence the same exact duration", zoned("DTSTART;TZID=Europe/Berlin:20261023T220000", "DTEND;TZID=Europe/Berlin:20261024T060000", "RRULE:FREQ=DAILY;UNTIL=20261231T000000Z"),
			base(func(w *schedule.Window) {
				w.Zone, w.Start, w.Duration, w.Rule = "Europe/Berlin", "2026-10-23T22:00:00", change.Duration(8*time.Hour), "FREQ=DAILY;UNTIL=20261231T000000Z"
			}),
		},
		{
			"days of a DURATION are nominal", zoned("DTSTART;TZID=Europe/Berlin:20261023T220000", "DURATION:P1D", "RRULE:FREQ=WEEKLY"),
			base(func(w *schedule.Window) {
				w.Zone, w.Start, w.End, w.Rule = "Europe/Berlin", "2026-10-23T22:00:00", "2026-10-24T22:00:00", "FREQ=WEEKLY"
			}),
		},
		{
			"hours of a DURATION are exact", zoned("DTSTART:20261023T220000Z", "DURATION:PT1H30M"),
			base(func(w *schedule.Window) {
				w.Zone, w.Start, w.Duration = "UTC", "2026-10-23T22:00:00", change.Duration(90*time.Minute)
			}),
		},
		{
			"a date is a day", zoned("DTSTART;VALUE=DATE:20261224"),
			base(func(w *schedule.Window) { w.Zone, w.Start, w.End = "UTC", "2026-12-24T00:00:00", "2026-12-25T00:00:00" }),
		},
		{
			"dates are days, the last one not", zoned("DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20261227", "EXDATE;VALUE=DATE:20261224", "RDATE;VALUE=DATE:20270101,20280101"),
			base(func(w *schedule.Window) {
				w.Zone, w.Start, w.End, w.Except, w.Dates = "UTC", "2026-12-24T00:00:00", "2026-12-27T00:00:00", []string{"2026-12-24T00:00:00"}, []string{"2027-01-01T00:00:00", "2028-01-01T00:00:00"}
			}),
		},
		{
			"a day that ends as it starts is that day, and no exceptions are none", zoned("DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20261224", "EXDATE:"),
			base(func(w *schedule.Window) { w.Zone, w.Start, w.End = "UTC", "2026-12-24T00:00:00", "2026-12-25T00:00:00" }),
		},
		{
			"times in another zone are those of the start", zoned("DTSTART;TZID=\"W. Europe Standard Time\":20261023T220000", "DTEND:20261023T210000Z", "RDATE:20261124T210000Z", "EXDATE;VALUE=DATE:20261023"),
			base(func(w *schedule.Window) {
				w.Zone, w.Start, w.Duration, w.Dates, w.Except = "Europe/Berlin", "2026-10-23T22:00:00", change.Duration(time.Hour), []string{"2026-11-24T22:00:00"}, []string{"2026-10-23T22:00:00"}
			}),
		},
		{
			"a zone below a prefix", zoned("DTSTART;TZID=/vendor.example/2007_1/America/New_York:20261023T220000", "DTEND;TZID=/vendor.example/2007_1/America/New_York:20261023T230000"),
			base(func(w *schedule.Window) {
				w.Zone, w.Start, w.Duration = "America/New_York", "2026-10-23T22:00:00", change.Duration(time.Hour)
			}),
		},
		{
			"what is escaped and folded", []string{"UID:u", "SUMMARY:s", "DESCRIPTION:one\\, two\\nthr", " ee\\;", "DTSTART:20261023T220000Z", "DURATION:P1W"},
			base(func(w *schedule.Window) {
				w.Reason, w.Zone, w.Start, w.End = "one, two\nthree;", "UTC", "2026-10-23T22:00:00", "2026-10-30T22:00:00"
			}),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			windows, warnings := readICal(t, calendar(vevent(c.lines...)), imported)
			require.Empty(t, warnings)
			require.Equal(t, []schedule.Window{c.want}, windows)
			bare, _ := readICal(t, vevent(c.lines...), imported)
			require.Equal(t, windows, bare, "without a VCALENDAR, too")
		})
	}
}

func TestTimesWithoutAZoneAreOfThatOfTheDefaultsOrOfTheFile(t *testing.T) {
	event := vevent("UID:u", "SUMMARY:s", "DTSTART:20261023T220000", "DURATION:PT1H")
	windows, _ := readICal(t, calendar(event), imported)
	require.Equal(t, "UTC", windows[0].Zone)
	windows, _ = readICal(t, calendar("X-WR-TIMEZONE:Europe/Berlin", event), imported)
	require.Equal(t, "Europe/Berlin", windows[0].Zone)
	tokyo := imported
	tokyo.Zone = "Asia/Tokyo"
	windows, _ = readICal(t, calendar("X-WR-TIMEZONE:Europe/Berlin", event), tokyo)
	require.Equal(t, "Asia/Tokyo", windows[0].Zone)
	windows, _ = readICal(t, calendar(vevent("UID:u", "SUMMARY:s", "DTSTART;TZID=Mine:20261023T220000", "DURATION:PT1H"),
		"BEGIN:VTIMEZONE\r\nTZID:Mine\r\nX-LIC-LOCATION:Europe/Rome\r\nEND:VTIMEZONE"), imported)
	require.Equal(t, "Europe/Rome", windows[0].Zone, "a zone may come after")
}

func TestAnOccurrenceThatIsMovedIsAWindowOfItsOwn(t *testing.T) {
	windows, warnings := readICal(t, calendar(
		vevent("UID:u", "SUMMARY:weekly", "DTSTART;TZID=Europe/Berlin:20260302T100000", "DURATION:PT1H", "RRULE:FREQ=WEEKLY;COUNT=4"),
		vevent("UID:u", "SUMMARY:moved", "RECURRENCE-ID:20260309T090000Z", "DTSTART:20260310T150000Z", "DURATION:PT2H"),
		vevent("UID:u", "SUMMARY:off", "RECURRENCE-ID;TZID=Europe/Berlin:20260316T100000", "DTSTART:20260316T090000Z", "DURATION:PT2H", "STATUS:CANCELLED"),
	), imported)
	require.Equal(t, []string{"line 17: VEVENT u: it is left out: it is cancelled"}, warnings)
	require.Len(t, windows, 2)
	require.Equal(t, []string{"2026-03-09T10:00:00", "2026-03-16T10:00:00"}, windows[0].Except)
	require.Equal(t, []string{"u-2026-03-09T09:00:00", "moved"}, []string{windows[1].ID, windows[1].Name})
}

func TestAPeriodIsAWindowOfItsOwn(t *testing.T) {
	windows, warnings := readICal(t, calendar(vevent("UID:u", "SUMMARY:s", "DTSTART:20260302T100000Z", "DURATION:PT1H",
		"RDATE;VALUE=PERIOD:20260401T100000Z/20260401T150000Z,20260501T100000Z/PT3H")), imported)
	require.Empty(t, warnings)
	var all []string
	for _, w := range windows {
		all = append(all, spans(slices.Collect(compiled(t, w).Occurrences(utc(t, "2026-01-01T00:00:00Z"), utc(t, "2027-01-01T00:00:00Z"))))...)
	}
	require.Equal(t, []string{"03-02T10:00/03-02T11:00", "04-01T10:00/04-01T15:00", "05-01T10:00/05-01T13:00"}, all)
}

func TestWhatCannotBeAWindowIsLeftOutWithAWarning(t *testing.T) {
	for _, c := range []struct{ warning, component string }{
		{"VTODO u: it is left out: only events become windows", "BEGIN:VTODO\r\nUID:u\r\nEND:VTODO"},
		{"X-OTHER: it is left out: only events become windows", "BEGIN:X-OTHER\r\nEND:X-OTHER"},
		{"VEVENT u: it is left out: it has no DTSTART", vevent("UID:u")},
		{"it has neither DTEND nor DURATION, and is but an instant", vevent("UID:u", "DTSTART:20260302T100000Z")},
		{"it has both DTEND and DURATION", vevent("UID:u", "DTSTART:20260302T100000Z", "DTEND:20260302T110000Z", "DURATION:PT1H")},
		{`DTSTART: "20261302" is no date or time`, vevent("UID:u", "DTSTART:20261302")},
		{`DTSTART: "Atlantis" is no zone that is known`, vevent("UID:u", "DTSTART;TZID=Atlantis:20260302T100000")},
		{"one of DTSTART and DTEND is a date, and the other is not", vevent("UID:u", "DTSTART:20260302T100000Z", "DTEND;VALUE=DATE:20260303")},
		{"negative-window (duration): it lasts -1h0m0s", vevent("UID:u", "DTSTART:20260302T100000Z", "DTEND:20260302T090000Z")},
		{"it ends as it starts", vevent("UID:u", "DTSTART:20260302T100000Z", "DTEND:20260302T100000Z")},
		{`DURATION: "-PT1H" is none`, vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:-PT1H")},
		{`DURATION: "PT" is none`, vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:PT")},
		{`DURATION: "P99999999999999999999D" is none`, vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:P99999999999999999999D")},
		{"it has two RRULEs", vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY", "RRULE:FREQ=WEEKLY")},
		{"bad-rule (rule): FORTNIGHTLY is no FREQ", vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:PT1H", "RRULE:FREQ=FORTNIGHTLY")},
		{"it has an EXRULE", vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:PT1H", "EXRULE:FREQ=DAILY")},
		{"it changes all occurrences from one on", vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:PT1H", "RECURRENCE-ID;RANGE=THISANDFUTURE:20260302T100000Z")},
		{"bad-time (start): 1601-01-01T00:00:00 is not from 1900 to 2200", vevent("UID:u", "DTSTART:16010101T000000Z", "DURATION:PT1H")},
	} {
		windows, warnings := readICal(t, calendar(c.component, vevent("UID:v", "SUMMARY:good", "DTSTART:20260302T100000Z", "DURATION:PT1H")), imported)
		require.Len(t, windows, 1, "the others are read: %s", c.warning)
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0], c.warning)
		require.True(t, strings.HasPrefix(warnings[0], "line 3: "), warnings[0])
	}
	_, warnings := readICal(t, calendar(vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:PT1H", "BEGIN:VALARM", "END:VALARM"), vevent("UID:u", "DTSTART:20260302T100000Z", "DURATION:PT1H")), imported)
	require.Equal(t, []string{"line 7: VALARM u: it is left out: a window has none", "line 10: VEVENT u: it is left out: line 3 has the same UID"}, warnings)
}

func TestABrokenFileIsAnErrorWithItsLine(t *testing.T) {
	good := "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n"
	for _, c := range []struct{ file, want string }{
		{"", "line 1: there is no VCALENDAR"},
		{"\r\n\r\n", "line 1: there is no VCALENDAR"},
		{"hello", `line 1: "hello" is no NAME:VALUE`},
		{"VERSION:2.0\r\n", `line 1: "VERSION" is not in a VCALENDAR`},
		{"BEGIN:VEVENT\r\nEND:VEVENT\r\nUID:u\r\n", `line 3: "UID" is not in a VCALENDAR`},
		{good + "END:VEVENT\r\n", `line 3: it ends "VEVENT", which was not begun last`},
		{good + "BEGIN:VEVENT\r\nUID:u\r\n", `line 4: the file ends within "VEVENT", which begins in line 3`},
		{good + "BEGIN:VEVENT\r\nEND:VCALENDAR\r\n", `line 4: it ends "VCALENDAR", which was not begun last`},
		{good + "BEGIN:VEVENT\r\nSUMMARY:a\r\n b\r\nno value\r\n", `line 6: "no value" is no NAME:VALUE`},
		{good + "A;B:c\r\n", `line 3: "A" has a parameter that is no NAME=VALUE`},
		{good + "A;B=\"c:d\r\n", `line 3: "A" has a quotation that does not end`},
		{good + "A;B=c\r\n", `line 3: "A" has no value`},
		{good + "A;B=\"c\"d:e\r\n", `line 3: "A" has a parameter that does not end where it should`},
		{good + "A:\xff\r\n", `line 3: it is not UTF-8`},
		{good + strings.Repeat("BEGIN:X\r\n", 30), "line 22: components are nested more than 20 deep"},
		{good + strings.Repeat("A:"+strings.Repeat("a", 1022)+"\n", 17<<10), "the file has more than 16 MiB"},
	} {
		_, _, err := schedule.ReadICal(strings.NewReader(c.file), imported)
		require.ErrorIs(t, err, schedule.ErrICal)
		var at *schedule.ICalError
		require.ErrorAs(t, err, &at)
		require.Positive(t, at.Line)
		require.ErrorContains(t, err, c.want)
	}
	_, _, err := schedule.ReadICal(strings.NewReader(calendar()), schedule.Window{})
	require.True(t, command.By(err, "unknown-kind") && command.By(err, "scope-required"), "windows need a kind and a scope: %v", err)
	_, _, err = schedule.ReadICal(strings.NewReader(calendar()), schedule.Window{Kind: schedule.Deny, Scope: schedule.Scope{Everything: true}, Zone: "Local"})
	require.True(t, command.By(err, "unknown-zone"))
}

// odd is where real iCalendar files are, if they are.
const odd = "../../../shared/data/icalendar"

func oddFiles(t testing.TB) map[string][]byte {
	if _, err := os.Stat(odd); err != nil {
		t.Skipf("there are no files in %s", odd)
	}
	files := map[string][]byte{}
	require.NoError(t, filepath.WalkDir(odd, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".ics" {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	}))
	return files
}

func TestOddFilesOfTheWorldAreReadOrRefused(t *testing.T) {
	files := oddFiles(t)
	read, refused, windows, warnings := 0, 0, 0, 0
	for path, file := range files {
		ws, warned, err := schedule.ReadICal(bytes.NewReader(file), imported)
		if err != nil {
			var at *schedule.ICalError
			require.ErrorAs(t, err, &at, path)
			require.LessOrEqual(t, at.Line, bytes.Count(file, []byte("\n"))+1)
			refused++
			continue
		}
		read++
		windows += len(ws)
		warnings += len(warned)
		for _, w := range ws {
			require.Empty(t, w.Check(), path)
		}
		// Every event is a window, or there is a warning that says why not.
		events := bytes.Count(file, []byte("BEGIN:VEVENT"))
		require.GreaterOrEqual(t, len(ws)+len(warned), events, path)
	}
	t.Logf("%d files: %d read, %d refused with a line; %d windows, %d warnings", len(files), read, refused, windows, warnings)
	require.Greater(t, read, 160)
	require.Greater(t, windows, 60)
}

func FuzzReadICal(f *testing.F) {
	f.Add([]byte(calendar(vevent("UID:u", "SUMMARY:s", "DTSTART;TZID=Europe/Berlin:20260302T100000", "DURATION:PT1H", "RRULE:FREQ=WEEKLY", "EXDATE:20260309T090000Z", "RDATE;VALUE=PERIOD:20260401T100000Z/PT5H"))))
	f.Add([]byte(calendar(vevent("DTSTART;VALUE=DATE:20260302", "RECURRENCE-ID:20260302"), "BEGIN:VTIMEZONE\r\nTZID:a\r\nX-LIC-LOCATION:UTC\r\nEND:VTIMEZONE")))
	f.Add([]byte("BEGIN:VCALENDAR\nA;B=\"c\",d:e\n f\nEND:VCALENDAR"))
	f.Fuzz(func(t *testing.T, file []byte) {
		windows, _, err := schedule.ReadICal(bytes.NewReader(file), imported)
		if err != nil {
			require.ErrorIs(t, err, schedule.ErrICal)
			return
		}
		for _, w := range windows {
			require.Empty(t, w.Check())
		}
	})
}
