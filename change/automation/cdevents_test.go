package automation_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

const cdEvent = `{
  "context": {"version": "0.4.1", "id": "271069a8-fc18-44f1-b38f-9d70a1695819", "source": "/ci", "type": "dev.cdevents.pipelinerun.finished.0.2.0", "timestamp": "2026-03-02T09:27:05.315384+01:00"},
  "subject": {"id": "/namespace/run-1", "source": "/ci", "type": "pipelineRun",
    "content": {"pipelineName": "deploy", "outcome": "success", "url": "https://ci.example.com/run-1"}},
  "customData": {"other": 1, "rollforward": {"template": "patch-db", "ci": "db-01", "version": "16", "environment": "production", "commit": "8b25fd9"}},
  "customDataContentType": "application/json"
}`

// cloud is a CDEvent in a CloudEvent.
func cloud(eventType, data string) string {
	return fmt.Sprintf(`{"specversion": "1.0", "id": "1", "source": "/ci", "type": %q, "datacontenttype": "application/json", %s}`, eventType, data)
}

func (h *house) tell(payload string, alter ...func(*automation.CDEvents)) error {
	c := automation.CDEvents{Door: h.Door, Actor: command.As("ci")}
	for _, f := range alter {
		f(&c)
	}
	f, err := automation.FromCDEvents(c)
	require.NoError(h.t, err)
	return f(message.NewMessage("1", []byte(payload)))
}

// reports returns what was recorded of runs.
func (h *house) reports() (all []automation.Reported) {
	registry := registry(h.t)
	for r, err := range h.store.Read(h.t.Context(), eventstore.Query{Types: []string{"pipeline.reported"}}) {
		require.NoError(h.t, err)
		payload, err := registry.Decode(r.Event)
		require.NoError(h.t, err)
		all = append(all, payload.(automation.Reported))
	}
	return all
}

func TestACDEventOfARunIsReported(t *testing.T) {
	want := automation.Reported{
		Pipeline: "deploy", Run: "/namespace/run-1", State: automation.Succeeded, URL: "https://ci.example.com/run-1", Template: "patch-db", CI: "db-01",
		Version: "16", Environment: "production", Commit: "8b25fd9", At: time.Date(2026, 3, 2, 8, 27, 5, 315384000, time.UTC),
	}
	finished := "dev.cdevents.pipelinerun.finished.0.2.0"
	for name, payload := range map[string]string{
		"by itself":        cdEvent,
		"in a CloudEvent":  cloud(finished, `"data": `+cdEvent),
		"in one as base64": cloud(finished, `"data_base64": "eyJjb250ZXh0Ijp7InR5cGUiOiJkZXYuY2RldmVudHMucGlwZWxpbmVydW4uZmluaXNoZWQuMC4yLjAiLCJ0aW1lc3RhbXAiOiIyMDI2LTAzLTAyVDA4OjI3OjA1LjMxNTM4NFoifSwic3ViamVjdCI6eyJpZCI6Ii9uYW1lc3BhY2UvcnVuLTEiLCJjb250ZW50Ijp7InBpcGVsaW5lTmFtZSI6ImRlcGxveSIsIm91dGNvbWUiOiJzdWNjZXNzIiwidXJpIjoiaHR0cHM6Ly9jaS5leGFtcGxlLmNvbS9ydW4tMSJ9fSwiY3VzdG9tRGF0YSI6eyJyb2xsZm9yd2FyZCI6eyJ0ZW1wbGF0ZSI6InBhdGNoLWRiIiwiY2kiOiJkYi0wMSIsInZlcnNpb24iOiIxNiIsImVudmlyb25tZW50IjoicHJvZHVjdGlvbiIsImNvbW1pdCI6IjhiMjVmZDkifX19"`),
	} {
		t.Run(name, func(t *testing.T) {
			h := estate(t)
			for range 2 {
				require.NoError(t, h.tell(payload))
			}
			require.Equal(t, []automation.Reported{want}, h.reports())
			require.Empty(t, h.drive(automation.Pipelines(h.pipelines(carries))))
			require.Equal(t, "review", h.get("CHG-000001").Phase)
		})
	}
}

func TestTheStatesOfACDEvent(t *testing.T) {
	for to, want := range map[string]automation.State{
		"queued": automation.Queued, "started": automation.Running, "finished success": automation.Succeeded, "finished failure": automation.Failed,
		"finished error": automation.Failed, "finished cancel": automation.Failed, "finished something": automation.Failed,
	} {
		h := estate(t)
		what, outcome, _ := strings.Cut(to, " ")
		payload := strings.NewReplacer("pipelinerun.finished.0.2.0", "pipelinerun."+what+".0.9.0-draft", `"success"`, `"`+outcome+`"`).Replace(cdEvent)
		require.NoError(t, h.tell(payload), to)
		require.Equal(t, want, h.reports()[0].State, to)
	}
}

func TestWhatIsNoRunIsPassedOver(t *testing.T) {
	h := estate(t)
	for name, payload := range map[string]string{
		"another CDEvent":         strings.ReplaceAll(cdEvent, "pipelinerun.finished", "taskrun.finished"),
		"a state that is unknown": strings.ReplaceAll(cdEvent, "pipelinerun.finished", "pipelinerun.paused"),
		"another CloudEvent":      cloud("com.example.x", `"data": 1`),
		"nothing at all":          `{}`,
	} {
		require.NoError(t, h.tell(payload), name)
	}
	require.Empty(t, h.reports())
}

func TestAMessageThatIsNoReportIsAnError(t *testing.T) {
	h := estate(t)
	for name, c := range map[string]struct {
		payload string
		is      error // nil: any
	}{
		"no JSON":              {"x", nil},
		"no outcome":           {strings.ReplaceAll(cdEvent, `"success"`, `""`), automation.ErrNotAReport},
		"no time":              {strings.ReplaceAll(cdEvent, "2026-03-02T09:27:05.315384+01:00", "1744617508663"), automation.ErrNotAReport},
		"custom data differs":  {strings.ReplaceAll(cdEvent, `{"template": "patch-db",`, `{"template": 7,`), automation.ErrNotAReport},
		"types differ":         {cloud("dev.cdevents.pipelinerun.finished.0.2.0", `"data": `+strings.ReplaceAll(cdEvent, "pipelinerun.finished", "taskrun.finished")), automation.ErrNotAReport},
		"no pipeline":          {strings.ReplaceAll(cdEvent, `"deploy"`, `""`), command.ErrMalformed},
		"an address of no web": {strings.ReplaceAll(cdEvent, "https://ci.example.com/run-1", "file:///etc/passwd"), command.ErrMalformed},
		"no data":              {cloud("dev.cdevents.pipelinerun.finished.0.2.0", `"x": 1`), nil},
	} {
		err := h.tell(c.payload)
		require.Error(t, err, name)
		if c.is != nil {
			require.ErrorIs(t, err, c.is, name)
		}
	}
	failing := errors.New("who knows")
	require.ErrorIs(t, h.tell(cdEvent, func(c *automation.CDEvents) {
		c.Complete = func(*automation.Reported, []byte) error { return failing }
	}), failing)
	require.Empty(t, h.reports())
	_, err := automation.FromCDEvents(automation.CDEvents{Actor: robot})
	require.Error(t, err)
	_, err = automation.FromCDEvents(automation.CDEvents{Door: h.Door})
	require.Error(t, err)
}

// Whatever comes off a broker is a report, an error or nothing, and never a panic.
func FuzzACDEvent(f *testing.F) {
	f.Add([]byte(cdEvent))
	f.Add([]byte(cloud("dev.cdevents.pipelinerun.started.0.2.0", `"data": `+cdEvent)))
	f.Add([]byte(`{"specversion":"1.0","type":"dev.cdevents.pipelinerun.queued.0","data":null}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, about, err := automation.ReadReport(payload)
		if about && (err != nil || r.State == "") {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}
