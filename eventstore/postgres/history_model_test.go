package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
)

// In a history each event has a number of one byte, which stands in its payload too,
// and streams are known by their index: so the state of all streams is comparable.

// standing is the numbers of the events of each stream, in the order of their versions.
type standing [3]string

func (s standing) version(stream int) uint64 { return uint64(len(s[stream])) }

// The kinds of what a client asks.
const (
	toAppend      = "append"
	toRead        = "read"    // all of some streams
	toReadVersion = "version" // of one stream
)

// asked is what a client asks of a store.
type asked struct {
	kind    string
	events  []numbered
	expect  []pinned
	streams []int
}

type numbered struct {
	number byte
	stream int
}

type pinned struct {
	stream  int
	version uint64
}

// replied is what the store says to it.
type replied struct {
	conflict bool
	unknown  bool     // of an append: it may have happened, or happen yet
	versions []uint64 // of the events appended, or the one asked for
	seen     standing // of the streams that were read
	stream   int      // of a conflict
	want     uint64
	actual   uint64
}

// linear is the model that a history is held to: all streams are one state, which every
// append and every read sees and changes at one moment between its call and its return.
//
// An append of unknown outcome returns at the end of time and happens where its moment
// is, if its expectations hold then. Its moment may be behind all others, where nobody
// sees it: so it may or may not have happened.
var linear = porcupine.Model{
	Init: func() any { return standing{} },
	Step: func(state, input, output any) (bool, any) {
		return stepOf(state.(standing), input.(asked), output.(replied))
	},
	DescribeOperation: func(input, output any) string { return describe(input.(asked), output.(replied)) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%v", printed(state.(standing))) },
}

func stepOf(s standing, in asked, out replied) (bool, standing) {
	switch in.kind {
	case toReadVersion:
		return out.versions[0] == s.version(in.streams[0]), s
	case toRead:
		for _, stream := range in.streams {
			if out.seen[stream] != s[stream] {
				return false, s
			}
		}
		return true, s
	}
	// IDs come before expectations: what is known already changes nothing.
	var known []uint64
	for _, e := range in.events {
		if i := strings.IndexByte(s[e.stream], e.number); i >= 0 {
			known = append(known, uint64(i+1))
		}
	}
	if len(known) > 0 {
		return len(known) == len(in.events) && (out.unknown || !out.conflict && slices.Equal(known, out.versions)), s
	}
	if out.conflict {
		return slices.Contains(in.expect, pinned{out.stream, out.want}) && out.want != out.actual && s.version(out.stream) == out.actual, s
	}
	for _, x := range in.expect {
		if s.version(x.stream) != x.version {
			return out.unknown, s
		}
	}
	next := s
	for i, e := range in.events {
		next[e.stream] += string([]byte{e.number})
		if !out.unknown && out.versions[i] != next.version(e.stream) {
			return false, s
		}
	}
	return true, next
}

func describe(in asked, out replied) string {
	var b strings.Builder
	b.WriteString(in.kind)
	for _, e := range in.events {
		fmt.Fprintf(&b, " %s<-%d", nameOf(e.stream), e.number)
	}
	for _, stream := range in.streams {
		fmt.Fprintf(&b, " %s", nameOf(stream))
	}
	for _, x := range in.expect {
		fmt.Fprintf(&b, " if %s=%d", nameOf(x.stream), x.version)
	}
	switch {
	case out.unknown:
		b.WriteString(": unknown")
	case out.conflict:
		fmt.Fprintf(&b, ": conflict, %s=%d, not %d", nameOf(out.stream), out.actual, out.want)
	case in.kind == toRead:
		fmt.Fprintf(&b, ": %v", printed(out.seen))
	default:
		fmt.Fprintf(&b, ": %d", out.versions)
	}
	return b.String()
}

func nameOf(stream int) string { return string(rune('a' + stream)) }

func printed(s standing) [][]byte { return [][]byte{[]byte(s[0]), []byte(s[1]), []byte(s[2])} }

// logRead is what one read of the log brought to a reader.
type logRead struct {
	reader int
	after  eventstore.Position
	cut    bool // it had a Limit
	events []logEntry
}

type logEntry struct {
	numbered
	version  uint64
	position eventstore.Position
	append   eventstore.Position
}

// checkLog holds the reads of the log that were made while others appended to what the
// log and the streams turned out to be. appends are those that were asked for.
//
// A reader who goes on behind the last event he saw, or reads it all again, must see what
// is a prefix of the final log, with nothing left out and, without a Limit, no append cut.
func checkLog(reads []logRead, final []logEntry, streams standing, appends [][]numbered) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	size := map[numbered]int{}
	for _, events := range appends {
		for _, e := range events {
			size[e] = len(events)
		}
	}

	// The final log is the streams, merged: versions rise with positions.
	var merged standing
	for i, e := range final {
		if i > 0 && e.position <= final[i-1].position {
			problem("position %d comes behind %d", e.position, final[i-1].position)
		}
		merged[e.stream] += string([]byte{e.number})
		if e.version != merged.version(e.stream) {
			problem("position %d has version %d of %s, and is its event %d in the log", e.position, e.version, nameOf(e.stream), merged.version(e.stream))
		}
	}
	if merged != streams {
		problem("the log has %v, and the streams have %v", printed(merged), printed(streams))
	}

	for _, read := range reads {
		from := 0
		for from < len(final) && final[from].position <= read.after {
			from++
		}
		rest := final[from:]
		if len(read.events) > len(rest) || !slices.Equal(read.events, rest[:len(read.events)]) {
			problem("reader %d behind %d read %v, and there is %v", read.reader, read.after, read.events, rest)
			continue
		}
		if n := len(read.events); n > 0 && !read.cut {
			last := read.events[n-1]
			together := 0
			for _, e := range final[:from+n] {
				if e.append == last.append {
					together++
				}
			}
			if together != size[last.numbered] {
				problem("reader %d behind %d read %d events of the last append, which has %d", read.reader, read.after, together, size[last.numbered])
			}
		}
	}
	return problems
}

func TestTheModelOfHistoriesIsThatOfTheContract(t *testing.T) {
	const never = int64(1) << 62
	one, both := []numbered{{1, 0}}, []numbered{{1, 0}, {2, 1}}
	at := func(client int, call, end int64, in asked, out replied) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Call: call, Return: end, Input: in, Output: out}
	}
	appending := func(events []numbered, expect ...pinned) asked {
		return asked{kind: toAppend, events: events, expect: expect}
	}
	versions := func(v ...uint64) replied { return replied{versions: v} }
	read := asked{kind: toRead, streams: []int{0, 1}}
	nothing, applied := replied{}, replied{seen: standing{"\x01", "\x02"}}
	conflict := replied{conflict: true, stream: 0, want: 1, actual: 0}
	for _, c := range []struct {
		name    string
		ok      bool
		history []porcupine.Operation
	}{
		{"an append is seen by a read that follows", true, []porcupine.Operation{at(0, 1, 2, appending(both), versions(1, 1)), at(1, 3, 4, read, applied)}},
		{"and not left out", false, []porcupine.Operation{at(0, 1, 2, appending(both), versions(1, 1)), at(1, 3, 4, read, nothing)}},
		{"a read at the same time sees it or not", true, []porcupine.Operation{at(0, 1, 4, appending(both), versions(1, 1)), at(1, 2, 3, read, nothing)}},
		{"but not half of it", false, []porcupine.Operation{at(0, 1, 4, appending(both), versions(1, 1)), at(1, 2, 3, read, replied{seen: standing{"\x01"}})}},
		{"nor is it seen and gone", false, []porcupine.Operation{at(0, 1, 9, appending(both), versions(1, 1)), at(1, 2, 3, read, applied), at(1, 4, 5, read, nothing)}},
		{"an unknown outcome may come late", true, []porcupine.Operation{at(0, 1, never, appending(both), replied{unknown: true}), at(1, 3, 4, read, nothing), at(1, 5, 6, read, applied)}},
		{"or never", true, []porcupine.Operation{at(0, 1, never, appending(both), replied{unknown: true}), at(1, 3, 4, read, nothing)}},
		{"and is not gone again", false, []porcupine.Operation{at(0, 1, never, appending(both), replied{unknown: true}), at(1, 3, 4, read, applied), at(1, 5, 6, read, nothing)}},
		{"nor does it come against its expectation", false, []porcupine.Operation{at(0, 1, never, appending(both, pinned{2, 1}), replied{unknown: true}), at(1, 3, 4, read, applied)}},
		{"a resend has the same records", true, []porcupine.Operation{at(0, 1, 2, appending(one, pinned{0, 0}), versions(1)), at(0, 3, 4, appending(one, pinned{0, 0}), versions(1))}},
		{"and not new ones", false, []porcupine.Operation{at(0, 1, 2, appending(one), versions(1)), at(0, 3, 4, appending(one), versions(2))}},
		{"a resend of what is there is no conflict", false, []porcupine.Operation{at(0, 1, 2, appending(one, pinned{0, 1}), versions(1)), at(0, 3, 4, appending(one, pinned{0, 1}), conflict)}},
		{"a conflict says where the stream stands", true, []porcupine.Operation{at(0, 1, 2, appending(one, pinned{0, 1}), conflict)}},
		{"and not where it does not", false, []porcupine.Operation{at(0, 1, 2, appending(both), versions(1, 1)), at(0, 3, 4, appending([]numbered{{3, 0}}, pinned{0, 1}), conflict)}},
		{"a conflict is with an expectation", false, []porcupine.Operation{at(0, 1, 2, appending(one), conflict)}},
		{"an event that nobody appended is not read", false, []porcupine.Operation{at(0, 1, 2, read, replied{seen: standing{"\x07"}})}},
		{"a version is that of the stream", true, []porcupine.Operation{at(0, 1, 2, appending(one), versions(1)), at(0, 3, 4, asked{kind: toReadVersion, streams: []int{0}}, versions(1))}},
		{"and no other", false, []porcupine.Operation{at(0, 1, 2, appending(one), versions(1)), at(0, 3, 4, asked{kind: toReadVersion, streams: []int{0}}, versions(0))}},
	} {
		require.Equal(t, c.ok, porcupine.CheckOperations(linear, c.history), c.name)
	}
}

func TestTheCheckOfLogReadsFindsWhatIsWrongWithOne(t *testing.T) {
	appends := [][]numbered{{{1, 0}, {2, 1}}, {{3, 0}}}
	final := []logEntry{{numbered{1, 0}, 1, 10, 10}, {numbered{2, 1}, 1, 11, 10}, {numbered{3, 0}, 2, 20, 20}}
	streams := standing{"\x01\x03", "\x02"}
	check := func(read logRead) []string { return checkLog([]logRead{read}, final, streams, appends) }

	require.Empty(t, check(logRead{events: final}))
	require.Empty(t, check(logRead{events: final[:2]}))
	require.Empty(t, check(logRead{events: final[:1], cut: true}))
	require.Empty(t, check(logRead{after: 10, events: final[1:]}))
	require.Empty(t, check(logRead{after: 20}))
	require.Len(t, check(logRead{events: final[:1]}), 1, "an append is cut")
	require.Len(t, check(logRead{events: final[1:]}), 1, "the first is missed")
	require.Len(t, check(logRead{events: []logEntry{final[0], final[2]}}), 1, "one is missed between")
	require.Len(t, check(logRead{events: []logEntry{final[0], final[2], final[1]}}), 1, "the order is another one")
	require.Len(t, check(logRead{after: 11, events: final[1:]}), 1, "one comes twice")

	swapped := slices.Clone(final)
	swapped[0].version, swapped[2].version = 2, 1
	require.Len(t, checkLog(nil, swapped, streams, appends), 2, "versions do not rise")
	require.Len(t, checkLog(nil, final[:2], streams, appends), 1, "the log lacks what the stream has")
	require.Len(t, checkLog(nil, []logEntry{final[1], final[0], final[2]}, streams, appends), 1, "positions do not rise")
}
