// Package house holds what must be true of the house as a whole: who imports
// whom, which modules a room may pull in, and how long its index is.
package house_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/rollforward/rollforward"

// arrows says which of our packages each room may import, itself and what lies
// below it always included; "x/..." is x and all below it. A room that is not
// listed may not exist. Tests may import anything.
var arrows = map[string][]string{
	"eventstore":                          {},
	"eventstore/memory":                   {"eventstore", "internal/wake"},
	"eventstore/sqlite":                   {"eventstore", "internal/wake"},
	"eventstore/postgres":                 {"eventstore", "internal/wake"},
	"eventstore/storetest":                {"eventstore"},
	"eventstore/follow":                   {"eventstore", "internal/wake"},
	"eventstore/archive":                  {"eventstore"},
	"eventstore/spec":                     {"eventstore", "eventstore/archive", "eventstore/memory"}, // histories in tests are held in memory
	"eventstore/command":                  {"eventstore"},
	"eventstore/relay":                    {"eventstore", "eventstore/command"},
	"eventstore/relay/cloudevents":        {"eventstore", "eventstore/relay"},
	"eventstore/relay/driven":             {"eventstore", "eventstore/follow", "eventstore/relay", "internal/wake"},
	"eventstore/telemetry":                {"eventstore/..."},
	"eventstore/process":                  {"eventstore", "eventstore/command", "eventstore/relay"},
	"eventstore/examples/lending":         {"eventstore/..."},
	"eventstore/examples/lending/library": {"eventstore"},
	"cmdb":                                {"eventstore/..."},
	"internal/workflow":                   {"eventstore/..."},
	"internal/workflow/workflowtest":      {"internal/workflow"},
	"change":                              {"cmdb", "internal/workflow", "eventstore/..."},
	"change/risk":                         {"change", "cmdb", "eventstore/..."},
	"change/schedule":                     {"change", "cmdb", "eventstore/..."},
	"change/notify":                       {"change", "cmdb", "eventstore/..."},
	"change/automation":                   {"change", "cmdb", "eventstore/..."},
	"release":                             {"change", "cmdb", "internal/workflow", "eventstore/..."},
	"audit":                               {"change/...", "release", "cmdb", "internal/workflow", "eventstore/..."},
	"rollforwardtest":                     {"...", ""},
	"":                                    {"audit", "change/...", "release", "cmdb", "eventstore/...", "internal/..."},
	"internal/wake":                       {},
	"internal/bench":                      {"eventstore/..."},
	"internal/disorder":                   {},
	"internal/fixture":                    {},
	"internal/pgtest":                     {},
	"internal/pgtest/withpg":              {"internal/pgtest"},
	"internal/race":                       {},
	"internal/storefor":                   {"eventstore/...", "internal/pgtest"},
	"internal/tally":                      {},
	"internal/timing":                     {},
	"internal/house":                      {},
}

// modules says which modules the rooms that everybody links may pull in,
// directly or not.
var modules = map[string][]string{
	"eventstore":         {"github.com/google/uuid", "github.com/go-json-experiment/json"},
	"eventstore/memory":  {"github.com/google/uuid", "github.com/go-json-experiment/json"},
	"eventstore/follow":  {"github.com/google/uuid", "github.com/go-json-experiment/json"},
	"eventstore/archive": {"github.com/google/uuid", "github.com/go-json-experiment/json"},
	"eventstore/command": {"github.com/google/uuid", "github.com/go-json-experiment/json"},
	"internal/workflow":  {"github.com/google/uuid", "github.com/go-json-experiment/json"},
	"cmdb":               {"github.com/google/uuid", "github.com/go-json-experiment/json", "github.com/cockroachdb/apd/v3"},
	"change":             {"github.com/google/uuid", "github.com/go-json-experiment/json", "github.com/cockroachdb/apd/v3"},
	"release":            {"github.com/google/uuid", "github.com/go-json-experiment/json", "github.com/cockroachdb/apd/v3"},

	// Watermill's router, and of OpenTelemetry the API: which SDK there is, the program says.
	"eventstore/relay": watermill,
	"eventstore/telemetry": append([]string{
		"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/trace", "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/log",
		"go.opentelemetry.io/auto/sdk", "github.com/go-logr/logr", "github.com/go-logr/stdr", "github.com/cespare/xxhash/v2",
	}, watermill...),
}

var watermill = []string{
	"github.com/google/uuid", "github.com/go-json-experiment/json", "github.com/ThreeDotsLabs/watermill",
	"github.com/lithammer/shortuuid/v3", "github.com/oklog/ulid", "github.com/pkg/errors",
}

// engines are the stores that only a program names.
var engines = []string{"eventstore/memory", "eventstore/sqlite", "eventstore/postgres", "eventstore/jetstream"}

type listed struct {
	ImportPath, Name string
	Imports, Deps    []string
	Module           *struct{ Path string }
	Standard         bool
}

func list(t *testing.T, args ...string) []listed {
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Imports,Deps,Module,Standard"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := dec.Decode(&p)
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}

// room returns the path of one of our packages within the module.
func room(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func allowed(from, to string, rules []string) bool {
	if from == to || from != "" && strings.HasPrefix(to, from+"/internal/") {
		return true
	}
	return slices.ContainsFunc(rules, func(rule string) bool {
		below, wild := strings.CutSuffix(rule, "...")
		below = strings.TrimSuffix(below, "/")
		return rule == to || wild && (below == "" || to == below || strings.HasPrefix(to, below+"/"))
	})
}

func TestEveryRoomImportsOnlyWhatItMay(t *testing.T) {
	for _, p := range list(t, "./...") {
		from, ok := room(p.ImportPath)
		require.True(t, ok)
		rules, known := arrows[from]
		if !known && (strings.HasPrefix(from, "examples/") || from == "examples") {
			rules, known = []string{"...", ""}, true
		}
		require.True(t, known, "%q is no room of the house: say in arrows what it may import", from)
		for _, imported := range p.Imports {
			to, ours := room(imported)
			if !ours {
				continue
			}
			require.True(t, allowed(from, to, rules), "%q imports %q, and may import only %q", from, to, rules)
			if to == "" {
				require.True(t, strings.HasPrefix(from, "examples/") || from == "rollforwardtest", "%q imports the root, which only programs do", from)
			}
			if slices.Contains(engines, to) {
				require.True(t, p.Name == "main" || from == "eventstore/spec" || from == "internal/storefor" || from == "rollforwardtest", "%q names the store %q: only programs choose an engine", from, to)
			}
		}
	}
}

func TestRoomsThatEverybodyLinksPullInNothingHeavy(t *testing.T) {
	for from, may := range modules {
		for _, p := range list(t, "-deps", "./"+from) {
			if p.Standard || p.Module == nil || p.Module.Path == module {
				continue
			}
			require.Contains(t, may, p.Module.Path, "%q pulls in %s", from, p.ImportPath)
		}
	}
}

// The check must be able to fail.
func TestTheArrowsAreSharp(t *testing.T) {
	require.True(t, allowed("change", "eventstore/follow", arrows["change"]))
	require.True(t, allowed("rollforwardtest", "", arrows["rollforwardtest"]))
	require.False(t, allowed("eventstore", "eventstore/memory", arrows["eventstore"]))
	require.False(t, allowed("eventstore", "change", arrows["eventstore"]))
	require.False(t, allowed("cmdb", "change", arrows["cmdb"]))
	require.False(t, allowed("change", "release", arrows["change"]))
	require.False(t, allowed("change", "change/risk", arrows["change"]))
	require.False(t, allowed("release", "changes", arrows["release"]))
	require.False(t, allowed("change/risk", "eventstored", arrows["change/risk"]))
	require.False(t, allowed("audit", "", arrows["audit"]))
}

// An index that fits on a screen is one that people read.
func TestTheIndexOfEveryPackageIsShort(t *testing.T) {
	const most = 40                                                    // lines
	exempt := []string{"cmdb", "change", "change/schedule", "release"} // payloads and commands make them long
	for _, p := range list(t, "./...") {
		from, _ := room(p.ImportPath)
		if p.Name == "main" || slices.Contains(exempt, from) || path.Base(from) == "house" {
			continue
		}
		cmd := exec.Command("go", "doc", "-short", p.ImportPath)
		cmd.Dir = "../.."
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.LessOrEqual(t, strings.Count(string(out), "\n"), most, "go doc -short %s", p.ImportPath)
	}
}
