package change_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// told returns the history of a change as people read it.
func (h *house) told(id string) string {
	h.t.Helper()
	entries, err := h.changes.History(h.t.Context(), id)
	require.NoError(h.t, err)
	var b strings.Builder
	for i, e := range entries {
		require.EqualValues(h.t, i+1, e.Version)
		require.NotZero(h.t, e.Position)
		require.True(h.t, strings.HasPrefix(e.Type, "change."))
		b.WriteString(strings.TrimPrefix(e.String(), "2026-03-02 ") + "\n")
	}
	return b.String()
}

func TestTheHistoryOfAChangeReadsAsSentences(t *testing.T) {
	h := open(t, memory.New()).estate()
	minute := func() { h.clock.pass(time.Minute) }
	c, err := h.changes.RaiseCall(t.Context(), command.Call{Actor: alice, Reason: "support ends in April"}, upgrade(),
		change.AddTask{Title: "Tell the desk", Kind: "communication", Assignee: "dave"})
	require.NoError(t, err)
	minute()
	h.do(alice, c.ID, change.Submit{})
	minute()
	h.do(bob, c.ID, change.Reject{Stage: "cab", Reason: "no test plan"})
	minute()
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Plans: change.Plans{Test: "select 1"}}, Reason: "as the board asks"}, change.Submit{})
	minute()
	h.delegate("ben", "erin", time.Hour)
	c = h.do(erin.For("ben"), c.ID, change.Approve{Stage: "cab", Scope: c.Scope, Comment: "good"})
	minute()
	c = h.do(alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(monday, monday.Add(4*time.Hour))}})
	minute()
	h.approve(bob, c.ID, "cab")
	h.do(carol, c.ID, change.Hold{Reason: "freeze"})
	minute()
	h.do(carol, c.ID, change.Resume{Reason: "the freeze is over"})
	h.do(dave, c.ID, change.Start{})
	minute()
	h.do(dave, c.ID, change.EditTask{ID: 1, Title: "Tell the desk and the shop"}, change.MoveTask{ID: 1, To: "closed"}, change.Complete{Notes: "went well"})
	minute()
	h.do(alice, c.ID, change.Note{Text: "the vendor helped"}, change.Link{Incident: change.Incident{ID: "INC-7", Relation: change.Caused, Priority: 3}})
	minute()
	h.do(bob, c.ID, change.Note{Text: "thanks"})
	_, err = h.changes.Do(t.Context(), erin, c.ID, change.Review{Outcome: change.WithIssues, Notes: "a minute too long", FollowUps: []change.FollowUp{{Title: "Mend the runbook", Kind: "documentation"}}})
	require.NoError(t, err)
	minute()
	h.do(dave, c.ID, change.MoveTask{ID: 2, To: "closed"})
	h.do(carol, c.ID, change.Close{})
	require.Equal(t, strings.TrimPrefix(`
09:00:00  alice raises CHG-000001 under model normal: Upgrade db-01 to 16 (support ends in April)
09:00:00    so communication task 1 is opened: Tell the desk, for dave
09:01:00  alice submits it, from draft to assess
09:01:00    so it is assessed: 1 more CI affected, risk is low by steady: it always is
09:01:00    so it goes from assess to authorize
09:01:00    so stage cab is needed: always asked for
09:01:00    so stage cab is asked of ben, bob
09:02:00  bob rejects stage cab: no test plan
09:02:00    so stage cab is rejected: 1 of 1 seat rejected, one rejection decides: no test plan
09:02:00    so it goes from authorize to draft: 1 of 1 seat rejected, one rejection decides: no test plan
09:03:00  alice edits plan.test: as the board asks
09:03:00  alice submits it, from draft to assess
09:03:00    so it is assessed: 1 more CI affected, risk is low by steady: it always is
09:03:00    so it goes from assess to authorize
09:03:00    so stage cab is asked of ben, bob, for the 2nd time
09:04:00  erin for ben approves stage cab: good
09:04:00    so stage cab is approved: 1 of 1 seat approved, 1 was needed
09:04:00    so it is authorised, by stages cab
09:04:00    so it goes from authorize to scheduled
09:05:00  alice edits window, which voids the approval of cab
09:05:00    so it is assessed: 1 more CI affected, risk is low by steady: it always is
09:05:00    so it goes from scheduled to authorize: an edit voided approvals
09:05:00    so stage cab is asked of ben, bob, for the 3rd time
09:06:00  bob approves stage cab
09:06:00    so stage cab is approved: 1 of 1 seat approved, 1 was needed
09:06:00    so it is authorised, by stages cab
09:06:00    so it goes from authorize to scheduled
09:06:00  carol puts it on hold: freeze
09:07:00  carol resumes it: the freeze is over
09:07:00  dave starts the work
09:07:00    so it goes from scheduled to implement
09:08:00  dave edits task 1: Tell the desk and the shop
09:08:00  dave puts task 1 to closed: Tell the desk and the shop
09:08:00  dave ends the work, 1 delta applied: went well
09:08:00    so it goes from implement to review
09:09:00  alice notes: the vendor helped
09:09:00  alice links incident INC-7, which it caused
09:10:00  bob notes: thanks
09:10:00  erin reviews it: successful with issues: a minute too long
09:10:00    so documentation task 2 is opened: Mend the runbook
09:11:00  dave puts task 2 to closed: Mend the runbook
09:11:00  carol closes it, from review to closed
`, "\n"), h.told(c.ID))
}

func TestTheHistoryOfOtherModelsReadsAsSentences(t *testing.T) {
	h := templated(t)
	c := h.raise(patching(), change.Submit{})
	require.Equal(t, strings.TrimPrefix(`
09:00:00  alice raises CHG-000001 under template patch-db v1: Patch a database
09:00:00    so communication task 1 is opened: Tell the desk
09:00:00    so it is authorised, by template patch-db v1
09:00:00  alice submits it, from draft to scheduled
09:00:00    so it is assessed: 1 more CI affected, risk is low by steady: it always is
`, "\n"), h.told(c.ID))

	h = open(t, memory.New()).estate()
	c = h.raise(outbreak(), change.Submit{})
	h.do(dave, c.ID, change.Start{})
	h.do(bob, c.ID, change.Reject{Stage: "emergency board", Reason: "can wait"})
	h.do(dave, c.ID, change.Complete{BackedOut: true})
	h.do(erin, c.ID, change.Review{Outcome: change.Unsuccessful, Accept: "the shop was down"})
	require.Equal(t, strings.TrimPrefix(`
09:00:00  alice raises CHG-000001 under model emergency: Upgrade db-01 to 16
09:00:00  alice submits it, from draft to authorize
09:00:00    so it is assessed: 1 more CI affected, risk is low by steady: it always is
09:00:00    so stage emergency board is needed: always asked for
09:00:00    so stage emergency board is asked of ben, bob
09:00:00  dave starts the work before it is authorised, which is due by 2026-03-04 09:00 UTC
09:00:00    so it goes from authorize to implement
09:00:00  bob rejects stage emergency board: can wait
09:00:00    so stage emergency board is rejected: 1 of 1 seat rejected, one rejection decides: can wait
09:00:00    so it is carried out and unauthorised: 1 of 1 seat rejected, one rejection decides: can wait
09:00:00  dave ends the work, backed out, 0 deltas applied
09:00:00    so it goes from implement to review
09:00:00  erin reviews it: unsuccessful; accepts what was not authorised: the shop was down
`, "\n"), h.told(c.ID))

	h = open(t, memory.New(), everybody, evaluating(words{}))
	m := tabled(false, change.Row{When: "risk=high", Stages: []string{"cab", "board"}})
	m.Stages[0].Deadline, m.Stages[0].Escalate = change.Duration(time.Hour), []change.Candidate{{Person: "zoe"}}
	h.publish(m)
	r := plain("tabled")
	r.Requester = "greta"
	c = h.raise(r, change.Submit{})
	h.clock.pass(time.Hour)
	h.do(carol, c.ID, change.Expire{Stage: "peer"}, change.Assess{Level: "moderate", Why: "as last time"})
	h.do(carol, c.ID, change.Revert{Reason: "another plan"}, change.Cancel{Reason: "not needed"})
	require.Equal(t, strings.TrimPrefix(`
09:00:00  alice raises CHG-000001 under model tabled: Rotate the logs, for greta
09:00:00  alice submits it, from draft to authorize
09:00:00    so it is assessed: 0 more CIs affected, risk is low by steady: it always is
09:00:00    so stage peer is needed: always asked for
09:00:00    so stage cab is skipped: no row of the decision table asks for it
09:00:00    so stage board is skipped: no row of the decision table asks for it
09:00:00    so stage peer is asked of bob, until 2026-03-02 10:00 UTC
10:00:00  carol escalates stage peer to zoe
10:00:00    so it is assessed: 0 more CIs affected, risk is moderate by carol: as last time
10:00:00    so stage peer is cancelled: the change went back to planning
10:00:00  carol takes it back to planning, from authorize to draft: another plan
10:00:00  carol cancels it, from draft to canceled: not needed
`, "\n"), h.told(c.ID))
}

// What people write cannot forge a line of the history.
func TestAnEntryIsOneLine(t *testing.T) {
	e := change.Entry{At: monday, Actor: "alice", Says: "notes: fine\n2026-03-02 09:00:00  bob approves stage cab", Reason: "a\rb"}
	require.Equal(t, "2026-03-02 09:00:00  alice notes: fine 2026-03-02 09:00:00  bob approves stage cab (a b)", e.String())
}
