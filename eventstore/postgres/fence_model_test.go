package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/race"
)

// This is a model of the fence, small enough that every order in which its steps can
// happen is looked at. Of PostgreSQL it knows what the fence rests on: a sequence that
// no transaction takes back, advisory locks that end with their transaction or with
// their savepoint, what a snapshot shows, and in which order a commit is done. That the
// server is like this is shown in fence_replay_test.go, which runs the same steps there.
//
// A step is one look at, or one change of, what others see too. So a function of the
// schema is several steps: a statement is not atomic.

// action is what a step does.
type simAction uint8

const (
	// Of a transaction.
	doLock    simAction = iota // waits for a stream and locks it
	doLook                     // where the streams stand
	doNumber                   // reads last_value of the sequence
	doFence                    // locks the number read, shared
	doDraw                     // a number of the sequence
	doSave                     // sets a savepoint
	doBack                     // rolls back to it
	doFinish                   // ends, by a commit or by a rollback
	doDurable                  // the first part of a commit: it is on the disk
	doVisible                  // the second: snapshots taken from now on show it
	doRelease                  // the third: others get its locks
	doAbort                    // rolls back

	// Of a reader.
	doSnapshot // of all that follows in the call; else a page has its own
	doLast     // reads last_value of the sequence
	doLowest   // looks for the smallest fence
	doPage     // the next row

	// Of the server.
	doCrash
)

// Bounds of the model.
const (
	simTransactions = 3
	simRows         = 2 // of a transaction that commits
	simStreams      = 3
	simPerDraw      = 2 // positions of a number
	simCalls        = 2 // calls of a reader, where schedules are counted
)

// invariant is what must hold. The empty one is broken by nobody.
type simRule string

const (
	ruleMissed   simRule = "once a position is read, no commit brings an event at or below it"
	ruleTwice    simRule = "no event is read twice"
	ruleCut      simRule = "a read that has ended has all events of an append or none"
	ruleVersions simRule = "the versions of a stream are contiguous from 1"
	ruleRising   simRule = "positions rise with versions, and no two events have one"
	ruleLost     simRule = "an event that was read stays"
	ruleComplete simRule = "a read of a stream has all that was acknowledged before it, in order"
	ruleArrives  simRule = "when all transactions have ended, one more read comes to the end"
	ruleGoesOn   simRule = "somebody can always go on"
	ruleNone     simRule = ""
)

// protocol is how transactions append and how readers read: the store's, or one that is
// known to be wrong.
type simProtocol struct {
	name   string
	append []simAction // of an append; lock stands for one of each stream, draw for one of each number
	commit []simAction
	looks  []simAction // of a call of the reader; page is repeated to the end

	fenceOnce  bool // a transaction that has once had a fence takes no other
	perEvent   bool // a number for each event instead of one for each append
	cache      bool // a session takes two numbers out of the sequence at once
	repeatable bool // a transaction that appends has one snapshot
	statement  bool // looks and page are one statement
	inclusive  bool // a page begins at what was read last
	session    bool // fences are the session's, and stay when the transaction has ended
	boundIsAt  bool // the reader goes on behind where it was allowed to read, not behind what it has read
	crashes    bool // the server may crash once
}

// ours is the protocol of the store.
var fenceOfOurs = simProtocol{
	name:   "ours",
	append: []simAction{doLock, doLook, doNumber, doFence, doDraw},
	commit: []simAction{doDurable, doVisible, doRelease},
	looks:  []simAction{doLast, doLowest, doPage},
}

// altered returns ours with a change.
func alteredFence(name string, change func(p *simProtocol)) simProtocol {
	p := fenceOfOurs
	p.name = name
	change(&p)
	return p
}

// errand is a transaction of the model: its appends, by their streams.
type simErrand struct {
	name    string
	appends [][]uint8
	save    int  // which append is the first that is made within a savepoint, which is then rolled back; -1: none
	back    int  // which is the first behind that
	commits bool // it may commit
	aborts  bool // it may roll back instead of committing
	anytime bool // it may roll back anywhere
}

// scenario is who is at work at once. The reader is one of the log, or of stream 0.
type simScenario struct {
	name    string
	errands [simTransactions]simErrand
	stream  bool // the reader reads a stream
	calls   int  // of the reader; 0: any number
	whole   bool // commits happen at once, as they seem to be from outside
}

var (
	simSaver     = simErrand{name: "saver", appends: [][]uint8{{0}, {0}}, save: 0, back: 1, commits: true}
	simLateSaver = simErrand{name: "saver", appends: [][]uint8{{0}, {0}, {0}}, save: 1, back: 2, commits: true}
	simWavering  = simErrand{name: "wavering", appends: [][]uint8{{0, 1}}, save: -1, commits: true, aborts: true}
	simIdle      = simErrand{name: "idle", appends: [][]uint8{{2}}, save: -1, commits: true, aborts: true, anytime: true}
	simBrief     = simErrand{name: "brief", appends: [][]uint8{{0}}, save: -1, commits: true, aborts: true}
	simPlain     = simErrand{name: "plain", appends: [][]uint8{{0}}, save: -1, commits: true}
	simOpposed   = simErrand{name: "opposed", appends: [][]uint8{{1, 0}}, save: -1, commits: true}
	simNobody    = simErrand{name: "nobody", save: -1}

	simTwo       = simScenario{name: "two", errands: [simTransactions]simErrand{simSaver, simWavering, simNobody}}
	simEverybody = simScenario{name: "log", errands: [simTransactions]simErrand{simSaver, simWavering, simIdle}}
)

// op is an action of a transaction's program.
type simOp struct {
	do     simAction
	append int
	stream uint8 // of lock
	inner  uint8 // 1 within the savepoint
	writes bool  // with this step the rows of the append are inserted
}

// program is what an errand does, step by step.
func (p *simProtocol) program(e simErrand) []simOp {
	var ops []simOp
	inner := uint8(0)
	for i, streams := range e.appends {
		if i == e.save {
			ops, inner = append(ops, simOp{do: doSave}), 1
		}
		if e.save >= 0 && i == e.back {
			ops, inner = append(ops, simOp{do: doBack}), 0
		}
		for _, do := range p.append {
			switch {
			case do == doLock:
				for _, stream := range streams {
					ops = append(ops, simOp{do: doLock, append: i, stream: stream, inner: inner})
				}
			case do == doDraw && p.perEvent:
				for range streams {
					ops = append(ops, simOp{do: doDraw, append: i, inner: inner})
				}
			default:
				ops = append(ops, simOp{do: do, append: i, inner: inner})
			}
		}
		ops[len(ops)-1].writes = true
	}
	return append(ops, simOp{do: doFinish})
}

// row is an event in the table. Its position is at least perDraw.
type simRow struct{ stream, version, position, append uint8 }

// transaction is where one stands. What it no longer needs is zero, so that states that
// cannot be told apart are equal.
type simTransaction struct {
	pc       uint8
	done     uint8    // bits of durable, visible, release, abort
	number   uint8    // last_value that was read
	drawn    [2]uint8 // numbers for the next rows
	at       [2]uint8 // versions of the streams of the append
	fences   [2]uint8 // one more than the smallest held: [1] within the savepoint; 0: none
	streams  [2]uint8 // bits of those locked, likewise
	rows     [simRows]simRow
	written  [2]uint8 // how many rows, likewise
	fenced   bool     // of fenceOnce
	cached   uint8    // a number that the session has taken out of the sequence; 0: none
	snapshot uint8    // of repeatable: bits of the transactions that it shows, and of its having been taken
}

// reading is where the reader stands.
type simReader struct {
	phase    uint8
	last     uint8
	lowest   uint8 // one more than the fence; 0: none
	snapshot uint8
	at       uint8 // position, or version in a stream
	seen     uint8 // bits of rows
	upTo     uint8 // version to which a stream is read
	due      uint8 // what was acknowledged of the stream when the call began
	calls    uint8 // that have ended, where they are bounded
	flawed   bool  // it has read twice, or too little of a stream
}

// state is all there is.
type simState struct {
	sequence, durable uint8 // the number drawn last, and that which a crash cannot take back
	crashed           bool
	tx                [simTransactions]simTransaction
	reader            simReader
}

const (
	simReads  = simTransactions
	simServer = simTransactions + 1
)

// step is what somebody does, and what comes of it.
type simStep struct {
	who   int
	do    simAction
	ended bool // with it a call of the reader comes to its end
	after simState
}

type fenceModel struct {
	simProtocol
	simScenario
	programs [simTransactions][]simOp
}

func newFenceModel(p simProtocol, s simScenario) *fenceModel {
	m := &fenceModel{simProtocol: p, simScenario: s}
	for i, e := range s.errands {
		m.programs[i] = p.program(e)
	}
	return m
}

func (m *fenceModel) start() (s simState) {
	for i := range m.errands {
		if !m.errands[i].commits {
			s.tx[i].done = bitOf(doAbort)
		}
	}
	return s
}

// bit is that of a part of a transaction's end.
func bitOf(a simAction) uint8 { return 1 << (a - doDurable) }

func (t *simTransaction) has(a simAction) bool { return t.done&bitOf(a) != 0 }

// ended reports whether nothing more comes of a transaction.
func (m *fenceModel) ended(t *simTransaction) bool {
	return t.has(doAbort) || t.has(doDurable) && t.has(doVisible) && t.has(doRelease)
}

func (m *fenceModel) allEnded(s *simState) bool {
	for i := range s.tx {
		if !m.ended(&s.tx[i]) {
			return false
		}
	}
	return true
}

// shown returns the bits of the transactions that a snapshot taken now shows.
func simShown(s *simState) (mask uint8) {
	for i := range s.tx {
		if s.tx[i].has(doVisible) {
			mask |= 1 << i
		}
	}
	return mask
}

func (t *simTransaction) all() []simRow { return t.rows[:t.written[0]+t.written[1]] }

// stands returns the last version of a stream as a snapshot shows it.
func simStands(s *simState, mask uint8, stream uint8) (version uint8) {
	for i := range s.tx {
		if mask&(1<<i) != 0 {
			for _, r := range s.tx[i].all() {
				if r.stream == stream {
					version = max(version, r.version)
				}
			}
		}
	}
	return version
}

// steps yields all that can happen next.
func (m *fenceModel) steps(s *simState, yield func(simStep)) {
	if m.whole {
		// Who has begun to commit does it to its end.
		for i := range s.tx {
			if t := &s.tx[i]; t.done != 0 && !m.ended(t) {
				m.transact(s, i, yield)
				return
			}
		}
	}
	for i := range s.tx {
		m.transact(s, i, yield)
	}
	if m.calls == 0 || int(s.reader.calls) < m.calls {
		next := *s
		ended := m.read(&next)
		yield(simStep{simReads, m.looks[s.reader.phase], ended, next})
	}
	if m.crashes && !s.crashed && !m.allEnded(s) {
		// Numbers that nobody committed may be lost, and some may be skipped.
		for sequence := s.durable; sequence <= s.sequence+1; sequence++ {
			yield(simStep{who: simServer, do: doCrash, after: m.recovered(*s, sequence)})
		}
	}
}

// recovered is what a crash leaves. Who was at work begins again.
func (m *fenceModel) recovered(s simState, sequence uint8) simState {
	s.crashed, s.sequence, s.durable = true, sequence, sequence
	for i := range s.tx {
		switch t := &s.tx[i]; {
		case t.has(doAbort):
		case t.has(doDurable):
			*t = simTransaction{pc: t.pc, done: bitOf(doDurable) | bitOf(doVisible) | bitOf(doRelease), rows: t.rows, written: t.written}
		default:
			*t = simTransaction{}
		}
	}
	s.reader = simReader{at: s.reader.at, seen: s.reader.seen, calls: s.reader.calls, flawed: s.reader.flawed}
	if m.stream {
		s.reader.at = 0
	}
	return s
}

// transact yields what transaction i can do next.
func (m *fenceModel) transact(s *simState, i int, yield func(simStep)) {
	if m.ended(&s.tx[i]) {
		return
	}
	o := m.programs[i][s.tx[i].pc]
	can := func(do simAction, change func(next *simState, t *simTransaction)) {
		next := *s
		change(&next, &next.tx[i])
		yield(simStep{who: i, do: do, after: next})
	}
	rollback := func() {
		can(doAbort, func(_ *simState, t *simTransaction) { *t = simTransaction{done: bitOf(doAbort)} })
	}
	if o.do != doFinish {
		if m.errands[i].anytime && s.tx[i].pc > 0 {
			rollback()
		}
		if o.do == doLock {
			for j := range s.tx {
				if j != i && (s.tx[j].streams[0]|s.tx[j].streams[1])&(1<<o.stream) != 0 {
					return // it waits
				}
			}
		}
		can(o.do, func(next *simState, t *simTransaction) { m.perform(next, i, o) })
		return
	}
	if s.tx[i].done == 0 && m.errands[i].aborts {
		rollback()
	}
	for _, part := range m.commit {
		if !s.tx[i].has(part) {
			can(part, func(next *simState, t *simTransaction) {
				t.done |= bitOf(part)
				switch part {
				case doDurable:
					next.durable = next.sequence // the log is flushed up to the commit
				case doRelease:
					t.streams = [2]uint8{}
					if !m.session {
						t.fences = [2]uint8{}
					}
				}
				if m.ended(t) {
					t.fenced, t.cached, t.snapshot = false, 0, 0
				}
			})
			return
		}
	}
}

// perform does a step of a program.
func (m *fenceModel) perform(s *simState, i int, o simOp) {
	t := &s.tx[i]
	if m.repeatable && t.snapshot == 0 && o.do != doSave {
		t.snapshot = simShown(s) | 1<<simTransactions
	}
	streams := []uint8(nil)
	if o.do != doSave && o.do != doBack {
		streams = m.errands[i].appends[o.append]
	}
	switch o.do {
	case doLock:
		t.streams[o.inner] |= 1 << o.stream
	case doLook:
		mask := simShown(s)
		if m.repeatable {
			mask = t.snapshot
		}
		for j, stream := range streams {
			t.at[j] = simStands(s, mask|1<<i, stream)
		}
	case doNumber:
		t.number = s.sequence
	case doFence:
		if !m.fenceOnce || !t.fenced {
			if held := t.fences[o.inner]; held == 0 || t.number+1 < held {
				t.fences[o.inner] = t.number + 1
			}
			t.fenced = m.fenceOnce
		}
		t.number = 0
	case doDraw:
		drawn := t.cached
		if t.cached = 0; drawn == 0 {
			s.sequence++
			drawn = s.sequence
			if m.cache {
				s.sequence++
				t.cached = s.sequence
			}
		}
		if t.drawn[0] == 0 {
			t.drawn[0] = drawn
		} else {
			t.drawn[1] = drawn
		}
	case doBack:
		t.fences[1], t.streams[1] = 0, 0
		for n := t.written[0]; n < t.written[0]+t.written[1]; n++ {
			t.rows[n] = simRow{}
		}
		t.written[1] = 0
	}
	if o.writes {
		for j, stream := range streams {
			position := t.drawn[0]*simPerDraw + uint8(j)
			if m.perEvent {
				position = t.drawn[j] * simPerDraw
			}
			t.rows[t.written[0]+t.written[1]] = simRow{stream, t.at[j] + 1, position, uint8(o.append)}
			t.written[o.inner]++
		}
		t.drawn, t.at = [2]uint8{}, [2]uint8{}
	}
	t.pc++
}

// bound returns the last position to which the reader may read.
func (m *fenceModel) bound(r *simReader) uint8 {
	upTo := uint8(127)
	for _, a := range m.looks {
		switch {
		case a == doLast:
			upTo = min(upTo, r.last)
		case a == doLowest && r.lowest > 0:
			upTo = min(upTo, r.lowest-1)
		}
	}
	return upTo*simPerDraw + simPerDraw - 1
}

// read does the reader's next step, and reports whether a call ends with it.
func (m *fenceModel) read(s *simState) (ended bool) {
	r := &s.reader
	if r.phase == 0 && m.stream && r.at == 0 {
		for i := range s.tx {
			if s.tx[i].has(doVisible) && s.tx[i].has(doRelease) {
				r.due = max(r.due, simStands(s, 1<<i, 0))
			}
		}
	}
	switch m.looks[r.phase] {
	case doSnapshot:
		r.snapshot = simShown(s)
	case doLast:
		r.last = s.sequence
	case doLowest:
		for i := range s.tx {
			for _, held := range s.tx[i].fences {
				if held > 0 && (r.lowest == 0 || held < r.lowest) {
					r.lowest = held
				}
			}
		}
	case doPage:
		return m.page(s)
	}
	r.phase++
	return false
}

func (m *fenceModel) page(s *simState) (ended bool) {
	r := &s.reader
	mask := simShown(s)
	if m.looks[0] == doSnapshot {
		mask = r.snapshot
	}
	bound := m.bound(r)
	if m.stream && r.upTo == 0 {
		r.upTo = simStands(s, mask, 0)
	}
	var next, nextBit, nextAt uint8
	for i := range s.tx {
		if mask&(1<<i) == 0 {
			continue
		}
		for j, w := range s.tx[i].all() {
			at := w.position
			if m.stream {
				at = w.version
			}
			if w.position > bound || m.stream && (w.stream != 0 || at > r.upTo) {
				continue
			}
			if (at > r.at || at == r.at && m.inclusive) && (next == 0 || at < nextAt) {
				next, nextAt, nextBit = w.position, at, 1<<(i*simRows+j)
			}
		}
	}
	switch {
	case next == 0:
		ended := simReader{at: r.at, seen: r.seen, calls: r.calls, flawed: r.flawed}
		if m.boundIsAt {
			ended.at = max(ended.at, bound)
		}
		if m.stream {
			ended.flawed = ended.flawed || r.at < r.due
			ended.at, ended.seen = 0, 0
		}
		if m.calls > 0 {
			ended.calls++
		}
		*r = ended
		return true
	case m.stream:
		r.flawed = r.flawed || nextAt != r.at+1
	default:
		r.flawed = r.flawed || r.seen&nextBit != 0
		r.seen |= nextBit
	}
	r.at = nextAt
	if m.statement {
		r.phase, r.last, r.lowest, r.snapshot = 0, 0, 0, 0
	}
	return false
}

// broken returns what does not hold after a step, of what is asked for; all, if nothing is.
func (m *fenceModel) broken(st *simStep, of simRule) simRule {
	s := &st.after
	is := func(what simRule, holds bool) bool { return !holds && (of == ruleNone || of == what) }
	if m.stream {
		if is(ruleComplete, !s.reader.flawed) {
			return ruleComplete
		}
	} else if is(ruleTwice, !s.reader.flawed) {
		return ruleTwice
	}
	var rows [simTransactions * simRows]simRow
	n := 0
	for i := range s.tx {
		t := &s.tx[i]
		var read, unread [simStreams]bool // by append
		for j, w := range t.all() {
			seen := s.reader.seen&(1<<(i*simRows+j)) != 0
			if t.has(doVisible) {
				rows[n] = w
				n++
				if !m.stream && is(ruleMissed, seen || w.position > s.reader.at) {
					return ruleMissed
				}
			} else if is(ruleLost, !seen) {
				return ruleLost
			}
			read[w.append], unread[w.append] = read[w.append] || seen, unread[w.append] || !seen
		}
		if len(t.all()) == 0 && is(ruleLost, s.reader.seen&(3<<(i*simRows)) == 0) {
			return ruleLost
		}
		if st.ended && !m.stream {
			for k := range read {
				if is(ruleCut, !read[k] || !unread[k]) {
					return ruleCut
				}
			}
		}
	}
	for i, a := range rows[:n] {
		before := a.version == 1 // the version before it is there
		for j, b := range rows[:n] {
			if i == j {
				continue
			}
			if is(ruleRising, a.position != b.position) {
				return ruleRising
			}
			if a.stream != b.stream {
				continue
			}
			if is(ruleVersions, a.version != b.version) {
				return ruleVersions
			}
			if is(ruleRising, a.version <= b.version || a.position > b.position) {
				return ruleRising
			}
			before = before || b.version+1 == a.version
		}
		if is(ruleVersions, before) {
			return ruleVersions
		}
	}
	if is(ruleGoesOn, !m.stuck(s)) {
		return ruleGoesOn
	}
	if !m.stream && m.calls == 0 && m.allEnded(s) && is(ruleArrives, m.arrives(*s)) {
		return ruleArrives
	}
	return ruleNone
}

// stuck reports whether each transaction that has not ended waits for another.
func (m *fenceModel) stuck(s *simState) bool {
	stuck := !m.allEnded(s)
	for i := range s.tx {
		m.transact(s, i, func(simStep) { stuck = false })
	}
	return stuck
}

// arrives reports whether the reader, which is alone now, comes to the end of the log
// within the call that it is in and one more.
func (m *fenceModel) arrives(s simState) bool {
	for ends := 0; ends < 2; {
		if m.read(&s) {
			ends++
		}
	}
	for i := range s.tx {
		for j := range s.tx[i].all() {
			if s.tx[i].has(doVisible) && s.reader.seen&(1<<(i*simRows+j)) == 0 {
				return false
			}
		}
	}
	return true
}

// found is what a search came to.
type fenceSearch struct {
	states, steps int
	broken        simRule
	schedule      []simStep // the shortest that breaks it
}

// search looks at every state that any schedule leads to, those that take fewer steps
// first, until an invariant is broken: the one asked for, or any.
func (m *fenceModel) search(of simRule) (f fenceSearch) {
	start := m.start()
	states, from := []simState{start}, []int32{-1}
	known := map[simState]struct{}{start: {}}
	for i := 0; i < len(states) && f.broken == ruleNone; i++ {
		s := states[i]
		m.steps(&s, func(st simStep) {
			f.steps++
			if f.broken != ruleNone {
				return
			}
			if f.broken = m.broken(&st, of); f.broken != ruleNone {
				f.schedule = m.path(states, from, i, st)
				return
			}
			if _, ok := known[st.after]; !ok {
				known[st.after] = struct{}{}
				states, from = append(states, st.after), append(from, int32(i))
			}
		})
	}
	f.states = len(states)
	return f
}

// path returns the steps that led to state i, and one more.
func (m *fenceModel) path(states []simState, from []int32, i int, final simStep) (steps []simStep) {
	steps = []simStep{final}
	for ; from[i] >= 0; i = int(from[i]) {
		before := states[from[i]]
		var taken simStep
		m.steps(&before, func(st simStep) {
			if st.after == states[i] {
				taken = st
			}
		})
		steps = append([]simStep{taken}, steps...)
	}
	return steps
}

// schedules returns how many there are, of a model with a bounded number of calls. A
// step that changes nothing would lead back to where it begins: there is none.
func (m *fenceModel) schedules() float64 {
	known := map[simState]float64{}
	var count func(s simState) float64
	count = func(s simState) (n float64) {
		if n, ok := known[s]; ok {
			return n
		}
		over := true
		m.steps(&s, func(st simStep) {
			over = false
			n += count(st.after)
		})
		if over {
			n = 1
		}
		known[s] = n
		return n
	}
	return count(m.start())
}

// tell tells a schedule for people.
func (m *fenceModel) tell(steps []simStep) string {
	var b strings.Builder
	before := m.start()
	for i, st := range steps {
		fmt.Fprintf(&b, "\n%3d. %s", i+1, m.sentence(&before, &st))
		before = st.after
	}
	return b.String()
}

func (m *fenceModel) sentence(before *simState, st *simStep) string {
	r := &st.after.reader
	if st.who == simServer {
		return fmt.Sprintf("the server crashes, and comes back with %d as the last number", st.after.sequence)
	}
	if st.who == simReads {
		switch {
		case st.do == doSnapshot:
			return "  the reader takes its snapshot"
		case st.do == doLast:
			return fmt.Sprintf("  the reader sees %d as the number drawn last", r.last)
		case st.do == doLowest && r.lowest == 0:
			return "  the reader sees no fence"
		case st.do == doLowest:
			return fmt.Sprintf("  the reader sees a fence at %d", r.lowest-1)
		case r.at == before.reader.at || m.stream && r.at == 0:
			return "  the reader comes to the end of what it may read"
		case m.stream:
			return fmt.Sprintf("  the reader gets version %d", r.at)
		}
		return fmt.Sprintf("  the reader gets %s", simPlace(r.at))
	}
	name, was, t := m.errands[st.who].name, &before.tx[st.who], &st.after.tx[st.who]
	o := m.programs[st.who][was.pc]
	switch st.do {
	case doLock:
		return fmt.Sprintf("%s locks stream %d", name, o.stream)
	case doLook:
		return fmt.Sprintf("%s learns where its streams stand", name)
	case doNumber:
		return fmt.Sprintf("%s sees %d as the number drawn last", name, t.number)
	case doFence:
		if t.fences == was.fences {
			return name + " has had its fence"
		}
		return fmt.Sprintf("%s takes a fence at %d", name, t.fences[o.inner]-1)
	case doDraw:
		return fmt.Sprintf("%s draws %d", name, m.drawn(before, st))
	case doSave:
		return name + " sets a savepoint"
	case doBack:
		return name + " rolls back to its savepoint"
	case doDurable:
		return name + " commits: it is on the disk"
	case doVisible:
		return name + " commits: it can be seen"
	case doRelease:
		return name + " commits: its locks are free"
	}
	return name + " rolls back"
}

// drawn is the number that a step has drawn.
func (m *fenceModel) drawn(before *simState, st *simStep) uint8 {
	if cached := before.tx[st.who].cached; cached != 0 {
		return cached
	}
	return before.sequence + 1
}

func simPlace(position uint8) string {
	return fmt.Sprintf("event %d of number %d", position%simPerDraw+1, position/simPerDraw)
}

// wrong is a protocol that is not the store's, and what it must be found to break.
type wrongFence struct {
	simProtocol
	scenario simScenario
	breaks   simRule
	server   bool // the server can be made to do it
}

var wrongFences = []wrongFence{
	{alteredFence("a reader that knows no fence", func(p *simProtocol) { p.looks = []simAction{doPage} }), simEverybody, ruleMissed, true},
	{alteredFence("a reader that looks at the fences alone", func(p *simProtocol) { p.looks = []simAction{doLowest, doPage} }), simEverybody, ruleMissed, true},
	{alteredFence("a reader that looks at the sequence alone", func(p *simProtocol) { p.looks = []simAction{doLast, doPage} }), simEverybody, ruleMissed, true},
	{alteredFence("a reader that looks at the fences, then at the sequence", func(p *simProtocol) { p.looks = []simAction{doLowest, doLast, doPage} }), simEverybody, ruleMissed, true},
	{alteredFence("a reader whose page has the snapshot of its looks", func(p *simProtocol) {
		p.looks, p.statement = []simAction{doSnapshot, doLast, doLowest, doPage}, true
	}), simEverybody, ruleMissed, false},
	{alteredFence("a reader that is REPEATABLE READ", func(p *simProtocol) { p.looks = []simAction{doSnapshot, doLast, doLowest, doPage} }), simEverybody, ruleMissed, true},
	{alteredFence("a reader that goes on behind where it was allowed to read, and a crash", func(p *simProtocol) { p.boundIsAt, p.crashes = true, true }), simEverybody, ruleMissed, false},
	{alteredFence("a fence on the number read in time, taken when the number is drawn", func(p *simProtocol) { p.append = []simAction{doLock, doLook, doNumber, doDraw, doFence} }), simEverybody, ruleMissed, true},
	{alteredFence("a fence whose number is read when one is drawn", func(p *simProtocol) { p.append = []simAction{doLock, doLook, doDraw, doNumber, doFence} }), simEverybody, ruleMissed, true},
	{alteredFence("a fence that is taken once in a transaction", func(p *simProtocol) { p.fenceOnce = true }), simEverybody, ruleMissed, true},
	{alteredFence("a sequence whose sessions keep numbers", func(p *simProtocol) { p.cache = true }), simEverybody, ruleMissed, true},
	{alteredFence("locks that are free before the commit can be seen, at the fence", func(p *simProtocol) { p.commit = []simAction{doDurable, doRelease, doVisible} }), simEverybody, ruleMissed, false},
	{alteredFence("locks that are free before the commit can be seen, at the stream", func(p *simProtocol) { p.commit = []simAction{doDurable, doRelease, doVisible} }), simEverybody, ruleVersions, false},
	{alteredFence("a commit that can be seen before it is on the disk", func(p *simProtocol) {
		p.commit, p.crashes = []simAction{doVisible, doRelease, doDurable}, true
	}), simEverybody, ruleLost, false},
	{alteredFence("a number for each event", func(p *simProtocol) { p.perEvent = true }), simEverybody, ruleCut, true},
	{alteredFence("streams locked behind the look at them", func(p *simProtocol) { p.append = []simAction{doLook, doLock, doNumber, doFence, doDraw} }), simEverybody, ruleVersions, true},
	{alteredFence("streams locked behind the draw", func(p *simProtocol) { p.append = []simAction{doNumber, doFence, doDraw, doLock, doLook} }), simTwo, ruleRising, true},
	{alteredFence("appends that are REPEATABLE READ", func(p *simProtocol) { p.repeatable = true }), simEverybody, ruleVersions, true},
	{alteredFence("a stream that is read up to the fences", func(p *simProtocol) {}), simOfStream(simEverybody), ruleComplete, true},
	{alteredFence("streams that are not sorted before they are locked", func(p *simProtocol) {}), simScenario{
		name: "opposed", errands: [simTransactions]simErrand{simWavering, simOpposed, simNobody},
	}, ruleGoesOn, false},
	{alteredFence("a page that begins at the last event that was read", func(p *simProtocol) { p.inclusive = true }), simEverybody, ruleTwice, true},
	{alteredFence("a fence that is held by the session", func(p *simProtocol) { p.session = true }), simEverybody, ruleArrives, false},
}

func simOfStream(s simScenario) simScenario {
	s.stream = true
	return s
}

// right are the searches that must find nothing.
func rightFences() []*fenceModel {
	crashing := alteredFence("ours, and a crash", func(p *simProtocol) { p.crashes = true })
	stream := alteredFence("ours, of a stream", func(p *simProtocol) { p.looks = []simAction{doPage} })
	late := simScenario{name: "savepoint behind an append", errands: [simTransactions]simErrand{simLateSaver, simWavering, simIdle}}
	three := simScenario{name: "two that waver", errands: [simTransactions]simErrand{simWavering, simWavering, simIdle}}
	return []*fenceModel{
		newFenceModel(fenceOfOurs, simEverybody), newFenceModel(fenceOfOurs, late), newFenceModel(fenceOfOurs, three), newFenceModel(crashing, simEverybody),
		newFenceModel(stream, simOfStream(simEverybody)), newFenceModel(stream, simOfStream(late)),
	}
}

func TestNoOrderOfStepsBreaksTheFenceAtFullSize(t *testing.T) {
	for _, m := range rightFences() {
		begin := time.Now()
		f := m.search(ruleNone)
		t.Logf("%s, %s: %d states, %d steps, in %v", m.simProtocol.name, m.simScenario.name, f.states, f.steps, time.Since(begin).Round(time.Millisecond))
		require.Equal(t, ruleNone, f.broken, m.tell(f.schedule))
		if race.Enabled {
			break
		}
	}
}

// A search that forgets states must know as many schedules as one that does not.
func TestTheSchedulesOfAModelAreAllLookedAt(t *testing.T) {
	small := simScenario{name: "small", errands: [simTransactions]simErrand{simNobody, simBrief, simPlain}, calls: 1, whole: true}
	m := newFenceModel(fenceOfOurs, small)
	walked := 0
	states := map[simState]bool{}
	var walk func(s simState)
	walk = func(s simState) {
		states[s] = true
		over := true
		m.steps(&s, func(st simStep) {
			over = false
			walk(st.after)
		})
		if over {
			walked++
		}
	}
	walk(m.start())
	require.Equal(t, float64(walked), m.schedules())
	require.Equal(t, len(states), m.search(ruleNone).states)
	t.Logf("%d schedules of %d states, walked one by one", walked, len(states))

	everybody := simEverybody
	everybody.calls = simCalls
	t.Logf("%.3g schedules of three transactions and %d calls of a reader", newFenceModel(fenceOfOurs, everybody).schedules(), simCalls)
}

func TestEveryRuleOfTheModelIsBrokenByAWrongFence(t *testing.T) {
	broken := map[simRule]bool{}
	for _, w := range wrongFences {
		broken[w.breaks] = true
	}
	for _, rule := range []simRule{ruleMissed, ruleTwice, ruleCut, ruleVersions, ruleRising, ruleLost, ruleComplete, ruleArrives, ruleGoesOn} {
		require.True(t, broken[rule], rule)
	}
}

func TestEveryWrongFenceIsFoundToBeWrong(t *testing.T) {
	for _, w := range wrongFences {
		t.Run(w.simProtocol.name, func(t *testing.T) {
			m := newFenceModel(w.simProtocol, w.scenario)
			f := m.search(w.breaks)
			t.Logf("%q is broken after %d steps, of %d states:%s", f.broken, len(f.schedule), f.states, m.tell(f.schedule))
			require.Equal(t, w.breaks, f.broken)
		})
	}
}
