package rollforward_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/internal/race"
	"github.com/rollforward/rollforward/internal/storefor"
)

// With these a test binary is a process that raises changes on a store and prints
// their IDs.
const (
	envPlace = "ROLLFORWARD_TEST_RAISE_ON"
	envCount = "ROLLFORWARD_TEST_RAISE_COUNT"
)

// writer does what a child is to do, and reports whether this is one.
func writer() bool {
	place := storefor.Place(os.Getenv(envPlace))
	if place == "" {
		return false
	}
	if err := raiseOn(place, os.Getenv(envCount)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func raiseOn(place storefor.Place, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	store, err := place.Open(context.Background())
	if err != nil {
		return err
	}
	defer store.Close()
	e, err := rollforward.Open(context.Background(), store, rollforward.Config{Authorizer: roles})
	if err != nil {
		return err
	}
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	failed := make(chan error, 32)
	var mu sync.Mutex
	var people sync.WaitGroup
	for range 32 {
		people.Go(func() {
			for range work {
				c, err := e.Changes.Raise(context.Background(), alice, change.Raise{Content: change.Content{Title: "one of many"}})
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Println(c.ID)
				mu.Unlock()
			}
		})
	}
	people.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return e.Close()
	}
}

func TestProcessesThatRaiseOnOneFileLeaveNoGapAtFullSize(t *testing.T) {
	each := 500
	if race.Enabled {
		each = 100
	}
	leaveNoGap(t, storefor.Asked(t, storefor.SQLite), each)
}

func TestProcessesThatRaiseOnOneDatabaseLeaveNoGap(t *testing.T) {
	leaveNoGap(t, storefor.Postgres, 100)
}

func leaveNoGap(t *testing.T, kind storefor.Kind, each int) {
	place := kind.Place(t)
	begin := time.Now()
	var mu sync.Mutex
	ids := map[string]int{}
	var children sync.WaitGroup
	for range 2 {
		children.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), envPlace+"="+string(place), fmt.Sprintf("%s=%d", envCount, each))
			out, err := cmd.Output()
			if err != nil {
				if exit, ok := err.(*exec.ExitError); ok {
					err = fmt.Errorf("%w: %s", err, exit.Stderr)
				}
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
				ids[lines.Text()]++
			}
		})
	}
	children.Wait()
	require.Len(t, ids, 2*each)
	for n := 1; n <= 2*each; n++ {
		require.Equal(t, 1, ids[fmt.Sprintf("CHG-%06d", n)], n)
	}
	t.Logf("2 processes raised %d changes each on %s in %v", each, kind, time.Since(begin).Round(time.Millisecond))
	store, err := place.Open(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	version, err := store.Version(t.Context(), "register-CHG")
	require.NoError(t, err)
	require.EqualValues(t, 2*each, version)
}
