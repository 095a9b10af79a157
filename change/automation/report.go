package automation

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// State is how a run of a pipeline stands.
type State string

// The states of a run. What a run that failed has left behind is not known.
const (
	Queued    State = "queued"
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed" // or was cancelled
)

// order is that in which a run goes through its states; the last two end it.
var order = map[State]int{Queued: 1, Running: 2, Succeeded: 3, Failed: 3}

// Reported is recorded in "pipeline-NAME#RUN" when a state of a run is reported, once
// for each.
type Reported struct {
	Pipeline    string    `json:"pipeline"`
	Run         string    `json:"run"`
	State       State     `json:"state"`
	URL         string    `json:"url,omitzero"` // of the run, for people
	Repository  string    `json:"repository,omitzero"`
	Ref         string    `json:"ref,omitzero"` // a branch or a tag
	Commit      string    `json:"commit,omitzero"`
	Artifact    string    `json:"artifact,omitzero"` // its URL
	SHA256      string    `json:"sha256,omitzero"`   // of the artifact, 64 hexadecimal digits
	Version     string    `json:"version,omitzero"`  // that is deployed
	Environment string    `json:"environment,omitzero"`
	CI          string    `json:"ci,omitzero"`       // that it is deployed to
	Template    string    `json:"template,omitzero"` // of the standard change that it is
	At          time.Time `json:"at,omitzero"`       // by the pipeline's clock
}

// Tags lets queries find the runs of a pipeline, and those that touch a CI.
func (r Reported) Tags() []string {
	var tags []string
	for _, tag := range []string{"pipeline:" + r.Pipeline, "ci:" + r.CI} {
		if len(tag) <= eventstore.MaxTag && (r.CI != "" || !strings.HasPrefix(tag, "ci:")) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// run is what a run is called elsewhere: at most 200 bytes.
func (r Reported) run() string { return r.Pipeline + "#" + r.Run }

// ActionReport is the action that an Authorizer is asked about, with the pipeline as
// its object.
const ActionReport = "pipeline.report"

// Report records how a run stands. A state that was reported is not recorded again,
// nor is one that comes after a later one; Done is then of nothing. The same state
// with something else in it is refused by "run-differs", an end after the other end
// by "run-ended": how it was is not known. Action, Target and Content of call are set
// here. It costs a read of the run's stream and one append.
func Report(ctx context.Context, door *command.Door, call command.Call, r Reported) (command.Done, error) {
	call.Action, call.Target, call.Content = ActionReport, "", r
	if r.Pipeline != "" && text(r.Pipeline, 200) == "" {
		call.Target = r.Pipeline
	}
	if !r.At.IsZero() {
		r.At = r.At.UTC().Truncate(time.Microsecond)
	}
	return door.Do(ctx, call, func(tx *command.Tx) error {
		if err := r.check(); err != nil {
			return err
		}
		attributes := map[string][]string{}
		for name, value := range map[string]string{"ci": r.CI, "environment": r.Environment, "template": r.Template, "repository": r.Repository} {
			if value != "" {
				attributes[name] = []string{value}
			}
		}
		if err := tx.Authorize(ActionReport, r.Pipeline, attributes); err != nil {
			return err
		}
		_, err := reporting.Do(tx.Tx, "pipeline-"+r.run(), r)
		return err
	})
}

// reporting decides on what is reported of one run, of which it knows what was.
var reporting = eventstore.Decider[[]Reported, Reported]{
	Decide: func(before []Reported, r Reported) ([]any, error) {
		for _, b := range before {
			at := b.At
			b.At = r.At // of a report that is repeated
			switch {
			case b.State == r.State && b != r:
				return nil, refused("run-differs", "state", fmt.Sprintf("run %q was reported as %s with something else in it", r.run(), r.State), "report what is new under a run of its own")
			case b.State == r.State:
				return nil, nil
			case order[b.State] == order[r.State]:
				return nil, refused("run-ended", "state", fmt.Sprintf("run %q was reported as %s at %s", r.run(), b.State, at.Format(time.RFC3339)), "see how it ended, and report another run")
			}
		}
		for _, b := range before {
			if order[b.State] > order[r.State] {
				return nil, nil
			}
		}
		return []any{r}, nil
	},
	Evolve: func(before []Reported, payload any) []Reported {
		if r, ok := payload.(Reported); ok {
			before = append(before[:len(before):len(before)], r)
		}
		return before
	},
}

func refused(rule, field, reason, remedy string) error {
	return command.Refuse(command.Refusal{Kind: command.Refused, Rule: rule, Field: field, Reason: reason, Remedy: remedy})
}

// check returns all that cannot be meant.
func (r Reported) check() error {
	var wrong []command.Refusal
	add := func(rule, field, reason, remedy string) {
		wrong = append(wrong, command.Refusal{Kind: command.Malformed, Rule: rule, Field: field, Reason: reason, Remedy: remedy})
	}
	for _, f := range []struct {
		field, text string
		limit       int
		required    bool
	}{
		{"pipeline", r.Pipeline, 99, true}, {"run", r.Run, 100, true}, {"repository", r.Repository, 500, false}, {"ref", r.Ref, 255, false},
		{"commit", r.Commit, 128, false}, {"version", r.Version, 255, false}, {"environment", r.Environment, 100, false},
		{"template", r.Template, 64, false},
	} {
		if f.required && f.text == "" {
			add(f.field+"-required", f.field, "it is empty", "give it")
		} else if why := text(f.text, f.limit); why != "" {
			add("not-text", f.field, why, "give text in one line")
		}
	}
	if strings.Contains(r.Pipeline, "#") {
		add("not-text", "pipeline", "it has a #, which stands between a pipeline and its run", "name it without")
	}
	if order[r.State] == 0 {
		add("unknown-state", "state", fmt.Sprintf("there is no state %.50q of a run", r.State), "say queued, running, succeeded or failed")
	}
	if r.CI != "" {
		if err := cmdb.CheckID(r.CI); err != nil {
			add("unknown-ci", "ci", err.Error(), "correct the ID")
		}
	}
	for _, f := range []struct{ field, address string }{{"url", r.URL}, {"artifact", r.Artifact}} {
		if u, err := url.Parse(f.address); f.address != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || len(f.address) > 2048) {
			add("not-a-url", f.field, fmt.Sprintf("%.100q is no address on the web", f.address), "give an http or https URL of at most 2048 bytes")
		}
	}
	if r.SHA256 != "" && (len(r.SHA256) != 64 || strings.Trim(r.SHA256, "0123456789abcdef") != "") {
		add("not-a-digest", "sha256", "it is not 64 hexadecimal digits", "give the SHA-256 in lower case")
	}
	if r.SHA256 != "" && r.Artifact == "" {
		add("artifact-required", "artifact", "there is a digest and nothing that it is of", "give the artifact's URL")
	}
	if year := r.At.Year(); !r.At.IsZero() && (year < 1970 || year > 9999) {
		add("not-a-time", "at", "it is not in the years 1970 to 9999", "leave it out, or correct it")
	}
	return command.Refuse(wrong...)
}

// text returns why s is no text in one line of at most so many bytes, or nothing.
func text(s string, limit int) string {
	switch {
	case len(s) > limit:
		return fmt.Sprintf("it has %d bytes of at most %d", len(s), limit)
	case !utf8.ValidString(s):
		return "it is not valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "it has a control character"
	case strings.TrimSpace(s) != s:
		return "it begins or ends with space"
	}
	return ""
}
