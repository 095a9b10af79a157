//go:build unix

package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/storefor"
)

const (
	pairLease = 200 * time.Millisecond
	patience  = 90 * time.Second // for what must come; the machine may be slow
	streams   = 5                // to which what is given goes
)

// pair is two processes that share a consumer, and what is known of them. All of it
// belongs to the goroutine of the test.
type pair struct {
	t      *testing.T
	role   string
	seed   uint64
	random *rand.Rand
	place  storefor.Place
	store  storefor.Store // of the parent
	both   [2]*process
	heard  chan report
	top    uint64 // highest token that was heard

	given    atomic.Int64
	stopFeed context.CancelFunc
	fed      chan error // what feeding came to

	handovers, killed int
	unstuck           int            // stops that had to be ended, since they held the store itself
	moments           map[string]int // of hand-overs
	reached           int            // points at which a process was held
	refused           int            // effects that the fence refused
	overtaken         int            // effects that the key answered: another had decided the same meanwhile
}

type process struct {
	*exec.Cmd
	number int
	in     io.WriteCloser
	stderr *bytes.Buffer
	token  uint64 // of the lease that it held last
	at     string // the point where it is held
	ended  bool
	gone   bool // its output has ended
}

// report is a line that a process said; an empty one that it says no more.
type report struct {
	*process
	line string
}

func newPair(t *testing.T, kind storefor.Kind, role string, seed uint64) *pair {
	p := &pair{
		t: t, role: role, seed: seed, random: rand.New(rand.NewPCG(seed, uint64(len(role)))), place: kind.Place(t),
		heard: make(chan report), moments: map[string]int{}, fed: make(chan error, 1),
	}
	store, err := p.place.Open(context.Background())
	require.NoError(t, err)
	p.store = store
	ctx, cancel := context.WithCancel(context.Background())
	p.stopFeed = cancel
	go func() { p.fed <- p.feed(ctx) }()
	t.Cleanup(func() {
		cancel()
		for _, x := range p.both {
			if x != nil {
				p.end(x)
			}
		}
		if t.Failed() {
			for _, x := range p.both {
				if x != nil {
					t.Logf("process %d:\n%.20000s", x.number, x.stderr)
				}
			}
		}
		require.NoError(t, store.Close())
	})
	for i := range p.both {
		p.both[i] = p.start(i)
	}
	return p
}

// feed gives one event after another, to random streams, until ctx ends.
func (p *pair) feed(ctx context.Context) error {
	registry, err := handoverRegistry()
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(p.seed, 0))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		_, err := eventstore.Update(context.Background(), p.store, registry, func(tx *eventstore.Tx) error {
			return tx.RecordBlind(fmt.Sprint(inputPrefix, random.IntN(streams)), given{n})
		})
		if errors.Is(err, eventstore.ErrNotApplied) { // a stopped process holds the store
			n--
		} else if err != nil {
			return err
		}
		p.given.Store(int64(n))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// start starts a process of the pair.
func (p *pair) start(number int) *process {
	x := &process{Cmd: exec.Command(os.Args[0]), number: number, stderr: new(bytes.Buffer)}
	x.Env = append(os.Environ(), handoverVariable+"="+p.role, placeVariable+"="+string(p.place), leaseVariable+"="+pairLease.String())
	x.Stderr = x.stderr
	in, err := x.StdinPipe()
	require.NoError(p.t, err)
	out, err := x.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, x.Start())
	x.in = in
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.heard <- report{x, lines.Text()}
		}
		p.heard <- report{x, ""}
	}()
	return x
}

// end kills a process and waits until it is gone.
func (p *pair) end(x *process) {
	x.Process.Kill() // also one that is stopped
	for !x.gone {
		p.take(<-p.heard)
	}
	x.Wait() // it was killed
	x.in.Close()
}

// take takes in what a process said.
func (p *pair) take(r report) error {
	what, value, _ := strings.Cut(r.line, " ")
	switch what {
	case "token":
		fmt.Sscan(value, &r.token)
		p.top = max(p.top, r.token)
	case "at":
		r.at = value
		p.reached++
	case "refused":
		p.refused++
	case "overtaken":
		p.overtaken++
	case "ended":
		r.ended = true
	case "":
		r.gone = true
	default:
		return fmt.Errorf("process %d: %s", r.number, r.line)
	}
	return nil
}

var errSilent = errors.New("nobody said what was waited for")

// hear listens until something is so, for so long at most.
func (p *pair) hear(within time.Duration, so func() bool) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for !so() {
		select {
		case r := <-p.heard:
			if err := p.take(r); err != nil {
				return err
			}
		case <-timer.C:
			return fmt.Errorf("%w within %v: tokens %d and %d, points %q and %q", errSilent, within, p.both[0].token, p.both[1].token, p.both[0].at, p.both[1].at)
		}
	}
	return nil
}

func (x *process) tell(order string) error {
	_, err := io.WriteString(x.in, order+"\n")
	return err
}

func (x *process) signal(s syscall.Signal) error { return x.Process.Signal(s) }

// holder returns the process that held the lease last, as far as it was heard, and
// the other.
func (p *pair) holder() (holder, other *process) {
	if p.both[0].token >= p.both[1].token {
		return p.both[0], p.both[1]
	}
	return p.both[1], p.both[0]
}

// somebody waits until the lease is held.
func (p *pair) somebody() error {
	return p.hear(patience, func() bool { return p.top > 0 && p.both[0].token != p.both[1].token })
}

// reach has a process go on until it is held at a point, or another has taken over
// meanwhile, or some time has gone by: a stale one may not come there.
func (p *pair) reach(x *process, moment string) error {
	x.at = ""
	before := p.top
	if err := x.tell(moment); err != nil {
		return err
	}
	err := p.hear(10*time.Second, func() bool { return x.at == moment || p.top > before })
	if errors.Is(err, errSilent) {
		return nil
	}
	return err
}

const atRandom = "any moment"

var killMoments = []string{atRandom, atHandle, atDecide, atAppend, atSave, atSaved}

var allMoments = []string{atRandom, atHandle, atDecide, atAppend, atSave, atSaved, atTaken}

// handOver stops the holder at a moment past its lease, until the other has taken
// over, and has it go on.
func (p *pair) handOver(moment string) error {
	for try := 1; try <= 20; try++ {
		if err := p.somebody(); err != nil {
			return err
		}
		holder, other := p.holder()
		if err := p.bring(holder, moment); err != nil {
			return err
		}
		before := p.top
		if holder.token != before { // the machine is slow: it was taken over as it was
			if err := holder.tell("go"); err != nil {
				return err
			}
			continue
		}
		if err := holder.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		if moment == atTaken {
			if err := other.tell(atTaken); err != nil {
				return err
			}
		}
		// A process that is stopped within a commit holds the store: it is let go on.
		taken := func() bool { return other.token > before || other.at == atTaken }
		silent := p.hear(p.within(try), taken)
		if silent == nil && moment == atTaken && other.at == atTaken {
			// Who has just taken over is stopped as well, and the first takes over again.
			if err := other.signal(syscall.SIGSTOP); err != nil {
				return err
			}
			holder, other = other, holder
			if err := other.signal(syscall.SIGCONT); err != nil {
				return err
			}
			silent = p.hear(p.within(try), func() bool { return other.token > before })
		}
		p.linger()
		// What holds it gives way first: it goes on the moment it can, beside the
		// consumer, which notices that it has lost its lease.
		if err := errors.Join(holder.tell("go"), holder.signal(syscall.SIGCONT), other.tell("go")); err != nil {
			return err
		}
		holder.at, other.at = "", ""
		switch {
		case silent == nil:
			p.handovers++
			p.moments[moment]++
			return nil
		case !errors.Is(silent, errSilent):
			return silent
		}
		p.unstuck++
	}
	return fmt.Errorf("no hand-over at %q came about", moment)
}

// within is how long a take-over may last in a try.
func (p *pair) within(try int) time.Duration {
	return time.Duration(try) * (3*pairLease + 500*time.Millisecond)
}

// bring brings the holder to a moment.
func (p *pair) bring(holder *process, moment string) error {
	switch moment {
	case atRandom, atTaken:
		p.linger()
		return nil
	}
	defer p.linger()
	return p.reach(holder, moment)
}

// linger lets up to 30 ms go by, so that moments differ.
func (p *pair) linger() { time.Sleep(time.Duration(p.random.Int64N(int64(30 * time.Millisecond)))) }

// kill kills the holder at a moment and starts another process in its place.
func (p *pair) kill(moment string) error {
	if err := p.somebody(); err != nil {
		return err
	}
	holder, _ := p.holder()
	if err := p.bring(holder, moment); err != nil {
		return err
	}
	before := p.top
	p.end(holder)
	p.killed++
	p.moments[moment]++
	p.both[holder.number] = p.start(holder.number)
	// It may have been taken over as it was, where the machine is slow.
	return p.hear(patience, func() bool { return p.top > before || holder.token < p.top })
}

// finish ends the feeding, waits until the consumer is behind all that was given, ends
// the processes well, and looks at the log.
func (p *pair) finish() finding {
	require.NoError(p.t, p.settle(), "%v", p)
	f, err := p.find()
	require.NoError(p.t, err)
	return f
}

func (p *pair) settle() error {
	p.stopFeed()
	if err := <-p.fed; err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	deadline := time.Now().Add(patience)
	for {
		idle, err := p.idle()
		if err != nil {
			return err
		}
		if idle {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the consumer did not come to the end of the log within %v", patience)
		}
		if err := p.hear(20*time.Millisecond, func() bool { return false }); !errors.Is(err, errSilent) {
			return err
		}
	}
	for _, x := range p.both {
		if err := x.tell("end"); err != nil {
			return err
		}
	}
	return p.hear(patience, func() bool { return p.both[0].ended && p.both[1].ended })
}

// idle reports whether the consumer's checkpoint is behind all that was given.
func (p *pair) idle() (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last eventstore.Position
	for r, err := range p.store.Read(ctx, eventstore.Query{Prefix: inputPrefix}) {
		if err != nil {
			return false, err
		}
		last = r.Position
	}
	c, err := p.store.Checkpoint(ctx, "relay-"+handoverName)
	return c.Position >= last && !bytes.Contains(c.State, []byte(`"behind":{"`)), err
}

// finding is what the log says in the end.
type finding struct {
	given, effects int
	doubles, lost  int
	disorder       int // effects of a stream that came before an earlier one's
	late           int // effects that were recorded under a lease that was taken over by then
	tokens         uint64
}

func (f finding) right() bool { return f.doubles+f.lost+f.disorder+f.late == 0 }

// find reads the log. With one worker effects are in the order of all that was given,
// with several in that of each stream.
func (p *pair) find() (f finding, err error) {
	total := p.role == "fenced" || p.role == "without fence"
	registry, err := handoverRegistry()
	if err != nil {
		return f, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	times := map[int]int{}
	latest := map[string]int{}
	var all []int
	for r, err := range p.store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return f, err
		}
		switch r.Type {
		case "handover.given", "handover.done", "relay.taken":
		default:
			continue
		}
		payload, err := registry.Decode(r.Event)
		if err != nil {
			return f, err
		}
		switch e := payload.(type) {
		case relay.Taken:
			f.tokens = r.Version
		case given:
			all = append(all, e.Sequence)
		case done:
			f.effects++
			if times[e.Sequence]++; times[e.Sequence] > 1 {
				f.doubles++
			}
			order := e.Stream
			if total {
				order = ""
			}
			if e.Sequence < latest[order] {
				f.disorder++
			}
			latest[order] = max(latest[order], e.Sequence)
			if e.Token != f.tokens {
				f.late++
			}
		}
	}
	f.given = len(all)
	for _, sequence := range all {
		if times[sequence] == 0 {
			f.lost++
		}
	}
	return f, nil
}

func (p *pair) String() string {
	return fmt.Sprintf("%q: %d hand-overs, %d processes killed, at %v; %d stops within a commit were ended; the fence refused %d effects, the key %d; seed %d", p.role, p.handovers, p.killed, p.moments, p.unstuck, p.refused, p.overtaken, p.seed)
}
