package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// hold is what a holder has: its token, and where it goes on. Of a consumer without
// a name it is only the latter.
type hold struct {
	token    uint64
	position eventstore.Position            // up to here all is done but what is behind
	event    uuid.UUID                      // at that position; Nil where it is not known
	behind   map[string]eventstore.Position // streams that are behind, each with how far it is done
	beat     uint64                         // counts saves, so that they differ
	proved   time.Time                      // when the token was last seen to be in force, or taken
}

// state is what a checkpoint carries beside a position.
type state struct {
	Token    uint64                         `json:"token"`
	Beat     uint64                         `json:"beat"`
	Released bool                           `json:"released,omitzero"` // the holder has let go
	Holder   string                         `json:"holder,omitzero"`
	Behind   map[string]eventstore.Position `json:"behind,omitzero"`
}

const stateFormat = 1

// checkpointName is that of a consumer's checkpoint, the same as of its decisions.
func checkpointName(consumer string) string { return decisionStream(consumer) }

// readState returns the checkpoint of a consumer; an empty one where there is none,
// or one that cannot be read, which is as good as none.
func readState(ctx context.Context, keep eventstore.Checkpoints, consumer string) (eventstore.Checkpoint, state, error) {
	var s state
	c, err := keep.Checkpoint(ctx, checkpointName(consumer))
	switch {
	case err != nil:
		return c, s, fmt.Errorf("read the checkpoint of consumer %q: %w", consumer, err)
	case c.Format > stateFormat:
		return c, s, fmt.Errorf("read the checkpoint of consumer %q: it is of format %d, and this program knows %d: %w", consumer, c.Format, stateFormat, eventstore.ErrNewerFormat)
	case c.Format < stateFormat || json.Unmarshal(c.State, &s) != nil:
		return eventstore.Checkpoint{}, state{}, nil
	}
	return c, s, nil
}

// acquire returns when this subscription holds the lease. Once it takes it, it is not
// closed before it has: a lease that nobody knows of would have to lapse.
func (c *consumer) acquire(ctx context.Context) (*hold, error) {
	if c.id == "" {
		h := &hold{position: c.config.After, behind: map[string]eventstore.Position{}}
		if c.left != nil {
			h = c.left
		}
		c.left = h // goes on from where it is after what makes it begin anew
		return h, c.unlessRewound(ctx, h)
	}
	poll := min(max(c.config.Lease/10, 10*time.Millisecond), time.Second)
	var seen []byte // what the holder last showed
	var since time.Time
	for {
		looked := time.Now() // a look may take long, and the holder go on meanwhile
		version, err := c.config.Store.Version(ctx, leaseStream(c.id))
		if err != nil {
			return nil, fmt.Errorf("look at the lease of consumer %q: %w", c.id, err)
		}
		checkpoint, s, err := readState(ctx, c.keep, c.id)
		if err != nil {
			return nil, err
		}
		shows := fmt.Appendf(nil, "%d %d %d %s", version, s.Token, s.Beat, checkpoint.Event)
		if s.Token != version {
			shows = fmt.Appendf(nil, "%d", version) // the last word of an earlier holder says nothing of this one
		}
		switch {
		case version == 0 || version == c.mine || s.Token == version && s.Released:
			since = time.Time{} // nobody's, our own of before something failed, or let go
		case !bytes.Equal(shows, seen):
			seen, since = shows, time.Now()
		}
		if looked.Sub(since) >= c.config.Lease {
			h, err := c.take(ctx, version)
			if !errors.Is(err, eventstore.ErrConflict) {
				return h, err
			}
			continue
		}
		c.publish(func(now *Status) { now.Standby = true })
		if err := c.rest(ctx, poll); err != nil {
			return nil, err
		}
	}
}

// take takes the lease from whoever has it at a version.
func (c *consumer) take(ctx context.Context, version uint64) (*hold, error) {
	taken := Taken{Consumer: c.id, Holder: c.config.Holder}
	if version == 0 && c.from > 0 {
		event, err := c.eventAt(ctx, c.from)
		if err != nil {
			return nil, fmt.Errorf("look where consumer %q begins: %w", c.id, err)
		}
		taken.After, taken.Event = c.from, event
	}
	began := time.Now()
	records, err := eventstore.Update(ctx, c.config.Store, c.registry, func(tx *eventstore.Tx) error {
		tx.Meta = eventstore.Metadata{Actor: "consumer:" + c.id, Source: c.config.Holder}
		if err := tx.Expect(leaseStream(c.id), version); err != nil {
			return err
		}
		return tx.Record(leaseStream(c.id), taken)
	})
	if err != nil {
		return nil, fmt.Errorf("take the lease of consumer %q: %w", c.id, err)
	}
	c.mine = records[0].Version
	h := &hold{token: c.mine, behind: map[string]eventstore.Position{}, proved: began}
	checkpoint, s, err := readState(ctx, c.keep, c.id)
	if err != nil {
		return nil, err
	}
	h.position, h.event, h.beat = checkpoint.Position, checkpoint.Event, s.Beat
	for stream, position := range s.Behind {
		h.behind[stream] = position
	}
	if h.position == 0 {
		if h.position, err = c.start(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.unlessRewound(ctx, h); err != nil {
		return nil, err
	}
	c.config.Logger.Info("consumer took its lease", "consumer", c.id, "token", h.token, "after", uint64(h.position))
	return h, c.save(ctx, h, false)
}

// start returns what the consumer passed over when it was first started.
func (c *consumer) start(ctx context.Context) (eventstore.Position, error) {
	for r, err := range c.config.Store.Read(ctx, eventstore.Query{Streams: []string{leaseStream(c.id)}, Limit: 1}) {
		if err != nil {
			return 0, fmt.Errorf("read the lease of consumer %q: %w", c.id, err)
		}
		payload, err := c.registry.Decode(r.Event)
		if err != nil {
			return 0, err
		}
		if taken, ok := payload.(Taken); ok && taken.After > 0 {
			return c.begins(ctx, taken, r.Position)
		}
	}
	return 0, nil
}

// begins returns where a consumer begins that took its lease for the first time at a
// position. In a log that was imported positions are not what they were: it begins
// behind the same event, or behind the lease where that event did not come along.
func (c *consumer) begins(ctx context.Context, taken Taken, at eventstore.Position) (eventstore.Position, error) {
	if taken.After < at {
		if id, err := c.eventAt(ctx, taken.After); err != nil || id == taken.Event {
			return taken.After, err
		}
	}
	for r, err := range c.config.Store.Read(ctx, eventstore.Query{PayloadsOnly: true, Lend: true}) {
		switch {
		case err != nil:
			return 0, fmt.Errorf("look where consumer %q begins: %w", c.id, err)
		case r.ID == taken.Event:
			return r.Position, nil
		case r.Position >= at:
			return at, nil
		}
	}
	return at, nil
}

// unlessRewound fails where the log no longer has the event that the consumer was
// at: an older copy was restored.
func (c *consumer) unlessRewound(ctx context.Context, h *hold) error {
	if h.position == 0 || h.event == uuid.Nil {
		return nil
	}
	id, err := c.eventAt(ctx, h.position)
	if err == nil && id != h.event {
		err = eventstore.ErrRewound
	}
	if errors.Is(err, eventstore.ErrRewound) {
		err = fmt.Errorf("event %s at position %d, up to which consumer %q had come, is no longer there: restore the log, or delete checkpoint %q to begin anew: %w",
			h.event, h.position, c.id, checkpointName(c.id), err)
	}
	return err
}

// eventAt returns the ID of the event at a position, Nil if there is none.
func (c *consumer) eventAt(ctx context.Context, position eventstore.Position) (id uuid.UUID, err error) {
	for r, err := range c.config.Store.Read(ctx, eventstore.Query{After: position - 1, Limit: 1, PayloadsOnly: true}) {
		if err != nil {
			return id, err
		}
		if r.Position == position {
			id = r.ID
		}
	}
	return id, nil
}

// prove fails with ErrLeaseLost where the token is no longer in force.
func (c *consumer) prove(ctx context.Context, h *hold) error {
	if c.id == "" {
		return nil
	}
	began := time.Now()
	version, err := c.config.Store.Version(ctx, leaseStream(c.id))
	switch {
	case err != nil:
		return fmt.Errorf("look at the lease of consumer %q: %w", c.id, err)
	case version != h.token:
		return fmt.Errorf("consumer %q: %w: token %d, now %d", c.id, ErrLeaseLost, h.token, version)
	}
	h.proved = began
	return nil
}

// save keeps how far the consumer has come, which also says that its holder is
// alive. A holder that lost the lease between the look at it and the save puts back
// what its successor has saved: events then come twice, and none is lost.
func (c *consumer) save(ctx context.Context, h *hold, release bool) error {
	if c.id == "" {
		return nil
	}
	if err := c.prove(ctx, h); err != nil {
		return err
	}
	if h.event == uuid.Nil && h.position > 0 {
		id, err := c.eventAt(ctx, h.position)
		if err != nil {
			return fmt.Errorf("save the checkpoint of consumer %q: %w", c.id, err)
		}
		h.event = id
	} else if err := c.unlessRewound(ctx, h); err != nil {
		return err
	}
	h.beat++
	bytes, err := json.Marshal(state{Token: h.token, Beat: h.beat, Released: release, Holder: c.config.Holder, Behind: h.behind}, json.Deterministic(true))
	if err == nil {
		err = c.keep.SaveCheckpoints(ctx, eventstore.Checkpoint{
			Name: checkpointName(c.id), Position: h.position, Event: h.event, Format: stateFormat, State: bytes,
		})
	}
	if err != nil {
		return fmt.Errorf("save the checkpoint of consumer %q: %w", c.id, err)
	}
	return nil
}
