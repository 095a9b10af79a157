package rollforward_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/eventstore/relay/driven"
	"github.com/rollforward/rollforward/internal/disorder"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
	"github.com/rollforward/rollforward/release"
)

// With envDriven a test binary is a process whose folds are driven by messages: it
// prints where they are restored, saved and how far they have come, and when it reads
// a position, what they are there.
const (
	envDriven     = "ROLLFORWARD_TEST_DRIVEN_ON"
	envDrivenBy   = "ROLLFORWARD_TEST_DRIVEN_BY"
	envDrivenSeed = "ROLLFORWARD_TEST_DRIVEN_SEED"

	byOwn    = "own"    // subscriber
	byBroker = "broker" // in the process, fed from the log by a durable consumer
	byHand   = "hand"   // messages given to Apply as they come, without package driven
)

func driving() bool {
	place := storefor.Place(os.Getenv(envDriven))
	if place == "" {
		return false
	}
	seed, err := strconv.ParseUint(os.Getenv(envDrivenSeed), 10, 64)
	if err == nil {
		drive := driveOn
		if os.Getenv(envDrivenBy) == byHand {
			drive = driveByHand
		}
		err = drive(place, seed)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

type engineFolds struct {
	cmdb     follow.Projection[*cmdb.Graph]
	changes  follow.Projection[*change.List]
	releases follow.Projection[*release.List]
	schedule follow.Projection[*schedule.Schedule]
}

func projections() (engineFolds, error) {
	registry, err := eventstore.NewRegistry(slices.Concat(command.Types(), cmdb.Types(), change.Types(), schedule.Types(), release.Types(), follow.Types())...)
	return engineFolds{cmdb.Projection(registry), change.Projection(registry), release.Projection(registry), schedule.Projection(registry)}, err
}

// badly delivers each message one to five times, shuffled within 50.
func badly(seed uint64) *disorder.Disorder {
	return &disorder.Disorder{Seed: seed, Times: 5, Within: 50}
}

func driveOn(place storefor.Place, seed uint64) error {
	ctx := context.Background()
	store, err := place.Open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	folds, err := projections()
	if err != nil {
		return err
	}
	d := badly(seed)
	fed := func() bool { return true }
	config := driven.Config{Store: store, Decorators: []message.SubscriberDecorator{d.Decorate}, SnapshotEvery: 25, Late: time.Second, Logger: slog.New(slog.DiscardHandler)}
	if os.Getenv(envDrivenBy) == byBroker {
		broker := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
		defer broker.Close()
		source, err := relay.NewSubscriber(relay.Config{Store: store, Name: "to-broker", Lease: 500 * time.Millisecond, Logger: config.Logger})
		if err != nil {
			return err
		}
		defer source.Close()
		messages, err := source.Subscribe(ctx, relay.All)
		if err != nil {
			return err
		}
		go func() {
			for m := range messages {
				if err := broker.Publish("log", m.Copy()); err != nil {
					m.Nack()
				} else {
					m.Ack()
				}
			}
		}()
		fed = func() bool {
			return slices.ContainsFunc(source.Status(), func(s relay.Status) bool { return s.Holding })
		}
		config.Subscriber, config.Topics = broker, []string{"log"}
	}
	f, err := driven.Start(config, folds.cmdb, folds.changes, folds.releases, folds.schedule)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.WaitFor(ctx, 0); err != nil {
		return err
	}
	fmt.Println("restored", f.Status().Folds[0].Snapshot)
	finish := make(chan string)
	go func() {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err == nil {
			finish <- strings.TrimSpace(line)
		}
	}()
	var saved, at eventstore.Position
	for feeding := false; ; {
		if !feeding && fed() {
			feeding = true
			fmt.Println("fed") // what is recorded from now on comes by messages
		}
		s := f.Status()
		if s.Stopped != nil {
			return s.Stopped
		}
		if now := s.Folds[0].Snapshot; now != saved {
			saved = now
			fmt.Println("saved", saved)
		}
		if s.Position != at {
			at = s.Position
			fmt.Println("at", at)
		}
		select {
		case line := <-finish:
			until, err := strconv.ParseUint(line, 10, 64)
			if err != nil {
				return err
			}
			return finishAt(ctx, f, folds, d, eventstore.Position(until))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// finishAt verifies, and prints what the folds are at a position, at which they stay.
func finishAt(ctx context.Context, f *driven.Folds, folds engineFolds, d *disorder.Disorder, until eventstore.Position) error {
	if err := f.WaitFor(ctx, until); err != nil {
		return err
	}
	err := f.View(ctx, func(v *follow.View) error {
		text, err := digests(folds.cmdb.In(v), folds.changes.In(v), folds.releases.In(v), folds.schedule.In(v))
		fmt.Println("state", v.Position(), text)
		return err
	})
	if err != nil {
		return err
	}
	found, err := f.Verify(ctx)
	if err != nil {
		return err
	}
	for _, fold := range found.Folds {
		fmt.Println("verified", fold.Fold, fold.Result)
	}
	s := f.Status()
	fmt.Println("did", d.Sent.Load(), "messages,", s.Taken, "taken,", s.Again, "known,", s.Read, "read from the log")
	return f.Close()
}

// count is a fold that does not bear what comes again.
type count struct{ n int }

// driveByHand is a program that has the messages and gives them to Apply as they come.
func driveByHand(place storefor.Place, seed uint64) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, err := place.Open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	declared, err := projections()
	if err != nil {
		return err
	}
	all := []bare{declared.cmdb.New(), declared.changes.New(), declared.releases.New(), declared.schedule.New()}
	own, err := relay.NewSubscriber(relay.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	d := badly(seed)
	s, err := d.Decorate(own)
	if err != nil {
		return err
	}
	messages, err := s.Subscribe(ctx, relay.All)
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	events, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	var counts count
	seen := map[eventstore.Position]bool{}
	for len(seen) < events {
		m := <-messages
		r, err := relay.Recorded(m)
		if err != nil {
			return err
		}
		if counts.n%7 == 3 && !seen[r.Position] {
			counts.n++
			m.Nack() // it comes again
			continue
		}
		for _, f := range all {
			if err := f.Apply(r); err != nil {
				return err
			}
		}
		counts.n++
		seen[r.Position] = true
		m.Ack()
	}
	text, err := digests(all[0], all[1], all[2], all[3])
	if err != nil {
		return err
	}
	fmt.Println("state", text)
	fmt.Println("counted", counts.n, "refused", d.Nacked.Load())
	return nil
}

// process is a child, by what it prints.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan []string // words; closed when it has ended
	fault *strings.Builder
	ended chan error
}

func child(t *testing.T, env ...string) *process {
	p := &process{cmd: exec.Command(os.Args[0]), lines: make(chan []string, 100_000), fault: &strings.Builder{}, ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.fault
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			p.lines <- strings.Fields(scan.Text())
		}
		close(p.lines)
		p.ended <- p.cmd.Wait()
	}()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // which may have ended long ago
	return p
}

func (p *process) say(t *testing.T, what any) {
	_, err := fmt.Fprintln(p.in, what)
	require.NoError(t, err, p.fault)
}

// until returns the first line that begins with one of the words.
func (p *process) until(t *testing.T, words ...string) []string {
	deadline := time.After(5 * time.Minute)
	for {
		select {
		case line, more := <-p.lines:
			require.True(t, more, "the child has ended before it printed %q: %s", words, p.fault)
			if len(line) > 0 && slices.Contains(words, line[0]) {
				return line
			}
		case <-deadline:
			require.FailNow(t, "the child does not print", "%q: %s", words, p.fault)
		}
	}
}

// hush tells it that nothing more is said; it may have ended by then.
func (p *process) hush(t *testing.T) {
	if err := p.in.Close(); !errors.Is(err, os.ErrClosed) {
		require.NoError(t, err)
	}
}

func (p *process) end(t *testing.T) {
	p.hush(t)
	for range p.lines {
	}
	require.NoError(t, <-p.ended, p.fault)
}

func (p *process) kill(t *testing.T) {
	require.NoError(t, p.cmd.Process.Kill())
	for range p.lines {
	}
	var killed *exec.ExitError
	require.True(t, errors.As(<-p.ended, &killed) && killed.ExitCode() == -1, "it ended by itself: %s", p.fault)
}

func position(t *testing.T, word string) eventstore.Position {
	n, err := strconv.ParseUint(word, 10, 64)
	require.NoError(t, err)
	return eventstore.Position(n)
}

// drivenSize is how many rounds there are, in each of which the process that is driven
// is killed, and how many steps the crowd takes in one.
// ROLLFORWARD_DRIVEN_ROUNDS takes more.
func drivenSize(t *testing.T) (rounds, steps int) {
	rounds, steps = 4, 60
	if race.Enabled {
		rounds, steps = 2, 30
	}
	if more := os.Getenv("ROLLFORWARD_DRIVEN_ROUNDS"); more != "" {
		var err error
		rounds, err = strconv.Atoi(more)
		require.NoError(t, err)
	}
	return rounds, steps
}

// One process records what a crowd does, another is driven by messages that come one to
// five times and shuffled, is killed and starts again: its folds are those of the first,
// byte for byte.
func TestFoldsDrivenInAnotherProcessThatIsKilledAreThoseOfTheEngineAtFullSize(t *testing.T) {
	const seed = 20
	rounds, steps := drivenSize(t)
	for _, kind := range []storefor.Kind{storefor.SQLite, storefor.Postgres} {
		for _, by := range []string{byOwn, byBroker} {
			if race.Enabled && (kind == storefor.SQLite) == (by == byBroker) {
				continue // in full without it
			}
			t.Run(string(kind)+", "+by, func(t *testing.T) {
				place := kind.Place(t)
				crowd := child(t, envCrowd+"="+string(place), fmt.Sprintf("%s=%d", envCrowdSeed, seed))
				restored := 0
				for round := range rounds {
					f := child(t, envDriven+"="+string(place), envDrivenBy+"="+by, fmt.Sprintf("%s=%d", envDrivenSeed, seed+round))
					if from := position(t, f.until(t, "restored")[1]); from > 0 {
						restored++
					}
					crowd.say(t, steps)
					if round%2 == 0 {
						f.until(t, "saved") // while the crowd is at work, or after
						f.kill(t)
						crowd.until(t, "wrote")
						continue
					}
					head := position(t, crowd.until(t, "wrote")[1])
					for position(t, f.until(t, "at")[1]) < head {
					}
					f.kill(t)
				}
				f := child(t, envDriven+"="+string(place), envDrivenBy+"="+by, fmt.Sprintf("%s=%d", envDrivenSeed, seed+rounds))
				if position(t, f.until(t, "restored")[1]) > 0 {
					restored++
				}
				f.until(t, "fed")
				crowd.say(t, steps)
				head := position(t, crowd.until(t, "wrote")[1])
				f.say(t, uint64(head))
				got := f.until(t, "state")
				for _, name := range []string{"cmdb", "changes", "releases", "schedule"} {
					require.Equal(t, []string{"verified", name, "same"}, f.until(t, "verified"))
				}
				did := f.until(t, "did") // N messages, N taken, ...
				require.NotEqual(t, "0", did[3], "no message has brought anything")
				f.end(t)
				crowd.hush(t)
				want := crowd.until(t, "state")
				require.Equal(t, want, got)
				crowdDid := crowd.until(t, "did")
				crowd.end(t)
				require.Positive(t, restored, "no restart began with a snapshot")
				t.Logf("seed %d: up to position %s; killed %d times, %d starts from a snapshot; the last: %s; the crowd %s",
					seed, want[1], rounds, restored, strings.Join(did, " "), strings.Join(crowdDid, " "))
			})
		}
	}
}

// The four folds bear duplicates and disorder by themselves, so that a program which
// has the messages and not the log may give them to Apply as they come. The control is
// a fold that counts.
func TestFoldsThatAreGivenMessagesAsTheyComeEndAsThoseOfTheEngine(t *testing.T) {
	const seed = 21
	_, steps := drivenSize(t)
	for _, kind := range []storefor.Kind{storefor.SQLite, storefor.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			place := kind.Place(t)
			crowd := child(t, envCrowd+"="+string(place), fmt.Sprintf("%s=%d", envCrowdSeed, seed))
			f := child(t, envDriven+"="+string(place), envDrivenBy+"="+byHand, fmt.Sprintf("%s=%d", envDrivenSeed, seed))
			crowd.say(t, steps)
			crowd.until(t, "wrote")
			store, err := place.Open(t.Context())
			require.NoError(t, err)
			events := 0
			for _, err := range store.Read(t.Context(), eventstore.Query{}) {
				require.NoError(t, err)
				events++
			}
			require.NoError(t, store.Close())
			f.say(t, events)
			got, counted := f.until(t, "state"), f.until(t, "counted")
			f.end(t)
			crowd.hush(t)
			want := crowd.until(t, "state")
			crowd.end(t)
			require.Equal(t, want[2:], got[1:])
			n, err := strconv.Atoi(counted[1])
			require.NoError(t, err)
			require.Greater(t, n, events, "the control: a fold that counts differs")
			require.NotEqual(t, "0", counted[3], "none was refused")
			t.Logf("seed %d: %d events came %d times, %s refused", seed, events, n, counted[3])
		})
	}
}
