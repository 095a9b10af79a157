package change_test

import (
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
)

// payloads are all events of this room by the names under which they are recorded.
// Names are for ever: what stands here is added to, never changed.
var payloads = map[string]any{
	"register.numbered":      change.Numbered{},
	"external.referenced":    change.Referenced{},
	"change.raised":          change.Raised{},
	"change.edited":          change.Edited{},
	"change.assessed":        change.Assessed{},
	"change.moved":           change.Moved{},
	"change.stage-planned":   change.StagePlanned{},
	"change.stage-requested": change.StageRequested{},
	"change.stage-skipped":   change.StageSkipped{},
	"change.stage-escalated": change.StageEscalated{},
	"change.voted":           change.Voted{},
	"change.stage-decided":   change.StageDecided{},
	"change.authorized":      change.Authorized{},
	"change.unauthorized":    change.Unauthorized{},
	"change.started":         change.Started{},
	"change.implemented":     change.Implemented{},
	"change.reviewed":        change.Reviewed{},
	"change.timed":           change.Timed{},
	"change.carried":         change.Carried{},
	"change.held":            change.Held{},
	"change.resumed":         change.Resumed{},
	"change.task-added":      change.TaskAdded{},
	"change.task-changed":    change.TaskChanged{},
	"change.linked":          change.Linked{},
	"change.noted":           change.Noted{},
	"model.published":        change.Published{},
	"template.proposed":      change.Proposed{},
	"template.approved":      change.TemplateApproved{},
	"template.published":     change.TemplatePublished{},
	"template.retired":       change.TemplateRetired{},
	"policy.recorded":        change.PolicyRecorded{},
}

// filled sets everything in v that can be set to something other than zero.
func filled(t *testing.T, v reflect.Value, depth int) {
	require.Less(t, depth, 12, "%s", v.Type())
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(monday.Add(1234 * time.Microsecond)))
		return
	case apd.Decimal:
		v.Set(reflect.ValueOf(*decimal("12.50")))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("a \"text\" of Łódź\n")
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(time.Hour))
	case reflect.Uint64:
		v.SetUint(42)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(t, v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		filled(t, v.Index(0), depth+1)
		filled(t, v.Index(1), depth+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		one := reflect.New(v.Type().Elem()).Elem()
		filled(t, one, depth+1)
		v.SetMapIndex(reflect.ValueOf("key"), one)
	case reflect.Struct:
		for i := range v.NumField() {
			require.True(t, v.Type().Field(i).IsExported(), "%s has a field that no event keeps", v.Type())
			filled(t, v.Field(i), depth+1)
		}
	default:
		t.Fatalf("%s is no type for an event", v.Type()) // floats among them
	}
}

func TestEveryEventComesBackAsItWasRecorded(t *testing.T) {
	r := registry(t)
	require.Len(t, payloads, len(change.Types()), "a new event needs its line above")
	snake := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for name, zero := range payloads {
		t.Run(name, func(t *testing.T) {
			for _, full := range []bool{false, true} {
				v := reflect.New(reflect.TypeOf(zero)).Elem()
				if full {
					filled(t, v, 0)
				}
				e, err := r.Encode(uuid.New(), v.Interface())
				require.NoError(t, err)
				require.Equal(t, name, e.Type)
				require.Equal(t, 1, e.Schema)
				back, err := r.Decode(e)
				require.NoError(t, err)
				if full { // of an empty one nil lists come back as empty ones
					require.Equal(t, v.Interface(), back)
				}
				again, err := r.Encode(e.ID, back)
				require.NoError(t, err)
				require.Equal(t, string(e.Data), string(again.Data))
				for _, field := range fieldNames(t, e.Data) {
					require.Regexp(t, snake, field)
				}
			}
		})
	}
}

// fieldNames returns the names in all objects of a JSON text.
func fieldNames(t *testing.T, data []byte) []string {
	var all []string
	var walk func(v jsontext.Value)
	walk = func(v jsontext.Value) {
		switch v.Kind() {
		case '{':
			var fields map[string]jsontext.Value
			require.NoError(t, json.Unmarshal(v, &fields))
			for name, value := range fields {
				all = append(all, name)
				walk(value)
			}
		case '[':
			var items []jsontext.Value
			require.NoError(t, json.Unmarshal(v, &items))
			for _, item := range items {
				walk(item)
			}
		}
	}
	walk(data)
	return all
}
