package release

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/internal/workflow"
)

// Entry is one event of a release as people read it.
type Entry struct {
	Version  uint64
	Position eventstore.Position
	At       time.Time // when it happened, by the engine's clock; when it was recorded where nothing else is known
	Actor    string
	For      string // on whose behalf
	Type     string // "release.deployment-started"
	Says     string // "deploys to staging"; where it is a consequence a sentence with a subject of its own: "gate cab of production is approved"
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

// History returns the events of a release as sentences, in order. It costs one read
// of its stream.
func (s *Service) History(ctx context.Context, id string) ([]Entry, error) {
	var all []Entry
	var broken error
	var r Release
	err := s.events(ctx, id, func(e eventstore.Recorded, payload any) bool {
		meta, err := eventstore.DecodeMetadata(e.Meta)
		if err != nil {
			broken = fmt.Errorf("release %q version %d: %w", id, e.Version, err)
			return false
		}
		at := meta.OccurredAt
		if at.IsZero() {
			at = e.RecordedAt
		}
		says, follows := say(r, payload)
		all = append(all, Entry{
			Version: e.Version, Position: e.Position, At: at, Actor: meta.Actor, For: meta.OnBehalfOf, Type: e.Type,
			Says: says, Follows: follows, Reason: meta.Reason,
		})
		r = evolve(r, payload)
		return true
	})
	if err == nil {
		err = broken
	}
	return all, err
}

// say returns an event as a sentence: of what the actor did, without its subject, or
// of what follows from it. r is the release before.
func say(r Release, payload any) (says string, follows bool) {
	switch e := payload.(type) {
	case Planned:
		s := fmt.Sprintf("plans %s under process %s: %s", e.Release, e.Process.Name, e.Content.Title)
		if e.Planner != e.By {
			s += ", for " + e.Planner
		}
		return s, false
	case Edited:
		s := "edits " + strings.Join(e.Fields, ", ")
		if len(e.Voided) > 0 {
			s += ", which voids the " + strings.Join(e.Voided, ", ")
		}
		return and(s, e.Reason), false
	case ChangeBound:
		if e.Emergent {
			return fmt.Sprintf("raises change %s for what it turned out to need", e.Change), false
		}
		return "binds change " + e.Change, false
	case ChangeUnbound:
		return and("takes change "+e.Change+" off it", e.Reason), false
	case EvidenceAdded:
		return and("adds evidence of kind "+e.Evidence.Kind, e.Evidence.Title), false
	case ItemChecked:
		word := "no-go"
		if e.Go {
			word = "go"
		}
		return and(fmt.Sprintf("says %s to %q for %s", word, e.Item, e.Environment), e.Note), false
	case GateWaived:
		return fmt.Sprintf("waives gate %s of %s until %s: %s", e.Gate, e.Environment, stamp(e.Until), e.Why), false
	case ApprovalAsked:
		s := fmt.Sprintf("gate %s of %s is asked of %s", e.Gate, e.Environment, voters(Approval{Seats: e.Seats}))
		if e.Round > 1 {
			s += fmt.Sprintf(", round %d", e.Round)
		}
		if !e.Deadline.IsZero() {
			s += ", until " + stamp(e.Deadline)
		}
		return s, true
	case Voted:
		verb := "rejects"
		if e.Vote.Approve {
			verb = "approves"
		}
		return and(fmt.Sprintf("%s gate %s of %s", verb, e.Gate, e.Environment), e.Vote.Comment), false
	case ApprovalDecided:
		return fmt.Sprintf("gate %s of %s is %s: %s", e.Gate, e.Environment, e.State, e.Why), true
	case HoldSet:
		return fmt.Sprintf("nothing goes past %s until the hold is lifted", e.Environment), true
	case HoldLifted:
		return and("lifts the hold of "+e.Environment, e.Reason), false
	case Moved:
		verb := "advances it"
		switch {
		case e.Again:
			verb = "restarts it"
		case e.Kind == string(KindClosed):
			verb = "closes it"
		case e.Kind == string(KindCanceled):
			verb = "cancels it"
		}
		return and(fmt.Sprintf("%s, from %s to %s", verb, e.From, e.To), e.Reason), false
	case TaskAdded:
		return fmt.Sprintf("%s task %d is opened: %s", e.Kind, e.ID, e.Title), true
	case TaskChanged:
		return and(fmt.Sprintf("puts task %d to %s: %s", e.ID, e.State, e.Title), e.Note), e.State == workflow.TaskCancelled && e.Note != ""
	case Noted:
		return "notes: " + e.Text, false
	}
	return sayDeployed(r, payload)
}

// sayDeployed is say for deployments.
func sayDeployed(r Release, payload any) (says string, follows bool) {
	to := func(number int) string {
		d, _ := r.Deployment(number)
		return fmt.Sprintf("deployment %d to %s", number, d.Environment)
	}
	switch e := payload.(type) {
	case DeploymentStarted:
		s := fmt.Sprintf("begins deployment %d to %s: %s", e.Number, e.Environment, itemsText(e.Items))
		if e.RollsBack > 0 {
			s = fmt.Sprintf("rolls back deployment %d: begins deployment %d to %s: %s", e.RollsBack, e.Number, e.Environment, itemsText(e.Items))
		}
		if e.Retries > 0 {
			s += fmt.Sprintf(", again after deployment %d", e.Retries)
		}
		if len(e.Changes) > 0 {
			s += ", under " + list(e.Changes)
		}
		if e.RollUp == RollUpException {
			s += "; its gates are " + string(e.RollUp)
		}
		return s, false
	case Reported:
		return and(fmt.Sprintf("reports %s of target %s in %s", e.Outcome, e.Target, to(e.Deployment)), e.Detail), false
	case WaveBegun:
		return fmt.Sprintf("begins wave %d of %s", e.Wave, to(e.Deployment)), false
	case DeploymentPaused:
		return and("pauses "+to(e.Deployment), e.Reason), false
	case DeploymentResumed:
		return and("resumes "+to(e.Deployment), e.Reason), false
	case DeploymentFinished:
		return and(fmt.Sprintf("finishes %s, on %s", to(e.Deployment), counted(e.Successes, "target")), e.Notes), false
	case DeploymentEnded:
		return and(fmt.Sprintf("%s is %s", to(e.Deployment), e.State), e.Why), true
	}
	return fmt.Sprintf("records %T", payload), false
}

// itemsText writes what is put in place for people, the first few of many.
func itemsText(items []Item) string {
	const most = 5
	var all []string
	for i, item := range items {
		if i == most {
			all = append(all, fmt.Sprintf("%d more", len(items)-most))
			break
		}
		name := item.Instance
		if name == "" {
			name = item.Title
		}
		switch {
		case item.After == "" && item.CI != "":
			name += " taken away"
		case item.After != "":
			name += " " + item.After
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

// and joins a sentence and what somebody said to it.
func and(s, words string) string {
	if words == "" {
		return s
	}
	return s + ": " + words
}

// counted writes "1 target", "2 targets".
func counted(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// stamp writes a time for people.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
