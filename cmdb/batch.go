package cmdb

import (
	"context"

	"github.com/rollforward/rollforward/eventstore/command"
)

// batch is what one append records.
type batch struct {
	g       *Graph
	draft   *draft
	reports map[string]mapped // the source's keys
	items   []ObservedKey
	gone    []string
	deltas  []Delta
	size    int
	skipped []Skipped
	outcome map[int]outcome // of items
}

// full reports whether the append should end here.
func (b *batch) full() bool { return b.size > batchBytes || len(b.deltas) >= batchDeltas }

// try takes a delta if nothing stands in its way, and otherwise says what does.
func (b *batch) try(d Delta) []Problem {
	if problems := b.draft.take(d); problems != nil {
		return problems
	}
	b.deltas = append(b.deltas, d)
	b.size += d.size()
	return nil
}

func (b *batch) skip(key, ci, rule, reason string) {
	b.skipped = append(b.skipped, Skipped{key, ci, rule, reason})
}

// run goes through n things in batches. collect puts as many as it can, from the
// one given, into a batch and returns which comes next; it may run again for the
// same batch.
func (i *importing) run(ctx context.Context, n int, collect func(b *batch, from int) (next int)) error {
	for from := 0; from < n; {
		var b *batch
		var next int
		done, err := i.service.config.Door.Do(ctx, i.call, func(tx *command.Tx) error {
			if err := i.permit(tx); err != nil {
				return err
			}
			streams := []string{classStream, sourceStream(i.source)}
			if err := i.service.atHead(tx, streams, func(g *Graph) error {
				b = &batch{g: g, draft: newDraft(g), outcome: map[int]outcome{}}
				if s := g.sources[i.source]; s != nil {
					b.reports = s.keys
				}
				next = collect(b, from)
				b.g, b.draft, b.reports = nil, nil, nil // of the view, which ends
				return nil
			}); err != nil {
				return err
			}
			return tx.Record(sourceStream(i.source), b.events(i.source)...)
		})
		if err != nil {
			return err
		}
		if len(done.Records) > 0 {
			i.done.Batches++
			i.done.Events += len(done.Records)
			i.done.Position = done.Position
		}
		i.done.Skipped = append(i.done.Skipped, b.skipped...)
		for item, o := range b.outcome {
			i.outcome[item] = max(i.outcome[item], o)
		}
		from = next
	}
	return nil
}

// events divides a batch into events in which every CI finds a place among the tags.
func (b *batch) events(source string) []any {
	var events []any
	next := Observed{Source: source, Items: b.items, Gone: b.gone}
	named, size := map[string]struct{}{}, 0
	for _, d := range b.deltas {
		fresh := 0
		for _, ci := range []string{d.CI, d.To} {
			if _, ok := named[ci]; ci != "" && !ok {
				fresh++
			}
		}
		if len(next.Deltas) > 0 && (len(named)+fresh >= maxTags || size+d.size() > eventBytes) {
			events = append(events, next)
			next, named, size = Observed{Source: source}, map[string]struct{}{}, 0
		}
		next.Deltas = append(next.Deltas, d)
		size += d.size()
		named[d.CI] = struct{}{}
		if d.To != "" {
			named[d.To] = struct{}{}
		}
	}
	if len(next.Items)+len(next.Gone)+len(next.Deltas) > 0 {
		events = append(events, next)
	}
	return events
}
