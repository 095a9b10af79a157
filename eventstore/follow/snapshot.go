package follow

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

const snapshotPrefix = "fold-" // of the checkpoint's name, unless Config says otherwise

// Snapshot saves every [Snapshotter] now, at one cut and all or none, for which
// it waits as View does. Views go on meanwhile; the follower waits while the
// folds are turned into bytes, not while they are saved. The error is
// errors.ErrUnsupported if the store keeps no checkpoints.
func (f *Follower) Snapshot(ctx context.Context) error {
	if f.checkpoints == nil {
		return fmt.Errorf("save snapshots: the store keeps no checkpoints: %w", errors.ErrUnsupported)
	}
	select {
	case f.saving <- struct{}{}:
		defer f.offers.wake() // one may be due
		defer func() { <-f.saving }()
	case <-ctx.Done():
		return fmt.Errorf("save snapshots: %w", ctx.Err())
	}
	var taken snapshots
	if err := f.View(ctx, func(*View) error { taken = f.take(false); return nil }); err != nil {
		return fmt.Errorf("save snapshots: %w", err)
	}
	return f.save(ctx, taken)
}

// snapshots are what one save keeps.
type snapshots struct {
	checkpoints []eventstore.Checkpoint
	err         error // why folds are missing
}

// take turns the folds into checkpoints; changed leaves out those that are saved
// as they stand. Nobody may write to the folds meanwhile.
func (f *Follower) take(changed bool) snapshots {
	var taken snapshots
	now := f.Status()
	for i, fold := range f.folds {
		s, ok := fold.state.(Snapshotter)
		if !ok || !fold.loaded || fold.position == 0 || changed && now.Folds[i].Snapshot == fold.position {
			continue
		}
		c := eventstore.Checkpoint{Name: f.prefix + fold.name, Position: fold.position, Event: fold.event}
		err := protect(func() (err error) {
			var state []byte
			if state, err = s.Snapshot(); err == nil {
				c.Format = s.Format()
				c.State = seal(c, fold.skipped(), state)
				err = c.Validate()
			}
			return err
		})
		if err != nil {
			taken.err = errors.Join(taken.err, fmt.Errorf("fold %q: %w", fold.name, err))
			continue
		}
		taken.checkpoints = append(taken.checkpoints, c)
	}
	return taken
}

// save keeps snapshots and publishes how it went.
func (f *Follower) save(ctx context.Context, taken snapshots) error {
	err := taken.err
	if len(taken.checkpoints) > 0 {
		saved := f.checkpoints.SaveCheckpoints(ctx, taken.checkpoints...)
		if saved != nil {
			taken.checkpoints = nil
		}
		err = errors.Join(err, saved)
	}
	if err != nil {
		err = fmt.Errorf("save snapshots: %w", err)
		if ctx.Err() != nil {
			return err // given up by the caller, or by Close, which saves later ones
		}
		f.log.Warn("snapshots are not saved: a restart takes longer", "error", err)
	}
	f.publish(func(now *Status) {
		now.SnapshotError = err
		for _, c := range taken.checkpoints {
			for i := range now.Folds {
				if f.prefix+now.Folds[i].Name == c.Name {
					now.Folds[i].Snapshot = c.Position
				}
			}
		}
	})
	return err
}

// A save is followed by a rest of so many times as long, so that saving takes a
// twentieth of the time at most, however large the folds are and however fast the
// log grows.
const rest = 20

// due reports whether snapshots are to be saved.
func (r *run) due() bool { return r.every > 0 && r.since >= r.every && r.checkpoints != nil }

// saveBeside takes snapshots and saves them while the run goes on. While a save is
// under way it leaves it to the end of that, which nudges the run; while one is
// rested from it leaves it too, and returns for how long.
func (r *run) saveBeside(ctx context.Context) (rested time.Duration) {
	select {
	case r.saving <- struct{}{}:
	default:
		return 0
	}
	begin := time.Now()
	if rested = r.rested.Sub(begin); rested > 0 {
		<-r.saving
		return rested
	}
	r.since = 0
	taken := r.take(false)
	r.savers.Go(func() {
		defer r.offers.wake()
		defer func() { <-r.saving }()
		_ = r.save(ctx, taken) // published and logged
		end := time.Now()
		r.rested = end.Add(rest * end.Sub(begin))
	})
	return 0
}

// load makes the state of the folds that have none: from a snapshot, or from the
// beginning of the log. What it cannot use of a snapshot it does not use; it
// fails where reading fails, and with ErrRewound where snapshots show that the
// log lost events.
func (r *run) load(ctx context.Context) error {
	if !slices.ContainsFunc(r.folds, func(f *fold) bool { return !f.loaded }) {
		return nil
	}
	if err := r.learn(ctx); err != nil {
		return err
	}
	var rewound []string
	for _, fold := range r.folds {
		if fold.loaded {
			continue
		}
		if err := fold.empty(); err != nil {
			return err
		}
		if !fold.anew {
			lost, err := r.restore(ctx, fold)
			if err != nil {
				return err
			}
			if lost != "" {
				rewound = append(rewound, lost)
				continue
			}
		}
		fold.loaded, fold.anew = true, false
	}
	if rewound != nil {
		return fmt.Errorf("%w: the log does not have the event of %s: an older copy of it was restored; where what came after that copy is lost for good, delete these checkpoints with DeleteCheckpoint and start again",
			eventstore.ErrRewound, strings.Join(rewound, ", "))
	}
	return nil
}

// errBroken says that New panicked.
var errBroken = errors.New("fold cannot be made")

// empty sets fold to the state before the first event.
func (fold *fold) empty() error {
	if err := protect(func() error { fold.state = fold.create(); return nil }); err != nil {
		return fmt.Errorf("%w: New of fold %q: %w", errBroken, fold.name, err)
	}
	fold.position, fold.event = 0, uuid.Nil
	for _, d := range fold.parked {
		d.skipped, d.always = false, true
	}
	return nil
}

// restore sets an empty fold to its snapshot, if there is one that can be used.
// Where the log has lost the event of the snapshot, lost says which that is.
func (r *run) restore(ctx context.Context, fold *fold) (lost string, err error) {
	s, ok := fold.state.(Snapshotter)
	if !ok || r.checkpoints == nil {
		return "", nil
	}
	c, err := r.checkpoints.Checkpoint(ctx, r.prefix+fold.name)
	if err != nil {
		return "", fmt.Errorf("read snapshot of fold %q: %w", fold.name, err)
	}
	if c.Name == "" {
		return "", nil
	}
	skipped, state, unfit := unseal(c)
	if unfit == nil {
		if stands, err := r.stands(ctx, c); err != nil {
			return "", fmt.Errorf("read the event of checkpoint %q: %w", c.Name, err)
		} else if !stands {
			return fmt.Sprintf("checkpoint %q (%s, position %d)", c.Name, c.Event, c.Position), nil
		}
		unfit = fold.agrees(c, skipped)
	}
	if unfit == nil {
		unfit = protect(func() error {
			if format := s.Format(); format != c.Format {
				return fmt.Errorf("it has format %d, the fold has %d", c.Format, format)
			}
			return s.Restore(state)
		})
	}
	if unfit != nil {
		r.log.Warn("a snapshot is not used: the fold starts at the beginning of the log",
			"snapshot", c.Name, "position", c.Position, "reason", unfit)
		return "", fold.empty() // Restore may have left half of it
	}
	fold.position, fold.event = c.Position, c.Event
	for id, d := range fold.parked {
		d.skipped, d.always = slices.Contains(skipped, id), false
	}
	r.publish(func(now *Status) { now.Folds[slices.Index(r.folds, fold)].Snapshot = c.Position })
	return "", nil
}

// stands reports whether the log has the event at which c was taken.
func (r *run) stands(ctx context.Context, c eventstore.Checkpoint) (bool, error) {
	for record, err := range r.store.Read(ctx, eventstore.Query{After: c.Position - 1, Limit: 1}) {
		if errors.Is(err, eventstore.ErrRewound) {
			return false, nil
		}
		return err == nil && record.Position == c.Position && record.ID == c.Event, err
	}
	return false, nil
}

// agrees returns an error unless the decisions in the log up to c are those that
// the state in c was folded by. A decision recorded after c on an event before
// it is met, and judged, on the way to the head.
func (fold *fold) agrees(c eventstore.Checkpoint, skipped []uuid.UUID) error {
	for _, id := range skipped {
		if fold.parked[id] == nil {
			return fmt.Errorf("it leaves out event %s, which nobody parked", id)
		}
	}
	for id, d := range fold.parked {
		if d.at <= c.Position && !slices.Contains(skipped, id) {
			return fmt.Errorf("it does not leave out event %s, which was parked before it was taken", id)
		}
	}
	return nil
}

// skipped returns the parked events that the state was folded without, sorted.
func (fold *fold) skipped() []uuid.UUID {
	var ids []uuid.UUID
	for id, d := range fold.parked {
		if d.skipped {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// A checkpoint's State is a format byte, the SHA-256 of everything else, the
// number of events left out (uvarint), their IDs, and the fold's own bytes.
const sealFormat = 1

const sealHead = 1 + sha256.Size

func seal(c eventstore.Checkpoint, skipped []uuid.UUID, state []byte) []byte {
	b := make([]byte, sealHead, sealHead+binary.MaxVarintLen64+len(skipped)*16+len(state))
	b = binary.AppendUvarint(b, uint64(len(skipped)))
	for _, id := range skipped {
		b = append(b, id[:]...)
	}
	b = append(b, state...)
	b[0] = sealFormat
	digest := sealDigest(c, b[sealHead:])
	copy(b[1:], digest[:])
	return b
}

// sealDigest binds a body to where it was taken.
func sealDigest(c eventstore.Checkpoint, body []byte) (digest [sha256.Size]byte) {
	h := sha256.New()
	head := binary.BigEndian.AppendUint64([]byte{sealFormat}, uint64(c.Position))
	head = binary.BigEndian.AppendUint64(append(head, c.Event[:]...), uint64(c.Format))
	h.Write(append(head, c.Name...))
	h.Write([]byte{0}) // no name has a NUL
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil))
}

var errDamagedSnapshot = errors.New("it is damaged")

func unseal(c eventstore.Checkpoint) (skipped []uuid.UUID, state []byte, err error) {
	b := c.State
	if len(b) < sealHead {
		return nil, nil, errDamagedSnapshot
	}
	if b[0] != sealFormat {
		return nil, nil, fmt.Errorf("its envelope has format %d, this program reads %d", b[0], sealFormat)
	}
	digest, body := [sha256.Size]byte(b[1:sealHead]), b[sealHead:]
	if sealDigest(c, body) != digest || c.Position == 0 {
		return nil, nil, errDamagedSnapshot
	}
	n, size := binary.Uvarint(body)
	if size <= 0 || n > uint64(len(body)-size)/16 {
		return nil, nil, errDamagedSnapshot
	}
	body = body[size:]
	for range n {
		skipped = append(skipped, uuid.UUID(body[:16]))
		body = body[16:]
	}
	return skipped, body, nil
}

// protect returns a panic of a fold's code as an error.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked(v)
		}
	}()
	return f()
}
