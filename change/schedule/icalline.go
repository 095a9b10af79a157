package schedule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// ErrICal is the kind of error that says that a file is no iCalendar.
var ErrICal = errors.New("broken iCalendar")

// ICalError says where a file is broken.
type ICalError struct {
	Line   int // from 1
	Reason string
}

func (e *ICalError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// Is reports whether target is [ErrICal].
func (e *ICalError) Is(target error) bool { return target == ErrICal }

func broken(line int, format string, args ...any) error {
	return &ICalError{line, fmt.Sprintf(format, args...)}
}

const maxICal = 16 << 20 // bytes of a file, which is held in memory

// property is a content line (RFC 5545, 3.1).
type property struct {
	line   int // on which it begins
	name   string
	params map[string]string // of several values the first
	value  string
}

// component is what is between BEGIN and END.
type component struct {
	line       int
	name       string
	properties []property
	inner      []*component
}

// first returns the first property of a name, or nil.
func (c *component) first(name string) *property {
	for i := range c.properties {
		if c.properties[i].name == name {
			return &c.properties[i]
		}
	}
	return nil
}

// text returns the first value of a name, of type TEXT.
func (c *component) text(name string) string {
	if p := c.first(name); p != nil {
		return strings.TrimSpace(unescaped(p.value))
	}
	return ""
}

const maxNested = 20 // components within one another

// parseICal returns the calendars of a file, or an *ICalError. Components that are
// not in a VCALENDAR, as some programs write them, are in one without a name.
func parseICal(r io.Reader) ([]*component, error) {
	file, err := io.ReadAll(io.LimitReader(r, maxICal+1))
	if err != nil {
		return nil, fmt.Errorf("read iCalendar: %w", err)
	}
	if len(file) > maxICal {
		return nil, broken(bytes.Count(file, []byte("\n")), "the file has more than %d MiB", maxICal>>20)
	}
	root := &component{}
	open := []*component{root}
	last := 0
	for line, text := range unfolded(bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))) {
		last = line
		p, err := parseProperty(line, text)
		if err != nil {
			return nil, err
		}
		top := open[len(open)-1]
		switch name := strings.ToUpper(strings.TrimSpace(p.value)); p.name {
		case "BEGIN":
			if len(open) > maxNested {
				return nil, broken(line, "components are nested more than %d deep", maxNested)
			}
			c := &component{line: line, name: name}
			top.inner = append(top.inner, c)
			open = append(open, c)
		case "END":
			if top == root || top.name != name {
				return nil, broken(line, "it ends %s, which was not begun last", quoted(name))
			}
			open = open[:len(open)-1]
		default:
			if top == root {
				return nil, broken(line, "%s is not in a VCALENDAR", quoted(p.name))
			}
			top.properties = append(top.properties, p)
		}
	}
	if top := open[len(open)-1]; top != root {
		return nil, broken(last, "the file ends within %s, which begins in line %d", quoted(top.name), top.line)
	}
	var calendars []*component
	bare := &component{}
	for _, c := range root.inner {
		if c.name == "VCALENDAR" {
			calendars = append(calendars, c)
		} else {
			bare.inner = append(bare.inner, c)
		}
	}
	if len(bare.inner) > 0 {
		calendars = append(calendars, bare)
	}
	if len(calendars) == 0 {
		return nil, broken(1, "there is no VCALENDAR")
	}
	return calendars, nil
}

// unfolded yields the content lines of a file, each with the number of the line
// on which it begins. Empty lines are left out.
func unfolded(file []byte) func(yield func(int, []byte) bool) {
	return func(yield func(int, []byte) bool) {
		var text []byte
		begin := 0
		for n := 1; len(file) > 0; n++ {
			var line []byte
			line, file, _ = bytes.Cut(file, []byte("\n"))
			line = bytes.TrimSuffix(line, []byte("\r"))
			if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') && text != nil {
				text = append(text, line[1:]...)
				continue
			}
			if len(bytes.TrimSpace(text)) > 0 && !yield(begin, text) {
				return
			}
			text, begin = append([]byte{}, line...), n
		}
		if len(bytes.TrimSpace(text)) > 0 {
			yield(begin, text)
		}
	}
}

// parseProperty returns the property of a content line.
func parseProperty(line int, content []byte) (property, error) {
	if !utf8.Valid(content) {
		return property{}, broken(line, "it is not UTF-8")
	}
	text := string(content)
	end := strings.IndexAny(text, ":;")
	if end <= 0 || strings.ContainsFunc(text[:max(end, 0)], notOfAName) {
		return property{}, broken(line, "%s is no NAME:VALUE", quoted(text))
	}
	p := property{line: line, name: strings.ToUpper(text[:end]), params: map[string]string{}}
	for text = text[end:]; strings.HasPrefix(text, ";"); {
		name, rest, ok := strings.Cut(text[1:], "=")
		if !ok || name == "" || strings.ContainsFunc(name, notOfAName) {
			return property{}, broken(line, "%s has a parameter that is no NAME=VALUE", quoted(p.name))
		}
		text = rest
		for first := true; first || strings.HasPrefix(text, ","); first = false {
			if !first {
				text = text[1:]
			}
			var value string
			if after, isQuoted := strings.CutPrefix(text, `"`); isQuoted {
				if value, text, ok = strings.Cut(after, `"`); !ok {
					return property{}, broken(line, "%s has a quotation that does not end", quoted(p.name))
				}
			} else {
				n := strings.IndexAny(text, `;:,"`)
				if n < 0 {
					return property{}, broken(line, "%s has no value", quoted(p.name))
				}
				value, text = text[:n], text[n:]
			}
			if first {
				p.params[strings.ToUpper(name)] = value
			}
		}
	}
	value, ok := strings.CutPrefix(text, ":")
	if !ok {
		return property{}, broken(line, "%s has a parameter that does not end where it should", quoted(p.name))
	}
	p.value = value
	return p, nil
}

func notOfAName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// quoted returns what a file says as an error may show it.
func quoted(text string) string {
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:60], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}

// unescaped returns a value of type TEXT as it was meant (3.3.11).
func unescaped(value string) string {
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '\\' && i+1 < len(value) {
			i++
			if c = value[i]; c == 'n' || c == 'N' {
				c = '\n'
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}
