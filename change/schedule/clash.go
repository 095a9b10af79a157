package schedule

import (
	"fmt"
	"slices"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
)

// key names what a delta alters: two deltas of one key do not commute.
func key(d cmdb.Delta) string {
	switch d.Op {
	case cmdb.OpSet:
		return "set\x00" + d.CI + "\x00" + d.Attribute
	case cmdb.OpRelate, cmdb.OpUnrelate:
		return "relate\x00" + d.CI + "\x00" + d.Relation + "\x00" + d.To
	}
	return whole(d.CI)
}

// whole is the key of deltas by which a CI comes or goes.
func whole(ci string) string { return "ci\x00" + ci }

// keysOf returns the keys of deltas, sorted, each once.
func keysOf(deltas []cmdb.Delta) []string {
	all := make([]string, 0, len(deltas))
	for _, d := range deltas {
		all = append(all, key(d))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// deltas finds planned deltas of others that do not commute with those of the
// occasion: of one thing at the same time; or, one after the other, a value that
// is not the one from which the later one goes out.
func (q *query) deltas() {
	for i, d := range q.o.Deltas {
		of := key(d)
		q.s.byDelta[of].overlapping(q.at, func(e *Scheduled) bool {
			q.clash(e, d, fmt.Sprintf("%s is to %s, too, %s", e.Change, says(e, of), when(*e.Window)))
			return true
		})
		for _, ci := range []string{d.CI, d.To} {
			if ci == "" || whole(ci) == of {
				continue
			}
			q.s.byDelta[whole(ci)].overlapping(q.at, func(e *Scheduled) bool {
				q.clash(e, d, fmt.Sprintf("%s is to %s, %s", e.Change, says(e, whole(ci)), when(*e.Window)))
				return true
			})
		}
		switch d.Op {
		case cmdb.OpAdd, cmdb.OpRetire:
			q.s.byCI[d.CI].overlapping(q.at, func(e *Scheduled) bool {
				for _, other := range e.Deltas {
					if other.CI == d.CI || other.To == d.CI {
						q.clash(e, d, fmt.Sprintf("%s is to %s of %s, %s", e.Change, other, other.CI, when(*e.Window)))
						break
					}
				}
				return true
			})
		case cmdb.OpSet:
			first := !slices.ContainsFunc(q.o.Deltas[:i], func(o cmdb.Delta) bool { return key(o) == of })
			last := !slices.ContainsFunc(q.o.Deltas[i+1:], func(o cmdb.Delta) bool { return key(o) == of })
			q.sequence(d, first, last)
		}
	}
}

// sequence holds a value that is set against the change before, and the one after,
// that sets it.
func (q *query) sequence(d cmdb.Delta, first, last bool) {
	of := key(d)
	apart := func(e *Scheduled) bool { return !q.counts(e) || spanOf(*e.Window).overlaps(q.at) }
	if first {
		q.s.byDelta[of].before(q.at.start, func(e *Scheduled) bool {
			if apart(e) {
				return true
			}
			if left, ok := leaves(e, of); ok && left != d.Before {
				q.clash(e, d, fmt.Sprintf("%s sets %s of %s to %q before, and this goes out from %q", e.Change, d.Attribute, d.CI, left, d.Before))
			}
			return false
		})
	}
	if last {
		q.s.byDelta[of].from(q.at.end, func(e *Scheduled) bool {
			if apart(e) {
				return true
			}
			if i := slices.IndexFunc(e.Deltas, func(o cmdb.Delta) bool { return key(o) == of }); i >= 0 && e.Deltas[i].Before != d.After {
				q.clash(e, d, fmt.Sprintf("%s goes out from %q as %s of %s afterwards, and this sets it to %q", e.Change, e.Deltas[i].Before, d.Attribute, d.CI, d.After))
			}
			return false
		})
	}
}

// leaves returns the value that an entry sets last under a key.
func leaves(e *Scheduled, of string) (string, bool) {
	for _, d := range slices.Backward(e.Deltas) {
		if key(d) == of {
			return d.After, true
		}
	}
	return "", false
}

// says returns what an entry does under a key.
func says(e *Scheduled, of string) string {
	for _, d := range e.Deltas {
		if key(d) == of {
			return d.String()
		}
	}
	return "alter the same"
}

func (q *query) clash(e *Scheduled, d cmdb.Delta, why string) {
	if !q.counts(e) {
		return
	}
	at := overlap(q.o.Window, *e.Window)
	if !at.Start.Before(at.End) {
		at = q.o.Window // one after the other
	}
	q.add(change.Conflict{
		Rule: DeltaClash, With: e.Change, CI: d.CI, Overlap: at, Why: why,
		Remedy: "plan the deltas one upon the other, or do both in one change",
	}, Effects{}, key(d))
}

// redundancy finds pools that lose, with what others work on at the same time,
// more members than they can.
func (q *query) redundancy() error {
	if len(q.estate.living) == 0 || q.harmless() {
		return nil
	}
	pools, err := q.estate.pools()
	if err != nil {
		return err
	}
	for _, p := range pools {
		q.pool(p.degraded, p.members)
	}
	return nil
}

// harmless reports whether the occasion's change says that nothing goes down by it.
func (q *query) harmless() bool {
	e := q.s.open[q.o.Change]
	return e != nil && e.Outage != nil && !e.Outage.Expected
}

// down is a member of a pool that another change takes down.
type down struct {
	member string
	by     *Scheduled
	at     change.Window
}

// pool holds the members that are down at once against what a pool can lose.
func (q *query) pool(pool cmdb.Degraded, members []cmdb.Reached) {
	var all []down
	for _, m := range members {
		if q.estate.own[m.CI.ID] {
			continue
		}
		q.s.byCI[m.CI.ID].overlapping(spanOf(q.o.Window), func(e *Scheduled) bool {
			if q.counts(e) && (e.Outage == nil || e.Outage.Expected) {
				all = append(all, down{m.CI.ID, e, overlap(q.o.Window, *e.Window)})
			}
			return true
		})
	}
	for _, first := range all { // most are down at the start of one of them
		gone := map[string]bool{}
		var by []down
		for _, d := range all {
			if d.at.Holds(first.at.Start) {
				gone[d.member] = true
				by = append(by, d)
			}
		}
		if len(gone) <= pool.Spare {
			continue
		}
		for _, d := range by {
			q.add(change.Conflict{
				Rule: RedundancyLost, With: d.by.Change, CI: pool.CI, Related: d.member, Overlap: d.at,
				Why: fmt.Sprintf("%s loses %d of %d members to what is planned at once, and can lose %d: %s works on %s %s",
					pool.CI, pool.Failed+len(gone), pool.Members, pool.Failed+pool.Spare, d.by.Change, d.member, when(*d.by.Window)),
				Remedy: "work on one after the other",
			}, Effects{})
		}
	}
}
