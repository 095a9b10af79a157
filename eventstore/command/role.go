package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Role is a name under which rights are given.
type Role string

// The roles of the ready table.
const (
	Requester      Role = "requester"             // raises, edits, submits and cancels
	Approver       Role = "approver"              // votes, comments
	ChangeManager  Role = "change manager"        // assesses, schedules, holds, closes, reverts; publishes models and templates
	Implementer    Role = "implementer"           // starts and completes, works on tasks
	Reviewer       Role = "reviewer"              // reviews outcomes
	ReleaseManager Role = "release manager"       // plans, deploys and rolls back releases, and carries changes out by them
	ConfigManager  Role = "configuration manager" // records CIs, classes and imports
	Operator       Role = "operator"              // keeps it running: parks, retries and skips events that folds and handlers cannot take
	Automation     Role = "automation"            // programs: the ready handlers, and pipelines that report
	Auditor        Role = "auditor"               // reads everything, changes nothing
)

// Permission is a right by action, object and attribute.
type Permission struct {
	Actions []string            // exact, or with * as last character: "change.*"; none is no action
	Objects []string            // likewise; none is every object
	Where   map[string][]string // attributes the object must have: of each, one of the values, whatever others it has besides
	Self    bool                // only where the object is the principal himself
}

// Table says which rights a role has.
type Table map[Role][]Permission

// Roles says who has which roles, with the rights of [ReadyTable]. It is an
// Authorizer and a Finder, and is not changed while a door uses it.
type Roles map[string][]Role

// Policy is an Authorizer and a Finder of roles with a table of one's own, which
// are not changed while a door uses them. Who has no role has no right.
type Policy struct {
	Table Table
	Roles Roles
}

// Authorize implements [Authorizer] with the rights of [ReadyTable].
func (p Roles) Authorize(ctx context.Context, r Request) error {
	return Policy{Table: readyTable, Roles: p}.Authorize(ctx, r)
}

// Who implements [Finder].
func (p Roles) Who(r Request) []string { return Policy{Table: readyTable, Roles: p}.Who(r) }

// Authorize implements [Authorizer]: it permits what one of the roles of the
// principal has a right to, and denies by "role-required" where none of them has
// the right to the action, by "outside-right" where the right does not reach the
// object.
func (p Policy) Authorize(_ context.Context, r Request) error {
	principal := r.Actor.Principal()
	var short []string // rights to the action that do not reach the object
	for _, role := range p.Roles[principal] {
		for _, right := range p.Table[role] {
			if !matchesAny(right.Actions, r.Action) {
				continue
			}
			if right.reaches(principal, r) {
				return nil
			}
			short = append(short, fmt.Sprintf("as %s %s", role, right.extent()))
		}
	}
	if len(short) > 0 {
		slices.Sort(short)
		return Refuse(Refusal{
			Kind: Denied, Rule: "outside-right",
			Reason: fmt.Sprintf("%s may %s only %s; this is %s", principal, r.Action, strings.Join(slices.Compact(short), ", or "), shown(r)),
			Remedy: "ask somebody whose right reaches it",
		})
	}
	refusal := Refusal{Kind: Denied, Rule: "role-required"}
	takes := p.Table.rolesFor(r.Action)
	if len(takes) == 0 {
		refusal.Reason = fmt.Sprintf("no role has the right to %s", r.Action)
		refusal.Remedy = "give the right to a role, in the table of the policy"
	} else {
		refusal.Reason = fmt.Sprintf("%s %s; %s takes one of %s", principal, has(p.Roles[principal]), r.Action, list(takes))
		refusal.Remedy = "ask somebody who is " + strings.Join(takes, " or ")
	}
	return Refuse(refusal)
}

// Who implements [Finder]. It costs a look at everybody's roles.
func (p Policy) Who(r Request) []string {
	var people []string
	for person, roles := range p.Roles {
		if slices.ContainsFunc(roles, func(role Role) bool {
			return slices.ContainsFunc(p.Table[role], func(right Permission) bool {
				return matchesAny(right.Actions, r.Action) && right.reaches(person, r)
			})
		}) {
			people = append(people, person)
		}
	}
	slices.Sort(people)
	return people
}

// reaches reports whether the right, as principal's, reaches the object of r.
func (p Permission) reaches(principal string, r Request) bool {
	if p.Self && r.Object != principal || len(p.Objects) > 0 && !matchesAny(p.Objects, r.Object) {
		return false
	}
	for name, values := range p.Where {
		if !slices.ContainsFunc(r.Attributes[name], func(v string) bool { return slices.Contains(values, v) }) {
			return false
		}
	}
	return true
}

// extent says in words what reaches asks.
func (p Permission) extent() string {
	var parts []string
	if p.Self {
		parts = append(parts, "for himself")
	}
	if len(p.Objects) > 0 {
		parts = append(parts, "on "+list(p.Objects))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Where)) {
		parts = append(parts, fmt.Sprintf("where %s is one of %s", name, list(p.Where[name])))
	}
	return strings.Join(parts, " ")
}

// rolesFor returns the roles that have some right to action, sorted.
func (t Table) rolesFor(action string) []string {
	var roles []string
	for role, rights := range t {
		if slices.ContainsFunc(rights, func(p Permission) bool { return matchesAny(p.Actions, action) }) {
			roles = append(roles, string(role))
		}
	}
	slices.Sort(roles)
	return roles
}

// matchesAny reports whether one of patterns is s, or ends in * and is otherwise
// the beginning of s.
func matchesAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if beginning, open := strings.CutSuffix(p, "*"); p == s || open && strings.HasPrefix(s, beginning) {
			return true
		}
	}
	return false
}

func has(roles []Role) string {
	if len(roles) == 0 {
		return "has no role"
	}
	return "has the roles " + list(slices.Sorted(slices.Values(roles)))
}

// list writes values in brackets, the first ten of many.
func list[T ~string](values []T) string {
	const most = 10
	var b strings.Builder
	for i, v := range values {
		switch {
		case i == most:
			fmt.Fprintf(&b, ", and %d more", len(values)-most)
		case i > most:
		case i > 0:
			b.WriteString(", " + string(v))
		default:
			b.WriteString(string(v))
		}
	}
	return "[" + b.String() + "]"
}

// shown is the object of r with its attributes, for a reason.
func shown(r Request) string {
	object := r.Object
	if object == "" {
		object = "new"
	}
	for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
		object += fmt.Sprintf(", %s %s", name, list(r.Attributes[name]))
	}
	return object
}

// readyTable is never changed: ReadyTable gives out others.
var readyTable = ReadyTable()

// ReadyTable returns a new copy of the rights of the ready roles, to start a
// [Policy] from. Nobody has all of them: who may approve and review is not who
// runs the change, and separation of duties in one change is kept by its rules
// besides, also where one person has several roles. Everybody but an auditor and a
// program may delegate, for himself only.
func ReadyTable() Table {
	reads := Permission{Actions: []string{"change.read", "cmdb.read", "release.read", "schedule.read"}}
	delegates := Permission{Actions: []string{giveAction}, Self: true}
	may := func(actions ...string) []Permission { return []Permission{{Actions: actions}, delegates, reads} }
	return Table{
		Requester: may("change.raise", "change.edit", "change.submit", "change.cancel", "change.note", "change.link", "change.task"),
		Approver:  may("change.approve", "change.reject", "change.note", "template.approve", "release.approve", "release.reject", "release.waive", "release.check", "window.override", "conflict.accept"),
		ChangeManager: may("change.raise", "change.edit", "change.submit", "change.assess", "change.advance", "change.expire",
			"change.start", "change.complete", "change.close", "change.cancel", "change.revert", "change.hold", "change.resume",
			"change.task", "change.link", "change.note", "model.*", "template.propose", "template.publish", "template.retire", "window.*", "conflict.accept", "follow.park"),
		ReleaseManager: may("release.plan", "release.edit", "release.bind", "release.evidence", "release.check", "release.advance", "release.deploy", "release.report",
			"release.pause", "release.resume", "release.finish", "release.fail", "release.abort", "release.retry", "release.rollback", "release.lift", "release.emerge",
			"release.close", "release.cancel", "release.note", "environment.*", "change.raise", "change.submit", "change.carry", "change.note", "change.link"),
		Implementer:   may("change.start", "change.complete", "change.edit", "change.task", "change.note", "change.link"),
		Reviewer:      may("change.review", "change.close", "change.note", "change.link"),
		ConfigManager: may("cmdb.*"),
		Operator:      may("follow.park", "handler.park", "handler.retry", "handler.skip"),
		Automation: {{Actions: []string{"notify.record", "pipeline.report", "change.raise", "change.submit", "change.start", "change.complete",
			"change.task", "change.note"}}, reads},
		Auditor: {reads},
	}
}
