package notify_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/change/notify"
)

const (
	// Those of the reference implementation's tests, where the vector is from:
	// https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/go/webhook_test.go
	vectorSecret = notify.Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	vectorID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime   = 1614265330
	vectorBody   = `{"test": 2432232314}`
	vectorSigned = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

var otherSecret = notify.Secret("whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")))

func signed(id, at, signature string) http.Header {
	h := http.Header{}
	for name, value := range map[string]string{"webhook-id": id, "webhook-timestamp": at, "webhook-signature": signature} {
		if value != "" {
			h.Set(name, value)
		}
	}
	return h
}

func TestASignatureIsThatOfTheSpecification(t *testing.T) {
	at, now := strconv.Itoa(vectorTime), time.Unix(vectorTime, 0)
	id, err := notify.Verify(signed(vectorID, at, vectorSigned), []byte(vectorBody), now, notify.Tolerance, vectorSecret)
	require.NoError(t, err)
	require.Equal(t, vectorID, id)

	for name, c := range map[string]struct {
		header  http.Header
		body    string
		now     time.Time
		secrets []notify.Secret
		yes     bool
	}{
		"without the prefix of the secret":      {signed(vectorID, at, vectorSigned), vectorBody, now, []notify.Secret{vectorSecret[len("whsec_"):]}, true},
		"one of several secrets":                {signed(vectorID, at, vectorSigned), vectorBody, now, []notify.Secret{otherSecret, vectorSecret}, true},
		"one of several signatures":             {signed(vectorID, at, "v1,AAAA v1a,xyz "+vectorSigned), vectorBody, now, []notify.Secret{vectorSecret}, true},
		"another secret":                        {signed(vectorID, at, vectorSigned), vectorBody, now, []notify.Secret{otherSecret}, false},
		"no secret":                             {signed(vectorID, at, vectorSigned), vectorBody, now, nil, false},
		"a short secret":                        {signed(vectorID, at, vectorSigned), vectorBody, now, []notify.Secret{"whsec_c2hvcnQ="}, false},
		"another body":                          {signed(vectorID, at, vectorSigned), vectorBody + " ", now, []notify.Secret{vectorSecret}, false},
		"another ID":                            {signed(vectorID+"x", at, vectorSigned), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"no ID":                                 {signed("", at, vectorSigned), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"another time":                          {signed(vectorID, strconv.Itoa(vectorTime+1), vectorSigned), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"no time":                               {signed(vectorID, "", vectorSigned), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"a time that is none":                   {signed(vectorID, "monday", vectorSigned), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"a time beyond time":                    {signed(vectorID, "9223372036854775807", vectorSigned), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"no signature":                          {signed(vectorID, at, ""), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"a signature of another version":        {signed(vectorID, at, "v2"+vectorSigned[2:]), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"a signature that is cut":               {signed(vectorID, at, vectorSigned[:20]), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"an empty signature":                    {signed(vectorID, at, "v1,"), vectorBody, now, []notify.Secret{vectorSecret}, false},
		"as old as is tolerated":                {signed(vectorID, at, vectorSigned), vectorBody, now.Add(notify.Tolerance), []notify.Secret{vectorSecret}, true},
		"older":                                 {signed(vectorID, at, vectorSigned), vectorBody, now.Add(notify.Tolerance + time.Second), []notify.Secret{vectorSecret}, false},
		"as far in the future as is tolerated":  {signed(vectorID, at, vectorSigned), vectorBody, now.Add(-notify.Tolerance), []notify.Secret{vectorSecret}, true},
		"further in the future":                 {signed(vectorID, at, vectorSigned), vectorBody, now.Add(-notify.Tolerance - time.Second), []notify.Secret{vectorSecret}, false},
		"a time before the beginning of time":   {signed(vectorID, "-1", vectorSigned), vectorBody, time.Unix(-1, 0), []notify.Secret{vectorSecret}, false},
		"a time with a sign that is not signed": {signed(vectorID, "+"+at, vectorSigned), vectorBody, now, []notify.Secret{vectorSecret}, true}, // the number is what is signed
	} {
		id, err := notify.Verify(c.header, []byte(c.body), c.now, notify.Tolerance, c.secrets...)
		if c.yes {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorIs(t, err, notify.ErrSignature, name)
		require.Empty(t, id)
		require.NotContains(t, err.Error(), "MfKQ", name)
	}
}

// receiver answers webhooks as says tells it.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	got   []*http.Request
	body  [][]byte
	reply func(w http.ResponseWriter, r *http.Request)
}

func receive(t testing.TB) *receiver {
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.got, r.body = append(r.got, request), append(r.body, body)
		reply := r.reply
		r.mu.Unlock()
		if reply != nil {
			reply(w, request)
		}
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) says(reply func(w http.ResponseWriter, r *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reply = reply
}

func (r *receiver) code(code int) {
	r.says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
}

func (r *receiver) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func webhook(t testing.TB, r *receiver, configs ...func(*notify.WebhookConfig)) *notify.Webhook {
	c := notify.WebhookConfig{
		Secrets: func(context.Context, string) ([]notify.Secret, error) { return []notify.Secret{vectorSecret}, nil },
		Timeout: time.Minute,
	}
	if r != nil {
		c.Transport = r.Client().Transport
	}
	for _, f := range configs {
		f(&c)
	}
	w, err := notify.NewWebhook(c)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

func TestAWebhookIsJSONSignedByEverySecret(t *testing.T) {
	r := receive(t)
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	w := webhook(t, r, func(c *notify.WebhookConfig) {
		c.Clock = func() time.Time { return now }
		c.Secrets = func(_ context.Context, url string) ([]notify.Secret, error) {
			require.Equal(t, r.URL+"/hooks?of=us", url)
			return []notify.Secret{otherSecret, vectorSecret}, nil
		}
	})
	n := started
	n.Version, n.Event, n.Link = 7, "0198", "https://changes.example.org/CHG-000042"
	require.NoError(t, w.Send(t.Context(), r.URL+"/hooks?of=us", n))
	got := r.got[0]
	require.Equal(t, "POST /hooks?of=us", got.Method+" "+got.URL.String())
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, n.Key, got.Header.Get("webhook-id"))
	require.Equal(t, strconv.FormatInt(now.Unix(), 10), got.Header.Get("webhook-timestamp"))
	require.Len(t, strings.Fields(got.Header.Get("webhook-signature")), 2)
	for _, secret := range []notify.Secret{vectorSecret, otherSecret} {
		id, err := notify.Verify(got.Header, r.body[0], now, notify.Tolerance, secret)
		require.NoError(t, err, "while one is given out, the other holds")
		require.Equal(t, n.Key, id)
	}
	require.JSONEq(t, `{"type": "change.started", "timestamp": "2026-03-02T09:00:00Z", "data": {
		"change": "CHG-000042", "version": 7, "event": "0198", "word": "started", "who": "u-1", "title": "Upgrade db-01",
		"subject": "CHG-000042 has started: Upgrade db-01", "text": "Change CHG-000042 has started.\n\n.\nGrüße\n", "link": "https://changes.example.org/CHG-000042"}}`, string(r.body[0]))
	var p notify.Payload
	require.NoError(t, json.Unmarshal(r.body[0], &p))
	require.Equal(t, "change.started", p.Type)

	require.NoError(t, w.Send(t.Context(), r.URL+"/hooks?of=us", n))
	require.Equal(t, r.body[0], r.body[1])
	require.Equal(t, n.Key, r.got[1].Header.Get("webhook-id"))
}

func TestEveryReplyIsTakenForWhatItIs(t *testing.T) {
	r := receive(t)
	w := webhook(t, r)
	for code, why := range map[int]notify.Failure{
		200: "", 201: "", 202: "", 204: "", 300: notify.Redirected, 301: notify.Redirected, 302: notify.Redirected, 307: notify.Redirected, 308: notify.Redirected,
		400: notify.Refused, 401: notify.Refused, 403: notify.Refused, 404: notify.Refused, 409: notify.Refused, 410: notify.Refused, 413: notify.Refused, 422: notify.Refused,
		408: "again", 429: "again", 500: "again", 501: "again", 502: "again", 503: "again", 504: "again", 599: "again",
	} {
		r.code(code)
		err := w.Send(t.Context(), r.URL, started)
		var never *notify.UndeliverableError
		switch why {
		case "":
			require.NoError(t, err, code)
		case "again":
			require.ErrorContains(t, err, strconv.Itoa(code))
			require.NotErrorAs(t, err, &never, code)
		default:
			require.ErrorAs(t, err, &never, code)
			require.Equal(t, why, never.Why)
			require.Equal(t, code, never.Code)
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	r, elsewhere := receive(t), receive(t)
	w := webhook(t, r)
	for _, to := range []string{elsewhere.URL, "/", "http://169.254.169.254/latest/meta-data", r.URL + "/again"} {
		for _, code := range []int{301, 302, 303, 307, 308} {
			before := r.asked()
			r.says(func(w http.ResponseWriter, request *http.Request) { http.Redirect(w, request, to, code) })
			var never *notify.UndeliverableError
			require.ErrorAs(t, w.Send(t.Context(), r.URL, started), &never)
			require.Equal(t, before+1, r.asked())
		}
	}
	require.Zero(t, elsewhere.asked())
}

func TestAReceiverThatAsksForQuietIsLeftAlone(t *testing.T) {
	r := receive(t)
	now := monday
	w := webhook(t, r, func(c *notify.WebhookConfig) { c.Clock = func() time.Time { return now } })
	for _, c := range []struct {
		code  int
		after string
		quiet time.Duration // 0: none
	}{
		{429, "120", 2 * time.Minute}, {503, now.Add(3 * time.Hour).Format(http.TimeFormat), 0}, {429, "999999999", time.Hour}, {429, "", 0}, {429, "-5", 0},
		{429, "soon", 0}, {500, "120", 0}, {503, "1", time.Second}, {429, "99999999999999999999", 0},
	} {
		if c.after != "" && strings.HasSuffix(c.after, "GMT") {
			c.after, c.quiet = now.Add(10*time.Minute).UTC().Format(http.TimeFormat), 10*time.Minute
		}
		r.says(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", c.after)
			w.WriteHeader(c.code)
		})
		before := r.asked()
		require.Error(t, w.Send(t.Context(), r.URL, started))
		require.Equal(t, before+1, r.asked())
		r.says(nil)
		if c.quiet > 0 {
			now = now.Add(c.quiet - time.Microsecond)
			require.ErrorContains(t, w.Send(t.Context(), r.URL, started), "asked for quiet", "%+v", c)
			require.Equal(t, before+1, r.asked(), "it was not asked")
			now = now.Add(time.Microsecond)
		}
		require.NoError(t, w.Send(t.Context(), r.URL, started), "%+v", c)
		require.Equal(t, before+2, r.asked())
	}
}

func TestAWebhookGoesOnlyWhereItMay(t *testing.T) {
	r := receive(t)
	w := webhook(t, r, func(c *notify.WebhookConfig) { c.Hosts = []string{"127.0.0.1", "Hooks.example.org"} })
	for _, where := range []string{
		"", "hooks.example.org", "http://127.0.0.1/", "https:///path", "ftp://127.0.0.1/", "https://user:secret@127.0.0.1/", "https://evil.example.org/",
		"https://127.0.0.1.evil.example.org/", "https://127.0.0.1:x/", "https:127.0.0.1", "https://127.0.0.1/\r\nX-Evil: 1", "https://hooks.example.org@evil.example.org/",
		"https://127.0.0.1/" + strings.Repeat("x", 2_048), "file:///etc/passwd", "https://[::1]/",
	} {
		err := w.Send(t.Context(), where, started)
		var never *notify.UndeliverableError
		require.ErrorAs(t, err, &never, "%q", where)
		require.Equal(t, notify.BadAddress, never.Why)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "evil")
	}
	require.Zero(t, r.asked())
	require.NoError(t, w.Send(t.Context(), r.URL, started), "the control")

	insecure := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer insecure.Close()
	var never *notify.UndeliverableError
	require.ErrorAs(t, webhook(t, nil).Send(t.Context(), insecure.URL, started), &never)
	require.NoError(t, webhook(t, nil, func(c *notify.WebhookConfig) { c.Insecure = true }).Send(t.Context(), insecure.URL, started))
}

func TestAReceiverOfAnotherNameIsNotBelieved(t *testing.T) {
	r := receive(t)
	err := webhook(t, nil).Send(t.Context(), r.URL+"/a-path-that-is-a-secret", started)
	require.Error(t, err)
	var never *notify.UndeliverableError
	require.NotErrorAs(t, err, &never)
	require.Equal(t, "webhook: ask the receiver: its certificate is not accepted", err.Error())
	require.Zero(t, r.asked())
}

func TestAReceiverThatIsSlowOrTalksWithoutEndIsLeft(t *testing.T) {
	r := receive(t)
	leave := make(chan struct{})
	defer close(leave)
	r.says(func(_ http.ResponseWriter, request *http.Request) {
		select {
		case <-request.Context().Done():
		case <-leave:
		}
	})
	err := webhook(t, r, func(c *notify.WebhookConfig) { c.Timeout = 100 * time.Millisecond }).Send(t.Context(), r.URL+"/secret-path", started)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualError(t, err, "webhook: ask the receiver: it took too long")

	written := 0
	r.says(func(w http.ResponseWriter, request *http.Request) {
		chunk := make([]byte, 64<<10)
		for range 1_000 { // 64 MB, if somebody read them
			n, err := w.Write(chunk)
			if written += n; err != nil {
				return
			}
		}
	})
	require.NoError(t, webhook(t, r).Send(t.Context(), r.URL, started), "the status is the answer")
	r.Close() // waits for the handler
	require.Less(t, written, 32<<20)

	err = webhook(t, r).Send(t.Context(), r.URL+"/secret-path", started)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret-path")
	require.NotContains(t, err.Error(), "127.0.0.1")
}

func TestSecretsThatAreNoneSignNothing(t *testing.T) {
	r := receive(t)
	for _, secrets := range [][]notify.Secret{nil, {""}, {"whsec_"}, {"whsec_short"}, {vectorSecret, "whsec_!!!!"}} {
		var never *notify.UndeliverableError
		err := webhook(t, r, func(c *notify.WebhookConfig) {
			c.Secrets = func(context.Context, string) ([]notify.Secret, error) { return secrets, nil }
		}).Send(t.Context(), r.URL, started)
		require.ErrorAs(t, err, &never)
		require.NotContains(t, err.Error(), "short")
	}
	var never *notify.UndeliverableError
	err := webhook(t, r, func(c *notify.WebhookConfig) {
		c.Secrets = func(context.Context, string) ([]notify.Secret, error) { return nil, errors.New("the vault is sealed") }
	}).Send(t.Context(), r.URL, started)
	require.Error(t, err)
	require.NotErrorAs(t, err, &never)
	require.Zero(t, r.asked())
	_, err = notify.NewWebhook(notify.WebhookConfig{})
	require.ErrorContains(t, err, "Secrets is required")
	_, err = notify.NewWebhook(notify.WebhookConfig{Secrets: func(context.Context, string) ([]notify.Secret, error) { return nil, nil }, Timeout: -1})
	require.ErrorContains(t, err, "not negative")
}

// What was signed is believed, and nothing of it can be another.
func TestAnythingThatIsNotAsItWasSignedIsNotBelieved(t *testing.T) {
	r := receive(t)
	now := monday
	w := webhook(t, r, func(c *notify.WebhookConfig) { c.Clock = func() time.Time { return now } })
	rapid.Check(t, func(t *rapid.T) {
		n := started
		n.Text = rapid.String().Draw(t, "text")
		if err := w.Send(context.Background(), r.URL, n); err != nil {
			t.Fatal(err)
		}
		header, body := r.got[len(r.got)-1].Header.Clone(), r.body[len(r.body)-1]
		if _, err := notify.Verify(header, body, now, notify.Tolerance, vectorSecret); err != nil {
			t.Fatal(err)
		}
		i := rapid.IntRange(0, len(body)-1).Draw(t, "at")
		changed := []byte(string(body))
		changed[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		if _, err := notify.Verify(header, changed, now, notify.Tolerance, vectorSecret); !errors.Is(err, notify.ErrSignature) {
			t.Fatalf("%v", err)
		}
	})
}

func TestASecretIsNeverPrinted(t *testing.T) {
	secret := notify.Secret("hunter2-hunter2")
	type holder struct {
		Secret notify.Secret
		Many   []notify.Secret
		Of     map[string]notify.Secret
	}
	held := holder{secret, []notify.Secret{secret}, map[string]notify.Secret{"a": secret}}
	mail, err := notify.NewMail(notify.MailConfig{Host: "mail.example.org", From: "a@example.org", Username: "u", Password: secret})
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%e", "%z", "%10.3s"} {
		for _, v := range []any{secret, &secret, held, &held, notify.MailConfig{Password: secret}, mail, *mail} {
			text := fmt.Sprintf(verb, v)
			require.NotContains(t, text, "hunter2", "%s", verb)
			require.NotContains(t, strings.ToLower(text), "68756e746572", "%s", verb)
		}
	}
	out, err := json.Marshal(held)
	require.NoError(t, err)
	require.NotContains(t, string(out), "hunter2")
	require.Contains(t, string(out), "[secret]")
	require.Equal(t, "[secret]", secret.LogValue().String())
	require.Equal(t, "[secret]", secret.String())
	require.Equal(t, "[secret]", secret.GoString())

	// The control: a string is printed.
	require.Contains(t, fmt.Sprintf("%+v", struct{ s string }{string(secret)}), "hunter2")
}
