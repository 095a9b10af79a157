package rollforward

import (
	"context"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/change/schedule"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/follow"
	"github.com/rollforward/rollforward/release"
)

// View is one cut of the log: changes, releases, the schedule and the CMDB at one
// position. What it holds is to be read only, and not to be kept beyond the
// function that was given it.
type View struct {
	Position eventstore.Position
	Changes  *change.List
	Releases *release.List
	Schedule *schedule.Schedule
	CMDB     *cmdb.Graph
}

// View runs read on one consistent cut, which shows all that this engine has
// recorded, and returns its error. Views run side by side; a slow one delays the
// folds, so copy out what takes long to work on.
func (e *Engine) View(ctx context.Context, read func(v View) error) error {
	if err := e.follower.WaitFor(ctx, e.Door.Last()); err != nil {
		return err
	}
	return e.follower.View(ctx, func(v *follow.View) error {
		return read(View{
			Position: v.Position(), Changes: e.folds.changes.In(v), Releases: e.folds.releases.In(v),
			Schedule: e.folds.schedule.In(v), CMDB: e.folds.cmdb.In(v),
		})
	})
}
