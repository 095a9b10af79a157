package release

import (
	"context"
	"fmt"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// DefineEnvironments puts a graph of environments in place of the one that was
// there, and returns its version. Every command on a release is judged by the one in
// force then; a deployment records which that was.
func (s *Service) DefineEnvironments(ctx context.Context, actor command.Actor, e Environments, reason string) (uint64, error) {
	call := command.Call{Actor: actor, Action: "environment.define", Target: graphStream, Reason: reason}
	var version uint64
	_, err := s.door.Do(ctx, call, func(tx *command.Tx) error {
		if err := tx.Authorize(call.Action, graphStream, nil); err != nil {
			return err
		}
		at, err := tx.Check(graphStream)
		if err != nil {
			return err
		}
		refused := e.Check()
		if len(refused) == 0 {
			_, refused = e.Compile(s.expressions)
		}
		if err := command.Refuse(refused...); err != nil {
			return err
		}
		version = at + 1
		return tx.Record(graphStream, EnvironmentsDefined{Environments: e, By: actor.ID, Reason: reason, At: tx.Now})
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// Environments returns the graph of environments in force and its version, 0 where
// none was defined. It costs one read of its stream.
func (s *Service) Environments(ctx context.Context) (Environments, uint64, error) {
	var g graphs
	err := s.fold(ctx, graphStream, func(payload any) { g = graphFolder.Evolve(g, payload) })
	return g.environments, g.version, err
}

// Installed returns what is in force of a component's CI in an environment, what was
// before it, and what is under way. It costs one read of its stream.
func (s *Service) Installed(ctx context.Context, environment, ci string) (InForce, error) {
	var f InForce
	err := s.fold(ctx, installedStream(environment, ci), func(payload any) { f = inForceFolder.Evolve(f, payload) })
	f.Environment, f.CI = environment, ci
	return f, err
}

// fold reads a stream whole.
func (s *Service) fold(ctx context.Context, name string, apply func(payload any)) error {
	for e, err := range s.store.Read(ctx, eventstore.Query{Streams: []string{name}}) {
		if err != nil {
			return fmt.Errorf("read %q: %w", name, err)
		}
		payload, err := s.registry.Decode(e.Event)
		if err != nil {
			return fmt.Errorf("read %q: %w", name, err)
		}
		apply(payload)
	}
	return nil
}
