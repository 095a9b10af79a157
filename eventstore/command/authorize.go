package command

import (
	"context"
	"errors"
	"slices"
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
// again on every attempt, under the deadline of hooks, concurrently, and has no
// effects. Those of this package are called without a goroutine of their own.
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

// Who returns who may do what r asks, if the authorizer is a [Finder] that
// answers; ok is false if it cannot say.
func (d *Door) Who(r Request) (people []string, ok bool) {
	finder, ok := d.config.Authorizer.(Finder)
	if !ok {
		return nil, false
	}
	if d.builtIn {
		return finder.Who(r), true
	}
	r.Attributes = cloned(r.Attributes)
	people, err := Hook(context.Background(), d, "authorizer", func(context.Context) ([]string, error) { return finder.Who(r), nil })
	return people, err == nil
}

// Authorize asks whether the call's actor may do action on object, and on behalf
// of another whether he has that delegated. It returns nil, an *[Error] of kind
// Denied or Unavailable, or the error by which it could not ask. On behalf of
// another it costs a load of the stream of that person's delegations, and the
// unit of work runs again if one is given or ended meanwhile.
func (tx *Tx) Authorize(action, object string, attributes map[string][]string) error {
	d, actor := tx.work.door, tx.work.call.Actor
	if actor.Principal() != actor.ID {
		if err := tx.delegated(actor, action); err != nil {
			return err
		}
	}
	if err := d.ask(tx.Context(), Request{Actor: actor, Action: action, Object: object, Attributes: attributes}); err != nil {
		return err
	}
	tx.permitted = true
	return nil
}

func (d *Door) ask(ctx context.Context, r Request) error {
	var err error
	if d.builtIn {
		err = d.askBuiltIn(ctx, r)
	} else {
		r.Attributes = cloned(r.Attributes)
		_, err = underDeadline(ctx, d, "authorizer", "authorizer-failed", func(ctx context.Context) (struct{}, error) {
			return struct{}{}, d.config.Authorizer.Authorize(ctx, r)
		})
	}
	var e *Error
	if errors.As(err, &e) {
		return e.completed(Call{}, Denied)
	}
	return err
}

// askBuiltIn spares a goroutine, which would cost more than all the rest.
func (d *Door) askBuiltIn(ctx context.Context, r Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = d.panicked("authorizer", p)
		}
	}()
	return d.config.Authorizer.Authorize(ctx, r)
}

// cloned is for a hook that may be left behind and go on reading.
func cloned(attributes map[string][]string) map[string][]string {
	if attributes == nil {
		return nil
	}
	c := make(map[string][]string, len(attributes))
	for name, values := range attributes {
		c[name] = slices.Clone(values)
	}
	return c
}
