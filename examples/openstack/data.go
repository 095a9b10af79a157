package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// history is what a folder tells: every line of it is either used or counted.
type history struct {
	rows         []row // that could be read, in the order of the file
	read         int   // rows, those that could not be read included
	skipped      tally // rows that could not be read, by reason
	deliverables map[string]deliverable
	series       map[string]bool // that have deliverable files
	weeks        []freezeWeek
	files        tally // files that could not be read, by reason
}

// row is one release change, as it was proposed and merged.
type row struct {
	line         int // in the file, from 1
	commit       string
	review       string // ID of the change under review
	proposer     string
	uploaded     time.Time
	merged       time.Time // zero: it was not merged, or nobody knows when
	subject      string
	series       []string
	deliverables []string
	versions     []string
}

// deliverable is what became of one deliverable in one series.
type deliverable struct {
	Team     string `yaml:"team"`
	Type     string `yaml:"type"`
	Model    string `yaml:"release-model"`
	Releases []struct {
		Version string `yaml:"version"`
	} `yaml:"releases"`
}

// last returns the last of the versions in the list that d released; ok is false
// if d released none of them. A version that d lists twice stands where it was
// listed last.
func (d deliverable) last(versions []string) (version string, ok bool) {
	for i := len(d.Releases) - 1; i >= 0; i-- {
		if v := d.Releases[i].Version; v != "" && slices.Contains(versions, v) {
			return v, true
		}
	}
	return "", false
}

// freezeWeek is a week of a series' schedule in which features are frozen.
type freezeWeek struct {
	series string
	mark   string // "z-ff", "o-horizon-ff"
	only   string // deliverable that it is about, or with kind type of deliverable; empty: all of the series
	kind   bool
	start  time.Time // first day
	end    time.Time // after the last day
}

// tally counts by reason.
type tally map[string]int

func (t tally) total() int {
	n := 0
	for _, count := range t {
		n += count
	}
	return n
}

func ci(series, deliverable string) string { return series + "/" + deliverable }

// readHistory reads a folder. It fails where the folder or its table of changes
// cannot be read; single rows and files that are broken are counted. Unless most is 0 it
// reads the first rows only, so many.
func readHistory(folder string, most int) (*history, error) {
	h := &history{skipped: tally{}, deliverables: map[string]deliverable{}, series: map[string]bool{}, files: tally{}}
	root := os.DirFS(folder)
	table, err := root.Open("release_changes.csv")
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer table.Close()
	if err := h.readTable(table, most); err != nil {
		return nil, fmt.Errorf("read the history: release_changes.csv: %w", err)
	}
	if err := h.eachYAML(root, "deliverables", h.readDeliverable); err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	if err := h.eachYAML(root, "schedules", h.readSchedule); err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return h, nil
}

var columns = []string{
	"change_sha", "gerrit_change_id", "proposed_by", "authored_at", "uploaded_at", "merged_at", "merge_sha", "subject", "series", "deliverables", "versions_released",
}

// readTable reads the rows. A row is a line: a quote that is never closed breaks
// that row and not the rest of the file.
func (h *history) readTable(file fs.File, most int) error {
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	seen := map[string]bool{}
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSuffix(lines.Text(), "\r")
		if n == 1 {
			if got, err := fields(strings.TrimPrefix(text, "\ufeff")); err != nil || !slices.Equal(got, columns) {
				return fmt.Errorf("the columns are %s, not %.200q", strings.Join(columns, ", "), text)
			}
			continue
		}
		if text == "" {
			continue
		}
		if most > 0 && h.read == most {
			break
		}
		h.read++
		r, err := readRow(n, text)
		switch {
		case err != nil:
			h.skipped[err.Error()]++
		case seen[r.commit]:
			h.skipped["a row with the commit of another"]++
		default:
			seen[r.commit] = true
			h.rows = append(h.rows, r)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if h.read == 0 {
		return errors.New("there are no rows")
	}
	return nil
}

func fields(line string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(line))
	r.FieldsPerRecord = len(columns)
	return r.Read()
}

// readRow reads a row; the error is one of few reasons, to be counted.
func readRow(line int, text string) (row, error) {
	f, err := fields(text)
	switch {
	case !utf8.ValidString(text):
		return row{}, errors.New("a broken row: not UTF-8")
	case errors.Is(err, csv.ErrFieldCount):
		return row{}, errors.New("a broken row: number of columns")
	case err != nil:
		return row{}, errors.New("a broken row: quotes")
	}
	r := row{
		line: line, commit: f[0], review: f[1], proposer: f[2], subject: f[7],
		series: strings.Fields(f[8]), deliverables: strings.Fields(f[9]), versions: strings.Fields(f[10]),
	}
	if r.commit == "" || len(r.commit) > 64 || r.proposer == "" || len(r.proposer) > 64 {
		return row{}, errors.New("a broken row: no commit or no proposer")
	}
	if r.uploaded, err = time.Parse(time.RFC3339, f[4]); err != nil {
		return row{}, errors.New("a broken row: time of upload")
	}
	if f[5] != "" {
		if r.merged, err = time.Parse(time.RFC3339, f[5]); err != nil {
			return row{}, errors.New("a broken row: time of merge")
		}
	}
	for _, name := range slices.Concat(r.series, r.deliverables, r.versions) {
		if len(name) > 80 || strings.ContainsAny(name, "/@,") {
			return row{}, errors.New("a broken row: a name that is none")
		}
	}
	return r, nil
}

// eachYAML gives take the bytes of each YAML file below a folder, and counts those
// that it does not take. A folder that is not there has none.
func (h *history) eachYAML(root fs.FS, folder string, take func(name string, data []byte) error) error {
	if _, err := fs.Stat(root, folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fs.WalkDir(root, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".yaml" {
			return err
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if err := take(name, data); err != nil {
			h.files[fmt.Sprintf("broken file %s: %v", name, err)]++
		}
		return nil
	})
}

func (h *history) readDeliverable(name string, data []byte) error {
	var d deliverable
	if err := yaml.Unmarshal(data, &d); err != nil {
		return errors.New("no YAML of a deliverable")
	}
	series, product := path.Base(path.Dir(name)), strings.TrimSuffix(path.Base(name), ".yaml")
	h.series[series] = true
	h.deliverables[ci(series, product)] = d
	return nil
}

// readSchedule takes the weeks whose marks end in -ff: one letter for the series,
// what it is about where it is not all of it, and ff.
func (h *history) readSchedule(name string, data []byte) error {
	var s struct {
		Cycle []struct {
			Start    string   `yaml:"start"`
			End      string   `yaml:"end"`
			All      []string `yaml:"x-project"`
			Specific []string `yaml:"project-specific"`
		} `yaml:"cycle"`
	}
	if err := yaml.Unmarshal(data, &s); err != nil {
		return errors.New("no YAML of a schedule")
	}
	series := strings.TrimSuffix(path.Base(name), ".yaml")
	for _, week := range s.Cycle {
		for i, mark := range slices.Concat(week.All, week.Specific) {
			name, ok := strings.CutSuffix(mark, "-ff")
			if !ok {
				continue
			}
			_, only, _ := strings.Cut(name, "-")
			start, err := time.Parse(time.DateOnly, week.Start)
			if err != nil {
				return errors.New("a week without a first day")
			}
			end, err := time.Parse(time.DateOnly, week.End)
			if err != nil || end.Before(start) {
				return errors.New("a week without a last day")
			}
			h.weeks = append(h.weeks, freezeWeek{series: series, mark: mark, only: only, kind: only != "" && i < len(week.All), start: start, end: end.AddDate(0, 0, 1)})
		}
	}
	return nil
}
