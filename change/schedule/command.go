package schedule

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Actions that an Authorizer is asked about. The object of the first four is the
// window or the team, of the last the conflict; its attributes are the window's
// "kind", or the conflict's "rule" and "change".
const (
	ActionDefine   = "window.define"
	ActionRetire   = "window.retire"
	ActionOverride = "window.override"
	ActionCapacity = "window.capacity"
	ActionAccept   = "conflict.accept"
)

// Command is something that is done to windows or conflicts: one of DefineWindow,
// RetireWindow, Override, Accept and DeclareCapacity.
type Command interface {
	action() string
	target() string
	decide(d *decision) ([]any, error)
	stream() string
}

// DefineWindow defines a window, or defines it anew. One that stands in the same
// words records nothing.
type DefineWindow struct{ Window Window }

// RetireWindow lets a window hold no longer. It can be defined again.
type RetireWindow struct{ Window, Why string }

// Override takes it upon the actor that something happens against a window, which
// stays in force: one change or release, or whatever Scope matches.
type Override struct {
	Window string
	Change string
	Scope  Scope
	Why    string
	Until  time.Time // what ends later is not covered
}

// Accept takes a conflict upon the actor as it is now. It goes on being listed, as
// resolved, and blocks nothing as long as it does not grow.
type Accept struct {
	Conflict string // ID
	Change   string // that has it
	Why      string
	Until    time.Time // an overlap that ends later is not covered; zero: any
}

// DeclareCapacity says how many changes a team can carry out at once; 0 takes the
// limit away.
type DeclareCapacity struct {
	Team string
	Most int
}

func (DefineWindow) action() string    { return ActionDefine }
func (RetireWindow) action() string    { return ActionRetire }
func (Override) action() string        { return ActionOverride }
func (Accept) action() string          { return ActionAccept }
func (DeclareCapacity) action() string { return ActionCapacity }

func (c DefineWindow) target() string    { return c.Window.ID }
func (c RetireWindow) target() string    { return c.Window }
func (c Override) target() string        { return c.Window }
func (c Accept) target() string          { return c.Conflict }
func (c DeclareCapacity) target() string { return c.Team }

func (c DefineWindow) stream() string    { return windowPrefix + c.Window.ID }
func (c RetireWindow) stream() string    { return windowPrefix + c.Window }
func (c Override) stream() string        { return windowPrefix + c.Window }
func (c Accept) stream() string          { return conflictPrefix + c.Conflict }
func (c DeclareCapacity) stream() string { return capacityPrefix + c.Team }

// decision is what a command is decided on.
type decision struct {
	by       string
	now      time.Time
	window   Defined // where the command is about one
	conflict *change.Conflict
	most     int // the team's capacity; 0: none
	refused  []command.Refusal
}

func (d *decision) refuse(kind command.Kind, rule, field, reason, remedy string) {
	d.refused = append(d.refused, command.Refusal{Kind: kind, Rule: rule, Field: field, Reason: reason, Remedy: remedy})
}

func (d *decision) malformed(rule, field, reason, remedy string) {
	d.refuse(command.Malformed, rule, field, reason, remedy)
}

// Limits of what people write, in bytes.
const (
	maxID  = 200
	maxWhy = 4 << 10
)

// why asks for a reason.
func (d *decision) why(text string) {
	switch {
	case strings.TrimSpace(text) == "":
		d.malformed("reason-required", "why", "it has no reason", "say why")
	case len(text) > maxWhy:
		d.malformed("too-long", "why", fmt.Sprintf("it has %d bytes of at most %d", len(text), maxWhy), "shorten it")
	case !utf8.ValidString(text):
		d.malformed("not-text", "why", "it is not valid UTF-8", "give text")
	}
}

// until asks for a time to come.
func (d *decision) until(t time.Time, required bool) {
	switch {
	case t.IsZero() && required:
		d.malformed("until-required", "until", "it has no end", "say until when it is to hold")
	case !t.IsZero() && !t.After(d.now):
		d.malformed("until-past", "until", "its end is past", "name a time to come")
	}
}

// nameable reports whether a stream can be named by what somebody sent.
func nameable(id string) bool {
	return id != "" && len(id) <= maxID && utf8.ValidString(id) && !strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (d *decision) unknownWindow() bool {
	if d.window.Version > 0 {
		return false
	}
	d.malformed("unknown-window", "window", "there is no such window", "check its ID")
	return true
}

func (c DefineWindow) decide(d *decision) ([]any, error) {
	d.refused = append(d.refused, c.Window.Check()...)
	if d.window.Version > 0 && d.window.Retired == nil && sameWindow(d.window.Window, c.Window) {
		return nil, nil
	}
	return []any{WindowDefined{Window: c.Window, By: d.by, At: d.now}}, nil
}

func (c RetireWindow) decide(d *decision) ([]any, error) {
	d.why(c.Why)
	if !d.unknownWindow() && d.window.Retired != nil {
		return nil, nil
	}
	return []any{WindowRetired{Window: c.Window, Why: c.Why, By: d.by, At: d.now}}, nil
}

func (c Override) decide(d *decision) ([]any, error) {
	d.why(c.Why)
	d.until(c.Until, true)
	switch scoped := !c.Scope.empty(); {
	case c.Change == "" && !scoped:
		d.malformed("scope-required", "change", "it says neither for which change nor for what", "name a change, or give a scope")
	case c.Change != "" && scoped:
		d.malformed("scope-or-change", "scope", "it names a change and a scope", "leave out one of the two")
	case scoped:
		d.refused = append(d.refused, c.Scope.check("scope")...)
	case !nameable(c.Change):
		d.malformed("unknown-change", "change", fmt.Sprintf("%.50q is no ID of a change", c.Change), "check it")
	}
	if !d.unknownWindow() && d.window.Retired != nil {
		d.refuse(command.Refused, "window-retired", "window", "the window is retired: "+d.window.Retired.Why, "nothing needs to be overridden")
	}
	return []any{Overridden{Window: c.Window, Change: c.Change, Scope: c.Scope, Why: c.Why, Until: c.Until.UTC().Truncate(time.Microsecond), By: d.by, At: d.now}}, nil
}

func (c Accept) decide(d *decision) ([]any, error) {
	d.why(c.Why)
	d.until(c.Until, false)
	if d.conflict == nil {
		d.refuse(command.Refused, "unknown-conflict", "conflict", fmt.Sprintf("%.50q has no such conflict now", c.Change), "look at what it conflicts with, and accept that")
		return nil, nil
	}
	if !c.Until.IsZero() && d.conflict.Overlap.End.After(c.Until) {
		d.refuse(command.Refused, "until-too-soon", "until", "the conflict lasts longer, "+when(d.conflict.Overlap), "name its end, or a later time")
	}
	seen := *d.conflict
	seen.Resolved = nil
	until := c.Until
	if !until.IsZero() {
		until = until.UTC().Truncate(time.Microsecond)
	}
	return []any{ConflictAccepted{Conflict: seen, Why: c.Why, Until: until, By: d.by, At: d.now}}, nil
}

func (c DeclareCapacity) decide(d *decision) ([]any, error) {
	if c.Most < 0 {
		d.malformed("negative", "most", "it is below 0", "say how many, or 0 for no limit")
	}
	if c.Most == d.most {
		return nil, nil
	}
	return []any{CapacityDeclared{Team: c.Team, Most: c.Most, By: d.by, At: d.now}}, nil
}

// sameWindow reports whether two windows are in the same words.
func sameWindow(a, b Window) bool {
	x, y := a, b
	x.Scope, y.Scope, x.Dates, y.Dates, x.Except, y.Except = Scope{}, Scope{}, nil, nil, nil, nil
	flat := func(w Window) string { return fmt.Sprintf("%+v", w) }
	sets := func(w Window) [][]string { return [][]string{w.Dates, w.Except} }
	if flat(x) != flat(y) || a.Scope.Everything != b.Scope.Everything || !slices.EqualFunc(sets(a), sets(b), slices.Equal) {
		return false
	}
	return slices.EqualFunc(a.Scope.fields(), b.Scope.fields(), func(p, q scopeField) bool { return slices.Equal(p.values, q.values) })
}

// Do runs a command. It costs a read of one stream and one append; Accept looks at
// the conflicts of the change besides.
func (s *Service) Do(ctx context.Context, actor command.Actor, c Command) (command.Done, error) {
	return s.DoCall(ctx, command.Call{Actor: actor}, c)
}

// DoCall is Do with all that a call can say: an idempotency key, a reason. Action,
// Target and Content of call are set here.
func (s *Service) DoCall(ctx context.Context, call command.Call, c Command) (command.Done, error) {
	call = called(call, c)
	return s.door.Do(ctx, call, func(tx *command.Tx) error { return s.decide(tx, c) })
}

// Why returns the rules that stand in the way of a command now, for this actor:
// none if Do would succeed.
func (s *Service) Why(ctx context.Context, actor command.Actor, c Command) ([]command.Refusal, error) {
	return s.door.Try(ctx, called(command.Call{Actor: actor}, c), func(tx *command.Tx) error { return s.decide(tx, c) })
}

func called(call command.Call, c Command) command.Call {
	if c == nil {
		call.Action = "window.do" // of no command, which is refused
		return call
	}
	call.Action, call.Target = c.action(), c.target()
	if call.Key != "" {
		call.Content = c
	}
	return call
}

// DefineWindow defines a window, or defines it anew.
func (s *Service) DefineWindow(ctx context.Context, actor command.Actor, w Window) (command.Done, error) {
	return s.Do(ctx, actor, DefineWindow{w})
}

// RetireWindow lets a window hold no longer.
func (s *Service) RetireWindow(ctx context.Context, actor command.Actor, id, why string) (command.Done, error) {
	return s.Do(ctx, actor, RetireWindow{id, why})
}

// Override takes it upon the actor that something happens against a window.
func (s *Service) Override(ctx context.Context, actor command.Actor, o Override) (command.Done, error) {
	return s.Do(ctx, actor, o)
}

// Accept takes a conflict upon the actor.
func (s *Service) Accept(ctx context.Context, actor command.Actor, a Accept) (command.Done, error) {
	return s.Do(ctx, actor, a)
}

// windowFolder folds a window's stream, as far as commands need it.
var windowFolder = eventstore.Decider[Defined, any]{Evolve: func(d Defined, payload any) Defined {
	switch e := payload.(type) {
	case WindowDefined:
		d.Window, d.Retired = e.Window, nil
	case WindowRetired:
		d.Retired = &e
	}
	d.Version++
	return d
}}

var capacityFolder = eventstore.Decider[int, any]{Evolve: func(n int, payload any) int {
	if e, ok := payload.(CapacityDeclared); ok {
		n = e.Most
	}
	return n
}}

// decide is the unit of work of a command.
func (s *Service) decide(tx *command.Tx, c Command) error {
	if c == nil {
		return command.Refuse(malformed("command-required", "", "nothing is asked for", "give a command"))
	}
	if !nameable(c.target()) {
		return command.Refuse(malformed("unknown-id", "id", fmt.Sprintf("%.50q is no ID", c.target()), "give one of 1 to 200 bytes of text"))
	}
	d := &decision{by: tx.Call.Actor.ID, now: tx.Now}
	attributes := map[string][]string{}
	var err error
	switch c := c.(type) {
	case DeclareCapacity:
		d.most, err = capacityFolder.Load(tx.Tx, c.stream())
	case Accept:
		// Pinned, so that two who accept the same do so one after the other.
		if _, err = tx.Check(c.stream()); err == nil {
			d.conflict, err = s.conflict(tx.Context(), c.Change, c.Conflict)
		}
		attributes["change"] = []string{c.Change}
		if d.conflict != nil {
			attributes["rule"] = []string{d.conflict.Rule}
		}
	default:
		d.window, err = windowFolder.Load(tx.Tx, c.stream())
		kind := d.window.Window.Kind
		if define, ok := c.(DefineWindow); ok {
			kind = define.Window.Kind
		}
		attributes["kind"] = []string{string(kind)}
	}
	if err != nil {
		return err
	}
	if err := tx.Authorize(c.action(), c.target(), attributes); err != nil {
		return err
	}
	events, err := c.decide(d)
	if err != nil {
		return err
	}
	if len(d.refused) > 0 {
		return command.Refuse(d.refused...)
	}
	return tx.Record(c.stream(), events...)
}

// conflict returns a conflict that a change has now, nil if it has none of that ID.
func (s *Service) conflict(ctx context.Context, id, conflict string) (*change.Conflict, error) {
	var found *change.Conflict
	return found, s.head(ctx, func(v *follow.View) error {
		e := s.schedule.In(v).open[id]
		if e == nil {
			return nil
		}
		all, err := s.conflicts(v, e.occasion())
		if i := slices.IndexFunc(all.Conflicts, func(c change.Conflict) bool { return c.ID == conflict }); i >= 0 {
			found = &all.Conflicts[i]
		}
		return err
	})
}
