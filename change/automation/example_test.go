package automation_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/automation"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// A scanner finds a database at a version that no change plans: somebody will have to
// say that it was right, or set it back.
func ExampleDrift() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	engine, err := rollforward.Open(ctx, store, rollforward.Config{
		Authorizer: command.Roles{
			"carol": {command.ConfigManager}, "bob": {command.Approver}, automation.Actor: {command.Automation},
		},
		Clock: func() time.Time { return time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) },
		Types: automation.Types(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	drift, err := automation.Drift(automation.DriftConfig{
		Changes: engine.Changes, CMDB: engine.CMDB, Door: engine.Door, WaitFor: engine.WaitFor,
		Classes: []string{"database"},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := engine.Handle(drift); err != nil {
		log.Fatal(err)
	}

	carol := command.As("carol")
	if _, err := engine.CMDB.Record(ctx, carol, cmdb.Add("db-01", "database", cmdb.Attr("version", "15"))); err != nil {
		log.Fatal(err)
	}
	_, err = engine.CMDB.Import(ctx, carol, "scanner", cmdb.Observation{Items: []cmdb.ObservedItem{
		{Key: "10.0.0.7", CI: "db-01", Class: "database", Attributes: map[string]string{"version": "16"}},
	}}, cmdb.ImportOptions{})
	if err != nil {
		log.Fatal(err)
	}

	for {
		found, err := engine.Changes.List(ctx, change.Filter{Model: "unauthorized"})
		if err != nil {
			log.Fatal(err)
		}
		if len(found) > 0 {
			fmt.Println(found[0].ID, found[0].Title, "in phase", found[0].Phase)
			fmt.Print(found[0].Description)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Output:
	// CHG-000001 Drift on db-01 in phase authorize
	// Source scanner reported what no change explains, seen at 2026-03-02 09:00 UTC:
	// - it has set version of db-01 from "15" to "16": no change names it
}

// A pipeline reports that it has deployed a version: the change that it was is
// authorised by its template.
func ExamplePipelines() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	engine, err := rollforward.Open(ctx, store, rollforward.Config{
		Authorizer: command.Roles{
			"carol": {command.ConfigManager, command.ChangeManager}, "bob": {command.Approver},
			"ci": {command.Automation}, automation.Actor: {command.Automation},
		},
		Clock: func() time.Time { return time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) },
		Types: automation.Types(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	pipelines, err := automation.Pipelines(automation.PipelinesConfig{
		Changes: engine.Changes, CMDB: engine.CMDB, Door: engine.Door, Carries: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := engine.Handle(pipelines); err != nil {
		log.Fatal(err)
	}

	bob, carol := command.As("bob"), command.As("carol")
	_, err = engine.CMDB.Record(ctx, carol, cmdb.Add("shop", "service", cmdb.Attr("criticality", "high")))
	if err == nil {
		_, err = engine.Changes.ProposeTemplate(ctx, carol, "deploy-shop", change.Template{
			Title: "Deploy the shop", Plans: change.Plans{Implementation: "by its pipeline", Backout: "deploy the version before"},
			Classes: []string{"service"}, Attributes: []string{"criticality"},
		})
	}
	if err == nil {
		_, err = engine.Changes.ApproveTemplate(ctx, bob, "deploy-shop", 1)
	}
	if err == nil {
		_, err = engine.Changes.PublishTemplate(ctx, carol, "deploy-shop", 1)
	}
	if err == nil {
		_, err = automation.Report(ctx, engine.Door, command.Call{Actor: command.As("ci")}, automation.Reported{
			Pipeline: "deploy", Run: "4711", State: automation.Succeeded, URL: "https://ci.example.com/runs/4711",
			CI: "shop", Template: "deploy-shop",
		})
	}
	if err != nil {
		log.Fatal(err)
	}

	for {
		found, err := engine.Changes.List(ctx, change.Filter{Phase: "review"})
		if err != nil {
			log.Fatal(err)
		}
		if len(found) > 0 {
			fmt.Println(found[0].ID, found[0].External, found[0].Title, "by", found[0].Authorized.By)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Output:
	// CHG-000001 deploy#4711 Deploy the shop by template deploy-shop v1
}
