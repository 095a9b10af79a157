package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// row is one measurement: a value, and what is wanted of it.
type row struct {
	What  string  // the sentence
	Unit  string  // of Limit and Ours
	Limit float64 // what the limit reaches; 0 where there is none
	Known string  // what SPEED.md has for the limit, events a second; empty where it has none
	Ours  float64 // what the store reaches; 0 where only the limit is measured

	Pairs  int     // how many values Value is the spread of
	Value  spread  // judged: a ratio, or a size in Of
	Of     string  // unit of Value, empty for a ratio
	Wanted float64 // of Value's median; 0 where nothing is wanted
	Most   bool    // Wanted is the most, else the least
}

// holds reports whether what is wanted is reached.
func (r row) holds() bool {
	switch {
	case r.Wanted == 0:
		return true
	case r.Most:
		return r.Value.Median < r.Wanted
	}
	return r.Value.Median >= r.Wanted
}

// verdict is empty where nothing is wanted.
func (r row) verdict() string {
	switch {
	case r.Wanted == 0:
		return ""
	case r.holds():
		return "ok"
	case r.Most:
		return "ABOVE"
	}
	return "BELOW"
}

func (r row) wanted() string {
	switch {
	case r.Wanted == 0:
		return ""
	case r.Most:
		return "< " + short(r.Wanted) + r.Of
	}
	return ">= " + short(r.Wanted) + r.Of
}

func (r row) value() (median, spread string) {
	if r.Pairs == 0 {
		return "", ""
	}
	median = short(r.Value.Median) + r.Of
	if r.Pairs > 1 {
		spread = fmt.Sprintf("%s - %s", short(r.Value.Min), short(r.Value.Max))
	}
	return median, spread
}

// short writes a ratio with two digits behind the point, and a size with none.
func short(f float64) string {
	if math.Abs(f) < 10 {
		return strconv.FormatFloat(f, 'f', 2, 64)
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

// grouped writes a figure with its thousands apart, as SPEED.md does.
func grouped(f float64) string {
	if f == 0 {
		return ""
	}
	if f < 10 {
		return strconv.FormatFloat(f, 'f', 2, 64)
	}
	s := strconv.FormatFloat(f, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// print writes rows as one aligned table.
func print(out io.Writer, rows []row) error {
	table := [][]string{{"what", "limit", "SPEED.md", "ours", "", "ratio", "min - max", "wanted", ""}}
	for _, r := range rows {
		median, spread := r.value()
		table = append(table, []string{r.What, grouped(r.Limit), r.Known, grouped(r.Ours), r.Unit, median, spread, r.wanted(), r.verdict()})
	}
	width := make([]int, len(table[0]))
	for _, cells := range table {
		for i, c := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	left := map[int]bool{0: true, 4: true, 8: true}
	for _, cells := range table {
		var line strings.Builder
		for i, c := range cells {
			space := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if left[i] {
				line.WriteString(c + space + "  ")
			} else {
				line.WriteString(space + c + "  ")
			}
		}
		if _, err := fmt.Fprintln(out, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// printJSON writes rows as one object a line.
func printJSON(out io.Writer, rows []row) error {
	for _, r := range rows {
		line := struct {
			What    string  `json:"what"`
			Unit    string  `json:"unit,omitempty"`
			Limit   float64 `json:"limit,omitempty"`
			Known   string  `json:"speed_md,omitempty"`
			Ours    float64 `json:"ours,omitempty"`
			Of      string  `json:"of,omitempty"`
			Median  float64 `json:"median,omitempty"`
			Min     float64 `json:"min,omitempty"`
			Max     float64 `json:"max,omitempty"`
			Pairs   int     `json:"pairs,omitempty"`
			Least   float64 `json:"at_least,omitempty"`
			Below   float64 `json:"below,omitempty"`
			Verdict string  `json:"verdict,omitempty"`
		}{
			What: r.What, Unit: r.Unit, Limit: r.Limit, Known: r.Known, Ours: r.Ours, Of: strings.TrimSpace(r.Of),
			Median: r.Value.Median, Min: r.Value.Min, Max: r.Value.Max, Pairs: r.Pairs, Verdict: r.verdict(),
		}
		if r.Most {
			line.Below = r.Wanted
		} else {
			line.Least = r.Wanted
		}
		b, err := json.Marshal(line)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", b); err != nil {
			return err
		}
	}
	return nil
}
