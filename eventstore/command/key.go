package command

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/rollforward/rollforward/eventstore"
)

// MaxKey is the limit of an idempotency key, in bytes.
const MaxKey = 128

const keyPrefix = "key-"

// key is where the answer to a call with an idempotency key is kept, and what
// the call asks for.
type key struct {
	stream string // "key-" and 128 bits of SHA-256 over actor and key, in hex: keys of two actors never meet
	digest string // SHA-256 over action, target, principal and content, in hex
}

// key returns the key of a call that has one. It fails where the content is not JSON.
func (c Call) key() (key, error) {
	content, err := json.Marshal(c.Content, json.Deterministic(true))
	if err != nil {
		return key{}, Refuse(Refusal{
			Kind: Malformed, Rule: "content-not-json", Field: "content",
			Reason: fmt.Sprintf("the content of a command with a key cannot be written as JSON: %v", err),
			Remedy: "give what is asked for as values that JSON has",
		})
	}
	name := digest([]byte(c.Actor.ID), []byte(c.Key))
	what := digest([]byte(c.Action), []byte(c.Target), []byte(c.Actor.Principal()), content)
	return key{stream: keyPrefix + hex.EncodeToString(name[:16]), digest: hex.EncodeToString(what[:])}, nil
}

// digest is over the parts with their lengths, so that no two lists of parts meet.
func digest(parts ...[]byte) [sha256.Size]byte {
	n := 0
	for _, p := range parts {
		n += 8 + len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// lookUp pins the key's stream, so that of two commands with one key the second
// meets a conflict and comes here again. It reports whether the key is known and
// has been answered.
func (w *work) lookUp() (known bool, err error) {
	version, err := w.tx.Check(w.key.stream)
	if err != nil {
		return false, fmt.Errorf("look up the command's key: %w", err)
	}
	if version == 0 {
		return false, nil
	}
	for r, err := range w.Store.Read(w.tx.Context(), eventstore.Query{Streams: []string{w.key.stream}}) {
		if err != nil {
			return false, fmt.Errorf("look up the command's key: %w", err)
		}
		payload, err := w.door.config.Registry.Decode(r.Event)
		if err != nil {
			return false, fmt.Errorf("look up the command's key: %w", err)
		}
		first, ok := payload.(CommandDone)
		if !ok {
			continue
		}
		if first.Digest != w.key.digest {
			return false, Refuse(Refusal{
				Kind: Refused, Rule: "key-reused", Field: "key",
				Reason: fmt.Sprintf("the key %q was used for %s, with another target, person or content than this", w.call.Key, describe(first.Action, first.Target)),
				Remedy: "use a new key for a new command, and repeat the old one unchanged",
			})
		}
		w.done = Done{Repeated: true, Position: r.Position}
		for _, s := range first.Streams {
			w.done.Streams = append(w.done.Streams, eventstore.At(s.Stream, s.Version))
		}
		return true, nil
	}
	return false, nil
}

var errOvertaken = errors.New("the command's key was used meanwhile")

// unlessOvertaken returns err, which ends the unit of work, unless the key was
// used since it was looked up: err may then be about what the command itself has
// done elsewhere, and its answer is the first one's.
func (w *work) unlessOvertaken(err error) error {
	if w.key.stream == "" {
		return err
	}
	pinned, pinErr := w.tx.Check(w.key.stream)
	version, readErr := w.Store.Version(w.tx.Context(), w.key.stream)
	if pinErr != nil || readErr != nil || version == pinned {
		return err
	}
	return errOvertaken
}

// answer is what a later command with the same key is given.
func (w *work) answer() CommandDone {
	done := CommandDone{Key: w.call.Key, Action: w.call.Action, Target: w.call.Target, Digest: w.key.digest}
	for _, x := range w.done.Streams {
		done.Streams = append(done.Streams, stood{x.Stream, x.Version})
	}
	return done
}

func describe(action, target string) string {
	if target == "" {
		return action
	}
	return action + " " + target
}
