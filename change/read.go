package change

import (
	"context"
	"fmt"

	"github.com/rollforward/rollforward/eventstore"
)

// Get returns a change as it stands. The error is ErrUnknown if there is none. It
// costs one read of the change's stream.
func (s *Service) Get(ctx context.Context, id string) (Change, error) { return s.At(ctx, id, 0) }

// At returns a change as it stood at a version; 0 is the last one.
func (s *Service) At(ctx context.Context, id string, version uint64) (Change, error) {
	var c Change
	err := s.events(ctx, id, func(r eventstore.Recorded, payload any) bool {
		c.apply(payload)
		c.Position = r.Position
		return version == 0 || r.Version < version
	})
	switch {
	case err != nil:
		return Change{}, err
	case c.Version < version:
		return Change{}, fmt.Errorf("change %q has %d versions, not %d: %w", id, c.Version, version, ErrUnknown)
	}
	return c.handed(), nil
}

// events reads a change's stream until yield returns false.
func (s *Service) events(ctx context.Context, id string, yield func(eventstore.Recorded, any) bool) error {
	if id == "" {
		return fmt.Errorf("change %q: %w: give its ID", id, ErrUnknown)
	}
	some := false
	err := s.read(ctx, stream(id), func(r eventstore.Recorded, payload any) bool {
		some = true
		return yield(r, payload)
	})
	switch {
	case err != nil:
		return fmt.Errorf("read change %q: %w", id, err)
	case !some:
		return fmt.Errorf("change %.100q: %w: check its ID", id, ErrUnknown)
	}
	return nil
}

// read reads a stream, decoded, until yield returns false.
func (s *Service) read(ctx context.Context, stream string, yield func(eventstore.Recorded, any) bool) error {
	for r, err := range s.store.Read(ctx, eventstore.Query{Streams: []string{stream}}) {
		if err != nil {
			return err
		}
		payload, err := s.registry.Decode(r.Event)
		if err != nil {
			return err
		}
		if !yield(r, payload) {
			break
		}
	}
	return nil
}
