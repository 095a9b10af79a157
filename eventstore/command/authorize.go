package command

import (
	"context"
)

// Request is what an [Authorizer] judges.
type Request struct {
	Actor      Actor
	Action     string              // "change.approve"
	Object     string              // "CHG-000042"; empty where it is new
	Attributes map[string][]string // of the object: "model": {"emergency"}, "ci": {"db-01", "app-02"}
}

// Authorizer is the policy hook that says who may do what. Authorize returns nil
// to permit. An error denies: an *[Error] with its own words, any other as a
// refusal of kind Unavailable, since it could not be found out. It is called
// again on every attempt, under the deadline of hooks, and has no effects.
type Authorizer interface {
	Authorize(ctx context.Context, r Request) error
}

// AllowAll permits everything to everybody: a choice to be made in so many words.
var AllowAll Authorizer = allowAll{}

type allowAll struct{}

func (allowAll) Authorize(context.Context, Request) error { return nil }

// Finder is the optional power of an Authorizer to say who has a right.
type Finder interface {
	// Who returns the IDs of the people who may do action on the object of r, sorted. The Actor of r is not looked at.
	Who(r Request) []string
}

// Role is a name under which rights are given.
type Role string

// The roles of the ready table.
const (
	Requester     Role = "requester"             // raises, edits, submits and cancels
	Approver      Role = "approver"              // votes, comments
	ChangeManager Role = "change manager"        // assesses, schedules, holds, closes, reverts; publishes models and templates
	Implementer   Role = "implementer"           // starts and completes, works on tasks
	Reviewer      Role = "reviewer"              // reviews outcomes
	ConfigManager Role = "configuration manager" // records CIs, classes and imports
	Auditor       Role = "auditor"               // reads everything, changes nothing
)

// Permission is a right by action, object and attribute.
type Permission struct {
	Actions []string            // exact, or with * as last character: "change.*"; none is no action
	Objects []string            // likewise; none is every object
	Where   map[string][]string // attributes the object must have: one of the values of each
	Self    bool                // only where the object is the principal himself
}

// Table says which rights a role has.
type Table map[Role][]Permission

// Roles says who has which roles, with the rights of [ReadyTable]. It is an
// Authorizer and a Finder.
type Roles map[string][]Role

// Policy is an Authorizer of roles with a table of one's own.
type Policy struct {
	Table Table
	Roles Roles
}
