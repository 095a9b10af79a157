package cmdb

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Actions that an Authorizer is asked about. Record asks for every CI with the
// attributes "class", its class and those above it, and "ci"; Define and Import
// name the class, the relation type or the source as object.
const (
	ActionRecord = "cmdb.record"
	ActionDefine = "cmdb.define"
	ActionImport = "cmdb.import"
)

// maxStreams is how many streams a Record may depend on; an append can name
// eventstore.MaxEvents, and the door needs a few.
const maxStreams = eventstore.MaxEvents - 50

// Record records deltas by hand, all or none; see [Service.RecordCall].
func (s *Service) Record(ctx context.Context, actor command.Actor, deltas ...Delta) (command.Done, error) {
	return s.RecordCall(ctx, command.Call{Actor: actor}, deltas...)
}

// RecordCall is Record with a reason, a key and whatever else a call has; its
// action, target and content are set here. Deltas are checked in order by the
// rules of [Graph.Check] on the graph at the head of the log, under the versions
// of the streams of all CIs that they name: of two people who record the same CI
// at once, the second is judged on what the first one recorded.
func (s *Service) RecordCall(ctx context.Context, call command.Call, deltas ...Delta) (command.Done, error) {
	call.Action, call.Content = ActionRecord, deltas
	call.Target = target(deltas)
	return s.config.Door.Do(ctx, call, func(tx *command.Tx) error { return s.record(tx, deltas) })
}

// WhyRecord returns the rules in the way of a RecordCall, none if it would succeed now.
func (s *Service) WhyRecord(ctx context.Context, call command.Call, deltas ...Delta) ([]command.Refusal, error) {
	call.Action, call.Content, call.Target = ActionRecord, deltas, target(deltas)
	return s.config.Door.Try(ctx, call, func(tx *command.Tx) error { return s.record(tx, deltas) })
}

// target is the one CI that deltas concern, or empty.
func target(deltas []Delta) string {
	if len(deltas) == 0 || CheckID(deltas[0].CI) != nil || slices.ContainsFunc(deltas, func(d Delta) bool { return d.CI != deltas[0].CI }) {
		return ""
	}
	return deltas[0].CI
}

func (s *Service) record(tx *command.Tx, deltas []Delta) error {
	if err := refuseMalformed(deltas); err != nil {
		return err
	}
	streams := streamsOf(deltas)
	if err := tooManyStreams(streams); err != nil {
		return err
	}
	var values []taken
	var problems []Problem
	classes := map[string][]string{}
	look := func(g *Graph) error {
		values, problems = g.takes(deltas), g.Check(deltas)
		for _, d := range deltas {
			classes[d.CI] = g.lineageOf(d.CI, deltas)
		}
		return nil
	}
	err := s.atHead(tx, streams, look)
	if err == nil && len(values) > 0 {
		for _, v := range values {
			streams = append(streams, v.stream)
		}
		if err = tooManyStreams(streams); err == nil {
			err = s.atHead(tx, streams, look)
		}
	}
	if err != nil {
		return err
	}
	for _, ci := range sortedKeys(classes) {
		if err := tx.Authorize(ActionRecord, ci, map[string][]string{"ci": {ci}, "class": classes[ci]}); err != nil {
			return err
		}
	}
	if err := command.Refuse(refusals(problems)...); err != nil {
		return err
	}
	for _, group := range groups(deltas) {
		if err := tx.Record(ciStream(group[0].CI), Recorded{group}); err != nil {
			return err
		}
	}
	for _, v := range values {
		if err := tx.Record(v.stream, v.ValueTaken); err != nil {
			return err
		}
	}
	return nil
}

func tooManyStreams(streams []string) error {
	if len(streams) <= maxStreams {
		return nil
	}
	return command.Refuse(command.Refusal{
		Kind: command.Malformed, Rule: ruleTooMany, Field: "deltas",
		Reason: fmt.Sprintf("they depend on %d streams of CIs and unique values, of at most %d", len(streams)-1, maxStreams-1), Remedy: "divide them",
	})
}

// lineageOf returns the class of a CI, or the one it is added with, and those
// above it; nil for a CI that there is not.
func (g *Graph) lineageOf(ci string, deltas []Delta) []string {
	if n := g.nodes[ci]; n != nil && n.alive() {
		return g.schema.lineage(n.class)
	}
	for _, d := range deltas {
		if d.CI == ci && d.Op == OpAdd {
			return g.schema.lineage(d.Class)
		}
	}
	if n := g.nodes[ci]; n != nil && n.class != "" {
		return g.schema.lineage(n.class)
	}
	return nil
}

// refuseMalformed refuses what cannot be meant, before anything is read.
func refuseMalformed(deltas []Delta) error {
	if len(deltas) == 0 {
		return command.Refuse(command.Refusal{
			Kind: command.Malformed, Rule: ruleMalformed, Field: "deltas", Reason: "there are none", Remedy: "give at least one delta",
		})
	}
	if p, ok := tooMany(deltas); ok {
		return command.Refuse(p.Refusal())
	}
	var malformed []command.Refusal
	for i, d := range deltas {
		if err := d.Validate(); err != nil {
			malformed = append(malformed, Problem{Delta: i, Rule: ruleMalformed, CI: d.CI, Reason: err.Error(), Remedy: remedyMalformed}.Refusal())
		}
	}
	return command.Refuse(malformed...)
}

func refusals(problems []Problem) []command.Refusal {
	var all []command.Refusal
	for _, p := range problems {
		all = append(all, p.Refusal())
	}
	return all
}

// Refusal returns p as a rule in the way of a command whose input has deltas.
func (p Problem) Refusal() command.Refusal {
	kind := command.Refused
	if p.Rule == ruleMalformed || p.Rule == ruleTooMany {
		kind = command.Malformed
	}
	return command.Refusal{Kind: kind, Rule: p.Rule, Field: fmt.Sprintf("deltas[%d]", p.Delta), Reason: p.Reason, Remedy: p.Remedy}
}

// streamsOf returns the streams that deltas depend on: of the classes, and of
// every CI they name, also the other end of a relation, which might be retired
// at the same instant.
func streamsOf(deltas []Delta) []string {
	streams := []string{classStream}
	seen := map[string]bool{}
	add := func(ci string) {
		if ci != "" && !seen[ci] {
			seen[ci] = true
			streams = append(streams, ciStream(ci))
		}
	}
	for _, d := range deltas {
		add(d.CI)
		add(d.To)
	}
	return streams
}

// groups divides deltas into the payloads of events: neighbours of one CI stand
// together, as far as all CIs they name find a place among the event's tags.
func groups(deltas []Delta) [][]Delta {
	var all [][]Delta
	for len(deltas) > 0 {
		n := 1
		named := map[string]bool{deltas[0].CI: true, deltas[0].To: true}
		for ; n < len(deltas) && deltas[n].CI == deltas[0].CI; n++ {
			if named[deltas[n].To] = true; len(named) >= maxTags {
				break
			}
		}
		all, deltas = append(all, deltas[:n:n]), deltas[n:]
	}
	return all
}

// atHead pins streams, waits until the graph shows what they had then, and runs
// read on it. They are pinned first: whoever writes to one of them after that
// makes the unit of work run again. read may run twice.
func (s *Service) atHead(tx *command.Tx, streams []string, read func(g *Graph) error) error {
	versions := make([]uint64, len(streams))
	for i, stream := range streams {
		version, err := tx.Check(stream)
		if err != nil {
			return err
		}
		versions[i] = version
	}
	ctx := tx.Context()
	head, err := s.config.Store.Head(ctx)
	if err != nil {
		return err
	}
	var behind []string
	if err := s.viewAt(ctx, head, func(g *Graph) error {
		if behind = g.behind(streams, versions); behind != nil {
			return nil
		}
		return read(g)
	}); err != nil || behind == nil {
		return err
	}
	// Of these streams the graph does not know how far it has taken them, or it
	// has not come to their last event: the end of the log that can be read may
	// lag behind what is committed. A read by stream does not.
	for r, err := range s.config.Store.Read(ctx, eventstore.Query{Streams: behind}) {
		if err != nil {
			return err
		}
		head = max(head, r.Position)
	}
	return s.viewAt(ctx, head, read)
}

func (s *Service) viewAt(ctx context.Context, position eventstore.Position, read func(g *Graph) error) error {
	if err := s.config.Follower.WaitFor(ctx, position); err != nil {
		return err
	}
	return s.config.Follower.View(ctx, func(v *follow.View) error { return read(s.config.Graph.In(v)) })
}

// behind returns those of streams of which g cannot say that it has taken them
// up to the versions given.
func (g *Graph) behind(streams []string, versions []uint64) []string {
	var behind []string
	for i, stream := range streams {
		shown := uint64(0)
		if stream == classStream {
			shown = g.version
		} else if ci, ok := strings.CutPrefix(stream, ciStream("")); ok && g.nodes[ci] != nil {
			shown = g.nodes[ci].version
		} else if name, ok := strings.CutPrefix(stream, sourceStream("")); ok && g.sources[name] != nil {
			shown = g.sources[name].version
		}
		if shown < versions[i] {
			behind = append(behind, stream)
		}
	}
	return behind
}

// taken is a unique value that deltas give to a CI.
type taken struct {
	stream string
	ValueTaken
}

// takes returns the unique values that deltas, which have no problems, give to CIs.
func (g *Graph) takes(deltas []Delta) []taken {
	var all []taken
	classes := map[string]string{}
	take := func(ci, name, text string) {
		class := classes[ci]
		if n := g.nodes[ci]; class == "" && n != nil {
			class = n.class
		}
		c := g.schema.class(class)
		if c == nil || text == "" || !c.attributes[name].Unique {
			return
		}
		digest := sha256.Sum256([]byte(text))
		stream := fmt.Sprintf("unique-%s-%s-%x", clip(c.attributes[name].scope), clip(name), digest[:16])
		all = append(all, taken{stream, ValueTaken{Attribute: name, Value: text, CI: ci}})
	}
	for _, d := range deltas {
		if d.Op == OpAdd {
			classes[d.CI] = d.Class
			for _, name := range sortedKeys(d.Attributes) {
				take(d.CI, name, d.Attributes[name])
			}
		} else if d.Op == OpSet {
			take(d.CI, d.Attribute, d.After)
		}
	}
	return all
}

const remedyMalformed = "make deltas with Add, Set, Retire, Relate and Unrelate"
