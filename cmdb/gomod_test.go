package cmdb_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
)

func readTestdata(t testing.TB, name string) string {
	b, err := os.ReadFile("testdata/gomod/" + name)
	require.NoError(t, err)
	return string(b)
}

func TestTheModulesOfABuildAreObserved(t *testing.T) {
	observed, err := cmdb.GoModules(strings.NewReader(readTestdata(t, "list.json")), strings.NewReader(readTestdata(t, "graph.txt")))
	require.NoError(t, err)
	on := func(paths ...string) []cmdb.ObservedRelation {
		var all []cmdb.ObservedRelation
		for _, p := range paths {
			all = append(all, cmdb.ObservedRelation{Relation: "depends on", To: "example.org/" + p})
		}
		return all
	}
	require.Equal(t, []cmdb.ObservedItem{
		{Key: "example.org/shop", CI: "go:example.org/shop", Class: "go-module",
			Attributes: map[string]string{"name": "example.org/shop", "path": "example.org/shop", "main": "true", "go_version": "1.26"},
			Relations:  on("cart", "log/v2", "local", "money")},
		{Key: "example.org/cart", CI: "go:example.org/cart", Class: "go-module",
			Attributes: map[string]string{"name": "example.org/cart", "path": "example.org/cart", "version": "v1.4.0", "go_version": "1.24"},
			Relations:  on("money")},
		{Key: "example.org/money", CI: "go:example.org/money", Class: "go-module",
			Attributes: map[string]string{"name": "example.org/money", "path": "example.org/money", "version": "v0.9.1", "indirect": "true", "deprecated": "use example.org/cash"},
			Relations:  on("log/v2")},
		{Key: "example.org/log/v2", CI: "go:example.org/log/v2", Class: "go-module",
			Attributes: map[string]string{"name": "example.org/log/v2", "path": "example.org/log/v2", "version": "v2.0.3", "replaced": "example.org/fork/log/v2@v2.0.4"}},
		{Key: "example.org/local", CI: "go:example.org/local", Class: "go-module",
			Attributes: map[string]string{"name": "example.org/local", "path": "example.org/local", "version": "v0.0.0", "replaced": "../local"}},
	}, observed.Items)

	alone, err := cmdb.GoModules(strings.NewReader(readTestdata(t, "list.json")), nil)
	require.NoError(t, err)
	require.Len(t, alone.Items, 5)
	require.Empty(t, alone.Items[0].Relations)
}

func TestABuildIsImportedAndUpgraded(t *testing.T) {
	h := start(t)
	list, graph := readTestdata(t, "list.json"), readTestdata(t, "graph.txt")
	load := func(list, graph string) cmdb.Imported {
		observed, err := cmdb.GoModules(strings.NewReader(list), strings.NewReader(graph))
		require.NoError(t, err)
		done, err := h.Import(t.Context(), ann, "go", observed, cmdb.ImportOptions{Vanished: cmdb.VanishedRetire})
		require.NoError(t, err)
		require.Empty(t, done.Skipped)
		return done
	}
	require.Equal(t, 5, load(list, graph).Added)
	require.Zero(t, load(list, graph).Events)
	impact, err := h.Impact(t.Context(), "go:example.org/log/v2", cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, []string{"1 go:example.org/money", "1 go:example.org/shop", "2 go:example.org/cart"}, reached(impact))

	// money is no longer replaced by anything old: the new one needs nothing.
	list = strings.Replace(list, `"v0.9.1"`, `"v0.10.0"`, 1)
	list = strings.Replace(list, `,
	"Replace": {
		"Path": "example.org/fork/log/v2",
		"Version": "v2.0.4"
	}`, "", 1)
	graph = strings.Replace(graph, "shop example.org/money@v0.9.1", "shop example.org/money@v0.10.0", 1)
	require.Equal(t, 2, load(list, graph).Changed)
	require.Equal(t, "v0.10.0", h.attributes(t, "go:example.org/money")["version"])
	require.NotContains(t, h.attributes(t, "go:example.org/log/v2"), "replaced")
	impact, err = h.Impact(t.Context(), "go:example.org/log/v2", cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, []string{"1 go:example.org/shop"}, reached(impact))
}

func TestModulesThatCannotBeReadAreAnErrorWithTheirLine(t *testing.T) {
	good := readTestdata(t, "list.json")
	for name, c := range map[string]struct{ list, graph, reason string }{
		"nothing":                      {"", "", "list of modules: line 1: there are no modules"},
		"no JSON":                      {"{}\n\nmodules", "", "list of modules: line 1"},
		"JSON that breaks off":         {good + "{\n\"Path\":", "", "line 36"},
		"a list in one":                {"[" + good + "]", "", "line 1"},
		"no path":                      {good + "{\"Version\": \"v1.0.0\"}", "", `line 36: "" is no module's path`},
		"a path with a version":        {"{\"Path\": \"a@v1\"}", "", `line 1: "a@v1" is no module's path`},
		"a path too long":              {"{\"Path\": \"" + strings.Repeat("a", 300) + "\"}", "", "line 1: the ID of a CI has at most"},
		"a module twice":               {good + "\n\n{\"Path\": \"example.org/cart\"}", "", `line 38: module "example.org/cart" stands twice`},
		"one that could not be loaded": {"{\"Path\": \"a\", \"Error\": {\"Err\": \"no network\"}}", "", `line 1: the go command could not load "a": no network`},
		"a wrong type":                 {"{\"Path\": 7}", "", "line 1"},
		"one word in a line":           {good, "\nexample.org/shop\n", "graph of modules: line 2: it has 1 words"},
		"three words in a line":        {good, "a b c", "line 1: it has 3 words"},
		"an empty version":             {good, "example.org/shop example.org/cart@", `line 1: "example.org/cart@" is no module`},
		"no path before a version":     {good, "example.org/shop @v1", "line 1"},
		"a module that is not listed":  {good, "example.org/shop go@1.26\nexample.org/shop example.org/other@v1", `line 2: module "example.org/other" is not in the list`},
		"a line that does not end":     {good, "a b\n" + strings.Repeat("x", 100_000), "line 2: bufio.Scanner: token too long"},
	} {
		_, err := cmdb.GoModules(strings.NewReader(c.list), strings.NewReader(c.graph))
		require.ErrorContains(t, err, c.reason, name)
	}
	broken := errors.New("pipe broke")
	_, err := cmdb.GoModules(iotest.ErrReader(broken), nil)
	require.ErrorIs(t, err, broken)
	_, err = cmdb.GoModules(strings.NewReader(good), iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}

// The modules of this very repository, as the go command says.
func TestTheModulesOfThisRepositoryAreImported(t *testing.T) {
	run := func(args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		out, err := cmd.Output()
		if err != nil {
			t.Skipf("go %s: %v: modules that no build of this repository needs have to be downloaded for it: allow the network", strings.Join(args, " "), err)
		}
		return out
	}
	list, graph := run("list", "-m", "-json", "all"), run("mod", "graph")
	observed, err := cmdb.GoModules(bytes.NewReader(list), bytes.NewReader(graph))
	require.NoError(t, err)
	h := start(t)
	done, err := h.Import(t.Context(), ann, "go", observed, cmdb.ImportOptions{})
	require.NoError(t, err)
	require.Empty(t, done.Skipped)
	require.Equal(t, len(observed.Items), done.Added)
	impact, err := h.Impact(t.Context(), "go:github.com/google/uuid", cmdb.Down)
	require.NoError(t, err)
	require.Contains(t, reached(impact), "1 go:github.com/rollforward/rollforward")
}

func FuzzGoModules(f *testing.F) {
	f.Add(readTestdata(f, "list.json"), readTestdata(f, "graph.txt"))
	f.Add("{\"Path\": \"a\"}", "a b@v1")
	f.Fuzz(func(t *testing.T, list, graph string) {
		observed, err := cmdb.GoModules(strings.NewReader(list), strings.NewReader(graph))
		if err != nil {
			require.Contains(t, err.Error(), "line ")
			return
		}
		keys := map[string]bool{}
		for _, item := range observed.Items {
			require.False(t, keys[item.Key])
			keys[item.Key] = true
			require.NoError(t, cmdb.CheckID(item.CI))
		}
		for _, item := range observed.Items {
			for _, r := range item.Relations {
				require.True(t, keys[r.To])
			}
		}
	})
}
