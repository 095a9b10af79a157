package release_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/release"
)

// exampled is a house for an example, which has no test to fail.
type exampled struct{ testing.TB }

func (exampled) Helper()                  {}
func (exampled) Context() context.Context { return context.Background() }
func (exampled) Errorf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
func (exampled) FailNow()         { panic("the example fails") }
func (exampled) Cleanup(f func()) { cleanups = append(cleanups, f) }

var cleanups []func()

// A release through two environments: what is missing is said, and the production
// deployment carries the change out.
func Example() {
	h := open(exampled{}).estate(road())
	defer func() {
		for _, f := range cleanups {
			f()
		}
	}()
	ctx := context.Background()
	r, _ := h.releases.Plan(ctx, alice, release.Plan{Process: "direct", Content: release.Content{
		Title: "Database 16", Kind: release.Minor, Components: []release.Component{{Kind: release.Code, CI: "db-01", From: "15", To: "16"}},
	}}, release.Advance{})
	why, _ := h.releases.Why(ctx, alice, r.ID, release.Deploy{Environment: "production"})
	for _, w := range why {
		fmt.Println(w)
	}
	c := h.authorised(cmdb.Set("db-01", "version", "15", "16"))
	h.do(alice, r.ID, release.Bind{Change: c.ID}, release.Deploy{Environment: "staging"})
	h.do(pipeline, r.ID, release.Report{Deployment: 1, ID: "job-17", Target: "staging", Outcome: release.Successful})
	h.do(alice, r.ID, release.Finish{Deployment: 1}, release.Deploy{Environment: "production"})
	fmt.Println(c.ID, "is in phase", h.change(c.ID).Phase)
	h.do(pipeline, r.ID, release.Report{Deployment: 2, ID: "job-18", Target: "production", Outcome: release.Successful})
	h.do(alice, r.ID, release.Finish{Deployment: 2})
	fmt.Println(c.ID, "is in phase", h.change(c.ID).Phase)
	fmt.Println("db-01 is", h.ci("db-01").Attributes["version"])
	// Output:
	// upstream-not-verified (environment): db-01: this version was never in staging: deploy it to staging and finish before deploying to production
	// change-authorized: no change that is still to be carried out is bound to the release: bind a change that declares it, and have it authorised
	// CHG-000001 is in phase implement
	// CHG-000001 is in phase review
	// db-01 is 16
}
