package release

// Without takes guards out of s, so that tests can show that they notice.
func Without(s *Service, guards ...string) { s.without = guards }

// Fold is how the engine itself folds a stream: in place.
func Fold(r Release, payload any) Release { return evolve(r, payload) }

// Say returns an event as a sentence.
func Say(r Release, payload any) string {
	says, _ := say(r, payload)
	return says
}
