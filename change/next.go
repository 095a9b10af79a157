package change

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Step is something that can be asked of a change: by this actor now, or why not,
// and by whom.
type Step struct {
	Command Command           // with what is known of it filled in
	Action  string            // "change.approve"
	Says    string            // "approve stage cab"
	Refused []command.Refusal // what stands in the way for the actor; none: he can do it now
	Who     []string          // people who have the right and, for an approval, a seat that has not voted; nil where it cannot be said
}

// Next returns what a change can go on with, for this actor: every command that
// moves it, and each approval that is asked for. Those that nothing stands in the
// way of come first. It costs a Why for each.
func (s *Service) Next(ctx context.Context, actor command.Actor, id string) ([]Step, error) {
	c, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	steps := c.steps()
	for i := range steps {
		step := &steps[i]
		step.Action = step.Command.action()
		if step.Refused, err = s.Why(ctx, actor, id, step.Command); err != nil {
			return nil, err
		}
		if who, ok := s.door.Who(command.Request{Action: step.Action, Object: id, Attributes: c.attributes()}); ok {
			step.Who = who
		}
		if a, ok := step.Command.(Approve); ok {
			approval, _ := c.Approval(a.Stage)
			var seats []string
			for _, seat := range approval.Seats {
				if !voted(approval, seat) {
					seats = with(seats, seat.Voters...)
				}
			}
			if step.Who != nil {
				seats = slices.DeleteFunc(seats, func(p string) bool { return !slices.Contains(step.Who, p) })
			}
			step.Who = seats
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int {
		return min(len(a.Refused), 1) - min(len(b.Refused), 1)
	})
	return steps, nil
}

// steps returns the commands that could move a change on, whatever stands in the
// way of them.
func (c Change) steps() []Step {
	if !c.Open() {
		return nil
	}
	if c.Held != nil {
		return []Step{{Command: Resume{}, Says: "resume it"}, {Command: Cancel{Reason: "not needed any more"}, Says: "cancel it"}}
	}
	var steps []Step
	for _, a := range c.Approvals {
		if a.State == workflow.Requested {
			steps = append(steps, Step{Command: Approve{Stage: a.Stage.Name, Scope: c.Scope}, Says: "approve stage " + a.Stage.Name})
			if !a.Deadline.IsZero() {
				steps = append(steps, Step{Command: Expire{Stage: a.Stage.Name}, Says: "end stage " + a.Stage.Name + ", whose deadline has passed"})
			}
		}
	}
	add := func(cmd Command, says string) { steps = append(steps, Step{Command: cmd, Says: says}) }
	switch c.Kind {
	case KindPlan:
		add(Submit{}, "submit it")
		add(Advance{}, "advance it")
	case KindAssess, KindAuthorize:
		add(Advance{}, "advance it")
		add(Start{}, "start the work")
		add(Revert{Reason: "to be planned again"}, "take it back to planning")
	case KindScheduled:
		add(Start{}, "start the work")
		add(Advance{}, "advance it")
		add(Revert{Reason: "to be planned again"}, "take it back to planning")
	case KindImplement:
		add(Complete{}, "complete the work")
		add(Advance{}, "advance it")
	case KindReview:
		add(Review{Outcome: Successful}, "review how it went")
		add(Close{}, "close it")
		add(Advance{}, "advance it")
	}
	for _, t := range c.Tasks {
		if !t.State.Ended() {
			add(MoveTask{ID: t.ID, To: workflow.TaskClosed}, "close task "+strconv.Itoa(t.ID)+", "+strings.TrimSpace(t.Title))
		}
	}
	if c.Kind != KindReview {
		add(Cancel{Reason: "not needed any more"}, "cancel it")
	}
	return steps
}
