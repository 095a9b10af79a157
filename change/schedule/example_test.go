package schedule_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// A freeze is defined, a change is planned into it, and then where there is room.
func Example() {
	ctx := context.Background()
	h, end, err := wire(ctx, memory.New(), schedule.Rules{}, func() time.Time { return monday })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer end()
	h.cmdb.Record(ctx, carol, cmdb.Add("db-01", "database"))
	h.schedule.DefineWindow(ctx, carol, schedule.Window{
		ID: "quarter", Name: "Quarterly close", Kind: schedule.Deny, Scope: schedule.Scope{Classes: []string{"database"}},
		Zone: "Europe/Berlin", Start: "2026-03-02T00:00:00", End: "2026-03-04T00:00:00",
	})
	c, err := h.changes.Raise(ctx, alice, change.Raise{Model: "quick", Content: change.Content{
		Title: "Upgrade db-01", CIs: []string{"db-01"}, Plans: change.Plans{Implementation: "apt upgrade"},
		Window: change.Between(monday.Add(time.Hour), monday.Add(3*time.Hour)),
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	found, _ := h.schedule.Conflicts(ctx, c.ID)
	for _, one := range found.Conflicts {
		fmt.Printf("%s, %s: %s\n", one.Rule, one.Severity, one.Why)
	}
	slots, _ := h.schedule.Slots(ctx, schedule.Need{Change: c.ID, Most: 1, Hours: &schedule.Hours{Zone: "Europe/Berlin"}})
	fmt.Println("free:", slots.Slots[0].Start)
	c, _ = h.changes.Do(ctx, alice, c.ID, change.Edit{Set: change.Content{Window: &slots.Slots[0]}}, change.Submit{})
	timed, _ := c.Timing(change.ToAuthorize)
	fmt.Println(c.Phase, timed.Timing.Answer)
	// Output:
	// blackout, critical: "Quarterly close" closes db-01 2026-03-02 10:00 to 12:00 UTC
	// free: 2026-03-04 08:00:00 +0000 UTC
	// scheduled clear
}

func ExampleSchedule_Slots() {
	w := newWorld(must{})
	w.put("ci-db-01", cmdb.Recorded{Deltas: []cmdb.Delta{cmdb.Add("db-01", "database")}})
	w.raise("CHG-000001", change.KindScheduled, change.Content{Title: "Upgrade", CIs: []string{"db-01"}, Window: window(10, 11)})
	found, err := w.fold.Slots(schedule.Need{For: 90 * time.Minute, CIs: []string{"db-01"}, Most: 1, Reasons: true}, w.graph, schedule.Rules{}, at(9))
	fmt.Println(texts(found.Slots), err)
	fmt.Println(found.Passed[0].Why)
	// Output:
	// 11-12.5 <nil>
	// free for 1h0m0s, which is too short: ci-already-scheduled: db-01, CHG-000001, 2026-03-02 10:00 to 11:00 UTC
}

// must is a test in an example.
type must struct{}

func (must) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (must) FailNow()                          { panic("failed") }
