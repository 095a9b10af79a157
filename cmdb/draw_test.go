package cmdb_test

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
)

func TestANeighbourhoodIsDrawn(t *testing.T) {
	g := shopEstate(t).fold()
	near, err := g.Neighbourhood("db-01", 1)
	require.NoError(t, err)
	require.Equal(t, []cmdb.Relation{
		{From: "app-1", Relation: "depends on", To: "db-01"},
		{From: "app-2", Relation: "depends on", To: "db-01"},
		{From: "db-01", Relation: "runs on", To: "host-1"},
	}, near.Relations)
	require.Equal(t, `digraph cmdb {
  rankdir=LR;
  node [shape=box, style=rounded];
  n0 [label="app-1\napplication"];
  n1 [label="app-2\napplication"];
  n2 [label="db-01\ndatabase", penwidth=2];
  n3 [label="host-1\nphysical-server"];
  n0 -> n2 [label="depends on"];
  n1 -> n2 [label="depends on"];
  n2 -> n3 [label="runs on"];
}
`, near.DOT())
	require.Equal(t, `flowchart LR
  n0["app-1<br/>application"]
  n1["app-2<br/>application"]
  n2["db-01<br/>database"]
  n3["host-1<br/>physical-server"]
  n0 -->|"depends on"| n2
  n1 -->|"depends on"| n2
  n2 -->|"runs on"| n3
  style n2 stroke-width:3px
`, near.Mermaid())
	b, err := near.JSON()
	require.NoError(t, err)
	require.Contains(t, string(b), `"center": "db-01"`)
	var back cmdb.Neighbourhood
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, near, back)
}

func TestANeighbourhoodReachesAsFarAsAsked(t *testing.T) {
	w := shopEstate(t)
	for depth, want := range map[int]string{
		0: "db-01",
		1: "app-1 app-2 db-01 host-1",
		2: "app-1 app-2 apps db-01 host-1 rack-1",
		9: "app-1 app-2 apps db-01 host-1 manual portal rack-1 shop",
	} {
		near, err := w.fold().Neighbourhood("db-01", depth)
		require.NoError(t, err)
		var ids []string
		for _, ci := range near.CIs {
			ids = append(ids, ci.ID)
		}
		require.Equal(t, want, strings.Join(ids, " "))
	}
	w.deltas(cmdb.Retire("apps"))
	near, err := w.fold().Neighbourhood("db-01", 9)
	require.NoError(t, err)
	require.Len(t, near.CIs, 5, "what is retired is not there")
	b, err := cmdb.Neighbourhood{Center: "x", CIs: []cmdb.CI{}, Relations: []cmdb.Relation{}}.JSON()
	require.NoError(t, err)
	require.Contains(t, string(b), `"cis": []`)
}

// nasty is what somebody could call a CI to be taken for something else.
var nasty = []string{
	`"]; n0 -> evil; x["`, `\`, `\"`, `a\nb`, `\N`, "`code`", `<script>alert(1)</script>`, `&lt;b&gt;`, `#quot;`, `end`, `%% comment`, `--> n1`, `|x|`, `{}()[]`,
	`click n0 href "javascript:x"`, "ünïcödé", `'; DROP`, `$x$`, `; x`, "a\u2028b",
}

func TestNamesAreNotTakenForTheLanguageOfADrawing(t *testing.T) {
	w := write(t)
	deltas := []cmdb.Delta{cmdb.Add("centre", "class \"x\" <b>")}
	for _, id := range nasty {
		deltas = append(deltas, cmdb.Add(id, id), cmdb.Relate("centre", id+"\n\x00x", id))
	}
	near, err := w.add("change-1", applied{"CHG-1", deltas}).fold().Neighbourhood("centre", 1)
	require.NoError(t, err)
	require.Len(t, near.CIs, len(nasty)+1)

	// Every line is of one of these forms, and there are as many as there are things.
	lines := strings.Split(strings.TrimSuffix(near.DOT(), "\n"), "\n")
	require.Len(t, lines, 3+len(near.CIs)+len(near.Relations)+1)
	label := `"([^"\\]|\\[\\"n])*"`
	for _, line := range lines[3 : len(lines)-1] {
		require.Regexp(t, regexp.MustCompile(`^  (n\d+ \[label=`+label+`(, penwidth=2)?\]|n\d+ -> n\d+ \[label=`+label+`\]);$`), line)
	}
	require.Contains(t, near.DOT(), `&amp;lt;b&amp;gt;`, "an entity is text too")
	lines = strings.Split(strings.TrimSuffix(near.Mermaid(), "\n"), "\n")
	require.Len(t, lines, 1+len(near.CIs)+len(near.Relations)+1)
	label = `"([^"<>&;|{}()\[\]\x60\\#%$]|#\d+;|<br/>)*"`
	for _, line := range lines[1 : len(lines)-1] {
		require.Regexp(t, regexp.MustCompile(`^  (n\d+\[`+label+`\]|n\d+ -->\|`+label+`\| n\d+)$`), line)
	}
	b, err := near.JSON()
	require.NoError(t, err)
	require.True(t, json.Valid(b))

	if dot, err := exec.LookPath("dot"); err == nil {
		cmd := exec.Command(dot, "-Tplain")
		cmd.Stdin = strings.NewReader(near.DOT())
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, len(near.CIs), strings.Count(string(out), "\nnode "))
	}
}
