package main

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
)

// realHistory is the folder of the real history, which is not part of the repository.
func realHistory(t *testing.T) string {
	folder := filepath.Join("..", "..", "..", "shared", "data", "openstack")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("the real history is not there: %v", err)
	}
	return folder
}

// oracle is the history computed straight from the files, without the engine and
// without the reader of the program.
type oracle struct {
	rows  []map[string]string
	files map[string][]string // versions in their order, by series/deliverable
	weeks []map[string]any    // of freezes
}

func read(t *testing.T, folder string) *oracle {
	o := &oracle{files: map[string][]string{}}
	file, err := os.Open(filepath.Join(folder, "release_changes.csv"))
	require.NoError(t, err)
	defer file.Close()
	all, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	for _, fields := range all[1:] {
		r := map[string]string{}
		for i, name := range all[0] {
			r[name] = fields[i]
		}
		o.rows = append(o.rows, r)
	}
	names, err := filepath.Glob(filepath.Join(folder, "deliverables", "*", "*.yaml"))
	require.NoError(t, err)
	for _, name := range names {
		var d struct {
			Releases []map[string]any `yaml:"releases"`
		}
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(data, &d))
		versions := []string{}
		for _, release := range d.Releases {
			versions = append(versions, release["version"].(string)) // panics where YAML takes one for a number
		}
		o.files[filepath.Base(filepath.Dir(name))+"/"+strings.TrimSuffix(filepath.Base(name), ".yaml")] = versions
	}
	names, err = filepath.Glob(filepath.Join(folder, "schedules", "*.yaml"))
	require.NoError(t, err)
	for _, name := range names {
		var s struct {
			Cycle []map[string]any `yaml:"cycle"`
		}
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(data, &s))
		for _, week := range s.Cycle {
			week["series"] = strings.TrimSuffix(filepath.Base(name), ".yaml")
			o.weeks = append(o.weeks, week)
		}
	}
	return o
}

// put is a version that a merged row puts in force.
type put struct {
	at      time.Time
	row     int
	version string
	place   int // in the file's list
}

// puts returns what the rows put in force of everything that has a file, in the
// order of time, and of rows that were merged at the same time in theirs.
func (o *oracle) puts(t *testing.T) map[string][]put {
	all := map[string][]put{}
	for n, r := range o.rows {
		if r["merged_at"] == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, r["merged_at"])
		require.NoError(t, err)
		for _, series := range strings.Fields(r["series"]) {
			for _, name := range strings.Fields(r["deliverables"]) {
				best := put{place: -1}
				for _, v := range strings.Fields(r["versions_released"]) {
					if place := slices.Index(o.files[series+"/"+name], v); place > best.place {
						best = put{at, n, v, place}
					}
				}
				if best.place >= 0 {
					all[series+"/"+name] = append(all[series+"/"+name], best)
				}
			}
		}
	}
	for _, puts := range all {
		slices.SortStableFunc(puts, func(a, b put) int { return a.at.Compare(b.at) })
	}
	return all
}

// mismatches returns, of those with a merged version, how many there are, and those
// of which the version put last is not the last of the file among those merged.
func mismatches(puts map[string][]put, at time.Time) (of int, wrong map[string][2]string) {
	wrong = map[string][2]string{}
	for id, list := range puts {
		var last, best *put
		for i, p := range list {
			if !at.IsZero() && p.at.After(at) {
				break
			}
			last = &list[i]
			if best == nil || p.place > best.place {
				best = &list[i]
			}
		}
		if last == nil {
			continue
		}
		of++
		if last.version != best.version {
			wrong[id] = [2]string{last.version, best.version}
		}
	}
	return of, wrong
}

// frozen returns how many merged rows that the program uses fell into a freeze of
// something that they release.
func (o *oracle) frozen(t *testing.T, a *agenda) int {
	n := 0
	for _, j := range a.jobs {
		merged, err := time.Parse(time.RFC3339, o.rows[j.line-2]["merged_at"])
		if err != nil {
			continue // it was not merged
		}
		day := merged.UTC().Format(time.DateOnly)
		falls := false
		for _, week := range o.weeks {
			if day < week["start"].(string) || day > week["end"].(string) {
				continue
			}
			for _, d := range j.releases {
				series, name, _ := strings.Cut(d.ci, "/")
				for _, list := range []string{"x-project", "project-specific"} {
					marks, _ := week[list].([]any)
					for _, m := range marks {
						switch parts := strings.Split(m.(string), "-"); {
						case series != week["series"] || parts[len(parts)-1] != "ff":
						case len(parts) == 2: // all of the series
							falls = true
						case list == "project-specific":
							falls = falls || name == parts[1]
						default:
							require.NotContains(t, o.files, d.ci, "%s is about a type, which only files tell", m)
						}
					}
				}
			}
		}
		if falls {
			n++
		}
	}
	return n
}

// cutHistory leaves the first rows of a history, for runs under the race detector.
func cutHistory(h *history, rows int) {
	h.rows = h.rows[:min(len(h.rows), rows)]
}

func TestTheRealHistoryEndsWhereItsFilesSayAtFullSize(t *testing.T) {
	folder := realHistory(t)
	h, err := readHistory(folder, 0)
	require.NoError(t, err)
	require.Empty(t, h.skipped)
	require.Empty(t, h.files)
	if race.Enabled {
		cutHistory(h, 400)
	}
	a := newAgenda(h)
	store := memory.New()
	c := &clock{}
	c.follow(a.events[0].at)
	eng, err := openEngine(t.Context(), store, h, c.Now)
	require.NoError(t, err)
	defer func() { require.NoError(t, eng.Close()) }()
	p, _, err := replayed(t.Context(), newReplay(eng, h, c, atOnce), store, a, nil)
	require.NoError(t, err)
	require.Empty(t, p.refused)

	o := read(t, folder)
	o.rows = o.rows[:len(h.rows)]
	puts := o.puts(t)
	for _, c := range p.checks {
		of, wrong := mismatches(puts, c.at)
		require.Equal(t, of, c.of, "as of %s", c.at)
		require.Equal(t, of-len(wrong), c.matches, "as of %s", c.at)
		for _, m := range c.mismatches {
			require.Equal(t, [2]string{m.inForce, m.want}, wrong[m.ci], "%s as of %s", m.ci, c.at)
			require.NotEmpty(t, m.history)
		}
	}
	require.Equal(t, o.frozen(t, a), p.frozen)

	if !race.Enabled {
		require.Equal(t, 10_290, h.read)
		require.Equal(t, tally{
			"several series or deliverables, and no file that says which version is whose": 1_314,
			"releases no version":                            1_067,
			"names no series or no deliverable":              96,
			"no file of its deliverables lists its versions": 5,
		}, a.skipped)
		require.Zero(t, a.early)
		require.Len(t, p.checks, 1+dates)
		require.Equal(t, []int{1_321, 1_322}, []int{p.checks[0].matches, p.checks[0].of})
		require.Equal(t, "yoga/kayobe", p.checks[0].mismatches[0].ci)
		require.Equal(t, []int{7_808, 820, 6_988, 6_988}, []int{p.changes, p.open, p.releases, p.deploys})
		require.Equal(t, 429, p.frozen)
		require.Equal(t, tally{"blackout": 2 * 429}, p.conflicts, "each at the start of the change and of the deployment")
		require.Equal(t, map[int]int{2015: 155, 2016: 907, 2017: 947, 2018: 992, 2019: 964, 2020: 1_045, 2021: 991, 2022: 957, 2023: 30}, p.years)
	}
	foldsAgree(t, eng, logOf(t, store))
	var out bytes.Buffer
	require.NoError(t, p.print(&out))
	require.Contains(t, out.String(), "deliverables match\n")
}

func logOf(t *testing.T, store eventstore.Store) []eventstore.Recorded {
	var log []eventstore.Recorded
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		log = append(log, r)
	}
	return log
}
