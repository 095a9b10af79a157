package schedule

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Entry is an event of an iCalendar feed.
type Entry struct {
	UID         string    // stable: it is the same entry whenever it has the same
	Sequence    uint64    // rises with each change of it; readers keep the highest
	Stamp       time.Time // when it was changed last
	Start, End  time.Time // half open; without length it is an instant
	Summary     string
	Description string
	Location    string
	URL         string
	Status      string // "TENTATIVE", "CONFIRMED", "CANCELLED"; default none
	Categories  []string
	Free        bool // it takes nobody's time
}

// WriteICal writes a feed of iCalendar (RFC 5545), in UTC throughout, so that no
// reader needs zone data. The same entries make the same bytes.
//
// It is our own writer since of those at hand one does not fold lines, and the
// other folds at spaces and drops what is around them.
func WriteICal(w io.Writer, name string, entries []Entry) error {
	f := &feed{w: bufio.NewWriter(w)}
	f.line("BEGIN:VCALENDAR")
	f.line("VERSION:2.0")
	f.line("PRODID:-//rollforward//schedule//EN")
	f.line("METHOD:PUBLISH")
	if name != "" {
		f.line("X-WR-CALNAME:" + escaped(name))
	}
	for i, e := range entries {
		if err := e.check(); err != nil {
			return fmt.Errorf("entry %d of the feed: %w", i, err)
		}
		f.entry(e)
	}
	f.line("END:VCALENDAR")
	if err := f.w.Flush(); err != nil {
		return fmt.Errorf("write the feed: %w", err)
	}
	return nil
}

// Entries returns the occurrences of c that have some time within [from, to) as
// entries of a feed, each with the UID that it always has: of the ID of the
// window and its own start. The sequence is that of the window.
func (c *Compiled) Entries(from, to time.Time, sequence uint64, stamp time.Time) []Entry {
	var list []Entry
	for o := range c.Occurrences(from, to) {
		list = append(list, Entry{
			UID: c.window.ID + "-" + o.Start.Format(icalUTC), Sequence: sequence, Stamp: stamp, Start: o.Start, End: o.End,
			Summary: c.window.Name, Description: c.window.Reason, Status: "CONFIRMED", Categories: []string{string(c.window.Kind)}, Free: true,
		})
	}
	return list
}

func (e Entry) check() error {
	switch {
	case strings.TrimSpace(e.UID) == "":
		return fmt.Errorf("it has no UID")
	case e.End.Before(e.Start):
		return fmt.Errorf("%s ends before it starts", e.UID)
	case e.Status != "" && !slices.Contains([]string{"TENTATIVE", "CONFIRMED", "CANCELLED"}, e.Status):
		return fmt.Errorf("%s has the status %q, which no event may have", e.UID, e.Status)
	}
	for _, at := range []time.Time{e.Start, e.End, e.Stamp} {
		if y := at.UTC().Year(); y < 1 || y > 9998 {
			return fmt.Errorf("%s is in the year %d, which has not four digits", e.UID, y)
		}
	}
	return nil
}

const (
	icalUTC  = "20060102T150405Z"
	maxOctet = 75 // of a line, without its end
)

// feed writes content lines; the first failure of its writer is kept by it.
type feed struct{ w *bufio.Writer }

func (f *feed) entry(e Entry) {
	text := func(name, value string) {
		if value != "" {
			f.line(name + ":" + escaped(value))
		}
	}
	f.line("BEGIN:VEVENT")
	text("UID", e.UID)
	f.line(fmt.Sprintf("SEQUENCE:%d", e.Sequence))
	f.line("DTSTAMP:" + e.Stamp.UTC().Format(icalUTC))
	f.line("DTSTART:" + e.Start.UTC().Format(icalUTC))
	if end := e.End.Add(time.Second - 1).Truncate(time.Second); end.After(e.Start.Truncate(time.Second)) {
		f.line("DTEND:" + end.UTC().Format(icalUTC))
	}
	text("SUMMARY", e.Summary)
	text("DESCRIPTION", e.Description)
	text("LOCATION", e.Location)
	if e.URL != "" {
		f.line("URL:" + plain(strings.Join(strings.Fields(e.URL), "%20")))
	}
	if e.Status != "" {
		f.line("STATUS:" + e.Status)
	}
	if len(e.Categories) > 0 {
		list := make([]string, len(e.Categories))
		for i, c := range e.Categories {
			list[i] = escaped(c)
		}
		f.line("CATEGORIES:" + strings.Join(list, ","))
	}
	if e.Free {
		f.line("TRANSP:TRANSPARENT")
	}
	f.line("END:VEVENT")
}

// line writes a content line, folded so that no part of it has more than 75
// octets, and no character is split (3.1).
func (f *feed) line(text string) {
	for room := maxOctet; len(text) > room; room = maxOctet - 1 {
		cut := room
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		f.w.WriteString(text[:cut] + "\r\n ")
		text = text[cut:]
	}
	f.w.WriteString(text + "\r\n")
}

var escapes = strings.NewReplacer(`\`, `\\`, ";", `\;`, ",", `\,`, "\r\n", `\n`, "\n", `\n`, "\r", `\n`)

// escaped returns text as a value of type TEXT (3.3.11).
func escaped(text string) string { return plain(escapes.Replace(text)) }

// plain returns text as a value may have it: in UTF-8, and without control
// characters but the tab.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
}
