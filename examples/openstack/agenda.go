package main

import (
	"cmp"
	"slices"
	"time"
)

// step is what happens to a row at one time.
type step int

const (
	upload step = iota // it is proposed
	merge              // it is approved, and released
)

// event is one entry of the agenda.
type event struct {
	at   time.Time
	step step
	job  *job
}

// job is a row that is replayed.
type job struct {
	row
	releases []delivery // in the order of their CIs
	early    bool       // it was merged before it was uploaded, by clocks that differ
}

// delivery is the version that a row brings to one deliverable of one series.
type delivery struct {
	ci       string
	version  string
	versions int // that the row releases of it, of which version is the last
}

// agenda is all that happened, in the order of time; at one time, of the row that
// comes first in the table. What it skips it counts by reason.
type agenda struct {
	jobs    []*job // in the order of the table
	events  []event
	skipped tally
	early   int // jobs that were merged before they were uploaded
}

func newAgenda(h *history) *agenda {
	a := &agenda{skipped: tally{}}
	for _, r := range h.rows {
		releases, reason := h.releasedBy(r)
		if reason != "" {
			a.skipped[reason]++
			continue
		}
		j := &job{row: r, releases: releases}
		from := r.uploaded
		if !r.merged.IsZero() {
			if r.merged.Before(r.uploaded) {
				from, j.early = r.merged, true
				a.early++
			}
			a.events = append(a.events, event{r.merged, merge, j})
		}
		a.jobs = append(a.jobs, j)
		a.events = append(a.events, event{from, upload, j})
	}
	slices.SortFunc(a.events, func(x, y event) int {
		return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.job.line, y.job.line), cmp.Compare(x.step, y.step))
	})
	return a
}

// releasedBy returns what a row releases, by CI, or the reason why it is skipped.
// Where a series has deliverable files, a version belongs to the deliverable whose
// file lists it. Where it has none, a row with one series and one deliverable is
// used whole, and nobody knows what belongs to what in any other.
func (h *history) releasedBy(r row) (all []delivery, reason string) {
	switch {
	case len(r.series) == 0 || len(r.deliverables) == 0:
		return nil, "names no series or no deliverable"
	case len(r.versions) == 0:
		return nil, "releases no version"
	}
	unclear := false
	for _, series := range r.series {
		for _, name := range r.deliverables {
			id := ci(series, name)
			switch d, listed := h.deliverables[id]; {
			case listed:
				if v, ok := d.last(r.versions); ok {
					all = append(all, delivery{ci: id, version: v, versions: d.count(r.versions)})
				}
			case h.series[series]:
			case len(r.series) == 1 && len(r.deliverables) == 1:
				all = append(all, delivery{ci: id, version: r.versions[len(r.versions)-1], versions: len(r.versions)})
			default:
				unclear = true
			}
		}
	}
	if len(all) == 0 {
		if unclear {
			return nil, "several series or deliverables, and no file that says which version is whose"
		}
		return nil, "no file of its deliverables lists its versions"
	}
	slices.SortFunc(all, func(a, b delivery) int { return cmp.Compare(a.ci, b.ci) })
	return slices.CompactFunc(all, func(a, b delivery) bool { return a.ci == b.ci }), ""
}

// count returns how many of versions d released.
func (d deliverable) count(versions []string) int {
	n := 0
	for _, release := range d.Releases {
		if release.Version != "" && slices.Contains(versions, release.Version) {
			n++
		}
	}
	return n
}
