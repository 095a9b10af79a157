package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Config is what a Service stands on. Door, Store, Registry, Follower, CMDB and
// List are required; package rollforward wires them.
type Config struct {
	Door     *command.Door
	Store    eventstore.Store
	Registry *eventstore.Registry // with the types of this package, cmdb and command
	Follower *follow.Follower     // of CMDB and List
	CMDB     follow.Projection[*cmdb.Graph]
	List     follow.Projection[*List]

	Risk        RiskPolicy     // default none: risk is judged by hand, with Assess; one whose Err method says that it was refused when built is refused
	Directory   Directory      // default none: only people named in a model can be asked for approval
	Expressions Expressions    // default none: models with expressions are refused
	Priority    PriorityPolicy // default benefit x (1 - failure) x urgency / cost
	Calendar    Calendar       // default none: time is not judged
}

// Service is where commands on changes come in and questions are answered. Its
// methods may be called concurrently.
type Service struct {
	door        *command.Door
	store       eventstore.Store
	registry    *eventstore.Registry
	follower    *follow.Follower
	cmdb        follow.Projection[*cmdb.Graph]
	list        follow.Projection[*List]
	risk        RiskPolicy
	directory   Directory
	expressions Expressions
	priority    PriorityPolicy
	calendar    Calendar
	without     []string // guards that tests have taken out
	states      *eventstore.Cache[Change]

	mu     sync.Mutex
	models map[string]versions // published versions, which never change
}

// ErrUnknown says that there is no change of that ID.
var ErrUnknown = errors.New("no such change")

// New returns a service. It does no I/O.
func New(c Config) (*Service, error) {
	if c.Door == nil || c.Store == nil || c.Registry == nil || c.Follower == nil || c.CMDB.New == nil || c.List.New == nil {
		return nil, errors.New("change: Door, Store, Registry, Follower, CMDB and List are required: let package rollforward wire them")
	}
	s := &Service{
		door: c.Door, store: c.Store, registry: c.Registry, follower: c.Follower, cmdb: c.CMDB, list: c.List,
		risk: c.Risk, directory: c.Directory, expressions: c.Expressions, priority: c.Priority, calendar: c.Calendar,
		states: &eventstore.Cache[Change]{Copy: Change.handed},
		models: map[string]versions{},
	}
	// A policy that was refused when it was built is refused here, not with the
	// first change.
	if built, ok := c.Risk.(interface{ Err() error }); ok {
		if err := built.Err(); err != nil {
			return nil, fmt.Errorf("change: the risk policy is refused: %w", err)
		}
	}
	if s.priority == nil {
		s.priority = StandardPriority{}
	}
	return s, nil
}

// Raise begins a change, and runs further commands on it in the same append: all
// or none. It costs one append.
func (s *Service) Raise(ctx context.Context, actor command.Actor, r Raise, then ...Command) (Change, error) {
	return s.RaiseCall(ctx, command.Call{Actor: actor}, r, then...)
}

// RaiseCall is Raise with all that a call can say: an idempotency key, a reason.
// Action, Target and Content of call are set here.
func (s *Service) RaiseCall(ctx context.Context, call command.Call, r Raise, then ...Command) (Change, error) {
	var c Change
	done, err := s.door.Do(ctx, s.raiseCall(call, r, then), func(tx *command.Tx) (err error) {
		c, err = s.raise(tx, r, then)
		return err
	})
	return s.answer(ctx, "", c, done, err)
}

func (s *Service) raiseCall(call command.Call, r Raise, then []Command) command.Call {
	call.Action, call.Target = r.action(), ""
	if call.Key != "" {
		call.Content = append([]any{r}, named(then)...)
	}
	return call
}

// Do runs commands on a change in one append, all or none, and returns the change
// after them. It reads the change's stream and costs one append; commands that
// look at the CMDB wait until it has come to the head of the log.
func (s *Service) Do(ctx context.Context, actor command.Actor, id string, commands ...Command) (Change, error) {
	return s.DoCall(ctx, command.Call{Actor: actor}, id, commands...)
}

// DoCall is Do with all that a call can say: an idempotency key, a reason. Action,
// Target and Content of call are set here.
func (s *Service) DoCall(ctx context.Context, call command.Call, id string, commands ...Command) (Change, error) {
	var c Change
	done, err := s.door.Do(ctx, s.doCall(call, id, commands), func(tx *command.Tx) (err error) {
		c, err = s.do(tx, id, commands)
		return err
	})
	return s.answer(ctx, id, c, done, err)
}

func (s *Service) doCall(call command.Call, id string, commands []Command) command.Call {
	call.Action, call.Target = "", id
	for _, c := range commands {
		if c == nil || c.action() == "" {
			continue
		}
		if call.Action == "" || call.Action == (Note{}).action() {
			call.Action = c.action()
		}
	}
	if call.Action == "" {
		call.Action = "change.do" // of no command, which is refused
	}
	if call.Key != "" {
		call.Content = named(commands)
	}
	return call
}

// named returns commands with their names, as the content of a key: two commands
// may have the same fields.
func named(commands []Command) []any {
	var all []any
	for _, c := range commands {
		all = append(all, map[string]any{strings.TrimPrefix(fmt.Sprintf("%T", c), "change."): c})
	}
	return all
}

// Why returns the rules that stand in the way of commands now, for this actor:
// none if Do would succeed. Each says what to do. An error says that it could not
// be found out, which is not a yes.
func (s *Service) Why(ctx context.Context, actor command.Actor, id string, commands ...Command) ([]command.Refusal, error) {
	return s.door.Try(ctx, s.doCall(command.Call{Actor: actor}, id, commands), func(tx *command.Tx) error {
		_, err := s.do(tx, id, commands)
		return err
	})
}

// WhyRaise returns the rules that stand in the way of a raise now.
func (s *Service) WhyRaise(ctx context.Context, actor command.Actor, r Raise, then ...Command) ([]command.Refusal, error) {
	return s.door.Try(ctx, s.raiseCall(command.Call{Actor: actor}, r, then), func(tx *command.Tx) error {
		_, err := s.raise(tx, r, then)
		return err
	})
}

// In runs commands on a change within a unit of work of another room, which is
// appended as one: a deployment that starts, and the change that starts with it.
// It authorises each command by itself.
func (s *Service) In(tx *command.Tx, id string, commands ...Command) (Change, error) {
	return s.do(tx, id, commands)
}

// RaiseIn begins a change within a unit of work of another room.
func (s *Service) RaiseIn(tx *command.Tx, r Raise, then ...Command) (Change, error) {
	return s.raise(tx, r, then)
}

// Load returns a change as it stands in a unit of work, which is held to it: if the
// change has moved on by the end, the unit of work runs again. The ID of the change
// is empty if there is none.
func (s *Service) Load(tx *command.Tx, id string) (Change, error) {
	if !nameable(id) {
		return Change{}, nil
	}
	return eventstore.Decider[Change, Command]{Evolve: evolve, Cache: s.states}.Load(tx.Tx, stream(id))
}

// raise is the unit of work of a raise.
func (s *Service) raise(tx *command.Tx, r Raise, then []Command) (Change, error) {
	m, t, err := s.chosen(tx, &r)
	if err != nil {
		return Change{}, err
	}
	attributes := map[string][]string{"model": {r.Model}, "ci": r.Content.Declared()}
	if r.Content.Category != "" {
		attributes["category"] = []string{r.Content.Category}
	}
	if r.Template != "" {
		attributes["template"] = []string{r.Template}
	}
	if err := tx.Authorize(r.action(), "", attributes); err != nil {
		return Change{}, err
	}
	taken := false
	if r.Unique && nameable(r.External) {
		version, err := tx.Check(externalStream(r.External))
		if err != nil {
			return Change{}, err
		}
		taken = version > 0
	}
	n, err := tx.Number(register)
	if err != nil {
		return Change{}, err
	}
	id := number(n + 1)
	c, err := s.decide(tx, id, r, func(c Change) (facts, error) {
		f, err := s.gather(tx, c, r, m, t)
		f.newID, f.external = id, taken
		return f, err
	})
	if err != nil {
		return c, err
	}
	if err := tx.Record(register, Numbered{Change: id}); err != nil {
		return c, err
	}
	if r.Unique {
		if err := tx.Record(externalStream(r.External), Referenced{Change: id}); err != nil {
			return c, err
		}
	}
	for _, cmd := range then {
		if isAt(cmd) {
			continue // there is no version before it
		}
		if c, err = s.next(tx, id, cmd); err != nil {
			return c, err
		}
	}
	return c, nil
}

// nameable reports whether a stream can be named by what somebody sent. What
// cannot be names nothing that there is.
func nameable(id string) bool {
	return id != "" && len(id) <= maxID && utf8.ValidString(id) && strings.IndexByte(id, 0) < 0
}

func externalStream(reference string) string { return "external-" + reference }

// chosen returns the model and the template that a raise is made under, at their
// versions in force, which it pins; nil where there are none.
func (s *Service) chosen(tx *command.Tx, r *Raise) (*model, *TemplateVersion, error) {
	var t *TemplateVersion
	if nameable(r.Template) {
		all, err := templateFolder.Load(tx.Tx, templateStream(r.Template))
		if err != nil {
			return nil, nil, err
		}
		if t = all.current(); t == nil && len(all) > 0 {
			t = &all[len(all)-1]
		}
		if t != nil {
			t.Name = r.Template
		}
	}
	switch {
	case r.Model != "":
	case r.Template == "":
		r.Model = "normal"
	case t != nil && t.Text.Model != "":
		r.Model = t.Text.Model
	default:
		r.Model = "standard"
	}
	if !nameable(r.Model) {
		return nil, t, nil
	}
	version, err := tx.Check(modelStream(r.Model))
	if err != nil || version == 0 {
		return nil, t, err
	}
	m, err := s.modelAt(tx.Context(), r.Model, version)
	return m, t, err
}

// do is the unit of work of commands on a change.
func (s *Service) do(tx *command.Tx, id string, commands []Command) (c Change, err error) {
	if !nameable(id) {
		return Change{}, command.Refuse(command.Refusal{Kind: command.Malformed, Rule: "unknown-change", Field: "change",
			Reason: fmt.Sprintf("%.50q is no ID of a change", id), Remedy: "check it"})
	}
	if !slices.ContainsFunc(commands, func(c Command) bool { return !isAt(c) }) {
		return Change{}, noCommand()
	}
	for _, cmd := range commands {
		if at, ok := cmd.(At); ok {
			// Pinned where it stands first: a change that has moved on is a conflict,
			// whatever would have come of the command on what it was.
			if _, err = tx.Check(stream(id)); err == nil {
				err = tx.Expect(stream(id), uint64(at))
			}
		} else {
			c, err = s.next(tx, id, cmd)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func noCommand() error {
	return command.Refuse(command.Refusal{Kind: command.Malformed, Rule: "command-required",
		Reason: "nothing is asked for", Remedy: "give at least one command beside At"})
}

func isAt(cmd Command) bool { _, ok := cmd.(At); return ok }

// next runs one command on the change as it stands in the unit of work.
func (s *Service) next(tx *command.Tx, id string, cmd Command) (Change, error) {
	switch {
	case cmd == nil:
		return Change{}, noCommand()
	case isRaise(cmd):
		return Change{}, command.Refuse(command.Refusal{Kind: command.Malformed, Rule: "raise-first",
			Reason: "a raise begins a change and does not follow on another command", Remedy: "give it to Raise, and what follows on it after it"})
	}
	return s.decide(tx, id, cmd, func(c Change) (facts, error) {
		if err := tx.Authorize(cmd.action(), id, c.attributes()); err != nil {
			return facts{}, err
		}
		m, t, err := s.under(tx, c)
		if err != nil {
			return facts{}, err
		}
		return s.gather(tx, c, cmd, m, t)
	})
}

// under returns the model and the template under which a change was raised.
func (s *Service) under(tx *command.Tx, c Change) (*model, *TemplateVersion, error) {
	if c.ID == "" {
		return nil, nil, nil
	}
	m, err := s.modelAt(tx.Context(), c.Model, c.ModelVersion)
	if err != nil || c.Template == "" {
		return m, nil, err
	}
	all, err := templateFolder.Load(tx.Tx, templateStream(c.Template))
	t := all.version(c.TemplateVersion)
	if t != nil {
		t.Name = c.Template
	}
	return m, t, err
}

// decide loads a change, decides one command on the facts and records it.
func (s *Service) decide(tx *command.Tx, id string, cmd Command, gather func(Change) (facts, error)) (Change, error) {
	var before Change
	change := eventstore.Decider[Change, Command]{
		Decide: func(c Change, cmd Command) ([]any, error) {
			before = c.handed()
			f, err := gather(c)
			if err != nil {
				return nil, err
			}
			events, refused := decide(c, cmd, f)
			return events, command.Refuse(refused...)
		},
		Evolve: evolve,
		Cache:  s.states,
	}
	after, err := change.Do(tx.Tx, stream(id), cmd)
	if err == nil && s.calendar != nil && after.Version > before.Version {
		err = s.calendar.Settle(tx, before, after.handed())
	}
	return after, err
}

// attributes are what rights can be given by.
func (c Change) attributes() map[string][]string {
	if c.ID == "" {
		return nil
	}
	a := map[string][]string{
		"model": {c.Model}, "phase": {c.Phase}, "kind": {string(c.Kind)}, "requester": {c.Requester}, "ci": c.Declared(),
	}
	for name, value := range map[string]string{"category": c.Category, "group": c.Group, "owner": c.Owner, "template": c.Template} {
		if value != "" {
			a[name] = []string{value}
		}
	}
	return a
}

// answer is what a command returns: the change as it left it, also where the
// answer is that of an earlier command with the same key. id is that of the
// change, empty for a raise.
func (s *Service) answer(ctx context.Context, id string, c Change, done command.Done, err error) (Change, error) {
	if err != nil {
		return Change{}, err
	}
	if done.Repeated {
		if c, err = s.answered(ctx, id, done); err != nil {
			return Change{}, err
		}
	}
	if done.Position > 0 {
		c.Position = done.Position
	}
	return c.handed(), nil
}

// answered returns the change as an earlier command with the same key left it.
func (s *Service) answered(ctx context.Context, id string, done command.Done) (Change, error) {
	for _, at := range done.Streams {
		if id, ok := strings.CutPrefix(at.Stream, streamPrefix); ok {
			return s.At(ctx, id, at.Version)
		}
	}
	// It had nothing to record: the change stood where its key was recorded.
	var c Change
	err := s.events(ctx, id, func(r eventstore.Recorded, payload any) bool {
		if r.Position > done.Position {
			return false
		}
		c.apply(payload)
		return true
	})
	return c, err
}
