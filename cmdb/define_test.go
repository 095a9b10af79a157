package cmdb_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
)

func attrs(attributes ...cmdb.AttributeSchema) []cmdb.AttributeSchema { return attributes }

func TestDefinitionsAreCheckedByTheirRules(t *testing.T) {
	deep := []cmdb.Class{{Name: "level-0", Parent: "item"}}
	for i := range 40 {
		deep = append(deep, cmdb.Class{Name: fmt.Sprint("level-", i+1), Parent: fmt.Sprint("level-", i)})
	}
	text := func(name string) cmdb.AttributeSchema { return cmdb.AttributeSchema{Name: name, Type: cmdb.TypeString} }
	for name, c := range map[string]struct {
		classes []cmdb.Class
		kind    error // nil: it is defined
		rule    string
		reason  string
	}{
		"a class":                            {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(text("paper"))}}, nil, "", ""},
		"a child before its parent":          {[]cmdb.Class{{Name: "laser-printer", Parent: "printer"}, {Name: "printer", Parent: "item"}}, nil, "", ""},
		"the root class with more":           {[]cmdb.Class{{Name: "item", Abstract: true, Attributes: attrs(text("location"), text("description"))}}, nil, "", ""},
		"an attribute stated again":          {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "owner", Type: cmdb.TypeString, Required: true})}}, nil, "", ""},
		"fewer words":                        {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "criticality", Type: cmdb.TypeEnum, Enum: []string{"low"}})}}, nil, "", ""},
		"an attribute that nobody has goes":  {[]cmdb.Class{{Name: "cluster", Parent: "item"}}, nil, "", ""},
		"a type that every value has":        {[]cmdb.Class{{Name: "rack", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "units", Type: cmdb.TypeDecimal})}}, nil, "", ""},
		"an attribute becomes required":      {[]cmdb.Class{{Name: "rack", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "units", Type: cmdb.TypeInt}, cmdb.AttributeSchema{Name: "location", Type: cmdb.TypeString, Required: true})}}, nil, "", ""},
		"no name":                            {[]cmdb.Class{{Parent: "item"}}, command.ErrMalformed, "definition-malformed", "class is empty"},
		"a long name":                        {[]cmdb.Class{{Name: strings.Repeat("x", 129), Parent: "item"}}, command.ErrMalformed, "definition-malformed", "at most 128 bytes"},
		"no parent":                          {[]cmdb.Class{{Name: "printer"}}, command.ErrMalformed, "definition-malformed", `"item" stands above all others`},
		"a parent of the root":               {[]cmdb.Class{{Name: "item", Parent: "service"}}, command.ErrMalformed, "definition-malformed", "stands above all others"},
		"a title with a control character":   {[]cmdb.Class{{Name: "printer", Parent: "item", Title: "a\x00"}}, command.ErrMalformed, "definition-malformed", "control"},
		"an attribute without a name":        {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(text(""))}}, command.ErrMalformed, "definition-malformed", "attribute is empty"},
		"an attribute twice":                 {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(text("a"), text("a"))}}, command.ErrMalformed, "definition-malformed", "stands twice"},
		"a type that there is not":           {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "a", Type: "colour"})}}, command.ErrMalformed, "definition-malformed", `"colour" is no type`},
		"an enum without words":              {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "a", Type: cmdb.TypeEnum})}}, command.ErrMalformed, "definition-malformed", "has words"},
		"words without an enum":              {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "a", Type: cmdb.TypeInt, Enum: []string{"1"}})}}, command.ErrMalformed, "definition-malformed", "only an enum"},
		"an empty word":                      {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "a", Type: cmdb.TypeEnum, Enum: []string{""}})}}, command.ErrMalformed, "definition-malformed", "word is empty"},
		"a word twice":                       {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "a", Type: cmdb.TypeEnum, Enum: []string{"x", "x"}})}}, command.ErrMalformed, "definition-malformed", "twice"},
		"too many attributes":                {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: make([]cmdb.AttributeSchema, 201)}}, command.ErrMalformed, "definition-malformed", "at most 200"},
		"a parent that there is not":         {[]cmdb.Class{{Name: "printer", Parent: "device"}}, command.ErrRefused, "unknown-parent", `below "device", which there is not`},
		"a class below itself":               {[]cmdb.Class{{Name: "printer", Parent: "printer"}}, command.ErrRefused, "parent-loop", `"printer" stands below itself`},
		"a loop of two":                      {[]cmdb.Class{{Name: "a", Parent: "b"}, {Name: "b", Parent: "a"}}, command.ErrRefused, "parent-loop", "below itself"},
		"a loop by what is there":            {[]cmdb.Class{{Name: "server", Parent: "virtual-machine"}}, command.ErrRefused, "parent-loop", "below itself"},
		"too deep":                           {deep, command.ErrRefused, "class-too-deep", "more than 32"},
		"a class twice":                      {[]cmdb.Class{{Name: "a", Parent: "item"}, {Name: "a", Parent: "item"}}, command.ErrRefused, "definition-malformed", "defined twice"},
		"an inherited attribute, other type": {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "owner", Type: cmdb.TypeInt})}}, command.ErrRefused, "attribute-redefined", "inherits it as string"},
		"one of those that every class has":  {[]cmdb.Class{{Name: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "min_up", Type: cmdb.TypeString})}}, command.ErrRefused, "attribute-redefined", "min_up"},
		"a parent whose child has it":        {[]cmdb.Class{{Name: "server", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "serial", Type: cmdb.TypeInt})}}, command.ErrRefused, "attribute-redefined", `class "physical-server" has attribute "serial" as string and inherits it as int`},
		"further words":                      {[]cmdb.Class{{Name: "printer", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "criticality", Type: cmdb.TypeEnum, Enum: []string{"low", "extreme"}})}}, command.ErrRefused, "attribute-redefined", "extreme"},
		"an attribute in use goes":           {[]cmdb.Class{{Name: "rack", Parent: "item"}}, command.ErrRefused, "attribute-in-use", `values of "units" would no longer be known on CIs of class "rack": "rack-1", "rack-2"`},
		"one in use below the class":         {[]cmdb.Class{{Name: "server", Parent: "item"}}, command.ErrRefused, "attribute-in-use", `"os" would no longer be known on CIs of class "virtual-machine": "vm-1"`},
		"a type that a value does not have":  {[]cmdb.Class{{Name: "rack", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "units", Type: cmdb.TypeBool}, text("location"))}}, command.ErrRefused, "attribute-in-use", `"rack-1"`},
		"another parent":                     {[]cmdb.Class{{Name: "virtual-machine", Parent: "item"}}, command.ErrRefused, "attribute-in-use", `"vm-1"`},
		"a shared value becomes unique":      {[]cmdb.Class{{Name: "rack", Parent: "item", Attributes: attrs(cmdb.AttributeSchema{Name: "units", Type: cmdb.TypeInt, Unique: true})}}, command.ErrRefused, "attribute-unique", `"units" is "42" on several CIs: "rack-1", "rack-2"`},
		"a class in use becomes abstract":    {[]cmdb.Class{{Name: "database", Parent: "software", Abstract: true}}, command.ErrRefused, "class-in-use", `"db-01"`},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			h.mustRecord(t,
				cmdb.Add("rack-1", "rack", cmdb.Attr("units", "42")), cmdb.Add("rack-2", "rack", cmdb.Attr("units", "42")),
				cmdb.Add("vm-1", "virtual-machine", cmdb.Attr("os", "linux")), cmdb.Add("db-01", "database"),
				cmdb.Add("gone", "cluster", cmdb.Attr("technology", "k8s")), cmdb.Retire("gone"))
			before := len(h.events(t, "classes"))
			_, err := h.DefineClasses(t.Context(), ann, c.classes...)
			if c.kind == nil {
				require.NoError(t, err)
				require.Len(t, h.events(t, "classes"), before+len(c.classes))
				_, err := h.DefineClasses(t.Context(), ann, c.classes...)
				require.NoError(t, err)
				require.Len(t, h.events(t, "classes"), before+len(c.classes), "what is defined already is left out")
				return
			}
			require.ErrorIs(t, err, c.kind)
			require.True(t, command.By(err, c.rule), "%v", err)
			require.ErrorContains(t, err, c.reason)
			require.Len(t, h.events(t, "classes"), before)
		})
	}
}

func TestRelationTypesAreCheckedByTheirRules(t *testing.T) {
	for name, c := range map[string]struct {
		relations []cmdb.RelationType
		kind      error
		rule      string
		reason    string
	}{
		"a relation":                 {[]cmdb.RelationType{{Name: "guards", Inverse: "guarded by", Impact: cmdb.Forward}}, nil, "", ""},
		"a symmetric one":            {[]cmdb.RelationType{{Name: "mirrors", Inverse: "mirrors", Impact: cmdb.Both}}, nil, "", ""},
		"another flow for one":       {[]cmdb.RelationType{{Name: "documents", Inverse: "documented by", Impact: cmdb.Forward}}, nil, "", ""},
		"another inverse for one":    {[]cmdb.RelationType{{Name: "documents", Inverse: "described in", Impact: cmdb.None}}, nil, "", ""},
		"no name":                    {[]cmdb.RelationType{{Inverse: "guarded by", Impact: cmdb.Forward}}, command.ErrMalformed, "definition-malformed", "relation is empty"},
		"no inverse":                 {[]cmdb.RelationType{{Name: "guards", Impact: cmdb.Forward}}, command.ErrMalformed, "definition-malformed", "inverse is empty"},
		"no flow":                    {[]cmdb.RelationType{{Name: "guards", Inverse: "guarded by"}}, command.ErrMalformed, "definition-malformed", "impact runs"},
		"a flow that there is not":   {[]cmdb.RelationType{{Name: "guards", Inverse: "guarded by", Impact: "sideways"}}, command.ErrMalformed, "definition-malformed", "sideways"},
		"a pool without impact":      {[]cmdb.RelationType{{Name: "guards", Inverse: "guarded by", Impact: cmdb.None, Pooled: true}}, command.ErrMalformed, "definition-malformed", "no pools"},
		"the inverse of another":     {[]cmdb.RelationType{{Name: "used by", Inverse: "uses", Impact: cmdb.Forward}}, command.ErrRefused, "relation-name-taken", `"used by" is how relation type "depends on" is read`},
		"an inverse of two":          {[]cmdb.RelationType{{Name: "needs", Inverse: "used by", Impact: cmdb.Backward}}, command.ErrRefused, "relation-name-taken", "used by"},
		"an inverse that is a name":  {[]cmdb.RelationType{{Name: "needs", Inverse: "hosts", Impact: cmdb.Backward}}, command.ErrRefused, "relation-name-taken", "hosts"},
		"two that are read the same": {[]cmdb.RelationType{{Name: "a", Inverse: "x", Impact: cmdb.None}, {Name: "b", Inverse: "x", Impact: cmdb.None}}, command.ErrRefused, "relation-name-taken", `"x"`},
		"one twice":                  {[]cmdb.RelationType{{Name: "a", Inverse: "x", Impact: cmdb.None}, {Name: "a", Inverse: "y", Impact: cmdb.None}}, command.ErrRefused, "relation-name-taken", "defined twice"},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			before := len(h.events(t, "classes"))
			_, err := h.DefineRelations(t.Context(), ann, c.relations...)
			if c.kind == nil {
				require.NoError(t, err)
				_, err := h.DefineRelations(t.Context(), ann, c.relations...)
				require.NoError(t, err)
				require.Len(t, h.events(t, "classes"), before+len(c.relations), "what is defined already is left out")
				require.NoError(t, h.View(t.Context(), func(g *cmdb.Graph) error {
					require.Contains(t, g.Relations(), c.relations[0])
					return nil
				}))
				return
			}
			require.ErrorIs(t, err, c.kind)
			require.True(t, command.By(err, c.rule), "%v", err)
			require.ErrorContains(t, err, c.reason)
			require.Len(t, h.events(t, "classes"), before)
		})
	}
}

func TestTheStandardSetIsSound(t *testing.T) {
	h := start(t)
	// Defined by the rules, one after the other in their order.
	store := start(t)
	for _, c := range cmdb.StandardClasses() {
		_, err := store.DefineClasses(t.Context(), ann, c)
		require.NoError(t, err, c.Name)
	}
	_, err := h.DefineRelations(t.Context(), ann, cmdb.StandardRelations()...)
	require.NoError(t, err)
	parents := map[string]bool{"": true}
	for _, c := range cmdb.StandardClasses() {
		require.True(t, parents[c.Parent], "%s stands behind its parent", c.Name)
		parents[c.Name] = true
	}
	for _, class := range []string{"service", "application", "server", "virtual-machine", "database", "cluster", "network-device", "site", "container", "component", "go-module", "document", "process"} {
		require.True(t, parents[class], class)
		h.mustRecord(t, cmdb.Add("a-"+class, class))
	}
}

func TestAnImpactFollowsANewDefinition(t *testing.T) {
	h := start(t)
	h.mustRecord(t, cmdb.Add("manual", "document"), cmdb.Add("shop", "service"), cmdb.Relate("manual", "documents", "shop"))
	impact, err := h.Impact(t.Context(), "manual", cmdb.Down)
	require.NoError(t, err)
	require.Empty(t, impact.Reached)
	_, err = h.DefineRelations(t.Context(), ann, cmdb.RelationType{Name: "documents", Inverse: "documented by", Impact: cmdb.Forward})
	require.NoError(t, err)
	impact, err = h.Impact(t.Context(), "manual", cmdb.Down)
	require.NoError(t, err)
	require.Equal(t, []string{"1 shop"}, reached(impact))
}
