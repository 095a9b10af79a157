package rollforward_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/risk"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

func ExampleOpen() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	engine, err := rollforward.Open(ctx, store, rollforward.Config{
		Authorizer: command.Roles{
			"alice": {command.Requester}, "bob": {command.Approver}, "carol": {command.ConfigManager}, "dave": {command.Implementer},
		},
		Risk: risk.Max(risk.LeadTime(24*time.Hour), risk.BlastRadius()),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	if _, err := engine.CMDB.Record(ctx, command.As("carol"),
		cmdb.Add("db-01", "database", cmdb.Attr("version", "15")),
		cmdb.Add("shop", "service", cmdb.Attr("criticality", "critical")),
		cmdb.Relate("shop", "depends on", "db-01"),
	); err != nil {
		log.Fatal(err)
	}
	c, err := engine.Changes.Raise(ctx, command.As("alice"), change.Raise{Content: change.Content{
		Title: "Upgrade db-01 to 16", Deltas: []cmdb.Delta{cmdb.Set("db-01", "version", "15", "16")},
	}}, change.Submit{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.ID, c.Phase, "risk", c.Risk.Verdict.Level)

	mayDeploy := func() {
		why, err := engine.Changes.Why(ctx, command.As("dave"), c.ID, change.Start{})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("may dave start?", len(why) == 0, why)
	}
	mayDeploy()
	if _, err := engine.Changes.Do(ctx, command.As("bob"), c.ID, change.Approve{Stage: "cab", Scope: c.Scope}); err != nil {
		log.Fatal(err)
	}
	mayDeploy()
	// Output:
	// CHG-000001 authorize risk high
	// may dave start? false [authorized: the change is in phase "authorize" and not authorised: stage "cab" waits for bob]
	// may dave start? true []
}
