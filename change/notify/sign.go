package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks, https://www.standardwebhooks.com.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"

	scheme       = "v1," // of a signature by HMAC-SHA256
	secretPrefix = "whsec_"
)

// ErrSignature says that a webhook does not come from who holds the secret, or not
// now.
var ErrSignature = errors.New("the webhook is not believed")

// Tolerance is how old a webhook may be, and by how much its sender's clock may be
// ahead, as receivers usually have it.
const Tolerance = 5 * time.Minute

// Verify checks a webhook for its receiver: that it is signed by one of his secrets,
// and at a time that lies within tolerance, which is 0 or more, of now. It returns its
// ID, under which it may come again: keep the IDs for as long as that matters. body is
// what was received, byte for byte. The error is ErrSignature. Comparing takes the
// same time whatever the signature is.
func Verify(header http.Header, body []byte, now time.Time, tolerance time.Duration, secrets ...Secret) (id string, err error) {
	id = header.Get(headerID)
	if id == "" {
		return "", fmt.Errorf("%w: it has no %s", ErrSignature, headerID)
	}
	seconds, err := strconv.ParseInt(header.Get(headerTimestamp), 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<36 { // of which a Duration knows nothing
		return "", fmt.Errorf("%w: its %s is not a number of seconds", ErrSignature, headerTimestamp)
	}
	// In whole seconds, as the stamp is.
	if off := now.Unix() - seconds; off > int64(tolerance/time.Second) || -off > int64(tolerance/time.Second) {
		return "", fmt.Errorf("%w: its time is off by %d s: check the clock", ErrSignature, off)
	}
	keys, err := keysOf(secrets)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	macs := make([][]byte, len(keys)) // once, however many signatures somebody gives
	for i, key := range keys {
		macs[i] = macOf(key, id, seconds, body)
	}
	found := false
	for given := range strings.FieldsSeq(header.Get(headerSignature)) {
		encoded, ok := strings.CutPrefix(given, scheme)
		if !ok {
			continue // of another scheme
		}
		mac, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			continue
		}
		for _, want := range macs {
			found = hmac.Equal(mac, want) || found
		}
	}
	if !found {
		return "", fmt.Errorf("%w: no signature fits", ErrSignature)
	}
	return id, nil
}

// sign returns the header of a signature by each secret.
func sign(secrets []Secret, id string, at time.Time, body []byte) (string, error) {
	keys, err := keysOf(secrets)
	if err != nil {
		return "", err
	}
	signatures := make([]string, len(keys))
	for i, key := range keys {
		signatures[i] = scheme + base64.StdEncoding.EncodeToString(macOf(key, id, at.Unix(), body))
	}
	return strings.Join(signatures, " "), nil
}

func macOf(key []byte, id string, seconds int64, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%d.", id, seconds) // a hash takes everything
	_, _ = mac.Write(body)
	return mac.Sum(nil)
}

// keysOf reads secrets, "whsec_" and 24 to 64 bytes in Base64 as the specification asks.
// What is wrong is said without them.
func keysOf(secrets []Secret) ([][]byte, error) {
	if len(secrets) == 0 {
		return nil, errors.New("there is no secret")
	}
	keys := make([][]byte, len(secrets))
	for i, s := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(s), secretPrefix))
		if err != nil || len(key) < 24 || len(key) > 64 {
			return nil, fmt.Errorf("secret %d of %d is not %q and 24 to 64 bytes in Base64", i+1, len(secrets), secretPrefix)
		}
		keys[i] = key
	}
	return keys, nil
}

// among reports whether name is one of hosts, whatever its case.
func among(hosts []string, name string) bool {
	for _, h := range hosts {
		if strings.EqualFold(h, name) {
			return true
		}
	}
	return false
}
