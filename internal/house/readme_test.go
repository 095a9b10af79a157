package house_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func text(t *testing.T, file string) string {
	b, err := os.ReadFile(filepath.Join("../..", file))
	require.NoError(t, err)
	return string(b)
}

// What the README shows is compiled and run: as an example of a package, or as a
// program with a test.
func TestTheCodeInTheReadmeIsTheCodeOfTheExamples(t *testing.T) {
	example := text(t, "eventstore/example_test.go") + text(t, "examples/embed/main.go")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text(t, "README.md"), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		require.Contains(t, example, block[1])
	}
}

// A tool of 60 lines is one that people copy.
func TestTheEmbeddedToolIsShort(t *testing.T) {
	require.LessOrEqual(t, strings.Count(text(t, "examples/embed/main.go"), "\n"), 60)
}

func TestLinksInThePagesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md", "../../CHANGELOG.md") {
		content, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(content), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(page), link[1]))
			require.NoError(t, err, "%s links to %s", page, link[1])
		}
	}
}

// The page on stores speaks of every clause of the contract, in its words.
func TestThePageOnStoresHasEveryClause(t *testing.T) {
	page := text(t, "docs/stores.md")
	clauses := 0
	files, err := filepath.Glob("../../eventstore/storetest/*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, says := range regexp.MustCompile(`\{says: "([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
			clauses++
			require.Contains(t, page, says[1])
		}
	}
	require.Contains(t, text(t, "README.md"), fmt.Sprintf("%d clauses", clauses))
}
