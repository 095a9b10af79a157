package notify

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// MailConfig says how mails are handed over. Host and From are required.
type MailConfig struct {
	Host string // of the server that takes mails for delivery
	Port int    // default 587, with ImplicitTLS 465

	// From is who the mails are from, as "Changes <changes@example.org>". Replies and
	// what cannot be delivered later come back there.
	From string

	// Username and Password are given to the server where they are set: by
	// SCRAM-SHA-256, PLAIN or LOGIN, whichever it offers first in this order, and only
	// under TLS.
	Username string
	Password Secret

	// ImplicitTLS has TLS spoken from the first byte. Default STARTTLS, without which
	// no mail is sent.
	ImplicitTLS bool

	// Unencrypted sends mails in the clear, without a name and a password: to a
	// server on the same machine.
	Unencrypted bool

	// TLS is the configuration of TLS. Default the system's roots, Host's name, TLS
	// 1.2 or later.
	TLS *tls.Config

	// Timeout is how long one mail may take from the first byte to the last. Default
	// 30 s; the time that the handler gives a notice counts too.
	Timeout time.Duration

	// Helo is the name by which this machine greets. Default its host name.
	Helo string
}

// Mail is a Sender by SMTP. An address is one mailbox, "bob@example.org" or "Bob
// <bob@example.org>", in ASCII but for the name. Each mail is plain text in UTF-8
// under a connection of its own, marked as automatic (RFC 3834), and has a Message-ID
// that is made of the notice's key: sent again, it is the same byte for byte.
//
// A reply of 5xx to the mail itself is final. What concerns the session is not:
// a server that cannot be reached, speaks no TLS or does not let the sender in.
type Mail struct{ *mailer }

type mailer struct {
	config   MailConfig // without the password, which fmt would find
	password func() string
	from     *mail.Address
}

// NewMail returns a sender of mails. It does no I/O.
func NewMail(c MailConfig) (*Mail, error) {
	from, err := mailbox(c.From)
	switch {
	case c.Host == "" || strings.ContainsFunc(c.Host, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }):
		return nil, errors.New("notify: mail: give the Host of a server, in ASCII")
	case err != nil:
		return nil, fmt.Errorf("notify: mail: From takes an address such as \"Changes <changes@example.org>\": %w", err)
	case c.Port < 0 || c.Port > 65535 || c.Timeout < 0:
		return nil, errors.New("notify: mail: Port is 1 to 65535, or 0 for its default, and Timeout is not negative")
	case c.ImplicitTLS && c.Unencrypted:
		return nil, errors.New("notify: mail: ImplicitTLS and Unencrypted exclude each other")
	case c.Unencrypted && (c.Username != "" || c.Password != ""):
		return nil, errors.New("notify: mail: a password is not sent in the clear: leave Unencrypted out, or Username and Password")
	case (c.Username == "") != (c.Password == ""):
		return nil, errors.New("notify: mail: Username and Password go together")
	}
	if c.Port == 0 {
		c.Port = 587
		if c.ImplicitTLS {
			c.Port = 465
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Helo == "" {
		if c.Helo, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("notify: mail: give Helo, since this machine has no name: %w", err)
		}
	}
	if !plain(c.Helo, 255) {
		return nil, fmt.Errorf("notify: mail: Helo is a host name, not %.80q", c.Helo)
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{}
	}
	c.TLS = c.TLS.Clone()
	if c.TLS.ServerName == "" {
		c.TLS.ServerName = c.Host
	}
	if c.TLS.MinVersion == 0 {
		c.TLS.MinVersion = tls.VersionTLS12
	}
	password := string(c.Password)
	c.Password = ""
	return &Mail{&mailer{config: c, password: func() string { return password }, from: from}}, nil
}

// mailbox reads one address. Nothing that it returns can end a line of SMTP or of a
// header. What is wrong is said without the address, which is not for everybody.
func mailbox(s string) (*mail.Address, error) {
	const limit = 254 // bytes, RFC 5321 section 4.5.3.1
	a, err := mail.ParseAddress(s)
	switch {
	case err != nil || len(s) > 1_000:
		return nil, errors.New("it is not one mailbox")
	case !plain(a.Address, limit):
		return nil, errors.New("the address is not of at most 254 letters, digits and signs in ASCII: write the domain in its ASCII form")
	}
	a.Name = line(a.Name, 200)
	return a, nil
}

// Send implements Sender.
func (m *Mail) Send(ctx context.Context, where string, n Message) error {
	to, err := mailbox(where)
	if err != nil {
		return &UndeliverableError{Why: BadAddress, Err: err}
	}
	message := m.message(to, n)
	ctx, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	l := &link{mailer: m.mailer, ctx: ctx}
	defer l.close()
	client, err := gomail.NewClient(m.config.Host, l.options()...)
	if err != nil {
		return &sessionError{cause: err}
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return &sessionError{cause: because(ctx, err)}
	}
	err = client.SendWithSMTPClient(session, message)
	if message.IsDelivered() {
		_ = client.CloseWithSMTPClient(session) // the server has the mail, whatever becomes of the session
		return nil
	}
	if err == nil {
		err = errors.New("the mail was not handed over")
	}
	return classified(ctx, err)
}

// message returns the mail of a notice: the same for the same notice.
func (m *Mail) message(to *mail.Address, n Message) *gomail.Msg {
	message := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	message.FromMailAddress(m.from)
	message.ToMailAddress(to)
	message.Subject(line(n.Subject, maxSubject))
	message.SetDateWithValue(n.At.UTC())
	message.SetMessageIDWithValue(messageID(n.Key, m.from.Address))
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 section 5: nobody answers it by a program
	message.SetGenHeader(gomail.HeaderXAutoResponseSuppress, "All")
	message.SetBodyString(gomail.TypeTextPlain, prose(n.Text))
	return message
}

// messageID returns the ID of a mail: of the key nothing can be read in it.
func messageID(key, from string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + from[strings.LastIndexByte(from, '@'):]
}

// link is the connection of one mail. It ends with the context: the client by itself
// waits for a silent server without end, and leaves connections open whose session
// did not come about.
type link struct {
	*mailer
	ctx  context.Context
	conn net.Conn
	free func() bool // of the context
}

func (l *link) options() []gomail.Option {
	c := l.config
	options := []gomail.Option{
		gomail.WithPort(c.Port), gomail.WithTimeout(c.Timeout), gomail.WithHELO(c.Helo), gomail.WithTLSConfig(c.TLS),
		gomail.WithoutNoop(), gomail.WithDialContextFunc(l.dial),
	}
	switch {
	case c.ImplicitTLS:
		options = append(options, gomail.WithSSL())
	case c.Unencrypted:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if c.Username != "" {
		options = append(options, gomail.WithSMTPAuthCustom(&login{mailer: l.mailer}))
	}
	return options
}

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.conn, l.free = conn, context.AfterFunc(l.ctx, func() { _ = conn.Close() })
	if !l.config.ImplicitTLS {
		return conn, nil
	}
	secure := tls.Client(conn, l.config.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secure, nil
}

func (l *link) close() {
	if l.conn != nil {
		l.free()
		_ = l.conn.Close() // where all went well the client has closed it already
	}
}

// login authenticates by the best that both sides can. NewMail sees to it that there
// is TLS where there is a password.
type login struct {
	*mailer
	chosen smtp.Auth
}

var errNoLogin = errors.New("the server offers none of SCRAM-SHA-256, PLAIN and LOGIN")

func (l *login) Start(server *smtp.ServerInfo) (string, []byte, error) {
	offers := func(mechanism string) bool {
		for _, offered := range server.Auth {
			if strings.EqualFold(offered, mechanism) {
				return true
			}
		}
		return false
	}
	name, password := l.config.Username, l.password()
	switch {
	case offers("SCRAM-SHA-256"):
		l.chosen = smtp.ScramSHA256Auth(name, password)
	case offers("PLAIN"):
		l.chosen = smtp.PlainAuth("", name, password, l.config.Host, false)
	case offers("LOGIN"):
		l.chosen = smtp.LoginAuth(name, password, l.config.Host, false)
	default:
		return "", nil, errNoLogin
	}
	return l.chosen.Start(server)
}

func (l *login) Next(fromServer []byte, more bool) ([]byte, error) {
	return l.chosen.Next(fromServer, more)
}

// sessionError says that no mail could be handed over at all. Nobody is named yet.
type sessionError struct{ cause error }

func (e *sessionError) Error() string {
	var reply *textproto.Error
	if errors.As(e.cause, &reply) {
		return "mail: open a session: reply " + strconv.Itoa(reply.Code)
	}
	return "mail: open a session: " + line(e.cause.Error(), 500)
}

func (e *sessionError) Unwrap() error { return e.cause }

// mailError is an error of one mail. It says at what step, and by which reply, and
// not in the words of the server, which repeat addresses; those are in Unwrap.
type mailError struct {
	stage string
	code  int
	cause error
}

func (e *mailError) Error() string {
	s := "mail: " + e.stage
	var network *net.OpError
	switch {
	case e.code != 0:
		return s + ": reply " + strconv.Itoa(e.code)
	case errors.Is(e.cause, context.Canceled):
		return s + ": it was broken off"
	case errors.Is(e.cause, context.DeadlineExceeded), errors.Is(e.cause, os.ErrDeadlineExceeded):
		return s + ": it took too long"
	case errors.As(e.cause, &network):
		return s + ": the connection failed: " + network.Op
	}
	return s + ": the server broke it off"
}

func (e *mailError) Unwrap() error { return e.cause }

// stages are the steps of handing over a mail.
var stages = map[gomail.SendErrReason]string{
	gomail.ErrSMTPMailFrom: "name the sender", gomail.ErrSMTPRcptTo: "name the recipient", gomail.ErrSMTPData: "begin the text",
	gomail.ErrWriteContent: "send the text", gomail.ErrSMTPDataClose: "end the text", gomail.ErrConnCheck: "use the connection",
}

// ofSession are replies of 5xx that are about the session and not about the mail:
// authentication or encryption is required, too weak, or has failed (RFC 4954 section 6).
var ofSession = map[int]bool{530: true, 534: true, 535: true, 538: true}

// classified says whether an error of handing over is final.
func classified(ctx context.Context, err error) error {
	var e *gomail.SendError
	if !errors.As(err, &e) {
		return &mailError{stage: "hand over", cause: because(ctx, err)}
	}
	stage := stages[e.Reason]
	if stage == "" {
		stage = "hand over"
	}
	code := e.ErrorCode()
	known := &mailError{stage: stage, code: code, cause: because(ctx, err)}
	if code/100 == 5 && !ofSession[code] {
		return &UndeliverableError{Why: Refused, Code: code, Err: known}
	}
	return known
}

// because returns err, and the end of the context where that is behind it.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}
