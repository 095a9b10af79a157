package risk_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// floats returns where a source computes with floating point: its types and
// literals, package math, the functions of decimals that take or give it, and the
// verbs that write it.
func floats(t *testing.T, name string, source any) (found []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		bad := false
		switch n := n.(type) {
		case *ast.Ident:
			switch n.Name {
			case "float32", "float64", "complex64", "complex128", "Float64", "Float32", "SetFloat64", "ParseFloat", "FormatFloat", "NewFromFloat", "Hours", "Minutes", "DoubleType", "Inf", "NaN":
				bad = true
			}
		case *ast.CallExpr: // of a time.Duration; change.Seconds is a whole number, and a conversion to it has an argument
			s, ok := n.Fun.(*ast.SelectorExpr)
			bad = ok && s.Sel.Name == "Seconds" && len(n.Args) == 0
		case *ast.BasicLit:
			bad = n.Kind == token.FLOAT || n.Kind == token.IMAG
		case *ast.ImportSpec:
			bad = n.Path.Value == `"math/cmplx"`
		}
		if bad {
			found = append(found, files.Position(n.Pos()).String())
		}
		return true
	})
	return found
}

// DOMAIN 1.4: no floating point in verdicts.
func TestThereIsNoFloatingPointInThePackage(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	seen := 0
	for _, name := range append(sources, "../factmap.go") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		seen++
		require.Empty(t, floats(t, name, nil))
	}
	require.Greater(t, seen, 10)
}

// The check must be able to fail.
func TestTheSearchForFloatingPointFindsIt(t *testing.T) {
	for _, line := range []string{
		"var x float64", "var x = 1.5", "var x = 1e9", "func f(d time.Duration) { _ = d.Hours() }", "func f(d time.Duration) { _ = d.Seconds() }", "func f(d *apd.Decimal) { d.SetFloat64(3) }", "var x = math.Inf(1)", "var x = 2i",
		"func f(s string) { strconv.ParseFloat(s, 64) }",
	} {
		require.NotEmpty(t, floats(t, "x.go", "package x\n"+line), line)
	}
	require.Empty(t, floats(t, "x.go", "package x\nvar x change.Seconds = 15\nvar y = change.Seconds(15)"))
}
