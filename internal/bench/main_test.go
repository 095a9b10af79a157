package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a run prints, with figures that are made up.
var fake = []row{
	{What: "a file alone", Unit: "events/s", Known: "6,600-7,200", Limit: 6912.4},
	row{What: "append: 1 writer, 1 event", Unit: "events/s", Known: "5,600-6,300", Wanted: 0.90}.rates(100, [2][]time.Duration{
		{20 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond},
		{19 * time.Millisecond, 20 * time.Millisecond, 45 * time.Millisecond},
	}),
	{What: "read all", Unit: "events/s", Limit: 1_234_567, Ours: 900_000, Pairs: 7, Value: spread{0.729, 0.7, 12}, Wanted: 0.80},
	{What: "append p99: at many / at empty", Unit: "ms", Limit: 0.25, Ours: 0.6, Pairs: 7, Value: spread{2, 1.5, 3}, Wanted: 2, Most: true},
	{What: "memory", Pairs: 1, Value: spread{287, 287, 287}, Of: " B", Wanted: 300, Most: true},
}

func Example() {
	if err := print(os.Stdout, fake); err != nil {
		fmt.Println(err)
	}
	// Output:
	// what                                limit     SPEED.md     ours            ratio    min - max   wanted
	// a file alone                        6,912  6,600-7,200           events/s
	// append: 1 writer, 1 event           5,000  5,600-6,300    4,000  events/s   0.90  0.80 - 0.95  >= 0.90  ok
	// read all                        1,234,567               900,000  events/s   0.73    0.70 - 12  >= 0.80  BELOW
	// append p99: at many / at empty       0.25                  0.60  ms         2.00  1.50 - 3.00   < 2.00  ABOVE
	// memory                                                                     287 B               < 300 B  ok
}

func Example_forMachines() {
	if err := printJSON(os.Stdout, fake[1:]); err != nil {
		fmt.Println(err)
	}
	// Output:
	// {"what":"append: 1 writer, 1 event","unit":"events/s","limit":5000,"speed_md":"5,600-6,300","ours":4000,"median":0.9,"min":0.8,"max":0.95,"pairs":3,"at_least":0.9,"verdict":"ok"}
	// {"what":"read all","unit":"events/s","limit":1234567,"ours":900000,"median":0.729,"min":0.7,"max":12,"pairs":7,"at_least":0.8,"verdict":"BELOW"}
	// {"what":"append p99: at many / at empty","unit":"ms","limit":0.25,"ours":0.6,"median":2,"min":1.5,"max":3,"pairs":7,"below":2,"verdict":"ABOVE"}
	// {"what":"memory","of":"B","median":287,"min":287,"max":287,"pairs":1,"below":300,"verdict":"ok"}
}

func TestTheMedianIsOfTheRatiosOfEachPair(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{3, 1}, spread{2, 1, 3}},
		{[]float64{9, 1, 5}, spread{5, 1, 9}},
		{[]float64{4, 1, 100, 2}, spread{3, 1, 100}},
	} {
		require.Equal(t, c.want, spreadOf(c.values))
	}
	// The machine was ten times slower during the second pair: the rates say little,
	// the ratios are the same.
	r := row{}.rates(10, [2][]time.Duration{{2 * time.Second, 20 * time.Second, 2 * time.Second}, {time.Second, 10 * time.Second, time.Second}})
	require.Equal(t, spread{0.5, 0.5, 0.5}, r.Value)
	require.Equal(t, 3, r.Pairs)
	require.Equal(t, []float64{5, 10}, []float64{r.Ours, r.Limit})
}

func TestAPercentileIsATimeThatWasMeasured(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(200-i))
	}
	require.Equal(t, time.Duration(198), percentile(times, 99))
	require.Equal(t, time.Duration(200), percentile(times, 100))
	require.Equal(t, time.Duration(1), percentile(times, 0))
	require.Equal(t, time.Duration(7), percentile([]time.Duration{7}, 99))
}

func TestASideOfAPairRunsFirstEveryOtherTime(t *testing.T) {
	var ran []string
	say := func(what string) func() error {
		return func() error {
			ran = append(ran, what)
			return nil
		}
	}
	took, err := pair(3, say("turn"), say("ours"), say("limit"))
	require.NoError(t, err)
	require.Equal(t, strings.Fields("turn ours limit turn limit ours turn ours limit"), ran)
	require.Len(t, took[0], 3)
	require.Len(t, took[1], 3)

	broken := errors.New("broken")
	for i := range 3 {
		sides := []func() error{say(""), say(""), say("")}
		sides[i] = func() error { return broken }
		_, err := pair(1, sides[0], sides[1], sides[2])
		require.ErrorIs(t, err, broken)
	}
}

// What is written of a measurement is what was measured: every one runs, at sizes
// that say nothing of speed.
func TestEveryMeasurementRuns(t *testing.T) {
	b := &bench{
		sizes: sizes{pairs: 2, appends: 8, crowd: 2 * crowd, loads: 5, scan: 2_000, streams: 300, held: 2_000, large: 8_000},
		ctx:   context.Background(), dir: t.TempDir(), say: t.Logf,
	}
	rows := 0
	for _, m := range measurements {
		measured, err := m.run(b)
		require.NoError(t, err, m.name)
		for _, r := range measured {
			rows++
			require.NotEmpty(t, r.What)
			if m.name == "sync" {
				require.Positive(t, r.Limit)
				continue
			}
			if m.name != "relay" { // whose rows are printed only
				require.Positive(t, r.Wanted, r.What)
			}
			require.Positive(t, r.Pairs, r.What)
			require.LessOrEqual(t, r.Value.Min, r.Value.Median, r.What)
			require.LessOrEqual(t, r.Value.Median, r.Value.Max, r.What)
			if r.Of == "" {
				require.Positive(t, r.Value.Min, r.What)
				require.Positive(t, r.Ours, r.What)
				require.Positive(t, r.Limit, r.What)
			}
		}
	}
	require.Equal(t, 19, rows)
}

func TestOnlyStrictRunsFailOfARow(t *testing.T) {
	missed := measurements
	defer func() { measurements = missed }()
	measurements = measurements[:0:0]
	for i, name := range []string{"good", "bad"} {
		measurements = append(measurements, missed[0])
		measurements[i].name = name
		measurements[i].run = func(*bench) ([]row, error) { return []row{fake[1+i]}, nil }
	}
	run := func(args ...string) (string, error) {
		var out, log bytes.Buffer
		err := command(t.Context(), append(args, "-dir", t.TempDir()), &out, &log)
		return out.String(), err
	}
	out, err := run()
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(out, "\n"))
	out, err = run("-strict", "-json")
	require.ErrorIs(t, err, errNotReached)
	require.ErrorContains(t, err, "read all")
	require.NotContains(t, err.Error(), "1 writer")
	require.Equal(t, 2, strings.Count(out, "\n"))
	out, err = run("-strict", "-run", "good")
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(out, "\n"))

	_, err = run("-run", "(")
	require.Error(t, err)
	_, err = run("everything")
	require.ErrorContains(t, err, "everything")
	_, err = run("-h")
	require.ErrorIs(t, err, flag.ErrHelp)
}
