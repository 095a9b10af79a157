package follow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

// Result is what Verify found out about a fold.
type Result string

// Unverifiable is not Same: nothing is known of such a fold.
const (
	Same         Result = "same"         // the log gives this state
	Differs      Result = "differs"      // the log gives another state
	Unverifiable Result = "unverifiable" // the fold is no Snapshotter, or its Snapshot failed
)

// Verification is what Verify found, at one cut.
type Verification struct {
	Position eventstore.Position
	Folds    []Verdict // in the order of Start
}

// Verdict is what Verify found out about one fold.
type Verdict struct {
	Fold   string
	Result Result
	Why    string // unless Same
	Live   Digest // of the state that views see
	Anew   Digest // of the state that the log gives
}

// Digest stands for a state; the zero Digest for none.
type Digest struct {
	SHA256 [sha256.Size]byte
	Size   int // bytes of the snapshot
}

func (d Digest) String() string { return fmt.Sprintf("%x (%d bytes)", d.SHA256[:8], d.Size) }

// DifferenceError says that folds differ from the log.
type DifferenceError struct {
	Verification Verification
}

func (e *DifferenceError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "state at position %d differs from the log:", e.Verification.Position)
	for _, v := range e.Verification.Folds {
		if v.Result == Differs {
			fmt.Fprintf(&b, " fold %q: %s;", v.Fold, v.Why)
		}
	}
	b.WriteString(" delete the snapshots and restart; if it comes again, Apply, Snapshot or Restore is not deterministic")
	return b.String()
}

// Verify compares every Snapshotter, as it stands at one cut, with what the log
// gives when it is folded anew from its beginning, decisions on parked events
// included, byte for byte. If any differs the error is a *DifferenceError; other
// errors say that it could not be found out. The follower goes on meanwhile. It
// costs one read of the log and the memory of one more of each fold.
func (f *Follower) Verify(ctx context.Context) (Verification, error) {
	var found Verification
	var checks []*check
	if err := f.View(ctx, func(v *View) error {
		found.Position = v.position
		for _, fold := range f.folds {
			checks = append(checks, newCheck(fold))
		}
		return nil
	}); err != nil {
		return found, fmt.Errorf("verify: %w", err)
	}
	if err := f.refold(ctx, found.Position, checks); err != nil {
		return found, fmt.Errorf("verify: %w", err)
	}
	differs := false
	for _, c := range checks {
		verdict := c.verdict()
		differs = differs || verdict.Result == Differs
		found.Folds = append(found.Folds, verdict)
	}
	if differs {
		return found, &DifferenceError{found}
	}
	return found, nil
}

// check is one fold under verification.
type check struct {
	fold    *fold
	without map[uuid.UUID]bool // the events it leaves out
	live    []byte
	unknown error // why it cannot be verified
	anew    Snapshotter
	failed  error // of anew
}

// newCheck takes the state of fold. It runs inside the gate.
func newCheck(fold *fold) *check {
	c := &check{fold: fold, without: map[uuid.UUID]bool{}}
	for _, id := range fold.skipped() {
		c.without[id] = true
	}
	s, ok := fold.state.(Snapshotter)
	if !ok {
		c.unknown = errors.New("it is no Snapshotter")
		return c
	}
	c.unknown = protect(func() (err error) { c.live, err = s.Snapshot(); return err })
	return c
}

// refold folds the log up to position into fresh folds.
func (f *Follower) refold(ctx context.Context, position eventstore.Position, checks []*check) error {
	for _, c := range checks {
		decided := map[uuid.UUID]bool{}
		q := eventstore.Query{Streams: []string{c.fold.stream}, Types: []string{parkedType}}
		for r, err := range f.store.Read(ctx, q) {
			if err != nil {
				return err
			}
			payload, err := f.registry.Decode(r.Event)
			if err != nil {
				return err
			}
			decided[payload.(Parked).Event] = true
		}
		for id := range c.without {
			c.without[id] = decided[id] // what the log does not leave out is applied
		}
		if c.unknown == nil {
			c.failed = protect(func() error { c.anew = c.fold.create().(Snapshotter); return nil })
		}
	}
	for r, err := range f.store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return err
		}
		if r.Position > position {
			break
		}
		for _, c := range checks {
			if c.unknown != nil || c.failed != nil || c.without[r.ID] {
				continue
			}
			if err := protect(func() error { return c.anew.Apply(r) }); err != nil {
				c.failed = fmt.Errorf("it cannot take event %s at position %d anew: %w", r.ID, r.Position, err)
			}
		}
	}
	return nil
}

func (c *check) verdict() Verdict {
	v := Verdict{Fold: c.fold.name}
	if c.unknown != nil {
		v.Result, v.Why = Unverifiable, c.unknown.Error()
		return v
	}
	v.Live = digest(c.live)
	var anew []byte
	if c.failed == nil {
		c.failed = protect(func() (err error) { anew, err = c.anew.Snapshot(); return err })
	}
	switch {
	case c.failed != nil:
		v.Result, v.Why = Differs, c.failed.Error()
	case bytes.Equal(c.live, anew):
		v.Result, v.Anew = Same, digest(anew)
	default:
		v.Result, v.Anew = Differs, digest(anew)
		v.Why = fmt.Sprintf("live %v, anew %v", v.Live, v.Anew)
	}
	return v
}

func digest(state []byte) Digest { return Digest{sha256.Sum256(state), len(state)} }
