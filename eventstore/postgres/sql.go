package postgres

import (
	"fmt"
	"strings"
)

// statements are what is sent to the server. All values are placeholders, and the name
// of the schema is one that Open has checked.
type statements struct {
	reserve    string // locks streams and draws numbers
	insertOne  string
	insertMany string
	insertTags string
	setCounter string // of serialized appends

	byID     string // events by their IDs
	version  string // of a stream
	head     string
	last     string // the position of the last committed event, readable or not
	bound    string // the position before which all is readable that ever will be
	fences   string
	maxima   string // from where to where some streams are read
	prefixed string // the names of streams with a prefix

	page, pageLean     string // of the whole log
	positions          string // likewise, alone
	stream, streamLean string // of one stream, with the version at which it stands
	at, atLean         string // events at positions, filtered
	lists              map[kind]string

	save, load, forget string // checkpoints
	lock               string // keeps all appends out
}

// columns are those that a row is made of, in the order of record.
const (
	columns     = "position, append, id, stream, version, type, schema, recorded_at, tags, meta, data"
	leanColumns = "position, append, id, stream, version, type, schema, recorded_at, NULL::text, NULL::text, data"
)

func newStatements(schema string, serialized bool) statements {
	in := func(query string) string { return strings.ReplaceAll(query, "rollforward.", schema+".") }
	list := func(of string) string {
		return in("SELECT u.i, x.position, x.at FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::bigint[]) AS u (i, name, low, high)" +
			" CROSS JOIN LATERAL (" + of + " LIMIT $5) AS x ORDER BY u.i, x.position")
	}
	page := func(columns string) string {
		return in("SELECT " + columns + " FROM rollforward.events WHERE position > $1 AND position < $2 ORDER BY position LIMIT $3")
	}
	stream := func(columns string) string {
		return in("SELECT " + columns + ", (SELECT max(version) FROM rollforward.events WHERE stream = $1)" +
			" FROM rollforward.events WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3")
	}
	at := func(columns string) string {
		return in("SELECT " + columns + " FROM rollforward.events WHERE position = ANY ($1)" +
			" AND ($2::text[] IS NULL OR type = ANY ($2)) AND ($3 = '' OR starts_with(stream, $3)) AND ($4::text[] IS NULL OR tags::jsonb ?& $4) ORDER BY position")
	}
	s := statements{
		reserve:   in("SELECT busy, versions, numbers, at FROM rollforward.reserve($1, $2, $3)"),
		insertOne: in("INSERT INTO rollforward.events (" + columns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"),
		insertMany: in("INSERT INTO rollforward.events (" + columns + ") SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::bigint[]," +
			" $6::text[], $7::integer[], $8::timestamptz[], $9::text[], $10::text[], $11::text[])"),
		insertTags: in("INSERT INTO rollforward.event_tags (tag, position) SELECT * FROM unnest($1::text[], $2::bigint[])"),
		setCounter: in("UPDATE rollforward.counter SET position = $1"),

		// One by one: as "= ANY" it is planned as a look at the whole table where that is
		// small, and the plan is kept while it grows.
		byID: in("SELECT x.* FROM unnest($1::uuid[]) AS u (id) CROSS JOIN LATERAL (SELECT " + columns +
			" FROM rollforward.events AS e WHERE e.id = u.id LIMIT 1) AS x"),
		version: in("SELECT coalesce(max(version), 0) FROM rollforward.events WHERE stream = $1"),
		head:    in("SELECT rollforward.head()"),
		last:    in("SELECT coalesce(max(position), 0) FROM rollforward.events"),
		bound:   in(fmt.Sprintf("SELECT (rollforward.frontier() + 1) * %d", perNumber)),
		fences: in("SELECT s.last_value + min((l.objid::bigint - s.last_value % 4294967296 + 6442450944) % 4294967296 - 2147483648), coalesce(l.pid, 0)," +
			" coalesce(extract(epoch FROM clock_timestamp() - a.xact_start) * 1000000, 0)::bigint, coalesce(a.state, CASE WHEN l.pid IS NULL THEN 'prepared' ELSE '' END), coalesce(a.application_name, '')" +
			" FROM rollforward.appends AS s CROSS JOIN pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid" +
			" WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = 'rollforward.appends'::regclass::oid" +
			" AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())" +
			" GROUP BY s.last_value, l.pid, l.virtualtransaction, a.xact_start, a.state, a.application_name ORDER BY a.xact_start, 1, 2"),
		maxima: in("SELECT rollforward.version_at(name, $2), rollforward.version_at(name, $3) FROM unnest($1::text[]) WITH ORDINALITY AS u (name, i) ORDER BY i"),
		prefixed: in("WITH RECURSIVE n AS ((SELECT stream FROM rollforward.events WHERE stream >= $1 AND stream < $2 ORDER BY stream LIMIT 1)" +
			" UNION ALL SELECT (SELECT stream FROM rollforward.events AS e WHERE e.stream > n.stream AND e.stream < $2 ORDER BY stream LIMIT 1)" +
			" FROM n WHERE n.stream IS NOT NULL) SELECT stream FROM n WHERE stream IS NOT NULL LIMIT $3"),

		page: page(columns), pageLean: page(leanColumns), positions: page("position"),
		stream: stream(columns), streamLean: stream(leanColumns),
		at: at(columns), atLean: at(leanColumns),
		lists: map[kind]string{
			ofStream: list("SELECT position, version AS at FROM rollforward.events WHERE stream = u.name AND version > u.low AND version <= u.high ORDER BY version"),
			ofType:   list("SELECT position, position AS at FROM rollforward.events WHERE type = u.name AND position + 0 > u.low AND position + 0 < u.high ORDER BY position + 0"),
			ofTag:    list("SELECT position, position AS at FROM rollforward.event_tags WHERE tag = u.name AND position > u.low AND position < u.high ORDER BY position"),
		},

		save: in("INSERT INTO rollforward.checkpoints (name, position, event, format, state) VALUES ($1, $2, $3, $4, $5)" +
			" ON CONFLICT (name) DO UPDATE SET position = excluded.position, event = excluded.event, format = excluded.format, state = excluded.state"),
		load:   in("SELECT position, event, format, state FROM rollforward.checkpoints WHERE name = $1"),
		forget: in("DELETE FROM rollforward.checkpoints WHERE name = $1"),
		lock:   in("LOCK TABLE rollforward.events IN SHARE ROW EXCLUSIVE MODE"),
	}
	if serialized {
		s.reserve = in("SELECT versions, head, at FROM rollforward.reserve_serialized($1)")
		s.head = in("SELECT position FROM rollforward.counter")
		s.bound = in("SELECT position + 1 FROM rollforward.counter")
		s.lock = in("SELECT position FROM rollforward.counter FOR UPDATE")
	}
	return s
}
