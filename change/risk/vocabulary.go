package risk

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/cockroachdb/apd/v3"
)

// variable is a name that conditions can speak of, and the kind of its facts.
type variable struct {
	name string
	kind *cel.Type
}

// factVariables are the names of change.Facts.Map.
func factVariables() []variable {
	is := func(kind *cel.Type, names ...string) []variable {
		var all []variable
		for _, name := range names {
			all = append(all, variable{name, kind})
		}
		return all
	}
	list, counts := cel.ListType(cel.StringType), cel.MapType(cel.StringType, cel.IntType)
	return slices.Concat(
		is(cel.StringType, "change", "model", "template", "category", "group", "origin", "cost", "benefit", "urgency"),
		is(cel.IntType, "deltas", "impacted", "conflicts"),
		is(cel.BoolType, "planned", "backout", "tested", "timed"),
		is(cel.DurationType, "lead_time", "outage"),
		is(list, "cis", "impacted_cis", "degraded", "environments"),
		is(counts, "criticality", "classes", "answers"),
		is(cel.MapType(cel.StringType, counts), "history"),
	)
}

// levelVariable is what models know besides.
func levelVariable() variable { return variable{"risk", cel.StringType} }

// evidenceVariables are the names of what conditions over evidence speak of.
func evidenceVariables() []variable {
	return []variable{
		{"category", cel.StringType}, {"age", cel.DurationType},
		{"evidence", cel.MapType(cel.StringType, cel.StringType)}, {"answers", cel.MapType(cel.StringType, cel.IntType)},
	}
}

// fits reports whether a value is of a kind, all through.
func fits(kind *cel.Type, v ref.Val) bool {
	switch kind.Kind() {
	case types.ListKind:
		list, ok := v.(traits.Lister)
		for i := types.Int(0); ok && i < list.Size().(types.Int); i++ {
			ok = fits(kind.Parameters()[0], list.Get(i))
		}
		return ok
	case types.MapKind:
		m, ok := v.(*ordered)
		if !ok {
			return false
		}
		for _, key := range m.keys {
			if value, there := m.Find(key); !there || !fits(kind.Parameters()[1], value) {
				return false
			}
		}
		return true
	}
	return v.Type().TypeName() == kind.TypeName()
}

func (e *environment) names() string { return strings.Join(slices.Sorted(maps.Keys(e.vars)), ", ") }

func sorted(vars map[string]variable) []variable {
	all := make([]variable, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		all = append(all, vars[name])
	}
	return all
}

// value turns a fact into what conditions compute with. A fact of another kind
// than its name promises is an error: compared, it would quietly be unequal.
func (v variable) value(fact any) (ref.Val, error) {
	left := maxFact
	value, err := plain(fact, 0, &left)
	if err != nil {
		return nil, err
	}
	if !fits(v.kind, value) {
		return nil, fmt.Errorf("it is %s, and should be %s", value.Type().TypeName(), v.kind)
	}
	return value, nil
}

// plain turns a plain value into one of CEL; left is how many more there may be.
func plain(fact any, depth int, left *int) (ref.Val, error) {
	if *left--; *left < 0 || depth > 20 {
		return nil, fmt.Errorf("it has more than %d values, or nests more than 20 deep", maxFact)
	}
	switch x := fact.(type) {
	case nil:
		return types.NullValue, nil
	case bool:
		return types.Bool(x), nil
	case int:
		return types.Int(x), nil
	case int64:
		return types.Int(x), nil
	case string:
		return types.String(x), nil
	case time.Time:
		return types.Timestamp{Time: x.UTC()}, nil
	case time.Duration:
		return types.Duration{Duration: x}, nil
	case []any:
		list := make([]ref.Val, len(x))
		for i, element := range x {
			value, err := plain(element, depth+1, left)
			if err != nil {
				return nil, err
			}
			list[i] = value
		}
		return types.NewRefValList(types.DefaultTypeAdapter, list), nil
	case map[string]any:
		entries := make(map[string]any, len(x))
		m := &ordered{}
		for _, key := range slices.Sorted(maps.Keys(x)) {
			value, err := plain(x[key], depth+1, left)
			if err != nil {
				return nil, err
			}
			entries[key] = value
			m.keys = append(m.keys, types.String(key))
		}
		m.Mapper = types.NewStringInterfaceMap(types.DefaultTypeAdapter, entries)
		return m, nil
	}
	return nil, fmt.Errorf("%T is no plain value: give nil, bool, int64, string, time.Time, time.Duration, []any or map[string]any", fact)
}

// ordered is a map that is gone through in the order of its keys. Go's own order
// differs from time to time, and with it what a condition says of the first
// element, and what it costs.
type ordered struct {
	traits.Mapper
	keys []ref.Val
}

// Fold is how comprehensions go through a map.
func (m *ordered) Fold(f traits.Folder) {
	for _, key := range m.keys {
		if !f.FoldEntry(key, m.Get(key)) {
			return
		}
	}
}

// Iterator is the other way.
func (m *ordered) Iterator() traits.Iterator {
	return types.NewRefValList(types.DefaultTypeAdapter, m.keys).Iterator()
}

// amount reads a decimal that a condition compares.
func amount(v ref.Val) (*apd.Decimal, error) {
	text, ok := v.(types.String)
	if !ok {
		return nil, errors.New("compare takes text: two exact decimals")
	}
	if text == "" {
		return nil, errors.New(`compare: there is no amount: ask whether it is "" before`)
	}
	if len(text) > 100 {
		return nil, errors.New("compare: a decimal has at most 100 characters")
	}
	d, _, err := apd.NewFromString(string(text))
	if err != nil || d.Form != apd.Finite {
		return nil, fmt.Errorf("compare: %q is no exact decimal", string(text))
	}
	return d, nil
}
