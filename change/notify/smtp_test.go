package notify_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// received is a mail that the server has taken.
type received struct {
	from, to string
	rcpts    int
	text     string // as it came, dots undone
	secure   bool
	user     string
}

// fault is what the server does instead of its answer at a step.
type fault struct {
	drop  bool   // it closes the connection
	reply int    // another code
	stall func() // it is called, and then nothing comes until the client closes
}

// server is a small SMTP server. Steps are "greeting", "EHLO", "STARTTLS", "TLS", "AUTH",
// "MAIL", "RCPT", "DATA", "TEXT", "RSET" and "QUIT".
type server struct {
	t        testing.TB
	listener net.Listener
	tls      *tls.Config
	roots    *x509.CertPool
	implicit bool
	offers   string                  // of AUTH, under TLS and without
	plain    bool                    // it has no STARTTLS
	keeps    bool                    // it takes a mail whose end it then does not answer
	chaos    func() map[string]fault // the faults of a connection, beside those of all
	running  sync.WaitGroup

	mu     sync.Mutex
	faults map[string]fault
	mails  []received
	steps  []string // of all connections
	conns  map[net.Conn]bool
	clear  []string // what came without TLS
}

const user, password = "changes", "correct horse"

// certificate is for 127.0.0.1 and localhost, by an authority of its own.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
})

func serve(t testing.TB, configs ...func(*server)) *server {
	cert, roots := certificate()
	s := &server{t: t, tls: &tls.Config{Certificates: []tls.Certificate{cert}}, roots: roots, faults: map[string]fault{}, conns: map[net.Conn]bool{}}
	for _, f := range configs {
		f(s)
	}
	var err error
	s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.running.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			one := &session{server: s, raw: conn}
			if s.chaos != nil {
				one.own = s.chaos()
			}
			s.running.Go(one.run)
		}
	})
	t.Cleanup(s.close)
	return s
}

func (s *server) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *server) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

func (s *server) fail(step string, f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = map[string]fault{step: f}
}

func (s *server) mend() { s.fail("", fault{}) }

func (s *server) got() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mails...)
}

func (s *server) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.steps...)
}

// session is one connection.
type session struct {
	*server
	raw    net.Conn
	conn   net.Conn
	lines  *bufio.Reader
	secure bool
	user   string
	mail   received
	own    map[string]fault
}

func (s *session) run() {
	defer func() {
		_ = s.raw.Close()
		s.mu.Lock()
		delete(s.conns, s.raw)
		s.mu.Unlock()
	}()
	s.use(s.raw)
	if s.implicit && !s.encrypt() {
		return
	}
	if !s.answer("greeting", "220 localhost ready") {
		return
	}
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if !s.secure {
			s.mu.Lock()
			s.server.clear = append(s.server.clear, line)
			s.mu.Unlock()
		}
		verb, rest, _ := strings.Cut(line, " ")
		if !s.command(strings.ToUpper(verb), rest) {
			return
		}
	}
}

func (s *session) use(conn net.Conn) { s.conn, s.lines = conn, bufio.NewReader(conn) }

func (s *session) encrypt() bool {
	if !s.answer("TLS", "") {
		return false
	}
	secure := tls.Server(s.conn, s.server.tls)
	if secure.Handshake() != nil {
		return false
	}
	s.use(secure)
	s.secure = true
	return true
}

// answer writes lines, or does what the fault of the step says; it reports whether the
// session goes on.
func (s *session) answer(step, lines string) bool {
	s.mu.Lock()
	s.steps = append(s.steps, step)
	f, ok := s.faults[step]
	if !ok {
		f = s.own[step]
	}
	s.mu.Unlock()
	switch {
	case f.drop:
		return false
	case f.stall != nil:
		f.stall()
		_, _ = s.lines.ReadByte() // which comes when the client has closed
		return false
	case f.reply != 0:
		lines = fmt.Sprintf("%d <bob@example.org> secret words of the server", f.reply)
	}
	if lines != "" {
		if _, err := fmt.Fprintf(s.conn, "%s\r\n", strings.ReplaceAll(lines, "\n", "\r\n")); err != nil {
			return false
		}
	}
	return f.reply == 0 || step != "greeting"
}

func (s *session) failing(step string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, all := s.faults[step]
	_, own := s.own[step]
	return all || own
}

func (s *session) command(verb, rest string) bool {
	switch verb {
	case "EHLO", "HELO":
		says := "250-localhost\n250-8BITMIME\n250-ENHANCEDSTATUSCODES"
		if !s.secure && !s.plain {
			says += "\n250-STARTTLS"
		}
		if s.offers != "" {
			says += "\n250-AUTH " + s.offers
		}
		if verb == "HELO" {
			says = ""
		} else {
			says += "\n"
		}
		return s.answer(verb, says+"250 SIZE 1000000")
	case "STARTTLS":
		failing := s.failing(verb)
		return s.answer(verb, "220 go ahead") && (failing || s.encrypt())
	case "AUTH":
		return s.auth(rest)
	case "MAIL":
		s.mail = received{from: rest, secure: s.secure, user: s.user}
		return s.answer(verb, "250 ok")
	case "RCPT":
		s.mail.to, s.mail.rcpts = rest, s.mail.rcpts+1
		return s.answer(verb, "250 ok")
	case "DATA":
		failing := s.failing(verb)
		return s.answer(verb, "354 go ahead") && (failing || s.text())
	case "RSET":
		return s.answer(verb, "250 ok")
	case "QUIT":
		s.answer(verb, "221 bye")
		return false
	}
	return s.answer(verb, "502 what?")
}

func (s *session) text() bool {
	var text strings.Builder
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return false // what has no end is no mail
		}
		if line == ".\r\n" {
			break
		}
		text.WriteString(strings.TrimPrefix(line, "."))
	}
	s.mail.text = text.String()
	if !s.failing("TEXT") || s.keeps {
		s.mu.Lock()
		s.mails = append(s.mails, s.mail)
		s.mu.Unlock()
	}
	return s.answer("TEXT", "250 queued")
}

func (s *session) ask(challenge string) (string, bool) {
	if _, err := fmt.Fprintf(s.conn, "334 %s\r\n", base64.StdEncoding.EncodeToString([]byte(challenge))); err != nil {
		return "", false
	}
	line, err := s.lines.ReadString('\n')
	if err != nil {
		return "", false
	}
	answer, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
	return string(answer), err == nil
}

// auth knows PLAIN (RFC 4616), LOGIN and SCRAM-SHA-256 (RFC 5802).
func (s *session) auth(rest string) bool {
	mechanism, initial, _ := strings.Cut(rest, " ")
	first, _ := base64.StdEncoding.DecodeString(initial)
	known := false
	switch mechanism {
	case "PLAIN":
		known = string(first) == "\x00"+user+"\x00"+password
	case "LOGIN":
		name, _ := s.ask("Username:")
		word, _ := s.ask("Password:")
		known = name == user && word == password
	case "SCRAM-SHA-256":
		known = s.scram(string(first))
	}
	if !known {
		return s.answer("AUTH", "535 5.7.8 no")
	}
	s.user = mechanism
	return s.answer("AUTH", "235 welcome")
}

func (s *session) scram(first string) bool {
	if first == "" {
		first, _ = s.ask("")
	}
	bare, ok := strings.CutPrefix(first, "n,,")
	_, nonce, cut := strings.Cut(bare, ",r=")
	if !ok || !cut || !strings.HasPrefix(bare, "n="+user+",") {
		return false
	}
	const salt, rounds = "0123456789abcdef", 4096
	challenge := fmt.Sprintf("r=%sserver,s=%s,i=%d", nonce, base64.StdEncoding.EncodeToString([]byte(salt)), rounds)
	final, ok := s.ask(challenge)
	without, proof, cut := strings.Cut(final, ",p=")
	if !ok || !cut || without != "c=biws,r="+nonce+"server" {
		return false
	}
	salted, err := pbkdf2.Key(sha256.New, password, []byte(salt), rounds, sha256.Size)
	if err != nil {
		return false
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	clientKey := mac(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	signature := mac(stored[:], bare+","+challenge+","+without)
	for i := range clientKey {
		clientKey[i] ^= signature[i]
	}
	if proof != base64.StdEncoding.EncodeToString(clientKey) {
		return false
	}
	_, ok = s.ask("v=" + base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), bare+","+challenge+","+without)))
	return ok
}
