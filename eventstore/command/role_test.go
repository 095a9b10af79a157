package command_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore/command"
)

// actions are those of all rooms.
var actions = strings.Fields(`
	change.raise change.edit change.submit change.assess change.advance change.approve change.reject change.expire
	change.start change.complete change.review change.close change.cancel change.revert change.hold change.resume
	change.task change.link change.note change.read
	model.publish template.propose template.approve template.publish template.retire
	cmdb.record cmdb.define cmdb.import cmdb.read delegation.give follow.park
	change.carry window.define window.retire window.override conflict.accept schedule.read environment.define
	release.plan release.edit release.bind release.evidence release.check release.waive release.advance release.approve release.reject
	release.deploy release.report release.pause release.resume release.finish release.fail release.abort release.retry release.rollback
	release.lift release.emerge release.close release.cancel release.note release.read notify.record pipeline.report
	handler.park handler.retry handler.skip`)

// The ready table, written out: who may what of the above, on any object but himself.
var ready = map[command.Role]string{
	command.Requester: "change.raise change.edit change.submit change.cancel change.task change.link change.note change.read release.read schedule.read cmdb.read",
	command.Approver:  "change.approve change.reject change.note change.read release.read schedule.read template.approve cmdb.read release.approve release.reject release.waive release.check window.override conflict.accept",
	command.ChangeManager: `change.raise change.edit change.submit change.assess change.advance change.expire
		change.start change.complete change.close change.cancel change.revert change.hold change.resume
		change.task change.link change.note change.read release.read schedule.read model.publish template.propose template.publish template.retire cmdb.read follow.park
		window.define window.retire window.override conflict.accept`,
	command.ReleaseManager: `release.plan release.edit release.bind release.evidence release.check release.advance release.deploy release.report release.pause
		release.resume release.finish release.fail release.abort release.retry release.rollback release.lift release.emerge release.close release.cancel
		release.note environment.define change.raise change.submit change.carry change.note change.link change.read release.read schedule.read cmdb.read`,
	command.Implementer:   "change.edit change.start change.complete change.task change.link change.note change.read release.read schedule.read cmdb.read",
	command.Reviewer:      "change.review change.close change.link change.note change.read release.read schedule.read cmdb.read",
	command.ConfigManager: "change.read release.read schedule.read cmdb.record cmdb.define cmdb.import cmdb.read",
	command.Operator:      "follow.park handler.park handler.retry handler.skip change.read release.read schedule.read cmdb.read",
	command.Automation: `notify.record pipeline.report change.raise change.submit change.start change.complete change.task change.note
		change.read release.read schedule.read cmdb.read`,
	command.Auditor: "change.read release.read schedule.read cmdb.read",
}

func TestTheReadyTableGivesEveryRoleItsRights(t *testing.T) {
	require.Len(t, command.ReadyTable(), len(ready))
	ctx := context.Background()
	for role, rights := range ready {
		roles := command.Roles{"u-1": {role}}
		want := strings.Fields(rights)
		for _, action := range actions {
			err := roles.Authorize(ctx, command.Request{Actor: command.As("u-1"), Action: action, Object: "CHG-000001"})
			require.Equal(t, slices.Contains(want, action), err == nil, "%s %s: %v", role, action, err)
			require.NotNil(t, roles.Authorize(ctx, command.Request{Actor: command.As("u-2"), Action: action}), "who has no role has no right")
		}
		err := roles.Authorize(ctx, command.Request{Actor: command.As("u-1"), Action: "delegation.give", Object: "u-1"})
		require.Equal(t, role == command.Auditor || role == command.Automation, err != nil, "%s delegates for himself", role)
	}
}

func TestNobodyMayEverythingInTheReadyTable(t *testing.T) {
	for role, rights := range command.ReadyTable() {
		for _, right := range rights {
			for _, pattern := range right.Actions {
				require.NotEqual(t, "*", pattern, "%s", role)
				require.NotEqual(t, "change.*", pattern, "%s", role)
			}
		}
	}
}

func TestTheReadyTableIsACopy(t *testing.T) {
	table := command.ReadyTable()
	table[command.Auditor][0].Actions[0] = "*"
	table[command.Requester] = append(table[command.Requester], command.Permission{Actions: []string{"*"}})
	require.Error(t, command.Roles{"u-1": {command.Auditor}}.Authorize(context.Background(), command.Request{Actor: command.As("u-1"), Action: "x"}))
	require.NotEqual(t, "*", command.ReadyTable()[command.Auditor][0].Actions[0])
}

func TestARightReachesByActionObjectAndAttribute(t *testing.T) {
	for name, c := range map[string]struct {
		right   command.Permission
		request command.Request
		yes     bool
	}{
		"exact":                          {command.Permission{Actions: []string{"a.b"}}, command.Request{Action: "a.b"}, true},
		"one of several":                 {command.Permission{Actions: []string{"x", "a.b"}}, command.Request{Action: "a.b"}, true},
		"longer than exact":              {command.Permission{Actions: []string{"a.b"}}, command.Request{Action: "a.bc"}, false},
		"a pattern":                      {command.Permission{Actions: []string{"a.*"}}, command.Request{Action: "a.b"}, true},
		"a pattern's beginning itself":   {command.Permission{Actions: []string{"a.*"}}, command.Request{Action: "a."}, true},
		"outside the pattern":            {command.Permission{Actions: []string{"a.*"}}, command.Request{Action: "ab"}, false},
		"a star elsewhere is a star":     {command.Permission{Actions: []string{"a*b"}}, command.Request{Action: "axb"}, false},
		"everything":                     {command.Permission{Actions: []string{"*"}}, command.Request{Action: "a.b"}, true},
		"no action":                      {command.Permission{}, command.Request{Action: "a"}, false},
		"every object":                   {command.Permission{Actions: []string{"a"}}, command.Request{Action: "a", Object: "o"}, true},
		"an object":                      {command.Permission{Actions: []string{"a"}, Objects: []string{"o-*"}}, command.Request{Action: "a", Object: "o-1"}, true},
		"another object":                 {command.Permission{Actions: []string{"a"}, Objects: []string{"o-*"}}, command.Request{Action: "a", Object: "p-1"}, false},
		"no object yet":                  {command.Permission{Actions: []string{"a"}, Objects: []string{"o-*"}}, command.Request{Action: "a"}, false},
		"himself":                        {command.Permission{Actions: []string{"a"}, Self: true}, command.Request{Action: "a", Object: "u-1"}, true},
		"not himself":                    {command.Permission{Actions: []string{"a"}, Self: true}, command.Request{Action: "a", Object: "u-2"}, false},
		"himself on behalf of another":   {command.Permission{Actions: []string{"a"}, Self: true}, command.Request{Actor: command.Actor{ID: "u-9", OnBehalfOf: "u-1"}, Action: "a", Object: "u-9"}, false},
		"the other on his behalf":        {command.Permission{Actions: []string{"a"}, Self: true}, command.Request{Actor: command.Actor{ID: "u-9", OnBehalfOf: "u-1"}, Action: "a", Object: "u-1"}, true},
		"an attribute":                   {where("model", "standard", "normal"), command.Request{Action: "a", Attributes: map[string][]string{"model": {"normal"}}}, true},
		"an attribute among others":      {where("ci", "db-01"), command.Request{Action: "a", Attributes: map[string][]string{"ci": {"app-02", "db-01"}}}, true},
		"another value":                  {where("model", "standard"), command.Request{Action: "a", Attributes: map[string][]string{"model": {"emergency"}}}, false},
		"no such attribute":              {where("model", "standard"), command.Request{Action: "a"}, false},
		"no value would do":              {where("model"), command.Request{Action: "a", Attributes: map[string][]string{"model": {""}}}, false},
		"only one of two attributes has": {command.Permission{Actions: []string{"a"}, Where: map[string][]string{"m": {"1"}, "n": {"1"}}}, command.Request{Action: "a", Attributes: map[string][]string{"m": {"1"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			policy := command.Policy{Table: command.Table{"r": {c.right}}, Roles: command.Roles{"u-1": {"r"}, "u-2": {"other"}}}
			if c.request.Actor.ID == "" {
				c.request.Actor = command.As("u-1")
			}
			err := policy.Authorize(context.Background(), c.request)
			require.Equal(t, c.yes, err == nil, "%v", err)
			require.Equal(t, c.yes, slices.Equal([]string{"u-1"}, policy.Who(c.request)), "who is found is who may")
		})
	}
}

func where(name string, values ...string) command.Permission {
	return command.Permission{Actions: []string{"a"}, Where: map[string][]string{name: values}}
}

func TestADenialSaysWhatIsMissingAndWhomToAsk(t *testing.T) {
	policy := command.Policy{
		Table: command.Table{
			"owner": {{Actions: []string{"a.edit"}, Objects: []string{"o-*"}, Where: map[string][]string{"ci": {"db-01"}}}, {Actions: []string{"a.own"}, Self: true}},
			"chief": {{Actions: []string{"a.*"}}},
		},
		Roles: command.Roles{"u-1": {"owner", "guest"}, "u-2": nil},
	}
	for _, c := range []struct {
		request command.Request
		rule    string
		says    string
	}{
		{command.Request{Actor: command.As("u-1"), Action: "a.vote"}, "role-required",
			"role-required: u-1 has the roles [guest, owner]; a.vote takes one of [chief]: ask somebody who is chief"},
		{command.Request{Actor: command.As("u-9").For("u-2"), Action: "a.edit"}, "role-required",
			"role-required: u-2 has no role; a.edit takes one of [chief, owner]: ask somebody who is chief or owner"},
		{command.Request{Actor: command.As("u-1"), Action: "b"}, "role-required",
			"role-required: no role has the right to b: give the right to a role, in the table of the policy"},
		{command.Request{Actor: command.As("u-1"), Action: "a.edit", Object: "o-1", Attributes: map[string][]string{"ci": {"x", "y"}}}, "outside-right",
			"outside-right: u-1 may a.edit only as owner on [o-*] where ci is one of [db-01]; this is o-1, ci [x, y]: ask somebody whose right reaches it"},
		{command.Request{Actor: command.As("u-1"), Action: "a.own"}, "outside-right",
			"outside-right: u-1 may a.own only as owner for himself; this is new: ask somebody whose right reaches it"},
	} {
		err := policy.Authorize(context.Background(), c.request)
		require.ErrorIs(t, err, command.ErrDenied)
		require.Equal(t, []string{c.rule}, rules(t, err))
		require.EqualError(t, err, "is denied by "+c.says)
	}
	long := command.Request{Actor: command.As("u-1"), Action: "a.edit", Attributes: map[string][]string{"ci": strings.Fields(strings.Repeat("c ", 12))}}
	require.ErrorContains(t, policy.Authorize(context.Background(), long), "[c, c, c, c, c, c, c, c, c, c, and 2 more]")
}
