package eventstore_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/race"
)

func sound() eventstore.Event {
	return eventstore.Event{ID: uuid.New(), Stream: "s", Type: "t", Schema: 1, Data: []byte(`{}`)}
}

func TestNestingIsCountedAsJSONHasIt(t *testing.T) {
	const most = eventstore.MaxDepth
	nest := func(open, close string, n int) string {
		return strings.Repeat(open, n) + "1" + strings.Repeat(close, n)
	}
	for _, c := range []struct {
		name, data string
		fits       bool
	}{
		{"objects, the deepest", nest(`{"a":`, "}", most), true},
		{"objects, one deeper", nest(`{"a":`, "}", most+1), false},
		{"objects in arrays, the deepest", nest(`[{"a":`, "}]", most/2), true},
		{"objects in arrays, two deeper", nest(`[{"a":`, "}]", most/2+1), false},
		{"the deepest beside others", "[[]," + nest("[", "]", most-1) + "]", true},
		{"one deeper beside others", "[[]," + nest("[", "]", most) + "]", false},
		{"many arrays side by side", "[" + strings.Repeat("[],", 2*most) + "1]", true},
		{"many objects side by side", "[" + strings.Repeat("{},", 2*most) + "1]", true},
		{"brackets in a string", `{"a":"` + strings.Repeat("[{", most) + `"}`, true},
		{"brackets in a name", `{"` + strings.Repeat("[{", most) + `":1}`, true},
		{"brackets behind an escaped quote", `"\"` + strings.Repeat("[{", most) + `"`, true},
		{"brackets behind a string that ends with a backslash", `["\\",` + nest("[", "]", most) + "]", false},
		{"closing brackets in a string", `["` + strings.Repeat("]", most) + `",` + nest("[", "]", most) + "]", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := sound()
			e.Data = []byte(c.data)
			err := eventstore.Validate([]eventstore.Event{e}, nil)
			if c.fits {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			require.ErrorContains(t, err, "nests at most 100 deep")
		})
	}
}

func TestALimitIsWhatStillFits(t *testing.T) {
	e := sound()
	e.Schema = math.MaxInt32
	expect := make([]eventstore.Expect, eventstore.MaxEvents)
	for i := range expect {
		expect[i] = eventstore.At(fmt.Sprint(i), 0)
	}
	require.NoError(t, eventstore.Validate([]eventstore.Event{e}, expect))
}

// Histories exist that make use of these limits. A store that took less could
// not take them in.
func TestTheLimitsAreNotLowered(t *testing.T) {
	for name, limit := range map[string][2]int{
		"MaxStream": {eventstore.MaxStream, 255},
		"MaxType":   {eventstore.MaxType, 128},
		"MaxTag":    {eventstore.MaxTag, 255},
		"MaxTags":   {eventstore.MaxTags, 64},
		"MaxData":   {eventstore.MaxData, 1 << 20},
		"MaxMeta":   {eventstore.MaxMeta, 64 << 10},
		"MaxDepth":  {eventstore.MaxDepth, 100},
		"MaxEvents": {eventstore.MaxEvents, 1000},
		"MaxAppend": {eventstore.MaxAppend, 4 << 20},
	} {
		require.GreaterOrEqual(t, limit[0], limit[1], name)
	}
}

func TestAnAppendIsAsLargeAsAllItsParts(t *testing.T) {
	full := func() []eventstore.Event {
		events := make([]eventstore.Event, 5)
		rest := eventstore.MaxAppend
		for i := range events {
			events[i] = sound()
			events[i].Tags, events[i].Meta = []string{"a", "b"}, []byte(`{}`)
			rest -= len("s") + len("t") + len("ab") + len(`{}`)
		}
		for i := range events {
			size := min(rest-2*(len(events)-1-i), eventstore.MaxData)
			events[i].Data = []byte(`"` + strings.Repeat("x", size-2) + `"`)
			rest -= size
		}
		return events
	}
	require.NoError(t, eventstore.Validate(full(), nil))
	for part, grow := range map[string]func(*eventstore.Event){
		"stream": func(e *eventstore.Event) { e.Stream += "s" },
		"type":   func(e *eventstore.Event) { e.Type += "t" },
		"tag":    func(e *eventstore.Event) { e.Tags[1] += "b" },
		"data":   func(e *eventstore.Event) { e.Data = append(e.Data, ' ') },
		"meta":   func(e *eventstore.Event) { e.Meta = []byte(`{ }`) },
	} {
		events := full()
		grow(&events[4])
		var input *eventstore.InputError
		require.ErrorAs(t, eventstore.Validate(events, nil), &input, part)
		require.Equal(t, eventstore.InputError{Field: "events", Rule: "bytes an append", Size: eventstore.MaxAppend + 1, Limit: eventstore.MaxAppend}, *input, part)
	}
}

func TestARefusalNamesThePlace(t *testing.T) {
	tags, twice := sound(), sound()
	tags.Tags = []string{"a", "b", ""}
	for field, err := range map[string]error{
		"events[1].tags[2]": eventstore.Validate([]eventstore.Event{sound(), tags}, nil),
		"events[2].id":      eventstore.Validate([]eventstore.Event{sound(), twice, twice}, nil),
		"expect[1].stream":  eventstore.Validate([]eventstore.Event{sound()}, []eventstore.Expect{eventstore.At("a", 0), eventstore.At("", 0)}),
		"expect[2].stream":  eventstore.Validate([]eventstore.Event{sound()}, []eventstore.Expect{eventstore.At("a", 0), eventstore.At("b", 0), eventstore.At("a", 1)}),
		"query.streams[1]":  eventstore.Query{Streams: []string{"a", ""}}.Validate(),
		"query.types[1]":    eventstore.Query{Types: []string{"a", ""}}.Validate(),
		"query.tags[1]":     eventstore.Query{Tags: []string{"a", ""}}.Validate(),
		"query.prefix":      eventstore.Query{Prefix: "\x00"}.Validate(),
		"checkpoint.name":   eventstore.Checkpoint{}.Validate(),
		"records[1]":        eventstore.ValidateRestore([]eventstore.Recorded{{Event: sound(), Version: 1, Append: 1, RecordedAt: time.Unix(0, 0).UTC()}, {Event: sound(), Version: 2, Append: 1}}),
		"events[0].stream":  eventstore.ValidateRestore([]eventstore.Recorded{{Event: eventstore.Event{ID: uuid.New()}}}),
		"events[0].tags[1]": eventstore.Validate([]eventstore.Event{{ID: uuid.New(), Stream: "s", Type: "t", Schema: 1, Tags: []string{"a", "a"}, Data: []byte(`{}`)}}, nil),
		"events[0].data":    eventstore.Validate([]eventstore.Event{{ID: uuid.New(), Stream: "s", Type: "t", Schema: 1}}, nil),
		"events[0].meta":    eventstore.Validate([]eventstore.Event{{ID: uuid.New(), Stream: "s", Type: "t", Schema: 1, Data: []byte(`{}`), Meta: []byte(`1`)}}, nil),
		"events[0].schema":  eventstore.Validate([]eventstore.Event{{ID: uuid.New(), Stream: "s", Type: "t", Data: []byte(`{}`)}}, nil),
	} {
		var input *eventstore.InputError
		require.ErrorAs(t, err, &input, field)
		require.Equal(t, field, input.Field)
	}
}

func TestRestoredTimesAreThoseThatEveryStoreCanHold(t *testing.T) {
	for _, c := range []struct {
		name string
		at   time.Time
		fits bool
	}{
		{"the first", time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), true},
		{"the last", time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), true},
		{"no time", time.Time{}, false},
		{"before the year 1", time.Date(0, 12, 31, 23, 59, 59, 0, time.UTC), false},
		{"after the year 9999", time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), false},
		{"a nanosecond", time.Date(2026, 3, 1, 9, 0, 0, 1, time.UTC), false},
		{"another zone", time.Date(2026, 3, 1, 9, 0, 0, 0, time.FixedZone("UTC", 0)), false},
	} {
		err := eventstore.ValidateRestore([]eventstore.Recorded{{Event: sound(), Version: 1, Append: 1, RecordedAt: c.at}})
		if c.fits {
			require.NoError(t, err, c.name)
			continue
		}
		require.ErrorIs(t, err, eventstore.ErrNotApplied, c.name)
		require.ErrorIs(t, err, eventstore.ErrInvalid, c.name)
	}
}

func TestTheLargestStateOfACheckpointAtFullSize(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector touches every byte of it")
	}
	c := eventstore.Checkpoint{Name: "fold", State: make([]byte, eventstore.MaxState+1)}
	var input *eventstore.InputError
	require.ErrorAs(t, c.Validate(), &input)
	require.Equal(t, eventstore.InputError{Field: "checkpoint.state", Rule: "bytes", Size: eventstore.MaxState + 1, Limit: eventstore.MaxState}, *input)
	c.State = c.State[1:]
	require.NoError(t, c.Validate())
}

func TestAQuerySelectsOnlyWhatComesLater(t *testing.T) {
	r := eventstore.Recorded{Event: sound(), Position: 7}
	for after, want := range map[eventstore.Position]bool{0: true, 6: true, 7: false, 8: false} {
		require.Equal(t, want, eventstore.Query{After: after}.Match(r), "after %d", after)
	}
}
