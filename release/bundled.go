package release

import "context"

// Member returns how r stands in a bundle.
func (r Release) Member() MemberState {
	switch {
	case r.PhaseKind == KindClosed:
		return MemberCompleted
	case r.PhaseKind == KindCanceled:
		return MemberCancelled
	case len(r.Deployments) > 0:
		return MemberProgress
	case r.PhaseKind == KindPlan:
		return MemberDraft
	}
	return MemberReady
}

// Bundle returns the releases of a bundle, by ID, and the state that follows from
// theirs. A bundle is there as soon as a release names it. It costs a look at every
// release.
func (s *Service) Bundle(ctx context.Context, name string) (BundleState, []Release, error) {
	all, err := s.List(ctx, Filter{Bundle: name})
	if err != nil || name == "" {
		return BundleDraft, nil, err
	}
	members := make([]MemberState, len(all))
	for i, r := range all {
		members[i] = r.Member()
	}
	return Bundle(members), all, nil
}
