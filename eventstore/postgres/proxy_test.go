package postgres_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/internal/pgtest"
)

// place is where a proxy cuts a connection on which a client commits.
type place int

const (
	beforeCommit place = iota // nothing of the COMMIT comes to the server
	withinCommit              // some bytes of it; or all but the end of the batch: committed, and nobody is told
	afterCommit               // all of it, and the client is cut off at once
	lateCommit                // all of it, some time after the client was cut off
	beforeReply               // the server has answered, and the client hears nothing
	withinReply               // of the answer the client gets some bytes
	noReply                   // likewise nothing, and its connection stays open for a while
	places
)

func (p place) String() string {
	return [...]string{"before COMMIT", "within COMMIT", "after COMMIT", "COMMIT late", "before its reply", "within its reply", "no reply"}[p]
}

// silence is for how long a connection without a reply stays open.
const silence = 150 * time.Millisecond

// cut is one cut: how much of a message still passes is a share of its bytes.
type cut struct {
	place place
	share float64
	late  time.Duration
}

// bytes returns how many of n pass: not all.
func (c *cut) bytes(n int) int { return int(c.share * float64(n)) }

// cuts is what a proxy came to.
type cuts struct {
	commits   int         // that clients sent
	made      [places]int // of these, cut
	committed [places]int // of those cut, the server said that it had committed, and the client did not hear all of it
}

func (c cuts) all() (made, committed int) {
	for p := range places {
		made, committed = made+c.made[p], committed+c.committed[p]
	}
	return made, committed
}

func (c cuts) String() string {
	made, committed := c.all()
	var b strings.Builder
	fmt.Fprintf(&b, "%d commits, %d cut, of which the server called %d committed", c.commits, made, committed)
	for p := range places {
		if c.made[p] > 0 {
			fmt.Fprintf(&b, "; %v: %d of %d", p, c.committed[p], c.made[p])
		}
	}
	return b.String()
}

// proxy stands between a store and its server and cuts connections on which a client
// commits. After a cut it goes on reading what the server says, so that it knows
// whether it committed.
type proxy struct {
	dir      string
	listener net.Listener
	network  string // of the server
	address  string
	running  sync.WaitGroup
	cutting  sync.WaitGroup // connections that were cut and on which the server may say something yet
	failed   chan error     // the first that is not a cut

	mu      sync.Mutex
	random  *rand.Rand
	from    []place // where to cut
	left    int     // cuts that are to be made
	figures cuts
	conns   map[net.Conn]bool
	closed  bool
}

// proxied returns a proxy to the server of a connection string, and the one to use in
// its place.
func proxied(t testing.TB, dsn string, seed uint64) (*proxy, string) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	if config.TLSConfig != nil {
		t.Skip("the proxy reads what is said, which this server encrypts")
	}
	dir, err := os.MkdirTemp("", "rfproxy") // short: the path of a socket has at most 107 bytes
	require.NoError(t, err)
	p := &proxy{dir: dir, conns: map[net.Conn]bool{}, random: rand.New(rand.NewPCG(seed, 1)), failed: make(chan error, 1)}
	p.network, p.address = pgconn.NetworkAddress(config.Host, config.Port)
	p.listener, err = net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	p.running.Go(p.serve)
	t.Cleanup(func() { p.close(t) })
	out := fmt.Sprintf("host='%s' port=5432 user='%s' dbname='%s' sslmode=disable", dir, config.User, config.Database)
	if config.Password != "" {
		out += fmt.Sprintf(" password='%s'", config.Password)
	}
	return p, out
}

// close ends it, and waits for what is under way.
func (p *proxy) close(t testing.TB) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	err := p.listener.Close()
	p.mu.Unlock()
	p.cutting.Wait()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close() // ends who reads from it
	}
	p.mu.Unlock()
	p.running.Wait()
	require.NoError(t, errors.Join(err, os.RemoveAll(p.dir)))
	select {
	case err := <-p.failed:
		require.NoError(t, err)
	default:
	}
}

// arm has the proxy make n cuts, at every third commit, at places drawn from these.
func (p *proxy) arm(n int, from ...place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.from = n, from
}

// spent reports whether all cuts have been made.
func (p *proxy) spent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left == 0
}

// told returns what it came to, once nothing of it is under way.
func (p *proxy) told() cuts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.figures
}

// decide says of a commit that a client sends whether it is cut: nil if not.
func (p *proxy) decide() *cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.figures.commits++
	if p.left == 0 || p.closed || p.random.IntN(3) > 0 {
		return nil
	}
	p.left--
	p.cutting.Add(1)
	c := &cut{place: p.from[p.random.IntN(len(p.from))], share: p.random.Float64(), late: time.Duration(p.random.Int64N(int64(40 * time.Millisecond)))}
	p.figures.made[c.place]++
	return c
}

func (p *proxy) fail(err error) {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return
	}
	select {
	case p.failed <- err:
	default:
	}
}

// keep has a connection closed with the proxy, and reports whether it is open still.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	if p.closed {
		_ = c.Close() // it is not used
	}
	return !p.closed
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close() // whoever wrote to it has seen how that ended
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.fail(err)
			}
			return
		}
		server, err := net.Dial(p.network, p.address)
		if err != nil {
			p.fail(err)
			_ = client.Close() // it learns of it so
			continue
		}
		if !p.keep(client) || !p.keep(server) {
			return
		}
		l := &link{p: p, client: client, server: server, commits: map[string]bool{}}
		p.running.Go(func() {
			defer p.drop(client)
			defer p.drop(server)
			var both sync.WaitGroup
			both.Go(l.up)
			both.Go(l.down)
			both.Wait()
			if l.cut.Load() != nil {
				p.cutting.Done()
			}
		})
	}
}

// link is one connection through a proxy.
type link struct {
	p              *proxy
	client, server net.Conn
	commits        map[string]bool     // names of prepared statements that commit
	cut            atomic.Pointer[cut] // set before anything of the COMMIT is passed on
}

// finish ends what is sent to the server, which says the rest and ends as well.
func (l *link) finish() {
	if half, ok := l.server.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the server may have gone before
	}
}

// up passes on what the client says, and ends with it or with a cut.
func (l *link) up() {
	defer l.finish()
	in := bufio.NewReader(l.client)
	first := make([]byte, 4) // the first message of a connection has no type
	if _, err := io.ReadFull(in, first); err != nil {
		return
	}
	rest := make([]byte, binary.BigEndian.Uint32(first)-4)
	if _, err := io.ReadFull(in, rest); err != nil {
		return
	}
	if _, err := l.server.Write(append(first, rest...)); err != nil {
		return
	}
	for {
		m, err := message(in)
		if err != nil {
			return
		}
		if !l.commit(m) {
			if _, err := l.server.Write(m); err != nil {
				return
			}
			continue
		}
		for kind := m[0]; kind != 'Q' && kind != 'S'; { // to the end of the batch
			next, err := message(in)
			if err != nil {
				return
			}
			m, kind = append(m, next...), next[0]
		}
		c := l.p.decide()
		l.cut.Store(c)
		late := false
		if c != nil {
			switch c.place {
			case beforeCommit:
				m = nil
			case withinCommit:
				if m[0] == 'B' && c.share > 0.6 {
					m = m[:len(m)-5] // the batch does not end
				} else {
					m = m[:c.bytes(len(m))]
				}
			case lateCommit:
				late = true
				_ = l.client.Close() // the cut
				time.Sleep(c.late)
			}
		}
		if _, err := l.server.Write(m); err != nil && !late {
			return
		}
		if c != nil && c.place <= lateCommit {
			_ = l.client.Close() // the cut
			return
		}
	}
}

// commit reports whether a message of a client commits.
func (l *link) commit(m []byte) bool {
	words := bytes.Split(m[5:], []byte{0})
	commits := func(query []byte) bool { return strings.EqualFold(string(query), "commit") }
	switch m[0] {
	case 'Q':
		return commits(words[0])
	case 'P':
		l.commits[string(words[0])] = commits(words[1])
	case 'B':
		return l.commits[string(words[1])]
	}
	return false
}

// down passes on what the server says until it ends, or a cut.
func (l *link) down() {
	defer l.client.Close() // the server is gone
	in := bufio.NewReader(l.server)
	for {
		m, err := message(in)
		if err != nil {
			return
		}
		c := l.cut.Load()
		if c == nil {
			if _, err := l.client.Write(m); err != nil {
				l.finish() // the client is gone: so the server learns of it
			}
			continue
		}
		if m[0] != 'C' || string(m[5:]) != "COMMIT\x00" {
			continue
		}
		l.p.mu.Lock()
		l.p.figures.committed[c.place]++
		l.p.mu.Unlock()
		switch c.place {
		case withinReply:
			_, _ = l.client.Write(m[:c.bytes(len(m))]) // the cut
			_ = l.client.Close()
		case noReply:
			time.Sleep(silence)
			_ = l.client.Close()
		case beforeReply:
			_ = l.client.Close()
		}
	}
}

// message reads one message, with its type and length.
func message(in *bufio.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	m := append(head, make([]byte, binary.BigEndian.Uint32(head[1:])-4)...)
	_, err := io.ReadFull(in, m[5:])
	return m, err
}

// The proxy itself: what it passes on is what was said, and each place does what it says.
func TestTheProxyCutsWhereItSays(t *testing.T) {
	dsn := pgtest.Database(t)
	for at := range places {
		p, through := proxied(t, dsn, uint64(at))
		committed := 0
		const rounds = 8
		for n := range rounds {
			c, err := pgx.Connect(t.Context(), through)
			require.NoError(t, err)
			_, err = c.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS t (place integer, n integer)")
			require.NoError(t, err)
			_, err = c.Prepare(t.Context(), "end", "COMMIT")
			require.NoError(t, err)
			p.arm(1, at)
			for !p.spent() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				batch := &pgx.Batch{}
				batch.Queue("BEGIN")
				batch.Queue("INSERT INTO t VALUES ($1, $2)", int(at), n)
				batch.Queue("COMMIT")
				err = c.SendBatch(ctx, batch).Close()
				cancel()
				if err == nil {
					committed++
				}
			}
			if at != withinReply {
				require.Error(t, err, "%v", at)
			}
			_ = c.Close(t.Context()) // it is cut
		}
		p.close(t)
		figures := p.told()
		t.Logf("%v", figures)
		require.Equal(t, rounds, figures.made[at])
		switch at {
		case beforeCommit:
			require.Zero(t, figures.committed[at])
		case withinCommit:
			require.Zero(t, figures.committed[at], "the server answers at the end of a batch")
		case afterCommit, lateCommit:
			// The client asks the server to cancel what was under way, and sometimes comes in time.
			require.Greater(t, figures.committed[at], rounds/2, "%v", at)
		default:
			require.Equal(t, rounds, figures.committed[at], "%v", at)
		}
		c, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		var rows int
		require.NoError(t, c.QueryRow(t.Context(), "SELECT count(*) FROM t WHERE place = $1", int(at)).Scan(&rows))
		require.NoError(t, c.Close(t.Context()))
		if at == withinCommit {
			t.Logf("%d of %d were committed, and nobody was told", rows-committed, rounds)
			require.Greater(t, rows, committed)
			require.Less(t, rows, committed+rounds)
		} else {
			require.Equal(t, committed+figures.committed[at], rows, "%v: what the proxy counts is what the server has", at)
		}
	}
}
