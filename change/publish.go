package change

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// PolicyRecorded is recorded in "policy-ID" when an engine first works by a
// version of a risk policy: the text by which its receipts can be judged again.
type PolicyRecorded struct {
	Policy Policy `json:"policy"`
}

func policyStream(id string) string { return "policy-" + id }

// Ship records what the engine brings along and the log does not have: the shipped
// models, and the text of the risk policy. The caller has authorised it.
func (s *Service) Ship(tx *command.Tx) error {
	for _, m := range Models() {
		version, err := tx.Check(modelStream(m.Name))
		if err != nil {
			return err
		}
		if version == 0 {
			if err := tx.Record(modelStream(m.Name), Published{Model: m, By: tx.Call.Actor.ID}); err != nil {
				return err
			}
		}
	}
	if s.risk == nil {
		return nil
	}
	policy := s.risk.Policy()
	known := false
	_, err := eventstore.Decider[struct{}, any]{Evolve: func(state struct{}, payload any) struct{} {
		e, ok := payload.(PolicyRecorded)
		known = known || ok && e.Policy == policy
		return state
	}}.Load(tx.Tx, policyStream(policy.ID))
	if err != nil || known {
		return err
	}
	return tx.Record(policyStream(policy.ID), PolicyRecorded{policy})
}

// PolicyText returns the text of a version of a risk policy, by which its receipts
// can be judged again; empty if it had none, or none is recorded.
func (s *Service) PolicyText(ctx context.Context, id, version string) (string, error) {
	text := ""
	err := s.read(ctx, policyStream(id), func(_ eventstore.Recorded, payload any) bool {
		if e, ok := payload.(PolicyRecorded); ok && e.Policy.Version == version {
			text = e.Policy.Text
		}
		return true
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// Publish records a new version of a model, under which changes are raised from
// then on, and returns the version. Changes keep the version they were raised
// under. A model that is not sound is refused, every fault by the name of its rule.
func (s *Service) Publish(ctx context.Context, actor command.Actor, m Model) (uint64, error) {
	var version uint64
	_, err := s.door.Do(ctx, command.Call{Actor: actor, Action: "model.publish", Target: m.Name, Content: m}, func(tx *command.Tx) error {
		if err := tx.Authorize("model.publish", m.Name, nil); err != nil {
			return err
		}
		if err := s.sound(tx.Context(), m); err != nil {
			return err
		}
		before, err := tx.Check(modelStream(m.Name))
		if err != nil {
			return err
		}
		version = before + 1
		return tx.Record(modelStream(m.Name), Published{Model: m, By: tx.Call.Actor.ID})
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// sound returns what is wrong with a model as refusals. It is found out as a hook,
// since Expressions compile what the model has of them.
func (s *Service) sound(ctx context.Context, m Model) error {
	faults, err := command.Hook(ctx, s.door, "expressions", func(context.Context) ([]workflow.Fault, error) {
		err := checkModel(m, s.expressions)
		var broken *ModelError
		if errors.As(err, &broken) {
			return broken.Faults, nil
		}
		return nil, err
	})
	if err != nil {
		return err
	}
	var refused []command.Refusal
	for _, f := range faults {
		refused = append(refused, command.Refusal{Kind: command.Malformed, Rule: f.Rule, Field: f.Where, Reason: f.Reason, Remedy: "correct the model"})
	}
	return command.Refuse(refused...)
}

// Model returns a published model and its version; 0 asks for the last one. The
// error is ErrUnknownModel if there is none.
func (s *Service) Model(ctx context.Context, name string, version uint64) (Model, uint64, error) {
	if version == 0 {
		var err error
		if version, err = s.store.Version(ctx, modelStream(name)); err != nil {
			return Model{}, 0, fmt.Errorf("model %q: %w", name, err)
		}
	}
	m, err := s.modelAt(ctx, name, version)
	if err != nil {
		return Model{}, 0, err
	}
	return m.Model, m.version, nil
}

// ErrUnknownModel says that there is no model of that name and version.
var ErrUnknownModel = errors.New("no such model")

// modelAt returns a published version. Versions never change, so they are kept.
func (s *Service) modelAt(ctx context.Context, name string, version uint64) (*model, error) {
	s.mu.Lock()
	all := s.models[name]
	s.mu.Unlock()
	if uint64(len(all)) < version {
		all = nil
		err := s.read(ctx, modelStream(name), func(_ eventstore.Recorded, payload any) bool {
			all = modelFolder.Evolve(all, payload)
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", name, err)
		}
		s.mu.Lock()
		if len(all) > len(s.models[name]) {
			s.models[name] = all
		}
		s.mu.Unlock()
	}
	if version == 0 || uint64(len(all)) < version {
		return nil, fmt.Errorf("model %q version %d: %w: publish it", name, version, ErrUnknownModel)
	}
	return all[version-1], nil
}
