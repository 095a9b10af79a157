// Package rollforward is a library for change control: changes and releases are
// aggregates that replay events from a pluggable event store, a schedule and a
// CMDB are projections of the same log, and risk, approval and authorisation are
// policy hooks.
//
// What is here so far is the kernel, which can be used alone:
//
//   - eventstore: the contract of a store, event types, units of work
//   - eventstore/memory, eventstore/sqlite: stores
//   - eventstore/storetest: the conformance suite for stores
//   - eventstore/follow: folds kept at the head of the log
//   - eventstore/archive: the history as JSON Lines, out and in
//   - eventstore/spec: Given / When / Then, and replay of histories in tests
//
// Changes, the CMDB, the schedule and releases are built on it; they are not
// here yet. See README.md for the way there.
package rollforward
