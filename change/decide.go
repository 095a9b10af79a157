package change

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// decide is the pure core: which events a command causes in a state, given facts
// that were gathered before, or every rule that stands in its way.
func decide(c Change, cmd Command, f facts) (events []any, refused []command.Refusal) {
	d := &decision{Change: c.handed(), facts: f}
	d.run(cmd)
	if len(d.refused) > 0 {
		return nil, d.refused
	}
	return d.events, nil
}

// decision is one command being decided. Change is the state with what has been
// decided so far.
type decision struct {
	Change
	facts
	events    []any
	refused   []command.Refusal
	assessing bool // the next move is to be followed by what was judged
}

// facts are what a decision needs of the world. Which of them are there depends
// on the command; see gather.
type facts struct {
	now      time.Time
	actor    command.Actor
	model    *model
	template *TemplateVersion // of a standard change
	newID    string           // of a change that is being raised
	external bool             // the external reference of a raise is taken
	about    Facts            // for policies and expressions; zero where nothing asks for them
	graph    *graphFacts      // nil where the command does not look at the CMDB
	risk     *Receipt         // nil where the policy was not asked, or there is none
	resolved workflow.Resolved
	holds    func(expression string) (bool, error)
	judged   func(Change, Point, Window) (Timing, error) // the calendar; nil where the engine has none
	unknown  []string                                    // changes that Order names and that there are not
	without  []string                                    // guards that tests have taken out
}

// graphFacts are what the CMDB says of the content as it is after the command.
type graphFacts struct {
	unknown  []string          // declared CIs that there are not
	retired  []string          // declared CIs that are retired
	classes  map[string]string // of the declared CIs
	problems []cmdb.Problem    // of the planned deltas
	applied  []cmdb.Problem    // of the deltas that a Complete reports
	impact   *Impact           // nil where nothing asks for facts
}

func (d *decision) run(cmd Command) {
	switch c := cmd.(type) {
	case Raise:
		d.raise(c)
		return
	case At:
		return // kept by the unit of work
	}
	if d.ID == "" {
		d.malformed("change", "unknown-change", "there is no such change", "check its ID")
		return
	}
	switch c := cmd.(type) {
	case Submit:
		d.submit()
	case Edit:
		d.edit(c)
	case Assess:
		d.assess(c)
	case Advance:
		d.advance(c)
	case Approve:
		d.approve(c)
	case Reject:
		d.reject(c)
	case Expire:
		d.expire(c)
	case Start:
		d.start()
	case Complete:
		d.complete(c)
	case Review:
		d.review(c)
	case Close:
		d.close()
	case Cancel:
		d.cancel(c)
	case Revert:
		d.revert(c)
	case Hold:
		d.hold(c)
	case Resume:
		d.resume(c)
	case AddTask:
		d.addTask(c)
	case EditTask:
		d.editTask(c)
	case MoveTask:
		d.moveTask(c)
	case Link:
		d.link(c)
	case Carry:
		d.carry(c)
	case Note:
		d.note(c)
	default:
		d.malformed("command", "unknown-command", "%T is no command of a change", "use one of package change", cmd)
	}
}

// record decides an event; what is decided after it sees it.
func (d *decision) record(payload any) {
	d.events = append(d.events, payload)
	d.Change = evolve(d.Change, payload)
}

// refuse says that a rule stands in the way; args are those of reason and remedy
// together.
func (d *decision) refuse(rule, reason, remedy string, args ...any) {
	d.stands(command.Refused, "", rule, reason, remedy, args)
}

// malformed says that the input cannot be meant.
func (d *decision) malformed(field, rule, reason, remedy string, args ...any) {
	d.stands(command.Malformed, field, rule, reason, remedy, args)
}

// unjudged says that it could not be found out whether something holds: it is
// neither taken to hold nor not to.
func (d *decision) unjudged(what string, err error, args ...any) {
	d.stands(command.Unavailable, "", "condition-failed", what+" cannot be judged: %v", "correct the model, or fill in what it asks about", append(args, err))
}

func (d *decision) stands(kind command.Kind, field, rule, reason, remedy string, args []any) {
	n := min(strings.Count(reason, "%"), len(args))
	d.refused = append(d.refused, command.Refusal{
		Kind: kind, Rule: rule, Field: field, Reason: fmt.Sprintf(reason, args[:n]...), Remedy: fmt.Sprintf(remedy, args[n:]...),
	})
}

// clear reports whether nothing stands in the way so far.
func (d *decision) clear() bool { return len(d.refused) == 0 }

// on reports whether a guard is in place. Tests take some out to show that they
// notice; nothing else does.
func (d *decision) on(guard string) bool { return !slices.Contains(d.without, guard) }

// people returns who acts: the actor, and the person he acts for.
func (d *decision) people() []string {
	return with(nil, d.actor.ID, d.actor.OnBehalfOf)
}

// behalf returns the person for whom the actor acts, or nothing.
func (d *decision) behalf() string {
	if d.actor.OnBehalfOf == d.actor.ID {
		return ""
	}
	return d.actor.OnBehalfOf
}

// notHeld refuses what does not go on while a change is on hold.
func (d *decision) notHeld() {
	if d.Held != nil && d.on("on-hold") {
		d.refuse("on-hold", "the change is on hold: %s", "resume it first", d.Held.Reason)
	}
}

// stillOpen refuses what a change that has ended does not take.
func (d *decision) stillOpen() {
	if !d.Open() {
		d.refuse("change-ended", "the change is %s", "raise another change", d.Phase)
	}
}

// Limits of what people write into a change.
const (
	maxTitle  = 200     // bytes of a title
	maxID     = 200     // bytes of the ID of a person, team or CI
	maxText   = 32_768  // bytes of a text
	maxTotal  = 600_000 // bytes of all texts and lists of a content together
	maxList   = 200     // members of a list
	maxDeltas = 500     // deltas
	maxTasks  = 500     // tasks of a change
)

// text refuses a text that is too long, not UTF-8, or has control characters
// beyond line ends and tabs; required: or empty.
func (d *decision) text(field, s string, limit int, required bool) {
	switch {
	case required && strings.TrimSpace(s) == "":
		d.malformed(field, field+"-required", "it is empty", "say it in a few words")
	case len(s) > limit:
		d.malformed(field, "too-long", "it has %d bytes", "use at most %d", len(s), limit)
	case !utf8.ValidString(s):
		d.malformed(field, "not-text", "it is not valid UTF-8", "send text in UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }):
		d.malformed(field, "not-text", "it has control characters", "leave them out")
	}
}

// id refuses what is no opaque ID; empty is none.
func (d *decision) id(field, s string) {
	d.text(field, s, maxID, false)
	if s != "" && strings.ContainsFunc(s, unicode.IsControl) {
		d.malformed(field, "not-an-id", "it has control characters", "leave them out")
	}
}

// list refuses a list that is too long, or has an empty or broken member.
func (d *decision) list(field string, members []string) {
	d.count(field, len(members), maxList)
	for i, m := range members {
		at := fmt.Sprintf("%s[%d]", field, i)
		if m == "" {
			d.malformed(at, "empty-member", "it is empty", "leave it out")
		}
		d.id(at, m)
	}
}

func (d *decision) count(field string, n, limit int) {
	if n > limit {
		d.malformed(field, "too-many", "there are %d", "use at most %d", n, limit)
	}
}

// decimal refuses a number that is not finite, below 0, or longer than 34 digits.
func (d *decision) decimal(field string, v *apd.Decimal) {
	switch {
	case v == nil:
	case v.Form != apd.Finite || v.NumDigits() > 34 || v.Exponent > 34 || v.Exponent < -34:
		d.malformed(field, "not-a-number", "it is not a finite number of at most 34 digits", "give it exactly, as 1234.50")
	case v.Sign() < 0:
		d.malformed(field, "negative", "it is below 0", "give 0 or more")
	}
}

// content refuses what no change can be about.
func (d *decision) content(c Content) {
	d.text("title", c.Title, maxTitle, true)
	for _, f := range []struct{ name, text string }{
		{"description", c.Description}, {"justification", c.Justification}, {"plan.implementation", c.Plans.Implementation},
		{"plan.backout", c.Plans.Backout}, {"plan.test", c.Plans.Test}, {"plan.communication", c.Plans.Communication},
	} {
		d.text(f.name, f.text, maxText, false)
	}
	d.text("category", c.Category, maxTitle, false)
	d.id("owner", c.Owner)
	d.id("group", c.Group)
	d.list("implementers", c.Implementers)
	d.list("cis", c.CIs)
	d.list("tags", c.Tags)
	d.count("deltas", len(c.Deltas), maxDeltas)
	d.count("evidence", len(c.Evidence), maxList)
	d.count("stakeholders", len(c.Stakeholders), maxList)
	d.count("order", len(c.Order), maxList)
	d.count("answers", len(c.Answers), maxList)
	if o := c.Origin; o != (Origin{}) {
		if !slices.Contains(Origins(), o.Kind) {
			d.malformed("origin", "unknown-origin", "there is no origin %q", "choose one of %v", o.Kind, Origins())
		}
		d.text("origin.reference", o.Reference, maxTitle, false)
	}
	if w := c.Window; w != nil && d.on("interval-invalid") {
		switch {
		case w.Start.IsZero() || w.End.IsZero():
			d.malformed("window", "interval-invalid", "it has no start or no end", "give both")
		case !w.Start.Before(w.End):
			d.malformed("window.end", "interval-invalid", "the window ends at %s, not after its start at %s", "give an end after the start", stamp(w.End), stamp(w.Start))
		default:
			d.recordable("window", w.Start, w.End)
		}
	}
	if o := c.Outage; o != nil && (o.For < 0 || !o.Expected && o.For != 0) {
		d.malformed("outage", "outage-invalid", "an outage of %d s does not go with expected: %t", "give 0 or more seconds where one is expected", o.For, o.Expected)
	}
	for i, o := range c.Order {
		field := fmt.Sprintf("order[%d]", i)
		if o.Rule != MustFollow && o.Rule != MustNotOverlap {
			d.malformed(field, "unknown-order", "there is no order %q", "say %q or %q", o.Rule, MustFollow, MustNotOverlap)
		}
		if o.Change == d.ID && d.ID != "" {
			d.malformed(field, "order-with-itself", "a change does not follow itself", "name another change")
		}
	}
	for _, id := range d.unknown {
		d.malformed("order", "unknown-change", "there is no change %q", "check its ID", id)
	}
	for i, e := range c.Evidence {
		field := fmt.Sprintf("evidence[%d]", i)
		d.text(field+".title", e.Title, maxTitle, false)
		if u, err := url.Parse(e.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || len(e.URL) > 2048 {
			d.malformed(field+".url", "not-a-url", "%.100q is no address on the web", "give an http or https URL of at most 2048 bytes", e.URL)
		}
		if e.SHA256 != "" && (len(e.SHA256) != 64 || strings.Trim(e.SHA256, "0123456789abcdef") != "") {
			d.malformed(field+".sha256", "not-a-digest", "it is not 64 hexadecimal digits", "give the SHA-256 in lower case")
		}
	}
	for i, s := range c.Stakeholders {
		field := fmt.Sprintf("stakeholders[%d]", i)
		if s.Who == "" {
			d.malformed(field, "empty-member", "it names nobody", "say who")
		}
		d.id(field, s.Who)
		d.list(field+".told", s.Told)
	}
	for i, a := range c.Answers {
		field := fmt.Sprintf("answers[%d]", i)
		d.text(field, a.Question, maxTitle, true)
		if i > 0 && c.Answers[i-1].Question == a.Question {
			d.malformed(field, "answered-twice", "question %q has two answers", "give one", a.Question)
		}
	}
	for _, f := range []struct {
		name string
		v    *apd.Decimal
	}{{"cost", c.Cost}, {"benefit", c.Benefit}, {"urgency", c.Urgency}, {"failure", c.Failure}} {
		d.decimal(f.name, f.v)
	}
	if d.clear() && c.Failure != nil && c.Failure.Cmp(apd.New(1, 0)) > 0 {
		d.malformed("failure", "not-a-probability", "it is above 1", "give a probability from 0 to 1")
	}
	if d.clear() {
		size := 0
		for _, f := range fields {
			size += len(f.text(&c))
		}
		if size > maxTotal {
			d.malformed("content", "too-large", "it has %d bytes", "use at most %d, and put documents elsewhere, as evidence", size, maxTotal)
		}
	}
}

// recordable refuses times that JSON cannot hold.
func (d *decision) recordable(field string, times ...time.Time) {
	for _, t := range times {
		if year := t.UTC().Year(); year < 1 || year > 9999 {
			d.malformed(field, "interval-invalid", "the year %d lies outside the years 1 to 9999", "check the years", year)
			return
		}
	}
}

// stamp writes a time for people.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
