package schedule_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
)

// known is the registry of all tests.
var known = registry()

// world is a log that nobody decided, with the folds of it.
type world struct {
	t        require.TestingT
	log      []eventstore.Recorded
	versions map[string]uint64
	graph    *cmdb.Graph
	fold     *schedule.Schedule
}

func newWorld(t require.TestingT) *world {
	w := &world{t: t, versions: map[string]uint64{}, graph: cmdb.NewGraph(known), fold: schedule.Projection(known).New()}
	for _, c := range cmdb.StandardClasses() {
		w.put("classes", cmdb.ClassDefined{Class: c})
	}
	for _, r := range cmdb.StandardRelations() {
		w.put("classes", cmdb.RelationDefined{Relation: r})
	}
	return w
}

// put records events and folds them.
func (w *world) put(stream string, payloads ...any) {
	for _, payload := range payloads {
		event, err := known.Encode(uuid.New(), payload)
		require.NoError(w.t, err)
		event.Stream = stream
		w.versions[stream]++
		r := eventstore.Recorded{Event: event, Version: w.versions[stream], Position: eventstore.Position(len(w.log) + 1), RecordedAt: monday}
		w.log = append(w.log, r)
		require.NoError(w.t, w.graph.Apply(r))
		require.NoError(w.t, w.fold.Apply(r))
	}
}

// raise puts a change into a phase of a kind.
func (w *world) raise(id string, kind change.Kind, c change.Content) {
	w.put("change-"+id, change.Raised{Change: id, Model: "quick", Content: c, Phase: "draft", Kind: string(change.KindPlan), At: monday})
	if kind != change.KindPlan {
		w.move(id, kind)
	}
}

func (w *world) move(id string, kind change.Kind) {
	w.put("change-"+id, change.Moved{To: string(kind), Kind: string(kind), At: monday, Ends: kind == change.KindClosed || kind == change.KindCanceled})
}

// random is a small world drawn at random, of which all times are quarters of an
// hour, and what was drawn, for oracles.
type random struct {
	*world
	changes  []string
	of       map[string]*plan
	needs    [][2]string // the first needs the second
	windows  []schedule.Window
	capacity map[string]int
}

// plan is what was drawn of a change, as the last event left it.
type plan struct {
	change.Content
	kind  change.Kind
	done  bool
	ended bool
}

func (p *plan) takes() bool {
	return p != nil && !p.ended && !p.done && p.Window != nil &&
		slices.Contains([]change.Kind{change.KindAssess, change.KindAuthorize, change.KindScheduled, change.KindImplement}, p.kind)
}

var (
	cis    = []string{"a", "b", "c", "d", "e"}
	people = []string{"ann", "bob"}
	teams  = []string{"", "dba"}
)

func some(r *rapid.T, from []string, label string) []string {
	var all []string
	for _, one := range from {
		if rapid.IntRange(0, 2).Draw(r, label+" "+one) == 0 {
			all = append(all, one)
		}
	}
	return all
}

func (f *random) cis(r *rapid.T, label string) []string    { return some(r, cis, label) }
func (f *random) people(r *rapid.T, label string) []string { return some(r, people, label) }
func (f *random) group(r *rapid.T, label string) string {
	return rapid.SampledFrom(teams).Draw(r, label+" team")
}

func (f *random) window(r *rapid.T, label string) *change.Window {
	start := rapid.IntRange(0, 36*4-1).Draw(r, label+" start")
	return change.Between(minute(15*start), minute(15*(start+rapid.IntRange(1, 24).Draw(r, label+" length"))))
}

func (f *random) content(r *rapid.T, id string) change.Content {
	c := change.Content{Title: "t", CIs: f.cis(r, id), Implementers: f.people(r, id), Group: f.group(r, id)}
	if rapid.IntRange(0, 9).Draw(r, id+" has a window") > 0 {
		c.Window = f.window(r, id)
	}
	if len(f.changes) > 0 && rapid.IntRange(0, 3).Draw(r, id+" has an order") == 0 {
		c.Order = []change.Order{{
			Rule:   rapid.SampledFrom([]string{change.MustFollow, change.MustNotOverlap}).Draw(r, id+" order"),
			Change: rapid.SampledFrom(append(slices.Clone(f.changes), "CHG-999999")).Draw(r, id+" ordered to"),
		}}
	}
	return c
}

var kinds = []change.Kind{change.KindPlan, change.KindAssess, change.KindAuthorize, change.KindScheduled, change.KindScheduled, change.KindImplement, change.KindReview}

func drawWorld(r *rapid.T) *random {
	f := &random{world: newWorld(r), of: map[string]*plan{}, capacity: map[string]int{}}
	for _, ci := range cis {
		f.put("ci-"+ci, cmdb.Recorded{Deltas: []cmdb.Delta{cmdb.Add(ci, rapid.SampledFrom([]string{"server", "database"}).Draw(r, "class of "+ci))}})
	}
	for i, from := range cis {
		for _, to := range cis[i+1:] {
			if rapid.IntRange(0, 3).Draw(r, from+" needs "+to) == 0 {
				f.needs = append(f.needs, [2]string{from, to})
				f.put("ci-"+from, cmdb.Recorded{Deltas: []cmdb.Delta{cmdb.Relate(from, rapid.SampledFrom([]string{"depends on", "runs on"}).Draw(r, "how"), to)}})
			}
		}
	}
	for n := range rapid.IntRange(0, 3).Draw(r, "windows") {
		f.defines(r, fmt.Sprintf("w%d", n))
	}
	if rapid.Bool().Draw(r, "capacity") {
		f.capacity["dba"] = rapid.IntRange(1, 2).Draw(r, "of dba")
		f.put("capacity-dba", schedule.CapacityDeclared{Team: "dba", Most: f.capacity["dba"]})
	}
	for n := range rapid.IntRange(0, 8).Draw(r, "changes") {
		id := fmt.Sprintf("CHG-%06d", n+1)
		p := &plan{Content: f.content(r, id), kind: rapid.SampledFrom(kinds).Draw(r, id+" kind")}
		f.raise(id, p.kind, p.Content)
		f.changes, f.of[id] = append(f.changes, id), p
	}
	for n := range rapid.IntRange(0, 6).Draw(r, "events") {
		if len(f.changes) > 0 {
			f.happens(r, rapid.SampledFrom(f.changes).Draw(r, fmt.Sprint("event", n)))
		}
	}
	return f
}

// defines draws a window, daily or once.
func (f *random) defines(r *rapid.T, id string) {
	w := schedule.Window{ID: id, Name: id, Kind: rapid.SampledFrom([]schedule.Kind{schedule.Allow, schedule.Deny}).Draw(r, id+" kind")}
	start := minute(15 * rapid.IntRange(-96, 36*4).Draw(r, id+" start"))
	w.Start = start.Format("2006-01-02T15:04:05")
	w.End = start.Add(time.Duration(rapid.IntRange(1, 60).Draw(r, id+" length")) * 15 * time.Minute).Format("2006-01-02T15:04:05")
	if rapid.Bool().Draw(r, id+" daily") {
		w.Rule = "FREQ=DAILY"
	}
	switch rapid.IntRange(0, 2).Draw(r, id+" scope") {
	case 0:
		w.Scope.Everything = true
	case 1:
		w.Scope.CIs = []string{rapid.SampledFrom(cis).Draw(r, id+" about")}
	case 2:
		w.Scope.Classes = []string{"database"}
	}
	f.windows = append(f.windows, w)
	f.put("window-"+id, schedule.WindowDefined{Window: w})
}

// happens lets something happen to a change.
func (f *random) happens(r *rapid.T, id string) {
	p := f.of[id]
	if p.ended {
		return
	}
	switch rapid.IntRange(0, 4).Draw(r, "what happens to "+id) {
	case 0:
		p.Window = f.window(r, id+" moved")
		f.put("change-"+id, change.Edited{Set: change.Content{Window: p.Window}})
	case 1:
		if p.CIs = f.cis(r, id+" now"); len(p.CIs) > 0 {
			f.put("change-"+id, change.Edited{Set: change.Content{CIs: p.CIs}})
		} else {
			f.put("change-"+id, change.Edited{Clear: []string{"cis"}})
		}
	case 2:
		p.kind = change.KindCanceled
		p.ended = true
		f.move(id, p.kind)
	case 3:
		p.done = true
		f.put("change-"+id, change.Implemented{Change: id, End: at(30)})
	case 4:
		f.put("change-"+id, change.Held{Reason: "ice"}, change.Noted{Text: "it is cold"})
	}
}
