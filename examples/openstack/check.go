package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/cmdb"
)

// check compares versions in force in the CMDB with the deliverable files.
type check struct {
	at         time.Time // zero: now
	matches    int
	of         int // deliverables with a file, of which a version had been merged
	mismatches []mismatch
}

type mismatch struct {
	ci, inForce, want string
	history           []cmdb.Entry // of the CI, up to then
}

// merged is a version that a file lists, and that a row brought at a time.
type merged struct {
	at      time.Time
	version string
}

// checks compares now, and as of n times that are spread evenly over what can be
// compared: from the first to the last merge of a version that a file lists.
func checks(ctx context.Context, inventory *cmdb.Service, h *history, n int) ([]check, error) {
	brought := h.brought()
	var all []check
	for _, at := range append([]time.Time{{}}, spread(brought, n)...) {
		graph, err := inventory.AsOf(ctx, at, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, compare(graph, h, brought, at))
	}
	return all, nil
}

// spread returns n times, the last of which is that of the last merge.
func spread(brought map[string][]merged, n int) []time.Time {
	var first, last time.Time
	for _, rows := range brought {
		for _, m := range rows {
			if first.IsZero() || m.at.Before(first) {
				first = m.at
			}
			if m.at.After(last) {
				last = m.at
			}
		}
	}
	if first.IsZero() {
		return nil
	}
	var times []time.Time
	for i := 1; i < n; i++ {
		times = append(times, first.Add(last.Sub(first)/time.Duration(n)*time.Duration(i)).Truncate(time.Second).UTC())
	}
	return append(times, last.UTC())
}

// brought returns what the rows merged of every deliverable with a file, straight
// from the table.
func (h *history) brought() map[string][]merged {
	all := map[string][]merged{}
	for _, r := range h.rows {
		if r.merged.IsZero() {
			continue
		}
		for _, series := range r.series {
			for _, name := range r.deliverables {
				id := ci(series, name)
				for _, release := range h.deliverables[id].Releases {
					if release.Version != "" && slices.Contains(r.versions, release.Version) {
						all[id] = append(all[id], merged{r.merged, release.Version})
					}
				}
			}
		}
	}
	return all
}

func compare(graph *cmdb.Graph, h *history, brought map[string][]merged, at time.Time) check {
	c := check{at: at}
	for id, rows := range brought {
		var versions []string
		for _, m := range rows {
			if at.IsZero() || !m.at.After(at) {
				versions = append(versions, m.version)
			}
		}
		want, ok := h.deliverables[id].last(versions)
		if !ok {
			continue
		}
		c.of++
		item, _ := graph.CI(id)
		if found := item.Attributes[version]; found != want {
			entries, _ := graph.History(id)
			c.mismatches = append(c.mismatches, mismatch{id, found, want, entries})
		} else {
			c.matches++
		}
	}
	slices.SortFunc(c.mismatches, func(a, b mismatch) int { return strings.Compare(a.ci, b.ci) })
	return c
}
