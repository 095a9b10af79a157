//go:build linux

package sqlite_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// call is what a traced process did to a file of its folder, or said.
type call struct {
	kind   string // "open", "write", "truncate", "syncing", "sync", "failed sync", "unlink"; "say"
	name   string // of the file in the folder, "" for the folder itself
	fd     int
	offset int64 // of a write; the size of a truncate
	data   []byte
	fresh  bool   // of an open: with O_TRUNC
	id     string // of a sync: what tells its begin and its end from others
}

// traced is all the calls that matter. A ? stands before those that not every
// architecture has.
const traced = "trace=?open,openat,?creat,write,writev,pwrite64,pwritev,?pwritev2,ftruncate,fsync,fdatasync,?unlink,unlinkat,?rename,?renameat,renameat2,fallocate,msync,sync_file_range"

// strace runs an errand on the file at path under strace and returns what it did, and
// how many calls were made to fail, as inject says in the words of strace's -e
// ("inject=fsync:error=EIO:when=3").
//
// A call stands where it came to its end, so that an fsync stands behind the writes it
// covers; what the process said stands where it began to say it.
func strace(t testing.TB, e errand, path string, inject ...string) (calls []call, injected int) {
	t.Helper()
	needStrace(t)
	file := filepath.Join(t.TempDir(), "trace")
	args := []string{"strace", "-f", "--seccomp-bpf", "-y", "-s", "4194304", "-xx", "-o", file, "-e", traced, "-e", "signal=none"}
	for _, i := range inject {
		args = append(args, "-e", i)
	}
	e.start(t, path, args...)
	trace, err := os.Open(file)
	require.NoError(t, err)
	defer trace.Close()
	calls, injected, err = parseTrace(trace, filepath.Dir(path))
	require.NoError(t, err)
	require.NoError(t, os.Remove(file))
	return calls, injected
}

// straceFaults runs an errand in which some of the calls on the files of the store are
// made to fail, and returns only what it said.
func straceFaults(t testing.TB, e errand, path, calls, fault string) (said []call, injected int) {
	t.Helper()
	needStrace(t)
	file := filepath.Join(t.TempDir(), "trace")
	said = e.start(t, path, "strace", "-f", "--seccomp-bpf", "-s", "0", "-o", file, "-e", "signal=none",
		"-e", "trace="+calls, "-e", "inject="+calls+":"+fault, "-P", path, "-P", path+"-wal", "-P", path+"-shm", "-P", path+"-journal")
	trace, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.Remove(file))
	return said, bytes.Count(trace, []byte("(INJECTED)"))
}

// start runs an errand to its end, by a program or by itself, and returns what it said.
func (e errand) start(t testing.TB, path string, by ...string) (said []call) {
	t.Helper()
	command := append(by, os.Args[0])
	cmd := exec.Command(command[0], command[1:]...)
	// Signals by which Go takes a thread off its work would only fill a trace.
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", errandVariable+"="+e.String(), pathVariable+"="+path)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	require.NoError(t, cmd.Run(), "%s\n%s", failed.Bytes(), out.Bytes())
	for line := range strings.Lines(out.String()) {
		said = append(said, call{kind: "say", data: []byte(line)})
	}
	return said
}

// needStrace skips the test where programs cannot be traced.
func needStrace(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("install strace: without it what a process does to its files is not seen")
	}
	if out, err := exec.Command("strace", "-f", "--seccomp-bpf", "-e", "trace=fsync", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("the system does not let strace trace a process: %v: %s", err, out)
	}
}

// parseTrace reads what strace wrote of a process that worked in dir.
func parseTrace(trace *os.File, dir string) (calls []call, injected int, err error) {
	begun := map[string]string{} // by thread: the call that it is in
	lines := bufio.NewScanner(trace)
	lines.Buffer(nil, 64<<20)
	for n := 1; lines.Scan(); n++ {
		thread, text, _ := strings.Cut(lines.Text(), " ")
		text = strings.TrimLeft(text, " ")
		if strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") || strings.HasPrefix(text, "???") {
			continue // an end, a signal, or a thread that ended before strace knew what it called
		}
		id := fmt.Sprint(thread, ":", n)
		if strings.HasSuffix(text, "(INJECTED)") {
			injected++
		}
		var c call
		start, half := strings.CutSuffix(text, " <unfinished ...>")
		switch {
		case half:
			begun[thread] = id + "\x00" + start
			c, err = parseCall(start, dir, true)
		case strings.HasPrefix(text, "<... "):
			_, rest, ok := strings.Cut(text, " resumed>")
			before, found := begun[thread]
			if !ok || !found {
				return nil, 0, fmt.Errorf("line %d: nothing is resumed: %.200s", n, text)
			}
			delete(begun, thread)
			id, start, _ = strings.Cut(before, "\x00")
			if c, err = parseCall(start+rest, dir, false); c.kind == "say" {
				c = call{}
			}
		default:
			if c, err = parseCall(text, dir, false); c.kind == "sync" || c.kind == "failed sync" {
				calls = append(calls, call{kind: "syncing", name: c.name, fd: c.fd, id: id})
			}
		}
		if err != nil {
			return nil, 0, fmt.Errorf("line %d: %w: %.200s", n, err, text)
		}
		if c.kind != "" {
			c.id = id
			calls = append(calls, c)
		}
	}
	return calls, injected, lines.Err()
}

// parseCall reads one call, whole, or only as far as it stood when it began. Calls
// that failed, and those on other files, are none.
func parseCall(text, dir string, begin bool) (c call, err error) {
	name, rest, ok := strings.Cut(text, "(")
	if !ok {
		return c, fmt.Errorf("no call")
	}
	args, result := rest, "0"
	if !begin {
		end := strings.Index(rest, ")") // every string in it is in hexadecimal
		if end < 0 {
			return c, fmt.Errorf("no end")
		}
		args, result = rest[:end], strings.TrimLeft(rest[end+1:], " =")
	}
	fields := strings.Split(args, ", ")
	failed := strings.HasPrefix(result, "-1 ") || strings.HasPrefix(result, "?")
	switch name {
	case "open", "openat", "creat":
		if begin || failed {
			return call{}, nil
		}
		fd, path, err := descriptor(result)
		if err != nil || !inside(path, dir) {
			return call{}, err
		}
		return call{kind: "open", name: nameIn(path, dir), fd: fd, fresh: strings.Contains(args, "O_TRUNC") || name == "creat"}, nil
	case "unlink", "unlinkat":
		if begin || failed {
			return call{}, nil
		}
		quotedAt := 0
		if name == "unlinkat" {
			quotedAt = 1
		}
		path, err := unquote(fields[quotedAt])
		if err != nil || !inside(string(path), dir) {
			return call{}, err
		}
		return call{kind: "unlink", name: nameIn(string(path), dir)}, nil
	case "write":
		fd, path, err := descriptor(fields[0])
		if err != nil || fd != 1 && !inside(path, dir) {
			return call{}, err
		}
		if inside(path, dir) {
			return c, fmt.Errorf("a write without an offset is not understood")
		}
		data, err := unquote(fields[1])
		return call{kind: "say", data: data}, err
	}
	fd, path, err := descriptor(fields[0])
	if err != nil || !inside(path, dir) {
		return call{}, err
	}
	c = call{name: nameIn(path, dir), fd: fd}
	switch name {
	case "pwrite64":
		if begin || failed {
			return call{}, nil
		}
		c.kind = "write"
		if c.data, err = unquote(fields[1]); err != nil {
			return c, err
		}
		if c.offset, err = strconv.ParseInt(fields[3], 10, 64); err != nil {
			return c, err
		}
		written, err := strconv.Atoi(strings.Fields(result)[0])
		if err != nil || written > len(c.data) {
			return c, fmt.Errorf("written: %q of %d bytes: %v", result, len(c.data), err)
		}
		if c.data = c.data[:written]; written == 0 {
			c = call{}
		}
	case "ftruncate":
		if begin || failed {
			return call{}, nil
		}
		c.kind = "truncate"
		c.offset, err = strconv.ParseInt(fields[1], 10, 64)
	case "fsync", "fdatasync":
		switch {
		case begin:
			c.kind = "syncing"
		case failed:
			c.kind = "failed sync"
		default:
			c.kind = "sync"
		}
	default:
		return c, fmt.Errorf("a call that is not understood")
	}
	return c, err
}

// descriptor reads 8<\x2f\x74\x6d\x70>, what strace -y prints for a descriptor.
func descriptor(text string) (fd int, path string, err error) {
	number, rest, ok := strings.Cut(text, "<")
	if fd, err = strconv.Atoi(number); err != nil {
		return 0, "", err
	}
	if !ok {
		return fd, "", nil
	}
	quoted, mark, _ := strings.Cut(rest, ">")
	if strings.Contains(mark, "deleted") {
		return 0, "", fmt.Errorf("a file without a name")
	}
	b, err := unquote(`"` + quoted + `"`)
	return fd, string(b), err
}

// unquote reads "\x2f\x74", as strace prints strings with -xx.
func unquote(text string) ([]byte, error) {
	text, opened := strings.CutPrefix(text, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	if !opened || !closed {
		return nil, fmt.Errorf("a string that was cut short: %.40q", text)
	}
	if !strings.HasPrefix(text, `\x`) { // the name of a pipe
		return []byte(text), nil
	}
	return hex.DecodeString(strings.ReplaceAll(text, `\x`, ""))
}

func inside(path, dir string) bool {
	return (path == dir || strings.HasPrefix(path, dir+"/")) && !strings.HasSuffix(path, "-shm")
}

func nameIn(path, dir string) string { return strings.TrimPrefix(strings.TrimPrefix(path, dir), "/") }
