package change

// Without takes one guard out of s, so that tests can show that they notice.
func Without(s *Service, guard string) { s.without = guard }

// CheckModel returns what is wrong with a model of changes.
func CheckModel(m Model, e Expressions) error { return checkModel(m, e) }

// Evolve folds one event.
func Evolve(c Change, payload any) Change { return evolve(c, payload) }

// Vocabulary is what models of changes may speak of.
var Vocabulary = vocabulary
