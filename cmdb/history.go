package cmdb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/rollforward/rollforward/eventstore"
)

// Entry is one delta in the history of a CI.
type Entry struct {
	Position   eventstore.Position
	Index      int // of the delta in its event
	RecordedAt time.Time
	OccurredAt time.Time // by the clock of who recorded it; zero if he did not say
	Actor      string
	OnBehalfOf string
	Reason     string
	Cause      string // to what it is put down: a change's ID, a source's stream; empty for by hand
	Delta      Delta
	Misfit     string // by which rule it did not fit, empty if it did
	Why        string // it did not fit
	Taken      bool   // it counts
}

// History returns every delta that names a CI, at either end of a relation, in
// the order of the log; ok is false if none does. It costs what it returns.
func (g *Graph) History(id string) (history []Entry, ok bool) {
	n := g.nodes[id]
	if n == nil {
		return nil, false
	}
	facts := slices.Clone(n.own)
	for _, a := range []adjacency{n.out, n.in} {
		for _, t := range a.all {
			facts = append(facts, t.facts...)
		}
	}
	slices.SortFunc(facts, (*fact).compare)
	history = make([]Entry, len(facts))
	for i, f := range facts {
		e := f.event
		history[i] = Entry{
			Position: e.position, Index: int(f.index), RecordedAt: moment(e.recorded), OccurredAt: moment(e.occurred),
			Actor: e.actor, OnBehalfOf: e.onBehalfOf, Reason: e.reason, Cause: e.cause,
			Delta: f.delta(), Taken: f.taken(),
		}
		if f.misfit != nil {
			history[i].Misfit, history[i].Why = f.misfit.rule, f.discrepancy().Reason
		}
	}
	return history, true
}

// History returns every delta that names a CI, oldest first. The error is
// ErrUnknownCI if none does.
func (s *Service) History(ctx context.Context, id string) ([]Entry, error) {
	var history []Entry
	return history, s.View(ctx, func(g *Graph) error {
		var ok bool
		if history, ok = g.History(id); !ok {
			return &UnknownError{Kind: ErrUnknownCI, Names: []string{id}}
		}
		return nil
	})
}

// String returns e as a sentence: `2026-03-02 09:00 UTC: ann set version of
// db-01 from "15" to "16", for CHG-000042`.
func (e Entry) String() string {
	return strings.Map(func(r rune) rune { // one line, whatever people gave as their reason
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, e.line())
}

func (e Entry) line() string {
	var b strings.Builder
	at := e.OccurredAt
	if at.IsZero() {
		at = e.RecordedAt
	}
	who := e.Actor
	if who == "" {
		who = "somebody"
	}
	fmt.Fprintf(&b, "%s: %s", at.UTC().Format("2006-01-02 15:04 MST"), who)
	if e.OnBehalfOf != "" {
		fmt.Fprintf(&b, " on behalf of %s", e.OnBehalfOf)
	}
	fmt.Fprintf(&b, " %s", e.Delta)
	if source, ok := strings.CutPrefix(e.Cause, sourceStream("")); ok {
		fmt.Fprintf(&b, ", as reported by %s", source)
	} else if e.Cause != "" {
		fmt.Fprintf(&b, ", for %s", e.Cause)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, " (%s)", e.Reason)
	}
	switch {
	case e.Why != "" && e.Taken:
		fmt.Fprintf(&b, "; expected otherwise: %s", e.Why)
	case e.Why != "":
		fmt.Fprintf(&b, "; without effect: %s", e.Why)
	}
	return b.String()
}

// String returns d as it is read behind a name: `set version of db-01 from "15" to "16"`.
func (d Delta) String() string {
	var b strings.Builder
	switch d.Op {
	case OpAdd:
		fmt.Fprintf(&b, "added %s as %s", d.CI, d.Class)
		for i, name := range sortedKeys(d.Attributes) {
			fmt.Fprintf(&b, "%s %s %q", [...]string{" with", ","}[min(i, 1)], name, d.Attributes[name])
		}
	case OpSet:
		switch {
		case d.Before == "":
			fmt.Fprintf(&b, "set %s of %s to %q", d.Attribute, d.CI, d.After)
		case d.After == "":
			fmt.Fprintf(&b, "took away %s of %s, which was %q", d.Attribute, d.CI, d.Before)
		default:
			fmt.Fprintf(&b, "set %s of %s from %q to %q", d.Attribute, d.CI, d.Before, d.After)
		}
	case OpRetire:
		fmt.Fprintf(&b, "retired %s", d.CI)
	case OpRelate:
		fmt.Fprintf(&b, "recorded that %s %s %s", d.CI, d.Relation, d.To)
	case OpUnrelate:
		fmt.Fprintf(&b, "recorded that %s no longer %s %s", d.CI, d.Relation, d.To)
	default:
		fmt.Fprintf(&b, "did %q to %q", d.Op, d.CI)
	}
	return b.String()
}
