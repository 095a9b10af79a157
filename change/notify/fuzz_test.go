package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change/notify"
)

// What is believed has a signature that somebody else who holds the key makes too.
func FuzzVerify(f *testing.F) {
	f.Add(vectorID, strconv.Itoa(vectorTime), vectorSigned, []byte(vectorBody))
	f.Add("", "", "", []byte(nil))
	f.Add("a.b", "0", "v1,"+strings.Repeat("A", 44)+" v1,", []byte("{}"))
	f.Add("a", "-9223372036854775808", "v1a,x", []byte("\x00"))
	key, err := base64.StdEncoding.DecodeString(string(vectorSecret[len("whsec_"):]))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, id, at, signature string, body []byte) {
		now := time.Unix(vectorTime, 0)
		got, err := notify.Verify(signed(id, at, signature), body, now, notify.Tolerance, vectorSecret)
		if err != nil {
			require.ErrorIs(t, err, notify.ErrSignature)
			require.Empty(t, got)
			return
		}
		seconds, err := strconv.ParseInt(at, 10, 64)
		require.NoError(t, err)
		require.LessOrEqual(t, now.Sub(time.Unix(seconds, 0)).Abs(), notify.Tolerance)
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.%s", id, seconds, body)
		require.Contains(t, signature, base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	})
}

// No address makes the sender of mails say more than one mailbox, or panic.
func FuzzMailAddress(f *testing.F) {
	for _, where := range []string{"bob@example.org", "Bob <bob@example.org>", "\"a\\\"b\" <bob@example.org>", "bob@[127.0.0.1]", "(c) bob@example.org", "bob@example.org\r\nX: y", "=?utf-8?q?=0D=0A?= <bob@example.org>"} {
		f.Add(where)
	}
	s := serve(f, func(s *server) { s.plain = true })
	m := mailer(f, s, func(c *notify.MailConfig) { c.Unencrypted = true })
	f.Fuzz(func(t *testing.T, where string) {
		before := len(s.got())
		err := m.Send(context.Background(), where, started)
		var never *notify.UndeliverableError
		if err != nil {
			require.ErrorAs(t, err, &never)
			require.Equal(t, notify.BadAddress, never.Why)
			require.Len(t, s.got(), before)
			return
		}
		got := s.got()[before:]
		require.Len(t, got, 1)
		require.Equal(t, 1, got[0].rcpts)
		parsed, _ := read(t, got[0])
		require.Len(t, parsed.Header, 10)
		to, err := parsed.Header.AddressList("To")
		require.NoError(t, err)
		require.Len(t, to, 1)
		require.Equal(t, "TO:<"+to[0].Address+">", got[0].to)
	})
}
