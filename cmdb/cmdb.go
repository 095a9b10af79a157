// Package cmdb knows what there is and what hangs on what: configuration items
// (CIs) of classes, typed relations between them, and how both became what they
// are. It is a fold over every event of the log that carries deltas, whoever
// recorded it, so it knows nothing of changes or releases.
//
// In come [Delta] values: recorded by hand through [Service.Record], reported by
// a source through [Service.Import], or carried by the events of other rooms
// (see [Carrier]). Out come CIs, impact with its paths, the history of a CI, and
// pictures of a neighbourhood.
//
//	_, err := inventory.Record(ctx, clerk,
//		cmdb.Add("db-01", "database", cmdb.Attr("version", "15")),
//		cmdb.Add("shop", "service", cmdb.Attr("criticality", "high")),
//		cmdb.Relate("shop", "depends on", "db-01"))
//	impact, err := inventory.Impact(ctx, "db-01", cmdb.Down)
//
// # Deciding and folding
//
// What is recorded by hand or planned is checked when it is decided: unknown
// classes, values that are not of an attribute's type, a value before that is no
// longer the one there. A fold never refuses: a delta that does not fit when it
// is folded, such as a late observation, becomes a [Discrepancy], which is
// listed. Each delta is taken whole or not at all; a value set over another one
// than expected is taken, since it reports what happened, and is listed.
//
// The graph is the same whatever the order in which events reach it and however
// often they do: what counts is their position. It keeps all deltas in memory,
// for that and for the history of a CI: about 1.1 KB for a CI that was added with
// three attributes and two relations.
//
// A CI that is retired takes no part any more, and its relations end with it. It
// can be added again, as the class and with the attributes given then.
//
// # Time
//
// [Service.AsOf] returns the graph of what was true at a time, according to what
// was recorded up to a position, and [Service.Diff] what makes the CMDB of one
// such moment that of another. Both fold what the graph keeps, and read nothing.
//
// # Who else records
//
// [Service.Record] pins the streams of all CIs that its deltas name, so that of
// two who record the same CI at once the second is judged on what the first one
// recorded. What other rooms record about a CI, and what sources observe, is in
// streams of theirs: it is in the graph that a Record is checked on, up to the
// head of the log, and where it is recorded at the very same instant it may
// become a discrepancy.
package cmdb

// Names of the attributes that every class has.
const (
	AttrName        = "name"
	AttrStatus      = "status"      // of its life cycle: planned, in use, in maintenance, out of use
	AttrEnvironment = "environment" // "production"
	AttrCriticality = "criticality" // low, moderate, high, critical
	AttrOwner       = "owner"       // the team that answers for it, an opaque ID
	AttrTags        = "tags"        // a set: words, sorted, separated by a comma
	AttrMinUp       = "min_up"      // of a pool: how many members must be up, a count "2" or a percentage "50%"
)

// CI is a configuration item as it stands.
type CI struct {
	ID         string            `json:"id"`
	Class      string            `json:"class"`
	Attributes map[string]string `json:"attributes,omitzero"` // in the canonical text of their types; never empty values
	Retired    bool              `json:"retired,omitzero"`
}

// Attr gives an attribute of a CI that is added.
func Attr(name, value string) Attribute { return Attribute{name, value} }

// Attribute is a name and a value in the canonical text of its type.
type Attribute struct {
	Name, Value string
}

// Direction says which way impact is followed.
type Direction int

// The directions of impact.
const (
	Down Direction = iota // who is affected if this goes down
	Up                    // what this needs
)
