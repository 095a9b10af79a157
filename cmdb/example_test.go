package cmdb_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// A shop's database, what hangs on it, and how it came to be what it is.
func Example() {
	ctx := context.Background()
	registry, err := eventstore.NewRegistry(append(cmdb.Types(), command.Types()...)...)
	if err != nil {
		log.Fatal(err)
	}
	store := memory.New()
	defer store.Close()
	clock := func() time.Time { return time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) }
	door, err := command.Open(command.Config{Store: store, Registry: registry, Authorizer: command.AllowAll, Clock: clock})
	if err != nil {
		log.Fatal(err)
	}
	defer door.Close(ctx)
	graph := cmdb.Projection(registry)
	follower, err := follow.Start(store, follow.Config{}, graph)
	if err != nil {
		log.Fatal(err)
	}
	defer follower.Close()
	inventory, err := cmdb.New(cmdb.Config{Door: door, Store: store, Registry: registry, Follower: follower, Graph: graph})
	if err != nil {
		log.Fatal(err)
	}

	clerk := command.As("u-7f3a")
	if _, err := inventory.DefineClasses(ctx, clerk, cmdb.StandardClasses()...); err != nil {
		log.Fatal(err)
	}
	if _, err := inventory.DefineRelations(ctx, clerk, cmdb.StandardRelations()...); err != nil {
		log.Fatal(err)
	}
	if _, err := inventory.Record(ctx, clerk,
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15")),
		cmdb.Add("app-1", "application"), cmdb.Relate("app-1", "depends on", "db-01"),
		cmdb.Add("app-2", "application"), cmdb.Relate("app-2", "depends on", "db-01"),
		cmdb.Add("apps", "cluster", cmdb.Attr("min_up", "50%")), cmdb.Relate("app-1", "member of", "apps"), cmdb.Relate("app-2", "member of", "apps"),
		cmdb.Add("shop", "service", cmdb.Attr("criticality", "high")), cmdb.Relate("shop", "depends on", "apps"),
	); err != nil {
		log.Fatal(err)
	}

	impact, err := inventory.Impact(ctx, "db-01", cmdb.Down)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range impact.Reached {
		var path []string
		for _, step := range r.Path {
			path = append(path, step.Relation+" "+step.To)
		}
		fmt.Printf("%d %s: db-01 %s\n", r.Depth, r.CI.ID, strings.Join(path, ", "))
	}
	impact, err = inventory.Impact(ctx, "app-1", cmdb.Down)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("without app-1: %d reached, %+v\n", len(impact.Reached), impact.Degraded)

	_, err = inventory.Record(ctx, clerk, cmdb.Set("db-01", "version", "14", "16"))
	fmt.Println(err)
	if _, err := inventory.Record(ctx, clerk, cmdb.Set("db-01", "version", "15", "16")); err != nil {
		log.Fatal(err)
	}
	history, err := inventory.History(ctx, "db-01")
	if err != nil {
		log.Fatal(err)
	}
	for _, entry := range history {
		fmt.Println(entry)
	}
	// Output:
	// 1 app-1: db-01 used by app-1
	// 1 app-2: db-01 used by app-2
	// 2 apps: db-01 used by app-1, member of apps
	// 3 shop: db-01 used by app-1, member of apps, used by shop
	// without app-1: 0 reached, [{CI:apps Members:2 Failed:1 Spare:0}]
	// cmdb.record db-01 is refused by precondition-failed (deltas[0]): version of db-01 is "15", not "14": look at db-01 again and decide on what it is now
	// 2026-03-02 09:00 UTC: u-7f3a added db-01 as database with version "15"
	// 2026-03-02 09:00 UTC: u-7f3a recorded that app-1 depends on db-01
	// 2026-03-02 09:00 UTC: u-7f3a recorded that app-2 depends on db-01
	// 2026-03-02 09:00 UTC: u-7f3a set version of db-01 from "15" to "16"
}

// Deltas can be checked on a graph of one's own, without a store.
func ExampleGraph_Check() {
	registry, err := eventstore.NewRegistry(cmdb.Types()...)
	if err != nil {
		log.Fatal(err)
	}
	graph := cmdb.NewGraph(registry)
	for _, p := range graph.Check([]cmdb.Delta{cmdb.Add("db-01", "database"), cmdb.Set("db-02", "version", "15", "16")}) {
		fmt.Println(p)
	}
	// Output:
	// delta 0: unknown-class: there is no class "database": define it, or take one of "item"
	// delta 1: unknown-ci: there is no CI "db-02": add it first, or correct its ID
}
