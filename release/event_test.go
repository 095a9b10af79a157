package release_test

import (
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/release"
)

// payloads are all events of this room by the names under which they are recorded.
// Names are for ever: what stands here is added to, never changed.
var payloads = map[string]any{
	"release.numbered":            release.Numbered{},
	"release.planned":             release.Planned{},
	"release.edited":              release.Edited{},
	"release.change-bound":        release.ChangeBound{},
	"release.change-unbound":      release.ChangeUnbound{},
	"release.evidence-added":      release.EvidenceAdded{},
	"release.item-checked":        release.ItemChecked{},
	"release.gate-waived":         release.GateWaived{},
	"release.approval-asked":      release.ApprovalAsked{},
	"release.voted":               release.Voted{},
	"release.approval-decided":    release.ApprovalDecided{},
	"release.deployment-started":  release.DeploymentStarted{},
	"release.reported":            release.Reported{},
	"release.wave-begun":          release.WaveBegun{},
	"release.deployment-paused":   release.DeploymentPaused{},
	"release.deployment-resumed":  release.DeploymentResumed{},
	"release.deployment-finished": release.DeploymentFinished{},
	"release.deployment-ended":    release.DeploymentEnded{},
	"release.hold-set":            release.HoldSet{},
	"release.hold-lifted":         release.HoldLifted{},
	"release.moved":               release.Moved{},
	"release.task-added":          release.TaskAdded{},
	"release.task-changed":        release.TaskChanged{},
	"release.noted":               release.Noted{},
	"environments.defined":        release.EnvironmentsDefined{},
	"installed.installing":        release.Installing{},
	"installed.installed":         release.Installed{},
	"installed.not-installed":     release.NotInstalled{},
	"installed.withheld":          release.Withheld{},
	"installed.released":          release.Released{},
}

// filled sets everything in v that can be set to something other than zero.
func filled(t *testing.T, v reflect.Value, depth int) {
	require.Less(t, depth, 12, "%s", v.Type())
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(monday.Add(1234 * time.Microsecond)))
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
	r := open(t).registry
	require.Len(t, payloads, len(release.Types()), "a new event needs its line above")
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
