package automation_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
)

// move is something that happens: people and sources go their ways.
type move struct {
	What  string
	Which int
	To    string
}

// play has moves happen, and drift looked for after every so many of them, and at the
// end. It returns what was found, by the titles of the changes that are named.
func play(t testing.TB, moves []move, every int, alter ...func(*automation.DriftConfig)) (found []string) {
	h := open(t, memory.New(), staff()).furnish()
	defer func() {
		require.NoError(t, h.Close())
		require.NoError(t, h.store.Close())
	}()
	var ids []string
	titles := map[string]string{}
	look := func() { require.Empty(t, h.drive(automation.Drift(h.drift(alter...)))) }
	for i, m := range moves {
		ci := fmt.Sprintf("db-0%d", 1+m.Which%2)
		if m.What == "approve" {
			now, err := h.CMDB.Get(t.Context(), ci)
			require.NoError(t, err)
			from := h.clock.Now().Add(time.Duration(m.Which%3) * 30 * time.Minute)
			c, err := h.Changes.Raise(t.Context(), alice, change.Raise{Content: change.Content{
				Title: fmt.Sprintf("plan %d", len(ids)), Plans: change.Plans{Implementation: "x"},
				CIs: []string{ci}, Deltas: []cmdb.Delta{cmdb.Set(ci, "version", now.Attributes["version"], m.To)}, Window: change.Between(from, from.Add(time.Hour)),
			}})
			require.NoError(t, err)
			ids = append(ids, c.ID)
			titles[c.ID] = c.Title
			for _, step := range []func() error{
				func() error { _, err := h.Changes.Do(t.Context(), alice, c.ID, change.Submit{}); return err },
				func() error {
					_, err := h.Changes.Do(t.Context(), carol, c.ID, change.Assess{Level: "low", Why: "x"})
					return err
				},
				func() error {
					_, err := h.Changes.Do(t.Context(), bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
					return err
				},
			} {
				if step() != nil {
					break // it plans what is there already
				}
			}
		}
		if len(ids) > 0 {
			id := ids[m.Which%len(ids)]
			// What is refused has not happened: that too is the same each time.
			switch m.What {
			case "start":
				_, _ = h.Changes.Do(t.Context(), dave, id, change.Start{})
			case "complete":
				_, _ = h.Changes.Do(t.Context(), dave, id, change.Complete{Applied: []cmdb.Delta{}, BackedOut: m.To == "15"})
			case "cancel":
				_, _ = h.Changes.Do(t.Context(), carol, id, change.Cancel{Reason: "x"})
			case "close":
				_, _ = h.Changes.Do(t.Context(), erin, id, change.Review{Outcome: change.Successful}, change.Close{})
			}
		}
		switch m.What {
		case "observe":
			h.observe("scan", sees(ci, m.To))
		case "wait":
			h.clock.Advance(time.Duration(m.Which) * 10 * time.Minute)
		}
		if every > 0 && i%every == 0 {
			look()
		}
	}
	look()
	for _, c := range h.found() {
		found = append(found, regexp.MustCompile(`CHG-\d+`).ReplaceAllStringFunc(c.Description, func(id string) string { return titles[id] }))
	}
	return found
}

// random returns moves as they might come.
func random(r *rand.Rand) (moves []move) {
	whats := []string{"approve", "approve", "start", "start", "complete", "cancel", "close", "observe", "observe", "observe", "wait"}
	for range 25 {
		moves = append(moves, move{whats[r.IntN(len(whats))], r.IntN(12), []string{"15", "16", "17"}[r.IntN(3)]})
	}
	return moves
}

// playsVariable is how many random plays there are. Default 60, under the race
// detector 10.
const playsVariable = "ROLLFORWARD_TEST_PLAYS"

// Drift is judged by what was so when it was observed: when the handler comes to it
// makes no difference.
func TestWhatIsFoundDoesNotDependOnWhenItIsLookedFor(t *testing.T) {
	plays := 60
	if race.Enabled {
		plays = 10
	}
	if text := os.Getenv(playsVariable); text != "" {
		var err error
		plays, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	some, named := 0, 0
	for n := range plays {
		moves := random(r)
		want := play(t, moves, 1)
		require.Equal(t, want, play(t, moves, 0), "seed %d, play %d: %+v", seed, n, moves)
		require.Equal(t, want, play(t, moves, 4), "seed %d, play %d: %+v", seed, n, moves)
		some += len(want)
		for _, text := range want {
			if strings.Contains(text, "plan ") {
				named++
			}
		}
	}
	t.Logf("seed %d: in %d plays %d were found, %d of them beside a change that was near", seed, plays, some, named)
	require.NotZero(t, named)
}

// The property must be able to fail: it does where changes are judged as they are when
// the handler comes to the event.
func TestDriftThatIsJudgedByThePresentDependsOnWhenItIsLookedFor(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	const most = 300
	for n := range most {
		moves := random(r)
		if !slices.Equal(play(t, moves, 1, automation.AsNow), play(t, moves, 0, automation.AsNow)) {
			t.Logf("seed %d: play %d differs", seed, n)
			return
		}
	}
	require.Fail(t, "none differs", "of %d, seed %d", most, seed)
}
