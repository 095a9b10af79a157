package cmdb_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
)

// estate is a graph in which every rule can be broken.
func estate(t testing.TB) *written {
	w := standard(t)
	w.add("classes", cmdb.ClassDefined{Class: cmdb.Class{Name: "appliance", Parent: "server", Attributes: []cmdb.AttributeSchema{
		{Name: "serial", Type: cmdb.TypeString, Required: true, Unique: true},
		{Name: "cores", Type: cmdb.TypeInt},
		{Name: "load", Type: cmdb.TypeDecimal},
		{Name: "managed", Type: cmdb.TypeBool},
		{Name: "seen", Type: cmdb.TypeTime},
		{Name: "bought", Type: cmdb.TypeDate},
		{Name: "size", Type: cmdb.TypeEnum, Enum: []string{"small", "large"}},
	}}})
	w.add("classes", cmdb.ClassDefined{Class: cmdb.Class{Name: "firewall", Parent: "appliance"}})
	w.deltas(cmdb.Add("db-01", "database", cmdb.Attr("version", "15")))
	w.deltas(cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db-01"))
	w.deltas(cmdb.Add("old", "server"), cmdb.Retire("old"))
	w.deltas(cmdb.Add("fw-1", "firewall", cmdb.Attr("serial", "S-1")), cmdb.Add("host-5", "physical-server", cmdb.Attr("serial", "S-5")))
	w.deltas(cmdb.Add("sw-1", "network-device"), cmdb.Add("sw-2", "network-device"), cmdb.Relate("sw-1", "connects to", "sw-2"))
	w.add("change-1", applied{"CHG-1", []cmdb.Delta{cmdb.Add("alien", "ufo", cmdb.Attr("colour", "green")), cmdb.Set("db-01", "colour", "", "red")}})
	return w
}

func TestCheckNamesEveryRuleThatIsBroken(t *testing.T) {
	long := strings.Repeat("x", cmdb.MaxID+1)
	big := strings.Repeat("x", cmdb.MaxValue+1)
	many := map[string]string{}
	for i := range 201 {
		many[strings.Repeat("a", i+1)] = "v"
	}
	for name, c := range map[string]struct {
		deltas []cmdb.Delta
		rules  []string // in order; none where nothing is wrong
		reason string   // part of the first one's
		remedy string
	}{
		"an add":                                {[]cmdb.Delta{cmdb.Add("db-02", "database", cmdb.Attr("version", "16"), cmdb.Attr("criticality", "high"))}, nil, "", ""},
		"what is added can be set and related":  {[]cmdb.Delta{cmdb.Add("x", "server"), cmdb.Set("x", "os", "", "linux"), cmdb.Relate("shop", "runs on", "x"), cmdb.Unrelate("shop", "runs on", "x"), cmdb.Retire("x")}, nil, "", ""},
		"what was retired can be added again":   {[]cmdb.Delta{cmdb.Add("old", "database"), cmdb.Set("old", "version", "", "1")}, nil, "", ""},
		"retired and added again in one go":     {[]cmdb.Delta{cmdb.Retire("db-01"), cmdb.Add("db-01", "database"), cmdb.Relate("shop", "depends on", "db-01")}, nil, "", ""},
		"a value can be taken away":             {[]cmdb.Delta{cmdb.Set("db-01", "version", "15", "")}, nil, "", ""},
		"one that no class knows can go":        {[]cmdb.Delta{cmdb.Set("db-01", "colour", "red", "")}, nil, "", ""},
		"a unique value that its holder leaves": {[]cmdb.Delta{cmdb.Set("fw-1", "serial", "S-1", "S-2"), cmdb.Add("fw-2", "firewall", cmdb.Attr("serial", "S-1"))}, nil, "", ""},
		"a unique value of one that is retired": {[]cmdb.Delta{cmdb.Retire("fw-1"), cmdb.Add("fw-2", "appliance", cmdb.Attr("serial", "S-1"))}, nil, "", ""},
		"a value that one outside has":          {[]cmdb.Delta{cmdb.Add("ap-1", "appliance", cmdb.Attr("serial", "S-5"))}, nil, "", ""},
		"the same name outside its class":       {[]cmdb.Delta{cmdb.Add("srv", "physical-server", cmdb.Attr("serial", "S-1"))}, nil, "", ""},

		"set of a CI that there is not":        {[]cmdb.Delta{cmdb.Set("db-09", "version", "15", "16")}, []string{"unknown-ci"}, `there is no CI "db-09"`, "add it first"},
		"retirement of one":                    {[]cmdb.Delta{cmdb.Retire("db-09")}, []string{"unknown-ci"}, "db-09", ""},
		"relation of two":                      {[]cmdb.Delta{cmdb.Relate("db-08", "depends on", "db-09")}, []string{"unknown-ci", "unknown-ci"}, "db-08", ""},
		"add of a CI that is there":            {[]cmdb.Delta{cmdb.Add("db-01", "database")}, []string{"ci-exists"}, `db-01 is there already, of class "database"`, "another ID"},
		"add twice":                            {[]cmdb.Delta{cmdb.Add("x", "server"), cmdb.Add("x", "server")}, []string{"ci-exists"}, "x", ""},
		"set of a retired CI":                  {[]cmdb.Delta{cmdb.Set("old", "os", "", "linux")}, []string{"ci-retired"}, "old is retired", "add it again"},
		"retirement of a retired CI":           {[]cmdb.Delta{cmdb.Retire("old")}, []string{"ci-retired"}, "", ""},
		"relation to a CI retired just before": {[]cmdb.Delta{cmdb.Retire("db-01"), cmdb.Relate("shop", "runs on", "db-01")}, []string{"ci-retired"}, "db-01", ""},
		"a class that there is not":            {[]cmdb.Delta{cmdb.Add("x", "spaceship")}, []string{"unknown-class"}, `"spaceship"`, `take one of "appliance", "application"`},
		"a CI of a class that there is not":    {[]cmdb.Delta{cmdb.Set("alien", "colour", "green", "blue")}, []string{"unknown-class"}, `"ufo"`, "define it"},
		"an abstract class":                    {[]cmdb.Delta{cmdb.Add("x", "software")}, []string{"abstract-class"}, "software", "below it"},
		"the root class":                       {[]cmdb.Delta{cmdb.Add("x", "item")}, []string{"abstract-class"}, "item", ""},
		"an attribute that there is not":       {[]cmdb.Delta{cmdb.Set("db-01", "flavour", "", "sweet")}, []string{"unknown-attribute"}, `class "database" has no attribute "flavour"`, `"version"`},
		"one given to an add":                  {[]cmdb.Delta{cmdb.Add("x", "server", cmdb.Attr("flavour", "sweet"))}, []string{"unknown-attribute"}, "flavour", ""},
		"one taken away":                       {[]cmdb.Delta{cmdb.Set("db-01", "flavour", "sweet", "")}, []string{"unknown-attribute", "precondition-failed"}, "flavour", ""},
		"a required attribute that is missing": {[]cmdb.Delta{cmdb.Add("fw-2", "firewall")}, []string{"attribute-required"}, `class "firewall" requires serial`, "give it a value"},
		"one taken away that is required":      {[]cmdb.Delta{cmdb.Set("fw-1", "serial", "S-1", "")}, []string{"attribute-required"}, "serial", "another value"},
		"no int":                               {[]cmdb.Delta{cmdb.Set("fw-1", "cores", "", "many")}, []string{"attribute-type"}, `cores of fw-1 cannot be "many"`, "whole number"},
		"an int in another form":               {[]cmdb.Delta{cmdb.Set("fw-1", "cores", "", "08")}, []string{"attribute-type"}, "canonical", `write "8"`},
		"no decimal":                           {[]cmdb.Delta{cmdb.Set("fw-1", "load", "", "1.2.3")}, []string{"attribute-type"}, "load", "a decimal is"},
		"no bool":                              {[]cmdb.Delta{cmdb.Set("fw-1", "managed", "", "yes")}, []string{"attribute-type"}, "managed", `"true" or "false"`},
		"no time":                              {[]cmdb.Delta{cmdb.Set("fw-1", "seen", "", "yesterday")}, []string{"attribute-type"}, "seen", "RFC 3339"},
		"a time in another zone":               {[]cmdb.Delta{cmdb.Set("fw-1", "seen", "", "2026-03-02T10:00:00+01:00")}, []string{"attribute-type"}, "canonical", `write "2026-03-02T09:00:00Z"`},
		"no date":                              {[]cmdb.Delta{cmdb.Set("fw-1", "bought", "", "2026-02-30")}, []string{"attribute-type"}, "bought", "a date is"},
		"a set in another order":               {[]cmdb.Delta{cmdb.Set("db-01", "tags", "", "red,blue")}, []string{"attribute-type"}, "canonical", `write "blue,red"`},
		"no way to say how many must be up":    {[]cmdb.Delta{cmdb.Set("db-01", "min_up", "", "half")}, []string{"attribute-type"}, "min_up", `"100%"`},
		"no word of an enum":                   {[]cmdb.Delta{cmdb.Set("fw-1", "size", "", "huge")}, []string{"attribute-enum"}, `"huge"`, `one of "small", "large"`},
		"no level of criticality":              {[]cmdb.Delta{cmdb.Set("db-01", "criticality", "", "extreme")}, []string{"attribute-enum"}, "criticality", `"moderate"`},
		"a value that must be unique":          {[]cmdb.Delta{cmdb.Add("ap-1", "appliance", cmdb.Attr("serial", "S-1"))}, []string{"attribute-unique"}, `serial "S-1" belongs to fw-1, and is unique within class "appliance"`, "from fw-1"},
		"one given twice in one go":            {[]cmdb.Delta{cmdb.Add("ap-1", "appliance", cmdb.Attr("serial", "S-9")), cmdb.Add("ap-2", "firewall", cmdb.Attr("serial", "S-9"))}, []string{"attribute-unique"}, "ap-1", ""},
		"a value before that is another":       {[]cmdb.Delta{cmdb.Set("db-01", "version", "14", "16")}, []string{"precondition-failed"}, `version of db-01 is "15", not "14"`, "look at db-01 again"},
		"a value before where there is none":   {[]cmdb.Delta{cmdb.Set("db-01", "port", "1", "2")}, []string{"precondition-failed"}, `port of db-01 is not set, and not "1"`, ""},
		"no value before where there is one":   {[]cmdb.Delta{cmdb.Set("db-01", "version", "", "16")}, []string{"precondition-failed"}, `version of db-01 is "15" already`, ""},
		"one that a delta before has changed":  {[]cmdb.Delta{cmdb.Set("db-01", "version", "15", "16"), cmdb.Set("db-01", "version", "15", "17")}, []string{"precondition-failed"}, `"16", not "15"`, ""},
		"nothing that changes":                 {[]cmdb.Delta{cmdb.Set("db-01", "version", "15", "15")}, []string{"no-change"}, "to the same", "leave"},
		"a relation that there is not":         {[]cmdb.Delta{cmdb.Relate("shop", "loves", "db-01")}, []string{"unknown-relation"}, `"loves"`, `"depends on"`},
		"a relation read backwards":            {[]cmdb.Delta{cmdb.Relate("db-01", "used by", "shop")}, []string{"unknown-relation"}, "read backwards", "say that shop depends on db-01"},
		"a relation that stands":               {[]cmdb.Delta{cmdb.Relate("shop", "depends on", "db-01")}, []string{"relation-exists"}, "shop depends on db-01 already", "leave"},
		"one that stands the other way round":  {[]cmdb.Delta{cmdb.Relate("sw-2", "connects to", "sw-1")}, []string{"relation-exists"}, "sw-2 connects to sw-1", ""},
		"a relation that does not stand":       {[]cmdb.Delta{cmdb.Unrelate("shop", "runs on", "db-01")}, []string{"relation-missing"}, "it is not so that shop runs on db-01", "leave"},
		"one to be ended the other way round":  {[]cmdb.Delta{cmdb.Unrelate("sw-2", "connects to", "sw-1")}, []string{"relation-missing"}, "sw-1", "say that sw-1 no longer"},
		"one that ended with its CI":           {[]cmdb.Delta{cmdb.Retire("db-01"), cmdb.Add("db-01", "database"), cmdb.Unrelate("shop", "depends on", "db-01")}, []string{"relation-missing"}, "", ""},
		"one said and ended with its CI":       {[]cmdb.Delta{cmdb.Relate("shop", "runs on", "fw-1"), cmdb.Retire("fw-1"), cmdb.Add("fw-1", "server"), cmdb.Unrelate("shop", "runs on", "fw-1")}, []string{"relation-missing"}, "", ""},
		"a relation to itself":                 {[]cmdb.Delta{cmdb.Relate("shop", "depends on", "shop")}, []string{"self-relation"}, "shop is to be related to itself", "another"},
		"several at once":                      {[]cmdb.Delta{cmdb.Add("fw-2", "firewall", cmdb.Attr("cores", "x"), cmdb.Attr("flavour", "sweet")), cmdb.Retire("db-09")}, []string{"attribute-type", "unknown-attribute", "attribute-required", "unknown-ci"}, "", ""},
		"what follows one that has a problem":  {[]cmdb.Delta{cmdb.Add("x", "server", cmdb.Attr("flavour", "sweet")), cmdb.Relate("shop", "runs on", "x"), cmdb.Set("x", "flavour", "sweet", "sour")}, []string{"unknown-attribute", "unknown-attribute"}, "", ""},
		"no operation":                         {[]cmdb.Delta{{CI: "db-01"}}, []string{"delta-malformed"}, "the operation is one of", "Add"},
		"an operation that there is not":       {[]cmdb.Delta{{Op: "paint", CI: "db-01"}}, []string{"delta-malformed"}, `not "paint"`, ""},
		"no CI":                                {[]cmdb.Delta{cmdb.Retire("")}, []string{"delta-malformed"}, "not empty", ""},
		"a CI with a name that is too long":    {[]cmdb.Delta{cmdb.Retire(long)}, []string{"delta-malformed"}, "at most 200 bytes, not 201", ""},
		"a CI with a control character":        {[]cmdb.Delta{cmdb.Retire("a\x00b")}, []string{"delta-malformed"}, "control characters", ""},
		"a CI that is not UTF-8":               {[]cmdb.Delta{cmdb.Retire("a\xff")}, []string{"delta-malformed"}, "UTF-8", ""},
		"a CI between spaces":                  {[]cmdb.Delta{cmdb.Retire(" a")}, []string{"delta-malformed"}, "space", ""},
		"no class":                             {[]cmdb.Delta{cmdb.Add("x", "")}, []string{"delta-malformed"}, "class is empty", ""},
		"an attribute without a name":          {[]cmdb.Delta{cmdb.Add("x", "server", cmdb.Attr("", "v"))}, []string{"delta-malformed"}, "attribute is empty", ""},
		"an attribute without a value":         {[]cmdb.Delta{cmdb.Add("x", "server", cmdb.Attr("os", ""))}, []string{"delta-malformed"}, "leave it out", ""},
		"an attribute too long":                {[]cmdb.Delta{cmdb.Add("x", "server", cmdb.Attr("os", big))}, []string{"delta-malformed"}, "4096", ""},
		"too many attributes":                  {[]cmdb.Delta{{Op: cmdb.OpAdd, CI: "x", Class: "server", Attributes: many}}, []string{"delta-malformed"}, "at most 200", ""},
		"set of no attribute":                  {[]cmdb.Delta{cmdb.Set("db-01", "", "", "v")}, []string{"delta-malformed"}, "attribute is empty", ""},
		"a value before that is too long":      {[]cmdb.Delta{cmdb.Set("db-01", "version", big, "16")}, []string{"delta-malformed"}, "4096", ""},
		"a value with a control character":     {[]cmdb.Delta{cmdb.Set("db-01", "version", "15", "1\x1b6")}, []string{"delta-malformed"}, "control", ""},
		"no relation":                          {[]cmdb.Delta{cmdb.Relate("shop", "", "db-01")}, []string{"delta-malformed"}, "relation is empty", ""},
		"a relation to nothing":                {[]cmdb.Delta{cmdb.Relate("shop", "depends on", "")}, []string{"delta-malformed"}, "to: ", ""},
		"a field that is not used":             {[]cmdb.Delta{{Op: cmdb.OpRetire, CI: "db-01", Class: "database"}}, []string{"delta-malformed"}, "does not use", ""},
		"a field of another operation":         {[]cmdb.Delta{{Op: cmdb.OpSet, CI: "db-01", Attribute: "version", Before: "15", After: "16", To: "shop"}}, []string{"delta-malformed"}, "does not use", ""},
		"too many deltas":                      {make([]cmdb.Delta, cmdb.MaxDeltas+1), []string{"too-many-deltas"}, "1001", "divide"},
		"too much text":                        {repeated(cmdb.Set("db-01", "version", strings.Repeat("x", 4000), strings.Repeat("y", 4000)), 100), []string{"too-many-deltas"}, "524288", "divide"},
	} {
		t.Run(name, func(t *testing.T) {
			g := estate(t).fold()
			before := snapshot(t, g)
			problems := g.Check(c.deltas)
			var rules []string
			for _, p := range problems {
				rules = append(rules, p.Rule)
				require.NotEmpty(t, p.Reason)
				require.NotEmpty(t, p.Remedy)
				require.Less(t, len(p.Reason), 600, "what a caller gave is clipped")
			}
			require.Equal(t, c.rules, rules, "%v", problems)
			if c.rules != nil {
				require.Contains(t, problems[0].Reason, c.reason)
				require.Contains(t, problems[0].Remedy, c.remedy)
			}
			require.Equal(t, before, snapshot(t, g), "a check changes nothing")
		})
	}
}

func repeated(d cmdb.Delta, n int) []cmdb.Delta {
	var all []cmdb.Delta
	for range n {
		all = append(all, d)
	}
	return all
}

func TestAProblemSaysWhichDeltaIsMeant(t *testing.T) {
	problems := estate(t).fold().Check([]cmdb.Delta{cmdb.Add("x", "server"), cmdb.Retire("db-09"), cmdb.Retire("db-08")})
	require.Len(t, problems, 2)
	require.Equal(t, cmdb.Problem{Delta: 1, Rule: "unknown-ci", CI: "db-09", Reason: `there is no CI "db-09"`, Remedy: "add it first, or correct its ID"}, problems[0])
	require.Equal(t, 2, problems[1].Delta)
	require.Equal(t, `delta 1: unknown-ci: there is no CI "db-09": add it first, or correct its ID`, problems[0].String())
}

func TestTheTagsOfDeltasNameTheirCIs(t *testing.T) {
	require.Nil(t, cmdb.Tags(nil))
	require.Equal(t, []string{"cmdb", "ci:shop", "ci:db-01"}, cmdb.Tags([]cmdb.Delta{
		cmdb.Add("shop", "service"), cmdb.Relate("shop", "depends on", "db-01"), cmdb.Retire("db-01"), cmdb.Retire(strings.Repeat("x", 300)), cmdb.Retire(""),
	}))
	var many []cmdb.Delta
	for i := range 100 {
		many = append(many, cmdb.Retire(strings.Repeat("x", i+1)))
	}
	require.Len(t, cmdb.Tags(many), 48, "an event has room for tags of others")
}

func TestAUniqueValueIsFoundAmongManyHolders(t *testing.T) {
	// A source may report what is not unique: the fold takes it all the same.
	w := estate(t)
	for _, ci := range []string{"fw-9", "fw-8", "fw-7"} {
		w.add("source-nmap", cmdb.Observed{Source: "nmap", Deltas: []cmdb.Delta{cmdb.Add(ci, "firewall", cmdb.Attr("serial", "S-1"))}})
	}
	claim := []cmdb.Delta{cmdb.Add("new", "firewall", cmdb.Attr("serial", "S-1"))}
	for _, holder := range []string{"fw-1", "fw-7", "fw-8", "fw-9"} {
		problems := w.fold().Check(claim)
		require.Len(t, problems, 1)
		require.Contains(t, problems[0].Reason, "belongs to "+holder)
		w.deltas(cmdb.Retire(holder))
	}
	require.Empty(t, w.fold().Check(claim))
}
