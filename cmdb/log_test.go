package cmdb_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
)

// applied is an event of another room that carries deltas, as a change's would.
type applied struct {
	Change string       `json:"change"`
	Deltas []cmdb.Delta `json:"deltas"`
}

func (a applied) CMDB() cmdb.Carried { return cmdb.Carried{Deltas: a.Deltas, Cause: a.Change} }
func (a applied) Tags() []string     { return cmdb.Tags(a.Deltas) }

// noted is an event that has nothing to do with the CMDB.
type noted struct {
	Text string `json:"text"`
}

// testRegistry has the types of the CMDB and those two.
func testRegistry(t testing.TB) *eventstore.Registry {
	registry, err := eventstore.NewRegistry(append(cmdb.Types(),
		eventstore.Type[applied]("change.applied", 1),
		eventstore.Type[noted]("note.noted", 1))...)
	require.NoError(t, err)
	return registry
}

// written is a log that is written by hand, at positions of one's own.
type written struct {
	t        testing.TB
	registry *eventstore.Registry
	records  []eventstore.Recorded
	versions map[string]uint64
}

func write(t testing.TB) *written {
	return &written{t: t, registry: testRegistry(t), versions: map[string]uint64{}}
}

// standard writes the standard classes and relations.
func standard(t testing.TB) *written {
	w := write(t)
	for _, c := range cmdb.StandardClasses() {
		w.add("classes", cmdb.ClassDefined{Class: c})
	}
	for _, r := range cmdb.StandardRelations() {
		w.add("classes", cmdb.RelationDefined{Relation: r})
	}
	return w
}

// add writes an event at the next position.
func (w *written) add(stream string, payload any) *written {
	w.versions[stream]++
	n := len(w.records) + 1
	e, err := w.registry.Encode(uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)), payload)
	require.NoError(w.t, err)
	e.Stream = stream
	e.Meta, err = eventstore.Metadata{Actor: fmt.Sprint("u-", n%3), OccurredAt: monday.Add(time.Duration(n) * time.Second)}.Encode()
	require.NoError(w.t, err)
	w.records = append(w.records, eventstore.Recorded{
		Event: e, Version: w.versions[stream], Position: eventstore.Position(n), Append: eventstore.Position(n),
		RecordedAt: monday.Add(time.Duration(n) * time.Minute),
	})
	return w
}

// deltas writes an event with deltas, as a person records them.
func (w *written) deltas(deltas ...cmdb.Delta) *written {
	return w.add("ci-"+deltas[0].CI, cmdb.Recorded{Deltas: deltas})
}

// fold folds the records given, of all of them none.
func (w *written) fold(records ...eventstore.Recorded) *cmdb.Graph {
	if records == nil {
		records = w.records
	}
	g := cmdb.NewGraph(w.registry)
	for _, r := range records {
		require.NoError(w.t, g.Apply(r))
	}
	return g
}

func snapshot(t require.TestingT, g *cmdb.Graph) []byte {
	b, err := g.Snapshot()
	require.NoError(t, err)
	return b
}
