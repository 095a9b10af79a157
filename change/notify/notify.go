// Package notify tells the stakeholders of changes what happens to them. In come
// the events of changes, by package relay, and where each person is reached; out go
// mails and webhooks, and a receipt of each in the log.
//
//	mail, err := notify.NewMail(notify.MailConfig{Host: "mail.example.org", From: "Changes <changes@example.org>"})
//	tell, err := notify.Stakeholders(notify.Config{
//		Changes: engine.Changes, Door: engine.Door,
//		Addresses: directory.Addresses, // "shop-team" is reached by "mail" at "shop@example.org"
//		Senders:   map[string]notify.Sender{"mail": mail},
//		BaseURL:   "https://changes.example.org/changes/",
//	})
//	handlers, err := relay.New(relay.Config{Store: store, Registry: registry}, tell)
//
// # Who is told what
//
// A change's content names its stakeholders and at which events each is told, by
// one of [Words]. The owners of the CIs that a change touches can be told besides
// (Config.OwnersTold). Who is told, and what, is read from the change as it stood at
// the event, so that a second attempt says what the first one said.
//
// # What holds
//
// Every notice is sent at least once, always under the same key: it is the
// Message-ID of a mail and the webhook-id of a webhook, by which who receives it
// twice can tell. After it was handed over, [Sent] is recorded in the stream
// "notice-CHANGE", once; what has a receipt is not sent again. What cannot be
// delivered is recorded as [Failed] and holds nobody up; what may yet be delivered is
// tried again by the relay, after the others were sent. Before anything is sent the
// door is asked whether a receipt may be recorded: where not, nothing is sent. [Of]
// and [To] answer who was told what, and when.
//
// Neither addresses nor texts are in the log, nor in the errors that a handler
// returns: a receipt has the opaque ID of a person and the name of a channel.
//
// # Rights
//
// The handler acts as an actor of its own, "rollforward:notify" unless Config.Actor
// says otherwise, and needs the right to "notify.record". In the ready table
// command.Automation has it:
//
//	command.Roles{"rollforward:notify": {command.Automation}}
//
// The registry of the engine needs [Types]: give them to rollforward.Config.Types.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// Name is the name of the handler unless Config.Name says otherwise, and Actor the ID
// of whom it acts as.
const (
	Name  = "notify-stakeholders"
	Actor = "rollforward:notify"
)

// Config says who is told, where and how. Changes, Door, Addresses and Senders are
// required.
type Config struct {
	Changes *change.Service
	Door    *command.Door // with Types of this package in its registry

	// Addresses returns where a person or a team is reached: all of these are told.
	// None, or an error that is ErrUnknown, is recorded as a notice that failed;
	// another error has the relay try again. It may be called concurrently.
	Addresses func(ctx context.Context, who string) ([]Address, error)

	// Senders are by channel: "mail", "chat".
	Senders map[string]Sender

	// OwnersTold are the Words at which the owners are told of the CIs that a change
	// declares and of the 50 most important that its impact names. Default none.
	OwnersTold []string

	// Owners returns the owners of CIs, such as OwnersIn of the CMDB. Required with
	// OwnersTold.
	Owners func(ctx context.Context, cis []string) ([]string, error)

	// Otherwise is what a stakeholder is told of whom the change does not say it.
	// Default nothing.
	Otherwise []string

	// Subject and Text are executed with a Page. Default templates in English.
	Subject, Text *template.Template

	// BaseURL is where people see changes: the ID is appended as a further element of
	// its path. Default none, and notices without links.
	BaseURL string

	// Name is the handler's, and with it the consumer's, for ever. Default Name.
	Name string

	// Actor is who records receipts. Default Actor.
	Actor command.Actor

	// Timeout is how long one notice may take to be handed over. Default 30 s.
	Timeout time.Duration

	// Patience is how long after its event a notice is tried that may yet be
	// delivered; then it is recorded as failed, by GaveUp, and what comes after it in
	// the change is told. Default 24 h; below 0 without end.
	Patience time.Duration

	// Logger is told why a notice was not sent, in the words of its Sender (warn).
	// Default slog.Default().
	Logger *slog.Logger
}

// Address is where somebody is reached.
type Address struct {
	Channel string // one of Config.Senders
	Where   string // what its Sender understands: a mail address, a URL
}

// ErrUnknown says that a directory knows nobody of that ID.
var ErrUnknown = errors.New("nobody is known by that ID")

// Sender hands notices over to those who deliver them. Mail and Webhook are ready
// ones.
type Sender interface {
	// Send hands m over for delivery to an address. It ends with ctx. nil says that it
	// was taken over; an *UndeliverableError that it never will be; any other error,
	// and a panic, that it may be if it is tried again, under the same key. Errors are
	// logged, and not recorded. It may be called concurrently.
	Send(ctx context.Context, where string, m Message) error
}

// Message is a notice as it is sent. Subject is one line; texts are valid UTF-8
// without control characters but the line breaks and tabs of Text.
type Message struct {
	Key     string // of this notice, always the same; ASCII without spaces, at most 128 bytes
	Change  string // ID
	Version uint64 // of the change, at the event
	Event   string // ID of the event
	Word    string // what happened, one of Words
	Who     string // is told, an opaque ID
	At      time.Time
	Title   string // of the change
	Subject string
	Text    string
	Link    string // to the change; empty where there is no BaseURL
}

// sending is how many notices of one event are under way at once.
const sending = 4

// attempts is how often the relay delivers an event before it is parked: with pauses
// of at most a minute, longer than the default Patience. What is parked is then
// something that somebody has to mend, such as a right that is missing.
const attempts = 1_600

// Stakeholders returns a handler that tells stakeholders. It does no I/O. The fields
// of the handler may be changed before it is run: without History it tells of what is
// recorded from its first start on. An event costs a read of the change's stream, and
// where somebody is told one of the receipts' stream, and one command for each notice.
func Stakeholders(c Config) (relay.Handler, error) {
	n, err := newNotifier(c)
	if err != nil {
		return relay.Handler{}, fmt.Errorf("notify: %w", err)
	}
	return relay.Handler{Name: n.Name, Cases: n.cases(), Timeout: 5 * time.Minute, Attempts: attempts}, nil
}

// notifier is the handler's state.
type notifier struct {
	Config
	base *url.URL

	mu         sync.Mutex
	unrecorded map[string]outcome // of notices whose receipt could not be recorded, by key: in this process they are not sent again
}

func newNotifier(c Config) (*notifier, error) {
	switch {
	case c.Changes == nil || c.Door == nil || c.Addresses == nil || len(c.Senders) == 0:
		return nil, errors.New("give Changes, Door, Addresses and Senders, which are required")
	case len(c.OwnersTold) > 0 && c.Owners == nil:
		return nil, errors.New("give Owners with OwnersTold, such as OwnersIn(engine.CMDB)")
	case c.Timeout < 0:
		return nil, errors.New("give a Timeout that is not negative; 0 is its default")
	}
	for channel, sender := range c.Senders {
		if sender == nil || !plain(channel, 64) {
			return nil, fmt.Errorf("channel %.80q takes a Sender, and a name of at most 64 letters, digits and signs without spaces", channel)
		}
	}
	for _, word := range slices.Concat(c.OwnersTold, c.Otherwise) {
		if !slices.Contains(words, word) {
			return nil, fmt.Errorf("nothing is told at %.80q: choose from %s", word, strings.Join(words, ", "))
		}
	}
	if c.Name == "" {
		c.Name = Name
	}
	if !plain(c.Name, 64) {
		return nil, fmt.Errorf("the name %.80q goes into the headers of mails and webhooks: give at most 64 letters, digits and signs without spaces", c.Name)
	}
	if c.Actor.ID == "" {
		c.Actor.ID = Actor
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Patience == 0 {
		c.Patience = 24 * time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Subject == nil {
		c.Subject = defaultSubject
	}
	if c.Text == nil {
		c.Text = defaultText
	}
	n := &notifier{Config: c, unrecorded: map[string]outcome{}}
	if c.BaseURL != "" {
		base, err := url.Parse(c.BaseURL)
		if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
			return nil, fmt.Errorf("%.200q is no address on the web: give a BaseURL with https", c.BaseURL)
		}
		n.base = base
	}
	return n, n.tryTemplates()
}

// plain reports whether s is printable ASCII without spaces, of 1 to limit bytes.
func plain(s string, limit int) bool {
	return s != "" && len(s) <= limit && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
