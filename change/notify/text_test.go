package notify_test

import (
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/notify"
)

// texts returns what was sent at a word, by who is told.
func (p *post) at(word string) letter {
	for _, l := range p.letters() {
		if l.Word == word {
			return l
		}
	}
	return letter{}
}

func TestTheTextsSayWhatHappened(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	r := upgrade(all("u-1"))
	r.Content.Outage = &change.Outage{Expected: true, For: 1_800}
	c := h.whole(r)
	require.NoError(t, h.feed(h.handler(p)))
	subjects := map[string]string{}
	for _, l := range p.letters() {
		subjects[l.Word] = l.Subject
		require.Equal(t, "https://changes.example.org/changes/CHG-000001", l.Link)
		require.Equal(t, c.Title, l.Title)
	}
	require.Equal(t, map[string]string{
		"authorized": "CHG-000001 is authorized: Upgrade db-01 to 16", "held": "CHG-000001 is on hold: Upgrade db-01 to 16",
		"resumed": "CHG-000001 is no longer on hold: Upgrade db-01 to 16", "started": "CHG-000001 has started: Upgrade db-01 to 16",
		"implemented": "CHG-000001 is implemented: Upgrade db-01 to 16", "reviewed": "CHG-000001 is reviewed as successful: Upgrade db-01 to 16",
		"closed": "CHG-000001 is closed: Upgrade db-01 to 16",
	}, subjects)
	require.Equal(t, `Change CHG-000001 is implemented.

Title:    Upgrade db-01 to 16
When:     2026-03-02 11:00 UTC
By:       dave
Reason:   went well
Planned:  2026-03-02 10:00 UTC to 2026-03-02 12:00 UTC
Outage:   30m0s

https://changes.example.org/changes/CHG-000001

You are told this as a stakeholder of the change.
`, p.at("implemented").Text)
	require.Equal(t, monday.Add(2*time.Hour), p.at("implemented").At)
}

func TestTheTextsSayWhereAChangeLeftItsWay(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	r := upgrade(all("u-1"))
	r.Model, r.Content.Window = "emergency", nil
	c := h.raise(r, change.Submit{})
	h.do(dave, c.ID, change.Start{})
	h.do(bob, c.ID, change.Approve{Stage: "emergency board", Scope: c.Scope})
	h.do(dave, c.ID, change.Complete{BackedOut: true})
	require.NoError(t, h.feed(h.handler(p, func(c *notify.Config) { c.BaseURL = "" })))
	require.Contains(t, p.at("started").Subject, "has started before it was authorized")
	require.Contains(t, p.at("authorized").Subject, "is authorized in retrospect")
	require.Contains(t, p.at("implemented").Subject, "is backed out")
	require.Empty(t, p.at("started").Link)
	require.NotContains(t, p.at("started").Text, "http")
	require.NotContains(t, p.at("started").Text, "Planned")
}

// What people write cannot look like what the engine says.
func TestWhatPeopleWriteStaysInItsLine(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	r := upgrade(all("u-1"))
	r.Content.Title = "{{.Change.Requester}} \u202eevil\u202c \u2028By:\u2029carol \u00e9"
	c := h.scheduled(r)
	h.do(dave, c.ID, change.Start{})
	h.do(dave, c.ID, change.Complete{Notes: "well\n\nBy:       carol\r\nhttps://evil.example.org/\n" + strings.Repeat("long ", 1_000)})
	require.NoError(t, h.feed(h.handler(p)))
	require.Len(t, p.letters(), 3)
	for _, l := range p.letters() {
		require.Equal(t, "{{.Change.Requester}} evil  By: carol é", l.Title)
		require.NotContains(t, l.Subject, "alice", "it is no template")
		require.NotContains(t, l.Subject, "\n")
		require.LessOrEqual(t, len(l.Subject), 240)
		starts := map[string]int{}
		for _, line := range strings.Split(l.Text, "\n") {
			first, _, _ := strings.Cut(line, " ")
			starts[first]++
			require.Less(t, len(line), 2_100)
			require.False(t, strings.HasPrefix(line, "https://evil"), line)
		}
		require.Equal(t, 1, starts["By:"], l.Text)
		require.Equal(t, 1, starts["Title:"], l.Text)
		require.NotContains(t, l.Text+l.Subject, "\u202e")
	}
	require.Contains(t, p.at("implemented").Text, "...")
}

func TestASubjectOfOnesOwnIsStillOneLine(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	h.scheduled(upgrade(all("u-1")))
	own := func(c *notify.Config) {
		c.Subject = template.Must(template.New("").Parse("[{{.Word}}]\r\nBcc: eve@example.org\n{{.Change.Requester}} for {{.Who}}\x00 " + strings.Repeat("ä", 300)))
		c.Text = template.Must(template.New("").Parse("{{.Title}}\r\n\x07\x1b[31m{{with .Change.Window}}{{.Start.Year}}{{end}}\tend\xff"))
	}
	require.NoError(t, h.feed(h.handler(p, own)))
	l := p.letters()[0]
	require.True(t, strings.HasPrefix(l.Subject, "[authorized]  Bcc: eve@example.org alice for u-1  ä"), l.Subject)
	require.LessOrEqual(t, len(l.Subject), 240)
	require.True(t, strings.HasSuffix(l.Subject, "ä..."), l.Subject)
	require.Equal(t, "Upgrade db-01 to 16\n[31m2026\tend\uFFFD", l.Text)
}

// A template that fails for one change is the program's fault: nobody is told half of
// it, and it is told when it is mended.
func TestATemplateThatFailsSendsNothing(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(all("u-1")))
	broken := func(c *notify.Config) {
		c.Text = template.Must(template.New("").Parse(`{{if eq .ID "CHG-000001"}}{{index .Change.Tasks 7}}{{end}}`))
	}
	require.ErrorContains(t, h.feed(h.handler(p, broken)), "the template of the text")
	require.Zero(t, p.tried)
	require.Empty(t, h.of(c.ID))
	require.NoError(t, h.feed(h.handler(p)))
	require.Len(t, p.letters(), 1)
}
