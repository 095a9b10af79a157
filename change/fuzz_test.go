package change_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/spec"
)

// FuzzContent: whatever somebody sends is judged without a panic and always alike; what
// is recorded is in its normal form; and the digest that an approval names is that of
// the content as it is read back.
func FuzzContent(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"title":" Upgrade ","implementers":["b","a","b"],"cis":["db-01"],"window":{"start":"2026-03-02T10:00:00.0000001+01:00","end":"2026-03-02T12:00:00Z"}}`))
	f.Add([]byte(`{"title":"x","deltas":[{"op":"add","ci":"n","class":"database","attributes":{"port":"1","engine":"pg"}}],"cost":"1E+3","failure":"0.0","outage":{"expected":true,"for":60}}`))
	f.Add([]byte(`{"title":"x","answers":[{"question":"b","value":1},{"question":"a","value":2}],"evidence":[{"url":"https://a.b/c"}],"order":[{"rule":"must follow","change":"CHG-000001"}],"plans":{"backout":"b"}}`))
	f.Add([]byte("{\"title\":\"\xff\",\"cost\":\"NaN\",\"window\":{\"start\":\"0001-01-01T00:00:00Z\",\"end\":\"9999-12-31T23:59:59Z\"},\"stakeholders\":[{\"who\":\"\"}]}"))
	r := registry(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var c change.Content
		if json.Unmarshal(data, &c, jsontext.AllowInvalidUTF8(true)) != nil {
			return
		}
		n := change.Normal(c)
		require.Empty(t, n.Diff(change.Normal(n)))
		require.Equal(t, change.Scope(n), change.Scope(change.Normal(n)))
		wrong := change.Problems(n)
		require.Equal(t, wrong, change.Problems(n))
		if len(wrong) > 0 {
			return
		}
		e, err := r.Encode(uuid.New(), change.Raised{Content: n})
		require.NoError(t, err, "what is right can be recorded")
		back, err := r.Decode(e)
		require.NoError(t, err)
		read := back.(change.Raised).Content
		require.Empty(t, n.Diff(read))
		require.Equal(t, change.Scope(n), change.Scope(read))
		require.Empty(t, change.Problems(read))
		require.Empty(t, read.Diff(change.Normal(read)), "what was recorded is in its normal form")
	})
}

// FuzzEvolve: a fold takes whatever events come, in whatever order, without a panic, and
// never alters what it has handed out.
func FuzzEvolve(f *testing.F) {
	r := registry(f)
	var life [][]byte
	for _, age := range histories {
		for e := range spec.Replay(f, age.file, r).Records() {
			if _, of := payloads[e.Type]; of {
				life = append(life, append([]byte(e.Type+" "), e.Data...))
			}
		}
	}
	for some := range slices.Chunk(life, 8) {
		f.Add(bytes.Join(some, []byte("\n")))
		slices.Reverse(some)
		f.Add(bytes.Join(some, []byte("\n")))
	}
	f.Add([]byte("change.moved {\"back\":true}\nchange.voted {\"stage\":\"x\"}\nchange.resumed {}\nchange.task-changed {\"id\":-1}\nchange.task-changed {\"id\":1}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c change.Change
		list := change.Projection(r).New()
		version := uint64(0)
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			name, payload, _ := bytes.Cut(line, []byte(" "))
			if _, known := payloads[string(name)]; !known || version == 20 { // a longer input finds no more, only slower
				continue
			}
			version++
			e := eventstore.Event{ID: uuid.New(), Stream: "change-CHG-000001", Type: string(name), Schema: 1, Data: payload}
			decoded, err := r.Decode(e)
			if err != nil {
				version--
				continue
			}
			require.NotEmpty(t, change.Say(c, decoded))
			handed, _ := list.Get("CHG-000001")
			before := asJSON(t, handed)
			c = change.Evolve(c, decoded)
			require.NoError(t, list.Apply(eventstore.Recorded{Event: e, Version: version, Position: eventstore.Position(version)}))
			require.Equal(t, before, asJSON(t, handed))
			listed, _ := list.Get("CHG-000001")
			require.Equal(t, asJSON(t, c), asJSON(t, listed))
			for _, a := range c.Approvals {
				a.Tally()
			}
			c.Open()
			c.Declared()
		}
	})
}
