package archive_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/internal/race"
)

// damage reads file to its end or error. Every error must be one that the
// package names.
func damage(t testing.TB, file []byte) error {
	t.Helper()
	_, err := archive.Check(bytes.NewReader(file))
	if err == nil {
		return nil
	}
	var line *archive.LineError
	require.ErrorAs(t, err, &line)
	named := 0
	for _, kind := range []error{
		archive.ErrTruncated, archive.ErrMalformed, archive.ErrAltered,
		eventstore.ErrInvalid, eventstore.ErrTooLarge, eventstore.ErrNewerFormat,
	} {
		if errors.Is(err, kind) {
			named++
		}
	}
	require.Equal(t, 1, named, "%v", err)
	return err
}

func TestACutIsNoticedAtEveryByte(t *testing.T) {
	file := export(t, library(t))
	for n := range file {
		err := damage(t, file[:n])
		require.ErrorIs(t, err, archive.ErrTruncated, "cut to %d bytes", n)
		says := "within this line"
		if n == 0 || file[n-1] == '\n' {
			says = "is missing"
		}
		require.ErrorContains(t, err, says, "cut to %d bytes", n)
	}
}

func TestAChangeIsNoticedAtEveryByteAtFullSize(t *testing.T) {
	file := export(t, library(t))
	flips := []byte{1, 32, 2, 4, 8, 16, 64, 128, 0x2a}
	if race.Enabled {
		flips = flips[:2]
	}
	for n := range file {
		for _, flip := range flips {
			other := bytes.Clone(file)
			other[n] ^= flip
			require.Error(t, damage(t, other), "byte %d is %q instead of %q", n, other[n], file[n])
		}
		require.Error(t, damage(t, append(bytes.Clone(file[:n]), file[n+1:]...)), "without byte %d", n)
		require.Error(t, damage(t, append(append(bytes.Clone(file[:n]), ' '), file[n:]...)), "a space before byte %d", n)
	}
}

func TestAMissingDoubledOrMovedLineIsNoticed(t *testing.T) {
	lines := bytes.SplitAfter(export(t, library(t)), []byte("\n"))
	lines = lines[:len(lines)-1]
	join := func(lines ...[]byte) []byte { return bytes.Join(lines, nil) }
	for i := range lines {
		rest := append(append([][]byte{}, lines[:i]...), lines[i+1:]...)
		require.Error(t, damage(t, join(rest...)), "without line %d", i+1)
		twice := append(append(append([][]byte{}, lines[:i+1]...), lines[i]), lines[i+1:]...)
		require.Error(t, damage(t, join(twice...)), "line %d twice", i+1)
		if i < len(lines)-1 {
			require.Error(t, damage(t, join(append(rest, lines[i])...)), "line %d last", i+1)
		}
	}
}

// sealed puts a header and a right trailer around lines.
func sealed(lines ...string) []byte {
	b := []byte(`{"format":"rollforward.archive","version":1}` + "\n")
	for _, l := range lines {
		b = append(append(b, l...), '\n')
	}
	return fmt.Appendf(b, `{"end":{"events":%d,"sha256":"%x"}}`+"\n", len(lines), sha256.Sum256(b))
}

const soundLine = `{"id":"0195a1b2-0000-7000-8000-000000000001","stream":"book-42","version":1,"type":"book.added","schema":1,"recorded_at":"2026-03-01T09:00:00.000001Z","data":{"title":"Emma"}}`

func TestALineThatExportDoesNotWriteIsRefused(t *testing.T) {
	require.NoError(t, damage(t, sealed(soundLine)))
	edit := func(old, new string) string {
		require.Equal(t, 1, strings.Count(soundLine, old), old)
		return strings.Replace(soundLine, old, new, 1)
	}
	for _, c := range []struct {
		name, line string
		kind       error
		says       string
	}{
		{"an empty line", "", archive.ErrMalformed, ""},
		{"no object", `[1]`, archive.ErrMalformed, ""},
		{"two values", soundLine + soundLine, archive.ErrMalformed, ""},
		{"unknown field", edit(`,"data"`, `,"color":1,"data"`), archive.ErrMalformed, "color"},
		{"other case", edit(`"stream"`, `"Stream"`), archive.ErrMalformed, "Stream"},
		{"field twice", edit(`"schema":1`, `"schema":1,"schema":1`), archive.ErrMalformed, "schema"},
		{"name twice in a payload", edit(`"title":"Emma"`, `"title":"Emma","title":"Emma"`), archive.ErrMalformed, "title"},
		{"no ID", edit(`"id":"0195a1b2-0000-7000-8000-000000000001",`, ``), archive.ErrMalformed, `"id" is missing`},
		{"no stream", edit(`"stream":"book-42",`, ``), archive.ErrMalformed, `"stream" is missing`},
		{"no version", edit(`"version":1,`, ``), archive.ErrMalformed, `"version" is missing`},
		{"no type", edit(`"type":"book.added",`, ``), archive.ErrMalformed, `"type" is missing`},
		{"no schema", edit(`"schema":1,`, ``), archive.ErrMalformed, `"schema" is missing`},
		{"no time", edit(`"recorded_at":"2026-03-01T09:00:00.000001Z",`, ``), archive.ErrMalformed, `"recorded_at" is missing`},
		{"no data", edit(`,"data":{"title":"Emma"}`, ``), archive.ErrMalformed, `"data" is missing`},
		{"other order", edit(`"version":1,"type":"book.added"`, `"type":"book.added","version":1`), archive.ErrMalformed, "byte 66"},
		{"space", edit(`"version":1`, `"version": 1`), archive.ErrMalformed, "as Export writes it"},
		{"space at the end", soundLine + " ", archive.ErrMalformed, "as Export writes it"},
		{"space behind the data", edit(`"Emma"}`, `"Emma"} `), archive.ErrMalformed, "as Export writes it"},
		{"CR", soundLine + "\r", archive.ErrMalformed, ""},
		{"needless escape", edit(`book-42`, `book\u002d42`), archive.ErrMalformed, "as Export writes it"},
		{"needless text", edit(`"data":{"title":"Emma"}`, `"data_text":"{}"`), archive.ErrMalformed, "as Export writes it"},
		{"data and text", edit(`,"data"`, `,"data_text":"1\n","data"`), archive.ErrMalformed, "as Export writes it"},
		{"empty tags", edit(`"recorded_at"`, `"tags":[],"recorded_at"`), archive.ErrMalformed, "as Export writes it"},
		{"empty metadata", edit(`,"data"`, `,"meta_text":"","data"`), archive.ErrMalformed, "as Export writes it"},
		{"null tags", edit(`"recorded_at"`, `"tags":null,"recorded_at"`), archive.ErrMalformed, "as Export writes it"},
		{"ID in capitals", edit(`0195a1b2`, `0195A1B2`), archive.ErrMalformed, "as Export writes it"},
		{"ID without hyphens", edit(`0195a1b2-0000-7000-8000-000000000001`, `0195a1b2000070008000000000000001`), archive.ErrMalformed, "as Export writes it"},
		{"no such ID", edit(`0195a1b2-0000`, `0195a1b2-zzzz`), archive.ErrMalformed, `"id"`},
		{"ID of zeros", edit(`0195a1b2-0000-7000-8000-000000000001`, `00000000-0000-0000-0000-000000000000`), eventstore.ErrInvalid, "id"},
		{"version as text", edit(`"version":1`, `"version":"1"`), archive.ErrMalformed, "version"},
		{"version as fraction", edit(`"version":1`, `"version":1.0`), archive.ErrMalformed, "version"},
		{"version 0", edit(`"version":1`, `"version":0`), archive.ErrMalformed, "version"},
		{"version too great", edit(`"version":1`, `"version":18446744073709551616`), archive.ErrMalformed, "version"},
		{"negative schema", edit(`"schema":1`, `"schema":-1`), eventstore.ErrInvalid, "schema"},
		{"milliseconds", edit(`00.000001Z`, `00.000Z`), archive.ErrMalformed, "recorded_at"},
		{"another zone", edit(`00.000001Z`, `00.000001+01:00`), archive.ErrMalformed, "recorded_at"},
		{"no such day", edit(`03-01T`, `02-30T`), archive.ErrMalformed, "recorded_at"},
		{"append of nobody", edit(`"recorded_at"`, `"append":"0195a1b2-0000-7000-8000-000000000002","recorded_at"`), archive.ErrMalformed, "append"},
		{"append of zeros", edit(`"recorded_at"`, `"append":"00000000-0000-0000-0000-000000000000","recorded_at"`), archive.ErrMalformed, "append"},
		{"payload too deep", edit(`{"title":"Emma"}`, strings.Repeat("[", 101)+strings.Repeat("]", 101)), eventstore.ErrInvalid, "data"},
		{"payload far too deep", edit(`{"title":"Emma"}`, strings.Repeat("[", 1e6)+strings.Repeat("]", 1e6)), archive.ErrMalformed, ""},
		{"payload too large", edit(`Emma`, strings.Repeat("x", eventstore.MaxData)), eventstore.ErrTooLarge, "data"},
		{"bad UTF-8", edit(`Emma`, "\xff"), archive.ErrMalformed, "UTF-8"},
		{"half a surrogate", edit(`book-42`, `\ud800`), archive.ErrMalformed, ""},
		{"NUL in a name", edit(`book-42`, `\u0000`), eventstore.ErrInvalid, "stream"},
		{"cut and ended", soundLine[:100], archive.ErrMalformed, ""},
		{"a line without end", strings.Repeat("x", 5e6), eventstore.ErrTooLarge, "line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := damage(t, sealed(c.line))
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, "archive line 2: ")
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestAnAppendBeyondTheLimitsIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		data string
		fit  int // so many such events are an append
	}{
		{"events", `{}`, eventstore.MaxEvents},
		{"bytes", `"` + strings.Repeat("x", eventstore.MaxData-1000) + `"`, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lines []string
			first := id("book-42", 1)
			for n := 1; n <= c.fit+1; n++ {
				joined := ""
				if n > 1 {
					joined = fmt.Sprintf(`"append":"%s",`, first)
				}
				lines = append(lines, fmt.Sprintf(`{"id":"%s","stream":"book-42","version":%d,"type":"book.noted","schema":1,%s"recorded_at":"2026-03-01T09:00:00.000001Z","data":%s}`,
					id("book-42", n), n, joined, c.data))
			}
			require.NoError(t, damage(t, sealed(lines[:c.fit]...)))
			err := damage(t, sealed(lines...))
			require.ErrorIs(t, err, eventstore.ErrTooLarge)
			require.ErrorContains(t, err, fmt.Sprintf("archive line %d: append is too large", c.fit+2))
		})
	}
}

func TestTheFirstAndTheLastLineAreJudged(t *testing.T) {
	sound := string(sealed(soundLine))
	for _, c := range []struct {
		name, file string
		line       int
		kind       error
	}{
		{"nothing", "", 1, archive.ErrTruncated},
		{"another file", "PK\x03\x04\n", 1, archive.ErrMalformed},
		{"a byte order mark", "\ufeff" + sound, 1, archive.ErrMalformed},
		{"Windows", strings.ReplaceAll(sound, "\n", "\r\n"), 1, archive.ErrMalformed},
		{"another format", strings.Replace(sound, "rollforward.archive", "other", 1), 1, archive.ErrMalformed},
		{"another format of another version", strings.Replace(sound, `rollforward.archive","version":1}`, `other","version":2}`, 1), 1, archive.ErrMalformed},
		{"version 0", strings.Replace(sound, `"version":1}`, `"version":0}`, 1), 1, archive.ErrMalformed},
		{"version 2", strings.Replace(sound, `"version":1}`, `"version":2,"new":true}`, 1), 1, eventstore.ErrNewerFormat},
		{"more behind", sound + sound, 4, archive.ErrMalformed},
		{"an empty line behind", sound + "\n", 4, archive.ErrMalformed},
		{"wrong number", strings.Replace(sound, `"events":1`, `"events":2`, 1), 3, archive.ErrAltered},
		{"wrong digest", sound[:len(sound)-10] + "abcdef\"}}\n", 3, archive.ErrAltered},
		{"digest in capitals", sound[:len(sound)-10] + "ABCDEF\"}}\n", 3, archive.ErrMalformed},
		{"unknown field in the trailer", strings.TrimSuffix(sound, "}}\n") + ",\"x\":1}}\n", 3, archive.ErrMalformed},
		{"edited", strings.Replace(sound, "Emma", "Anna", 1), 3, archive.ErrAltered},
		{"digest too short", sound[:len(sound)-6] + "\"}}\n", 3, archive.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := damage(t, []byte(c.file))
			require.ErrorIs(t, err, c.kind)
			var line *archive.LineError
			require.ErrorAs(t, err, &line)
			require.Equal(t, c.line, line.Line, "%v", err)
		})
	}
}

func TestAnErrorOfTheReaderIsPassedOn(t *testing.T) {
	broken := errors.New("the network went away")
	file := export(t, library(t))
	n := 0
	for r, err := range archive.Read(io.MultiReader(bytes.NewReader(file[:len(file)/2]), iotest.ErrReader(broken))) {
		if err != nil {
			require.ErrorIs(t, err, broken)
			require.Zero(t, r)
			break
		}
		n++
	}
	require.Positive(t, n, "what came before it is yielded")
	_, err := archive.Check(io.MultiReader(bytes.NewReader(file), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken, "whether there is more behind the trailer is not known")
	_, err = archive.Check(iotest.OneByteReader(bytes.NewReader(file)))
	require.NoError(t, err)
}

func TestAnErrorIsYieldedOnceAndStays(t *testing.T) {
	file := export(t, library(t))
	seq := archive.Read(bytes.NewReader(append(bytes.Clone(file[:len(file)/2]), file...)))
	var first error
	for range 2 {
		var errs []error
		for _, err := range seq {
			if err != nil {
				errs = append(errs, err)
			}
			if len(errs) > 3 {
				break
			}
		}
		require.Len(t, errs, 1)
		if first == nil {
			first = errs[0]
		}
		require.Equal(t, first, errs[0], "nothing is read behind it")
	}
}

func TestAFailureSaysHowFarItCame(t *testing.T) {
	file := export(t, library(t))
	lines := bytes.SplitAfter(file, []byte("\n"))
	cut := bytes.Join(lines[:4], nil)
	summary, err := archive.Check(bytes.NewReader(cut))
	require.ErrorIs(t, err, archive.ErrTruncated)
	require.Equal(t, archive.Summary{Events: 3}, summary)

	s := memory.New()
	summary, err = archive.Import(t.Context(), s, bytes.NewReader(cut))
	require.ErrorIs(t, err, archive.ErrTruncated)
	require.Equal(t, archive.Summary{Events: 3}, summary)
	summary, err = archive.Import(t.Context(), library(t), bytes.NewReader(cut))
	require.ErrorIs(t, err, archive.ErrTruncated, "also where the store has all of it")
	require.Equal(t, archive.Summary{Events: 3}, summary)

	disk := full(100)
	summary, err = archive.Export(t.Context(), &disk, library(t), eventstore.Query{})
	require.ErrorIs(t, err, eventstore.ErrStorageFull)
	require.Equal(t, archive.Summary{Events: 6}, summary)
	disk = full(100 << 10)
	summary, err = archive.Export(t.Context(), &disk, &endless{events: 1 << 40}, eventstore.Query{})
	require.ErrorIs(t, err, eventstore.ErrStorageFull, "it ends when the disk is full, not when the history ends")
	require.Greater(t, summary.Events, 100)
}
