package cmdb_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
)

func TestValuesHaveOneCanonicalForm(t *testing.T) {
	for _, c := range []struct {
		typ       cmdb.AttributeType
		value     string
		canonical string // empty: it is none
	}{
		{cmdb.TypeString, "two\nlines", "two\nlines"},
		{cmdb.TypeString, "", ""},
		{cmdb.TypeString, "a\x00b", ""},
		{cmdb.TypeString, "\xff", ""},
		{cmdb.TypeString, strings.Repeat("x", cmdb.MaxValue), strings.Repeat("x", cmdb.MaxValue)},
		{cmdb.TypeString, strings.Repeat("x", cmdb.MaxValue+1), ""},
		{cmdb.TypeInt, "5432", "5432"},
		{cmdb.TypeInt, "+007", "7"},
		{cmdb.TypeInt, "-0", "0"},
		{cmdb.TypeInt, "9223372036854775807", "9223372036854775807"},
		{cmdb.TypeInt, "9223372036854775808", ""},
		{cmdb.TypeInt, "1.0", ""},
		{cmdb.TypeInt, " 1", ""},
		{cmdb.TypeInt, "1_000", ""},
		{cmdb.TypeDecimal, "2.50", "2.5"},
		{cmdb.TypeDecimal, "1E3", "1000"},
		{cmdb.TypeDecimal, "1e-3", "0.001"},
		{cmdb.TypeDecimal, "-0.00", "0"},
		{cmdb.TypeDecimal, "0.1", "0.1"},
		{cmdb.TypeDecimal, "NaN", ""},
		{cmdb.TypeDecimal, "Infinity", ""},
		{cmdb.TypeDecimal, "1e999999999", ""},
		{cmdb.TypeDecimal, "1e-999999999", ""},
		{cmdb.TypeDecimal, "1e100", ""},
		{cmdb.TypeDecimal, "1e99", "1" + strings.Repeat("0", 99)},
		{cmdb.TypeDecimal, "1e-100", "0." + strings.Repeat("0", 99) + "1"},
		{cmdb.TypeDecimal, "1e-101", ""},
		{cmdb.TypeDecimal, "0e99", "0"},
		{cmdb.TypeDecimal, strings.Repeat("9", 300), ""},
		{cmdb.TypeDecimal, "1,5", ""},
		{cmdb.TypeBool, "true", "true"},
		{cmdb.TypeBool, "True", ""},
		{cmdb.TypeTime, "2026-03-02T10:00:00.500+01:00", "2026-03-02T09:00:00.5Z"},
		{cmdb.TypeTime, "2026-03-02", ""},
		{cmdb.TypeTime, "0000-01-01T00:00:00Z", ""},
		{cmdb.TypeTime, "9999-12-31T23:59:59-01:00", ""},
		{cmdb.TypeDate, "2026-03-02", "2026-03-02"},
		{cmdb.TypeDate, "2026-3-2", ""},
		{cmdb.TypeEnum, "high", "high"},
		{cmdb.TypeEnum, "High", ""},
		{cmdb.TypeSet, "red, blue,red", "blue,red"},
		{cmdb.TypeSet, "red,,blue", ""},
		{cmdb.TypeSet, ",", ""},
		{cmdb.TypeURL, "https://example.org/db?x=1", "https://example.org/db?x=1"},
		{cmdb.TypeURL, "mailto:ops@example.org", "mailto:ops@example.org"},
		{cmdb.TypeURL, "example.org", ""},
		{cmdb.TypeURL, "https://", ""},
		{cmdb.TypeURL, "https://a b", ""},
		{cmdb.TypeMinUp, "2", "2"},
		{cmdb.TypeMinUp, "050%", "50%"},
		{cmdb.TypeMinUp, "100%", "100%"},
		{cmdb.TypeMinUp, "101%", ""},
		{cmdb.TypeMinUp, "-1", ""},
		{cmdb.TypeMinUp, "%", ""},
		{cmdb.TypeMinUp, "1.5", ""},
		{"colour", "red", ""},
	} {
		a := cmdb.AttributeSchema{Name: "a", Type: c.typ}
		if c.typ == cmdb.TypeEnum {
			a.Enum = []string{"low", "high"}
		}
		got, err := a.Canonical(c.value)
		if c.canonical == "" {
			require.Error(t, err, "%s %.80q", c.typ, c.value)
			continue
		}
		require.NoError(t, err, "%s %.80q", c.typ, c.value)
		require.Equal(t, c.canonical, got)
		again, err := a.Canonical(got)
		require.NoError(t, err)
		require.Equal(t, got, again, "a canonical form is its own")
	}
}

func FuzzCanonical(f *testing.F) {
	types := []cmdb.AttributeType{cmdb.TypeString, cmdb.TypeInt, cmdb.TypeDecimal, cmdb.TypeBool, cmdb.TypeTime, cmdb.TypeDate, cmdb.TypeSet, cmdb.TypeURL, cmdb.TypeMinUp}
	for i, s := range []string{"text", "1", "1.50e3", "true", "2026-03-02T09:00:00Z", "2026-03-02", "b,a", "https://example.org", "50%"} {
		f.Add(i, s)
	}
	f.Fuzz(func(t *testing.T, i int, value string) {
		a := cmdb.AttributeSchema{Name: "a", Type: types[uint(i)%uint(len(types))]}
		form, err := a.Canonical(value)
		if err != nil {
			return
		}
		again, err := a.Canonical(form)
		require.NoError(t, err, "%s %q -> %q", a.Type, value, form)
		require.Equal(t, form, again)
	})
}
