package rollforward_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
	"github.com/rollforward/rollforward/eventstore/relay"
	"github.com/rollforward/rollforward/internal/fixture"
)

// attributes of what the rooms log, so that one thing has one name everywhere.
var attributes = map[string]string{
	"action": "of a command", "actor": "by his ID", "rule": "that refused", "hook": "by name", "panic": "its value", "stack": "of a panic",
	"consumer": "by name, that of a handler", "topic": "that it is given", "token": "of its lease", "after": "a position", "attempt": "from 1", "attempts": "how many",
	"again": "when", "fold": "by name", "snapshot": "by name", "reason": "why it is not used",
	"event": "its ID", "type": "of an event", "stream": "of an event", "position": "of an event", "message": "its UUID", "error": "why",
}

// logged returns what the calls of a logger in a file name, by where: level, text and
// attributes.
func logged(t testing.TB, source any, name string) (found []string, strange []string) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, level := "", f.Sel.Name
		switch x := f.X.(type) {
		case *ast.SelectorExpr:
			of = x.Sel.Name
		case *ast.Ident:
			of = x.Name
		}
		if of != "log" && of != "Logger" && of != "logger" || level != "Info" && level != "Warn" && level != "Error" && level != "Debug" {
			return true
		}
		at := files.Position(call.Pos()).String()
		found = append(found, at)
		for i := 1; i < len(call.Args); i += 2 {
			key, ok := call.Args[i].(*ast.BasicLit)
			if !ok {
				strange = append(strange, at+": an attribute whose name is not written out")
				continue
			}
			if text, _ := strconv.Unquote(key.Value); attributes[text] == "" {
				strange = append(strange, at+": "+text)
			}
		}
		return true
	})
	return found, strange
}

func TestTheRoomsNameWhatTheyLogAlike(t *testing.T) {
	total := 0
	for _, room := range []string{".", "eventstore/command", "eventstore/follow", "eventstore/relay"} {
		files, err := filepath.Glob(filepath.Join(room, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			found, strange := logged(t, nil, file)
			total += len(found)
			require.Empty(t, strange, "attributes that have no meaning in the table of this test")
		}
	}
	t.Logf("%d calls of loggers", total)
	require.Greater(t, total, 10)
	_, strange := logged(t, `package p; func f() { c.Logger.Warn("x", "event", 1, "evnt", 2); log.Error("x", key, 1) }`, "control.go")
	require.Len(t, strange, 2, "the control")
}

func TestNoLogHasWhatIsInAnEvent(t *testing.T) {
	const secret = "hunter2"
	log := &fixture.Lines{}
	e := open(t, memory.New(), func(c *rollforward.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))
	})
	require.NoError(t, e.Handle(onRaised("fail", func(_ context.Context, _ change.Raised, env relay.Envelope) error {
		if env.Attempt == 3 {
			return relay.Permanent(errors.New("no such host"))
		}
		if env.Attempt == 2 {
			panic("no such thing")
		}
		return errors.New("no such person")
	})))
	call := command.Call{Actor: alice, Key: "key-" + secret, Reason: secret}
	_, err := e.Changes.RaiseCall(t.Context(), call, change.Raise{Content: change.Content{Title: secret, Description: secret}})
	require.NoError(t, err)
	_, err = e.Changes.RaiseCall(t.Context(), command.Call{Actor: bob, Reason: secret}, change.Raise{Content: change.Content{Title: secret}})
	require.ErrorIs(t, err, command.ErrDenied)
	require.Eventually(t, func() bool {
		h := e.Status().Handlers[0]
		return len(h.Behind) == 1 && h.Behind[0].Parked
	}, patience, time.Millisecond)
	require.NoError(t, e.Close())
	text := log.String()
	for _, level := range []string{"INFO", "WARN", "ERROR"} {
		require.Contains(t, text, `"level":"`+level+`"`)
	}
	for _, said := range []string{"consumer took its lease", "a delivery failed", "no such person", "no such thing", "an event is parked"} {
		require.Contains(t, text, said)
	}
	watermill := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, "router") || strings.Contains(line, "Router") || strings.Contains(line, "Handler returned error") {
			watermill++
			require.Contains(t, line, `"level":"DEBUG`, "Watermill's own words are for who looks for a fault in it")
		}
	}
	require.NotZero(t, watermill)
	require.NotContains(t, text, secret)
}
