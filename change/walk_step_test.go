package change_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// walk is one random walk.
type walk struct {
	*house
	registry  *eventstore.Registry
	random    *rand.Rand
	trace     []string
	deaf      []string // invariants that are not listened to
	oracles   map[string]*oracle
	models    []change.Model
	ids       []string
	unique    map[string]bool // references that must be so
	delegated []command.Delegation
	template  *change.TemplateVersion // that is published, and whose approver is known
	receipts  bool                    // deltas were recorded that nobody gated
	events    map[string][]any        // of each change
	handed    map[string]handed       // changes as they were last handed out
	reached   map[change.Kind]int
}

// handed is a change that was handed out, and how it read then.
type handed struct {
	change.Change
	text string
}

// violation is what a walk finds wrong.
type violation struct{ invariant, says string }

func (v violation) Error() string { return v.invariant + ": " + v.says }

func (w *walk) wrong(invariant, format string, args ...any) {
	panic(violation{invariant, fmt.Sprintf(format, args...)})
}

// step runs one random command, and compares what Why said with what Do does.
func (w *walk) step() {
	if w.chance(1, 6) {
		w.clock.pass(time.Duration(w.random.IntN(100)) * time.Hour)
	}
	if len(w.ids) == 0 || len(w.ids) < 3 && w.chance(1, 25) {
		w.raise()
		return
	}
	id := pick(w, w.ids)
	c := w.handed[id].Change // as the log has it, which was judged
	if w.chance(1, 30) {
		w.late(id, c)
		return
	}
	commands := w.commands(c)
	actor := w.actor()
	if a, ok := commands[0].(change.Approve); ok && w.chance(3, 4) { // mostly somebody who is asked
		if asked, ok := c.Approval(a.Stage); ok && len(asked.Seats) > 0 {
			actor = w.voter(pick(w, pick(w, asked.Seats).Voters))
		}
	}
	w.ask(actor, id, commands...)
}

// voter returns who casts the vote of a person: mostly the delegate, if there is one.
func (w *walk) voter(person string) command.Actor {
	for _, d := range w.delegated {
		if d.Person == person && w.chance(2, 3) {
			return command.As(d.To).For(person)
		}
	}
	return command.As(person)
}

func (w *walk) get(id string) change.Change {
	c, err := w.changes.Get(context.Background(), id)
	if err != nil {
		w.wrong("get", "%v", err)
	}
	return c
}

// ask asks why not, does it, and judges both.
func (w *walk) ask(actor command.Actor, id string, commands ...change.Command) {
	ctx := context.Background()
	why, err := w.changes.Why(ctx, actor, id, commands...)
	if err != nil {
		w.wrong("why", "%s %+v: %v", actor.ID, commands, err)
	}
	before := w.version("change-" + id)
	c, err := w.changes.Do(ctx, actor, id, commands...)
	w.trace = append(w.trace, fmt.Sprintf("%s %v %s %s -> %s %v", w.clock.now.Format("01-02 15h"), actor, id, shown(commands), c.Phase, err))
	w.compare(why, err)
	if err != nil {
		if after := w.version("change-" + id); after != before {
			w.wrong("refused", "and %d events recorded", after-before)
		}
		return
	}
	w.settled(c)
	if done, ok := commands[0].(change.Complete); ok && len(commands) == 1 {
		w.applied(done, c)
	}
}

// applied judges that the end of the work tells the CMDB what was planned, unless its
// author says something else.
func (w *walk) applied(said change.Complete, c change.Change) {
	want := c.Deltas // which nobody can edit any more
	if said.Applied != nil || said.BackedOut {
		want = said.Applied
	}
	if c.Work == nil || c.Work.BackedOut != said.BackedOut || len(c.Work.Applied) != len(want) || len(want) > 0 && !reflect.DeepEqual(c.Work.Applied, want) {
		w.wrong("applied", "%v of %s, and it was to be %v", c.Work, c.ID, want)
	}
	for _, d := range want {
		ci, err := w.cmdb.Get(context.Background(), d.CI)
		if err != nil || d.Op == cmdb.OpSet && ci.Attributes[d.Attribute] != d.After {
			w.wrong("applied", "%v, and %s has %v (%v)", d, d.CI, ci.Attributes, err)
		}
	}
}

// late asks on a version that the change never had or has left: a conflict, whatever
// else there is to say.
func (w *walk) late(id string, c change.Change) {
	ctx := context.Background()
	actor, commands := w.actor(), []change.Command{change.At(c.Version - 1), w.any(c)}
	actor.OnBehalfOf = "" // what was not delegated is denied first
	_, err := w.changes.Why(ctx, actor, id, commands...)
	_, done := w.changes.Do(ctx, actor, id, commands...)
	if !errors.Is(err, eventstore.ErrConflict) || !errors.Is(done, eventstore.ErrConflict) || w.version("change-"+id) != c.Version {
		w.wrong("conflict", "version %d of %d: why %v, done %v", c.Version-1, c.Version, err, done)
	}
}

func shown(commands []change.Command) string {
	var all []string
	for _, c := range commands {
		all = append(all, fmt.Sprintf("%T%+v", c, c))
	}
	s := strings.ReplaceAll(strings.Join(all, "; "), "change.", "")
	return s[:min(len(s), 300)]
}

// compare requires that Why was empty exactly if Do succeeded, and said the same.
func (w *walk) compare(why []command.Refusal, err error) {
	var refused *command.Error
	switch {
	case err == nil && len(why) > 0:
		w.wrong("why", "said %v, and it was done", why)
	case err == nil:
	case !errors.As(err, &refused):
		w.wrong("error", "%v", err)
	case len(why) == 0 || !slices.Equal(refused.Refusals, why):
		w.wrong("why", "said %v, and it was refused: %v", why, err)
	}
}

// settled judges a change after a command: its events, what is folded of them, and
// that it can go on.
func (w *walk) settled(c change.Change) {
	ctx := context.Background()
	o := w.oracles[c.ID]
	o.now = w.clock.now
	for r, err := range w.store.Read(ctx, eventstore.Query{Streams: []string{"change-" + c.ID}}) {
		if err != nil {
			w.wrong("read", "%v", err)
		}
		if r.Version <= o.version {
			continue
		}
		payload, err := w.registry.Decode(r.Event)
		if err != nil {
			w.wrong("decode", "%v", err)
		}
		o.take(r, payload)
		w.events[c.ID] = append(w.events[c.ID], payload)
	}
	o.settled(c)
	for _, broken := range o.broken {
		invariant, says, _ := strings.Cut(broken, ": ")
		if !slices.Contains(w.deaf, invariant) {
			w.wrong(invariant, "%s of %s", says, c.ID)
		}
	}
	o.broken = nil
	if got := w.get(c.ID); !same(c, got) {
		w.wrong("replay", "Do returned another state than the log gives")
	}
	if w.chance(1, 8) {
		w.listed(c.ID)
	}
	if old, ok := w.handed[c.ID]; ok && text(old.Change) != old.text {
		w.wrong("handed out", "%s was altered after it was handed out, at version %d", c.ID, old.Version)
	}
	w.handed[c.ID] = handed{c, text(c)}
	w.reached[c.Kind]++
	if w.chance(1, 4) {
		w.wayOut(c)
	}
}

// text writes a change down whole.
func text(c change.Change) string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// same compares two states by what a store would make of them.
func same(a, b change.Change) bool {
	a.Position, b.Position = 0, 0
	return assert.ObjectsAreEqual(a, b)
}

func (w *walk) raise() {
	ctx := context.Background()
	m := pick(w, w.models)
	r := change.Raise{Model: m.Name, Content: w.content(true)}
	switch {
	case m.Authority == change.AuthorityTemplate:
		r.Template = "limits"
		if w.chance(9, 10) {
			r.Content.Plans = change.Plans{}
		}
	case m.Authority == change.AuthorityElsewhere && w.chance(1, 2):
		ended := w.clock.now.Add(time.Duration(1-w.random.IntN(10)) * time.Hour)
		r.Happened = change.Between(ended.Add(-time.Hour), ended)
	}
	if w.chance(1, 5) {
		r.Requester = w.person()
	}
	if w.chance(1, 5) {
		r.External, r.Unique = pick(w, []string{"REF-1", "REF-2"}), w.chance(2, 3)
	}
	var then []change.Command
	if w.chance(1, 2) {
		then = append(then, change.Submit{})
	}
	actor := w.actor()
	why, err := w.changes.WhyRaise(ctx, actor, r, then...)
	if err != nil {
		w.wrong("why", "raise: %v", err)
	}
	before := w.version("register-CHG")
	c, err := w.changes.Raise(ctx, actor, r, then...)
	w.trace = append(w.trace, fmt.Sprintf("%v raises under %s -> %s %v", actor, m.Name, c.ID, err))
	w.compare(why, err)
	if err != nil {
		if w.version("register-CHG") != before {
			w.wrong("numbers", "a refused raise burnt one")
		}
		return
	}
	if want := fmt.Sprintf("CHG-%06d", before+1); c.ID != want {
		w.wrong("numbers", "%s after %d", c.ID, before)
	}
	if r.Unique {
		if w.unique[r.External] {
			w.wrong("unique", "two changes have the reference %s", r.External)
		}
		w.unique[r.External] = true
	}
	w.ids = append(w.ids, c.ID)
	o := &oracle{model: m, estate: estateCIs}
	if c.Template != "" {
		o.template = w.template
	}
	w.oracles[c.ID] = o
	w.receipts = w.receipts || m.Authority == change.AuthorityElsewhere || m.Name == "unauthorized"
	w.settled(c)
}
