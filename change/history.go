package change

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

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
	Says     string // "approves stage cab"; where it is a consequence a sentence with a subject of its own: "stage cab is approved"
	Follows  bool   // a consequence of what the actor did
	Reason   string // of the command, in the actor's words
}

// String returns the entry in one line, whatever people wrote into it.
func (e Entry) String() string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, e.line())
}

func (e Entry) line() string {
	who := e.Actor
	if e.For != "" {
		who += " for " + e.For
	}
	at := e.At.UTC().Format("2006-01-02 15:04:05")
	if e.Follows {
		return at + "    so " + e.Says
	}
	s := fmt.Sprintf("%s  %s %s", at, who, e.Says)
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
		says, follows := say(c, payload)
		all = append(all, Entry{
			Version: r.Version, Position: r.Position, At: at, Actor: meta.Actor, For: meta.OnBehalfOf, Type: r.Type,
			Says: says, Follows: follows, Reason: meta.Reason,
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

// say returns an event as a sentence: of what the actor did, without its subject,
// or of what follows from it. c is the change before.
func say(c Change, payload any) (says string, follows bool) {
	switch e := payload.(type) {
	case Timed, Assessed, StagePlanned, StageRequested, StageSkipped, StageDecided, Authorized, Unauthorized:
		return consequence(e), true
	case Moved:
		if does := moves[e.Verb]; does != "" {
			return and(fmt.Sprintf("%s, from %s to %s", does, e.From, e.To), e.Reason), false
		}
		return and(fmt.Sprintf("it goes from %s to %s", e.From, e.To), e.Reason), true
	case TaskAdded:
		s := fmt.Sprintf("%s task %d is opened: %s", e.Kind, e.ID, e.Title)
		if e.Assignee != "" {
			s += ", for " + e.Assignee
		}
		return s, true
	case TaskChanged:
		if before, ok := c.Task(e.ID); ok && before.State != e.State {
			return fmt.Sprintf("puts task %d to %s: %s", e.ID, e.State, e.Title), false
		}
		return fmt.Sprintf("edits task %d: %s", e.ID, e.Title), false
	}
	return act(payload), false
}

// moves says what an actor does who moves a change; other moves follow from
// something else.
var moves = map[string]string{
	verbSubmit: "submits it", verbAdvance: "advances it", verbClose: "closes it", verbCancel: "cancels it", verbRevert: "takes it back to planning",
}

// carries says what an actor did whose release carries a change out.
var carries = map[CarryState]string{
	CarryBound: "binds it to %s", CarryRunning: "deploys it with %s", CarryPaused: "pauses its deployment with %s", CarryFailed: "ends its deployment with %s as failed",
	CarryDelivered: "delivers it with %s", CarryBackedOut: "backs it out with %s", CarryUnbound: "takes it off %s",
}

// act says what the actor did.
func act(payload any) string {
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
		return and(s, e.Reason)
	case StageEscalated:
		return fmt.Sprintf("escalates stage %s to %s", e.Stage, voters(Approval{Seats: e.Seats}))
	case Voted:
		if e.Vote.Approve {
			return and("approves stage "+e.Stage, e.Vote.Comment)
		}
		return and("rejects stage "+e.Stage, e.Vote.Comment)
	case Started:
		if e.First {
			return "starts the work before it is authorised, which is due by " + stamp(e.AuthorizeBy)
		}
		return "starts the work"
	case Implemented:
		s := "ends the work"
		if e.BackedOut {
			s += ", backed out"
		}
		if len(e.Delivered) > 0 {
			return and(s+", delivered by "+strings.Join(e.Delivered, ", "), e.Notes)
		}
		return and(fmt.Sprintf("%s, %s applied", s, counted(len(e.Applied), "delta")), e.Notes)
	case Carried:
		if says := carries[e.State]; says != "" {
			return fmt.Sprintf(says, e.Release)
		}
		return fmt.Sprintf("says of %s: %s", e.Release, e.State)
	case Reviewed:
		s := and("reviews it: "+string(e.Outcome), e.Notes)
		if e.Accepted != "" {
			s += "; accepts what was not authorised: " + e.Accepted
		}
		return s
	case Held:
		return and("puts it on hold", e.Reason)
	case Resumed:
		return and("resumes it", e.Reason)
	case Linked:
		return fmt.Sprintf("links incident %s, which it %s", e.ID, e.Relation)
	case Noted:
		return "notes: " + e.Text
	}
	return fmt.Sprintf("records %T", payload)
}

// consequence says what followed.
func consequence(payload any) string {
	switch e := payload.(type) {
	case Timed:
		return e.says()
	case Assessed:
		var parts []string
		if e.Impact != nil {
			parts = append(parts, fmt.Sprintf("%s affected", counted(e.Impact.Count, "more CI")))
		}
		if r := e.Receipt; r != nil {
			by := r.Policy.ID
			if r.By != "" {
				by = r.By
			}
			parts = append(parts, fmt.Sprintf("risk is %s by %s: %s", r.Verdict.Level, by, strings.Join(r.Verdict.Why, "; ")))
		}
		return "it is assessed: " + strings.Join(parts, ", ")
	case StagePlanned:
		return fmt.Sprintf("stage %s is needed: %s", e.Stage.Name, e.Why)
	case StageRequested:
		s := fmt.Sprintf("stage %s is asked of %s", e.Stage.Name, voters(Approval{Seats: e.Seats}))
		if e.Round > 1 {
			s += fmt.Sprintf(", for the %s time", ordinal(e.Round))
		}
		if !e.Deadline.IsZero() {
			s += ", until " + stamp(e.Deadline)
		}
		return s
	case StageSkipped:
		return fmt.Sprintf("stage %s is skipped: %s", e.Stage.Name, e.Why)
	case StageDecided:
		return fmt.Sprintf("stage %s is %s: %s", e.Stage, e.State, e.Why)
	case Authorized:
		if e.Retrospective {
			return "it is authorised afterwards, by " + e.By
		}
		return "it is authorised, by " + e.By
	case Unauthorized:
		return "it is carried out and unauthorised: " + e.Why
	}
	return fmt.Sprintf("%T is recorded", payload)
}

// and joins a sentence and what somebody said to it.
func and(s, words string) string {
	if words == "" {
		return s
	}
	return s + ": " + words
}

// counted writes "1 delta", "2 deltas".
func counted(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func ordinal(n int) string {
	switch {
	case n%10 == 1 && n%100 != 11:
		return strconv.Itoa(n) + "st"
	case n%10 == 2 && n%100 != 12:
		return strconv.Itoa(n) + "nd"
	case n%10 == 3 && n%100 != 13:
		return strconv.Itoa(n) + "rd"
	}
	return strconv.Itoa(n) + "th"
}

// Waits reports whether an approval of the change waits for a person's vote.
func (c Change) Waits(person string) bool {
	return slices.ContainsFunc(c.Approvals, func(a Approval) bool {
		return a.State == workflow.Requested && slices.ContainsFunc(a.Seats, func(s workflow.Seat) bool {
			return slices.Contains(s.Voters, person) && !voted(a, s)
		})
	})
}
