package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

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
