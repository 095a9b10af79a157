package workflow_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	gojson "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

// libraries are the JSON libraries that a model has to survive: that of the log,
// and that of everybody else.
var libraries = map[string]struct {
	marshal   func(any) ([]byte, error)
	unmarshal func([]byte, any) error
}{
	"encoding/json": {json.Marshal, json.Unmarshal},
	"go-json-experiment": {
		func(v any) ([]byte, error) { return gojson.Marshal(v, gojson.Deterministic(true)) },
		func(data []byte, into any) error { return gojson.Unmarshal(data, into) },
	},
}

func TestAModelComesBackFromJSONAsItWas(t *testing.T) {
	models := workflowtest.Models(vocabulary(), "a < b && \"c\"")
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			for _, m := range []workflow.Model{normal(), emergency()} {
				data, err := library.marshal(m)
				require.NoError(t, err)
				var back workflow.Model
				require.NoError(t, library.unmarshal(data, &back))
				require.Equal(t, m, back)
			}
			rapid.Check(t, func(t *rapid.T) {
				m := models.Draw(t, "model")
				data, err := library.marshal(m)
				require.NoError(t, err)
				var back workflow.Model
				require.NoError(t, library.unmarshal(data, &back))
				require.Equal(t, m, back)
				for _, other := range libraries {
					back = workflow.Model{}
					require.NoError(t, other.unmarshal(data, &back))
					require.Equal(t, m, back, "written by one library and read by the other")
				}
				again, err := library.marshal(back)
				require.NoError(t, err)
				require.Equal(t, string(data), string(again))
			})
		})
	}
}

func TestFieldsThatAProgramDoesNotKnowAreLeftOut(t *testing.T) {
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			var m workflow.Model
			require.NoError(t, library.unmarshal([]byte(`{"name":"m","colour":"red","phases":[{"name":"p","kind":"plan","shape":{"round":true}}],"transitions":[]}`), &m))
			require.Equal(t, workflow.Model{Name: "m", Phases: []workflow.Phase{{Name: "p", Kind: "plan"}}, Transitions: []workflow.Transition{}}, m)
		})
	}
}

// The names of JSON last for ever: this is how a model stands in the log.
func TestTheNamesOfAModelInJSONStayAsTheyAre(t *testing.T) {
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			data, err := library.marshal(emergency())
			require.NoError(t, err)
			require.Equal(t, `{"name":"emergency",`+
				`"phases":[{"name":"draft","kind":"plan","edits":["*"]},{"name":"authorize","kind":"authorize","stages":["board"]},`+
				`{"name":"implement","kind":"implement"},{"name":"review","kind":"review"},{"name":"closed","kind":"closed"},{"name":"canceled","kind":"canceled"}],`+
				`"transitions":[{"from":"draft","to":"authorize"},{"from":"authorize","to":"implement"},{"from":"implement","to":"review"},{"from":"review","to":"closed"}],`+
				`"stages":[{"name":"board","candidates":[{"group":"board"}],"rule":{"counting":"at least","n":2}}],`+
				`"authority":"retrospective","retrospective":{"authorize_within":"24h0m0s","review_within":"72h0m0s"}}`, string(data))

			data, err = library.marshal(normal())
			require.NoError(t, err)
			for _, part := range []string{
				`"title":"Normal change"`, `"tasks":[{"title":"Tell the users","kind":"communication","group":"desk"}]`, `"together":true`,
				`"table":{"rows":[{"when":"risk == \"high\"","stages":["security","cab"]},{"stages":["cab"]}]}`,
				`{"from":"draft","to":"assess","requires":["title","window"]}`, `{"from":"assess","to":"authorize","automatic":true,"guards":["assessed"]}`,
				`"skip":true`, `{"group":"cab","each_member":true}`, `{"role":"change manager"}`, `{"owners":true}`, `"required":["carol"],"deadline":"72h0m0s","escalate":[{"person":"dora"}]`,
				`"material":[{"field":"outage","immaterial":true},{"field":"window","voids":["cab"]},{"field":"implementers"}]`, `{"part":"approver","against":"requester"}`,
			} {
				require.Contains(t, string(data), part)
			}
		})
	}
}

func TestADurationIsTextInJSON(t *testing.T) {
	type box struct {
		D workflow.Duration `json:"d,omitzero"`
	}
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			for text, want := range map[string]time.Duration{"72h0m0s": 72 * time.Hour, "1.5s": 1500 * time.Millisecond, "-1m0s": -time.Minute} {
				data, err := library.marshal(box{workflow.Duration(want)})
				require.NoError(t, err)
				require.JSONEq(t, `{"d":"`+text+`"}`, string(data))
				var back box
				require.NoError(t, library.unmarshal(data, &back))
				require.Equal(t, workflow.Duration(want), back.D)
			}
			data, err := library.marshal(box{})
			require.NoError(t, err)
			require.Equal(t, `{}`, string(data))
			var back box
			require.NoError(t, library.unmarshal([]byte(`{"d":"3h"}`), &back), "also as people write it")
			require.Equal(t, hours(3), back.D)
			for _, bad := range []string{`"3 days"`, `""`, `10`, `"10"`, `true`} {
				require.Error(t, library.unmarshal([]byte(`{"d":`+bad+`}`), &back), bad)
			}
			require.ErrorContains(t, library.unmarshal([]byte(`{"d":"3 days"}`), &back), `"3 days" is no duration: write it as 90m or 72h`)
		})
	}
	require.Equal(t, "1h0m0s", hours(1).String())
}

// FuzzModel: whatever is published, checking and drawing it ends without a panic;
// what is found sound is the same after a round trip.
func FuzzModel(f *testing.F) {
	for _, m := range []workflow.Model{normal(), emergency()} {
		data, err := json.Marshal(m)
		require.NoError(f, err)
		f.Add(data)
	}
	for seed := range 5 {
		data, err := json.Marshal(workflowtest.Models(vocabulary(), "a").Example(seed))
		require.NoError(f, err)
		f.Add(data)
	}
	for _, text := range []string{
		``, `{}`, `null`, `{"phases":[{}],"transitions":[{}]}`, `{"phases":[null]}`, `{"phases":[{"table":{"rows":[null]}}]}`, `{"retrospective":{}}`,
		`{"stages":[{"rule":{"counting":"percent","n":-9223372036854775808}}]}`, `{"phases":[{"name":"a","kind":"plan"},{"name":"a","kind":"closed"}],"transitions":[{"from":"a","to":"a","automatic":true}]}`,
	} {
		f.Add([]byte(text))
	}
	v := vocabulary()
	f.Fuzz(func(t *testing.T, data []byte) {
		var m workflow.Model
		if err := gojson.Unmarshal(data, &m); err != nil {
			return
		}
		_, _, _ = m.Mermaid(v), m.DOT(v), m.String()
		for _, p := range m.Phases {
			_, _, _, err := p.Applies(m, holding())
			require.NoError(t, err)
		}
		for _, s := range m.Stages {
			given, _ := workflow.Seats(s, s.Candidates, directory, nil)
			workflow.Count(s.Rule, s.Required, given, nil)
		}
		err := m.Validate(v)
		if err != nil {
			var unsound *workflow.ModelError
			require.True(t, errors.As(err, &unsound))
			require.NotEmpty(t, unsound.Faults)
			return
		}
		again, err := gojson.Marshal(m, gojson.Deterministic(true))
		require.NoError(t, err)
		var back workflow.Model
		require.NoError(t, gojson.Unmarshal(again, &back))
		require.NoError(t, back.Validate(v))
		require.Equal(t, m.String(), back.String())
	})
}
