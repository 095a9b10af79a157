package cmdb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxModules = 64 << 20 // bytes of a list of modules
	maxEdge    = 64 << 10 // bytes of a line of a graph
)

// GoModules reads what the go command says of the modules of a build, as an
// observation: list is the output of `go list -m -json all`, graph that of `go
// mod graph`, or nil without relations. The key of a module is its path, its CI
// is "go:" and the path, of class "go-module".
//
// A line of graph counts where it says what a module needs in the version that
// was selected; what it needs is then the selected version of the other, whatever
// version the line asks for. The go command's nodes for Go itself are left out.
// An error names the line.
func GoModules(list, graph io.Reader) (Observation, error) {
	modules, err := readModules(list)
	if err != nil {
		return Observation{}, fmt.Errorf("list of modules: %w", err)
	}
	var observed Observation
	selected := map[string]int{} // index of items, by path
	for _, m := range modules {
		selected[m.Path] = len(observed.Items)
		observed.Items = append(observed.Items, m.item())
	}
	if graph == nil {
		return observed, nil
	}
	if err := readEdges(graph, func(from, to release) error {
		i, ok := selected[from.path]
		if !ok || modules[i].Version != from.version {
			return nil // of a version that was not selected
		}
		if _, ok := selected[to.path]; !ok {
			return fmt.Errorf("module %q is not in the list of modules: make both of the same build", to.path)
		}
		item := &observed.Items[i]
		if r := (ObservedRelation{"depends on", to.path}); to.path != from.path && !slices.Contains(item.Relations, r) {
			item.Relations = append(item.Relations, r)
		}
		return nil
	}); err != nil {
		return Observation{}, fmt.Errorf("graph of modules: %w", err)
	}
	return observed, nil
}

// module is what `go list -m -json` prints of one.
type module struct {
	Path       string
	Version    string
	Main       bool
	Indirect   bool
	GoVersion  string
	Deprecated string
	Replace    *module
	Error      *struct{ Err string }
}

func (m module) item() ObservedItem {
	item := ObservedItem{Key: m.Path, CI: "go:" + m.Path, Class: "go-module", Attributes: map[string]string{AttrName: m.Path, "path": m.Path}}
	set := func(name, text string) {
		if text != "" {
			item.Attributes[name] = text
		}
	}
	set("version", m.Version)
	set("go_version", m.GoVersion)
	set("deprecated", m.Deprecated)
	if m.Main {
		set("main", strconv.FormatBool(true))
	}
	if m.Indirect {
		set("indirect", strconv.FormatBool(true))
	}
	if r := m.Replace; r != nil {
		set("replaced", r.Path)
		if r.Version != "" {
			set("replaced", r.Path+"@"+r.Version)
		}
	}
	return item
}

// readModules reads JSON objects, one after the other.
func readModules(from io.Reader) ([]module, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxModules+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxModules {
		return nil, fmt.Errorf("it has more than %d bytes", maxModules)
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(text))
	line := func() int {
		at := min(int(decoder.InputOffset()), len(text))
		return 1 + bytes.Count(text[:at], []byte{'\n'}) + leading(text[at:])
	}
	var modules []module
	seen := map[string]bool{}
	for {
		at := line()
		value, err := decoder.ReadValue()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line(), err)
		}
		var m module
		err = json.Unmarshal(value, &m)
		switch {
		case err != nil:
		case m.Error != nil:
			err = fmt.Errorf("the go command could not load %q: %s", clip(m.Path), m.Error.Err)
		case m.Path == "" || strings.ContainsAny(m.Path, " @"):
			err = fmt.Errorf("%q is no module's path", clip(m.Path))
		case CheckID("go:"+m.Path) != nil:
			err = CheckID("go:" + m.Path)
		case seen[m.Path]:
			err = fmt.Errorf("module %q stands twice", m.Path)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
		seen[m.Path] = true
		modules = append(modules, m)
	}
	if modules == nil {
		return nil, errors.New("line 1: there are no modules in it")
	}
	return modules, nil
}

// leading counts the line feeds before the first other sign.
func leading(text []byte) int {
	return bytes.Count(text[:len(text)-len(bytes.TrimLeft(text, " \t\r\n"))], []byte{'\n'})
}

// release is a module in one version, as `go mod graph` names it; a main module has none.
type release struct {
	path, version string
}

// readEdges calls f for every line "path@version path@version".
func readEdges(from io.Reader, f func(from, to release) error) error {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, maxEdge)
	line := 0
	for scanner.Scan() {
		line++
		fields := strings.Fields(scanner.Text())
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 {
			return fmt.Errorf("line %d: it has %d words, not a module and one that it needs", line, len(fields))
		}
		var ends [2]release
		for i, field := range fields {
			path, version, ok := strings.Cut(field, "@")
			if path == "" || ok && version == "" {
				return fmt.Errorf("line %d: %q is no module", line, clip(field))
			}
			ends[i] = release{path, version}
		}
		if toolchain(ends[0].path) || toolchain(ends[1].path) {
			continue
		}
		if err := f(ends[0], ends[1]); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("line %d: %w", line+1, err)
	}
	return nil
}

// toolchain reports whether a path is how the go command names Go itself.
func toolchain(path string) bool { return path == "go" || path == "toolchain" }
