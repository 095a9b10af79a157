// Command tally reads the JSON that go test -json writes, and prints what a
// person wants of it: each package with its time, the whole output of what
// failed, the output of tests named by -show, and last the count. It fails if
// anything failed or if no test ran, so that nothing is lost in a pipe.
//
//	go test -json ./... | go run ./internal/tally -show Mutant
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

func main() {
	show := flag.String("show", "^$", "regular expression of the tests whose output is printed although they passed")
	flag.Parse()
	pattern, err := regexp.Compile(*show)
	if err == nil {
		err = tally(os.Stdin, os.Stdout, pattern)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

func tally(in io.Reader, out io.Writer, show *regexp.Regexp) error {
	passed, failed, skipped, broken := 0, 0, 0, 0
	output := map[[2]string]*strings.Builder{}
	open := map[string]bool{} // packages that have started and not ended
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(out, "%s", line) // not of go test: a message of the tool chain
				continue
			}
			key := [2]string{e.Package, e.Test}
			switch e.Action {
			case "start":
				open[e.Package] = true
			case "build-output":
				fmt.Fprint(out, e.Output)
			case "build-fail":
				broken++
			case "output":
				if output[key] == nil {
					output[key] = &strings.Builder{}
				}
				output[key].WriteString(e.Output)
			case "pass", "skip", "fail":
				if e.Test == "" {
					delete(open, e.Package)
				}
				said := ""
				if output[key] != nil {
					said = output[key].String()
				}
				delete(output, key)
				switch {
				case e.Test == "" && e.Action == "fail":
					broken++
					fmt.Fprintf(out, "%sFAIL %s %.1fs\n", said, e.Package, e.Elapsed)
				case e.Test == "" && e.Action == "pass":
					fmt.Fprintf(out, "ok   %s %.1fs\n", e.Package, e.Elapsed)
				case e.Test == "":
				case e.Action == "fail":
					failed++
					fmt.Fprint(out, said)
				case e.Action == "skip":
					skipped++
					fmt.Fprint(out, said) // with the reason: nothing is skipped in silence
				default:
					passed++
					if show.MatchString(e.Test) {
						fmt.Fprint(out, said)
					}
				}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	for name := range open {
		broken++
		fmt.Fprintf(out, "FAIL %s did not end\n", name)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	switch {
	case failed > 0 || broken > 0:
		return fmt.Errorf("%d tests failed, %d packages did not pass", failed, broken)
	case passed == 0:
		return fmt.Errorf("no test ran")
	}
	return nil
}
