package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/release"
)

// report is what the page says. Nothing in it depends on how long the run took, on
// whether the log was there before, or on the numbers that were given to what was under
// way at once.
type report struct {
	history   *history
	agenda    *agenda
	refused   tally
	changes   int
	open      int // changes
	releases  int
	deploys   int
	frozen    int // deployments in a feature freeze
	years     map[int]int
	conflicts tally           // by rule, each once
	lead      []time.Duration // from the upload to the approval, sorted
	events    int
	checks    []check
}

// dates is how many past dates are checked.
const dates = 20

func newReport(ctx context.Context, store eventstore.Store, r *replay, a *agenda) (*report, error) {
	p := &report{history: r.history, agenda: a, refused: r.refused, years: map[int]int{}, conflicts: tally{}}
	var commits map[string]string
	if err := r.View(ctx, func(v rollforward.View) error {
		commits = p.count(v)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, err := range store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return nil, err
		}
		p.events++
	}
	var err error
	p.checks, err = checks(ctx, r.CMDB, r.history, dates)
	for _, c := range p.checks {
		for _, m := range c.mismatches {
			for i, e := range m.history {
				m.history[i].Cause = cmp.Or(commits[e.Cause], e.Cause)
			}
		}
	}
	return p, err
}

// count counts changes, releases and what the calendar said of them, at one cut. It
// returns of which commit each release is.
func (p *report) count(v rollforward.View) map[string]string {
	commits := map[string]string{}
	seen := map[string]bool{}
	judged := func(t change.Timing) (frozen bool) {
		for _, c := range t.Conflicts {
			if !seen[c.ID] {
				seen[c.ID] = true
				p.conflicts[c.Rule]++
			}
			frozen = frozen || c.Rule == schedule.Blackout
		}
		return frozen
	}
	for _, c := range v.Changes.Find(change.Filter{Model: model().Name}) {
		p.changes++
		if c.Open() {
			p.open++
		}
		if c.Authorized != nil {
			p.lead = append(p.lead, c.Authorized.At.Sub(c.RaisedAt))
		}
		for _, t := range c.Timings {
			judged(t.Timing)
		}
	}
	slices.Sort(p.lead)
	for _, one := range v.Releases.Find(release.Filter{}) {
		p.releases++
		for _, d := range one.Deployments {
			for _, report := range d.Reports {
				commits[one.ID] = "commit " + report.ID
			}
			p.deploys++
			p.years[d.At.Year()]++
			if d.Timing != nil && judged(*d.Timing) {
				p.frozen++
			}
		}
	}
	return commits
}

// percentile returns the value below or at which so many percent of all lie, by
// nearest rank; 0 of none.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*percent+99)/100, 1)-1]
}

func (p *report) print(out io.Writer) error {
	page := &page{out: out}
	page.line("rows read", p.history.read, "")
	page.line("used", len(p.agenda.jobs), "")
	page.line("skipped", p.history.skipped.total()+p.agenda.skipped.total(), "")
	page.tally(p.history.skipped)
	page.tally(p.agenda.skipped)
	if p.agenda.early > 0 {
		page.line("merged before they were uploaded", p.agenda.early, "taken at the merge")
	}
	page.line("files read", len(p.history.deliverables), "deliverables with a file")
	page.tally(p.history.files)
	page.gap()
	page.line("changes", p.changes, fmt.Sprintf("%s open", grouped(p.open)))
	page.line("releases", p.releases, "")
	page.line("events", p.events, "")
	if p.refused.total() > 0 {
		page.line("steps refused", p.refused.total(), "")
		page.tally(p.refused)
	}
	page.text("approval lead time", "p50 %s, p90 %s", lasting(percentile(p.lead, 50)), lasting(percentile(p.lead, 90)))
	page.line("deployments", p.deploys, "")
	for _, year := range slices.Sorted(maps.Keys(p.years)) {
		page.line(fmt.Sprint("  ", year), p.years[year], "")
	}
	page.line("  in a feature freeze", p.frozen, fmt.Sprintf("of %d freezes", len(p.history.weeks)))
	page.line("conflicts found", p.conflicts.total(), "by changes and deployments")
	page.tally(p.conflicts)
	page.gap()
	page.checks(p.checks)
	return page.err
}

// page writes lines and keeps the first error.
type page struct {
	out io.Writer
	err error
}

func (p *page) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}

func (p *page) gap() { p.printf("") }

func (p *page) line(name string, n int, also string) {
	p.printf("%s", strings.TrimRight(fmt.Sprintf("%-34s %9s  %s", name, grouped(n), also), " "))
}

func (p *page) text(name, format string, args ...any) {
	p.printf("%-34s %s", name, fmt.Sprintf(format, args...))
}

// tally lists reasons, the most frequent first.
func (p *page) tally(t tally) {
	reasons := slices.SortedFunc(maps.Keys(t), func(a, b string) int { return cmp.Or(cmp.Compare(t[b], t[a]), strings.Compare(a, b)) })
	for _, reason := range reasons {
		p.line("", t[reason], reason)
	}
}

func (p *page) checks(all []check) {
	shown := map[string]bool{}
	for i, c := range all {
		switch {
		case i == 0:
			p.printf("%s of %s deliverables match", grouped(c.matches), grouped(c.of))
		default:
			p.printf("%s of %s as of %s", grouped(c.matches), grouped(c.of), c.at.Format(time.DateTime))
		}
		for _, m := range c.mismatches {
			p.printf("  %s: %s in force, %s is the last of its file that had been merged", m.ci, named(m.inForce), named(m.want))
			if shown[m.ci] {
				continue
			}
			shown[m.ci] = true
			for _, e := range m.history {
				p.printf("    %s", e)
			}
		}
	}
}

func named(version string) string {
	if version == "" {
		return "no version"
	}
	return version
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// lasting writes a time in days, hours and minutes: "1 d 2 h", "3 h 4 min".
func lasting(d time.Duration) string {
	d = d.Round(time.Minute)
	days, hours, minutes := int(d/(24*time.Hour)), int(d/time.Hour)%24, int(d/time.Minute)%60
	switch {
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	}
	return fmt.Sprintf("%d min", minutes)
}
