package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/eventstore"
)

// giveAction is the action, on the person whose right it is, under which
// delegations are given and ended.
const giveAction = "delegation.give"

const (
	delegationPrefix = "delegation-" // and the person's ID: his stream
	aboutDelegations = "delegation." // how the actions begin that are never delegated
	maxActions       = 64            // of one delegation
)

// approvals is what is delegated where no actions are named: a substitute's vote.
var approvals = []string{"change.approve", "change.reject"}

// delegations is the state of one person's stream: what he has given and not
// ended, in the order of giving, also what is over by the clock.
type delegations []Delegation

type (
	give struct {
		Delegation
		Now time.Time
	}
	end struct {
		DelegationEnded
		Now time.Time
	}
)

var giving = eventstore.Decider[delegations, any]{
	Decide: func(given delegations, command any) ([]any, error) {
		switch c := command.(type) {
		case give:
			return given.give(c)
		case end:
			return given.end(c)
		}
		return nil, fmt.Errorf("delegation: unknown command %T", command)
	},
	Evolve: func(given delegations, payload any) delegations {
		switch e := payload.(type) {
		case Delegation:
			return append(given, e)
		case DelegationEnded:
			return slices.DeleteFunc(given, func(d Delegation) bool { return d.To == e.To })
		}
		return given
	},
}

func (given delegations) give(c give) ([]any, error) {
	d := c.Delegation
	d.From, d.Until = d.From.UTC().Truncate(time.Microsecond), d.Until.UTC().Truncate(time.Microsecond)
	if d.From.Before(c.Now) {
		d.From = c.Now // nobody had a right before it was given
	}
	if len(d.Actions) == 0 {
		d.Actions = approvals
	}
	if !d.Until.After(d.From) {
		return nil, Refuse(malformed("until-after-from", "until",
			fmt.Sprintf("the delegation would end at %s and begin at %s", stamp(d.Until), stamp(d.From)), "let it end later than it begins"))
	}
	for _, other := range given {
		if other.To == d.To && !other.From.After(d.From) && !other.Until.Before(d.Until) && slices.Equal(other.Actions, d.Actions) {
			return nil, nil // said twice is said once
		}
	}
	return []any{d}, nil
}

func (given delegations) end(c end) ([]any, error) {
	for _, d := range given {
		if d.To == c.To && c.Now.Before(d.Until) {
			return []any{c.DelegationEnded}, nil
		}
	}
	return nil, Refuse(Refusal{
		Kind: Refused, Rule: "no-delegation", Field: "to",
		Reason: fmt.Sprintf("%s has delegated nothing to %s that is in force or to come", c.Person, c.To),
		Remedy: "see Door.Delegations for what there is to end",
	})
}

// covers reports whether the delegation is for action. What is about delegations
// never is, whatever the pattern: there are no chains.
func (d Delegation) covers(action string) bool {
	return !strings.HasPrefix(action, aboutDelegations) && matchesAny(d.Actions, action)
}

// inForce reports whether at lies in the period, which is half open.
func (d Delegation) inForce(at time.Time) bool { return !at.Before(d.From) && at.Before(d.Until) }

// check returns nil or an *Error that names all that cannot be meant, as far as
// no clock is needed for it.
func (d Delegation) check() error {
	wrong := checkPair(nil, d.Person, d.To)
	wrong = checkText(wrong, "reason", d.Reason, maxReason, true)
	if d.Until.IsZero() {
		wrong = append(wrong, malformed("until-required", "until", "a delegation has an end", "say until when it is given"))
	}
	if year := d.Until.UTC().Year(); year > 9999 {
		wrong = append(wrong, malformed("out-of-range", "until", fmt.Sprintf("the year %d is later than a recorded time can be", year), "let it end in the year 9999 or before"))
	}
	if len(d.Actions) > maxActions {
		wrong = append(wrong, malformed("too-many", "actions", fmt.Sprintf("there are %d of at most %d", len(d.Actions), maxActions), "use patterns, such as \"change.*\""))
		return Refuse(wrong...)
	}
	for i, action := range d.Actions {
		field := fmt.Sprintf("actions[%d]", i)
		if action == "" {
			wrong = append(wrong, malformed("action-required", field, "no action is named", "name one, or leave all out for change.approve and change.reject"))
		}
		if strings.HasPrefix(action, aboutDelegations) {
			wrong = append(wrong, malformed("delegation-chain", field, "the right to delegate cannot be delegated", "have "+d.Person+" give it to whom it concerns"))
		}
		wrong = checkText(wrong, field, action, maxAction, false)
	}
	return Refuse(wrong...)
}

func checkPair(wrong []Refusal, person, to string) []Refusal {
	if person == "" {
		wrong = append(wrong, malformed("person-required", "person", "nobody is named whose right it is", "name him"))
	}
	if to == "" {
		wrong = append(wrong, malformed("to-required", "to", "nobody is named who may use the right", "name him"))
	}
	if person != "" && person == to {
		wrong = append(wrong, malformed("delegation-to-oneself", "to", person+" has the right already", "name another"))
	}
	return checkText(checkText(wrong, "person", person, maxPerson, false), "to", to, maxPerson, false)
}

// Delegate lets d.To act on behalf of d.Person from d.From until d.Until, as
// far as d.Actions go: see [Actor.For]. It is authorised as "delegation.give" on
// d.Person, and nobody can do it on behalf of another: a right got by delegation
// is not delegated on. What is there already for the same actions over all of
// the period records nothing.
func (d *Door) Delegate(ctx context.Context, actor Actor, delegation Delegation) (Done, error) {
	call := Call{Actor: actor, Action: giveAction, Target: delegation.Person, Reason: delegation.Reason}
	return d.delegate(ctx, call, delegation.check(), func(now time.Time) any { return give{delegation, now} })
}

// EndDelegation takes back all that person has delegated to another, in force or
// to come, from now on. It is authorised as Delegate is, and refused by
// "no-delegation" where there is nothing to end.
func (d *Door) EndDelegation(ctx context.Context, actor Actor, person, to, reason string) (Done, error) {
	call := Call{Actor: actor, Action: giveAction, Target: person, Reason: reason}
	return d.delegate(ctx, call, Refuse(checkPair(nil, person, to)...), func(now time.Time) any {
		return end{DelegationEnded{Person: person, To: to, Reason: reason}, now}
	})
}

func (d *Door) delegate(ctx context.Context, call Call, wrong error, command func(now time.Time) any) (Done, error) {
	if wrong != nil {
		call.Target, call.Reason = "", "" // wrong names them by the fields in which they were given
	}
	return d.Do(ctx, call, func(tx *Tx) error {
		if wrong != nil {
			return wrong
		}
		if err := tx.Authorize(giveAction, call.Target, nil); err != nil {
			return err
		}
		_, err := giving.Do(tx.Tx, delegationPrefix+call.Target, command(tx.Now))
		return err
	})
}

// Delegations returns what person has delegated and not ended, in force by the
// door's clock or to come, in the order of giving. It costs a read of the
// stream of his delegations.
func (d *Door) Delegations(ctx context.Context, person string) ([]Delegation, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave(ctx)
	wrong := checkText(nil, "person", person, maxPerson, false)
	if person == "" {
		wrong = append(wrong, malformed("person-required", "person", "delegations are asked for by person", "name him"))
	}
	if len(wrong) > 0 {
		return nil, Refuse(wrong...)
	}
	var given delegations
	_, err := eventstore.Update(ctx, d.config.Store, d.config.Registry, func(tx *eventstore.Tx) error {
		var err error
		given, err = giving.Load(tx, delegationPrefix+person)
		return err
	})
	if err != nil {
		return nil, err
	}
	now := d.Now()
	return slices.DeleteFunc(given, func(d Delegation) bool { return !now.Before(d.Until) }), nil
}

// delegated returns nil if the actor may use his principal's right to action
// now. It pins the principal's delegations.
func (tx *Tx) delegated(actor Actor, action string) error {
	person := actor.Principal()
	given, err := giving.Load(tx.Tx, delegationPrefix+person)
	if err != nil {
		return err
	}
	var other []string
	for _, d := range given {
		switch {
		case d.To != actor.ID || !d.covers(action):
		case d.inForce(tx.Now):
			return nil
		default:
			other = append(other, fmt.Sprintf("from %s until %s", stamp(d.From), stamp(d.Until)))
		}
	}
	if strings.HasPrefix(action, aboutDelegations) {
		return Refuse(Refusal{
			Kind: Denied, Rule: "delegation-chain",
			Reason: fmt.Sprintf("%s acts on behalf of %s, and the right to delegate cannot be delegated", actor.ID, person),
			Remedy: "have " + person + " do it himself",
		})
	}
	reason := fmt.Sprintf("%s has not delegated %s to %s", person, action, actor.ID)
	if len(other) > 0 {
		reason = fmt.Sprintf("%s delegated %s to %s, but not for now (%s): %s", person, action, actor.ID, stamp(tx.Now), strings.Join(other, ", "))
	}
	return Refuse(Refusal{
		Kind: Denied, Rule: "no-delegation", Reason: reason,
		Remedy: "have " + person + " delegate it, or act in your own right",
	})
}

func stamp(t time.Time) string { return t.Format(time.RFC3339Nano) }
