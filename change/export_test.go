package change

import "github.com/rollforward/rollforward/eventstore/command"

// Without takes guards out of s, so that tests can show that they notice.
func Without(s *Service, guards ...string) { s.without = guards }

// CheckModel returns what is wrong with a model of changes.
func CheckModel(m Model, e Expressions) error { return checkModel(m, e) }

// Fold is how the engine itself folds a stream: in place.
func Fold(c Change, payload any) Change { return evolve(c, payload) }

// Vocabulary is what models of changes may speak of.
var Vocabulary = vocabulary

// Normal returns a content as it is recorded.
func Normal(c Content) Content { return c.normal() }

// Problems returns what no change can be about.
func Problems(c Content) []command.Refusal {
	d := &decision{}
	d.content(c)
	return d.refused
}

// Scope returns the digest of what is material by default.
func Scope(c Content) string { return scopeOf(c, material) }

// Say returns an event as a sentence.
func Say(c Change, payload any) string {
	says, _ := say(c, payload)
	return says
}
