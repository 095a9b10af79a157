package rollforward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/release"
)

// Config is how an engine works. Authorizer is required; the rest has defaults.
type Config struct {
	// Authorizer says who may do what: command.Roles, a command.Policy, your own,
	// or command.AllowAll, which lets everybody do everything and has to be named.
	Authorizer command.Authorizer

	// Risk judges changes. Default none: risk is judged by hand, with change.Assess.
	Risk change.RiskPolicy

	// Directory says who is in a group and who has a role, for approvals. Default:
	// the roles of Authorizer where that is command.Roles or a command.Policy,
	// otherwise nobody.
	Directory change.Directory

	// Expressions evaluates the conditions of models. Default risk.CEL().
	Expressions change.Expressions

	// Evidence evaluates the conditions of gates over evidence. Default
	// risk.EvidenceCEL().
	Evidence change.Expressions

	// Priority ranks the backlog. Default change.StandardPriority.
	Priority change.PriorityPolicy

	// Schedule says how time is judged: whether CIs are booked, which relations lead
	// to others that are affected, what a conflict does. Default the zero Rules.
	Schedule schedule.Rules

	// Gates are the policies that gates of environments may name.
	Gates map[string]release.GatePolicy

	// Processes are processes of releases beside those that the engine ships; one
	// of the same name takes the place of that.
	Processes []release.Process

	// Clock is the one clock of the engine. Default time.Now.
	Clock func() time.Time

	// Backdating lets calls say when they happened, in command.Call.OccurredAt: for
	// programs that bring history in from elsewhere. Elsewhere all happens when it is
	// asked for, and a call that says otherwise is refused.
	Backdating bool

	// HookTimeout is how long one call of a hook may take before it refuses the
	// command. Default 5 s.
	HookTimeout time.Duration

	// RefusalsPerMinute is how many refusals are listed for one actor and rule before
	// they are only counted. Default 10.
	RefusalsPerMinute int

	// SnapshotEvery is the number of events after which the state of the folds is
	// saved, where the store can, so that a restart reads the rest only. Default
	// 10,000; below 0 never.
	SnapshotEvery int

	// Types are further event types in the store, of rooms of your own. A payload
	// that is a cmdb.Carrier tells the CMDB what it carries.
	Types []eventstore.EventType

	// Lease is how long a process that runs handlers may be silent before another
	// takes over. Default 15 s.
	Lease time.Duration

	// Grace is how long Close waits for handlers at work before it cancels their
	// contexts. Default 5 s; below 0 it does not wait.
	Grace time.Duration

	// Observer is told of commands, appends and the calls of handlers, such as a
	// telemetry.Telemetry. Default nobody, at no cost.
	Observer Observer

	// Logger is told of what goes wrong beside commands, of handlers that take and
	// lose their lease (info), of deliveries that fail (warn), of events that are
	// parked, and of folds and handlers that stop (error). What people wrote and what
	// hooks and handlers return as errors may be in it; payloads are not. Default
	// slog.Default().
	Logger *slog.Logger
}

// Observer is told what goes on in an engine.
type Observer interface {
	command.Observer
	relay.Observer
}

// Engine is changes, releases, the schedule and the CMDB on one store.
type Engine struct {
	Changes  *change.Service
	Releases *release.Service
	Schedule *schedule.Service
	CMDB     *cmdb.Service
	Door     *command.Door // for commands of your own, and delegations

	store    eventstore.Store
	registry *eventstore.Registry
	config   Config
	folds    folds
	follower *follow.Follower
	close    func() error

	starting sync.Mutex // held by Handle, and by Close while it ends handlers
	mu       sync.Mutex
	handling []*handling
	giveUp   context.CancelFunc // ends the Handle that is under way; nil where none is
	closing  bool               // nothing is handled any more
}

// folds are what an engine keeps in memory.
type folds struct {
	changes  follow.Projection[*change.List]
	releases follow.Projection[*release.List]
	schedule follow.Projection[*schedule.Schedule]
	cmdb     follow.Projection[*cmdb.Graph]
}

// system is the actor of what the engine records by itself.
const system = "rollforward"

// Open returns an engine on a store, ready to answer: its folds stand at the head
// of the log. It records the shipped models, classes and relations, and the text
// of the risk policy, where the log does not have them. Opening takes one read of
// the log, or of its end where snapshots were saved. The store stays the caller's:
// close it after the engine.
func Open(ctx context.Context, store eventstore.Store, config Config) (*Engine, error) {
	if store == nil {
		return nil, errors.New("rollforward: open: give a store, such as sqlite.Open or memory.New")
	}
	if config.Authorizer == nil {
		return nil, errors.New("rollforward: open: give an Authorizer: command.Roles, a command.Policy, your own, or command.AllowAll if everybody may do everything")
	}
	if config.Lease < 0 {
		return nil, errors.New("rollforward: open: Lease is not negative; 0 is its default")
	}
	registry, err := eventstore.NewRegistry(slices.Concat(
		command.Types(), cmdb.Types(), change.Types(), schedule.Types(), release.Types(), follow.Types(), relay.Types(), config.Types)...)
	if err != nil {
		return nil, fmt.Errorf("rollforward: open: %w", err)
	}
	var follower *follow.Follower
	doors := command.Config{
		Recorded: func(records []eventstore.Recorded) { follower.Offer(records) },
		Store:    store, Registry: registry, Authorizer: config.Authorizer, Clock: config.Clock, Backdating: config.Backdating,
		HookTimeout: config.HookTimeout, RefusalsPerMinute: config.RefusalsPerMinute, Logger: config.Logger, Observer: config.Observer,
	}
	door, err := command.Open(doors)
	if err != nil {
		return nil, fmt.Errorf("rollforward: open: %w", err)
	}
	if config.SnapshotEvery == 0 {
		config.SnapshotEvery = 10_000
	}
	folds := folds{change.Projection(registry), release.Projection(registry), schedule.Projection(registry), cmdb.Projection(registry)}
	follower, err = follow.Start(store, follow.Config{SnapshotEvery: max(config.SnapshotEvery, 0), Logger: config.Logger},
		folds.cmdb, folds.changes, folds.releases, folds.schedule)
	if err != nil {
		return nil, fmt.Errorf("rollforward: open: %w", err)
	}
	e := &Engine{Door: door, store: store, registry: registry, config: config, follower: follower, folds: folds}
	e.close = sync.OnceValue(e.end)
	if err := e.begin(ctx, store, registry, config, doors); err != nil {
		return nil, errors.Join(fmt.Errorf("rollforward: open: %w", err), e.close())
	}
	return e, nil
}

func (e *Engine) begin(ctx context.Context, store eventstore.Store, registry *eventstore.Registry, config Config, doors command.Config) (err error) {
	if config.Directory == nil {
		config.Directory = directory(config.Authorizer)
	}
	if config.Expressions == nil {
		config.Expressions = risk.CEL()
	}
	if config.Evidence == nil {
		config.Evidence = risk.EvidenceCEL()
	}
	e.CMDB, err = cmdb.New(cmdb.Config{Door: e.Door, Store: store, Registry: registry, Follower: e.follower, Graph: e.folds.cmdb})
	if err != nil {
		return err
	}
	e.Schedule, err = schedule.New(schedule.Config{
		Door: e.Door, Store: store, Registry: registry, Follower: e.follower, CMDB: e.folds.cmdb, Schedule: e.folds.schedule, Rules: config.Schedule,
	})
	if err != nil {
		return err
	}
	e.Changes, err = change.New(change.Config{
		Door: e.Door, Store: store, Registry: registry, Follower: e.follower, CMDB: e.folds.cmdb, List: e.folds.changes,
		Risk: config.Risk, Directory: config.Directory, Expressions: config.Expressions, Priority: config.Priority, Calendar: e.Schedule,
	})
	if err != nil {
		return err
	}
	e.Releases, err = release.New(release.Config{
		Door: e.Door, Store: store, Registry: registry, Follower: e.follower, CMDB: e.folds.cmdb, List: e.folds.releases, Changes: e.Changes,
		Calendar: e.Schedule, Directory: config.Directory, Expressions: config.Evidence, Policies: config.Gates, Processes: config.Processes,
	})
	if err != nil {
		return err
	}
	// What the engine brings along goes through a door of its own: nobody's rights
	// are used for it.
	doors.Authorizer = command.AllowAll
	own, err := command.Open(doors)
	if err != nil {
		return err
	}
	done, err := own.Do(ctx, command.Call{Actor: command.As(system), Action: "engine.open", Reason: "brought along by the library"}, func(tx *command.Tx) error {
		if err := tx.Authorize("engine.open", "", nil); err != nil {
			return err
		}
		if err := cmdb.Ship(tx); err != nil {
			return err
		}
		return e.Changes.Ship(tx)
	})
	if err != nil {
		return err
	}
	if err := own.Close(ctx); err != nil {
		return err
	}
	return e.follower.WaitFor(ctx, done.Position)
}

// directory returns the roles of an authorizer that has them as a list.
func directory(a command.Authorizer) change.Directory {
	var roles command.Roles
	switch a := a.(type) {
	case command.Roles:
		roles = a
	case command.Policy:
		roles = a.Roles
	case *command.Policy:
		roles = a.Roles
	default:
		return nil
	}
	people := change.People{Roles: map[string][]string{}}
	for person, has := range roles {
		for _, role := range has {
			people.Roles[string(role)] = append(people.Roles[string(role)], person)
		}
	}
	return people
}

// WaitFor returns when queries show the event at position, such as the Position of
// a change that another process told of. What this engine recorded itself they
// show anyway.
func (e *Engine) WaitFor(ctx context.Context, position eventstore.Position) error {
	return e.follower.WaitFor(ctx, position)
}

// Verify folds the log anew and compares; see follow.Follower.Verify.
func (e *Engine) Verify(ctx context.Context) (follow.Verification, error) {
	return e.follower.Verify(ctx)
}

// closeTimeout is how long Close waits for commands under way.
const closeTimeout = 30 * time.Second

// Close drains the engine: handlers end first, while those at work may still read
// and give commands, then new commands are refused and those under way end, counted
// refusals are recorded, and the state of the folds is saved. It waits for handlers as
// long as Config.Grace, and as long again and 5 seconds more once their contexts are
// cancelled; for commands 30 seconds at most. A second Close returns what the first did.
//
// A handler that does not end by then is named in an error that is relay.ErrAtWork; so
// is one that calls Close and waits for itself: have it start another goroutine for
// that, or tell the program.
func (e *Engine) Close() error { return e.close() }

func (e *Engine) end() error {
	handlers := e.stopHandlers()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return errors.Join(handlers, e.Door.Close(ctx), e.follower.Close())
}
