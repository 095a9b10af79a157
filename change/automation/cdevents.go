package automation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollforward/rollforward/eventstore/command"
)

// ErrNotAReport says that a message is about a run of a pipeline and does not say
// what a report has to.
var ErrNotAReport = errors.New("the message is no report of a run")

// CDEvents says how runs that a message broker tells of are reported. Door and Actor
// are required.
type CDEvents struct {
	Door  *command.Door
	Actor command.Actor

	// Complete fills in what CDEvents has no word for, such as the template, from the
	// event's customData, as JSON; empty where there is none. Default: of an object
	// "rollforward" in it the members template, ci, version, environment, repository,
	// ref, commit, artifact and sha256.
	Complete func(r *Reported, customData []byte) error
}

// FromCDEvents returns a handler for the messages of any Watermill subscriber that
// records the runs they tell of; see [Report]. A message is a CDEvent of type
// dev.cdevents.pipelinerun.queued, started or finished, of any version, by itself or
// as the data of a CloudEvent in JSON. A run's pipeline is its pipelineName, its
// name the subject's ID. What has another outcome than "success" has failed. Other
// CDEvents and CloudEvents are acknowledged and nothing is made of them.
//
// A message that is not JSON, one that is ErrNotAReport, and a report that is refused
// are errors: trying again does not mend them, so let the router put them aside, as
// Watermill's middleware PoisonQueue does.
func FromCDEvents(c CDEvents) (message.NoPublishHandlerFunc, error) {
	if c.Door == nil || c.Actor.ID == "" {
		return nil, errors.New("automation: CDEvents: Door and Actor are required")
	}
	if c.Complete == nil {
		c.Complete = complete
	}
	return func(m *message.Message) error {
		r, about, err := c.report(m.Payload)
		if err != nil || !about {
			return err
		}
		_, err = Report(m.Context(), c.Door, command.Call{Actor: c.Actor}, r)
		return err
	}, nil
}

// cloudEvent is what of a CloudEvent in JSON, or of a CDEvent by itself, matters here.
type cloudEvent struct {
	SpecVersion string         `json:"specversion"`
	Type        string         `json:"type"`
	Data        jsontext.Value `json:"data"`
	Base64      []byte         `json:"data_base64"`
}

type cdEvent struct {
	Context struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
	} `json:"context"`
	Subject struct {
		ID      string `json:"id"`
		Content struct {
			Pipeline string `json:"pipelineName"`
			Outcome  string `json:"outcome"`
			URL      string `json:"url"`
			URI      string `json:"uri"` // as later versions call it
		} `json:"content"`
	} `json:"subject"`
	Custom jsontext.Value `json:"customData"`
}

const ofRuns = "dev.cdevents.pipelinerun."

// report makes a report of a message; about is false where it is of something else.
func (c CDEvents) report(payload []byte) (r Reported, about bool, err error) {
	var cloud cloudEvent
	if err := json.Unmarshal(payload, &cloud); err != nil {
		return r, false, fmt.Errorf("read a CDEvent: %w", err)
	}
	if cloud.SpecVersion != "" {
		if !strings.HasPrefix(cloud.Type, ofRuns) {
			return r, false, nil
		}
		if payload = cloud.Data; len(payload) == 0 {
			payload = cloud.Base64
		}
	}
	var e cdEvent
	if err := json.Unmarshal(payload, &e); err != nil {
		return r, false, fmt.Errorf("read a CDEvent: %w", err)
	}
	what, of := strings.CutPrefix(e.Context.Type, ofRuns)
	if !of {
		if cloud.SpecVersion != "" {
			return r, false, fmt.Errorf("%w: the CloudEvent is of type %.100q and the CDEvent in it of type %.100q", ErrNotAReport, cloud.Type, e.Context.Type)
		}
		return r, false, nil
	}
	what, _, _ = strings.Cut(what, ".")
	r = Reported{Pipeline: e.Subject.Content.Pipeline, Run: e.Subject.ID, URL: e.Subject.Content.URL}
	if r.URL == "" {
		r.URL = e.Subject.Content.URI
	}
	switch outcome := e.Subject.Content.Outcome; {
	case what == "queued":
		r.State = Queued
	case what == "started":
		r.State = Running
	case what != "finished":
		return r, false, nil // a later version knows more
	case outcome == "":
		return r, false, fmt.Errorf("%w: run %.100q has finished, and the event does not say how: send its outcome", ErrNotAReport, r.Run)
	case outcome == "success":
		r.State = Succeeded
	default:
		r.State = Failed
	}
	if e.Context.Timestamp != "" {
		if r.At, err = time.Parse(time.RFC3339, e.Context.Timestamp); err != nil {
			return r, false, fmt.Errorf("%w: its timestamp %.50q is not of the form of RFC 3339", ErrNotAReport, e.Context.Timestamp)
		}
	}
	if err := c.Complete(&r, e.Custom); err != nil {
		return r, false, fmt.Errorf("complete the report of run %.100q: %w", r.Run, err)
	}
	return r, true, nil
}

// complete is the default of CDEvents.Complete.
func complete(r *Reported, customData []byte) error {
	if len(customData) == 0 || jsontext.Value(customData).Kind() != '{' {
		return nil // it may be anything
	}
	var custom struct {
		Ours struct {
			Template    string `json:"template"`
			CI          string `json:"ci"`
			Version     string `json:"version"`
			Environment string `json:"environment"`
			Repository  string `json:"repository"`
			Ref         string `json:"ref"`
			Commit      string `json:"commit"`
			Artifact    string `json:"artifact"`
			SHA256      string `json:"sha256"`
		} `json:"rollforward"`
	}
	if err := json.Unmarshal(customData, &custom); err != nil {
		return fmt.Errorf("%w: customData: %w", ErrNotAReport, err)
	}
	o := custom.Ours
	r.Template, r.CI, r.Version, r.Environment, r.Repository = o.Template, o.CI, o.Version, o.Environment, o.Repository
	r.Ref, r.Commit, r.Artifact, r.SHA256 = o.Ref, o.Commit, o.Artifact, o.SHA256
	return nil
}
