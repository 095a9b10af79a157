//go:build unix

// Package pgtest gives tests a PostgreSQL server: a throw-away cluster of their own,
// from the binaries that are installed, on a socket that nobody else can reach, or the
// server that ROLLFORWARD_TEST_POSTGRES names.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Variable names a server to be tested on instead: a connection string of a role that
// may make databases.
const Variable = "ROLLFORWARD_TEST_POSTGRES"

// Cluster is a server that runs until Stop.
type Cluster struct {
	dir      string // data, and the socket
	bin      string
	settings []string
	exited   chan struct{}
	server   *os.Process
}

var shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// Run runs the tests of a package and stops the server that they shared: for TestMain.
func Run(m *testing.M) int {
	status := m.Run()
	if shared.cluster != nil {
		shared.cluster.remove()
	}
	return status
}

// Database returns the connection string of an empty database of the shared server,
// which ends with the test.
func Database(t testing.TB) string {
	t.Helper()
	return DatabaseOf(t, Shared(t))
}

// Shared returns the connection string of the server that the tests of a package share.
func Shared(t testing.TB) string {
	t.Helper()
	if given := os.Getenv(Variable); given != "" {
		return given
	}
	shared.once.Do(func() { shared.cluster, shared.err = start() })
	require.NoError(t, shared.err)
	return shared.cluster.DSN()
}

// Start returns a server of the test's own, with settings as in postgresql.conf:
// "max_connections=20". It ends with the test.
func Start(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c, err := start(settings...)
	require.NoError(t, err)
	t.Cleanup(c.remove)
	return c
}

var databases struct {
	sync.Mutex
	made int
}

// DatabaseOf is Database on another server than the shared one.
func DatabaseOf(t testing.TB, dsn string) string {
	t.Helper()
	made, drop, err := newDatabase(dsn)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Logf("a database is left: %v", err)
		}
	})
	return made
}

// Serve is Database for a program: an empty database of a server of its own, or of the
// one that Variable names, and what ends both.
func Serve() (dsn string, end func() error, err error) {
	if given := os.Getenv(Variable); given != "" {
		return newDatabase(given)
	}
	c, err := start()
	if err != nil {
		return "", nil, err
	}
	return c.DSN(), func() error { return errors.Join(c.Stop(syscall.SIGQUIT), os.RemoveAll(c.dir)) }, nil
}

// newDatabase makes an empty database.
func newDatabase(dsn string) (made string, drop func() error, err error) {
	databases.Lock()
	databases.made++
	name := fmt.Sprintf("rf_%d_%d", os.Getpid(), databases.made)
	databases.Unlock()
	do := func(query string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		_, err = c.Exec(ctx, query)
		return errors.Join(err, c.Close(ctx))
	}
	if err := do("CREATE DATABASE " + name + " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"); err != nil {
		return "", nil, err
	}
	return with(dsn, name), func() error {
		if err := do("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			return fmt.Errorf("drop the database %s: %w", name, err)
		}
		return nil
	}, nil
}

// with returns a connection string with another database.
func with(dsn, database string) string {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return dsn
	}
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	out := fmt.Sprintf("host=%s port=%d user=%s dbname=%s", quote(c.Host), c.Port, quote(c.User), database)
	if c.Password != "" {
		out += " password=" + quote(c.Password)
	}
	if c.TLSConfig == nil {
		out += " sslmode=disable"
	}
	return out
}

// DSN returns the connection string of the server.
func (c *Cluster) DSN() string { return "host=" + c.Socket() + " user=postgres dbname=postgres" }

// Socket returns the folder of the server's socket, which is named .s.PGSQL.5432.
func (c *Cluster) Socket() string { return c.dir }

// Bin returns the path of one of PostgreSQL's programs.
func (c *Cluster) Bin(program string) string { return filepath.Join(c.bin, program) }

// Command returns one of PostgreSQL's programs, to be run as the server's user.
func (c *Cluster) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(c.Bin(program), args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "PGHOST="+c.dir, "PGUSER=postgres", "PGDATABASE=postgres", "LC_ALL=C")
	cmd.SysProcAttr = attributes(0)
	return cmd
}

// start makes a cluster and starts its server.
func start(settings ...string) (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rfpg") // short: the path of a socket has at most 107 bytes
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, bin: bin, settings: settings}
	if id := servant(); id != nil {
		if err := os.Chown(dir, int(id.Uid), int(id.Gid)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	out, err := c.Command("initdb", "--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions").CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(dir))
	}
	if err := c.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

// Start starts the server, after Stop, and returns when it takes connections.
func (c *Cluster) Start() error {
	args := []string{"-D", "data", "-k", c.dir, "-c", "listen_addresses=", "-c", "max_connections=200", "-c", "logging_collector=off", "-c", "autovacuum_naptime=10s"}
	for _, setting := range c.settings {
		args = append(args, "-c", setting)
	}
	cmd := c.Command("postgres", args...)
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	// It ends when this process does, however that ends: by SIGQUIT it stops at once.
	cmd.SysProcAttr = attributes(syscall.SIGQUIT)
	started := make(chan error)
	c.exited = make(chan struct{})
	go func() {
		runtime.LockOSThread() // the signal comes when the thread ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended stands in its log
			close(c.exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.server = cmd.Process
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		conn, err := pgx.Connect(ctx, c.DSN())
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("the server did not start: %s", c.Log())
		default:
		}
		if time.Since(begin) > time.Minute {
			return errors.Join(fmt.Errorf("the server takes no connections: %w: %s", err, c.Log()), c.Stop(syscall.SIGQUIT))
		}
	}
}

// Stop ends the server: SIGINT rolls back and ends, SIGQUIT is "immediate", as a crash.
func (c *Cluster) Stop(how syscall.Signal) error {
	if err := c.server.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.exited:
		return nil
	case <-time.After(time.Minute):
		_ = c.server.Kill()
		return fmt.Errorf("the server did not stop: %s", c.Log())
	}
}

// Log returns the end of what the server has said.
func (c *Cluster) Log() string {
	b, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

func (c *Cluster) remove() {
	_ = c.Stop(syscall.SIGQUIT)
	_ = os.RemoveAll(c.dir)
}

// binaries returns the folder of the newest PostgreSQL there is.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is right
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	for _, path := range found {
		return filepath.Dir(path), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL server is installed: install Debian's package postgresql, or name a server in %s", Variable)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	return filepath.Dir(path), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // other names come last
	return n
}

// servant returns who the server runs as: root may not, so that another user does.
func servant() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			if uid != 0 {
				return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			}
		}
	}
	return nil
}
