package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

// WebhookConfig says how webhooks are sent. Secrets is required.
type WebhookConfig struct {
	// Secrets returns the secrets of a receiver, by its URL: each signs, so that a new
	// one can be given out while the old one still holds. A receiver that shares its
	// secret with another can be taken for it. None is an error that is final.
	Secrets func(ctx context.Context, url string) ([]Secret, error)

	// Hosts are the names of those that webhooks may go to. Default any: whoever can
	// put an address into the directory then says where this machine sends requests.
	Hosts []string

	// Insecure allows http beside https, for tests.
	Insecure bool

	// Transport carries the requests. Default one of its own, with the proxies that
	// the environment names.
	Transport http.RoundTripper

	// Timeout is how long one request may take. Default 15 s.
	Timeout time.Duration

	// Clock stamps the requests. Default time.Now.
	Clock func() time.Time
}

// Webhook is a Sender of JSON by HTTP POST as the Standard Webhooks specification has
// it: an address is a URL, the header "webhook-id" is the notice's key,
// "webhook-timestamp" when it was sent, and "webhook-signature" an HMAC-SHA256 for
// each secret. Receivers check it with [Verify]. The body is a [Payload].
//
// 2xx is a success. Other replies of 4xx than 408 and 429 are final, and so are
// redirects, none of which is followed. A receiver that answers 429 or 503 with
// Retry-After is not asked again before that, an hour at most: what comes for it until
// then fails at once, and the relay tries again.
type Webhook struct{ *hook }

type hook struct {
	config WebhookConfig
	client *http.Client

	mu    sync.Mutex
	quiet map[[sha256.Size]byte]time.Time // until when a URL is not asked, by its digest, for it may be a secret
}

// Payload is the body of a webhook.
type Payload struct {
	Type      string    `json:"type"` // "change." and one of Words
	Timestamp time.Time `json:"timestamp"`
	Data      Notice    `json:"data"`
}

// Notice is what a webhook tells.
type Notice struct {
	Change  string `json:"change"`
	Version uint64 `json:"version"` // of the change, at the event: the order of what is told of it
	Event   string `json:"event"`
	Word    string `json:"word"`
	Who     string `json:"who"`
	Title   string `json:"title"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	Link    string `json:"link,omitzero"`
}

// NewWebhook returns a sender of webhooks. It does no I/O.
func NewWebhook(c WebhookConfig) (*Webhook, error) {
	switch {
	case c.Secrets == nil:
		return nil, errors.New("notify: webhook: Secrets is required: what is not signed is not believed")
	case c.Timeout < 0:
		return nil, errors.New("notify: webhook: Timeout is not negative; 0 is its default")
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{}).DialContext, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: c.Timeout, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
		}
	}
	client := &http.Client{
		Transport:     c.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Webhook{&hook{config: c, client: client, quiet: map[[sha256.Size]byte]time.Time{}}}, nil
}

// Close closes connections that wait to be used again.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// maxReply is how much of a reply is read, in bytes, so that its connection can be
// used again.
const maxReply = 16 << 10

// Send implements Sender.
func (w *Webhook) Send(ctx context.Context, where string, m Message) error {
	target, err := w.target(where)
	if err != nil {
		return &UndeliverableError{Why: BadAddress, Err: err}
	}
	if until, ok := w.quietUntil(where); ok {
		return fmt.Errorf("webhook: the receiver has asked for quiet until %s", stamp(until))
	}
	ctx, cancel := context.WithTimeout(ctx, w.config.Timeout)
	defer cancel()
	secrets, err := w.config.Secrets(ctx, where)
	if err != nil {
		return &webhookError{what: "look up the secrets of the receiver", cause: err}
	}
	body, err := json.Marshal(Payload{Type: "change." + m.Word, Timestamp: m.At.UTC(), Data: Notice{
		Change: m.Change, Version: m.Version, Event: m.Event, Word: m.Word, Who: m.Who, Title: m.Title, Subject: m.Subject, Text: m.Text, Link: m.Link,
	}})
	if err != nil {
		return &webhookError{what: "write the payload", cause: err}
	}
	now := w.config.Clock()
	signature, err := sign(secrets, m.Key, now, body)
	if err != nil {
		return &UndeliverableError{Why: BadAddress, Err: fmt.Errorf("webhook: %w", err)}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return &UndeliverableError{Why: BadAddress, Err: &webhookError{what: "make the request", cause: err}}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Rollforward")
	request.Header.Set(headerID, m.Key)
	request.Header.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(headerSignature, signature)
	reply, err := w.client.Do(request)
	if err != nil {
		return &webhookError{what: "ask the receiver", cause: because(ctx, err)}
	}
	defer reply.Body.Close()
	_, _ = io.CopyN(io.Discard, reply.Body, maxReply) // the status is the answer
	return w.answer(where, reply)
}

// target returns the URL of an address. What is wrong is said without it, for its
// path may be a secret.
func (w *Webhook) target(where string) (*url.URL, error) {
	u, err := url.Parse(where)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || len(where) > 2_048:
		return nil, errors.New("webhook: the address is no URL of at most 2048 bytes")
	case u.Scheme != "https" && !(w.config.Insecure && u.Scheme == "http"):
		return nil, errors.New("webhook: the address does not begin with https")
	case u.User != nil:
		return nil, errors.New("webhook: the address has a password in it: receivers check the signature")
	case len(w.config.Hosts) > 0 && !among(w.config.Hosts, u.Hostname()):
		return nil, errors.New("webhook: the host of the address is not among those that webhooks may go to")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// answer says what a reply means.
func (w *Webhook) answer(where string, reply *http.Response) error {
	code := reply.StatusCode
	failed := &webhookError{what: "ask the receiver", code: code}
	switch {
	case code/100 == 2:
		return nil
	case code/100 == 3:
		return &UndeliverableError{Why: Redirected, Code: code}
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		w.hush(where, reply.Header.Get("Retry-After"))
		return failed
	case code/100 == 4 && code != http.StatusRequestTimeout:
		return &UndeliverableError{Why: Refused, Code: code}
	}
	return failed
}

const (
	maxQuiet = time.Hour // that a receiver may ask for
	maxHooks = 10_000    // of which it is remembered
)

// hush keeps to what a receiver says in Retry-After: seconds, or a time (RFC 9110
// section 10.2.3). What is neither is nothing.
func (w *Webhook) hush(where, after string) {
	now := w.config.Clock()
	until := now
	if seconds, err := strconv.ParseUint(after, 10, 31); err == nil {
		until = now.Add(time.Duration(seconds) * time.Second)
	} else if at, err := http.ParseTime(after); err == nil {
		until = at
	}
	if limit := now.Add(maxQuiet); until.After(limit) {
		until = limit
	}
	if !until.After(now) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.quiet) >= maxHooks {
		maps.DeleteFunc(w.quiet, func(_ [sha256.Size]byte, until time.Time) bool { return !now.Before(until) })
	}
	if len(w.quiet) < maxHooks {
		w.quiet[sha256.Sum256([]byte(where))] = until
	}
}

func (w *Webhook) quietUntil(where string) (until time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	of := sha256.Sum256([]byte(where))
	until, ok = w.quiet[of]
	if ok && !w.config.Clock().Before(until) {
		delete(w.quiet, of)
		return time.Time{}, false
	}
	return until, ok
}

// webhookError is an error of a webhook that may be delivered if it is sent again. It
// does not say where it was to go: the path of a URL may be a secret.
type webhookError struct {
	what  string
	code  int
	cause error
}

func (e *webhookError) Error() string {
	s := "webhook: " + e.what
	var network *net.OpError
	var untrusted *tls.CertificateVerificationError
	switch {
	case e.code != 0:
		return s + ": reply " + strconv.Itoa(e.code)
	case errors.Is(e.cause, context.Canceled):
		return s + ": it was broken off"
	case errors.Is(e.cause, context.DeadlineExceeded):
		return s + ": it took too long"
	case errors.As(e.cause, &untrusted):
		return s + ": its certificate is not accepted"
	case errors.As(e.cause, &network):
		return s + ": the connection failed: " + network.Op
	}
	return s + ": it failed"
}

func (e *webhookError) Unwrap() error { return e.cause }
