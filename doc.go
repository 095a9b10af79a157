// Package rollforward is a library for change control: changes and releases are
// aggregates that replay events from a pluggable event store, a schedule and a
// CMDB are projections of the same log, and risk, approval and authorisation are
// policy hooks.
//
//	store, err := sqlite.Open("changes.db")
//	engine, err := rollforward.Open(ctx, store, rollforward.Config{
//		Authorizer: command.Roles{"alice": {command.Requester}, "bob": {command.Approver}, "dave": {command.Implementer}},
//		Risk:       risk.Max(risk.LeadTime(24*time.Hour), risk.BlastRadius()),
//	})
//	defer engine.Close()
//
//	c, err := engine.Changes.Raise(ctx, command.As("alice"), change.Raise{Content: content}, change.Submit{})
//	c, err = engine.Changes.Do(ctx, command.As("bob"), c.ID, change.Approve{Stage: "cab", Scope: c.Scope})
//	why, err := engine.Changes.Why(ctx, command.As("dave"), c.ID, change.Start{}) // none: he may
//
//	err = engine.View(ctx, func(v rollforward.View) error { ... })               // all at one position
//	now, err := engine.Situation(ctx, rollforward.About{CI: "db-01"})             // what goes on with it
//	err = engine.Handle(relay.Handler{Name: "tell-owners", Cases: cases})         // act on what is recorded
//
// The rooms, each usable by what lies above it only:
//
//   - change: the change aggregate, its models and approvals; change/risk: risk policies;
//     change/schedule: windows, conflicts, free slots, booking
//   - release: the release aggregate, environments, gates, deployments
//   - cmdb: configuration items, relations, impact
//   - eventstore: the contract of a store, event types, units of work
//   - eventstore/command: the door through which every command passes
//   - eventstore/memory, eventstore/sqlite: stores; eventstore/storetest: the conformance suite for stores
//   - eventstore/follow: folds kept at the head of the log
//   - eventstore/relay: handlers that act on what was recorded, by [Engine.Handle]; the log for other programs
//   - eventstore/telemetry: traces and metrics on the OpenTelemetry API, by Config.Observer
//   - eventstore/archive: the history as JSON Lines, out and in
//   - eventstore/spec: Given / When / Then, and replay of histories in tests
package rollforward
