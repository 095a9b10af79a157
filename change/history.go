package change

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Entry is one event of a change as people read it.
type Entry struct {
	Version  uint64
	Position eventstore.Position
	At       time.Time // when it happened, by the engine's clock; when it was recorded where nothing else is known
	Actor    string
	For      string // on whose behalf
	Type     string // "change.voted"
	Says     string // "approves stage cab"
	Reason   string // of the command, in the actor's words
}

func (e Entry) String() string {
	who := e.Actor
	if e.For != "" {
		who += " for " + e.For
	}
	s := fmt.Sprintf("%s  %s %s", e.At.UTC().Format("2006-01-02 15:04:05"), who, e.Says)
	if e.Reason != "" {
		s += fmt.Sprintf(" (%s)", e.Reason)
	}
	return s
}

// History returns the events of a change as sentences, in order. It costs one
// read of its stream.
func (s *Service) History(ctx context.Context, id string) ([]Entry, error) {
	var all []Entry
	var broken error
	var c Change
	err := s.events(ctx, id, func(r eventstore.Recorded, payload any) bool {
		meta, err := eventstore.DecodeMetadata(r.Meta)
		if err != nil {
			broken = fmt.Errorf("change %q version %d: %w", id, r.Version, err)
			return false
		}
		at := meta.OccurredAt
		if at.IsZero() {
			at = r.RecordedAt
		}
		all = append(all, Entry{
			Version: r.Version, Position: r.Position, At: at, Actor: meta.Actor, For: meta.OnBehalfOf, Type: r.Type,
			Says: say(c, payload), Reason: meta.Reason,
		})
		c = evolve(c, payload)
		return true
	})
	if err == nil {
		err = broken
	}
	return all, err
}

// Since returns what is different in a change from what a person last voted on:
// nothing if it is the same, or if he never voted.
func (s *Service) Since(ctx context.Context, id, person string) ([]Difference, error) {
	var c Change
	var seen *Content
	err := s.events(ctx, id, func(_ eventstore.Recorded, payload any) bool {
		c = evolve(c, payload)
		if v, ok := payload.(Voted); ok && (v.Vote.By == person || v.Vote.For == person) {
			content := c.Content
			seen = &content
		}
		return true
	})
	if err != nil || seen == nil {
		return nil, err
	}
	return seen.Diff(c.Content), nil
}

// say returns an event as a sentence without its subject; c is the change before.
func say(c Change, payload any) string {
	switch e := payload.(type) {
	case Raised:
		under := "model " + e.Model
		if e.Template != "" {
			under = fmt.Sprintf("template %s v%d", e.Template, e.TemplateVersion)
		}
		s := fmt.Sprintf("raises %s under %s: %s", e.Change, under, e.Content.Title)
		if e.Requester != e.By {
			s += ", for " + e.Requester
		}
		return s
	case Edited:
		s := "edits " + strings.Join(e.Fields, ", ")
		if len(e.Voids) > 0 {
			s += ", which voids the approval of " + strings.Join(e.Voids, ", ")
		}
		if e.Reason != "" {
			s += ": " + e.Reason
		}
		return s
	case Assessed:
		var parts []string
		if e.Impact != nil {
			parts = append(parts, fmt.Sprintf("%d CIs are affected", e.Impact.Count))
		}
		if e.Receipt != nil {
			parts = append(parts, fmt.Sprintf("risk is %s by %s: %s", e.Receipt.Verdict.Level, e.Receipt.Policy.ID, strings.Join(e.Receipt.Verdict.Why, "; ")))
		}
		return "has it assessed: " + strings.Join(parts, ", ")
	case Moved:
		s := fmt.Sprintf("moves it from %s to %s by %s", e.From, e.To, e.Verb)
		if e.Reason != "" {
			s += ": " + e.Reason
		}
		return s
	case StagePlanned:
		return fmt.Sprintf("causes stage %s to be needed: %s", e.Stage.Name, e.Why)
	case StageRequested:
		s := fmt.Sprintf("causes stage %s to be asked for, of %s", e.Stage.Name, voters(Approval{Seats: e.Seats}))
		if e.Round > 1 {
			s += fmt.Sprintf(", for the %s time", ordinal(e.Round))
		}
		if !e.Deadline.IsZero() {
			s += ", until " + stamp(e.Deadline)
		}
		return s
	case StageSkipped:
		return fmt.Sprintf("causes stage %s to be skipped: %s", e.Stage.Name, e.Why)
	case StageEscalated:
		return fmt.Sprintf("escalates stage %s to %s", e.Stage, voters(Approval{Seats: e.Seats}))
	case Voted:
		verb := "rejects"
		if e.Vote.Approve {
			verb = "approves"
		}
		s := fmt.Sprintf("%s stage %s", verb, e.Stage)
		if e.Vote.Comment != "" {
			s += ": " + e.Vote.Comment
		}
		return s
	case StageDecided:
		return fmt.Sprintf("causes stage %s to be %s: %s", e.Stage, e.State, e.Why)
	case Authorized:
		if e.Retrospective {
			return "has it authorised afterwards, by " + e.By
		}
		return "has it authorised, by " + e.By
	case Unauthorized:
		return fmt.Sprintf("leaves it carried out and unauthorised: %s", e.Why)
	case Started:
		if e.First {
			return "starts the work before it is authorised, which is due by " + stamp(e.AuthorizeBy)
		}
		return "starts the work"
	case Implemented:
		s := fmt.Sprintf("ends the work, %d deltas applied", len(e.Applied))
		if e.BackedOut {
			s = fmt.Sprintf("ends the work, backed out, %d deltas applied", len(e.Applied))
		}
		if e.Notes != "" {
			s += ": " + e.Notes
		}
		return s
	case Reviewed:
		s := "reviews it: " + string(e.Outcome)
		if e.Notes != "" {
			s += ", " + e.Notes
		}
		if e.Accepted != "" {
			s += "; accepts what was not authorised: " + e.Accepted
		}
		return s
	case Held:
		return "puts it on hold: " + e.Reason
	case Resumed:
		if e.Reason != "" {
			return "resumes it: " + e.Reason
		}
		return "resumes it"
	case TaskAdded:
		s := fmt.Sprintf("opens %s task %d: %s", e.Kind, e.ID, e.Title)
		if e.Assignee != "" {
			s += ", for " + e.Assignee
		}
		return s
	case TaskChanged:
		if before, ok := c.Task(e.ID); ok && before.State != e.State {
			return fmt.Sprintf("puts task %d (%s) to %s", e.ID, e.Title, e.State)
		}
		return fmt.Sprintf("edits task %d (%s)", e.ID, e.Title)
	case Linked:
		return fmt.Sprintf("links incident %s, which it %s", e.ID, e.Relation)
	case Noted:
		return "notes: " + e.Text
	}
	return fmt.Sprintf("records %T", payload)
}

func ordinal(n int) string {
	switch {
	case n%10 == 1 && n%100 != 11:
		return itoa(n) + "st"
	case n%10 == 2 && n%100 != 12:
		return itoa(n) + "nd"
	case n%10 == 3 && n%100 != 13:
		return itoa(n) + "rd"
	}
	return itoa(n) + "th"
}

// waitsFor returns the stages that wait for a person's vote.
func (c Change) waitsFor(person string) []string {
	var stages []string
	for _, a := range c.Approvals {
		if a.State != workflow.Requested {
			continue
		}
		for _, s := range a.Seats {
			if contains(s.Voters, person) && !voted(a, s) {
				stages = append(stages, a.Stage.Name)
				break
			}
		}
	}
	return stages
}
