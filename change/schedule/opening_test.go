package schedule_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
)

// sunday is a maintenance window every Sunday from 02:00 to 06:00, freeze one
// over the turn of the year.
func sundayAndFreeze(t *testing.T) []*schedule.Compiled {
	return []*schedule.Compiled{
		compiled(t, schedule.Window{
			ID: "W-1", Name: "Sunday night", Kind: schedule.Allow, Scope: schedule.Scope{Classes: []string{"database"}},
			Start: "2026-01-04T02:00:00", End: "2026-01-04T06:00:00", Rule: "FREQ=WEEKLY",
		}),
		compiled(t, schedule.Window{
			ID: "W-2", Name: "year-end freeze", Kind: schedule.Deny, Scope: schedule.Scope{Everything: true}, Reason: "the books are closed",
			Start: "2026-12-18T00:00:00", End: "2027-01-04T00:00:00", Rule: "FREQ=YEARLY",
		}),
	}
}

var (
	database = schedule.Subject{CI: "db-1", Classes: []string{"database"}}
	server   = schedule.Subject{CI: "web-1", Classes: []string{"server"}}
)

func hours(t *testing.T, start string, n float64) change.Window {
	at := utc(t, start)
	return change.Window{Start: at, End: at.Add(time.Duration(n * float64(time.Hour)))}
}

// DOMAIN 2.1: the open rule; the answer carries the reason, the window, and the
// next opening.
func TestOpenIsWhatNoWindowDeniesAndThoseThatAllowCover(t *testing.T) {
	windows := sundayAndFreeze(t)
	for _, c := range []struct {
		name           string
		subject        schedule.Subject
		over           change.Window
		horizon        time.Duration
		open           bool
		why, window    string
		until, next    string
		rules, overlap []string
	}{
		{
			name: "where none allows, what none denies is open", subject: server, over: hours(t, "2026-11-25T10:00:00Z", 2),
			open: true, why: "no window denies it then, and none says when it is allowed", until: "2026-12-18T00:00:00Z",
		},
		{
			name: "a horizon is as far as is looked", subject: server, over: hours(t, "2026-11-25T10:00:00Z", 2), horizon: 48 * time.Hour,
			open: true, why: "no window denies it then, and none says when it is allowed",
		},
		{
			name: "within maintenance", subject: database, over: hours(t, "2026-11-29T02:00:00Z", 4),
			open: true, why: `W-1 "Sunday night" allows it`, window: "W-1", until: "2026-11-29T06:00:00Z",
		},
		{
			name: "beyond its end", subject: database, over: hours(t, "2026-11-29T03:00:00Z", 4),
			why: `it is outside of maintenance from 2026-11-29T06:00:00Z on: W-1 "Sunday night" allows it at other times`, window: "W-1",
			until: "2026-12-06T02:00:00Z", next: "2026-12-06T02:00:00Z", rules: []string{"outside-maintenance"}, overlap: []string{"11-29T06:00/11-29T07:00"},
		},
		{
			name: "longer than any", subject: database, over: hours(t, "2026-11-29T02:00:00Z", 5),
			why: `it is outside of maintenance from 2026-11-29T06:00:00Z on: W-1 "Sunday night" allows it at other times`, window: "W-1",
			until: "2026-12-06T02:00:00Z", rules: []string{"outside-maintenance"}, overlap: []string{"11-29T06:00/11-29T07:00"},
		},
		{
			name: "into the freeze", subject: server, over: hours(t, "2026-12-17T23:00:00Z", 2),
			why: `W-2 "year-end freeze" denies it from 2026-12-18T00:00:00Z on: the books are closed`, window: "W-2",
			until: "2027-01-04T00:00:00Z", next: "2027-01-04T00:00:00Z", rules: []string{"blackout"}, overlap: []string{"12-18T00:00/12-18T01:00"},
		},
		{
			name: "until the freeze", subject: server, over: hours(t, "2026-12-17T23:00:00Z", 1),
			open: true, why: "no window denies it then, and none says when it is allowed", until: "2026-12-18T00:00:00Z",
		},
		{
			name: "maintenance in the freeze", subject: database, over: hours(t, "2026-12-20T03:00:00Z", 1),
			why: `W-2 "year-end freeze" denies it from 2026-12-20T03:00:00Z on: the books are closed`, window: "W-2",
			until: "2027-01-04T00:00:00Z", next: "2027-01-10T02:00:00Z", rules: []string{"blackout"}, overlap: []string{"12-20T03:00/12-20T04:00"},
		},
		{
			name: "outside, and then frozen", subject: database, over: hours(t, "2026-12-17T12:00:00Z", 24),
			why: `it is outside of maintenance from 2026-12-17T12:00:00Z on: W-1 "Sunday night" allows it at other times`, window: "W-1",
			until: "2026-12-20T02:00:00Z", rules: []string{"outside-maintenance", "blackout"}, overlap: []string{"12-17T12:00/12-18T12:00", "12-18T00:00/12-18T12:00"},
		},
		{
			name: "an instant", subject: database, over: hours(t, "2026-11-29T06:00:00Z", 0),
			why: `it is outside of maintenance from 2026-11-29T06:00:00Z on: W-1 "Sunday night" allows it at other times`, window: "W-1",
			until: "2026-12-06T02:00:00Z", next: "2026-12-06T02:00:00Z", rules: []string{"outside-maintenance"}, overlap: []string{"11-29T06:00/11-29T06:00"},
		},
		{
			name: "an instant at the begin of one", subject: database, over: hours(t, "2026-11-29T02:00:00Z", 0),
			open: true, why: `W-1 "Sunday night" allows it`, window: "W-1", until: "2026-11-29T06:00:00Z",
		},
		{
			name: "an end before the start is an instant", subject: database, over: hours(t, "2026-11-29T02:00:00Z", -5),
			open: true, why: `W-1 "Sunday night" allows it`, window: "W-1", until: "2026-11-29T06:00:00Z",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := schedule.Judge(windows, c.subject, c.over, c.horizon)
			at := func(t time.Time) string {
				if t.IsZero() {
					return ""
				}
				return t.Format(time.RFC3339)
			}
			require.Equal(t, []any{c.open, c.why, c.window, c.until, c.next}, []any{o.Open, o.Why, o.Window, at(o.Until), at(o.Next)})
			var rules, overlaps []string
			for _, a := range o.Against {
				rules = append(rules, a.Rule)
				overlaps = append(overlaps, spans([]change.Window{a.Overlap})...)
			}
			require.Equal(t, c.rules, rules)
			require.Equal(t, c.overlap, overlaps)
		})
	}
	require.Equal(t, "no window is about it", schedule.Judge(nil, server, hours(t, "2026-11-25T10:00:00Z", 2), 0).Why)
}

func TestAllowedIsWhatSeveralWindowsCoverTogether(t *testing.T) {
	allow := func(id, start, end string, e schedule.Effects) *schedule.Compiled {
		return compiled(t, schedule.Window{ID: id, Name: id, Kind: schedule.Allow, Scope: schedule.Scope{Everything: true}, Start: start, End: end, Effects: e})
	}
	windows := []*schedule.Compiled{
		allow("W-2", "2026-03-02T04:00:00", "2026-03-02T06:00:00", schedule.Effects{Plan: change.Block, Authorize: change.Record, Start: change.Record}),
		allow("W-1", "2026-03-02T02:00:00", "2026-03-02T04:00:00", schedule.Effects{Plan: change.Record, Authorize: change.Warn, Start: change.Record}),
	}
	require.True(t, schedule.Judge(windows, server, hours(t, "2026-03-02T02:00:00Z", 4), 0).Open)
	o := schedule.Judge(windows, server, hours(t, "2026-03-02T05:00:00Z", 2), 0)
	require.False(t, o.Open)
	require.Equal(t, "W-1", o.Window)
	require.Contains(t, o.Why, "and 1 more allow it at other times")
	require.Equal(t, schedule.Effects{Plan: change.Block, Authorize: change.Warn, Start: change.Record}, o.Against[0].Effects, "the strongest of all")
	require.Zero(t, o.Until)
	require.Zero(t, o.Next, "there may be none")
}

// DOMAIN 2.1: child windows can carve exceptions.
func TestAChildMasksItsParentWhileItIsActive(t *testing.T) {
	windows := sundayAndFreeze(t)
	add := func(w schedule.Window) { windows = append(windows, compiled(t, w)) }
	xmas := hours(t, "2026-12-24T10:00:00Z", 2)
	require.False(t, schedule.Judge(windows, server, xmas, 0).Open)

	add(schedule.Window{ID: "W-3", Name: "web shop", Kind: schedule.Allow, Parent: "W-2", Scope: schedule.Scope{CIs: []string{"web-1"}}, Start: "2026-12-24T09:00:00", End: "2026-12-24T12:00:00"})
	require.True(t, schedule.Judge(windows, server, xmas, 0).Open)
	require.True(t, schedule.Judge(windows, server, hours(t, "2026-12-01T10:00:00Z", 2), 0).Open, "an exception to a freeze does not close the rest of the year")
	require.False(t, schedule.Judge(windows, server, hours(t, "2026-12-24T11:00:00Z", 2), 0).Open, "beyond the exception it is frozen")
	require.False(t, schedule.Judge(windows, database, xmas, 0).Open, "for what it does not match it is no exception")

	add(schedule.Window{ID: "W-4", Name: "but not at ten", Kind: schedule.Deny, Parent: "W-3", Scope: schedule.Scope{Everything: true}, Start: "2026-12-24T10:00:00", End: "2026-12-24T11:00:00"})
	o := schedule.Judge(windows, server, xmas, 0)
	require.False(t, o.Open, "an exception to the exception is none")
	require.Equal(t, "W-2", o.Window)
	require.Equal(t, "2026-12-24T11:00:00Z", o.Until.Format(time.RFC3339))

	add(schedule.Window{ID: "W-5", Name: "holy day", Kind: schedule.Deny, Parent: "W-2", Scope: schedule.Scope{Everything: true}, Reason: "nobody is here", Start: "2026-12-25T00:00:00", End: "2026-12-26T00:00:00", Effects: schedule.Effects{Plan: change.Block}})
	o = schedule.Judge(windows, server, hours(t, "2026-12-25T10:00:00Z", 2), 0)
	require.Equal(t, "W-5", o.Window, "one of the same kind stands in its parent's place")
	require.Equal(t, change.Block, o.Against[0].Effects.At(change.Planned))
	require.Len(t, o.Against, 1)

	add(schedule.Window{ID: "W-6", Name: "of nothing", Kind: schedule.Deny, Parent: "W-99", Scope: schedule.Scope{Everything: true}, Start: "2026-11-25T00:00:00", End: "2026-11-26T00:00:00"})
	require.True(t, schedule.Judge(windows, server, hours(t, "2026-11-25T10:00:00Z", 2), 0).Open, "without its parent it has no effect")

	add(schedule.Window{ID: "W-7", Name: "a", Kind: schedule.Deny, Parent: "W-8", Scope: schedule.Scope{Everything: true}, Start: "2026-06-01T00:00:00", End: "2026-06-02T00:00:00"})
	add(schedule.Window{ID: "W-8", Name: "b", Kind: schedule.Deny, Parent: "W-7", Scope: schedule.Scope{Everything: true}, Start: "2026-06-01T00:00:00", End: "2026-06-02T00:00:00"})
	schedule.Judge(windows, server, hours(t, "2026-06-01T10:00:00Z", 2), 0) // in a ring it comes back
}

// drawn is a window whose occurrences are known without any rule of ours.
type drawn struct {
	schedule.Window
	start, every, length, times int // quarters of an hour
}

// active reports whether it is active at a quarter, by looking at each occurrence.
func (d drawn) active(quarter int) bool {
	for i := range d.times {
		if s := d.start + i*d.every; quarter >= s && quarter < s+d.length {
			return true
		}
	}
	return false
}

var quarterZero = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func quarter(n int) time.Time { return quarterZero.Add(time.Duration(n) * 15 * time.Minute) }

func drawWindows(r *rapid.T) []drawn {
	var list []drawn
	for i := range rapid.IntRange(0, 6).Draw(r, "windows") {
		d := drawn{
			start: rapid.IntRange(-200, 600).Draw(r, "start"), every: rapid.IntRange(1, 50).Draw(r, "every"),
			length: rapid.IntRange(1, 40).Draw(r, "length"), times: rapid.IntRange(1, 12).Draw(r, "times"),
		}
		d.Window = schedule.Window{
			ID: fmt.Sprint("W-", i), Name: "w", Kind: rapid.SampledFrom([]schedule.Kind{schedule.Allow, schedule.Deny}).Draw(r, "kind"),
			Scope: rapid.SampledFrom([]schedule.Scope{{Everything: true}, {CIs: []string{"db-1"}}, {CIs: []string{"web-1"}}}).Draw(r, "scope"),
			Start: quarter(d.start).Format("2006-01-02T15:04:05"), Duration: change.Duration(15 * time.Minute * time.Duration(d.length)),
			Rule: fmt.Sprintf("FREQ=MINUTELY;INTERVAL=%d;COUNT=%d", 15*d.every, d.times),
		}
		if n := len(list); n > 0 && rapid.Bool().Draw(r, "child") {
			d.Parent = fmt.Sprint("W-", rapid.IntRange(0, n).Draw(r, "parent")) // or of itself's number less one: never itself
			if d.Parent == d.ID {
				d.Parent = "W-99"
			}
		}
		list = append(list, d)
	}
	return list
}

// openAt is the open rule as DOMAIN 2.1 writes it, at one quarter.
func openAt(windows []drawn, x schedule.Subject, quarter int) bool {
	var unmasked func(d drawn) bool
	unmasked = func(d drawn) bool {
		return d.active(quarter) && !slices.ContainsFunc(windows, func(child drawn) bool {
			return child.Parent == d.ID && child.Scope.Matches(x) && unmasked(child)
		})
	}
	denied, allows, allowed := false, false, false
	for _, d := range windows {
		if !d.Scope.Matches(x) {
			continue
		}
		if d.Parent != "" {
			i := slices.IndexFunc(windows, func(p drawn) bool { return p.ID == d.Parent })
			if i < 0 || windows[i].Kind != d.Kind {
				continue
			}
		}
		if d.Kind == schedule.Deny {
			denied = denied || unmasked(d)
		} else {
			allows = true
			allowed = allowed || unmasked(d)
		}
	}
	return !denied && (!allows || allowed)
}

func TestTheOpenRuleIsThatOfAnOracleAtEveryQuarter(t *testing.T) {
	const horizon = 500 // quarters
	closed, found := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		drawn := drawWindows(r)
		var windows []*schedule.Compiled
		for _, d := range drawn {
			windows = append(windows, compiled(r, d.Window))
		}
		x := rapid.SampledFrom([]schedule.Subject{database, server}).Draw(r, "subject")
		from, length := rapid.IntRange(-100, 400).Draw(r, "from"), rapid.IntRange(1, 60).Draw(r, "length")
		openFor := func(begin, n int) bool {
			for q := begin; q < begin+n; q++ {
				if !openAt(drawn, x, q) {
					return false
				}
			}
			return true
		}
		over := change.Window{Start: quarter(from), End: quarter(from + length)}
		o := schedule.Judge(windows, x, over, horizon*15*time.Minute)
		require.Equal(r, openFor(from, length), o.Open)
		require.Equal(r, o.Open, len(o.Against) == 0)
		require.NotEmpty(r, o.Why)

		// The next opening is the earliest.
		const none = 1 << 30
		next := none
		for q := from; q < from+horizon && !o.Open; q++ {
			if openFor(q, length) {
				next = q
				break
			}
		}
		if next == none {
			require.Zero(r, o.Next)
		} else {
			require.Equal(r, quarter(next), o.Next)
			found++
		}
		if o.Open {
			until := from + length
			for until < from+horizon && openAt(drawn, x, until) {
				until++
			}
			if until == from+horizon {
				require.Zero(r, o.Until)
			} else {
				require.Equal(r, quarter(until), o.Until)
			}
		} else {
			closed++
			for _, a := range o.Against {
				require.False(r, a.Overlap.Start.Before(over.Start) || a.Overlap.End.After(over.End) || !a.Overlap.Start.Before(a.Overlap.End))
			}
			first := o.Against[0].Overlap.Start
			require.True(r, openFor(from, int(first.Sub(over.Start)/(15*time.Minute))), "it is open until the first stands against it")
			require.False(r, openAt(drawn, x, from+int(first.Sub(over.Start)/(15*time.Minute))))
		}

		open := schedule.Open(windows, x, over)
		for q := from; q < from+length; q++ {
			require.Equal(r, openAt(drawn, x, q), slices.ContainsFunc(open, func(w change.Window) bool { return w.Holds(quarter(q)) }))
		}
		for i := 1; i < len(open); i++ {
			require.True(r, open[i-1].End.Before(open[i].Start))
		}
		require.Equal(r, openAt(drawn, x, from), schedule.Judge(windows, x, change.Window{Start: over.Start, End: over.Start}, 0).Open, "an instant")
	})
	require.NotZero(t, closed)
	require.NotZero(t, found)
}

func BenchmarkJudge(b *testing.B) {
	var windows []*schedule.Compiled
	for i := range 100 {
		kind := schedule.Deny
		if i%10 == 0 {
			kind = schedule.Allow
		}
		windows = append(windows, compiled(b, schedule.Window{
			ID: fmt.Sprint("W-", i), Name: "w", Kind: kind, Scope: schedule.Scope{Everything: true}, Zone: "Europe/Berlin",
			Start: fmt.Sprintf("2010-01-%02dT%02d:00:00", 1+i%28, i%24), Duration: change.Duration(2 * time.Hour), Rule: "FREQ=WEEKLY",
		}))
	}
	over := change.Window{Start: utc(b, "2026-03-02T00:00:00Z"), End: utc(b, "2026-03-02T08:00:00Z")}
	for b.Loop() {
		schedule.Judge(windows, server, over, 0)
	}
}
