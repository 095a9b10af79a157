package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
)

// Config is what a Service stands on. Door, Store, Registry, Follower, CMDB, List
// and Changes are required; package rollforward wires them.
type Config struct {
	Door     *command.Door
	Store    eventstore.Store
	Registry *eventstore.Registry // with the types of this package, change, cmdb and command
	Follower *follow.Follower     // of CMDB and List
	CMDB     follow.Projection[*cmdb.Graph]
	List     follow.Projection[*List]
	Changes  *change.Service

	Calendar    change.Calendar       // default none: time is not judged, and gates of the kind window-open are not run
	Directory   change.Directory      // default none: only people named in a gate can be asked for approval
	Expressions change.Expressions    // default none: environments whose gates have conditions are refused
	Policies    map[string]GatePolicy // that gates of the kind policy name
	Processes   []Process             // beside those that the engine ships; one of the same name takes the place of that
}

// Service is where commands on releases come in and questions are answered. Its
// methods may be called concurrently.
type Service struct {
	door        *command.Door
	store       eventstore.Store
	registry    *eventstore.Registry
	follower    *follow.Follower
	cmdb        follow.Projection[*cmdb.Graph]
	list        follow.Projection[*List]
	changes     *change.Service
	calendar    change.Calendar
	directory   change.Directory
	expressions change.Expressions
	policies    map[string]GatePolicy
	processes   []Process
	without     []string // guards that tests have taken out

	states    *eventstore.Cache[Release]
	installed eventstore.Decider[InForce, any] // that remembers
	graphs    eventstore.Decider[graphs, any]
}

// ErrUnknown says that there is no release of that ID.
var ErrUnknown = errors.New("no such release")

// New returns a service. It does no I/O, and refuses a process that is not sound.
func New(c Config) (*Service, error) {
	if c.Door == nil || c.Store == nil || c.Registry == nil || c.Follower == nil || c.CMDB.New == nil || c.List.New == nil || c.Changes == nil {
		return nil, errors.New("release: Door, Store, Registry, Follower, CMDB, List and Changes are required: let package rollforward wire them")
	}
	if _, err := c.Registry.TypeName(Planned{}); err != nil {
		return nil, fmt.Errorf("release: give the registry release.Types(): %w", err)
	}
	s := &Service{
		door: c.Door, store: c.Store, registry: c.Registry, follower: c.Follower, cmdb: c.CMDB, list: c.List, changes: c.Changes,
		calendar: c.Calendar, directory: c.Directory, expressions: c.Expressions, policies: c.Policies,
		states:    &eventstore.Cache[Release]{Copy: Release.handed},
		installed: inForceFolder, graphs: graphFolder,
	}
	s.installed.Cache, s.graphs.Cache = &eventstore.Cache[InForce]{Limit: 16_384}, &eventstore.Cache[graphs]{}
	for _, p := range append(slices.Clone(c.Processes), Processes()...) {
		if err := CheckProcess(p); err != nil {
			return nil, fmt.Errorf("release: process %q: %w", p.Name, err)
		}
		if s.process(p.Name) == nil {
			s.processes = append(s.processes, p)
		}
	}
	return s, nil
}

func (s *Service) process(name string) *Process {
	i := slices.IndexFunc(s.processes, func(p Process) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &s.processes[i]
}

// Plan begins a release, and runs further commands on it in the same append: all or
// none. It costs one append.
func (s *Service) Plan(ctx context.Context, actor command.Actor, p Plan, then ...Command) (Release, error) {
	return s.PlanCall(ctx, command.Call{Actor: actor}, p, then...)
}

// PlanCall is Plan with all that a call can say: an idempotency key, a reason.
// Action, Target and Content of call are set here.
func (s *Service) PlanCall(ctx context.Context, call command.Call, p Plan, then ...Command) (Release, error) {
	var r Release
	done, err := s.door.Do(ctx, s.planCall(call, p, then), func(tx *command.Tx) (err error) {
		r, err = s.plan(tx, p, then)
		return err
	})
	return s.answer(ctx, "", r, done, err)
}

func (s *Service) planCall(call command.Call, p Plan, then []Command) command.Call {
	call.Action, call.Target = p.action(), ""
	if call.Key != "" {
		call.Content = append([]any{p}, named(then)...)
	}
	return call
}

// Do runs commands on a release in one append, all or none, and returns the release
// after them. It reads the release's stream, and those of its changes and of what is
// in force where a command looks at them, and costs one append; commands that look
// at the CMDB wait until it has come to the head of the log.
func (s *Service) Do(ctx context.Context, actor command.Actor, id string, commands ...Command) (Release, error) {
	return s.DoCall(ctx, command.Call{Actor: actor}, id, commands...)
}

// DoCall is Do with all that a call can say: an idempotency key, a reason. Action,
// Target and Content of call are set here.
func (s *Service) DoCall(ctx context.Context, call command.Call, id string, commands ...Command) (Release, error) {
	var r Release
	done, err := s.door.Do(ctx, s.doCall(call, id, commands), func(tx *command.Tx) (err error) {
		r, err = s.do(tx, id, commands)
		return err
	})
	return s.answer(ctx, id, r, done, err)
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
		call.Action = "release.do" // of no command, which is refused
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
		all = append(all, map[string]any{strings.TrimPrefix(fmt.Sprintf("%T", c), "release."): c})
	}
	return all
}

// Why returns the rules that stand in the way of commands now, for this actor: none
// if Do would succeed. Each says what to do. An error says that it could not be
// found out, which is not a yes.
func (s *Service) Why(ctx context.Context, actor command.Actor, id string, commands ...Command) ([]command.Refusal, error) {
	return s.door.Try(ctx, s.doCall(command.Call{Actor: actor}, id, commands), func(tx *command.Tx) error {
		_, err := s.do(tx, id, commands)
		return err
	})
}

// WhyPlan returns the rules that stand in the way of a plan now.
func (s *Service) WhyPlan(ctx context.Context, actor command.Actor, p Plan, then ...Command) ([]command.Refusal, error) {
	return s.door.Try(ctx, s.planCall(command.Call{Actor: actor}, p, then), func(tx *command.Tx) error {
		_, err := s.plan(tx, p, then)
		return err
	})
}

// plan is the unit of work of a plan.
func (s *Service) plan(tx *command.Tx, p Plan, then []Command) (Release, error) {
	if p.Process == "" {
		p.Process = "waterfall"
	}
	if err := tx.Authorize(p.action(), "", map[string][]string{"kind": {string(p.Content.Kind)}, "process": {p.Process}, "ci": p.Content.CIs()}); err != nil {
		return Release{}, err
	}
	n, err := tx.Number(register)
	if err != nil {
		return Release{}, err
	}
	id := number(n + 1)
	r, _, err := s.decide(tx, id, p, func(Release) (facts, error) {
		return facts{now: tx.Now, actor: tx.Call.Actor, newID: id, process: s.process(p.Process), without: s.without}, nil
	})
	if err != nil {
		return r, err
	}
	if err := tx.Record(register, Numbered{Release: id}); err != nil {
		return r, err
	}
	var recorded []cmdb.Delta
	for _, cmd := range then {
		if isAt(cmd) {
			continue // there is no version before it
		}
		if r, err = s.next(tx, id, cmd, &recorded); err != nil {
			return r, err
		}
	}
	return r, nil
}

// do is the unit of work of commands on a release.
func (s *Service) do(tx *command.Tx, id string, commands []Command) (r Release, err error) {
	if !nameable(id) {
		return Release{}, command.Refuse(command.Refusal{Kind: command.Malformed, Rule: "unknown-release", Field: "release",
			Reason: fmt.Sprintf("%.50q is no ID of a release", id), Remedy: "check it"})
	}
	if !slices.ContainsFunc(commands, func(c Command) bool { return !isAt(c) }) {
		return Release{}, noCommand()
	}
	var recorded []cmdb.Delta // which the CMDB does not show yet
	for _, cmd := range commands {
		if at, ok := cmd.(At); ok {
			// Pinned where it stands first: a release that has moved on is a conflict,
			// whatever would have come of the command on what it was.
			if _, err = tx.Check(stream(id)); err == nil {
				err = tx.Expect(stream(id), uint64(at))
			}
		} else {
			r, err = s.next(tx, id, cmd, &recorded)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// nameable reports whether a stream can be named by what somebody sent. What cannot
// be names nothing that there is.
func nameable(id string) bool {
	return id != "" && len(id) <= maxID && utf8.ValidString(id) && strings.IndexByte(id, 0) < 0
}

func noCommand() error {
	return command.Refuse(command.Refusal{Kind: command.Malformed, Rule: "command-required",
		Reason: "nothing is asked for", Remedy: "give at least one command beside At"})
}

func isAt(cmd Command) bool { _, ok := cmd.(At); return ok }

// next runs one command on the release as it stands in the unit of work.
func (s *Service) next(tx *command.Tx, id string, cmd Command, recorded *[]cmdb.Delta) (Release, error) {
	if cmd == nil {
		return Release{}, noCommand()
	}
	if _, ok := cmd.(Plan); ok {
		return Release{}, command.Refuse(command.Refusal{Kind: command.Malformed, Rule: "plan-first",
			Reason: "a plan begins a release and does not follow on another command", Remedy: "give it to Plan, and what follows on it after it"})
	}
	r, events, err := s.decide(tx, id, cmd, func(r Release) (facts, error) {
		if err := tx.Authorize(cmd.action(), id, r.attributes(cmd)); err != nil {
			return facts{}, err
		}
		f, err := s.gather(tx, r, cmd, *recorded)
		if e, ok := cmd.(Emerge); ok && err == nil && r.Open() {
			var then []change.Command
			if e.Submit {
				then = append(then, change.Submit{})
			}
			var raised change.Change
			if raised, err = s.changes.RaiseIn(tx, e.Raise, then...); err == nil {
				f.raised = &raised
				f.changes[raised.ID] = raised
			}
		}
		return f, err
	})
	for _, payload := range events {
		if e, ok := payload.(DeploymentFinished); ok {
			*recorded = append(*recorded, e.Deltas...)
		}
	}
	return r, err
}

// decide loads a release, decides one command on the facts and records it, and what
// it causes beside the release.
func (s *Service) decide(tx *command.Tx, id string, cmd Command, gather func(Release) (facts, error)) (Release, []any, error) {
	var o outcome
	release := eventstore.Decider[Release, Command]{
		Decide: func(r Release, cmd Command) ([]any, error) {
			f, err := gather(r)
			if err != nil {
				return nil, err
			}
			var refused []command.Refusal
			o, refused = decide(r, cmd, f)
			return o.events, command.Refuse(refused...)
		},
		Evolve: evolve,
		Cache:  s.states,
	}
	r, err := release.Do(tx.Tx, stream(id), cmd)
	if err != nil {
		return r, nil, err
	}
	for _, i := range o.installs {
		if _, err := s.installed.Do(tx.Tx, installedStream(i.environment, i.ci), i.payload); err != nil {
			return r, nil, err
		}
	}
	for _, c := range o.carries {
		if _, err := s.changes.In(tx, c.change, c.carry); err != nil {
			return r, nil, err
		}
	}
	return r, o.events, nil
}

// attributes are what rights can be given by.
func (r Release) attributes(cmd Command) map[string][]string {
	if r.ID == "" {
		return nil
	}
	a := map[string][]string{
		"process": {r.Process.Name}, "phase": {r.Phase}, "kind": {string(r.Kind)}, "planner": {r.Planner}, "ci": r.CIs(),
	}
	environment := ""
	one := func(number int) {
		d, _ := r.Deployment(number)
		environment = d.Environment
	}
	switch c := cmd.(type) {
	case CheckItem:
		environment = c.Environment
	case Waive:
		environment = c.Environment
	case Ask:
		environment = c.Environment
	case Approve:
		environment = c.Environment
	case Reject:
		environment = c.Environment
	case Deploy:
		environment = c.Environment
	case Rollback:
		environment = c.Environment
	case Lift:
		environment = c.Environment
	case Report:
		one(c.Deployment)
	case NextWave:
		one(c.Deployment)
	case Pause:
		one(c.Deployment)
	case Resume:
		one(c.Deployment)
	case Finish:
		one(c.Deployment)
	case Fail:
		one(c.Deployment)
	case Abort:
		one(c.Deployment)
	case Retry:
		one(c.Deployment)
	}
	if environment != "" {
		a["environment"] = []string{environment}
	}
	return a
}

// answer is what a command returns: the release as it left it, also where the
// answer is that of an earlier command with the same key. id is that of the release,
// empty for a plan.
func (s *Service) answer(ctx context.Context, id string, r Release, done command.Done, err error) (Release, error) {
	if err != nil {
		return Release{}, err
	}
	if done.Repeated {
		if r, err = s.answered(ctx, id, done); err != nil {
			return Release{}, err
		}
	}
	if done.Position > 0 {
		r.Position = done.Position
	}
	return r.handed(), nil
}

// answered returns the release as an earlier command with the same key left it.
func (s *Service) answered(ctx context.Context, id string, done command.Done) (Release, error) {
	for _, at := range done.Streams {
		if id, ok := strings.CutPrefix(at.Stream, streamPrefix); ok {
			return s.At(ctx, id, at.Version)
		}
	}
	// It had nothing to record: the release stood where its key was recorded.
	var r Release
	err := s.events(ctx, id, func(e eventstore.Recorded, payload any) bool {
		if e.Position > done.Position {
			return false
		}
		r.apply(payload)
		return true
	})
	return r, err
}

// Get returns a release as it stands. The error is ErrUnknown if there is none. It
// costs one read of the release's stream.
func (s *Service) Get(ctx context.Context, id string) (Release, error) { return s.At(ctx, id, 0) }

// At returns a release as it stood at a version; 0 is the last one.
func (s *Service) At(ctx context.Context, id string, version uint64) (Release, error) {
	var r Release
	err := s.events(ctx, id, func(e eventstore.Recorded, payload any) bool {
		r.apply(payload)
		r.Position = e.Position
		return version == 0 || e.Version < version
	})
	switch {
	case err != nil:
		return Release{}, err
	case r.Version < version:
		return Release{}, fmt.Errorf("release %q has %d versions, not %d: %w", id, r.Version, version, ErrUnknown)
	}
	return r.handed(), nil
}

// events reads a release's stream until yield returns false.
func (s *Service) events(ctx context.Context, id string, yield func(eventstore.Recorded, any) bool) error {
	if !nameable(id) {
		return fmt.Errorf("release %.100q: %w: give its ID", id, ErrUnknown)
	}
	some := false
	for e, err := range s.store.Read(ctx, eventstore.Query{Streams: []string{stream(id)}}) {
		if err != nil {
			return fmt.Errorf("read release %q: %w", id, err)
		}
		payload, err := s.registry.Decode(e.Event)
		if err != nil {
			return fmt.Errorf("read release %q: %w", id, err)
		}
		some = true
		if !yield(e, payload) {
			return nil
		}
	}
	if !some {
		return fmt.Errorf("release %.100q: %w: check its ID", id, ErrUnknown)
	}
	return nil
}
