package release

import (
	"context"

	"github.com/rollforward/rollforward/change"
)

// Notes returns what the release notes of a release are made of, as it stands; its
// Markdown and JSON methods write them. It costs a read of the streams of the release
// and of each of its changes.
func (s *Service) Notes(ctx context.Context, id string) (NotesInput, error) {
	r, err := s.Get(ctx, id)
	if err != nil {
		return NotesInput{}, err
	}
	n := NotesInput{Release: r.ID, Title: r.Title, Kind: string(r.Kind), State: r.Phase, Notes: r.Content.Notes}
	for _, c := range r.Components {
		n.Components = append(n.Components, NotesComponent{
			Kind: string(c.Kind), CI: c.CI, Title: c.Title, From: c.From, To: c.To, Digest: c.Digest, Location: c.Location,
		})
	}
	fixes := func(o change.Origin) {
		switch o.Kind {
		case "incident":
			n.Incidents = append(n.Incidents, NotesReference{ID: o.Reference})
		case "problem":
			n.Problems = append(n.Problems, NotesReference{ID: o.Reference})
		}
	}
	fixes(r.Origin)
	for _, b := range r.Changes {
		c, err := s.changes.Get(ctx, b.Change)
		if err != nil {
			return NotesInput{}, err
		}
		one := NotesChange{ID: c.ID, Title: c.Title}
		if c.Reviewed != nil {
			one.Outcome = string(c.Reviewed.Outcome)
		}
		if b.Emergent {
			n.Emergent = append(n.Emergent, one)
		} else {
			n.Changes = append(n.Changes, one)
		}
		fixes(c.Origin)
		for _, i := range c.Incidents {
			if i.Relation == change.Fixes {
				n.Incidents = append(n.Incidents, NotesReference{ID: i.ID})
			}
		}
	}
	for _, d := range r.Deployments {
		one := NotesDeployment{
			Number: d.Number, Environment: d.Environment, State: string(d.State), Started: d.At, Ended: d.Ended,
			Successful: d.count(Successful), Rollback: d.RollsBack > 0,
		}
		for _, w := range d.Waves {
			one.Targets += len(w.Targets)
		}
		n.Deployments = append(n.Deployments, one)
	}
	return n, nil
}
