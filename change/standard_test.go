package change_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// patch is a template under which the version of databases may be set.
func patch() change.Template {
	return change.Template{
		Title: "Patch a database", Category: "database",
		Plans:   change.Plans{Implementation: "apt upgrade", Backout: "apt install the version before", Test: "select 1"},
		Tasks:   []change.TaskTemplate{{Title: "Tell the desk", Kind: "communication", Group: "desk"}},
		Classes: []string{"database"}, Attributes: []string{"version"}, Longest: change.Duration(2 * time.Hour),
	}
}

// patching is a standard change that fits patch.
func patching() change.Raise {
	return change.Raise{Template: "patch-db", Content: change.Content{
		Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "15.1")},
		Window: change.Between(monday.Add(time.Hour), monday.Add(3*time.Hour)),
	}}
}

// templated is an estate with patch published as "patch-db".
func templated(t testing.TB) *house {
	h := open(t, memory.New()).estate()
	ctx := context.Background()
	_, err := h.changes.ProposeTemplate(ctx, carol, "patch-db", patch())
	require.NoError(t, err)
	_, err = h.changes.ApproveTemplate(ctx, bob, "patch-db", 1)
	require.NoError(t, err)
	_, err = h.changes.PublishTemplate(ctx, carol, "patch-db", 1)
	require.NoError(t, err)
	return h
}

// refusedBy requires that an error is a refusal of this kind, by this rule.
func refusedBy(t testing.TB, err error, kind error, rule string) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	require.True(t, command.By(err, rule), "%v", err)
}

// DOMAIN 1.1: standard goes draft, scheduled, implement, review, closed, and is
// pre-authorised by an approved template version.
func TestAStandardChangeIsAuthorisedByItsTemplate(t *testing.T) {
	h := templated(t)
	c := h.raise(patching())
	require.Equal(t, "standard", c.Model, "a template implies the model")
	require.Equal(t, "draft", c.Phase)
	require.Equal(t, 1, c.TemplateVersion)
	require.Equal(t, "Patch a database", c.Title)
	require.Equal(t, "database", c.Category)
	require.Equal(t, patch().Plans, c.Plans)
	require.Len(t, c.Tasks, 1)
	require.Equal(t, "Tell the desk", c.Tasks[0].Title)
	require.Equal(t, "desk", c.Tasks[0].Group)
	require.Nil(t, c.Authorized)

	c = h.do(alice, c.ID, change.Submit{})
	require.Equal(t, "scheduled", c.Phase)
	require.Equal(t, "template patch-db v1", c.Authorized.By)
	require.False(t, c.Authorized.Retrospective)
	require.Empty(t, c.Approvals, "nobody is asked")

	h.do(dave, c.ID, change.Start{})
	h.do(dave, c.ID, change.Complete{})
	h.do(erin, c.ID, change.Review{Outcome: change.Successful})
	h.refused("tasks-open", carol, c.ID, change.Close{})
	h.do(dave, c.ID, change.MoveTask{ID: 1, To: "closed"})
	require.False(t, h.do(carol, c.ID, change.Close{}).Open())
	ci, err := h.cmdb.Get(t.Context(), "db-01")
	require.NoError(t, err)
	require.Equal(t, "15.1", ci.Attributes["version"])
}

func TestWhatATemplateDoesNotAuthoriseIsRefused(t *testing.T) {
	h := templated(t)
	for name, alter := range map[string]func(c *change.Content){
		"another plan":      func(c *change.Content) { c.Plans.Implementation = "by hand" },
		"a missing backout": func(c *change.Content) { c.Plans = patch().Plans; c.Plans.Backout = "none" },
		"another class":     func(c *change.Content) { c.CIs = []string{"shop"} },
		"another attribute": func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Set("db-01", "criticality", "high", "low")} },
		"a retirement":      func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Retire("db-01")} },
		"a new CI":          func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Add("db-02", "database")} },
		"a relation":        func(c *change.Content) { c.Deltas = []cmdb.Delta{cmdb.Unrelate("shop", "depends on", "db-01")} },
		"a longer window":   func(c *change.Content) { c.Window = change.Between(monday, monday.Add(2*time.Hour+time.Second)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			r := patching()
			alter(&r.Content)
			h.refusedRaise("outside-template", alice, r)
			if name == "a missing backout" {
				return // what is set is set: a plan cannot be taken away by an edit
			}
			c := h.raise(patching(), change.Submit{})
			set := change.Content{}
			alter(&set)
			h.refused("outside-template", alice, c.ID, change.Edit{Set: set})
		})
	}
	c := h.raise(patching(), change.Submit{})
	h.refused("outside-template", alice, c.ID, change.Edit{Clear: []string{"plan.test"}})
}

func TestAnEditWithinTheTemplateKeepsTheAuthorisation(t *testing.T) {
	h := templated(t)
	c := h.raise(patching(), change.Submit{})
	later := change.Between(monday.Add(24*time.Hour), monday.Add(25*time.Hour))
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Window: later}})
	require.Equal(t, "scheduled", c.Phase)
	require.Equal(t, later, c.Window)
	require.Equal(t, c.Scope, c.Authorized.Scope, "it covers what the change now is")
	h.do(dave, c.ID, change.Start{})
}

func TestAStandardChangeNeedsATemplateThatIsPublished(t *testing.T) {
	h := open(t, memory.New()).estate()
	ctx := t.Context()
	h.refusedRaise("template-required", alice, change.Raise{Model: "standard", Content: change.Content{Title: "x"}})
	h.refusedRaise("unknown-template", alice, change.Raise{Template: "patch-db", Content: change.Content{Title: "x"}})
	h.refusedRaise("template-not-used", alice, change.Raise{Model: "normal", Template: "patch-db", Content: change.Content{Title: "x"}})

	_, err := h.changes.ProposeTemplate(ctx, carol, "patch-db", patch())
	require.NoError(t, err)
	h.refusedRaise("template-not-published", alice, patching())
	_, err = h.changes.PublishTemplate(ctx, carol, "patch-db", 1)
	refusedBy(t, err, command.ErrRefused, "template-not-approved")
	_, err = h.changes.ApproveTemplate(ctx, bob, "patch-db", 1)
	require.NoError(t, err)
	h.refusedRaise("template-not-published", alice, patching())
	v, err := h.changes.PublishTemplate(ctx, carol, "patch-db", 1)
	require.NoError(t, err)
	require.Equal(t, change.TemplateVersion{
		Name: "patch-db", Version: 1, Text: patch(), ProposedBy: []string{"carol"}, ApprovedBy: []string{"bob"}, PublishedAt: monday,
	}, v)
	h.raise(patching())
}

// DOMAIN 1.3: separation of duties, through delegation too.
func TestATemplateIsNotApprovedByItsProposer(t *testing.T) {
	h := open(t, memory.New(), everybody)
	ctx := t.Context()
	_, err := h.changes.ProposeTemplate(ctx, carol, "t", patch())
	require.NoError(t, err)
	_, err = h.changes.ApproveTemplate(ctx, carol, "t", 1)
	refusedBy(t, err, command.ErrRefused, "separation-of-duties")
	for _, d := range []command.Delegation{{Person: "carol", To: "bob"}, {Person: "bob", To: "carol"}} {
		d.Actions, d.Until = []string{"template.*"}, monday.Add(time.Hour)
		_, err := h.door.Delegate(ctx, command.As(d.Person), d)
		require.NoError(t, err)
	}
	for _, actor := range []command.Actor{bob.For("carol"), carol.For("bob")} {
		_, err = h.changes.ApproveTemplate(ctx, actor, "t", 1)
		refusedBy(t, err, command.ErrRefused, "separation-of-duties")
	}
	v, err := h.changes.ApproveTemplate(ctx, bob, "t", 1)
	require.NoError(t, err)
	require.Equal(t, []string{"bob"}, v.ApprovedBy)
	_, err = h.changes.ApproveTemplate(ctx, ben, "t", 1)
	refusedBy(t, err, command.ErrRefused, "template-state")
}

func TestANewVersionTakesThePlaceOfTheOneBeforeForNewChangesOnly(t *testing.T) {
	h := templated(t)
	ctx := t.Context()
	old := h.raise(patching())

	next := patch()
	next.Plans.Implementation, next.Longest = "apt full-upgrade", change.Duration(time.Hour)
	v, err := h.changes.ProposeTemplate(ctx, carol, "patch-db", next)
	require.NoError(t, err)
	require.Equal(t, 2, v.Version)
	require.Equal(t, 1, h.raise(patching()).TemplateVersion, "what is proposed is not in force")
	_, err = h.changes.ApproveTemplate(ctx, bob, "patch-db", 2)
	require.NoError(t, err)
	_, err = h.changes.PublishTemplate(ctx, carol, "patch-db", 2)
	require.NoError(t, err)
	h.refusedRaise("outside-template", alice, patching())
	fits := patching()
	fits.Content.Window = change.Between(monday, monday.Add(time.Hour))
	c := h.raise(fits)
	require.Equal(t, 2, c.TemplateVersion)
	require.Equal(t, "apt full-upgrade", c.Plans.Implementation)

	old = h.do(alice, old.ID, change.Submit{})
	require.Equal(t, "template patch-db v1", old.Authorized.By, "a change keeps its version")

	_, err = h.changes.PublishTemplate(ctx, carol, "patch-db", 1)
	refusedBy(t, err, command.ErrRefused, "template-state")
	all, err := h.changes.Template(ctx, "patch-db")
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, next, all[1].Text)
	require.True(t, all[1].Approved())
}

func TestARetiredTemplateTakesNoFurtherChanges(t *testing.T) {
	h := templated(t)
	ctx := t.Context()
	before := h.raise(patching())
	h.clock.pass(time.Minute)
	v, err := h.changes.RetireTemplate(ctx, carol, "patch-db", "replaced by the operator")
	require.NoError(t, err)
	require.Equal(t, monday.Add(time.Minute), v.RetiredAt)
	h.refusedRaise("template-retired", alice, patching())
	require.NotNil(t, h.do(alice, before.ID, change.Submit{}).Authorized, "those raised before keep their authorisation")

	_, err = h.changes.RetireTemplate(ctx, carol, "patch-db", "again")
	refusedBy(t, err, command.ErrRefused, "template-retired")
	_, err = h.changes.ApproveTemplate(ctx, bob, "patch-db", 1)
	refusedBy(t, err, command.ErrRefused, "template-retired")
	_, err = h.changes.PublishTemplate(ctx, carol, "patch-db", 1)
	refusedBy(t, err, command.ErrRefused, "template-retired")

	_, err = h.changes.ProposeTemplate(ctx, carol, "patch-db", patch())
	require.NoError(t, err)
	_, err = h.changes.ApproveTemplate(ctx, bob, "patch-db", 2)
	require.NoError(t, err)
	h.refusedRaise("template-retired", alice, patching())
	_, err = h.changes.PublishTemplate(ctx, carol, "patch-db", 2)
	require.NoError(t, err)
	require.Equal(t, 2, h.raise(patching()).TemplateVersion, "a newer version can be published")
}

func TestBadTemplatesAreRefusedByName(t *testing.T) {
	h := open(t, memory.New())
	ctx := t.Context()
	for name, c := range map[string]struct {
		rule  string
		alter func(name *string, t *change.Template)
	}{
		"no name":             {"name-required", func(name *string, _ *change.Template) { *name = "" }},
		"a long name":         {"name-required", func(name *string, _ *change.Template) { *name = strings.Repeat("x", 65) }},
		"a name with a NUL":   {"not-text", func(name *string, _ *change.Template) { *name = "a\x00b" }},
		"a name not in UTF-8": {"not-text", func(name *string, _ *change.Template) { *name = "a\xffb" }},
		"no title":            {"title-required", func(_ *string, t *change.Template) { t.Title = "" }},
		"no plan":             {"plan-required", func(_ *string, t *change.Template) { t.Plans.Implementation = " " }},
		"a long plan":         {"too-long", func(_ *string, t *change.Template) { t.Plans.Test = strings.Repeat("x", 32_769) }},
		"a plan not in UTF-8": {"not-text", func(_ *string, t *change.Template) { t.Plans.Communication = "\xff" }},
		"a long category":     {"too-long", func(_ *string, t *change.Template) { t.Category = strings.Repeat("x", 201) }},
		"an empty class":      {"empty-member", func(_ *string, t *change.Template) { t.Classes = []string{""} }},
		"too many attributes": {"too-many", func(_ *string, t *change.Template) { t.Attributes = make([]string, 201) }},
		"a task of no kind":   {"unknown-task-kind", func(_ *string, t *change.Template) { t.Tasks[0].Kind = "magic" }},
		"a task of no title":  {"title-required", func(_ *string, t *change.Template) { t.Tasks[0].Title = "" }},
		"too many tasks":      {"too-many", func(_ *string, t *change.Template) { t.Tasks = make([]change.TaskTemplate, 501) }},
		"a negative window":   {"interval-invalid", func(_ *string, t *change.Template) { t.Longest = -1 }},
	} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			id, text := "patch-db", patch()
			c.alter(&id, &text)
			h.untouched(func() {
				_, err := h.changes.ProposeTemplate(ctx, carol, id, text)
				refusedBy(t, err, command.ErrMalformed, c.rule)
			})
		})
	}
	h.untouched(func() {
		_, err := h.changes.ProposeTemplate(ctx, dave, "patch-db", patch())
		refusedBy(t, err, command.ErrDenied, "role-required")
		_, err = h.changes.ApproveTemplate(ctx, bob, "patch-db", 1)
		refusedBy(t, err, command.ErrMalformed, "unknown-template")
		_, err = h.changes.PublishTemplate(ctx, carol, "patch-db", 1)
		refusedBy(t, err, command.ErrMalformed, "unknown-template")
		_, err = h.changes.RetireTemplate(ctx, carol, "patch-db", "x")
		refusedBy(t, err, command.ErrMalformed, "unknown-template")
		_, err = h.changes.RetireTemplate(ctx, carol, "patch-db", "")
		refusedBy(t, err, command.ErrMalformed, "reason-required")
	})
	all, err := h.changes.Template(ctx, "patch-db")
	require.NoError(t, err)
	require.Empty(t, all)
}

// DOMAIN 1.1: no approval stage unless the template says so: a model of one's own whose
// authority is a template can have stages on top.
func TestStagesOfAStandardModelComeOnTopOfItsTemplate(t *testing.T) {
	h := open(t, memory.New(), everybody).estate()
	m := asking(stage("peer", change.Rule{Counting: change.First}, "bob"))
	m.Name, m.Authority = "checked", change.AuthorityTemplate
	h.publish(m)
	ctx := t.Context()
	text := patch()
	text.Model = "checked"
	_, err := h.changes.ProposeTemplate(ctx, carol, "patch-db", text)
	require.NoError(t, err)
	_, err = h.changes.ApproveTemplate(ctx, bob, "patch-db", 1)
	require.NoError(t, err)
	_, err = h.changes.PublishTemplate(ctx, carol, "patch-db", 1)
	require.NoError(t, err)

	c := h.raise(patching(), change.Submit{})
	require.Equal(t, "checked", c.Model)
	require.Equal(t, "authorize", c.Phase)
	require.Nil(t, c.Authorized)
	h.refused("authorized", dave, c.ID, change.Start{})
	c = h.approve(bob, c.ID, "peer")
	require.Equal(t, "template patch-db v1, stages peer", c.Authorized.By)
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(monday, monday.Add(time.Hour))}})
	require.Equal(t, "authorize", c.Phase, "what a stage approved is voided by an edit, within the template too")
	h.approve(bob, c.ID, "peer")
	h.do(dave, c.ID, change.Start{})
}
