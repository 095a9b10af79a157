package notify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/notify"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// all is a stakeholder who is told everything.
func all(who string) change.Stakeholder { return change.Stakeholder{Who: who, Told: notify.Words()} }

// DOMAIN 1.2: stakeholders, and what each is told when.
func TestEachStakeholderIsToldWhatTheChangeSaysAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		lives func(h *house, s ...change.Stakeholder)
		told  []change.Stakeholder
		want  []string
	}{
		"a whole life": {
			func(h *house, s ...change.Stakeholder) { h.whole(upgrade(s...)) },
			[]change.Stakeholder{all("zoe"), {Who: "shop", Told: []string{"started", "closed"}}, {Who: "desk", Told: []string{"implemented"}}, {Who: "nobody"}},
			[]string{
				"zoe authorized", "zoe held", "zoe resumed", "shop started", "zoe started", "desk implemented", "zoe implemented", "zoe reviewed",
				"shop closed", "zoe closed",
			},
		},
		"a cancellation": {
			func(h *house, s ...change.Stakeholder) {
				c := h.scheduled(upgrade(s...))
				h.do(carol, c.ID, change.Cancel{Reason: "not needed"})
			},
			[]change.Stakeholder{all("zoe"), {Who: "shop", Told: []string{"closed"}}, {Who: "desk", Told: []string{"canceled"}}},
			[]string{"zoe authorized", "desk canceled", "zoe canceled"},
		},
		"a rejection": {
			func(h *house, s ...change.Stakeholder) {
				c := h.raise(upgrade(s...), change.Submit{})
				h.do(carol, c.ID, change.Assess{Level: "low", Why: "small"})
				h.do(bob, c.ID, change.Reject{Stage: "cab", Reason: "no test plan"})
				h.do(alice, c.ID, change.Submit{})
			},
			[]change.Stakeholder{all("zoe"), {Who: "shop", Told: []string{"canceled", "authorized"}}},
			[]string{"zoe rejected"},
		},
		"an emergency that is refused after it was carried out": {
			func(h *house, s ...change.Stakeholder) {
				r := upgrade(s...)
				r.Model = "emergency"
				c := h.raise(r, change.Submit{})
				h.do(dave, c.ID, change.Start{})
				h.do(bob, c.ID, change.Reject{Stage: "emergency board", Reason: "not an emergency"})
				h.do(dave, c.ID, change.Complete{BackedOut: true})
			},
			[]change.Stakeholder{all("zoe"), {Who: "shop", Told: []string{"unauthorized"}}},
			[]string{"zoe started", "shop unauthorized", "zoe unauthorized", "zoe implemented"},
		},
		"one who is named twice": {
			func(h *house, s ...change.Stakeholder) { h.scheduled(upgrade(s...)) },
			[]change.Stakeholder{{Who: "shop", Told: []string{"authorized"}}, {Who: "shop", Told: []string{"authorized", "started"}}},
			[]string{"shop authorized"},
		},
		"a word that there is not": {
			func(h *house, s ...change.Stakeholder) { h.scheduled(upgrade(s...)) },
			[]change.Stakeholder{{Who: "shop", Told: []string{"autorized"}}},
			[]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := inMemory(t).estate(), &post{}
			c.lives(h, c.told...)
			require.NoError(t, h.feed(h.handler(p)))
			require.Equal(t, c.want, p.said())
			require.Len(t, h.of("CHG-000001"), len(c.want), "and each has a receipt")
		})
	}
}

func TestEveryWordIsToldInSomeLife(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	h.whole(upgrade(all("zoe")))
	c := h.scheduled(upgradeOf("lone", all("zoe")))
	h.do(carol, c.ID, change.Cancel{Reason: "no"})
	r := upgradeOf("lone", all("zoe"))
	r.Model = "emergency"
	c = h.raise(r, change.Submit{})
	h.do(bob, c.ID, change.Reject{Stage: "emergency board", Reason: "no"})
	c = h.do(alice, c.ID, change.Submit{}, change.Note{Text: "again"})
	h.do(dave, c.ID, change.Start{})
	h.do(bob, c.ID, change.Reject{Stage: "emergency board", Reason: "no"})
	require.NoError(t, h.feed(h.handler(p)))
	for _, word := range notify.Words() {
		require.Contains(t, p.said(), "zoe "+word)
	}
}

// What a person is told is read from the change as it stood then, whatever became of
// it since: a redelivery says the same, to the same people.
func TestARedeliveryTellsWhoWasAStakeholderThen(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(change.Stakeholder{Who: "shop", Told: []string{"authorized", "canceled"}}))
	h.do(alice, c.ID, change.Edit{Set: change.Content{Title: "Another title", Stakeholders: []change.Stakeholder{{Who: "desk", Told: []string{"authorized", "canceled"}}}}})
	h.do(carol, c.ID, change.Cancel{Reason: "not needed"})
	require.NoError(t, h.feed(h.handler(p)))
	require.Equal(t, []string{"shop authorized", "desk canceled"}, p.said())
	require.Equal(t, "CHG-000001 is authorized: Upgrade db-01 to 16", p.letters()[0].Subject)
	require.Equal(t, "CHG-000001 is canceled: Another title", p.letters()[1].Subject)
}

func TestOwnersOfWhatAChangeTouchesAreTold(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	owners := func(c *notify.Config) { c.OwnersTold, c.Owners = []string{"started"}, notify.OwnersIn(h.engine.CMDB) }
	h.whole(upgrade(change.Stakeholder{Who: "team-shop", Told: []string{"started"}}, change.Stakeholder{Who: "desk", Told: []string{"closed"}}))
	require.NoError(t, h.feed(h.handler(p, owners)))
	require.Equal(t, []string{"team-db started", "team-shop started", "desk closed"}, p.said(), "once, also who is a stakeholder too")
	byWho := map[string]notify.Receipt{}
	for _, r := range h.of("CHG-000001") {
		byWho[r.Who] = r
	}
	require.True(t, byWho["team-db"].Owner)
	require.False(t, byWho["team-shop"].Owner, "he is told as the stakeholder that he is")
	for _, l := range p.letters() {
		require.Equal(t, l.Who == "team-db", strings.Contains(l.Text, "an owner of what it touches"), l.Text)
	}

	broken := func(c *notify.Config) {
		owners(c)
		c.Owners = func(context.Context, []string) ([]string, error) { return nil, errors.New("down") }
	}
	c := h.scheduled(upgradeOf("lone"))
	h.do(dave, c.ID, change.Start{})
	require.ErrorContains(t, h.feed(h.handler(p, broken)), "look up the owners", "what could not be found out is not nobody")
	require.NoError(t, h.feed(h.handler(p, owners)))
	require.Equal(t, "team-lone", p.letters()[3].Who)
}

func upgradeOf(ci string, s ...change.Stakeholder) change.Raise {
	r := upgrade(s...)
	r.Content.Deltas, r.Content.CIs, r.Content.Window = nil, []string{ci}, nil
	return r
}

func TestWhoHasNoWordsIsToldWhatTheConfigSays(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	h.whole(upgrade(change.Stakeholder{Who: "shop"}, change.Stakeholder{Who: "desk", Told: []string{"held"}}))
	require.NoError(t, h.feed(h.handler(p, func(c *notify.Config) { c.Otherwise = []string{"started", "closed"} })))
	require.Equal(t, []string{"desk held", "shop started", "shop closed"}, p.said())
}

func TestOneIsToldByEachChannelHeIsReachedBy(t *testing.T) {
	h, mail, chat := inMemory(t).estate(), &post{}, &post{}
	c := h.scheduled(upgrade(all("zoe")))
	require.NoError(t, h.feed(h.handler(mail, func(c *notify.Config) {
		c.Senders["chat"] = chat
		c.Addresses = func(context.Context, string) ([]notify.Address, error) {
			return []notify.Address{{"post", "a@example.org"}, {"post", "b@example.org"}, {"chat", "a@example.org"}, {"post", "a@example.org"}}, nil
		}
	})))
	require.Len(t, mail.letters(), 2, "an address that is named twice is one")
	require.Len(t, chat.letters(), 1)
	keys := map[string]bool{}
	for _, r := range h.of(c.ID) {
		keys[r.Notice] = true
	}
	require.Len(t, keys, 3, "each has a key of its own")
}

func TestTheDirectoryIsAskedOnceForEachPersonAndEvent(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	h.scheduled(upgrade(all("team-db"), all("team-db"), all("zoe")))
	asked := map[string]int{}
	require.NoError(t, h.feed(h.handler(p, func(c *notify.Config) {
		c.OwnersTold, c.Owners = []string{"authorized"}, notify.OwnersIn(h.engine.CMDB)
		c.Addresses = func(ctx context.Context, who string) ([]notify.Address, error) {
			asked[who]++
			return everybody(ctx, who)
		}
	})))
	require.Equal(t, map[string]int{"team-db": 1, "team-shop": 1, "zoe": 1}, asked)
}

// Whom nobody knows is not passed over in silence, and holds nobody up.
func TestWhoCannotBeReachedIsRecorded(t *testing.T) {
	h, p := inMemory(t).estate(), &post{}
	c := h.scheduled(upgrade(all("ghost"), all("empty"), all("pigeon"), all("zoe")))
	addresses := func(c *notify.Config) {
		c.Addresses = func(ctx context.Context, who string) ([]notify.Address, error) {
			switch who {
			case "ghost":
				return nil, fmt.Errorf("%q: %w", who, notify.ErrUnknown)
			case "empty":
				return nil, nil
			case "pigeon":
				return []notify.Address{{Channel: "pigeon", Where: "roof"}}, nil
			}
			return everybody(ctx, who)
		}
	}
	for range 2 {
		require.NoError(t, h.feed(h.handler(p, addresses)))
		require.Equal(t, []string{"zoe authorized"}, p.said())
		why := map[string]notify.Failure{}
		for _, r := range h.of(c.ID) {
			why[r.Who] = r.Why
		}
		require.Equal(t, map[string]notify.Failure{"ghost": notify.NoAddress, "empty": notify.NoAddress, "pigeon": notify.NoChannel, "zoe": ""}, why)
		require.Len(t, h.of(c.ID), 4)
	}
}

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	h := open(t, memory.New())
	bad := template.Must(template.New("bad").Parse("{{.Nothing}}"))
	for says, f := range map[string]func(*notify.Config){
		"Addresses and Senders, which are required": func(c *notify.Config) { c.Door = nil },
		"which are required":                        func(c *notify.Config) { c.Senders = nil },
		"give Owners":                               func(c *notify.Config) { c.OwnersTold = []string{"started"} },
		"nothing is told at":                        func(c *notify.Config) { c.Otherwise = []string{"begun"} },
		"takes a Sender":                            func(c *notify.Config) { c.Senders = map[string]notify.Sender{"post": nil} },
		"without spaces":                            func(c *notify.Config) { c.Name = "tell\r\nBcc: x" },
		"is no address":                             func(c *notify.Config) { c.BaseURL = "javascript:alert(1)" },
		"template of the subject":                   func(c *notify.Config) { c.Subject = bad },
		"template of the text":                      func(c *notify.Config) { c.Text = bad },
		"not negative":                              func(c *notify.Config) { c.Timeout = -1 },
	} {
		_, err := notify.Stakeholders(h.config(&post{}, f))
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "notify: ")
	}
	_, err := notify.Stakeholders(h.config(&post{}))
	require.NoError(t, err)
}
