package change_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// example is an engine with a database that a shop hangs on, on a Monday.
func example() *rollforward.Engine {
	engine, err := rollforward.Open(context.Background(), memory.New(), rollforward.Config{
		Authorizer: staff,
		Risk:       risk.Max(risk.LeadTime(24*time.Hour), risk.BlastRadius()),
		Clock:      func() time.Time { return monday },
	})
	if err != nil {
		panic(err)
	}
	_, err = engine.CMDB.Record(context.Background(), carol,
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15"), cmdb.Attr("criticality", "high")),
		cmdb.Add("shop", "service", cmdb.Attr("criticality", "critical")),
		cmdb.Relate("shop", "depends on", "db-01"))
	if err != nil {
		panic(err)
	}
	return engine
}

// must is for examples: a program looks at the error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func Example() {
	ctx := context.Background()
	engine := example()
	defer engine.Close()
	changes := engine.Changes

	c := must(changes.Raise(ctx, alice, change.Raise{
		Model: "normal",
		Content: change.Content{
			Title:  "Upgrade db-01 to 16",
			Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")},
			Plans:  change.Plans{Implementation: "pg_upgrade", Backout: "restore the copy"},
			Window: change.Between(monday.Add(48*time.Hour), monday.Add(50*time.Hour)),
		},
	}, change.Submit{}))
	fmt.Println(c.ID, c.Phase, c.Risk.Verdict.Level)
	for _, affected := range c.Impact.Top {
		fmt.Println("affected:", affected.ID, "as", affected.Path)
	}

	c = must(changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: c.Scope}))
	fmt.Println(c.Phase, "by", c.Authorized.By)
	c = must(changes.Do(ctx, dave, c.ID, change.Start{}))
	c = must(changes.Do(ctx, dave, c.ID, change.Complete{}))
	fmt.Println(c.Phase, "and db-01 has version", must(engine.CMDB.Get(ctx, "db-01")).Attributes["version"])
	c = must(changes.Do(ctx, erin, c.ID, change.Review{Outcome: change.Successful}, change.Close{}))
	fmt.Println(c.Phase)
	// Output:
	// CHG-000001 authorize high
	// affected: shop as [{db-01 used by shop}]
	// scheduled by stages cab
	// review and db-01 has version 16
	// closed
}

// A refusal names every rule in the way, and what to do.
func ExampleService_Raise() {
	ctx := context.Background()
	engine := example()
	defer engine.Close()

	_, err := engine.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{
		Title:  "Upgrade db-02",
		CIs:    []string{"db-02"},
		Window: change.Between(monday.Add(time.Hour), monday),
	}})
	fmt.Println(command.By(err, "unknown-ci"), err)
	c := must(engine.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{Title: "Upgrade db-01", CIs: []string{"db-01"}}}))
	fmt.Println(c.ID, "is the first: what was refused has burnt no number")
	// Output:
	// true change.raise is malformed by interval-invalid (window.end): the window ends at 2026-03-02 09:00 UTC, not after its start at 2026-03-02 10:00 UTC: give an end after the start; and by unknown-ci (cis): the CMDB has no CI "db-02": record it first, or correct the ID
	// CHG-000001 is the first: what was refused has burnt no number
}

// May I deploy now? No rule in the way is yes.
func ExampleService_Why() {
	ctx := context.Background()
	engine := example()
	defer engine.Close()
	c := must(engine.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{Title: "Restart db-01", CIs: []string{"db-01"}}}, change.Submit{}))

	for _, rule := range must(engine.Changes.Why(ctx, dave, c.ID, change.Start{})) {
		fmt.Println(rule)
	}
	must(engine.Changes.Do(ctx, ben, c.ID, change.Approve{Stage: "cab", Scope: c.Scope}))
	fmt.Println(len(must(engine.Changes.Why(ctx, dave, c.ID, change.Start{}))) == 0)
	// Output:
	// authorized: the change is in phase "authorize" and not authorised: stage "cab" waits for ben, bob
	// true
}

// An edit of what is material voids the approval; who approved sees what is different.
func ExampleService_Since() {
	ctx := context.Background()
	engine := example()
	defer engine.Close()
	c := must(engine.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{
		Title: "Restart db-01", CIs: []string{"db-01"}, Window: change.Between(monday.Add(48*time.Hour), monday.Add(49*time.Hour)),
	}}, change.Submit{}))
	seen := c.Scope
	must(engine.Changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: seen}))

	c = must(engine.Changes.Do(ctx, alice, c.ID, change.Edit{Set: change.Content{Window: change.Between(monday.Add(time.Hour), monday.Add(2*time.Hour))}}))
	fmt.Println("back in", c.Phase)
	_, err := engine.Changes.Do(ctx, bob, c.ID, change.Approve{Stage: "cab", Scope: seen})
	fmt.Println(command.By(err, "scope-changed"))
	for _, d := range must(engine.Changes.Since(ctx, c.ID, "bob")) {
		fmt.Println(d)
	}
	// Output:
	// back in authorize
	// true
	// window: 2026-03-04 09:00 UTC to 2026-03-04 10:00 UTC -> 2026-03-02 10:00 UTC to 2026-03-02 11:00 UTC
}

// What can be done next, and by whom.
func ExampleService_Next() {
	ctx := context.Background()
	engine := example()
	defer engine.Close()
	c := must(engine.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{Title: "Restart db-01", CIs: []string{"db-01"}}}, change.Submit{}))

	for _, step := range must(engine.Changes.Next(ctx, bob, c.ID)) {
		may := "now"
		if len(step.Refused) > 0 {
			may = "not yet: " + step.Refused[0].Rule
		}
		fmt.Printf("%s by %v, by bob %s\n", step.Says, step.Who, may)
	}
	// Output:
	// approve stage cab by [ben bob], by bob now
	// advance it by [carol], by bob not yet: role-required
	// start the work by [alice carol dave], by bob not yet: role-required
	// take it back to planning by [carol], by bob not yet: role-required
	// cancel it by [alice carol], by bob not yet: role-required
}

func ExampleService_History() {
	ctx := context.Background()
	engine := example()
	defer engine.Close()
	c := must(engine.Changes.Raise(ctx, alice, change.Raise{Content: change.Content{Title: "Restart db-01", CIs: []string{"db-01"}}},
		change.AddTask{Title: "Tell the shop", Kind: "communication"}))
	must(engine.Changes.Do(ctx, carol, c.ID, change.Hold{Reason: "freeze"}))
	must(engine.Changes.Do(ctx, carol, c.ID, change.Cancel{Reason: "the vendor restarts it"}))

	for _, entry := range must(engine.Changes.History(ctx, c.ID)) {
		fmt.Println(entry)
	}
	// Output:
	// 2026-03-02 09:00:00  alice raises CHG-000001 under model normal: Restart db-01
	// 2026-03-02 09:00:00    so communication task 1 is opened: Tell the shop
	// 2026-03-02 09:00:00  carol puts it on hold: freeze
	// 2026-03-02 09:00:00  carol cancels it, from draft to canceled: the vendor restarts it
}

func ExampleMermaid() {
	for _, m := range change.Models() {
		if m.Name == "registered" {
			fmt.Print(change.Mermaid(m))
		}
	}
	// Output:
	// stateDiagram-v2
	//     state "recorded" as p0
	//     p0 : review
	//     state "closed" as p1
	//     p1 : closed
	//     [*] --> p0
	//     p0 --> p1
	//     p1 --> [*]
}
