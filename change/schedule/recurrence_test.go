package schedule_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/eventstore/command"
)

// answer is a line of testdata/occurrences.json.gz, which scripts/occurrences.py
// makes and explains.
type answer struct {
	Zone, Start, Rule    string
	First, Then          []int64  // starts, Unix: the first from the start, and from From
	From, Cap            int64    // asked up to, as if the wall showed UTC
	Asked                []string // otherwise than as it is, where dateutil differs from RFC 5545
	Differs              bool     // whether it would have made a difference
	Imaginary, Ambiguous int
}

func answers(t *testing.T) (list []answer) {
	f, err := os.Open("testdata/occurrences.json.gz")
	require.NoError(t, err)
	defer f.Close()
	text, err := gzip.NewReader(f)
	require.NoError(t, err)
	for d := json.NewDecoder(text); ; {
		var a answer
		err := d.Decode(&a)
		if errors.Is(err, io.EOF) {
			return list
		}
		require.NoError(t, err)
		list = append(list, a)
	}
}

func TestOccurrencesAreThoseOfDateutil(t *testing.T) {
	all := answers(t)
	require.Len(t, all, 2000)
	occurrences, imaginary, ambiguous, never, differ := 0, 0, 0, 0, map[string]int{}
	for _, a := range all {
		to := time.Unix(a.Cap, 0).Add(-48 * time.Hour) // whatever the zone
		a.First, a.Then = before(a.First, to), before(a.Then, to)
		c, err := schedule.Compile(freeze(func(w *schedule.Window) {
			w.Zone, w.Start, w.End, w.Duration, w.Rule = a.Zone, strings.TrimSuffix(a.Start, "Z"), "", change.Duration(time.Second), a.Rule
		}))
		if command.By(err, "never-occurs") {
			require.Empty(t, a.First, "%+v", a)
			never++
			continue
		}
		require.NoError(t, err, "%+v", a)
		require.Equal(t, a.First, starts(c, utc(t, a.Start+"Z").Add(-48*time.Hour), to, 16), "%+v", a)
		require.Equal(t, a.Then, starts(c, time.Unix(a.From, 0), to, 16), "%+v", a)
		occurrences += len(a.First) + len(a.Then)
		imaginary += a.Imaginary
		ambiguous += a.Ambiguous
		if a.Differs {
			differ[strings.Join(a.Asked, ", ")]++
		}
	}
	t.Logf("%d rules, %d of them without an occurrence; %d occurrences, of which %d do not exist on the wall and %d are there twice; asked as it is dateutil differs in %v",
		len(all), never, occurrences, imaginary, ambiguous, differ)
	require.Greater(t, imaginary, 150)
	require.Greater(t, ambiguous, 80)
	require.Less(t, never, 200)
	require.Zero(t, differ[""], "every difference is explained")
}

func before(starts []int64, to time.Time) []int64 {
	return slices.DeleteFunc(starts, func(s int64) bool { return s >= to.Unix() })
}

// starts returns up to so many starts from one instant to before another.
func starts(c *schedule.Compiled, from, to time.Time, most int) []int64 {
	list := []int64{}
	for o := range c.Occurrences(from, to) {
		if len(list) == most {
			break
		}
		list = append(list, o.Start.Unix())
	}
	return list
}

// The examples of RFC 5545, 3.8.5.3, as it lists their first occurrences; all in
// New York.
func TestOccurrencesAreThoseThatRFC5545Lists(t *testing.T) {
	for _, c := range []struct{ start, rule, want string }{
		{"1997-09-02T09:00:00", "FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02 1997-09-12 1997-09-22 1997-10-02 1997-10-12"},
		{"1997-09-02T09:00:00", "FREQ=WEEKLY;INTERVAL=2;WKST=SU", "1997-09-02 1997-09-16 1997-09-30 1997-10-14 1997-10-28 1997-11-11"},
		{"1997-09-01T09:00:00", "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR", "1997-09-01 1997-09-03 1997-09-05 1997-09-15 1997-09-17 1997-09-19 1997-09-29"},
		{"1997-09-05T09:00:00", "FREQ=MONTHLY;COUNT=10;BYDAY=1FR", "1997-09-05 1997-10-03 1997-11-07 1997-12-05 1998-01-02"},
		{"1997-09-22T09:00:00", "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", "1997-09-22 1997-10-20 1997-11-17 1997-12-22 1998-01-19 1998-02-16"},
		{"1997-09-28T09:00:00", "FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28 1997-10-29 1997-11-28 1997-12-29 1998-01-29 1998-02-26"},
		{"1997-01-01T09:00:00", "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200", "1997-01-01 1997-04-10 1997-07-19 2000-01-01 2000-04-09 2000-07-18 2003-01-01"},
		{"1997-05-19T09:00:00", "FREQ=YEARLY;BYDAY=20MO", "1997-05-19 1998-05-18 1999-05-17"},
		{"1997-05-12T09:00:00", "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1997-05-12 1998-05-11 1999-05-17"},
		{"1998-02-13T09:00:00", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "1998-02-13 1998-03-13 1998-11-13 1999-08-13 2000-10-13"},
		{"1996-11-05T09:00:00", "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", "1996-11-05 2000-11-07 2004-11-02"},
		{"1997-09-04T09:00:00", "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04 1997-10-07 1997-11-06"},
		{"1997-09-29T09:00:00", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29 1997-10-30 1997-11-27 1997-12-30"},
		{"1997-08-05T09:00:00", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08-05 1997-08-10 1997-08-19 1997-08-24"},
		{"1997-08-05T09:00:00", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08-05 1997-08-17 1997-08-19 1997-08-31"},
		{"2007-01-15T09:00:00", "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01-15 2007-01-30 2007-02-15 2007-03-15 2007-03-30"},
	} {
		w := compiled(t, freeze(func(w *schedule.Window) {
			w.Zone, w.Start, w.End, w.Duration, w.Rule = "America/New_York", c.start, "", change.Duration(time.Hour), c.rule
		}))
		want := strings.Fields(c.want)
		zone, err := time.LoadLocation("America/New_York")
		require.NoError(t, err)
		var got []string
		for _, at := range starts(w, utc(t, c.start+"Z").AddDate(0, 0, -2), utc(t, c.start+"Z").AddDate(30, 0, 0), len(want)) {
			local := time.Unix(at, 0).In(zone)
			require.Equal(t, 9, local.Hour())
			got = append(got, local.Format(time.DateOnly))
		}
		require.Equal(t, want, got, c.rule)
	}
}
