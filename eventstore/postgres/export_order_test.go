package postgres

import "time"

// PollHeard is how often a store that listens looks for what it cannot hear of.
const PollHeard time.Duration = pollHeard

// WithStep calls step before what it names, as in "reserve": once an attempt.
func WithStep(step func(name string)) Option { return func(c *config) { c.hooks.step = step } }

// WithoutCompany commits each append by itself.
func WithoutCompany() Option { return func(c *config) { c.hooks.apart = true } }

// WithBound changes the statement that says up to where the log may be read.
func WithBound(change func(sql string) string) Option {
	return func(c *config) { c.hooks.statements = func(s *statements) { s.bound = change(s.bound) } }
}
