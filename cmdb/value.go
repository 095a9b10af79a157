package cmdb

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"
)

// MaxValue is the limit of an attribute's value, in bytes.
const MaxValue = 4 << 10

// Canonical returns value in the canonical form of the attribute's type, or an
// error that says what such a value is. An empty value is none: it has no form.
func (a AttributeSchema) Canonical(value string) (string, error) {
	if value == "" {
		return "", errors.New("a value is not empty")
	}
	if len(value) > MaxValue {
		return "", fmt.Errorf("a value has at most %d bytes, not %d", MaxValue, len(value))
	}
	if !plain(value, "\t\n") {
		return "", errors.New("a value is valid UTF-8 without control characters")
	}
	form := forms[a.Type]
	if form == nil {
		return "", fmt.Errorf("%q is no type of attributes", a.Type)
	}
	return form(a, value)
}

// plain reports whether text is valid UTF-8 without control characters but those allowed.
func plain(text, allowed string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if unicode.IsControl(r) && !strings.ContainsRune(allowed, r) {
			return false
		}
	}
	return true
}

var forms = map[AttributeType]func(a AttributeSchema, value string) (string, error){
	TypeString:  func(_ AttributeSchema, value string) (string, error) { return value, nil },
	TypeInt:     canonicalInt,
	TypeDecimal: canonicalDecimal,
	TypeBool:    canonicalBool,
	TypeTime:    canonicalTime,
	TypeDate:    canonicalDate,
	TypeEnum:    canonicalEnum,
	TypeSet:     canonicalSet,
	TypeURL:     canonicalURL,
	TypeMinUp:   canonicalMinUp,
}

func canonicalInt(_ AttributeSchema, value string) (string, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return "", errors.New(`an int is a whole number of 64 bits, such as "-5432"`)
	}
	return strconv.FormatInt(n, 10), nil
}

// maxDigits bounds a decimal on either side of its point, so that "1e999999999"
// does not become text of that length.
const maxDigits = 100

func canonicalDecimal(_ AttributeSchema, value string) (string, error) {
	wrong := fmt.Errorf(`a decimal is a number of at most %d digits on either side of the point, such as "2.5"`, maxDigits)
	if len(value) > 2*maxDigits+2 {
		return "", wrong
	}
	d, _, err := apd.NewFromString(value)
	if err != nil || d.Form != apd.Finite {
		return "", wrong
	}
	d.Reduce(d)
	if d.IsZero() {
		return "0", nil
	}
	if d.Exponent < -maxDigits || d.NumDigits()+int64(d.Exponent) > maxDigits {
		return "", wrong
	}
	return d.Text('f'), nil
}

func canonicalBool(_ AttributeSchema, value string) (string, error) {
	if value != "true" && value != "false" {
		return "", errors.New(`a bool is "true" or "false"`)
	}
	return value, nil
}

func canonicalTime(_ AttributeSchema, value string) (string, error) {
	t, err := time.Parse(time.RFC3339Nano, value)
	if err == nil {
		t = t.UTC()
	}
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return "", errors.New(`a time is RFC 3339 in UTC, such as "2026-03-02T09:00:00Z"`)
	}
	return t.Format(time.RFC3339Nano), nil
}

func canonicalDate(_ AttributeSchema, value string) (string, error) {
	t, err := time.Parse(time.DateOnly, value)
	if err != nil {
		return "", errors.New(`a date is year, month and day, such as "2026-03-02"`)
	}
	return t.Format(time.DateOnly), nil
}

func canonicalEnum(a AttributeSchema, value string) (string, error) {
	if !slices.Contains(a.Enum, value) {
		return "", fmt.Errorf("it is one of %s", quoted(a.Enum))
	}
	return value, nil
}

func canonicalSet(_ AttributeSchema, value string) (string, error) {
	words := strings.Split(value, ",")
	for i := range words {
		if words[i] = strings.TrimSpace(words[i]); words[i] == "" {
			return "", errors.New(`a set is words separated by commas, such as "blue,red"`)
		}
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ","), nil
}

func canonicalURL(_ AttributeSchema, value string) (string, error) {
	u, err := url.Parse(value)
	if err != nil || !u.IsAbs() || u.Host == "" && u.Opaque == "" && u.Path == "" || strings.ContainsAny(value, " \t\n") {
		return "", errors.New(`a URL has a scheme, such as "https://example.org/db-01"`)
	}
	return value, nil
}

func canonicalMinUp(_ AttributeSchema, value string) (string, error) {
	m, err := parseMinUp(value)
	if err != nil {
		return "", err
	}
	return m.String(), nil
}

// quoted lists words for an error, the first few of many.
func quoted(words []string) string {
	const most = 16
	var b strings.Builder
	for i, w := range words {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(words)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(w))
	}
	return b.String()
}
