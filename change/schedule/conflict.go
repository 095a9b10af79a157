package schedule

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
)

// Found is everything that stands against an occasion.
type Found struct {
	Timing    change.Timing     // as it is recorded: with the first 50
	Conflicts []change.Conflict // all of them, those that block first
}

// Kept is how many conflicts a change.Timing has at most.
const kept = 50

// Conflicts returns what stands against an occasion, as the schedule and the graph
// have it (DOMAIN 2.2). Both are of one View.
//
// It costs the relations of the occasion's CIs, the changes that overlap it on
// these CIs and those near them, on its people and in its team, and the windows in
// force; not the number of changes.
func (s *Schedule) Conflicts(o change.Occasion, g *cmdb.Graph, rules Rules) (Found, error) {
	q := &query{s: s, o: o, rules: rules.filled(), at: spanOf(o.Window), found: map[string]change.Conflict{}}
	timing := change.Timing{Answer: change.TimingNotApplicable, Window: o.Window}
	if o.Window.Start.IsZero() && o.Window.End.IsZero() {
		return Found{Timing: timing}, nil
	}
	if q.rules.Touching {
		q.at = q.at.wider(1)
	}
	var err error
	if q.estate, err = estateOf(g, q.rules, o.CIs); err != nil {
		return Found{}, err
	}
	if timing.Next, err = q.windows(); err != nil {
		return Found{}, err
	}
	q.scheduled()
	q.people()
	q.team()
	q.order()
	q.deltas()
	if err := q.redundancy(); err != nil {
		return Found{}, err
	}
	if q.estate.cut > 0 {
		q.add(change.Conflict{
			Rule: TooManyRelated, With: strings.Join(q.estate.living[:1], ""), Overlap: o.Window,
			Why:    fmt.Sprintf("%d more CIs are related to those worked on; they were not looked at", q.estate.cut),
			Remedy: "look at them by hand, or let the calendar look at more",
		}, Effects{}, q.estate.cut)
	}
	all := q.sorted()
	switch {
	case len(all) > 0:
		timing.Answer = change.TimingConflict
	case len(o.CIs) > 0:
		timing.Answer = change.TimingClear
	}
	timing.Count, timing.Conflicts = len(all), all[:min(len(all), kept)]
	return Found{timing, all}, nil
}

// query is one look at what stands against an occasion.
type query struct {
	s      *Schedule
	o      change.Occasion
	rules  Rules
	at     span
	estate estate
	found  map[string]change.Conflict
}

// subject is the ID of what is to happen.
func (q *query) subject() string { return cmp.Or(q.o.Change, q.o.Release) }

// counts reports whether another change takes its time from this occasion.
func (q *query) counts(e *Scheduled) bool {
	return (e.Takes() || q.rules.Tentative && e.Window != nil && e.Done.IsZero() && e.Kind == change.KindPlan) && !q.apart(e.Change)
}

func (q *query) apart(id string) bool { return id == q.o.Change || slices.Contains(q.o.Apart, id) }

// add takes a conflict, once, and returns it. Its identity is its rule, who has it with whom, on
// which CIs, and whatever more tells it apart.
func (q *query) add(c change.Conflict, window Effects, more ...any) change.Conflict {
	of := func(subject string) string {
		return identity(append([]any{c.Rule, subject, c.With, c.CI, c.Related}, more...)...)
	}
	c.Change = q.subject()
	c.ID = of(c.Change)
	if known, ok := q.found[c.ID]; ok {
		return known
	}
	c.Effect = q.rules.effect(c.Rule, q.o.Point, window)
	c.Severity = cmp.Or(c.Severity, severity[c.Rule])
	if c.Resolved == nil {
		c.Resolved = q.accepted(c, of)
	}
	q.found[c.ID] = c
	return c
}

// accepted returns who took a conflict upon himself as it is now: what overlaps
// elsewhere, or longer than he saw, or beyond the time he named, is another matter.
// A deployment carries out changes: who accepted the same conflict of one of these
// accepted it. of returns the identity that the conflict has with another subject.
func (q *query) accepted(c change.Conflict, of func(subject string) string) *change.Resolution {
	for _, subject := range q.carries(c.Change) {
		a, ok := q.s.accepted[of(subject)]
		if ok && !c.Overlap.Start.Before(a.Conflict.Overlap.Start) && !c.Overlap.End.After(a.Conflict.Overlap.End) &&
			(a.Until.IsZero() || !c.Overlap.End.After(a.Until)) {
			return &change.Resolution{By: a.By, Why: a.Why, Until: a.Until}
		}
	}
	return nil
}

// carries returns a subject and, where a deployment is judged, the changes that it
// carries out.
func (q *query) carries(subject string) []string {
	if q.o.Change != "" {
		return []string{subject}
	}
	return append([]string{subject}, q.o.Apart...)
}

// identity is 24 hexadecimal digits of the SHA-256 over parts, each behind its length.
func identity(parts ...any) string {
	h := sha256.New()
	for _, part := range parts {
		text := fmt.Sprint(part)
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(text)))
		h.Write(n[:])
		h.Write([]byte(text))
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// sorted returns what was found: what blocks first, then the gravest.
func (q *query) sorted() []change.Conflict {
	all := make([]change.Conflict, 0, len(q.found))
	for _, c := range q.found {
		all = append(all, c)
	}
	effects := []change.Effect{change.Block, change.Warn, change.Record}
	stands := map[bool]int{true: 0, false: 1}
	slices.SortFunc(all, func(a, b change.Conflict) int {
		return cmp.Or(
			cmp.Compare(stands[a.Stands()], stands[b.Stands()]),
			cmp.Compare(slices.Index(effects, a.Effect), slices.Index(effects, b.Effect)),
			cmp.Compare(slices.Index(severities, b.Severity), slices.Index(severities, a.Severity)),
			strings.Compare(a.Rule, b.Rule), strings.Compare(a.With, b.With), strings.Compare(a.CI, b.CI), strings.Compare(a.Related, b.Related),
			strings.Compare(a.ID, b.ID),
		)
	})
	return all
}

// scheduled finds the changes that work on the same CIs, or on CIs near them.
func (q *query) scheduled() {
	for _, ci := range q.o.CIs {
		q.s.byCI[ci].overlapping(q.at, func(e *Scheduled) bool {
			q.meets(AlreadyScheduled, e, ci, "", nil)
			return true
		})
	}
	for rule, near := range map[string][]relative{parentPrefix + alreadyScheduled: q.estate.parents, childPrefix + alreadyScheduled: q.estate.children} {
		for _, n := range near {
			q.s.byCI[n.ci.ID].overlapping(q.at, func(e *Scheduled) bool {
				q.meets(rule, e, n.from(), n.ci.ID, n.path)
				return true
			})
		}
	}
}

// meets adds another change that works on a CI at the same time.
func (q *query) meets(rule string, e *Scheduled, ci, related string, path []cmdb.Step) {
	if !q.counts(e) {
		return
	}
	on := cmp.Or(related, ci)
	q.add(change.Conflict{
		Rule: rule, Severity: q.graver(severity[rule], on, e), With: e.Change, CI: ci, Related: related, Path: path,
		Overlap: overlap(q.o.Window, *e.Window),
		Why:     fmt.Sprintf("%s is to work on %s %s%s", e.Change, on, when(*e.Window), e.held()),
		Remedy:  "choose another time, agree on one with its owner, or have the conflict accepted",
	}, Effects{})
}

// graver returns a severity one step up where the CI is critical, and low where
// the other change is on hold.
func (q *query) graver(severity, ci string, e *Scheduled) string {
	if e.OnHold != "" {
		return severities[0]
	}
	if item, ok := q.estate.graph.CI(ci); ok && item.Attributes[cmdb.AttrCriticality] == "critical" {
		return severities[min(slices.Index(severities, severity)+1, len(severities)-1)]
	}
	return severity
}

func (e *Scheduled) held() string {
	if e.OnHold == "" {
		return ""
	}
	return ", and is on hold"
}

// when writes a window for people.
func when(w change.Window) string {
	const form = "2006-01-02 15:04"
	start, end := w.Start.UTC(), w.End.UTC()
	if start.Truncate(24 * time.Hour).Equal(end.Truncate(24 * time.Hour)) {
		return start.Format(form) + " to " + end.Format("15:04") + " UTC"
	}
	return start.Format(form) + " to " + end.Format(form) + " UTC"
}

// people finds who is to be elsewhere at the same time.
func (q *query) people() {
	for _, person := range q.o.People {
		q.s.byPerson[person].overlapping(q.at, func(e *Scheduled) bool {
			if q.counts(e) {
				q.add(change.Conflict{
					Rule: AssigneeBusy, With: e.Change, Overlap: overlap(q.o.Window, *e.Window),
					Why:    fmt.Sprintf("%s is to carry out %s %s%s", person, e.Change, when(*e.Window), e.held()),
					Remedy: "let somebody else carry it out, or choose another time",
				}, Effects{}, person)
			}
			return true
		})
	}
}

// team finds whether the team has more to do at once than it said it can.
func (q *query) team() {
	most, limited := q.s.capacity[q.o.Group]
	if q.o.Group == "" || !limited {
		return
	}
	var busy []change.Window
	q.s.byGroup[q.o.Group].overlapping(q.at, func(e *Scheduled) bool {
		if both := overlap(q.o.Window, *e.Window); q.counts(e) && both.Start.Before(both.End) {
			busy = append(busy, both)
		}
		return true
	})
	if peak, at := busiest(busy); peak+1 > most {
		q.add(change.Conflict{
			Rule: TeamOverCapacity, With: q.o.Group, Overlap: at,
			Why:    fmt.Sprintf("%s has %d changes to carry out at once, and can carry out %d", q.o.Group, peak+1, most),
			Remedy: "choose another time, or another team",
		}, Effects{})
	}
}

// busiest returns how many of these windows are at once at most, and the first
// time when they are.
func busiest(windows []change.Window) (peak int, at change.Window) {
	type edge struct {
		t    time.Time
		step int
	}
	var edges []edge
	for _, w := range windows {
		edges = append(edges, edge{w.Start, 1}, edge{w.End, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(a.t.Compare(b.t), cmp.Compare(a.step, b.step)) })
	now := 0
	for i, e := range edges {
		if now += e.step; now > peak {
			peak, at = now, change.Window{Start: e.t, End: edges[i+1].t} // an end follows, at the latest
		}
	}
	return peak, at
}
