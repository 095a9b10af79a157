package release_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/release"
)

func ExampleNotesInput_Markdown() {
	notes := release.NotesInput{
		Release: "REL-000007", Title: "Database 16", Kind: "minor", State: "closed",
		Notes: "Logins are faster.\n\nSee <b>the wiki</b> for details.",
		Components: []release.NotesComponent{
			{Kind: "code", CI: "db-01", From: "15", To: "16.1", Digest: "sha256:9f86d0", Location: "oci://registry/db"},
			{Kind: "training", Title: "How to read the new plans"},
		},
		Changes:     []release.NotesChange{{ID: "CHG-000042", Title: "Upgrade db-01 to 16", Outcome: "successful"}},
		Incidents:   []release.NotesReference{{ID: "INC-7", Title: "Logins time out"}},
		Deployments: []release.NotesDeployment{{Number: 2, Environment: "production", State: "finished", Started: noon, Ended: noon.Add(time.Hour), Successful: 3, Targets: 3}},
	}
	fmt.Print(notes.Markdown())
	// Output:
	// # REL-000007: Database 16
	//
	// *minor, closed*
	//
	// Logins are faster.
	//
	// See &lt;b&gt;the wiki&lt;/b&gt; for details.
	//
	// ## What is new
	//
	// - **db-01** (code) 15 → 16.1, oci\://registry/db, sha256\:9f86d0
	// - **How to read the new plans** (training)
	//
	// ## Changes
	//
	// - **CHG-000042**: Upgrade db-01 to 16 (successful)
	//
	// ## Incidents fixed
	//
	// - **INC-7**: Logins time out
	//
	// ## Deployments
	//
	// - deployment 2 to **production**: finished, 3 of 3 targets, from 2026-11-24 12:00:00 UTC to 2026-11-24 13:00:00 UTC
}

func ExampleRollUp() {
	gate := release.Gate{Name: "ready", Kind: release.GateChecklist, Items: []string{"support knows", "backup is fresh"}}
	in := release.GateInput{Now: noon, Checks: []release.ItemCheck{{Item: "support knows", Go: true, By: "sue"}}}
	result := gate.Evaluate(in)
	fmt.Println(result.State, "-", result.Why, "-", release.RollUp([]release.GateResult{result}))

	in.Waivers = map[string]release.Waiver{"ready": {By: "mary", Why: "nothing is written to it", Until: noon.Add(time.Hour)}}
	result = gate.Evaluate(in)
	fmt.Println(result.State, "-", release.RollUp([]release.GateResult{result}))
	// Output:
	// not run - nobody has said go or no-go: backup is fresh - not run
	// waived - passed with exception
}

func TestNotesAreTheSameInWhicheverOrder(t *testing.T) {
	n := release.NotesInput{
		Release: "REL-000001", Changes: []release.NotesChange{{ID: "CHG-000002"}, {ID: "CHG-000001", Title: "a"}, {ID: "CHG-000002"}},
		Emergent: []release.NotesChange{{ID: "CHG-000003"}}, Problems: []release.NotesReference{{ID: "PRB-2"}, {ID: "PRB-1"}},
		Incidents: []release.NotesReference{{ID: "INC-2"}, {ID: "INC-1"}},
	}
	markdown, text := n.Markdown(), mustJSON(t, n)
	slices.Reverse(n.Changes)
	slices.Reverse(n.Problems)
	slices.Reverse(n.Incidents)
	given := slices.Clone(n.Changes)
	require.Equal(t, markdown, n.Markdown())
	require.Equal(t, text, mustJSON(t, n))
	require.Equal(t, given, n.Changes, "what was given is left as it is")
	require.Equal(t, 1, strings.Count(markdown, "CHG-000002"))

	var back release.NotesInput
	require.NoError(t, json.Unmarshal([]byte(text), &back))
	require.Equal(t, text, mustJSON(t, back))
	require.Equal(t, markdown, back.Markdown())
}

func mustJSON(t *testing.T, n release.NotesInput) string {
	b, err := n.JSON()
	require.NoError(t, err)
	return string(b)
}

func TestNotesThatAreNoTextHaveNoJSON(t *testing.T) {
	_, err := release.NotesInput{Release: "REL-000001", Title: "\xff"}.JSON()
	require.ErrorContains(t, err, `notes of release "REL-000001"`)
	require.Contains(t, release.NotesInput{Title: "a\xffb"}.Markdown(), "a\uFFFDb")
}

func TestNotesOfARollbackAndOfNothing(t *testing.T) {
	require.Equal(t, "# REL-000001\n", release.NotesInput{Release: "REL-000001"}.Markdown())
	require.Contains(t, release.NotesInput{Deployments: []release.NotesDeployment{{Number: 3, Environment: "production", Rollback: true}}}.Markdown(), "- rollback 3 to **production**\n")
	require.Contains(t, release.NotesInput{Changes: []release.NotesChange{{}}}.Markdown(), "- –\n")
}

func TestLinesAndParagraphsOfNotesAreKept(t *testing.T) {
	md := release.NotesInput{Release: "R", Notes: "\n\none\r\n  two\n\n\n\n# three\rfour\n \n"}.Markdown()
	require.Equal(t, "# R\n\none\\\ntwo\n\n\\# three\\\nfour\n", md)
}

// pieces are what makes structure of text.
var pieces = []string{
	"#", "##", "-", "*", "+", "1.", "12)", "=", "===", "---", "***", "___", "[x](y)", "![a](b)", "[x]: y", "[^1]: x", "<b>", "<!--", "-->", "<http://x.y>",
	"https://x.y", "www.x.y", "a@b.co", "`", "```", "~~~", "~~", "|", "|---|", "\n", "\r", "\n\n", " ", "    ", "\t", "\\", "&lt;", "&#35;", "&", ">", "*a*", "_a_", "**",
	"a", "b1", "é", "漢", "$", ":", "- [ ] ", "\u2028", "\u00a0", "\u200b", "\u202e", "\u2066", "\x00", "\xff", "!", "(", ")", "{", "}", "\"", "'", "15.2", "–",
}

// What people wrote stays text: read as Markdown the notes have the lines that
// they should, and each shows what was written.
func TestTextOfPeopleStaysText(t *testing.T) {
	hostile := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 7).Draw(t, "pieces"), "")
	})
	rapid.Check(t, func(rt *rapid.T) {
		checkNotes(rt, hostile.Draw(rt, "id"), hostile.Draw(rt, "title"), hostile.Draw(rt, "notes"))
	})
}

func FuzzNotes(f *testing.F) {
	f.Add("CHG-000001", "a title", "some\n\nnotes")
	for i := range pieces {
		f.Add(pieces[i], pieces[(i+1)%len(pieces)]+" x", "x\n"+pieces[i]+" "+pieces[(i+7)%len(pieces)])
	}
	f.Fuzz(func(t *testing.T, id, title, notes string) { checkNotes(t, id, title, notes) })
}

// checkNotes writes notes with these texts everywhere and reads them again.
func checkNotes(t require.TestingT, id, title, notes string) {
	md := release.NotesInput{
		Release: id, Title: title, Kind: title, State: id, Notes: notes,
		Components:  []release.NotesComponent{{Kind: title, CI: id, Title: title, From: id, To: title, Digest: id, Location: title}, {Title: title}},
		Changes:     []release.NotesChange{{ID: id, Title: title, Outcome: title}},
		Emergent:    []release.NotesChange{{ID: id, Title: title}},
		Incidents:   []release.NotesReference{{ID: id, Title: title}},
		Problems:    []release.NotesReference{{ID: id, Title: title}},
		Deployments: []release.NotesDeployment{{Number: 1, Environment: id, State: title}},
	}.Markdown()
	a, b := shown(id), shown(title)
	after := func(lead, s, tail string) string {
		if s == "" {
			return ""
		}
		return lead + s + tail
	}
	orDash := func(s string) string {
		return strings.Join(slices.DeleteFunc([]string{s, "–"}, func(s string) bool { return s == "" })[:1], "")
	}
	var want []string
	line := func(kind, text string) { want = append(want, strings.TrimRight(kind+text, " ")) }
	line("# ", a+after(": ", b, ""))
	if about := slices.DeleteFunc([]string{b, a}, func(s string) bool { return s == "" }); len(about) > 0 {
		line("", strings.Join(about, ", "))
	}
	for part := range strings.FieldsFuncSeq(notes, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if s := shown(part); s != "" {
			line("", s)
		}
	}
	section := func(heading string, items ...string) {
		line("## ", heading)
		for _, item := range items {
			line("- ", item)
		}
	}
	versions := after(" ", b, "")
	if a != "" && b != "" {
		versions = " " + a + " → " + b
	}
	named := b
	extra := ""
	if a != "" {
		named = a
	}
	if id != "" {
		extra = after(": ", b, "")
	}
	section("What is new", orDash(named)+after(" (", b, ")")+versions+extra+after(", ", b, "")+after(", ", a, ""), orDash(b))
	reference := orDash(a) + after(": ", b, "")
	section("Changes", reference+after(" (", b, ")"))
	section("Emergent changes", reference)
	section("Incidents fixed", reference)
	section("Problems fixed", reference)
	section("Deployments", "deployment 1 to "+orDash(a)+after(": ", b, ""))

	var got []string
	for one := range strings.SplitSeq(md, "\n") {
		if one != "" {
			got = append(got, readLine(t, one))
		}
	}
	require.Equal(t, want, got, md)
}

// shown is a text as a reader sees it: one line, white space once.
func shown(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r) || unicode.IsSpace(r):
			return ' '
		case slices.Contains([]rune{'\u061C', '\u200E', '\u200F', '\u202A', '\u202B', '\u202C', '\u202D', '\u202E', '\u2066', '\u2067', '\u2068', '\u2069'}, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}

// readLine reads a line of Markdown with the few marks that notes use, and fails at
// every other that means something: a small reader of its own, which knows nothing
// of how they are written.
func readLine(t require.TestingT, line string) string {
	kind := ""
	for _, lead := range []string{"# ", "## ", "- "} {
		if strings.HasPrefix(line, lead) {
			kind, line = lead, strings.TrimPrefix(line, lead)
		}
	}
	require.NotRegexp(t, `^([-+=]|#|[0-9]+[.)]( |$)|    |\t)`, line, "the beginning of a line")
	if slashes := len(line) - len(strings.TrimRight(line, `\`)); slashes%2 == 1 {
		line = strings.TrimSuffix(line, `\`) // a hard break; a backslash of people is never alone
	}
	var b strings.Builder
	stars := 0
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			require.Less(t, i+1, len(line), line)
			require.True(t, unicode.IsPunct(rune(line[i+1])) || unicode.IsSymbol(rune(line[i+1])), line)
			i++
			b.WriteByte(line[i])
		case c == '&':
			entity, _, found := strings.Cut(line[i:], ";")
			character := map[string]string{"&lt": "<", "&gt": ">", "&amp": "&", "&#124": "|"}[entity]
			require.True(t, found && character != "", "an ampersand at %d of %q", i, line)
			b.WriteString(character)
			i += len(entity)
		case c == '*':
			stars++
		case strings.IndexByte("`_{}[]<>#~$@|", c) >= 0:
			require.Fail(t, "a mark", "%q at %d of %q", c, i, line)
		default:
			require.False(t, strings.HasPrefix(line[i:], "://") || len(line[i:]) > 4 && strings.EqualFold(line[i:i+4], "www."), "an address in %q", line)
			b.WriteByte(c)
		}
	}
	require.Contains(t, []int{0, 2, 4}, stars, line)
	return strings.TrimRight(kind+b.String(), " ")
}
