package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/pgtest"
	"github.com/rollforward/rollforward/internal/storefor"
)

// The program runs as one of the commands of the scripts below.
func TestMain(m *testing.M) {
	testscript.Main(storefor.Tests{M: m}, map[string]func(){"openstack": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: filepath.Join("testdata", "script"), Setup: func(env *testscript.Env) error {
		return unpack(filepath.Join("testdata", "small.txtar"), env.WorkDir)
	}})
}

// unpack writes the files of a small history, which has of everything that is odd
// in the real one, and more, below a folder.
func unpack(archive, folder string) error {
	a, err := txtar.ParseFile(archive)
	if err != nil {
		return err
	}
	return txtar.Write(a, folder)
}

// small unpacks the small history and returns its folder.
func small(t *testing.T) string {
	folder := t.TempDir()
	require.NoError(t, unpack(filepath.Join("testdata", "small.txtar"), folder))
	return filepath.Join(folder, "data")
}

func played(t *testing.T, o options) (page, errs string) {
	var out, e bytes.Buffer
	if o.atOnce == 0 {
		o.atOnce = atOnce
	}
	require.NoError(t, play(t.Context(), o, &out, &e))
	return out.String(), e.String()
}

func TestASecondRunOnAFileAppendsNothingAndPrintsTheSame(t *testing.T) {
	data := small(t)
	inMemory, errs := played(t, options{data: data})
	require.Contains(t, errs, "events/s")
	file := filepath.Join(t.TempDir(), "openstack.db")
	first, errs := played(t, options{data: data, file: file})
	require.Regexp(t, `appends; the same bytes by the driver alone .* times as long`, errs)
	require.Equal(t, inMemory, first)
	second, errs := played(t, options{data: data, file: file})
	require.Equal(t, first, second)
	require.Contains(t, errs, "nothing was appended")
	left, err := filepath.Glob(file + ".*")
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestThePageIsTheSameHoweverManyEntriesAreTakenAtOnce(t *testing.T) {
	data := small(t)
	one, _ := played(t, options{data: data, atOnce: 1})
	for _, n := range []int{2, 3, 8, 64} {
		for range 5 {
			several, errs := played(t, options{data: data, atOnce: n})
			require.Equal(t, one, several)
			require.Contains(t, errs, fmt.Sprintf("%d at once", n))
		}
	}
}

// failing is a store on which appends fail from some number on.
type failing struct {
	eventstore.Store
	left atomic.Int64
}

var errFull = errors.New("disk full")

func (s *failing) Append(ctx context.Context, events []eventstore.Event, expect ...eventstore.Expect) ([]eventstore.Recorded, error) {
	if s.left.Add(-1) < 0 {
		return nil, eventstore.NotApplied(errFull)
	}
	return s.Store.Append(ctx, events, expect...)
}

// A replay that fails says where, and ends with all that was under way.
func TestAReplayThatFailsSaysWhereAndCanBeRunAgain(t *testing.T) {
	data := small(t)
	want, _ := played(t, options{data: data})
	for _, n := range []int{1, 16} {
		t.Run(fmt.Sprint(n, " at once"), func(t *testing.T) {
			h, err := readHistory(data, 0)
			require.NoError(t, err)
			store, where := &failing{Store: memory.New()}, 0
			for appends := int64(12); ; appends += 3 {
				store.left.Store(appends)
				var out bytes.Buffer
				err := onStore(t.Context(), store, h, newAgenda(h), options{atOnce: n}, &out, io.Discard)
				if err == nil {
					require.Equal(t, want, out.String())
					require.NotZero(t, where)
					return
				}
				require.ErrorIs(t, err, errFull)
				if strings.Contains(err.Error(), "line ") { // else it failed before the first
					where++
				}
				require.Empty(t, out.String())
			}
		})
	}
}

// A run that was broken off goes on where it ended.
func TestARunGoesOnWhereAnotherWasBrokenOff(t *testing.T) {
	data := small(t)
	whole, _ := played(t, options{data: data})
	file := filepath.Join(t.TempDir(), "openstack.db")
	table := filepath.Join(data, "release_changes.csv")
	text, err := os.ReadFile(table)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	require.NoError(t, os.WriteFile(table, []byte(strings.Join(lines[:1], "")+lines[9]), 0o644)) // the row that comes first in time
	played(t, options{data: data, file: file})
	require.NoError(t, os.WriteFile(table, text, 0o644))
	rest, _ := played(t, options{data: data, file: file})
	require.Equal(t, whole, rest)
}

func TestAFileBesideTheLogIsNotOverwritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "openstack.db")
	require.NoError(t, os.WriteFile(file+".driver", []byte("somebody's"), 0o644))
	err := play(t.Context(), options{data: small(t), file: file}, &bytes.Buffer{}, &bytes.Buffer{})
	require.ErrorContains(t, err, "is there already")
	kept, err := os.ReadFile(file + ".driver")
	require.NoError(t, err)
	require.Equal(t, "somebody's", string(kept))
}

func TestADatabaseGivesTheSamePageAndASecondRunAppendsNothing(t *testing.T) {
	data := small(t)
	inMemory, _ := played(t, options{data: data})
	dsn := pgtest.Database(t)
	first, errs := played(t, options{data: data, dsn: dsn})
	require.Contains(t, errs, "events/s")
	require.Equal(t, inMemory, first)
	second, errs := played(t, options{data: data, dsn: dsn})
	require.Equal(t, first, second)
	require.Contains(t, errs, "nothing was appended")
}
