package release

// BundleState is how releases stand that are published together.
type BundleState string

// The states of a bundle (DOMAIN 3). Nobody sets one: it follows from the releases.
const (
	BundleDraft     BundleState = "draft"       // it has no releases
	BundleReady     BundleState = "ready"       // none has begun
	BundleProgress  BundleState = "in progress" // some have
	BundleCompleted BundleState = "completed"   // all have ended
)

// MemberState is how a release stands in its bundle.
type MemberState string

// The states of a member.
const (
	MemberDraft     MemberState = "draft"
	MemberReady     MemberState = "ready"
	MemberProgress  MemberState = "in progress"
	MemberCompleted MemberState = "completed"
	MemberCancelled MemberState = "cancelled"
)

// Bundle derives the state of a bundle from those of its releases: without any it
// is a draft; ready if all are drafts or ready; completed if all are completed or
// cancelled; in progress otherwise. A member in an unknown state has begun and not
// ended.
func Bundle(members []MemberState) BundleState {
	var before, after int
	for _, m := range members {
		switch m {
		case MemberDraft, MemberReady:
			before++
		case MemberCompleted, MemberCancelled:
			after++
		}
	}
	switch len(members) {
	case 0:
		return BundleDraft
	case before:
		return BundleReady
	case after:
		return BundleCompleted
	}
	return BundleProgress
}
