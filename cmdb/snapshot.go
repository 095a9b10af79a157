package cmdb

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/rollforward/rollforward/eventstore"
)

// A snapshot holds what the graph was given, by position, and the SHA-256 of
// what it made of that. Restore folds the one again and compares with the other,
// so that a snapshot never brings back a state that the log does not give, and
// follow's Verify compares both.
//
// Numbers are varints, texts a length and bytes. Names come by number: 0 and the
// text for a new one, then counted from 1 in the order of their first use.

// Format is the version of the form of Snapshot.
func (g *Graph) Format() int { return 1 }

// Snapshot returns the state, always the same bytes for the same state.
func (g *Graph) Snapshot() ([]byte, error) {
	w := writer{names: map[string]uint64{}}
	w.number(uint64(g.position))
	w.number(g.version)
	w.number(uint64(len(g.schema.classes)))
	for _, name := range sortedKeys(g.schema.classes) {
		w.number(uint64(g.schema.classes[name].at))
		w.json(g.schema.classes[name].def)
	}
	w.number(uint64(len(g.schema.relations)))
	for _, name := range sortedKeys(g.schema.relations) {
		w.number(uint64(g.schema.relations[name].at))
		w.json(g.schema.relations[name].def)
	}
	w.number(uint64(len(g.sources)))
	for _, name := range sortedKeys(g.sources) {
		s := g.sources[name]
		w.text(name)
		w.number(s.version)
		w.number(uint64(len(s.keys)))
		for _, key := range sortedKeys(s.keys) {
			w.text(key)
			w.number(uint64(s.keys[key].at))
			w.text(s.keys[key].ci)
		}
	}
	w.number(uint64(len(g.events)))
	before := eventstore.Position(0)
	for _, e := range g.events {
		w.number(uint64(e.position - before))
		before = e.position
		w.event(e)
	}
	digest := g.digest()
	return append(w.b, digest[:]...), w.err
}

type writer struct {
	b     []byte
	names map[string]uint64
	err   error
}

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) signed(n int64)  { w.b = binary.AppendVarint(w.b, n) }

func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) name(s string) {
	n := w.names[s]
	w.number(n)
	if n == 0 {
		w.names[s] = uint64(len(w.names) + 1)
		w.text(s)
	}
}

func (w *writer) json(v any) {
	b, err := json.Marshal(v, json.Deterministic(true))
	w.err = errors.Join(w.err, err)
	w.text(string(b))
}

func (w *writer) event(e *event) {
	w.number(e.version)
	w.signed(e.recorded)
	w.signed(e.occurred)
	w.name(e.actor)
	w.name(e.onBehalfOf)
	w.text(e.reason)
	w.name(e.cause)
	w.number(uint64(len(e.facts)))
	for i := range e.facts {
		f := &e.facts[i]
		w.b = append(w.b, byte(f.op))
		w.text(f.node.id)
		switch f.op {
		case opOther:
			w.text(f.name)
		case opAdd:
			w.name(f.name)
			w.number(uint64(len(f.attributes)))
			for _, a := range f.attributes {
				w.name(a.Name)
				w.text(a.Value)
			}
		case opSet:
			w.name(f.name)
			w.text(f.before)
			w.text(f.after)
		case opRelate, opUnrelate:
			w.name(f.name)
			w.text(f.to.id)
		}
	}
}

// digest returns the SHA-256 of what was made of the events: every CI at the
// first fact of its own, every relation at its first, every fact that does not
// fit, in the order of the log.
func (g *Graph) digest() [sha256.Size]byte {
	h := sha256.New()
	w := writer{}
	for _, e := range g.events {
		for i := range e.facts {
			f := &e.facts[i]
			if m := f.misfit; m != nil {
				w.text(m.rule)
				w.text(m.node.id)
				w.text(m.found)
			}
			if n := f.node; len(n.own) > 0 && n.own[0] == f {
				w.number(n.version)
				w.number(uint64(len(n.lives)))
				w.bool(n.alive())
				w.text(n.class)
				for _, a := range n.attributes {
					w.text(a.Name)
					w.text(a.Value)
				}
			}
			if f.to != nil {
				if t := g.ties[tieKey{f.node, f.to, f.name}]; t != nil && t.facts[0] == f {
					w.bool(t.live)
				}
			}
		}
		if len(w.b) >= 64<<10 {
			h.Write(w.b)
			w.b = w.b[:0]
		}
	}
	h.Write(w.b)
	return [sha256.Size]byte(h.Sum(nil))
}

func (w *writer) bool(b bool) {
	if b {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// errSnapshot says that a snapshot is none of this graph's.
var errSnapshot = errors.New("cmdb: the snapshot is damaged")

// Restore puts an empty graph into the state of a snapshot.
func (g *Graph) Restore(snapshot []byte) error {
	if len(snapshot) < sha256.Size {
		return errSnapshot
	}
	body, digest := snapshot[:len(snapshot)-sha256.Size], snapshot[len(snapshot)-sha256.Size:]
	r := reader{rest: string(body)} // once: every text is a part of it
	g.position, g.version = eventstore.Position(r.number()), r.number()
	for range r.count() {
		at := eventstore.Position(r.number())
		var c Class
		if err := r.json(&c); err != nil {
			return err
		}
		g.schema.defineClass(at, c)
	}
	for range r.count() {
		at := eventstore.Position(r.number())
		var t RelationType
		if err := r.json(&t); err != nil {
			return err
		}
		g.schema.defineRelation(at, t)
	}
	g.schema.derive()
	for range r.count() {
		name := r.text()
		s := &source{version: r.number(), keys: map[string]mapped{}}
		for range r.count() {
			key := r.text()
			s.keys[key] = mapped{eventstore.Position(r.number()), r.text()}
		}
		g.sources[name] = s
	}
	n := r.count()
	g.events = make([]*event, 0, n)
	position := eventstore.Position(0)
	for range n {
		step := eventstore.Position(r.number())
		if r.failed || step == 0 || position+step < position {
			return errSnapshot
		}
		position += step
		e := &event{position: position}
		if !g.read(&r, e) {
			return errSnapshot
		}
		g.events = append(g.events, e)
		g.fold(e)
	}
	if r.failed || r.rest != "" {
		return errSnapshot
	}
	if derived := g.digest(); !bytes.Equal(derived[:], digest) {
		return fmt.Errorf("%w: its events give another state than the one it was taken of", errSnapshot)
	}
	return nil
}

// reader reads what writer wrote. After a failure it yields zeros.
type reader struct {
	rest   string
	names  []string
	failed bool
}

func (r *reader) fail() {
	r.failed, r.rest = true, ""
}

func (r *reader) number() uint64 {
	var n uint64
	for i := 0; i < len(r.rest) && i < binary.MaxVarintLen64; i++ {
		b := r.rest[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return n
		}
	}
	r.fail()
	return 0
}

func (r *reader) signed() int64 {
	n := r.number()
	return int64(n>>1) ^ -int64(n&1)
}

// count reads how many things follow, each of which takes a byte at least.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) text() string {
	n := r.count()
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) name() string {
	n := r.number()
	if n == 0 {
		s := r.text()
		r.names = append(r.names, s)
		return s
	}
	if n > uint64(len(r.names)) {
		r.fail()
		return ""
	}
	return r.names[n-1]
}

func (r *reader) json(into any) error {
	text := r.text()
	if r.failed {
		return errSnapshot
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("%w: %w", errSnapshot, err)
	}
	return nil
}

// read reads an event; false says that it cannot be read.
func (g *Graph) read(r *reader, e *event) bool {
	e.version, e.recorded, e.occurred = r.number(), r.signed(), r.signed()
	e.actor, e.onBehalfOf, e.reason, e.cause = g.word(r.name()), g.word(r.name()), r.text(), g.word(r.name())
	n := r.count()
	if n == 0 {
		return false
	}
	e.facts = make([]fact, n)
	for i := range e.facts {
		if r.rest == "" {
			return false
		}
		f := &e.facts[i]
		f.op, r.rest = op(r.rest[0]), r.rest[1:]
		f.node = g.node(r.text())
		switch f.op {
		case opOther:
			f.name = r.text()
		case opAdd:
			f.name = g.word(r.name())
			if n := r.count(); n > 0 {
				f.attributes = make([]Attribute, n)
				for i := range f.attributes {
					f.attributes[i] = Attribute{g.word(r.name()), r.text()}
				}
				if !slices.IsSortedFunc(f.attributes, func(a, b Attribute) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) }) {
					return false
				}
			}
		case opSet:
			f.name, f.before, f.after = g.word(r.name()), r.text(), r.text()
		case opRetire:
		case opRelate, opUnrelate:
			f.name = g.word(r.name())
			f.to = g.node(r.text())
		default:
			return false
		}
	}
	return !r.failed
}
