package notify_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change/notify"
)

// mailer is a sender to s, with generous time.
func mailer(t testing.TB, s *server, configs ...func(*notify.MailConfig)) *notify.Mail {
	c := notify.MailConfig{
		Host: "127.0.0.1", Port: s.port(), From: "Changes <changes@example.org>", TLS: &tls.Config{RootCAs: s.roots}, Timeout: time.Minute, Helo: "client.example.org",
	}
	for _, f := range configs {
		f(&c)
	}
	m, err := notify.NewMail(c)
	require.NoError(t, err)
	return m
}

var started = notify.Message{
	Key: "notify-stakeholders/0198/ab", Change: "CHG-000042", Word: "started", Who: "u-1", At: monday,
	Title: "Upgrade db-01", Subject: "CHG-000042 has started: Upgrade db-01", Text: "Change CHG-000042 has started.\n\n.\nGrüße\n",
}

func read(t require.TestingT, r received) (*mail.Message, string) {
	m, err := mail.ReadMessage(strings.NewReader(r.text))
	require.NoError(t, err)
	require.Equal(t, "quoted-printable", m.Header.Get("Content-Transfer-Encoding"))
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	require.NoError(t, err)
	return m, strings.ReplaceAll(string(body), "\r\n", "\n")
}

func TestAMailIsPlainMarkedAsAutomaticAndTheSameWhenItIsSentAgain(t *testing.T) {
	s := serve(t)
	m := mailer(t, s)
	require.NoError(t, m.Send(t.Context(), "Bob Ö <bob@example.org>", started))
	require.NoError(t, m.Send(t.Context(), "Bob Ö <bob@example.org>", started))
	other := started
	other.Key += "c"
	require.NoError(t, m.Send(t.Context(), "bob@example.org", other))
	mails := s.got()
	require.Len(t, mails, 3)
	require.Equal(t, mails[0], mails[1], "byte for byte")
	require.True(t, mails[0].secure)
	require.Equal(t, "FROM:<changes@example.org> BODY=8BITMIME", mails[0].from)
	require.Equal(t, "TO:<bob@example.org>", mails[0].to)

	parsed, body := read(t, mails[0])
	require.Equal(t, started.Text, body)
	headers := map[string]string{}
	for name, values := range parsed.Header {
		require.Len(t, values, 1, name)
		headers[name] = values[0]
	}
	id := headers["Message-Id"]
	require.Regexp(t, `^<[0-9a-f]{32}@example\.org>$`, id)
	require.Equal(t, map[string]string{
		"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All", "Content-Transfer-Encoding": "quoted-printable",
		"Content-Type": "text/plain; charset=UTF-8", "Date": "Mon, 02 Mar 2026 09:00:00 +0000", "From": `"Changes" <changes@example.org>`,
		"Message-Id": id, "Mime-Version": "1.0", "Subject": started.Subject, "To": "=?utf-8?q?Bob_=C3=96?= <bob@example.org>",
	}, headers)
	parsed, _ = read(t, mails[2])
	require.NotEqual(t, id, parsed.Header.Get("Message-Id"))
}

func TestAMailIsNotSentWithoutTLSUnlessThatIsSaid(t *testing.T) {
	s := serve(t, func(s *server) { s.plain, s.offers = true, "PLAIN LOGIN" })
	with := func(c *notify.MailConfig) { c.Username, c.Password = user, password }
	err := mailer(t, s, with).Send(t.Context(), "bob@example.org", started)
	require.ErrorContains(t, err, "STARTTLS")
	var never *notify.UndeliverableError
	require.NotErrorAs(t, err, &never, "somebody can mend it")
	require.Empty(t, s.got())
	require.Equal(t, []string{"EHLO client.example.org"}, s.clear, "neither a password nor an address was said")

	require.NoError(t, mailer(t, s, func(c *notify.MailConfig) { c.Unencrypted = true }).Send(t.Context(), "bob@example.org", started))
	require.Len(t, s.got(), 1)
	require.False(t, s.got()[0].secure)

	_, err = notify.NewMail(notify.MailConfig{Host: "h", From: "a@example.org", Unencrypted: true, Username: user, Password: password})
	require.ErrorContains(t, err, "in the clear")
}

func TestAServerOfAnotherNameIsNotBelieved(t *testing.T) {
	s := serve(t)
	for name, config := range map[string]func(*notify.MailConfig){
		"an authority nobody knows": func(c *notify.MailConfig) { c.TLS = nil },
		"another name":              func(c *notify.MailConfig) { c.TLS.ServerName = "mail.example.org" },
	} {
		err := mailer(t, s, config).Send(t.Context(), "bob@example.org", started)
		var untrusted *tls.CertificateVerificationError
		require.ErrorAs(t, err, &untrusted, name)
	}
	require.Empty(t, s.got())
}

func TestASenderLogsInByTheBestThatTheServerOffers(t *testing.T) {
	for offers, want := range map[string]string{
		"PLAIN LOGIN SCRAM-SHA-256": "SCRAM-SHA-256", "LOGIN PLAIN": "PLAIN", "LOGIN": "LOGIN",
	} {
		for _, implicit := range []bool{false, true} {
			s := serve(t, func(s *server) { s.offers, s.implicit = offers, implicit })
			m := mailer(t, s, func(c *notify.MailConfig) { c.Username, c.Password, c.ImplicitTLS = user, password, implicit })
			require.NoError(t, m.Send(t.Context(), "bob@example.org", started))
			require.Equal(t, want, s.got()[0].user, "%q", offers)

			m = mailer(t, s, func(c *notify.MailConfig) { c.Username, c.Password, c.ImplicitTLS = user, "wrong battery", implicit })
			err := m.Send(t.Context(), "bob@example.org", started)
			require.Error(t, err)
			var never *notify.UndeliverableError
			require.NotErrorAs(t, err, &never, "a password that has run out is no reason to tell nobody for ever")
			require.NotContains(t, err.Error(), "wrong battery")
			require.Len(t, s.got(), 1)
		}
	}
	s := serve(t, func(s *server) { s.offers = "GSSAPI" })
	err := mailer(t, s, func(c *notify.MailConfig) { c.Username, c.Password = user, password }).Send(t.Context(), "bob@example.org", started)
	require.ErrorContains(t, err, "offers none of")
}

// steps are those of a mail whose server asks for a password.
var steps = []string{"greeting", "EHLO", "STARTTLS", "TLS", "AUTH", "MAIL", "RCPT", "DATA", "TEXT", "RSET", "QUIT"}

func TestEveryFaultAtEveryStepIsTakenForWhatItIs(t *testing.T) {
	s := serve(t, func(s *server) { s.offers = "PLAIN" })
	m := mailer(t, s, func(c *notify.MailConfig) { c.Username, c.Password = user, password })
	require.NoError(t, m.Send(t.Context(), "bob@example.org", started))
	require.Equal(t, []string{"greeting", "EHLO", "STARTTLS", "TLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "TEXT", "RSET", "QUIT"}, s.took(), "all steps are known")

	for i, step := range steps {
		ctx, cancel := context.WithCancel(t.Context())
		for name, f := range map[string]fault{"drop": {drop: true}, "4xx": {reply: 451}, "5xx": {reply: 554}, "full": {reply: 552}, "login": {reply: 530}, "stall": {stall: cancel}} {
			if step == "TLS" && f.reply != 0 {
				continue // it has no replies
			}
			t.Run(step+" "+name, func(t *testing.T) {
				s.fail(step, f)
				defer s.mend()
				before := len(s.got())
				ctx := ctx
				if f.stall == nil {
					ctx = t.Context()
				}
				err := m.Send(ctx, "bob@example.org", started)
				if step == "RSET" || step == "QUIT" {
					require.NoError(t, err, "the server has the mail")
					require.Len(t, s.got(), before+1)
					return
				}
				require.Error(t, err)
				require.Len(t, s.got(), before)
				require.NotContains(t, err.Error(), "bob")
				var never *notify.UndeliverableError
				if i >= slices.Index(steps, "MAIL") && (f.reply == 554 || f.reply == 552) {
					require.ErrorAs(t, err, &never)
					require.Equal(t, notify.Refused, never.Why)
					require.Equal(t, f.reply, never.Code)
				} else {
					require.NotErrorAs(t, err, &never)
				}
			})
		}
		cancel()
	}
	require.NoError(t, m.Send(t.Context(), "bob@example.org", started), "nothing of all that stays")
}

// The server has taken a mail, and its answer is lost.
func TestAMailWhoseAnswerIsLostComesAgainUnderTheSameID(t *testing.T) {
	s := serve(t, func(s *server) { s.keeps = true })
	m := mailer(t, s)
	s.fail("TEXT", fault{drop: true})
	require.Error(t, m.Send(t.Context(), "bob@example.org", started))
	s.mend()
	require.NoError(t, m.Send(t.Context(), "bob@example.org", started))
	require.Len(t, s.got(), 2)
	require.Equal(t, s.got()[0].text, s.got()[1].text)
}

func TestAServerThatIsSilentIsLeft(t *testing.T) {
	for _, step := range []string{"greeting", "EHLO", "TLS", "TEXT"} {
		s := serve(t)
		s.fail(step, fault{stall: func() {}})
		err := mailer(t, s, func(c *notify.MailConfig) { c.Timeout = 200 * time.Millisecond }).Send(t.Context(), "bob@example.org", started)
		require.Error(t, err, step)
		require.Empty(t, s.got())
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	m := mailer(t, &server{listener: closed})
	require.ErrorContains(t, m.Send(t.Context(), "bob@example.org", started), "open a session")
}

func TestNoAddressCarriesMoreThanOneMailbox(t *testing.T) {
	s := serve(t)
	m := mailer(t, s)
	for _, where := range []string{
		"", "bob", "bob@", "@example.org", "bob@example.org, eve@example.org", "bob@example.org\r\nRCPT TO:<eve@example.org>", "bob@example.org>\r\nDATA",
		"\"b\r\nob\"@example.org", "\"b ob\"@example.org", "Team: bob@example.org, eve@example.org;", "bob@exa mple.org", "bob\x00@example.org", "bøb@example.org",
		"bob@exämple.org", strings.Repeat("b", 250) + "@example.org", "bob@example.org " + strings.Repeat("(", 1000), "<bob@example.org> SIZE=1",
	} {
		err := m.Send(t.Context(), where, started)
		var never *notify.UndeliverableError
		require.ErrorAs(t, err, &never, "%q", where)
		require.Equal(t, notify.BadAddress, never.Why)
		require.NotContains(t, err.Error(), "bob@", "it is logged without the address")
	}
	require.Empty(t, s.took(), "the server was not even asked")
	for _, from := range []string{"", "changes", "a@example.org\r\nBcc: b@example.org", "a@example.org, b@example.org"} {
		_, err := notify.NewMail(notify.MailConfig{Host: "mail.example.org", From: from})
		require.ErrorContains(t, err, "From takes an address", "%q", from)
	}
}

func TestAMailConfigThatCannotWorkIsRefused(t *testing.T) {
	for says, f := range map[string]func(*notify.MailConfig){
		"give the Host":           func(c *notify.MailConfig) { c.Host = "" },
		"in ASCII":                func(c *notify.MailConfig) { c.Host = "mail.example.org\r\n" },
		"Port is 1 to 65535":      func(c *notify.MailConfig) { c.Port = 70_000 },
		"exclude each other":      func(c *notify.MailConfig) { c.ImplicitTLS, c.Unencrypted = true, true },
		"go together":             func(c *notify.MailConfig) { c.Username = "x" },
		"Helo is a host name":     func(c *notify.MailConfig) { c.Helo = "a\r\nMAIL" },
		"Timeout is not negative": func(c *notify.MailConfig) { c.Timeout = -1 },
	} {
		c := notify.MailConfig{Host: "mail.example.org", From: "changes@example.org"}
		f(&c)
		_, err := notify.NewMail(c)
		require.ErrorContains(t, err, says)
	}
}

// Whatever people write, one mail comes of it, with the headers that it should have.
func TestNoTextBecomesAHeaderOrACommand(t *testing.T) {
	s := serve(t, func(s *server) { s.plain = true })
	m := mailer(t, s, func(c *notify.MailConfig) { c.Unencrypted = true })
	names := []string{
		"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To", "X-Auto-Response-Suppress",
	}
	evil := rapid.SampledFrom([]string{
		"\r\nBcc: eve@example.org", "\nBcc: eve@example.org\n\nHello", "\r\n.\r\nMAIL FROM:<eve@example.org>\r\n", "\n.\n", "\x00", "\u2028", "\u202e", "\xff", "=?utf-8?q?=0D=0ABcc:_eve?=", "é", "a", " ", "\t",
	})
	tried := 0
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOfN(evil, 0, 6), func(all []string) string { return strings.Join(all, "") }))
		n := started
		n.Subject, n.Text, n.Title = text.Draw(t, "subject"), text.Draw(t, "text"), text.Draw(t, "title")
		name := rapid.OneOf(text, rapid.SampledFrom([]string{"Bob", "Bob Ö", ""})).Draw(t, "name")
		before := len(s.got())
		tried++
		err := m.Send(context.Background(), "\""+name+"\" <bob@example.org>", n)
		var never *notify.UndeliverableError
		if errors.As(err, &never) && never.Why == notify.BadAddress {
			return // of the name: it was refused before anything was sent
		}
		if err != nil {
			t.Fatal(err)
		}
		mails := s.got()
		if len(mails) != before+1 {
			t.Fatalf("%d mails", len(mails)-before)
		}
		got := mails[before]
		if got.rcpts != 1 || got.to != "TO:<bob@example.org>" {
			t.Fatalf("%+v", got)
		}
		parsed, body := read(t, got)
		var have []string
		for name, values := range parsed.Header {
			if len(values) != 1 {
				t.Fatalf("%s: %q", name, values)
			}
			have = append(have, name)
		}
		slices.Sort(have)
		if !slices.Equal(names, have) {
			t.Fatalf("%q", have)
		}
		if strings.ContainsAny(body, "\x00\r\u202e") {
			t.Fatalf("%q", body)
		}
		if _, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject")); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%d mails of %d tries; the others had a name that is none", len(s.got()), tried)
	require.Greater(t, len(s.got()), tried/5)

	// The control: a mail whose subject is not looked at.
	require.NoError(t, smtp.SendMail(s.listener.Addr().String(), nil, "a@example.org", []string{"bob@example.org"},
		[]byte("Subject: CHG-000042\nBcc: eve@example.org\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nHello\r\n")))
	parsed, _ := read(t, s.got()[len(s.got())-1])
	require.Contains(t, parsed.Header, "Bcc")
}

func TestMailsAreSentAtOnce(t *testing.T) {
	s := serve(t)
	m := mailer(t, s)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			n := started
			n.Key = fmt.Sprint(i)
			if err := m.Send(context.Background(), "bob@example.org", n); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	ids := map[string]bool{}
	for _, r := range s.got() {
		parsed, _ := read(t, r)
		ids[parsed.Header.Get("Message-Id")] = true
	}
	require.Len(t, ids, 16)
}
